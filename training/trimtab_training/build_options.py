"""How to build a model, beside data and recipe."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

from trimtab_training.adapters import Adapter
from trimtab_training.data.dataset import Dataset
from trimtab_training.data.training_digest import TrainedOn
from trimtab_training.embeddings.store import Embeddings
from trimtab_training.export.provenance import write_command
from trimtab_training.fit.checkpoint import Resume, Tell


@dataclass(frozen=True)
class BuildOptions:
    """How to build, beside data and recipe.

    Attributes:
        name: Name of the model; empty for its folder's.
        seed: Seed of every random choice.
        device: Where to compute: ``cpu``, ``cuda`` or ``mps``.
        resume: What becomes of an interrupted build in this place: ``must_match`` continues it, and
            refuses where it had other settings or data; ``if_same`` then starts over; ``never``
            always does.
        start_from: A trained adapter to start from instead of the identity.
        start_name: Where ``start_from`` stands, for whoever wants to do the same again.
        start_trained_on: What ``start_from`` was trained on, as far as that is known.
        from_unseen: Whether the user vouches that ``start_from`` has seen none of the queries.
        allow_identity: Where no adapter helps, write a model that changes nothing.
        index: ``faiss:PATH`` of the approximate index that will be searched, to be measured, too.
        size_curve: Whether to fit with fewer training queries, too, and show what they give.
        keeps_work: Whether the finished fit's work stays beside the folder, so that the same build
            again takes seconds: for whoever has more to do that may be interrupted, and ends it
            with :func:`forget_work`.
        also: What else the user's command says, for whoever wants to do the same again.
        tell: Told, in a sentence each, what becomes of an interrupted build, and what a fit takes.
    """

    name: str = ""
    seed: int = 0
    device: str = "cpu"
    resume: Resume = "must_match"
    start_from: Adapter | None = None
    start_name: str = ""
    start_trained_on: TrainedOn | None = None
    from_unseen: bool = False
    allow_identity: bool = False
    index: str | None = None
    size_curve: bool = False
    keeps_work: bool = False
    also: Mapping[str, object] = field(default_factory=dict)
    tell: Tell = lambda _text: None

    @property
    def trained_before(self) -> TrainedOn | None:
        """What the start was trained on; None for a fit that starts at the identity."""
        if self.start_from is None:
            return None
        if self.from_unseen:
            return TrainedOn.nothing()
        return self.start_trained_on or replace(TrainedOn.nothing(), is_complete=False)

    def command(self, dataset: Dataset, embeddings: Embeddings, folder: Path) -> str:
        """Write the command that does the same again, its recipe being in ``recipe.toml``."""
        options = {
            "--seed": str(self.seed),
            "--device": self.device if self.device != "cpu" else None,
            "--from": self.start_name,
            "--from-unseen": self.from_unseen,
            "--allow-identity": self.allow_identity,
            "--index": self.index,
            "--size-curve": self.size_curve,
            **self.also,
        }
        return write_command(dataset, embeddings, folder, options)
