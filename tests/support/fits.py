"""Small fits that several files of tests look at: recipes, and what an uninterrupted one leaves."""

import shutil
from dataclasses import dataclass, field, replace
from pathlib import Path

import torch

from trimtab_training.files import beside
from trimtab_training.fit.fit import FitResult, FitSettings
from trimtab_training.fit.recipe import Recipe

QUICK = Recipe(
    adapter="linear",
    epochs=15,
    folds=3,
    learning_rate=0.02,
    batch_size=64,
    min_steps=1,
    temperatures=(0.03,),
)
PLAIN = replace(QUICK, unlabelled_weights=(0.0,), anchors=(0.3,))
TINY = replace(PLAIN, epochs=2, folds=2)
AUTO = replace(QUICK, adapter="auto", epochs=12, hidden=16)
LOOKING = replace(
    AUTO, rescore=40, folds=2, anchors=(0.3,), unlabelled_weights=(0.0,), min_steps=30, max_steps=30
)
"""With a second look."""

RECIPES = {
    "auto": AUTO,
    "narrow": replace(AUTO, ranks=(2, 8), hidden=4),
    "linear": QUICK,
    "low_rank": replace(PLAIN, adapter="low_rank", adapter_options={"rank": 16}),
    "two_layer": replace(PLAIN, adapter="two_layer", adapter_options={"hidden": 64}),
}


@dataclass
class Fitted:
    """An uninterrupted fit: what came out of it, what it left, and what it told."""

    folder: Path
    calls: list[tuple[int, int]] = field(default_factory=list)
    result: FitResult = field(init=False)

    def copy_to(self, folder: Path) -> FitSettings:
        """Copy what the fit left; give settings that continue it."""
        shutil.copytree(self.folder, folder)
        return FitSettings(workspace=folder, resume="must_match")


def state_of(adapter: torch.nn.Module | None) -> dict[str, bytes]:
    assert adapter is not None
    return {key: value.numpy().tobytes() for key, value in adapter.state_dict().items()}


def keep_state(model: Path) -> Path:
    """Leave what an interrupted fit of a model keeps; give the state of its trial."""
    state = beside(model, "partial") / "fit" / "trial.safetensors"
    state.parent.mkdir(parents=True)
    state.write_bytes(b"hours of work")
    return state
