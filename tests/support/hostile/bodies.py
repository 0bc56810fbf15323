"""Bodies of queries that are packed, cut, huge, or not quite JSON."""

from collections.abc import Iterator

from tests.support.hostile.arena import Case
from tests.support.hostile.messages import QUERY_PATH, VECTOR, measured, query_body
from tests.support.hostile.packing import BOMB_BYTES, pack

CODINGS = ("gzip", "deflate", "br", "zstd")
_V = b"[0.1, -0.2, 0.3, 0.4]"
_BATCH = b'{"searches": [{"query": [0.1, -0.2, 0.3, 0.4], "limit": 3}]'

_JSON: dict[str, bytes] = {
    "empty": b"",
    "not JSON": b"query=1",
    "a list": b"[1, 2, 3, 4]",
    "null": b"null",
    "a number": b"4",
    "BOM": b"\xef\xbb\xbf" + query_body(),
    "UTF-16": query_body().decode().encode("utf-16"),
    "NaN": b'{"query": [NaN, 1, 2, 3]}',
    "Infinity": b'{"query": [Infinity, 1, 2, -Infinity]}',
    "huge numbers": b'{"query": [1e400, 1e39, -1e39, 1]}',
    "huge whole numbers": b'{"query": [' + b"9" * 5000 + b", 1, 2, 3]}",
    "tiny numbers": b'{"query": [1e-400, 1e-46, 0, 0]}',
    "long digits": b'{"query": [0.' + b"1" * 100_000 + b", 1, 2, 3]}",
    "zero": b'{"query": [0, 0, 0, 0]}',
    "minus zero": b'{"query": [-0, -0.0, 0e5, 1]}',
    "plus sign": b'{"query": [+1, 1, 2, 3]}',
    "leading zero": b'{"query": [01, 1, 2, 3]}',
    "hex": b'{"query": [0x1, 1, 2, 3]}',
    "strings": b'{"query": ["1", "2", "3", "4"]}',
    "booleans": b'{"query": [true, false, true, false]}',
    "nulls": b'{"query": [null, 1, 2, 3]}',
    "mixed": b'{"query": [1, [2], 3, 4]}',
    "too few": b'{"query": [1, 2, 3]}',
    "too many": b'{"query": [1, 2, 3, 4, 5]}',
    "none": b'{"query": []}',
    "rows": b'{"query": [[1, 2, 3, 4], [1, 2, 3, 4]]}',
    "65,536 values": b'{"query": [' + b"1," * 65_535 + b"1]}",
    "key twice": b'{"query": ' + _V + b', "query": ' + _V + b"}",
    "key twice, escaped": b'{"query": ' + _V + b', "qu\\u0065ry": [4, 3, 2, 1]}',
    "key escaped": b'{"qu\\u0065ry": ' + _V + b"}",
    "key with NUL": b'{"query\\u0000": ' + _V + b"}",
    "lone surrogate": b'{"query": ' + _V + b', "x": "\\ud800"}',
    "lone surrogate key": b'{"query": ' + _V + b', "\\udfff": 1}',
    "invalid UTF-8": b'{"query": ' + _V + b', "x": "\xff\xfe"}',
    "overlong UTF-8": b'{"query": ' + _V + b', "x": "\xc0\xaf"}',
    "NUL": b'{"query": ' + _V + b', "x": "\x00"}',
    "NUL behind": query_body() + b"\x00",
    "newline in a string": b'{"query": ' + _V + b', "x": "a\nb"}',
    "comment": b'{"query": ' + _V + b" /* x */}",
    "trailing comma": b'{"query": ' + _V + b",}",
    "single quotes": b"{'query': [1, 2, 3, 4]}",
    "two documents": query_body() + query_body(),
    "cut": query_body()[:-5],
    "vertical tab": b'{"query":\x0b' + _V + b"}",
    "no-break space": b'{"query":\xc2\xa0' + _V + b"}",
    "spaces": b" " * 100_000 + query_body() + b" " * 100_000,
    "batch, lone surrogate": _BATCH + b', "x": "\\ud800"}',
    "batch, lone surrogate key": _BATCH + b', "\\ud800": 1}',
    "batch, invalid UTF-8": _BATCH + b', "x": "\xff"}',
    "batch, huge number": _BATCH + b', "x": 1e999}',
    "batch, deep": _BATCH + b', "x": ' + b"[" * 5000 + b"]" * 5000 + b"}",
    "batch, deep objects": _BATCH + b', "x": ' + b'{"a":' * 5000 + b"1" + b"}" * 5000 + b"}",
    "batch, long digits": _BATCH + b', "x": ' + b"9" * 10_000 + b"}",
    "prefetch 100 deep": b'{"prefetch":' * 100 + b"{}" + b"}" * 100,
    "deep nearest": b'{"query": ' + b'{"nearest": ' * 100 + _V + b"}" * 100 + b"}",
}

