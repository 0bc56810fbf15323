"""Heads of requests, and those that are refused because two readers may read them in two ways.

Whoever smuggles a request hides it in bytes that a proxy and the server behind it read differently:
two lengths, both framings, a coding besides ``chunked``, a control character in a field, a target
with a fragment.

Source: RFC 9112, sections 3.2, 6.1, 6.3 and 11.2.
"""

import re
from dataclasses import dataclass

from sidecar.http1 import Fields, encode_head, end_to_end
from sidecar.routes import MARK_HEADER

_CONTROL = re.compile(rb"[\x00-\x08\x0a-\x1f\x7f]")
_LENGTH = re.compile(rb"[0-9]{1,18}")
_ONCE = {b"host", b"content-length", b"transfer-encoding", b"upgrade", b"content-encoding"}


_REWRITTEN = frozenset({b"content-length", b"content-encoding", b"expect"})
MARK = MARK_HEADER.encode()


class Refusal(Exception):  # raised through the parser, and answered
    """A request that is not read to its end."""

    def __init__(self, status: int, message: str) -> None:
        """Say how it is answered."""
        super().__init__(message)
        self.status = status
        self.message = message


@dataclass(slots=True)
class RequestHead:
    """The head of a request; kept and used again where the same bytes come once more.

    Attributes:
        method: As it was written.
        target: Path and query.
        fields: Header fields as they came.
        values: The first value of each, by its name in lower case.
        keep_alive: True where the client wants the connection to stay open.
        is_http_10: True for a client that knows no chunked bodies.
        adapted_prefix: The head to send on with an adapted body, up to the fields that differ from
            request to request; made once.
    """

    method: bytes
    target: bytes
    fields: Fields
    values: dict[bytes, bytes]
    keep_alive: bool
    is_http_10: bool
    adapted_prefix: bytes = b""

    @property
    def is_chunked(self) -> bool:
        """Tell whether the body comes in chunks."""
        return b"transfer-encoding" in self.values

    @property
    def length(self) -> int:
        """Give the length of a body that does not."""
        return int(self.values.get(b"content-length", b"0"))

    @property
    def framing(self) -> bytes:
        """Give the field that says how long the body is; empty where there is none."""
        if self.is_chunked:
            return b"Transfer-Encoding: chunked"
        return b"Content-Length: %d" % self.length if self.length else b""

    def renamed(self, request: bytes, host: bytes) -> bytes:
        """Name another host in the encoded request: the one that TLS is spoken with."""
        own = self.values.get(b"host")
        if own is None:
            return request
        return request.replace(b": %b\r\n" % own, b": %b\r\n" % host, 1)

    def encode(self, fields: Fields) -> bytes:
        """Write it with other fields."""
        return encode_head(b"%b %b HTTP/1.1" % (self.method, self.target), fields)

    def encode_adapted(self, mark: bytes, length: int) -> bytes:
        """Write it for a body that was changed."""
        if not self.adapted_prefix:
            fields = end_to_end(self.fields, without=_REWRITTEN)
            self.adapted_prefix = self.encode(fields).removesuffix(b"\r\n")
        return b"%b%b: %b\r\ncontent-length: %d\r\n\r\n" % (
            self.adapted_prefix,
            MARK,
            mark,
            length,
        )


def index_fields(fields: Fields) -> dict[bytes, bytes]:
    """Give the first value of each field by its name in lower case.

    Raises:
        Refusal: One that says how the request is read stands twice.
    """
    values: dict[bytes, bytes] = {}
    for name, value in fields:
        key = name.lower()
        if key not in values:
            values[key] = value
        elif key in _ONCE:
            raise Refusal(400, f"{key.decode()} stands twice")
    return values


def check_head(head: RequestHead, version: str) -> None:
    """Refuse a head that two readers may read in two ways.

    Raises:
        Refusal: With what is wrong.
    """
    values = head.values
    if _CONTROL.search(b"".join(values.values())) or _has_hidden_control(head):
        raise Refusal(400, "a header field holds a control character")
    if version != "1.1":
        _check_old(version, values)
    elif b"host" not in values:
        raise Refusal(400, "the request has no Host")
    if not head.target.startswith(b"/") or b"#" in head.target or head.method == b"CONNECT":
        _check_target(head)
    if b"transfer-encoding" in values:
        _check_coding(values)
    elif b"content-length" in values and not _LENGTH.fullmatch(values[b"content-length"]):
        raise Refusal(400, "Content-Length is no number that a body can have")
    if b"upgrade" in values:
        _check_upgrade(values[b"upgrade"])


def _has_hidden_control(head: RequestHead) -> bool:
    """Look for control characters in fields that stand twice."""
    return len(head.values) != len(head.fields) and any(
        _CONTROL.search(value) for _, value in head.fields
    )


def _check_old(version: str, values: dict[bytes, bytes]) -> None:
    """Refuse what is neither HTTP/1.1 nor an HTTP/1.0 that we can read."""
    if version != "1.0":
        raise Refusal(505, "HTTP/1.1 is served here")
    if b"transfer-encoding" in values:
        raise Refusal(400, "HTTP/1.0 has no Transfer-Encoding")


def _check_target(head: RequestHead) -> None:
    """Refuse what is no path."""
    if head.method == b"CONNECT":
        raise Refusal(501, "CONNECT is not served; this is no forward proxy")
    if head.target != b"*" or head.method != b"OPTIONS":
        raise Refusal(400, "the request's target is no path")


def _check_coding(values: dict[bytes, bytes]) -> None:
    """Refuse every framing but one."""
    if values[b"transfer-encoding"].strip().lower() != b"chunked":
        raise Refusal(501, "transfer codings besides chunked are not served")
    if b"content-length" in values:
        raise Refusal(400, "both Content-Length and Transfer-Encoding")


def _check_upgrade(value: bytes) -> None:
    """Refuse another protocol.

    An offer of HTTP/2 without TLS may be ignored, and is: Java's client makes it every time.
    """
    if any(each.strip().lower() != b"h2c" for each in value.split(b",")):
        raise Refusal(501, "connection upgrades are not served; Qdrant has none")
