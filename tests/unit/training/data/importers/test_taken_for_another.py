"""Columns, files and values that look like one thing and are another: told apart or asked about."""

import json
from pathlib import Path
from typing import Any

import pytest

from tests.support.label_files import write_rows
from tests.support.sets import write_jsonl
from trimtab_training.data.importers import ClickSettings, ImportSettings, import_labels
from trimtab_training.data.importers.click_log import ClickLog
from trimtab_training.data.importers.columns import (
    CLICK_ROLES,
    PAIR_ROLES,
    TEXT_ROLES,
    find_columns,
)
from trimtab_training.data.importers.gather import Search
from trimtab_training.data.importers.tally import Tally
from trimtab_training.data.importers.texts import Unusable
from trimtab_training.data.importers.times import as_time
from trimtab_training.data.qrels import Qrels, load_splits
from trimtab_training.data.splits import split_qrels
from trimtab_training.errors import ConfigError, DataError

N = range(12)


def imported(source: Path, format_: str = "pairs", **settings: Any) -> dict[str, Qrels]:
    out = source.parent / "out"
    import_labels(format_, source, out, ImportSettings(**settings))
    return load_splits(out / "qrels")


def texts(folder: Path) -> set[str]:
    lines = (folder / "out" / "corpus.jsonl").read_text(encoding="utf-8").splitlines()
    return {json.loads(line)["text"] for line in lines}


# Pairs


@pytest.mark.parametrize(
    ("name", "values", "document"),
    [
        ("positive", [1, 0], "passage"),
        ("positive", ["True", "False"], "passage"),
        ("pos", [1, 2, 3], "document"),
        ("positives", ["0.5", "1"], "answer"),
    ],
)
def test_numbers_in_a_column_called_positive_are_asked_about(
    tmp_path: Path, name: str, values: list[Any], document: str
) -> None:
    rows = [{"query": f"q{n}", document: f"text {n}", name: values[n % len(values)]} for n in N]
    source = write_rows(tmp_path / "pairs.csv", rows)
    told = f"--column score={name} if more is better, and --column document={document}"
    with pytest.raises(DataError, match=told):
        imported(source)
    imported(source, columns={"document": (document,), "score": (name,)})
    assert texts(tmp_path) == {f"text {n}" for n in N}


def test_flags_in_a_column_called_negative_are_asked_about(tmp_path: Path) -> None:
    rows = [{"query": f"q{n}", "passage": f"text {n}", "negative": n % 2} for n in N]
    source = write_rows(tmp_path / "pairs.csv", rows)
    with pytest.raises(DataError, match=r"'negative' holds 0, 1, 0, .*--column negative=; or say"):
        imported(source)
    chosen = {"negative": (), "score": ("negative",)}
    imported(source, columns=chosen, grades={"0": 1.0, "1": 0.0})
    assert texts(tmp_path) == {f"text {n}" for n in N}


def test_numbers_that_are_the_documents_texts_are_taken_when_said(tmp_path: Path) -> None:
    rows = [{"query": f"q{n}", "positive": str(n), "negative": f"not {n}"} for n in N]
    source = write_jsonl(tmp_path / "pairs.jsonl", rows)
    imported(source, "triplets", columns={"document": ("positive",)})
    assert {str(n) for n in N} <= texts(tmp_path)


def test_relevant_from_below_zero_keeps_what_it_calls_relevant(tmp_path: Path) -> None:
    logits = [-0.4, 3.2, -8.1, 0.0, 5.5, -1.0]
    rows = [{"query": "q", "document": f"d{n}", "score": of} for n, of in enumerate(logits)]
    source = write_jsonl(tmp_path / "pairs.jsonl", rows)
    grades = sorted(imported(source, relevant_from=-1.0)["train"].popitem()[1].values())
    assert grades == pytest.approx([0.0, 1.0, 1.6, 2.0, 5.2, 7.5])


