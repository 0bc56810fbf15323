"""The endpoint's encoder against a real server on this machine."""

import json
import random
import socket
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import numpy as np
import pytest

from trimtab.encoders import EndpointSettings, OpenAIEncoder
from trimtab.errors import DeadlineError, UnavailableError

Answer = tuple[int, dict[str, str], Any]
KEY = "sk-secret-key"


@dataclass
class Endpoint:
    """A server that gives prepared answers in turn, the last one ever after."""

    url: str = ""
    answers: list[Answer] = field(default_factory=list)
    seen: list[tuple[str, dict[str, str], dict[str, Any]]] = field(default_factory=list)
    hold: threading.Event | None = None

    def encoder(self, **settings: Any) -> OpenAIEncoder:
        """Make an encoder that notes its waits in ``slept`` instead of waiting."""
        self.slept: list[float] = []
        return OpenAIEncoder(
            EndpointSettings(**{"model": "small", "base_url": self.url, "retries": 2} | settings),
            sleep=self.slept.append,
            rng=random.Random(0),  # noqa: S311 - jitter, no secret
        )


@pytest.fixture
def endpoint() -> Iterator[Endpoint]:
    state = Endpoint()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        disable_nagle_algorithm = True  # else every answer waits 40 ms for an acknowledgement

        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            headers = {name.lower(): value for name, value in self.headers.items()}
            state.seen.append((self.path, headers, body))
            if state.hold is not None:
                state.hold.wait(timeout=30)
            status, extra, answer = state.answers[min(len(state.seen), len(state.answers)) - 1]
            content = answer if isinstance(answer, bytes) else json.dumps(answer).encode()
            self.send_response(status)
            for name, value in ({"Content-Length": str(len(content))} | extra).items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(content)

        def log_message(self, *arguments: object) -> None:
            """Stay quiet."""

    class Server(ThreadingHTTPServer):
        def handle_error(self, *arguments: object) -> None:
            """Say nothing where a client has hung up, as it does at a timeout."""

    with Server(("127.0.0.1", 0), Handler) as server:
        server.daemon_threads = True
        state.url = f"http://127.0.0.1:{server.server_address[1]}/v1"
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        yield state
        server.shutdown()
        thread.join()


def rows(*vectors: list[float], order: Callable[[list[Any]], Any] = list) -> Answer:
    """Answer these embeddings, in some order, with what a real endpoint adds."""
    data = [
        {"object": "embedding", "index": index, "embedding": vector}
        for index, vector in enumerate(vectors)
    ]
    return 200, {}, {"object": "list", "data": list(order(data)), "model": "small", "usage": {}}


def failure(status: int, **headers: str) -> Answer:
    """Answer with a failure."""
    return status, {name.replace("_", "-"): text for name, text in headers.items()}, {"error": "x"}


GOOD = rows([1.0, 2.0])


def test_encoder_asks_as_the_api_wants(endpoint: Endpoint) -> None:
    endpoint.answers = [rows([1.0, 2.0], [3.0, 4.0])]
    with endpoint.encoder(api_key=KEY) as encoder:
        matrix = encoder(("a", "ключ"))
    ((path, headers, body),) = endpoint.seen
    assert path == "/v1/embeddings"
    assert headers["authorization"] == f"Bearer {KEY}"
    assert headers["content-type"] == "application/json"
    assert body == {"model": "small", "input": ["a", "ключ"]}
    assert matrix.dtype == np.float32
    assert matrix.tolist() == [[1, 2], [3, 4]]


def test_encoder_sends_no_header_without_a_key(endpoint: Endpoint) -> None:
    endpoint.answers = [GOOD]
    with endpoint.encoder() as encoder:
        encoder(["a"])
    assert "authorization" not in endpoint.seen[0][1]


def test_encoder_asks_for_a_width_where_one_is_set(endpoint: Endpoint) -> None:
    endpoint.answers = [GOOD]
    endpoint.url += "/"
    with endpoint.encoder(dimensions=2) as encoder:
        encoder(["a"])
    assert endpoint.seen[0][0] == "/v1/embeddings"
    assert endpoint.seen[0][2]["dimensions"] == 2


