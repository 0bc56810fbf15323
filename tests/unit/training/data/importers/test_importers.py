"""Imports: every format's shape, what is dropped and where, and what is never overwritten."""

import errno
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.support.fits import keep_state
from tests.support.label_files import write_llama_index, write_rows, write_trec
from tests.support.sets import write_dataset, write_jsonl
from trimtab_training.data.dataset import Dataset
from trimtab_training.data.importers import FORMATS, ClickSettings, ImportSettings, import_labels
from trimtab_training.data.importers.columns import PAIR_ROLES, find_columns
from trimtab_training.data.importers.writer import TextTable
from trimtab_training.data.qrels import Qrels
from trimtab_training.errors import ConfigError, DataError

PAIRS = [
    {"anchor": "money back?", "positive": "How refunds work"},
    {"anchor": "lost card", "positive": "Blocking a card"},
]

KILLED_STATUS = 9
KILLED = f"""
import os, sys
from pathlib import Path
from trimtab_training.data.importers import import_labels, writer
writer.swap_folder = lambda *_: os._exit({KILLED_STATUS})
import_labels("pairs", Path(sys.argv[1]), Path(sys.argv[2]))
"""


def imported(
    tmp_path: Path, format_: str, source: Path, **settings: Any
) -> tuple[Dataset, dict[str, Any]]:
    record = import_labels(format_, source, tmp_path / "out", ImportSettings(**settings))
    folder = tmp_path / "out"
    assert record == json.loads((folder / "import.json").read_text(encoding="utf-8"))
    return Dataset("out", folder, _splits(folder)), record


def _splits(folder: Path) -> dict[str, Qrels]:
    from trimtab_training.data.qrels import load_splits

    return load_splits(folder / "qrels")


def test_work_of_a_fit_of_the_same_name_stays_where_it_is(tmp_path: Path) -> None:
    state = keep_state(tmp_path / "out")
    imported(tmp_path, "pairs", write_rows(tmp_path / "pairs.jsonl", PAIRS))
    assert state.exists()
    assert not (tmp_path / "out" / "fit").exists()


def by_text(dataset: Dataset, split: str = "train") -> dict[str, dict[str, float]]:
    queries, documents = dict(dataset.iter_queries()), dict(dataset.iter_documents())
    return {
        queries[query]: {documents[doc]: grade for doc, grade in labels.items()}
        for query, labels in dataset.split(split).items()
    }


def reasons(record: dict[str, Any], key: str = "dropped") -> dict[str, tuple[int, str]]:
    return {one["reason"]: (one["count"], one["first"]) for one in record[key]}


# Pairs and triplets


@pytest.mark.parametrize("kind", ["jsonl", "json", "csv", "tsv", "parquet", "jsonl.gz", "ndjson"])
def test_pairs_are_read_from_every_kind_of_file(tmp_path: Path, kind: str) -> None:
    dataset, record = imported(tmp_path, "pairs", write_rows(tmp_path / f"pairs.{kind}", PAIRS))
    assert by_text(dataset) == {
        "money back?": {"How refunds work": 1.0},
        "lost card": {"Blocking a card": 1.0},
    }
    assert record["rows"] == 2
    assert record["dropped"] == []


@pytest.mark.parametrize(
    "row",
    [
        {"anchor": "q", "positive": "d"},
        {"query": "q", "pos": ["d"], "neg": []},
        {"question": "q", "answer": "d"},
        {"text1": "q", "text2": "d", "label": 1},
        {"query": "q", "document": "d", "score": 1.0},
        {"sentence1": "q", "sentence2": "d", "score": "1"},
        {"sentence_A": "q", "sentence_B": "d"},
        {"Query": "q", "Document": "d", "id": 7},
        {"query": "q", "positive_passages": [{"docid": "x", "title": "", "text": "d"}]},
        ["q", "d"],
    ],
    ids=lambda row: "-".join(row) if isinstance(row, dict) else "array",
)
def test_usual_names_of_columns_are_known(tmp_path: Path, row: Any) -> None:
    dataset, _ = imported(tmp_path, "pairs", write_jsonl(tmp_path / "rows.jsonl", [row]))
    assert by_text(dataset) == {"q": {"d": 1.0}}


