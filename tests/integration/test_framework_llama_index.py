"""LlamaIndex: an index retrieves by adapted queries, and stores raw texts."""

import asyncio
import copy
import pickle
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from llama_index.core import Settings, StorageContext, VectorStoreIndex
from llama_index.core.base.embeddings.base import BaseEmbedding
from llama_index.core.bridge.pydantic import Field, PrivateAttr
from llama_index.core.callbacks import CallbackManager, CBEventType, LlamaDebugHandler
from llama_index.core.embeddings import MockEmbedding
from llama_index.core.ingestion import IngestionPipeline
from llama_index.core.rate_limiter import TokenBucketRateLimiter
from llama_index.core.schema import TextNode
from llama_index.core.storage.kvstore import SimpleKVStore
from llama_index.vector_stores.qdrant import QdrantVectorStore
from qdrant_client import AsyncQdrantClient, QdrantClient

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
from trimtab.errors import ConfigError, DimensionError
from trimtab.integrations.llama_index import AdaptedEmbedding

pytestmark = pytest.mark.filterwarnings("ignore:Payload indexes have no effect:UserWarning")


class Words(BaseEmbedding):
    """Embeds by words; notes by which way it was asked."""

    asked: list[str] = Field(default=[], exclude=True)

    def _get_query_embedding(self, query: str) -> list[float]:
        self.asked.append("query")
        return embed(query)

    async def _aget_query_embedding(self, query: str) -> list[float]:
        self.asked.append("aquery")
        return embed(query)

    def _get_text_embedding(self, text: str) -> list[float]:
        self.asked.append("text")
        return embed(text)

    async def _aget_text_embedding(self, text: str) -> list[float]:
        self.asked.append("atext")
        return embed(text)

    def _get_text_embeddings(self, texts: list[str]) -> list[list[float]]:
        self.asked.append(f"texts {len(texts)}")
        return [embed(text) for text in texts]

    async def _aget_text_embeddings(self, texts: list[str]) -> list[list[float]]:
        self.asked.append(f"atexts {len(texts)}")
        return [embed(text) for text in texts]


NODES = [
    TextNode(text=text, id_=f"00000000-0000-0000-0000-00000000000{number}")
    for number, text in enumerate(DOCUMENTS)
]


@pytest.fixture
def model(tmp_path: Path) -> Path:
    return write_model(tmp_path / "models" / "docs")


@pytest.fixture
def adapted(model: Path) -> AdaptedEmbedding:
    return AdaptedEmbedding(Words(embed_batch_size=2), model)


def first(nodes: list[Any]) -> str:
    text: str = nodes[0].node.get_content()
    return text


def test_queries_are_adapted_and_texts_are_not(adapted: AdaptedEmbedding) -> None:
    want = adapt(embed(QUESTION))
    assert np.allclose(adapted.get_query_embedding(QUESTION), want, atol=SAME)
    assert np.allclose(asyncio.run(adapted.aget_query_embedding(QUESTION)), want, atol=SAME)
    assert adapted.get_text_embedding(QUESTION) == embed(QUESTION)
    assert asyncio.run(adapted.aget_text_embedding(QUESTION)) == embed(QUESTION)
    assert adapted.base_embed_model.get_query_embedding(QUESTION) == embed(QUESTION)
    assert adapted.base_embed_model.asked == ["query", "aquery", "text", "atext", "query"]


def test_texts_go_to_the_base_model_in_its_batches(adapted: AdaptedEmbedding) -> None:
    raw = [embed(text) for text in DOCUMENTS]
    assert adapted.embed_batch_size == 2
    assert adapted.get_text_embedding_batch(DOCUMENTS) == raw
    assert asyncio.run(adapted.aget_text_embedding_batch(DOCUMENTS)) == raw
    assert adapted.base_embed_model.asked == ["texts 2", "texts 1", "atexts 2", "atexts 1"]


def test_several_queries_are_adapted_before_they_are_averaged(adapted: AdaptedEmbedding) -> None:
    queries = [QUESTION, "bread and butter"]
    want = np.mean([adapt(embed(query)) for query in queries], axis=0)
    assert np.allclose(adapted.get_agg_embedding_from_queries(queries), want, atol=SAME)
    found = asyncio.run(adapted.aget_agg_embedding_from_queries(queries))
    assert np.allclose(found, want, atol=SAME)


