"""Ways to write a query's path: those that Qdrant takes for a query, and those that it does not."""

import random
from collections.abc import Iterator

from tests.support.hostile.arena import Case
from tests.support.hostile.meaning import is_query
from tests.support.hostile.messages import QUERY_PATH, join, measured, query_body, upsert_body

_SPELLINGS = (
    "/collections/docs/points/query",
    "//collections//docs///points/query//",
    "///collections/docs/points/query",
    "/collections/docs/points/query/",
    "/%63ollections/docs/points/query",
    "/collections/%64%6F%63%73/points/query",
    "/collections/%64%6f%63%73/points/query",
    "/collections/docs/p%6fints/%71uer%79/",
    "/collections/docs/%70%6f%69%6e%74%73/query",
    "http://qdrant.test/collections/docs/points/query",
    "http://evil.test:80//collections/docs/points/query/",
    "HTTP://qdrant.test/collections/docs/points/query",
    "https://qdrant.test/collections/docs/points/query",
    "ftp://x/collections/docs/points/query",
    "http://u:p@x/collections/%64ocs/points/query",
    "/collections/docs/points/query#fragment",
    "/collections/docs/points/query/#/x",
    "/collections/docs/points/query%2f",
    "/collections/docs/points%2fquery",
    "/collections%2Fdocs/points/query",
    "/collections/docs%2Fpoints/query",
    "/collections/%2564ocs/points/query",
    "/collections/docs/points/%2571uery",
    "/collections/docs/./points/query",
    "/collections/x/../docs/points/query",
    "/collections/docs/points/x/../query",
    "/collections/docs/points/query/.",
    "/./collections/docs/points/query",
    "/collections/%2e/docs/points/query",
    "/collections/docs/points/%2e%2e/query",
    "/collections\\docs\\points\\query",
    "/collections/docs/points\\query",
    "/collections/docs;a=b/points/query",
    "/collections/docs/points/query;a=b",
    "/collections/docs/points/query%00",
    "/collections/docs/points/query%20",
    "/collections/docs%20/points/query",
    "/collections/docs/points/query.json",
    "/collections/docs/points/Query",
    "/Collections/docs/points/query",
    "/collections/Docs/points/query",
    "/collections/docs/points/query/x",
    "/x/collections/docs/points/query",
    "/collections/docs/points/qu%zzery",
    "/collections/docs/points/query%",
    "/collections/docs/points/query%7",
    "/collections/do+cs/points/query",
    "/collections/do%2bcs/points/query",
    "/collections/d%C3%B6cs/points/query",
    "/collections/\xef\xbd\x84ocs/points/query",
    "/collections/do%E2%80%8Bcs/points/query",
    "/collections/docs/points/query/batch",
    "/collections/docs/points/query//batch/",
    "/collections/docs/points/query/b%61tch",
    "/collections/docs/points/query/groups",
    "/collections/docs/points/search",
    "/collections/docs/points/search/batch",
    "/collections/docs/points/search/groups/",
    "/collections/docs/points/%73earch",
    "*/collections/docs/points/query",
    "collections/docs/points/query",
    "//evil.test/collections/docs/points/query",
    "http:/collections/docs/points/query",
    "http:///collections/docs/points/query",
)


def spelling_cases(tag: str) -> Iterator[Case]:
    """Every spelling as a query, and the same body sent as a write."""
    for path in _SPELLINGS:
        yield spelled(path, tag)
    body = query_body(tag=tag)
    for method in ("PUT", "GET", "DELETE", "PATCH", "OPTIONS"):
        yield Case(f"{method} query", measured(method, f"{QUERY_PATH}?{tag}", body), "pass")
    writes = ("points", "points/vectors", "points/batch", "points/payload", "points/delete")
    for path in writes:
        for method in ("PUT", "POST"):
            target = f"/collections/docs/{path}?{tag}"
            yield Case(f"write {method} {path}", measured(method, target, upsert_body()), "pass")
            yield Case(
                f"write {method} {path} shaped like a query", measured(method, target, body), "pass"
            )
    for query in ("timeout=3", "", "a=/collections/x", "%00", "?", "x=%2f..%2f", "a=b#c"):
        yield Case(f"query string {query!r}", measured("POST", f"{QUERY_PATH}?{tag}{query}", body))
    for kind in ("application/json; charset=utf-8", "application/vnd.api+json", "text/plain", "x"):
        data = measured("POST", f"{QUERY_PATH}?{tag}", body, [f"Content-Type: {kind}"])
        yield Case(f"content type {kind}", data)


def spelled(path: str, tag: str) -> Case:
    """Write a query whose path is spelled so; adapted just where Qdrant would take it for one."""
    body = query_body(tag=tag)
    if "/batch" in path or "b%61tch" in path:
        body = b'{"searches": [%b]}' % body
    if "search" in path or "%73earch" in path:
        body = body.replace(b'"query"', b'"vector"')
    before, sharp, after = path.partition("#")
    target = f"{before}?{tag}{sharp}{after}"
    is_taken = is_query(b"POST", target.encode("latin-1"))
    is_plain = target.startswith("/") and not sharp
    must = "adapt" if is_taken and is_plain else ""
    if not is_taken and target.startswith("/"):
        must = "pass" if path.isascii() and "\\" not in path else ""
    return Case(f"path {path}", measured("POST", target, body), must)


def random_spelling(rng: random.Random, tag: str) -> Case:
    """Spell a query's path at random, so that Qdrant takes it, or nearly."""
    parts = ["collections", "docs", "points", "query"]
    if rng.random() < 0.1:
        parts[rng.randrange(4)] += rng.choice(["x", "%00", ";", ".", "%2f", "%25", "\\"])
    text = ""
    for part in parts:
        text += "/" * rng.choice([1, 1, 1, 2, 5])
        text += "".join(
            rng.choice([f"%{ord(c):02x}", f"%{ord(c):02X}"])
            if c.isalpha() and rng.random() < 0.3
            else c
            for c in part
        )
    return spelled(text + "/" * rng.choice([0, 0, 1, 3]), tag)


def plain_case(tag: str) -> Case:
    """Write the query whose answer must stay right whatever else goes on."""
    return Case("valid", measured("POST", f"{QUERY_PATH}?{tag}", query_body(tag=tag)), "adapt")


def plain_requests(tag: str) -> list[bytes]:
    """Write valid requests of many kinds, to be mutated."""
    body = query_body(tag=tag)
    docs = "/collections/docs"
    te = ["Transfer-Encoding: chunked"]
    chunks = b"%x\r\n%b\r\n%x\r\n%b\r\n0\r\n\r\n" % (9, body[:9], len(body) - 9, body[9:])
    return [
        measured("POST", f"{docs}/points/query?{tag}", body, ["api-key: k"]),
        join("POST", f"{docs}/points/query?{tag}", te, chunks),
        measured("POST", f"{docs}/points/query/batch?{tag}", b'{"searches": [%b]}' % body),
        measured("PUT", f"{docs}/points?wait=true&{tag}", upsert_body(2)),
        join("PUT", f"{docs}/points?{tag}", te, b"%x\r\n%b\r\n0\r\n\r\n" % (len(body), body)),
        join("GET", f"/collections/other?{tag}", ["Accept: */*", "User-Agent: x"]),
        join("DELETE", f"/collections/other/index/a?{tag}"),
        measured("POST", f"/collections/other/points/scroll?{tag}", b'{"limit": 3}'),
        join("GET", f"/telemetry?{tag}") + measured("POST", f"{docs}/points/query?{tag}", body),
    ]
