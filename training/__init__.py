"""Trimtab offline: train, measure and export query-side adapters on frozen document embeddings.

The names below are the whole Python API; each is imported when it is first asked for, so that the
command line can show its help without loading torch.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from training.adapters import Adapter
    from training.config import Recipe
    from training.dataset import Dataset
    from training.embeddings import Embeddings
    from training.errors import TrainingError
    from training.evaluate import Evaluation, evaluate_model
    from training.export import export_adapter
    from training.fit import FitResult, FitSettings, fit_adapter
    from training.pipeline import BuildOptions, BuiltModel, build_model

__all__ = [
    "Adapter",
    "BuildOptions",
    "BuiltModel",
    "Dataset",
    "Embeddings",
    "Evaluation",
    "FitResult",
    "FitSettings",
    "Recipe",
    "TrainingError",
    "build_model",
    "evaluate_model",
    "export_adapter",
    "fit_adapter",
]

_MODULES = {
    "adapters": ("Adapter",),
    "config": ("Recipe",),
    "dataset": ("Dataset",),
    "embeddings": ("Embeddings",),
    "errors": ("TrainingError",),
    "evaluate": ("Evaluation", "evaluate_model"),
    "export": ("export_adapter",),
    "fit": ("FitResult", "FitSettings", "fit_adapter"),
    "pipeline": ("BuildOptions", "BuiltModel", "build_model"),
}


def __getattr__(name: str) -> Any:
    """Import a public name from the module that defines it."""
    for module, names in _MODULES.items():
        if name in names:
            return getattr(import_module(f"training.{module}"), name)
    raise AttributeError(f"module 'training' has no attribute {name!r}")