# Runs that stand for judgements


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("qid docno rank score\n" + "".join(f"q{n} d{n} {n} {9 - n}\n" for n in N), "names qid, "),
        ("".join(f"q\t0\td{n}\t{n}\n" for n in N), "count 0, 1, 2"),
        ("".join(f"q\td{n}\t{20 - n * 0.37}\n" for n in N), "20, 19.63, 19.26 fall"),
        ("".join(f"q\td{n}\t{100 - n * 7}\n" for n in N), "100, 93, 86 fall"),
        ("".join(f"q{n // 3}\td{n}\t{100 - n * 7}\n" for n in N), "100, 93, 86 fall"),
        ("".join(f"q{q}\td{n}\t{n * 5 % 12 + 1}\n" for q in "ab" for n in N), "from 1 on once"),
        ("".join(f"q{q}\td{n}\t{n * 5 % 12}\n" for n in N for q in "ab"), "from 0 on once"),
        ("".join(f"q{q}\td{n}\t{n * 5 % 7 + 1}\n" for q in range(150) for n in range(7)), "once"),
    ],
)
def test_runs_are_no_judgements(tmp_path: Path, text: str, told: str) -> None:
    source = tmp_path / "judged.qrels"
    source.write_text(text.replace(" ", "\t"), encoding="utf-8")
    with pytest.raises(DataError, match=told):
        imported(source, "trec")


@pytest.mark.parametrize(
    "grades", [(2.5, 2, 1, 1, 0), (3, 2, 1, 0), (2, 3, 1), (1, 0), (9, 7, 8, 9)]
)
def test_grades_in_the_order_of_their_size_are_labels(
    tmp_path: Path, grades: tuple[float, ...]
) -> None:
    source = tmp_path / "judged.qrels"
    lines = [f"q{q}\td{q}{n}\t{grade}\n" for q in N for n, grade in enumerate(grades)]
    source.write_text("".join(lines), encoding="utf-8")
    assert len(imported(source, "trec")["train"]) == len(N)


# Clicks


def searches(source: Path, **chosen: Any) -> list[Search]:
    return [
        one for _, one in ClickLog(source, {}, chosen=ClickSettings(**chosen)).searches(Tally())
    ]


def sums(**more: Any) -> list[dict[str, Any]]:
    return [
        {"query": f"q{n % 3}", "doc_id": f"d{n}", "impressions": 25 + n, "clicks": n % 2, **more}
        for n in N
    ]


def test_how_often_a_document_was_shown_is_no_document(tmp_path: Path) -> None:
    source = write_rows(tmp_path / "log.csv", sums(position=1.4))
    with pytest.raises(DataError, match="'impressions' holds numbers up to 36, so that a row is a"):
        searches(source)
    found = imported(source, "clicks", clicks=ClickSettings(estimate="counts", min_clicks=1))
    assert {name for of in found["train"].values() for name in of} == {f"d{n}" for n in N if n % 2}


@pytest.mark.parametrize("impressions", [100, "{},000"], ids=str)
@pytest.mark.parametrize("clicks", ["Clicks", "clicked"])
def test_sums_without_a_known_document_ask_for_it(
    tmp_path: Path, clicks: str, impressions: Any
) -> None:
    rows = [
        {"Query": f"q{n % 3}", "Page": f"https://x/{n}", clicks: n, "Impressions":
         str(impressions).format(12 + n), "Position": 2.4}
        for n in N
    ]  # fmt: skip
    source = write_rows(tmp_path / "log.csv", rows)
    with pytest.raises(DataError, match=r"'Impressions' holds numbers .*--estimate counts"):
        imported(source, "clicks")
    counts = ClickSettings(estimate="counts")
    with pytest.raises(DataError, match=f"'{clicks}' holds 0, 1, 2, and no column .*document=NAME"):
        imported(source, "clicks", clicks=counts)
    found = imported(source, "clicks", clicks=counts, columns={"document": ("Page",)})["train"]
    assert sorted(one for of in found.values() for one in of) == sorted(
        f"https://x/{n}" for n in N if n > 1
    )


