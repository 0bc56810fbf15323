"""What the commands show: progress on stderr, results on stdout."""

import shlex
import time
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import zip_longest
from typing import TYPE_CHECKING, Any

from rich.console import Console, ConsoleOptions, RenderableType
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    ProgressColumn,
    Task,
    TaskID,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)
from rich.segment import Segment
from rich.table import Table
from rich.text import Text

from trimtab.log import printable_lines
from trimtab_training.evaluation.side_by_side import BothWays, Found

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from trimtab_training.evaluation.record import (
        ComparedMetric,
        Comparison,
        Evaluation,
        Metric,
        RivalTest,
    )


class Screen(Console):
    """A console that no text, id or name out of data can steer, or fail by.

    What is no printable character, half a surrogate pair among them, is written as its escape.
    """

    def render(
        self, renderable: RenderableType, options: ConsoleOptions | None = None
    ) -> Iterator[Segment]:
        """Render anything into segments, those of text fit for a terminal."""
        for segment in super().render(renderable, options):
            yield (
                segment if segment.control else segment._replace(text=printable_lines(segment.text))
            )


talk = Screen(stderr=True, highlight=False, markup=False, emoji=False)
results = Screen(highlight=False, markup=False, emoji=False, soft_wrap=True)


def tell_next(*words: object, before: str = "next: ", after: str = "") -> None:
    """Say what to run next, on one line that can be copied, whatever stands in its paths."""
    command = shlex.join(map(str, words))
    talk.print(f"{before}{command}{after}", style="bold", soft_wrap=True)


class RateColumn(ProgressColumn):
    """How many are done in a minute."""

    def render(self, task: Task) -> Text:
        """Write the rate of the last half minute, or of the whole once it is done."""
        speed = task.finished_speed or task.speed
        return Text("" if speed is None else f"{speed * 60:.0f}/min", style="progress.data.speed")


class PercentColumn(ProgressColumn):
    """How far it is, of what is counted in no unit that means anything to people."""

    def render(self, task: Task) -> Text:
        """Write a percentage; nothing where no end is known."""
        return Text("" if task.total is None else f"{task.percentage:3.0f} %")


Show = Callable[[str, int, int | None], None]
"""``show(what, done, total)``; without a total it only says that something goes on."""

LINE_EVERY_S = 10.0


@contextmanager
def progress_bar(percent: bool = False, rate: bool = False) -> Iterator[Show]:
    """Show one bar for each thing under way; in a pipe or a log, a line every ten seconds.

    Args:
        percent: Show a percentage in place of what is counted.
        rate: Also show how many are done in a minute.

    Yields:
        The function that moves the bars.
    """
    if not talk.is_terminal:
        yield _Lines(percent, rate).show
        return
    columns: list[Any] = [
        TextColumn("  {task.description:<12}", markup=False),
        BarColumn(bar_width=36),
        PercentColumn() if percent else MofNCompleteColumn(),
        TimeElapsedColumn(),
        *([RateColumn()] if rate else []),
        TextColumn("left"),
        TimeRemainingColumn(),
    ]
    with Progress(*columns, console=talk) as bars:
        tasks: dict[str, TaskID] = {}

        def show(what: str, done: int, total: int | None) -> None:
            if what not in tasks:
                tasks[what] = bars.add_task(what, total=total)
            bars.update(tasks[what], completed=done, total=total)

        yield show
        for task in tasks.values():  # what had no total is done by now
            if bars.tasks[task].total is None:
                bars.update(task, total=1, completed=1)


@dataclass
class _UnderWay:
    """One thing of which lines are written.

    Attributes:
        started_at: When it was first heard of.
        n_before: What was done by then: an interrupted run's part.
        said_at: When a line was last written.
    """

    started_at: float
    n_before: int
    said_at: float


class _Lines:
    """Progress for whoever reads it later: a line every ten seconds, and one at the end."""

    def __init__(self, percent: bool, rate: bool) -> None:
        self._percent, self._rate = percent, rate
        self._tasks: dict[str, _UnderWay] = {}
        self._ended: set[str] = set()

    def show(self, what: str, done: int, total: int | None) -> None:
        """Hear how far something is."""
        now = time.monotonic()
        if what not in self._tasks:
            self._tasks[what] = _UnderWay(now, done, now)
            if total is None:
                talk.print(f"  {what}")
        task = self._tasks[what]
        if total is None or what in self._ended:
            return
        if done >= total:
            self._ended.add(what)
            talk.print(f"  {what}: {self._how_far(done, total)} in {now - task.started_at:.0f} s")
        elif now - task.said_at >= LINE_EVERY_S:
            task.said_at = now
            talk.print(
                f"  {what}: {self._how_far(done, total)}{self._pace(task, done, total, now)}"
            )

    def _how_far(self, done: int, total: int) -> str:
        return (
            f"{100 * done / total:.0f} %" if self._percent and total else f"{done:,} of {total:,}"
        )

    def _pace(self, task: _UnderWay, done: int, total: int, now: float) -> str:
        """Say how long it has taken, and how long it still will at the pace so far."""
        taken_s, n_here = now - task.started_at, done - task.n_before
        text = f" after {taken_s:.0f} s"
        if n_here <= 0:
            return text
        text += f", about {taken_s * (total - done) / n_here:.0f} s left"
        return f"{text}, {60 * n_here / taken_s:.0f}/min" if self._rate else text


