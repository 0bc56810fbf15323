"""Forms that files of labels come in: each is read as it is meant, or refused in one line."""

import gzip
import json
from collections.abc import Callable
from decimal import Decimal
from pathlib import Path
from typing import Any
from uuid import UUID

import pyarrow as arrow
import pytest
from pyarrow import parquet

from tests.support.label_files import write_rows
from tests.support.sets import write_jsonl
from trimtab_training.data.dataset import Dataset
from trimtab_training.data.importers import ImportSettings, import_labels
from trimtab_training.data.importers.cells import spelled_list
from trimtab_training.data.qrels import load_splits
from trimtab_training.errors import DataError

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


def table(*, by: str, end: str = "\n", header: str = "", quote: str = "") -> str:
    first = header or by.join((f"{quote}query{quote}", f"{quote}document{quote}"))
    return first + end + "".join(f"q{n}{by}{quote}d, {n}{quote}{end}" for n in N)


# JSON


def by_column() -> dict[str, Any]:
    return {"query": [one["query"] for one in ROWS], "document": [one["document"] for one in ROWS]}


JSON_FORMS: dict[str, Callable[[], str]] = {
    "one line": lambda: json.dumps(ROWS),
    "indented": lambda: json.dumps(ROWS, indent=2),
    "comma at the end": lambda: json.dumps(ROWS)[:-1] + ",]",
    "array of arrays": lambda: json.dumps([[*one.values()] for one in ROWS]),
    "under a key": lambda: json.dumps({"version": "1.1", "data": ROWS}),
    "under two keys deep": lambda: json.dumps({"hits": {"total": 12, "rows": ROWS}}),
    "one after another": lambda: "".join(map(json.dumps, ROWS)),
    "indented, one after another": lambda: "\n".join(json.dumps(one, indent=1) for one in ROWS),
    "arrays one after another": lambda: json.dumps(ROWS[:5]) + "\n" + json.dumps(ROWS[5:]),
    "lines with commas": lambda: ",\n".join(map(json.dumps, ROWS)),
    "lines ended by carriage returns": lambda: "\r".join(map(json.dumps, ROWS)),
    "lists by column": lambda: json.dumps(by_column()),
    "pandas' columns": lambda: json.dumps(
        {name: {str(n): one for n, one in enumerate(of)} for name, of in by_column().items()}
    ),
    "pandas' index": lambda: json.dumps({str(n): one for n, one in enumerate(ROWS)}),
    "pandas' split": lambda: json.dumps(
        {
            "columns": ["query", "document"],
            "index": list(N),
            "data": [[*one.values()] for one in ROWS],
        }
    ),
}


@pytest.mark.parametrize("form", JSON_FORMS)
@pytest.mark.parametrize("name", ["rows.json", "rows.jsonl"])
def test_json_is_read_in_every_usual_form(tmp_path: Path, name: str, form: str) -> None:
    (tmp_path / name).write_text(JSON_FORMS[form](), encoding="utf-8")
    assert imported(tmp_path / name) == WANTED


def test_object_with_lists_can_be_a_row_itself(tmp_path: Path) -> None:
    row = {"query": "q", "positive_passages": [{"text": "d"}], "negative_passages": [{"text": "n"}]}
    (tmp_path / "rows.json").write_text(json.dumps(row, indent=1), encoding="utf-8")
    assert imported(tmp_path / "rows.json", "triplets") == {"q": {"d": 1.0, "n": 0.0}}


def test_long_array_is_cut_as_it_is_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("trimtab_training.data.importers.json_rows._CHUNK", 7)
    (tmp_path / "rows.json").write_text(json.dumps(ROWS), encoding="utf-8")
    assert imported(tmp_path / "rows.json") == WANTED


# CSV and TSV