def test_qdrant_index_retrieves_the_answer(adapted: AdaptedEmbedding) -> None:
    client = QdrantClient(":memory:")
    store = QdrantVectorStore("docs", client=client)
    context = StorageContext.from_defaults(vector_store=store)
    VectorStoreIndex(NODES, embed_model=adapted, storage_context=context)
    raw, index = (
        VectorStoreIndex.from_vector_store(store, embed_model=embed_model)
        for embed_model in (adapted.base_embed_model, adapted)
    )
    assert first(raw.as_retriever().retrieve(QUESTION)) != ANSWER
    assert first(index.as_retriever().retrieve(QUESTION)) == ANSWER
    points, _ = client.scroll("docs", with_vectors=True)
    stored = [point.vector for point in sorted(points, key=lambda point: str(point.id))]
    assert np.allclose(stored, [embed(text) for text in DOCUMENTS], atol=SAME)
    client.close()


def test_qdrant_index_retrieves_the_answer_asynchronously(adapted: AdaptedEmbedding) -> None:
    async def retrieve() -> list[Any]:
        client = AsyncQdrantClient(":memory:")
        store = QdrantVectorStore("docs", aclient=client)
        index = VectorStoreIndex.from_vector_store(store, embed_model=adapted, use_async=True)
        await index.ainsert_nodes(NODES)
        found = await index.as_retriever().aretrieve(QUESTION)
        await client.close()
        return found

    assert first(asyncio.run(retrieve())) == ANSWER
    assert adapted.base_embed_model.asked == ["atexts 2", "atexts 1", "aquery"]


def test_it_serves_as_the_model_of_all(
    adapted: AdaptedEmbedding, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Settings, "_embed_model", adapted)
    assert first(VectorStoreIndex(NODES).as_retriever().retrieve(QUESTION)) == ANSWER


def test_an_ingestion_pipeline_stores_raw_embeddings(adapted: AdaptedEmbedding) -> None:
    nodes = IngestionPipeline(transformations=[adapted]).run(nodes=copy.deepcopy(NODES))
    assert [node.embedding for node in nodes] == [embed(text) for text in DOCUMENTS]


def test_callbacks_see_one_event_a_call_and_the_adapter(model: Path) -> None:
    events = LlamaDebugHandler(print_trace_on_end=False)
    base = Words(callback_manager=CallbackManager([events]))
    adapted = AdaptedEmbedding(base, model)
    adapted.get_query_embedding(QUESTION)
    asyncio.run(adapted.aget_query_embedding(QUESTION))
    adapted.get_text_embedding(QUESTION)
    asyncio.run(adapted.aget_text_embedding(QUESTION))
    adapted.get_text_embedding_batch(DOCUMENTS)
    asyncio.run(adapted.aget_text_embedding_batch(DOCUMENTS))
    pairs = events.get_event_pairs(CBEventType.EMBEDDING)
    assert len(pairs) == 6
    said = {start.payload["serialized"]["adapter"] for start, _ in pairs}
    assert said == {adapted.adapter.mark}


def test_a_cache_of_the_base_model_keeps_raw_embeddings(model: Path) -> None:
    base = Words(embeddings_cache=SimpleKVStore())
    adapted = AdaptedEmbedding(base, model)
    for _ in range(2):
        assert np.allclose(adapted.get_query_embedding(ANSWER), adapt(embed(ANSWER)), atol=SAME)
        assert adapted.get_text_embedding(ANSWER) == embed(ANSWER)
        assert adapted.get_text_embedding_batch([ANSWER]) == [embed(ANSWER)]
    assert base.asked == ["query"]


def test_a_cache_that_would_mix_queries_with_texts_is_refused(model: Path) -> None:
    with pytest.raises(ConfigError, match="give embeddings_cache to base_embed_model"):
        AdaptedEmbedding(Words(), model, embeddings_cache=SimpleKVStore())
    adapted = AdaptedEmbedding(Words(), model)
    with pytest.raises(ConfigError, match="give embeddings_cache to base_embed_model"):
        adapted.embeddings_cache = SimpleKVStore()
    adapted.embeddings_cache = None


def test_a_rate_limiter_of_the_base_model_is_asked(model: Path) -> None:
    class Counting(TokenBucketRateLimiter):
        asked: int = 0

        def acquire(self, num_tokens: int = 0) -> None:
            self.asked += 1

        async def async_acquire(self, num_tokens: int = 0) -> None:
            self.asked += 1

    limiter = Counting(requests_per_minute=60)
    adapted = AdaptedEmbedding(Words(rate_limiter=limiter), model)
    adapted.get_query_embedding(QUESTION)
    asyncio.run(adapted.aget_text_embedding_batch(DOCUMENTS))
    assert limiter.asked == 2


