"""Encoders as they are: an endpoint over real sockets, and the packaged model on this machine."""

import json
import os
import signal
import threading
from collections import Counter
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.support.sets import vector_of, write_dataset
from trimtab.encoders import EndpointSettings, OpenAIEncoder
from trimtab.errors import UnavailableError
from trimtab_training.data.dataset import Dataset
from trimtab_training.embeddings.embed import embed_dataset
from trimtab_training.embeddings.encoders import EndpointEncoder
from trimtab_training.embeddings.local_encoder import (
    MINILM_NAME,
    MINILM_SHA256,
    LocalEncoder,
    packaged_minilm,
)
from trimtab_training.embeddings.store import Embeddings
from trimtab_training.errors import EncoderError

UNIT_TOLERANCE = 1e-5  # float32 keeps seven digits, and a norm adds up 384 squares
BATCH_TOLERANCE = 1e-5  # padding changes the order of sums, not what is summed


class Provider(ThreadingHTTPServer):
    """An OpenAI-compatible endpoint with the moods of a real one.

    Attributes:
        paid: How often each text was embedded in a request that was answered.
        moods: Statuses to answer the next requests with; 200 once they are used up.
        retry_after: The header of a 429 or 500 that says when to come again.
        refuses_after: Requests that are answered before every other gets a 401.
        scale: What every value of an embedding is multiplied by.
        bodies: Every request that was answered.
        callers: The connection that each of them came on.
    """

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Answer)
        self.lock = threading.Lock()
        self.paid: Counter[str] = Counter()
        self.moods: list[int] = []
        self.retry_after = ("retry-after", "0")
        self.refuses_after: int | None = None
        self.scale = 1.0
        self.bodies: list[dict[str, Any]] = []
        self.callers: list[Any] = []
        self.keys: set[str | None] = set()

    def settings(self, **options: Any) -> EndpointSettings:
        return EndpointSettings("toy", f"http://127.0.0.1:{self.server_port}/v1", **options)


class _Answer(BaseHTTPRequestHandler):
    server: Provider

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["content-length"])))
        with self.server.lock:
            status = self.server.moods.pop(0) if self.server.moods else 200
            if self.server.refuses_after is not None:
                status = 200 if self.server.refuses_after > 0 else 401
                self.server.refuses_after -= 1
            self.server.keys.add(self.headers["authorization"])
            if status == 200:
                self.server.paid.update(body["input"])
                self.server.bodies.append(body)
                self.server.callers.append(self.client_address)
        dim = body.get("dimensions", 4)
        rows = [
            {
                "index": place,
                "embedding": [self.server.scale * float(value) for value in vector_of(text, dim)],
            }
            for place, text in enumerate(body["input"])
        ]
        rows = rows[1::2] + rows[::2]  # out of order, as the protocol allows
        answer = {"data": rows} if status == 200 else {"error": {"message": "not now"}}
        content = json.dumps(answer).encode()
        self.send_response(status)
        if status in {429, 500}:
            self.send_header(*self.server.retry_after)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, *_: Any) -> None:
        """Say nothing."""


@pytest.fixture
def provider() -> Iterator[Provider]:
    with Provider() as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield server
        server.shutdown()
        thread.join()


TEXTS = {f"d{n}": f"document {n}" for n in range(40)}
QUESTIONS = {f"q{n}": f"query {n}" for n in range(10)}
EACH_ONCE = Counter([*TEXTS.values(), *QUESTIONS.values()])


@pytest.fixture
def dataset(tmp_path: Path) -> Dataset:
    return Dataset.load(write_dataset(tmp_path / "set", documents=TEXTS, queries=QUESTIONS))


def check_rows(folder: Path) -> None:
    embeddings = Embeddings.open(folder)
    for table, texts in ((embeddings.documents, TEXTS), (embeddings.queries, QUESTIONS)):
        wanted = [vector_of(text) for text in texts.values()]
        np.testing.assert_array_equal(table.matrix, wanted)


