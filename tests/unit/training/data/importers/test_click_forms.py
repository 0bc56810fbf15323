"""What a click log's values and rows mean: read right, or refused with the option that decides."""

import json
from dataclasses import replace
from datetime import timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner

from tests.support.label_files import write_rows
from tests.support.sets import write_jsonl
from trimtab.commands.group import main
from trimtab_training.data.importers import ClickSettings, ImportSettings, import_labels
from trimtab_training.data.importers.click_log import ClickLog
from trimtab_training.data.importers.click_values import as_entry, as_list
from trimtab_training.data.importers.tally import Tally
from trimtab_training.data.qrels import Qrels, load_splits
from trimtab_training.data.splits import MIN_DEV_QUERIES
from trimtab_training.errors import ConfigError, DataError

Rows = list[dict[str, Any]]


def searches(path: Path, tally: Tally | None = None, **chosen: Any) -> list[tuple[Any, Any]]:
    """Give what was shown and clicked in every search."""
    log = ClickLog(path, {}, chosen=ClickSettings(**chosen))
    found = [one for _, one in log.searches(tally or Tally())]
    return [(one.shown, sorted(one.clicked)) for one in found]


def imported(
    tmp_path: Path, source: Path, **clicks: Any
) -> tuple[dict[str, Qrels], dict[str, Any]]:
    settings = ImportSettings(clicks=ClickSettings(**clicks))
    record = import_labels("clicks", source, tmp_path / "out", settings)
    return load_splits(tmp_path / "out" / "qrels"), record


def page(docs: str, *, clicked: str = "", first: int = 1, **more: Any) -> Rows:
    """One search as rows: a document a letter."""
    return [
        {"query": "q", "doc_id": doc, "rank": rank, "clicked": int(doc in clicked), **more}
        for rank, doc in enumerate(docs, start=first)
    ]


def ranked(docs: str, first: int = 1) -> dict[str, int]:
    return {doc: rank for rank, doc in enumerate(docs, start=first)}


# Clicks as masks


@pytest.mark.parametrize(
    "masks",
    [
        ([0, 1, 0], [1, 0, 1]), ([False, True, False], [True, False, True]),
        (["0", "1", "0"], ["1", "0", "1"]), ("0,1,0", "1,0,1"), ("0 1 0", "1 0 1"),
        ("0|1|0", "1|0|1"), ("[0, 1, 0]", "[1, 0, 1]"),
        ("[False, True, False]", "[True, False, True]"),
        ("true;false;false", "true;false;true"),
    ],
    ids=str,
)  # fmt: skip
@pytest.mark.parametrize("docs", [["3", "4", "5"], [7, 8, 9], ["a", "b", "c"]], ids=str)
def test_mask_of_clicks_is_no_list_of_ids(tmp_path: Path, masks: Any, docs: list[Any]) -> None:
    rows = [{"query": "q", "shown": docs, "clicked": one} for one in masks]
    first, second, third = map(str, docs)
    found = [clicked for _, clicked in searches(write_rows(tmp_path / "log.jsonl", rows))]
    assert found[0] in ([second], [first])
    assert found[1] == sorted([first, third])


def test_ids_of_a_small_corpus_are_no_mask(tmp_path: Path) -> None:
    rows = [{"query": "q", "shown": [0, 1], "clicked": one} for one in ([1, 0], [1], [])]
    found = searches(write_rows(tmp_path / "log.jsonl", rows))
    assert [clicked for _, clicked in found] == [["0", "1"], ["1"], []]


def test_mask_and_ids_that_look_alike_are_asked_about(tmp_path: Path) -> None:
    rows = [{"query": "q", "shown": [0, 1], "clicked": [1, 0]}] * 3
    source = write_rows(tmp_path / "log.jsonl", rows)
    with pytest.raises(DataError, match="--clicked ids or --clicked mask"):
        searches(source)
    assert searches(source, clicked="mask")[0][1] == ["0"]
    assert searches(source, clicked="ids")[0][1] == ["0", "1"]
    mixed = [{"query": "q", "shown": ["a", "b"], "clicked": one} for one in (["a"], [0, 1])]
    with pytest.raises(DataError, match=r"ids in 1 searches, and a mask, .* in 1"):
        searches(write_rows(tmp_path / "mixed.jsonl", mixed))


def test_clicks_on_what_was_never_shown_are_refused_where_they_are_most(tmp_path: Path) -> None:
    rows = [{"query": "q", "shown": ["a", "b"], "clicked": ["https://a"]}] * 3
    source = write_rows(tmp_path / "log.jsonl", rows)
    with pytest.raises(DataError, match="3 of 3 clicks are on documents that were not shown, such"):
        imported(tmp_path, source, estimate="pairwise")


@pytest.mark.parametrize(
    ("yes", "no"), [("true", "false"), ("Yes", "no"), ("1.0", "0.0"), (1, None)]
)
def test_flags_of_rows_are_read_in_every_spelling(tmp_path: Path, yes: Any, no: Any) -> None:
    rows = [{**row, "clicked": yes if row["clicked"] else no} for row in page("ab", clicked="b")]
    objects = [{"id": "a", "clicked": no}, {"id": "b", "clicked": yes}]
    for kind in ("jsonl", "csv"):
        assert searches(write_rows(tmp_path / f"log.{kind}", rows))[0][1] == ["b"]
    whole = write_rows(tmp_path / "whole.jsonl", [{"query": "q", "shown": objects}])
    assert searches(whole) == [({"a": 1, "b": 2}, ["b"])]


def test_counts_over_several_searches_are_no_flags(tmp_path: Path) -> None:
    rows = [{**row, "clicked": 17} for row in page("abc")]
    with pytest.raises(DataError, match=r"17 clicks a clicked row: .*--estimate counts"):
        searches(write_rows(tmp_path / "log.csv", rows))