def test_transform_query_false_gives_the_raw_query(model: Path) -> None:
    raw = AdaptedEmbedding(Words(), model, transform_query=False)
    assert raw.get_query_embedding(QUESTION) == embed(QUESTION)


def test_what_is_saved_makes_the_same_model_again(model: Path) -> None:
    adapted = AdaptedEmbedding(MockEmbedding(embed_dim=DIM), str(model), embed_batch_size=7)
    saved = adapted.to_dict()
    assert saved["class_name"] == AdaptedEmbedding.class_name() == "AdaptedEmbedding"
    assert saved["adapter"] == str(model)
    again = AdaptedEmbedding.from_json(adapted.to_json())
    assert again.to_dict() == saved
    assert again.get_query_embedding(QUESTION) == adapted.get_query_embedding(QUESTION)


def test_a_base_model_that_llama_index_can_not_make_is_handed_over(
    adapted: AdaptedEmbedding,
) -> None:
    with pytest.raises(ConfigError, match=r"pass from_dict\(data, base_embed_model=model\)"):
        AdaptedEmbedding.from_dict(adapted.to_dict())
    again = AdaptedEmbedding.from_dict(adapted.to_dict(), base_embed_model=Words())
    assert again.get_query_embedding(QUESTION) == adapted.get_query_embedding(QUESTION)


class Tagged(AdaptedEmbedding):
    """An application's own kind, made in its own way."""

    tag: str = ""
    _asked: list[str] = PrivateAttr(default_factory=list)

    def __init__(self, model: Path, tag: str) -> None:
        super().__init__(Words(), model)
        self.tag = tag


def test_the_model_travels_with_it(adapted: AdaptedEmbedding, model: Path) -> None:
    wanted = adapted.get_query_embedding(QUESTION)
    adapted.callback_manager = CallbackManager([LlamaDebugHandler(print_trace_on_end=False)])
    in_memory = AdaptedEmbedding(Words(), adapter_in_memory())
    for sent in (adapted, in_memory):
        for again in (pickle.loads(pickle.dumps(sent)), copy.deepcopy(sent)):  # noqa: S301
            assert again.to_dict() == sent.to_dict()
            assert again.get_query_embedding(QUESTION) == wanted
    sent = pickle.dumps(adapted)
    shutil.rmtree(model)  # where it arrives, the path leads nowhere
    assert pickle.loads(sent).get_query_embedding(QUESTION) == wanted  # noqa: S301


def test_what_a_subclass_adds_travels_too(model: Path) -> None:
    tagged = Tagged(model, "red")
    tagged._asked.append("once")
    again = pickle.loads(pickle.dumps(tagged))  # noqa: S301
    assert (type(again), again.tag, again._asked) == (Tagged, "red", ["once"])
    assert again.get_query_embedding(QUESTION) == tagged.get_query_embedding(QUESTION)


def test_another_adapter_takes_its_place(adapted: AdaptedEmbedding, tmp_path: Path) -> None:
    adapted.adapter = write_raw_model(tmp_path / "newer")  # type: ignore[assignment]
    assert np.allclose(adapted.get_query_embedding(QUESTION), embed(QUESTION), atol=SAME)
    assert adapted.adapter.mark in adapted.model_name
    assert adapted.to_dict()["adapter"] == str(tmp_path / "newer")
    adapted.model_name = "mine"
    adapted.adapter = adapter_in_memory()
    assert adapted.model_name == "mine"
    with pytest.raises(ConfigError, match="for another encoder or index, wrap anew"):
        adapted.adapter = linear_adapter()


def test_what_can_not_be_wrapped_is_refused(adapted: AdaptedEmbedding, model: Path) -> None:
    with pytest.raises(ConfigError, match="expected a LlamaIndex BaseEmbedding, not str"):
        AdaptedEmbedding("local", model)  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match="adapts its queries already"):
        AdaptedEmbedding(adapted, model)
    with pytest.raises(ConfigError, match="takes no adapter_cls, device; expected"):
        AdaptedEmbedding(Words(), model, adapter_cls=None, device="cpu")
    with pytest.raises(DimensionError, match="query has 8 values; the adapter wants 384"):
        AdaptedEmbedding(MockEmbedding(embed_dim=8), model).get_query_embedding(QUESTION)


def test_the_documented_example_runs(model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(model.parents[1])
    exec(example("LlamaIndex"), {})  # noqa: S102 - our own page
