"""Known shapes of request smuggling and of broken HTTP, by name.

Each is written for a tag, which stands in the target's query string, so that what arrives upstream
can be told apart. What must become of a shape follows from reading it strictly; where that is not
enough, the shape says so.
"""

from collections.abc import Callable, Iterator

from tests.support.hostile.arena import Case
from tests.support.hostile.messages import (
    QUERY_PATH,
    chunked,
    join,
    measured,
    query_body,
    raw_join,
    upsert_body,
)

_H2_PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\x00\x00\x00\x04\x00\x00\x00\x00\x00"
_TLS_HELLO = bytes.fromhex("16030100c2010000be0303") + bytes(range(64)) * 3
_CODINGS = (
    "xchunked",
    "chunked, identity",
    "identity, chunked",
    "chunked, chunked",
    "gzip, chunked",
    "chunked;q=1",
    "chunked; a=b",
    "'chunked'",
    '"chunked"',
    "chunked\x00",
    "\x0bchunked",
    "\x0cchunked",
    "chunked\x0b",
    "chunk",
    "cow",
    "identity",
    "",
    ", chunked",
    "chunked,",
    "chunKed ,",
    "\xa0chunked",
    "chunked\xa0",
    "gzip",
    "deflate",
)
_LENGTHS = (
    "+5",
    "-5",
    "-1",
    "0x5",
    "5.0",
    "5e0",
    "5 5",
    "5,5",
    "5, 5",
    "5, 6",
    "5;a=b",
    "",
    " ",
    "18446744073709551616",
    "18446744073709551621",
    "9223372036854775808",
    "4294967301",
    "99999999999999999999999999",
    "5\x00",
    "5\x0b",
    "\x0b5",
    "five",
    "\xd9\xa5",
    "1_0",
    "5_",
    "NaN",
    "\xb2",
)
_CHUNK_SIZES = (
    b"-5",
    b"+5",
    b"0x5",
    b" 5",
    b"\t5",
    b"5 ",
    b"5\t",
    b"5 ;a",
    b"5;",
    b"5;a=b",
    b'5;a="b;c"',
    b"5;a\x00b",
    b"5;a\rb",
    b"5;a\nb",
    b"5\x00",
    b"5_0",
    b"",
    b"g",
    b"ffffffffffffffff",
    b"10000000000000005",
    b"100000000000000000000005",
    b"00000000000000000000000000005",
    b"5,5",
    b"5.0",
    b"\xd9\xa5",
    b"5;" + b"a" * 70_000,
)
_BAD_HEAD_BYTES = (b"\x00", b"\r", b"\n", b"\x01", b"\x08", b"\x0b", b"\x1b", b"\x7f", b"\r\r")


def smuggling_cases(tag: str) -> Iterator[Case]:
    """Two framings, or one of two readings."""
    hidden = join("GET", f"/smuggled?{tag}")
    target = f"/collections/other/points/scroll?{tag}"
    end = b"0\r\n\r\n" + hidden
    te = "Transfer-Encoding: chunked"
    for body in (end, chunked(b"{}") + hidden):
        for n in (0, 3, len(body)):
            yield Case("CL.TE", join("POST", target, [f"Content-Length: {n}", te], body))
            yield Case("TE.CL", join("POST", target, [te, f"Content-Length: {n}"], body))
    for coding in _CODINGS:
        field = f"Transfer-Encoding: {coding}"
        yield Case(f"TE {coding!r}", join("POST", target, [field], chunked(b"{}") + hidden))
        yield Case(f"TE.TE {coding!r}", join("POST", target, [te, field], chunked(b"{}") + hidden))
        yield Case(f"TE+CL {coding!r}", join("POST", target, [field, "Content-Length: 4"], end))
    for line in _odd_framing_lines():
        yield Case(f"field {line!r}", join("POST", target, [line], chunked(b"{}") + hidden))
        yield Case(
            f"field and length {line!r}",
            join("POST", target, [line, "Content-Length: 5"], chunked(b"{}") + hidden),
        )
    for length in _LENGTHS:
        field = f"Content-Length: {length}"
        yield Case(f"CL {length!r}", join("POST", target, [field], b"hello" + hidden))
        yield Case(
            f"CL.CL {length!r}",
            join("POST", target, [field, "Content-Length: 5"], b"hello" + hidden),
        )
        yield Case(
            f"CL.CL reversed {length!r}",
            join("POST", target, ["Content-Length: 5", field], b"hello" + hidden),
        )
    yield Case("CL twice", join("POST", target, ["Content-Length: 5"] * 2, b"hello" + hidden))
    for start in (b"HTTP/1.0", b"HTTP/0.9", b"HTTP/1.2", b"HTTP/2.0", b"HTTP/1.01", b"http/1.1"):
        data = join("POST", target, [te, "Connection: keep-alive"], chunked(b"{}") + hidden)
        yield Case(f"TE with {start!r}", data.replace(b"HTTP/1.1", start, 1))


