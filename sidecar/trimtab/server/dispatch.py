"""What is to be done with a REST request, told from its head alone."""

from enum import Enum
from typing import NamedTuple

from trimtab.errors import ConfigError
from trimtab.rewrite.qdrant_rest import RestEndpoint, match_parts
from trimtab.server.bypass import Bypass, judge_path
from trimtab.server.paths import Paths
from trimtab.server.route_table import RouteTable

_KEPT_PLANS = 1024
_KEPT_TARGET_BYTES = 256
_REPEATABLE_METHODS = {b"GET", b"HEAD", b"OPTIONS"}
_READING_CALLS = {"query", "search", "recommend", "discover", "scroll", "count"}
_EMBEDDING_CALLS = {("v1", "embeddings"), ("v1", "models")}
_CHANGING_METHODS = {b"PUT", b"POST", b"PATCH", b"DELETE"}


class Way(Enum):
    """How a request is treated.

    PASS: on to Qdrant as it comes. ADAPT: read to its end first, and its query vectors or its
    write looked at. SERVE: read to its end and answered from a FAISS index. EMBED: read to its end
    and answered with embeddings.
    """

    PASS = "pass"  # noqa: S105  # no password
    ADAPT = "adapt"
    SERVE = "serve"
    EMBED = "embed"


class Plan(NamedTuple):
    """What is to be done with a request that was not adapted before it came here.

    Attributes:
        way: How the request is treated.
        kind: ``query``, ``write`` or ``other``.
        endpoint: The call, where it can carry vectors.
        is_repeatable: True where Qdrant may be asked twice without harm.
        forgets: What Qdrant said is out of date afterwards: a collection, "" for everything, or
            None for nothing.
        target: The target without what stands before Qdrant's own path.
        prefix: What does.
        bypass: For a call that is not known: why it looks like a search.
        suspect: Its collection, where it names one: without a route there, nothing is passed by.
    """

    way: Way
    kind: str
    endpoint: RestEndpoint | None
    is_repeatable: bool
    invalidates: str | None
    target: bytes = b""
    prefix: bytes = b""
    bypass: Bypass | None = None
    suspect: str = ""


UNPLANNED = Plan(Way.PASS, "other", None, is_repeatable=False, invalidates=None)
"""What stands for the plan of a request before its turn."""


class Planner:
    """Makes plans for one route table, and keeps the last ones: few targets are asked for often."""

    def __init__(self, table: RouteTable, paths: Paths, *, has_upstream: bool) -> None:
        """Take a table.

        Args:
            table: The table.
            paths: What stands before Qdrant's paths.
            has_upstream: False where there is no Qdrant, only indexes.
        """
        self.table = table
        self._paths = paths
        self._has_upstream = has_upstream
        self._made: dict[tuple[bytes, bytes], Plan] = {}

    def plan(self, method: bytes, target: bytes) -> Plan:
        """Tell what is to be done with a request.

        Args:
            method: The HTTP method.
            target: Path and query.
        """
        known = self._made.get((method, target))
        if known is None:
            known = self._make(method, target)
            if len(target) <= _KEPT_TARGET_BYTES:
                if len(self._made) >= _KEPT_PLANS:
                    self._made.clear()
                self._made[method, target] = known
        if known.bypass is not None and not self._may_be_routed(known.suspect):
            return known._replace(bypass=None)
        return known

    def _make(self, method: bytes, target: bytes) -> Plan:
        """Read method and path."""
        prefix, parts, own_target = self._paths.own(method.decode(), target)
        endpoint = match_parts(method.decode(), parts)
        kind = "other" if endpoint is None else "write" if endpoint.is_write else "query"
        way = _way(self.table, parts, endpoint, has_upstream=self._has_upstream)
        is_unknown = endpoint is None and way is Way.PASS and len(self.table.routes) > 0
        return Plan(
            way=way,
            kind=kind,
            endpoint=endpoint,
            is_repeatable=kind == "query" or _is_reading(method, parts),
            invalidates=None if kind == "query" else _invalidates(method, parts),
            target=own_target,
            prefix=prefix,
            bypass=judge_path(method.decode(), parts) if is_unknown else None,
            suspect=parts[1] if parts[:1] == ("collections",) and len(parts) > 1 else "",
        )

    def _may_be_routed(self, collection: str) -> bool:
        """Tell whether a collection may have a route; an alias may come to lead to one."""
        if not collection:
            return True
        try:
            routes = self.table.known_routes(collection)
        except ConfigError:
            return True
        return routes is None or bool(routes)


def _way(
    table: RouteTable,
    parts: tuple[str, ...],
    endpoint: RestEndpoint | None,
    *,
    has_upstream: bool,
) -> Way:
    """Tell how a request is treated."""
    if len(table.encoders) and parts in _EMBEDDING_CALLS:
        return Way.EMBED
    is_indexed = len(parts) > 1 and parts[0] == "collections" and parts[1] in table.collections
    if is_indexed or not has_upstream:
        return Way.SERVE
    if endpoint is None:
        return Way.PASS
    if endpoint.is_write:
        is_read = (table.is_guarded and len(table.routes) > 0) or table.encoders.write
    else:
        is_read = len(table.routes) > 0 or len(table.encoders) > 0
    return Way.ADAPT if is_read else Way.PASS


def _is_reading(method: bytes, parts: tuple[str, ...]) -> bool:
    """Tell whether a request changes nothing, so that it may be sent twice."""
    if method in _REPEATABLE_METHODS:
        return True
    if method != b"POST" or len(parts) < 3 or parts[0] != "collections":
        return False
    call = parts[2:]
    is_retrieval = call == ("points",)
    return call == ("facet",) or is_retrieval or (call[0] == "points" and call[1] in _READING_CALLS)


def _invalidates(method: bytes, parts: tuple[str, ...]) -> str | None:
    """Tell what Qdrant may say otherwise once it has answered a request.

    Changes of collections, their vectors and aliases, and snapshots put in place: QDRANT_WIRE, A.
    """
    if method not in _CHANGING_METHODS or not parts:
        return None
    if "aliases" in parts or "snapshots" in parts:
        return ""
    if parts[0] != "collections" or len(parts) < 2:
        return None
    return parts[1] if len(parts) == 2 or parts[2] == "vectors" else None
