"""Arrays out of NumPy's files: what is wrong with one is told in one way, whatever NumPy raises."""

import io
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

_ZIP = b"PK"


class ArrayFileError(ValueError):
    """A file can't be read as arrays; as text, why, on one line."""


def open_array(path: Path) -> NDArray[Any]:
    """Map the array of a ``.npy`` file into memory; arrays of Python objects are refused.

    Returns:
        Of any shape and dtype, on disk until it is looked at.

    Raises:
        ArrayFileError: There is no such file, or it holds anything but one array.
    """
    with _explained():
        with path.open("rb") as file:
            if file.read(2) == _ZIP:
                raise ValueError("it is an archive; expected a single .npy array")
        return np.lib.format.open_memmap(path, mode="r")


def read_arrays(content: bytes) -> dict[str, NDArray[Any]]:
    """Read every array of a ``.npz`` file's bytes, by name; Python objects are refused.

    Raises:
        ArrayFileError: It is no such file, or damaged.
    """
    with _explained(), np.load(io.BytesIO(content), allow_pickle=False) as archive:
        return dict(archive)


@contextmanager
def _explained() -> Iterator[None]:
    """Turn whatever NumPy, zipfile, zlib and the header's parser raise into one type."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    except Exception as error:
        reason = getattr(error, "strerror", None) or str(error).partition("\n")[0]
        if "Python objects" in reason:
            reason = "it holds Python objects, which could run code; they are refused"
        raise ArrayFileError(reason or type(error).__name__) from error
