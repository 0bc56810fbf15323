"""TREC's files: records whatever their tags look like, topics under any name, and no silence."""

import gzip
import json
from pathlib import Path
from typing import Any

import pytest

from tests.support.label_files import write_rows
from trimtab_training.data.dataset import Dataset
from trimtab_training.data.importers import ImportSettings, import_labels
from trimtab_training.data.importers.corpora import read_texts
from trimtab_training.data.importers.tally import Tally
from trimtab_training.data.qrels import load_splits
from trimtab_training.errors import ConfigError, DataError

OLD = (
    "<top>\n<head> Tipster Topic Description\n<num> Number: 0{n}\n<dom> Domain: Economics\n"
    "<title> Topic: title {n}\n<desc> Description:\nabout {n}\n<narr> Narrative:\nlong\n</top>\n"
)


def topics_of(path: Path, content: str, **given: tuple[str, ...]) -> dict[str | None, str]:
    path.write_text(content, encoding="utf-8")
    return {one.name: one.text for _, one in read_texts(path, Tally(), "query", given)}


def documents_of(path: Path, text: str) -> dict[str | None, tuple[str, str]]:
    path.write_text(text, encoding="utf-8")
    found = read_texts(path, Tally(), "document")
    return {one.name: (one.title, one.text) for _, one in found}


def imported(tmp_path: Path, queries: Path, labels: str, **settings: Any) -> Dataset:
    (tmp_path / "j.qrels").write_text(labels, encoding="utf-8")
    chosen = ImportSettings(queries=queries, **settings)
    import_labels("trec", tmp_path / "j.qrels", tmp_path / "out", chosen)
    return Dataset("out", tmp_path / "out", load_splits(tmp_path / "out" / "qrels"))


@pytest.mark.parametrize(
    "text",
    [
        "<top><num> Number: 1 <title> one </top><top><num>2</num><title>two</title></top>",
        "<top>\n<num> Number: 1\n<title> one\n\n<top>\n<num> Number: 2\n<title> two\n",
        "<TOP>\n<NUM>Number: 1\n<TITLE>Topic: one\n<DESC>x</TOP>\n<TOP><NUM>2<TITLE>two</TOP>",
        '<topics><topic number="1"><title>one</title></topic>'
        "<topic number='2'><title>two</title></topic></topics>",
        '<topic id="1">one</topic>\n<topic id="2">\ntwo\n</topic>\n',
        '<topic number="1"><title><![CDATA[one]]></title></topic>\n'
        '<!-- <topic number="3"><title>three</title></topic> -->'
        '<topic number="2"><title>two<!-- too --></title></topic>',
        '<topic number="1">\n<!--\n<topic number="3"><title>x</title></topic>\n-->'
        '<title>one</title></topic><topic number="2"><title>two</title>',
        "<top>\n<num>1</num>\n<EN-title>one</EN-title><title>one</title></top>\n"
        "<top lang='en'><identifier>2</identifier><title><b>two</b></title></top>",
        '<?xml version="1.0" encoding="utf-8"?>\n<!DOCTYPE topics>\n<topics>\n'
        '<topic number="1" note="a>b">\n<query>one</query><question>?</question>\n</topic>\n'
        '<topic number="2">\n<query>two</query>\n</topic>\n</topics>',
    ],
)  # fmt: skip
@pytest.mark.parametrize("name", ["topics.xml", "topics.txt", "topics.trec"])
def test_topics_are_records_however_they_are_tagged(tmp_path: Path, text: str, name: str) -> None:
    assert topics_of(tmp_path / name, text) == {"1": "one", "2": "two"}


def test_fields_without_closing_tags_end_where_the_next_begins(tmp_path: Path) -> None:
    text = "".join(OLD.format(n=n) for n in (51, 52))
    assert topics_of(tmp_path / "t", text) == {"051": "title 51", "052": "title 52"}
    assert topics_of(tmp_path / "t", text, text=("desc",)) == {"051": "about 51", "052": "about 52"}
    assert topics_of(tmp_path / "t", text, id=("dom",), text=("narr",)) == {"Economics": "long"}