@pytest.mark.parametrize("cells", [["1.200", "950"], ["1,200", "950"], ["1.200.000", "1.200"]])
def test_marks_between_thousands_are_asked_about(tmp_path: Path, cells: list[str]) -> None:
    rows = [
        {"query": f"q{n}", "document": f"d{n}", "Page": f"d{n}", "score": cells[n % 2]} for n in N
    ]
    pairs = write_jsonl(tmp_path / "pairs.jsonl", rows)
    log = write_jsonl(tmp_path / "log.jsonl", [{**row, "clicks": row["score"]} for row in rows])
    counts = ClickSettings(estimate="counts", min_clicks=1.0)
    otherwise = "write a point" if "," in cells[0] else "say --column {role}="
    told = f"holds {cells[0]}, which may be 1200.*, or a fr.*whole, {otherwise}"
    with pytest.raises(DataError, match=told.format(role="score")):
        imported(pairs)
    with pytest.raises(DataError, match=told.format(role="clicked")):
        imported(log, "clicks", clicks=counts)
    if cells[1] == "950" and "." in cells[0]:
        found = imported(pairs, columns={"score": ("score",)})["train"]
        assert {grade for of in found.values() for grade in of.values()} == {1.2, 950.0}
        imported(log, "clicks", clicks=counts, columns={"clicked": ("clicks",)})


@pytest.mark.parametrize(
    "cells", [["0.125", "1.200"], ["1.200", "1.5"], ["1.000", "2.000"], ["1200", "950"], [1.2, 3]]
)
def test_marks_before_fractions_are_read(tmp_path: Path, cells: list[Any]) -> None:
    rows = [{"query": f"q{n}", "document": f"d{n}", "score": cells[n % 2]} for n in N]
    found = imported(write_jsonl(tmp_path / "pairs.jsonl", rows))["train"]
    assert {grade for of in found.values() for grade in of.values()} == set(map(float, cells))


@pytest.mark.parametrize("name", ["clicks", "is_clicked", "clicked", "clickedIds"])
def test_numbers_of_clicks_without_a_document_may_be_ids(tmp_path: Path, name: str) -> None:
    rows = [{"query": f"q{n % 2}", name: 7 + n % 2} for n in N]
    source = write_rows(tmp_path / "log.csv", rows)
    counts = ClickSettings(estimate="counts")
    if name in {"clicks", "is_clicked"}:
        with pytest.raises(DataError, match=f"--column clicked={name} if these are documents' ids"):
            imported(source, "clicks", clicks=counts)
    found = imported(source, "clicks", clicks=counts, columns={"clicked": (name,)})["train"]
    assert sorted(one for of in found.values() for one in of) == ["7", "8"]


def test_ids_of_three_digits_are_no_thousands(tmp_path: Path) -> None:
    rows = [{"query": "q", "impressions": "123,456,789", "clicked": "456"}] * 3
    assert [one.shown for one in searches(write_rows(tmp_path / "log.csv", rows))] == [
        {"123": 1, "456": 2, "789": 3}
    ] * 3


@pytest.mark.parametrize("name", ["clicked", "clicked_ids"])
@pytest.mark.parametrize("cell", ["101,201", "11,201"])
def test_ids_parted_by_commas_are_no_thousands_where_no_column_is_a_document(
    tmp_path: Path, name: str, cell: str
) -> None:
    source = write_rows(tmp_path / "log.csv", [{"query": f"q{n % 2}", name: cell} for n in N])
    found = imported(source, "clicks", clicks=ClickSettings(estimate="counts"))["train"]
    assert all(of.keys() == set(cell.split(",")) for of in found.values())


def test_clicks_of_sums_are_counted_and_their_ranks_are_not(tmp_path: Path) -> None:
    rows = [
        {"query": "q", "doc_id": doc, "clicks": clicks, "position": rank}
        for doc, clicks, rank in (("a", 30, 1.2), ("b", 15, 2.9), ("c", 0, 3.0))
    ]
    source = write_rows(tmp_path / "log.csv", rows)
    found = imported(source, "clicks", clicks=ClickSettings(estimate="counts"))
    assert found["train"].popitem()[1] == {"a": 1.0, "b": 0.5}