def _odd_framing_lines() -> tuple[bytes, ...]:
    return (
        b"Transfer-Encoding : chunked",
        b"Transfer-Encoding\t: chunked",
        b" Transfer-Encoding: chunked",
        b"\tTransfer-Encoding: chunked",
        b"X: y\r\n Transfer-Encoding: chunked",
        b"Transfer-Encoding:\r\n chunked",
        b"Transfer-Encoding: chunked\r\n x",
        b"X: y\nTransfer-Encoding: chunked",
        b"X: y\rTransfer-Encoding: chunked",
        b"Transfer-Encoding: chunked\nX: y",
        b"Transfer_Encoding: chunked",
        b"Transfer-Encoding\x00: chunked",
        b"\x00Transfer-Encoding: chunked",
        b"TRANSFER-ENCODING:\tchunked\t",
        b"transfer-encoding:chunked",
        b"Transfer-Encoding:CHUNKED",
        b"Transfer-Encoding",
        b": chunked",
        b"X: y\r\n\tContent-Length: 5",
        b"Connection: close, transfer-encoding\r\nTransfer-Encoding: chunked",
        b"Connection: content-length\r\nX: y",
        b"Content_Length: 5",
        b"Content-Length\xa0: 5",
    )


def chunk_cases(tag: str) -> Iterator[Case]:
    """Chunked bodies whose end two readers would see in two places."""
    hidden = join("GET", f"/smuggled?{tag}")

    for path in (f"/collections/other/points/scroll?{tag}", f"{QUERY_PATH}?{tag}"):

        def post(body: bytes, path: str = path) -> bytes:
            return join("POST", path, ["Transfer-Encoding: chunked"], body)

        kind = "query" if QUERY_PATH in path else "other"
        for size in _CHUNK_SIZES:
            body = size + b"\r\nhello\r\n0\r\n\r\n"
            yield Case(f"chunk size {size[:30]!r} {kind}", post(body + hidden))
        for name, body in {
            "bare LF": b"5\nhello\n0\n\n",
            "LF after size": b"5\nhello\r\n0\r\n\r\n",
            "CR after size": b"5\rhello\r\n0\r\n\r\n",
            "LF after data": b"5\r\nhello\n0\r\n\r\n",
            "LF at the end": b"5\r\nhello\r\n0\n\n",
            "LF last": b"5\r\nhello\r\n0\r\n\n",
            "CR last": b"5\r\nhello\r\n0\r\n\rX",
            "data longer": b"5\r\nhello there\r\n0\r\n\r\n",
            "data shorter": b"5\r\nhi\r\n0\r\n\r\n",
            "no line end": b"5\r\nhello0\r\n\r\n",
            "end padded": b"5\r\nhello\r\n000\r\n\r\n",
            "end with extension": b"5\r\nhello\r\n0;x=y\r\n\r\n",
            "trailer length": b"5\r\nhello\r\n0\r\nContent-Length: 50\r\n\r\n",
            "trailer coding": b"5\r\nhello\r\n0\r\nTransfer-Encoding: chunked\r\n\r\n",
            "trailer host": b"5\r\nhello\r\n0\r\nHost: x\r\n\r\n",
            "trailer": b"5\r\nhello\r\n0\r\nX-Check: 1\r\n\r\n",
            "trailer mark": b"5\r\nhello\r\n0\r\nX-Trimtab-Adapter: 1\r\n\r\n",
            "trailer broken": b"5\r\nhello\r\n0\r\nX Check: 1\r\n\r\n",
            "trailer request": b"5\r\nhello\r\n0\r\nGET /smuggled HTTP/1.1\r\n\r\n",
            "trailer bare LF": b"5\r\nhello\r\n0\r\nX: y\nContent-Length: 3\r\n\r\n",
            "trailers endless": b"5\r\nhello\r\n0\r\n" + b"X: y\r\n" * 20_000 + b"\r\n",
            "cut": b"5\r\nhel",
            "cut at the end": b"5\r\nhello\r\n0\r\n",
            "one byte each": b"".join(b"1\r\n%c\r\n" % c for c in query_body()) + b"0\r\n\r\n",
        }.items():
            cut = b"" if name.startswith("cut") else hidden
            yield Case(f"chunks: {name} {kind}", post(body + cut))