_LARGE: dict[str, bytes] = {
    "depth 100,000": b'{"query": ' + b"[" * 100_000 + b"]" * 100_000 + b"}",
    "depth 100,000, open": b'{"query": ' + b"[" * 100_000,
    "object depth 100,000": b'{"prefetch": ' * 100_000 + b"{}" + b"}" * 100_000,
    "1,000,000 prefetches": b'{"prefetch": [' + b"{}," * 999_999 + b'{}], "query": ' + _V + b"}",
    "100,000 prefetched vectors": b'{"prefetch": ['
    + b",".join([b'{"query": ' + _V + b"}"] * 100_000)
    + b'], "query": '
    + _V
    + b"}",
    "1,000,000 keys": b"{" + b",".join(b'"%d": 1' % i for i in range(1_000_000)) + b"}",
    "a million values": b'{"query": [' + b"1," * 999_999 + b"1]}",
    "a long string": b'{"query": ' + _V + b', "x": "' + b"a" * 5_000_000 + b'"}',
    "backslashes": b'{"query": ' + _V + b', "x": "' + b"\\\\" * 2_000_000 + b'"}',
    "open strings": b'{"query": ' + _V + b', "x": "' + b"\\" * 1_999_999,
}


def body_cases(tag: str) -> Iterator[Case]:
    """Small bodies."""
    for name, body in _JSON.items():
        end = "/batch" if name.startswith("batch") else ""
        yield Case(f"JSON {name}", measured("POST", f"{QUERY_PATH}{end}?{tag}", body))
    yield from _packed_cases(tag)


def _packed_cases(tag: str) -> Iterator[Case]:
    target = f"{QUERY_PATH}?{tag}"
    body = query_body(tag=tag)
    for coding in CODINGS:
        packed = pack(body, coding)
        said = [f"Content-Encoding: {coding}"]
        yield Case(f"{coding}", measured("POST", target, packed, said), "adapt")
        yield Case(f"{coding} upper", measured("POST", target, packed, [said[0].upper()]))
        yield Case(f"{coding} cut", measured("POST", target, packed[:-4], said))
        yield Case(f"{coding} one byte", measured("POST", target, packed[:1], said))
        yield Case(f"{coding} empty", measured("POST", target, b"", said))
        yield Case(f"{coding} with bytes behind", measured("POST", target, packed + b"x", said))
        halves = pack(body[:40], coding) + pack(body[40:], coding)
        yield Case(f"{coding} in two members", measured("POST", target, halves, said))
        yield Case(f"{coding} twice over", measured("POST", target, packed + packed, said))
        yield Case(f"{coding} of plain", measured("POST", target, body, said))
        yield Case(
            f"{coding} broken", measured("POST", target, packed[:9] + b"\xff" + packed[10:], said)
        )
        for more in CODINGS:
            nested = pack(packed, more)
            said = [f"Content-Encoding: {coding}, {more}"]
            yield Case(f"{coding} in {more}", measured("POST", target, nested, said))
            said = [f"Content-Encoding: {coding}", f"Content-Encoding: {more}"]
            yield Case(f"{coding} and {more}", measured("POST", target, nested, said))
    for name in ("x-gzip", "identity", "compress", "", "gzip;q=1", "GZIP", "aes128gcm", "gzip, "):
        data = measured("POST", target, pack(body, "gzip"), [f"Content-Encoding: {name}"])
        yield Case(f"content coding {name!r}", data)
    yield Case("identity", measured("POST", target, body, ["Content-Encoding: identity"]), "adapt")


def large_cases(tag: str) -> Iterator[Case]:
    """Bodies that cost a reader much; few of them are sent."""
    for name, body in _LARGE.items():
        yield Case(f"JSON {name}", measured("POST", f"{QUERY_PATH}?{tag}", body))
    plain = b'{"query": %b, "x": "%b"}' % (str(VECTOR).encode(), b" " * BOMB_BYTES)
    for coding in CODINGS:
        bomb = pack(plain, coding)
        lines = [f"Content-Encoding: {coding}"]
        yield Case(f"{coding} bomb", measured("POST", f"{QUERY_PATH}?{tag}", bomb, lines), "refuse")
        nested = pack(bomb, coding)
        lines = [f"Content-Encoding: {coding}, {coding}"]
        yield Case(f"{coding} bomb twice", measured("POST", f"{QUERY_PATH}?{tag}", nested, lines))
