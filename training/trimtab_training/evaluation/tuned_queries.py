"""What a tuned encoder's file does to a split, beside the adapter that stands next to it."""

import numpy as np
from jaxtyping import Float

from trimtab.model.adapter import Adapter
from trimtab_training.data.dataset import Dataset
from trimtab_training.data.qrels import Qrels
from trimtab_training.data.splits import has_seen_document
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
    trained: Qrels,
    similarity: str,
    split: str = "test",
) -> tuple[TunedTest, Runs]:
    """Search exactly with raw vectors, through the adapter, and with what the file gives.

    Args:
        vectors: The file's, one for each query of the split, in its order.
        adapter: The model that stands beside it; None where there is none.
        dataset: Labels.
        embeddings: The raw vectors, and those of the documents.
        trained: The labels that were trained on: they decide which documents count as seen.
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
    gain = against_raw(found, "b")
    assert gain is not None  # noqa: S101 - raw vectors were searched with
    is_seen = has_seen_document(qrels, trained)
    test = TunedTest(
        split=split,
        n_queries=len(qrels),
        metrics=compare_metrics(found),
        slices={
            "seen_documents": compare_slice(found, is_seen),
            "unseen_documents": compare_slice(found, ~is_seen),
        },
        against_raw=gain,
    )
    runs = {"raw": raw, **({"adapted": found["a"]} if adapter else {}), "tuned": found["b"]}
    return test, Runs.of(qrels, embeddings.documents.ids, runs)
