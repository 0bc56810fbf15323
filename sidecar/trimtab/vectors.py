"""Checks at the boundary: what a caller hands over becomes float32 or a typed error."""

from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from trimtab.errors import DimensionError, NonFiniteError, QueryError

_FLOAT32 = np.dtype(np.float32)


def as_floats(queries: ArrayLike) -> NDArray[np.float32]:
    """Turn numbers of any float kind into a float32 array of rank 1 or 2, values unchecked.

    Args:
        queries: Shape ``(dim,)`` or ``(n, dim)``: an array of any float or integer dtype, or
            lists of numbers.

    Returns:
        The same numbers, float32; the input itself where it is float32 already.

    Raises:
        QueryError: Not numbers, ragged, empty, or of another rank.
    """
    if type(queries) is np.ndarray and queries.dtype is _FLOAT32:
        array: NDArray[np.float32] = queries
    else:
        array = _convert(queries)
    if array.ndim not in {1, 2}:
        raise QueryError(
            f"query has {array.ndim} dimensions (shape {array.shape}); "
            "expected one vector (dim,) or a batch (n, dim)"
        )
    if array.size == 0:
        raise QueryError(f"query is empty (shape {array.shape}); expected at least one vector")
    return array


def _convert(queries: Any) -> NDArray[np.float32]:
    """Convert anything but a float32 array, and refuse what is not real numbers."""
    if isinstance(queries, np.ma.MaskedArray) and np.ma.is_masked(queries):
        raise QueryError("query has masked values; expected numbers, such as queries.filled(0)")
    try:
        array = np.asarray(queries)
    except ValueError as error:
        raise QueryError(
            "query rows have different lengths; expected one vector (dim,) or a batch (n, dim)"
        ) from error
    except Exception as error:  # of a tensor on a GPU, with gradients, of a type numpy lacks
        said = str(error).partition("\n")[0]
        raise QueryError(
            f"query is a {type(queries).__name__} that can't become an array ({said}); expected "
            "numbers, such as tensor.detach().float().cpu()"
        ) from error
    if array.dtype.kind not in "fiu" and array.dtype.name != "bfloat16":
        raise QueryError(f"query holds {array.dtype} values; expected real numbers")
    # Past float32's range a value turns into inf, which is refused later.
    with np.errstate(over="ignore", invalid="ignore"):
        return np.array(array, dtype=np.float32, order="C")


def to_float32(values: Any) -> NDArray[np.float32]:
    """Convert anything that NumPy takes; what leaves float32 becomes infinite, without a warning.

    Raises:
        Exception: What NumPy raises for what is no array of numbers.
    """
    with np.errstate(over="ignore", invalid="ignore"):
        return np.asarray(values, dtype=np.float32)


def check_dim(found: int, expected: int) -> None:
    """Refuse a vector of the wrong width, naming both numbers.

    Raises:
        DimensionError: The two differ.
    """
    if found != expected:
        raise DimensionError(
            f"query has {found} values; the adapter wants {expected}; "
            "check that the query comes from the encoder that the adapter was trained for"
        )


def check_finite(queries: NDArray[np.float32]) -> None:
    """Refuse NaN and infinity, naming the first place.

    Raises:
        NonFiniteError: A value is NaN, infinite, or too large for float32.
    """
    finite = np.isfinite(queries)
    if not finite.all():
        place = tuple(int(index) for index in np.argwhere(~finite)[0])
        where = (
            f"position {place[0]}" if len(place) == 1 else f"row {place[0]}, position {place[1]}"
        )
        raise NonFiniteError(
            f"query holds {queries[place]} at {where}; expected finite float32 numbers"
        )
