"""Raw requests of every kind that a proxy and the server behind it may read in two ways.

Each is sent to an origin directly and through the sidecar; both must serve the same, but for
:data:`DIFFERENCES`.
"""

HOST = b"Host: a\r\n"
_CHUNKED = b"Transfer-Encoding: chunked\r\n"


def _get(
    target: bytes, *lines: bytes, method: bytes = b"GET", version: bytes = b"HTTP/1.1"
) -> bytes:
    start = b"%b %b %b\r\n" % (method, target, version)
    return start + HOST + b"".join(line + b"\r\n" for line in lines) + b"\r\n"


def _post(*lines: bytes, body: bytes = b"", version: bytes = b"HTTP/1.1") -> bytes:
    return _get(b"/p", *lines, method=b"POST", version=version) + body


def _chunks(body: bytes, *lines: bytes) -> bytes:
    return _post(b"Transfer-Encoding: chunked", *lines, body=body)


_UPGRADE = (b"Connection: Upgrade", b"Upgrade: h2c")

TARGETS = {
    f"target {target.decode('latin-1')}": _get(target)
    for target in (
        *(b"/", b"/a?b", b"//a//b", b"/a/../b", b"/%2e%2e/%zz", b"/a?b=http://c/d", b"/?", b"/a;b"),
        *(b"http://b", b"http://b/", b"http://b?x=1", b"http://b?back=/collections/docs"),
        *(
            b"HTTP://b:1/c?d",
            b"https://b/c",
            b"http://[::1]:80/c",
            b"http://[::1]?c",
            b"http://b//c",
        ),
        *(b"http://b/c@d", b"http://b?c@d", b"http://u@b/c", b"http://u:p@b?c", b"http://"),
        *(b"http:///c", b"http://?c", b"http://b#c", b"http://b/c#d", b"http://b?c#d", b"/a#b"),
        *(b"*", b"a", b"a/b", b"?a", b"a:1", b"http:/b", b"http:b", b"ftp://b/c", b"rtsp://b/c"),
        *(b'/{}|^`"<>\\', b"/\xe9", b"/a b", b"/a\tb", b"/a\x00b", b"/\x7f"),
    )
} | {
    "target * of OPTIONS": _get(b"*", method=b"OPTIONS"),
    "target of OPTIONS without a path": _get(b"http://b", method=b"OPTIONS"),
    "target of OPTIONS with a query": _get(b"http://b?c", method=b"OPTIONS"),
    "target of DELETE without a path": _get(b"http://b?c=/collections/x", method=b"DELETE"),
    "target of CONNECT": _get(b"a:1", method=b"CONNECT"),
    "target of CONNECT with a path": _get(b"/a", method=b"CONNECT"),
    "target without Host": b"GET http://b/c HTTP/1.1\r\n\r\n",
    "target of HTTP/1.0 without Host": b"GET http://b/c HTTP/1.0\r\n\r\n",
}

LINES = (
    {
        "two spaces": b"GET  /a  HTTP/1.1\r\n" + HOST + b"\r\n",
        "tab for a space": b"GET\t/a HTTP/1.1\r\n" + HOST + b"\r\n",
        "space behind the version": b"GET /a HTTP/1.1 \r\n" + HOST + b"\r\n",
        "empty lines before": b"\r\n\r\n" + _get(b"/a"),
        "space before": b" " + _get(b"/a"),
        "no version": b"GET /a\r\n" + HOST + b"\r\n",
        "line feeds only": _get(b"/a").replace(b"\r\n", b"\n"),
        "carriage returns only": _get(b"/a").replace(b"\r\n", b"\r"),
        "method in lower case": _get(b"/a", method=b"get"),
        "method that nobody knows": _get(b"/a", method=b"FROB"),
        "method with a NUL": _get(b"/a", method=b"G\x00T"),
    }
    | {
        f"protocol {version.decode()}": _get(b"/a", version=version)
        for version in (
            *(
                b"HTTP/1.0",
                b"HTTP/0.9",
                b"HTTP/1.2",
                b"HTTP/2.0",
                b"HTTP/1.10",
                b"HTTP/01.1",
                b"HTTP/1",
            ),
            *(
                b"http/1.1",
                b"RTSP/1.1",
                b"RTSP/1.0",
                b"ICE/1.0",
                b"IHTTP/1.1",
                b"HTTPS/1.1",
                b"SIP/2.0",
            ),
        )
    }
    | {
        "protocol RTSP of OPTIONS": _get(b"*", method=b"OPTIONS", version=b"RTSP/1.0"),
        "protocol ICE of SOURCE": _get(b"/a", method=b"SOURCE", version=b"ICE/1.0"),
        "protocol RTSP behind HTTP": _get(b"/a") + _get(b"/b", version=b"RTSP/1.1"),
    }
)

