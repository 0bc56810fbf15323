"""The adapter behind a framework's embeddings: loaded once, and named again where they are saved.

Knows no framework.
"""

from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, Self

from numpy.typing import ArrayLike

from trimtab.errors import ConfigError, QueryError
from trimtab.model.adapter import Adapter
from trimtab.model.encoder_probe import probes_agree
from trimtab.text.encoder import TextEncoder

EncoderOrPath = TextEncoder | str | Path
"""An encoder, or the path of its file or folder."""

AdapterOrPath = Adapter | str | Path
"""An adapter, or the path of a model: the ONNX file or its folder."""

_LLAMA_INDEX_WEIGHTS = "pytorch_model.bin"
_DEEPEST = 3  # a framework's class, the client or backend that it holds, and the model in that
_MOST_PARTS = 64  # of a list of models; a longer one holds something else


class LoadedAdapter:
    """An adapter with the path that it came from; never changed, so copies share it.

    Sent to another process, the model's bytes travel: what arrives is the same adapter, whatever
    the path leads to there.

    Attributes:
        adapter: The adapter, safe to use from any number of threads.
        path: Where it was loaded from, as it was given; None for one that was handed over loaded.
    """

    def __init__(self, adapter: AdapterOrPath) -> None:
        """Load the adapter where a path is given.

        Raises:
            ConfigError: Neither an adapter nor a path, or the folder of a LlamaIndex adapter.
            ModelError: The model can't be used.
        """
        if not isinstance(adapter, Adapter | str | Path):
            raise ConfigError(
                f"the adapter is a {type(adapter).__name__}; "
                "expected an Adapter or the path of a model, such as models/docs"
            )
        self.path = None if isinstance(adapter, Adapter) else str(adapter)
        self.adapter = adapter if isinstance(adapter, Adapter) else _load(Path(adapter))

    def adapt(self, query: ArrayLike) -> list[float]:
        """Adapt one query, shape ``(dim_in,)``, to the list of numbers that frameworks pass on.

        Raises:
            QueryError: The query can't be transformed (see :meth:`Adapter.transform`), or is no
                single vector.
        """
        adapted = self.adapter.transform(query)
        if adapted.ndim != 1:
            raise QueryError(f"one query was embedded as {len(adapted)} rows; expected one vector")
        numbers: list[float] = adapted.tolist()
        return numbers

    def replaced_by(self, adapter: AdapterOrPath) -> "LoadedAdapter":
        """Load what takes this adapter's place.

        Raises:
            ConfigError: It is none, takes or gives another width, or was trained on the queries of
                another encoder.
            ModelError: The model can't be used.
        """
        newer = LoadedAdapter(adapter)
        old, new = self.adapter.manifest, newer.adapter.manifest
        known = {old.encoder.fingerprint, new.encoder.fingerprint} - {""}
        if len(known) > 1 or not probes_agree(old.encoder.probe, new.encoder.probe):
            raise ConfigError(
                f"adapter {newer.adapter.mark} was trained on queries of {new.encoder.name}, "
                f"{self.adapter.mark} on those of {old.encoder.name}, another encoder; for "
                "another encoder, wrap anew"
            )
        if (old.dim_in, old.dim_out) != (new.dim_in, new.dim_out):
            raise ConfigError(
                f"adapter {newer.adapter.mark} takes {new.dim_in} values and gives {new.dim_out}, "
                f"{self.adapter.mark} takes {old.dim_in} and gives {old.dim_out}; expected the "
                "same; for another encoder or index, wrap anew"
            )
        return newer

    def saved_path(self) -> str:
        """Give the path by which the adapter is loaded again.

        Raises:
            ConfigError: There is none.
        """
        if self.path is None:
            raise ConfigError(
                f"adapter {self.adapter.mark} was handed over in memory, so it can't be saved; "
                "pass the path of its model instead"
            )
        return self.path

    def __deepcopy__(self, memo: dict[int, Any]) -> Self:
        """Share the adapter."""
        return self