def test_encoder_restores_the_order_of_the_texts(endpoint: Endpoint) -> None:
    endpoint.answers = [rows([0.0], [1.0], [2.0], [3.0], order=reversed)]
    with endpoint.encoder() as encoder:
        assert encoder(list("abcd")).ravel().tolist() == [0, 1, 2, 3]


@pytest.mark.parametrize("status", [408, 409, 429, 500, 502, 503, 504])
def test_encoder_tries_again_after_a_failure_that_may_pass(endpoint: Endpoint, status: int) -> None:
    endpoint.answers = [failure(status), failure(status), GOOD]
    with endpoint.encoder() as encoder:
        assert encoder(["a"]).tolist() == [[1, 2]]
    assert len(endpoint.seen) == 3
    assert len({json.dumps(body) for _, _, body in endpoint.seen}) == 1


def test_encoder_waits_longer_each_time(endpoint: Endpoint) -> None:
    endpoint.answers = [failure(503)] * 9 + [GOOD]
    with endpoint.encoder(retries=9) as encoder:
        encoder(["a"])
    steps = [min(60.0, 0.5 * 2**attempt) for attempt in range(9)]
    assert len(endpoint.slept) == 9
    for slept_s, step_s in zip(endpoint.slept, steps, strict=True):
        assert 0.5 * step_s <= slept_s <= 1.5 * step_s


@pytest.mark.parametrize(("asked", "waited"), [("7", 7.0), ("0", 0.0), ("1.5", 1.5), ("999", 120)])
def test_encoder_waits_as_long_as_it_is_told(endpoint: Endpoint, asked: str, waited: float) -> None:
    endpoint.answers = [failure(429, Retry_After=asked), GOOD]
    with endpoint.encoder() as encoder:
        encoder(["a"])
    assert endpoint.slept == [waited]


def test_encoder_waits_until_a_date_but_not_for_hours(endpoint: Endpoint) -> None:
    in_an_hour = format_datetime(datetime.now(UTC) + timedelta(hours=1), usegmt=True)
    endpoint.answers = [failure(429, Retry_After=in_an_hour), GOOD]
    with endpoint.encoder() as encoder:
        encoder(["a"])
    assert endpoint.slept == [120.0]


def test_encoder_waits_its_own_time_where_none_can_be_read(endpoint: Endpoint) -> None:
    endpoint.answers = [failure(429, Retry_After="soon"), GOOD]
    with endpoint.encoder() as encoder:
        encoder(["a"])
    assert 0.25 <= endpoint.slept[0] <= 0.75


@pytest.mark.parametrize("asked", ["-1", "nan", "-inf"])
def test_encoder_never_waits_a_time_that_is_none(endpoint: Endpoint, asked: str) -> None:
    endpoint.answers = [failure(429, Retry_After=asked), GOOD]
    with endpoint.encoder() as encoder:
        encoder(["a"])
    assert 0 <= endpoint.slept[0] <= 120


def test_encoder_gives_up_after_the_last_retry(endpoint: Endpoint) -> None:
    endpoint.answers = [failure(503)]
    with (
        endpoint.encoder() as encoder,
        pytest.raises(UnavailableError, match=r"/v1/embeddings answered 503: .*error"),
    ):
        encoder(["a"])
    assert len(endpoint.seen) == 3
    assert len(endpoint.slept) == 2


@pytest.mark.parametrize("status", [301, 400, 401, 403, 404, 413, 422, 501])
def test_encoder_takes_a_refusal_as_final(endpoint: Endpoint, status: int) -> None:
    endpoint.answers = [failure(status)]
    with (
        endpoint.encoder(api_key=KEY) as encoder,
        pytest.raises(UnavailableError, match=f"answered {status}") as caught,
    ):
        encoder(["a"])
    assert len(endpoint.seen) == 1
    assert not endpoint.slept
    assert KEY not in str(caught.value)


def test_encoder_shows_little_of_a_long_refusal(endpoint: Endpoint) -> None:
    endpoint.answers = [(400, {}, b"x" * 100_000)]
    with endpoint.encoder() as encoder, pytest.raises(UnavailableError) as caught:
        encoder(["a"])
    assert len(str(caught.value)) < 400


