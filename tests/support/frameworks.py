"""A small world for tests of frameworks: three documents, a question, and what each search finds.

Texts are embedded by their words, so the plain question finds the documents that share its words;
the adapter leads it to the one that answers it.
"""

import hashlib
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from onnx import helper, numpy_helper

from tests.support.onnx_models import MANIFEST, graph_model
from trimtab.model.adapter import Adapter

DIM = 384
QUESTION = "money back?"
ANSWER = "Refunds and reimbursements"
DOCUMENTS = ["Money and banking", ANSWER, "Back pain and posture"]
SAME = 1e-5
"""float32 against float64, for values below 1."""

_DOCS = Path(__file__).resolve().parents[2] / "docs" / "frameworks.md"


def embed(text: str) -> list[float]:
    """Embed a text by its words: of unit length, the same everywhere."""
    total = np.sum([word_vector(word) for word in re.findall(r"\w+", text.lower())], axis=0)
    unit: list[float] = (total / np.linalg.norm(total)).tolist()
    return unit


def word_vector(word: str) -> NDArray[np.float64]:
    """Draw a word's vector, the same everywhere."""
    seed = int.from_bytes(hashlib.sha256(word.encode()).digest()[:8], "big")
    return np.random.default_rng(seed).standard_normal(DIM)


def adapt(embedding: Any) -> NDArray[np.float64]:
    """Adapt as the model does, but by numpy."""
    adapted = np.asarray(embedding, dtype=np.float64) @ _weight()
    unit: NDArray[np.float64] = adapted / np.linalg.norm(adapted)
    return unit


def model_bytes() -> bytes:
    """Give a model that moves the question onto its answer, and what is far from it hardly."""
    return linear_bytes_of(_weight())


def linear_bytes_of(matrix: NDArray[np.float64]) -> bytes:
    """Give a model that applies a matrix, as ``x @ matrix``, and scales to unit length."""
    weight = numpy_helper.from_array(matrix.astype(np.float32), "weight")
    nodes = [
        helper.make_node("MatMul", ["query", "weight"], ["raw"]),
        helper.make_node("LpNormalization", ["raw"], ["adapted"], axis=-1, p=2),
    ]
    manifest = replace(
        MANIFEST, name="docs", dim_in=DIM, dim_out=DIM, normalised=True, use="relevance"
    )
    content: bytes = graph_model(nodes, [weight], manifest).SerializeToString()
    return content


def adapter_in_memory() -> Adapter:
    """Load the model without a file."""
    return Adapter.from_bytes(model_bytes())


def write_model(folder: Path) -> Path:
    """Write the model as a folder, as ``trimtab fit`` would."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "adapter.onnx").write_bytes(model_bytes())
    return folder


def write_raw_model(folder: Path) -> Path:
    """Write another model as a folder, which gives a query of unit length as it is."""
    folder.mkdir(parents=True, exist_ok=True)
    content = linear_bytes_of(np.eye(DIM))
    (folder / "adapter.onnx").write_bytes(content)
    return folder


def example(section: str, **changes: str) -> Any:
    """Take a section's example out of docs/frameworks.md, compiled.

    Args:
        section: Its heading.
        changes: Texts to put in place of others: what would be downloaded.
    """
    page = _DOCS.read_text(encoding="utf-8")
    _, _, rest = page.partition(f"\n## {section}\n")
    (source,) = re.findall(r"```python\n(.*?)```", rest.partition("\n## ")[0], re.DOTALL)
    for old, new in changes.items():
        assert old in source
        source = source.replace(old, new)
    return compile(source, f"{_DOCS.name}: {section}", "exec")


def _weight() -> NDArray[np.float64]:
    """Give ``I + q (d - q)``: as ``x @ W``, it carries the question ``q`` onto its answer ``d``."""
    question, answer = np.array(embed(QUESTION)), np.array(embed(ANSWER))
    return np.eye(DIM) + np.outer(question, answer - question)
