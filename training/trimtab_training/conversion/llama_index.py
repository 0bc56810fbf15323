"""LlamaIndex's adapter folders: ``config.json`` and ``pytorch_model.bin``, as an adapter of ours.

Read as llama-index-embeddings-adapter 0.4 writes them (``BaseAdapter.save`` in its utils.py, where
``LinearLayer`` and ``TwoLayerNN`` stand, too). It normalises nothing, so neither does what is read.
"""

import io
import json
import pickle
import warnings
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from trimtab.parsing import read_json
from trimtab_training.adapters import TwoLayerAdapter
from trimtab_training.adapters.two_layer import ACTIVATIONS
from trimtab_training.conversion.source import (
    Source,
    check_tensor,
    digest_of,
    linear_adapter,
    name_tensors,
    read_source,
)
from trimtab_training.errors import DataError

CONFIG, WEIGHTS = "config.json", "pytorch_model.bin"
LINEAR, TWO_LAYER = "LinearLayer", "TwoLayerNN"

_ARGUMENTS: dict[str, dict[str, type]] = {
    LINEAR: {"in_features": int, "out_features": int, "bias": bool},
    TWO_LAYER: {
        "in_features": int,
        "hidden_features": int,
        "out_features": int,
        "bias": bool,
        "activation_fn_str": str,
        "add_residual": bool,
    },
}
_DEFAULTS = {"bias": False, "activation_fn_str": "relu", "add_residual": False}
_RANKS: dict[str, dict[str, int]] = {
    LINEAR: {"linear.weight": 2, "linear.bias": 1},
    TWO_LAYER: {
        "linear1.weight": 2,
        "linear1.bias": 1,
        "linear2.weight": 2,
        "linear2.bias": 1,
        "residual_weight": 1,
    },
}
_OPTIONAL = {"linear.bias", "residual_weight"}

Config = dict[str, Any]
Tensors = dict[str, Tensor]


def read_llama_index(folder: Path) -> Source:
    """Read an adapter that LlamaIndex has saved.

    The class is told from the names of the tensors, since ``config.json`` does not name it, and
    everything that ``config.json`` says is held against the tensors. Nothing in the file can run:
    a pickle that holds more than tensors is refused.

    Args:
        folder: What ``EmbeddingAdapterFinetuneEngine`` was given as ``model_output_path``.

    Raises:
        DataError: A file is missing, damaged, or holds code; the adapter is of a class of the
            user's own; or the two files contradict each other.
    """
    if not folder.is_dir():
        raise DataError(f"no folder {folder}; expected LlamaIndex's, with {CONFIG} and {WEIGHTS}")
    path = folder / WEIGHTS
    config = _read_config(folder / CONFIG)
    content = read_source(path)
    held = _load_tensors(content, path)
    name = _class_of(held, path)
    config = _check_config(config, name, folder / CONFIG)
    tensors = {key: check_tensor(held[key], key, _RANKS[name][key], path) for key in held}
    adapter = (
        _linear(tensors, config, path) if name == LINEAR else _two_layer(tensors, config, path)
    )
    return Source(adapter, f"llama-index ({name})", WEIGHTS, digest_of(content), config)


def _read_config(path: Path) -> Config:
    """Read the constructor's arguments."""
    try:
        config = read_json(read_source(path))
    except ValueError as error:
        raise DataError(f"{path} is not JSON: {error}; save the adapter again") from error
    if not isinstance(config, dict):
        raise DataError(f"{path} is not a JSON object; expected the adapter's arguments")
    return config


def _load_tensors(content: bytes, path: Path) -> dict[str, Any]:
    """Read a state dict, and nothing but a state dict."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            held = torch.load(io.BytesIO(content), map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        raise DataError(
            f"{path} is refused: it is no plain file of tensors, or it would run code when it is "
            f"read ({_reason(error)}); save the adapter's state_dict() again"
        ) from error
    except Exception as error:  # torch raises many types, without a common base
        raise DataError(
            f"can't read {path}: {_reason(error)}; copy or save the adapter again"
        ) from error
    if not isinstance(held, dict) or not all(isinstance(key, str) for key in held):
        raise DataError(f"{path} holds {type(held).__name__}; expected a state dict of tensors")
    return dict(held)


def _reason(error: Exception) -> str:
    """Give the line of torch's message that says what is wrong."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    marked = [line for line in lines if line.startswith("WeightsUnpickler error:")]
    text = (marked or lines or [type(error).__name__])[0]
    text = text.removeprefix("WeightsUnpickler error:").partition(". Please use")[0]
    return text.strip().rstrip(".")[:160]


