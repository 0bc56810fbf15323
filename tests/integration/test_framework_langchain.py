"""LangChain: vector stores retrieve by adapted queries, and store raw documents."""

import asyncio
import copy
import pickle
import shutil
from collections.abc import Iterator
from pathlib import Path
from threading import Thread
from typing import Any

import numpy as np
import pytest
from langchain_classic.embeddings import CacheBackedEmbeddings
from langchain_core.embeddings import DeterministicFakeEmbedding, Embeddings
from langchain_core.stores import InMemoryByteStore
from langchain_qdrant import QdrantVectorStore, RetrievalMode, SparseEmbeddings, SparseVector
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
from trimtab.errors import ConfigError, DimensionError, ModelError, QueryError
from trimtab.integrations.langchain import AdaptedEmbeddings
from trimtab.model.adapter import Adapter, WatchedAdapter

pytestmark = pytest.mark.filterwarnings("ignore:.*langchain-community:DeprecationWarning")


class Words(Embeddings):
    """Embeds by words; its async ways are its own, and say so."""

    def __init__(self) -> None:
        self.awaited: list[str] = []

    def embed_documents(self, texts: list[str]) -> list[list[float]]:
        return [embed(text) for text in texts]

    def embed_query(self, text: str) -> list[float]:
        return embed(text)

    async def aembed_documents(self, texts: list[str]) -> list[list[float]]:
        self.awaited += texts
        return self.embed_documents(texts)

    async def aembed_query(self, text: str) -> list[float]:
        self.awaited.append(text)
        return self.embed_query(text)


class Lexical(SparseEmbeddings):
    """One index a word."""

    def embed_documents(self, texts: list[str]) -> list[SparseVector]:
        return [self.embed_query(text) for text in texts]

    def embed_query(self, text: str) -> SparseVector:
        indices = sorted({sum(word.encode()) for word in text.lower().split()})
        return SparseVector(indices=indices, values=[1.0] * len(indices))


@pytest.fixture
def model(tmp_path: Path) -> Path:
    return write_model(tmp_path / "models" / "docs")


@pytest.fixture
def adapted(model: Path) -> AdaptedEmbeddings:
    return AdaptedEmbeddings(Words(), model)


@pytest.fixture
def client() -> Iterator[QdrantClient]:
    client = QdrantClient(":memory:")
    client.create_collection(
        "docs",
        vectors_config=models.VectorParams(size=DIM, distance=models.Distance.COSINE),
        sparse_vectors_config={"words": models.SparseVectorParams()},
    )
    yield client
    client.close()


def first(documents: list[Any]) -> str:
    text: str = documents[0].page_content
    return text


def test_queries_are_adapted_and_documents_are_not(adapted: AdaptedEmbeddings) -> None:
    assert np.allclose(adapted.embed_query(QUESTION), adapt(embed(QUESTION)), atol=SAME)
    assert all(type(value) is float for value in adapted.embed_query(QUESTION))
    assert adapted.embed_documents(DOCUMENTS) == [embed(text) for text in DOCUMENTS]
    assert adapted.embeddings.embed_query(QUESTION) == embed(QUESTION)


def test_async_ways_are_the_wrapped_embeddings_own(adapted: AdaptedEmbeddings) -> None:
    async def both() -> tuple[list[float], list[list[float]]]:
        return await adapted.aembed_query(QUESTION), await adapted.aembed_documents(DOCUMENTS)

    query, documents = asyncio.run(both())
    assert query == adapted.embed_query(QUESTION)
    assert documents == adapted.embed_documents(DOCUMENTS)
    assert isinstance(adapted.embeddings, Words)
    assert adapted.embeddings.awaited == [QUESTION, *DOCUMENTS]


def test_qdrant_store_retrieves_the_answer(
    client: QdrantClient, adapted: AdaptedEmbeddings
) -> None:
    raw = QdrantVectorStore(client, "docs", adapted.embeddings)
    store = QdrantVectorStore(client, "docs", adapted)
    store.add_texts(DOCUMENTS)
    assert first(raw.similarity_search(QUESTION)) != ANSWER
    assert first(store.similarity_search(QUESTION)) == ANSWER
    retriever = store.as_retriever(search_kwargs={"k": 1})
    assert first(retriever.invoke(QUESTION)) == ANSWER
    assert first(asyncio.run(retriever.ainvoke(QUESTION))) == ANSWER
    points, _ = client.scroll("docs", with_vectors=True)
    stored = {point.payload["page_content"]: point.vector for point in points if point.payload}
    assert all(np.allclose(stored[text], embed(text), atol=SAME) for text in DOCUMENTS)


