"""Datasets: what is read, what is refused and where it stands, and how splits are made."""

import errno
import re
from pathlib import Path

import pytest

from tests.support.sets import HEADER, write_dataset, write_jsonl, write_qrels
from trimtab_training.data.dataset import Dataset
from trimtab_training.data.qrels import (
    Qrels,
    load_qrels,
    load_splits,
    name_some,
    relevant,
    relevant_documents,
    unread_files,
)
from trimtab_training.data.splits import group_by_document, split_qrels, unit_hash
from trimtab_training.errors import DataError

PAIRS: Qrels = {"q1": {"d1": 2.0, "d2": 0.0}, "q2": {"d1": 1.0}}


def labels_from(tmp_path: Path, content: str | bytes) -> Qrels:
    path = tmp_path / "labels.tsv"
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return load_qrels(path)


BEIR = "query-id\tcorpus-id\tscore\nq1\td1\t2\nq1\td2\t0\nq2\td1\t1\n"


@pytest.mark.parametrize(
    "content",
    [
        pytest.param(BEIR, id="beir"),
        pytest.param(BEIR.removeprefix(HEADER), id="no-header"),
        pytest.param("q1 0 d1 2\nq1 0 d2 0\nq2 0 d1 1\n", id="trec-spaces"),
        pytest.param("q1\t0\td1\t2\nq1\t0\td2\t0\nq2\t0\td1\t1\n", id="trec-tabs"),
        pytest.param("q1  Q0  d1   2\nq1 Q0 d2 0\nq2 Q0 d1 1", id="trec-aligned-no-final-newline"),
        pytest.param("\ufeff" + BEIR, id="bom"),
        pytest.param("\ufeff" + BEIR.removeprefix(HEADER), id="bom-no-header"),
        pytest.param(BEIR.replace("\n", "\r\n"), id="crlf"),
        pytest.param(BEIR.replace("\n", "\n\n") + " \n", id="blank-lines"),
        pytest.param(BEIR.replace("\t2\n", "\t2.0\n"), id="fractional-grade"),
        pytest.param(BEIR.replace("\td1\t2", "\t d1 \t 2"), id="padded-columns"),
        pytest.param(re.sub(r"([^\t\n]+)", r'"\1"', BEIR), id="cells-in-quotes"),
    ],
)
def test_labels_are_read_in_every_usual_form(tmp_path: Path, content: str) -> None:
    assert labels_from(tmp_path, content) == PAIRS


def test_ids_may_hold_spaces_in_beir_form(tmp_path: Path) -> None:
    assert labels_from(tmp_path, HEADER + "a query\ta document\t1\n") == {
        "a query": {"a document": 1.0}
    }


def test_header_tells_which_column_is_which(tmp_path: Path) -> None:
    content = "\tcorpus_id\tquery_id\tscore\n0\td1\tq1\t2\n"
    assert labels_from(tmp_path, content) == {"q1": {"d1": 2.0}}


@pytest.mark.parametrize(
    "header",
    ["qid\trelevance\tdocument_uri", "query-id\tscore\tcorpus", "query_id\tesci_label\titem",
     "query-id\tcorpus-id\trank", "topic iter passage_text_id position",
     "qid\turl\tlang\trating", "query_id\tdoc_id\tassessor\tjudgment", "query\turl\tlang\trel",
     "product_id\tquery_id\tesci", "url\tsearch_term\trating", "search\tgrade\tsku", "a\tb\tc"],
)  # fmt: skip
def test_header_in_an_order_that_is_not_known_is_refused(tmp_path: Path, header: str) -> None:
    with pytest.raises(
        DataError, match=r"labels\.tsv: its header names .* call the columns query-"
    ):
        labels_from(tmp_path, f"{header}\nq1\t1\t2\t1\n")


