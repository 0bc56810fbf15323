"""The report: what it says, and that it is one sound file whatever the texts hold."""

import logging
import os
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import replace

from tests.support.html_page import HtmlPage
from tests.support.records import (
    make_example,
    make_fit,
    make_manifest,
    make_metrics,
    make_old_fit,
    make_record,
    make_sweep,
)
from trimtab.model.manifest import Manifest
from trimtab_training.evaluation.record import Evaluation
from trimtab_training.report import page as report_page
from trimtab_training.report import require_packages, write_report
from trimtab_training.report.drawing import Plot
from trimtab_training.report.model_card import write_card

OPTIONAL = ("fit", "latency", "approximate", "size_curve", "model", "verdict")
PLOTS = {"differences", "changes", "frontier", "curves", "sizes", "recall"}
CHANGED = {"wins": 102, "losses": 17, "ties": 181}
BAD = ("\x00", "\x1b[31m", "\x85", "\ud800", "\uffff")
HOSTILE = "<script>alert(1)</script>&lt;\"'><img src=x onerror=alert(2)></textarea>{{ 7 * 7 }}"
DRAWN: dict[str, Plot] = {}


@pytest.fixture(scope="module", autouse=True)
def _draw_once() -> Iterator[None]:
    """Draw what stands on many pages once: a plot is a function of its numbers."""

    def once(draw: Callable[[Any], Plot]) -> Callable[[Any], Plot]:
        def drawn(numbers: Any) -> Plot:
            key = f"{draw.__name__} {numbers!r}"
            if key not in DRAWN:
                DRAWN[key] = draw(numbers)
            return DRAWN[key]

        return drawn

    with pytest.MonkeyPatch.context() as patch:
        for name in PLOTS:
            patch.setattr(report_page, f"plot_{name}", once(getattr(report_page, f"plot_{name}")))
        yield


@pytest.fixture(scope="module")
def html() -> str:
    return write_report(make_record(), make_manifest())


@pytest.fixture(scope="module")
def page(html: str) -> HtmlPage:
    return HtmlPage(html)


def plain_record(**changes: Any) -> Evaluation:
    """Leave the optional parts out, and changes: they take most of the time to draw."""
    unchanged = {"wins": 0, "losses": 0, "ties": 300}
    return make_record(**{**dict.fromkeys(OPTIONAL), **unchanged, **changes})


def read(record: Evaluation, manifest: Manifest | None = None) -> HtmlPage:
    page = HtmlPage(write_report(record, manifest))
    assert page.problems == []
    assert page.loads == []
    return page


def plots_of(page: HtmlPage) -> set[str]:
    return {
        given["aria-labelledby"].split("-title")[0]
        for name, given in page.elements
        if name == "svg"
    }


def test_page_is_sound_and_loads_nothing(html: str, page: HtmlPage) -> None:
    assert html.startswith("<!DOCTYPE html>")
    assert page.problems == []
    assert page.loads == []
    assert not page.named("script")
    assert page.named("html") == [{"lang": "en"}]


def test_page_is_a_pure_function_of_the_record(html: str) -> None:
    DRAWN.clear()
    assert write_report(make_record(), make_manifest()) == html


def test_decision_and_sentence_stand_first(page: HtmlPage) -> None:
    assert page.named("section")[0]["class"] == "verdict ship"
    assert "docs: ship · Trimtab report" in page.text
    top = page.text.partition("Does it help?")[0]
    assert "Ship nDCG@10 rises from 0.600 to 0.700, and no slice shows a loss." in top
    assert "a slice stays: 0.000 (\N{MINUS SIGN}0.010 to +0.010)" in top


@pytest.mark.parametrize("decision", ["ship", "ship with care", "do not ship"])
def test_each_decision_has_a_band_of_its_own(decision: str) -> None:
    verdict = {"decision": decision, "sentence": f"{decision.capitalize()}: so.", "reasons": []}
    html = write_report(plain_record(verdict=verdict), None)
    assert f'<section class="verdict {decision.replace(" ", "-")}"' in html


