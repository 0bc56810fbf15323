"""Vectors on disk as they come, so that no text is embedded, or paid for, twice."""

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from trimtab_training.errors import EncoderError

_DIGEST_BYTES = 32


class Journal:
    """Vectors on disk under the digests of their texts, appended batch by batch.

    A file of records, each a 32-byte digest and the vector as float32, behind the width as eight
    bytes. A record that a crash cut short is dropped.

    Attributes:
        places: Number of each digest's record.
        dim: Values in a vector; 0 while the journal is empty.
    """

    def __init__(self, path: Path) -> None:
        """Open a journal, or prepare to begin one."""
        self._path = path
        self.places: dict[bytes, int] = {}
        self.dim = 0
        if path.exists():
            self._read()

    def _read(self) -> None:
        """Find what the journal holds, and cut off half a record at its end."""
        size = self._path.stat().st_size
        if size < 8:
            self._path.unlink()
            return
        with self._path.open("rb") as file:
            self.dim = int.from_bytes(file.read(8), "little")
        n_records = (size - 8) // self._record_bytes
        os.truncate(self._path, 8 + n_records * self._record_bytes)
        if n_records:
            records = self._records(n_records)
            self.places = {bytes(records["key"][place]): place for place in range(n_records)}

    @property
    def _record_bytes(self) -> int:
        """Size of one record."""
        return _DIGEST_BYTES + 4 * self.dim

    def _records(self, count: int) -> NDArray[Any]:
        """Look at the records without loading them."""
        layout = np.dtype([("key", np.uint8, _DIGEST_BYTES), ("vector", "<f4", self.dim)])
        return np.memmap(self._path, dtype=layout, mode="r", offset=8, shape=count)

    def append(self, keys: Sequence[bytes], vectors: NDArray[np.float32]) -> None:
        """Add one batch durably: once this returns, a crash no longer loses it.

        Raises:
            EncoderError: The vectors' width changed since the journal began.
        """
        with self._path.open("ab") as file:
            if self.dim == 0:
                self.dim = vectors.shape[1]
                file.write(self.dim.to_bytes(8, "little"))
            if vectors.shape[1] != self.dim:
                raise EncoderError(
                    f"the encoder gave vectors of {vectors.shape[1]} values after {self.dim}; "
                    f"remove {self._path} and try again"
                )
            for key, vector in zip(keys, vectors, strict=True):
                self.places[key] = len(self.places)
                file.write(key + vector.astype("<f4").tobytes())
            file.flush()
            os.fsync(file.fileno())

    def fill(self, matrix: NDArray[np.float32], keys: Sequence[bytes]) -> None:
        """Put the vector of each key into its row of a matrix."""
        records = self._records(len(self.places))
        for row, key in enumerate(keys):
            matrix[row] = records["vector"][self.places[key]]