def test_header_with_one_name_that_is_not_known_is_read_by_place(tmp_path: Path) -> None:
    for header in ("query-id\tcorpus\tscore", "qid\tdocument\tvalue", "query\tx\tgrade",
                   "asin\tdoc\tscore", "Query ID\tURL\tRating"):  # fmt: skip
        assert labels_from(tmp_path, BEIR.replace(HEADER, f"{header}\n")) == PAIRS
    assert labels_from(tmp_path, "topic Q0 document judgment\nq1 0 d1 2\n") == {"q1": {"d1": 2.0}}


@pytest.mark.parametrize(
    "line", ["corpus-id\tquery-id\tscore", "product_id\tquery_id\tesci", "doc query iter rel"]
)
@pytest.mark.parametrize("first", ["q1\td1\t2\n", BEIR, "q1\t0\td1\t2\n"])
def test_later_header_of_other_columns_is_refused(tmp_path: Path, first: str, line: str) -> None:
    with pytest.raises(DataError, match=r"labels\.tsv: a line further down names other columns: "):
        labels_from(tmp_path, f"{first}{line}\nd1\tq1\t2\n")


@pytest.mark.parametrize(
    ("lines", "told"),
    [
        ("q1\td0\ten\t0\nq1\td1\ten\t1\n", "second of four columns holds 'd0' and 'd1'"),
        ("q1 d0 a 0\nq2 7 a 1\nq1 d1 b 1\n", "second of four columns holds 'd0' and 'd1'"),
        ("0\tqid:7\t12\n1\tqid:7\t13\n", "second column holds 'qid:7', as in LETOR's form"),
    ],
)
def test_columns_without_names_that_are_no_labels_are_refused(
    tmp_path: Path, lines: str, told: str
) -> None:
    with pytest.raises(DataError, match=rf"labels\.tsv: the {told}"):
        labels_from(tmp_path, lines)


@pytest.mark.parametrize(
    ("one", "other"),
    [("0", "0"), ("17", "17"), ("q0", "q0"), ("-", "-"), ("iteration", "iteration"),
     ("0.5", "4.5"), ("1.5", "-1")],
)  # fmt: skip
def test_second_of_four_columns_says_nothing(tmp_path: Path, one: str, other: str) -> None:
    lines = f"q1 {one} d1 2\nq1 0 d2 0\nq2 {other} d1 1\n"
    assert labels_from(tmp_path, lines) == PAIRS


@pytest.mark.parametrize("mark", [" ", "\t"])
def test_header_that_is_asked_for_over_four_columns_decides(tmp_path: Path, mark: str) -> None:
    lines = "q1 A d1 2\nq1 B d2 0\nq2 B d1 1\n".replace(" ", mark)
    header = "query-id iteration corpus-id score"
    with pytest.raises(DataError, match=f"holds 'A' and 'B'.* in a first line, as in {header}"):
        labels_from(tmp_path, lines)
    assert labels_from(tmp_path, f"{header}\n{lines}") == PAIRS


def test_lines_have_the_columns_that_the_header_names(tmp_path: Path) -> None:
    by_spaces = "query_id doc_id assessor rel\nq1 d1 a1 2\n"
    assert labels_from(tmp_path, by_spaces) == {"q1": {"d1": 2.0}}
    with pytest.raises(DataError, match=r"labels\.tsv:2: expected query-id"):  # R's names of rows
        labels_from(tmp_path, HEADER + "1\tq1\td1\t2\n")


@pytest.mark.parametrize(
    ("name", "split"),
    [
        ("validation.tsv", "dev"), ("scifact-dev.txt", "dev"),
        *((name, "test") for name in (
            "test", "test.tsv.gz", "test.csv", "test.json", "test.ndjson", "test.jsonl.gz",
            "test.tsv.zst", "test.xlsx", "test.tab", "test.tsv.bak", "test.tsv~", "testset.tsv",
            "test 2.tsv", "TEST.tsv", "qrels_test.tsv", "scifact.test.tsv", "heldout.tsv",
            "../test.tsv", "../test.qrels",
        )),
    ],
)  # fmt: skip
def test_split_under_a_name_that_is_not_read_is_refused(
    tmp_path: Path, name: str, split: str
) -> None:
    folder = tmp_path / "qrels"
    folder.mkdir()
    (folder / "train.tsv").write_text(BEIR, encoding="utf-8")
    (folder / name).write_bytes(b"")
    words = rf"{re.escape(Path(name).name)} is not read: labels of the {split} split stand"
    with pytest.raises(DataError, match=words):
        load_splits(folder)


