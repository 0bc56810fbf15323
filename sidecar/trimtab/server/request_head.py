"""Heads of requests, and those that are refused because two readers may read them in two ways.

Whoever smuggles a request hides it in bytes that a proxy and the server behind it read differently:
two lengths, both framings, a coding besides ``chunked``, a control character in a field, a target
with a fragment or a user.

Source: RFC 9110, sections 4.2 and 7.2; RFC 9112, sections 3.2, 6.1, 6.3, 9.3 and 11.2.
"""

import re
from dataclasses import dataclass, replace

from trimtab.routing.routes import MARK_HEADER
from trimtab.upstream.http1 import (
    Fields,
    connection_options,
    encode_head,
    end_to_end,
    split_absolute,
)

_CONTROL = re.compile(rb"[\x00-\x08\x0a-\x1f\x7f]")
_LENGTH = re.compile(rb"[0-9]{1,18}")
_NO_HOST = re.compile(rb"[\s/?#@\\\"<>]")  # what no name or address of a host can hold
_HOST_LINE = re.compile(rb"(\r\nhost: )[^\r]*", re.IGNORECASE)
_ONCE = {b"host", b"content-length", b"transfer-encoding", b"content-encoding"}

_EXPECT = frozenset({b"expect"})
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

    def has_short_body(self, most_bytes: int) -> bool:
        """Tell whether a body of a known, small length comes without being asked for."""
        return 0 < self.length <= most_bytes and b"expect" not in self.values

    @property
    def is_for_head(self) -> bool:
        """Tell whether the answer has no body, whatever its head says."""
        return self.method == b"HEAD"

    @property
    def lacks_host(self) -> bool:
        """Tell whether the client has named no host, as one of HTTP/1.0 may."""
        return self.is_http_10 and not self.values[b"host"]

    def renamed(self, request: bytes, host: bytes) -> bytes:
        """Name another host in the encoded request: the one that it goes to."""
        return _HOST_LINE.sub(lambda line: line[1] + host, request, count=1)

    def encode_streamed(self) -> bytes:
        """Write it for a body that is passed on as it comes."""
        fields = end_to_end(self.fields)
        if self.is_chunked:
            fields.append((b"transfer-encoding", b"chunked"))
        return self._encode(fields)

    def encode_whole(self, length: int) -> bytes:
        """Write it for a body that is whole, and as it came."""
        fields = end_to_end(self.fields, without=_EXPECT)
        if self.is_chunked:
            fields.append((b"content-length", b"%d" % length))
        return self._encode(fields)

    def _encode(self, fields: Fields) -> bytes:
        """Write it with other fields."""
        return encode_head(b"%b %b HTTP/1.1" % (self.method, self.target), fields)

    def without_coding(self) -> "RequestHead":
        """Give it for a body that is packed no more."""
        if b"content-encoding" not in self.values:
            return self
        fields = [field for field in self.fields if field[0].lower() != b"content-encoding"]
        values = {key: value for key, value in self.values.items() if key != b"content-encoding"}
        return replace(self, fields=fields, values=values, adapted_prefix=b"")

    def encode_changed(self, length: int) -> bytes:
        """Write it for a body that was changed, and holds no adapted query."""
        fields = end_to_end(self.fields, without=_REWRITTEN)
        return self._encode([*fields, (b"content-length", b"%d" % length)])

    def encode_adapted(self, mark: bytes, length: int) -> bytes:
        """Write it for a body that was changed."""
        if not self.adapted_prefix:
            fields = end_to_end(self.fields, without=_REWRITTEN)
            self.adapted_prefix = self._encode(fields).removesuffix(b"\r\n")
        return b"%b%b: %b\r\ncontent-length: %d\r\n\r\n" % (
            self.adapted_prefix,
            MARK,
            mark,
            length,
        )


def read_head(method: bytes, target: bytes, fields: Fields, version: str) -> RequestHead:
    """Make a head of what the parser has found, in the form in which it goes on.

    A target that names its host is cut to its path, and that host takes the place of ``Host``.

    Raises:
        Refusal: It can be read in two ways, or is not served.
    """
    values = index_fields(fields)
    head = RequestHead(
        method, target, fields, values, _keeps_alive(version, values, fields), version == "1.0"
    )
    absolute = None if target.startswith(b"/") else split_absolute(target)
    if absolute is not None:
        _take_authority(head, *absolute)
    check_head(head, version)
    if head.is_http_10 and b"host" not in values:
        fields.append((b"Host", b""))  # HTTP/1.1 must have one
        values[b"host"] = b""
    return head


def _keeps_alive(version: str, values: dict[bytes, bytes], fields: Fields) -> bool:
    """Tell whether the client wants the connection to stay open."""
    value = values.get(b"connection")
    if value is None:
        return version != "1.0"
    if len(values) == len(fields) and value.lower() == b"keep-alive":  # what most clients say
        return True
    options = connection_options(fields)
    return b"close" not in options and (version != "1.0" or b"keep-alive" in options)


def _take_authority(head: RequestHead, authority: bytes, path: bytes) -> None:
    """Put a target in absolute form into origin form."""
    if not authority or b"@" in authority:
        raise Refusal(400, "the request's target names no host, or a user with it")
    if not path:
        head.target = b"*" if head.method == b"OPTIONS" else b"/"
    else:
        head.target = path if path.startswith(b"/") else b"/" + path
    if b"host" in head.values:
        head.fields[:] = [
            (name, authority if name.lower() == b"host" else value) for name, value in head.fields
        ]
    elif head.is_http_10:
        head.fields.append((b"Host", authority))
    else:
        return  # which HTTP/1.1 does not allow
    head.values[b"host"] = authority


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
    if _NO_HOST.search(values.get(b"host", b"")):
        raise Refusal(400, "Host holds what no host's name can")
    if not head.target.startswith(b"/") or b"#" in head.target or head.method == b"CONNECT":
        _check_target(head)
    if b"transfer-encoding" in values:
        _check_coding(values)
    elif b"content-length" in values and not _LENGTH.fullmatch(values[b"content-length"]):
        raise Refusal(400, "Content-Length is no number that a body can have")


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
    if values[b"transfer-encoding"].lower() != b"chunked":
        raise Refusal(501, "transfer codings besides chunked are not served")
    if b"content-length" in values:
        raise Refusal(400, "both Content-Length and Transfer-Encoding")
