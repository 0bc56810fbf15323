"""Query vectors of the user's own: every usable float is taken, every useless row is named."""

from pathlib import Path

import numpy as np
import pytest

from trimtab_training.embeddings.query_vectors import NamedQueries, QueryVectors
from trimtab_training.errors import DataError

MATRIX = np.random.default_rng(0).standard_normal((40, 6))
FLOAT16 = 1e-3
"""Half a digit more than float16 keeps of values below 4."""


def save(folder: Path, matrix: np.ndarray) -> Path:
    np.save(folder / "queries.npy", matrix)
    return folder / "queries.npy"


@pytest.mark.parametrize("kind", ["<f2", "<f4", "<f8", ">f4", ">f8", "longdouble"])
@pytest.mark.parametrize("order", ["C", "F"])
def test_floats_of_any_width_and_order_are_taken(tmp_path: Path, kind: str, order: str) -> None:
    matrix = np.asarray(MATRIX, dtype=kind, order=order)  # type: ignore[call-overload]
    vectors = QueryVectors.open(save(tmp_path, matrix))
    assert (len(vectors), vectors.dim) == MATRIX.shape
    assert vectors.is_cast == (matrix.dtype.itemsize > 4)
    vectors.copy_to(tmp_path / "copied.npy")
    for found in (vectors.read(), np.load(tmp_path / "copied.npy")):
        assert found.dtype == np.float32
        np.testing.assert_allclose(found, MATRIX, atol=FLOAT16 if kind == "<f2" else 1e-6)


def test_a_single_vector_is_one_row(tmp_path: Path) -> None:
    assert QueryVectors.open(save(tmp_path, MATRIX[0])).read().shape == (1, 6)


def test_unit_length_is_measured(tmp_path: Path) -> None:
    unit = MATRIX / np.linalg.norm(MATRIX, axis=1, keepdims=True)
    assert QueryVectors.open(save(tmp_path, unit)).is_unit
    assert not QueryVectors.open(save(tmp_path, MATRIX)).is_unit


@pytest.mark.parametrize(
    ("rows", "value", "said"),
    [
        ([3], np.nan, r"row 3 holds NaN, infinity or more than float32 holds \(of 40 rows"),
        ([0, 39], -np.inf, r"rows 0, 39 hold NaN, infinity"),
        ([7], 1e39, "row 7 holds NaN, infinity or more than float32 holds"),
        ([5, 6], 0.0, "rows 5, 6 hold only zeros"),
        ([5], 1e-60, "row 5 holds only zeros"),
        (list(range(12)), 0.0, r"rows 0, 1, 2, 3, 4, 5, 6, 7, 8, 9 and 2 more hold only zeros"),
    ],
)
def test_rows_that_nothing_can_be_searched_with_are_named(
    tmp_path: Path, rows: list[int], value: float, said: str
) -> None:
    spoilt = MATRIX.copy()
    spoilt[rows] = value
    with pytest.raises(DataError, match=said):
        QueryVectors.open(save(tmp_path, spoilt))


def test_a_value_of_a_row_is_enough_and_both_faults_are_said(tmp_path: Path) -> None:
    spoilt = MATRIX.copy()
    spoilt[4, 2], spoilt[9] = np.nan, 0
    with pytest.raises(
        DataError, match=r"row 4 holds NaN.*; row 9 holds only zeros .*counted from"
    ):
        QueryVectors.open(save(tmp_path, spoilt))


def test_rows_beyond_the_first_block_are_numbered_through(tmp_path: Path) -> None:
    many = np.ones((40_000, 2), np.float32)
    many[33_333] = 0
    with pytest.raises(DataError, match="row 33333 holds only zeros"):
        QueryVectors.open(save(tmp_path, many))


@pytest.mark.parametrize(
    "matrix",
    [
        np.ones((3, 4), int),
        np.ones((3, 4), complex),
        np.ones((3, 4), bool),
        np.ones((2, 3, 4)),
        np.ones((0, 4)),
        np.ones((3, 0)),
        np.float64(1),
        np.array([["a"]]),
    ],
)
def test_what_is_no_matrix_of_floats_is_refused(tmp_path: Path, matrix: np.ndarray) -> None:
    with pytest.raises(DataError, match=r"has shape .* expected a matrix of floats"):
        QueryVectors.open(save(tmp_path, matrix))


def test_files_of_another_kind_are_refused(tmp_path: Path) -> None:
    pickled = np.array([{"a": 1}], dtype=object)
    np.save(tmp_path / "object.npy", pickled, allow_pickle=True)
    np.savez(tmp_path / "archive.npz", MATRIX)
    (tmp_path / "text.npy").write_text("0.1 0.2\n")
    (tmp_path / "empty.npy").touch()
    (tmp_path / "cut.npy").write_bytes((tmp_path / "archive.npz").read_bytes()[:-40])
    for name in ("object.npy", "archive.npz", "cut.npy", "text.npy", "empty.npy", "none.npy"):
        with pytest.raises(DataError, match=r"can't read .*expected a \.npy matrix"):
            QueryVectors.open(tmp_path / name)


def test_ids_of_another_number_are_refused(tmp_path: Path) -> None:
    ids = tmp_path / "ids"
    ids.write_text("q0\nq1\n")
    with pytest.raises(DataError, match=r"queries\.npy has 40 rows, .*ids has 2 ids"):
        NamedQueries.open(save(tmp_path, MATRIX), ids)


def test_ids_are_held_against_the_datasets_queries(tmp_path: Path) -> None:
    ids = tmp_path / "ids"
    ids.write_text("".join(f"q{row}\n" for row in range(40)))
    queries = NamedQueries.open(save(tmp_path, MATRIX), ids)
    assert queries.match([f"q{row}" for row in range(10, 53)]) == (13, 10)
    with pytest.raises(DataError, match="'q0' is not, one that is: 'other'; check --query-ids"):
        queries.match(["other"])
