"""An exchange in which something goes wrong that nobody has foreseen."""

from types import SimpleNamespace
from typing import Any

import pytest

from trimtab.server.request_head import read_head
from trimtab.server.rest.exchange import Exchange


class BrokenState:
    """Can't plan."""

    is_draining = False
    n_under_way = 0
    telemetry = SimpleNamespace(count=lambda *_: None)
    busy_poll = SimpleNamespace(arrived=lambda _: None, wait=lambda *_: None)

    @property
    def planner(self) -> Any:
        raise ZeroDivisionError

    def meter(self, kind: str) -> Any:
        return SimpleNamespace(whole=SimpleNamespace(add=lambda _: None))


class PlayedClient:
    """Notes what it gets."""

    is_writable = True

    def __init__(self) -> None:
        self.written = b""
        self.ended: list[bool] = []

    def write(self, data: bytes) -> None:
        self.written += data

    def exchange_ended(self, _: Exchange, *, keep_alive: bool) -> None:
        self.ended.append(keep_alive)

    def set_upstream_writable(self, *, writable: bool) -> None:
        """Never asked."""

    def abort(self) -> None:
        self.ended.append(False)


@pytest.mark.parametrize(
    ("method", "version", "has_body", "is_kept"),
    [
        (b"GET", "1.1", True, True),
        (b"HEAD", "1.1", False, True),
        (b"GET", "1.0", True, False),
    ],
)
def test_an_unforeseen_error_is_logged_and_answered(
    caplog: pytest.LogCaptureFixture, method: bytes, version: str, has_body: bool, is_kept: bool
) -> None:
    state: Any = BrokenState()
    client = PlayedClient()
    fields = [(b"Host", b"a"), (b"Connection", b"keep-alive")]
    exchange = Exchange(state, client, read_head(method, b"/a", fields, version))
    exchange.start_whole(b"")
    exchange.body_received(b"more")
    exchange.body_ended()

    head, _, body = client.written.partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 500 ")
    assert (b"connection: close" in head) is not is_kept
    assert bool(body) is has_body
    assert client.ended == [is_kept]
    assert state.n_under_way == 0
    assert "ZeroDivisionError" in caplog.text
