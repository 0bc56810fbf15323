"""The sidecar's encoders by OpenAI's API, for its official client, and before FAISS files."""

import gzip
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import openai
import pytest

from tests.support.faiss_collections import build_index, vectors_of, write_collection
from tests.support.onnx_models import CARD, linear_bytes, weight_of
from tests.support.sidecar import Sidecar, running_sidecar
from tests.support.sidecar_world import new_client
from tests.support.tiny_encoder import embed, words_bytes
from trimtab.encoders import EndpointSettings, OpenAIEncoder
from trimtab_training.export.fused_encoder import fuse_adapter

DIM, DIM_OUT = 8, 5
TEXTS = ["how do i cancel", "money back", ""]
PREFIXES = {"query_prefix": "query ", "document_prefix": "passage "}


@pytest.fixture(scope="module")
def sidecar(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Sidecar]:
    folder: Path = tmp_path_factory.mktemp("embeddings")
    plain = words_bytes(fingerprint=CARD.fingerprint, **PREFIXES)
    (folder / "plain.onnx").write_bytes(plain)
    fused = fuse_adapter(plain, linear_bytes(dim_in=DIM, dim_out=DIM_OUT))
    (folder / "fused.onnx").write_bytes(fused)
    (folder / "adapter.onnx").write_bytes(linear_bytes(dim_in=DIM, dim_out=DIM))
    papers = write_collection(folder, build_index("Flat", vectors_of(50, DIM)))
    config = folder / "sidecar.toml"
    config.write_text(
        f"""
[[collection]]
name = "papers"
index = "{papers.index}"
[[route]]
collection = "papers"
adapter = "adapter.onnx"
[[encoder]]
model = "toy/plain"
file = "plain.onnx"
[[encoder]]
model = "toy/fused"
file = "fused.onnx"
[[encoder]]
model = "toy/guarded"
file = "plain.onnx"
token_env = "TEXT_KEYS"
"""
    )
    with running_sidecar(config=config, env={"TEXT_KEYS": "a-key"}) as running:
        yield running


@pytest.fixture(scope="module")
def client(sidecar: Sidecar) -> Iterator[openai.OpenAI]:
    with openai.OpenAI(base_url=f"{sidecar.rest_url}/v1", api_key="none", max_retries=0) as made:
        yield made


def rows(answer: openai.types.CreateEmbeddingResponse) -> np.ndarray:
    return np.array([each.embedding for each in answer.data], dtype=np.float32)


def prefixed(prefix: str) -> np.ndarray:
    return np.stack([embed(prefix + text) for text in TEXTS])


def test_the_official_client_gets_embeddings(client: openai.OpenAI) -> None:
    answer = client.embeddings.create(model="toy/plain", input=TEXTS)  # base64, by default
    assert np.abs(rows(answer) - prefixed("")).max() < 1e-6
    assert answer.usage.prompt_tokens == 4 + 2 + 0
    assert [each.index for each in answer.data] == [0, 1, 2]
    plain = client.embeddings.create(model="Toy/Plain", input=TEXTS[0], encoding_format="float")
    assert np.array_equal(rows(plain)[0], rows(answer)[0])


def test_a_guarded_encoder_is_for_whoever_brings_its_key(
    sidecar: Sidecar, client: openai.OpenAI
) -> None:
    with pytest.raises(openai.AuthenticationError, match="whoever brings a key of this encoder"):
        client.embeddings.create(model="toy/guarded", input=TEXTS)
    assert not [each.id for each in client.models.list() if "guarded" in each.id]
    with openai.OpenAI(base_url=f"{sidecar.rest_url}/v1", api_key="a-key") as admitted:
        answer = admitted.embeddings.create(model="toy/guarded", input=TEXTS)
        names = {each.id for each in admitted.models.list()}
    assert np.abs(rows(answer) - prefixed("")).max() < 1e-6
    assert {"toy/guarded", "toy/guarded:document", "toy/plain"} <= names


def test_each_name_says_what_is_done(client: openai.OpenAI) -> None:
    documents = client.embeddings.create(model="toy/plain:document", input=TEXTS)
    assert np.abs(rows(documents) - prefixed("passage ")).max() < 1e-6
    queries = client.embeddings.create(model="toy/fused:query", input=TEXTS)
    wanted = prefixed("query ") @ weight_of(DIM, DIM_OUT)
    assert np.abs(rows(queries) - wanted).max() < 1e-5
    assert (
        np.abs(rows(client.embeddings.create(model="toy/fused", input=TEXTS)) - prefixed("")).max()
        < 1e-6
    )


def test_the_models_are_listed(client: openai.OpenAI) -> None:
    assert [model.id for model in client.models.list()] == [
        *("toy/plain", "toy/plain:document"),
        *("toy/fused", "toy/fused:document", "toy/fused:query"),
    ]


def test_our_own_client_of_such_endpoints_gets_them(sidecar: Sidecar) -> None:
    settings = EndpointSettings(model="toy/plain:document", base_url=f"{sidecar.rest_url}/v1")
    with OpenAIEncoder(settings) as encoder:
        assert np.abs(encoder(TEXTS) - prefixed("passage ")).max() < 1e-6


