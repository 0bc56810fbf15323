"""Small datasets and embeddings folders, written as users write them."""

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from trimtab_training.embeddings.encoders import CallableEncoder
from trimtab_training.embeddings.store import VectorTable

HEADER = "query-id\tcorpus-id\tscore\n"
Labels = Mapping[str, Mapping[str, float]]


def write_dataset(
    folder: Path,
    *,
    documents: Mapping[str, str] | Sequence[str] = (),
    queries: Mapping[str, str] | Sequence[str] = (),
    splits: Mapping[str, Labels] | None = None,
) -> Path:
    """Write a BEIR folder; ids without texts get one of their own."""
    folder.mkdir(parents=True, exist_ok=True)
    write_jsonl(folder / "corpus.jsonl", _records(documents, "document"))
    write_jsonl(folder / "queries.jsonl", _records(queries, "query"))
    for name, labels in (splits or {"train": {"q0": {"d0": 1}}, "test": {"q1": {"d1": 1}}}).items():
        write_qrels(folder / "qrels" / f"{name}.tsv", labels)
    return folder


def write_qrels(path: Path, labels: Labels, *, backwards: bool = False) -> Path:
    """Write labels in BEIR's form."""
    lines = [
        f"{query}\t{doc_id}\t{grade}\n"
        for query, grades in labels.items()
        for doc_id, grade in grades.items()
    ]
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(HEADER + "".join(lines[::-1] if backwards else lines), encoding="utf-8")
    return path


def write_jsonl(path: Path, records: Sequence[Any]) -> Path:
    """Write one JSON value a line."""
    path.write_text("".join(json.dumps(record) + "\n" for record in records), encoding="utf-8")
    return path


def write_embeddings(
    folder: Path,
    *,
    documents: np.ndarray | None = None,
    queries: np.ndarray | None = None,
    document_ids: Sequence[str] | None = None,
    query_ids: Sequence[str] | None = None,
    **encoder: Any,
) -> Path:
    """Write an embeddings folder: ids d0.. and q0.., unit vectors, unless told otherwise."""
    folder.mkdir(parents=True, exist_ok=True)
    documents = np.eye(4, dtype=np.float32) if documents is None else documents
    queries = np.eye(3, 4, dtype=np.float32) if queries is None else queries
    np.save(folder / "documents.npy", documents)
    np.save(folder / "queries.npy", queries)
    for name, given, rows in (("document", document_ids, documents), ("query", query_ids, queries)):
        ids = [f"{name[0]}{row}" for row in range(len(rows))] if given is None else given
        (folder / f"{name}_ids.txt").write_text("".join(f"{one}\n" for one in ids), "utf-8")
    info = {"name": "toy", "fingerprint": "sha256:toy", "dim": 4, "normalised": True, **encoder}
    (folder / "encoder.json").write_text(json.dumps(info), encoding="utf-8")
    return folder


def table(matrix: np.ndarray, what: str = "documents") -> VectorTable:
    """Hold a matrix under the ids d0.. or q0.."""
    letter = what[0]
    return VectorTable([f"{letter}{row}" for row in range(len(matrix))], matrix, what)


def vector_of(text: str, dim: int = 4) -> np.ndarray:
    """Give a text's vector: unit length, the same every time, another for every text."""
    seed = int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big")
    vector = np.random.default_rng(seed).standard_normal(dim)
    return (vector / np.linalg.norm(vector)).astype(np.float32)


class CountingEncoder:
    """A function from texts to vectors that notes what it is asked and may fail on the way.

    Attributes:
        asked: Every text it was asked for, in order.
        fails_after: Batches that succeed before it raises, or None for all.
    """

    def __init__(
        self,
        *,
        fails_after: int | None = None,
        answer: Callable[[list[str]], Any] | None = None,
        dim: int = 4,
    ) -> None:
        self.asked: list[str] = []
        self.fails_after = fails_after
        self._answer = answer or (lambda texts: np.stack([vector_of(one, dim) for one in texts]))

    def __call__(self, texts: list[str]) -> Any:
        if self.fails_after == 0:
            raise ConnectionError("the encoder went away")
        if self.fails_after is not None:
            self.fails_after -= 1
        self.asked.extend(texts)
        return self._answer(texts)

    def encoder(self, **options: Any) -> CallableEncoder:
        """Wrap it as training's encoder, two texts a batch."""
        options = {"name": "toy", "fingerprint": "sha256:toy", "batch_size": 2, **options}
        return CallableEncoder(self, **options)


def _records(texts: Mapping[str, str] | Sequence[str], word: str) -> list[dict[str, str]]:
    """Make one record a text."""
    if not isinstance(texts, Mapping):
        texts = {name: f"{word} {name}" for name in texts}
    return [{"_id": name, "title": "", "text": text} for name, text in texts.items()]
