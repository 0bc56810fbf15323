"""Haystack: a pipeline retrieves by adapted queries; documents are embedded as they are."""

import asyncio
import copy
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from haystack import Document, Pipeline, component
from haystack.components.embedders import MockDocumentEmbedder, MockTextEmbedder
from haystack.components.retrievers import TextEmbeddingRetriever
from haystack.core.errors import DeserializationError
from haystack_integrations.components.retrievers.qdrant import QdrantEmbeddingRetriever
from haystack_integrations.document_stores.qdrant import QdrantDocumentStore

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
from trimtab.errors import ConfigError, DimensionError
from trimtab.integrations.haystack import META_KEY, AdaptedTextEmbedder

OURS = ["trimtab.integrations.haystack", "tests.*"]
"""Modules that a saved pipeline of these tests may name."""


@component
class Blocking:
    """A text embedder with a life of its own and no async way."""

    def __init__(self) -> None:
        self.lived: list[str] = []

    def warm_up(self) -> None:
        self.lived.append("warm")

    def close(self) -> None:
        self.lived.append("closed")

    @component.output_types(embedding=list[float])
    def run(self, text: str) -> dict[str, Any]:
        return {"embedding": embed(text)}


@component
class Awaited(Blocking):
    """The same with async ways."""

    async def warm_up_async(self) -> None:
        self.lived.append("warm async")

    async def close_async(self) -> None:
        self.lived.append("closed async")

    @component.output_types(embedding=list[float])
    async def run_async(self, text: str) -> dict[str, Any]:
        self.lived.append("run async")
        return {"embedding": embed(text)}

    @component.output_types(embedding=list[float])
    def run(self, text: str) -> dict[str, Any]:
        return {"embedding": embed(text)}


@pytest.fixture
def model(tmp_path: Path) -> Path:
    return write_model(tmp_path / "models" / "docs")


def words() -> MockTextEmbedder:
    return MockTextEmbedder(embedding_fn=embed)


def stored() -> QdrantDocumentStore:
    """Fill a store with raw embeddings."""
    store = QdrantDocumentStore(":memory:", embedding_dim=DIM, similarity="cosine")
    embedder = MockDocumentEmbedder(embedding_fn=embed)
    documents = embedder.run([Document(content=text) for text in DOCUMENTS])["documents"]
    store.write_documents(documents)
    return store


def pipeline(embedder: Any, store: QdrantDocumentStore) -> Pipeline:
    built = Pipeline()
    built.add_component("embedder", embedder)
    built.add_component("retriever", QdrantEmbeddingRetriever(store, top_k=3))
    built.connect("embedder.embedding", "retriever.query_embedding")
    return built


def first(answer: dict[str, Any]) -> str | None:
    document: Document = answer["retriever"]["documents"][0]
    return document.content


def test_embeddings_are_adapted_and_meta_names_the_adapter(model: Path) -> None:
    adapted = AdaptedTextEmbedder(words(), model)
    raw, found = words().run(QUESTION), adapted.run(QUESTION)
    assert np.allclose(found["embedding"], adapt(raw["embedding"]), atol=SAME)
    assert found["meta"] == {**raw["meta"], META_KEY: adapted.adapter.mark}
    assert asyncio.run(adapted.run_async(QUESTION)) == found
    assert adapted.text_embedder.run(QUESTION) == raw


def test_a_pipeline_retrieves_the_answer(model: Path) -> None:
    store = stored()
    adapted = pipeline(AdaptedTextEmbedder(words(), model), store)
    asked = {"embedder": {"text": QUESTION}}
    assert first(pipeline(words(), store).run(asked)) != ANSWER
    assert first(adapted.run(asked)) == ANSWER
    kept = {document.content: document.embedding for document in store.filter_documents()}
    assert all(np.allclose(kept[text], embed(text), atol=SAME) for text in DOCUMENTS)


def test_a_pipeline_retrieves_the_answer_asynchronously(model: Path) -> None:
    async def ask() -> dict[str, Any]:
        store = QdrantDocumentStore(":memory:", embedding_dim=DIM, similarity="cosine")
        embedder = MockDocumentEmbedder(embedding_fn=embed)
        documents = embedder.run([Document(content=text) for text in DOCUMENTS])["documents"]
        await store.write_documents_async(documents)
        asked = {"embedder": {"text": QUESTION}}
        return await pipeline(AdaptedTextEmbedder(words(), model), store).run_async(asked)

    assert first(asyncio.run(ask())) == ANSWER


