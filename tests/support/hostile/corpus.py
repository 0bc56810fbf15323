"""All known shapes together."""

from collections.abc import Iterator

from tests.support.hostile.arena import Case
from tests.support.hostile.bodies import body_cases
from tests.support.hostile.messages import join
from tests.support.hostile.shapes import chunk_cases, head_cases, method_cases, smuggling_cases
from tests.support.hostile.spellings import spelling_cases
from tests.support.hostile.upstream import ANSWERS


def answer_cases(tag: str) -> Iterator[Case]:
    """Ask for each hostile answer of the upstream; a second request must not get its remains."""
    for name in ANSWERS:
        yield Case(f"answer {name}", join("GET", f"/answer/{name}?{tag}"), may_cut=True)


def small_cases(tag: str) -> list[Case]:
    """Every known shape that costs little to send."""
    kinds = (
        smuggling_cases,
        chunk_cases,
        head_cases,
        method_cases,
        spelling_cases,
        body_cases,
        answer_cases,
    )
    return [case for kind in kinds for case in kind(tag)]