def metrics_table(
    record: "Evaluation | Comparison | RivalTest",
    columns: "Sequence[str]",
    *,
    no_wrap: bool = False,
) -> Table:
    """Lay out every metric, overall and by slice, under columns of these names."""
    from trimtab_training.report.words import metric_cells

    table = Table(box=None, pad_edge=False, header_style="bold")
    table.add_column("", min_width=10)
    for name in (*columns, "95 % interval", "p"):
        table.add_column(name, justify="right", no_wrap=no_wrap)

    def add_rows(label: str, metrics: "Mapping[str, Metric | ComparedMetric]") -> None:
        table.add_row(Text(label, style="bold"))
        for name, metric in metrics.items():
            table.add_row(f"  {name}", *metric_cells(metric))

    add_rows(f"all {record.n_queries} queries", record.metrics)
    for name, part in record.slices.items():
        if part.metrics and part.n_queries < record.n_queries:
            add_rows(f"{part.n_queries} about {name.replace('_', ' ')}", part.metrics)
    return table


def show_evaluation(record: "Evaluation") -> None:
    """Print the table and the count of wins and losses."""
    results.print(metrics_table(record, ("base", "adapted", "difference")))
    results.print(
        f"{record.wins} queries better, {record.losses} worse, {record.ties} the same (nDCG@10)"
    )
    show_second_look(record)


def show_second_look(record: "Evaluation") -> None:
    """Print what a second look does beside the adapter alone; nothing where there is none."""
    if record.second_look is None:
        return
    look = record.second_look
    results.print(f"a second look at the best {look.depth} documents, where search is in process:")
    results.print(metrics_table(look.test, ("raw", "adapter", "second look", "difference")))


def show_tuned(test: "RivalTest", *, has_adapter: bool) -> None:
    """Print what a tuned encoder's file does, beside raw queries and the adapter."""
    before = "adapter" if has_adapter else "no adapter"
    results.print(metrics_table(test, ("raw", before, "query.onnx", "difference")))
    if test.against_raw is None:
        return
    low, high = test.against_raw.ci95
    results.print(
        f"query.onnx over raw queries: nDCG@10 {test.against_raw.delta:+.4f} "
        f"(95 % interval {low:+.4f} to {high:+.4f})"
    )


def side_by_side(
    found: BothWays, names: dict[str, str], wanted: Collection[str] = (), n_shown: int | None = None
) -> Table:
    """Lay out what one query found before and after, relevant documents marked and ranked."""
    width = max(24, (min(results.width, 160) - 4) // 2)
    moved = f"rank {rank_of(found.before, wanted)} → {rank_of(found.after, wanted)}"
    title = Text.assemble((f"“{found.query}”", "bold"), f"  {moved if wanted else ''}")
    table = Table(box=None, pad_edge=False, title=title, title_justify="left", title_style="")
    table.add_column("raw query", width=width, no_wrap=True, overflow="ellipsis")
    table.add_column("adapted query", width=width, no_wrap=True, overflow="ellipsis")
    for before, after in zip_longest(found.before[:n_shown], found.after[:n_shown]):
        table.add_row(*(_line(one, names, wanted) for one in (before, after)))
    return table


def rank_of(found: Found, wanted: Collection[str]) -> str:
    """Give the rank of the first relevant document, for people."""
    for rank, (doc_id, _) in enumerate(found, start=1):
        if doc_id in wanted:
            return str(rank)
    return f"beyond {len(found)}"


def _line(found: tuple[str, float] | None, names: dict[str, str], wanted: Collection[str]) -> Text:
    """Write one document found; a relevant one stands out without relying on colour."""
    if found is None:
        return Text("")
    doc_id, score = found
    text = " ".join(names.get(doc_id, doc_id).split())
    if doc_id in wanted:
        return Text(f"✔ {score:.3f} {text}", style="bold green")
    return Text(f"  {score:.3f} {text}")


def one_line(text: str, length: int = 90) -> str:
    """Cut a text to one line of the screen."""
    line = " ".join(text.split())
    return line if len(line) <= length else line[: length - 1] + "…"
