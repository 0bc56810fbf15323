"""What a model came from: for its manifest, its record, and whoever wants to make it again."""

import hashlib
import shlex
from collections.abc import Mapping, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import onnx
import onnxruntime
import torch

from trimtab.model.manifest import Manifest
from trimtab_training.data.dataset import Dataset
from trimtab_training.embeddings.store import Embeddings
from trimtab_training.evaluation.origin import Fit, ModelFile, SizePoint
from trimtab_training.fit.fit import FitResult
from trimtab_training.fit.second_look.choose import SecondLookFit
from trimtab_training.model_files import MODEL


def describe_training(
    dataset: Dataset, embeddings: Embeddings, fit: FitResult, started_from: str
) -> dict[str, Any]:
    """Write down what the manifest says about training.

    Args:
        dataset: The labels.
        embeddings: The vectors.
        fit: What came out of the fit.
        started_from: The model that it went on from; empty where there is none.
    """
    return {
        "dataset": dataset.name,
        "labels": dataset.content_hash(),
        "vectors": embeddings.content_hash(),
        **{f"n_{split}": len(qrels) for split, qrels in sorted(dataset.splits.items())},
        "n_synthetic": {
            split: len(dataset.synthetic & set(qrels))
            for split, qrels in sorted(dataset.splits.items())
        },
        "n_documents": len(embeddings.documents),
        "made_splits": dataset.made_splits,
        "training_splits": list(fit.training_splits),
        "started_from": started_from,
        "seed": fit.seed,
        "use": fit.recipe.use_between(embeddings.queries.dim, embeddings.documents.dim),
        "recipe": fit.recipe.as_dict(),
        "unlabelled_weight": fit.weights.unlabelled,
        "anchor": fit.weights.anchor,
        "temperature": fit.weights.temperature,
        "synthetic_weight": fit.weights.synthetic,
        "families": list(fit.families),
        "blend": fit.blend,
    }


def describe_fit(
    fit: FitResult, manifest: Manifest, command: str, sizes: Sequence[SizePoint] = ()
) -> Fit:
    """Write down the choice, what it rests on, and how to make it again.

    Args:
        fit: What came out of the fit.
        manifest: Of the exported model, whether it is written or not.
        command: The command that does the same again, its recipe being in ``recipe.toml``.
        sizes: What each size of the adapter costs.
    """
    encoder = manifest.encoder
    said = {
        "verdict": fit.verdict,
        "helps": fit.adapter is not None,
        "validation": fit.validation,
        "curves": fit.curves,
        "seconds": round(fit.seconds, 1),
        **manifest.training,
        "encoder": {"name": encoder.name, "fingerprint": encoder.fingerprint},
        "versions": manifest.versions,
        "created": manifest.created,
        "command": command,
        "sizes": sizes,
        "second_look": _describe_look(fit.second_look),
    }
    return msgspec.convert(said, Fit)


def _describe_look(look: SecondLookFit | None) -> dict[str, Any] | None:
    """Write down what became of a second look."""
    if look is None:
        return None
    return {
        "verdict": look.verdict,
        "helps": look.helps,
        "depth": look.depth,
        "document_anchor": look.document_anchor,
        "mix": look.mix,
        **look.validation,
        "seconds": round(look.seconds, 1),
    }


def describe_file(content: bytes, name: str = MODEL) -> ModelFile:
    """Say exactly which file was measured."""
    digest = hashlib.sha256(content).hexdigest()
    return ModelFile(file=name, size_bytes=len(content), sha256=f"sha256:{digest}")


def write_command(
    dataset: Dataset, embeddings: Embeddings, folder: Path, options: Mapping[str, object]
) -> str:
    """Write the command that makes a model again, its recipe being in ``recipe.toml``.

    Args:
        dataset: Where the labels are.
        embeddings: Where the vectors are.
        folder: Where the model goes.
        options: Options of the command by name; those that are off or absent are left out.
    """
    words = ["trimtab", "fit", str(dataset.folder), "--embeddings", str(embeddings.folder)]
    words += ["-o", str(folder), "--recipe", "recipe.toml"]
    for name, value in options.items():
        if value is True:
            words.append(name)
        elif value not in (False, None, ""):
            words += [name, str(value)]
    return shlex.join(words)


def versions() -> dict[str, str]:
    """Name the packages that decide the outcome."""
    return {
        "trimtab": version("trimtab"),
        "torch": str(torch.__version__),
        "onnx": onnx.__version__,
        "onnxruntime": onnxruntime.__version__,
        "numpy": np.__version__,
    }