def test_entities_and_bare_marks_are_the_texts_own(tmp_path: Path) -> None:
    text = (
        "<top><num>1<title> AT&T &amp; R&#233;my: x < 3 <y & <z</top>"
        "<top><num>2<title><![CDATA[if a<b && <top> then]]></top>"
    )
    assert topics_of(tmp_path / "t.txt", text) == {
        "1": "AT&T & Rémy: x < 3 <y & <z", "2": "if a<b && <top> then",
    }  # fmt: skip


def test_documents_are_records_of_every_collection(tmp_path: Path) -> None:
    text = (
        "<DOC>\n<DOCNO> a-1 </DOCNO>\n<HEADLINE><P>Head</P></HEADLINE>\n<TEXT>\n<P>one\n<P>two\n"
        "</TEXT>\n<TEXT>three</TEXT>\n</DOC>\n"
        '<DOC id="a-2" type="story"><TEXT>four</TEXT></DOC>'
        "<DOC><DOCNO>a-3</DOCNO> all of it <LEADPARA>lead</LEADPARA></DOC>"
        "<DOC><DOCNO>a-4</DOCNO><DOCHDR>http</DOCHDR><html><title>T</title><body>b <!-- never\n"
        "</body></html></DOC>\n<DOC><DOCNO>a-5</DOCNO><TEXT>five <topic>x</topic></TEXT>"
    )
    found = documents_of(tmp_path / "c.sgml", text)
    assert found.pop("a-4")[0] == "T"
    assert found == {
        "a-1": ("Head", "one two three"), "a-2": ("", "four"), "a-3": ("", "all of it lead"),
        "a-5": ("", "five x"),
    }  # fmt: skip


def test_what_is_not_well_formed_is_counted(tmp_path: Path) -> None:
    path = tmp_path / "t.trec"
    path.write_text(
        "<top><num>1<title>one\n<top><num>2<title>two</top>\n<num>3<title>three</top>\n"
        "<top><title>four</top>\n<top><num>5</top>\n",
        encoding="utf-8",
    )
    tally = Tally()
    assert [one.name for _, one in read_texts(path, tally, "query")] == ["1", "2"]
    counts = tally.as_dict()
    assert {one["reason"]: one["first"] for one in counts["dropped"]} == {
        "</top> without its beginning": "t.trec:3",
        "query id is empty": "t.trec:4",
        "a topic without a text in <title>, <query>, <question>, <desc>, <description> "
        "(--column query=TAG takes another)": "t.trec:5",
    }
    assert [(one["count"], one["first"]) for one in counts["noted"]] == [(1, "t.trec:1")]
    assert counts["rows"] == 5


def test_comment_that_does_not_end_is_refused(tmp_path: Path) -> None:
    text = "<topic number='1'>one</topic>\n<!-- <topic number='2'>two</topic>\n"
    with pytest.raises(DataError, match=r"t\.xml:2: a comment, .* close it with -->"):
        topics_of(tmp_path / "t.xml", text)


def test_declared_encoding_is_used(tmp_path: Path) -> None:
    path = tmp_path / "t.xml"
    head = '<?xml version="1.0" encoding="{}"?>\n<topic number="1"><title>Größe</title></topic>'
    path.write_bytes(head.format("ISO-8859-1").encode("latin-1"))
    assert [one.text for _, one in read_texts(path, Tally(), "query")] == ["Größe"]
    path.write_bytes(head.format("klingon").encode())
    with pytest.raises(DataError, match="no such encoding as 'klingon'"):
        list(read_texts(path, Tally(), "query"))


@pytest.mark.parametrize(
    "text",
    [
        "264014\thow long\n104861\tcost of floors\n",
        "qid\tquery\n264014\thow long\n104861\tcost of floors\n",
        "qid,query\n264014,how long\n104861,cost of floors\n",
        '{"qid": 264014, "query": "how long"}\n{"qid": 104861, "query": "cost of floors"}\n',
        '[\n {"qid": 264014, "query": "how long"},\n {"qid": 104861, "query": "cost of floors"}\n]',
    ],
    ids=["tabs", "tabs with names", "csv", "json lines", "json"],
)
@pytest.mark.parametrize("name", ["topics.txt", "topics", "queries.dl19", "topics.txt.gz"])
def test_topics_are_read_whatever_their_file_is_called(
    tmp_path: Path, text: str, name: str
) -> None:
    content = text.encode()
    path = tmp_path / name
    path.write_bytes(gzip.compress(content) if name.endswith(".gz") else content)
    dataset = imported(tmp_path, path, "264014 0 a 1\n104861 0 b 2\n")
    assert dict(dataset.iter_queries()) == {"264014": "how long", "104861": "cost of floors"}


