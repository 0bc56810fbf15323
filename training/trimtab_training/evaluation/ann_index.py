"""A FAISS index as its file has it: the graph or the lists inside, and the parameter to turn."""

import time
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from trimtab_training.embeddings.faiss_source import open_file, require_numbers
from trimtab_training.errors import DataError

_LEAST = {"efSearch": 8, "nprobe": 1}
_MOST_EF = 1024


@dataclass(frozen=True)
class ServedIndex:
    """An approximate index and the part of it whose search parameter can be turned.

    Attributes:
        path: Its file.
        index: What is searched, with all its wrappers.
        numbers: What it calls each row.
        core: The graph or the inverted lists inside.
        kind: ``HNSW`` or ``IVF``.
        parameter: ``efSearch`` or ``nprobe``.
        value: What the file says for it.
    """

    path: Path
    index: Any
    numbers: NDArray[np.int64]
    core: Any
    kind: str
    parameter: str
    value: int

    @classmethod
    def open(cls, path: Path, flags: int | None = None) -> "ServedIndex":
        """Read an index and reach through its id map, transforms and refinement.

        Args:
            path: Its file.
            flags: Those of an opening just before this one; see :func:`open_file`.

        Raises:
            DataError: The file is no index, its numbers don't tell its rows apart, or it is
                neither HNSW nor IVF.
        """
        file = open_file(path, flags)
        import faiss

        index, numbers = file.owner, require_numbers(path, file)
        core = file.core
        while isinstance(core, (faiss.IndexPreTransform, faiss.IndexRefine)):
            inner = core.index if isinstance(core, faiss.IndexPreTransform) else core.base_index
            core = faiss.downcast_index(inner)
        if isinstance(core, faiss.IndexHNSW):
            return cls(path, index, numbers, core, "HNSW", "efSearch", int(core.hnsw.efSearch))
        if isinstance(core, faiss.IndexIVF):
            return cls(path, index, numbers, core, "IVF", "nprobe", int(core.nprobe))
        name = type(core).__name__
        if isinstance(core, faiss.IndexFlatCodes):
            raise DataError(
                f"{path} is an {name}, which compares a query with every vector: no parameter "
                "makes it find more; expected an HNSW or IVF index"
            )
        raise DataError(f"{path} is an {name}; expected an HNSW or IVF index")

    @property
    def similarity(self) -> str:
        """What the index compares by: ``dot`` or ``euclid``.

        Raises:
            DataError: It is another metric.
        """
        import faiss

        metrics = {faiss.METRIC_INNER_PRODUCT: "dot", faiss.METRIC_L2: "euclid"}
        own: int = self.index.metric_type
        if own not in metrics:
            raise DataError(
                f"{self.path} compares by FAISS's metric {own}; expected inner product or L2"
            )
        return metrics[own]

    def check_similarity(self, similarity: str, *, is_unit: bool) -> None:
        """Refuse an index that orders documents otherwise than a similarity does.

        Args:
            similarity: ``cosine``, ``dot`` or ``euclid``.
            is_unit: True where all stored vectors have unit length: there, the three agree.

        Raises:
            DataError: With what the index compares by.
        """
        own = self.similarity
        if own != similarity and not is_unit:
            raise DataError(
                f"{self.path} compares by {own} and its vectors are not of unit length, so it "
                f"does not search by {similarity}; build it for {similarity}"
            )

    def values(self) -> list[int]:
        """List what to sweep: powers of two, the last possible value, and the served one."""
        most = _MOST_EF if self.kind == "HNSW" else int(self.core.nlist)
        value, values = _LEAST[self.parameter], {most, self.value}
        while value < most:
            values.add(value)
            value *= 2
        return sorted(values)

    def search(
        self, queries: NDArray[np.float32], k: int, value: int
    ) -> tuple[NDArray[np.int64], float]:
        """Search under a value of the parameter.

        Returns:
            Rows of the index, shape ``(queries, k)``, -1 where nothing was found, and seconds.
        """
        if self.kind == "HNSW":
            self.core.hnsw.efSearch = value
        else:
            self.core.nprobe = value
        started = time.perf_counter()
        _, numbers = self.index.search(queries, k)
        seconds = time.perf_counter() - started
        own, order = self._numbers
        places = np.searchsorted(own, numbers).clip(max=len(own) - 1)
        rows: NDArray[np.int64] = np.where(own[places] == numbers, order[places], -1)
        return rows, seconds

    @cached_property
    def _numbers(self) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """The numbers that the index answers with, ascending, and their rows."""
        order = np.argsort(self.numbers, kind="stable")
        return self.numbers[order], order
