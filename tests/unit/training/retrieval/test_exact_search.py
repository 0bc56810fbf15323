"""Exact search: what brute force finds, and ties in the order of rows."""

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import torch

from tests.support.sets import table
from trimtab_training.embeddings.store import VectorTable
from trimtab_training.retrieval import exact_search as search_module
from trimtab_training.retrieval.exact_search import best_of, normalise, prepare_documents, search

CLOSE = 1e-5  # float32 sums of 24 terms, in another order


class SmallBlocks(VectorTable):
    """A table that is read seven rows at a time."""

    def blocks(self, n_rows: int = 7) -> Iterator[tuple[int, Any]]:
        return super().blocks(n_rows)


def in_small_blocks(matrix: np.ndarray) -> VectorTable:
    return SmallBlocks([f"d{row}" for row in range(len(matrix))], matrix, "documents")


def brute_force(queries: np.ndarray, documents: np.ndarray, similarity: str) -> np.ndarray:
    queries, documents = queries.astype(np.float64), documents.astype(np.float64)
    if similarity == "cosine":
        queries = queries / np.linalg.norm(queries, axis=1, keepdims=True)
        documents = documents / np.linalg.norm(documents, axis=1, keepdims=True)
    if similarity == "euclid":
        return -((queries[:, None] - documents[None]) ** 2).sum(axis=2)
    return queries @ documents.T


@pytest.mark.parametrize("similarity", ["cosine", "dot", "euclid"])
@pytest.mark.parametrize("make", [table, in_small_blocks])
@pytest.mark.parametrize("depth", [1, 10, 40])
def test_search_finds_what_brute_force_finds(similarity: str, make: Any, depth: int) -> None:
    rng = np.random.default_rng(0)
    documents = rng.standard_normal((40, 24)).astype(np.float32) * rng.uniform(0.5, 2, (40, 1))
    queries = rng.standard_normal((9, 24)).astype(np.float32)
    documents = documents.astype(np.float32)
    rows, scores = search(queries, make(documents), depth=depth, similarity=similarity)
    wanted = brute_force(queries, documents, similarity)
    order = np.argsort(-wanted, axis=1)[:, :depth]
    np.testing.assert_array_equal(rows, order)
    np.testing.assert_allclose(
        scores, np.take_along_axis(wanted, order, axis=1), atol=24 * CLOSE, rtol=CLOSE
    )


def test_similarities_rank_differently() -> None:
    documents = np.array([[0.9, 0.1], [9.0, 9.0], [1.0, 0.3]], dtype=np.float32)
    found = {
        similarity: search(
            np.array([[1.0, 0.2]], dtype=np.float32),
            table(documents),
            depth=3,
            similarity=similarity,
        )[0][0].tolist()
        for similarity in ("cosine", "dot", "euclid")
    }
    assert found == {"cosine": [0, 2, 1], "dot": [1, 2, 0], "euclid": [2, 0, 1]}


def test_length_of_a_query_changes_no_cosine() -> None:
    queries = np.random.default_rng(0).standard_normal((3, 4)).astype(np.float32)
    documents = table(np.random.default_rng(1).standard_normal((9, 4)).astype(np.float32))
    rows, scores = search(queries, documents, depth=9, similarity="cosine")
    longer_rows, longer_scores = search(64 * queries, documents, depth=9, similarity="cosine")
    np.testing.assert_array_equal(rows, longer_rows)
    np.testing.assert_array_equal(scores, longer_scores)  # 64 is a power of two: no rounding


# Signs, so that all lengths are 4 and every score is exact: only order can differ.
SIGNS = np.random.default_rng(0).choice([-1.0, 1.0], size=(60, 16)).astype(np.float32)


@pytest.mark.parametrize("similarity", ["cosine", "dot", "euclid"])
@pytest.mark.parametrize("depth", [1, 5, 8, 50, 180])
def test_equal_documents_come_in_the_order_of_rows(similarity: str, depth: int) -> None:
    documents = np.concatenate([SIGNS, SIGNS, SIGNS])  # each thrice, far apart
    queries = SIGNS[::6]
    wanted = brute_force(queries, documents, similarity)
    order = np.argsort(-wanted, axis=1, kind="stable")[:, :depth]
    for make in (table, in_small_blocks):
        rows, _ = search(queries, make(documents), depth=depth, similarity=similarity)
        np.testing.assert_array_equal(rows, order)