@pytest.mark.parametrize(
    ("shown", "clicked"),
    [
        ("{a b,c}", "!"), ("(a, b)", "!"), ("{'a': 1}", "!"), ("[a, b]", "!"), ('"a"|"b"', "!"),
        ("Index(['a', 'b'], dtype='object')", "!"), ("{a,{b,c}}", "!"),
        ("array(['d1', 'd2'], dtype=object)", "array(['d2'], dtype=object)"),
        ("['d1' 'd2']", "['d2']"), ("('d1', 'd2')", "('d2',)"), ("{'d1', 'd2'}", "{'d2'}"),
        ("{d1,d2}", "{d2}"), ('{"d1",d2}', '{"d2"}'), ('"d1","d2"', '"d2"'), ("'d1','d2'", "'d2'"),
        ('["d1", "d2"]', '["d2"]'), ("d1,d2", "d2"), ("d1 d2", "d2"),
    ],
)  # fmt: skip
def test_lists_in_cells_are_read_as_programs_spell_them(
    tmp_path: Path, shown: str, clicked: str
) -> None:
    rows = [{"query": "q", "shown": shown, "clicked": clicked}] * 6
    source, tally = write_rows(tmp_path / "log.csv", rows), Tally()
    found = searches(source, tally)
    if clicked == "!":
        assert not found
        assert {one: of.count for one, of in tally.dropped.items()} == {"shown is not a list": 6}
    else:
        assert found == [({"d1": 1, "d2": 2}, ["d2"])] * 6


@pytest.mark.parametrize(
    ("cell", "ids"),
    [
        ("{007,012}", ["007", "012"]), ("{}", []), ("()", []), ("(1, 2)", ["1", "2"]),
        ("[12345678901234567890]", ["12345678901234567890"]), ("{1,2}", ["1", "2"]),
        ('{"a,\\"b","c d"}', ['a,"b', "c d"]), ("array([1, 2])", ["1", "2"]), ("[7 8]", ["7", "8"]),
    ],
)  # fmt: skip
def test_ids_in_cells_are_kept_as_they_are(cell: str, ids: list[str]) -> None:
    assert [as_entry(one)[0] for one in as_list(cell, "shown")] == ids


def test_clicks_on_what_was_not_shown_count_as_dropped(tmp_path: Path) -> None:
    rows = [
        {"query": "q", "shown": ["a", "b"], "clicked": ["x" if n < 2 else "b"]} for n in range(9)
    ]
    source = write_jsonl(tmp_path / "log.jsonl", rows)
    with pytest.raises(
        DataError, match=r"2 of 9 clicks .* such as 'x', more than --max-dropped 0.1"
    ):
        imported(tmp_path, source, estimate="pairwise")
    clicks = ClickSettings(estimate="pairwise")
    settings = ImportSettings(clicks=clicks, max_dropped=0.3)
    record = import_labels("clicks", source, tmp_path / "out", settings)
    assert record["clicks"]["clicks"] == 7


# Ranks


def test_ranks_from_zero_are_shifted(tmp_path: Path) -> None:
    rows = [*page("abc", clicked="a", first=0, search_id=1), *page("bac", first=0, search_id=2)]
    assert searches(write_rows(tmp_path / "log.csv", rows)) == [
        (ranked("abc"), ["a"]), (ranked("bac"), []),
    ]  # fmt: skip
    whole = [{"query": "q", "shown": ["a", "b"], "ranks": [0, 1], "clicked": []}]
    assert searches(write_rows(tmp_path / "log.jsonl", whole)) == [(ranked("ab"), [])]


def test_ranks_that_begin_at_zero_in_some_searches_are_asked_about(tmp_path: Path) -> None:
    rows = [*page("abc", first=0, search_id=1), *page("abc", search_id=2)]
    source = write_rows(tmp_path / "log.csv", rows)
    with pytest.raises(DataError, match=r"1 documents have rank 0 and 2 rank 1: .*--ranks-from 0"):
        searches(source)
    assert searches(source, ranks_from=0)[1][0] == ranked("abc", 2)
    tally = Tally()
    assert searches(source, tally, ranks_from=1)[0][0] == {"b": 1, "c": 2}
    assert set(tally.dropped) == {"rank is not a whole number from 1"}


def test_ranks_go_on_over_pages_and_gaps(tmp_path: Path) -> None:
    rows = [*page("ab", search_id=1), *page("cd", clicked="d", first=11, search_id=1)]
    source = write_rows(tmp_path / "log.csv", rows)
    assert searches(source) == [({"a": 1, "b": 2, "c": 11, "d": 12}, ["d"])]
    alone = write_rows(tmp_path / "page.csv", page("cd", first=11, search_id=1))
    assert searches(alone) == [({"c": 11, "d": 12}, [])]


def test_document_that_one_search_shows_again_is_told(tmp_path: Path) -> None:
    rows = [{"query": "q", "shown": ["a", "b", "a"], "clicked": ["a"]}]
    tally = Tally()
    found = searches(write_rows(tmp_path / "log.jsonl", rows), tally)
    assert found == [({"a": 1, "b": 2}, ["a"])]
    assert {one: of.count for one, of in tally.noted.items()} == {
        "a document again in one search: its first rank counts": 1
    }


def test_two_documents_at_one_rank_drop_the_search(tmp_path: Path) -> None:
    rows = [
        {"query": "q", "shown": ["a", "b", "c"], "ranks": ranks, "clicked": []}
        for ranks in ([1, 1, 2], [1, 2, 4])
    ]
    tally = Tally()
    found = searches(write_rows(tmp_path / "log.jsonl", rows), tally)
    assert found == [({"a": 1, "b": 2, "c": 4}, [])]
    assert set(tally.dropped) == {"two documents of a search have one rank"}


# What one search is


