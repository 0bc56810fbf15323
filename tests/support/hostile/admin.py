"""Hostile requests to the admin address: broken HTTP, and ways round the token."""

from collections.abc import Iterator

from tests.support.hostile.messages import join, measured
from tests.support.hostile.shapes import chunk_cases, head_cases, smuggling_cases

_GUARDED = ("routes", "metrics", "shadow", "reload", "rollback")


def broken_requests(tag: str) -> Iterator[tuple[str, bytes]]:
    """Broken HTTP; the admin address must answer or close, and change nothing."""
    for kind in (smuggling_cases, chunk_cases, head_cases):
        for case in kind(tag):
            yield case.name, case.data


def unauthorised_requests(token: str) -> Iterator[tuple[str, bytes]]:
    """Requests for what the token guards, none of which shows it rightly."""
    lines = {
        "no token": [],
        "empty": ["Authorization:"],
        "no scheme": [f"Authorization: {token}"],
        "wrong": ["Authorization: Bearer wrong"],
        "empty bearer": ["Authorization: Bearer "],
        "prefix": [f"Authorization: Bearer {token[:-1]}"],
        "longer": [f"Authorization: Bearer {token}x"],
        "upper": [f"Authorization: Bearer {token.upper()}"],
        "basic": [f"Authorization: Basic {token}"],
        "high bytes": [b"Authorization: Bearer \xff\xfe"],
        "wrong then right": ["Authorization: Bearer x", f"Authorization: Bearer {token}"],
        "list": [f"Authorization: Bearer x, Bearer {token}"],
        "cookie": [f"Cookie: token={token}"],
        "forwarded": ["X-Forwarded-For: 127.0.0.1", "X-Original-URL: /trimtab/health"],
    }
    for end in _GUARDED:
        method = "POST" if end in {"reload", "rollback"} else "GET"
        for name, fields in lines.items():
            yield f"{end}: {name}", join(method, f"/trimtab/{end}", fields)
        for path in _spellings(end):
            yield f"{end}: {path}", join(method, path)
        yield f"{end}: in the query", join(method, f"/trimtab/{end}?token={token}")
        for odd in ("HEAD", "OPTIONS", "PUT", "TRACE"):
            yield f"{end}: {odd}", measured(odd, f"/trimtab/{end}", b"{}")


def _spellings(end: str) -> tuple[str, ...]:
    return (
        f"//trimtab/{end}",
        f"/trimtab//{end}",
        f"/trimtab/{end}/",
        f"/trimtab/%{ord(end[0]):02x}{end[1:]}",
        f"/trimtab/health/../{end}",
        f"/trimtab/health/%2e%2e/{end}",
        f"/trimtab/health%2f..%2f{end}",
        f"/trimtab/health;/{end}",
        f"/trimtab/{end}#/trimtab/health",
        f"/trimtab/{end}?/trimtab/health",
        f"http://127.0.0.1/trimtab/{end}",
        f"/TRIMTAB/{end.upper()}",
        f"/trimtab\\{end}",
        f"/trimtab/{end}%00",
        f"/trimtab/../etc/passwd%00{end}",
        f"/{end}",
    )
