"""The record of an evaluation as a file, and what it says about the fit behind a model."""

import json
from pathlib import Path
from typing import Any

EVALUATION = "evaluation.json"
_OF_THE_FIT = ("fit", "size_curve", "model")
_SAME = ("labels", "vectors", "seed", "recipe")


def encode_record(record: dict[str, Any]) -> bytes:
    """Write a record as JSON.

    Half of a surrogate pair, which a JSON text may hold and UTF-8 may not, is escaped again.
    """
    text = json.dumps(record, indent=1, ensure_ascii=False)
    return f"{text}\n".encode(errors="backslashreplace")


def record_beside(model: str | Path, training: dict[str, Any]) -> dict[str, Any]:
    """Read what the record beside a model says about its fit.

    Args:
        model: The model file or its folder.
        training: What the model's manifest says about training.

    Returns:
        ``fit``, ``model`` and perhaps ``size_curve``; empty where there is no record, or where it
        is that of another fit.
    """
    path = Path(model)
    folder = path if path.is_dir() else path.parent
    try:
        record = json.loads((folder / EVALUATION).read_text(encoding="utf-8"))
        is_same = all(record["fit"][key] == training[key] for key in _SAME)
    except (OSError, ValueError, KeyError, TypeError):
        return {}
    return {key: record[key] for key in _OF_THE_FIT if key in record} if is_same else {}