@pytest.mark.parametrize(
    "text",
    [
        "topic\ttitle\tdescription\nq1\tcheap flights\tDocuments about air travel.\n",
        "topic\ttitle\nq1\tcheap flights\n",
        "q1\tcheap flights\n",
    ],
)
def test_names_of_topics_are_no_topic(tmp_path: Path, text: str) -> None:
    assert topics_of(tmp_path / "t.tsv", text) == {"q1": "cheap flights"}


@pytest.mark.parametrize(
    "line",
    ["d1\tAir fares\thttp://x/1\n", "d1\tAir fares\thttp://x/1\t7\ten\n", "d1\tAir fares\tx\ten\n"],
)
def test_columns_without_names_are_asked_about(tmp_path: Path, line: str) -> None:
    path = tmp_path / "c.tsv"
    with pytest.raises(
        DataError, match=r"c.tsv has \d columns without names .*--column id=1 --col"
    ):
        documents_of(path, line)
    given = {"id": ("1",), "text": ("2",)}
    assert topics_of(path, line, **given) == {"d1": "Air fares"}
    assert topics_of(path, "d1\ttitle\tx\n", **given) == {"d1": "title"}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "is empty; expected query texts"),
        ("1: how long\n2: cost\n", r"can't tell what .*'1: how long'; expected .* parted by tabs"),
        (
            "<html><p>no topics</p></html>\n",
            r"gives no query: 0 rows or records.*; expected columns such",
        ),
        (
            "<topic number='7'><gene>BRAF</gene></topic>\n",
            r"no query: 1 rows.* 1 could.*; mostly: .*query=TAG",
        ),
        ("9\tof another set\n", r"none of the queries in .* has a label: '9' against '1'"),
    ],
)
def test_topics_that_give_nothing_are_refused(tmp_path: Path, text: str, message: str) -> None:
    (tmp_path / "topics.txt").write_text(text, encoding="utf-8")
    with pytest.raises(DataError, match=message):
        imported(tmp_path, tmp_path / "topics.txt", "1 0 a 1\n")
    assert not (tmp_path / "out").exists()


def test_columns_of_topics_and_documents_are_named_by_their_own_words(tmp_path: Path) -> None:
    rows = [{"nr": "q1", "question": "why?", "about": "x"}]
    topics = write_rows(tmp_path / "topics.json", rows)
    corpus = write_rows(tmp_path / "corpus.jsonl", [{"key": "d1", "words": "because"}])
    with pytest.raises(DataError, match=r"topics.json .* like id; .* --column id=NAME"):
        imported(tmp_path, topics, "q1 0 d1 1\n")
    for role in ("id", "query_id"):
        dataset = imported(tmp_path, topics, "q1 0 d1 1\n", columns={role: ("nr",)})
        assert dict(dataset.iter_queries()) == {"q1": "why?"}
    columns = {"query_id": ("nr",), "query": ("about",)}
    with pytest.raises(DataError, match=r"corpus.jsonl .* like id or text; .* --column id=NAME"):
        imported(tmp_path, topics, "q1 0 d1 1\n", columns=columns, corpus=corpus)
    columns |= {"id": ("key",), "text": ("words",)}
    dataset = imported(tmp_path, topics, "q1 0 d1 1\n", columns=columns, corpus=corpus)
    assert dict(dataset.iter_queries()) == {"q1": "x"}
    assert dict(dataset.iter_documents()) == {"d1": "because"}


