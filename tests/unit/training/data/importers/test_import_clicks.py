"""Click logs: position bias is found and taken out, and what a log says becomes labels."""

import json
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.support.clicks import ClickWorld, make_clicks
from tests.support.label_files import write_rows
from tests.support.sets import write_jsonl
from trimtab_training.data.dataset import Dataset
from trimtab_training.data.importers import ClickSettings, ImportSettings, import_labels
from trimtab_training.data.importers.click_log import ClickLog
from trimtab_training.data.importers.clicks import compare_pairs, judge
from trimtab_training.data.importers.exposure_table import ExposureTable
from trimtab_training.data.importers.gather import Search
from trimtab_training.data.importers.propensity import (
    Exposures,
    Propensities,
    Relevance,
    estimate_relevance,
    harvest_propensities,
    shrink,
)
from trimtab_training.data.importers.tally import Tally
from trimtab_training.data.importers.texts import Text
from trimtab_training.data.qrels import Qrels, load_splits
from trimtab_training.errors import ConfigError, DataError

Imported = tuple[Path, dict[str, Qrels], dict[str, Any]]
CLOSE = 0.25  # relative error of a propensity that rests on 300 clicks, its chain on as many


def exposures_of(world: ClickWorld) -> Exposures:
    """Count what a world's log shows."""
    shown, clicks = np.zeros((*world.relevance.shape, 10)), np.zeros((*world.relevance.shape, 10))
    place = (world.queries[:, None], world.shown, np.arange(10)[None])
    np.add.at(shown, place, 1)
    np.add.at(clicks, place, world.clicked)
    query, document, rank = np.nonzero(shown)
    counts = shown[query, document, rank], clicks[query, document, rank]
    return Exposures(query, document, rank + 1, *counts)


@pytest.fixture(scope="module", params=[0.5, 1.0, 1.5], ids="decay {}".format)
def world(request: pytest.FixtureRequest) -> ClickWorld:
    return make_clicks(20_000, decay=request.param)


@pytest.fixture(scope="module")
def exposures(world: ClickWorld) -> Exposures:
    return exposures_of(world)


@pytest.fixture(scope="module")
def harvested(exposures: Exposures) -> Propensities:
    return harvest_propensities(exposures, 10)


def test_propensities_are_recovered_from_a_log(world: ClickWorld, harvested: Propensities) -> None:
    found = harvested
    trusted = found.swapped_clicks > 300
    assert trusted.sum() >= 4
    error = np.abs(found.values / world.propensities - 1)
    assert error[trusted].max() < CLOSE
    assert np.nanmax(error) < 0.5


@pytest.mark.parametrize("inverse", [True, False])
def test_relevance_is_recovered_better_than_by_click_rates(
    world: ClickWorld, exposures: Exposures, harvested: Propensities, inverse: bool
) -> None:
    rank_free = np.ones(10)  # clicks over times shown, which position bias spoils
    raw = estimate_relevance(exposures, rank_free, clip=0.0, inverse=False)
    found = estimate_relevance(exposures, harvested.values, clip=0.1, inverse=inverse)
    if not inverse:
        found, _, _ = shrink(found)

    def error(estimate: Relevance) -> float:
        truth = world.relevance[estimate.query, estimate.document]
        labelled = estimate.clicks >= 2  # the pairs that become relevant labels
        return float(np.abs(estimate.relevance - truth)[labelled].mean())

    assert error(found) < 0.6 * error(raw)


def test_shrinking_helps_where_pairs_are_rare() -> None:
    world = make_clicks(2_000, n_queries=200)
    found = estimate_relevance(exposures_of(world), world.propensities, clip=0.1, inverse=False)
    shrunk, prior, mean = shrink(found)
    truth = world.relevance[found.query, found.document]
    assert np.abs(shrunk.relevance - truth).mean() < np.abs(found.relevance - truth).mean()
    assert prior > 0
    assert 0 < mean < 1
    assert (np.abs(shrunk.relevance - mean) <= np.abs(found.relevance - mean) + 1e-12).all()


