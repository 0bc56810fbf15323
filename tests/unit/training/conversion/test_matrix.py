"""Bare matrices: which way round, which names, and what is refused."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from trimtab_training.conversion import MatrixNames, Source, read_matrix
from trimtab_training.errors import ConfigError, DataError

W = np.array([[1.0, 2.0, 3.0], [4.0, 5.0, 6.0]])
B = np.array([10.0, 20.0])
QUERY = [1.0, 0.0, -1.0]
CLOSE = 1e-6


def npy(path: Path, array: Any) -> Path:
    np.save(path, array, allow_pickle=True)
    return path


def tensors(path: Path, **held: Any) -> Path:
    save_file({name: torch.as_tensor(value).clone() for name, value in held.items()}, path)
    return path


def adapted(source: Source) -> list[float]:
    with torch.no_grad():
        found: list[float] = source.adapter(torch.tensor([QUERY]))[0].tolist()
    return found


def refusal(path: Path, names: MatrixNames | None = None) -> str:
    with pytest.raises((DataError, ConfigError)) as caught:
        read_matrix(path, names)
    assert "\n" not in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize("dtype", ["float16", "float32", "float64", ">f8"])
@pytest.mark.parametrize("order", ["C", "F"])
def test_matrix_stands_on_the_left_of_the_query(tmp_path: Path, dtype: str, order: Any) -> None:
    source = read_matrix(npy(tmp_path / "w.npy", np.asarray(W, dtype=dtype, order=order)))
    assert adapted(source) == pytest.approx([-2.0, -2.0], abs=CLOSE)
    assert (source.adapter.dim_in, source.adapter.dim_out) == (3, 2)
    assert source.details == {"orientation": "W q + b"}


def test_transposed_matrix_stands_on_its_right(tmp_path: Path) -> None:
    source = read_matrix(npy(tmp_path / "w.npy", W.T), MatrixNames(transposed=True))
    assert adapted(source) == pytest.approx([-2.0, -2.0], abs=CLOSE)


def test_square_matrix_is_turned_only_when_told(tmp_path: Path) -> None:
    square = np.arange(9.0).reshape(3, 3)
    path = npy(tmp_path / "w.npy", square)
    assert adapted(read_matrix(path)) == pytest.approx(square @ QUERY, abs=CLOSE)
    turned = read_matrix(path, MatrixNames(transposed=True))
    assert adapted(turned) == pytest.approx(square.T @ QUERY, abs=CLOSE)


def test_bias_comes_from_a_file_of_its_own(tmp_path: Path) -> None:
    bias = npy(tmp_path / "b.npy", B)
    source = read_matrix(npy(tmp_path / "w.npy", W), MatrixNames(bias=str(bias)))
    assert adapted(source) == pytest.approx([8.0, 18.0], abs=CLOSE)


@pytest.mark.parametrize(
    ("held", "names"),
    [
        ({"weight": W, "bias": B}, {}),
        ({"W": W, "b": B}, {}),
        ({"linear.weight": W, "linear.bias": B}, {}),
        ({"anything": W, "shift": B}, {}),
        ({"one": W, "two": 2 * W, "shift": B}, {"weight": "one"}),
        ({"weight": W, "first": B, "second": 2 * B}, {"bias": "first"}),
    ],
)
def test_tensors_are_found_by_name_or_by_being_the_only_ones(
    tmp_path: Path, held: dict[str, Any], names: dict[str, str]
) -> None:
    source = read_matrix(tensors(tmp_path / "w.safetensors", **held), MatrixNames(**names))
    assert adapted(source) == pytest.approx([8.0, 18.0], abs=CLOSE)


def test_half_precision_of_torch_is_read(tmp_path: Path) -> None:
    path = tensors(tmp_path / "w.safetensors", weight=torch.tensor(W).bfloat16())
    assert adapted(read_matrix(path)) == pytest.approx([-2.0, -2.0], abs=CLOSE)


@pytest.mark.parametrize(
    ("held", "names", "said"),
    [
        ({"one": W, "two": W}, {}, "--weight"),
        ({"shift": B}, {}, "--weight"),
        ({"weight": W}, {"weight": "none"}, "holds no 'none'"),
        ({"weight": W, "first": B, "second": B}, {}, "--bias"),
        ({"weight": W, "bias": np.ones(3)}, {}, "with --transpose it would fit"),
        ({"weight": W, "bias": np.ones(4)}, {}, "has 4 values, the matrix gives 2"),
        ({"weight": np.ones((2, 3), dtype=np.int64)}, {}, "of type int64"),
        ({"weight": np.ones((2, 3, 1))}, {"weight": "weight"}, "expected a matrix"),
    ],
)
def test_tensors_that_do_not_fit_are_one_line(
    tmp_path: Path, held: dict[str, Any], names: dict[str, str], said: str
) -> None:
    assert said in refusal(tensors(tmp_path / "w.safetensors", **held), MatrixNames(**names))


@pytest.mark.parametrize(
    ("array", "said"),
    [
        (np.array([[1.0, "x"]], dtype=object), "Python objects"),
        (np.ones((2, 2), dtype=np.int64), "of type int64"),
        (np.ones((2, 2), dtype=np.complex64), "of type complex64"),
        (np.ones(3), "expected a matrix"),
        (np.ones((1, 2, 2)), "expected a matrix"),
        (np.ones((0, 3)), "widths of 1 to"),
        (np.ones((1, 70000)), "widths of 1 to"),
        (np.array([[1.0, np.nan]]), "NaN"),
        (np.array([[1.0, np.inf]]), "infinity"),
        (np.array([[1e300, 1.0]]), "more than float32"),
        (np.zeros((2, 2)), "holds only zeros, so that all queries would become the same"),
    ],
)
def test_arrays_that_are_no_matrix_of_floats_are_one_line(
    tmp_path: Path, array: np.ndarray, said: str
) -> None:
    assert said in refusal(npy(tmp_path / "w.npy", array))


def test_files_that_can_not_be_read_are_one_line(tmp_path: Path) -> None:
    assert "no file" in refusal(tmp_path / "none.npy")
    assert "neither .npy nor .safetensors" in refusal(npy_as(tmp_path / "w.txt"))
    whole = npy(tmp_path / "w.npy", np.ones((9, 9))).read_bytes()
    for content in (b"", b"\x93NUMPY", whole[:100], whole[:-8], b"no array", b"PK\x03\x04"):
        (tmp_path / "broken.npy").write_bytes(content)
        assert "broken.npy" in refusal(tmp_path / "broken.npy")
        (tmp_path / "broken.safetensors").write_bytes(content)
        assert "broken.safetensors" in refusal(tmp_path / "broken.safetensors")
    with (tmp_path / "many.npy").open("wb") as file:
        np.savez(file, one=W, two=W)
    assert "archive" in refusal(tmp_path / "many.npy")


def npy_as(path: Path) -> Path:
    path.write_text("1 2 3")
    return path


def test_options_of_the_other_kind_of_file_are_refused(tmp_path: Path) -> None:
    path = npy(tmp_path / "w.npy", W)
    assert "--weight is for .safetensors" in refusal(path, MatrixNames(weight="W"))
    assert "--bias" in refusal(path, MatrixNames(bias="b"))
