"""Whatever a model writes is read as queries, or as none; never as something else."""

import pytest

from trimtab_training.synthesis.answers import clean, is_refusal, read_base_answer, read_chat_answer

PAIR = ["first query", "second query"]


@pytest.mark.parametrize(
    "text",
    [
        '["first query", "second query"]',
        '```json\n["first query", "second query"]\n```',
        'Here you are:\n["first query", "second query"]\nGood luck!',
        '{"queries": ["first query", "second query"]}',
        '[{"query": "first query"}, {"query": "second query"}]',
        '[{"query": "first query", "angle": "x"}, {"text": "second query"}]',
        '{"1": "first query", "2": "second query"}',
        '<think>They want [two] of them</think>["first query", "second query"]',
        "1. first query\n2. second query",
        "Sure, here they are:\n\n- first query\n- second query\n",
        "* \"first query\"\n* 'second query'",
        "1) Query: first query\n2) Query: second query",
        "first query\nsecond query",
    ],
)
def test_queries_are_found_in_any_dress(text: str) -> None:
    assert read_chat_answer(text, is_cut=False) == PAIR


@pytest.mark.parametrize(
    "text",
    ['["first query", "second query", "thi', "1. first query\n2. second query\n3. thi"],
)
def test_cut_off_query_is_left_out(text: str) -> None:
    assert read_chat_answer(text, is_cut=True) == PAIR


def test_cut_off_json_keeps_escapes_and_brackets() -> None:
    assert read_chat_answer('["a \\"b\\" [c] é", "d', is_cut=True) == ['a "b" [c] é']


@pytest.mark.parametrize(
    "text",
    [
        "",
        "   ",
        "[]",
        "null",
        "[1, 2, 3]",
        '["", " "]',
        "I'm sorry, but I can't help with that.",
        "I\u2019m sorry, I cannot.",
        "As an AI language model I do not write queries.",
        "<think>never ends",
    ],
)
def test_answer_without_a_query_gives_none(text: str) -> None:
    assert read_chat_answer(text, is_cut=False) == []


def test_refusal_is_told_from_a_query_that_is_sorry() -> None:
    assert is_refusal("I'm sorry, but I cannot assist.")
    assert not is_refusal("how to say sorry to a customer")
    assert read_chat_answer('["I\'m sorry letter template"]', is_cut=False) != []


def test_base_model_gives_the_first_line() -> None:
    assert read_base_answer(" runny nose\nText: another") == ["runny nose"]
    assert read_base_answer("\n") == []


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ('"quoted"', "quoted"),
        ("“quoted”", "quoted"),
        ("Query:  what  is\tthis ", "what is this"),
        ("don't", "don't"),
        ("half \ud800 pair", "half pair"),
        ("bell\x07 and\u200b nothing", "bell and nothing"),
        ("e\u0301te\u0301", "\u00e9t\u00e9"),
    ],
)
def test_query_is_cleaned(text: str, wanted: str) -> None:
    assert clean(text) == wanted