def test_query_asked_again_in_a_session_is_another_search(tmp_path: Path) -> None:
    pages = [page("abc", clicked="a"), page("acb", clicked="c"), page("acb"), page("bac")]
    rows = [{"session_id": "s", **row} for one in pages for row in one]
    source = write_rows(tmp_path / "log.csv", rows)
    right = [
        (ranked("abc"), ["a"]),
        (ranked("acb"), ["c"]),
        (ranked("acb"), []),
        (ranked("bac"), []),
    ]
    assert searches(source) == right
    as_search = [{"search_id": "s", **row} for one in (*pages[:2], pages[3]) for row in one]
    tally = Tally()
    assert searches(write_rows(tmp_path / "id.csv", as_search), tally) == [
        right[0], right[1], right[3],
    ]  # fmt: skip
    assert sum(one.count for one in tally.noted.values()) == 2


def test_sessions_whose_queries_change_and_interleave_are_taken_apart(tmp_path: Path) -> None:
    one = page("abc", clicked="b", session_id="s")
    other = [{**row, "query": "p"} for row in page("bca", session_id="s")]
    third = page("cab", clicked="c", session_id="t")
    mixed = [row for rows in zip(one, other, third, strict=True) for row in rows]
    found = searches(write_rows(tmp_path / "log.csv", mixed))
    assert found == [(ranked("abc"), ["b"]), (ranked("bca"), []), (ranked("cab"), ["c"])]


def test_search_id_beside_a_session_wins_and_counts_within_it(tmp_path: Path) -> None:
    rows = [
        row
        for session in "st"
        for number in (1, 2)
        for row in page("ab", clicked="b", session_id=session, search_id=number)
    ]
    assert searches(write_rows(tmp_path / "log.csv", rows)) == [(ranked("ab"), ["b"])] * 4


def events(n: int, *, shown: dict[str, Any], clicks: dict[str, Any]) -> Rows:
    """One search as an event log has it: rows of what was shown, then of the click."""
    rows = page("abc", search_id=f"s{n}")
    return [*({**row, **shown} for row in rows), {**rows[n % 3], "clicked": 1, **clicks}]


@pytest.mark.parametrize(
    ("shown", "clicks"),
    [
        ({"session_id": None}, {"session_id": "{n}"}), ({"session_id": "{n}"}, {"session_id": ""}),
        ({"query": "Query {n}"}, {"query": "query  {n}?"}),
        ({"session_id": "NULL", "query": "Q"}, {"session_id": "{n}", "query": "q"}),
        ({"query_id": "q{n}"}, {"query_id": None}),
    ],
    ids=str,
)  # fmt: skip
def test_rows_of_a_search_id_that_lack_something_are_of_its_search(
    tmp_path: Path, shown: dict[str, Any], clicks: dict[str, Any]
) -> None:
    def of(n: int, more: dict[str, Any]) -> dict[str, Any]:
        return {key: value and value.format(n=n) for key, value in more.items()}

    rows = [row for n in range(20) for row in events(n, shown=of(n, shown), clicks=of(n, clicks))]
    source = write_jsonl(tmp_path / "log.jsonl", rows)
    assert searches(source) == [(ranked("abc"), ["abc"[n % 3]]) for n in range(20)]


@pytest.mark.parametrize(
    ("role", "name", "values", "ways"),
    [
        ("session", "user_id", ("guest-{n}", "u{n}"), "--column session= if 'search_id' alone"),
        ("query", "query", ("qurey {n}", "query {n}"), "--column query=NAME .*query=query"),
    ],
    ids=["session", "query"],
)
def test_rows_of_a_search_id_that_something_tears_apart_are_asked_about(
    tmp_path: Path, role: str, name: str, values: tuple[str, str], ways: str
) -> None:
    first, second = values
    found = [
        events(n, shown={name: first.format(n=n), "seen": f"q{n}"},
               clicks={name: second.format(n=n), "seen": f"q{n}"})
        for n in range(20)
    ]  # fmt: skip
    rows = [row for one in found for row in one]
    source = write_jsonl(tmp_path / "log.jsonl", rows)
    with pytest.raises(DataError, match=rf"20 of 20 ids in 'search_id' .*log.jsonl:1\).*{ways}"):
        searches(source)
    columns = {role: ("seen",) if role == "query" else ()}
    joined = [one for _, one in ClickLog(source, columns, chosen=ClickSettings()).searches(Tally())]
    assert [sorted(one.clicked) for one in joined] == [["abc"[n % 3]] for n in range(20)]
    apart = ClickLog(source, {role: (name,)}, chosen=ClickSettings()).searches(Tally())
    assert len(list(apart)) == 40


def test_few_search_ids_that_something_tears_apart_are_noted(tmp_path: Path) -> None:
    rows = [
        row
        for n in range(200)
        for row in events(n, shown={"user_id": "u"}, clicks={"user_id": "v" if n == 7 else "u"})
    ]
    tally = Tally()
    assert len(searches(write_jsonl(tmp_path / "log.jsonl", rows), tally)) == 201
    (noted,) = (one for one in tally.as_dict()["noted"] if "kept apart" in one["reason"])
    assert (noted["count"], noted["first"]) == (1, "log.jsonl:29")


def test_search_ids_that_count_within_sessions_are_not_asked_about(tmp_path: Path) -> None:
    pages = [
        page(docs, clicked=docs[user % 3], session_id=f"u{user}", search_id=number)
        for user in range(30)
        for number, docs in enumerate(("abc", "acb", "bca"))
    ]
    rows = [row for one in pages for row in one]
    found = searches(write_rows(tmp_path / "log.csv", rows))
    assert sorted(map(repr, found)) == sorted(
        repr((ranked(docs), [docs[user % 3]]))
        for user in range(30)
        for docs in ("abc", "acb", "bca")
    )