def test_unbiased_where_there_is_no_bias() -> None:
    flat = make_clicks(20_000, decay=0.0)
    found = harvest_propensities(exposures_of(flat), 10)
    assert np.abs(found.values - 1).max() < CLOSE


def test_engine_that_never_changes_tells_no_propensities() -> None:
    found = harvest_propensities(exposures_of(make_clicks(5_000, wobble=0.0)), 10)
    assert np.isnan(found.values).all()


def test_rank_without_swaps_has_no_propensity_and_its_rows_do_not_count() -> None:
    exposures = Exposures(
        np.array([0, 0, 0]), np.array([0, 0, 1]), np.array([1, 2, 3]),
        np.array([100.0, 100.0, 50.0]), np.array([40.0, 20.0, 30.0]),
    )  # fmt: skip
    found = harvest_propensities(exposures, 3)
    assert np.allclose(found.values[:2], [1, 0.5], atol=1e-3)
    assert np.isnan(found.values[2])
    estimate = estimate_relevance(exposures, found.values, clip=0.1, inverse=False)
    assert estimate.document.tolist() == [0]
    assert np.allclose(estimate.relevance, [60 / 150], atol=1e-3)


def test_clipping_bounds_what_a_click_weighs() -> None:
    exposures = Exposures(*(np.array([one]) for one in (0, 0, 2, 10.0, 1.0)))
    for clip, weight in ((0.0, 100.0), (0.1, 10.0)):
        found = estimate_relevance(exposures, np.array([1, 0.01]), clip=clip, inverse=True)
        assert np.allclose(found.relevance, [weight / 10])


# From a log to a dataset


def imported(
    tmp_path: Path, source: Path, columns: dict[str, tuple[str, ...]] | None = None, **clicks: Any
) -> tuple[dict[str, Qrels], dict[str, Any]]:
    settings = ImportSettings(clicks=ClickSettings(**clicks), columns=columns or {})
    record = import_labels("clicks", source, tmp_path / "out", settings)
    return load_splits(tmp_path / "out" / "qrels"), record


@pytest.fixture(scope="module")
def log(tmp_path_factory: pytest.TempPathFactory) -> tuple[ClickWorld, Path]:
    world = make_clicks(800, n_queries=12)
    return world, world.write_whole(tmp_path_factory.mktemp("log") / "log.jsonl")


@pytest.fixture(scope="module")
def examined(log: tuple[ClickWorld, Path], tmp_path_factory: pytest.TempPathFactory) -> Imported:
    """The log imported with the default estimate: its folder, labels and record."""
    place = tmp_path_factory.mktemp("examined")
    return place / "out", *imported(place, log[1])


@pytest.mark.parametrize("estimate", ["examined", "ips", "pairwise"])
def test_log_becomes_a_dataset(
    tmp_path: Path,
    log: tuple[ClickWorld, Path],
    examined: Imported,
    estimate: str,
) -> None:
    world, path = log
    if estimate == ClickSettings().estimate:
        folder, splits, record = examined
    else:
        folder, (splits, record) = tmp_path / "out", imported(tmp_path, path, estimate=estimate)
    assert record["clicks"]["estimate"] == estimate
    assert set(splits) == {"train", "test"}  # a dev split of 12 queries at most is none
    texts = dict(Dataset("out", folder, splits).iter_queries())
    assert set(texts) == {query for qrels in splits.values() for query in qrels}
    means = Counter[str]()
    counts = Counter[str]()
    for qrels in splits.values():
        for query, labels in qrels.items():
            number = int(texts[query].removeprefix("what about ").removesuffix("?"))
            for doc, grade in labels.items():
                assert 0 <= grade <= 1
                kind = "relevant" if grade > 0 else "judged"
                counts[kind] += 1
                means[kind] += world.relevance[number, int(doc.partition("-")[2])]
    assert means["relevant"] / counts["relevant"] > 2 * means["judged"] / counts["judged"]
    assert record["clicks"]["searches"] == 800


