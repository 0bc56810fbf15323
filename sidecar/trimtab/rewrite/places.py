"""What stands at a place of a request where a query vector can stand."""

from dataclasses import dataclass
from enum import StrEnum
from typing import Any


class Kind(StrEnum):
    """What stands there."""

    DENSE = "dense"
    MULTI = "multi"
    SPARSE = "sparse"
    ID = "id"
    INFERENCE = "inference"
    UNKNOWN = "unknown"
    NOTHING = "nothing"

    __hash__ = str.__hash__  # an enum's own is Python, and kinds are looked up for every query


class Role(StrEnum):
    """What the query does with it.

    A *query* says what to look for. A *target* of relevance feedback does too, but beside
    coefficients that were trained on the scores of some retriever. An *example* (recommend,
    context, feedback) stands beside stored vectors, often in one mean with them, so it belongs to
    the space of the index.
    """

    QUERY = "query"
    FEEDBACK_TARGET = "feedback_target"
    EXAMPLE = "example"


Path = tuple[str | int, ...]
"""Keys and positions that lead to a value from the root of its request."""


@dataclass(slots=True, unsafe_hash=True)  # unfrozen: made for every query
class Place:
    """One place of a request.

    Attributes:
        vector_name: The collection's vector that it is compared with; empty for the unnamed one.
        kind: What stands there.
        role: What the query does with it.
        path: The way there from the root of the request.
        value: For a dense vector its numbers, for a multivector its rows of numbers, each anything
            that ``np.asarray`` takes; for what is to be embedded the object that says what;
            otherwise None.
    """

    vector_name: str
    kind: Kind
    role: Role
    path: Path
    value: Any = None
