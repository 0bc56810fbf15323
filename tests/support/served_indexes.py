"""FAISS files of small sets, and what exact search finds in them, worked out by other means."""

from pathlib import Path
from typing import Any

import faiss
import numpy as np

from tests.support.sets import table
from trimtab_training.embeddings.store import VectorTable

DIM = 16


def rows_of(n: int, *, seed: int = 0, dim: int = DIM) -> np.ndarray:
    """Draw unit vectors around a few centres, as texts have them."""
    rng = np.random.default_rng(seed)
    centres = np.random.default_rng(99).standard_normal((20, dim))
    rows = centres[rng.integers(0, 20, n)] + 0.6 * rng.standard_normal((n, dim))
    return (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)


def build(kind: str, rows: np.ndarray, *, metric: int = faiss.METRIC_INNER_PRODUCT) -> Any:
    """Build an index by FAISS's own words for it."""
    index = faiss.index_factory(rows.shape[1], kind, metric)
    index.train(rows)
    index.add(rows)
    return index


def save(folder: Path, index: Any, *, ids: list[str] | None = None) -> str:
    """Write an index and its ids; give them as a source."""
    faiss.write_index(index, str(folder / "x.faiss"))
    names = ids or [f"d{row}" for row in range(index.ntotal)]
    (folder / "x.ids").write_text("".join(f"{name}\n" for name in names), "utf-8")
    return f"faiss:{folder / 'x.faiss'}?ids={folder / 'x.ids'}"


def documents_of(rows: np.ndarray) -> VectorTable:
    """Hold rows as the documents d0, d1, and so on."""
    return table(rows)


def nearest(queries: np.ndarray, rows: np.ndarray, *, by: str = "dot") -> list[set[int]]:
    """Find the ten nearest rows of each query by sorting every score."""
    queries, rows = queries.astype(np.float64), rows.astype(np.float64)
    scores = queries @ rows.T
    if by == "euclid":
        scores = -((queries[:, None] - rows[None]) ** 2).sum(axis=2)
    return [set(order[:10].tolist()) for order in np.argsort(-scores, axis=1, kind="stable")]


def recall_by_hand(found: np.ndarray, wanted: list[set[int]]) -> float:
    """Give the mean share of wanted rows among those found."""
    return float(
        np.mean(
            [len(set(row.tolist()) & near) / 10 for row, near in zip(found, wanted, strict=True)]
        )
    )


def on_a_line(nprobe: int = 1) -> tuple[Any, np.ndarray]:
    """Lay twenty documents at -9.5, -8.5 to 9.5 on a line, in two lists that part at 0."""
    rows = np.zeros((20, 2), dtype=np.float32)
    rows[:, 0] = np.arange(20) - 9.5
    quantizer = faiss.IndexFlatL2(2)
    quantizer.add(np.array([[-5, 0], [5, 0]], dtype=np.float32))
    index = faiss.IndexIVFFlat(quantizer, 2, 2)
    index.train(rows)
    index.add(rows)
    index.nprobe = nprobe
    return index, rows
