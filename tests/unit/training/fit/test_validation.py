"""Validation: which documents are ranked, and how queries are scored."""

from pathlib import Path

import numpy as np
import pytest
import torch

from tests.support.sets import write_embeddings
from trimtab_training.data.qrels import Qrels
from trimtab_training.embeddings.store import Embeddings
from trimtab_training.fit.recipe import Recipe
from trimtab_training.fit.validation import DocumentPool, ValidationSet, validation_rows
from trimtab_training.retrieval.exact_search import search
from trimtab_training.retrieval.metrics import measure

N_DOCUMENTS, N_QUERIES, DIM = 300, 12, 8
TRAIN: Qrels = {f"q{n}": {f"d{n * 20}": 2.0, f"d{n * 20 + 1}": 0.0} for n in range(8)}
DEV: Qrels = {f"q{n}": {f"d{n * 20}": 1.0} for n in range(8, 12)}


@pytest.fixture(scope="module")
def embeddings(tmp_path_factory: pytest.TempPathFactory) -> Embeddings:
    rng = np.random.default_rng(0)
    folder: Path = tmp_path_factory.mktemp("vectors")
    documents, queries = (
        rng.standard_normal((n, DIM)).astype(np.float32) for n in (N_DOCUMENTS, N_QUERIES)
    )
    return Embeddings.open(write_embeddings(folder, documents=documents, queries=queries, dim=DIM))


def rows_of(embeddings: Embeddings, cap: int, seed: int = 0) -> set[int]:
    rows = validation_rows(
        embeddings, [TRAIN, DEV], Recipe(max_validated=cap), np.random.default_rng(seed)
    )
    assert rows.dtype == np.int64
    assert (np.diff(rows) > 0).all(), "sorted, none twice"
    return set(rows.tolist())


LABELLED = {n * 20 for n in range(12)} | {n * 20 + 1 for n in range(8)}


@pytest.mark.parametrize("cap", [N_DOCUMENTS, 50_000])
def test_all_documents_are_ranked_where_they_are_few(embeddings: Embeddings, cap: int) -> None:
    assert rows_of(embeddings, cap) == set(range(N_DOCUMENTS))


@pytest.mark.parametrize("cap", [40, 100, 299])
def test_capped_pool_holds_every_labelled_document_and_is_full(
    embeddings: Embeddings, cap: int
) -> None:
    rows = rows_of(embeddings, cap)
    assert rows >= LABELLED
    assert len(rows) == cap


def test_labelled_documents_stay_even_beyond_the_cap(embeddings: Embeddings) -> None:
    assert rows_of(embeddings, 5) == LABELLED


def test_capped_pool_holds_what_raw_queries_find_first(embeddings: Embeddings) -> None:
    found, _ = search(
        embeddings.queries.take(range(N_QUERIES)),
        embeddings.documents,
        depth=3,
        similarity="cosine",
    )
    rows = rows_of(embeddings, 100)  # room for 75 by rank: 20 labelled and four of each query
    assert rows >= set(found.ravel().tolist())


def test_rest_of_the_pool_is_drawn_by_the_seed(embeddings: Embeddings) -> None:
    assert rows_of(embeddings, 100) == rows_of(embeddings, 100)
    assert rows_of(embeddings, 100) != rows_of(embeddings, 100, seed=1)


def test_pool_is_filled_at_random_where_raw_queries_mean_nothing(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    write_embeddings(
        tmp_path,
        documents=rng.standard_normal((N_DOCUMENTS, 5)).astype(np.float32),
        queries=rng.standard_normal((N_QUERIES, DIM)).astype(np.float32),
        dim=DIM,
    )
    rows = rows_of(Embeddings.open(tmp_path), 60)
    assert len(rows) == 60
    assert rows >= LABELLED


@pytest.mark.parametrize("similarity", ["cosine", "dot", "euclid"])
def test_pool_of_all_documents_scores_as_search_does(
    embeddings: Embeddings, similarity: str
) -> None:
    pool = DocumentPool(embeddings.documents, np.arange(N_DOCUMENTS), similarity)
    held_out = ValidationSet.make(TRAIN, {}, embeddings, pool)
    rows, _ = search(
        embeddings.queries.take_ids(list(TRAIN)),
        embeddings.documents,
        depth=10,
        similarity=similarity,
    )
    wanted = [{n * 20: 2.0} for n in range(8)]
    np.testing.assert_array_equal(pool.rank(held_out.queries), rows)
    np.testing.assert_array_equal(held_out.ndcg(held_out.queries), measure(rows, wanted)["ndcg@10"])


def test_pool_of_some_documents_ranks_those_alone(embeddings: Embeddings) -> None:
    rows = np.array(sorted(LABELLED))
    pool = DocumentPool(embeddings.documents, rows, "cosine")
    held_out = ValidationSet.make(TRAIN, {}, embeddings, pool)
    places = pool.rank(held_out.queries)
    assert places.max() < len(rows)
    queries, documents = held_out.queries.numpy(), embeddings.documents.take(rows)
    cosines = queries @ (documents / np.linalg.norm(documents, axis=1, keepdims=True)).T
    np.testing.assert_array_equal(places, np.argsort(-cosines, axis=1)[:, :10])


def test_validation_set_holds_relevant_documents_by_their_place(embeddings: Embeddings) -> None:
    rows = np.array(sorted(LABELLED))
    pool = DocumentPool(embeddings.documents, rows, "cosine")
    held_out = ValidationSet.make(TRAIN, {"t": {"d20": 1.0}}, embeddings, pool)
    assert [list(wanted.values()) for wanted in held_out.relevant_places] == [[2.0]] * 8
    assert [rows[next(iter(x))] for x in held_out.relevant_places] == [n * 20 for n in range(8)]
    assert held_out.is_seen.tolist() == [n == 1 for n in range(8)]


def test_perfectly_adapted_queries_score_one(embeddings: Embeddings) -> None:
    pool = DocumentPool(embeddings.documents, np.arange(N_DOCUMENTS), "cosine")
    held_out = ValidationSet.make(TRAIN, {}, embeddings, pool)
    adapted = torch.from_numpy(embeddings.documents.take([n * 20 for n in range(8)]))
    np.testing.assert_array_equal(held_out.ndcg(adapted), np.ones(8))