@pytest.mark.parametrize(
    "row",
    [
        {"anchor": "q", "positive": "d", "negative": "n"},
        {"query": "q", "pos": ["d"], "neg": ["n"]},
        {"anchor": "q", "positive": "d", "negative_1": "n", "negative_2": None},
        {"query": "q", "positive_passages": [{"text": "d"}], "negative_passages": [{"text": "n"}]},
        {"question": "q", "positive_ctxs": [{"text": "d"}], "hard_negative_ctxs": [{"text": "n"}]},
        ["q", "d", "n"],
    ],
    ids=lambda row: "-".join(row) if isinstance(row, dict) else "array",
)
def test_negatives_become_judged_non_relevant_documents(tmp_path: Path, row: Any) -> None:
    dataset, _ = imported(tmp_path, "triplets", write_jsonl(tmp_path / "rows.jsonl", [row]))
    assert by_text(dataset) == {"q": {"d": 1.0, "n": 0.0}}


def test_lists_in_csv_cells_are_taken_apart(tmp_path: Path) -> None:
    source = write_rows(tmp_path / "t.csv", [{"query": "q", "pos": ["a", "b"], "neg": ["n"]}])
    dataset, _ = imported(tmp_path, "triplets", source)
    assert by_text(dataset) == {"q": {"a": 1.0, "b": 1.0, "n": 0.0}}


def test_columns_can_be_named(tmp_path: Path) -> None:
    source = write_rows(tmp_path / "rows.csv", [{"frage": "q", "antwort": "d", "falsch": "n"}])
    columns = {"query": ("frage",), "document": ("antwort",), "negative": ("falsch",)}
    dataset, _ = imported(tmp_path, "triplets", source, columns=columns)
    assert by_text(dataset) == {"q": {"d": 1.0, "n": 0.0}}


def test_table_without_names_is_read_by_number(tmp_path: Path) -> None:
    source = tmp_path / "rows.tsv"
    source.write_text('say "hi"\td\t2\n', encoding="utf-8")
    dataset, _ = imported(tmp_path, "pairs", source, header=False)
    assert by_text(dataset) == {'say "hi"': {"d": 2.0}}


def test_scores_are_grades_and_low_ones_are_judged_otherwise(tmp_path: Path) -> None:
    rows = [{"query": "q", "document": f"d{n}", "score": n} for n in range(4)]
    source = write_rows(tmp_path / "rows.jsonl", rows)
    assert by_text(imported(tmp_path, "pairs", source)[0])["q"] == {
        "d0": 0.0, "d1": 1.0, "d2": 2.0, "d3": 3.0,
    }  # fmt: skip
    dataset, _ = imported(tmp_path, "pairs", source, relevant_from=2.0)
    assert by_text(dataset)["q"] == {"d0": 0.0, "d1": 0.0, "d2": 2.0, "d3": 3.0}


def test_equal_texts_are_one_and_their_ids_never_change(tmp_path: Path) -> None:
    rows = [
        {"anchor": "Caf\u00e9?", "positive": "one  document\n"},
        {"anchor": " Cafe\u0301? ", "positive": "one document"},
    ]
    dataset, record = imported(tmp_path, "pairs", write_jsonl(tmp_path / "rows.jsonl", rows))
    assert len(list(dataset.iter_queries())) == len(list(dataset.iter_documents())) == 1
    assert reasons(record, "left_out") == {"the same label again": (1, "rows.jsonl:2")}
    (query,) = dataset.split("train")
    assert query == "q-e15dc12c3f9589c3c3a9"


def test_texts_are_mapped_onto_an_existing_corpus(tmp_path: Path) -> None:
    corpus = write_jsonl(
        tmp_path / "corpus.jsonl",
        [
            {"_id": "r1", "title": "Refunds", "text": "How refunds work"},
            {"_id": "c1", "title": "", "text": "Blocking a card"},
            {"_id": "x", "title": "", "text": "Unasked"},
        ],
    )
    rows = [*PAIRS, {"anchor": "a", "positive": "Refunds How refunds work"}]
    rows.append({"anchor": "b", "positive": "nowhere"})
    source = write_jsonl(tmp_path / "rows.jsonl", rows)
    dataset, record = imported(tmp_path, "pairs", source, corpus=corpus, max_dropped=0.5)
    assert [doc for doc, _ in dataset.iter_documents()] == ["r1", "c1", "x"]
    assert sorted(map(list, dataset.split("train").values())) == [["c1"], ["r1"], ["r1"]]
    assert reasons(record) == {"document is not in the corpus": (1, "rows.jsonl:4")}


