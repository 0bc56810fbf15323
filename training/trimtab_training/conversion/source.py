"""What a converted adapter was read from, and the tensors in it, checked before any is used."""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from trimtab.model.manifest import MAX_DIM
from trimtab.model.onnx_file import MAX_SIZE_BYTES
from trimtab_training.adapters import Adapter, LinearAdapter
from trimtab_training.errors import DataError

_FLOATS = (torch.float16, torch.bfloat16, torch.float32, torch.float64)
_BYTES_A_VALUE = 4  # what a model file spends on one


@dataclass(frozen=True)
class Source:
    """An adapter that somebody else made.

    Attributes:
        adapter: The same map as an adapter of ours; its output is of any length.
        form: Where it comes from, in words, such as ``llama-index (LinearLayer)``.
        file: Name of the file that held the weights.
        sha256: Digest of that file, as ``sha256:HEX``.
        details: What else the source says about itself.
    """

    adapter: Adapter
    form: str
    file: str
    sha256: str
    details: dict[str, Any] = field(default_factory=dict)

    def as_dict(self) -> dict[str, Any]:
        """Write down the origin, for the manifest."""
        origin = {"form": self.form, "file": self.file, "sha256": self.sha256}
        return {**origin, **({"details": self.details} if self.details else {})}


def read_source(path: Path) -> bytes:
    """Read a file of weights that is no larger than a model may be.

    Raises:
        DataError: It can't be read, or is too large.
    """
    try:
        size_bytes = path.stat().st_size
        # Weights may come as float64 and become half as large.
        if size_bytes > 2 * MAX_SIZE_BYTES:
            raise DataError(
                f"{path} has {size_bytes} bytes; a model holds at most {MAX_SIZE_BYTES} of weights"
            )
        return path.read_bytes()
    except OSError as error:
        raise DataError(f"can't read {path}: {error.strerror}") from error


def digest_of(content: bytes) -> str:
    """Give a file's digest as manifests write it."""
    return f"sha256:{hashlib.sha256(content).hexdigest()}"


def check_tensor(tensor: Any, name: str, n_dims: int, path: Path) -> Tensor:
    """Take a tensor as float32, once it is known to be one that a model can hold.

    Args:
        tensor: Whatever the file held under this name.
        name: Its name, for messages.
        n_dims: Dimensions that it must have.
        path: The file, for messages.

    Raises:
        DataError: No plain tensor of floats, of another rank, empty, too large, or not finite
            (in float32).
    """
    if not isinstance(tensor, Tensor) or tensor.layout != torch.strided or tensor.is_meta:
        raise DataError(f"{path}: {name!r} is not a plain tensor; expected one of floats")
    if tensor.dtype not in _FLOATS:
        kind = str(tensor.dtype).removeprefix("torch.")
        raise DataError(f"{path}: {name!r} is of type {kind}; expected float16, 32 or 64")
    shape = tuple(tensor.shape)
    if len(shape) != n_dims:
        wanted = {0: "a single number", 1: "a vector", 2: "a matrix"}[n_dims]
        raise DataError(f"{path}: {name!r} has shape {shape}; expected {wanted}")
    if not all(1 <= size <= MAX_DIM for size in shape):
        raise DataError(f"{path}: {name!r} has shape {shape}; expected widths of 1 to {MAX_DIM}")
    if tensor.numel() * _BYTES_A_VALUE > MAX_SIZE_BYTES:
        raise DataError(f"{path}: {name!r} has shape {shape}, too large for a model file")
    values = tensor.detach().to(torch.float32).contiguous()
    if not bool(torch.isfinite(values).all()):
        raise DataError(f"{path}: {name!r} holds NaN, infinity, or more than float32 can hold")
    return values


def linear_adapter(
    weight: Float[Tensor, "dim_out dim_in"], bias: Float[Tensor, " dim_out"] | None, path: Path
) -> LinearAdapter:
    """Make ``W q + b`` an adapter of ours, its output left at any length.

    Raises:
        DataError: The matrix of the file, which is named, makes all queries one.
    """
    if not bool(weight.any()):
        raise DataError(
            f"{path}: the matrix holds only zeros, so that all queries would become the same; give "
            "the one that was trained"
        )
    dim_out, dim_in = weight.shape
    adapter = LinearAdapter(dim_in, dim_out)
    adapter.normalised = False
    with torch.no_grad():
        if dim_in == dim_out:
            adapter.difference.copy_(weight.T - torch.eye(dim_in))
        else:
            adapter.start_from(weight.T)
        if bias is not None:
            adapter.bias.copy_(bias)
    return adapter.eval()


def name_tensors(tensors: Mapping[str, Any]) -> str:
    """Write the names and shapes of some tensors, for messages."""
    shown = [
        f"{name} {list(value.shape)}" if isinstance(value, Tensor) else f"{name}"
        for name, value in list(tensors.items())[:8]
    ]
    return ", ".join(shown + ["..."] * (len(tensors) > len(shown))) or "nothing"