TABLES: dict[str, tuple[str, str]] = {
    "semicolons": ("rows.csv", table(by=";")),
    "tabs in .csv": ("rows.csv", table(by="\t")),
    "bars": ("rows.csv", table(by="|")),
    "Excel's first line": ("rows.csv", "sep=;\n" + table(by=";")),
    "commas at every row's end": (
        "rows.csv",
        table(by=",", end=",\n", header="query,document", quote='"'),
    ),
    "commas at the header's end": ("rows.csv", table(by=",", header="query,document,,", quote='"')),
    "quoted names in .tsv": ("rows.tsv", table(by="\t", quote='"')),
    "Windows' line ends": ("rows.tsv", table(by="\t", end="\r\n")),
    "byte order mark": ("rows.tsv", "\ufeff" + table(by="\t")),
}


@pytest.mark.parametrize("form", TABLES)
def test_tables_are_read_however_they_are_parted(tmp_path: Path, form: str) -> None:
    name, content = TABLES[form]
    (tmp_path / name).write_bytes(content.encode())
    assert imported(tmp_path / name) == WANTED


def test_tsv_that_doubles_quotes_was_quoted(tmp_path: Path) -> None:
    (tmp_path / "a.tsv").write_text('query\tdocument\nq\t"say ""hi"""\n', encoding="utf-8")
    assert imported(tmp_path / "a.tsv") == {"q": {'say "hi"': 1.0}}
    (tmp_path / "b.tsv").write_text('query\tdocument\n"a" b\t"c"\n', encoding="utf-8")
    assert imported(tmp_path / "b.tsv") == {'"a" b': {'"c"': 1.0}}


PLAIN = "".join(f"q{n}\td{n}\n" for n in range(30))


@pytest.mark.parametrize(
    ("content", "last"),
    [
        (PLAIN + 'qa\t"line one\nline two"\n', {"qa": "line one\nline two"}),
        (PLAIN + '"a\nb"\td\n', {"a\nb": "d"}),
        (PLAIN + 'qa\t"a\tb"\n', {"qa": "a\tb"}),
        ("".join(f'q{n}\t"d{n}"\n' for n in N), {"q11": "d11"}),
        (PLAIN + 'qa\t"open\nqb\tdb\n', {"qa": '"open', "qb": "db"}),
        (PLAIN + 'qa\t"a" b\nqb\t5"\nshort\n', {"qa": '"a" b', "qb": '5"'}),
        (PLAIN + 'qa\t"open\n' + PLAIN.replace("q", "r") * 9 + "short\n", {"qa": '"open'}),
        ('qa\t"open\n' + PLAIN + "short\n" + PLAIN.replace("q", "r") * 9, {"qa": '"open'}),
    ],
    ids=["lines", "lines of query", "tab", "column", "none", "short", "long", "long and short"],
)
def test_tsv_is_quoted_where_its_rows_are_even_only_so(
    tmp_path: Path, content: str, last: dict[str, str]
) -> None:
    (tmp_path / "a.tsv").write_text("query\tdocument\n" + content, encoding="utf-8")
    found = imported(tmp_path / "a.tsv")
    assert {query: found[query] for query in last} == {
        query: {document: 1.0} for query, document in last.items()
    }


@pytest.mark.parametrize(
    ("rows", "n_dropped"),
    [
        ('qa\t"say ""hi"""\n', 1), ('qa\t"line one\nline two"\n', 2), ('"a\n\nb"\td\n', 2),
        ('qa\t"open\nqb\tclosed"\n', 0),
    ],
)  # fmt: skip
def test_cell_in_quotes_that_comes_late_drops_its_row(
    tmp_path: Path, rows: str, n_dropped: int
) -> None:
    plain = "".join(f"q{n}\td{n}\n" for n in range(300))
    content = f"query\tdocument\n{plain}{rows}qz\tdz\n"
    (tmp_path / "a.tsv").write_text(content, encoding="utf-8")
    found = imported(tmp_path / "a.tsv")
    assert len(found) == 301 + (0 if n_dropped else 2)
    counts = [(one["count"], one["first"]) for one in record_of(tmp_path / "a.tsv")["dropped"]]
    assert [first for _, first in counts] == (["a.tsv:302"] if n_dropped else [])
    assert sum(count for count, _ in counts) >= n_dropped