@pytest.mark.parametrize("name", ["latest.tsv", "contest.txt", "README.md", "value.json"])
def test_files_that_name_no_split_are_left_unread(tmp_path: Path, name: str) -> None:
    (tmp_path / "train.qrel").write_text(BEIR, encoding="utf-8")
    (tmp_path / name).write_bytes(b"")
    assert load_splits(tmp_path) == {"train": PAIRS}
    assert [path.name for path in unread_files(tmp_path)] == [name]


@pytest.mark.parametrize("name", ["train.tsv.bak", "train (1).tsv", "train.tsv~", "._test.tsv"])
def test_copies_that_editors_leave_are_no_labels(tmp_path: Path, name: str) -> None:
    (tmp_path / "train.tsv").write_text(BEIR, encoding="utf-8")
    (tmp_path / name).write_text(HEADER + "wrong\twrong\t1\n", encoding="utf-8")
    assert load_splits(tmp_path) == {"train": PAIRS}


@pytest.mark.parametrize("line", ["q1\td1", "q1 d1 1", "q1\td1\t1\textra\tmore", "{}"])
def test_malformed_line_is_named_by_file_and_number(tmp_path: Path, line: str) -> None:
    with pytest.raises(DataError, match=r"labels\.tsv:3: expected query-id, corpus-id, score"):
        labels_from(tmp_path, HEADER + f"q0\td0\t1\n{line}\n")


def test_grade_that_is_no_number_is_named_by_file_and_number(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"labels\.tsv:2: grade 'good' is not a number"):
        labels_from(tmp_path, HEADER + "q1\td1\tgood\n")


@pytest.mark.parametrize("text", ["1_0", "\u0661"])
def test_number_that_only_python_reads_is_none(tmp_path: Path, text: str) -> None:
    with pytest.raises(DataError, match=rf"labels\.tsv:2: grade '{text}' is not a number"):
        labels_from(tmp_path, HEADER + f"q1\td1\t{text}\n")


def test_infinite_grade_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"labels\.tsv:2: grade 'inf'"):
        labels_from(tmp_path, HEADER + "q1\td1\tinf\n")


def test_nan_grade_is_refused_for_what_it_is(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"labels\.tsv:2: grade 'nan'"):
        labels_from(tmp_path, HEADER + "q1\td1\tnan\n")


@pytest.mark.parametrize("break_", ["\u2028", "\x85", "\x1c"])
def test_ids_may_hold_characters_that_only_unicode_calls_line_breaks(
    tmp_path: Path, break_: str
) -> None:
    assert labels_from(tmp_path, HEADER + f"q{break_}1\td1\t1\n") == {f"q{break_}1": {"d1": 1.0}}


def test_pair_that_stands_twice_with_different_grades_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"labels\.tsv:3: query 'q1' and document 'd1'.*twice"):
        labels_from(tmp_path, HEADER + "q1\td1\t1\nq1\td1\t2\n")


def test_pair_that_stands_twice_with_one_grade_counts_once(tmp_path: Path) -> None:
    assert labels_from(tmp_path, HEADER + "q1\td1\t1\nq1\td1\t1.0\n") == {"q1": {"d1": 1.0}}


@pytest.mark.parametrize("content", ["", "\n\n", HEADER, "\ufeff"])
def test_file_without_labels_is_refused(tmp_path: Path, content: str) -> None:
    with pytest.raises(DataError, match="holds no labels; expected query-id, corpus-id, score"):
        labels_from(tmp_path, content)


