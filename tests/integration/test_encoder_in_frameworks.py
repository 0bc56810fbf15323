"""An encoder's file in frameworks and hooks: queries adapted where an adapter is in it."""

import asyncio
import copy
import pickle
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from haystack import Document, Pipeline
from langchain_core.embeddings import Embeddings
from llama_index.core.embeddings.loading import load_embed_model
from llama_index.core.storage.kvstore import SimpleKVStore
from qdrant_client import QdrantClient, models

from tests.support.onnx_models import CARD, linear_bytes, weight_of
from tests.support.tiny_encoder import embed, words_bytes
from trimtab import Adapter, AsyncQueryHook, QueryHook, TextEncoder
from trimtab.errors import ConfigError, ModelError
from trimtab.integrations.fastembed import add_encoder
from trimtab.integrations.haystack import (
    AdaptedTextEmbedder,
    EncoderDocumentEmbedder,
    EncoderTextEmbedder,
)
from trimtab.integrations.langchain import AdaptedEmbeddings, EncoderEmbeddings
from trimtab.integrations.llama_index import AdaptedEmbedding, EncoderEmbedding
from trimtab.model.encoder_probe import pack_probe
from trimtab_training.export.fused_encoder import fuse_adapter

DIM, DIM_OUT = 8, 5
QUERY, DOCUMENTS = "how do i cancel", ["money back", "the invoice of my plan"]


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory) -> Path:
    file = tmp_path_factory.mktemp("plain") / "encoder.onnx"
    file.write_bytes(
        words_bytes(fingerprint=CARD.fingerprint, query_prefix="query ", document_prefix="passage ")
    )
    return file


@pytest.fixture(scope="module")
def fused(plain: Path) -> Path:
    file = plain.with_name("fused.onnx")
    content = fuse_adapter(plain.read_bytes(), linear_bytes(dim_in=DIM, dim_out=DIM_OUT))
    file.write_bytes(content)
    return file


def near(found: object, wanted: np.ndarray) -> bool:
    rows = np.asarray(found)
    return rows.shape == wanted.shape and bool(np.abs(rows - wanted).max() < 1e-5)


RAW = embed(f"query {QUERY}")
ADAPTED = RAW @ weight_of(DIM, DIM_OUT)
STORED = np.stack([embed(f"passage {text}") for text in DOCUMENTS])


def test_a_hook_takes_an_encoder_with_an_adapter_in_it(fused: Path) -> None:
    encoder = TextEncoder.load(fused)
    for hook in (QueryHook(encoder), pickle.loads(pickle.dumps(QueryHook(encoder)))):  # noqa: S301
        assert near(hook(QUERY), ADAPTED)
        assert near(hook([QUERY, QUERY]), np.stack([ADAPTED] * 2))
    assert near(asyncio.run(AsyncQueryHook(encoder)(QUERY)), ADAPTED)


def test_a_hook_says_what_it_cannot_take(plain: Path, fused: Path) -> None:
    with pytest.raises(ConfigError, match="the query is a vector, and this hook's encoder takes"):
        QueryHook(TextEncoder.load(fused))(RAW)
    with pytest.raises(ConfigError, match="the adapter is a TextEncoder; expected an Adapter"):
        QueryHook(TextEncoder.load(plain))  # type: ignore[arg-type]


def test_an_encoder_alone_is_a_hooks_encoder(plain: Path) -> None:
    adapter = Adapter.from_bytes(linear_bytes(dim_in=DIM, dim_out=DIM_OUT))
    hook = QueryHook(adapter, encoder=TextEncoder.load(plain))
    assert near(hook(QUERY), ADAPTED)


def test_an_adapter_that_does_not_know_its_encoder_gives_one_vector_by_every_way(
    plain: Path,
) -> None:
    card = replace(CARD, fingerprint="", query_prefix="")
    adapter = Adapter.from_bytes(linear_bytes(dim_in=DIM, dim_out=DIM_OUT, encoder=card))
    encoder = TextEncoder.load(plain)
    for given in (encoder, encoder.encode):
        assert near(QueryHook(adapter, encoder=given)(QUERY), ADAPTED)
        assert near(asyncio.run(AsyncQueryHook(adapter, encoder=given)([QUERY]))[0], ADAPTED)
    assert near(AdaptedEmbeddings(EncoderEmbeddings(encoder), adapter).embed_query(QUERY), ADAPTED)


def test_langchain(plain: Path, fused: Path) -> None:
    embeddings = EncoderEmbeddings(plain)
    assert near(embeddings.embed_query(QUERY), RAW)
    assert near(embeddings.embed_documents(DOCUMENTS), STORED)
    assert near(asyncio.run(embeddings.aembed_query(QUERY)), RAW)
    assert near(asyncio.run(embeddings.aembed_documents(DOCUMENTS)), STORED)
    both = EncoderEmbeddings(TextEncoder.load(fused))
    assert near(both.embed_query(QUERY), ADAPTED)
    assert near(both.embed_documents(DOCUMENTS), STORED)