def test_qdrant_hybrid_store_fuses_the_adapted_query_with_the_sparse_one(
    client: QdrantClient, adapted: AdaptedEmbeddings
) -> None:
    stores = [
        QdrantVectorStore(
            client,
            "docs",
            embeddings,
            retrieval_mode=RetrievalMode.HYBRID,
            sparse_embedding=Lexical(),
            sparse_vector_name="words",
        )
        for embeddings in (adapted.embeddings, adapted)
    ]
    stores[0].add_texts(DOCUMENTS)
    places = [
        [found.page_content for found in store.similarity_search(QUESTION)].index(ANSWER)
        for store in stores
    ]
    assert places[1] < places[0]


@pytest.mark.parametrize(
    ("strategy", "normalise"),
    [
        ("EUCLIDEAN_DISTANCE", False),
        ("EUCLIDEAN_DISTANCE", True),
        ("MAX_INNER_PRODUCT", False),
        ("COSINE", False),
    ],
)
def test_faiss_store_ranks_unit_vectors_alike_by_every_strategy(
    adapted: AdaptedEmbeddings, strategy: str, normalise: bool
) -> None:
    from langchain_community.vectorstores import FAISS
    from langchain_community.vectorstores.utils import DistanceStrategy

    store = FAISS.from_texts(
        DOCUMENTS,
        adapted,
        distance_strategy=DistanceStrategy[strategy],
        normalize_L2=normalise,
    )
    wanted = sorted(DOCUMENTS, key=lambda text: -float(adapt(embed(QUESTION)) @ embed(text)))
    found = store.similarity_search(QUESTION, k=3)
    assert [document.page_content for document in found] == wanted
    retriever = store.as_retriever(search_kwargs={"k": 3})
    assert retriever.invoke(QUESTION) == asyncio.run(retriever.ainvoke(QUESTION)) == found
    stored = [store.index.reconstruct(row) for row in range(3)]
    assert np.allclose(stored, [embed(text) for text in DOCUMENTS], atol=SAME)


def test_faiss_relevance_scores_are_cosines_as_the_docs_say(adapted: AdaptedEmbeddings) -> None:
    from langchain_community.vectorstores import FAISS
    from langchain_community.vectorstores.utils import DistanceStrategy

    store = FAISS.from_texts(
        DOCUMENTS,
        adapted,
        distance_strategy=DistanceStrategy.MAX_INNER_PRODUCT,
        relevance_score_fn=lambda score: score,
    )
    for document, score in store.similarity_search_with_relevance_scores(QUESTION, k=3):
        cosine = adapt(embed(QUESTION)) @ embed(document.page_content)
        assert score == pytest.approx(cosine, abs=SAME)


def test_an_adapter_in_memory_will_do(adapted: AdaptedEmbeddings) -> None:
    loaded = AdaptedEmbeddings(Words(), adapter_in_memory())
    assert loaded.embed_query(QUESTION) == adapted.embed_query(QUESTION)
    assert loaded.adapter.mark == adapted.adapter.mark
    assert "docs@" in repr(loaded)
    assert "Words" in repr(loaded)


def test_the_model_travels_with_it(model: Path, adapted: AdaptedEmbeddings) -> None:
    wanted = adapted.embed_query(QUESTION)
    sent = pickle.dumps(adapted), pickle.dumps(AdaptedEmbeddings(Words(), adapter_in_memory()))
    shutil.rmtree(model)  # where it arrives, the path leads nowhere
    for arrived in map(pickle.loads, sent):
        assert arrived.embed_query(QUESTION) == wanted
        assert copy.deepcopy(arrived).embed_query(QUESTION) == wanted


