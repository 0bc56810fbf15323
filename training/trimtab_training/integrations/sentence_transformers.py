"""sentence-transformers: an adapter as the last module of the query encoder.

One line changes in an application, which then calls ``encode_query`` and ``encode_document``::

    model = adapt_queries(SentenceTransformer("all-MiniLM-L6-v2"), "models/docs")
"""

import inspect
import json
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from trimtab.errors import MissingExtraError, ModelError
from trimtab.model.adapter import Adapter as ServedAdapter
from trimtab.model.manifest import Manifest
from trimtab_training.adapters import Adapter, load_adapter, save_adapter
from trimtab_training.errors import ConfigError, DataError
from trimtab_training.model_files import CHECKPOINT, MODEL

try:
    from sentence_transformers import SentenceTransformer
    from sentence_transformers.base.modules import Module, Router
except ImportError as error:
    raise MissingExtraError(
        "the sentence-transformers integration needs sentence-transformers 5.4 or newer: "
        "pip install 'trimtab[sentence-transformers]'"
    ) from error

EMBEDDING, RAW_EMBEDDING = "sentence_embedding", "raw_sentence_embedding"
RECORD_FILE = "adapter.json"
LARGEST_GAP = 1e-3
"""Between what a folder's checkpoint and its ONNX file give: an export allows for 1e-5."""


class RawForm(NamedTuple):
    """What a caller of ``encode`` asks of an embedding; sentence-transformers does it last of all.

    An adapter must see what its queries were trained as, so it is done before the adapter already.

    Attributes:
        truncate_dim: Values to keep, or None for all.
        normalise: True for unit length.
    """

    truncate_dim: int | None = None
    normalise: bool = False

    def shape(self, raw: Tensor) -> Tensor:
        """Give embeddings, shape ``(n, dim)``, the form that was asked for."""
        kept = raw[..., : self.truncate_dim]
        return nn.functional.normalize(kept, p=2, dim=-1) if self.normalise else kept

    def check(self, manifest: Manifest) -> None:
        """Refuse to cut what the adapter takes, or behind the adapter what it gives.

        Raises:
            ConfigError: The form leaves fewer values than either.
        """
        least = max(manifest.dim_in, manifest.dim_out)
        if self.truncate_dim is not None and self.truncate_dim < least:
            raise ConfigError(
                f"truncate_dim={self.truncate_dim} would cut queries: adapter {manifest.name!r} "
                f"takes {manifest.dim_in} values and gives {manifest.dim_out}; leave truncate_dim "
                "out, or fit an adapter on queries that are truncated alike"
            )


AS_IT_IS = RawForm()


