"""What an encoder's file finds, beside the vectors that a dataset's queries have already."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from trimtab.text.encoder import TextEncoder
from trimtab_training.data.dataset import Dataset
from trimtab_training.embeddings.store import Embeddings
from trimtab_training.errors import DataError
from trimtab_training.retrieval.exact_search import search
from trimtab_training.retrieval.metrics import measure
from trimtab_training.retrieval.significance import compare_paired

_METRIC, _DEPTH = "ndcg@10", 10


@dataclass(frozen=True)
class EncoderLoss:
    """What another way to embed the queries costs.

    Attributes:
        dataset: The dataset's name.
        split: Whose queries were asked.
        n_queries: How many.
        stored: nDCG@10 of the vectors that the embeddings folder holds.
        file: nDCG@10 of those that the encoder's file gives.
        delta: Their difference.
        ci95: Its 95 % interval, by resampling queries.
        cosine_worst: Largest distance of a query's two vectors, as 1 - cosine.
        cosine_mean: Their mean distance.
    """

    dataset: str
    split: str
    n_queries: int
    stored: float
    file: float
    delta: float
    ci95: tuple[float, float]
    cosine_worst: float
    cosine_mean: float


def measure_file(
    encoder: TextEncoder,
    dataset: Dataset,
    embeddings: Embeddings,
    *,
    split: str = "test",
) -> EncoderLoss:
    """Embed a split's queries by the file, search exactly by cosine, compare with stored vectors.

    Args:
        encoder: The file.
        dataset: Labels and texts.
        embeddings: Their vectors, by the same encoder.
        split: Whose queries.

    Raises:
        DataError: A label has no vector, or a query no text.
    """
    qrels = dataset.split(split)
    embeddings.require({split: qrels})
    texts = dataset.query_texts(qrels)
    if lacking := [query_id for query_id in qrels if query_id not in texts]:
        raise DataError(f"query {lacking[0]!r} of {dataset.name} has labels and no text")
    stored = embeddings.queries.take_ids(list(qrels))
    embedded = encoder.encode([texts[query_id] for query_id in qrels], raw=True)
    rows = embeddings.documents.rows
    relevant = [{rows[doc]: grade for doc, grade in wanted.items()} for wanted in qrels.values()]

    def score(queries: NDArray[np.float32]) -> NDArray[np.float64]:
        found, _ = search(queries, embeddings.documents, depth=_DEPTH, similarity="cosine")
        return measure(found, relevant)[_METRIC]

    before, after = score(stored), score(embedded)
    difference = compare_paired(after - before, np.random.default_rng(0))
    lengths = np.linalg.norm(stored, axis=1) * np.linalg.norm(embedded, axis=1)
    far = 1.0 - np.einsum("nd,nd->n", stored, embedded, dtype=np.float64) / lengths
    return EncoderLoss(
        dataset=dataset.name,
        split=split,
        n_queries=len(qrels),
        stored=float(before.mean()),
        file=float(after.mean()),
        delta=difference.mean,
        ci95=(difference.low, difference.high),
        cosine_worst=float(far.max()),
        cosine_mean=float(far.mean()),
    )