def test_text_of_several_documents_of_a_corpus_is_told(tmp_path: Path) -> None:
    corpus = write_jsonl(
        tmp_path / "corpus.jsonl",
        [
            {"_id": "r1", "title": "", "text": "How refunds work"},
            {"_id": "r2", "title": "Refunds", "text": "How  refunds work"},
            {"_id": "c1", "title": "", "text": "Blocking a card"},
        ],
    )
    source = write_jsonl(tmp_path / "rows.jsonl", PAIRS)
    dataset, record = imported(tmp_path, "pairs", source, corpus=corpus)
    assert sorted(map(list, dataset.split("train").values())) == [["c1"], ["r1"]]
    assert reasons(record, "noted") == {
        "a text that several documents of the corpus have: the first is labelled": (
            1,
            "rows.jsonl:1",
        )
    }


def test_ids_of_rows_are_kept(tmp_path: Path) -> None:
    rows = [{"query_id": 7, "query": "q", "doc_id": "d-7", "document": "d"}]
    dataset, _ = imported(tmp_path, "pairs", write_jsonl(tmp_path / "rows.jsonl", rows))
    assert dataset.split("train") == {"7": {"d-7": 1.0}}


def test_highest_grade_of_a_pair_counts(tmp_path: Path) -> None:
    rows = [
        {"anchor": "q", "positive": "d", "negative": "n"},
        {"anchor": "q", "positive": "n", "negative": "d"},
    ]
    dataset, record = imported(tmp_path, "triplets", write_jsonl(tmp_path / "rows.jsonl", rows))
    assert by_text(dataset) == {"q": {"d": 1.0, "n": 1.0}}
    assert reasons(record, "left_out") == {"the same pair with a lower grade": (2, "rows.jsonl:1")}


def test_folder_of_files_is_read_by_split_and_no_query_stands_in_two(tmp_path: Path) -> None:
    for name, query in (("train-00000-of-00001", "a"), ("validation", "b"), ("test", "c")):
        rows = [{"anchor": query, "positive": "d"}, {"anchor": "all", "positive": "e"}]
        write_rows(tmp_path / "set" / f"{name}.parquet", rows)
    dataset, record = imported(tmp_path, "pairs", tmp_path / "set")
    assert {name: set(by_text(dataset, name)) for name in dataset.splits} == {
        "train": {"a"}, "dev": {"b"}, "test": {"c", "all"},
    }  # fmt: skip
    assert reasons(record, "left_out") == {
        "query has labels in another split": (2, "train-00000-of-00001.parquet:2")
    }


# What is dropped, and what stops an import


def test_rows_that_cant_be_used_are_counted_with_the_first_line(tmp_path: Path) -> None:
    good = json.dumps(PAIRS[0])
    lines = [
        good,
        "{broken",
        json.dumps({"anchor": "", "positive": "d"}),
        json.dumps({"anchor": "q"}),
        json.dumps({"anchor": 5, "positive": "d"}),
        '{"anchor": "half \\ud800", "positive": "d"}',
        "",
        "12",
        json.dumps({"anchor": "q", "positive": ["", None]}),
    ]
    source = tmp_path / "rows.jsonl"
    source.write_text("\n".join(lines), encoding="utf-8")
    dataset, record = imported(tmp_path, "pairs", source, max_dropped=0.9)
    assert list(by_text(dataset)) == ["money back?"]
    assert record["rows"] == 8
    assert reasons(record) == {
        "not a JSON object": (2, "rows.jsonl:2"),
        "empty query": (1, "rows.jsonl:3"),
        "empty document": (2, "rows.jsonl:4"),
        "query is not a text": (1, "rows.jsonl:5"),
        "query holds bytes that are not UTF-8": (1, "rows.jsonl:6"),
    }


