"""Files of pairs that can be read in two ways: refused with both, and read as the user decides."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as arrow
import pytest
from pyarrow import parquet

from tests.support.label_files import write_rows
from tests.support.sets import write_jsonl
from trimtab_training.data.importers import ImportSettings, import_labels
from trimtab_training.data.importers.click_log import ClickLog
from trimtab_training.data.importers.corpora import read_texts
from trimtab_training.data.importers.settings import class_key
from trimtab_training.data.importers.tally import Tally
from trimtab_training.data.importers.understood import Understood
from trimtab_training.errors import ConfigError, DataError

N = range(12)
JUDGED = {f"{of}{n}": float(of == "a") for n in N for of in "ab"}
"""The labels of :func:`write_judged`."""
INFERENCE = ("entailment", "neutral", "contradiction")


def grades(source: Path, format_: str = "pairs", **settings: Any) -> dict[str, float]:
    """Import, and give the grade of every document by its text."""
    out = source.parent / "out"
    import_labels(format_, source, out, ImportSettings(**settings))
    texts = {}
    for line in (out / "corpus.jsonl").read_text(encoding="utf-8").splitlines():
        document = json.loads(line)
        texts[document["_id"]] = document["text"]
    rows = (out / "qrels" / "train.tsv").read_text(encoding="utf-8").splitlines()[1:]
    return {texts[row.split("\t")[1]]: float(row.split("\t")[2]) for row in rows}


def write_judged(path: Path, key: str, yes: Any, no: Any) -> Path:
    """Write queries with two documents each, of which the first says yes under a key."""
    return write_rows(
        path,
        [
            {
                "query": f"q{n}",
                "document": [{"text": f"a{n}", key: yes}, {"text": f"b{n}", key: no}],
            }
            for n in N
        ],
    )


def inference(premise: str, hypothesis: str, label: str, *, as_text: bool) -> list[dict[str, Any]]:
    return [
        {premise: f"q{n // 3}", hypothesis: f"{INFERENCE[n % 3]} {n}",
         label: INFERENCE[n % 3] if as_text else n % 3}
        for n in N
    ]  # fmt: skip


@pytest.mark.parametrize("as_text", [True, False])
@pytest.mark.parametrize(
    "names",
    [("premise", "hypothesis", "label"), ("sentence1", "sentence2", "label"),
     ("premise", "hypothesis", "gold_label")],
)  # fmt: skip
def test_classes_are_no_grades(tmp_path: Path, names: tuple[str, str, str], as_text: bool) -> None:
    rows = inference(*names, as_text=as_text)
    source = write_jsonl(tmp_path / "rows.jsonl", rows)
    columns = {"score": (names[2],)} if names[2] == "gold_label" else {}
    if not (columns and not as_text):  # a column that is named holds grades if it holds numbers
        with pytest.raises(DataError, match=r"may be classes.*such as --grades .*=GRADE"):
            grades(source, columns=columns)
    keys = INFERENCE if as_text else "012"
    worth = dict(zip(keys, (1.0, 0.0, 0.0), strict=True))
    assert grades(source, columns=columns, grades=worth) == {
        f"{INFERENCE[n % 3]} {n}": float(n % 3 == 0) for n in N
    }


def test_classes_of_two_of_inference_are_asked_about_and_others_are_relevance(
    tmp_path: Path,
) -> None:
    rows = [{"premise": f"q{n}", "hypothesis": f"d{n}", "label": n % 2} for n in N]
    with pytest.raises(DataError, match=r"'label' holds 0, 1, which may be classes"):
        grades(write_jsonl(tmp_path / "rows.jsonl", rows))
    rows = [{"text1": f"q{n}", "text2": f"d{n}", "label": n % 2} for n in N]
    source = write_jsonl(tmp_path / "rows.jsonl", rows)
    assert grades(source) == {f"d{n}": n % 2 for n in N}


def test_grades_that_are_named_so_may_be_0_1_and_2(tmp_path: Path) -> None:
    rows = [{"query": f"q{n}", "document": f"d{n}", "grade": n % 3} for n in N]
    assert grades(write_jsonl(tmp_path / "rows.jsonl", rows)) == {f"d{n}": n % 3 for n in N}
    rows = [{"query": f"q{n}", "document": f"d{n}", "label": n % 3} for n in N]
    source = write_jsonl(tmp_path / "rows.jsonl", rows)
    assert grades(source, columns={"score": ("label",)}) == {f"d{n}": n % 3 for n in N}


def test_number_that_only_python_reads_is_dropped(tmp_path: Path) -> None:
    rows = [{"query": "q", "document": f"d{n}", "score": "1_0" if n == 5 else "1"} for n in N]
    assert len(grades(write_jsonl(tmp_path / "rows.jsonl", rows))) == 11


def test_class_without_a_grade_is_dropped_and_counted(tmp_path: Path) -> None:
    source = write_jsonl(
        tmp_path / "r.jsonl", inference("query", "document", "label", as_text=True)
    )
    with pytest.raises(DataError, match=r"8 of 12 label rows.*a class without a grade"):
        grades(source, grades={"entailment": 1.0})


def test_classes_that_parquet_names_are_no_grades(tmp_path: Path) -> None:
    features = {"label": {"_type": "ClassLabel", "names": ["entailment", "not_entailment"]}}
    columns = {"sentence1": ["q"] * 4, "sentence2": list("abcd"), "label": [0, 1, 0, 1]}
    table = arrow.table(columns).replace_schema_metadata(
        {"huggingface": json.dumps({"info": {"features": features}})}
    )
    parquet.write_table(table, tmp_path / "rows.parquet")
    with pytest.raises(DataError, match=r"holds 0 \(entailment\), 1 \(not_entailment\)"):
        grades(tmp_path / "rows.parquet")
    assert grades(tmp_path / "rows.parquet", grades={"0": 1.0, "1": 0.0}) == {
        "a": 1.0, "b": 0.0, "c": 1.0, "d": 0.0,
    }  # fmt: skip


@pytest.mark.parametrize("column", ["label", "rel"])
@pytest.mark.parametrize(
    ("names", "is_rising"),
    [
        (["relevant", "not_relevant"], False), (["positive", "negative"], False),
        (["paraphrase", "not_paraphrase"], False), (["yes", "no"], False), (["E", "I"], False),
        (["not_relevant", "relevant"], True), (["Irrelevant", "Relevant"], True),
        (["no", "yes"], True), (["negative", "positive"], True), (["0", "1"], True),
        (["non-duplicate", "duplicate"], True), (["False", "True"], True),
    ],
    ids=str,
)  # fmt: skip
def test_two_classes_that_parquet_names_grade_only_where_the_second_is_the_good_one(
    tmp_path: Path, names: list[str], is_rising: bool, column: str
) -> None:
    features = {column: {"_type": "ClassLabel", "names": names}}
    table = arrow.table({"query": ["q"] * 4, "document": list("abcd"), column: [0, 1, 0, 1]})
    described = {"huggingface": json.dumps({"info": {"features": features}})}
    parquet.write_table(table.replace_schema_metadata(described), tmp_path / "rows.parquet")
    given = {} if column == "label" else {"score": (column,)}
    rising = {"a": 0.0, "b": 1.0, "c": 0.0, "d": 1.0}
    if is_rising:
        assert grades(tmp_path / "rows.parquet", columns=given) == rising
        return
    with pytest.raises(
        DataError, match=rf"holds 0 \({names[0]}\), 1 .*such as --grades 0=GRADE"
    ) as e:
        grades(tmp_path / "rows.parquet", columns=given)
    if column == "label":
        assert "or --column score=label if the numbers are grades" in str(e.value)
        assert grades(tmp_path / "rows.parquet", columns={"score": ("label",)}) == rising
    worth = {"0": 1.0, "1": 0.0}
    assert grades(tmp_path / "rows.parquet", columns=given, grades=worth) == {
        document: 1.0 - grade for document, grade in rising.items()
    }


@pytest.mark.parametrize("start", [0.0, -1.0])
def test_similarities_are_no_grades_unless_the_user_says_so(tmp_path: Path, start: float) -> None:
    scores = [round(start + n / 12 * (1 - start), 3) for n in N]
    rows = [{"query": f"q{n}", "document": f"d{n}", "score": scores[n]} for n in N]
    source = write_jsonl(tmp_path / "rows.jsonl", rows)
    with pytest.raises(DataError, match=r"--relevant-from SCORE; if they are grades.* --column sc"):
        grades(source)
    assert grades(source, columns={"score": ("score",)}) == {f"d{n}": scores[n] for n in N}
    assert grades(source, relevant_from=0.5) == {
        f"d{n}": scores[n] if scores[n] >= 0.5 else 0.0 for n in N
    }


@pytest.mark.parametrize("others", [{"answer": "a{}"}, {"response": "a{}"}])
def test_document_that_can_be_the_context_or_the_answer_is_asked_about(
    tmp_path: Path, others: dict[str, str]
) -> None:
    rows = [
        {"question": f"q{n}", "context": f"c{n}", **{k: v.format(n) for k, v in others.items()}}
        for n in N
    ]
    source = write_jsonl(tmp_path / "rows.jsonl", rows)
    (other,) = others
    with pytest.raises(DataError, match=r"could each be the document; say which: --column docum"):
        grades(source)
    assert grades(source, columns={"document": ("context",)}) == {f"c{n}": 1.0 for n in N}
    assert grades(source, columns={"document": (other,)}) == {f"a{n}": 1.0 for n in N}


def test_positive_is_the_document_whatever_stands_beside_it(tmp_path: Path) -> None:
    rows = [{"query": "q", "positive": "p", "answer": "a"}]
    assert grades(write_jsonl(tmp_path / "rows.jsonl", rows)) == {"p": 1.0}


def test_columns_that_say_the_same_are_no_two_readings(tmp_path: Path) -> None:
    rows = [{"query": "q", "question": "q", "document": "d", "score": None, "rating": 2}]
    assert grades(write_jsonl(tmp_path / "rows.jsonl", rows)) == {"d": 2.0}


def test_two_scores_are_asked_about(tmp_path: Path) -> None:
    rows = [{"query": "q", "document": f"d{n}", "label": n % 2, "score": 9} for n in N]
    source = write_jsonl(tmp_path / "rows.jsonl", rows)
    with pytest.raises(DataError, match=r"--column score=score or --column score=label"):
        grades(source)
    assert grades(source, columns={"score": ("label",)}) == {f"d{n}": n % 2 for n in N}
    assert grades(source, columns={"score": ()}) == {f"d{n}": 1.0 for n in N}


def test_names_that_differ_in_case_are_two(tmp_path: Path) -> None:
    rows = [{"Query": f"Q{n}", "query": f"q{n}", "document": f"d{n}"} for n in N]
    source = write_jsonl(tmp_path / "rows.jsonl", rows)
    with pytest.raises(DataError, match=r"--column query=Query or --column query=query"):
        grades(source)
    assert len(grades(source, columns={"query": ("query",)})) == 12


@pytest.mark.parametrize(
    ("row", "choices"),
    [
        ({"_id": "a{}", "text": "t", "query": "q{}"}, "text=text or --column text=query"),
        ({"docid": "a{}", "contents": "t", "text": "t{}"}, "text=text or --column text=contents"),
        ({"id": "a{}", "doc_id": "b{}", "text": "t"}, "id=id or --column id=doc_id"),
        ({"id": "a{}", "doc_id": "a{}", "text": "t{}", "contents": "t{}"}, None),
        ({"id": "a{}", "number": 7, "title": "t", "text": "t{}", "document": {"a": 1}}, None),
    ],
)
def test_two_names_in_a_file_of_texts_are_asked_about(
    tmp_path: Path, row: dict[str, Any], choices: str | None
) -> None:
    rows = [
        {name: of.format(n) if isinstance(of, str) else of for name, of in row.items()} for n in N
    ]
    path = write_jsonl(tmp_path / "texts.jsonl", rows)
    if choices is None:
        assert len(list(read_texts(path, Tally(), "document"))) == 12
        return
    with pytest.raises(DataError, match=f"could each be the .*; say which: --column {choices}"):
        list(read_texts(path, Tally(), "document"))
    role, name = choices.split(" or --column ")[1].split("=")
    assert len(list(read_texts(path, Tally(), "document", {role: (name,)}))) == 12


@pytest.mark.parametrize("name", ["abstract", "Description", "summary"])
def test_text_beside_a_title_may_be_an_abstract(tmp_path: Path, name: str) -> None:
    rows = [{"doc_id": f"d{n}", "title": f"t{n}", name: f"about {n}", "url": "u"} for n in N]
    found = read_texts(write_jsonl(tmp_path / "c.jsonl", rows), Tally(), "document")
    assert [(one.title, one.text) for _, one in found] == [(f"t{n}", f"about {n}") for n in N]
    beside = [{**row, "text": f"all of {n}"} for n, row in enumerate(rows)]
    found = read_texts(write_jsonl(tmp_path / "c.jsonl", beside), Tally(), "document")
    assert [one.joined for _, one in found] == [f"t{n} all of {n}" for n in N]


@pytest.mark.parametrize(
    ("row", "stored"),
    [
        ({"title": "t{}", "abstract": "about {}", "body": ""}, ("t{}", "about {}")),
        ({"_id": None, "docid": "d{}", "text": "", "contents": "all of {}"}, ("", "all of {}")),
        ({"title": "t{}", "text": ""}, ("t{}", "")),
        ({"title": "t{}", "description": "on {}", "question": ""}, ("t{}", "on {}")),
        ({"document": "all there is of {}", "summary": "on {}"}, ("", "all there is of {}")),
    ],
)
def test_text_of_a_document_is_looked_for_where_columns_hold_something(
    tmp_path: Path, row: dict[str, str], stored: tuple[str, str]
) -> None:
    form = {"_id": "d{}"} | row
    rows = [{name: of and of.format(n) for name, of in form.items()} for n in N]
    found = read_texts(write_jsonl(tmp_path / "c.jsonl", rows), Tally(), "document")
    wanted = [(f"d{n}", *(of.format(n) for of in stored)) for n in N]
    assert [(one.name, one.title, one.text) for _, one in found] == wanted


def test_document_without_a_text_has_its_abstract(tmp_path: Path) -> None:
    rows = [
        {"_id": f"d{n}", "title": "t", "abstract": f"about {n}", "body": "" if n % 3 else f"b {n}"}
        for n in N
    ]
    path, told = write_jsonl(tmp_path / "c.jsonl", rows), Understood()
    found = read_texts(path, Tally(), "document", understood=told)
    wanted = [f"about {n}" if n % 3 else f"b {n}" for n in N]
    assert [one.text for _, one in found] == wanted
    (file,) = told.as_dict()["files"]
    assert (file["columns"]["text"], file["columns"]["summary"]) == (["body"], ["abstract"])
    found = read_texts(path, Tally(), "document", {"text": ("body",)})
    assert [one.text for _, one in found] == ["" if n % 3 else f"b {n}" for n in N]


@pytest.mark.parametrize("row", [{"document": "file{}.pdf"}, {"question": "what of {}?"}])
def test_summary_that_says_more_than_a_question_or_a_file_is_asked_about(
    tmp_path: Path, row: dict[str, str]
) -> None:
    form = {"_id": "d{}", "title": "t", "description": "all that there is of {}", **row}
    rows = [{name: of.format(n) for name, of in form.items()} for n in N]
    path, (name,) = write_jsonl(tmp_path / "c.jsonl", rows), row
    choices = f"--column text=description or --column text={name}"
    with pytest.raises(DataError, match=f"could be the text; say which: {choices}"):
        list(read_texts(path, Tally(), "document"))
    for one in ("description", name):
        found = read_texts(path, Tally(), "document", {"text": (one,)})
        assert [text.text for _, text in found] == [record[one] for record in rows]


def test_abstract_inside_a_document_is_its_text(tmp_path: Path) -> None:
    rows = [{"query": "q", "positive": {"title": "t", "abstract": f"about {n}"}} for n in N]
    source = write_jsonl(tmp_path / "rows.jsonl", rows)
    assert grades(source) == {f"about {n}": 1.0 for n in N}


@pytest.mark.parametrize(
    ("row", "told"),
    [
        ({"abstract": "about {}", "summary": "on {}"}, "could each be the text; say which: "),
        ({"plot": "the story of {}"}, r"'plot' could be the text, .*=plot or --column text=title"),
    ],
)
def test_text_that_has_no_known_name_beside_a_title_is_asked_about(
    tmp_path: Path, row: dict[str, str], told: str
) -> None:
    rows = [
        {"_id": f"d{n}", "title": f"t{n}", **{k: of.format(n) for k, of in row.items()}} for n in N
    ]
    path = write_jsonl(tmp_path / "c.jsonl", rows)
    with pytest.raises(DataError, match=told):
        list(read_texts(path, Tally(), "document"))
    for name in ("title", *row):
        found = read_texts(path, Tally(), "document", {"text": (name,)})
        assert {one.text for _, one in found} == {record[name] for record in rows}


@pytest.mark.parametrize(
    ("name", "cells"),
    [
        ("created", [f"Mon Jan {n + 10} 2024 00:00:00 GMT+0000" for n in N]),
        ("published", [f"{n + 1} March 2024 10:30 PM" for n in N]),
        ("seen", [f"2024-01-{n + 10} 10:30:00 UTC" for n in N]),
        ("closed", [f"2024-01-{n + 10} 10:30 Z" if n % 3 else f"not yet, {n} days" for n in N]),
        ("shelf", [f"Home and Garden > Tools {n % 3}" for n in N]),
        ("licence", ["free for everybody to use"] * len(N)),
        ("authors", [f"A. Uthor {n}, B. Riter, C. Other" for n in N]),
        ("search_keywords", [f"one, two, three, {n}" for n in N]),
    ],
    ids=["javascript", "words", "iso", "mostly", "few", "one", "authors", "keywords"],
)
def test_column_of_many_words_that_is_no_text_leaves_titles_alone(
    tmp_path: Path, name: str, cells: list[str]
) -> None:
    rows = [{"_id": f"d{n}", "title": f"t{n}", name: cells[n]} for n in N]
    found = read_texts(write_jsonl(tmp_path / "c.jsonl", rows), Tally(), "document")
    assert [one.joined for _, one in found] == [f"t{n}" for n in N]


@pytest.mark.parametrize(
    "cells",
    [
        [f"{n + 1} March 2024 10:30 we set out, and " + "walked on and on " * 4 for n in N],
        [f"the story of {n // 4}" if n < 6 else f"another story, number {n}" for n in N],
        [f"the story of number {n}" if n % 3 else f"2024-01-{n + 10} 10:30" for n in N],
    ],
    ids=["diary", "repeated", "dated"],
)
def test_texts_that_begin_with_dates_or_come_again_may_be_the_text(
    tmp_path: Path, cells: list[str]
) -> None:
    rows = [{"_id": f"d{n}", "title": f"t{n}", "plot": cell} for n, cell in enumerate(cells)]
    with pytest.raises(DataError, match="'plot' could be the text"):
        list(read_texts(write_jsonl(tmp_path / "c.jsonl", rows), Tally(), "document"))


def test_titles_alone_are_texts(tmp_path: Path) -> None:
    rows = [{"_id": f"d{n}", "title": f"a title {n}", "year": "2025", "by": "A B"} for n in N]
    found = read_texts(write_jsonl(tmp_path / "c.jsonl", rows), Tally(), "document")
    assert [one.joined for _, one in found] == [f"a title {n}" for n in N]


@pytest.mark.parametrize(
    ("more", "choices"),
    [
        ({"position": 9}, "rank=rank or --column rank=position"),
        ({"clicks": 3}, "clicked=clicked or --column clicked=clicks"),
        ({"item_id": "x"}, "document=doc_id or --column document=item_id"),
        ({"position": 1, "clicks": True, "item_id": "a", "user_id": "u", "document": "text"}, None),
    ],
)
def test_two_names_in_a_log_are_asked_about(
    tmp_path: Path, more: dict[str, Any], choices: str | None
) -> None:
    rows = [{"query": f"q{n}", "doc_id": "a", "rank": 1, "clicked": 1, **more} for n in N]
    path = write_jsonl(tmp_path / "log.jsonl", rows)
    if choices is None:
        assert ClickLog(path, {}).columns[path]["document"] == ("doc_id",)
        return
    with pytest.raises(DataError, match=f"could each be the .*; say which: --column {choices}"):
        ClickLog(path, {})
    role, name = choices.split(" or --column ")[1].split("=")
    assert ClickLog(path, {role: (name,)}).columns[path][role] == (name,)


@pytest.mark.parametrize("name", ["labels", "scores", "label"])
def test_labels_beside_a_list_grade_its_documents(tmp_path: Path, name: str) -> None:
    rows = [{"query": f"q{n}", "answer": [f"r{n}", None, f"w{n}"], name: [1, 0, 0]} for n in N]
    source = write_jsonl(tmp_path / "rows.jsonl", rows)
    assert grades(source) == {f"{kind}{n}": float(kind == "r") for n in N for kind in "rw"}


def test_labels_beside_a_list_of_another_length_drop_the_row(tmp_path: Path) -> None:
    rows = [{"query": "q", "answer": ["a", "b"], "labels": [1]}]
    with pytest.raises(DataError, match="document and score differ in length"):
        grades(write_jsonl(tmp_path / "rows.jsonl", rows))


def test_numbers_beside_a_list_that_nobody_called_labels_are_asked_about(tmp_path: Path) -> None:
    rows = [{"query": f"q{n}", "answer": [f"r{n}", f"w{n}"], "flags": [1, 0]} for n in N]
    source = write_jsonl(tmp_path / "rows.jsonl", rows)
    with pytest.raises(
        DataError, match=r"--column score=flags if they grade the texts, --column s"
    ):
        grades(source)
    assert sum(grades(source, columns={"score": ("flags",)}).values()) == 12
    assert sum(grades(source, columns={"score": ()}).values()) == 24


@pytest.mark.parametrize("kind", ["csv", "jsonl", "parquet"])
@pytest.mark.parametrize(
    ("name", "yes", "no"),
    [
        ("is_relevant", 1, 0), ("relevant", True, False), ("Relevance Grade", 3, 0),
        ("relevancy", 2, 0), ("isSelected", "yes", "no"), ("is_positive", "true", "false"),
        ("gold_label", 1, -1), ("rel", 1, 0), ("target", 1.0, 0.0), ("correct", "True", "False"),
        ("is_duplicate", 1, 0), ("user_rating", 5, 0), ("best_match", 1, 0), ("judgement", 1, 0),
        ("cosine_similarity", 0.9, 0.1), ("esci_label", "E", "I"),
    ],
    ids=str,
)  # fmt: skip
def test_columns_that_seem_to_grade_are_asked_about(
    tmp_path: Path, name: str, yes: Any, no: Any, kind: str
) -> None:
    rows = [{"query": f"q{n}", "document": f"d{n}", name: no if n % 3 else yes} for n in N]
    source = write_rows(tmp_path / f"rows.{kind}", rows)
    with pytest.raises(DataError, match=f"'{name}' holds .*--column score={name} if it.*score= if"):
        grades(source)
    assert grades(source, columns={"score": ()}) == {f"d{n}": 1.0 for n in N}
    worth = {class_key(yes): 1.0, class_key(no): 0.0}
    assert grades(source, columns={"score": (name,)}, grades=worth) == {
        f"d{n}": float(n % 3 == 0) for n in N
    }


@pytest.mark.parametrize(
    ("name", "values"),
    [
        ("related_url", [1, 2]), ("label_id", [7, 9]), ("positive_ids", [1, 2]), ("length", [3, 4]),
        ("target", ["one text", "another"]), ("relevance_note", list("abcdefghijkl")),
        ("relation", [1, 0]), ("scored_at", [1, 2]), ("relevance_model", ["one"]),
    ],
    ids=str,
)  # fmt: skip
def test_columns_that_grade_nothing_are_passed_over(
    tmp_path: Path, name: str, values: list[Any]
) -> None:
    rows = [{"query": f"q{n}", "document": f"d{n}", name: values[n % len(values)]} for n in N]
    assert len(grades(write_jsonl(tmp_path / "rows.jsonl", rows))) == 12
    triplets = [{**row, "negative": f"n{n}", "is_relevant": 1} for n, row in enumerate(rows)]
    assert len(grades(write_jsonl(tmp_path / "triplets.jsonl", triplets), "triplets")) == 24


@pytest.mark.parametrize("where", ["beside", "inside"])
@pytest.mark.parametrize(
    ("name", "yes", "no"),
    [
        ("choice", "Relevant", "Irrelevant"), ("annotation", "relevant", "not_relevant"),
        ("verdict", "yes", "no"), ("class", "entailment", "contradiction"), ("esci", "E", "I"),
        ("type", "positive", "negative"), ("decision", "accept", "reject"),
        ("assessment", "HRel", "NonRel"), ("annotation", "SUPPORTS", "REFUTES"),
        ("result", "PASS", "FAIL"), ("feedback", "👍", "👎"), ("class", 1, 0), ("gain", 3, 0),
        ("qrel", 1, 0), ("is_paraphrase", True, False), ("clicked", 1, 0), ("is_negative", 0, 1),
        ("helpful", 1, 0), ("accepted", "true", "false"), ("ground_truth", 1, 0),
        ("answerable", True, False), ("reaction", "like", "dislike"), ("chat", "Liked", "Disliked"),
        ("outcome", "resolved", "unresolved"), ("survey", "satisfied", "dissatisfied"),
        ("outcome", "Solved", "not solved"), ("survey", "Satisfactory", "Unsatisfactory"),
        ("remark", "on-topic", "off-topic"),
    ],
    ids=str,
)  # fmt: skip
def test_verdicts_are_asked_about_whatever_they_are_called(
    tmp_path: Path, name: str, yes: Any, no: Any, where: str
) -> None:
    """Each query has one document, so that only the name or the verdicts themselves tell."""
    rows: list[dict[str, Any]] = []
    for n in N:
        judged = {name: no if n % 3 else yes}
        if where == "beside":
            rows.append({"query": f"q{n}", "document": f"d{n}", **judged})
        else:
            rows.append({"query": f"q{n}", "document": {"text": f"d{n}", **judged}})
    source = write_jsonl(tmp_path / "rows.jsonl", rows)
    with pytest.raises(DataError, match=f"--column score={name} if it .*--column score= if"):
        grades(source)
    assert grades(source, columns={"score": ()}) == {f"d{n}": 1.0 for n in N}
    worth = {class_key(yes): 1.0, class_key(no): 0.0}
    assert grades(source, columns={"score": (name,)}, grades=worth) == {
        f"d{n}": float(n % 3 == 0) for n in N
    }


@pytest.mark.parametrize("values", [(1, 0), (True, False), ("yes", "no", "maybe"), (1, -1)])
def test_flags_that_differ_among_the_documents_of_a_query_are_asked_about(
    tmp_path: Path, values: tuple[Any, ...]
) -> None:
    marks = [values[n % len(values)] for n in N]
    rows = [{"query": f"q{n // 4}", "document": f"d{n}", "on_topic": marks[n]} for n in N]
    source = write_jsonl(tmp_path / "rows.jsonl", rows)
    with pytest.raises(DataError, match=r"'on_topic' holds .*--column score=on_topic if it does"):
        grades(source)
    rows = [
        {"query": f"q{n}", "document": [{"text": f"{n} {mark}", "fits": mark} for mark in values]}
        for n in N
    ]
    with pytest.raises(DataError, match="'document' have 'fits': say --column score=fits if it"):
        grades(write_jsonl(tmp_path / "objects.jsonl", rows))


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("is_synthetic", lambda n: n // 4 % 2), ("has_image", lambda _: 1),
        ("verified", lambda n: ["yes", "no"][n // 4 % 2]), ("chunk_idx", lambda n: n % 2),
        ("lang", lambda n: ["en", "no"][n % 2]), ("split", lambda n: ["train", "dev"][n % 2]),
        ("source", lambda n: ["wiki", "web"][n % 2]), ("year", lambda n: 2000 + n % 2),
        ("checked", lambda _: "accepted"), ("status", lambda n: ["open", "resolved"][n % 2]),
    ],
)  # fmt: skip
def test_facts_that_judge_no_document_of_a_query_are_passed_over(
    tmp_path: Path, name: str, value: Callable[[int], Any]
) -> None:
    rows = [{"query": f"q{n // 4}", "document": f"d{n}", name: value(n)} for n in N]
    assert len(grades(write_jsonl(tmp_path / "rows.jsonl", rows))) == 12


@pytest.mark.parametrize("where", ["beside", "inside"])
@pytest.mark.parametrize(
    ("name", "numbers"),
    [
        ("answer_no", (0, 1)), ("variant", ("0", "1")), ("hop", (0.0, 1.0)), ("turn", (1, 0)),
        ("page", (0, 0, 1)), ("fold", ("1", "0", "1")), ("answer_number", (1, 0)),
    ],
    ids=str,
)  # fmt: skip
def test_numbers_that_count_the_documents_of_a_query_are_passed_over(
    tmp_path: Path, name: str, numbers: tuple[Any, ...], where: str
) -> None:
    documents = [[{"text": f"{q} {n}", name: of} for n, of in enumerate(numbers)] for q in N]
    rows: list[dict[str, Any]] = [
        {"query": f"q{q}", "document": of} for q, of in enumerate(documents)
    ]
    if where == "beside":
        rows = [
            {"query": row["query"], "document": one["text"], name: one[name]}
            for row in rows
            for one in row["document"]
        ]
    source = write_jsonl(tmp_path / "rows.jsonl", rows)
    assert grades(source) == {one["text"]: 1.0 for of in documents for one in of}


@pytest.mark.parametrize(
    ("name", "flags"),
    [
        ("relevant", [0, 1]), ("is_apt", [0, 1]), ("fits", [False, True]), ("fits", ["no", "yes"]),
        ("fits", [1, 0]), ("fits", [0, 0, 1]), ("fits", [0, 1, 1]),
    ],
    ids=str,
)  # fmt: skip
def test_flags_that_count_no_documents_are_asked_about_in_any_order(
    tmp_path: Path, name: str, flags: list[Any]
) -> None:
    rows = [
        {"query": f"q{q}", "document": f"{q} {n}", name: flag}
        for q in N
        for n, flag in enumerate(flags)
    ]
    with pytest.raises(DataError, match=f"'{name}' holds .*--column score={name} if it does"):
        grades(write_jsonl(tmp_path / "rows.jsonl", rows))


def test_verdicts_that_parquet_names_are_asked_about(tmp_path: Path) -> None:
    features = {"choice": {"_type": "ClassLabel", "names": ["Relevant", "Partial", "Irrelevant"]}}
    columns = {"query": list("abcdef"), "document": list("abcdef"), "choice": [0, 1, 2, 0, 1, 2]}
    table = arrow.table(columns).replace_schema_metadata(
        {"huggingface": json.dumps({"info": {"features": features}})}
    )
    parquet.write_table(table, tmp_path / "rows.parquet")
    with pytest.raises(DataError, match=r"'choice' holds 0, 1, 2, .*--column score=choice if it"):
        grades(tmp_path / "rows.parquet")


def test_column_that_seems_to_grade_and_comes_late_is_asked_about(tmp_path: Path) -> None:
    rows: list[dict[str, Any]] = [{"query": f"q{n}", "document": f"d{n}"} for n in range(1_100)]
    rows += [{"query": "late", "document": "late", "is_relevant": 0}]
    source = write_jsonl(tmp_path / "rows.jsonl", rows)
    with pytest.raises(DataError, match=r"'is_relevant' comes at rows.jsonl:1101 .* score=is_rel"):
        grades(source)
    assert grades(source, columns={"score": ()})["late"] == 1.0


@pytest.mark.parametrize(
    ("chosen", "option"),
    [({"relevant_from": 0.5}, "--relevant-from"), ({"grades": {"a": 1.0}}, "--grades")],
)
def test_what_is_said_of_scores_that_are_not_there_is_refused(
    tmp_path: Path, chosen: dict[str, Any], option: str
) -> None:
    rows = [{"query": f"q{n}", "document": f"d{n}", "cosine": n / 12, "kind": "a"} for n in N]
    source = write_jsonl(tmp_path / "rows.jsonl", rows)
    with pytest.raises(ConfigError, match=f"{option} says nothing about .*--column score=NAME"):
        grades(source, **chosen)
    with pytest.raises(ConfigError, match=f"{option} says nothing about"):
        grades(source, columns={"score": ()}, **chosen)
    name = "kind" if option == "--grades" else "cosine"
    assert len(grades(source, columns={"score": (name,)}, **chosen)) == 12


@pytest.mark.parametrize("score", [{"$numberInt": "1"}, [{"user": "u", "value": 1}]])
@pytest.mark.parametrize("chosen", [{}, {"grades": {"1": 1.0}}, {"columns": {"score": ("score",)}}])
def test_objects_as_scores_are_refused_as_such(
    tmp_path: Path, score: Any, chosen: dict[str, Any]
) -> None:
    rows = [{"query": f"q{n}", "document": f"d{n}", "score": score, "stars": 1} for n in N]
    source = write_jsonl(tmp_path / "rows.jsonl", rows)
    told = r"rows.jsonl: 'score' holds objects, such as \{'.*1.*\}, .* write it alone"
    with pytest.raises(DataError, match=told):
        grades(source, **chosen)
    assert len(grades(source, columns={"score": ("stars",)})) == 12


def test_labels_inside_documents_are_asked_about(tmp_path: Path) -> None:
    rows = [
        {"query": "q", "document": [{"text": f"{n} {of}", "is_selected": of} for of in (0, 1)]}
        for n in N
    ]
    source = write_jsonl(tmp_path / "rows.jsonl", rows)
    with pytest.raises(
        DataError, match=r"score=is_selected if it is their grade .*--column score="
    ):
        grades(source)
    found = grades(source, columns={"score": ("is_selected",)})
    assert found == {f"{n} {of}": of for n in N for of in (0, 1)}
    assert set(grades(source, columns={"score": ()}).values()) == {1.0}


@pytest.mark.parametrize("kind", ["jsonl", "parquet"])
@pytest.mark.parametrize(
    ("key", "yes", "no"),
    [
        ("isSelected", 1, 0), ("score", 0.9, 0.1), ("rating", 5, 1), ("judgement", 1, 0),
        ("rel", 1, 0), ("isRelevant", True, False), ("gold", 1, 0), ("relevance_label", "E", "I"),
        ("is_correct", "yes", "no"), ("similarity", 0.8, 0.2), ("has_answer", True, False),
        ("containsAnswer", 1, 0),
    ],
    ids=str,
)  # fmt: skip
def test_objects_that_seem_to_grade_themselves_are_asked_about(
    tmp_path: Path, key: str, yes: Any, no: Any, kind: str
) -> None:
    source = write_judged(tmp_path / f"rows.{kind}", key, yes, no)
    with pytest.raises(DataError, match=f"have '{key}': say --column score={key} if it is their"):
        grades(source)
    worth = {class_key(yes): 1.0, class_key(no): 0.0}
    assert grades(source, columns={"score": (key,)}, grades=worth) == JUDGED


@pytest.mark.parametrize("kind", ["jsonl", "parquet"])
@pytest.mark.parametrize(
    ("key", "yes", "no"),
    [("verdict", "Relevant", "not relevant"), ("isRelevant", "yes", "no"), ("esci", "E", "I")],
)
def test_classes_inside_documents_are_no_grades(
    tmp_path: Path, key: str, yes: str, no: str, kind: str
) -> None:
    """Each refusal names what leads on to the next one, and the last to the labels."""
    source = write_judged(tmp_path / f"rows.{kind}", key, yes, no)
    with pytest.raises(DataError, match=f"--column score={key} if it is .*with --grades where"):
        grades(source)
    given = {"score": (key,)}
    with pytest.raises(DataError, match=f"'{key}' holds .*which may be classes.*--grades .*=GRADE"):
        grades(source, columns=given)
    worth = {class_key(yes): 1.0, class_key(no): 0.0}
    assert grades(source, columns=given, grades=worth) == JUDGED


def test_objects_as_scores_inside_documents_are_refused_as_such(tmp_path: Path) -> None:
    rows = [{"query": f"q{n}", "document": {"text": f"d{n}", "rel": {"value": 1}}} for n in N]
    source = write_jsonl(tmp_path / "rows.jsonl", rows)
    with pytest.raises(DataError, match=r"'rel' holds objects, such as .* write it alone"):
        grades(source, columns={"score": ("rel",)})


@pytest.mark.parametrize(
    ("name", "key", "values"),
    [
        ("positive_ctxs", "score", [0.9, 0.8]), ("document", "label", ["France", "Spain"]),
        ("document", "answer_start", [3, 0]), ("document", "label_id", [7, 9]),
    ],
    ids=str,
)  # fmt: skip
def test_objects_that_grade_nothing_are_passed_over(
    tmp_path: Path, name: str, key: str, values: list[Any]
) -> None:
    documents = [{"text": f"d{n}", key: values[n]} for n in range(2)]
    source = write_jsonl(tmp_path / "rows.jsonl", [{"query": "q", name: documents}])
    assert grades(source) == {"d0": 1.0, "d1": 1.0}


def test_scores_of_a_teacher_beside_positives_and_negatives_are_not_used(tmp_path: Path) -> None:
    rows = [{"query": "q", "pos": ["p"], "neg": ["n"], "pos_scores": [0.9], "neg_scores": [0.8]}]
    source = write_jsonl(tmp_path / "rows.jsonl", rows)
    assert grades(source, "triplets") == {"p": 1.0, "n": 0.0}


def test_ids_beside_a_list_name_its_documents(tmp_path: Path) -> None:
    rows = [{"query": "q", "document": ["a", "b"], "doc_id": ["A", "B"], "labels": [1, 0]}]
    source = write_jsonl(tmp_path / "rows.jsonl", rows)
    grades(source)
    corpus = (tmp_path / "out" / "corpus.jsonl").read_text(encoding="utf-8").splitlines()
    assert [json.loads(line)["_id"] for line in corpus] == ["A", "B"]


def test_what_is_understood_is_told_before_and_kept(tmp_path: Path) -> None:
    rows = [{"query": f"q{n}", "document": f"d{n}", "score": n % 2, "id": n} for n in N]
    source, told = write_jsonl(tmp_path / "rows.jsonl", rows), []
    record = import_labels("pairs", source, tmp_path / "out", announce=told.append)
    (file,) = record["understood"]["files"]
    assert told == [file]
    assert file["columns"] == {"query": ["query"], "document": ["document"], "score": ["score"]}
    assert file["unused"] == ["id"]
    assert len(file["examples"]) == 3
    corpus = (tmp_path / "out" / "corpus.jsonl").read_text(encoding="utf-8").splitlines()
    stored = json.loads(corpus[0])
    assert file["examples"][0]["documents"] == [{**stored, "grade": 0.0}]
    halves = [{"grade": 0.0, "count": 6}, {"grade": 1.0, "count": 6}]
    assert file["grades"] == record["understood"]["grades"] == halves


@pytest.mark.parametrize(
    ("document", "names"),
    [
        ({"id": 7, "doc_id": "d7", "text": "one"}, "'id' and 'doc_id'"),
        ({"text": "one", "contents": "another"}, "'text' and 'contents'"),
    ],
)
def test_objects_with_two_names_for_one_thing_are_refused(
    tmp_path: Path, document: dict[str, Any], names: str
) -> None:
    rows = [{"query": f"q{n}", "positive": document} for n in N]
    source = write_jsonl(tmp_path / "rows.jsonl", rows)
    with pytest.raises(DataError, match=f"document has {names} with different values.*keep one"):
        grades(source)
    same = {"id": 7, "doc_id": "7", "text": "one", "contents": "one", "body": None}
    rows = [{"query": f"q{n}", "positive": same} for n in N]
    assert grades(write_jsonl(tmp_path / "same.jsonl", rows)) == {"one": 1.0}
    if "id" in document:
        assert grades(source, columns={"document_id": ()}) == {"one": 1.0}


def test_who_names_the_id_gets_the_usual_text_and_is_shown_the_other(tmp_path: Path) -> None:
    rows = [{"topic_key": f"CQ{n}", "question": f"what about {n}?", "query": f"{n}"} for n in N]
    topics = write_jsonl(tmp_path / "topics.jsonl", rows)
    told = Understood()
    given = {"id": ("topic_key",)}
    texts = read_texts(topics, Tally(), "query", given, understood=told)
    assert [text.joined for _, text in texts] == [f"{n}" for n in N]
    (file,) = told.as_dict()["files"]
    assert (file["columns"]["text"], file["unused"]) == (["query"], ["question"])
