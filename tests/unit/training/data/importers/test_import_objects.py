"""Documents that are objects: keys are known as columns are, and no text of theirs is lost."""

import json
from pathlib import Path
from typing import Any

import pytest

from tests.support.label_files import write_rows
from tests.support.sets import write_jsonl
from trimtab_training.data.dataset import Dataset
from trimtab_training.data.importers import ImportSettings, import_labels
from trimtab_training.data.qrels import load_splits
from trimtab_training.errors import DataError

N = range(12)


def imported(
    folder: Path, rows: list[dict[str, Any]], **settings: Any
) -> dict[str, dict[str, float]]:
    """Import, and give the grade of every query's documents by their texts, or titles."""
    source, out = write_jsonl(folder / "rows.jsonl", rows), folder / "out"
    kind = "triplets" if "negatives" in rows[0] else "pairs"
    import_labels(kind, source, out, ImportSettings(**settings))
    dataset = Dataset("out", out, load_splits(out / "qrels"))
    queries, documents = dict(dataset.iter_queries()), dict(dataset.iter_documents())
    return {
        queries[query]: {documents[one]: grade for one, grade in labels.items()}
        for query, labels in dataset.splits["train"].items()
    }


def filled(form: Any, n: int) -> Any:
    """Write a number into every text of an object."""
    if isinstance(form, dict):
        return {key: filled(value, n) for key, value in form.items()}
    return form.format(n) if isinstance(form, str) else form


TEXTS_IN_OBJECTS = [
    ({"id": "c{}", "page_content": "text {}", "metadata": {"source": "a.md"}}, ""),  # LangChain's
    ({"docId": "c{}", "title": "a title", "pageContent": "text {}"}, "a title"),
    ({"ID": "c{}", "Title": "a title", "Text": "text {}"}, "a title"),
    ({"_id": "c{}", "passage_text": "text {}"}, ""),
    ({"id": "c{}", "text": " ", "contents": "", "abstract": "text {}"}, ""),
]


@pytest.mark.parametrize("role", ["context", "negatives"])
@pytest.mark.parametrize(("form", "title"), TEXTS_IN_OBJECTS)
def test_keys_of_documents_are_known_in_any_case_and_where_they_hold_something(
    tmp_path: Path, form: dict[str, Any], title: str, role: str
) -> None:
    documents = [filled(form, n) for n in N]
    rows: list[dict[str, Any]] = [
        {"query": f"q{n}", "context": "a text", role: [one]} for n, one in enumerate(documents)
    ]
    imported(tmp_path, rows)
    corpus = (tmp_path / "out" / "corpus.jsonl").read_text(encoding="utf-8").splitlines()
    found = [one for one in map(json.loads, corpus) if one["text"] != "a text"]
    assert found == [{"_id": f"c{n}", "title": title, "text": f"text {n}"} for n in N]


@pytest.mark.parametrize(
    ("form", "told"),
    [
        ({"id": "c{}", "chunk": "text {}"}, "'chunk' could be the text of objects in 'context'"),
        ({"id": "c{}", "title": "one", "chunk": "text {}"}, "'chunk' could be the text of objects"),
        ({"_index": "i", "_id": "c{}", "_source": {"text": "text {}"}}, "'_source.text' could be"),
        ({"id": "c{}"}, "objects in 'context' have no text: give .* with --corpus FILE"),
    ],
)  # fmt: skip
def test_documents_whose_text_has_no_known_name_are_asked_about(
    tmp_path: Path, form: dict[str, Any], told: str
) -> None:
    rows: list[dict[str, Any]] = [{"query": f"q{n}", "context": [filled(form, n)]} for n in N]
    with pytest.raises(DataError, match=told):
        imported(tmp_path, rows)
    corpus = [{"_id": f"c{n}", "text": f"text {n}"} for n in N]
    settings = {"corpus": write_rows(tmp_path / "corpus.jsonl", corpus)}
    assert imported(tmp_path, rows, **settings) == {f"q{n}": {f"text {n}": 1.0} for n in N}


