"""Query vectors in the arguments of the official Python client.

Nothing that the caller handed over is changed: what leads to a new vector is copied, one object a
level, and everything beside it is shared.
"""

import copy
from collections.abc import Iterator, Mapping, Sequence
from typing import Any
from uuid import UUID

import numpy as np
from google.protobuf.message import Message
from numpy.typing import NDArray

from trimtab.errors import MalformedError
from trimtab.rewrite.places import Kind, Path, Place
from trimtab.rewrite.qdrant_grpc import find_in_level, replace_in_message
from trimtab.rewrite.qdrant_query import Fields, QueryFinder

Arguments = Mapping[str, Any]
"""Arguments by name: ``query``, ``prefetch`` and ``using``, or ``searches``."""


def find_in_arguments(arguments: Arguments) -> list[Place]:
    """Find every place of a call's arguments where a query vector can stand.

    Args:
        arguments: ``query``, ``prefetch`` and ``using`` of ``query_points`` or
            ``query_points_groups``, or the ``searches`` of ``query_batch_points``; in them the
            models of qdrant-client, or protobuf messages where it takes such.

    Returns:
        The places.

    Raises:
        MalformedError: Something in them is no vector; Qdrant would say so too.
    """
    finder = ModelFinder()
    if "searches" in arguments:
        return list(finder.find_batch(arguments, finder.find_query))
    return list(finder.find_query(arguments))


def replace_in_arguments(
    arguments: Arguments, changes: Sequence[tuple[Place, NDArray[np.float32]]]
) -> dict[str, Any]:
    """Put adapted vectors in their places, in copies.

    Args:
        arguments: What the places were found in; not changed.
        changes: Each place with its adapted vector ``(dim,)``, or rows ``(n, dim)``, float32.

    Returns:
        New arguments.
    """
    changed = dict(arguments)
    for place, adapted in changes:
        changed = _replace(changed, place.path, place, adapted)
    return changed


def _replace(value: Any, path: Path, place: Place, adapted: NDArray[np.float32]) -> Any:
    """Copy a value with something new at the end of a path."""
    if not path:
        return adapted.tolist()
    if isinstance(value, Message):
        return replace_in_message(value, path, place.kind, adapted)
    step, rest = path[0], path[1:]
    if isinstance(value, list | tuple):
        items = list(value)
        items[step] = _replace(items[step], rest, place, adapted)  # type: ignore[index]  # ints lead into lists
        return items
    clone = copy.copy(value)
    fields = clone if isinstance(clone, dict) else clone.__dict__
    fields[step] = _replace(fields[step], rest, place, adapted)
    return clone


class ModelFinder(QueryFinder):
    """Looks at pydantic models, plain values, and protobuf messages where they stand for models."""

    def find_level(self, level: Any, path: Path, deeper: list[tuple[Any, Path]]) -> Iterator[Place]:
        """Find the places of one level, written as a model or as a message."""
        if isinstance(level, Message):
            yield from find_in_level(level, path)
        else:
            yield from super().find_level(level, path, deeper)

    def fields(self, value: Any) -> Fields | None:
        """Give the fields of a model."""
        if isinstance(value, dict):
            return value
        return getattr(value, "__dict__", None)

    def items(self, value: Any) -> Sequence[Any] | None:
        """Give the items of a list."""
        return value if isinstance(value, list | tuple) else None

    def text(self, value: Any) -> str | None:
        """Give the text of a string."""
        return value if isinstance(value, str) else None

    def is_id(self, value: Any) -> bool:
        """Numbers, strings and UUIDs are ids."""
        return isinstance(value, int | str | UUID) and not isinstance(value, bool)

    def array(self, value: Any) -> tuple[Kind, Any] | None:
        """Tell a list or an array of numbers from one of rows."""
        if isinstance(value, np.ndarray):
            value = list(value) if value.ndim > 1 else value
        elif not isinstance(value, list | tuple):
            return None
        if len(value) and isinstance(value[0], list | tuple | np.ndarray):
            return Kind.MULTI, [_floats(row) for row in value]
        return Kind.DENSE, _floats(value)


def _floats(numbers: Any) -> NDArray[np.float32]:
    """Convert numbers that the client's models have checked."""
    try:
        with np.errstate(over="ignore"):
            return np.array(numbers, dtype=np.float32)
    except (TypeError, ValueError, OverflowError) as error:
        raise MalformedError("a vector holds something else than numbers") from error
