"""How an answer is written: as it comes from Qdrant, from an index, or as an error."""

from typing import Any, Protocol

from trimtab.errors import BusyError, SidecarError
from trimtab.faiss_collections.replies import Reply
from trimtab.server.request_head import MARK, RequestHead
from trimtab.server.shadow import Capture
from trimtab.upstream.http1 import (
    LAST_CHUNK,
    Fields,
    chunk,
    encode_head,
    end_to_end,
    error_reply,
    reply,
    status_line,
)
from trimtab.upstream.rest_connection import AnswerHead

_LENGTH = frozenset({b"content-length"})
"""An interim answer and one of 204 have none: RFC 9110, 8.6."""


class Client(Protocol):
    """The connection that an exchange belongs to."""

    def write(self, data: bytes) -> None:
        """Send (a piece of) the answer."""

    @property
    def is_writable(self) -> bool:
        """Tell whether the client keeps up."""

    def set_upstream_writable(self, *, writable: bool) -> None:
        """Read more of the request's body, or not for now."""

    def exchange_ended(self, exchange: Any, *, keep_alive: bool) -> None:
        """The answer is whole."""

    def abort(self) -> None:
        """Break the connection."""


class Answer:
    """The answer to one request, on its way to the client.

    Attributes:
        has_begun: True once a part of it is sent.
        keep_alive: True where the client's connection is to stay open.
        mark: Of the adapters that were used, or empty.
        watch: Sees the answer pass by, where it is to be compared.
        status: Of the answer.
    """

    has_begun = False
    mark = b""
    capture: Capture | None = None
    status = 0
    _is_answer_chunked = False

    def __init__(self, client: Client, head: RequestHead) -> None:
        """Write nothing yet.

        Args:
            client: Who gets it.
            head: Of the request.
        """
        self._client = client
        self._head = head
        self.keep_alive = head.keep_alive

    @property
    def takes_plain(self) -> bool:
        """Tell whether an answer's head may come unread."""
        return self.capture is None and not self._head.is_for_head

    def pass_interim(self, head: AnswerHead) -> None:
        """Pass on a head of 1xx."""
        if not self._head.is_http_10:
            fields = end_to_end(head.fields, without=_LENGTH)
            self._client.write(encode_head(status_line(head.status, head.reason), fields))

    def begin(self, head: AnswerHead, *, keep_alive: bool) -> None:
        """Pass on the head of Qdrant's answer."""
        self.status = head.status
        fields = end_to_end(head.fields, without=_LENGTH if head.status == 204 else frozenset())
        if self.mark:
            fields.append((MARK, self.mark))
        if head.is_chunked:
            self._frame(fields)
        self.keep_alive = self.keep_alive and keep_alive
        if not self.keep_alive:
            fields.append((b"connection", b"close"))
        elif self._head.is_http_10:
            fields.append((b"connection", b"keep-alive"))
        if self.capture is not None:
            self.capture.head_received(head)
        self._write(encode_head(status_line(head.status, head.reason), fields))

    def give_plain(self, head: bytes, body: bytes, *, keep_alive: bool) -> None:
        """Pass on an answer of 200 that is whole, its head in one piece without its end."""
        self.status = 200
        self.keep_alive = keep_alive
        if self.mark:
            head = b"%b%b: %b\r\n" % (head, MARK, self.mark)
        if not keep_alive:
            head += b"connection: close\r\n"
        elif self._head.is_http_10:
            head += b"connection: keep-alive\r\n"
        self._write(b"%b\r\n%b" % (head, body))

    def _frame(self, fields: Fields) -> None:
        """Say where an answer ends whose length is not known."""
        if self._head.is_http_10:
            self.keep_alive = False
        else:
            self._is_answer_chunked = True
            fields.append((b"transfer-encoding", b"chunked"))

    def pass_data(self, data: bytes) -> None:
        """Pass on a piece of the answer."""
        if self.capture is not None:
            self.capture.data_received(data)
        self._client.write(chunk(data) if self._is_answer_chunked else data)

    def end(self) -> None:
        """Pass on the end of the answer."""
        if self._is_answer_chunked:
            self._client.write(LAST_CHUNK)
        if self.capture is not None:
            self.capture.answer_ended()

    def give_reply(self, answered: Reply, *, keep_alive: bool) -> None:
        """Write an index's answer."""
        self.status = answered.status
        if self.capture is not None:
            self.capture.head_received(AnswerHead(answered.status, b"", [], is_chunked=False))
            self.capture.data_received(answered.body)
            self.capture.answer_ended()
        fields = [*answered.fields, (MARK, self.mark)] if self.mark else list(answered.fields)
        if keep_alive and self._head.is_http_10:
            fields.append((b"connection", b"keep-alive"))
        self._write(
            reply(
                answered.status,
                answered.body,
                answered.content_type.encode(),
                keep_alive=keep_alive,
                fields=fields,
                is_bodiless=self._head.is_for_head,
            )
        )

    def give_error(self, status: int, error: SidecarError) -> None:
        """Write an error of the sidecar's own; one that passes says when to come again."""
        self.status = status
        fields: Fields = []
        if isinstance(error, BusyError):
            fields.append((b"retry-after", b"%d" % error.retry_after_s))
        self.keep_alive = self.keep_alive and not self._head.is_http_10
        self._write(
            error_reply(
                status,
                str(error),
                keep_alive=self.keep_alive,
                fields=fields,
                is_bodiless=self._head.is_for_head,
            )
        )

    def _write(self, data: bytes) -> None:
        """Begin the answer."""
        self.has_begun = True
        self._client.write(data)