@pytest.mark.parametrize(
    ("change", "status", "told"),
    [
        ({"model": "no/such"}, 404, "no model 'no/such' here; there are: toy/plain, "),
        ({"model": "toy/plain:query"}, 404, "no adapter stands behind 'toy/plain'"),
        ({"model": "toy/plain:other"}, 404, "no model 'toy/plain:other' here"),
        ({"model": None}, 400, "the body names no model"),
        ({"input": [[1, 2]]}, 400, "token ids are not taken here"),
        ({"input": []}, 400, "input is no text"),
        ({"input": None}, 400, "input is no text"),
        ({"input": ["a"] * 2049}, 400, "2049 texts; at most 2048"),
        ({"dimensions": []}, 400, "dimensions is []; this model gives 8"),
        ({"input": "a" * 262_145}, 413, "more than 262144 letters"),
        ({"dimensions": 4}, 400, "dimensions is 4; this model gives 8"),
        ({"encoding_format": "hex"}, 400, "expected float or base64"),
    ],
)
def test_what_cannot_be_answered_is_said(
    sidecar: Sidecar, change: dict[str, object], status: int, told: str
) -> None:
    body = {"model": "toy/plain", "input": "money", **change}
    with new_client(sidecar.rest_url) as http:
        answer = http.post("/v1/embeddings", json=body)
    assert answer.status_code == status
    assert told in answer.json()["error"]["message"]


def test_what_is_no_request_is_said(sidecar: Sidecar) -> None:
    with new_client(sidecar.rest_url) as http:
        assert http.post("/v1/embeddings", content=b"{").status_code == 400
        assert http.get("/v1/embeddings").status_code == 405
        packed = {"content-encoding": "rot13"}
        assert http.post("/v1/embeddings", content=b"{}", headers=packed).status_code == 415
        assert http.post("/v1/embeddings", json={"model": "toy/plain", "input": "a"}).is_success


def test_a_body_that_is_too_large_is_refused_as_openai_does(client: openai.OpenAI) -> None:
    with pytest.raises(openai.APIStatusError, match="more than 33554432 bytes") as raised:
        client.embeddings.create(model="toy/plain", input=["a" * 262_144] * 130)
    assert raised.value.status_code == 413
    assert client.embeddings.create(model="toy/plain", input="money back").data


def test_an_index_is_asked_by_text(sidecar: Sidecar) -> None:
    def ask(http: httpx.Client, query: object) -> list[tuple[object, float]]:
        answer = http.post("/collections/papers/points/query", json={"query": query, "limit": 5})
        assert answer.status_code == 200, answer.text
        return [
            (point["id"], round(point["score"], 4)) for point in answer.json()["result"]["points"]
        ]

    with new_client(sidecar.rest_url) as http:
        text = {"text": "money back", "model": "toy/plain"}
        by_text = ask(http, text)
        packed = gzip.compress(json.dumps({"query": text, "limit": 5}).encode())
        answer = http.post(
            "/collections/papers/points/query",
            content=packed,
            headers={"content-encoding": "gzip"},
        )
        assert [point["id"] for point in answer.json()["result"]["points"]] == [
            point for point, _ in by_text
        ]
        assert by_text == ask(http, embed("query money back").tolist())


VECTOR = [0.5] * DIM
ALIKE = json.dumps(VECTOR)


@pytest.mark.parametrize(
    "body",
    [
        f'{{"limit": 4, "query": {ALIKE}, "query": {ALIKE}}}',
        f'{{"limit": 4, "using": "", "using": null, "query": {ALIKE}}}',
        f'{{"limit": 4, "query": {json.dumps([True, *VECTOR[1:]])}}}',
        f'{{"query": {ALIKE}, "prefetch": {{"query": {ALIKE}, "query": {ALIKE}}}}}',
    ],
)
def test_no_query_goes_to_an_index_raw_because_it_is_malformed(sidecar: Sidecar, body: str) -> None:
    with new_client(sidecar.rest_url) as http:
        answer = http.post("/collections/papers/points/query", content=body)
        assert (answer.status_code, "names each field once" in answer.text) == (400, True)
        good = http.post("/collections/papers/points/query", json={"query": VECTOR})
        assert good.status_code == 200


@pytest.mark.parametrize(
    "more",
    [
        {"params": {"exact": "false"}},
        {"query": {"nearest": VECTOR, "mmr": {"candidates_limit": -4}}},
        {"query": {"nearest": VECTOR, "mmr": {"candidates_limit": 2.7}}},
    ],
)
def test_an_index_refuses_what_is_of_another_type(sidecar: Sidecar, more: dict[str, Any]) -> None:
    with new_client(sidecar.rest_url) as http:
        answer = http.post("/collections/papers/points/query", json={"query": VECTOR, **more})
    assert answer.status_code in {400, 422}, answer.text


def test_without_qdrant_nobody_is_asked_about_aliases(sidecar: Sidecar) -> None:
    with new_client(sidecar.rest_url) as http:
        answer = http.post("/collections/nobody/points/query", json={"query": VECTOR})
    assert answer.status_code == 404
    assert "aliases" not in sidecar.log()