def test_every_text_is_paid_for_once_by_several_workers(
    provider: Provider, dataset: Dataset, tmp_path: Path
) -> None:
    encoder = EndpointEncoder(provider.settings(api_key="secret"), batch_size=3, n_workers=4)
    embed_dataset(dataset, encoder, tmp_path / "emb")
    assert provider.paid == EACH_ONCE
    assert provider.keys == {"Bearer secret"}
    assert max(len(body["input"]) for body in provider.bodies) == 3
    check_rows(tmp_path / "emb")


@pytest.mark.parametrize(
    ("header", "wanted_s"),
    [
        (("retry-after", "7"), 7.0),
        (("retry-after-ms", "250"), 0.25),
        (("retry-after", "Wed, 25 Nov 2020 04:00:30 GMT"), 0.0),
    ],
)
def test_the_endpoint_says_how_long_to_wait(
    provider: Provider, header: tuple[str, str], wanted_s: float
) -> None:
    provider.moods, provider.retry_after = [429], header
    waits: list[float] = []
    with OpenAIEncoder(provider.settings(), sleep=waits.append) as encode:
        assert encode(["a"]).shape == (1, 4)
    assert waits == [wanted_s]


def test_rate_limits_and_failures_that_pass_cost_nothing_twice(
    provider: Provider, dataset: Dataset, tmp_path: Path
) -> None:
    provider.moods = [429, 200, 500, 429, 200, 200, 500, 429, 429, 200, 500]
    encoder = EndpointEncoder(provider.settings(), batch_size=3, n_workers=4)
    embed_dataset(dataset, encoder, tmp_path / "emb")
    assert provider.moods == []
    assert provider.paid == EACH_ONCE
    check_rows(tmp_path / "emb")


@pytest.mark.parametrize("n_workers", [1, 4])
@pytest.mark.parametrize("answered", [0, 1, 7, 15])
def test_second_run_after_a_refusal_pays_only_for_the_rest(
    provider: Provider, dataset: Dataset, tmp_path: Path, n_workers: int, answered: int
) -> None:
    provider.refuses_after = answered
    encoder = EndpointEncoder(provider.settings(), batch_size=3, n_workers=n_workers)
    with pytest.raises(EncoderError, match=r"answered 401: .*not now"):
        embed_dataset(dataset, encoder, tmp_path / "emb")
    assert len(provider.bodies) == answered
    assert not (tmp_path / "emb").exists()
    provider.refuses_after = None
    again = EndpointEncoder(provider.settings(), batch_size=3, n_workers=n_workers)
    embed_dataset(dataset, again, tmp_path / "emb")
    assert provider.paid == EACH_ONCE
    check_rows(tmp_path / "emb")


def test_failure_that_lasts_is_reported_after_the_last_try(provider: Provider) -> None:
    provider.moods = [429] * 10
    encoder = EndpointEncoder(provider.settings(retries=2))
    with pytest.raises(EncoderError, match="answered 429"):
        encoder.encode(["a"])
    assert len(provider.moods) == 7


def test_width_that_is_asked_for_is_sent(provider: Provider) -> None:
    encoder = EndpointEncoder(provider.settings(dimensions=6))
    assert encoder.encode(["a", "b", "c"]).shape == (3, 6)
    assert provider.bodies == [{"model": "toy", "input": ["a", "b", "c"], "dimensions": 6}]


def test_a_password_in_the_address_is_sent_and_never_shown(
    provider: Provider, caplog: pytest.LogCaptureFixture
) -> None:
    url = f"http://me:s3cret@127.0.0.1:{provider.server_port}/v1"
    provider.moods = [200, 403]
    with caplog.at_level("DEBUG"), OpenAIEncoder(EndpointSettings("toy", url)) as encode:
        encode(["a"])
        assert provider.keys == {"Basic bWU6czNjcmV0"}
        with pytest.raises(UnavailableError, match=r"/v1/embeddings answered 403") as refused:
            encode(["a"])
    provider.shutdown()
    provider.server_close()
    settings = EndpointSettings("toy", url, retries=0)
    with OpenAIEncoder(settings) as encode, pytest.raises(UnavailableError) as unreached:
        encode(["a"])
    said = [str(refused.value), str(unreached.value), repr(settings), caplog.text]
    assert not [text for text in said if "s3cret" in text]