FIELDS = {
    f"field {line.decode('latin-1')!r}": _get(b"/a", line)
    for line in (
        *(b"X:a", b"X:", b"X:  ", b"X: a  ", b"X:\ta\t", b"X: a b", b"X: \xe9", b"x-a_b.c~: d"),
        *(b"X : a", b"X\t: a", b" X: a", b"X", b": a", b"X(y): a", b"X\xe9: a", b"X: a\x00b"),
        *(b"X: a\rb", b"X: a\nY: b", b"X: a\x0bb", b"X: a\x7fb", b"X: a\r\n b", b"X:\r\n\ta"),
        *(b"Host: b", b"Host: a", b"Connection: keep-alive", b"Connection: X\r\nX: a"),
        *(
            b"Connection:\tX ,\tY \r\nX: a\r\nY: b",
            b"Connection: close , x",
            b"Connection: close\t",
        ),
        *(b"Connection: keep-alive\r\nConnection: close", b"Proxy-Connection: close"),
        *(b"Keep-Alive: timeout=5", b"TE: trailers", b"Expect: 100-continue", b"Expect: x"),
        *(b"Upgrade: websocket", b"Upgrade: TLS/1.2\r\nConnection: Upgrade", b"Via: 1.1 x"),
        *(b"Upgrade: h2c\r\nConnection: Upgrade, HTTP2-Settings\r\nHTTP2-Settings: AAMAAABk",),
        *(b"Upgrade: a\r\nUpgrade: b\r\nConnection: upgrade", b"Connection: upgrade"),
        *(b"Upgrade: a\r\nConnection: upgrade, close",),
    )
} | {
    "no Host": b"GET /a HTTP/1.1\r\n\r\n",
    "no Host in HTTP/1.0": b"GET /a HTTP/1.0\r\n\r\n",
    "empty Host": b"GET /a HTTP/1.1\r\nHost:\r\n\r\n",
    "Host with blanks round it": b"GET /a HTTP/1.1\r\nHost: \ta \t\r\n\r\n",
    "Host with a blank in it": b"GET /a HTTP/1.1\r\nHost: a b\r\n\r\n",
    "Host with a path": b"GET /a HTTP/1.1\r\nHost: a/b\r\n\r\n",
    "HTTP/1.0, kept": _get(b"/a", b"Connection: keep-alive", version=b"HTTP/1.0"),
    "HTTP/1.0, closed and kept": _get(b"/a", b"Connection: close, keep-alive", version=b"HTTP/1.0"),
    "HTTP/1.0, Expect": _post(
        b"Content-Length: 1", b"Expect: 100-continue", body=b"x", version=b"HTTP/1.0"
    ),
}