@pytest.mark.parametrize(
    ("role", "name", "message"),
    [
        ("score", "question", r"score=\.\.\.: no such role; expected query, query_id, document"),
        ("document", "question", "document=question: no file of documents has such a column"),
        ("document_id", "qid", "document_id=qid: no file of documents has such a column"),
        ("text", "docid", "text=docid: no file of texts has such a column"),
    ],
)
def test_column_that_says_nothing_of_topics_is_refused(
    tmp_path: Path, role: str, name: str, message: str
) -> None:
    topics = write_rows(tmp_path / "topics.json", [{"qid": "q1", "question": "why?"}])
    labels = "qid iteration docid rel\nq1 0 d1 1\n"
    with pytest.raises(ConfigError, match=f"--column {message}"):
        imported(tmp_path, topics, labels, columns={role: (name,)})
    assert not (tmp_path / "out").exists()


def test_dropped_labels_are_weighed_against_labels_and_not_against_the_corpus(
    tmp_path: Path,
) -> None:
    corpus = write_rows(tmp_path / "c.jsonl", [{"_id": f"d{n}", "text": "x"} for n in range(5_000)])
    labels = "".join(f"q{n} 0 {'gone' if n < 380 else 'd'}{n} 1\n" for n in range(400))
    (tmp_path / "j.qrels").write_text(labels, encoding="utf-8")
    with pytest.raises(DataError, match="380 of 400 labels can't be used, more than --max-dropped"):
        import_labels("trec", tmp_path / "j.qrels", tmp_path / "out", ImportSettings(corpus=corpus))
    settings = ImportSettings(corpus=corpus, max_dropped=0.96)
    record = import_labels("trec", tmp_path / "j.qrels", tmp_path / "out", settings)
    assert record["rows_by_kind"] == {"label rows": 400, "documents": 5_000, "labels": 400}
    assert [(one["of"], one["count"]) for one in record["dropped"]] == [("labels", 380)]


def test_rows_and_labels_that_are_lost_add_up(tmp_path: Path) -> None:
    corpus = write_rows(tmp_path / "c.jsonl", [{"_id": f"d{n}", "text": "x"} for n in range(99)])
    lines = [f"q{n} 0 {'gone' if n < 8 else 'd'}{n} {'x' if n > 91 else 1}\n" for n in range(99)]
    (tmp_path / "j.qrels").write_text("".join(lines), encoding="utf-8")
    with pytest.raises(DataError, match=r"15% of what could .*: 7 of 99 rows and 8 of 92 labels"):
        import_labels("trec", tmp_path / "j.qrels", tmp_path / "out", ImportSettings(corpus=corpus))


def test_record_of_an_import_is_json(tmp_path: Path) -> None:
    (tmp_path / "t.txt").write_text("<top><num>1<title>one\n", encoding="utf-8")
    imported(tmp_path, tmp_path / "t.txt", "1 0 a 1\n")
    record = json.loads((tmp_path / "out" / "import.json").read_text(encoding="utf-8"))
    assert record["noted"][0]["count"] == 1


@pytest.mark.parametrize("form", ["{query}\td{rank}\t{rank}\n", "{query} Q0 d{rank} {rank}\n"])
@pytest.mark.parametrize(("n_queries", "n_ranks"), [(4, 3), (1, 20)])
def test_run_that_stands_for_labels_is_refused(
    tmp_path: Path, form: str, n_queries: int, n_ranks: int
) -> None:
    lines = [
        form.format(query=f"q{query}", rank=rank)
        for query in range(n_queries)
        for rank in range(1, n_ranks + 1)
    ]
    source = tmp_path / "run.tsv"
    source.write_text("".join(lines), encoding="utf-8")
    with pytest.raises(DataError, match=r"grades count 1, 2, 3, .* within each query.*from 1"):
        import_labels("trec", source, tmp_path / "out", ImportSettings())
    import_labels("trec", source, tmp_path / "out", ImportSettings(relevant_from=1.0))
    source.write_text("".join(reversed(lines)), encoding="utf-8")
    import_labels("trec", source, tmp_path / "out", ImportSettings(relevant_from=1.0))
    assert len(load_splits(tmp_path / "out" / "qrels")["train"]) == n_queries
    if n_ranks == 3:  # best first, as labels may be sorted
        import_labels("trec", source, tmp_path / "out", ImportSettings())