class QueryAdapter(Module):  # type: ignore[misc]  # mypy skips sentence_transformers
    """An adapter as a module: replaces ``sentence_embedding`` by the adapted query.

    The raw embedding stays in the features as ``raw_sentence_embedding``. With the weights of a
    checkpoint it can be moved to any device and trained further; with those of an ONNX file it
    gives what the sidecar gives, on the CPU.

    Attributes:
        adapter: A ``trimtab_training.Adapter``, or :class:`ServedModule` around an ONNX file.
        manifest: What the model says about itself.

    Example:
        >>> query_modules = [*encoder, QueryAdapter.open("models/docs")]  # doctest: +SKIP
        >>> router = Router.for_query_document(query_modules, [*encoder])  # doctest: +SKIP
    """

    adapts_queries = True
    config_file_name = RECORD_FILE
    forward_kwargs = frozenset({"raw_form"})

    def __init__(self, adapter: "Adapter | ServedModule", manifest: Manifest) -> None:
        """Take an adapter; callers use :meth:`open`."""
        super().__init__()
        self.adapter, self.manifest = adapter, manifest

    @classmethod
    def open(cls, model: str | Path) -> "QueryAdapter":
        """Open a model: its checkpoint where it has one, its ONNX file otherwise.

        Args:
            model: A model folder, a checkpoint folder, or an ONNX file.

        Raises:
            DataError: There is no model, it is damaged, or checkpoint and ONNX file disagree.
        """
        path = Path(model)
        for folder in (path, path / CHECKPOINT):
            if (folder / RECORD_FILE).is_file():
                opened = cls(*_open_checkpoint(folder))
                break
        else:
            return cls(*_open_served(path))
        if folder != path and (path / MODEL).is_file():
            _check_same(opened.adapter, _open_served(path)[0], path)
        return opened

    def on_model_ready(self, model: Any) -> None:
        """Have the finished model tell this module what form its callers ask for.

        Raises:
            ConfigError: The model truncates what the adapter takes or gives.
        """
        RawForm(model.truncate_dim).check(self.manifest)
        if type(model) is SentenceTransformer:  # which tells no module of truncate_dim
            model.__class__ = AdaptedSentenceTransformer

    def forward(self, features: Any, raw_form: RawForm = AS_IT_IS, **options: Any) -> Any:
        """Adapt the queries' embeddings in the features of a batch.

        Args:
            features: The embeddings, shape ``(n, dim)``, are under ``sentence_embedding``.
            raw_form: The form to give them first, after which they must have ``dim_in`` values.
            options: What other modules take.

        Raises:
            ConfigError: The encoder gives another width than the adapter wants.
        """
        raw_form.check(self.manifest)
        raw = raw_form.shape(features[EMBEDDING])
        _check_width(raw.shape[-1], self.manifest)
        weights = next(self.adapter.parameters(), None)
        dtype = torch.float32 if weights is None else weights.dtype
        features[RAW_EMBEDDING] = raw
        features[EMBEDDING] = self.adapter(raw.to(dtype)).to(raw.dtype)
        return features

    def get_embedding_dimension(self) -> int:
        """Give the values of an adapted query."""
        return self.manifest.dim_out

    def get_config_dict(self) -> dict[str, Any]:
        """Describe the module."""
        manifest = self.manifest
        return {"name": manifest.name, "dim_in": manifest.dim_in, "dim_out": manifest.dim_out}

    def save(self, output_path: str, *args: Any, **options: Any) -> None:
        """Write the weights into a folder, without pickles."""
        folder = Path(output_path)
        if isinstance(self.adapter, ServedModule):
            folder.mkdir(parents=True, exist_ok=True)
            (folder / MODEL).write_bytes(self.adapter.content)
        else:
            save_adapter(self.adapter, folder, manifest=json.loads(self.manifest.to_json()))

    @classmethod
    def load(cls, model_name_or_path: str, subfolder: str = "", **options: Any) -> "QueryAdapter":
        """Open what :meth:`save` has written, in a folder or on the hub.

        sentence-transformers imports classes of other packages only with
        ``SentenceTransformer(..., trust_remote_code=True)``.

        Raises:
            DataError: It is not there, or damaged.
        """
        known = ("token", "cache_folder", "revision", "local_files_only")
        hub = {name: options[name] for name in known if name in options}
        folder = cls.load_dir_path(model_name_or_path, subfolder=subfolder, **hub)
        return cls.open(folder)


class ServedModule(nn.Module):
    """An ONNX file as a module: runs as in the sidecar, on the CPU and without gradients.

    It can be pickled and copied: the file's bytes travel.

    Attributes:
        content: The bytes of the ``.onnx`` file.
    """

    def __init__(self, content: bytes) -> None:
        """Check the file and make its session.

        Raises:
            ModelError: It can't be used.
        """
        super().__init__()
        self.content = content
        self.served = ServedAdapter.from_bytes(content)

    def forward(self, queries: Tensor) -> Tensor:
        """Adapt queries, shape ``(n, dim_in)``."""
        rows = queries.detach().to("cpu", torch.float32).numpy()
        return torch.from_numpy(self.served.transform(rows)).to(queries)


class AdaptedSentenceTransformer(SentenceTransformer):  # type: ignore[misc]  # see above
    """A ``SentenceTransformer`` whose query adapter sees the embeddings as callers ask for them.

    ``encode_query(texts, truncate_dim=..., normalize_embeddings=...)`` gives what the adapter makes
    of the plain model's answer to the same call; ``precision`` counts behind the adapter.
    """

    def encode(self, *arguments: Any, **options: Any) -> Any:
        """Embed as ``SentenceTransformer.encode`` does.

        Raises:
            ConfigError: ``truncate_dim`` leaves queries another width than the adapter wants.
        """
        if "raw_form" in self.get_model_kwargs():
            call = _ENCODE.bind_partial(self, *arguments, **options).arguments
            asked = call.get("truncate_dim")
            truncate_dim = self.truncate_dim if asked is None else asked
            form = RawForm(truncate_dim, bool(call.get("normalize_embeddings")))
            options["raw_form"] = form
        return super().encode(*arguments, **options)

    def preprocess(self, *arguments: Any, **options: Any) -> Any:
        """Preprocess texts, which the adapter's own option does not concern."""
        options.pop("raw_form", None)
        return super().preprocess(*arguments, **options)