def test_record_without_a_verdict_is_judged_here() -> None:
    page = read(plain_record(verdict=None, approximate=None, **CHANGED))
    assert page.named("section")[0]["class"] == "verdict ship"


def test_every_metric_has_both_values_interval_and_p(page: HtmlPage) -> None:
    for words in ("nDCG@10", "MRR@10", "hit rate at 10", "recall@100"):
        assert f"{words} 0.6000 0.7000 +0.1000 +0.0800 to +0.1200 < 0.001" in page.text


def test_slices_are_shown_with_their_size(page: HtmlPage) -> None:
    assert "200 queries about seen documents nDCG@10 0.6000 0.7500 +0.1500" in page.text
    assert "100 queries about unseen documents nDCG@10 0.6000 0.6300 +0.0300" in page.text


def test_slice_of_all_queries_is_not_repeated() -> None:
    slices = {
        "seen_documents": {"n_queries": 0, "metrics": None},
        "unseen_documents": {"n_queries": 300, "metrics": make_metrics(0.1)},
    }
    text = read(plain_record(slices=slices)).text
    assert text.count("MRR@10 0.6000 0.7000") == 1
    assert "300 queries about unseen documents: all of them" in text


def test_regressions_show_what_was_found_before_and_after(page: HtmlPage) -> None:
    start = page.text.index("The worst regressions")
    shown = page.text[start : start + 600]
    assert "query number 0" in shown
    assert "nDCG@10 0.75 → 0.25 · first relevant document: rank 1 → below 100" in shown
    assert "Found before, by the raw query ✔ relevant d0-0 document 0" in shown
    assert "Found after, by the adapted query d0-3 document 3" in shown


def test_half_of_the_regressions_wait_behind_a_click(page: HtmlPage) -> None:
    assert "5 more regressions" in page.text
    assert "7 more improvements" in page.text
    assert all(f"query number {number}" in page.text for number in range(10))


def test_what_was_wanted_is_told_where_neither_found_it() -> None:
    example = make_example(1)
    missed = {"doc_id": "lost", "text": "the lost one", "is_relevant": True}
    page = read(plain_record(regressions=[{**example, "relevant": [missed]}]))
    assert "Wanted: lost the lost one" in page.text


def test_query_that_found_nothing_says_so() -> None:
    page = read(plain_record(regressions=[{**make_example(1), "found_before": []}]))
    assert "Found before, by the raw query nothing Found after" in page.text


def test_every_plot_has_title_and_text_in_words(page: HtmlPage) -> None:
    assert plots_of(page) == PLOTS
    for given in page.named("svg"):
        assert given["role"] == "img"
    ids = {given.get("id") for _, given in page.elements}
    assert {f"{name}-{part}" for name in PLOTS for part in ("title", "text")} <= ids


def test_every_table_has_a_caption_and_named_columns(page: HtmlPage) -> None:
    assert len(page.named("caption")) == len(page.named("table")) >= 6
    assert all("scope" in given for given in page.named("th"))


def test_headings_never_skip_a_level(page: HtmlPage) -> None:
    levels = [int(name[1]) for name, _ in page.elements if re.fullmatch(r"h\d", name)]
    assert levels[0] == 1
    assert levels.count(1) == 1
    assert all(after <= before + 1 for before, after in pairwise(levels))


def test_command_recipe_hashes_and_versions_are_given(page: HtmlPage, html: str) -> None:
    assert "trimtab fit data \\ --embeddings data/emb \\ -o models/docs" in page.text
    assert "trimtab evaluate models/docs data" in page.text
    for words in ("1a" * 32, "2b" * 32, "ab" * 32, "torch 2.13.0", "model file (0.61 MB)"):
        assert words in page.text
    assert "epochs = 40\nblends = [0.5, 1.0]\n" in html


def test_trials_of_different_kinds_share_one_table(page: HtmlPage) -> None:
    assert "unlabelled weight anchor objective family 1.0 1.0 0.1444 0.0 1.0 0.0857" in page.text
    assert "composed of gain linear 0.1444 linear+memory 0.1512" in page.text
    assert "share gain 0.0 0.0 0.5 0.0801 1.0 0.1444" in page.text


