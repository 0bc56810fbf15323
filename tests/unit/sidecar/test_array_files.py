"""NumPy's files: one type of error and one line, whatever a damaged or hostile one makes it do."""

import io
import struct
from pathlib import Path

import numpy as np
import pytest

from trimtab.array_files import ArrayFileError, open_array, read_arrays

MATRIX = np.arange(12, dtype=np.float32).reshape(3, 4)


def npy(header: str, values: bytes = bytes(64)) -> bytes:
    """Write a .npy file with any text as its header."""
    return b"\x93NUMPY\x01\x00" + struct.pack("<H", len(header)) + header.encode() + values


def shaped(shape: str) -> bytes:
    return npy(f"{{'descr': '<f4', 'fortran_order': False, 'shape': {shape}}}\n")


def npz(*, packed: bool = False) -> bytes:
    content = io.BytesIO()
    (np.savez_compressed if packed else np.savez)(content, matrix=MATRIX, name=np.array("a" * 200))
    return content.getvalue()


def spoilt(content: bytes, at: int) -> bytes:
    return content[:at] + b"\xff" * 10 + content[at + 10 :]


@pytest.mark.parametrize(
    "content",
    [
        shaped("(-5, 4)"),
        shaped("(-2, -2)"),
        shaped("(99999999999999999999999, 4)"),
        shaped("(4611686018427387904, 4)"),
        shaped("(True, 4)"),
        shaped("(2, 4), [1]: 2"),
        npy("{'descr': " + "[" * 9000),
        npy("(" * 60_000),
        npy("[1, 2]\n"),
        shaped("(2, 4)")[:-60],
        b"PK\x03\x04" + bytes(30),
        npz()[:-40],
        npz(),
        b"\x80\x04K\x01.",
        b"0.1 0.2\n",
        b"",
    ],
)
def test_file_that_is_no_array_is_told_on_one_line(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "queries.npy").write_bytes(content)
    with pytest.raises(ArrayFileError) as caught:
        open_array(tmp_path / "queries.npy")
    assert len(str(caught.value).splitlines()) == 1


def test_file_that_is_not_there_is_told_in_the_systems_words(tmp_path: Path) -> None:
    with pytest.raises(ArrayFileError, match=r"^No such file or directory$"):
        open_array(tmp_path / "queries.npy")


def test_array_is_mapped_as_it_was_written(tmp_path: Path) -> None:
    np.save(tmp_path / "queries.npy", MATRIX)
    found = open_array(tmp_path / "queries.npy")
    assert isinstance(found, np.memmap)
    assert np.array_equal(found, MATRIX)


@pytest.mark.parametrize(
    "content",
    [
        npz()[:-40],
        spoilt(npz(packed=True), 80),
        npz().replace(b"\x93NUMPY", b"\x93NUMPX"),
        shaped("(2, 4)"),
        b"nonsense",
        b"",
    ],
)
def test_archive_that_is_damaged_or_none_is_told_on_one_line(content: bytes) -> None:
    with pytest.raises(ArrayFileError) as caught:
        read_arrays(content)
    assert len(str(caught.value).splitlines()) == 1


@pytest.mark.parametrize("packed", [False, True])
def test_archive_gives_its_arrays_by_name(packed: bool) -> None:
    found = read_arrays(npz(packed=packed))
    assert found.keys() == {"matrix", "name"}
    assert np.array_equal(found["matrix"], MATRIX)