def test_labels_that_are_not_utf8_are_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="can't read labels from"):
        labels_from(tmp_path, b"q\xff\td1\t1\n")


def test_missing_labels_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="can't read labels from"):
        load_qrels(tmp_path / "none.tsv")


def test_grade_of_zero_or_less_is_judged_but_not_relevant(tmp_path: Path) -> None:
    qrels = labels_from(tmp_path, HEADER + "q1\td1\t1\nq1\td2\t0\nq1\td3\t-1\nq2\td4\t0\n")
    assert qrels["q1"] == {"d1": 1.0, "d2": 0.0, "d3": -1.0}
    assert relevant(qrels["q1"]) == {"d1": 1.0}
    assert relevant_documents(qrels) == {"d1"}


# Folders


def test_folder_brings_its_splits_and_its_name(tmp_path: Path) -> None:
    splits = {name: {f"q-{name}": {"d1": 1.0}} for name in ("train", "dev", "test")}
    dataset = Dataset.load(write_dataset(tmp_path / "words", splits=splits))
    assert dataset.name == "words"
    assert dataset.splits == splits
    assert dataset.made_splits is None
    assert dataset.split("dev") == {"q-dev": {"d1": 1.0}}


@pytest.mark.parametrize("suffix", [".tsv", ".qrels", ".trec", ".txt"])
def test_folder_may_hold_trec_files(tmp_path: Path, suffix: str) -> None:
    (tmp_path / "qrels").mkdir()
    for split, query in (("train", "q1"), ("test", "q2")):
        (tmp_path / "qrels" / f"{split}{suffix}").write_text(f"{query} 0 d1 1\n", "utf-8")
    assert Dataset.load(tmp_path).splits == {"train": {"q1": {"d1": 1}}, "test": {"q2": {"d1": 1}}}


def test_split_in_two_files_is_refused(tmp_path: Path) -> None:
    write_dataset(tmp_path)
    (tmp_path / "qrels" / "test.trec").write_text("q9 0 d1 1\n", "utf-8")
    with pytest.raises(DataError, match=r"'test' stands in test\.tsv and test\.trec"):
        Dataset.load(tmp_path)


def test_labels_that_may_not_be_read_are_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_dataset(tmp_path / "docs")
    exists = Path.exists

    def refuse(path: Path) -> bool:
        if path.parent.name == "qrels":
            raise PermissionError(errno.EACCES, "Permission denied", str(path))
        return exists(path)

    monkeypatch.setattr(Path, "exists", refuse)
    with pytest.raises(DataError, match=r"can't read labels in .*qrels: Permission denied"):
        Dataset.load(tmp_path / "docs")


def test_missing_folder_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"no dataset folder at .*none; expected a BEIR folder"):
        Dataset.load(tmp_path / "none")


def test_folder_without_labels_is_refused(tmp_path: Path) -> None:
    write_dataset(tmp_path, splits={"dev": {"q0": {"d0": 1}}})
    with pytest.raises(DataError, match=r"no labels in .*expected train\.tsv"):
        Dataset.load(tmp_path)


@pytest.mark.parametrize("pair", [("train", "test"), ("train", "dev"), ("dev", "test")])
def test_query_in_two_splits_is_refused(tmp_path: Path, pair: tuple[str, str]) -> None:
    splits = {name: {f"q-{name}": {"d": 1.0}} for name in ("train", "dev", "test")}
    for name in pair:
        splits[name]["both"] = {"d": 1.0}
    with pytest.raises(DataError, match=f"'both'.* stand in both {pair[0]} and {pair[1]}"):
        Dataset.load(write_dataset(tmp_path, splits=splits))


def test_asking_for_a_split_that_is_not_there_names_those_that_are(tmp_path: Path) -> None:
    dataset = Dataset.load(write_dataset(tmp_path))
    with pytest.raises(DataError, match="no split 'dev'; it has: test, train"):
        dataset.split("dev")


