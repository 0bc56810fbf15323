"""The recipe: every knob of a fit, in one TOML file; unknown keys are errors.

Why each default is what it is: docs/recipe.md, with the measurement behind it.
"""

import sys
from dataclasses import Field, asdict, dataclass, field, fields, replace
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
from msgspec import Meta

from trimtab.model.second_look import MAX_DEPTH
from trimtab.parsing import MisfitError, parse, read_toml
from trimtab_training.data.plain_text import explain_unreadable
from trimtab_training.embeddings.store import Embeddings, said_similarity, said_use
from trimtab_training.errors import ConfigError

_MOST = sys.float_info.max  # anything but infinity
Count = Annotated[int, Meta(ge=1)]
Amount = Annotated[float, Meta(ge=0, le=_MOST)]
Positive = Annotated[float, Meta(gt=0, le=_MOST)]
Share = Annotated[float, Meta(ge=0, le=1)]
PartialShare = Annotated[float, Meta(ge=0, lt=1)]
_ADAPTERS = ("auto", "linear", "low_rank", "two_layer")
Amounts = Annotated[tuple[Amount, ...], Meta(min_length=1)]


@dataclass(frozen=True)
class Recipe:
    """Everything that decides the outcome of a fit, beside the data and the seed.

    Attributes:
        adapter: ``auto``, a linear part and a hidden layer behind a gate; else one kind:
            ``linear``, ``low_rank``, ``two_layer``, or ``module:Class`` for a subclass of
            :class:`trimtab_training.Adapter`.
        adapter_options: Keyword arguments of the adapter's class; ``auto`` has none.
        hidden: For ``auto``, hidden units; 0 leaves the linear part alone.
        dropout: For ``auto``, share of the hidden units that each training step leaves out.
        gated: For ``auto``, whether queries far from all training queries are left alone.
        ranks: For ``auto``, ranks of the linear part to try once it is trained: the lowest that
            loses nothing on held-out queries is shipped, in two narrow matrices. Those that would
            save nothing are left out; none keeps the whole matrix.
        max_megabytes: For ``auto``, most that the weights in a model file may take: of what fits,
            the best is shipped. 0 sets no limit.
        rescore: Documents, the best of a search, that a second look puts in a new order where
            search happens in process: a second adapter and a map of documents are trained beside
            the adapter, and shipped in its file if held-out queries prefer them. 0 trains none.
        use: ``relevance`` for queries of the encoder that the documents are from, ``migration`` for
            those of another one, which mean nothing to the index as they are: such a fit starts at
            a ridge regression instead of the raw query. ``auto`` takes queries of the documents'
            width for ``relevance``.
        similarity: How the index compares vectors: ``cosine``, ``dot`` or ``euclid``. ``auto`` is
            what the index does that the documents were copied from, where they have no unit
            length; cosine elsewhere.
        unlabelled_weights: Weights to try, in the softmax over candidates, of documents without a
            training query: 1 is the softmax over the whole corpus, 0 over labelled documents
            alone; a smaller one wins unless validation finds it clearly worse. The smallest alone
            is tried where nearly all documents have training queries.
        anchors: Weights of the document anchor to try, each with every unlabelled weight. Between
            two encoders there is none.
        synthetic_weights: Weights to try, in the loss, of training queries that an LLM wrote, where
            there are real ones beside them, which count 1: the first with every other weight, the
            others with those that real held-out queries have chosen. 0 leaves them out.
        blends: Shares of the learned change to try, 1 is all of it; validation chooses. 0, the
            raw query, is always among them.
        temperatures: Values to try of what divides the scores inside the softmax, for an encoder
            whose best document leads the average one by .5, and in proportion for others: the
            first with every other weight, the others with those that validation has chosen and all
            of the steps. Empty: .03, and .05 where nearly every document has a training query.
        learning_rate: Step size of AdamW at the first step; it falls linearly to 0 at the last.
            For batches under 128 it is less, in proportion to their square root.
        averaging: Share of the running mean of the weights that a step leaves in place; the mean is
            what is validated and kept. 0 keeps the last weights.
        weight_decay: Pull towards the identity, per unit of learning rate.
        batch_size: Most queries a step; from 64 on, as many as it takes to pass all of them
            ``epochs`` times in ``max_steps``.
        epochs: Most passes over the training queries.
        min_steps: Least steps of a fit, for small sets: they are passed more often.
        max_steps: Most steps of a fit, for large sets; at least one pass.
        folds: Shares for cross-fitting; each trial leaves one out and is scored on it.
        screened_queries: As many folds are run to choose weights as it takes to hold out so many
            queries.
        screened_steps: Share of a fit's steps that trials take while weights are chosen. Then it is
            compared with all of them, and the better fit is kept.
        compared_queries: As many folds are run, with the weights that were chosen, as it takes to
            hold out so many queries.
        max_held_out: Most queries that a fold validates on.
        sampled_documents: Documents drawn anew every 15 steps to stand for all unlabelled ones.
        max_validated: Documents that validation ranks; beyond it, hard and random ones only.
        anchor_batch: Most documents a step for the anchor; no more than queries.
        min_gain: Least validation gain in nDCG@10 for an adapter to be better than none.
        split_by: How test queries are split off where the data has none: ``document`` or
            ``query``.
        max_dropped: Share of the labels that may name a query or document without a vector, as
            one that was deleted, from 0 to 1; they are left out.
    """

    adapter: str = "auto"
    adapter_options: dict[str, Any] = field(default_factory=dict)
    hidden: Annotated[int, Meta(ge=0)] = 192
    dropout: PartialShare = 0.25
    gated: bool = True
    ranks: tuple[Count, ...] = (128, 256, 512)
    max_megabytes: Amount = 0.0
    rescore: Annotated[int, Meta(ge=0, le=MAX_DEPTH)] = 0
    use: Literal["auto", "relevance", "migration"] = "auto"
    similarity: Literal["auto", "cosine", "dot", "euclid"] = "auto"
    unlabelled_weights: Amounts = (1.0, 0.0)
    anchors: Amounts = (3.0, 0.3)
    synthetic_weights: Amounts = (1.0, 0.3, 0.0)
    blends: Annotated[tuple[Share, ...], Meta(min_length=1)] = (0.25, 0.5, 0.75, 1.0)
    temperatures: tuple[Positive, ...] = ()
    learning_rate: Positive = 3e-3
    averaging: PartialShare = 0.97
    weight_decay: Amount = 0.01
    batch_size: Count = 256
    epochs: Count = 16
    min_steps: Count = 240
    max_steps: Count = 600
    folds: Annotated[int, Meta(ge=2)] = 5
    screened_queries: Count = 300
    screened_steps: Annotated[float, Meta(gt=0, le=1)] = 0.25
    compared_queries: Count = 800
    max_held_out: Count = 2000
    sampled_documents: Count = 4096
    max_validated: Count = 50000
    anchor_batch: Count = 256
    min_gain: Amount = 0.002
    split_by: Literal["document", "query"] = "document"
    max_dropped: Share = 0.1

    def __post_init__(self) -> None:
        """Refuse values that no fit could use.

        Raises:
            ConfigError: A value is of another type or out of range; the message names the key.
        """
        for item in fields(self):
            _hold(item, getattr(self, item.name))
        if self.adapter not in _ADAPTERS and ":" not in self.adapter:
            raise ConfigError(
                f"adapter is {self.adapter!r}; expected {', '.join(_ADAPTERS)}, or module:Class"
            )
        if self.adapter != "auto" and self.max_megabytes:
            raise ConfigError(
                f"recipe key 'max_megabytes' goes with adapter 'auto', not {self.adapter!r}: only "
                "there can the fit choose between sizes"
            )
        if self.rescore and self.max_megabytes:
            raise ConfigError(
                "recipe keys 'rescore' and 'max_megabytes' don't go together: a second look brings "
                "a whole adapter of its own into the file; leave one of them out"
            )
        if self.adapter == "auto" and self.adapter_options:
            raise ConfigError(
                "recipe key 'adapter_options' goes with a kind of adapter; for 'auto', set "
                "'hidden', 'dropout' and 'gated'"
            )

    def use_between(self, dim_in: int, dim_out: int) -> str:
        """Say what an adapter between two widths is for: ``relevance`` or ``migration``.

        Raises:
            ConfigError: ``relevance`` is asked for, and the widths differ.
        """
        if dim_in != dim_out and self.use == "relevance":
            raise ConfigError(
                f"use is 'relevance', but queries have {dim_in} values and documents {dim_out}: "
                "they are of two encoders; say 'migration', or embed the queries with the "
                "documents' encoder"
            )
        if self.use != "auto":
            return self.use
        return "relevance" if dim_in == dim_out else "migration"

    @property
    def compares_by(self) -> Literal["cosine", "dot", "euclid"]:
        """How vectors are compared; cosine where that is left to an index and none is known."""
        return "cosine" if self.similarity == "auto" else self.similarity

    def settle(self, embeddings: Embeddings) -> "Recipe":
        """Decide by what a folder of vectors says of itself what is left to ``auto``.

        Raises:
            DataError: The folder says what it can't mean.
        """
        use = said_use(embeddings.folder) if self.use == "auto" else self.use
        own = said_similarity(embeddings) if self.similarity == "auto" else None
        return replace(self, use=use, similarity=own or self.compares_by)

    def as_dict(self) -> dict[str, Any]:
        """Give every knob as plain JSON types."""
        return {
            key: list(value) if isinstance(value, tuple) else value
            for key, value in asdict(self).items()
        }