def test_csv_lines_are_named_as_an_editor_counts_them(tmp_path: Path) -> None:
    source = tmp_path / "rows.csv"
    source.write_bytes(b'anchor,positive\nq,"two\nlines"\nonly one\nlatin \xe9,d\nq2,d2\nq3,d3\n')
    dataset, record = imported(tmp_path, "pairs", source, max_dropped=0.5)
    assert by_text(dataset)["q"] == {"two\nlines": 1.0}
    assert reasons(record) == {
        "another number of columns than the first line": (1, "rows.csv:4"),
        "query holds bytes that are not UTF-8": (1, "rows.csv:5"),
    }


def test_too_many_drops_stop_the_import_and_nothing_is_written(tmp_path: Path) -> None:
    source = write_jsonl(tmp_path / "rows.jsonl", [*PAIRS, 1, 2])
    with pytest.raises(
        DataError, match=r"2 of 4 label rows can't be used, more than --max-dropped 0.1"
    ):
        imported(tmp_path, "pairs", source)
    assert {path.name for path in tmp_path.iterdir()} == {"rows.jsonl"}


def test_drops_stop_a_long_import_early(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("trimtab_training.data.importers.tally._CHECK_EVERY", 10)
    source = write_jsonl(tmp_path / "rows.jsonl", [PAIRS[0], *range(100)])
    with pytest.raises(DataError, match=r"9 of 10 label rows can't be used"):
        imported(tmp_path, "pairs", source)


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("rows.jsonl", b'{"a": 1, "b": 2}\n', r"no column that looks like query or document; it"),
        ("rows.csv", b"anchor,anchor\nq,d\n", r"two columns are called 'anchor'"),
        ("rows.csv", b'anchor,positive\nq,"' + b"x" * (1 << 24) + b"\n", r"rows.csv:2: not CSV"),
        ("rows.jsonl", "x".encode("utf-16"), r"UTF-16; convert it to UTF-8"),
        ("rows.jsonl.gz", b"no gzip", r"can't read .*rows.jsonl.gz"),
        ("rows.parquet", b"no parquet", r"can't read .*rows.parquet"),
        ("rows.json", b"[1,\n", r"rows.json is not JSON"),
        ("rows.xlsx", b"", r"can't tell the format of rows.xlsx; expected a name ending with .js"),
        ("rows.jsonl", b"", r"no relevant label is left of 0 rows"),
        ("rows.jsonl", b'{"query": "q", "document": "d", "score": 0}\n', r"no grade is over 0"),
    ],
)  # fmt: skip
def test_unusable_file_is_one_line(tmp_path: Path, name: str, content: bytes, message: str) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(DataError, match=message) as raised:
        imported(tmp_path, "pairs", tmp_path / name)
    assert "\n" not in str(raised.value)
    assert not (tmp_path / "out").exists()


def test_triplets_want_negatives(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="looks like negative"):
        imported(tmp_path, "triplets", write_jsonl(tmp_path / "rows.jsonl", PAIRS))


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        ({"qery": ("anchor",)}, "no such role; expected query, document"),
        ({"query": ("ancor",)}, "no such column; the file has 'anchor', 'positive'"),
        ({"query": ("anchor", "positive")}, "is given 2 times"),
    ],
)
def test_mistaken_columns_are_refused(
    tmp_path: Path, columns: dict[str, tuple[str, ...]], message: str
) -> None:
    source = write_jsonl(tmp_path / "rows.jsonl", PAIRS)
    with pytest.raises(ConfigError, match=message):
        imported(tmp_path, "pairs", source, columns=columns)


def test_negative_columns_are_not_taken_for_others() -> None:
    found = find_columns(["query", "positive", "negative_10", "negativity"], PAIR_ROLES, {})
    assert found["negative"] == ("negative_10",)


@pytest.mark.parametrize(
    ("format_", "settings", "message"),
    [
        (
            "pairs",
            {"queries": Path("q")},
            "--queries says nothing about pairs; it is for beir, trec",
        ),
        ("beir", {"header": False}, "--no-header says nothing about beir"),
        ("trec", {"clicks": ClickSettings(clip=0.2)}, "--clip says nothing about trec; .* clicks"),
        ("clicks", {"relevant_from": 2.0}, "--relevant-from says nothing about clicks"),
    ],
)
def test_option_without_a_use_is_refused(
    tmp_path: Path, format_: str, settings: dict[str, Any], message: str
) -> None:
    with pytest.raises(ConfigError, match=message):
        imported(tmp_path, format_, tmp_path, **settings)


