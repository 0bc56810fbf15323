"""Qdrant's paths into a payload: ``a.b``, ``tags[]``, ``parts[0].name``, ``"a.b".c``.

As read by qdrant-client 1.20 (local/json_path_parser.py), which follows the server's
lib/segment/src/json_path.
"""

import re
from functools import lru_cache
from typing import Any

from trimtab.faiss_collections.replies import Json, bad_format

Step = str | int | None
"""A key, a position in an array, or None for each item of one."""

_STEP = re.compile(r'(?:^|(?!^)\.)(?:"([^"]*)"|([\w-]+))|(?!^)\[([0-9]*)\]')


@lru_cache(maxsize=1024)
def read_path(text: str) -> tuple[Step, ...]:
    """Read a path."""
    steps: list[Step] = []
    at = 0
    while at < len(text) or not steps:
        found = _STEP.match(text, at)
        if found is None:
            raise bad_format(f"`{text}` is not a valid path into a payload")
        quoted, plain, position = found.groups()
        if position is None:
            steps.append(plain if quoted is None else quoted)
        else:
            steps.append(int(position) if position else None)
        at = found.end()
    return tuple(steps)


def find_values(payload: Any, path: tuple[Step, ...]) -> list[Any]:
    """Give every value that a path selects, arrays whole."""
    found = [payload]
    for step in path:
        if isinstance(step, str):
            found = [each[step] for each in found if isinstance(each, dict) and step in each]
        else:
            which = slice(None) if step is None else slice(step, step + 1)
            found = [item for each in found if isinstance(each, list) for item in each[which]]
    return found


class PayloadSelector:
    """What of a payload an answer carries: ``with_payload``."""

    def __init__(self, value: Any, *, default: bool) -> None:
        """Read ``true``, ``false``, a list of paths, or ``include`` or ``exclude`` with one."""
        value = default if value is None else value
        self.is_all, self.is_none = value is True, value is False
        self._keeps = True
        self._tree: dict[Step, Any] = {}
        if isinstance(value, bool):
            return
        if isinstance(value, dict):
            self._keeps = value.get("include") is not None
            value = value.get("include") if self._keeps else value.get("exclude")
        if not isinstance(value, list) or not all(isinstance(key, str) for key in value):
            raise bad_format("data did not match any variant of untagged enum WithPayloadInterface")
        self._tree = _grow_tree(value)

    def select(self, payload: Json) -> Any:
        """Give the part of a payload that is asked for."""
        return payload if self.is_all else _prune(payload, self._tree, keeps=self._keeps)


def _grow_tree(keys: list[str]) -> dict[Step, Any]:
    """Merge paths into a tree in which True selects all below."""
    tree: dict[Step, Any] = {}
    for key in keys:
        *parents, last = read_path(key)
        node: Any = tree
        for part in parents:
            node = node if node is True else node.setdefault(part, {})
        if node is not True:
            node[last] = True
    return tree


def _prune(value: Any, tree: dict[Step, Any], *, keeps: bool) -> Any:
    """Keep, or drop, what the tree selects; of arrays only ``[]`` does, as in Qdrant's core."""
    if isinstance(value, dict):
        pruned: Json = {}
        for key, each in value.items():
            below = tree.get(key)
            if isinstance(below, dict):
                pruned[key] = _prune(each, below, keeps=keeps)
            elif (below is True) == keeps:
                pruned[key] = each
        return pruned
    if isinstance(value, list):
        below = tree.get(None)
        if isinstance(below, dict):
            return [_prune(each, below, keeps=keeps) for each in value]
        return value if (below is True) == keeps else []
    return value
