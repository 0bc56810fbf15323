"""How an import is to be done."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any


@dataclass(frozen=True)
class ImportSettings:
    """What the user says about a source.

    Attributes:
        corpus: Documents with ids, where the source has none, or to map its texts onto.
        queries: Queries with ids, where the source has none.
        split: Split of a source that is one file: ``train``, ``dev`` or ``test``.
        split_by: Make a test split by ``document`` or ``query`` where there is none.
        columns: Names of columns by role, where the usual names do not tell.
        header: Whether the first line of CSV and TSV names the columns.
        relevant_from: Scores below it are judged non-relevant (grade 0).
        max_dropped: Share of rows that may be dropped, from 0 to 1.
        force: Replace a folder that no import made.
    """

    corpus: Path | None = None
    queries: Path | None = None
    split: str = "train"
    split_by: str | None = None
    columns: dict[str, tuple[str, ...]] = field(default_factory=dict)
    header: bool = True
    relevant_from: float | None = None
    max_dropped: float = 0.1
    force: bool = False

    def as_dict(self) -> dict[str, Any]:
        """Give what differs from the defaults, as JSON."""
        defaults = ImportSettings()
        chosen = {
            name: getattr(self, name)
            for name in self.__dataclass_fields__
            if getattr(self, name) != getattr(defaults, name)
        }
        return {
            name: str(value) if isinstance(value, Path) else value for name, value in chosen.items()
        }