_GONE = {
    "prototypes": "a default fit has none; leave it out",
    "queries_per_prototype": "a default fit has no prototypes; leave it out",
    "patience": "a fit takes all its steps, at a learning rate that falls to 0; see 'max_steps'",
    "refits": "one fit does as well as the mean of several; leave it out",
}


@dataclass(frozen=True)
class ModelRecipe:
    """A recipe file: which data a model is built from, and how.

    Attributes:
        name: Name of the model, in its manifest and card: the folder's, unless the file says
            otherwise.
        dataset: Dataset folder, or ``demo:NAME`` for a built-in set.
        embeddings: Embeddings folder; None for a built-in set.
        seed: Seed of every random choice.
        fit: The knobs.
    """

    name: str
    dataset: str
    embeddings: str | None
    seed: int
    fit: Recipe


@dataclass(frozen=True)
class _ModelFile:
    """What a model's recipe says, as it says it."""

    name: str | None = None
    dataset: str | None = None
    embeddings: str | None = None
    seed: Annotated[int, Meta(ge=0, le=2**63 - 1)] = 0
    fit: dict[str, Any] = field(default_factory=dict)


def parse_recipe(record: dict[str, Any], source: str) -> Recipe:
    """Make a recipe from the keys of a TOML table.

    Raises:
        ConfigError: A key is unknown or its value has the wrong type or range.
    """
    for key, instead in _GONE.items():
        if key in record:
            raise ConfigError(f"{source}: recipe key '{key}' is gone since 0.2: {instead}")
    knobs = {item.name: item for item in fields(Recipe)}
    for key in record:
        if key not in knobs:
            raise ConfigError(
                f"{source}: unknown recipe key '{key}'; known keys: {', '.join(sorted(knobs))}"
            )
    try:
        return Recipe(**{key: _hold(knobs[key], value) for key, value in record.items()})
    except ConfigError as error:
        raise ConfigError(f"{source}: {error}") from error


