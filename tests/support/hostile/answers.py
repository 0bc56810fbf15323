"""Reads what a proxy answers, as strictly as a client could."""

import re
from dataclasses import dataclass

_STATUS_LINE = re.compile(rb"HTTP/1\.[01] ([1-5][0-9][0-9]) [\t\x20-\x7e\x80-\xff]*")
_FIELD = re.compile(rb"([!#$%&'*+\-.^_`|~0-9A-Za-z]+):[ \t]*([\t\x20-\x7e\x80-\xff]*?)[ \t]*")
_LENGTH = re.compile(rb"[0-9]{1,18}")


@dataclass(frozen=True)
class Answer:
    """One answer; names of fields in lower case."""

    status: int
    fields: dict[bytes, bytes]
    body: bytes

    @property
    def is_refusal(self) -> bool:
        return self.status >= 400


class AnswerError(Exception):
    """A client could not read this, or not in one way."""


def read_answers(
    data: bytes, heads: list[bool], *, is_closed: bool, most: int | None = None
) -> tuple[list[Answer], bytes]:
    """Read the final answers in ``data``; give them and the bytes that are not one yet.

    Args:
        heads: For each request in order, whether its method was HEAD; the rest were not.
        is_closed: No more bytes will come.
        most: So many answers are read, and no more.

    Raises:
        AnswerError: These are no answers.
    """
    answers: list[Answer] = []
    at = 0
    while at < len(data) and len(answers) != most:
        head_end = data.find(b"\r\n\r\n", at)
        if head_end < 0:
            break
        status, fields = _read_head(data[at:head_end])
        at_body = head_end + 4
        if status < 200:
            at = at_body
            continue
        is_bare = status in {204, 304} or (len(answers) < len(heads) and heads[len(answers)])
        found = (b"", at_body) if is_bare else _read_body(data, at_body, fields, is_closed)
        if found is None:
            break
        answers.append(Answer(status, fields, found[0]))
        at = found[1]
    return answers, data[at:]


def _read_head(head: bytes) -> tuple[int, dict[bytes, bytes]]:
    line, *rest = head.split(b"\r\n")
    status = _STATUS_LINE.fullmatch(line)
    if status is None:
        raise AnswerError(f"status line {line[:80]!r}")
    fields: dict[bytes, bytes] = {}
    for text in rest:
        match = _FIELD.fullmatch(text)
        if match is None:
            raise AnswerError(f"header field {text[:80]!r}")
        name = match[1].lower()
        if name in fields and name in {b"content-length", b"transfer-encoding"}:
            raise AnswerError(f"several {name!r}")
        fields[name] = match[2]
    if b"content-length" in fields and b"transfer-encoding" in fields:
        raise AnswerError("both framings")
    if _LENGTH.fullmatch(fields.get(b"content-length", b"0")) is None:
        raise AnswerError("length")
    if fields.get(b"transfer-encoding", b"chunked").lower() != b"chunked":
        raise AnswerError("coding")
    return int(status[1]), fields


def _read_body(
    data: bytes, at: int, fields: dict[bytes, bytes], is_closed: bool
) -> tuple[bytes, int] | None:
    if b"transfer-encoding" in fields:
        return _read_chunks(data, at)
    if b"content-length" in fields:
        end = at + int(fields[b"content-length"])
        return (data[at:end], end) if end <= len(data) else None
    return (data[at:], len(data)) if is_closed else None


def _read_chunks(data: bytes, at: int) -> tuple[bytes, int] | None:
    body = b""
    while (end := data.find(b"\r\n", at)) >= 0:
        if re.fullmatch(rb"[0-9A-Fa-f]{1,15}(;.*)?", data[at:end]) is None:
            raise AnswerError("chunk size")
        size = int(data[at:end].partition(b";")[0], 16)
        at = end + 2
        if size == 0:
            last = data.find(b"\r\n\r\n", at - 2)
            return (body, last + 4) if last >= 0 else None
        if at + size + 2 > len(data):
            return None
        if data[at + size : at + size + 2] != b"\r\n":
            raise AnswerError("chunk end")
        body += data[at : at + size]
        at += size + 2
    return None
