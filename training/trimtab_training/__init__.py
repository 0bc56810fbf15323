"""Trimtab offline: train, measure and export query-side adapters on frozen document embeddings.

The names below are the whole Python API; each is imported when it is first asked for, so that the
command line can show its help without loading torch.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from trimtab_training.adapters import Adapter
    from trimtab_training.build_options import BuildOptions
    from trimtab_training.data.dataset import Dataset
    from trimtab_training.embeddings.store import Embeddings
    from trimtab_training.errors import TrainingError
    from trimtab_training.evaluation.evaluate import evaluate_model
    from trimtab_training.evaluation.record import Evaluation
    from trimtab_training.export.onnx_export import export_adapter
    from trimtab_training.fit.fit import FitResult, FitSettings, fit_adapter
    from trimtab_training.fit.recipe import Recipe
    from trimtab_training.fit.tuning.settings import TuningSettings
    from trimtab_training.fit.tuning.tune import TunedEncoder, cross_validate_tuning, tune_encoder
    from trimtab_training.pipeline import BuiltModel, build_model

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
    "TunedEncoder",
    "TuningSettings",
    "build_model",
    "cross_validate_tuning",
    "evaluate_model",
    "export_adapter",
    "fit_adapter",
    "tune_encoder",
]

_MODULES = {
    "adapters": ("Adapter",),
    "build_options": ("BuildOptions",),
    "data.dataset": ("Dataset",),
    "embeddings.store": ("Embeddings",),
    "errors": ("TrainingError",),
    "evaluation.evaluate": ("evaluate_model",),
    "evaluation.record": ("Evaluation",),
    "export.onnx_export": ("export_adapter",),
    "fit.fit": ("FitResult", "FitSettings", "fit_adapter"),
    "fit.recipe": ("Recipe",),
    "fit.tuning.settings": ("TuningSettings",),
    "fit.tuning.tune": ("TunedEncoder", "cross_validate_tuning", "tune_encoder"),
    "pipeline": ("BuiltModel", "build_model"),
}


def __getattr__(name: str) -> Any:
    """Import a public name from the module that defines it."""
    for module, names in _MODULES.items():
        if name in names:
            return getattr(import_module(f"trimtab_training.{module}"), name)
    raise AttributeError(f"module 'trimtab_training' has no attribute {name!r}")
