"""The recipe: every knob of a fit, in one TOML file; unknown keys are errors.

Why each default is what it is: docs/recipe.md, with the measurement behind it.
"""

import math
import tomllib
from dataclasses import asdict, dataclass, field, fields, replace
from pathlib import Path
from typing import Any, get_args, get_origin

from trimtab_training.errors import ConfigError

SIMILARITIES = ("cosine", "dot", "euclid")
SPLIT_BY = ("document", "query")
USES = ("auto", "relevance", "migration")


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
        use: ``relevance`` for queries of the encoder that the documents are from, ``migration`` for
            those of another one, which mean nothing to the index as they are: such a fit starts at
            a ridge regression instead of the raw query. ``auto`` takes queries of the documents'
            width for ``relevance``.
        similarity: How the index compares vectors: ``cosine``, ``dot`` or ``euclid``.
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
            first with every other weight, the others with those that validation has chosen.
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
    hidden: int = 192
    dropout: float = 0.25
    gated: bool = True
    ranks: tuple[int, ...] = (128, 256, 512)
    max_megabytes: float = 0.0
    use: str = "auto"
    similarity: str = "cosine"
    unlabelled_weights: tuple[float, ...] = (1.0, 0.0)
    anchors: tuple[float, ...] = (3.0, 0.3)
    synthetic_weights: tuple[float, ...] = (1.0, 0.3, 0.0)
    blends: tuple[float, ...] = (0.25, 0.5, 0.75, 1.0)
    temperatures: tuple[float, ...] = (0.03,)
    learning_rate: float = 3e-3
    averaging: float = 0.97
    weight_decay: float = 0.01
    batch_size: int = 256
    epochs: int = 16
    min_steps: int = 240
    max_steps: int = 600
    folds: int = 5
    screened_queries: int = 300
    screened_steps: float = 0.25
    compared_queries: int = 800
    max_held_out: int = 2000
    sampled_documents: int = 4096
    max_validated: int = 50000
    anchor_batch: int = 256
    min_gain: float = 0.002
    split_by: str = "document"
    max_dropped: float = 0.1

    def __post_init__(self) -> None:
        """Refuse values that no fit could use.

        Raises:
            ConfigError: A value is out of range; the message names the key.
        """
        _one_of("use", self.use, USES)
        _one_of("similarity", self.similarity, SIMILARITIES)
        _one_of("split_by", self.split_by, SPLIT_BY)
        for key in _LISTS:
            if not getattr(self, key):
                raise ConfigError(f"recipe key '{key}' is empty; give at least one value")
            if not all(0 <= value < math.inf for value in getattr(self, key)):
                raise ConfigError(f"recipe key '{key}' is {getattr(self, key)}; must be 0 or more")
        if min(self.temperatures) == 0:
            raise ConfigError(f"recipe key 'temperatures' is {self.temperatures}; must be above 0")
        if max(self.blends) > 1:
            raise ConfigError(f"recipe key 'blends' is {self.blends}; shares lie from 0 to 1")
        self._check_numbers()
        if any(rank < 1 for rank in self.ranks):
            raise ConfigError(f"recipe key 'ranks' is {self.ranks}; each must be 1 or more")
        if self.adapter != "auto" and self.max_megabytes:
            raise ConfigError(
                f"recipe key 'max_megabytes' goes with adapter 'auto', not {self.adapter!r}: only "
                "there can the fit choose between sizes"
            )
        if self.adapter == "auto" and self.adapter_options:
            raise ConfigError(
                "recipe key 'adapter_options' goes with a kind of adapter; for 'auto', set "
                "'hidden', 'dropout' and 'gated'"
            )

    def _check_numbers(self) -> None:
        """Refuse numbers out of their range."""
        for key in _POSITIVE:
            if not 0 < getattr(self, key) < math.inf:
                raise ConfigError(f"recipe key '{key}' is {getattr(self, key)}; must be above 0")
        for key in ("weight_decay", "min_gain", "hidden", "max_megabytes"):
            if not 0 <= getattr(self, key) < math.inf:
                raise ConfigError(f"recipe key '{key}' is {getattr(self, key)}; must be 0 or more")
        for key in ("max_dropped", "screened_steps"):
            if not 0 <= getattr(self, key) <= 1:
                raise ConfigError(
                    f"recipe key '{key}' is {getattr(self, key)}; a share lies from 0 to 1"
                )
        for key in ("averaging", "dropout"):
            if not 0 <= getattr(self, key) < 1:
                raise ConfigError(
                    f"recipe key '{key}' is {getattr(self, key)}; must be 0 or more and under 1"
                )
        if self.folds < 2:
            raise ConfigError(f"recipe key 'folds' is {self.folds}; cross-fitting needs 2 or more")

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

