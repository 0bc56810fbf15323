"""Raw HTTP messages out of other projects' own tests, from checkouts of them; none is kept here.

llhttp (MIT): `test/request/*.md` and `test/response/*.md`, read as its `test/md-test.ts` does.
HTTP Garden (GPL-3.0): the payloads in `TROPHIES.md`.
"""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

_CASE = re.compile(r"<!-- meta=\{.*?\} -->\s*```http\n(.*?)```", re.DOTALL)
_REPEAT = re.compile(r"\$\{'(.*?)'\.repeat\((\d+)\)\}")
_PAYLOAD = re.compile(r"^\s*- Payload:(.*)$", re.MULTILINE)
_ESCAPES = {"\\r": "\r", "\\n": "\n", "\\t": "\t", "\\f": "\f"}


def llhttp_messages(checkout: Path, kind: str) -> Iterator[tuple[str, bytes]]:
    """Give each input under ``test/KIND``, with where it stands."""
    for path in sorted((checkout / "test" / kind).glob("*.md")):
        text = path.read_text(encoding="utf-8")
        for found in _CASE.finditer(text):
            line = text.count("\n", 0, found.start()) + 1
            yield f"{kind}/{path.name}:{line}", _unescaped(found[1]).encode("latin-1", "replace")


def _unescaped(text: str) -> str:
    text = text.removesuffix("\n")
    text = re.sub(r"\\(\r\n|\r|\n)", "", text)
    text = re.sub(r"\r\n|\r|\n", "\r\n", text)
    for written, meant in _ESCAPES.items():
        text = text.replace(written, meant)
    text = re.sub(r"\\x([0-9a-fA-F]+)", lambda found: chr(int(found[1], 16)), text)
    text = re.sub(r"\\([0-7]{1,3})", lambda found: chr(int(found[1], 8)), text)
    return _REPEAT.sub(lambda found: found[1] * int(found[2]), text)


def garden_payloads(checkout: Path) -> Iterator[tuple[str, bytes]]:
    """Give each payload that found a fault in some server or proxy."""
    text = (checkout / "TROPHIES.md").read_text(encoding="utf-8")
    for found in _PAYLOAD.finditer(text):
        pieces = re.findall(r"`([^`]+)`", found[1])
        if pieces:
            line = text.count("\n", 0, found.start()) + 1
            yield f"TROPHIES.md:{line}", b"".join(_literal(piece) for piece in pieces)


def _literal(written: str) -> bytes:
    literal = ast.literal_eval("b'" + written.replace("'", "\\'") + "'")
    assert isinstance(literal, bytes)
    return literal


def with_host(data: bytes) -> bytes:
    """Give a message a Host where it lacks one, for which alone it would be refused."""
    if b"\r\n" not in data.lstrip(b"\r\n") or re.search(rb"(?i)\r\nhost\s*:", data):
        return data
    at = data.index(b"\r\n", len(data) - len(data.lstrip(b"\r\n")))
    return data[:at] + b"\r\nHost: a" + data[at:]