def _hold(knob: Field[Any], value: Any) -> Any:
    """Hold a value against the type of its knob; one number will do for a list of them."""
    kind: Any = knob.type
    if isinstance(knob.default, tuple) and not isinstance(value, list | tuple):
        value = [value]
    try:
        return parse(_plain(value), kind)
    except MisfitError as error:
        raise ConfigError(f"recipe key '{knob.name}' {error.fact}") from error


def _plain(value: Any) -> Any:
    """Make Python's numbers of numpy's, which a recipe made in Python may hold."""
    if isinstance(value, list | tuple):
        return [_plain(each) for each in value]
    return value.item() if isinstance(value, np.generic) else value


def load_recipe(path: Path) -> Recipe:
    """Read the knobs of a fit: a ``[fit]`` table, or a file of nothing but knobs.

    Raises:
        ConfigError: The file can't be read, or a key is unknown or wrong.
    """
    record = _read_toml(path)
    if "dataset" in record or "fit" in record:
        record = _parse_model_file(record, path).fit
    return parse_recipe(record, str(path))


def load_model_recipe(path: Path) -> ModelRecipe:
    """Read a ``models/NAME/recipe.toml``; paths in it are relative to its folder.

    Raises:
        ConfigError: The file can't be read, lacks ``dataset``, or has an unknown or wrong key.
    """
    file = _parse_model_file(_read_toml(path), path)
    if file.dataset is None:
        raise ConfigError(f"{path}: key 'dataset' is missing; name a folder or 'demo:hpo-lay'")
    folder = path.parent
    if file.dataset.startswith("demo:"):
        dataset, embeddings = file.dataset, None
    elif file.embeddings is None:
        raise ConfigError(f"{path}: key 'embeddings' is missing; make a folder with trimtab embed")
    else:
        dataset, embeddings = str(folder / file.dataset), str(folder / file.embeddings)
    name = file.name or path.absolute().parent.name
    return ModelRecipe(name, dataset, embeddings, file.seed, parse_recipe(file.fit, str(path)))


def _parse_model_file(record: dict[str, Any], path: Path) -> _ModelFile:
    """Refuse unknown keys of a model's recipe, and values of the wrong type."""
    try:
        return parse(record, _ModelFile)
    except MisfitError as error:
        fact = error.fact.removesuffix(" or NoneType")  # of which TOML has none
        raise ConfigError(f"{path}: key '{error.path}' {fact}") from error


def _read_toml(path: Path) -> dict[str, Any]:
    """Read a TOML file, or say in one line why not."""
    try:
        return read_toml(path.read_text(encoding="utf-8-sig"))
    except OSError as error:
        raise ConfigError(f"can't read recipe {path}: {error.strerror}") from error
    except ValueError as error:
        raise ConfigError(f"{path} is not TOML: {explain_unreadable(path, error)}") from error