def test_what_adapts_already_is_not_wrapped_again(plain: Path, fused: Path) -> None:
    adapter = Adapter.from_bytes(linear_bytes(dim_in=DIM, dim_out=DIM_OUT))
    assert near(AdaptedEmbeddings(EncoderEmbeddings(plain), adapter).embed_query(QUERY), ADAPTED)
    with pytest.raises(ConfigError, match="adapts its queries already"):
        AdaptedEmbeddings(EncoderEmbeddings(fused), adapter)
    with pytest.raises(ConfigError, match="the encoder is a int; expected a TextEncoder"):
        EncoderEmbeddings(7)  # type: ignore[arg-type]


def test_an_adapter_of_another_encoder_is_not_put_behind_one(plain: Path, fused: Path) -> None:
    other = Adapter.from_bytes(
        linear_bytes(dim_in=DIM, encoder=replace(CARD, fingerprint="sha256:another"))
    )
    with pytest.raises(ConfigError, match=r"toy/words .* is another encoder than the one"):
        AdaptedEmbeddings(EncoderEmbeddings(plain), other)
    with pytest.raises(ConfigError, match="another encoder"):
        AdaptedEmbedding(EncoderEmbedding(plain), other)
    with pytest.raises(ConfigError, match="another encoder"):
        AdaptedTextEmbedder(EncoderTextEmbedder(plain), other)
    adapter = Adapter.from_bytes(linear_bytes(dim_in=DIM, dim_out=DIM_OUT))
    embeddings = AdaptedEmbeddings(EncoderEmbeddings(plain), adapter)
    with pytest.raises(ConfigError, match="another encoder"):
        embeddings.adapter = Adapter.from_bytes(
            linear_bytes(
                dim_in=DIM, dim_out=DIM_OUT, encoder=replace(CARD, fingerprint="sha256:another")
            )
        )


def test_no_adapter_of_another_pooling_takes_the_place_of_one(plain: Path) -> None:
    probes = (pack_probe(rows) for rows in np.split(np.eye(6, DIM, dtype=np.float32), 2))
    own, other = (
        Adapter.from_bytes(
            linear_bytes(dim_in=DIM, dim_out=DIM_OUT, encoder=replace(CARD, probe=probe))
        )
        for probe in probes
    )
    adapted = AdaptedEmbeddings(EncoderEmbeddings(plain), own)
    with pytest.raises(ConfigError, match="on those of toy-encoder, another encoder"):
        adapted.adapter = other


def test_no_adapter_of_another_encoder_is_set_later_either(plain: Path) -> None:
    unknown, other = (
        Adapter.from_bytes(
            linear_bytes(
                dim_in=DIM, dim_out=DIM_OUT, encoder=replace(CARD, fingerprint=fingerprint)
            )
        )
        for fingerprint in ("", "sha256:another")
    )
    for wrapper in (
        AdaptedEmbeddings(EncoderEmbeddings(plain), unknown),
        AdaptedEmbedding(EncoderEmbedding(plain), unknown),
        AdaptedTextEmbedder(EncoderTextEmbedder(plain), unknown),
    ):
        with pytest.raises(ConfigError, match=r"toy/words .* is another encoder than the one"):
            wrapper.adapter = other
        assert wrapper.adapter is unknown


def test_what_adapts_is_found_in_lists_and_behind_methods(fused: Path) -> None:
    class Tower(Embeddings):
        """Embeds by what it holds in some way."""

        def __init__(self, held: object) -> None:
            self.held = held

        def embed_query(self, text: str) -> list[float]:
            raise NotImplementedError

        embed_documents = embed_query  # type: ignore[assignment]

    adapter = Adapter.from_bytes(linear_bytes(dim_in=DIM, dim_out=DIM_OUT))
    inner = EncoderEmbeddings(fused)
    for held in ([inner], {"query": inner}, inner.embed_query, (inner.embed_query,)):
        with pytest.raises(ConfigError, match="adapts its queries already"):
            AdaptedEmbeddings(Tower(held), adapter)


def test_a_cache_of_llama_index_does_not_mix_queries_with_texts(
    plain: Path, fused: Path, tmp_path: Path
) -> None:
    for file in (plain, fused):
        with pytest.raises(ConfigError, match="would give a query for a document"):
            EncoderEmbedding(file, embeddings_cache=SimpleKVStore())
        model = EncoderEmbedding(file)
        with pytest.raises(ConfigError, match="would give a query for a document"):
            model.embeddings_cache = SimpleKVStore()
    alike = tmp_path / "encoder.onnx"
    alike.write_bytes(words_bytes())
    model = EncoderEmbedding(alike, embeddings_cache=SimpleKVStore())
    assert near(model.get_query_embedding(QUERY), embed(QUERY))
    assert near(model.get_text_embedding(QUERY), embed(QUERY))


