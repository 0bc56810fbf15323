"""The REST endpoints: what each path and verb does to the collections."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

from tests.support.qdrant import legacy, updates
from tests.support.qdrant.collection import Collection
from tests.support.qdrant.errors import WireError, bad_format, bad_request, not_found
from tests.support.qdrant.grouping import query_groups
from tests.support.qdrant.registry import Registry

Json = dict[str, Any]


@dataclass
class Call:
    """One request: the collections, what the path names, the body and the query string."""

    registry: Registry
    names: list[str]
    data: Any
    params: dict[str, str]

    @property
    def collection(self) -> Collection:
        return self.registry.find(self.names[0])

    @property
    def body(self) -> Json:
        if not isinstance(self.data, dict):
            raise bad_format("invalid type: expected a map")
        return self.data


Handler = Callable[[Call], Any]


def _update_result(call: Call) -> Json:
    status = "acknowledged" if call.params.get("wait") == "false" else "completed"
    return {"operation_id": call.collection.operations, "status": status}


def _apply(operation: str, call: Call) -> Json:
    updates.apply(call.collection, operation, call.body)
    return _update_result(call)


def _apply_batch(call: Call) -> list[Json]:
    updates.apply_batch(call.collection, call.body)
    return [_update_result(call)] * len(call.body["operations"])


def _create_index(call: Call) -> Json:
    updates.create_index(call.collection, call.body["field_name"], call.body["field_schema"])
    return _update_result(call)


def _list_collections(call: Call) -> Json:
    return {"collections": [{"name": name} for name in call.registry.collections]}


def _create_collection(call: Call) -> bool:
    call.registry.create(call.names[0], call.body)
    return True


def _change_aliases(call: Call) -> bool:
    call.registry.change_aliases(call.body["actions"])
    return True


def _get_point(call: Call) -> Json:
    text = call.names[1]
    point_id: Any = int(text) if text.isdecimal() else text
    try:
        found = call.collection.retrieve({"ids": [point_id], "with_vector": True})
    except WireError as error:
        if error.status == 400:
            raise bad_request(f'Can not recognize "{text}" as point id') from error
        raise
    if not found:
        raise not_found(f"Point with id {text} does not exists!")
    return found[0]


def _query_batch(call: Call) -> list[Json]:
    collection = call.collection
    return [{"points": collection.query(one)} for one in call.body["searches"]]


C, P = "collections/{}", "collections/{}/points"

ROUTES: dict[tuple[str, str], Handler] = {
    ("GET", "collections"): _list_collections,
    ("GET", C): lambda call: call.collection.info(),
    ("PUT", C): _create_collection,
    ("DELETE", C): lambda call: call.registry.delete(call.names[0]),
    ("GET", f"{C}/exists"): lambda call: {"exists": call.registry.exists(call.names[0])},
    ("POST", "collections/aliases"): _change_aliases,
    ("GET", "aliases"): lambda call: call.registry.list_aliases(),
    ("GET", f"{C}/aliases"): lambda call: call.registry.list_aliases(call.names[0]),
    ("PUT", f"{C}/index"): _create_index,
    ("POST", f"{C}/facet"): lambda call: call.collection.facet(call.body),
    ("PUT", P): partial(_apply, "upsert"),
    ("POST", P): lambda call: call.collection.retrieve(call.body),
    ("GET", f"{P}/{{}}"): _get_point,
    ("POST", f"{P}/batch"): _apply_batch,
    ("POST", f"{P}/delete"): partial(_apply, "delete"),
    ("PUT", f"{P}/vectors"): partial(_apply, "update_vectors"),
    ("POST", f"{P}/vectors/delete"): partial(_apply, "delete_vectors"),
    ("POST", f"{P}/payload"): partial(_apply, "set_payload"),
    ("POST", f"{P}/payload/delete"): partial(_apply, "delete_payload"),
    ("POST", f"{P}/scroll"): lambda call: call.collection.scroll(call.body),
    ("POST", f"{P}/count"): lambda call: call.collection.count(call.body),
    ("POST", f"{P}/query"): lambda call: {"points": call.collection.query(call.body)},
    ("POST", f"{P}/query/batch"): _query_batch,
    ("POST", f"{P}/query/groups"): lambda call: query_groups(call.collection, call.body),
}


def _add_legacy(verb: str) -> None:
    """Add an endpoint older than `points/query`, with its batch and its groups."""
    read = legacy.VERBS[verb]
    ROUTES["POST", f"{P}/{verb}"] = lambda call: call.collection.query(read(call.body))
    ROUTES["POST", f"{P}/{verb}/batch"] = lambda call: [
        call.collection.query(read(one)) for one in call.body["searches"]
    ]
    if verb != "discover":
        ROUTES["POST", f"{P}/{verb}/groups"] = lambda call: query_groups(
            call.collection, read(call.body)
        )


for _verb in legacy.VERBS:
    _add_legacy(_verb)


def _index() -> dict[tuple[str, int], list[tuple[list[str], Handler]]]:
    table: dict[tuple[str, int], list[tuple[list[str], Handler]]] = {}
    for (method, path), handler in ROUTES.items():
        parts = path.split("/")
        table.setdefault((method, len(parts)), []).append((parts, handler))
    for candidates in table.values():
        candidates.sort(key=lambda candidate: candidate[0].count("{}"))  # fixed words go first
    return table


_TABLE = _index()


def find_route(method: str, parts: list[str]) -> tuple[Handler, list[str]] | None:
    """What answers a path, and what the path names; None where nothing does."""
    for pattern, handler in _TABLE.get((method, len(parts)), []):
        if all(want in ("{}", part) for want, part in zip(pattern, parts, strict=True)):
            names = [p for want, p in zip(pattern, parts, strict=True) if want == "{}"]
            return handler, names
    return None