_ENCODE = inspect.signature(SentenceTransformer.encode)


def adapt_queries(model: Any, adapter: str | Path | QueryAdapter) -> Any:
    """Make a model whose ``encode_query`` is adapted, and whose other encodings are not.

    Both routes share the encoder's modules, so no weights are copied. ``encode`` embeds as
    documents are embedded, unless it is called with ``task="query"``. The query prefix that the
    adapter was trained with becomes the model's ``query`` prompt.

    Args:
        model: A ``SentenceTransformer``; it goes on working as it is.
        adapter: The path of a model, or a module.

    Returns:
        A ``SentenceTransformer``, which can be saved, and loaded again with
        ``trust_remote_code=True``.

    Raises:
        ConfigError: Encoder and adapter don't fit together, or queries are adapted already.
        DataError: There is no adapter at the path, or it is damaged.
    """
    if not isinstance(model, SentenceTransformer):
        raise ConfigError(f"expected a SentenceTransformer, not {type(model).__name__}")
    if any(isinstance(part, QueryAdapter) for part in model.modules()):
        raise ConfigError("this model adapts its queries already; adapt the plain encoder")
    module = adapter if isinstance(adapter, QueryAdapter) else QueryAdapter.open(adapter)
    RawForm(model.truncate_dim).check(module.manifest)
    _check_width(model.get_embedding_dimension(), module.manifest)
    encoder = list(model.children())
    router = Router.for_query_document(
        query_modules=[*encoder, module.to(model.device)], document_modules=encoder
    )
    return AdaptedSentenceTransformer(
        modules=[router],
        device=str(model.device),
        prompts=_prompts(model.prompts, module.manifest.encoder.query_prefix),
        default_prompt_name=model.default_prompt_name,
        similarity_fn_name=model.similarity_fn_name,
        truncate_dim=model.truncate_dim,
    )


def _open_checkpoint(folder: Path) -> tuple[Adapter, Manifest]:
    """Open a checkpoint."""
    adapter, record = load_adapter(folder)
    try:
        return adapter.eval(), Manifest.from_json(json.dumps(record.get("manifest")))
    except ModelError as error:
        raise DataError(f"{folder / RECORD_FILE}: {error}") from error


def _open_served(path: Path) -> tuple[ServedModule, Manifest]:
    """Open an ONNX file, or the one in a folder."""
    file = path / MODEL if path.is_dir() else path
    try:
        module = ServedModule(file.read_bytes())
    except OSError as error:
        raise DataError(
            f"no model at {path}; expected a folder with {CHECKPOINT} or {MODEL}, or the file"
        ) from error
    except ModelError as error:
        raise DataError(f"{file}: {error}") from error
    return module, module.served.manifest


def _check_same(adapter: Any, served: ServedModule, folder: Path) -> None:
    """Refuse a folder whose two forms of one model give different queries."""
    dim = served.served.dim_in
    probe = np.random.default_rng(0).standard_normal((8, dim)).astype(np.float32)
    queries = torch.from_numpy(probe / np.linalg.norm(probe, axis=1, keepdims=True))
    if adapter.dim_in == dim:
        with torch.no_grad():
            wanted, found = adapter(queries), served(queries)
        if wanted.shape == found.shape and (wanted - found).abs().max() < LARGEST_GAP:
            return
    raise DataError(f"{CHECKPOINT} and {MODEL} in {folder} are of different fits; pass one of them")


def _check_width(found: int | None, manifest: Manifest) -> None:
    """Refuse an encoder of another width than the adapter's."""
    if found is not None and found != manifest.dim_in:
        raise ConfigError(
            f"the encoder gives {found} values; adapter {manifest.name!r} wants "
            f"{manifest.dim_in}; use the encoder that it was trained for ({manifest.encoder.name})"
        )


def _prompts(prompts: dict[str, str], prefix: str) -> dict[str, str]:
    """Put the adapter's query prefix into the prompts, unless they hold another one."""
    found = prompts.get("query") or prefix
    if found != prefix:
        raise ConfigError(
            f"encode_query puts {found!r} before a query, the adapter was trained with {prefix!r}; "
            "set model.prompts['query'] to that, or train on queries embedded alike"
        )
    return {**prompts, "query": prefix}
