"""Valid requests, broken at random by a seed."""

import random
from collections.abc import Callable
from dataclasses import replace

from tests.support.hostile.arena import Case
from tests.support.hostile.spellings import plain_requests, random_spelling

_WORDS = (
    b"\r\n",
    b"\n",
    b"\r",
    b"\r\n\r\n",
    b"\x00",
    b" ",
    b"\t",
    b":",
    b",",
    b"0\r\n\r\n",
    b"Content-Length: 5\r\n",
    b"Transfer-Encoding: chunked\r\n",
    b"GET /smuggled HTTP/1.1\r\nHost: x\r\n\r\n",
    b"%2f",
    b"/../",
    b"HTTP/1.0",
    b"\xff",
    b"[",
    b"}",
    b'"',
    b"\\",
    b"1e400",
    b"Connection: close\r\n",
    b"Upgrade: h2c\r\n",
    b"Expect: 100-continue\r\n",
    b"Content-Encoding: gzip\r\n",
    b"\r\n ",
)


def _flip(rng: random.Random, data: bytes) -> bytes:
    at = rng.randrange(len(data))
    return data[:at] + bytes([data[at] ^ (1 << rng.randrange(8))]) + data[at + 1 :]


def _set(rng: random.Random, data: bytes) -> bytes:
    at = rng.randrange(len(data))
    return data[:at] + bytes([rng.randrange(256)]) + data[at + 1 :]


def _insert(rng: random.Random, data: bytes) -> bytes:
    at = rng.randrange(len(data) + 1)
    return data[:at] + rng.choice(_WORDS) + data[at:]


def _insert_at_line(rng: random.Random, data: bytes) -> bytes:
    """Insert a word where a line of the head starts, where most of them have a meaning."""
    starts = [i + 2 for i in range(len(data)) if data.startswith(b"\r\n", i)]
    at = rng.choice(starts or [0])
    return data[:at] + rng.choice(_WORDS) + data[at:]


def _remove(rng: random.Random, data: bytes) -> bytes:
    at = rng.randrange(len(data))
    return data[:at] + data[at + rng.choice([1, 1, 2, 5, 20]) :]


def _repeat(rng: random.Random, data: bytes) -> bytes:
    at = rng.randrange(len(data))
    end = min(len(data), at + rng.randrange(1, 60))
    return data[:end] + data[at:end] + data[end:]


def _cut(rng: random.Random, data: bytes) -> bytes:
    return data[: rng.randrange(1, len(data) + 1)]


def _digit(rng: random.Random, data: bytes) -> bytes:
    """Change a digit: lengths, chunk sizes, versions, vectors."""
    places = [i for i, c in enumerate(data) if 48 <= c <= 57]
    if not places:
        return data
    at = rng.choice(places)
    return data[:at] + b"%d" % rng.randrange(10) + data[at + 1 :]


def _swap_lines(rng: random.Random, data: bytes) -> bytes:
    lines = data.split(b"\r\n")
    a, b = rng.randrange(len(lines)), rng.randrange(len(lines))
    lines[a], lines[b] = lines[b], lines[a]
    return b"\r\n".join(lines)


_MUTATIONS: tuple[Callable[[random.Random, bytes], bytes], ...] = (
    _flip,
    _set,
    _insert,
    _insert_at_line,
    _remove,
    _repeat,
    _cut,
    _digit,
    _swap_lines,
)


def mutated_case(rng: random.Random, tag: str) -> Case:
    """Break a valid request in one to four places, or splice two."""
    requests = plain_requests(tag)
    data = rng.choice(requests)
    if rng.random() < 0.15:
        other = rng.choice(requests)
        data = data[: rng.randrange(1, len(data))] + other[rng.randrange(len(other)) :]
    names = []
    for _ in range(rng.choice([1, 1, 1, 2, 3, 4])):
        mutate = rng.choice(_MUTATIONS)
        names.append(mutate.__name__.strip("_"))
        data = mutate(rng, data) or b"G"
    pieces = rng.choice([1, 1, 1, 2, 5])
    return Case("mutation " + "+".join(sorted(set(names))), data, pieces=pieces)


def random_case(seed: int, number: int, corpus: list[Case]) -> Case:
    """Give case ``number`` of the run with this seed; it depends on nothing else.

    Args:
        seed: Of the run, 0 to 999.
        number: From 0.
        corpus: Known shapes, written for ``PLACE``.
    """
    rng = random.Random(f"{seed}:{number}")  # noqa: S311  # hostile, not secret
    tag = tag_of(seed, number)
    kind = rng.random()
    if kind < 0.5:
        return mutated_case(rng, tag)
    if kind < 0.6:
        return random_spelling(rng, tag)
    case = rng.choice(corpus)
    return tagged(case, tag)


def tagged(case: Case, tag: str) -> Case:
    """Give a case that was written for ``PLACE`` a tag of its own."""
    return replace(case, data=case.data.replace(PLACE.encode(), tag.encode()))


def tag_of(seed: int, number: int) -> str:
    """Name a case; always as long, so that it can take ``PLACE`` in a message with a length."""
    return f"case={seed:03}-{number:07}-"


PLACE = tag_of(0, 0)
