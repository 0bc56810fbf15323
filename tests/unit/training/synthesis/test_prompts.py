"""Requests: keyed by content, varied on purpose, and never misled by a document."""

from pathlib import Path
from typing import Any

import pytest

from tests.support.llm_endpoint import write_corpus
from trimtab_training.errors import DataError
from trimtab_training.synthesis.corpus import Corpus
from trimtab_training.synthesis.examples import load_examples
from trimtab_training.synthesis.prompts import (
    Request,
    Writing,
    estimate_tokens,
    make_requests,
    shorten,
)
from trimtab_training.synthesis.styles import STYLES, Example

TEXT = "Refunds are paid within thirty days of delivery."


def writing(**changes: Any) -> Writing:
    return Writing(**{"api": "chat", "model": "toy", "styles": ("question",), **changes})


def requests(folder: Path, texts: list[str], **changes: Any) -> list[Request]:
    corpus = Corpus.open(write_corpus(folder / "corpus.jsonl", texts))
    return list(make_requests(corpus, corpus.candidates(), writing(**changes)))


def prompt(request: Request) -> str:
    body = request.body
    return body["messages"][-1]["content"] if "messages" in body else body["prompt"]


@pytest.mark.parametrize("style", sorted(STYLES))
@pytest.mark.parametrize("api", ["chat", "completions"])
def test_every_style_shows_the_document(tmp_path: Path, style: str, api: str) -> None:
    examples = (Example("money back?", "Refunds take a week."), Example("where is my parcel"))
    (request, *_) = requests(tmp_path, [TEXT], styles=(style,), api=api, examples=examples)
    assert TEXT in prompt(request)
    assert "money back?" in prompt(request)


def test_queries_of_one_document_are_told_to_differ(tmp_path: Path) -> None:
    (request,) = requests(tmp_path, [TEXT], per_document=4)
    lines = [line for line in prompt(request).splitlines() if line[:2] in {"1.", "2.", "3.", "4."}]
    assert len({line[3:] for line in lines}) == 4
    assert request.n_queries == 4


def test_variants_of_a_base_model_end_with_different_examples(tmp_path: Path) -> None:
    found = requests(tmp_path, [TEXT], api="completions", styles=("keywords",), per_document=3)
    assert len({prompt(request).split("\n\n")[-2] for request in found}) == 3
    assert len({request.key for request in found}) == 3


def test_requests_of_one_variant_share_their_beginning(tmp_path: Path) -> None:
    found = requests(tmp_path, [TEXT, "Parcels come by bicycle."], api="completions")
    heads = [prompt(request).rpartition("Text: ")[0] for request in found]
    assert heads == sorted(heads, key=heads.index)
    assert heads[0] == heads[1]


def test_key_depends_on_content_alone(tmp_path: Path) -> None:
    (first,) = requests(tmp_path / "a", [TEXT])
    _, again = requests(tmp_path / "b", ["Something else.", TEXT])
    assert first.key == again.key
    assert first.doc_id != again.doc_id
    changes: list[dict[str, Any]] = [
        {"model": "other"},
        {"temperature": 0.1},
        {"max_tokens": 7},
        {"seed": 1},
        {"language": "de"},
        {"extra": {"top_p": 0.5}},
        {"examples": (Example("x"),)},
    ]
    for change in changes:
        (other,) = requests(tmp_path / "c", [TEXT], **change)
        assert other.key != first.key, change


def test_extra_fields_are_sent_and_null_removes_one(tmp_path: Path) -> None:
    (request,) = requests(tmp_path, [TEXT], extra={"top_p": 0.5, "seed": None})
    assert request.body["top_p"] == 0.5
    assert "seed" not in request.body
    assert request.body_of_try(3) == request.body


def test_template_is_filled_and_other_braces_stay(tmp_path: Path) -> None:
    text = 'Say {n} things like {"a": 1} in {language} of: {document}. {unknown}'
    (request,) = requests(tmp_path, ["About {n} and {title}"], template=text, styles=("template",))
    assert prompt(request) == (
        'Say 3 things like {"a": 1} in the language of the document of: '
        "About {n} and {title}. {unknown}"
    )


def test_long_documents_are_cut_between_words() -> None:
    assert shorten("word " * 100, 10) == "word " * 7 + "word"
    assert shorten("語" * 100, 10) == "語" * 13
    assert shorten("short", 10) == "short"


def test_tokens_are_estimated_from_bytes() -> None:
    assert estimate_tokens("four") == 1
    assert estimate_tokens("fours") == 2
    assert estimate_tokens("語語語語") == 3


def test_text_that_no_request_can_carry_is_repaired(tmp_path: Path) -> None:
    (tmp_path / "c.jsonl").write_text('{"_id": "d", "text": "half \\ud800 of a pair"}\n')
    corpus = Corpus.open(tmp_path / "c.jsonl")
    (request,) = make_requests(corpus, corpus.candidates(), writing())
    prompt(request).encode()


def test_examples_are_read_from_text_json_and_datasets(tmp_path: Path) -> None:
    from tests.support.sets import write_dataset

    (tmp_path / "a.txt").write_text("money back?\n\n where is it \n")
    assert load_examples(tmp_path / "a.txt") == (Example("money back?"), Example("where is it"))
    (tmp_path / "b.jsonl").write_text('{"query": "q", "document": "d"}\n{"text": "p"}\n')
    assert load_examples(tmp_path / "b.jsonl") == (Example("q", "d"), Example("p"))
    folder = write_dataset(tmp_path / "set", documents=["d0", "d1"], queries=["q0", "q1"])
    assert load_examples(folder) == (Example("query q0", "document d0"),)  # q1 is a test query


def test_only_split_of_a_dataset_gives_no_examples(tmp_path: Path) -> None:
    from tests.support.sets import write_dataset

    folder = write_dataset(tmp_path, queries=["q0"], splits={"train": {"q0": {"d0": 1}}})
    with pytest.raises(DataError, match="only one split, which may be measured on"):
        load_examples(folder)


@pytest.mark.parametrize("line", ["no json", "[]", '{"query": 1}', '{"query": "a", "document": 1}'])
def test_broken_examples_are_named(tmp_path: Path, line: str) -> None:
    (tmp_path / "a.jsonl").write_text(line + "\n")
    with pytest.raises(DataError, match=r"a\.jsonl:1: "):
        load_examples(tmp_path / "a.jsonl")


def test_examples_file_without_any_is_refused(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("\n\n")
    with pytest.raises(DataError, match="holds no examples"):
        load_examples(tmp_path / "a.txt")