def test_how_many_results_there_were_is_no_document(tmp_path: Path) -> None:
    rows = [
        {"query": "q", "doc_id": f"d{n}", "rank": n + 1, "clicked": n % 2, "results": 12} for n in N
    ]
    (found,) = searches(write_rows(tmp_path / "log.csv", rows))
    assert found.shown == {f"d{n}": n + 1 for n in N}
    listed = [{**row, "shown_ids": "d1|d2"} for row in rows]
    assert searches(write_rows(tmp_path / "lists.csv", listed))[0].shown == {"d1": 1, "d2": 2}


def rows_of(search: int, **more: Any) -> list[dict[str, Any]]:
    return [
        {"query": f"q{search % 4}", "doc_id": doc, "rank": rank, "clicked": int(doc == "b"), **more}
        for rank, doc in enumerate("abc", start=1)
    ]


def test_rows_of_one_search_are_gathered_from_all_files(tmp_path: Path) -> None:
    rows = [row for n in range(30) for row in rows_of(n, search_id=f"s{n}")]
    for number in range(3):
        shard = tmp_path / f"train-0000{number}-of-00003.jsonl"
        write_jsonl(shard, rows[number::3])
    found = searches(tmp_path)
    assert len(found) == 30
    assert all(one.shown == {"a": 1, "b": 2, "c": 3} for one in found)


def camel_case(name: str) -> str:
    first, *others = name.split("_")
    return "".join([first, *(word.capitalize() for word in others)])


