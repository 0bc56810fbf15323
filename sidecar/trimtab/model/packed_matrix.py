"""A matrix within a model file's JSON: row by row, little-endian float16, in base64."""

import base64

import numpy as np
from numpy.typing import NDArray

_KIND = np.dtype("<f2")


def pack_matrix(matrix: NDArray[np.float32]) -> str:
    """Write a matrix down.

    Args:
        matrix: Shape ``(n, dim)``; rounded to float16, and what is too large for it not finite.
    """
    return base64.b64encode(matrix.astype(_KIND).tobytes()).decode("ascii")


def unpack_matrix(text: str, shape: tuple[int, int]) -> NDArray[np.float32]:
    """Read what :func:`pack_matrix` wrote.

    Args:
        text: As it stands in the file.
        shape: Rows and values in each; -1 for as many of these as there are.

    Returns:
        Values of any kind, NaN among them; shape ``(n, dim)``.

    Raises:
        ValueError: No base64, or of another size; says which.
    """
    try:
        content = base64.b64decode(text, validate=True)
    except ValueError as error:
        raise ValueError(f"is not base64 ({error})") from error
    n_rows, dim = shape
    expected = n_rows * dim * _KIND.itemsize
    if dim >= 0 and len(content) != expected:
        raise ValueError(f"holds {len(content)} bytes, expected {expected}")
    with np.errstate(invalid="ignore"):  # of a signalling NaN, which is the caller's to judge
        return np.frombuffer(content, _KIND).reshape(shape).astype(np.float32)