@pytest.mark.parametrize(
    ("settings", "option"),
    [({"delimiter": ";"}, "--delimiter"), ({"header": False}, "--no-header")],
)
def test_option_of_tables_is_refused_where_there_is_none(
    tmp_path: Path, settings: dict[str, Any], option: str
) -> None:
    source = write_rows(tmp_path / "rows.jsonl", PAIRS)
    with pytest.raises(ConfigError, match=rf"{option} is for CSV and TSV, and rows.jsonl is none"):
        imported(tmp_path, "pairs", source, **settings)
    assert not (tmp_path / "out").exists()
    if option == "--delimiter":
        corpus = tmp_path / "corpus.csv"
        corpus.write_text("id;text\n1;How refunds work\n2;Blocking a card\n", encoding="utf-8")
        imported(tmp_path, "pairs", source, corpus=corpus, **settings)


def test_options_of_times_are_refused_where_there_are_none(tmp_path: Path) -> None:
    source = write_rows(tmp_path / "log.jsonl", [{"query": "q", "shown": ["a"], "clicked": ["a"]}])
    for name, value in (("time_format", "s"), ("time_zone", "UTC")):
        option = f"--{name.replace('_', '-')}"
        with pytest.raises(ConfigError, match=f"{option} needs times, and the log has no time col"):
            imported(tmp_path, "clicks", source, clicks=ClickSettings(**{name: value}))


def test_unknown_format_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=f"expected {', '.join(FORMATS)}"):
        import_labels("xml", tmp_path, tmp_path / "out")


def test_parquet_names_its_extra(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source = write_rows(tmp_path / "rows.parquet", PAIRS)
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    with pytest.raises(ConfigError, match=r"pip install 'trimtab\[parquet\]'"):
        imported(tmp_path, "pairs", source)


# The folder


def test_foreign_folder_is_not_overwritten_unless_forced(tmp_path: Path) -> None:
    source = write_jsonl(tmp_path / "rows.jsonl", PAIRS)
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "corpus.jsonl").write_text("precious", encoding="utf-8")
    with pytest.raises(DataError, match=r"not an earlier import's folder \(it has no import.json"):
        imported(tmp_path, "pairs", source)
    assert (tmp_path / "out" / "corpus.jsonl").read_text(encoding="utf-8") == "precious"
    dataset, _ = imported(tmp_path, "pairs", source, force=True)
    assert len(by_text(dataset)) == 2


def test_earlier_import_is_replaced_and_what_others_put_there_stays(tmp_path: Path) -> None:
    imported(tmp_path, "pairs", write_jsonl(tmp_path / "rows.jsonl", PAIRS))
    (tmp_path / "out" / "embeddings").mkdir()
    (tmp_path / "out" / "embeddings" / "documents.npy").write_text("vectors", encoding="utf-8")
    source = write_jsonl(tmp_path / "rows.jsonl", PAIRS[:1])
    dataset, _ = imported(tmp_path, "pairs", source)
    assert list(by_text(dataset)) == ["money back?"]
    assert (tmp_path / "out" / "embeddings" / "documents.npy").exists()
    assert {path.name for path in tmp_path.iterdir()} == {"rows.jsonl", "out"}


def test_failed_import_leaves_an_earlier_one_as_it_was(tmp_path: Path) -> None:
    imported(tmp_path, "pairs", write_jsonl(tmp_path / "rows.jsonl", PAIRS))
    before = (tmp_path / "out" / "qrels" / "train.tsv").read_bytes()
    with pytest.raises(DataError):
        imported(tmp_path, "pairs", write_jsonl(tmp_path / "rows.jsonl", [1, 2]))
    assert (tmp_path / "out" / "qrels" / "train.tsv").read_bytes() == before


