"""Matrices within JSON: what was packed comes back, and what is damaged says how."""

import base64

import numpy as np
import pytest

from trimtab.model.packed_matrix import pack_matrix, unpack_matrix

MATRIX = np.array([[1, -2.5, 0], [65504, 6e-8, -0.0]], np.float32)


@pytest.mark.parametrize("shape", [(2, 3), (2, -1)])
def test_a_matrix_comes_back_row_by_row(shape: tuple[int, int]) -> None:
    found = unpack_matrix(pack_matrix(MATRIX), shape)
    assert found.dtype == np.float32
    assert found.tolist() == MATRIX.astype(np.float16).tolist()


def test_it_is_float16_of_the_least_byte_first_on_every_machine() -> None:
    assert base64.b64decode(pack_matrix(np.float32([[1, 2]]))) == b"\x00\x3c\x00\x40"


@pytest.mark.parametrize(
    ("text", "shape", "problem"),
    [
        ("%%%", (1, 1), "is not base64"),
        ("é", (1, 1), "is not base64"),
        (pack_matrix(MATRIX), (3, 3), "holds 12 bytes, expected 18"),
        ("AAAA", (1, 1), "holds 3 bytes, expected 2"),
        (pack_matrix(MATRIX), (4, -1), "reshape"),
        ("AAAA", (1, -1), "buffer size"),
    ],
)
def test_damage_is_named(text: str, shape: tuple[int, int], problem: str) -> None:
    with pytest.raises(ValueError, match=problem):
        unpack_matrix(text, shape)


def test_a_signalling_nan_is_a_value_like_any_other() -> None:
    text = base64.b64encode(np.uint16([0x7D01]).tobytes()).decode()
    assert np.isnan(unpack_matrix(text, (1, 1))).all()
