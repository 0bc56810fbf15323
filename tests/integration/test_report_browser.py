"""The report in a real browser: nothing spills over, nothing is fetched, everything can be read."""

import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.chromium import Chromium, Page, find_chromium, open_page, running_chromium
from tests.support.records import make_example, make_manifest, make_record
from trimtab_training.report import write_report

DESKTOP = 1280
A4 = 794  # 210 mm at the 96 pixels an inch of CSS
WIDTHS = (400, DESKTOP)
LEAST_CONTRAST = 4.5  # WCAG 2.2, 1.4.3, text of normal size
DECISIONS = ("ship", "ship with care", "do not ship")
LONG = "unbroken" * 200

CONTRASTS = """
(() => {
  const numbers = text => (text.match(/[\\d.]+/g) || []).map(Number);
  const lightness = ([r, g, b]) => [r, g, b]
    .map(part => part / 255)
    .map(part => part <= 0.04045 ? part / 12.92 : ((part + 0.055) / 1.055) ** 2.4)
    .reduce((sum, part, i) => sum + part * [0.2126, 0.7152, 0.0722][i], 0);
  const behind = element => {
    for (let one = element; one; one = one.parentElement) {
      const [r, g, b, alpha = 1] = numbers(getComputedStyle(one).backgroundColor);
      if (alpha === 1) return [r, g, b];
    }
    return [255, 255, 255];
  };
  const found = [];
  for (const element of document.querySelectorAll("body *")) {
    const own = [...element.childNodes].some(
      node => node.nodeType === Node.TEXT_NODE && node.textContent.trim());
    if (!own || !element.getClientRects().length) continue;
    const style = getComputedStyle(element);
    const isDrawn = element.closest("svg") !== null;
    const colour = numbers(isDrawn ? style.fill : style.color);
    const pair = [lightness(colour), lightness(behind(element))].sort((a, b) => b - a);
    found.push([element.textContent.trim().slice(0, 30), (pair[0] + 0.05) / (pair[1] + 0.05)]);
  }
  return found;
})()
"""


@pytest.fixture(scope="module")
def browser() -> Iterator[Chromium]:
    binary = find_chromium()
    if binary is None:
        pytest.skip("no Chromium on the path; install one, or name it in CHROMIUM")
    with running_chromium(binary) as browser:
        yield browser


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("report")


@pytest.fixture(scope="module")
def opened(browser: Chromium, folder: Path) -> Page:
    """The longest page there is, with texts that no line can hold."""
    example = make_example(0, query=f"<script>console.error('in')</script> {LONG}", text=LONG)
    record = make_record(regressions=[example, *map(make_example, range(1, 10))])
    file = folder / "report.html"
    file.write_text(write_report(record, make_manifest()), encoding="utf-8")
    return open_page(browser, file)


@pytest.fixture
def page(opened: Page) -> Page:
    """The opened page as a desktop's screen shows it, whatever a test before this one asked."""
    opened.emulate()
    opened.resize(DESKTOP)
    opened.run("document.querySelectorAll('details').forEach(one => one.open = false)")
    return opened


def test_nothing_stands_on_the_console_and_nothing_is_fetched(page: Page) -> None:
    page.run("document.querySelectorAll('details').forEach(one => one.open = true)")
    assert page.run("document.title") == "docs: ship · Trimtab report"
    assert page.complaints() == []
    assert page.requests() == []


@pytest.mark.parametrize("width", WIDTHS)
def test_page_is_never_wider_than_the_window(page: Page, width: int) -> None:
    page.resize(width)
    page.run("document.querySelectorAll('details').forEach(one => one.open = true)")
    assert page.run("innerWidth") == width
    assert page.run("document.documentElement.scrollWidth") <= width


@pytest.mark.parametrize("width", WIDTHS)
def test_drawings_are_seen_whole_or_can_be_moved(page: Page, width: int) -> None:
    page.resize(width)
    boxes = page.run(
        "[...document.querySelectorAll('svg')].map(one => [one.getBoundingClientRect().width, "
        "one.getBoundingClientRect().height, getComputedStyle(one.parentElement).overflowX])"
    )
    assert len(boxes) == 6
    for drawn_width, height, overflow in boxes:
        assert drawn_width > 300
        assert height > 80
        assert overflow == "auto"


def test_text_of_drawings_stays_inside_them(page: Page) -> None:
    outside = page.run(
        "[...document.querySelectorAll('svg text')].filter(text => {"
        " const box = text.getBoundingClientRect();"
        " const all = text.ownerSVGElement.getBoundingClientRect();"
        " return box.left < all.left - 2 || box.right > all.right + 2"
        "  || box.top < all.top - 2 || box.bottom > all.bottom + 2;"
        "}).map(text => text.textContent)"
    )
    assert outside == []


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_every_text_stands_out_in_light_and_dark(page: Page, scheme: str) -> None:
    page.emulate(scheme=scheme)
    contrasts = page.run(CONTRASTS)
    assert len(contrasts) > 200
    assert [one for one in contrasts if one[1] < LEAST_CONTRAST] == []


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("decision", DECISIONS)
def test_band_of_each_decision_stands_out(
    browser: Chromium, folder: Path, decision: str, scheme: str
) -> None:
    verdict = {
        "decision": decision,
        "sentence": f"{decision.capitalize()}: so.",
        "reasons": [{"weight": "care", "text": "a reason"}],
    }
    extras = dict.fromkeys(("fit", "approximate", "size_curve"))
    file = folder / f"{decision.replace(' ', '-')}.html"
    file.write_text(write_report(make_record(verdict=verdict, **extras), None), encoding="utf-8")
    page = open_page(browser, file)
    page.emulate(scheme=scheme)
    assert page.run("document.querySelector('.verdict h2').textContent") == decision.capitalize()
    assert [one for one in page.run(CONTRASTS) if one[1] < LEAST_CONTRAST] == []


def test_print_is_light_whatever_the_screen_is_and_shows_the_recipe(page: Page) -> None:
    page.resize(A4)
    page.emulate(scheme="dark", media="print")
    assert page.run("getComputedStyle(document.body).backgroundColor") == "rgb(255, 255, 255)"
    assert page.run("getComputedStyle(document.body).color") == "rgb(0, 0, 0)"
    assert page.run("document.documentElement.scrollWidth <= innerWidth")


def test_print_takes_a_few_sheets_of_a4(page: Page, folder: Path) -> None:
    page.print(folder / "report.pdf")
    content = (folder / "report.pdf").read_bytes()
    n_sheets = len(re.findall(rb"/Type\s*/Page\b", content))
    assert 2 <= n_sheets <= 12
    width, height = map(float, re.findall(rb"/MediaBox\s*\[\s*0 0 ([\d.]+) ([\d.]+)", content)[0])
    assert (round(width), round(height)) == (595, 842)


def test_rank_of_every_reason_is_said_to_whoever_does_not_see_it(page: Page) -> None:
    labels = page.run(
        "[...document.querySelectorAll('.verdict .mark')].map(mark => mark.ariaLabel)"
    )
    assert labels == ["for", "note"]