def test_index_says_what_to_raise(page: HtmlPage) -> None:
    assert "from efSearch 19 on" in page.text
    assert "16 (as served) 0.9375 0.9250 160 176" in page.text


@pytest.mark.parametrize(
    ("restores", "words"),
    [(None, "No efSearch that was tried"), (16, "without a change"), (8, "without a change")],
)
def test_index_says_where_nothing_helps_or_nothing_is_needed(
    restores: int | None, words: str
) -> None:
    assert words in read(plain_record(approximate=make_sweep(restores=restores))).text


def test_compressed_index_is_called_so() -> None:
    sweep = make_sweep(lossy=True)
    assert "keeps vectors compressed" in read(plain_record(approximate=sweep)).text


@pytest.mark.parametrize("key", OPTIONAL)
def test_page_does_without_any_optional_part(key: str) -> None:
    read(make_record(**{key: None}), make_manifest())


def test_page_does_without_all_optional_parts() -> None:
    page = read(make_record(**dict.fromkeys(OPTIONAL)))
    assert plots_of(page) == {"differences", "changes"}
    assert "does not stand beside the model" in page.text


def test_fit_of_version_0_1_is_shown() -> None:
    page = read(plain_record(fit=make_old_fit(), **CHANGED), make_manifest())
    assert plots_of(page) == {"differences", "changes", "curves"}
    assert "family epochs linear 12" in page.text
    assert "composed of gain linear 0.1 linear+memory 0.2" in page.text


def test_page_of_no_adapter_shows_reason_and_no_changes() -> None:
    record = make_record(
        metrics=make_metrics(0.0), wins=0, losses=0, ties=300, regressions=[], improvements=[],
        model=None, approximate=None, verdict=None, size_curve=None,
        fit=make_fit(helps=False, verdict="No adapter helps here.", curves=[[]]),
    )  # fmt: skip
    page = read(record)
    assert page.named("section")[0]["class"] == "verdict do-not-ship"
    assert "No adapter helps here." in page.text
    assert "tried for 34 s" in page.text
    assert not {"scores", "latency"} & {given.get("id") for _, given in page.elements}
    assert plots_of(page) == {"differences"}


def test_raw_queries_of_another_width_have_no_base() -> None:
    side = {"mean": 0.5, "quantiles": {"0.5": 0.5}}
    page = read(plain_record(score_shift={"rank_1": {"adapted": side}}, verdict=None))
    assert "raw queries can't be searched with" in page.text
    assert "differences" not in plots_of(page)


def test_other_data_than_the_fits_is_said() -> None:
    fit = make_fit(curves=[])
    assert "fitted on articles ." in read(plain_record(fit=fit, dataset="letters")).text
    assert "fitted on" not in read(plain_record(fit=fit)).text


def test_texts_can_bring_no_markup_in() -> None:
    example = make_example(1, query=HOSTILE, text=HOSTILE)
    example["query_id"] = example["found_after"][0]["doc_id"] = HOSTILE
    fit = make_fit(
        curves=[], verdict=HOSTILE, command=f"trimtab fit '{HOSTILE.replace(chr(39), '')}'"
    )
    record = plain_record(
        dataset=HOSTILE, adapter=HOSTILE, regressions=[example], fit=fit, notes=[HOSTILE]
    )
    page = read(record)
    assert not page.named("script")
    assert not page.named("img")
    assert HOSTILE in page.text
    assert not any(key.startswith("on") for _, given in page.elements for key in given)


@pytest.fixture(scope="module")
def odd() -> str:
    """A page of queries in odd characters, one of them of another direction."""
    queries = [*(f"a{number}{bad}b" for number, bad in enumerate(BAD)), "\u202e\u05e9"]
    examples = [make_example(number, query=query) for number, query in enumerate(queries)]
    return write_report(plain_record(regressions=examples), None)


