"""Raw answers of every kind that a proxy and the client behind it may read in two ways.

Each is read by a strict client directly and through the sidecar, as the answer to GET and to HEAD;
both must get the same, and what is no answer must come out as 502 or as a broken connection, but
for :data:`DIFFERENCES`.
"""

_OK = b"HTTP/1.1 200 OK\r\n"


def _said(*lines: bytes, body: bytes = b"", start: bytes = b"HTTP/1.1 200 OK") -> bytes:
    return start + b"\r\n" + b"".join(line + b"\r\n" for line in lines) + b"\r\n" + body


def _whole(start: bytes, *lines: bytes) -> bytes:
    return _said(*lines, b"Content-Length: 2", body=b"ok", start=start)


def _chunks(body: bytes, *lines: bytes) -> bytes:
    return _said(b"Transfer-Encoding: chunked", *lines, body=body)


STARTS = {
    f"start {start!r}": _whole(start)
    for start in (
        *(
            b"HTTP/1.1 200 OK",
            b"HTTP/1.0 200 OK",
            b"HTTP/1.1 200 ",
            b"HTTP/1.1 200",
            b"HTTP/1.1 200 a b",
        ),
        *(b"HTTP/1.1 299 Odd", b"HTTP/1.1 404 Not Found", b"HTTP/1.1 599 x", b"HTTP/1.1 200 \xe9"),
        *(
            b"RTSP/1.1 200 OK",
            b"RTSP/1.0 200 OK",
            b"ICE/1.0 200 OK",
            b"SIP/2.0 200 OK",
            b"ICY 200 OK",
        ),
        *(
            b"HTTP/2.0 200 OK",
            b"HTTP/0.9 200 OK",
            b"HTTP/1.2 200 OK",
            b"HTTP/1.10 200 OK",
            b"HTTP/1 200 OK",
        ),
        *(
            b"http/1.1 200 OK",
            b"HTTP/1.1  200 OK",
            b"HTTP/1.1 20 OK",
            b"HTTP/1.1 2000 OK",
            b"HTTP/1.1 OK",
        ),
        *(
            b"HTTP/1.1 000 No",
            b"HTTP/1.1 099 No",
            b"HTTP/1.1 600 No",
            b"HTTP/1.1 999 No",
            b"HTTP/1.1 -20 No",
        ),
        *(b"HTTP/1.1 200 O\x00K", b"HTTP/1.1 200 O\rK", b"HTTP/1.1 200 O\nK", b"HTTP/1.1 2x0 OK"),
        *(
            b"HTTP/1.1 200OK",
            b" HTTP/1.1 200 OK",
            b"\r\nHTTP/1.1 200 OK",
            b"SSH-2.0-OpenSSH_9.7",
            b"",
        ),
        *(b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\nConnection: upgrade",),
    )
}
INTERIM = {
    "interim 100": _said(start=b"HTTP/1.1 100 Continue") + _whole(b"HTTP/1.1 200 OK"),
    "interim 103 with a field": _said(b"Link: </a>", start=b"HTTP/1.1 103 Early Hints")
    + _whole(b"HTTP/1.1 200 OK"),
    "interim with a length": _said(b"Content-Length: 9", start=b"HTTP/1.1 103 Early Hints")
    + _whole(b"HTTP/1.1 200 OK"),
    "interim many": _said(start=b"HTTP/1.1 100 Continue") * 20 + _whole(b"HTTP/1.1 200 OK"),
    "interim alone": _said(start=b"HTTP/1.1 100 Continue"),
    "interim, then RTSP": _said(start=b"HTTP/1.1 100 Continue") + _whole(b"RTSP/1.1 200 OK"),
    "interim of RTSP": _said(start=b"RTSP/1.1 100 Continue") + _whole(b"HTTP/1.1 200 OK"),
}
FIELDS = {
    f"field {line!r}": _whole(b"HTTP/1.1 200 OK", line)
    for line in (
        *(
            b"X:a",
            b"X:",
            b"X: a \t",
            b"X: \xe9",
            b"X : a",
            b" X: a",
            b"X",
            b": a",
            b"X(y): a",
            b"X\xe9: a",
        ),
        *(
            b"X: a\x00b",
            b"X: a\rb",
            b"X: a\nb",
            b"X: a\x0bb",
            b"X: a\r\n b",
            b"Connection: X\r\nX: a",
        ),
        *(
            b"Connection: close",
            b"Connection: keep-alive",
            b"Keep-Alive: timeout=1",
            b"Upgrade: h2c",
        ),
        *(b"Connection: upgrade\r\nUpgrade: h2c", b"Trailer: X", b"Set-Cookie: a\r\nSet-Cookie: b"),
    )
}
LENGTHS = {
    f"length {value!r}": _said(b"Content-Length:" + value, body=b"ok")
    for value in (
        *(
            b" 2",
            b"2",
            b" 2 ",
            b"\t2\t",
            b" 02",
            b" +2",
            b" -2",
            b" 0x2",
            b" 2.0",
            b" 2, 2",
            b" 2 2",
            b"",
        ),
        *(b" 3", b" 1", b" 0", b" 18446744073709551618", b" 2\r\nContent-Length: 2"),
        *(b" 2\r\nContent-Length: 40", b" 2\r\nTransfer-Encoding: chunked", b" two", b" 2\x0b"),
    )
}
CODINGS = {
    f"coding {value!r}": _said(b"Transfer-Encoding:" + value, body=b"2\r\nok\r\n0\r\n\r\n")
    for value in (
        *(b" chunked", b"chunked", b" CHUNKED", b" chunked ", b" chunked, chunked", b" xchunked"),
        *(b" identity, chunked", b" chunked\r\nTransfer-Encoding: chunked"),
    )
}
CHUNKS = {
    f"chunk {size!r}": _chunks(size + b"\r\nok\r\n0\r\n\r\n")
    for size in (
        *(
            b"2",
            b"02",
            b"2;a",
            b"2;a=b",
            b'2;a="b"',
            b"+2",
            b"-2",
            b"0x2",
            b" 2",
            b"2_0",
            b"zz",
            b"",
            b"3",
        ),
        *(b"1", b"10000000000000002", b"2\x00"),
    )
} | {
    "chunks with a trailer": _chunks(b"2\r\nok\r\n0\r\nX: y\r\n\r\n"),
    "chunks without an end": _chunks(b"2\r\nok\r\n"),
    "chunks with line feeds": _chunks(b"2\nok\n0\n\n"),
}
ENDS = {
    "end of the connection": _said(body=b"ok"),
    "end of the connection in HTTP/1.0": _said(body=b"ok", start=b"HTTP/1.0 200 OK"),
    "cut in the body": _said(b"Content-Length: 5", body=b"ok"),
    "cut in the head": _OK + b"Content-",
    "nothing": b"",
    "more behind it": _whole(b"HTTP/1.1 200 OK") + b"EVIL",
    "another behind it": _whole(b"HTTP/1.1 200 OK") * 2,
    "line feeds only": _whole(b"HTTP/1.1 200 OK").replace(b"\r\n", b"\n"),
    "204": _said(start=b"HTTP/1.1 204 No Content"),
    "204 with a length": _said(b"Content-Length: 2", start=b"HTTP/1.1 204 No Content", body=b"ok"),
    "204 in chunks": _said(b"Transfer-Encoding: chunked", start=b"HTTP/1.1 204 No Content"),
    "205": _said(b"Content-Length: 0", start=b"HTTP/1.1 205 Reset Content"),
    "304": _said(b"ETag: a", start=b"HTTP/1.1 304 Not Modified"),
    "304 with a length": _said(b"Content-Length: 9", start=b"HTTP/1.1 304 Not Modified"),
}

ANSWERS = STARTS | INTERIM | FIELDS | LENGTHS | CODINGS | CHUNKS | ENDS

DIFFERENCES = {
    "start b'HTTP/1.1 200'": "llhttp does without the space before no reason, as most clients do",
    "start b'\\r\\nHTTP/1.1 200 OK'": "llhttp skips empty lines before an answer",
}
"""By the names of answers: why a client gets something else through the sidecar."""
