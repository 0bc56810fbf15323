"""FastEmbed: queries are adapted, documents and passages are not."""

import asyncio
import copy
import pickle
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from fastembed import TextEmbedding
from qdrant_client import QdrantClient, models

from tests.support.frameworks import (
    ANSWER,
    DIM,
    DOCUMENTS,
    QUESTION,
    SAME,
    adapt,
    adapter_in_memory,
    embed,
    example,
    write_model,
    write_raw_model,
)
from tests.support.onnx_models import linear_adapter
from tests.support.tiny_fastembed import NAME, register, write_tiny
from trimtab import AdaptedQdrantClient
from trimtab.errors import ConfigError, DimensionError
from trimtab.integrations.fastembed import AdaptedTextEmbedding


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    register()
    return write_tiny(tmp_path_factory.mktemp("tiny"))


@pytest.fixture
def base(folder: Path) -> TextEmbedding:
    return TextEmbedding(NAME, specific_model_path=str(folder), threads=1)


@pytest.fixture
def model(tmp_path: Path) -> Path:
    return write_model(tmp_path / "models" / "docs")


@pytest.fixture
def adapted(base: TextEmbedding, model: Path) -> AdaptedTextEmbedding:
    return AdaptedTextEmbedding(base, model)


def test_queries_are_adapted_one_or_several(adapted: AdaptedTextEmbedding) -> None:
    want = adapt(embed(QUESTION))
    (alone,) = adapted.query_embed(QUESTION)
    several = list(adapted.query_embed(iter([QUESTION, ANSWER])))
    assert np.allclose(alone, want, atol=SAME)
    assert np.allclose(several, [want, adapt(embed(ANSWER))], atol=SAME)
    assert alone.dtype == np.float32
    (raw,) = adapted.inner.query_embed(QUESTION)
    assert np.allclose(raw, embed(QUESTION), atol=SAME)


def test_documents_and_passages_are_as_they_were(
    base: TextEmbedding, adapted: AdaptedTextEmbedding
) -> None:
    assert np.array_equal(list(adapted.embed(DOCUMENTS)), list(base.embed(DOCUMENTS)))
    assert np.array_equal(
        list(adapted.passage_embed(DOCUMENTS)), list(base.passage_embed(DOCUMENTS))
    )


def test_it_is_a_text_embedding_in_all_else(
    base: TextEmbedding, adapted: AdaptedTextEmbedding
) -> None:
    assert isinstance(adapted, TextEmbedding)
    assert adapted.embedding_size == base.embedding_size == DIM
    assert adapted.token_count(DOCUMENTS) == base.token_count(DOCUMENTS)
    assert adapted.model_name == NAME
    assert NAME in repr(adapted)


def test_qdrant_finds_the_answer(adapted: AdaptedTextEmbedding) -> None:
    client = QdrantClient(":memory:")
    client.create_collection(
        "docs", vectors_config=models.VectorParams(size=DIM, distance=models.Distance.COSINE)
    )
    client.upload_collection(
        "docs", adapted.embed(DOCUMENTS), [{"text": text} for text in DOCUMENTS]
    )
    found = [
        client.query_points("docs", query=next(iter(model.query_embed(QUESTION)))).points[0]
        for model in (adapted.inner, adapted)
    ]
    answers = [point.payload["text"] for point in found if point.payload]
    assert answers[0] != ANSWER
    assert answers[1] == ANSWER
    client.close()


def test_a_text_that_the_qdrant_client_embeds_is_adapted_by_the_client(
    folder: Path, model: Path
) -> None:
    client = QdrantClient(":memory:")
    client.create_collection(
        "docs", vectors_config=models.VectorParams(size=DIM, distance=models.Distance.COSINE)
    )

    def document(text: str) -> models.Document:
        options = {"specific_model_path": str(folder), "threads": 1}
        return models.Document(text=text, model=NAME, options=options)

    client.upsert(
        "docs",
        [
            models.PointStruct(id=number, vector=document(text))
            for number, text in enumerate(DOCUMENTS)
        ],
    )
    found = AdaptedQdrantClient(client, {"docs": model}).query_points(
        "docs", query=document(QUESTION)
    )
    assert DOCUMENTS[int(found.points[0].id)] == ANSWER
    client.close()


def test_threads_share_it(adapted: AdaptedTextEmbedding) -> None:
    async def ask() -> list[list[np.ndarray]]:
        return await asyncio.gather(
            *(asyncio.to_thread(lambda: list(adapted.query_embed(DOCUMENTS))) for _ in range(8))
        )

    want = [adapt(embed(text)) for text in DOCUMENTS]
    assert all(np.allclose(found, want, atol=SAME) for found in asyncio.run(ask()))


def test_it_travels_before_its_model_is_loaded(folder: Path, model: Path) -> None:
    lazy = TextEmbedding(NAME, specific_model_path=str(folder), threads=1, lazy_load=True)
    adapted = AdaptedTextEmbedding(lazy, model)
    again = pickle.loads(pickle.dumps(adapted))  # noqa: S301 - our own bytes
    (query,) = again.query_embed(QUESTION)
    assert np.allclose(query, adapt(embed(QUESTION)), atol=SAME)
    assert list(map(list, again.embed(DOCUMENTS))) == list(map(list, lazy.embed(DOCUMENTS)))


@pytest.mark.parametrize("send", [pickle.dumps, copy.deepcopy])
def test_a_loaded_model_that_can_not_travel_says_what_to_do(
    adapted: AdaptedTextEmbedding, send: Callable[[object], object]
) -> None:
    with pytest.raises(ConfigError, match="make it there, or with lazy_load=True here"):
        send(adapted)


def test_another_adapter_takes_its_place(adapted: AdaptedTextEmbedding, tmp_path: Path) -> None:
    adapted.adapter = write_raw_model(tmp_path / "newer")  # type: ignore[assignment]
    (query,) = adapted.query_embed(QUESTION)
    assert np.allclose(query, embed(QUESTION), atol=SAME)
    with pytest.raises(ConfigError, match="wrap anew"):
        adapted.adapter = linear_adapter()


def test_what_can_not_be_wrapped_is_refused(
    base: TextEmbedding, adapted: AdaptedTextEmbedding, model: Path
) -> None:
    with pytest.raises(ConfigError, match=r"expected a fastembed\.TextEmbedding, not str"):
        AdaptedTextEmbedding(NAME, model)  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match="adapts its queries already"):
        AdaptedTextEmbedding(adapted, model)
    with pytest.raises(DimensionError, match="query has 384 values; the adapter wants 6"):
        AdaptedTextEmbedding(base, linear_adapter())
    AdaptedTextEmbedding(base, adapter_in_memory())


def test_the_documented_example_runs(
    folder: Path, model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(model.parents[1])
    local = f'TextEmbedding("{NAME}", specific_model_path={str(folder)!r})'
    downloaded = 'TextEmbedding("BAAI/bge-small-en-v1.5")'
    exec(example("FastEmbed", **{downloaded: local}), {})  # noqa: S102 - our own page
