"""What is measured: the cells of the benchmark, and who takes part in each."""

from collections.abc import Iterable
from dataclasses import dataclass
from fnmatch import fnmatch
from itertools import groupby

from benchmarks.proxy.contenders import CONTENDERS

DIMS, CONNECTIONS = (384, 768, 1536, 3072), (1, 16)
JUDGED_DIM = 384
_WORKERS = ("direct", "ours-adapting", "ours-2-workers")


@dataclass(frozen=True)
class Cell:
    """One upstream, protocol, width and number of connections, where contenders take turns.

    Attributes:
        pin: How the cores are shared out (:class:`benchmarks.proxy.processes.Cores`).
        is_scaling: True where two workers are held against one.
    """

    upstream: str
    protocol: str
    dim: int
    connections: int
    pin: str = "split"
    is_scaling: bool = False

    @property
    def name(self) -> str:
        """Name it on one word."""
        words = ["workers"] if self.is_scaling else []
        words += [self.upstream, self.protocol, str(self.dim), str(self.connections), self.pin]
        return "-".join(words)

    @property
    def group(self) -> tuple[str, int, str, bool]:
        """What cells must share to be measured with the same running processes."""
        return (self.upstream, self.dim, self.pin, self.is_scaling)

    def contenders(self) -> list[str]:
        """Name everybody who takes part."""
        if self.is_scaling:
            return list(_WORKERS)
        return [name for name, one in CONTENDERS.items() if self.protocol in one.protocols]


def all_cells() -> list[Cell]:
    """List the benchmark's cells, those with the same processes side by side.

    Beside the matrix: the judged cell with the cores shared out in other ways, since a hop between
    cores can cost more than a proxy; and two workers against one, which share what cores there are.
    """
    cells = [
        Cell(upstream, protocol, dim, connections)
        for upstream, protocols in (("static", ("rest",)), ("edge", ("rest", "grpc")))
        for dim in DIMS
        for protocol in protocols
        for connections in CONNECTIONS
    ]
    cells += [Cell("static", "rest", JUDGED_DIM, 1, pin) for pin in ("together", "none")]
    return [*cells, Cell("static", "rest", JUDGED_DIM, 16, "none", is_scaling=True)]


def quick_cells() -> list[Cell]:
    """List the cells of a short look."""
    return [
        cell
        for cell in all_cells()
        if cell.dim == JUDGED_DIM and (cell.connections == 1 or cell.upstream == "static")
    ]


def choose(cells: list[Cell], only: Iterable[str]) -> tuple[list[Cell], list[str]]:
    """Take what ``--only`` names: cells by name or pattern, contenders by name.

    Raises:
        ValueError: A word names nothing.
    """
    only = list(only)
    names = [word for word in only if word in CONTENDERS]
    patterns = [word for word in only if word not in CONTENDERS]
    for pattern in patterns:
        if not any(fnmatch(cell.name, pattern) for cell in cells):
            known = ", ".join([*CONTENDERS, *(cell.name for cell in cells)])
            raise ValueError(f"--only {pattern}: no such contender or cell; there are {known}")
    chosen = [
        cell
        for cell in cells
        if not patterns or any(fnmatch(cell.name, pattern) for pattern in patterns)
    ]
    return chosen, names


def groups(cells: list[Cell]) -> list[list[Cell]]:
    """Put cells together that share their processes."""
    return [list(found) for _, found in groupby(cells, lambda cell: cell.group)]
