"""What an import read, what it dropped and why, counted as it goes."""

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from training.errors import DataError

Progress = Callable[[str, int, int | None], None]
"""Called with what is read, how much of it is done, and how much there is, if that is known."""

_FILE_STEP = 1 << 40  # a place is file * step + line: one number a label, not a text
_CHECK_EVERY = 10_000


@dataclass
class Counted:
    """How often something happened, and where first."""

    count: int = 0
    first: int = -1


@dataclass
class Tally:
    """Counts of one import.

    Attributes:
        max_dropped: Share of the rows read that may be dropped, from 0 to 1.
        progress: Told of every file's advance.
        files: The files read, in order.
        n_rows: Rows read.
        dropped: Rows that can't be used, by reason.
        left_out: Labels that could be used and are not, by reason: repeated, without support.
    """

    max_dropped: float = 1.0
    progress: Progress = lambda _what, _done, _all: None
    files: list[Path] = field(default_factory=list)
    n_rows: int = 0
    dropped: dict[str, Counted] = field(default_factory=dict)
    left_out: dict[str, Counted] = field(default_factory=dict)

    def open(self, path: Path) -> int:
        """Begin a file; give the place of its line 0."""
        if path not in self.files:
            self.files.append(path)
        return self.files.index(path) * _FILE_STEP

    def row(self) -> None:
        """Count a row read; now and then, see whether too many were dropped.

        Raises:
            DataError: More than the allowed share was dropped so far.
        """
        if self.n_rows % _CHECK_EVERY == 0 and self.n_rows:
            self.check()
        self.n_rows += 1

    def drop(self, reason: str, place: int, count: int = 1) -> None:
        """Count a row that can't be used."""
        _add(self.dropped, reason, place, count)

    def leave_out(self, reason: str, place: int, count: int = 1) -> None:
        """Count a label that could be used and is not."""
        _add(self.left_out, reason, place, count)

    @property
    def n_dropped(self) -> int:
        """Rows dropped so far."""
        return sum(counted.count for counted in self.dropped.values())

    def where(self, place: int) -> str:
        """Write a place for people: file and line."""
        if place < 0:
            return ""
        file, line = divmod(place, _FILE_STEP)
        return f"{self.files[file].name}:{line}"

    def check(self) -> None:
        """Stop an import that drops too much.

        Raises:
            DataError: More than the allowed share of the rows was dropped.
        """
        if self.n_dropped <= self.max_dropped * max(self.n_rows, 1):
            return
        reason, worst = max(self.dropped.items(), key=lambda item: item[1].count)
        raise DataError(
            f"{self.n_dropped} of {self.n_rows} rows can't be used, more than --max-dropped "
            f"{self.max_dropped:g} allows; mostly: {reason} ({worst.count}, first at "
            f"{self.where(worst.first)}); nothing was written"
        )

    def explain(self, otherwise: str = "none dropped") -> str:
        """Say in one line what became of the rows read; otherwise what to say if nothing did."""
        counts = {**self.dropped, **self.left_out}
        reasons = ", ".join(f"{counted.count} {reason}" for reason, counted in counts.items())
        return f"{self.n_rows} rows ({reasons or otherwise})"

    def as_dict(self) -> dict[str, Any]:
        """Give the counts as JSON, most frequent first."""
        return {
            "files": [path.name for path in self.files],
            "rows": self.n_rows,
            "dropped": self._describe(self.dropped),
            "left_out": self._describe(self.left_out),
        }

    def _describe(self, counts: dict[str, Counted]) -> list[dict[str, Any]]:
        """List reasons with count and first place."""
        ordered = sorted(counts.items(), key=lambda item: -item[1].count)
        return [
            {"reason": reason, "count": counted.count, "first": self.where(counted.first)}
            for reason, counted in ordered
        ]


def _add(counts: dict[str, Counted], reason: str, place: int, count: int) -> None:
    """Count, and keep the first place."""
    counted = counts.setdefault(reason, Counted(0, place))
    counted.count += count
