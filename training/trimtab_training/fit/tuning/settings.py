"""What a tuning is told beside data and recipe, and what its trials try."""

from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from trimtab_training.errors import ConfigError
from trimtab_training.fit.checkpoint import Resume, Tell

_RATES = {"lora": 1e-3, "all": 1e-4}
_CORPUS_QUERIES = ("none", "titles", "sentences")


@dataclass(frozen=True)
class TuningSettings:
    """The knobs of a tuning.

    Attributes:
        method: ``lora`` trains low-rank additions to the transformer's linear layers, ``all``
            its layers themselves; token embeddings stay as they are.
        corpus_queries: What of a document is a training query for it, beside the real ones:
            ``titles``, ``sentences`` (one, drawn once for each document), or ``none``.
        epochs: Most passes over the training queries.
        patience: Passes without a better held-out score after which a trial ends.
        learning_rate: Step size at its highest; None takes the method's own.
        batch_size: Real queries a step.
        rank: Rank of each low-rank addition.
        temperature: Divides scores inside the softmax, as a recipe's ``temperatures``.
        pulls: Weights to try of the pull towards the untouched query vectors.
        corpus_weights: Weights to try of corpus queries, where a real one has 1: all with the
            first pull, the other pulls with the best of them. 0 does without.
        averaging: Share of the running mean of the weights that a step leaves in place.
        warm_up: Share of the steps over which the learning rate rises; then it falls to 0.
        max_norm: Longest gradient; a longer one is cut.
        max_candidates: Most unlabelled documents in memory: where there are more, the softmax
            runs over a sample with correction.
        max_corpus_queries: Most documents whose corpus queries are read.
        tokens_at_once: Most tokens, with padding, that pass through the encoder together.
        seed: Seed of every random choice.
        device: Where to compute: ``cpu`` or ``cuda``.
        workspace: Folder for unfinished work; None keeps none.
        resume: Whether to continue what stands there.
        tell: Told what becomes of unfinished work.
    """

    method: str = "lora"
    corpus_queries: str = "none"
    epochs: int = 6
    patience: int = 2
    learning_rate: float | None = None
    batch_size: int = 32
    rank: int = 16
    temperature: float = 0.05
    pulls: tuple[float, ...] = (0.5, 2.0, 0.0)
    corpus_weights: tuple[float, ...] = (0.0, 0.5)
    averaging: float = 0.97
    warm_up: float = 0.1
    max_norm: float = 1.0
    max_candidates: int = 32_768
    max_corpus_queries: int = 50_000
    tokens_at_once: int = 2048
    seed: int = 0
    device: str = "cpu"
    workspace: Path | None = None
    resume: Resume = "never"
    tell: Tell = lambda _text: None

    def __post_init__(self) -> None:
        """Refuse values that nothing can be tuned with.

        Raises:
            ConfigError: With the name of the setting and what it must be.
        """
        if self.method not in _RATES:
            raise ConfigError(f"method is {self.method!r}; expected 'lora' or 'all'")
        if self.corpus_queries not in _CORPUS_QUERIES:
            raise ConfigError(
                f"corpus_queries is {self.corpus_queries!r}; expected 'titles', 'sentences' or "
                "'none'"
            )
        for name in ("patience", "batch_size", "rank", "max_candidates", "tokens_at_once"):
            if getattr(self, name) < 1:
                raise ConfigError(f"{name} is {getattr(self, name)}; expected 1 or more")
        for name in ("learning_rate", "temperature", "max_norm"):
            value = getattr(self, name)
            if value is not None and not value > 0:
                raise ConfigError(f"{name} is {value}; expected more than 0")
        if self.epochs < 0:
            raise ConfigError(f"epochs is {self.epochs}; expected 0 or more")
        for name in ("pulls", "corpus_weights"):
            weights = getattr(self, name)
            if not weights or min(weights) < 0:
                raise ConfigError(f"{name} are {weights}; expected one or more, each 0 or more")

    @property
    def rate(self) -> float:
        """Step size at its highest."""
        return _RATES[self.method] if self.learning_rate is None else self.learning_rate

    def as_dict(self) -> dict[str, Any]:
        """Give what decides the outcome, as plain JSON types."""
        left_out = {"workspace", "resume", "tell"}
        given = {each.name: getattr(self, each.name) for each in fields(self)}
        return {
            key: list(value) if isinstance(value, tuple) else value
            for key, value in given.items()
            if key not in left_out
        }


@dataclass(frozen=True)
class TuningWeights:
    """What a trial tries.

    Attributes:
        pull: Weight of the squared distance between a tuned query vector and the untouched one.
        corpus: Weight of corpus queries; 0 has none.
        unlabelled: Weight in the softmax of documents without a query in the same pass.
        synthetic: Weight of queries that an LLM wrote, where a real one has 1.
    """

    pull: float
    corpus: float
    unlabelled: float
    synthetic: float = 1.0

    @property
    def name(self) -> str:
        """Write them as a part of a file's name."""
        return f"p{self.pull:g}-c{self.corpus:g}-u{self.unlabelled:g}-s{self.synthetic:g}"
