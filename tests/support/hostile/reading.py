"""A strict reader of HTTP/1.1 requests (RFC 9112): what bytes mean, or that they mean nothing.

It is used twice: on what a hostile client sends, to know which requests a proxy may pass on, and on
what arrives at the upstream, to know that no reader could see another request in it. Where the RFC
lets a reader choose, this one refuses. For what a client sends it can be ``lenient`` about what a
proxy that writes its own heads loses on the way: empty lines before a request, spaces in its first
line, trailers with any name.
"""

import re
from dataclasses import dataclass, field

Fields = list[tuple[bytes, bytes]]

_TOKEN = rb"[!#$%&'*+\-.^_`|~0-9A-Za-z]+"
_REQUEST_LINE = re.compile(rb"(%b) ([\x21-\x7e\x80-\xff]+) HTTP/1\.([01])" % _TOKEN)
_SPACED_LINE = re.compile(rb"(%b) +([\x21-\x7e\x80-\xff]+) +HTTP/1\.([01])" % _TOKEN)
_FIELD = re.compile(rb"(%b):[ \t]*([\t\x20-\x7e\x80-\xff]*?)[ \t]*" % _TOKEN)
_CHUNK_SIZE = re.compile(rb"(0*[0-9A-Fa-f]{1,15})(?:[ \t]*;[\t\x20-\x7e\x80-\xff]*)?")
_FRAMING = {b"transfer-encoding", b"content-length", b"host", b"trailer", b"connection"}


class UnreadableError(Exception):
    """No reader may take this for a request."""


@dataclass(frozen=True)
class IncompleteError(Exception):
    """More bytes are needed: the whole must have at least ``wanted``."""

    wanted: int


@dataclass(frozen=True)
class Request:
    """One request; ``body`` without its framing, ``end`` where the next one starts."""

    method: bytes
    target: bytes
    fields: Fields
    body: bytes
    end: int
    is_last: bool
    is_10: bool = False

    def values(self, name: bytes) -> list[bytes]:
        return [value for known, value in self.fields if known.lower() == name]


@dataclass
class Reading:
    """What a stream of bytes says: requests, then what is wrong with the rest.

    ``fault`` is empty where nothing is wrong; ``is_cut`` means that the last request lacks its end;
    ``is_over`` that a request ended the connection, so that nothing after it counts;
    ``is_rest_for_head`` that the rest begins as a request of HEAD does.
    """

    requests: list[Request] = field(default_factory=list)
    fault: str = ""
    is_cut: bool = False
    is_over: bool = False
    is_rest_for_head: bool = False


def read_stream(data: bytes) -> Reading:
    """Read all requests that a client sent, leniently."""
    reading = Reading()
    at = 0
    while at < len(data) and not reading.is_over:
        while data[at : at + 1] in {b"\r", b"\n"}:
            at += 1
        if at == len(data):
            break
        try:
            request = read_request(data, at, lenient=True)
        except UnreadableError as error:
            reading.fault = str(error)
            reading.is_rest_for_head = data.startswith(b"HEAD ", at)
            break
        except IncompleteError:
            reading.is_cut = True
            reading.is_rest_for_head = data.startswith(b"HEAD ", at)
            break
        reading.requests.append(request)
        reading.is_over = request.is_last
        at = request.end
    return reading


def read_request(data: bytes, start: int = 0, *, lenient: bool = False) -> Request:
    """Read one request.

    Raises:
        UnreadableError: It is none.
        IncompleteError: It may become one.
    """
    head_end = data.find(b"\r\n\r\n", start)
    lines = data[start : head_end if head_end >= 0 else len(data)].split(b"\r\n")
    if head_end < 0:
        if not lenient:
            _check_partial(lines)
        raise IncompleteError(len(data) + 1)
    line = (_SPACED_LINE if lenient else _REQUEST_LINE).fullmatch(lines[0])
    if line is None:
        raise UnreadableError("request line")
    method, target, minor = line.groups()
    fields = _read_fields(lines[1:])
    _check_meaning(method, fields)
    body, end = _read_body(data, head_end + 4, fields, minor, lenient)
    options = b",".join(v for n, v in fields if n.lower() == b"connection").lower()
    is_last = b"close" in options or (minor == b"0" and b"keep-alive" not in options)
    return Request(method, target, fields, body, end, is_last, minor == b"0")


def _check_partial(lines: list[bytes]) -> None:
    """Refuse a head whose finished lines are wrong already."""
    if len(lines) > 1:
        if _REQUEST_LINE.fullmatch(lines[0]) is None:
            raise UnreadableError("request line")
        _read_fields(lines[1:-1])


def _read_fields(lines: list[bytes]) -> Fields:
    fields = []
    for line in lines:
        match = _FIELD.fullmatch(line)
        if match is None:
            raise UnreadableError("header field")
        fields.append((match[1], match[2]))
    return fields


def _check_meaning(method: bytes, fields: Fields) -> None:
    names = [name.lower() for name, _ in fields]
    if names.count(b"host") > 1:
        raise UnreadableError("several Host fields")
    if method == b"CONNECT":
        raise UnreadableError("CONNECT turns the connection into a tunnel")


def _read_body(
    data: bytes, start: int, fields: Fields, minor: bytes, lenient: bool
) -> tuple[bytes, int]:
    lengths = [value for name, value in fields if name.lower() == b"content-length"]
    codings = [value for name, value in fields if name.lower() == b"transfer-encoding"]
    if codings:
        if lengths or len(codings) > 1 or codings[0].lower() != b"chunked" or minor == b"0":
            raise UnreadableError("transfer coding")
        return _read_chunks(data, start, lenient)
    if not lengths:
        return b"", start
    if len(lengths) > 1 or re.fullmatch(rb"[0-9]{1,18}", lengths[0]) is None:
        raise UnreadableError("content length")
    end = start + int(lengths[0])
    if end > len(data):
        raise IncompleteError(end)
    return data[start:end], end


def _read_chunks(data: bytes, at: int, lenient: bool) -> tuple[bytes, int]:
    chunks = []
    while True:
        line, at = _read_line(data, at)
        size_match = _CHUNK_SIZE.fullmatch(line)
        if size_match is None:
            raise UnreadableError("chunk size")
        size = int(size_match[1], 16)
        if size == 0:
            break
        if at + size + 2 > len(data):
            if data[at + size : at + size + 2] not in {b"", b"\r"}:
                raise UnreadableError("chunk end")
            raise IncompleteError(at + size + 2)
        if data[at + size : at + size + 2] != b"\r\n":
            raise UnreadableError("chunk end")
        chunks.append(data[at : at + size])
        at += size + 2
    while True:
        line, at = _read_line(data, at)
        if not line:
            return b"".join(chunks), at
        if {name.lower() for name, _ in _read_fields([line])} & _FRAMING and not lenient:
            raise UnreadableError("framing in a trailer")


def _read_line(data: bytes, at: int) -> tuple[bytes, int]:
    end = data.find(b"\r\n", at)
    if end < 0:
        rest = data[at:]
        if b"\n" in rest or b"\r" in rest[:-1]:
            raise UnreadableError("bare CR or LF")
        raise IncompleteError(len(data) + 1)
    return data[at:end], end + 2
