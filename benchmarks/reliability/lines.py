"""A caller's connection, over REST or gRPC: asks a prepared request and reads what came of it."""

import contextlib
import json
import ssl
from dataclasses import dataclass
from typing import Any, Protocol

import grpc
from qdrant_client import grpc as messages

from benchmarks.reliability.world import Prepared
from tests.support.raw_http import connect
from tests.support.ways import Authority, Way

MARK = "x-trimtab-adapter"
_PATIENCE_S = 30.0
ALONE = (
    ("grpc.use_local_subchannel_pool", 1),  # a connection of its own
    ("grpc.ssl_target_name_override", "localhost"),
)
_ANSWERS: dict[str, Any] = {
    "Query": messages.QueryResponse,
    "QueryBatch": messages.QueryBatchResponse,
    "Scroll": messages.ScrollResponse,
    "Upsert": messages.PointsOperationResponse,
}


class FailedError(Exception):
    """Something else came than a good answer."""


@dataclass(frozen=True)
class Answer:
    """A good answer.

    Attributes:
        result: Of REST, or of gRPC in the same form.
        mark: Of the adapters that were used; empty for none.
    """

    result: Any
    mark: str


class Line(Protocol):
    """A connection."""

    def ask(self, request: Prepared) -> Answer:
        """Ask.

        Raises:
            FailedError: It was not answered well.
        """

    def leave(self, request: Prepared) -> None:
        """Ask and go away before the answer."""

    def close(self) -> None:
        """End."""


class RestLine:
    """A connection of HTTP/1.1."""

    def __init__(self, address: tuple[str, int], context: ssl.SSLContext | None) -> None:
        """Connect.

        Raises:
            OSError: That failed.
        """
        self._wire = connect(address, context)

    def ask(self, request: Prepared) -> Answer:
        """Ask."""
        try:
            answer = self._wire.ask(request.data)
        except (OSError, ValueError) as error:
            raise FailedError(repr(error)) from error
        if answer.status != 200:
            raise FailedError(f"{answer.start}: {answer.body[:200]!r}")
        return Answer(json.loads(answer.body)["result"], answer.value(MARK))

    def leave(self, request: Prepared) -> None:
        """Ask and go away."""
        self._wire.send(request.data)

    def close(self) -> None:
        """End."""
        self._wire.close()


class GrpcLine:
    """A channel with a connection of its own."""

    def __init__(self, address: tuple[str, int], authority: Authority | None) -> None:
        """Connect when the first call is made."""
        target = f"{address[0]}:{address[1]}"
        if authority is None:
            self._channel = grpc.insecure_channel(target, options=ALONE)
        else:
            trusted = grpc.ssl_channel_credentials(authority.pem)
            self._channel = grpc.secure_channel(target, trusted, options=ALONE)

    def ask(self, request: Prepared) -> Answer:
        """Ask."""
        asks = self._channel.unary_unary(f"/qdrant.Points/{request.method}")
        try:
            content, call = asks.with_call(request.message, timeout=_PATIENCE_S)
        except grpc.RpcError as error:
            raise FailedError(f"{error.code()}: {error.details()}") from error
        mark = dict(call.trailing_metadata() or ()).get(MARK, "")
        return Answer(read_result(request.method, content), str(mark))

    def leave(self, request: Prepared) -> None:
        """Ask and go away."""
        asks = self._channel.unary_unary(f"/qdrant.Points/{request.method}")
        asks.future(request.message, timeout=_PATIENCE_S).cancel()

    def close(self) -> None:
        """End."""
        with contextlib.suppress(grpc.RpcError):
            self._channel.close()


def open_line(way: Way, address: tuple[str, int], authority: Authority) -> Line:
    """Connect in a way.

    Raises:
        OSError: That failed.
    """
    if way.protocol == "rest":
        return RestLine(address, authority.context if way.is_tls else None)
    return GrpcLine(address, authority if way.is_tls else None)


def read_result(method: str, content: bytes) -> Any:
    """Read a message as REST writes the same answer; a scroll's as it is, without its time."""
    answer = _ANSWERS[method].FromString(content)
    if method == "Query":
        return {"points": _points(answer.result)}
    if method == "QueryBatch":
        return [{"points": _points(each.result)} for each in answer.result]
    answer.ClearField("time")
    return answer.SerializeToString(deterministic=True)


def _points(points: Any) -> list[dict[str, Any]]:
    return [{"id": point.id.num, "score": point.score} for point in points]