def test_encoder_names_the_time_that_ran_out(endpoint: Endpoint) -> None:
    endpoint.answers, endpoint.hold = [GOOD], threading.Event()
    try:
        with (
            endpoint.encoder(timeout_s=0.05) as encoder,
            pytest.raises(DeadlineError, match=r"no answer within 0\.05 s, 3 times"),
        ):
            encoder(["a"])
    finally:
        endpoint.hold.set()
    assert len(endpoint.slept) == 2


def test_encoder_says_that_nobody_listens() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))  # bound, never listening: every connection is refused
        nobody = Endpoint(f"http://127.0.0.1:{taken.getsockname()[1]}/v1")
        with nobody.encoder() as encoder, pytest.raises(UnavailableError, match="can't reach"):
            encoder(["a"])
    assert len(nobody.slept) == 2


@pytest.mark.parametrize("content", [b"", b"<html>busy</html>", b"{", b"\xff\xfe"])
def test_encoder_refuses_an_answer_that_is_not_json(endpoint: Endpoint, content: bytes) -> None:
    endpoint.answers = [(200, {}, content)]
    with endpoint.encoder() as encoder, pytest.raises(UnavailableError, match="not JSON"):
        encoder(["a"])


@pytest.mark.parametrize(
    "answer",
    [
        [],
        {},
        None,
        {"data": None},
        {"data": 3},
        {"data": ["a"]},
        {"data": [{"index": 0}]},
        {"data": [{"embedding": [1.0]}]},
        {"data": [{"index": 0, "embedding": None}]},
        {"data": [{"index": 0, "embedding": ["a"]}]},
        {"data": [{"index": 0, "embedding": "AACAPwAAAEA="}]},
        {"data": [{"index": None, "embedding": [1.0]}]},
        {"data": [{"index": 0, "embedding": [1.0]}, {"index": "1", "embedding": [1.0]}]},
        {"data": [{"index": 0, "embedding": [1.0]}, {"index": 1, "embedding": [1.0, 2.0]}]},
    ],
)
def test_encoder_refuses_an_answer_without_embeddings(endpoint: Endpoint, answer: Any) -> None:
    endpoint.answers = [(200, {}, answer)]
    with endpoint.encoder() as encoder, pytest.raises(UnavailableError, match="embeddings"):
        encoder(["a"])


@pytest.mark.parametrize("indices", [[], [0], [0, 1, 2], [0, 0], [1, 2], [0, 2], [-1, 0]])
def test_encoder_counts_the_embeddings(endpoint: Endpoint, indices: list[int]) -> None:
    data = [{"index": index, "embedding": [1.0]} for index in indices]
    endpoint.answers = [(200, {}, {"data": data})]
    wanted = f"answered {len(indices)} embeddings for 2 texts"
    with endpoint.encoder() as encoder, pytest.raises(UnavailableError, match=wanted):
        encoder(["a", "b"])


def test_encoder_refuses_an_answer_that_cannot_be_unpacked(endpoint: Endpoint) -> None:
    endpoint.answers = [(200, {"Content-Encoding": "gzip"}, b"no gzip")]
    with endpoint.encoder() as encoder, pytest.raises(UnavailableError):
        encoder(["a"])


@pytest.mark.parametrize(
    "content",
    [b'{"data": [{"index": 0, "embedding": [1%s]}]}' % (b"0" * 400), b"[" * 100_000],
)
def test_encoder_refuses_an_answer_that_python_chokes_on(
    endpoint: Endpoint, content: bytes
) -> None:
    endpoint.answers = [(200, {}, content)]
    with endpoint.encoder() as encoder, pytest.raises(UnavailableError):
        encoder(["a"])


def test_encoder_serves_several_threads(endpoint: Endpoint) -> None:
    endpoint.answers = [GOOD]
    found: list[list[list[float]]] = []
    with endpoint.encoder() as encoder:
        threads = [
            threading.Thread(target=lambda: found.append(encoder(["a"]).tolist())) for _ in range(8)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(timeout=30)
    assert found == [[[1.0, 2.0]]] * 8