def test_carriage_return_in_a_field_costs_no_more_than_its_row(tmp_path: Path) -> None:
    for name, by, kept in (("rows.tsv", "\t", 200), ("rows.csv", ",", 199)):
        lines = [f"q{n}{by}d{chr(13) if n == 57 else ''} {n}\n" for n in range(200)]
        (tmp_path / name).write_bytes(("".join([f"query{by}document\n", *lines])).encode())
        assert len(imported(tmp_path / name)) == kept
    assert record_of(tmp_path / "rows.csv")["dropped"] == [
        {
            "reason": "not CSV: a carriage return outside of quotes",
            "count": 1,
            "first": "rows.csv:59",
            "of": "label rows",
        }
    ]


@pytest.mark.parametrize("mark", ["", "\ufeff"])
@pytest.mark.parametrize(("name", "by", "quote"), [("a.csv", ",", '"'), ("a.tsv", "\t", "")])
def test_names_of_columns_that_come_again_are_no_row(
    tmp_path: Path, name: str, by: str, quote: str, mark: str
) -> None:
    one = mark + table(by=by, quote=quote)
    (tmp_path / name).write_text(one + one, encoding="utf-8")
    assert imported(tmp_path / name) == WANTED
    record = record_of(tmp_path / name)
    assert (record["rows"], record["dropped"]) == (24, [])
    assert [(one["count"], one["first"]) for one in record["noted"]] == [(1, f"{name}:14")]


@pytest.mark.parametrize(("name", "by"), [("in.csv", ","), ("in.tsv", "\t")])
@pytest.mark.parametrize("end", ["", ",,"])
def test_joined_files_of_other_orders_are_refused(
    tmp_path: Path, name: str, by: str, end: str
) -> None:
    second = f'document{by}query{end.replace(",", by)}\n"d, 12"{by}q12\n'
    (tmp_path / name).write_text(table(by=by, quote='"') + second, encoding="utf-8")
    with pytest.raises(DataError, match=rf"{name}:14: the names of the columns again, in another"):
        imported(tmp_path / name, max_dropped=0.5)


MARKDOWN = "| query | document |\n|:---|---:|\n" + "".join(f"| q{n} | d, {n} |\n" for n in N)
PSQL = " query | document \n-------+----------\n" + "".join(f" q{n} | d, {n}\n" for n in N)


@pytest.mark.parametrize("text", [MARKDOWN, PSQL], ids=["Markdown", "psql"])
def test_line_that_rules_a_table_off_is_no_row(tmp_path: Path, text: str) -> None:
    (tmp_path / "in.csv").write_text(text, "utf-8")
    assert imported(tmp_path / "in.csv", delimiter="|") == WANTED
    assert "rules the table off" in json.dumps(record_of(tmp_path / "in.csv"))


def test_byte_order_marks_between_joined_files_are_no_text(tmp_path: Path) -> None:
    lines = [json.dumps(one) + "\n" for one in ROWS]
    content = "\ufeff" + "".join(lines[:6]) + "\ufeff" + "".join(lines[6:])
    (tmp_path / "rows.jsonl").write_text(content, encoding="utf-8")
    assert imported(tmp_path / "rows.jsonl") == WANTED


def test_rows_that_a_stray_quote_swallows_are_all_counted(tmp_path: Path) -> None:
    lines = [f"q{n},{chr(34) if n in {3, 6} else ''}d{n}\n" for n in range(60)]
    (tmp_path / "rows.csv").write_text("query,document\n" + "".join(lines), encoding="utf-8")
    assert len(imported(tmp_path / "rows.csv")) == 56
    (dropped,) = record_of(tmp_path / "rows.csv")["dropped"]
    assert (dropped["count"], dropped["first"]) == (4, "rows.csv:5")


