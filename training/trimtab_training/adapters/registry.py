"""Adapters by name: make one, save it without pickles, open it again."""

import importlib
import json
import sys
from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from safetensors.torch import load_file, save_file

from trimtab.parsing import read_json
from trimtab_training.adapters.base import Adapter
from trimtab_training.adapters.composed import ComposedAdapter
from trimtab_training.adapters.identity import IdentityAdapter
from trimtab_training.adapters.linear import LinearAdapter
from trimtab_training.adapters.low_rank import LowRankAdapter
from trimtab_training.adapters.two_layer import TwoLayerAdapter
from trimtab_training.errors import ConfigError, DataError

_BUILT_IN: dict[str, type[Adapter]] = {
    "composed": ComposedAdapter,
    "identity": IdentityAdapter,
    "linear": LinearAdapter,
    "low_rank": LowRankAdapter,
    "two_layer": TwoLayerAdapter,
}


def adapter_class(kind: str) -> type[Adapter]:
    """Find an adapter's class: a built-in kind, or ``module:Class`` for a user's own.

    Raises:
        ConfigError: No such kind, the module can't be imported, or the class is no Adapter.
    """
    if kind in _BUILT_IN:
        return _BUILT_IN[kind]
    module_name, _, class_name = kind.partition(":")
    if not class_name:
        raise ConfigError(
            f"adapter is {kind!r}; expected auto, linear, low_rank, two_layer, or module:Class"
        )
    sys.path.append(str(Path.cwd()))  # a user's module usually lies where the command is run
    try:
        found = getattr(importlib.import_module(module_name), class_name)
    except (ImportError, AttributeError) as error:
        raise ConfigError(f"can't import adapter {kind!r}: {error}") from error
    finally:
        sys.path.pop()
    if not (isinstance(found, type) and issubclass(found, Adapter)):
        raise ConfigError(f"{kind!r} is not a subclass of trimtab_training.Adapter")
    return found


def kind_of(adapter: Adapter) -> str:
    """Name an adapter's kind, as :func:`adapter_class` finds it again."""
    for kind, cls in _BUILT_IN.items():
        if type(adapter) is cls:
            return kind
    return f"{type(adapter).__module__}:{type(adapter).__qualname__}"


def make_adapter(kind: str, dim_in: int, dim_out: int, options: dict[str, Any]) -> Adapter:
    """Make an untrained adapter.

    Raises:
        ConfigError: The kind or one of its options is unknown or out of range.
    """
    try:
        return adapter_class(kind)(dim_in, dim_out, **options)
    except TypeError as error:
        raise ConfigError(f"adapter {kind!r} can't take options {options}: {error}") from error


def save_adapter(adapter: Adapter, folder: Path, **more: Any) -> None:
    """Write ``adapter.safetensors`` and ``adapter.json``, with whatever else belongs to it."""
    folder.mkdir(parents=True, exist_ok=True)
    state = {name: value.contiguous() for name, value in adapter.state_dict().items()}
    save_file(state, folder / "adapter.safetensors")
    record = {
        "kind": kind_of(adapter),
        "dim_in": adapter.dim_in,
        "dim_out": adapter.dim_out,
        "options": adapter.options,
        "normalised": adapter.normalised,
        **more,
    }
    (folder / "adapter.json").write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")


def load_adapter(folder: Path) -> tuple[Adapter, dict[str, Any]]:
    """Open what :func:`save_adapter` wrote; a user's own class is imported by its name.

    Returns:
        The adapter, and everything that ``adapter.json`` says.

    Raises:
        DataError: A file is missing or damaged, or the weights don't fit the class.
        ConfigError: The class can't be found.
    """
    try:
        record = read_json((folder / "adapter.json").read_text(encoding="utf-8"))
        state = load_file(folder / "adapter.safetensors")
        options = record["options"]
        if record["kind"] == "composed":
            options = _without_prototypes(options, state, folder)
        adapter = make_adapter(record["kind"], record["dim_in"], record["dim_out"], options)
        adapter.normalised = record["normalised"]
        adapter.load_state_dict(state)
    except (OSError, ValueError, KeyError, TypeError, RuntimeError, SafetensorError) as error:
        raise DataError(
            f"can't open a checkpoint in {folder}: {error}; "
            "expected adapter.json and adapter.safetensors as trimtab fit writes them"
        ) from error
    return adapter, record


def _without_prototypes(
    options: dict[str, Any], state: dict[str, Any], folder: Path
) -> dict[str, Any]:
    """Leave out what a composed adapter of version 0.1 says of prototypes; in place in the state.

    Raises:
        DataError: It has some, which nothing here computes any more.
    """
    if options.get("prototypes"):
        raise DataError(
            f"the checkpoint in {folder} is of trimtab 0.1 and has {options['prototypes']} "
            "prototypes, which a default fit no longer makes: fit anew. Its adapter.onnx goes on "
            "serving as it is"
        )
    for name in ("prototypes", "temperature", "shifts"):
        state.pop(name, None)
    return {key: value for key, value in options.items() if key != "prototypes"}
