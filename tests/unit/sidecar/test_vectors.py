"""The boundary: anything that is numbers becomes float32, anything else a typed error."""

import numpy as np
import pytest

from trimtab.errors import DimensionError, NonFiniteError, QueryError, SidecarError
from trimtab.vectors import as_floats, check_dim, check_finite


def test_as_floats_gives_a_float32_array_back_as_it_is() -> None:
    query = np.ones(4, dtype=np.float32)
    assert as_floats(query) is query


@pytest.mark.parametrize("dtype", ["f2", "f8", "g", ">f4", ">f8", "i1", "i8", "u2", "u8"])
@pytest.mark.parametrize("shape", [(4,), (3, 4)])
def test_as_floats_takes_any_real_dtype(dtype: str, shape: tuple[int, ...]) -> None:
    numbers = np.arange(np.prod(shape)).reshape(shape)
    floats = as_floats(numbers.astype(dtype))
    assert floats.dtype == np.float32
    assert floats.shape == shape
    assert np.array_equal(floats, numbers)


@pytest.mark.parametrize("queries", [[1, 2.5], (1, 2.5), [[1, 2.5]], [np.float64(1), 2.5]])
def test_as_floats_takes_lists(queries: list[float]) -> None:
    assert as_floats(queries).ravel().tolist() == [1, 2.5]


def test_as_floats_takes_what_gives_itself_as_an_array() -> None:
    class Tensor:
        def __array__(self, dtype: object = None, copy: object = None) -> np.ndarray:
            return np.arange(3.0)

    assert as_floats(Tensor()).tolist() == [0, 1, 2]


def test_as_floats_keeps_the_numbers_of_any_memory_order() -> None:
    wide = np.arange(48, dtype=np.float64).reshape(4, 12)
    for view in (wide[:, ::3], wide[::-2, :4], np.asfortranarray(wide), wide.T):
        assert np.array_equal(as_floats(view), view)


def test_as_floats_leaves_its_input_alone() -> None:
    query = np.arange(4, dtype=np.float64)
    query.flags.writeable = False
    as_floats(query)[0] = 7
    assert query[0] == 0


@pytest.mark.parametrize(
    ("queries", "kind"),
    [
        (["a", "b"], "<U1"),
        ("text", "<U4"),
        (b"text", r"\|S4"),
        ([True, False], "bool"),
        (np.ones(2, complex), "complex128"),
        ([None, 1.0], "object"),
        (None, "object"),
        ({"a": 1}, "object"),
        ([10**400, 1.0], "object"),
        (np.array(["2026-01-01"], "M8[D]"), r"datetime64\[D\]"),
    ],
)
def test_as_floats_refuses_what_is_not_real_numbers(queries: object, kind: str) -> None:
    with pytest.raises(QueryError, match=f"query holds {kind} values; expected real numbers"):
        as_floats(queries)  # type: ignore[arg-type]


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_as_floats_refuses_masked_values_and_takes_an_idle_mask(dtype: type) -> None:
    masked = np.ma.array([1, 2, 3], mask=[False, True, False], dtype=dtype)
    with pytest.raises(QueryError, match="masked values; expected numbers"):
        as_floats(masked)
    assert as_floats(np.ma.array([1, 2], mask=False, dtype=dtype)).tolist() == [1.0, 2.0]


@pytest.mark.parametrize(
    "error", [RuntimeError("it has gradients"), TypeError("BFloat16"), OSError()]
)
def test_as_floats_refuses_a_tensor_that_cannot_become_an_array(error: Exception) -> None:
    class Tensor:
        def __array__(self, *_: object, **__: object) -> np.ndarray:
            raise error

    with pytest.raises(QueryError, match=f"query is a Tensor that can't become an array .{error}"):
        as_floats(Tensor())  # type: ignore[arg-type]


@pytest.mark.parametrize("queries", [[[1.0, 2.0], [3.0]], [[1.0], 2.0], [1.0, [2.0, 3.0]]])
def test_as_floats_refuses_rows_of_different_lengths(queries: list[object]) -> None:
    with pytest.raises(QueryError, match="rows have different lengths"):
        as_floats(queries)  # type: ignore[arg-type]


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_as_floats_refuses_more_than_a_batch(dtype: type) -> None:
    with pytest.raises(QueryError, match=r"query has 3 dimensions \(shape \(2, 1, 4\)\)"):
        as_floats(np.ones((2, 1, 4), dtype))


def test_as_floats_refuses_a_single_number() -> None:
    with pytest.raises(QueryError, match=r"query has 0 dimensions \(shape \(\)\)"):
        as_floats(np.array(5.0, dtype=np.float32))


@pytest.mark.parametrize("number", [5.0, 5, np.float32(5.0), np.array(5.0)])
def test_as_floats_refuses_a_single_number_of_any_kind(number: float) -> None:
    with pytest.raises(QueryError, match=r"query has 0 dimensions \(shape \(\)\)"):
        as_floats(number)


@pytest.mark.parametrize("shape", [(0,), (0, 4), (4, 0)])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_as_floats_refuses_nothing_at_all(shape: tuple[int, ...], dtype: type) -> None:
    shown = str(shape).replace("(", r"\(").replace(")", r"\)")
    with pytest.raises(QueryError, match=f"query is empty .shape {shown}"):
        as_floats(np.ones(shape, dtype))


@pytest.mark.parametrize("queries", [[], [[]], [[], []]])
def test_as_floats_refuses_empty_lists(queries: list[object]) -> None:
    with pytest.raises(QueryError, match="query is empty"):
        as_floats(queries)  # type: ignore[arg-type]


def test_as_floats_lets_a_value_past_float32_become_infinite() -> None:
    """Quietly: the finite check that follows names it."""
    assert as_floats([1e300, -1e300, 1.0]).tolist() == [np.inf, -np.inf, 1.0]


def test_as_floats_takes_a_signalling_nan_quietly() -> None:
    signalling = np.array([0x7FF0000000000001], dtype=np.uint64).view(np.float64)
    assert np.isnan(as_floats(signalling)).all()


def test_check_dim_names_both_numbers() -> None:
    check_dim(4, 4)
    with pytest.raises(DimensionError, match="query has 3 values; the adapter wants 4; check"):
        check_dim(3, 4)


@pytest.mark.parametrize(
    ("queries", "where"),
    [
        ([0, np.nan, np.inf], "holds nan at position 1;"),
        ([0, 1, -np.inf], "holds -inf at position 2;"),
        ([[0, 1], [2, 3], [np.inf, np.nan]], "holds inf at row 2, position 0;"),
    ],
)
def test_check_finite_names_the_first_place(queries: list[float], where: str) -> None:
    with pytest.raises(NonFiniteError, match=f"{where} expected finite float32 numbers"):
        check_finite(np.array(queries, dtype=np.float32))


def test_check_finite_takes_every_finite_number() -> None:
    limits = np.finfo(np.float32)
    check_finite(np.array([limits.max, limits.min, limits.smallest_subnormal, -0.0], np.float32))


@pytest.mark.parametrize("error", [QueryError, DimensionError, NonFiniteError])
def test_query_errors_are_value_errors_too(error: type[Exception]) -> None:
    assert issubclass(error, ValueError)
    assert issubclass(error, SidecarError)


def test_as_floats_takes_bfloat16() -> None:
    dtypes = pytest.importorskip("ml_dtypes")
    numbers = np.array([[1, 2.5], [-3, 0.125]], dtype=dtypes.bfloat16)
    assert as_floats(numbers).tolist() == [[1, 2.5], [-3, 0.125]]