def _class_of(held: dict[str, Any], path: Path) -> str:
    """Tell the class from the names of the tensors."""
    for name, ranks in _RANKS.items():
        if ranks.keys() - _OPTIONAL <= held.keys() <= ranks.keys():
            return name
    raise DataError(
        f"{path} holds {name_tensors(held)}; expected the tensors of {LINEAR} (linear.weight) or "
        f"{TWO_LAYER} (linear1.weight, linear2.weight, ...); write a class of your own as a "
        "subclass of trimtab_training.Adapter"
    )


def _check_config(config: Config, name: str, path: Path) -> Config:
    """Hold the arguments against the class that the tensors are of; fill in its defaults."""
    arguments = _ARGUMENTS[name]
    unknown = config.keys() - arguments.keys()
    missing = arguments.keys() - config.keys() - _DEFAULTS.keys()
    if unknown or missing:
        fact = f"has {sorted(unknown)}" if unknown else f"lacks {sorted(missing)}"
        raise DataError(
            f"{path} {fact}, but {WEIGHTS} beside it holds a {name}, whose arguments are "
            f"{', '.join(arguments)}; are the two files of one adapter?"
        )
    config = {key: config.get(key, _DEFAULTS.get(key)) for key in arguments}
    for key, value in config.items():
        if type(value) is not arguments[key]:
            raise DataError(f"{path}: {key!r} is {value!r}, expected {arguments[key].__name__}")
    activation = config.get("activation_fn_str", "relu")
    if activation not in ACTIVATIONS:
        raise DataError(
            f"{path}: 'activation_fn_str' is {activation!r}; expected {', '.join(ACTIVATIONS)}"
        )
    return config


def _check_shapes(tensors: Tensors, wanted: dict[str, tuple[int, ...]], path: Path) -> None:
    """Hold the tensors' shapes against the arguments."""
    for key, shape in wanted.items():
        if key in tensors and tuple(tensors[key].shape) != shape:
            raise DataError(
                f"{path}: {key!r} has shape {tuple(tensors[key].shape)}, {CONFIG} says {shape}; "
                "are the two files of one adapter?"
            )


def _linear(tensors: Tensors, config: Config, path: Path) -> Any:
    """Make the linear adapter: ``W q``, perhaps ``+ b``."""
    dim_in, dim_out = config["in_features"], config["out_features"]
    _check_shapes(tensors, {"linear.weight": (dim_out, dim_in), "linear.bias": (dim_out,)}, path)
    if ("linear.bias" in tensors) != config["bias"]:
        has = "a" if "linear.bias" in tensors else "no"
        raise DataError(
            f"{path} holds {has} linear.bias, {CONFIG} says bias {json.dumps(config['bias'])}; "
            "are the two files of one adapter?"
        )
    return linear_adapter(tensors["linear.weight"], tensors.get("linear.bias"), path)


def _two_layer(tensors: Tensors, config: Config, path: Path) -> TwoLayerAdapter:
    """Make the two-layer adapter; the residual's one weight goes into the second layer."""
    dim_in, hidden, dim_out = (config[f"{key}_features"] for key in ("in", "hidden", "out"))
    shapes: dict[str, tuple[int, ...]] = {
        "linear1.weight": (hidden, dim_in),
        "linear1.bias": (hidden,),
        "linear2.weight": (dim_out, hidden),
        "linear2.bias": (dim_out,),
        "residual_weight": (1,),
    }
    _check_shapes(tensors, shapes, path)
    residual = config["add_residual"]
    if residual and dim_in != dim_out:
        raise DataError(
            f"{path.with_name(CONFIG)} adds the query of {dim_in} values to an output of "
            f"{dim_out}; LlamaIndex can't run such an adapter, either"
        )
    if residual and "residual_weight" not in tensors:
        raise DataError(f"{path} lacks residual_weight, which add_residual in {CONFIG} calls for")
    adapter = TwoLayerAdapter(
        dim_in, dim_out, hidden=hidden, activation=config["activation_fn_str"], residual=residual
    )
    adapter.normalised = False
    scale = tensors["residual_weight"] if residual else torch.ones(1)
    with torch.no_grad():
        adapter.weight_in.copy_(tensors["linear1.weight"].T)
        adapter.bias_in.copy_(tensors["linear1.bias"])
        adapter.weight_out.copy_(scale * tensors["linear2.weight"].T)
        adapter.bias_out.copy_(scale * tensors["linear2.bias"])
    return adapter.eval()