# Without the time of packing: parameters name tests, and all workers must name them alike.
PACKED_TABLE = gzip.compress(b"query,document\nq,d\n", mtime=0)
CUT_ROWS = gzip.compress(b'{"query": "q", "document": "d"}' * 99, mtime=0)[:-20]


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.csv", table(by=",").encode("utf-16-le"), "holds zero bytes; UTF-16"),
        ("a.csv", PACKED_TABLE, "is gzipped, which its name does not"),
        ("a.csv", b"PAR1....", "is Parquet, which its name does not say"),
        ("a.csv", b"PK\x03\x04..", "is a ZIP archive"),
        ("a.jsonl", b"BZh91AY&SY\x00\x00", r"is packed by bzip2; unpack it \(bunzip2"),
        ("a.jsonl", b"\x28\xb5\x2f\xfd\x04\x00", "is packed by Zstandard; unpack it"),
        ("a.jsonl", b"\xfd7zXZ\x00\x00\x04", "is packed by xz; unpack it"),
        ("a.csv", b"SQLite format 3\x00\x10", "is an SQLite database"),
        ("a.tsv", table(by="\t", end="\r").encode(), "lines end with carriage returns alone"),
        ("a.csv", b'query,document\nq,"d\nq2,d2\n', "a quote that is not closed"),
        ("a.csv", b"query,document;x\nq,d;1,2\nq,d;1,3\n", "may be parted by comma or by semicol"),
        ("a.csv", b"query,document\n", "gives no pair"),
        ("a.json", b"[]", "gives no pair"),
        ("a.json", b'{"train": [{"query": "q"}], "test": [{"query": "p"}]}', "under .train and"),
        ("a.json", json.dumps(ROWS).encode()[:-9], "is not JSON: .*begins in line 1"),
        ("a.json", b'[["query", "document"], ["q", "d"]]', "first row holds names of columns"),
        ("a.csv", b"query,document,score\nq,d," + b'"1,5"\n', "decimal commas, such as 1,5"),
        ("a.jsonl.gz", CUT_ROWS, "can't read"),
    ],
)  # fmt: skip
def test_what_cant_be_read_is_one_line(
    tmp_path: Path, name: str, content: bytes, message: str
) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(DataError, match=message) as raised:
        imported(tmp_path / name)
    assert "\n" not in str(raised.value)
    assert not (tmp_path / "out").exists()


