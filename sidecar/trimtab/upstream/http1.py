"""HTTP/1.1 messages as the sidecar passes them on: heads, framing, content codings.

Parsing is httptools' (llhttp, as in Node.js); this module holds what a proxy must know beyond it.
Fields keep their order and spelling; only those that concern one connection are dropped.

Source: RFC 9110 (semantics) and RFC 9112 (messages).
"""

import json
import re
import zlib
from collections.abc import Callable, Sequence
from http import HTTPStatus

from trimtab.errors import MalformedError, MissingExtraError, TooLargeError

Field = tuple[bytes, bytes]
Fields = list[Field]
"""Header fields in order, names as they were written."""

_CONNECTION_FIELDS = frozenset(
    {
        b"connection",
        b"keep-alive",
        b"proxy-connection",
        b"te",
        b"trailer",
        b"transfer-encoding",
        b"upgrade",
        b"http2-settings",
    }
)
"""Fields that concern one connection only: RFC 9110, 7.6.1."""

_NEVER_DROPPED = frozenset(
    {
        b"host",
        b"content-length",
        b"content-type",
        b"content-encoding",
        b"authorization",
        b"api-key",
        b"x-trimtab-adapter",
        b"",
    }
)
"""Fields that ``Connection`` may not switch off: how a message is framed and read, and who asks."""
_ZSTD_STEP = 256
"""Bytes given to the decompressor at once: it has no limit, and may make 128 KiB of four."""
_PLAIN_CONNECTION = {b"keep-alive", b"close"}
_ABSOLUTE = re.compile(rb"https?://([^/?#]*)(.*)", re.IGNORECASE | re.DOTALL)

LAST_CHUNK = b"0\r\n\r\n"


def field_of(fields: Fields, name: bytes) -> bytes | None:
    """Give the first field of a name (lower case), or None."""
    for key, value in fields:
        if key.lower() == name:
            return value
    return None


def end_to_end(fields: Fields, *, without: frozenset[bytes] = frozenset()) -> Fields:
    """Drop the fields that concern one connection, those that ``Connection`` names, and others.

    Args:
        fields: As they came.
        without: Names (lower case) of others to drop.
    """
    dropped = _CONNECTION_FIELDS | without if without else _CONNECTION_FIELDS
    kept = []
    for field in fields:
        name = field[0].lower()
        if name not in dropped:
            kept.append(field)
        elif name == b"connection" and field[1].lower() not in _PLAIN_CONNECTION:
            named = connection_options(fields) - _NEVER_DROPPED
            return end_to_end(_without_connection(fields), without=without | named)
    return kept


def connection_options(fields: Fields) -> frozenset[bytes]:
    """Give the names in every ``Connection``, in lower case."""
    values = b",".join(value for name, value in fields if name.lower() == b"connection")
    return frozenset(word.strip().lower() for word in values.split(b","))


def _without_connection(fields: Fields) -> Fields:
    """Drop ``Connection`` itself."""
    return [field for field in fields if field[0].lower() != b"connection"]


def encode_head(first_line: bytes, fields: Fields) -> bytes:
    """Write a head: its first line, its fields, and the empty line."""
    lines = [first_line, *[b"%b: %b" % field for field in fields], b"\r\n"]
    return b"\r\n".join(lines)


def chunk(data: bytes) -> bytes:
    """Write one chunk of a chunked body."""
    return b"%x\r\n%b\r\n" % (len(data), data)


def split_absolute(target: bytes) -> tuple[bytes, bytes] | None:
    """Take a target in absolute form apart.

    Returns:
        Authority, and path with query, which may be empty; None for a target in another form.

    Source:
        RFC 3986, section 3.2: the authority ends before the next slash, question mark or number
        sign, or with the target.
    """
    match = _ABSOLUTE.fullmatch(target)
    return None if match is None else (match[1], match[2])


def status_line(status: int, reason: bytes | None = None) -> bytes:
    """Write a status line."""
    if status == 200 and reason == b"OK":
        return b"HTTP/1.1 200 OK"
    if reason is None:
        try:
            reason = HTTPStatus(status).phrase.encode()
        except ValueError:
            reason = b""
    return b"HTTP/1.1 %d %b" % (status, reason)


def error_reply(
    status: int,
    message: str,
    *,
    keep_alive: bool,
    fields: Sequence[Field] = (),
    is_bodiless: bool = False,
) -> bytes:
    """Write a whole answer of the sidecar's own, in the shape of Qdrant's errors."""
    content = {"status": {"error": f"trimtab: {message}"}, "result": None, "time": 0.0}
    return reply(
        status,
        json.dumps(content).encode(),
        b"application/json",
        keep_alive=keep_alive,
        fields=fields,
        is_bodiless=is_bodiless,
    )


