"""A long read of vectors that is kept page by page, and goes on where it stopped."""

import json
import os
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from trimtab.parsing import read_json
from trimtab_training.errors import DataError
from trimtab_training.files import new_matrix, write_whole

_BLOCK_ROWS = 16384


class PartialRead:
    """A read on its way: vectors and ids appended page by page, and a state that says how far.

    Attributes:
        offset: Where the next page begins; None at the start.
        is_done: True once the last page is kept.
        n_seen: Points read so far, with those that lack the vector.
        point_ids: Qdrant's id of every row, once finished.
    """

    def __init__(self, work: Path, identity: dict[str, Any], dim: int) -> None:
        """Go on with a read of the same, or begin."""
        self._state_path = work / "documents.read.json"
        self._vectors_path, self._ids_path = work / "documents.f4", work / "documents.ids"
        self._identity, self._dim = identity, dim
        self.offset: Any = None
        self.is_done = False
        self.n_seen = self._n_rows = self._ids_size = 0
        self.point_ids: list[Any] = []
        self._load()

    def _load(self) -> None:
        """Read the state of an earlier read, unless it was of something else."""
        try:
            state = read_json(self._state_path.read_text(encoding="utf-8"))
        except (OSError, ValueError):
            return
        if state["identity"] == self._identity:
            self.offset, self.is_done = state["offset"], state["is_done"]
            self.n_seen, self._n_rows = state["n_seen"], state["n_rows"]
            self._ids_size = state["ids_size"]

    def __enter__(self) -> "PartialRead":
        """Open the files, less what came after the last state."""
        self._vectors = _open_at(self._vectors_path, self._n_rows * self._dim * 4)
        self._ids = _open_at(self._ids_path, self._ids_size)
        return self

    def __exit__(self, *_: object) -> None:
        """Close the files; they stay."""
        self._vectors.close()
        self._ids.close()

    def append(
        self, ids: list[tuple[str, Any]], rows: NDArray[Any], n_seen: int, offset: Any
    ) -> None:
        """Keep one page durably."""
        self._vectors.write(rows.tobytes())
        self._ids.write(b"".join(json.dumps(pair).encode() + b"\n" for pair in ids))
        for file in (self._vectors, self._ids):
            file.flush()
            os.fsync(file.fileno())
        self.n_seen += n_seen
        self._n_rows += len(rows)
        self.offset, self.is_done, self._ids_size = offset, offset is None, self._ids.tell()
        state = {
            "identity": self._identity,
            "offset": self.offset,
            "is_done": self.is_done,
            "n_seen": self.n_seen,
            "n_rows": self._n_rows,
            "ids_size": self._ids_size,
        }
        write_whole(self._state_path, json.dumps(state).encode())

    def finish(self, target: Path) -> tuple[list[str], NDArray[np.float32]]:
        """Copy the rows into a matrix file; give their ids and the matrix."""
        if self._n_rows == 0:
            raise DataError("no point has the vector; expected at least one")
        pairs = [json.loads(line) for line in self._ids_path.read_bytes().splitlines()]
        self.point_ids = [point_id for _, point_id in pairs]
        shape = (self._n_rows, self._dim)
        rows = np.memmap(self._vectors_path, dtype="<f4", mode="r", shape=shape)
        matrix = new_matrix(target, shape)
        for start in range(0, len(rows), _BLOCK_ROWS):
            matrix[start : start + _BLOCK_ROWS] = rows[start : start + _BLOCK_ROWS]
        matrix.flush()
        return [name for name, _ in pairs], matrix


def forget_read(work: Path) -> None:
    """Remove what a read has kept."""
    for file in work.glob("documents.[fir]*"):
        file.unlink()


def _open_at(path: Path, size: int) -> BinaryIO:
    """Open a file to append to, cut to a size."""
    file = path.open("ab")
    file.truncate(size)
    file.seek(size)
    return file