BODIES = (
    {
        f"length {value.decode('latin-1')!r}": _post(b"Content-Length:" + value, body=b"hello")
        for value in (
            *(
                b" 5",
                b"5",
                b" 5 ",
                b"\t5\t",
                b"  5 \t ",
                b" 05",
                b" 00000000000000000005",
                b" +5",
                b" -5",
            ),
            *(b" 0x5", b" 5.0", b" 5_0", b" 5 5", b" 5, 5", b" 5,", b"", b" ", b" 5\x0b", b" five"),
            *(b" 18446744073709551621", b" 99999999999999999999999", b" 5\r\nContent-Length: 5"),
            *(b" 5\r\nContent-Length: 6", b" 5\r\n 5", b" 5\r\nTransfer-Encoding: chunked"),
        )
    }
    | {
        f"coding {value.decode('latin-1')!r}": _post(
            b"Transfer-Encoding:" + value, body=b"5\r\nhello\r\n0\r\n\r\n"
        )
        for value in (
            *(
                b" chunked",
                b"chunked",
                b" Chunked ",
                b"\tchunked\t",
                b"  chunked \t",
                b" chunked, chunked",
            ),
            *(
                b" gzip, chunked",
                b" chunked, gzip",
                b" identity",
                b" xchunked",
                b" chunked;q=1",
                b"",
            ),
            *(
                b" ,chunked",
                b" chunked,",
                b" 'chunked'",
                b" \x0bchunked",
                b" chunked\x0b",
                b"\r\n chunked",
            ),
            *(
                b" chunked\r\nTransfer-Encoding: chunked",
                b" chunked\r\nTransfer-Encoding: identity",
            ),
        )
    }
    | {
        f"chunk {size!r}": _chunks(size + b"\r\nhello\r\n0\r\n\r\n")
        for size in (
            *(
                b"5",
                b"05",
                b"5;a",
                b"5;a=b",
                b'5;a="b;c"',
                b"5;",
                b"5 ;a",
                b"5 ",
                b" 5",
                b"+5",
                b"-5",
            ),
            *(
                b"0x5",
                b"5_0",
                b"g",
                b"",
                b"5\x00",
                b"5;a\x00",
                b"5;a\rb",
                b"10000000000000005",
                b"5,5",
            ),
            *(b"5.", b"0000000000000000000005"),
        )
    }
    | {
        f"chunks {name}": _chunks(body)
        for name, body in {
            "of two": b"2\r\nhe\r\nA\r\nllo, world\r\n0\r\n\r\n",
            "empty": b"0\r\n\r\n",
            "ended by many zeros": b"1\r\nx\r\n0000\r\n\r\n",
            "ended with an extension": b"1\r\nx\r\n0;a\r\n\r\n",
            "with a trailer": b"1\r\nx\r\n0\r\nX: y\r\n\r\n",
            "with a trailer that frames": b"1\r\nx\r\n0\r\nContent-Length: 5\r\n\r\n",
            "with a trailer that is none": b"1\r\nx\r\n0\r\nX y\r\n\r\n",
            "with line feeds": b"1\nx\n0\n\n",
            "longer than said": b"1\r\nxy\r\n0\r\n\r\n",
            "shorter than said": b"3\r\nx\r\n0\r\n\r\n",
            "without a line end": b"1\r\nx0\r\n\r\n",
            "like a request": b"14\r\nGET /b HTTP/1.1\r\n\r\n\r\n\r\n0\r\n\r\n",
        }.items()
    }
    | {
        "chunks in HTTP/1.0": _post(
            b"Transfer-Encoding: chunked", body=b"1\r\nx\r\n0\r\n\r\n", version=b"HTTP/1.0"
        ),
        "body of GET": _get(b"/a", b"Content-Length: 3") + b"abc",
        "body of HEAD": _get(b"/a", b"Content-Length: 3", method=b"HEAD") + b"abc",
        "body that was not announced": _get(b"/a") + b"abc",
        "body shorter than said": _post(b"Content-Length: 9", body=b"abc"),
        "body behind an offer": _post(*_UPGRADE, b"Content-Length: 3", body=b"abc"),
        "chunks behind an offer": _chunks(b"3\r\nabc\r\n0\r\n\r\n", *_UPGRADE),
        "body and Expect": _post(b"Expect: 100-continue", b"Content-Length: 3", body=b"abc"),
        "HEAD": _get(b"/a", method=b"HEAD"),
        "HEAD, then a second": _get(b"/a", method=b"HEAD") + _get(b"/b"),
        "a hundred at once": _get(b"/a") * 100,
        "a hundred offers at once": _get(b"/a", *_UPGRADE) * 100,
        "an offer, then one that is refused": _post(*_UPGRADE, b"Content-Length: 3", body=b"abc")
        + _get(b"/b", b"Content-Length: x"),
        "one, then one that is refused": _get(b"/a") + _get(b"/b", b"X : y"),
        "the last, then a second": _get(b"/a", b"Connection: close") + _get(b"/b"),
        "the last with an offer, then a second": _get(
            b"/a", b"Connection: close, Upgrade", b"Upgrade: x"
        )
        + _get(b"/b"),
        "head without an end": _get(b"/a")[:-2],
        "nothing but line ends": b"\r\n\r\n",
    }
)

REQUESTS = TARGETS | LINES | FIELDS | BODIES

_METHODS = "llhttp knows the methods that have a name in a standard, and no others"
_OLD = "HTTP/1.1 goes on, which must name a host: the target's, or else the upstream's own"
_HOSTS = "RFC 9112, 3.2: a Host that is no host is refused; the origin here does not look"
_EXTENSION = "not in the grammar of RFC 9112, 7.1.1; the origin here does not look"
DIFFERENCES = {
    "target /\xe9": "RFC 9112, 3.2: a target is ASCII; the origin here takes any byte",
    "target of HTTP/1.0 without Host": _OLD,
    "no Host in HTTP/1.0": _OLD,
    "method in lower case": _METHODS,
    "method that nobody knows": _METHODS,
    "field 'Proxy-Connection: close'": "llhttp takes it for Connection: one connection more",
    "Host with a blank in it": _HOSTS,
    "Host with a path": _HOSTS,
    "chunk b'5;'": _EXTENSION,
    "chunk b'5 ;a'": "old senders alone write it: RFC 9112, 7.1.1",
    "chunks with a trailer that frames": "RFC 9110, 6.5.1: no trailer may frame; llhttp refuses it",
}
"""By the names of requests: why something else is served through the sidecar, or less."""
