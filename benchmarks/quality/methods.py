"""The methods of the comparison: their names, what they are, and how each one is fitted."""

import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.quality import closed_form, full_finetune, llama_index, ours, triplet
from benchmarks.quality.scoring import Task
from benchmarks.record import high_water_kb

Outcome = dict[str, Any]
"""``seconds``, ``peak_resident_gb``, ``notes``, and ``transform``, from query vectors to adapted
ones, or ``scores`` where the documents change, too."""
Fit = Callable[[Task, int, Path], Outcome]


@dataclass(frozen=True)
class Method:
    """One row of the table.

    Attributes:
        name: Name for flags and files.
        label: Name for readers.
        fit: Fits it: task, seed and a folder to work in.
        sources: Modules that decide its outcome, with all that they import.
        is_seeded: True where another seed gives another outcome.
        has_curve: True where it is also fitted on fewer training queries.
        sets: The only sets that it runs on, where it costs hours.
        files: Files beside the sources that decide its outcome.
    """

    name: str
    label: str
    fit: Fit
    sources: tuple[str, ...]
    is_seeded: bool = True
    has_curve: bool = False
    sets: tuple[str, ...] | None = None
    files: tuple[Path, ...] = ()


def in_process(function: Callable[[Task, int], tuple[Any, dict[str, Any]]]) -> Fit:
    """Measure a method that runs here: its seconds, and the process's peak memory after it."""

    def fit(task: Task, seed: int, _work: Path) -> Outcome:
        started = time.monotonic()
        transform, notes = function(task, seed)
        return {
            "transform": transform,
            "seconds": time.monotonic() - started,
            "peak_resident_gb": high_water_kb("self") / 1024**2,
            "notes": notes,
        }

    return fit


_CLOSED, _TRIPLET = ("benchmarks.quality.closed_form",), ("benchmarks.quality.triplet",)
_LLAMA = ("benchmarks.quality.llama_index", "benchmarks.quality.llama_index_fit")
_PINS = (llama_index.REQUIREMENTS,)
_OURS = (
    "benchmarks.quality.ours",
    "trimtab_training.fit.fit",
    "trimtab_training.fit.recipe",
    "trimtab_training.export.onnx_export",
)
METHODS = {
    method.name: method
    for method in (
        Method("none", "no adapter", in_process(closed_form.keep_raw), _CLOSED, is_seeded=False),
        Method(
            "mean_shift", "mean shift", in_process(closed_form.shift_mean), _CLOSED, is_seeded=False
        ),
        Method(
            "procrustes", "Procrustes", in_process(closed_form.fit_rotation), _CLOSED,
            is_seeded=False,
        ),
        Method(
            "ridge", "ridge", in_process(closed_form.fit_ridge), _CLOSED, is_seeded=False,
            has_curve=True,
        ),
        Method("chroma", "Chroma's report", in_process(triplet.fit_chroma), _TRIPLET),
        Method("santander", "Santander's triplets", in_process(triplet.fit_santander), _TRIPLET),
        Method(
            "llama_index", "LlamaIndex, its defaults", llama_index.fit_defaults, _LLAMA,
            is_seeded=False, files=_PINS,
        ),
        Method(
            "llama_index_guide", "LlamaIndex, its guide", llama_index.fit_guide, _LLAMA,
            is_seeded=False, files=_PINS,
        ),
        Method(
            "llama_index_best", "LlamaIndex, its best", llama_index.fit_best, _LLAMA, files=_PINS
        ),
        Method("ours", "**Trimtab**", ours.fit_ours, _OURS, has_curve=True),
        Method(
            "fine_tuned", "whole encoder fine-tuned, documents embedded again",
            full_finetune.fit_encoder, ("benchmarks.quality.full_finetune",), is_seeded=False,
            sets=("hpo_lay", "llamaindex_10k"),
        ),
    )
}  # fmt: skip