def test_another_adapter_takes_its_place(adapted: AdaptedEmbeddings, tmp_path: Path) -> None:
    twin = copy.copy(adapted)
    raw = write_raw_model(tmp_path / "newer")
    adapted.adapter = raw  # type: ignore[assignment]  # a path will do
    assert np.allclose(adapted.embed_query(QUESTION), embed(QUESTION), atol=SAME)
    assert np.allclose(twin.embed_query(QUESTION), adapt(embed(QUESTION)), atol=SAME)
    mark = adapted.adapter.mark
    with pytest.raises(ConfigError, match=r"takes 6 values and gives 4, .* takes 384 and gives"):
        adapted.adapter = linear_adapter()
    with pytest.raises(ConfigError, match="the adapter is a NoneType"):
        adapted.adapter = None  # type: ignore[assignment]
    assert adapted.adapter.mark == mark


def test_it_follows_a_watched_model(model: Path) -> None:
    adapted = AdaptedEmbeddings(Words(), Adapter.watch(model))
    write_raw_model(model)
    assert isinstance(adapted.adapter, WatchedAdapter)
    assert adapted.adapter.reload()
    assert np.allclose(adapted.embed_query(QUESTION), embed(QUESTION), atol=SAME)
    adapted.adapter.close()


def test_threads_share_it(adapted: AdaptedEmbeddings) -> None:
    texts = [f"question {number}" for number in range(40)]
    found: dict[str, list[float]] = {}

    def ask(part: list[str]) -> None:
        found.update({text: adapted.embed_query(text) for text in part})

    threads = [Thread(target=ask, args=(texts[start::4],)) for start in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == {text: adapted.embed_query(text) for text in texts}


def test_an_encoder_of_another_width_is_one_clear_line(model: Path) -> None:
    with pytest.raises(DimensionError, match=r"query has 8 values; the adapter wants 384"):
        AdaptedEmbeddings(DeterministicFakeEmbedding(size=8), model).embed_query(QUESTION)


def test_an_embedding_that_is_no_vector_is_one_clear_line(model: Path) -> None:
    class Batch(Words):
        def embed_query(self, text: str) -> list[float]:
            return [embed(text)]  # type: ignore[list-item]

    with pytest.raises(QueryError, match="embedded as 1 rows; expected one vector"):
        AdaptedEmbeddings(Batch(), model).embed_query(QUESTION)


def test_what_can_not_be_wrapped_is_refused(adapted: AdaptedEmbeddings, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="expected LangChain Embeddings, not str"):
        AdaptedEmbeddings("all-MiniLM-L6-v2", adapter_in_memory())  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match="the adapter is a int"):
        AdaptedEmbeddings(Words(), 7)  # type: ignore[arg-type]
    with pytest.raises(ModelError, match="no model at"):
        AdaptedEmbeddings(Words(), tmp_path / "nothing")
    with pytest.raises(ConfigError, match="adapts its queries already"):
        AdaptedEmbeddings(adapted, adapter_in_memory())


def test_a_wrapper_around_adapted_embeddings_is_refused(adapted: AdaptedEmbeddings) -> None:
    class Cached(Words):
        def __init__(self, underlying: Embeddings) -> None:
            super().__init__()
            self.underlying = underlying

    with pytest.raises(ConfigError, match=r"Cached adapts its queries already \(AdaptedEmb"):
        AdaptedEmbeddings(Cached(adapted), adapter_in_memory())


def test_an_adapter_of_llama_index_is_told_how_to_move(tmp_path: Path) -> None:
    (tmp_path / "pytorch_model.bin").touch()
    with pytest.raises(ConfigError, match="trimtab convert llama-index"):
        AdaptedEmbeddings(Words(), tmp_path)


def test_the_documented_example_runs(model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(model.parents[1])
    exec(example("LangChain"), {})  # noqa: S102 - our own page


def test_a_cache_inside_keeps_queries_and_documents_apart() -> None:
    """As docs/frameworks.md has it: the cache holds what is raw, under whatever key."""
    cached = CacheBackedEmbeddings.from_bytes_store(
        Words(),
        InMemoryByteStore(),
        namespace="words",
        query_embedding_cache=True,
        key_encoder="sha256",
    )
    adapted = AdaptedEmbeddings(cached, adapter_in_memory())
    for _ in range(2):
        assert adapted.embed_query(QUESTION) == pytest.approx(adapt(embed(QUESTION)), abs=1e-6)
        assert adapted.embed_documents([QUESTION]) == [embed(QUESTION)]