def test_later_searches_are_in_later_splits(tmp_path: Path) -> None:
    rows = [
        {"query": f"q{time // 10}", "shown": ["a", "b"], "clicked": ["b"], "time": 1000 + time}
        for time in range(100)
    ]
    source = write_jsonl(tmp_path / "log.jsonl", rows)
    splits, record = imported(tmp_path, source, estimate="pairwise")
    texts = dict(Dataset("out", tmp_path / "out", splits).iter_queries())
    assert {name: sorted(texts[one] for one in of) for name, of in splits.items()} == {
        "train": [f"q{n}" for n in range(8)], "test": ["q8", "q9"],
    }  # fmt: skip
    assert record["clicks"]["searches_by_split"] == [70, 10, 20]
    assert record["clicks"]["dev_joined_train"] == {"queries": 1, "at_least": 100}
    splits, _ = imported(tmp_path, source, estimate="pairwise", train_until=1050.0)
    assert {name: len(of) for name, of in splits.items()} == {"train": 5, "test": 5}


def test_query_of_several_times_stays_in_one_split_by_hash(
    examined: Imported,
) -> None:
    _, splits, record = examined
    sizes = {name: len(qrels) for name, qrels in splits.items()}
    assert sum(sizes.values()) == len(set().union(*splits.values())) == 12
    assert sizes["train"] > sizes["test"] > 0
    assert "query has labels in another split" in {one["reason"] for one in record["left_out"]}


def test_log_without_times_is_one_split(tmp_path: Path) -> None:
    rows = [{"query": "q", "shown": ["a", "b"], "clicked": ["b"]}] * 10
    source = write_jsonl(tmp_path / "log.jsonl", rows)
    splits, _ = imported(tmp_path, source, estimate="pairwise")
    assert {name: list(of.values()) for name, of in splits.items()} == {
        "train": [{"b": 1.0, "a": 0.0}]
    }
    with pytest.raises(ConfigError, match="the log has no time column"):
        imported(tmp_path, source, estimate="pairwise", train_until=5.0)


def test_log_whose_times_do_not_part_it_is_refused(tmp_path: Path) -> None:
    rows = [{"query": "q", "shown": ["a", "b"], "clicked": ["b"], "time": "2025-03-01"}] * 9
    source = write_jsonl(tmp_path / "log.jsonl", rows)
    with pytest.raises(DataError, match="give --train-until"):
        imported(tmp_path, source, estimate="pairwise")
    splits, record = imported(tmp_path, source, estimate="pairwise", dev_share=0.0, test_share=0.0)
    assert set(splits) == {"train"}
    assert record["clicks"]["splits_begin"] == [None, None]


def test_log_that_does_not_tell_bias_from_relevance_is_refused(tmp_path: Path) -> None:
    rows = [{"query": "q", "shown": ["a", "b"], "clicked": ["b"]}] * 50
    source = write_jsonl(tmp_path / "log.jsonl", rows)
    with pytest.raises(DataError, match=r"give --propensities FILE, or --estimate pairwise"):
        imported(tmp_path, source)
    (tmp_path / "p.json").write_text("[1, 0.5]", encoding="utf-8")
    splits, _ = imported(tmp_path, source, propensities=tmp_path / "p.json", estimate="ips")
    assert list(splits["train"].values()) == [{"b": 1.0, "a": 0.0}]


@pytest.mark.parametrize("content", ["[]", "{}", "[2]", "[0, 1]", "[[1]]", "x", '["a"]'])
def test_unusable_propensities_are_refused(tmp_path: Path, content: str) -> None:
    source = write_jsonl(tmp_path / "log.jsonl", [{"query": "q", "shown": ["a"], "clicked": ["a"]}])
    (tmp_path / "p.json").write_text(content, encoding="utf-8")
    with pytest.raises(DataError, match=r"p\.json"):
        imported(tmp_path, source, propensities=tmp_path / "p.json")


