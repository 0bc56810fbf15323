"""An OpenAI-compatible LLM endpoint over real sockets that follows a script, faults included."""

import json
import re
import socket
import threading
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

Mood = Callable[["Exchange"], None]
_DOCUMENT = re.compile(r"<document>\n(.*?)\n</document>", re.DOTALL)
_WANTED = re.compile(r"JSON array of (\d+) strings")
PATIENCE_S = 120


class Exchange(BaseHTTPRequestHandler):
    """One request, and the ways to answer it."""

    protocol_version = "HTTP/1.1"
    server: "LlmEndpoint"
    body: dict[str, Any]

    def do_POST(self) -> None:
        self.body = json.loads(self.rfile.read(int(self.headers["content-length"])))
        self.server.take(self)

    def send(
        self, status: int, content: bytes, headers: Mapping[str, str] | None = None, short: int = 0
    ) -> None:
        """Send an answer; ``short`` bytes fewer than promised."""
        self.server.leave(self)  # before the client can know of it, and ask the next
        self.send_response(status)
        for name, value in (headers or {}).items():
            self.send_header(name, value)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(content) + short))
        self.end_headers()
        self.wfile.write(content)
        self.close_connection = bool(short)

    def reply(self, text: Any, *, finish: str = "stop", **more: Any) -> bytes:
        """Give a reply as an endpoint writes it, and count its tokens."""
        is_chat = self.path.endswith("/chat/completions")
        message = {"role": "assistant", "content": text, **more}
        choice = {"message": message} if is_chat else {"text": text}
        usage = {"prompt_tokens": 10, "completion_tokens": 5, "total_tokens": 15}
        record = {"choices": [{**choice, "finish_reason": finish}], "usage": usage, "model": "toy"}
        return json.dumps(record).encode()

    @property
    def prompt(self) -> str:
        """Give the prompt, whichever API it came by."""
        return (
            self.body["messages"][-1]["content"] if "messages" in self.body else self.body["prompt"]
        )

    @property
    def document(self) -> str:
        """Give the text of the document that is asked about."""
        found = _DOCUMENT.search(self.prompt)
        if found:
            return found[1]
        return self.prompt.rpartition("Text: ")[2].removesuffix("\nQuery:")

    def log_message(self, *_: Any) -> None:
        """Say nothing."""


class LlmEndpoint(ThreadingHTTPServer):
    """The endpoint.

    Attributes:
        moods: How to answer the next requests; in a good mood once they are used up.
        default: How to answer then.
        paid: How often each prompt was answered with status 200.
        bodies: Every request's body, in the order in which they came.
        keys: Every authorization header that came.
        most_at_once: The most requests that were under way at the same time.
        came: Set whenever a request has come.
        release: What moods that wait wait for.
    """

    daemon_threads = True
    block_on_close = False

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Exchange)
        self.lock = threading.Lock()
        self.moods: list[Mood] = []
        self.default: Mood = good
        self.paid: Counter[str] = Counter()
        self.bodies: list[dict[str, Any]] = []
        self.keys: set[str | None] = set()
        self.under_way: set[Exchange] = set()
        self.most_at_once = 0
        self.came = threading.Semaphore(0)
        self.release = threading.Event()

    @property
    def url(self) -> str:
        """Give the base URL."""
        return f"http://127.0.0.1:{self.server_port}/v1"

    def take(self, exchange: Exchange) -> None:
        """Answer one request by the script."""
        with self.lock:
            mood = self.moods.pop(0) if self.moods else self.default
            self.bodies.append(exchange.body)
            self.keys.add(exchange.headers["authorization"])
            self.under_way.add(exchange)
            self.most_at_once = max(self.most_at_once, len(self.under_way))
        self.came.release()
        try:
            mood(exchange)
        except (BrokenPipeError, ConnectionResetError):
            pass  # the client had enough
        finally:
            self.leave(exchange)

    def leave(self, exchange: Exchange) -> None:
        """Count a request as under way no longer."""
        with self.lock:
            self.under_way.discard(exchange)

    def pay(self, exchange: Exchange) -> None:
        """Note that a prompt was answered."""
        with self.lock:
            self.paid[exchange.prompt] += 1

    def handle_error(self, *_: Any) -> None:
        """Say nothing when a client goes away."""


@contextmanager
def running_endpoint() -> Iterator[LlmEndpoint]:
    """Run an endpoint."""
    with LlmEndpoint() as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            yield server
        finally:
            server.release.set()
            server.shutdown()
            thread.join()


def queries_about(document: str, n: int) -> list[str]:
    """Write queries that are no copies: the document's last word, said in another way each time."""
    ways = ("where would I read about {}", "my problem with {} explained", "buy {} cheaply online")
    word = document.rsplit(maxsplit=1)[-1].strip(".")
    return [ways[at % 3].format(word) + " again" * (at // 3) for at in range(n)]


def good(exchange: Exchange) -> None:
    """Answer as asked."""
    exchange.server.pay(exchange)
    wanted = _WANTED.search(exchange.prompt)
    if wanted:
        text = json.dumps(queries_about(exchange.document, int(wanted[1])))
    else:
        text = " " + queries_about(exchange.document, 1)[0]
    exchange.send(200, exchange.reply(text))


def says(text: Any, **how: Any) -> Mood:
    """Answer with a text of one's own."""

    def mood(exchange: Exchange) -> None:
        exchange.server.pay(exchange)
        exchange.send(200, exchange.reply(text, **how))

    return mood


def status(code: int, message: str = "not now", **headers: str) -> Mood:
    """Answer with a status and an error message; ``_`` in header names stands for ``-``."""
    content = json.dumps({"error": {"message": message}}).encode()
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return lambda exchange: exchange.send(code, content, named)


def with_headers(**headers: str) -> Mood:
    """Answer as asked, with further headers."""
    named = {name.replace("_", "-"): value for name, value in headers.items()}

    def mood(exchange: Exchange) -> None:
        exchange.server.pay(exchange)
        text = json.dumps(queries_about(exchange.document, 3))
        exchange.send(200, exchange.reply(text), named)

    return mood


def raw(content: bytes) -> Mood:
    """Answer 200 with any bytes."""
    return lambda exchange: exchange.send(200, content)


def cut_short(exchange: Exchange) -> None:
    """Promise more than comes, then close."""
    exchange.send(200, exchange.reply("[]"), short=100)


def closes(exchange: Exchange) -> None:
    """Close the connection without an answer."""
    exchange.connection.shutdown(socket.SHUT_RDWR)
    exchange.close_connection = True


def hangs(exchange: Exchange) -> None:
    """Do not answer until the test ends."""
    exchange.server.release.wait()
    exchange.close_connection = True


def waits_then_good(exchange: Exchange) -> None:
    """Answer once the test says so; where it never does, all are answered, and it fails by that."""
    if not exchange.server.release.wait(PATIENCE_S):
        exchange.server.release.set()
    good(exchange)


def endless(exchange: Exchange) -> None:
    """Send without end."""
    exchange.send_response(200)
    exchange.send_header("content-type", "application/json")
    exchange.end_headers()
    exchange.close_connection = True
    block = b" " * 65536
    while not exchange.server.release.is_set():
        exchange.wfile.write(block)


def write_corpus(path: Any, texts: Sequence[str]) -> Any:
    """Write a corpus file: ids d0, d1, ..."""
    records = [{"_id": f"d{n}", "title": "", "text": text} for n, text in enumerate(texts)]
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(record) + "\n" for record in records), encoding="utf-8")
    return path