_LISTS = ("unlabelled_weights", "anchors", "synthetic_weights", "temperatures", "blends")
_POSITIVE = (
    "learning_rate",
    "batch_size",
    "min_steps",
    "epochs",
    "max_steps",
    "screened_queries",
    "screened_steps",
    "compared_queries",
    "max_held_out",
    "sampled_documents",
    "max_validated",
    "anchor_batch",
)


@dataclass(frozen=True)
class ModelRecipe:
    """A recipe file: which data a model is built from, and how.

    Attributes:
        name: Name of the model: the folder's, unless the file says otherwise.
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


def parse_recipe(record: dict[str, Any], source: str) -> Recipe:
    """Make a recipe from the keys of a TOML table.

    Raises:
        ConfigError: A key is unknown or its value has the wrong type or range.
    """
    known = {item.name: item.type for item in fields(Recipe)}
    for key, instead in _GONE.items():
        if key in record:
            raise ConfigError(f"{source}: recipe key '{key}' is gone since 0.2: {instead}")
    unknown = sorted(set(record) - set(known))
    if unknown:
        raise ConfigError(
            f"{source}: unknown recipe key '{unknown[0]}'; known keys: {', '.join(sorted(known))}"
        )
    values = {key: _typed(key, known[key], value, source) for key, value in record.items()}
    return replace(Recipe(), **values)


def load_recipe(path: Path) -> Recipe:
    """Read the knobs of a fit: a ``[fit]`` table, or a file of nothing but knobs.

    Raises:
        ConfigError: The file can't be read, or a key is unknown or wrong.
    """
    record = _read_toml(path)
    if "dataset" in record or "fit" in record:
        _check_model_keys(record, path)
        record = record.get("fit", {})
    return parse_recipe(record, str(path))


def load_model_recipe(path: Path) -> ModelRecipe:
    """Read a ``models/NAME/recipe.toml``; paths in it are relative to its folder.

    Raises:
        ConfigError: The file can't be read, lacks ``dataset``, or has an unknown or wrong key.
    """
    record = _read_toml(path)
    _check_model_keys(record, path)
    dataset = record.get("dataset")
    if dataset is None:
        raise ConfigError(f"{path}: key 'dataset' is missing; name a folder or 'demo:hpo-lay'")
    built_in = dataset.startswith("demo:")
    if not built_in and "embeddings" not in record:
        raise ConfigError(f"{path}: key 'embeddings' is missing; make a folder with trimtab embed")
    folder = path.parent
    return ModelRecipe(
        name=record.get("name", path.resolve().parent.name),
        dataset=dataset if built_in else str(folder / dataset),
        embeddings=None if built_in else str(folder / record["embeddings"]),
        seed=record.get("seed", 0),
        fit=parse_recipe(record.get("fit", {}), str(path)),
    )


_MODEL_KEYS = {"name": str, "dataset": str, "embeddings": str, "seed": int, "fit": dict}


def _check_model_keys(record: dict[str, Any], path: Path) -> None:
    """Refuse unknown keys of a model's recipe, and values of the wrong type."""
    for key, value in record.items():
        kind = _MODEL_KEYS.get(key)
        if kind is None:
            raise ConfigError(
                f"{path}: unknown key '{key}'; known keys: {', '.join(sorted(_MODEL_KEYS))}"
            )
        if type(value) is not kind:
            raise ConfigError(f"{path}: key '{key}' must be {kind.__name__}, not {value!r}")
    if record.get("seed", 0) < 0:
        raise ConfigError(f"{path}: key 'seed' is {record['seed']}; must be 0 or more")


def _read_toml(path: Path) -> dict[str, Any]:
    """Read a TOML file, or say in one line why not."""
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigError(f"can't read recipe {path}: {error.strerror}") from error
    except ValueError as error:
        raise ConfigError(f"{path} is not TOML: {error}") from error


def _typed(key: str, kind: Any, value: Any, source: str) -> Any:
    """Hold a TOML value against the type of its knob; an int will do for a float."""
    if get_origin(kind) is tuple:
        element = get_args(kind)[0]
        values = value if isinstance(value, list) else [value]
        return tuple(_typed(key, element, item, source) for item in values)
    plain = get_origin(kind) or kind
    if plain is float and type(value) is int:
        return float(value)
    if type(value) is not plain:
        raise ConfigError(f"{source}: recipe key '{key}' is {value!r}, expected {plain.__name__}")
    return value


def _one_of(key: str, value: str, choices: tuple[str, ...]) -> None:
    """Refuse a word that is not among the choices."""
    if value not in choices:
        raise ConfigError(f"recipe key '{key}' is {value!r}, expected one of {', '.join(choices)}")
