"""What a tuned encoder's file does to a split, beside the adapter that stands next to it."""

import numpy as np
from jaxtyping import Float
from numpy.typing import NDArray

from trimtab.model.adapter import Adapter
from trimtab_training.data.dataset import Dataset
from trimtab_training.data.training_digest import TrainedOn
from trimtab_training.embeddings.store import Embeddings
from trimtab_training.evaluation.compare import against_raw, compare_metrics, compare_slice
from trimtab_training.evaluation.record import TunedTest
from trimtab_training.evaluation.runs import Runs
from trimtab_training.evaluation.searched_models import Searcher


def measure_tuned(  # noqa: PLR0913 - what is measured, and how
    vectors: Float[np.ndarray, "queries dim"],
    adapter: Adapter | None,
    dataset: Dataset,
    embeddings: Embeddings,
    *,
    trained_on: TrainedOn,
    similarity: str,
    split: str = "test",
) -> tuple[TunedTest, Runs]:
    """Search exactly with raw vectors, through the adapter, and with what the file gives.

    Args:
        vectors: The file's, one for each query of the split, in its order.
        adapter: The model that stands beside it; None where there is none.
        dataset: Labels.
        embeddings: The raw vectors, and those of the documents.
        trained_on: What the file was trained on: its queries are left out, unless that leaves
            none, and its documents count as seen.
        similarity: How the index compares vectors.
        split: Whose queries.

    Returns:
        The file against the adapter, or against raw vectors where there is none; and what every
        query found: ``raw``, ``adapted`` where there is an adapter, ``tuned``.
    """
    qrels = dataset.split(split)
    searcher = Searcher(qrels, embeddings, is_comparable=True)
    raw = searcher.search(None, similarity)
    found = {
        "raw": raw,
        "a": searcher.search(adapter, similarity) if adapter else raw,
        "b": searcher.search_vectors(vectors, similarity),
    }
    is_used = trained_on.has_query(dataset, list(qrels))
    is_kept: NDArray[np.bool_] = ~is_used | is_used.all()
    gain = against_raw(found, "b", is_kept)
    assert gain is not None  # noqa: S101 - raw vectors were searched with
    is_seen = trained_on.has_document_of(qrels)
    is_part = is_kept & searcher.queries.is_answered
    test = TunedTest(
        split=split,
        n_queries=int(is_kept.sum()),
        n_left_out=int((~is_kept).sum()),
        metrics=compare_metrics(found, is_kept),
        slices={
            "seen_documents": compare_slice(found, is_seen & is_part),
            "unseen_documents": compare_slice(found, ~is_seen & is_part),
        },
        against_raw=gain,
    )
    runs = {"raw": raw, **({"adapted": found["a"]} if adapter else {}), "tuned": found["b"]}
    return test, Runs.of(qrels, embeddings.documents.ids, runs)