def test_content_hash_ignores_the_order_of_lines(tmp_path: Path) -> None:
    labels = {f"t{n}": {f"d{n}": 1, f"d{n + 1}": 2} for n in range(5)}
    one = Dataset.load(write_dataset(tmp_path / "one", splits={"train": labels, "test": PAIRS}))
    write_dataset(tmp_path / "two", splits={"train": labels, "test": PAIRS})
    for name, kept in (("train", labels), ("test", PAIRS)):
        write_qrels(tmp_path / "two" / "qrels" / f"{name}.tsv", kept, backwards=True)
    two = Dataset.load(tmp_path / "two")
    assert list(two.splits["train"]) != list(one.splits["train"])
    assert two.content_hash() == one.content_hash()


@pytest.mark.parametrize(
    "changed", [{"q0": {"d0": 2}}, {"q0": {"d9": 1}}, {"q9": {"d0": 1}}, {"q0": {"d0": 1, "d9": 0}}]
)
def test_content_hash_sees_every_change_of_labels(tmp_path: Path, changed: Qrels) -> None:
    one = Dataset.load(write_dataset(tmp_path / "one"))
    splits = {"train": changed, "test": {"q1": {"d1": 1}}}
    two = Dataset.load(write_dataset(tmp_path / "two", splits=splits))
    assert two.content_hash() != one.content_hash()


# Texts


def test_document_text_is_title_and_text_joined_by_a_space(tmp_path: Path) -> None:
    records = [
        {"_id": "both", "title": "Title", "text": "and text"},
        {"_id": "no-title", "text": " only text "},
        {"_id": "null", "title": None, "text": None},
        {"_id": "no-text", "title": "Only title", "text": "", "metadata": {}},
    ]
    write_jsonl(write_dataset(tmp_path) / "corpus.jsonl", records)
    dataset = Dataset.load(tmp_path)
    assert list(dataset.iter_documents()) == [
        ("both", "Title and text"),
        ("no-title", "only text"),
        ("null", ""),
        ("no-text", "Only title"),
    ]


def test_texts_of_some_ids_are_picked(tmp_path: Path) -> None:
    write_dataset(tmp_path, documents=["d0", "d1"], queries=["q0", "q1"])
    dataset = Dataset.load(tmp_path)
    assert dataset.document_texts(["d1", "unknown"]) == {"d1": "document d1"}
    assert dataset.query_texts({"q0"}) == {"q0": "query q0"}
    assert list(dataset.iter_queries()) == [("q0", "query q0"), ("q1", "query q1")]


def test_texts_are_none_where_there_is_no_file(tmp_path: Path) -> None:
    write_qrels(tmp_path / "qrels" / "train.tsv", {"q0": {"d0": 1}})
    write_qrels(tmp_path / "qrels" / "test.tsv", {"q1": {"d0": 1}})
    dataset = Dataset.load(tmp_path)
    assert dataset.document_texts(["d0"]) == dataset.query_texts(["q0"]) == {}
    with pytest.raises(DataError, match=r"can't read .*corpus\.jsonl"):
        list(dataset.iter_documents())


def test_texts_may_come_with_bom_crlf_and_blank_lines(tmp_path: Path) -> None:
    write_dataset(tmp_path)
    (tmp_path / "queries.jsonl").write_bytes(
        b'\xef\xbb\xbf{"_id": "q0", "text": "caf\xc3\xa9"}\r\n\r\n{"_id": "q1", "text": "b"}\r\n'
    )
    assert list(Dataset.load(tmp_path).iter_queries()) == [("q0", "café"), ("q1", "b")]