@pytest.mark.parametrize(("number", "bad"), [*enumerate(BAD)])
def test_characters_that_no_page_may_hold_are_replaced(odd: str, number: int, bad: str) -> None:
    assert bad[0] not in odd
    assert f"a{number}\N{REPLACEMENT CHARACTER}" in odd
    odd.encode("utf-8")


def test_text_of_another_direction_keeps_to_itself(odd: str) -> None:
    assert re.search(r'<h3 dir="auto">[^<]*\u05e9', odd)


def test_long_texts_are_cut() -> None:
    example = make_example(1, query="word " * 1000, text="unbroken" * 5000)
    html = write_report(plain_record(regressions=[example], improvements=[]), None)
    assert len(html) < 200_000
    assert "word…" in html


def test_size_of_a_page_does_not_grow_with_the_queries() -> None:
    few = plain_record(**CHANGED)
    counts = [count * 100_000 for count in few.changes.counts]
    many = replace(few, changes=replace(few.changes, counts=counts))
    sizes = [len(write_report(one, None)) for one in (few, many)]
    assert sizes[1] < 1.1 * sizes[0]


def test_missing_package_is_told_before_the_fit(monkeypatch: pytest.MonkeyPatch) -> None:
    require_packages()
    monkeypatch.setattr(report_page, "find_spec", lambda _name: None)
    with pytest.raises(ModuleNotFoundError) as missing:
        require_packages()
    assert missing.value.name == "jinja2"


@pytest.fixture(scope="module")
def homeless(tmp_path_factory: pytest.TempPathFactory) -> "subprocess.CompletedProcess[str]":
    """A report by a process whose home can't be written to."""
    place = tmp_path_factory.mktemp("homeless")
    home = place / "home"
    home.write_text("a file, so no folder can be made in it")
    script = (
        "import sys\n"
        "from trimtab_training.report import write_report\n"
        "print('matplotlib' in sys.modules)\n"
        "from tests.support.records import make_record\n"
        "print(len(write_report(make_record(), None)))\n"
    )
    return subprocess.run(
        [sys.executable, "-c", script],
        capture_output=True, text=True, check=False, cwd=Path(__file__).parents[4],
        env={
            "HOME": str(home), "PATH": "", "TMPDIR": str(place),
            "PYTHONPATH": os.environ.get("PYTHONPATH", ""),
        },
    )  # fmt: skip


def test_matplotlib_is_imported_only_to_write_a_report(
    homeless: "subprocess.CompletedProcess[str]",
) -> None:
    assert homeless.stdout.splitlines()[0] == "False"


def test_home_that_can_not_be_written_to_is_no_trouble(
    homeless: "subprocess.CompletedProcess[str]",
) -> None:
    assert homeless.returncode == 0, homeless.stderr
    assert int(homeless.stdout.splitlines()[1]) > 50_000
    assert homeless.stderr == ""


def test_loggers_of_the_plotting_package_are_left_as_they_were() -> None:
    DRAWN.clear()
    before = logging.getLogger("matplotlib").level
    write_report(plain_record(), None)
    assert logging.getLogger("matplotlib").level == before


@pytest.mark.parametrize(("n_used", "is_said"), [(0, True), (3, False), (None, False)])
def test_queries_are_called_new_only_where_that_is_known(n_used: int | None, is_said: bool) -> None:
    record = plain_record(n_used=n_used)
    assert ("none of which trained or chose anything" in write_report(record, None)) == is_said
    card = write_card("docs", None, record)
    assert ("none of which was used to train or to choose" in card) == is_said
    assert ("3 of which were used" in card) == bool(n_used)


def test_queries_that_judge_alone_have_rows_of_their_own() -> None:
    fresh = {"n_queries": 100, "metrics": make_metrics(0.02)}
    text = read(plain_record(n_used=200, fresh_queries=fresh)).text
    assert "100 queries that had no part in the model: these judge it nDCG@10 0.6000 0.6200" in text
    answered = {"n_queries": 100, "metrics": make_metrics(0.02)}
    text = read(plain_record(answered_queries=answered)).text
    assert "100 queries with a relevant document: these judge it nDCG@10 0.6000 0.6200" in text