def test_many_queries_are_searched_in_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    queries = np.random.default_rng(2).standard_normal((23, 16)).astype(np.float32)
    whole = search(queries, in_small_blocks(SIGNS), depth=9, similarity="dot")
    monkeypatch.setattr(search_module, "_QUERIES_AT_ONCE", 4)
    parts = search(queries, in_small_blocks(SIGNS), depth=9, similarity="dot")
    np.testing.assert_array_equal(parts[0], whole[0])
    np.testing.assert_allclose(parts[1], whole[1], rtol=CLOSE)


def test_depth_beyond_the_corpus_gives_the_whole_corpus() -> None:
    rows, scores = search(SIGNS[:2], in_small_blocks(SIGNS), depth=1000, similarity="dot")
    assert rows.shape == scores.shape == (2, 60)
    assert sorted(rows[0].tolist()) == list(range(60))


def test_half_precision_documents_are_searched_as_float32() -> None:
    documents = np.array([[1, 2**-9], [1, 2**-10]], dtype=np.float16)
    query = np.array([[1.0, 1.0]], dtype=np.float32)
    rows, scores = search(query, table(documents), depth=2, similarity="dot")
    assert rows.tolist() == [[0, 1]]
    assert scores.dtype == np.float32
    assert scores.tolist() == [[1 + 2**-9, 1 + 2**-10]]


def test_euclid_scores_are_negative_squared_distances() -> None:
    documents = np.array([[3.0, 4.0], [1.0, 0.0]], dtype=np.float32)
    query = np.zeros((1, 2), dtype=np.float32)
    rows, scores = search(query, table(documents), depth=2, similarity="euclid")
    assert rows.tolist() == [[1, 0]]
    assert scores.tolist() == [[-1.0, -25.0]]


def test_no_queries_find_nothing() -> None:
    rows, scores = search(
        np.empty((0, 16), dtype=np.float32), table(SIGNS), depth=5, similarity="dot"
    )
    assert rows.shape == scores.shape == (0, 5)


def test_queries_are_left_as_they_were() -> None:
    queries = np.full((2, 16), 3.0, dtype=np.float32)
    search(queries, table(SIGNS), depth=3, similarity="cosine")
    assert (queries == 3.0).all()


def test_normalising_leaves_a_zero_vector_zero() -> None:
    scaled = normalise(torch.tensor([[3.0, 4.0], [0.0, 0.0]]))
    torch.testing.assert_close(scaled, torch.tensor([[0.6, 0.8], [0.0, 0.0]]))


@pytest.mark.parametrize("similarity", ["cosine", "dot", "euclid"])
def test_prepared_documents_rank_by_a_dot_product_and_an_offset(similarity: str) -> None:
    rng = np.random.default_rng(3)
    documents = rng.standard_normal((20, 6)).astype(np.float32)
    queries = rng.standard_normal((5, 6)).astype(np.float32)
    vectors, offsets = prepare_documents(torch.from_numpy(documents), similarity)
    scores = torch.from_numpy(queries) @ vectors.T + offsets
    np.testing.assert_array_equal(
        scores.numpy().argmax(axis=1), brute_force(queries, documents, similarity).argmax(axis=1)
    )


def test_best_of_takes_the_first_of_equal_columns_at_its_edge() -> None:
    columns, values = best_of(torch.tensor([[1.0, 3.0, 1.0, 1.0, 2.0]]), 3)
    assert columns.tolist() == [[1, 4, 0]]
    assert values.tolist() == [[3.0, 2.0, 1.0]]


def test_best_of_gives_all_where_fewer_are_there() -> None:
    columns, _ = best_of(torch.tensor([[1.0, 2.0]]), 5)
    assert columns.tolist() == [[1, 0]]