def test_delimiter_that_is_told_decides(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("query,x;document\nq,1;d\nr,2;e\n", encoding="utf-8")
    columns = {"query": ("query,x",)}
    assert imported(tmp_path / "a.csv", delimiter=";", columns=columns) == {
        "q,1": {"d": 1.0},
        "r,2": {"e": 1.0},
    }


# Lists in cells


@pytest.mark.parametrize(
    ("cell", "items"),
    [
        ('["a", "b"]', ["a", "b"]),
        ('[ "a", "b" ]', ["a", "b"]),
        ("['a', 'b']", ["a", "b"]),
        ("['a' 'b']", ["a", "b"]),
        ("['it\\'s'\n \"x'y\"]", ["it's", "x'y"]),
        ("array(['a', 'b'], dtype=object)", ["a", "b"]),
        ("('a', 'b')", ["a", "b"]),
        ("{'a', 'b'}", ["a", "b"]),
        ("[None, 'a']", [None, "a"]),
        ("[nan 'a']", [None, "a"]),
        (r"['a\d' 'x\n']", [r"a\d", "x\n"]),
        ("[{'text': 'a', 'n': None}]", [{"text": "a", "n": None}]),
        ('{a,"b c",NULL}', ["a", "b c", None]),
        ('{"a"}', ["a"]),
        ("[1 0 0]", [1.0, 0.0, 0.0]),
        ("[1., 0.5]", [1.0, 0.5]),
        ("('a')", None),
        ("[deleted]", None),
        ("['a', 'b'] and more", None),
        ("['a', ...]", None),
        ('{"a": 1}', None),
        ("a text", None),
        (["a"], None),
    ],
)
def test_lists_are_known_by_their_spelling(cell: Any, items: list[Any] | None) -> None:
    assert spelled_list(cell) == items


@pytest.mark.parametrize("spelled", ['["a{0}", "b{0}"]', "['a{0}', 'b{0}']", "['a{0}' 'b{0}']"])
def test_cells_that_are_all_spelled_as_lists_are_lists(tmp_path: Path, spelled: str) -> None:
    cells = [spelled.format(n).replace('"', '""') for n in N]
    lines = [f'q{n},"{cell}"\n' for n, cell in enumerate(cells)]
    (tmp_path / "rows.csv").write_text("query,positives\n" + "".join(lines), encoding="utf-8")
    assert imported(tmp_path / "rows.csv") == {f"q{n}": {f"a{n}": 1.0, f"b{n}": 1.0} for n in N}


def of_cells(folder: Path, spelled: str) -> Path:
    """Write a table whose documents are spelled alike."""
    rows = [{"query": f"q{n}", "positives": spelled.replace("0", str(n))} for n in N]
    return write_rows(folder / "rows.csv", rows)


@pytest.mark.parametrize(("spelled", "second"), [('{a0,"b 0"}', "b {}"), ("{a0,b0}", "b{}")])
def test_cells_that_are_all_arrays_of_postgres_are_lists(
    tmp_path: Path, spelled: str, second: str
) -> None:
    assert imported(of_cells(tmp_path, spelled)) == {
        f"q{n}": {f"a{n}": 1.0, second.format(n): 1.0} for n in N
    }


@pytest.mark.parametrize("role", ["query", "answer"])
@pytest.mark.parametrize("words", [[5], [*N]], ids=["one", "all"])
def test_words_in_braces_are_texts(tmp_path: Path, role: str, words: list[int]) -> None:
    rows = [{"query": f"q{n}", "answer": f"a{n}"} for n in N]
    for n in words:
        rows[n][role] = f"{{{n}}}"
    source = write_rows(tmp_path / "rows.csv", rows)
    assert imported(source) == {one["query"]: {one["answer"]: 1.0} for one in rows}


def test_word_in_braces_that_comes_late_is_a_text(tmp_path: Path) -> None:
    rows = [{"query": f"q{n}", "document": f"d{n}"} for n in range(1_001)]
    rows[1_000]["document"] = "{user}"
    assert imported(write_jsonl(tmp_path / "r.jsonl", rows))["q1000"] == {"{user}": 1.0}


def test_word_in_braces_among_arrays_of_postgres_is_one(tmp_path: Path) -> None:
    rows = [{"query": f"q{n}", "positives": f"{{a{n},b{n}}}"} for n in N]
    rows[5]["positives"] = "{word}"
    source = write_rows(tmp_path / "rows.csv", rows)
    assert imported(source)["q5"] == {"word": 1.0}
    assert imported(source, lists=False)["q5"] == {"{word}": 1.0}


def test_queries_are_no_arrays_of_postgres(tmp_path: Path) -> None:
    rows = [{"query": f"{{first,name{n}}}", "positives": f"a{n}"} for n in N]
    source = write_rows(tmp_path / "rows.csv", rows)
    assert imported(source) == {one["query"]: {one["positives"]: 1.0} for one in rows}


@pytest.mark.parametrize(
    "spelled",
    ["{'text': 'a 0', 'id': 'i0'}", '{"text": "a 0", "id": "i0"}', '{"_id": "i0", "body": "a 0"}'],
)
def test_cells_that_are_all_spelled_as_objects_are_documents(tmp_path: Path, spelled: str) -> None:
    source = of_cells(tmp_path, spelled)
    assert imported(source) == {f"q{n}": {f"a {n}": 1.0} for n in N}
    labels = load_splits(tmp_path / "out" / "qrels")["train"]
    assert {document for of in labels.values() for document in of} == {f"i{n}" for n in N}
    whole = {f"q{n}": {spelled.replace("0", str(n)): 1.0} for n in N}
    assert imported(source, lists=False) == whole


def test_grades_in_objects_that_cells_spell_are_asked_about(tmp_path: Path) -> None:
    cells = [json.dumps({"text": f"a{n}", "score": n % 2}) for n in N]
    rows = [{"query": f"q{n}", "passage": cells[n]} for n in N]
    source = write_rows(tmp_path / "rows.csv", rows)
    with pytest.raises(DataError, match="'passage' have 'score': say --column score=score if it"):
        imported(source)
    assert imported(source, columns={"score": ("score",)}) == {f"q{n}": {f"a{n}": n % 2} for n in N}
    assert imported(source, lists=False) == {f"q{n}": {cells[n]: 1.0} for n in N}


@pytest.mark.parametrize(
    "spelled",
    [
        "[answer 0, other 0]", "['a0' 'b' ... 'c']", "[['a0', 'b']]", "(a 0, b)", "{a 0, b}",
        "[array(['a0'], dtype=object)]", 'c("a 0", "b")', '{"name": "a 0", "colour": "red"}',
    ],
)  # fmt: skip
@pytest.mark.parametrize("lists", [None, True])
def test_cells_that_all_stand_in_brackets_and_cant_be_read_are_refused(
    tmp_path: Path, spelled: str, lists: bool | None
) -> None:
    source = of_cells(tmp_path, spelled)
    with pytest.raises(DataError, match=r"'positives' stand in brackets, such as .*--no-lists if"):
        imported(source, lists=lists)
    whole = {f"q{n}": {spelled.replace("0", str(n)): 1.0} for n in N}
    assert imported(source, lists=False) == whole


@pytest.mark.parametrize("spelled", ["[CLS] a 0 [SEP]", "(a 0) or (b)", "[1] a 0", "f(0)"])
def test_texts_with_brackets_are_texts(tmp_path: Path, spelled: str) -> None:
    whole = {f"q{n}": {spelled.replace("0", str(n)): 1.0} for n in N}
    assert imported(of_cells(tmp_path, spelled)) == whole


def test_list_that_cant_be_read_among_lists_is_dropped_and_counted(tmp_path: Path) -> None:
    rows = [{"query": f"q{n}", "positives": f"['a{n}' 'b{n}']"} for n in N]
    rows[5]["positives"] = "['a5' ... 'b5']"
    source = write_rows(tmp_path / "rows.csv", rows)
    with pytest.raises(DataError, match=r"say --lists if those are lists, --no-lists if they are"):
        imported(source)
    wanted = {f"q{n}": {f"a{n}": 1.0, f"b{n}": 1.0} for n in N if n != 5}
    assert imported(source, lists=True) == wanted
    (dropped,) = record_of(source)["dropped"]
    assert dropped["reason"] == "document can't be read as the list that it seems to be"


def test_cells_of_which_some_are_spelled_as_lists_are_asked_about(tmp_path: Path) -> None:
    rows = [{"query": "q", "document": "['a', 'b']"}, {"query": "p", "document": "a text"}]
    source = write_jsonl(tmp_path / "rows.jsonl", rows)
    with pytest.raises(DataError, match=r"say --lists if those are lists, --no-lists if they are"):
        imported(source)
    assert imported(source, lists=True) == {"q": {"a": 1.0, "b": 1.0}, "p": {"a text": 1.0}}
    assert imported(source, lists=False) == {"q": {"['a', 'b']": 1.0}, "p": {"a text": 1.0}}


def test_cell_unlike_those_of_the_sample_is_dropped_and_counted(tmp_path: Path) -> None:
    rows = [{"query": f"q{n}", "document": f"d{n}"} for n in range(1_000)]
    source = write_jsonl(tmp_path / "r.jsonl", [*rows, {"query": "q", "document": "['a', 'b']"}])
    assert len(imported(source)) == 1_000
    assert record_of(source)["dropped"] == [
        {
            "reason": "document is a list, unlike in the first rows",
            "count": 1,
            "first": "r.jsonl:1001",
            "of": "label rows",
        }
    ]


# Columns


def test_columns_are_those_of_a_sample_and_not_of_the_first_row(tmp_path: Path) -> None:
    rows = [
        {"query": f"q{n}", "document": f"d{n}", "document_id": f"D{n}", "score": n % 2} for n in N
    ]
    del rows[0]["score"], rows[1]["document_id"]
    assert {
        query: list(labels.values())
        for query, labels in imported(write_jsonl(tmp_path / "rows.jsonl", rows)).items()
    } == {f"q{n}": [n % 2] for n in N if n}
    record = record_of(tmp_path / "rows.jsonl")
    assert [one["reason"] for one in record["dropped"]] == ["score is missing"]
    corpus = (tmp_path / "out" / "corpus.jsonl").read_text(encoding="utf-8").splitlines()
    ids = [json.loads(line)["_id"] for line in corpus]
    assert [name for name in ids if not name.startswith("D")] == ids[:1]


def test_column_that_comes_after_the_sample_is_asked_about(tmp_path: Path) -> None:
    rows: list[dict[str, Any]] = [{"query": f"q{n}", "document": f"d{n}"} for n in range(1_200)]
    rows[1_100]["score"] = 3
    source = write_jsonl(tmp_path / "rows.jsonl", rows)
    with pytest.raises(DataError, match=r"'score' comes at rows.jsonl:1101 for the first time"):
        imported(source)
    assert len(imported(source, columns={"score": ()})) == 1_200
    assert len(imported(source, columns={"score": ("score",)}, max_dropped=1.0)) == 1


@pytest.mark.parametrize(
    ("value", "reason"),
    [
        ("nan", "document is 'nan', as programs spell a missing value"),
        ("None", "document is 'None', as programs spell a missing value"),
        ("N/A", "document is 'N/A', as programs spell a missing value"),
        ("#REF!", "document is '#REF!', as programs spell a missing value"),
        ("#NAME?", "document is '#NAME?', as programs spell a missing value"),
        (float("nan"), "empty document"),
    ],
)
def test_what_stands_for_a_missing_value_is_no_document(
    tmp_path: Path, value: Any, reason: str
) -> None:
    source = write_jsonl(tmp_path / "rows.jsonl", [*ROWS, {"query": "q", "document": value}])
    assert imported(source) == WANTED
    assert [one["reason"] for one in record_of(source)["dropped"]] == [reason]


def test_whole_numbers_that_pandas_keeps_as_floats_are_ids(tmp_path: Path) -> None:
    rows = [{"query": f"q{n}", "document": f"d{n}", "doc_id": float(n)} for n in N]
    write_jsonl(tmp_path / "rows.jsonl", rows)
    imported(tmp_path / "rows.jsonl")
    assert load_splits(tmp_path / "out" / "qrels")["train"].popitem()[1] == {"11": 1.0}


# Parquet


def not_utf8() -> arrow.Array:
    content = arrow.array([*(f"how {n}".encode() for n in N[:-1]), b"caf\xe9"], arrow.binary())
    return arrow.Array.from_buffers(arrow.string(), len(N), content.buffers())


@pytest.mark.parametrize(
    "column",
    [
        arrow.array([1_700_000_000_123_456_789 + n for n in N], arrow.timestamp("ns")),
        arrow.array([1_234_567 + n for n in N], arrow.duration("ns")),
        arrow.array([2**62 + n for n in N], arrow.timestamp("us")),
        not_utf8(),
    ],
    ids=["nanoseconds", "duration", "after 9999", "not UTF-8"],
)
def test_parquet_columns_that_nobody_uses_do_no_harm(tmp_path: Path, column: arrow.Array) -> None:
    columns = {name: [one[name] for one in ROWS] for name in ROWS[0]}
    parquet.write_table(arrow.table({**columns, "other": column}), tmp_path / "rows.parquet")
    assert imported(tmp_path / "rows.parquet") == WANTED
    assert record_of(tmp_path / "rows.parquet")["understood"]["files"][0]["unused"] == ["other"]


def test_parquet_column_that_cant_be_decoded_and_that_nobody_uses_does_no_harm(
    tmp_path: Path,
) -> None:
    columns = {name: [one[name] for one in ROWS] for name in ROWS[0]}
    table = arrow.table({**columns, "other": [f"{n}, " * 50 for n in N]})
    path = tmp_path / "rows.parquet"
    parquet.write_table(table, path, compression="gzip", use_dictionary=False)
    chunk = parquet.read_metadata(path).row_group(0).column(len(columns))
    assert chunk.path_in_schema == "other"
    content, end = (
        bytearray(path.read_bytes()),
        chunk.data_page_offset + chunk.total_compressed_size,
    )
    content[end - 60 : end] = bytes(60)
    path.write_bytes(content)
    assert imported(path) == WANTED


def test_parquet_value_that_cant_be_used_drops_its_row(tmp_path: Path) -> None:
    columns = {"query": not_utf8(), "document": [f"d{n}" for n in N]}
    parquet.write_table(arrow.table(columns), tmp_path / "rows.parquet")
    assert len(imported(tmp_path / "rows.parquet")) == 11
    assert record_of(tmp_path / "rows.parquet")["dropped"] == [
        {
            "reason": "query holds bytes that are not UTF-8",
            "count": 1,
            "first": "rows.parquet:12",
            "of": "label rows",
        }
    ]


def test_parquet_text_without_a_type_is_text(tmp_path: Path) -> None:
    columns = {name: [one[name].encode() for one in ROWS] for name in ROWS[0]}
    parquet.write_table(arrow.table(columns), tmp_path / "rows.parquet")
    assert imported(tmp_path / "rows.parquet") == WANTED


def test_whatever_the_reader_of_parquet_raises_is_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    parquet.write_table(arrow.table({"query": ["q"], "document": ["d"]}), tmp_path / "rows.parquet")

    def fail(*_: Any, **__: Any) -> None:
        raise RuntimeError("no such\ncodec")

    monkeypatch.setattr(parquet.ParquetFile, "iter_batches", fail)
    with pytest.raises(DataError, match=r"can't read .*rows.parquet, after row 0: no such codec"):
        imported(tmp_path / "rows.parquet")


def test_types_of_databases_are_read_from_parquet(tmp_path: Path) -> None:
    numbers, ids = [Decimal(n) for n in N], [UUID(int=n).bytes for n in N]
    table = arrow.table(
        {
            "query_id": arrow.array(numbers, arrow.decimal128(38, 0)),
            "query": [f"q{n}" for n in N],
            "document_id": arrow.array(ids, arrow.uuid()),
            "document": [f"d{n}" for n in N],
            "score": arrow.array([number / 2 for number in numbers], arrow.decimal128(9, 2)),
        }
    )
    parquet.write_table(table, tmp_path / "rows.parquet")
    imported(tmp_path / "rows.parquet", columns={"score": ("score",)})
    labels = load_splits(tmp_path / "out" / "qrels")["train"]
    assert labels == {str(n): {str(UUID(int=n)): n / 2} for n in N}


@pytest.mark.parametrize("form", ["lines", "array", "objects"])
def test_key_that_stands_twice_in_an_object_drops_its_row(tmp_path: Path, form: str) -> None:
    rows = [json.dumps(row) for row in ROWS]
    rows[3] = rows[3].replace('{"query"', '{"query": "another", "query"')
    rows[4] = rows[4].replace('{"query"', '{"query": "q4", "n": 1, "n": 2, "query"')
    content = {"lines": "\n".join(rows), "array": f"[{','.join(rows)}]", "objects": "".join(rows)}
    source = tmp_path / "rows.json"
    source.write_text(content[form], encoding="utf-8")
    assert imported(source) == {query: of for query, of in WANTED.items() if query != "q3"}
    (dropped,) = record_of(source)["dropped"]
    assert dropped["reason"] == "query stands twice in its row, with different values"


def test_id_that_stands_twice_in_a_llama_index_file_is_dropped(tmp_path: Path) -> None:
    corpus = ", ".join(f'"d{n}": "d, {n}"' for n in (*N, 3)) + ', "d4": "another"'
    labels = json.dumps({f"q{n}": [f"d{n}"] for n in N})
    queries = json.dumps({f"q{n}": f"q{n}" for n in N})
    source = tmp_path / "qa.json"
    source.write_text(
        f'{{"queries": {queries}, "corpus": {{{corpus}}}, "relevant_docs": {labels}}}'
    )
    assert imported(source, "llama-index") == {q: of for q, of in WANTED.items() if q != "q4"}
