"""The whole way from labels and vectors to a model folder: fit, export, evaluate, write.

The folder appears at its place only once it is complete; an older model stands there until then.
"""

import json
import shutil
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import torch

from sidecar.errors import ManifestError
from sidecar.manifest import Manifest
from training.adapters import Adapter, IdentityAdapter, load_adapter, save_adapter
from training.card import write_card
from training.checkpoint import Resume
from training.config import Recipe
from training.dataset import Dataset
from training.embeddings import Embeddings
from training.errors import ConfigError, DataError
from training.evaluate import Evaluation, evaluate_model
from training.export import describe_adapter, export_adapter, stamp_manifest
from training.files import swap_folder, write_whole
from training.fit import FitResult, FitSettings, fit_adapter
from training.query_region import find_query_region

Stage = Callable[[str], None]
"""Called with what is about to be done."""

MODEL_FILE = "adapter.onnx"
CHECKPOINT = "checkpoint"
_PROVED_QUERIES = 33
_OURS = {MODEL_FILE, CHECKPOINT, "evaluation.json", "README.md", "report.html"}


@dataclass(frozen=True)
class BuiltModel:
    """What a build left on disk.

    Attributes:
        folder: The model's folder.
        file: The model file, or None where no adapter helps and none was asked for.
        evaluation: What it does to the test split.
        fit: How it came about.
    """

    folder: Path
    file: Path | None
    evaluation: Evaluation
    fit: FitResult


@dataclass(frozen=True)
class BuildOptions:
    """How to build, beside data and recipe.

    Attributes:
        seed: Seed of every random choice.
        device: Where to compute: ``cpu``, ``cuda`` or ``mps``.
        resume: Whether to continue an interrupted build: ``never``, ``if_same`` or ``must_match``.
        start_from: A trained adapter to start from instead of the identity.
        allow_identity: Where no adapter helps, write a model that changes nothing.
    """

    seed: int = 0
    device: str = "cpu"
    resume: Resume = "never"
    start_from: Adapter | None = None
    allow_identity: bool = False


def build_model(  # noqa: PLR0913 - data in, folder out, and two ways to watch
    dataset: Dataset,
    embeddings: Embeddings,
    folder: Path,
    recipe: Recipe | None = None,
    options: BuildOptions | None = None,
    *,
    on_stage: Stage = lambda _text: None,
    progress: Callable[[int, int], None] = lambda _done, _all: None,
) -> BuiltModel:
    """Fit an adapter, export it, measure the exported file, and write a model folder.

    Args:
        dataset: Labels with a train and a test split.
        embeddings: Vectors of every labelled query and document.
        folder: Where the model goes, such as ``models/docs``.
        recipe: The knobs; the defaults where absent.
        options: Seed, device and the like; the defaults where absent.
        on_stage: Called before each step.
        progress: Called while fitting, after every epoch.

    Raises:
        TrainingError: Whatever stops the fit, the export or the evaluation; the folder is as it
            was before.
    """
    recipe, options = recipe or Recipe(), options or BuildOptions()
    _check_target(folder)
    work = folder.with_name(f".{folder.name}.partial")
    on_stage("fitting")
    fit = fit_adapter(
        dataset,
        embeddings,
        recipe,
        FitSettings(
            seed=options.seed,
            device=options.device,
            workspace=work / "fit",
            resume=options.resume,
            start_from=options.start_from,
        ),
        progress=progress,
    )
    on_stage("evaluating")
    adapter = fit.adapter or _identity(embeddings, recipe, fit)
    is_written = fit.adapter is not None or options.allow_identity
    training = _training_record(dataset, embeddings, fit)
    manifest = describe_adapter(
        adapter,
        embeddings.encoder,
        name=folder.name,
        similarity=recipe.similarity,
        training=training,
        versions=_versions(),
        created=datetime.now(UTC).isoformat(timespec="seconds"),
        query_region=find_query_region(
            embeddings.queries, list(dataset.split("train")), seed=options.seed
        ),
    )
    test_queries = embeddings.queries.take_ids(list(dataset.split("test"))[:_PROVED_QUERIES])
    content = export_adapter(adapter, manifest, queries=test_queries)
    evaluation = evaluate_model(content, dataset, embeddings)
    new = work / "model"
    if new.exists():
        shutil.rmtree(new)
    new.mkdir(parents=True)
    if is_written:
        stamped = replace(manifest, metrics=_measured(evaluation))
        write_whole(new / MODEL_FILE, stamp_manifest(content, stamped))
        save_adapter(adapter, new / CHECKPOINT, manifest=json.loads(stamped.to_json()))
    record = {**evaluation.as_dict(), "fit": _fit_record(fit, training)}
    text = json.dumps(record, indent=1, ensure_ascii=False) + "\n"
    write_whole(new / "evaluation.json", text.encode())
    card = write_card(folder.name, manifest if is_written else None, evaluation, fit)
    write_whole(new / "README.md", card.encode())
    _keep_others(folder, new)
    swap_folder(new, folder)
    shutil.rmtree(work)
    return BuiltModel(folder, folder / MODEL_FILE if is_written else None, evaluation, fit)