def reply(
    status: int,
    body: bytes,
    content_type: bytes,
    *,
    keep_alive: bool,
    fields: Sequence[Field] = (),
    is_bodiless: bool = False,
) -> bytes:
    """Write a whole answer of the sidecar's own.

    Args:
        status: Its number.
        body: What it says.
        content_type: Of the body.
        keep_alive: False where the connection ends behind it.
        fields: More of its head.
        is_bodiless: True for the answer to HEAD: it says how long the body is, and leaves it out.
    """
    head = [(b"content-type", content_type), (b"content-length", b"%d" % len(body)), *fields]
    if not keep_alive:
        head.append((b"connection", b"close"))
    return encode_head(status_line(status), head) + (b"" if is_bodiless else body)


def unpack(body: bytes, coding: bytes, limit: int) -> bytes | None:
    """Undo a body's content coding.

    Args:
        body: The body as it came.
        coding: The value of ``Content-Encoding``.
        limit: Most bytes that may come out.

    Returns:
        The content, or None where the coding is not known here.

    Raises:
        MalformedError: The body is not in that coding.
        TooLargeError: More than ``limit`` bytes come out.
    """
    name = coding.strip().lower()
    if name in {b"", b"identity"}:
        return body
    known = _CODINGS.get(name)
    return None if known is None else known(body, limit)


def _unpack_gzip(body: bytes, limit: int) -> bytes:
    """Undo gzip."""
    return _unpack_zlib(body, limit, 16 + zlib.MAX_WBITS)


def _unpack_deflate(body: bytes, limit: int) -> bytes:
    """Undo deflate, which is zlib's format; some senders leave its head out."""
    is_headed = len(body) > 1 and body[0] & 0x0F == 8 and int.from_bytes(body[:2], "big") % 31 == 0
    return _unpack_zlib(body, limit, zlib.MAX_WBITS if is_headed else -zlib.MAX_WBITS)


def _unpack_zlib(body: bytes, limit: int, window_bits: int) -> bytes:
    """Undo what zlib knows, member by member."""
    pieces, size, rest = [], 0, body
    while rest:
        machine = zlib.decompressobj(window_bits)
        try:
            piece = machine.decompress(rest, limit - size + 1)
        except zlib.error as error:
            raise MalformedError("the body is not in its content coding") from error
        pieces.append(piece)
        size += len(piece)
        if size > limit:
            raise _too_large(limit)
        if not machine.eof:
            raise MalformedError("the body ends in the middle of its content coding")
        rest = machine.unused_data
    return b"".join(pieces)


def _unpack_brotli(body: bytes, limit: int) -> bytes:
    """Undo brotli."""
    try:
        import brotli
    except ImportError as error:
        raise MissingExtraError("brotli bodies need: pip install 'trimtab[server]'") from error
    machine = brotli.Decompressor()
    pieces, size, given = [], 0, body
    try:
        while True:
            piece: bytes = machine.process(given, output_buffer_limit=limit - size + 1)
            pieces.append(piece)
            size += len(piece)
            if size > limit:
                raise _too_large(limit)
            if machine.is_finished():
                return b"".join(pieces)
            if not piece and machine.can_accept_more_data():
                raise MalformedError("the body ends in the middle of its content coding")
            given = b""
    except brotli.error as error:
        raise MalformedError("the body is not in its content coding") from error


def _unpack_zstd(body: bytes, limit: int) -> bytes:
    """Undo Zstandard."""
    try:
        import zstandard
    except ImportError as error:
        raise MissingExtraError("zstd bodies need: pip install 'trimtab[server]'") from error
    pieces, size, rest = [], 0, body
    try:
        while rest:
            machine = zstandard.ZstdDecompressor(max_window_size=2**27).decompressobj()
            for start in range(0, len(rest), _ZSTD_STEP):
                piece = machine.decompress(rest[start : start + _ZSTD_STEP])
                pieces.append(piece)
                size += len(piece)
                if size > limit:
                    raise _too_large(limit)
                if machine.eof:
                    rest = machine.unused_data + rest[start + _ZSTD_STEP :]
                    break
            else:
                raise MalformedError("the body ends in the middle of its content coding")
    except zstandard.ZstdError as error:
        raise MalformedError("the body is not in its content coding") from error
    return b"".join(pieces)


def _too_large(limit: int) -> TooLargeError:
    """Say what the limit is."""
    return TooLargeError(f"the unpacked body has more than {limit} bytes")


_CODINGS: dict[bytes, Callable[[bytes, int], bytes]] = {
    b"gzip": _unpack_gzip,
    b"x-gzip": _unpack_gzip,
    b"deflate": _unpack_deflate,
    b"br": _unpack_brotli,
    b"zstd": _unpack_zstd,
}
