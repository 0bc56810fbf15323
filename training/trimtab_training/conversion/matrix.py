"""A bare matrix, and perhaps a bias, from a .npy or .safetensors file: ``W q + b``."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.torch import load
from torch import Tensor

from trimtab.array_files import ArrayFileError, open_array
from trimtab_training.conversion.source import (
    Source,
    check_tensor,
    digest_of,
    linear_adapter,
    name_tensors,
    read_source,
)
from trimtab_training.errors import ConfigError, DataError

WEIGHT_NAMES = ("weight", "W", "w", "matrix", "linear.weight")
BIAS_NAMES = ("bias", "b", "linear.bias")

_NUMPY_FLOATS = ("float16", "float32", "float64")


@dataclass(frozen=True)
class MatrixNames:
    """Where in the source matrix and bias stand, and how the matrix lies.

    Attributes:
        weight: Name of the matrix in a .safetensors file; empty for the usual names.
        bias: Name of the bias in a .safetensors file, or the .npy file that holds it; empty for
            the usual names, or for none.
        transposed: False where ``adapted = W q + b`` with ``W`` of shape ``(dim_out, dim_in)``, as
            ``torch.nn.Linear`` keeps it; True where ``adapted = q W + b``, ``(dim_in, dim_out)``.
    """

    weight: str = ""
    bias: str = ""
    transposed: bool = False


def read_matrix(path: Path, names: MatrixNames | None = None) -> Source:
    """Read a matrix of floats as an adapter.

    Args:
        path: A ``.npy`` or ``.safetensors`` file.
        names: Where in it matrix and bias stand; the defaults where absent.

    Raises:
        DataError: The file can't be read, or holds no finite float matrix of a sane size; the
            bias does not fit.
        ConfigError: A name was given that the kind of file has no use for.
    """
    names = names or MatrixNames()
    if not path.is_file():
        raise DataError(f"no file {path}; expected a matrix in a .npy or .safetensors file")
    content = read_source(path)
    if path.suffix == ".npy":
        weight, bias = _from_npy(path, names)
    elif path.suffix == ".safetensors":
        weight, bias = _from_safetensors(content, path, names)
    else:
        raise DataError(f"{path} ends in neither .npy nor .safetensors; save the matrix as one")
    if names.transposed:
        weight = weight.T.contiguous()
    _check_bias(weight, bias, path, names)
    details = {"orientation": "q W + b" if names.transposed else "W q + b"}
    return Source(
        linear_adapter(weight, bias, path), "matrix", path.name, digest_of(content), details
    )


def _from_npy(path: Path, names: MatrixNames) -> tuple[Tensor, Tensor | None]:
    """Read the matrix from its file, and the bias from a file of its own."""
    if names.weight:
        raise ConfigError(f"{path} holds one array without a name; --weight is for .safetensors")
    weight = check_tensor(_load_array(path), "the matrix", 2, path)
    if not names.bias:
        return weight, None
    place = Path(names.bias)
    if place.suffix != ".npy":
        raise ConfigError(f"--bias is {names.bias!r}; beside a .npy matrix it is a .npy file, too")
    return weight, check_tensor(_load_array(place), "the bias", 1, place)


def _load_array(path: Path) -> Tensor:
    """Read one array; Python objects in it are refused, not made."""
    try:
        array = open_array(path)
    except ArrayFileError as error:
        raise DataError(f"can't read an array of floats from {path}: {error}") from error
    if array.dtype.name not in _NUMPY_FLOATS:
        raise DataError(f"{path} is of type {array.dtype}; expected float16, float32 or float64")
    native = array.dtype.newbyteorder("=")
    return torch.from_numpy(np.array(array, dtype=native, order="C"))


def _from_safetensors(
    content: bytes, path: Path, names: MatrixNames
) -> tuple[Tensor, Tensor | None]:
    """Pick matrix and bias out of a file of named tensors."""
    try:
        held = load(content)
    except (SafetensorError, ValueError, KeyError, AttributeError) as error:
        raise DataError(f"can't read {path}: {error}; copy or save it again") from error
    weight = _pick(held, names.weight, WEIGHT_NAMES, 2, path)
    if weight is None:
        raise DataError(
            f"{path} holds {name_tensors(held)}; which is the matrix? Name it with --weight"
        )
    bias = _pick(held, names.bias, BIAS_NAMES, 1, path)
    return (
        check_tensor(held[weight], weight, 2, path),
        None if bias is None else check_tensor(held[bias], bias, 1, path),
    )


def _pick(
    held: dict[str, Any], given: str, usual: tuple[str, ...], n_dims: int, path: Path
) -> str | None:
    """Find a tensor: by its given name, by a usual one, or as the only one of its rank."""
    if given:
        if given not in held:
            raise DataError(f"{path} holds no {given!r}; it holds {name_tensors(held)}")
        return given
    found = [name for name in usual if name in held]
    if len(found) != 1:
        found = [name for name, tensor in held.items() if tensor.ndim == n_dims]
    if len(found) == 1:
        return found[0]
    if found and n_dims == 1:
        raise DataError(
            f"{path} holds {name_tensors(held)}; which is the bias? Name it with --bias"
        )
    return None


def _check_bias(weight: Tensor, bias: Tensor | None, path: Path, names: MatrixNames) -> None:
    """Refuse a bias that can't be added to what the matrix gives."""
    dim_out, dim_in = weight.shape
    if bias is None or len(bias) == dim_out:
        return
    turned = "without --transpose" if names.transposed else "with --transpose"
    hint = f"; {turned} it would fit" if len(bias) == dim_in else ""
    raise DataError(f"{path}: the bias has {len(bias)} values, the matrix gives {dim_out}{hint}")