@pytest.mark.parametrize("failing", [".out.new", "out"])
def test_import_that_fails_at_the_swap_leaves_what_others_keep_where_it_was(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, failing: str
) -> None:
    """The last steps are renames: of the folder that was there, and of the new one."""
    source = write_jsonl(tmp_path / "rows.jsonl", PAIRS)
    imported(tmp_path, "pairs", source)
    (tmp_path / "out" / "embeddings").mkdir()
    (tmp_path / "out" / "embeddings" / "documents.npy").write_text("vectors", encoding="utf-8")
    (tmp_path / "out" / "notes.md").write_text("mine", encoding="utf-8")
    before = sorted(tmp_path.rglob("*"))
    rename = Path.rename

    def fail(path: Path, target: Path) -> Path:
        if path.name == failing:
            raise OSError(errno.EBUSY, "Device or resource busy")
        return rename(path, target)

    monkeypatch.setattr(Path, "rename", fail)
    with pytest.raises(DataError, match=r"can't write .*out: .*busy"):
        import_labels("pairs", source, tmp_path / "out")
    assert sorted(tmp_path.rglob("*")) == before
    assert (tmp_path / "out" / "embeddings" / "documents.npy").read_text() == "vectors"


def test_import_that_is_killed_at_the_swap_leaves_what_others_keep_where_it_was(
    tmp_path: Path,
) -> None:
    source = write_jsonl(tmp_path / "rows.jsonl", PAIRS)
    imported(tmp_path, "pairs", source)
    kept = [tmp_path / "out" / name for name in ("notes.md", "old.md")]
    for path in kept:
        path.write_text("mine", encoding="utf-8")
    killed = subprocess.run(
        [sys.executable, "-c", KILLED, str(source), str(tmp_path / "out")], check=False
    )
    assert killed.returncode == KILLED_STATUS
    assert [path.read_text() for path in kept] == ["mine", "mine"]
    kept[1].unlink()
    imported(tmp_path, "pairs", source)
    assert kept[0].read_text() == "mine"
    assert not kept[1].exists()  # what the killed one had carried over does not come back
    assert {path.name for path in tmp_path.iterdir()} == {"rows.jsonl", "out"}


def test_folder_that_one_is_in_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source = write_jsonl(tmp_path / "rows.jsonl", PAIRS)
    monkeypatch.chdir(tmp_path)
    with pytest.raises(DataError, match="is the folder you are in"):
        import_labels("pairs", source, Path())


def test_progress_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("trimtab_training.data.importers.lines._SHOW_EVERY", 5)
    source = write_jsonl(tmp_path / "rows.jsonl", PAIRS * 3)
    told: list[tuple[str, int, int | None]] = []
    import_labels("pairs", source, tmp_path / "out", progress=lambda *step: told.append(step))
    assert told == [("MB read", 0, 1), ("MB read", 1, 1)]


@pytest.mark.parametrize("by", ["document", "query"])
def test_split_that_is_asked_for_is_the_one_that_loading_makes(tmp_path: Path, by: str) -> None:
    rows = [{"anchor": f"q{n}", "positive": f"d{n // 2}"} for n in range(60)]
    source = write_jsonl(tmp_path / "rows.jsonl", rows)
    imported(tmp_path, "pairs", source)
    loaded = Dataset.load(tmp_path / "out", split_by=by)
    assert loaded.made_splits == by
    dataset, _ = imported(tmp_path, "pairs", source, split_by=by)
    assert dataset.splits == loaded.splits


# BEIR, TREC, LlamaIndex

QUERIES = {"q1": "money back?", "q2": "lost <card> & PIN", "q3": "hours"}
DOCUMENTS = {"d1": "How refunds work", "d2": "Blocking a card", "d3": "Opening <hours>"}
SPLITS: dict[str, Qrels] = {
    "train": {"q1": {"d1": 2.0, "d2": 0.0}},
    "test": {"q2": {"d2": 1.0}, "q3": {"d3": 1.0}},
}