def load_encoder(encoder: EncoderOrPath) -> TextEncoder:
    """Load an encoder where a path is given.

    Raises:
        ConfigError: Neither an encoder nor a path.
        ModelError: The file can't be used.
    """
    if isinstance(encoder, TextEncoder):
        return encoder
    if not isinstance(encoder, str | Path):
        raise ConfigError(
            f"the encoder is a {type(encoder).__name__}; expected a TextEncoder or the path of its "
            "file, such as models/docs/encoder.onnx"
        )
    return TextEncoder.load(encoder)


class HoldsAdapter:
    """What every wrapper that holds one adapter has in common."""

    _loaded: LoadedAdapter

    @property
    def adapter(self) -> Adapter:
        """The adapter; set an adapter or a path to replace it, whole, for every later query."""
        return self._loaded.adapter

    @adapter.setter
    def adapter(self, adapter: AdapterOrPath) -> None:
        """Put another adapter of the same widths in its place."""
        self._loaded = self._replaced(adapter)

    def _replaced(self, adapter: AdapterOrPath) -> LoadedAdapter:
        """Load what takes the adapter's place, behind the encoder of ours that may be wrapped."""
        newer = self._loaded.replaced_by(adapter)
        for held in _held_by(self, 1 + _DEEPEST):
            if isinstance(held, TextEncoder):
                held.require_for(newer.adapter.manifest)
        return newer


def load_behind(inner: object, adapter: AdapterOrPath) -> LoadedAdapter:
    """Load an adapter to stand behind what embeds the queries.

    Every class of ours that adapts queries says so by ``adapts_queries``.

    Raises:
        ConfigError: It is no adapter, or what embeds the queries adapts them already, or holds an
            encoder of ours that the adapter was not trained on.
        ModelError: The model can't be used.
    """
    loaded = LoadedAdapter(adapter)
    for held in _held_by(inner, _DEEPEST):
        is_fused = isinstance(held, TextEncoder) and held.adapter is not None
        if is_fused or getattr(type(held), "adapts_queries", False) is True:
            raise ConfigError(
                f"{type(inner).__name__} adapts its queries already ({type(held).__name__}); "
                "adapt them once, in one place"
            )
        if isinstance(held, TextEncoder):
            held.require_for(loaded.adapter.manifest)
    return loaded


def _load(path: Path) -> Adapter:
    """Load a model; tell a user of LlamaIndex's own package how to bring an adapter over."""
    if (path / _LLAMA_INDEX_WEIGHTS).is_file() and not (path / "adapter.onnx").is_file():
        raise ConfigError(
            f"{path} holds an adapter of LlamaIndex's package; "
            f"convert it first: trimtab convert llama-index {path} -o {path / 'adapter.onnx'}"
        )
    return Adapter.load(path)


def _held_by(holder: object, depth: int) -> Iterator[object]:
    """Give an object, what its attributes hold, and every part of a torch module."""
    yield holder
    if depth == 0 or isinstance(holder, type):
        return
    parts = getattr(type(holder), "modules", None)
    if callable(parts) and hasattr(holder, "_modules"):
        yield from parts(holder)
        return
    attributes = getattr(holder, "__dict__", {})
    private = getattr(holder, "__pydantic_private__", None) or {}
    bound_to = getattr(holder, "__self__", None)
    for value in (bound_to, *attributes.values(), *private.values()):
        for each in _parts_of(value):
            if hasattr(each, "__dict__") or hasattr(each, "__self__"):
                yield from _held_by(each, depth - 1)


def _parts_of(value: object) -> Iterable[object]:
    """Give what a small container holds, or the value itself."""
    if isinstance(value, Mapping):
        value = list(value.values()) if len(value) <= _MOST_PARTS else ()
    if isinstance(value, list | tuple):
        return value if len(value) <= _MOST_PARTS else ()
    return (value,)
