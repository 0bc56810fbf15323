"""Vectors in an index against the documents that it should hold."""

from pathlib import Path

import faiss
import numpy as np
import pytest

from tests.support.served_indexes import build, documents_of, rows_of, save
from trimtab_training.embeddings.store import BLOCK_ROWS
from trimtab_training.errors import DataError
from trimtab_training.evaluation.ann_reference import as_compared, open_reference

ROWS = rows_of(400)
DOCUMENTS = documents_of(ROWS)


@pytest.mark.parametrize(
    "kind", ["HNSW8,Flat", "IVF4,Flat", "L2norm,IVF4,Flat", "HNSW8,Flat,RFlat"]
)
def test_whole_vectors_are_what_exact_search_compares_with(tmp_path: Path, kind: str) -> None:
    with open_reference(save(tmp_path, build(kind, ROWS)), DOCUMENTS, "cosine") as found:
        np.testing.assert_allclose(found.vectors.matrix, ROWS, atol=1e-6)
        assert (found.is_lossy, found.is_unit) == (False, True)


def test_rows_stand_in_the_order_of_the_index(tmp_path: Path) -> None:
    order = np.random.default_rng(1).permutation(400)
    ids = [DOCUMENTS.ids[row] for row in order]
    source = save(tmp_path, build("HNSW8", ROWS[order]), ids=ids)
    with open_reference(source, DOCUMENTS, "cosine") as found:
        np.testing.assert_array_equal(found.vectors.matrix, ROWS[order])
        assert found.vectors.ids == ids


@pytest.mark.parametrize("kind", ["HNSW8,SQ8", "IVF4,PQ4x4np", "PCA8,IVF4,Flat"])
def test_compressed_vectors_give_way_to_the_documents(tmp_path: Path, kind: str) -> None:
    order = np.random.default_rng(1).permutation(400)
    source = save(tmp_path, build(kind, ROWS[order]), ids=[DOCUMENTS.ids[row] for row in order])
    with open_reference(source, DOCUMENTS, "cosine") as found:
        np.testing.assert_array_equal(found.vectors.matrix, ROWS[order])
        assert (found.is_lossy, found.is_unit) == (True, True)


def test_documents_are_laid_out_in_more_than_one_block(tmp_path: Path) -> None:
    rows = rows_of(BLOCK_ROWS + 500, dim=8)
    order = np.random.default_rng(1).permutation(len(rows))
    documents = documents_of(rows)
    ids = [documents.ids[row] for row in order]
    source = save(tmp_path, build("IVF1,SQ8", rows[order]), ids=ids)
    with open_reference(source, documents, "cosine") as found:
        np.testing.assert_array_equal(found.vectors.matrix, rows[order])


def test_rounding_of_half_precision_documents_is_no_loss(tmp_path: Path) -> None:
    documents = documents_of(ROWS.astype(np.float16))
    with open_reference(save(tmp_path, build("IVF4,Flat", ROWS)), documents, "cosine") as found:
        assert not found.is_lossy
        np.testing.assert_array_equal(found.vectors.matrix, ROWS)


def test_cosine_index_holds_the_documents_at_unit_length(tmp_path: Path) -> None:
    source = save(tmp_path, build("HNSW8", ROWS))
    with open_reference(source, documents_of(ROWS * 7), "cosine") as found:
        assert (found.is_lossy, found.is_unit) == (False, True)


@pytest.mark.parametrize("kind", ["HNSW8,Flat", "HNSW8,SQ8"])
def test_vectors_of_other_lengths_are_not_called_unit(tmp_path: Path, kind: str) -> None:
    source = save(tmp_path, build(kind, ROWS * 7, metric=faiss.METRIC_L2))
    with open_reference(source, documents_of(ROWS * 7), "euclid") as found:
        assert not found.is_unit


# Other documents


@pytest.mark.parametrize("kind", ["HNSW8,Flat", "HNSW8,SQ8", "IVF4,PQ4x4np"])
def test_ids_in_another_order_than_the_rows_are_refused(tmp_path: Path, kind: str) -> None:
    source = save(tmp_path, build(kind, ROWS), ids=DOCUMENTS.ids[::-1])
    message = r"of 400 vectors in .* are not those .*; check the order of the ids, and the encoder"
    with pytest.raises(DataError, match=message), open_reference(source, DOCUMENTS, "cosine"):
        pass


def test_single_vector_of_another_document_is_refused(tmp_path: Path) -> None:
    rows = ROWS.copy()
    rows[7] = rows[8]
    source = save(tmp_path, build("HNSW8", rows))
    with (
        pytest.raises(DataError, match=r"1 of 400 vectors in .* are not those"),
        open_reference(source, DOCUMENTS, "cosine"),
    ):
        pass


def test_lengths_count_where_the_similarity_counts_them(tmp_path: Path) -> None:
    source = save(tmp_path, build("HNSW8", ROWS))
    with (
        pytest.raises(DataError, match="400 of 400 vectors"),
        open_reference(source, documents_of(ROWS * 7), "dot"),
    ):
        pass


@pytest.mark.parametrize(
    ("kept", "message"),
    [
        (399, r"1 \('d399'\) documents of faiss:.* are not in the embeddings; "),
        (300, r"100 \(such as 'd300', .*\) documents of faiss:.* are not in the embeddings"),
    ],
)
def test_index_that_holds_more_is_refused(tmp_path: Path, kept: int, message: str) -> None:
    source = save(tmp_path, build("HNSW8", ROWS))
    documents = documents_of(ROWS[:kept])
    with pytest.raises(DataError, match=message), open_reference(source, documents, "cosine"):
        pass


def test_index_that_holds_less_is_refused(tmp_path: Path) -> None:
    source = save(tmp_path, build("HNSW8", ROWS[:399]))
    message = r"1 \('d399'\) documents of the embeddings are not in faiss:.*; use the index of"
    with pytest.raises(DataError, match=message), open_reference(source, DOCUMENTS, "cosine"):
        pass


def test_rows_without_names_lead_to_the_id_file(tmp_path: Path) -> None:
    source = save(tmp_path, build("HNSW8", ROWS)).partition("?")[0]
    message = r"name its rows with faiss:PATH\?ids=FILE"
    with pytest.raises(DataError, match=message), open_reference(source, DOCUMENTS, "cosine"):
        pass


def test_index_of_another_width_is_refused(tmp_path: Path) -> None:
    source = save(tmp_path, build("HNSW8", ROWS[:, :8].copy()))
    message = "holds vectors of 8 values, the embeddings' documents have 16"
    with pytest.raises(DataError, match=message), open_reference(source, DOCUMENTS, "cosine"):
        pass


# Lengths


def test_cosine_alone_gives_vectors_unit_length() -> None:
    vectors = np.array([[3, 4], [0, 2]], dtype=np.float32)
    np.testing.assert_allclose(as_compared(vectors, "cosine"), [[0.6, 0.8], [0, 1]])
    np.testing.assert_array_equal(as_compared(vectors, "dot"), vectors)
    np.testing.assert_array_equal(as_compared(vectors, "euclid"), vectors)
