"""Content codings, to pack bodies and bombs and to look into them."""

import gzip
import zlib

import brotli
import zstandard

BOMB_BYTES = 64 * 2**20
"""More than the sidecar's limit of a body, from a few kilobytes."""

_READ_BYTES = 2**20
"""No vector of a case lies further in than this."""


def pack(body: bytes, coding: str) -> bytes:
    """Pack a body; ``deflate`` is the zlib form, as RFC 9110 has it."""
    if coding == "gzip":
        return gzip.compress(body, 6, mtime=0)
    if coding == "deflate":
        return zlib.compress(body)
    if coding == "br":
        return brotli.compress(body, quality=5)
    return zstandard.ZstdCompressor().compress(body)


def unpack(body: bytes, codings: list[bytes]) -> bytes:
    """Unpack the beginning of a body; nothing where it can't be."""
    coding = codings[0].strip().lower() if len(codings) == 1 else b""
    try:
        if coding in {b"gzip", b"x-gzip"}:
            return _members(body, 31)
        if coding == b"deflate":
            return _members(body, 15)
        if coding == b"br":
            return brotli.decompress(body) if len(body) < 5000 else body
        if coding == b"zstd":
            packed = zstandard.ZstdDecompressor().stream_reader(body, read_across_frames=True)
            return packed.read(_READ_BYTES)
    except (zlib.error, brotli.error, zstandard.ZstdError):
        return b""
    return body


def _members(body: bytes, form: int) -> bytes:
    """Unpack gzip or zlib streams one after another."""
    found = b""
    while body and len(found) < _READ_BYTES:
        reader = zlib.decompressobj(form)
        try:
            found += reader.decompress(body, _READ_BYTES)
        except zlib.error:
            return found
        body = reader.unused_data
    return found