def test_rows_far_apart_are_refused_also_where_some_lack_the_session(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("trimtab_training.data.importers.gather.MAX_OPEN", 3)
    found = [events(n, shown={"session_id": n}, clicks={"session_id": None}) for n in range(9)]
    late = found[0].pop()
    source = write_jsonl(tmp_path / "log.jsonl", [*(row for one in found for row in one), late])
    assert len(searches(source)) == 10  # nothing of the first joined: it may be another's
    found[0].append(late)
    source = write_jsonl(tmp_path / "log.jsonl", [*(row for one in found for row in one), late])
    with pytest.raises(DataError, match=r"rows of 1 searches \(the first at log.jsonl:1\) stand"):
        searches(source)


def test_shuffled_rows_find_their_search(tmp_path: Path) -> None:
    pages = [page("abcde", clicked="abcde"[n % 5], search_id=n) for n in range(50)]
    rows = [row for one in pages for row in one]
    rows = [rows[n] for n in np.random.default_rng(0).permutation(len(rows)).tolist()]
    found = searches(write_rows(tmp_path / "log.csv", rows))
    assert len(found) == 50
    assert all(shown == ranked("abcde") and len(clicked) == 1 for shown, clicked in found)


def test_search_whose_rows_are_too_far_apart_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("trimtab_training.data.importers.gather.MAX_OPEN", 3)
    rows = [page("abc", search_id=number)[rank] for rank in range(3) for number in range(5)]
    source = write_rows(tmp_path / "log.csv", rows)
    with pytest.raises(
        DataError, match=r"rows of 5 searches \(the first at log.csv:2\) .* sort the"
    ):
        searches(source)
    assert len(searches(source, search_id="none")) > 5


@pytest.mark.parametrize("step", [0, 1, -1], ids=["no times", "later", "earlier"])
def test_pause_ends_a_search_of_a_session(tmp_path: Path, step: int) -> None:
    start = 1_700_000_000
    rows = [
        *page("ab", session_id="s", **({"time": start} if step else {})),
        *page("cd", first=3, session_id="s", **({"time": start + step * 60} if step else {})),
        *page("ef", first=5, session_id="s", **({"time": start + step * 7200} if step else {})),
    ]
    found = [shown for shown, _ in searches(write_rows(tmp_path / "log.csv", rows))]
    assert found == ([ranked("abcd"), ranked("ef", 5)] if step else [ranked("abcdef")])


@pytest.mark.parametrize("column", ["session_id", "search_id"])
def test_rows_of_events_are_one_search(tmp_path: Path, column: str) -> None:
    shown, clicks = page("abc"), [{**row, "clicked": 1} for row in page("abc")]
    rows = [*shown, clicks[1], clicks[0], *page("de", first=4)]
    tally = Tally()
    source = write_rows(tmp_path / "log.csv", [{column: "s", **row} for row in rows])
    assert searches(source, tally) == [(ranked("abcde"), ["a", "b"])]
    assert sum(one.count for one in tally.noted.values()) == 2


def test_rows_without_any_id_are_neighbours(tmp_path: Path) -> None:
    rows = [*page("abc", clicked="a"), *page("abc"), *[{**row, "query": "p"} for row in page("ab")]]
    found = searches(write_rows(tmp_path / "log.csv", rows))
    assert found == [(ranked("abc"), ["a"]), (ranked("abc"), []), (ranked("ab"), [])]


def test_repeated_rows_of_a_search_id_count_once(tmp_path: Path) -> None:
    rows = [row for row in page("abc", clicked="b", search_id=1) for _ in range(2)]
    again = page("abc", clicked="b", search_id=2) * 2
    found = searches(write_rows(tmp_path / "log.csv", [*rows, *again]))
    assert found == [(ranked("abc"), ["b"])] * 2


def test_columns_are_found_though_the_first_row_lacks_them(tmp_path: Path) -> None:
    rows = page("ab", clicked="b", search_id=1, time=1_700_000_000)
    del rows[0]["clicked"]
    log = ClickLog(write_jsonl(tmp_path / "log.jsonl", rows), {})
    assert [sorted(one.clicked) for _, one in log.searches(Tally())] == [["b"]]
    assert log.has_times


# Times and splits


def dated(times: list[Any], tmp_path: Path) -> Path:
    rows = [{"query": f"q{n}", "shown": ["a", "b"], "clicked": ["b"], "time": time}
            for n, time in enumerate(times)]  # fmt: skip
    return write_rows(tmp_path / "log.jsonl", rows)


def test_compact_dates_part_a_log(tmp_path: Path) -> None:
    source = dated([20250201 + n // 40 for n in range(400)], tmp_path)
    cut = 1_738_713_600.0  # 2025-02-05
    _, record = imported(tmp_path, source, estimate="counts", min_clicks=1.0, train_until=cut)
    assert record["clicks"]["searches_by_split"] == [160, 0, 240]
    assert record["understood"]["times"] == {
        "first": "2025-02-01T00:00:00+00:00", "last": "2025-02-10T00:00:00+00:00",
    }  # fmt: skip
    assert "YYYYMMDD" in record["clicks"]["read"]["times"]


def test_cut_is_in_the_zone_of_the_log(tmp_path: Path) -> None:
    source = dated([f"2025-02-{1 + n // 24:02}T{n % 24:02}:00" for n in range(96)], tmp_path)
    words = ["clicks", source, "-o", tmp_path / "out", "--estimate", "counts", "--min-clicks", "1"]
    words += ["--train-until", "2025-02-02T00:00", "--time-zone", "America/New_York"]
    done = CliRunner().invoke(main, ["import", *map(str, words)])
    assert done.exit_code == 0, done.output
    clicks = json.loads((tmp_path / "out" / "import.json").read_text())["clicks"]
    assert clicks["splits_begin"][0] == "2025-02-02T05:00:00+00:00"
    assert clicks["searches_by_split"] == [24, 0, 72]


def test_cuts_that_part_nothing_are_refused(tmp_path: Path) -> None:
    source = dated([1_700_000_000 + n for n in range(50)], tmp_path)
    for chosen, message in (
        ({"train_until": 20250301.0}, "--train-until 1970-08-23T.* parts nothing: .* from 2023-11"),
        ({"train_until": 1.8e9}, "parts nothing"),
        ({"train_until": 1_700_000_010.0, "dev_until": 1.8e9}, "--dev-until 2027"),
    ):
        with pytest.raises(DataError, match=message):
            imported(tmp_path, source, estimate="counts", **chosen)
    with pytest.raises(ConfigError, match="--dev-until needs --train-until"):
        imported(tmp_path, source, estimate="counts", dev_until=1.7e9)
    with pytest.raises(ConfigError, match="--dev-until is before --train-until"):
        imported(tmp_path, source, estimate="counts", train_until=1.8e9, dev_until=1.7e9)


@pytest.mark.parametrize(("n_searches", "has_dev"), [(900, False), (1_100, True)])
def test_dev_split_is_made_where_it_can_judge(
    tmp_path: Path, n_searches: int, has_dev: bool
) -> None:
    source = dated([1_700_000_000 + n for n in range(n_searches)], tmp_path)
    splits, record = imported(tmp_path, source, estimate="counts", min_clicks=1.0)
    assert ("dev" in splits) is has_dev
    assert sum(map(len, splits.values())) == n_searches
    assert len(splits.get("dev", ())) in {0, *range(MIN_DEV_QUERIES, n_searches)}
    assert ("dev_joined_train" in record["clicks"]) is not has_dev


# Clicks without ranks


@pytest.mark.parametrize("kind", ["rows", "counts", "lists"])
def test_clicks_without_ranks_keep_their_times_and_counts(tmp_path: Path, kind: str) -> None:
    clicks = [("a", 10.0)] * 6 + [("b", 20.0)] * 3 + [("c", 30.0)] + [("a", 95.0), ("b", 96.0)] * 2
    rows: Rows = [{"query": "q", "doc_id": doc, "time": time} for doc, time in clicks]
    if kind == "counts":
        pairs = dict.fromkeys(clicks)
        rows = [
            {"query": "q", "doc_id": doc, "clicks": clicks.count((doc, time)), "time": time}
            for doc, time in pairs
        ]
    elif kind == "lists":
        rows = [{"query": "q", "clicked": [doc], "time": time} for doc, time in clicks]
    source = write_rows(tmp_path / "log.jsonl", rows)
    with pytest.raises(DataError, match=r"clicks as they are: --estimate counts|like document"):
        imported(tmp_path, source)
    _, record = imported(tmp_path, source, estimate="counts", train_until=50.0)
    assert record["clicks"]["clicks"] == 14
    splits, _ = imported(tmp_path, source, estimate="counts", dev_share=0.0, test_share=0.0)
    (grades,) = splits["train"].values()
    assert grades == {"a": 1.0, "b": 0.625}  # c was clicked once


@pytest.mark.parametrize("more", [{}, {"search_id": "s"}, {"impressions": 1}], ids=str)
def test_clicks_alone_need_no_ranks_but_may_have_them(tmp_path: Path, more: dict[str, Any]) -> None:
    rows = [
        {"query": "q", "doc_id": doc, "position": 1 + n % 4, **more}
        for n, doc in enumerate("aaaaabbbbc")
    ]
    source = write_rows(tmp_path / "log.csv", rows)
    splits, record = imported(tmp_path, source, estimate="counts")
    assert splits["train"].popitem()[1] == {"a": 1.0, "b": 0.8}
    assert "position" in record["understood"]["files"][0]["unused"]


# What is told


def test_import_tells_how_the_log_is_read(tmp_path: Path) -> None:
    rows = [row for n in range(30) for row in page("abc", clicked="b", first=0, search_id=n, x=1)]
    source = write_rows(tmp_path / "log.csv", rows)
    told: list[dict[str, Any]] = []
    settings = ImportSettings(clicks=ClickSettings(estimate="pairwise"))
    record = import_labels("clicks", source, tmp_path / "out", settings, announce=told.append)
    (reading,) = told
    assert reading["what"] == "searches"
    assert reading["unused"] == ["x"]
    assert reading["columns"]["search"] == ["search_id"]
    assert reading["examples"][0] == {
        "query": "q", "shown": {"a": 1, "b": 2, "c": 3}, "clicked": ["b"],
    }  # fmt: skip
    assert "ranks from: 0" in reading["notes"]
    assert record["understood"]["files"] == told


def test_columns_of_the_corpus_are_named_beside_those_of_the_log(tmp_path: Path) -> None:
    corpus = write_rows(tmp_path / "c.jsonl", [{"key": doc, "text": doc} for doc in "ab"])
    source = write_rows(tmp_path / "log.jsonl", page("ab", clicked="b", search_id=1) * 1)
    settings = ImportSettings(
        clicks=ClickSettings(estimate="pairwise", min_clicks=1.0),
        corpus=corpus,
        columns={"id": ("key",), "rank": ("rank",)},
    )
    record = import_labels("clicks", source, tmp_path / "out", settings)
    assert record["written"]["documents"] == 2


def test_delimiter_of_a_log_can_be_told(tmp_path: Path) -> None:
    lines = [f"q;a,b{n};1;{n % 2};{n}\n" for n in range(20)]
    source = tmp_path / "log.csv"
    source.write_text("".join(["query;doc_id,sku;rank;clicked;time\n", *lines]), encoding="utf-8")
    clicks = ClickSettings(estimate="counts", min_clicks=1.0)
    settings = ImportSettings(columns={"document": ("doc_id,sku",)}, clicks=clicks)
    with pytest.raises(ConfigError, match=r"the file has 'query;doc_id', 'sku;rank;clicked"):
        import_labels("clicks", source, tmp_path / "out", settings)
    record = import_labels("clicks", source, tmp_path / "out", replace(settings, delimiter=";"))
    assert record["understood"]["files"][0]["columns"]["document"] == ["doc_id,sku"]
    assert record["clicks"]["searches"] == 20


# What a row is


def test_log_of_clicks_alone_tells_no_positions(tmp_path: Path) -> None:
    rows = [row for n in range(40) for row in page("ab", search_id=n) if row["rank"] == 1 + n % 2]
    source = write_rows(tmp_path / "log.jsonl", [{**row, "clicked": 1} for row in rows])
    for chosen in ({}, {"estimate": "ips"}, {"estimate": "pairwise"}):
        with pytest.raises(DataError, match=r"40 of 40 documents shown were clicked.*counts"):
            imported(tmp_path, source, **chosen)
    splits, _ = imported(tmp_path, source, estimate="counts")
    assert set(*(labels.keys() for labels in splits["train"].values())) == {"a", "b"}


@pytest.mark.parametrize("estimate", ["examined", "pairwise", "counts"])
def test_ids_that_are_new_in_each_search_are_no_queries(tmp_path: Path, estimate: str) -> None:
    rows = [
        {"query": "how?" if n % 3 else "How", "query_id": f"u{n}", "shown": ["a", "b"],
         "clicked": ["b"]}
        for n in range(30)
    ]  # fmt: skip
    if estimate == "counts":
        rows = [{"query": row["query"], "query_id": row["query_id"], "doc_id": "b"} for row in rows]
    source = write_rows(tmp_path / "log.jsonl", rows)
    with pytest.raises(DataError, match=r"30 ids for 1 different .* --column query_id=.*search-id"):
        imported(tmp_path, source, estimate=estimate)
    settings = ImportSettings(
        columns={"query_id": ()}, clicks=ClickSettings(estimate="pairwise", min_clicks=1.0)
    )
    if estimate == "pairwise":
        import_labels("clicks", source, tmp_path / "out", settings)
        assert len(load_splits(tmp_path / "out" / "qrels")["train"]) == 2


@pytest.mark.parametrize(
    ("name", "kinds"),
    [
        ("user_action", ["select", "scan"]), ("eventAction", ["a", "b"]),
        ("se_action", ["a", "b"]), ("interactionName", ["a", "b"]), ("event_category", ["a", "b"]),
        ("event_kind", ["1", "2"]), ("behavior", ["a", "b"]), ("activity", ["a", "b"]),
        ("signal_type", ["a", "b"]), ("verb", ["a", "b"]), ("hit_type", ["a", "b"]),
        ("message_type", ["purchase", "impression"]), ("op", ["openResult", "pageView"]),
        ("kind", ["Add to cart", "Results shown"]), ("what", ["view_cart", "add_to_cart"]),
    ],
)  # fmt: skip
def test_kinds_of_events_are_asked_about_under_other_names(
    tmp_path: Path, name: str, kinds: list[str]
) -> None:
    rows = [{"query": "q", "doc_id": f"d{n % 2}", name: kinds[n % 5 > 0]} for n in range(30)]
    source = write_rows(tmp_path / "log.jsonl", rows)
    with pytest.raises(DataError, match=f"'{name}' holds .*, and no column says which rows are c"):
        imported(tmp_path, source, estimate="counts")
    settings = ImportSettings(columns={"clicked": ()}, clicks=ClickSettings(estimate="counts"))
    assert import_labels("clicks", source, tmp_path / "out", settings)["clicks"]["clicks"] == 30


@pytest.mark.parametrize(
    ("name", "values", "way", "flag"),
    [
        ("action_name", ["item_click", "impression"], "write 1 for a click and 0 .*=NAME", "new"),
        ("was_clicked", [1, 0], "clicks: say --column clicked=was_clicked", "was_clicked"),
    ],
)
def test_events_with_ranks_are_asked_which_are_clicks(
    tmp_path: Path, name: str, values: list[Any], way: str, flag: str
) -> None:
    rows = [
        {"query": "q", "doc_id": doc, "rank": rank, "session_id": n, name: values[doc != "b"]}
        for n in range(9)
        for rank, doc in enumerate("abc", start=1)
    ]
    source = write_rows(tmp_path / "log.csv", rows)
    with pytest.raises(DataError, match=f"'{name}' holds .*{way}"):
        searches(source)
    flagged = [{**row, flag: int(row["doc_id"] == "b")} for row in rows]
    log = ClickLog(write_rows(source, flagged), {"clicked": (flag,)})
    assert [(one.shown, [*one.clicked]) for _, one in log.searches(Tally())] == [
        (ranked("abc"), ["b"])
    ] * 9


@pytest.mark.parametrize("name", ["event", "eventType", "action_name"])
def test_rows_of_several_events_are_not_all_clicks(tmp_path: Path, name: str) -> None:
    kinds = ["impression", "click", "impression"]
    rows = [
        {"query": "q", "doc_id": doc, name: kind} for doc, kind in zip("abc", kinds, strict=True)
    ]
    source = write_rows(tmp_path / "log.csv", rows * 3)
    with pytest.raises(DataError, match=f"'{name}' holds click, impression, and no column says"):
        imported(tmp_path, source, estimate="counts")
    settings = ImportSettings(columns={"clicked": ()}, clicks=ClickSettings(estimate="counts"))
    import_labels("clicks", source, tmp_path / "out", settings)
    clicks = write_rows(tmp_path / "clicks.csv", [row for row in rows * 3 if row[name] == "click"])
    assert set(*imported(tmp_path, clicks, estimate="counts")[0]["train"].values()) == {"b"}


@pytest.mark.parametrize(
    ("name", "click", "other", "option"),
    [
        ("isClick", 1, 0, "isClick"), ("was_clicked", True, False, "was_clicked"),
        ("clickFlag", "yes", "no", "clickFlag"), ("click_count", 3, 0, "click_count"),
        ("n_clicks", 4, 1, "n_clicks"), ("click_time", 1.7e9, None, "NAME"),
        ("click_status", 1, -1, "NAME"), ("clicked_doc", "b", "b", "NAME"),
        ("kind", "click", "view", "NAME"), ("activity", "Product Clicked", "Seen", "NAME"),
        ("verb", "click", None, "NAME"), ("event", "open", "view", "NAME"),
        ("kind", "clickResult", "hover", "NAME"), ("clicked_at", 1.7e9, 0, "NAME"),
        ("click_position", 3, None, "NAME"), ("click_rank", 0, -1, "NAME"),
    ],
)  # fmt: skip
@pytest.mark.parametrize("kind", ["csv", "jsonl"])
def test_unknown_columns_that_tell_clicks_are_asked_about(
    tmp_path: Path, name: str, click: Any, other: Any, option: str, kind: str
) -> None:
    rows = [{"query": "q", "doc_id": doc, name: click if doc == "b" else other} for doc in "abc"]
    source = write_rows(tmp_path / f"log.{kind}", rows * 4)
    with pytest.raises(DataError, match=f"'{name}' holds .*--column clicked={option}, or .*ed= if"):
        imported(source.parent, source, estimate="counts")
    counts = ClickSettings(estimate="counts", relevant_share=0.5)
    for column in (() if option == "NAME" else (name,), ()):
        settings = ImportSettings(columns={"clicked": column}, clicks=counts)
        import_labels("clicks", source, tmp_path / "out", settings)
        (of,) = load_splits(tmp_path / "out" / "qrels")["train"].values()
        assert set(of) == (set("b") if column else set("abc"))


@pytest.mark.parametrize(
    ("name", "values"),
    [
        ("click_id", list("xyz")), ("click_time", [1.7e9, 1.8e9]), ("clicked_url", list("ab")),
        ("is_click", [1]), ("was_clicked", ["yes"]), ("click_position", [3, 1, 2]),
        ("kind", ["click"]), ("device", ["phone", "desk"]), ("click_note", [None]),
        ("click_position", [0, 1]), ("clickRank", ["0", "1", "2"]), ("click_index", [0]),
        ("click_x", [0, 310, 12, -4]), ("click_depth", [0, 4, 7]), ("click_source", ["nav", None]),
        ("clickstream_session", ["s", "t", ""]), ("utm_source", ["double click", "google"]),
        ("link_text", ["Click here", "Read more"]), ("event_date", ["1 May", "2 May"]),
        ("eventVersion", [1, 2]), ("cache_hit", [True, False]), ("user_action", ["select"]),
        ("event_action", [f"button {n}" for n in range(12)]), ("view", ["list", "cart"]),
        ("page_type", ["product_view", "home"]), ("status", ["open", "closed"]),
        ("clicked_title", ["one", "two"]), ("title", [f"click {n}" for n in range(12)]),
    ],
)  # fmt: skip
def test_columns_that_every_click_has_are_passed_over(
    tmp_path: Path, name: str, values: list[Any]
) -> None:
    rows: Rows = [
        {"query": "q", "doc_id": f"d{n % 2}", name: values[n % len(values)]} for n in range(12)
    ]
    splits, _ = imported(tmp_path, write_rows(tmp_path / "log.jsonl", rows), estimate="counts")
    assert splits["train"].popitem()[1] == {"d0": 1.0, "d1": 1.0}


def test_times_in_some_files_only_are_asked_about(tmp_path: Path) -> None:
    rows = [{"query": "q", "shown": ["a", "b"], "clicked": ["b"]}] * 3
    write_rows(tmp_path / "in" / "train-1.jsonl", [{**row, "@timestamp": 1.7e9} for row in rows])
    write_rows(tmp_path / "in" / "train-2.jsonl", [{**row, "when": 1.7e9} for row in rows])
    with pytest.raises(
        DataError, match=r"train-1.jsonl has a column of times, train-2.jsonl has n"
    ):
        imported(tmp_path, tmp_path / "in", estimate="pairwise")
    settings = ImportSettings(columns={"time": ()}, clicks=ClickSettings(estimate="pairwise"))
    import_labels("clicks", tmp_path / "in", tmp_path / "out", settings)


def test_rows_that_are_dropped_are_named_before_what_they_leave_undone(tmp_path: Path) -> None:
    rows = [
        {**row, "dwell": "long"} for n in range(20) for row in page("ab", clicked="b", session_id=n)
    ]
    with pytest.raises(
        DataError, match=r"20 of 40 label rows can't be used.*dwell is not a number"
    ):
        imported(tmp_path, write_rows(tmp_path / "log.jsonl", rows))


@pytest.mark.parametrize(
    ("entry", "names"),
    [({"id": 1, "doc_id": "a"}, "'id' and 'doc_id'"), ({"id": 0, "docId": "a"}, "'id' and 'docId'"),
     ({"id": "a", "Position": 2, "rank": 1}, "'Position' and 'rank'"),
     ({"id": "a", "clicked": False, "clicks": 1}, "'clicked' and 'clicks'"),
     ({"id": "a", "click": 1, "dwell": 9, "dwellTime": 8}, "'dwell' and 'dwellTime'"),
     ({"id": "a", "rank": 2, "position": 1}, "'rank' and 'position'")],
)  # fmt: skip
def test_objects_shown_with_two_names_for_one_thing_are_refused(
    tmp_path: Path, entry: dict[str, Any], names: str
) -> None:
    rows = [{"query": "q", "shown": [entry], "clicked": []}] * 3
    with pytest.raises(DataError, match=f"document shown has {names} with different values"):
        imported(tmp_path, write_rows(tmp_path / "log.jsonl", rows))


def test_clicks_are_counted_in_objects_shown(tmp_path: Path) -> None:
    rows = [{"query": "q", "shown": [{"id": "a", "clicks": 0}, {"id": "b", "clicks": 2}]}]
    assert searches(write_rows(tmp_path / "log.jsonl", rows)) == [({"a": 1, "b": 2}, ["b"])]


def test_keys_of_objects_shown_are_known_like_columns(tmp_path: Path) -> None:
    entries = [
        {"docId": "b", "Position": 2, "isClicked": True, "dwellTime": 41},
        {"doc_id": "a", "rank": 1, "clicked": True, "clicks": 3, "dwell": 40},
        {"itemId": "c", "POSITION": 3, "Clicked": "no"},
    ]
    rows = [{"query": "q", "shown": entries, "clicked": [{"docID": "c", "dwell_s": 7}]}] * 3
    log = ClickLog(write_jsonl(tmp_path / "log.jsonl", rows), {}, chosen=ClickSettings())
    found = [one for _, one in log.searches(Tally())]
    assert [one.shown for one in found] == [{"b": 2, "a": 1, "c": 3}] * 3
    assert [one.clicked for one in found] == [{"b": 41.0, "a": 40.0, "c": 7.0}] * 3


def objects(key: str, values: list[Any], **more: Any) -> Rows:
    """Searches whose documents, a, b and so on, have a key with these values."""
    entries = [{"id": doc, key: value} for doc, value in zip("abcd", values, strict=False)]
    return [{"query": "q", "shown": entries, **more}] * 9


@pytest.mark.parametrize("key", ["resultRank", "pos", "position_in_list"])
def test_ranks_under_an_unknown_key_are_asked_about_unless_the_list_is_in_their_order(
    tmp_path: Path, key: str
) -> None:
    def log(values: list[Any], **more: Any) -> Path:
        return write_jsonl(tmp_path / "log.jsonl", objects(key, values, clicked=["b"], **more))

    for values in ([3, 1, 2], ["2", "0", "1"], [11, 12, 13]):
        with pytest.raises(DataError, match=f"documents shown have '{key}', and are not in its o"):
            searches(log(values))
        assert searches(log(values), estimate="counts")
        assert searches(log(values, ranks=[3, 1, 2])) == [({"a": 3, "b": 1, "c": 2}, ["b"])] * 9
    for values in ([0, 1, 2], [1, 2, 3], [0.5, 0.1, 0.2], [2, 2, 1], [True, False], [3, None, 1]):
        assert searches(log(values)) == [(ranked("abc"[: len(values)]), ["b"])] * 9


@pytest.mark.parametrize("key", ["was_clicked", "selected", "clickCount"])
def test_clicks_under_an_unknown_key_are_told_with_the_keys(tmp_path: Path, key: str) -> None:
    rows = [
        {"query": "q", "shown": [{"id": "a"}, {"id": "b", key: 1}]}, *objects(key, [0, 1])
    ]  # fmt: skip
    source = write_jsonl(tmp_path / "log.jsonl", rows)
    with pytest.raises(DataError, match=f"the documents shown, which have 'id', '{key}'; call the"):
        imported(tmp_path, source, estimate="pairwise")
    assert len(searches(write_jsonl(source, objects(key, [0, 1], clicked=["b"])))) == 9


def test_objects_without_a_known_id_are_told_with_their_keys(tmp_path: Path) -> None:
    rows = [{"query": "q", "shown": [{"sku": "a", "clicked": 1}, {"sku": "b", "clicked": 0}]}] * 9
    source = write_jsonl(tmp_path / "log.jsonl", rows)
    with pytest.raises(DataError, match="no id under a name that is known, but 'sku', 'clicked'"):
        imported(tmp_path, source, estimate="pairwise")


def test_types_of_databases_are_read_from_parquet(tmp_path: Path) -> None:
    rows = [
        {**row, "search_id": Decimal(n), "rank": Decimal(row["rank"]),
         "dwell": timedelta(seconds=40), "time": Decimal(1_700_000_000 + n)}
        for n in range(3) for row in page("ab", clicked="b")
    ]  # fmt: skip
    log = ClickLog(write_rows(tmp_path / "log.parquet", rows), {}, chosen=ClickSettings())
    found = [one for _, one in log.searches(Tally())]
    assert [one.time for one in found] == [1_700_000_000, 1_700_000_001, 1_700_000_002]
    assert [one.clicked for one in found] == [{"b": 40.0}] * 3


@pytest.mark.parametrize("whole", [True, False])
@pytest.mark.parametrize("first", [0, 1])
def test_ranks_that_begin_anew_on_each_page_are_refused(
    tmp_path: Path, whole: bool, first: int
) -> None:
    def log(second: int) -> Path:
        rows = [
            row
            for n in range(5)
            for number, start in enumerate((1, second))
            for row in page("ab", clicked="b", first=start, search_id=n, page=first + number)
        ]
        if whole:
            rows = [
                {"query": "q", "page": first + number, "ranks": [start, start + 1],
                 "shown": ["a", "b"], "clicked": ["b"]}
                for number, start in enumerate((1, second))
            ]  # fmt: skip
        return write_rows(tmp_path / "log.jsonl", rows)

    with pytest.raises(DataError, match=rf"page {first + 1} has rank 1, as page {first}; .*page="):
        searches(log(1))
    settings = {"page": ()}
    assert list(ClickLog(log(1), settings, chosen=ClickSettings()).searches(Tally()))
    assert searches(log(3))


@pytest.mark.parametrize("name", ["start", "offset"])
def test_ranks_that_begin_anew_where_a_page_starts_are_refused(tmp_path: Path, name: str) -> None:
    def log(starts: list[Any]) -> Path:
        pages = [
            page("ab", clicked="b", search_id=n, **{name: start}) for n, start in enumerate(starts)
        ]
        return write_rows(tmp_path / "log.csv", [row for one in pages for row in one])

    with pytest.raises(DataError, match=r"page 10 has rank 1, as page 0; .*--column page="):
        searches(log([0, 10, 0, 20]))
    for starts in ([0, 0, 0], [1_700_000_000, 1_700_000_060], [0, 1, 2], [0, 7, 12], ["09:30"] * 2):
        assert len(searches(log(starts))) == len(starts)


def test_dwell_in_milliseconds_is_asked_about(tmp_path: Path) -> None:
    rows = [{**row, "dwell": 9_000} for n in range(5) for row in page("ab", search_id=n)]
    lists = [{"query": "q", "shown": ["a"], "clicked": ["a"], "dwell": [8_000]}]
    for number, log in enumerate((rows, lists)):
        source = write_rows(tmp_path / f"{number}.jsonl", log)
        with pytest.raises(DataError, match=r"milliseconds.*--min-dwell 30000"):
            searches(source, min_dwell=30.0)
        assert searches(source, min_dwell=30_000.0)
        assert searches(source)
