"""Models with a second look, and what that must make of documents, computed without its code."""

import base64
import json
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray

from tests.support.onnx_models import linear_bytes
from trimtab.model.adapter import Adapter
from trimtab.model.manifest import SECOND_LOOK_KEY
from trimtab.model.second_look import SecondLookRecord

DEPTH, MIX, RANK = 20, 0.75, 3


def look_bytes(
    dim_in: int, dim_out: int, *, depth: int = DEPTH, mix: float = MIX, **settings: Any
) -> bytes:
    """Give the bytes of a linear model with a second look of another linear adapter."""
    settings = {"dim_in": dim_in, "dim_out": dim_out, "normalised": True, **settings}
    reduce, expand = map_of(dim_out)
    record = SecondLookRecord.pack(
        linear_bytes(**{**settings, "seed": 99}), reduce, expand, depth=depth, mix=mix
    )
    return attach(linear_bytes(**settings), record.to_json())


def map_of(dim: int) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Draw a map of documents that changes much."""
    rng = np.random.default_rng(5)
    shapes = (dim, RANK), (RANK, dim)
    first, second = (rng.standard_normal(shape).astype(np.float16) for shape in shapes)
    return first.astype(np.float32), second.astype(np.float32)


def attach(content: bytes, text: str) -> bytes:
    """Put the text of a second look into a model's metadata, beside any that stands there."""
    model = onnx.load_model_from_string(content)
    entry = model.metadata_props.add()
    entry.key, entry.value = SECOND_LOOK_KEY, text
    attached: bytes = model.SerializeToString()
    return attached


def changed(content: bytes, **values: Any) -> bytes:
    """Change what a model file says of its second look; None takes a key out."""
    model = onnx.load_model_from_string(content)
    (entry,) = [each for each in model.metadata_props if each.key == SECOND_LOOK_KEY]
    record = {**json.loads(entry.value), **values}
    entry.value = json.dumps({key: value for key, value in record.items() if value is not None})
    written: bytes = model.SerializeToString()
    return written


def encoded(content: bytes) -> str:
    return base64.b64encode(content).decode()


def expected_scores(
    model: Adapter, query: NDArray[np.float32], documents: NDArray[np.float32], mix: float = MIX
) -> NDArray[np.float64]:
    """Score documents for one query as the formula says, in float64, one after the other."""
    assert model.second_look is not None
    first = model.transform(query).astype(np.float64)
    second = model.second_look.adapter.transform(query).astype(np.float64)
    reduce, expand = map_of(len(first))
    scores = []
    for row in documents.astype(np.float64):
        document = row / np.linalg.norm(row)
        moved = document + document @ reduce @ expand
        scores.append(
            (1 - mix) * first @ document / np.linalg.norm(first)
            + mix * second @ moved / np.linalg.norm(moved)
        )
    return np.array(scores)
