"""Run LlamaIndex's own engine on cached vectors; started in its own environment.

Reads ``pairs.npz`` (unit vectors of queries and of their first relevant documents' rows) and
``jobs.json`` (a list of settings, each with the pairs to train on), and writes ``NUMBER.npz`` with
the weights of each. Nothing of the engine is replaced but the text encoder: its texts are row
numbers, and the encoder looks their vectors up.
"""

import json
import random
import sys
import time
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import torch

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # the package warns that it is deprecated
    from llama_index.embeddings.adapter.utils import LinearLayer, TwoLayerNN
    from llama_index.finetuning import EmbeddingAdapterFinetuneEngine, EmbeddingQAFinetuneDataset


class CachedEncoder:
    """The two calls that the engine makes, answered from memory."""

    def __init__(self, queries: np.ndarray, documents: np.ndarray) -> None:
        self.queries, self.documents = queries, documents

    def get_query_embedding(self, text: str) -> np.ndarray:
        """Look a query up by its row."""
        return self.queries[int(text)]

    def get_text_embedding(self, text: str) -> np.ndarray:
        """Look a document up by its row."""
        return self.documents[int(text)]


def make_adapter(settings: dict[str, Any], dim: int) -> torch.nn.Module | None:
    """Make what the engine trains; None is its own default."""
    if settings["adapter"] == "two-layer":
        return TwoLayerNN(dim, settings["hidden"], dim, bias=True, add_residual=True)
    if settings["adapter"] == "linear, bias":
        return LinearLayer(dim, dim, bias=True)
    return None


def run_job(job: dict[str, Any], queries: np.ndarray, documents: np.ndarray, out: Path) -> None:
    """Train one setting and write its weights."""
    rows = list(job["rows"])
    torch.manual_seed(job["seed"])
    if job["shuffle"]:
        random.Random(job["seed"]).shuffle(rows)  # noqa: S311  # not for secrets
    dataset = EmbeddingQAFinetuneDataset(
        queries={str(row): str(row) for row in rows},
        corpus={str(row): str(row) for row in rows},
        relevant_docs={str(row): [str(row)] for row in rows},
    )
    settings = job["settings"]
    more = {"optimizer_params": {"lr": settings["rate"]}} if "rate" in settings else {}
    if "batch_size" in settings:
        more["batch_size"] = settings["batch_size"]
    started = time.monotonic()
    engine = EmbeddingAdapterFinetuneEngine(
        dataset,
        CachedEncoder(queries, documents),
        dim=queries.shape[1],
        epochs=settings["epochs"],
        adapter_model=make_adapter(settings, queries.shape[1]),
        device="cpu",
        model_output_path=str(out.with_suffix("")),
        show_progress_bar=False,
        **more,
    )
    engine.finetune()
    weights = {name: value.detach().numpy() for name, value in engine.model.state_dict().items()}
    np.savez(out, seconds=time.monotonic() - started, **weights)


def main() -> None:
    folder = Path(sys.argv[1])
    pairs = np.load(folder / "pairs.npz")
    for number, job in enumerate(json.loads((folder / "jobs.json").read_text())):
        run_job(job, pairs["queries"], pairs["documents"], folder / f"{number}.npz")


if __name__ == "__main__":
    main()