def head_cases(tag: str) -> Iterator[Case]:
    """Heads that are broken in one place."""
    target = f"/collections?{tag}"
    host = "Host: qdrant.test"
    for bad in _BAD_HEAD_BYTES:
        yield Case(f"{bad!r} in the method", join(b"G" + bad + b"T", target))
        yield Case(f"{bad!r} in the target", join("GET", b"/coll" + bad + b"?" + tag.encode()))
        yield Case(f"{bad!r} in the query", join("GET", b"/c?" + tag.encode() + bad + b"x"))
        yield Case(f"{bad!r} in a name", join("GET", target, [b"X" + bad + b"Y: z"]))
        yield Case(f"{bad!r} in a value", join("GET", target, [b"X: a" + bad + b"b"]))
        yield Case(f"{bad!r} before the request", bad + join("GET", target))
        yield Case(
            f"{bad!r} in the version", join("GET", target).replace(b"1.1", b"1" + bad + b"1", 1)
        )
    for name, data in {
        "no host": raw_join("GET", target),
        "two hosts": raw_join("GET", target, [host, "Host: evil.test"]),
        "two equal hosts": raw_join("GET", target, [host, host]),
        "host list": raw_join("GET", target, ["Host: a.test, b.test"]),
        "host with a path": raw_join("GET", target, ["Host: a.test/x?y#z"]),
        "host with a user": raw_join("GET", target, ["Host: u@a.test"]),
        "host empty": raw_join("GET", target, ["Host:"]),
        "host with spaces": raw_join("GET", target, ["Host: a test"]),
        "folded": join("GET", target, ["X: a", " b"]),
        "folded first": raw_join("GET", target, [" X: a", host]),
        "empty name": join("GET", target, [": x"]),
        "no colon": join("GET", target, ["X"]),
        "space before colon": join("GET", target, ["X : y"]),
        "name with parentheses": join("GET", target, ["X(y): z"]),
        "high bytes in a name": join("GET", target, [b"X\xff: y"]),
        "high bytes in a value": join("GET", target, [b"X: \xff\xfe"]),
        "two spaces": join("GET", target).replace(b" ", b"  ", 1),
        "tab for a space": join("GET", target).replace(b" ", b"\t", 1),
        "space in the target": join("GET", f"/a b?{tag}"),
        "no version": b"GET " + target.encode() + b"\r\n" + host.encode() + b"\r\n\r\n",
        "HTTP/0.9": b"GET " + target.encode() + b"\r\n",
        "only line ends": b"\r\n" * 5000,
        "LF only": join("GET", target).replace(b"\r\n", b"\n"),
        "CR only": join("GET", target).replace(b"\r\n", b"\r"),
        "CRLF then LF": join("GET", target)[:-2] + b"\n",
        "empty lines before": b"\r\n\r\n" + join("GET", target),
        "empty target": join("GET", ""),
        "relative target": join("GET", f"collections?{tag}"),
        "method long": join("A" * 5000, target),
        "target long": join("GET", target + "&" + "a" * 100_000),
        "field long": join("GET", target, ["X: " + "a" * 100_000]),
        "name long": join("GET", target, ["a" * 100_000 + ": x"]),
        "many fields": join("GET", target, ["X: y"] * 20_000),
        "many cookies": join("GET", target, [f"Cookie: a{i}=b" for i in range(5000)]),
        "endless name": b"GET " + target.encode() + b" HTTP/1.1\r\n" + b"a" * 1_000_000,
        "endless method": b"A" * 1_000_000,
        "HTTP/2 preface": _H2_PREFACE,
        "TLS hello": _TLS_HELLO,
        "noise": bytes(range(256)) * 20,
        "UTF-16": join("GET", target).decode().encode("utf-16"),
        "BOM": b"\xef\xbb\xbf" + join("GET", target),
        "nothing": b"",
        "one byte": b"G",
        "head cut": join("GET", target)[:-2],
        "answer": b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n",
        "proxy protocol": b"PROXY TCP4 1.2.3.4 1.2.3.4 1 2\r\n" + join("GET", target),
        "SMTP": b"EHLO x\r\nMAIL FROM:<a>\r\n",
        "redis": b"*1\r\n$4\r\nPING\r\n",
    }.items():
        yield Case(name, data, ends=name in {"HTTP/0.9", "noise", "nothing", "UTF-16", "CR only"})


