"""Progress where nobody watches: lines, few of them, that say how far and how long still."""

import io
import shlex

import pytest
from rich.console import Console

from trimtab_training.commands import screen
from trimtab_training.evaluation.side_by_side import BothWays


class Clock:
    """Time that passes when a test says so."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now = 100.0
        monkeypatch.setattr(screen.time, "monotonic", lambda: self.now)


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    return Clock(monkeypatch)


@pytest.fixture
def log(monkeypatch: pytest.MonkeyPatch) -> Console:
    console = Console(record=True, width=120, force_terminal=False, quiet=False, highlight=False)
    monkeypatch.setattr(screen, "talk", console)
    return console


def lines(log: Console) -> list[str]:
    return log.export_text().splitlines()


def test_log_gets_a_line_every_ten_seconds_and_one_at_the_end(log: Console, clock: Clock) -> None:
    with screen.progress_bar() as show:
        for done in range(0, 41):
            show("embedding", done * 1000, 40_000)
            clock.now += 1
    assert lines(log) == [
        "  embedding: 10,000 of 40,000 after 10 s, about 30 s left",
        "  embedding: 20,000 of 40,000 after 20 s, about 20 s left",
        "  embedding: 30,000 of 40,000 after 30 s, about 10 s left",
        "  embedding: 40,000 of 40,000 in 40 s",
    ]


def test_percentage_stands_in_for_units_that_mean_nothing(log: Console, clock: Clock) -> None:
    with screen.progress_bar(percent=True) as show:
        show("evaluating", 0, None)
        show("fitting", 0, 4000)
        clock.now += 12
        show("fitting", 1000, 4000)
        clock.now += 36
        show("fitting", 4000, 4000)
    assert lines(log) == [
        "  evaluating",
        "  fitting: 25 % after 12 s, about 36 s left",
        "  fitting: 100 % in 48 s",
    ]


def test_what_an_interrupted_run_has_done_is_no_sign_of_speed(log: Console, clock: Clock) -> None:
    with screen.progress_bar(rate=True) as show:
        show("writing", 900, 1000)
        clock.now += 10
        show("writing", 900, 1000)
        clock.now += 10
        show("writing", 920, 1000)
    assert lines(log) == [
        "  writing: 900 of 1,000 after 10 s",
        "  writing: 920 of 1,000 after 20 s, about 80 s left, 60/min",
    ]


def test_what_begins_at_its_end_is_said_once(log: Console, clock: Clock) -> None:
    with screen.progress_bar() as show:
        show("reading", 5, 5)
        show("reading", 5, 5)
    assert lines(log) == ["  reading: 5 of 5 in 0 s"]


@pytest.mark.parametrize(
    "text", ["[/en/install].md", "app/[slug]/page.tsx", "a :fire: b", "[bold]"]
)
def test_ids_and_paths_are_shown_as_they_are(text: str, capsys: pytest.CaptureFixture[str]) -> None:
    screen.results.print(f"note: {text}")
    screen.talk.print(f"made {text}")
    screen.tell_next("trimtab", "fit", text, "--embeddings", "my emb")
    out, told = capsys.readouterr()
    assert out == f"note: {text}\n"
    command = f"trimtab fit {shlex.quote(text)} --embeddings 'my emb'"
    assert told == f"made {text}\nnext: {command}\n"


HOSTILE = "a\x1b[2J\x9b31m\ud800z"
ESCAPED = r"a\x1b[2J\x9b31m\ud800z"


@pytest.mark.parametrize("is_terminal", [False, True])
def test_text_out_of_data_neither_steers_a_terminal_nor_fails(is_terminal: bool) -> None:
    """In lines, and in the cells of a table; half a surrogate pair is what JSON may hold."""
    written = io.BytesIO()
    with io.TextIOWrapper(written, encoding="utf-8", write_through=True) as file:
        console = screen.Screen(
            file=file, force_terminal=is_terminal, color_system=None, width=160, soft_wrap=True,
            highlight=False, markup=False,
        )  # fmt: skip
        console.print(f"made {screen.one_line(HOSTILE)}")
        found = BothWays(HOSTILE, [("d1", 0.5)], [("d2", 0.25), (HOSTILE, 0.125)])
        console.print(screen.side_by_side(found, {"d1": HOSTILE}, {"d2"}))
        shown = written.getvalue().decode()
    assert shown.count(ESCAPED) == 4
    assert [line for line in shown.splitlines() if not line.isprintable()] == []


def test_joined_letters_and_emoji_stay_whole() -> None:
    file = io.StringIO()
    text = "\u0645\u06cc\u200c\u062e\u0648\u0627\u0647\u0645 \U0001f469\u200d\U0001f4bb"
    text += " \u691c\u7d22\u3000\u7d50\u679c prix\u00a0:"
    screen.Screen(file=file, width=160).print(text)
    assert file.getvalue() == f"{text}\n"