def test_short_clicks_count_as_none(tmp_path: Path) -> None:
    rows = [
        {"query": "q", "shown": ["a", "b"], "clicked": ["b"], "dwell": [seconds]}
        for seconds in (1, 2, 40, 50) * 6
    ]
    source = write_jsonl(tmp_path / "log.jsonl", rows)
    splits, record = imported(tmp_path, source, estimate="pairwise", min_dwell=30.0)
    assert record["clicks"]["clicks"] == 12
    assert record["left_out"][0] == {
        "reason": "a click shorter than --min-dwell", "count": 12, "first": "log.jsonl:1",
    }  # fmt: skip
    assert splits["train"]
    bare = write_jsonl(tmp_path / "bare.jsonl", [{"query": "q", "shown": ["a"], "clicked": ["a"]}])
    with pytest.raises(ConfigError, match="has no dwell column"):
        imported(tmp_path, bare, estimate="pairwise", min_dwell=30.0)


def test_support_decides_what_is_judged() -> None:
    found = Relevance(
        np.zeros(5, int), np.arange(5), np.array([9.0, 2, 1, 0, 2]),
        np.array([10.0, 100, 3, 12, 4]), np.array([0.9, 0.02, 0.33, 0.0, 0.5]),
    )  # fmt: skip
    relevant, judged = judge(found, ClickSettings())
    assert relevant.tolist() == [True, False, False, False, True]
    assert (judged & ~relevant).tolist() == [False, True, False, True, False]


# The log's forms

ONE = Search(
    query=Text("q"),
    shown={"a": 1, "b": 2, "c": 3},
    clicked={"b": 31.0},
    time=1_700_000_000.0,
)


@pytest.mark.parametrize(
    "rows",
    [
        [{"shown": ["a", "b", "c"], "clicked": ["b"], "dwell": [31], "time": 1_700_000_000}],
        [{"shown": ["c", "a", "b"], "ranks": [3, 1, 2], "clicked": [{"id": "b", "dwell": 31}],
          "time": "2023-11-14T22:13:20Z"}],
        [{"results": [{"id": "b", "rank": 2, "clicked": True, "dwell_s": 31},
                      {"id": "a", "rank": 1}, {"id": "c", "rank": 3}],
          "clicks": None, "timestamp": 1_700_000_000_000}],
        [{"shown": "a|b|c", "clicked": "b", "dwell": "31", "ts": "2023-11-14 22:13:20+00:00"}],
        [{"shown": "a b c", "clicked": '["b"]', "dwell": {"b": 31}, "time": 1.7e18}],
        [{"search_id": 5, "doc_id": doc, "rank": rank, "clicked": int(doc == "b"),
          "dwell_time": 31 if doc == "b" else None, "time": "2023-11-14T22:13:20"}
         for rank, doc in ((1, "a"), (2, "b"), (3, "c"))],
    ],
    ids=["lists", "ranks", "objects", "bars", "blanks", "rows"],
)  # fmt: skip
@pytest.mark.parametrize("kind", ["jsonl", "parquet"])
def test_logs_come_in_many_forms(tmp_path: Path, rows: list[dict[str, Any]], kind: str) -> None:
    source = write_rows(tmp_path / f"log.{kind}", [{"query": "q", **row} for row in rows])
    assert [search for _, search in ClickLog(source, {}).searches(Tally())] == [ONE]


def test_csv_logs_hold_lists_as_text(tmp_path: Path) -> None:
    source = tmp_path / "log.csv"
    source.write_text('query,shown,clicked,time\nq,"[""a"", ""b""]",b,5\nq,a b,,6\n', "utf-8")
    found = [search for _, search in ClickLog(source, {}).searches(Tally())]
    assert [(one.shown, one.clicked, one.time) for one in found] == [
        ({"a": 1, "b": 2}, {"b": None}, 5.0), ({"a": 1, "b": 2}, {}, 6.0),
    ]  # fmt: skip


def test_unusable_rows_of_a_log_are_dropped_by_reason(tmp_path: Path) -> None:
    good = {"query": "q", "shown": ["a"], "clicked": [], "time": 1}
    bad = [
        {**good, "query": " "}, {**good, "shown": []}, {**good, "time": "yesterday"},
        {**good, "shown": [{"id": "a", "rank": -1}]}, {**good, "clicked": 7},
        {**good, "shown": [""]},
    ]  # fmt: skip
    tally = Tally()
    source = write_jsonl(tmp_path / "log.jsonl", [good, *bad])
    assert len(list(ClickLog(source, {}).searches(tally))) == 1
    assert set(tally.dropped) == {
        "empty query", "nothing was shown",
        "time is neither ISO 8601 nor a number (--time-format names another form)",
        "rank is not a whole number from 1", "clicked is not a list", "document id is empty",
    }  # fmt: skip