def method_cases(tag: str) -> Iterator[Case]:
    """Methods and fields that change what follows."""
    target = f"/collections?{tag}"
    hidden = join("GET", f"/smuggled?{tag}")
    body = query_body(tag=tag)
    settings = ["Connection: Upgrade, HTTP2-Settings", "Upgrade: h2c", "HTTP2-Settings: AAMAAABk"]
    socket = ["Connection: Upgrade", "Upgrade: websocket", "Sec-WebSocket-Version: 13"]
    yield Case("GET with a body", measured("GET", target, hidden))
    yield Case("HEAD with a body", measured("HEAD", target, hidden))
    yield Case("DELETE with a body", measured("DELETE", target, hidden))
    yield Case(
        "GET and chunks", join("GET", target, ["Transfer-Encoding: chunked"], chunked(hidden))
    )
    yield Case("GET, then a second", join("GET", target) + hidden)
    yield Case("HEAD, then a second", join("HEAD", target) + hidden)
    yield Case("pipelined", join("GET", target) * 50)
    yield Case("query, then bytes", measured("POST", f"{QUERY_PATH}?{tag}", body) + b"x\r\n\r\n")
    yield Case("close, then a second", join("GET", target, ["Connection: close"]) + hidden)
    yield Case("CONNECT", join("CONNECT", "qdrant.test:6333") + hidden, "refuse")
    yield Case("CONNECT with a path", join("CONNECT", target) + hidden, "refuse")
    yield Case("OPTIONS *", join("OPTIONS", "*"))
    yield Case("GET *", join("GET", "*"))
    yield Case("TRACE", join("TRACE", target, ["X-Secret: 1"]))
    yield Case("lower case method", measured("post", f"{QUERY_PATH}?{tag}", body))
    yield Case("odd method", measured("PATCHY", f"{QUERY_PATH}?{tag}", body))
    yield Case("override", measured("GET", target, body, ["X-HTTP-Method-Override: PUT"]))
    for name, lines in {"websocket": socket, "h2c": settings}.items():
        yield Case(f"upgrade {name}", join("GET", target, lines) + hidden)
        yield Case(f"upgrade {name} query", measured("POST", f"{QUERY_PATH}?{tag}", body, lines))
    for value in ("100-continue", "100-Continue", "100-continue, x", "x", "", "200-ok", "\xff"):
        data = measured("POST", f"{QUERY_PATH}?{tag}", body, [f"Expect: {value}"])
        yield Case(f"expect {value!r}", data)
    for value in ("close, host", "host", "content-length", "x-trimtab-adapter", "api-key", ",,,"):
        data = measured("POST", f"{QUERY_PATH}?{tag}", body, [f"Connection: {value}"])
        yield Case(f"connection {value!r}", data)
    yield Case(
        "upsert by many chunks",
        join(
            "PUT",
            f"/collections/docs/points?{tag}",
            ["Transfer-Encoding: chunked"],
            chunked(*(upsert_body(3)[i : i + 7] for i in range(0, len(upsert_body(3)), 7))),
        ),
        "pass",
    )


CORPUS: tuple[Callable[[str], Iterator[Case]], ...] = (
    smuggling_cases,
    chunk_cases,
    head_cases,
    method_cases,
)