def test_values_past_float32_are_infinite_without_a_warning(provider: Provider) -> None:
    provider.scale = 1e300
    assert not np.isfinite(EndpointEncoder(provider.settings()).encode(["a"])).any()


def test_endpoint_that_is_not_there_is_an_encoder_error(provider: Provider) -> None:
    settings = provider.settings(retries=0)
    provider.shutdown()
    provider.server_close()
    with pytest.raises(EncoderError, match="can't reach http://127"):
        EndpointEncoder(settings).encode(["a"])


@pytest.mark.skipif(not hasattr(os, "fork"), reason="forks")
@pytest.mark.filterwarnings("ignore:.*use of fork:DeprecationWarning")
def test_a_forked_process_asks_on_a_connection_of_its_own(
    provider: Provider, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(_Answer, "protocol_version", "HTTP/1.1")  # which keeps connections
    with OpenAIEncoder(provider.settings()) as encode:
        encode(["parent"])
        child = os.fork()
        if child == 0:
            signal.alarm(60)
            try:
                encode(["child"])
            finally:
                os._exit(0)
        os.waitpid(child, 0)
        encode(["parent"])
    assert [body["input"] for body in provider.bodies] == [["parent"], ["child"], ["parent"]]
    before, in_child, after = provider.callers
    assert before == after != in_child


# The packaged MiniLM


@pytest.fixture(scope="module")
def minilm() -> LocalEncoder:
    return packaged_minilm()


def test_packaged_model_is_the_original_release(minilm: LocalEncoder) -> None:
    assert minilm.name == MINILM_NAME
    assert minilm.fingerprint == f"sha256:{MINILM_SHA256}"


def test_packaged_model_gives_unit_vectors_that_mean_something(minilm: LocalEncoder) -> None:
    vectors = minilm.encode(["runny nose", "rhinorrhea, a discharge from the nose", "tax law"])
    assert vectors.dtype == np.float32
    assert vectors.shape == (3, 384)
    np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1.0, atol=UNIT_TOLERANCE)
    assert vectors[0] @ vectors[1] > vectors[0] @ vectors[2] + 0.2


def test_packaged_model_gives_the_same_every_time(minilm: LocalEncoder) -> None:
    texts = ["runny nose", "a much longer text about something else altogether", ""]
    first, second = minilm.encode(texts), minilm.encode(texts)
    np.testing.assert_array_equal(first, second)
    alone = np.concatenate([minilm.encode([text]) for text in texts])
    np.testing.assert_allclose(alone, first, atol=BATCH_TOLERANCE)


def test_local_batches_cover_every_text_once_within_their_budget(minilm: LocalEncoder) -> None:
    rng = np.random.default_rng(0)
    texts = ["word " * int(n) for n in rng.integers(0, 400, size=300)]
    limit = minilm.max_tokens
    assert limit is not None
    lengths = [min(limit, len(text.split()) + 2) for text in texts]  # [CLS], a token a word, [SEP]
    batches = list(minilm.batches(texts))
    assert sorted(place for batch in batches for place in batch) == list(range(len(texts)))
    for batch in batches:
        assert len(batch) * max(lengths[place] for place in batch) <= 2048
    assert len(batches) < 60  # 300 texts of 130 tokens on average: 20 batches at the least
    assert list(minilm.batches([])) == []


def test_prefixes_change_a_local_models_fingerprint_and_no_text(minilm: LocalEncoder) -> None:
    prefixed = packaged_minilm(query_prefix="query: ")
    assert prefixed.fingerprint != minilm.fingerprint
    np.testing.assert_array_equal(prefixed.encode(["a text"]), minilm.encode(["a text"]))
