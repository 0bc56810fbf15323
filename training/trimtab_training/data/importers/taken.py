"""Ids that come again with another text: whose labels these are, nobody can tell."""

from dataclasses import dataclass, field
from pathlib import Path

from trimtab_training.data.importers.tally import Tally
from trimtab_training.data.importers.texts import Unusable
from trimtab_training.errors import DataError


@dataclass
class TakenIds:
    """Ids of queries and documents that had another text when they came again.

    A few are slips, and their rows are dropped. Many say that ids begin anew in each file, shard
    or session, or are those of documents cut into chunks, so that one id is several texts'.

    Attributes:
        tally: Knows places, and the share that may be dropped.
    """

    tally: Tally
    _counts: dict[str, int] = field(default_factory=dict)
    _first: dict[str, tuple[str, int]] = field(default_factory=dict)

    def refuse(self, what: str, name: str, place: int, *, has_option: bool) -> None:
        """Count one, and refuse what it is of.

        Args:
            what: ``query`` or ``document``.
            name: The id.
            place: Where it came again.
            has_option: Whether ``--column`` can say that such ids are none.

        Raises:
            Unusable: Always.
        """
        self.count(what, name, place)
        option = f" (--column {what}_id= makes ids of the texts)" if has_option else ""
        raise Unusable(f"another text already has this {what} id{option}")

    def count(self, what: str, name: str, place: int) -> None:
        """Count one, as above, without refusing it: its text alone is left out."""
        self._counts[what] = self._counts.get(what, 0) + 1
        self._first.setdefault(what, (name, place))

    def check(self, path: Path, n_all: int, of: str = "rows", *, has_option: bool = True) -> None:
        """Refuse a file of which more than may be dropped has such ids; begin the next file.

        Args:
            path: The file, or the folder of a log.
            n_all: How many rows, searches or entries it has.
            of: What these are.
            has_option: As above.

        Raises:
            DataError: With both readings.
        """
        for what, count in self._counts.items():
            if count > self.tally.max_dropped * n_all:
                name, place = self._first[what]
                option = f"say --column {what}_id= (ids are then made of the texts)"
                anew = "file or session" if has_option else "file, or texts are chunks of one"
                raise DataError(
                    f"{path}: {count} of {n_all} {of} have a {what} id that another text already "
                    f"has, such as {name!r} ({self.tally.where(place)}): if ids begin anew in each "
                    f"{anew}, {option if has_option else 'make them differ'}; if not, "
                    "keep one text of each id"
                )
        self._counts.clear()
        self._first.clear()