def load_checkpoint(folder: Path) -> tuple[Adapter, Manifest]:
    """Open the trained adapter behind a model.

    Args:
        folder: A model folder, or the checkpoint folder in it.

    Raises:
        DataError: There is no checkpoint, or it is damaged.
    """
    if (folder / CHECKPOINT).is_dir():
        folder = folder / CHECKPOINT
    adapter, record = load_adapter(folder)
    try:
        return adapter.eval(), Manifest.from_json(json.dumps(record.get("manifest")))
    except ManifestError as error:
        raise DataError(f"{folder}/adapter.json: {error}") from error


def _check_target(folder: Path) -> None:
    """Refuse a place where no folder can be, before hours are spent on what would go there."""
    if folder.exists() and not folder.is_dir():
        raise ConfigError(f"{folder} is a file; -o wants a folder such as models/docs")
    if not folder.name:
        raise ConfigError(f"{folder} has no name; -o wants a folder such as models/docs")
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ConfigError(f"can't make {folder.parent}: {error.strerror}") from error


def _identity(embeddings: Embeddings, recipe: Recipe, fit: FitResult) -> Adapter:
    """Make the model that changes nothing, to be measured where no adapter helps."""
    dim = embeddings.documents.dim
    if embeddings.queries.dim != dim:
        raise DataError(f"{fit.verdict} Raw queries of another width can't be searched, either.")
    adapter = IdentityAdapter(dim)
    adapter.normalised = recipe.similarity == "cosine" or embeddings.unit_documents
    return adapter.eval()


def _training_record(dataset: Dataset, embeddings: Embeddings, fit: FitResult) -> dict[str, Any]:
    """Write down what the manifest says about training."""
    return {
        "dataset": dataset.name,
        "labels": dataset.content_hash(),
        "vectors": embeddings.content_hash(),
        **{f"n_{split}": len(qrels) for split, qrels in sorted(dataset.splits.items())},
        "n_documents": len(embeddings.documents),
        "made_splits": dataset.made_splits,
        "seed": fit.seed,
        "recipe": fit.recipe.as_dict(),
        "unlabelled_weight": fit.weights.unlabelled,
        "anchor": fit.weights.anchor,
        "blend": fit.blend,
    }


def _measured(evaluation: Evaluation) -> dict[str, Any]:
    """Pick what the manifest says about quality."""
    keys = ("dataset", "split", "n_queries", "metrics")
    return {key: evaluation.summary[key] for key in keys}


def _fit_record(fit: FitResult, training: dict[str, Any]) -> dict[str, Any]:
    """Write down the choice and what it rests on."""
    return {
        "verdict": fit.verdict,
        "helps": fit.adapter is not None,
        "unlabelled_weight": fit.weights.unlabelled,
        "anchor": fit.weights.anchor,
        "blend": fit.blend,
        "validation": fit.validation,
        "curves": fit.curves,
        "seconds": round(fit.seconds, 1),
        **{key: training[key] for key in ("labels", "vectors", "seed", "recipe")},
    }


def _versions() -> dict[str, str]:
    """Name the packages that decide the outcome."""
    return {
        "trimtab": version("trimtab"),
        "torch": torch.__version__,
        "onnx": onnx.__version__,
        "onnxruntime": onnxruntime.__version__,
        "numpy": np.__version__,
    }


def _keep_others(folder: Path, new: Path) -> None:
    """Carry over what the user keeps beside a model, such as its recipe."""
    for item in folder.iterdir() if folder.is_dir() else []:
        if item.name in _OURS:
            continue
        if item.is_dir():
            shutil.copytree(item, new / item.name)
        else:
            shutil.copy2(item, new / item.name)