def test_beir_is_cleaned(tmp_path: Path) -> None:
    source = write_dataset(
        tmp_path / "in",
        documents={**DOCUMENTS, "d9": "Unasked"},
        queries={**QUERIES, "q9": "unanswered"},
        splits={"train": {**SPLITS["train"], "gone": {"d1": 1.0}}, "test": SPLITS["test"]},
    )
    with (source / "qrels" / "train.tsv").open("a", encoding="utf-8") as file:
        file.write("q1\td404\t1\nno label\nq1\td3\tgood\n")
    with (source / "corpus.jsonl").open("a", encoding="utf-8") as file:
        file.write('{"_id": "d1", "text": "another text"}\n{"_id": 12, "text": "a number"}\n')
    dataset, record = imported(tmp_path, "beir", source, max_dropped=0.5)
    assert dataset.splits == SPLITS
    assert dict(dataset.iter_queries()) == QUERIES
    assert dict(dataset.iter_documents()) == {**DOCUMENTS, "d9": "Unasked", "12": "a number"}
    assert reasons(record) == {
        "the label's query has no text": (1, "train.tsv:4"),
        "the label's document has no text": (1, "train.tsv:5"),
        "not a label: neither BEIR's three columns nor TREC's four": (1, "train.tsv:6"),
        "grade is not a number": (1, "train.tsv:7"),
    }
    assert reasons(record, "left_out") == {
        "a query without labels": (1, "queries.jsonl:4"),
        "another text under the same id; the first stays": (1, "corpus.jsonl:5"),
    }


def test_queries_of_one_text_can_be_joined(tmp_path: Path) -> None:
    source = write_dataset(
        tmp_path / "in",
        documents=DOCUMENTS,
        queries={"a": "Money back?", "b": "money  back", "c": "hours", "d": "lost"},
        splits={
            "train": {"a": {"d1": 1.0}, "d": {"d2": 1.0}},
            "test": {"b": {"d2": 1.0}, "c": {"d3": 1.0}},
        },
    )
    dataset, record = imported(tmp_path, "beir", source, merge_queries=True)
    assert dataset.splits == {
        "train": {"d": {"d2": 1.0}},
        "test": {"a": {"d2": 1.0}, "c": {"d3": 1.0}},
    }
    assert [name for name, _ in dataset.iter_queries()] == ["a", "c", "d"]
    assert set(reasons(record, "left_out")) == {
        "query joined with one of the same text",
        "query has labels in another split",
    }


def test_trec_reads_tagged_topics_and_collections(tmp_path: Path) -> None:
    topics, collection = write_trec(tmp_path / "trec", QUERIES, DOCUMENTS, SPLITS)
    dataset, record = imported(
        tmp_path, "trec", tmp_path / "trec", queries=topics, corpus=collection
    )
    assert dataset.splits == SPLITS
    assert dict(dataset.iter_queries()) == QUERIES
    assert dict(dataset.iter_documents()) == DOCUMENTS
    assert record["dropped"] == []
    dataset, _ = imported(tmp_path, "trec", tmp_path / "trec", relevant_from=2.0)
    assert dataset.split("train") == {"q1": {"d1": 2.0, "d2": 0.0}}


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("topics.tsv", "7\tmoney back?\n"),
        ("topics.tsv", "qid\tquery\n7\tmoney back?\n"),
        ("topics.csv", "id,text\n7,money back?\n"),
        ("topics.jsonl", '{"qid": 7, "query": "money back?"}\n'),
        ("topics.xml", '<topics>\n<topic number="7">\n<query>money back?</query>\n</topic>\n'),
        ("topics.xml", "<topic number='7'><title>money\nback?</title></topic>\n"),
        ("topics.sgml", "<top>\n<num>7</num>\n<title>Topic: money back?</title>\n</top>\n"),
    ],
)
def test_topics_come_in_many_forms(tmp_path: Path, name: str, content: str) -> None:
    (tmp_path / name).write_text(content, encoding="utf-8")
    (tmp_path / "one.txt").write_text("7 Q0 d 1\n", encoding="utf-8")
    dataset, _ = imported(
        tmp_path, "trec", tmp_path / "one.txt", queries=tmp_path / name, split="test"
    )
    assert dict(dataset.iter_queries()) == {"7": "money back?"}
    assert dataset.splits == {"test": {"7": {"d": 1.0}}}
    assert not (dataset.folder / "corpus.jsonl").exists()


@pytest.mark.parametrize(
    ("line", "text"),
    [
        ("d\tthe text\n", "the text"),
        ("d\thttp://x\tTitle\tthe text\n", "Title the text"),
        ("docid\ttext\ttitle\nd\tthe text\tTitle\n", "Title the text"),
    ],
)
def test_collections_without_names_are_read_as_ms_marco_has_them(
    tmp_path: Path, line: str, text: str
) -> None:
    (tmp_path / "collection.tsv").write_text(line, encoding="utf-8")
    (tmp_path / "one.qrels").write_text("7 Q0 d 1\n", encoding="utf-8")
    dataset, _ = imported(
        tmp_path, "trec", tmp_path / "one.qrels", corpus=tmp_path / "collection.tsv"
    )
    assert dict(dataset.iter_documents()) == {"d": text}