def test_names_in_camel_case_are_known(tmp_path: Path) -> None:
    rows = [row for n in range(30) for row in rows_of(n, search_id=f"s{n}", created_at=1.7e9 + n)]
    order = sorted(rows, key=lambda row: (int(row["search_id"][1:]) // 5, row["rank"]))
    found = []
    for name_of in (str, camel_case):
        named = [{name_of(name): value for name, value in row.items()} for row in order]
        found.append(searches(write_jsonl(tmp_path / "log.jsonl", named)))
    assert found[0] == found[1]
    assert len(found[1]) == 30
    rows = [row for page in (1, 2) for row in rows_of(1, search_id="s", pageNumber=page)]
    with pytest.raises(DataError, match="ranks begin anew on each page: page 2 has rank 1"):
        searches(write_jsonl(tmp_path / "log.jsonl", rows))


@pytest.mark.parametrize(
    ("name", "roles", "role"),
    [
        ("docNo", TEXT_ROLES, "id"), ("TimeStamp", CLICK_ROLES, "time"),
        ("dateTime", CLICK_ROLES, "time"), ("qId", PAIR_ROLES, "query_id"),
        ("pId", PAIR_ROLES, "document_id"), ("docID", CLICK_ROLES, "document"),
        ("QID", PAIR_ROLES, "query_id"), ("sentence_A", PAIR_ROLES, "query"),
    ],
)  # fmt: skip
def test_capital_within_a_name_that_is_one_word_hides_no_column(
    name: str, roles: dict[str, tuple[str, ...]], role: str
) -> None:
    assert find_columns([name], roles, {}) == {role: (name,)}


def test_ids_and_negatives_in_camel_case_are_used(tmp_path: Path) -> None:
    rows = [
        {"queryId": f"Q{n}", "query": f"q{n}", "documentId": f"D{n}", "positive": f"text {n}",
         "hardNegatives": [f"no {n}"]}
        for n in N
    ]  # fmt: skip
    source = write_jsonl(tmp_path / "pairs.jsonl", [{**row, "hardNegatives": None} for row in rows])
    assert imported(source)["train"] == {f"Q{n}": {f"D{n}": 1.0} for n in N}
    for row in rows:
        del row["documentId"]
    imported(write_jsonl(tmp_path / "pairs.jsonl", rows))
    assert texts(tmp_path) == {f"{kind} {n}" for kind in ("text", "no") for n in N}
    corpus = write_jsonl(
        tmp_path / "c.jsonl",
        [{"id": f"{n}", "documentId": f"D{n}", "text": f"text {n}"} for n in N],
    )
    with pytest.raises(DataError, match="'id' and 'documentId' could each be the id"):
        imported(source, corpus=corpus)


@pytest.mark.parametrize("missing", ["\\N", "NULL", "", "nan", None])
def test_missing_ids_join_no_searches(tmp_path: Path, missing: str | None) -> None:
    rows = [row for n in N for row in rows_of(n, search_id=missing, session_id=missing)]
    assert len(searches(write_jsonl(tmp_path / "log.jsonl", rows))) == len(N)


def test_a_user_that_is_an_object_is_dropped_and_counted(tmp_path: Path) -> None:
    rows = [row for n in N for row in rows_of(n, user={"id": "u"} if n == 3 else "u")]
    tally = Tally(max_dropped=0.5)
    list(ClickLog(write_jsonl(tmp_path / "log.jsonl", rows), {}).searches(tally))
    (dropped,) = tally.as_dict()["dropped"]
    assert (dropped["reason"], dropped["count"]) == ("session is not a text", 3)


def test_files_named_by_split_keep_it(tmp_path: Path) -> None:
    log = tmp_path / "log"
    log.mkdir()
    for split, first in (("train", 0), ("test", 2)):
        rows = [
            {"query": f"q{first + n % 2}", "shown": ["a", "b"], "clicked": ["b"],
             "time": f"202{5 - first}-01-01T00:00:{n:02}Z"}
            for n in range(20)
        ]  # fmt: skip
        write_jsonl(log / f"{split}.jsonl", rows)
    (log / "train.jsonl.bak").write_text("")
    chosen = ClickSettings(estimate="pairwise")
    record = import_labels("clicks", log, tmp_path / "out", ImportSettings(clicks=chosen))
    assert record["clicks"]["searches_by_split"] == [20, 0, 20]
    assert record["written"]["splits"].keys() == {"train", "test"}
    assert "left aside: train.jsonl.bak" in json.dumps(record["understood"])
    parted = ImportSettings(clicks=ClickSettings(test_share=0.3))
    with pytest.raises(ConfigError, match="--test-share parts the log by time, and its files'"):
        import_labels("clicks", log, tmp_path / "out", parted)


def test_split_that_is_named_is_that_of_the_whole_log(tmp_path: Path) -> None:
    rows = [
        {"query": f"q{n % 2}", "shown": ["a", "b"], "clicked": ["b"], "time": f"2025-01-{n + 1:02}"}
        for n in range(20)
    ]
    source = write_jsonl(tmp_path / "log.jsonl", rows)
    chosen = ClickSettings(estimate="pairwise")
    assert imported(source, "clicks", split="test", clicks=chosen).keys() == {"test"}


@pytest.mark.parametrize(
    ("chosen", "told"),
    [
        ({"estimate": "pairwise", "propensities": Path("no.json")}, "--propensities says nothing"),
        ({"estimate": "pairwise", "relevant_share": 0.9}, "--relevant-share says nothing"),
        ({"estimate": "counts", "min_examined": 3.0}, "--min-examined says nothing"),
        ({"estimate": "pairwise", "test_share": 0.3}, "--test-share needs times"),
    ],
)
def test_options_that_would_do_nothing_are_refused(
    tmp_path: Path, chosen: dict[str, Any], told: str
) -> None:
    rows = [{"query": f"q{n % 2}", "shown": ["a", "b"], "clicked": ["b"]} for n in range(20)]
    source = write_jsonl(tmp_path / "log.jsonl", rows)
    with pytest.raises(ConfigError, match=told):
        imported(source, "clicks", clicks=ClickSettings(**chosen))


@pytest.mark.parametrize("text", ["01-MAR-25 09.30.00 PM", "Sat, 1 Mar 2025 09:30:00 p.m."])
def test_halves_of_the_day_are_not_passed_over(text: str) -> None:
    with pytest.raises(Unusable, match=r"time ends in .*--time-format"):
        as_time(text)


# Splits


def test_made_split_is_the_one_that_loading_makes(tmp_path: Path) -> None:
    source = tmp_path / "pairs"
    source.mkdir()
    for split, first in (("train", 0), ("validation", 60)):
        rows = [
            {"query": f"q{n}", "query_id": f"q{n}", "document": f"text {n % 25}"}
            for n in range(first, first + 60)
        ]
        write_jsonl(source / f"{split}.jsonl", rows)
    loaded = split_qrels(imported(source)["train"], by="document")["test"]
    assert imported(source, split_by="document")["test"] == loaded