def test_click_on_what_was_not_shown_is_left_out(tmp_path: Path) -> None:
    rows = [
        {"query": "q", "shown": ["a", "b"], "clicked": ["b", "z"] if n == 4 else ["b"]}
        for n in range(10)
    ]
    source = write_jsonl(tmp_path / "log.jsonl", rows)
    splits, record = imported(tmp_path, source, estimate="pairwise")
    assert list(splits["train"].values()) == [{"b": 1.0, "a": 0.0}]
    assert record["left_out"][0]["reason"] == "a click on a document that was not shown"


def test_clicks_win_over_what_was_passed_over() -> None:
    search = Search(Text("q"), {"a": 1, "b": 2, "c": 3, "d": 4, "e": 5}, {"c": None})
    outcome = Counter(compare_pairs(search))
    assert outcome == {
        ("c", True): 3, ("a", False): 1, ("b", False): 1, ("d", False): 1,
    }  # fmt: skip


def test_counts_add_up_whenever_they_are_compacted(monkeypatch: pytest.MonkeyPatch) -> None:
    rows = np.random.default_rng(0).integers([0, 0, 0, 1, 0], [3, 4, 4, 4, 2], size=(500, 5))
    tables = []
    for limit in (7, 10_000):
        monkeypatch.setattr("trimtab_training.data.importers.exposure_table._COMPACT_AT", limit)
        table = ExposureTable()
        for row in rows.tolist():
            table.add(*row[:4], float(row[4]))
        tables.append(table)
    for split in range(3):
        one, other = (table.exposures(split) for table in tables)
        for name in one.__dataclass_fields__:
            assert (getattr(one, name) == getattr(other, name)).all()
        assert one.shown.sum() == (rows[:, 0] == split).sum()


def test_record_says_what_the_estimate_rests_on(
    examined: Imported,
) -> None:
    folder, _, record = examined
    left = json.loads((folder / "import.json").read_text(encoding="utf-8"))["clicks"]
    assert left == record["clicks"]
    assert left["propensities"][0] == 1
    assert len(left["swapped_clicks"]) == len(left["propensities"]) == 10
    assert left["prior"]["train"]["examinations"] > 0


def test_one_click_that_wins_many_comparisons_is_one_click(tmp_path: Path) -> None:
    rows = [{"query": "often", "shown": list("abcd"), "clicked": ["a"]} for _ in range(30)]
    rows += [{"query": "often", "shown": ["a"], "clicked": ["a"]}]  # with nothing to win against
    rows += [{"query": "once", "shown": list("abcdef"), "clicked": ["f"]}]
    source = write_jsonl(tmp_path / "log.jsonl", rows)
    for least, relevant in ((1.0, "af"), (2.0, "a"), (31.0, "a"), (32.0, "")):
        if not relevant:
            with pytest.raises(DataError):
                imported(tmp_path, source, estimate="pairwise", min_clicks=least)
            continue
        splits, _ = imported(tmp_path, source, estimate="pairwise", min_clicks=least)
        grades = [labels.items() for labels in splits["train"].values()]
        assert {name for of in grades for name, grade in of if grade > 0} == set(relevant)


def test_dev_split_of_single_clicks_is_none_for_more(tmp_path: Path) -> None:
    rows = [
        {"query": f"q{n}", "shown": list("abcd"), "clicked": ["d"], "time": 1_700_000_000 + n}
        for n in range(1_100)
        for _ in range(1 + (n < 700))
    ]
    source = write_jsonl(tmp_path / "log.jsonl", rows)
    for least, n_dev in ((1.0, None), (2.0, 0)):
        _, record = imported(
            tmp_path, source, estimate="pairwise", min_clicks=least, train_until=1_700_000_700.0,
            dev_until=1_700_000_900.0,
        )  # fmt: skip
        joined = record["clicks"].get("dev_joined_train", {})
        assert joined.get("queries") == n_dev