@pytest.mark.parametrize(
    ("line", "why"),
    [
        ("{", "not JSON"),
        ("[]", "expected a JSON object with a text '_id'"),
        ('{"text": "no id"}', "expected a JSON object with a text '_id'"),
        ('{"_id": 7, "text": "a number"}', "expected a JSON object with a text '_id'"),
    ],
)
def test_malformed_text_line_is_named_by_file_and_number(
    tmp_path: Path, line: str, why: str
) -> None:
    write_dataset(tmp_path)
    (tmp_path / "queries.jsonl").write_text('{"_id": "q0", "text": ""}\n' + line + "\n", "utf-8")
    with pytest.raises(DataError, match=rf"queries\.jsonl:2: {why}"):
        list(Dataset.load(tmp_path).iter_queries())


@pytest.mark.parametrize("text", [5, ["a"], {"a": 1}])
def test_query_text_that_is_no_string_is_refused(tmp_path: Path, text: object) -> None:
    write_jsonl(write_dataset(tmp_path) / "queries.jsonl", [{"_id": "q0", "text": text}])
    with pytest.raises(DataError, match=r"queries\.jsonl:1"):
        list(Dataset.load(tmp_path).iter_queries())


# Splits made here

MANY: Qrels = {f"q{n}": {f"d{n // 3}": 1.0, f"d{n // 3 + 1}": 0.0} for n in range(600)}
FIFTH = pytest.approx(0.2, abs=0.06)  # 200 groups of three: one standard deviation is 0.028


@pytest.mark.parametrize("by", ["query", "document"])
def test_made_test_split_is_about_a_fifth_and_shares_no_query(tmp_path: Path, by: str) -> None:
    dataset = Dataset.load(write_dataset(tmp_path, splits={"train": MANY}), split_by=by)
    train, test = dataset.split("train"), dataset.split("test")
    assert {**train, **test} == MANY
    assert not train.keys() & test.keys()
    assert len(test) / len(MANY) == FIFTH
    assert dataset.made_splits == by


def test_split_by_document_keeps_relevant_test_documents_out_of_training() -> None:
    made = split_qrels(MANY, by="document")
    assert not relevant_documents(made["train"]) & relevant_documents(made["test"])
    by_query = split_qrels(MANY, by="query")
    assert relevant_documents(by_query["train"]) & relevant_documents(by_query["test"])


@pytest.mark.parametrize("by", ["query", "document"])
def test_made_split_is_the_same_whatever_the_order_of_lines(tmp_path: Path, by: str) -> None:
    one = Dataset.load(write_dataset(tmp_path / "one", splits={"train": MANY}), split_by=by)
    two = write_dataset(tmp_path / "two", splits={"train": MANY})
    write_qrels(two / "qrels" / "train.tsv", MANY, backwards=True)
    assert Dataset.load(two, split_by=by).splits == one.splits


def test_folder_with_only_test_labels_is_divided_for_a_fit_alone(tmp_path: Path) -> None:
    dataset = Dataset.load(write_dataset(tmp_path, splits={"test": MANY}))
    assert dataset.splits == {"test": MANY}
    assert (dataset.made_splits, dataset.tell_made()) == (None, "")
    with pytest.raises(DataError, match=r"no split 'train'.*Dataset\.for_fit"):
        dataset.split("train")
    divided = dataset.for_fit("query")
    assert divided.splits == split_qrels(MANY, by="query")
    assert (divided.made_splits, divided.made_from) == ("query", "test")
    n_test = len(divided.split("test"))
    assert f"no train split in {tmp_path}: {n_test} of the 600 test queries" in divided.tell_made()


def test_data_with_a_train_split_is_for_a_fit_as_it_is(tmp_path: Path) -> None:
    made = Dataset.load(write_dataset(tmp_path / "one", splits={"train": MANY}))
    assert made.for_fit("query") is made
    assert f"no test split in {tmp_path / 'one'}" in made.tell_made()
    splits = {"train": {"q1": {"d1": 1}}, "test": {"q2": {"d1": 1}}}
    both = Dataset.load(write_dataset(tmp_path / "two", splits=splits))
    assert both.for_fit() is both
    assert both.tell_made() == ""


