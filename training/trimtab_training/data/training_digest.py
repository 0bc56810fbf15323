"""Which queries and documents a model was trained on, kept beside it as digests.

A later comparison can so leave out test queries that a model, or the one that it started from, has
been trained on, and tell which documents it has seen. Digests name no text to who does not have it.
"""

import hashlib
import io
import json
from collections.abc import Collection, Iterable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from trimtab.array_files import read_arrays
from trimtab.parsing import read_json
from trimtab_training.data.dataset import Dataset
from trimtab_training.data.qrels import Qrels, only_relevant, relevant_documents
from trimtab_training.errors import DataError
from trimtab_training.model_files import TRAINED_ON, folder_of

_MADE_BY = ("labels", "vectors", "seed")
_USED_SPLITS = ("train", "dev")

Digests = NDArray[np.uint64]


@dataclass(frozen=True)
class TrainedOn:
    """What had a part in making a model.

    Attributes:
        queries: Digests of the texts of queries that it was trained on or chosen by, sorted.
        documents: Digests of the ids of documents that were relevant to a training query, sorted.
        is_complete: False where it started from a model of which this is not known.
    """

    queries: Digests
    documents: Digests
    is_complete: bool = True

    @classmethod
    def of(
        cls,
        dataset: Dataset,
        start: "TrainedOn | None" = None,
        *,
        splits: Collection[str] = ("train",),
    ) -> "TrainedOn":
        """Gather what a fit on a dataset looks at, and what its start has looked at before.

        Args:
            dataset: The queries of its ``train`` and ``dev`` splits count.
            start: The same of the model that the fit started from.
            splits: The splits that it was trained on, not only chosen by: their documents count.
        """
        used = [query for split in _USED_SPLITS for query in dataset.splits.get(split, {})]
        queries = _sorted(query_digests(dataset, used))
        trained = [relevant_documents(dataset.splits.get(split, {})) for split in splits]
        documents = _sorted(_digests("id", set().union(*trained)))
        if start is None:
            return cls(queries, documents)
        return cls(
            np.union1d(queries, start.queries),
            np.union1d(documents, start.documents),
            start.is_complete,
        )

    @classmethod
    def nothing(cls) -> "TrainedOn":
        """Say of the raw query, or of a model that a user vouches for, that it has seen nothing."""
        empty = np.array([], dtype=np.uint64)
        return cls(empty, empty)

    @classmethod
    def find(
        cls, model: str | Path, training: dict[str, Any], dataset: Dataset
    ) -> "TrainedOn | None":
        """Look up what a model was trained on: it stands beside it, or is this very dataset.

        Args:
            model: The model file or its folder.
            training: What the model's manifest says about training.
            dataset: Perhaps what it was trained on, or what that was divided from.

        Returns:
            None where it is not known.
        """
        known = cls.beside(model, training)
        if known is None and (same := _as_trained_on(dataset, training)):
            is_known = not training.get("started_from")  # of what that has seen, nothing is left
            splits = training.get("training_splits", ("train",))
            known = replace(cls.of(same, splits=splits), is_complete=is_known)
        return known

    @classmethod
    def beside(cls, model: str | Path, training: dict[str, Any]) -> "TrainedOn | None":
        """Read what stands beside a model.

        Args:
            model: The model file or its folder.
            training: What the model's manifest says about training.

        Returns:
            None where nothing stands there, or where it belongs to another model.
        """
        try:
            content = (folder_of(model) / TRAINED_ON).read_bytes()
            held = read_arrays(content)
            made_by = read_json(str(held["made_by"]))
            if made_by != {key: training[key] for key in _MADE_BY}:
                return None
            queries = held["queries"].astype(np.uint64)
            documents = held["documents"].astype(np.uint64)
            return cls(queries, documents, bool(held["is_complete"]))
        except (OSError, ValueError, KeyError):
            return None

    def encode(self, training: dict[str, Any]) -> bytes:
        """Give the file to stand beside a model.

        Args:
            training: What the model's manifest says about training; ties the file to the model.
        """
        content = io.BytesIO()
        np.savez(
            content,
            queries=self.queries,
            documents=self.documents,
            is_complete=np.array(self.is_complete),
            made_by=np.array(json.dumps({key: training[key] for key in _MADE_BY})),
        )
        return content.getvalue()

    def has_query(self, dataset: Dataset, query_ids: Collection[str]) -> NDArray[np.bool_]:
        """Tell for each query of a dataset whether it was trained on, whatever its id."""
        return np.isin(query_digests(dataset, query_ids), self.queries)

    def has_document(self, doc_ids: Iterable[str]) -> NDArray[np.bool_]:
        """Tell for each document whether it was relevant to a training query."""
        return np.isin(_digests("id", doc_ids), self.documents)

    def has_document_of(self, qrels: Qrels) -> NDArray[np.bool_]:
        """Tell for each query whether a document relevant to it was so to a training query."""
        relevant = only_relevant(qrels).values()
        is_known = self.has_document(doc_id for labels in relevant for doc_id in labels)
        queries = np.repeat(np.arange(len(qrels)), [len(labels) for labels in relevant])
        return np.bincount(queries, weights=is_known, minlength=len(qrels)) > 0


def _as_trained_on(dataset: Dataset, training: dict[str, Any]) -> Dataset | None:
    """Give a dataset as a model was trained on it; None where that was another."""
    if "train" not in dataset.splits and training.get("made_splits"):
        try:
            dataset = dataset.for_fit(training["made_splits"])
        except DataError:  # which can't be divided, so it was another
            return None
    return dataset if training.get("labels") == dataset.content_hash() else None


def query_digests(dataset: Dataset, query_ids: Collection[str]) -> Digests:
    """Digest each query's text, as it reads without case and spacing; its id where it has none."""
    texts = dataset.query_texts(query_ids)
    keys = [
        f"text\0{' '.join(text.casefold().split())}"
        if (text := texts.get(query, "")).strip()
        else f"id\0{query}"
        for query in query_ids
    ]
    return _from_keys(keys)


def _digests(kind: str, names: Iterable[str]) -> Digests:
    """Digest names of one kind."""
    return _from_keys([f"{kind}\0{name}" for name in names])


def _from_keys(keys: list[str]) -> Digests:
    """Take eight bytes of each key's SHA-256; a chance match is one in 10^13 at a million."""
    cut = [hashlib.sha256(key.encode(errors="surrogatepass")).digest()[:8] for key in keys]
    return np.frombuffer(b"".join(cut), dtype=np.uint64)


def _sorted(digests: Digests) -> Digests:
    """Sort, each once; the order then tells nothing of the data's."""
    return np.unique(digests)
