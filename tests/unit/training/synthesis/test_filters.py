"""What each filter drops, and what it leaves alone."""

import pytest

from trimtab_training.errors import ConfigError
from trimtab_training.synthesis.corpus import Document
from trimtab_training.synthesis.deduplication import find_duplicates
from trimtab_training.synthesis.language import LanguageCheck
from trimtab_training.synthesis.rule_filters import (
    ANSWER,
    COPY,
    EMPTY,
    MENTION,
    TOO_LONG,
    broken_rule,
)

REFUNDS = Document(
    "d",
    "Refunds",
    "Goods may be sent back within thirty days of delivery if the seal is unbroken. "
    "Shipping is paid by the customer.",
)


@pytest.mark.parametrize(
    ("query", "fault"),
    [
        ("how do I get my money back?", None),
        ("refunds thirty days", None),
        ("sent back within thirty days", None),  # five words: a phrase, not a copy
        ("?!", EMPTY),
        ("", EMPTY),
        ("word " * 65, TOO_LONG),
        ("x" * 501, TOO_LONG),
        ("Refunds", COPY),
        ("REFUNDS!", COPY),
        ("Goods may be sent back within thirty days of delivery", COPY),
        ("so goods may be sent back within thirty days of delivery?", COPY),
        ("How long may I send goods back? Answer: thirty days", ANSWER),
        ("Who pays? Shipping is paid by the customer.", ANSWER),
        ("is it normal? my parcel never came", None),
        ("who pays for shipping? and for the return?", None),
        ("what does the document say about seals?", MENTION),
        ("according to this text, who pays?", MENTION),
        ("text message delivery costs", None),
    ],
)
def test_query_is_judged_by_itself_and_its_document(query: str, fault: str | None) -> None:
    assert broken_rule(query, REFUNDS) == fault


def test_document_about_documents_may_be_asked_about() -> None:
    about = Document("d", "", "How to sign: open the page. The signature in the document is final.")
    assert broken_rule("where is the signature in the document?", about) is None


def test_copies_are_found_without_spaces() -> None:
    nose = Document("d", "", "鼻水が止まらないときは耳鼻科を受診してください。")
    assert broken_rule("鼻水が止まらないときは耳鼻科", nose) == COPY
    assert broken_rule("鼻が詰まる原因", nose) is None


def repeats(*pairs: tuple[str, str]) -> list[tuple[int, int, bool]]:
    return list(find_duplicates([text for text, _ in pairs], [doc_id for _, doc_id in pairs]))


def test_equal_words_are_duplicates_whatever_the_document() -> None:
    assert repeats(("Runny nose", "a"), ("runny  nose!", "b")) == [(1, 0, True)]


def test_nearly_equal_words_are_repeats_of_the_same_document_only() -> None:
    assert repeats(("runny nose symptom", "a"), ("runny nose symptoms", "a")) == [(1, 0, False)]
    assert repeats(("spastic tongue", "a"), ("tongue, spastic", "a")) == [(1, 0, False)]
    assert repeats(("symptoms of type 1", "a"), ("symptoms of type 2", "b")) == []


def test_repeat_of_a_repeat_is_held_against_what_stays() -> None:
    found = repeats(("a cold nose", "a"), ("cold nose a", "a"), ("cold nose a", "b"))
    assert found == [(1, 0, False)]  # the third is the first of its words that stays


ENGLISH = ["The nose runs when a cold begins, and it stops after a week or so for most people."] * 3


@pytest.mark.parametrize(
    ("query", "is_wrong"),
    [
        ("why does my nose run all the time", False),
        ("Wie kann ich mein Passwort zurücksetzen?", True),
        ("comment réinitialiser mon mot de passe", True),
        ("Nase läuft", False),  # too short to tell
        ("насморк", True),
        ("鼻水", True),
        ("1234", False),
    ],
)
def test_other_languages_are_told_from_the_documents_own(query: str, is_wrong: bool) -> None:
    check = LanguageCheck(None, ENGLISH)
    assert check.expected == "en"
    assert check.is_wrong(query, ENGLISH[0]) is is_wrong


def test_language_that_is_asked_for_counts_instead() -> None:
    check = LanguageCheck("de", ENGLISH)
    assert not check.is_wrong("Wie kann ich mein Passwort zurücksetzen?", ENGLISH[0])
    assert check.is_wrong("why does my nose run all the time", ENGLISH[0])
    assert not LanguageCheck("ru", ENGLISH).is_wrong("насморк", ENGLISH[0])


def test_each_document_may_have_its_own_language() -> None:
    german = "Die Nase läuft, wenn eine Erkältung beginnt, und hört nach einer Woche wieder auf."
    assert not LanguageCheck(None, ENGLISH).is_wrong("Warum läuft meine Nase immerzu?", german)


def test_unknown_language_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"unknown language 'english'.*such as en"):
        LanguageCheck("english", [])