def test_few_documents_under_another_name_are_asked_about(tmp_path: Path) -> None:
    rows = [{"query": f"q{n}", "context": {"id": f"c{n}", "text": f"text {n}"}} for n in N]
    rows[3]["context"] = {"id": "c3", "chunk": "text 3"}
    with pytest.raises(DataError, match="'chunk' could be the text of objects in 'context'"):
        imported(tmp_path, rows)


@pytest.mark.parametrize(
    "form",
    [{"id": "c{}", "title": "title {}", "url": "x/{}", "lang": "as spoken in Switzerland"},
     {"id": "c{}", "title": "title {}", "authors": "Ann Miller, Bob {} Moore"},
     {"id": "c{}", "title": "title {}"}],
)  # fmt: skip
def test_documents_with_titles_alone_are_no_question(tmp_path: Path, form: dict[str, Any]) -> None:
    rows: list[dict[str, Any]] = [{"query": f"q{n}", "context": [filled(form, n)]} for n in N]
    assert imported(tmp_path, rows) == {f"q{n}": {f"title {n}": 1.0} for n in N}


def test_empty_document_among_others_keeps_its_row(tmp_path: Path) -> None:
    rows = [
        {"query": f"q{n}", "context": [{"id": f"c{n}", "text": f"text {n}", "source": "a b"}]}
        for n in N
    ]
    rows[3]["context"] += [{"id": "empty", "text": "", "source": "a b"}]
    assert imported(tmp_path, rows)["q3"] == {"text 3": 1.0, "": 1.0}
    record = json.loads((tmp_path / "out" / "import.json").read_text(encoding="utf-8"))
    (noted,) = record["noted"]
    assert noted["count"] == 1
    assert noted["reason"] == "a document of which there is an id alone, stored so"


@pytest.mark.parametrize("is_late", [False, True])
def test_text_of_an_id_counts_wherever_it_stands(tmp_path: Path, is_late: bool) -> None:
    """Exports write a document out once, and name it by its id elsewhere, even before."""
    rows = [{"query": f"q{n}", "context": {"id": f"c{n % 6}"}} for n in N]
    for n in range(6):
        rows[n + 6 * is_late]["context"]["text"] = f"text {n}"
    assert imported(tmp_path, rows) == {f"q{n}": {f"text {n % 6}": 1.0} for n in N}
    record = json.loads((tmp_path / "out" / "import.json").read_text(encoding="utf-8"))
    assert (record["noted"], record["left_out"]) == ([], [])


def test_judgements_inside_a_query_are_graded_by_the_ids_of_a_corpus(tmp_path: Path) -> None:
    rows = [{"query": f"q{n}", "ratings": [{"docId": f"c{n}", "rating": 2}]} for n in N]
    corpus = [{"_id": f"c{n}", "text": f"text {n}"} for n in N]
    columns = {"document": ("ratings",), "score": ("rating",)}
    path = write_rows(tmp_path / "corpus.jsonl", corpus)
    found = imported(tmp_path, rows, columns=columns, corpus=path)
    assert found == {f"q{n}": {f"text {n}": 2.0} for n in N}


def test_keys_that_only_python_has_are_no_texts(tmp_path: Path) -> None:
    rows = [{"query": f"q{n}", "context": f"[{{'text': 'text {n}', 1: 'one'}}]"} for n in N]
    assert imported(tmp_path, rows) == {f"q{n}": {f"text {n}": 1.0} for n in N}


def test_keys_of_documents_that_are_not_used_are_told(tmp_path: Path) -> None:
    document = {"id": "c{}", "title": "", "text": "text {}", "abstract": "x", "lang": "de"}
    rows = [{"query": f"q{n}", "context": [filled(document, n)]} for n in N]
    imported(tmp_path, rows)
    record = json.loads((tmp_path / "out" / "import.json").read_text(encoding="utf-8"))
    assert record["understood"]["files"][0]["unused"] == ["context.abstract", "context.lang"]
