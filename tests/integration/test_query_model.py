"""A tuned encoder's file gives what its parts give, and embeds nothing but queries."""

import copy
from collections.abc import Iterator
from dataclasses import replace

import numpy as np
import pytest
import torch

from tests.support.onnx_models import CARD, linear_bytes
from tests.support.tiny_encoder import write_tiny_bert
from tests.support.traced_once import trace_once
from trimtab import Adapter, TextEncoder
from trimtab.errors import QueryError
from trimtab_training.embeddings.local_encoder import LocalEncoder
from trimtab_training.export.query_model import export_query_model

TEXTS = ["how do i cancel my plan", "money back", "", "where is the invoice"]
DIM = 16


@pytest.fixture(autouse=True, scope="module")
def _traced_once() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        trace_once(patch)
        yield


@pytest.fixture(scope="module")
def encoder(tmp_path_factory: pytest.TempPathFactory) -> LocalEncoder:
    folder = write_tiny_bert(tmp_path_factory.mktemp("encoder"))
    return LocalEncoder(folder, query_prefix="query: ", document_prefix="passage: ")


@pytest.fixture(scope="module")
def tuned(encoder: LocalEncoder) -> object:
    """The same modules with other weights."""
    model = copy.deepcopy(encoder.model)
    generator = torch.Generator().manual_seed(3)
    with torch.no_grad():
        for weights in model.parameters():
            weights.add_(0.05 * torch.randn(weights.shape, generator=generator))
    return model


@pytest.fixture(scope="module")
def adapter(encoder: LocalEncoder) -> bytes:
    card = replace(CARD, fingerprint=encoder.fingerprint, query_prefix="query: ")
    return linear_bytes(dim_in=DIM, dim_out=DIM, use="relevance", encoder=card, normalised=True)


def unit(rows: np.ndarray) -> np.ndarray:
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)


def by_hand(tuned: object) -> np.ndarray:
    return tuned.encode([f"query: {text}" for text in TEXTS])  # type: ignore[attr-defined]


def test_the_tuned_encoder_alone(encoder: LocalEncoder, tuned: object) -> None:
    served = TextEncoder.from_bytes(
        export_query_model(encoder, tuned, name="docs", similarity="dot")
    )
    assert np.abs(served.encode(TEXTS) - by_hand(tuned)).max() < 1e-5
    assert served.adapter is not None
    assert (served.adapter.kind, served.adapter.similarity) == ("tuned encoder", "dot")
    assert served.manifest.fingerprint == encoder.fingerprint  # of the untouched one
    for words in ({"role": "document"}, {"raw": True}):
        with pytest.raises(QueryError, match="this file embeds queries alone"):
            served.encode(TEXTS, **words)  # type: ignore[arg-type]
    with pytest.raises(QueryError, match="this file embeds queries alone"):
        served(TEXTS)


def test_the_mean_with_the_adapter(encoder: LocalEncoder, tuned: object, adapter: bytes) -> None:
    served = TextEncoder.from_bytes(
        export_query_model(encoder, tuned, adapter, name="docs", similarity="cosine")
    )
    raw = encoder.encode([f"query: {text}" for text in TEXTS])
    adapted = Adapter.from_bytes(adapter).transform(raw)
    wanted = unit(unit(by_hand(tuned)) + unit(adapted))
    assert np.abs(served.encode(TEXTS) - wanted).max() < 1e-5
    assert np.abs(served.encode(TEXTS, raw=True) - raw).max() < 1e-5
    documents = encoder.encode([f"passage: {text}" for text in TEXTS])
    assert np.abs(served.encode(TEXTS, role="document") - documents).max() < 1e-5