def test_llama_index(plain: Path, fused: Path) -> None:
    model = EncoderEmbedding(plain)
    assert near(model.get_query_embedding(QUERY), RAW)
    assert near(model.get_text_embedding_batch(DOCUMENTS), STORED)
    assert near(asyncio.run(model.aget_query_embedding(QUERY)), RAW)
    assert near(asyncio.run(model.aget_text_embedding_batch(DOCUMENTS)), STORED)
    assert model.model_name == "toy/words"
    again = EncoderEmbedding.from_dict(model.to_dict())
    assert near(again.get_query_embedding(QUERY), RAW)
    assert near(EncoderEmbedding(fused).get_query_embedding(QUERY), ADAPTED)
    with pytest.raises(ValueError, match="EncoderEmbedding"):
        load_embed_model({"class_name": "EncoderEmbedding"})  # LlamaIndex knows its own alone


def test_what_llama_index_is_sent_embeds_as_here_whatever_the_path_leads_to(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    file = tmp_path / "encoder.onnx"
    file.write_bytes(words_bytes(query_prefix="query ", document_prefix="passage "))
    adapter = Adapter.from_bytes(
        linear_bytes(dim_in=DIM, dim_out=DIM_OUT, encoder=replace(CARD, fingerprint=""))
    )
    named, in_memory = EncoderEmbedding(file), EncoderEmbedding(TextEncoder.load(file))
    sent = [pickle.dumps(each) for each in (named, in_memory, AdaptedEmbedding(named, adapter))]
    file.write_bytes(words_bytes(name="other"))
    for content, wanted in zip(sent, (RAW, RAW, ADAPTED), strict=True):
        again = pickle.loads(content)  # noqa: S301
        assert near(again.get_query_embedding(QUERY), wanted)
    assert near(copy.deepcopy(in_memory).get_query_embedding(QUERY), RAW)
    with pytest.raises(ModelError, match=f"toy/words@{in_memory.encoder.version}"):
        EncoderEmbedding.from_dict(in_memory.to_dict())


def test_haystack(plain: Path, fused: Path) -> None:
    queries, documents = EncoderTextEmbedder(fused), EncoderDocumentEmbedder(plain)
    assert near(queries.run(QUERY)["embedding"], ADAPTED)
    given = [Document(content=text, meta={"n": n}) for n, text in enumerate(DOCUMENTS)]
    found = documents.run(given)["documents"]
    assert near([each.embedding for each in found], STORED)
    assert [each.meta for each in found] == [{"n": 0}, {"n": 1}]
    assert given[0].embedding is None
    pipeline = Pipeline()
    pipeline.add_component("queries", queries)
    pipeline.add_component("documents", documents)
    allowed = ["trimtab.integrations.haystack"]
    again = Pipeline.loads(pipeline.dumps(), allowed_modules=allowed)
    answer = again.run({"queries": {"text": QUERY}, "documents": {"documents": given}})
    assert near(answer["queries"]["embedding"], ADAPTED)


@pytest.mark.parametrize("kind", [EncoderTextEmbedder, EncoderDocumentEmbedder])
def test_haystack_saves_no_encoder_that_came_without_a_path(plain: Path, kind: Any) -> None:
    with pytest.raises(ConfigError, match="toy/words was handed over in memory, so it can't be"):
        kind(TextEncoder.load(plain)).to_dict()


def test_fastembed_runs_the_file_itself(tmp_path: Path) -> None:
    file = tmp_path / "encoder.onnx"
    bare = words_bytes(fingerprint=CARD.fingerprint)
    file.write_bytes(fuse_adapter(bare, linear_bytes(dim_in=DIM, dim_out=DIM_OUT)))
    model = add_encoder("trimtab/words-adapted", file, tmp_path / "fastembed")
    texts = [QUERY, "money back", "how is my money"]
    wanted = np.stack([embed(text) for text in texts]) @ weight_of(DIM, DIM_OUT)
    assert near(list(model.query_embed(texts)), wanted)
    written = {each: each.read_bytes() for each in (tmp_path / "fastembed").iterdir()}
    file.write_bytes(words_bytes(dim=16))
    with pytest.raises(ConfigError, match="FastEmbed can't take model 'trimtab/words-adapted'"):
        add_encoder("trimtab/words-adapted", file, tmp_path / "fastembed")
    assert {each: each.read_bytes() for each in (tmp_path / "fastembed").iterdir()} == written


def test_qdrants_client_finds_the_file_by_its_folder(tmp_path: Path) -> None:
    (tmp_path / "encoder.onnx").write_bytes(words_bytes())
    add_encoder("trimtab/words-in-client", tmp_path, tmp_path / "fastembed")
    document = models.Document(
        text=QUERY,
        model="trimtab/words-in-client",
        options={"specific_model_path": str(tmp_path / "fastembed")},
    )
    client = QdrantClient(":memory:")
    distance = models.Distance.COSINE
    client.create_collection("c", vectors_config=models.VectorParams(size=DIM, distance=distance))
    client.upsert("c", [models.PointStruct(id=1, vector=embed(QUERY).tolist())])
    (found,) = client.query_points("c", query=document).points
    client.close()
    assert abs(found.score - 1) < 1e-5


def test_fastembed_would_leave_out_a_prefix(plain: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="puts 'query ' before queries"):
        add_encoder("trimtab/words-prefixed", plain, tmp_path / "fastembed")