def test_a_retriever_takes_it_as_its_text_embedder(model: Path) -> None:
    retriever = TextEmbeddingRetriever(
        retriever=QdrantEmbeddingRetriever(stored()),
        text_embedder=AdaptedTextEmbedder(words(), model),
    )
    assert retriever.run(QUESTION)["documents"][0].content == ANSWER


def test_a_saved_pipeline_makes_the_same_pipeline_again(model: Path) -> None:
    built = pipeline(AdaptedTextEmbedder(words(), str(model)), QdrantDocumentStore(":memory:"))
    text = built.dumps()
    again = Pipeline.loads(text, allowed_modules=OURS)
    assert again.dumps() == text
    component = again.get_component("embedder")
    assert component.run(QUESTION) == AdaptedTextEmbedder(words(), model).run(QUESTION)
    with pytest.raises(DeserializationError, match="allowed_modules"):
        Pipeline.loads(text)


def test_an_adapter_in_memory_serves_and_can_not_be_saved() -> None:
    adapted = AdaptedTextEmbedder(words(), adapter_in_memory())
    assert np.allclose(adapted.run(QUESTION)["embedding"], adapt(embed(QUESTION)), atol=SAME)
    with pytest.raises(ConfigError, match="pass the path of its model"):
        adapted.to_dict()


def test_the_model_travels_with_it(model: Path) -> None:
    adapted = AdaptedTextEmbedder(words(), model)
    in_memory = AdaptedTextEmbedder(words(), adapter_in_memory())
    for again in (
        pickle.loads(pickle.dumps(adapted)),  # noqa: S301 - our own bytes
        copy.deepcopy(adapted),
        pickle.loads(pickle.dumps(in_memory)),  # noqa: S301 - our own bytes
    ):
        assert again.run(QUESTION) == adapted.run(QUESTION)


def test_another_adapter_takes_its_place(model: Path, tmp_path: Path) -> None:
    adapted = AdaptedTextEmbedder(words(), adapter_in_memory())
    adapted.adapter = write_raw_model(tmp_path / "newer")  # type: ignore[assignment]
    found = adapted.run(QUESTION)
    assert np.allclose(found["embedding"], embed(QUESTION), atol=SAME)
    assert found["meta"][META_KEY] == adapted.adapter.mark
    assert adapted.to_dict()["init_parameters"]["adapter"] == str(tmp_path / "newer")


def test_a_blocking_embedder_lives_and_is_awaited_in_a_thread(model: Path) -> None:
    inner = Blocking()
    adapted = AdaptedTextEmbedder(inner, model)

    async def live() -> dict[str, Any]:
        await adapted.warm_up_async()
        found = await adapted.run_async(QUESTION)
        await adapted.close_async()
        return found

    assert asyncio.run(live()) == adapted.run(QUESTION)
    adapted.warm_up()
    adapted.close()
    assert inner.lived == ["warm", "closed"] * 2


def test_an_async_embedder_lives_by_its_async_ways(model: Path) -> None:
    inner = Awaited()
    adapted = AdaptedTextEmbedder(inner, model)

    async def live() -> dict[str, Any]:
        await adapted.warm_up_async()
        found = await adapted.run_async(QUESTION)
        await adapted.close_async()
        return found

    assert asyncio.run(live()) == adapted.run(QUESTION)
    assert inner.lived == ["warm async", "run async", "closed async"]


def test_what_can_not_be_wrapped_is_refused(model: Path) -> None:
    with pytest.raises(ConfigError, match="expected a Haystack text embedder, not str"):
        AdaptedTextEmbedder("mock", model)  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match="adapts its queries already"):
        AdaptedTextEmbedder(AdaptedTextEmbedder(words(), model), model)
    with pytest.raises(DimensionError, match="query has 8 values; the adapter wants 384"):
        AdaptedTextEmbedder(MockTextEmbedder(dimension=8), model).run(QUESTION)


def test_the_documented_example_runs(model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(model.parents[1])
    exec(example("Haystack"), {})  # noqa: S102 - our own page
