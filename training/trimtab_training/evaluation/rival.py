"""What stands beside an adapter, held against it: a tuned encoder's file, or a second look."""

from collections.abc import Mapping

import numpy as np
from jaxtyping import Float
from numpy.typing import NDArray

from trimtab.model.adapter import Adapter
from trimtab_training.data.dataset import Dataset
from trimtab_training.data.training_digest import TrainedOn
from trimtab_training.embeddings.store import Embeddings
from trimtab_training.evaluation.paired import against_raw, compare_metrics, compare_slice
from trimtab_training.evaluation.per_query import Searched
from trimtab_training.evaluation.record import RivalTest, SecondLook
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
) -> tuple[RivalTest, Runs]:
    """Search exactly with raw vectors, through the adapter, and with what a tuned encoder gives.

    Args:
        vectors: The tuned encoder's, one for each query of the split, in its order.
        adapter: The model that stands beside it; None where there is none.
        dataset: Labels.
        embeddings: The raw vectors, and those of the documents.
        trained_on: What the file was trained on; see :func:`measure_rival`.
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
    test = measure_rival(found, dataset, split, searcher, trained_on)
    runs = {"raw": raw, **({"adapted": found["a"]} if adapter else {}), "tuned": found["b"]}
    return test, Runs.of(qrels, embeddings.documents.ids, runs)


def measure_second_look(
    adapter: Adapter, dataset: Dataset, split: str, searcher: Searcher, trained_on: TrainedOn | None
) -> SecondLook:
    """Search exactly, and look again at the best documents.

    Args:
        adapter: A model that has a second look.
        dataset: Labels.
        split: Whose queries the searcher has.
        searcher: What searches.
        trained_on: What the model was trained on; see :func:`measure_rival`. Where that is not
            known, this dataset's training queries.
    """
    look, similarity = adapter.second_look, adapter.manifest.similarity
    assert look is not None  # noqa: S101 - the caller has looked
    found = {
        "raw": searcher.search(None, similarity),
        "a": searcher.search(adapter, similarity),
        "b": searcher.look_again(adapter),
    }
    known = trained_on or TrainedOn.of(dataset)
    test = measure_rival(found, dataset, split, searcher, known)
    return SecondLook(depth=look.depth, mix=look.mix, rank=look.rank, test=test)


def measure_rival(
    found: Mapping[str, Searched],
    dataset: Dataset,
    split: str,
    searcher: Searcher,
    trained_on: TrainedOn,
) -> RivalTest:
    """Hold what one way of searching finds against another one.

    Args:
        found: ``a``, the rival ``b``, and ``raw``.
        dataset: Labels.
        split: Whose queries the searcher has.
        searcher: What has searched.
        trained_on: What ``b`` was trained on: its queries are left out, unless that leaves none,
            and its documents count as seen.
    """
    qrels = dataset.split(split)
    is_used = trained_on.has_query(dataset, list(qrels))
    is_kept: NDArray[np.bool_] = ~is_used | is_used.all()
    is_seen = trained_on.has_document_of(qrels)
    is_part = is_kept & searcher.queries.is_answered
    return RivalTest(
        split=split,
        n_queries=int(is_kept.sum()),
        n_left_out=int((~is_kept).sum()),
        metrics=compare_metrics(found, is_kept),
        slices={
            "seen_documents": compare_slice(found, is_seen & is_part),
            "unseen_documents": compare_slice(found, ~is_seen & is_part),
        },
        against_raw=against_raw(found, "b", is_kept),
    )