def test_single_test_query_can_be_measured_on(tmp_path: Path) -> None:
    dataset = Dataset.load(write_dataset(tmp_path, splits={"test": {"q0": {"d0": 1.0}}}))
    assert dataset.measurable_split("test") == {"q0": {"d0": 1.0}}
    with pytest.raises(DataError, match="1 queries can't be split"):
        dataset.for_fit()


def test_labels_that_hang_together_cannot_be_split_by_document(tmp_path: Path) -> None:
    chained = {f"q{n}": {f"d{n}": 1.0, f"d{n + 1}": 1.0} for n in range(50)}
    with pytest.raises(DataError, match=r"50 queries can't be split by document.*split by query"):
        Dataset.load(write_dataset(tmp_path, splits={"train": chained}))


def test_made_split_that_is_near_a_fifth_rests_on_each_groups_hash_alone() -> None:
    groups = group_by_document(MANY)
    by_hash = {query for query in MANY if unit_hash(groups[query], "test") < 0.2}
    assert set(split_qrels(MANY, by="document")["test"]) == by_hash


def popular(start: int, n_popular: int, n_others: int) -> Qrels:
    """Give queries of which many share one document, and the others have one each."""
    shared = {f"q{start}_{n}": {"popular": 1.0} for n in range(n_popular)}
    return shared | {f"z{start}_{n}": {f"d{n}": 1.0} for n in range(n_others)}


@pytest.mark.parametrize("n_others", [100, 300])
@pytest.mark.parametrize("start", range(20))
def test_queries_of_a_popular_document_are_trained_on(start: int, n_others: int) -> None:
    made = split_qrels(popular(start, 1000 - n_others, n_others), by="document")
    assert 0.1 <= len(made["test"]) / 1000 <= 0.3
    assert not relevant_documents(made["test"]) & {"popular"}


@pytest.mark.parametrize("start", range(10))
def test_few_large_groups_are_split_as_well_as_can_be(start: int) -> None:
    sizes = {"a": 6, "b": 3, "c": 3}
    qrels = {f"{doc}{start}-{n}": {doc: 1.0} for doc, size in sizes.items() for n in range(size)}
    assert len(split_qrels(qrels, by="document")["test"]) == 3


def test_split_that_is_no_fifth_is_told_with_what_makes_it_one(tmp_path: Path) -> None:
    splits = {"train": popular(0, 950, 50)}
    made = Dataset.load(write_dataset(tmp_path / "one", splits=splits)).tell_made()
    assert "50 of the 1,000 train queries are tested on" in made
    assert 'split_by = "query" in a recipe' in made
    by_query = Dataset.load(write_dataset(tmp_path / "two", splits=splits), split_by="query")
    assert "no fifth" not in by_query.tell_made()


def test_unknown_way_to_split_is_refused() -> None:
    with pytest.raises((DataError, ValueError), match="documents"):
        split_qrels(MANY, by="documents")


def test_another_key_makes_another_split() -> None:
    one, other = (split_qrels(MANY, by="query", key=key)["test"].keys() for key in ("a", "b"))
    assert one != other


def test_judged_non_relevant_documents_do_not_join_groups() -> None:
    qrels = {"a": {"d1": 1.0, "d2": 0.0}, "b": {"d2": 1.0}, "c": {"d1": 2.0}}
    assert group_by_document(qrels) == {"a": "a", "b": "b", "c": "a"}


def test_unit_hash_never_changes() -> None:
    # sha256(b"test\x00q1"), first 8 bytes: splits of published models rest on it
    assert unit_hash("q1", "test") == 0.43869099962918456


def test_ids_in_messages_come_with_their_count_and_few_examples() -> None:
    assert name_some({"b", "a"}) == "2 ('a', 'b')"
    assert name_some({"b", "a", "d", "c"}) == "4 (such as 'a', 'b', 'c')"
