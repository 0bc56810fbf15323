"""What an import read, what it dropped and why, counted as it goes, by what the rows hold."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from trimtab_training.errors import DataError

Progress = Callable[[str, int, int | None], None]
"""Called with what is read, how much of it is done, and how much there is, if that is known."""

LABEL_ROWS = "label rows"
LABELS = "labels"  # what label rows became; a row may hold several
_FILE_STEP = 1 << 40  # a place is file * step + line: one number a label, not a text
_CHECK_EVERY = 10_000


@dataclass
class Counted:
    """How often something happened, and where first."""

    count: int = 0
    first: int = -1


@dataclass
class Kind:
    """Counts of the rows that hold one kind of thing.

    Attributes:
        n_rows: Rows read.
        dropped: Rows that can't be used, by reason.
    """

    n_rows: int = 0
    dropped: dict[str, Counted] = field(default_factory=dict)

    @property
    def n_dropped(self) -> int:
        """Rows dropped so far."""
        return sum(counted.count for counted in self.dropped.values())

    @property
    def share_dropped(self) -> float:
        """Share of the rows dropped so far."""
        return self.n_dropped / max(self.n_rows, 1)


@dataclass
class Tally:
    """Counts of one import.

    What is dropped is weighed against rows of its own kind: a corpus of a million documents does
    not make up for labels that are lost.

    Attributes:
        max_dropped: Share of the rows of each kind that may be dropped, from 0 to 1.
        progress: Told of every file's advance.
        files: The files read, in order.
        kinds: Counts by what the rows hold: labels, queries, documents.
        left_out: Labels that could be used and are not, by reason: repeated, without support.
        noted: What was read otherwise than it is written, by what was done.
        n_tables: Files of CSV or TSV among those read.
    """

    max_dropped: float = 1.0
    progress: Progress = lambda _what, _done, _all: None
    files: list[Path] = field(default_factory=list)
    kinds: dict[str, Kind] = field(default_factory=dict)
    left_out: dict[str, Counted] = field(default_factory=dict)
    noted: dict[str, Counted] = field(default_factory=dict)
    n_tables: int = 0
    _kind: str = LABEL_ROWS

    def open(self, path: Path) -> int:
        """Begin a file; give the place of its line 0."""
        if path not in self.files:
            self.files.append(path)
        return self.files.index(path) * _FILE_STEP

    @contextmanager
    def reading(self, kind: str) -> Iterator[None]:
        """Count the rows in between as rows of another kind, such as ``documents``."""
        before, self._kind = self._kind, kind
        try:
            yield
        finally:
            self._kind = before

    def row(self) -> None:
        """Count a row read; now and then, see whether too many were dropped.

        Raises:
            DataError: More than the allowed share was dropped so far.
        """
        kind = self._current()
        if kind.n_rows % _CHECK_EVERY == 0 and kind.n_rows:
            self._check_kind(self._kind)
        kind.n_rows += 1

    def drop(self, reason: str, place: int, count: int = 1) -> None:
        """Count a row that can't be used."""
        _add(self._current().dropped, reason, place, count)

    def settle(self, n_labels: int) -> None:
        """Say how many labels the label rows became; what is dropped from now on is of them."""
        self._kind = LABELS
        self._current().n_rows = n_labels

    def leave_out(self, reason: str, place: int, count: int = 1) -> None:
        """Count a label that could be used and is not."""
        _add(self.left_out, reason, place, count)

    def note(self, what: str, place: int, count: int = 1) -> None:
        """Count what was read in a way that whoever asked should know of."""
        _add(self.noted, what, place, count)

    @property
    def n_rows(self) -> int:
        """Rows read, of every kind."""
        return sum(kind.n_rows for name, kind in self.kinds.items() if name != LABELS)

    @property
    def n_dropped(self) -> int:
        """Rows and labels dropped so far, of every kind."""
        return sum(kind.n_dropped for kind in self.kinds.values())

    @property
    def dropped(self) -> dict[str, Counted]:
        """What was dropped, of every kind, by reason."""
        merged: dict[str, Counted] = {}
        for kind in self.kinds.values():
            for reason, counted in kind.dropped.items():
                _add(merged, reason, counted.first, counted.count)
        return merged

    def where(self, place: int) -> str:
        """Write a place for people: file and line."""
        if place < 0:
            return ""
        file, line = divmod(place, _FILE_STEP)
        return f"{self.files[file].name}:{line}"

    def check(self) -> None:
        """Stop an import that drops too much of anything, or of labels in two steps.

        Raises:
            DataError: More than the allowed share of the rows of one kind was dropped.
        """
        for name in self.kinds:
            self._check_kind(name)
        if {LABEL_ROWS, LABELS} <= self.kinds.keys():
            rows, labels = self.kinds[LABEL_ROWS], self.kinds[LABELS]
            kept = (1 - rows.share_dropped) * (1 - labels.share_dropped)
            if 1 - kept > self.max_dropped + 1e-9:
                raise DataError(
                    f"{1 - kept:.0%} of what could have been labels can't be used, more than "
                    f"--max-dropped {self.max_dropped:g} allows: {rows.n_dropped} of {rows.n_rows} "
                    f"rows and {labels.n_dropped} of {labels.n_rows} labels; nothing was written"
                )

    def mostly(self) -> str:
        """Say why most rows of the kind that is read now were dropped; some must have been."""
        return self._worst(self._current())

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
            "rows_by_kind": {name: kind.n_rows for name, kind in self.kinds.items()},
            "dropped": [
                {**one, "of": name}
                for name, kind in self.kinds.items()
                for one in self._describe(kind.dropped)
            ],
            "left_out": self._describe(self.left_out),
            "noted": self._describe(self.noted),
        }

    def _current(self) -> Kind:
        """Give the counts of what is read now."""
        return self.kinds.setdefault(self._kind, Kind())

    def _check_kind(self, name: str) -> None:
        """Stop where more than the allowed share of one kind was dropped."""
        kind = self.kinds[name]
        if kind.n_dropped <= self.max_dropped * max(kind.n_rows, 1):
            return
        raise DataError(
            f"{kind.n_dropped} of {kind.n_rows} {name} can't be used, more than --max-dropped "
            f"{self.max_dropped:g} allows; {self._worst(kind)}; nothing was written"
        )

    def _worst(self, kind: Kind) -> str:
        """Name the most frequent reason to drop rows of a kind, and where it came first."""
        reason, worst = max(kind.dropped.items(), key=lambda item: item[1].count)
        return f"mostly: {reason} ({worst.count}, first at {self.where(worst.first)})"

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
