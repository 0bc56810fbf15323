"""Which files of a folder are labels, and whether the ids in them are those of the texts."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from tests.support.label_files import write_llama_index, write_rows
from tests.support.sets import write_jsonl
from trimtab_training.data.dataset import Dataset
from trimtab_training.data.importers import ClickSettings, ImportSettings, import_labels
from trimtab_training.data.importers.sources import files_by_split
from trimtab_training.data.qrels import load_splits
from trimtab_training.errors import ConfigError, DataError

N = range(12)
ROWS = [{"query": f"q{n}", "document": f"d, {n}"} for n in N]
WANTED = {f"q{n}": {f"d, {n}": 1.0} for n in N}


def imported(source: Path, format_: str = "pairs", **settings: Any) -> dict[str, dict[str, float]]:
    out = source.parent / "out"
    import_labels(format_, source, out, ImportSettings(**settings))
    dataset = Dataset("out", out, load_splits(out / "qrels"))
    queries, documents = dict(dataset.iter_queries()), dict(dataset.iter_documents())
    return {
        queries.get(query, query): {documents.get(doc, doc): grade for doc, grade in labels.items()}
        for labels_of in dataset.splits.values()
        for query, labels in labels_of.items()
    }


def record_of(source: Path) -> dict[str, Any]:
    record: dict[str, Any] = json.loads((source.parent / "out" / "import.json").read_text())
    return record


# Folders


@pytest.mark.parametrize(
    "name",
    ["train.jsonl.bak", "train.jsonl~", ".train.jsonl.swp", "._train.jsonl", "#train.jsonl#",
     "testimonials.jsonl", "trainers.csv", "test", "qrels_test.jsonl", "scifact.dev.csv"],
)  # fmt: skip
def test_copies_that_editors_leave_are_no_labels_and_are_named(tmp_path: Path, name: str) -> None:
    (tmp_path / "in").mkdir()
    write_jsonl(tmp_path / "in" / "train.jsonl", ROWS)
    write_jsonl(tmp_path / "in" / name, [{"query": "wrong", "document": "wrong"}])
    assert imported(tmp_path / "in") == WANTED
    (file,) = record_of(tmp_path / "in")["understood"]["files"]
    assert file["notes"] == [f"left aside: {name}"]


@pytest.mark.parametrize(
    "name",
    ["train (1).jsonl", "train copy.jsonl", "train_old.jsonl", "train.bak.jsonl", "train.jsonl.gz",
     "train.csv"],
)  # fmt: skip
def test_file_that_may_be_a_copy_is_asked_about(tmp_path: Path, name: str) -> None:
    for one in ("train.jsonl", name):
        (tmp_path / one).write_bytes(b"")
    with pytest.raises(DataError, match=r"a copy of .*, or are both to be read"):
        files_by_split(tmp_path, 0)


def test_parts_of_a_split_are_no_copies(tmp_path: Path) -> None:
    names = ["train-00000-of-00002.parquet", "train-00001-of-00002.parquet", "train.1.jsonl",
             "train.2.jsonl", "training_set.csv", "valid.csv", "development-data.tsv"]  # fmt: skip
    for name in names:
        (tmp_path / name).write_bytes(b"")
    found = files_by_split(tmp_path, 0)
    assert sorted(path.name for _, path in found) == sorted(names)
    assert sorted(number for number, _ in found) == [0, 0, 0, 0, 0, 1, 1]


@pytest.mark.parametrize(
    ("numbers", "missing"),
    [((0, 2), "1"), ((1, 2), "0"), ((1, 3), "2"), ((0,), "1"), ((0, 1, 2), ""), ((1, 2, 3), "")],
)
def test_shard_that_is_missing_is_named(
    tmp_path: Path, numbers: tuple[int, ...], missing: str
) -> None:
    for number in numbers:
        (tmp_path / f"train-0000{number}-of-00003.jsonl").write_bytes(b"")
        (tmp_path / "test-00000-of-00001.jsonl").write_bytes(b"")
    if not missing:
        assert len(files_by_split(tmp_path, 0)) == 4
        return
    with pytest.raises(
        DataError,
        match=rf"train-0000{missing}-of-00003 is not there, {3 - len(numbers)} of 3 such files",
    ):
        files_by_split(tmp_path, 0)


def test_corpus_in_two_files_is_asked_about(tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    write_jsonl(tmp_path / "in" / "queries.jsonl", [])
    for name in ("corpus.jsonl", "corpus.tsv"):
        (tmp_path / "in" / name).write_bytes(b"")
    with pytest.raises(DataError, match="could both hold the corpus; say which: --corpus FILE"):
        imported(tmp_path / "in", "beir")


# Ids that begin anew


def shards(folder: Path, names: Sequence[str] = ("train", "test")) -> Path:
    for name in names:
        rows = [{"qid": n, "query": f"{name} {n}", "pid": n, "passage": f"{name} d{n}"} for n in N]
        write_rows(folder / f"{name}.jsonl", rows)
    return folder


@pytest.mark.parametrize("second", ["test", "train-00001-of-00002"])
def test_ids_that_begin_anew_are_no_ids_of_the_first_texts(tmp_path: Path, second: str) -> None:
    first = "train" if second == "test" else "train-00000-of-00002"
    source = shards(tmp_path / "in", (first, second))
    with pytest.raises(
        DataError,
        match=r"12 of 12 rows have a query id that another text already has, such as '0' \("
        + second
        + r".jsonl:1\): if ids begin anew .* say --column query_id= .*; if not, keep one text",
    ):
        imported(source)
    with pytest.raises(DataError, match=r"a document id that .* say --column document_id="):
        imported(source, columns={"query_id": ()})
    found = imported(source, columns={"query_id": (), "document_id": ()})
    assert found == {f"{name} {n}": {f"{name} d{n}": 1.0} for name in (first, second) for n in N}


def test_ids_inside_documents_can_be_said_to_be_none(tmp_path: Path) -> None:
    rows = [
        {"query": f"q{n}", "pos": [{"docid": n % 6, "text": f"d{n}"}], "neg": [{"text": "n"}]}
        for n in N
    ]
    source = write_jsonl(tmp_path / "rows.jsonl", rows)
    with pytest.raises(
        DataError, match=r"6 of 12 rows have a document id .* --column document_id="
    ):
        imported(source, "triplets")
    found = imported(source, "triplets", columns={"document_id": ()})
    assert found == {f"q{n}": {f"d{n}": 1.0, "n": 0.0} for n in N}


def test_row_whose_id_is_another_texts_is_dropped_and_adds_nothing(tmp_path: Path) -> None:
    rows = [{"qid": n, "query": f"q{n}", "docid": n, "document": f"d{n}"} for n in range(20)] + [
        {"qid": 3, "query": " Q3?", "docid": 3, "document": "d3"},  # the same question
        {"qid": 4, "query": "another", "docid": 30, "document": "new"},
        {"qid": 31, "query": "new", "docid": 5, "document": "another"},
    ]
    source = write_jsonl(tmp_path / "rows.jsonl", rows)
    assert imported(source) == {f"q{n}": {f"d{n}": 1.0} for n in range(20)}
    record = record_of(source)
    assert [(one["reason"], one["first"]) for one in record["dropped"]] == [
        (f"another text already has this {what} id (--column {what}_id= makes ids of the texts)",
         f"rows.jsonl:{line}")
        for what, line in (("query", 22), ("document", 23))
    ]  # fmt: skip
    assert record["written"]["documents"] == 20
    assert [one["reason"] for one in record["left_out"]] == ["the same label again"]


def test_one_row_has_one_text_for_each_id(tmp_path: Path) -> None:
    rows = [{"query": f"q{n}", "document": [f"a{n}", f"b{n}"], "doc_id": [n, n]} for n in N]
    with pytest.raises(DataError, match=r"12 of 12 rows have a document id that another text"):
        imported(write_jsonl(tmp_path / "rows.jsonl", rows))


@pytest.mark.parametrize("what", ["queries", "documents"])
def test_ids_of_llama_index_that_begin_anew_are_refused(tmp_path: Path, what: str) -> None:
    for name, of in (("train", "one"), ("test", "two")):
        query, document = (of, "d") if what == "queries" else ("q", of)
        write_llama_index(
            tmp_path / "in" / f"{name}.json",
            {f"q{n}" if what == "queries" else f"{of} q{n}": f"{query} {n}" for n in N},
            {f"d{n}": f"{document} {n}" for n in N},
            {f"q{n}" if what == "queries" else f"{of} q{n}": {f"d{n}": 1.0} for n in N},
        )
    with pytest.raises(DataError, match=rf"test.json: 12 of 12 {what} have a .*make them differ"):
        imported(tmp_path / "in", "llama-index")


def test_label_of_a_taken_id_is_dropped_with_its_text(tmp_path: Path) -> None:
    for name in ("train", "test"):
        queries = {f"{name}{n}": f"{name} query {n}" for n in range(20)}
        documents = {f"d{n}": f"d{n}" for n in range(20)}
        if name == "test":
            documents["d7"] = "another"
        labels = {f"{name}{n}": {f"d{n}": 1.0} for n in range(20)}
        write_llama_index(tmp_path / "in" / f"{name}.json", queries, documents, labels)
    found = imported(tmp_path / "in", "llama-index")
    assert "test query 7" not in found
    assert len(found) == 39
    assert [(one["of"], one["reason"]) for one in record_of(tmp_path / "in")["dropped"]] == [
        ("documents", "another text already has this document id"),
        ("label rows", "another text already has the label's document id"),
    ]


def test_query_ids_that_count_within_a_session_are_refused(tmp_path: Path) -> None:
    rows = [{"query_id": n % 3, "query": f"q{n}", "shown": ["a", "b"], "clicked": ["b"]} for n in N]
    source = write_jsonl(tmp_path / "log.jsonl", rows)
    clicks = ClickSettings(estimate="pairwise", min_clicks=1.0)
    with pytest.raises(DataError, match=r"9 of 12 searches have a query id .* --column query_id="):
        imported(source, "clicks", clicks=clicks)
    settings = ImportSettings(clicks=clicks, columns={"query_id": ()})
    record = import_labels("clicks", source, tmp_path / "out", settings)
    assert record["written"]["splits"]["train"]["queries"] == 12


@pytest.mark.parametrize("what", ["queries", "corpus"])
def test_texts_of_which_several_have_one_id_are_refused(tmp_path: Path, what: str) -> None:
    source = beir(tmp_path / "in", lines("q{0}\tc{0}\t1\n"))
    ids = ("q{}", "c{}")[what == "corpus"]
    chunks = [{"_id": ids.format(n), "text": f"chunk {part} of {n}"} for n in N for part in "abc"]
    unlabelled = [{"_id": f"other {n}", "text": "x"} for n in range(300 * (what == "queries"))]
    write_jsonl(source / f"{what}.jsonl", chunks + unlabelled)
    told = rf"24 of 36 .* have a .* id .* such as '.0' \({what}.jsonl:2\): .* chunks of one, make"
    with pytest.raises(DataError, match=told):
        imported(source, "beir")
    assert not (tmp_path / "out").exists()


def test_a_few_texts_whose_id_is_taken_are_left_out(tmp_path: Path) -> None:
    source = beir(tmp_path / "in", lines("q{0}\tc{0}\t1\n"))
    for name, id_ in (("queries", "q3"), ("corpus", "c3")):
        with (source / f"{name}.jsonl").open("a", encoding="utf-8") as file:
            file.write(json.dumps({"_id": id_, "text": "another"}) + "\n")
    assert imported(source, "beir") == {f"query {n}": {f"document {n}": 1.0} for n in N}
    (left,) = record_of(source)["left_out"]
    assert (left["reason"], left["count"]) == (
        "another text under the same id; the first stays",
        2,
    )


# Labels and the texts that they are about


def beir(folder: Path, labels: str, queries: str = "_id", documents: str = "c{}") -> Path:
    (folder / "qrels").mkdir(parents=True)
    write_jsonl(folder / "queries.jsonl", [{queries: f"q{n}", "text": f"query {n}"} for n in N])
    corpus = [{"_id": documents.format(n), "text": f"document {n}"} for n in N]
    write_jsonl(folder / "corpus.jsonl", corpus)
    (folder / "qrels" / "train.tsv").write_text(labels, encoding="utf-8")
    return folder


def lines(form: str) -> str:
    return "".join(form.format(n) for n in N)


@pytest.mark.parametrize(
    "labels",
    [
        "corpus-id\tquery-id\tscore\n" + lines("c{0}\tq{0}\t1\n"),
        "\tquery-id\tcorpus-id\tscore\n" + lines("{0}\tq{0}\tc{0}\t1\n"),
        "query_id iteration doc_id relevance\n" + lines("q{0} 0 c{0} 1\n"),
        "query_id doc_id assessor relevance\n" + lines("q{0} c{0} a{0} 1\n"),
        "sep=\t\ncorpus-id\tquery-id\tscore\n" + lines("c{0}\tq{0}\t1\n"),
    ],
)
def test_header_of_labels_tells_which_column_is_which(tmp_path: Path, labels: str) -> None:
    source = beir(tmp_path / "in", labels)
    assert imported(source, "beir") == {f"query {n}": {f"document {n}": 1.0} for n in N}


@pytest.mark.parametrize(
    "labels",
    [
        "product_id\tquery_id\tesci\n" + lines("c{0}\tq{0}\t1\n"),
        "sep=\t\nproduct_id\tquery_id\tesci\n" + lines("c{0}\tq{0}\t1\n"),
        "qid\turl\tlang\trating\n" + lines("q{0}\tc{0}\ten\t1\n"),
    ],
)
def test_header_of_labels_that_is_not_known_is_no_bad_row(tmp_path: Path, labels: str) -> None:
    with pytest.raises(DataError, match=r"names .*(esci|rating), .* call the columns query-id"):
        imported(beir(tmp_path / "in", labels), "beir", max_dropped=0.5)


@pytest.mark.parametrize(
    ("labels", "documents", "message"),
    [
        ("c{0}\tq{0}\t1\n", "c{}", "columns of queries and documents are swapped: 12 ids"),
        ("q{0} {0} 0 1\n", "{}", "the columns look like query, document, 0, grade"),
        ("q{0} c{0} x 1\n", "c{}", "second of four columns holds 'c0' and 'c1', where TREC"),
        ("q{0}\t{0}.0\t1\n", "{}", r"'0.0' against '0': pandas writes whole numbers"),
        ("q{0}\t{0}\t1\n", "{:03d}", "'0' against '000': zeros, blanks or capitals differ"),
        ("q{0}\té{0}\t1\n", "e\u0301{}", r"xe90' and 'e\\u03010' are two spellings of one text"),
        ("q{0}\tc{0}\t1\n", "\u200bc{}", "and without invisible marks"),
        ("x{0}\tc{0}\t1\n", "c{}", r"none of the queries in .* has a label: 'q0' against 'x0'"),
    ],
)
def test_labels_about_other_ids_say_how_they_differ(
    tmp_path: Path, labels: str, documents: str, message: str
) -> None:
    with pytest.raises(DataError, match=message):
        imported(beir(tmp_path / "in", lines(labels), documents=documents), "beir")


def test_swapped_columns_are_seen_by_the_topics_alone(tmp_path: Path) -> None:
    topics = write_jsonl(tmp_path / "t.jsonl", [{"qid": f"q{n}", "query": "text"} for n in N])
    (tmp_path / "l.qrels").write_text(lines("c{0} 0 q{0} 1\n"), encoding="utf-8")
    with pytest.raises(DataError, match="are swapped: 12 ids, such as 'q0'"):
        imported(tmp_path / "l.qrels", "trec", queries=topics)


@pytest.mark.parametrize("role", ["id", "query_id"])
def test_column_of_ids_that_is_advised_is_used(tmp_path: Path, role: str) -> None:
    source = beir(tmp_path / "in", lines("q{0}\tc{0}\t1\n"), queries="nr")
    with pytest.raises(DataError, match=r"has no column that looks like id.*--column id=NAME"):
        imported(source, "beir")
    assert len(imported(source, "beir", columns={role: ("nr",)})) == 12
    with pytest.raises(ConfigError, match=r"--column id=nx: no such column; .* has 'nr', 'text'"):
        imported(source, "beir", columns={"id": ("nx",)})


def test_column_that_is_given_for_no_file_is_refused(tmp_path: Path) -> None:
    source = beir(tmp_path / "in", lines("q{0}\tc{0}\t1\n"))
    with pytest.raises(ConfigError, match="--column title=nx: no file of texts has such a column"):
        imported(source, "beir", columns={"title": ("nx",)})
    with pytest.raises(ConfigError, match=r"--column score=\.\.\.: no such role; expected query, "):
        imported(source, "beir", columns={"score": ("x",)})


def test_ids_beside_texts_of_the_corpus_are_held_against_them(tmp_path: Path) -> None:
    corpus = write_jsonl(tmp_path / "corpus.jsonl", [{"_id": str(n), "text": f"d, {n}"} for n in N])
    rows = [{**row, "doc_id": str(n)} for n, row in enumerate(ROWS)]
    own = write_jsonl(tmp_path / "own.jsonl", rows)
    assert imported(own, corpus=corpus) == WANTED
    one_off = [*rows[:-1], {**rows[-1], "doc_id": "3"}]
    slip = write_jsonl(tmp_path / "slip.jsonl", one_off)
    assert imported(slip, corpus=corpus) == {q: WANTED[q] for q in list(WANTED)[:-1]}
    (dropped,) = record_of(slip)["dropped"]
    assert dropped["reason"].startswith("another text already has this document id")
    others = [{**row, "doc_id": str(len(N) - 1 - n)} for n, row in enumerate(ROWS)]
    foreign = write_jsonl(tmp_path / "foreign.jsonl", others)
    with pytest.raises(DataError, match=r"12 of 12 rows have a document id that another text"):
        imported(foreign, corpus=corpus)
    assert imported(foreign, corpus=corpus, columns={"document_id": ()}) == WANTED
    cut = [{**row, "document": row["document"][:2], "doc_id": str(n)} for n, row in enumerate(ROWS)]
    assert imported(write_jsonl(tmp_path / "cut.jsonl", cut), corpus=corpus) == WANTED


def test_ids_of_the_corpus_beside_pairs_can_be_named(tmp_path: Path) -> None:
    corpus = write_jsonl(tmp_path / "c.jsonl", [{"nr": f"c{n}", "text": f"d, {n}"} for n in N])
    source = write_jsonl(tmp_path / "rows.jsonl", ROWS)
    imported(source, corpus=corpus, columns={"id": ("nr",)})
    assert sorted(load_splits(tmp_path / "out/qrels")["train"].popitem()[1]) == ["c11"]


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        (
            "topics.txt",
            "no topic in here\n",
            r"what .*topics.txt holds: 'no topic in here'; expect",
        ),
        ("topics.txt", "<top>\n", r"topics.txt gives no query: 1 .*; mostly: query id is empty"),
        ("topics.tsv", "qid\tquery\n", r"topics.tsv gives no query: 0 .*; expected columns such"),
        ("topics.tsv", "", r"topics.tsv gives no query: 0 .*; expected columns such"),
    ],
    ids=["other text", "empty topic", "names alone", "empty"],
)
def test_topics_in_which_nothing_is_found_are_refused(
    tmp_path: Path, name: str, content: str, message: str
) -> None:
    (tmp_path / name).write_text(content, encoding="utf-8")
    (tmp_path / "l.qrels").write_text("q 0 d 1\n", encoding="utf-8")
    with pytest.raises(DataError, match=message):
        imported(tmp_path / "l.qrels", "trec", queries=tmp_path / name)


@pytest.mark.parametrize(
    ("texts", "ids"),
    [
        (["d, {n}"], '["d{n}"]'), (["d, {n}"], "['d{n}']"), (["d, {n}"], "d{n}"),
        (["d, {n}", "e, {n}"], '["d{n}", "e{n}"]'), (["d, {n}", "e, {n}"], "['d{n}' 'e{n}']"),
        (["d, {n}"], "!['d{n}"), (["d, {n}"], "![007]"),
    ],
    ids=str,
)  # fmt: skip
def test_ids_beside_lists_of_texts_in_cells_are_lists(
    tmp_path: Path, texts: list[str], ids: str
) -> None:
    rows = [
        {"query": f"q{n}", "document": [text.format(n=n) for text in texts],
         "document_id": ids.removeprefix("!").format(n=n)}
        for n in N
    ]  # fmt: skip
    source = write_rows(tmp_path / "rows.csv", rows)
    if ids.startswith("!"):
        with pytest.raises(DataError, match="document ids can't be read as the list that they"):
            imported(source)
        return
    imported(source)
    labels = load_splits(tmp_path / "out" / "qrels")["train"]
    wanted = {f"{text[0]}{n}" for text in texts for n in N}
    assert {doc for of in labels.values() for doc in of} == wanted


@pytest.mark.parametrize("kind", ["jsonl", "csv", "parquet"])
def test_ids_without_texts_are_taken_however_many_a_query_has(tmp_path: Path, kind: str) -> None:
    texts = [{"_id": str(n), "text": f"d, {n}"} for n in N]
    corpus = write_jsonl(tmp_path / "c.jsonl", [*texts, {"_id": "bare", "text": ""}])
    rows = [
        {"query": f"q{n}", "document_id": [str(n), str((n + 1) % 12)] if n % 3 else [str(n)],
         "scores": [2, 0] if n % 3 else [1]}
        for n in N
    ]  # fmt: skip
    wanted = {
        f"q{n}": {f"d, {n}": 2.0, f"d, {(n + 1) % 12}": 0.0} if n % 3 else WANTED[f"q{n}"]
        for n in N
    }
    source = write_rows(tmp_path / f"scored.{kind}", rows)
    assert imported(source, corpus=corpus) == wanted
    bare = [{name: row[name] for name in ("query", "document_id")} for row in rows]
    source = write_rows(tmp_path / f"bare.{kind}", bare)
    assert imported(source, corpus=corpus) == {
        query: dict.fromkeys(grades, 1.0) for query, grades in wanted.items()
    }


def test_ids_in_brackets_are_ids_where_there_are_no_lists(tmp_path: Path) -> None:
    corpus = write_jsonl(tmp_path / "c.jsonl", [{"_id": f"[{n}]", "text": f"d, {n}"} for n in N])
    rows = [{"query": f"q{n}", "document_id": f"[{n}]"} for n in N]
    source = write_rows(tmp_path / "rows.csv", rows)
    assert imported(source, corpus=corpus, lists=False) == WANTED


def test_numbers_beside_ids_without_texts_are_asked_about(tmp_path: Path) -> None:
    corpus = write_jsonl(tmp_path / "c.jsonl", [{"_id": str(n), "text": f"d, {n}"} for n in N])
    rows = [{"query": f"q{n}", "document_id": [n, (n + 1) % 12], "flags": [1, 0]} for n in N]
    source = write_jsonl(tmp_path / "rows.jsonl", rows)
    with pytest.raises(DataError, match=r"every entry of 'document_id': .* score=flags if they"):
        imported(source, corpus=corpus)
    found = imported(source, corpus=corpus, columns={"score": ("flags",)})
    assert found["q3"] == {"d, 3": 1.0, "d, 4": 0.0}
