"""A small world in which an adapter can be right: queries are documents seen through a rotation."""

import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from trimtab_training.data.dataset import Dataset
from trimtab_training.embeddings.store import Embeddings


@dataclass(frozen=True)
class World:
    """A dataset folder and its embeddings folder.

    Attributes:
        folder: The BEIR folder.
        vectors: The embeddings folder.
    """

    folder: Path
    vectors: Path

    @property
    def dataset(self) -> Dataset:
        return Dataset.load(self.folder)

    @property
    def embeddings(self) -> Embeddings:
        return Embeddings.open(self.vectors)


def make_world(
    folder: Path,
    *,
    n_documents: int = 120,
    n_queries: int = 160,
    dim: int = 16,
    dim_query: int | None = None,
    noise: float = 0.15,
    useful: bool = True,
    seed: int = 0,
    dtype: str = "float32",
) -> World:
    """Write a world; where it is not ``useful``, queries point at random documents."""
    rng = np.random.default_rng(seed)
    documents = unit(rng.standard_normal((n_documents, dim)))
    meant = rng.integers(n_documents, size=n_queries)
    turn = np.linalg.qr(rng.standard_normal((dim, dim)))[0]
    if dim_query is None and useful:
        left, _, right = np.linalg.svd(np.eye(dim) + 1.3 * turn)
        turn = left @ right  # the rotation nearest to a blend of staying and turning
    if dim_query is not None:
        turn = rng.standard_normal((dim, dim_query)) / dim**0.5
    source = documents[meant] if useful else unit(rng.standard_normal((n_queries, dim)))
    queries = source @ turn
    queries = unit(queries + noise * rng.standard_normal(queries.shape) / queries.shape[1] ** 0.5)
    document_ids = [f"d{row}" for row in range(n_documents)]
    query_ids = [f"q{row}" for row in range(n_queries)]
    (folder / "qrels").mkdir(parents=True)
    write_texts(folder / "corpus.jsonl", document_ids, "document")
    write_texts(folder / "queries.jsonl", query_ids, "query")
    for split in ("train", "test"):
        lines = [
            f"{query_ids[row]}\td{meant[row]}\t1\n"
            for row in range(n_queries)
            if (row % 4 == 3) == (split == "test")
        ]
        (folder / "qrels" / f"{split}.tsv").write_text(
            "query-id\tcorpus-id\tscore\n" + "".join(lines), encoding="utf-8"
        )
    vectors = folder / "embeddings"
    write_vectors(vectors, documents, queries, dtype)
    return World(folder, vectors)


def write_vectors(
    folder: Path, documents: np.ndarray, queries: np.ndarray, dtype: str = "float32"
) -> None:
    """Write an embeddings folder with ids d0.. and q0.."""
    folder.mkdir(exist_ok=True)
    np.save(folder / "documents.npy", documents.astype(dtype))
    np.save(folder / "queries.npy", queries.astype(dtype))
    for name, letter, rows in (("document", "d", documents), ("query", "q", queries)):
        (folder / f"{name}_ids.txt").write_text(
            "".join(f"{letter}{row}\n" for row in range(len(rows))), encoding="utf-8"
        )
    encoder = {
        "name": "toy",
        "fingerprint": "sha256:toy",
        "dim": queries.shape[1],
        "normalised": True,
    }
    (folder / "encoder.json").write_text(json.dumps(encoder), encoding="utf-8")


def write_texts(path: Path, ids: list[str], word: str) -> None:
    """Write one record a line."""
    path.write_text(
        "".join(
            json.dumps({"_id": name, "title": "", "text": f"{word} {name}"}) + "\n" for name in ids
        ),
        encoding="utf-8",
    )


def unit(vectors: np.ndarray) -> np.ndarray:
    """Scale rows to unit length."""
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
