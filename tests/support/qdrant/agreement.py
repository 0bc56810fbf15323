"""Puts one question to the official client's local mode and to a server, and compares."""

import math
from collections.abc import Callable
from typing import Any

from pydantic import BaseModel
from qdrant_client import QdrantClient

# The engine scores in float32, some distances through SIMD; local mode in float64 over float32.
SCORE_REL, SCORE_ABS = 1e-3, 1e-4
# What the two number each in their own way.
_OWN = {"version", "operation_id", "shard_key"}

Ask = Callable[[QdrantClient, str], Any]


class Pair:
    """Local mode and the server with the same points in a collection of the same name."""

    def __init__(self, local: QdrantClient, remote: QdrantClient, name: str) -> None:
        self.local, self.remote, self.name = local, remote, name

    def agree(self, ask: Ask, arrange: Callable[[Any], Any] = lambda answer: answer) -> Any:
        ours = arrange(plain(ask(self.remote, self.name)))
        theirs = arrange(plain(ask(self.local, self.name)))
        assert same(ours, theirs), f"the server: {ours}\nlocal mode: {theirs}"
        return ours


def plain(value: Any) -> Any:
    """Models, tuples and lists of them as plain values, without what each side numbers itself."""
    if isinstance(value, BaseModel):
        fields = {n: plain(v) for n, v in vars(value).items() if n not in _OWN and v is not None}
        if fields.get("payload") == {}:
            del fields["payload"]  # gRPC has no word for a payload that was not asked for
        return fields
    if isinstance(value, dict):
        return {name: plain(one) for name, one in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain(one) for one in value]
    return value


def order_ties(points: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Points of one score in order of id, without the last score's: more may share it."""
    last = points[-1]["score"]
    kept = [point for point in points if not same(point["score"], last)]
    return sorted(kept, key=lambda point: (-round(point["score"], 4), str(point["id"])))


def same(ours: Any, theirs: Any) -> bool:
    if isinstance(ours, float) and isinstance(theirs, (int, float)):
        return math.isclose(ours, theirs, rel_tol=SCORE_REL, abs_tol=SCORE_ABS)
    if isinstance(ours, dict) and isinstance(theirs, dict):
        return ours.keys() == theirs.keys() and all(same(ours[n], theirs[n]) for n in ours)
    if isinstance(ours, list) and isinstance(theirs, list):
        return len(ours) == len(theirs) and all(map(same, ours, theirs))
    return ours == theirs
