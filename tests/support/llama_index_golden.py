"""What LlamaIndex's own adapters give, written by LlamaIndex itself: run by a Python that has it.

    PYTHON tests/support/llama_index_golden.py FOLDER [SEED]

writes one folder a case, as ``BaseAdapter.save`` does, with ``expected.npz`` beside: query vectors,
and what ``AdapterEmbeddingModel.get_query_embedding`` makes of them. The committed ones, in
tests/contract/llama_index/, were made with seed 0 and llama-index-embeddings-adapter 0.4.1. The
environment is that of benchmarks/quality/requirements-llama-index.txt.
"""

import json
import sys
from collections.abc import Iterator
from importlib.metadata import version
from pathlib import Path
from typing import Any

DIM, HIDDEN, N_QUERIES = 12, 7, 6
ACTIVATIONS = ("relu", "sigmoid", "tanh", "leaky_relu")


def cases() -> Iterator[tuple[str, str, dict[str, Any]]]:
    """Give every case: its name, its class and its arguments."""
    square = {"in_features": DIM, "out_features": DIM}
    for bias in (False, True):
        yield f"linear{'-bias' if bias else ''}", "LinearLayer", {**square, "bias": bias}
    for activation in ACTIVATIONS:
        for residual in (False, True):
            yield (
                f"two-layer-{activation}{'-residual' if residual else ''}",
                "TwoLayerNN",
                {
                    **square,
                    "hidden_features": HIDDEN,
                    "bias": True,
                    "activation_fn_str": activation,
                    "add_residual": residual,
                },
            )
    other = {"in_features": DIM, "hidden_features": HIDDEN, "out_features": 5}
    yield "two-layer-narrow", "TwoLayerNN", other


def write_cases(folder: Path, seed: int) -> None:
    """Write all cases, and which versions wrote them."""
    import torch
    from llama_index.embeddings.adapter import utils

    torch.manual_seed(seed)
    for name, class_name, arguments in cases():
        cls = getattr(utils, class_name)
        adapter = cls(**arguments)
        for value in adapter.parameters():
            value.data = torch.randn(value.shape) * 0.5
        adapter.save(str(folder / name))
        write_answers(folder / name, cls, torch.randn(N_QUERIES, DIM))
    packages = ("llama-index-embeddings-adapter", "llama-index-core", "torch")
    written_by = {package: version(package) for package in packages}
    (folder / "versions.json").write_text(json.dumps(written_by, indent=1) + "\n")


def write_answers(folder: Path, cls: type, queries: Any) -> None:
    """Ask LlamaIndex's embedding model, behind an encoder that gives these vectors."""
    import numpy as np
    from llama_index.core.embeddings import MockEmbedding
    from llama_index.embeddings.adapter import AdapterEmbeddingModel

    class Given(MockEmbedding):
        def _get_query_embedding(self, query: str) -> list[float]:
            vector: list[float] = queries[int(query)].tolist()
            return vector

    model = AdapterEmbeddingModel(Given(embed_dim=DIM), str(folder), cls, device="cpu")
    answers = [model.get_query_embedding(str(row)) for row in range(len(queries))]
    np.savez(
        folder / "expected.npz",
        queries=queries.numpy(),
        adapted=np.array(answers, dtype=np.float32),
    )


if __name__ == "__main__":
    write_cases(Path(sys.argv[1]), int(sys.argv[2]) if len(sys.argv) > 2 else 0)
