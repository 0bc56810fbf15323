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

import faiss
import numpy as np
import pytest

from tests.support.llm_endpoint import write_corpus
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
from trimtab_training.embeddings.store import Embeddings, VectorTable
from trimtab_training.errors import EncoderError
from trimtab_training.synthesis.candidates import Candidate
from trimtab_training.synthesis.corpus import Corpus
from trimtab_training.synthesis.round_trip import RoundTrip

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
        model: Which model answers, whatever the name in the request.
        dim: Values in an embedding, where the request does not say.
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
        self.model = ""
        self.dim = 4
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
        dim, model = body.get("dimensions", self.server.dim), self.server.model
        rows = [
            {
                "index": place,
                "embedding": [
                    self.server.scale * float(value) for value in vector_of(model + text, dim)
                ],
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


def check_rows(folder: Path, model: str = "", dim: int = 4) -> None:
    embeddings = Embeddings.open(folder)
    for table, texts in ((embeddings.documents, TEXTS), (embeddings.queries, QUESTIONS)):
        wanted = [vector_of(model + text, dim) for text in texts.values()]
        np.testing.assert_array_equal(table.matrix, wanted)


def embed(provider: Provider, dataset: Dataset, folder: Path, **options: Any) -> list[str]:
    """Embed by an encoder made for the purpose, as each command does; give what was told."""
    told: list[str] = []
    encoder = EndpointEncoder(provider.settings(), batch_size=3, n_workers=1)
    embed_dataset(dataset, encoder, folder, tell=told.append, **options)
    return told


def break_off(provider: Provider, dataset: Dataset, folder: Path, answered: int) -> None:
    """Embed until the endpoint refuses, after some answers."""
    provider.refuses_after = answered
    with pytest.raises(EncoderError, match="answered 401"):
        embed(provider, dataset, folder)
    provider.refuses_after = None


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
def test_second_run_after_a_refusal_pays_for_the_rest_and_one_text_of_each_kind_kept(
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
    paid_again = provider.paid - EACH_ONCE
    kinds = [text.split()[0] for text in paid_again.elements()]
    assert sorted(kinds) == ["document"] * (answered > 0) + ["query"] * (answered > 14)
    check_rows(tmp_path / "emb")


@pytest.mark.parametrize("answered", [1, 7, 15])
@pytest.mark.parametrize("other", [{"model": "another"}, {"dim": 5}], ids=["model", "width"])
def test_vectors_of_another_model_under_the_same_name_are_not_mixed(
    provider: Provider, dataset: Dataset, tmp_path: Path, answered: int, other: dict[str, Any]
) -> None:
    break_off(provider, dataset, tmp_path / "emb", answered)
    vars(provider).update(other)
    told = embed(provider, dataset, tmp_path / "emb")
    check_rows(tmp_path / "emb", **other)
    n_documents, n_queries = min(3 * answered, 40), max(answered - 14, 0) * 3
    counts = [f"{n_documents} documents"] + [f"{n_queries} queries"] * (n_queries > 0)
    assert [text.split(", but toy")[0] for text in told] == [
        f"an earlier run kept the vectors of {count}" for count in counts
    ]
    assert {path.name for path in tmp_path.iterdir()} == {"set", "emb"}


def test_vectors_that_differ_by_rounding_are_kept_without_a_word(
    provider: Provider, dataset: Dataset, tmp_path: Path
) -> None:
    break_off(provider, dataset, tmp_path / "emb", answered=7)
    provider.scale = 1.001
    assert embed(provider, dataset, tmp_path / "emb") == []
    assert provider.paid.total() == EACH_ONCE.total() + 1


def test_a_run_against_a_wrong_endpoint_costs_nothing_that_the_right_one_gave(
    provider: Provider, dataset: Dataset, tmp_path: Path
) -> None:
    break_off(provider, dataset, tmp_path / "emb", answered=10)
    provider.model = "wrong"
    break_off(provider, dataset, tmp_path / "emb", answered=4)  # one of them tells it
    provider.model = ""
    provider.paid.clear()
    assert embed(provider, dataset, tmp_path / "emb") == []
    check_rows(tmp_path / "emb")
    assert provider.paid.total() == EACH_ONCE.total() - 10 * 3 + 2  # one for each of the two


def test_what_was_kept_of_another_corpus_is_not_mixed_with_anothers_vectors(
    provider: Provider, dataset: Dataset, tmp_path: Path
) -> None:
    fresh = {f"e{n}": f"fresh {n}" for n in range(9)}
    other = Dataset.load(write_dataset(tmp_path / "set2", documents=fresh, queries=QUESTIONS))
    break_off(provider, other, tmp_path / "emb", answered=2)
    provider.model = "another"
    break_off(provider, dataset, tmp_path / "emb", answered=2)
    both = Dataset.load(
        write_dataset(tmp_path / "set3", documents=TEXTS | fresh, queries=QUESTIONS)
    )
    embed(provider, both, tmp_path / "emb")
    found = Embeddings.open(tmp_path / "emb").documents.matrix
    wanted = [vector_of("another" + text) for text in (TEXTS | fresh).values()]
    np.testing.assert_array_equal(found, wanted)


def test_queries_beside_stored_documents_are_paid_for_once(
    provider: Provider, dataset: Dataset, tmp_path: Path
) -> None:
    index = faiss.IndexFlatIP(4)
    index.add(np.stack([vector_of(text) for text in TEXTS.values()]))
    faiss.write_index(index, str(tmp_path / "stored.faiss"))
    (tmp_path / "stored.ids").write_text("".join(f"{name}\n" for name in TEXTS))
    source = f"faiss:{tmp_path / 'stored.faiss'}?ids={tmp_path / 'stored.ids'}"
    embed(provider, dataset, tmp_path / "emb", documents=source)
    assert provider.paid == Counter(QUESTIONS.values())
    check_rows(tmp_path / "emb")


def test_a_round_trip_takes_no_query_vectors_of_another_model(
    provider: Provider, tmp_path: Path
) -> None:
    corpus = Corpus.open(write_corpus(tmp_path / "corpus.jsonl", list(TEXTS.values())))
    candidates = [
        Candidate(f"q{n}", f"{text}?", f"d{n}", "question", "toy")
        for n, text in enumerate(TEXTS.values())
    ]
    told: list[str] = []
    for model in ("", "another"):
        provider.model = model
        rows = np.stack([vector_of(f"{model}{one.text}") for one in candidates])
        documents = VectorTable(list(TEXTS), rows, "documents")
        trip = RoundTrip(documents, EndpointEncoder(provider.settings()), 3, "cosine")
        trips = trip.send(candidates, corpus, tmp_path / "kept", tell=told.append)
        assert [one.rank for one in trips] == [1] * len(TEXTS)
    assert [text.split(", but toy")[0] for text in told] == [
        "an earlier run kept the vectors of 40 queries"
    ]


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