def test_other_tag_of_a_topic_can_be_the_query(tmp_path: Path) -> None:
    topics, _ = write_trec(tmp_path / "trec", QUERIES, DOCUMENTS, SPLITS)
    columns = {"query": ("desc",)}
    dataset, _ = imported(tmp_path, "trec", tmp_path / "trec", queries=topics, columns=columns)
    assert {text for _, text in dataset.iter_queries()} == {"Other"}


def test_llama_index_is_read_by_file_and_by_folder(tmp_path: Path) -> None:
    for name, split in (("train_dataset", "train"), ("test_dataset", "test")):
        write_llama_index(tmp_path / "li" / f"{name}.json", QUERIES, DOCUMENTS, SPLITS[split])
    dataset, _ = imported(tmp_path, "llama-index", tmp_path / "li")
    assert dataset.splits == {
        "train": {"q1": {"d1": 1.0, "d2": 1.0}}, "test": SPLITS["test"],
    }  # fmt: skip
    assert dict(dataset.iter_queries()) == QUERIES
    dataset, _ = imported(tmp_path, "llama-index", tmp_path / "li" / "train_dataset.json")
    assert set(dataset.splits) == {"train"}


def test_llama_index_names_what_is_missing(tmp_path: Path) -> None:
    source = write_jsonl(tmp_path / "x.json", [{"queries": {}}])
    with pytest.raises(DataError, match="expected a JSON object with queries, corpus, relevant_"):
        imported(tmp_path, "llama-index", source)


def test_llama_index_drops_documents_one_by_one(tmp_path: Path) -> None:
    queries = {f"q{n}": f"query {n}" for n in range(12)}
    documents = {f"d{n}": f"document {n}" for n in range(12)}
    record = {
        "queries": queries,
        "corpus": documents,
        "relevant_docs": {**{f"q{n}": [f"d{n}"] for n in range(12)}, "q0": ["d0", None, "d1"]},
    }
    (tmp_path / "x.json").write_text(json.dumps(record), encoding="utf-8")
    dataset, found = imported(tmp_path, "llama-index", tmp_path / "x.json")
    assert dataset.split("train")["q0"] == {"d0": 1.0, "d1": 1.0}
    assert reasons(found) == {"document id is empty": (1, "x.json:1")}
    assert found["rows_by_kind"]["label rows"] == 14


@pytest.mark.parametrize("kind", ["jsonl", "parquet"])
def test_queries_that_an_llm_wrote_stay_marked(tmp_path: Path, kind: str) -> None:
    source = tmp_path / "in"
    rows = [
        {"_id": f"q{n}", "text": f"query {n}", "metadata": {"synthetic": n > 1}} for n in range(40)
    ]
    write_rows(source / f"queries.{kind}", rows)
    write_jsonl(
        source / "corpus.jsonl", [{"_id": f"d{n}", "text": f"document {n}"} for n in range(40)]
    )
    (source / "qrels").mkdir()
    labels = "".join(f"q{n}\td{n}\t1\n" for n in range(40))
    (source / "qrels" / "train.tsv").write_text(f"query-id\tcorpus-id\tscore\n{labels}")
    import_labels("beir", source, tmp_path / "out", ImportSettings())
    assert Dataset.load(tmp_path / "out").synthetic == {f"q{n}" for n in range(40) if n > 1}


def test_disk_that_is_full_is_one_line_and_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    close = TextTable.close

    def is_full(table: TextTable) -> None:
        close(table)
        raise OSError(errno.ENOSPC, "No space left on device")

    (tmp_path / "here").mkdir()
    source = write_jsonl(tmp_path / "rows.jsonl", [{"query": "q", "document": "d"}])
    monkeypatch.setattr(TextTable, "close", is_full)
    with pytest.raises(DataError, match=r"can't write .*out: .*No space left on device"):
        import_labels("pairs", source, tmp_path / "here" / "out", ImportSettings())
    assert not [path for path in (tmp_path / "here").iterdir() if path.suffix != ".lock"]
