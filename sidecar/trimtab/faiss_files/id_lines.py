"""Which row of an index each line of an ids file names.

Line i is the id of row i. Where the index was filled with numbers of the caller's own, rows have
no known order, and every line is ``NUMBER<TAB>ID``; any other index takes that form as well.
"""

import re
from collections.abc import Iterable
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from trimtab.errors import ConfigError
from trimtab.faiss_files.index_file import IndexFile, check_numbers

_NUMBERED = re.compile(r"(0|-?[1-9][0-9]{0,18})\t(.+)")
_MOST = 2**63


def read_id_lines(lines: Iterable[str], file: IndexFile, where: Path) -> NDArray[np.int64] | None:
    """Find the row that each line of an ids file names; None where line i names row i.

    Raises:
        ConfigError: There are more or fewer lines than rows, only some begin with a number, they
            name numbers that the index has not, or rows that have no order are named by it.
    """
    numbers: list[int] = []
    n_lines = 0
    for line in lines:
        if "\t" in line and (number := _read_number(line)) is not None:
            numbers.append(number)
        n_lines += 1
    if n_lines != len(file):
        raise ConfigError(
            f"{where} has {n_lines} ids, the index {len(file)} vectors; line i must be the id of "
            "row i"
        )
    if len(numbers) == n_lines and numbers:
        return _match(np.array(numbers, np.int64), file, where)
    if numbers:
        raise ConfigError(
            f"{where}: {len(numbers)} of {n_lines} lines are NUMBER<TAB>ID, the others are not; "
            "give all of them one form"
        )
    if file.labels is not None:
        raise ConfigError(
            f"{where} names rows by their order, but the index was filled with numbers of its own "
            f"({file.numbers[0]}, ...), so the order of its rows is not known; make each line "
            "NUMBER<TAB>ID, or leave out the ids to take the numbers"
        )
    return None


def cut_number(line: str) -> str:
    """Give the id of a line ``NUMBER<TAB>ID``."""
    return line.partition("\t")[2]


def _read_number(line: str) -> int | None:
    """Give the number before an id; None where there is none that FAISS could have."""
    found = _NUMBERED.fullmatch(line)
    if found is None:
        return None
    number = int(found[1])
    return number if -_MOST <= number < _MOST else None


def _match(named: NDArray[np.int64], file: IndexFile, where: Path) -> NDArray[np.int64]:
    """Find the row of each number."""
    check_numbers(file.numbers, where)
    order = np.argsort(file.numbers, kind="stable")
    own = file.numbers[order]
    places = np.minimum(np.searchsorted(own, named), len(own) - 1)
    if len(unknown := np.flatnonzero(own[places] != named)):
        line = int(unknown[0])
        raise ConfigError(
            f"{where}: line {line + 1} names number {named[line]}, which the index has not"
        )
    rows: NDArray[np.int64] = order[places]
    if len(np.unique(rows)) < len(rows):
        raise ConfigError(f"{where}: a number stands on two lines; expected each once")
    return rows
