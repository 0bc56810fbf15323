"""Which fields of Qdrant's requests hold query vectors: those of the installed client, all of them.

A new qdrant-client may bring a field that the rewriter has never heard of, and every query in it
would pass raw. Whatever may hold a vector must therefore stand in ``qdrant_fields.toml``.
"""

import tomllib
from collections.abc import Iterable, Mapping, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from google.protobuf import descriptor_pb2, descriptor_pool
from pydantic import BaseModel, ConfigDict, create_model
from qdrant_client import models

from tests.support.vector_fields import grpc_fields, grpc_methods, rest_calls, rest_fields
from trimtab.rewrite.qdrant_grpc import match_method
from trimtab.rewrite.qdrant_rest import match_parts
from trimtab.server.grpc.messages import known_methods

TABLE = Path(__file__).with_name("qdrant_fields.toml")
KNOWN: Mapping[str, Any] = tomllib.loads(TABLE.read_text(encoding="utf-8"))
TAUGHT = {
    "rest": "sidecar/trimtab/rewrite/qdrant_query.py",
    "grpc": "sidecar/trimtab/rewrite/qdrant_grpc.py",
}
QUERIES = {"query", "example"}
REST_WRITES = {
    "upsert_points": ("PUT", ()),
    "update_vectors": ("PUT", ("vectors",)),
    "batch_update": ("POST", ("batch",)),
}
REST_QUERIES = {
    "query_points": ("POST", ("query",)),
    "query_batch_points": ("POST", ("query", "batch")),
    "query_points_groups": ("POST", ("query", "groups")),
}


def class_of(protocol: str) -> dict[str, str]:
    """Give the class of every field of a protocol's; one that stands twice is an error."""
    pairs = [(name, kind) for kind, names in KNOWN[protocol].items() for name in names]
    assert len(pairs) == len(dict(pairs)), "a field stands in two classes"
    return dict(pairs)


def complaint(protocol: str, found: Iterable[str]) -> str:
    """Say which fields are in no class, and what to do; empty where all are."""
    new = sorted(set(found) - set(class_of(protocol)))
    if not new:
        return ""
    return (
        f"qdrant-client {version('qdrant-client')} has {protocol} fields that may hold a vector "
        f"and are not classified: {', '.join(new)}. Put each into the class that it belongs to in "
        f"tests/contract/{TABLE.name}; where a query vector can stand in it, teach "
        f"{TAUGHT[protocol]} to find it, and add a row to test_qdrant_wire_table.py"
    )


def classes_below(protocol: str, fields: Iterable[str]) -> set[str]:
    known = class_of(protocol)
    return {known[name] for name in fields}


def test_every_rest_field_that_may_hold_a_vector_is_classified() -> None:
    bodies = [model for body in rest_calls().values() for model in body]
    assert len(bodies) > 30
    assert not complaint("rest", rest_fields(bodies))


def test_every_grpc_field_that_may_hold_a_vector_is_classified() -> None:
    requests = grpc_methods()
    assert len(requests) > 50
    assert not complaint("grpc", grpc_fields(requests.values()))


@pytest.mark.skipif(version("qdrant-client") != KNOWN["client"], reason="another client")
def test_nothing_is_classified_that_is_gone() -> None:
    bodies = [model for body in rest_calls().values() for model in body]
    assert not set(class_of("rest")) - rest_fields(bodies)
    assert not set(class_of("grpc")) - grpc_fields(grpc_methods().values())


def test_every_rest_call_with_vectors_is_known_to_the_rewriter() -> None:
    queries, writes = set(), set()
    for name, body in rest_calls().items():
        below = classes_below("rest", rest_fields(body))
        queries |= {name} if below & QUERIES else set()
        writes |= {name} if "stored" in below else set()
    assert (queries, writes) == (set(REST_QUERIES), set(REST_WRITES))
    for is_write, calls in ((False, REST_QUERIES), (True, REST_WRITES)):
        for method, call in calls.values():
            found = match_parts(method, ("collections", "docs", "points", *call))
            assert found is not None
            assert found.is_write is is_write


def test_every_grpc_method_with_vectors_is_known_to_the_rewriter() -> None:
    unary = {method.path for method in known_methods()}
    for path, request in grpc_methods().items():
        below = classes_below("grpc", grpc_fields([request]))
        known = match_method(path)
        if below & QUERIES:
            assert known is not None, f"{path} can carry query vectors"
            assert not known.is_write
        elif "stored" in below:
            assert known is not None, f"{path} can carry documents' vectors"
            assert known.is_write
        else:
            assert known is None
        assert path in unary, f"{path} passes as a stream"


# The check itself: what it must see


class Inner(BaseModel):
    """A model that leads on."""

    vector: list[float] | None = None


@pytest.mark.parametrize(
    "hint",
    [
        list[float],
        list[float] | None,
        list[list[float]],
        Sequence[float],
        dict[str, list[float]],
        str | list[float] | None,
        list[int],
        tuple[float, ...],
        np.ndarray,
        bytes,
        Any,
        models.VectorInput,
        models.SparseVector | None,
        list[Inner],
        dict[str, Inner | str],
    ],
    ids=str,
)
def test_a_new_rest_field_of_any_such_type_is_noticed(hint: Any) -> None:
    settings = ConfigDict(arbitrary_types_allowed=True)
    model = create_model("HyperQuery", __config__=settings, hyper=(hint, ...), limit=(int, 5))
    found = rest_fields([model])
    assert "HyperQuery.hyper" in found
    assert "HyperQuery.limit" not in found
    said = complaint("rest", found)
    assert "HyperQuery.hyper" in said
    assert TABLE.name in said


@pytest.mark.parametrize("hint", [float, str, int | None, list[str], dict[str, str], bool])
def test_a_rest_field_without_room_for_a_vector_is_none_of_ours(hint: Any) -> None:
    model = create_model("Plain", value=(hint, ...))
    assert not rest_fields([model])


FIELD = descriptor_pb2.FieldDescriptorProto


@pytest.mark.parametrize(
    ("kind", "label", "is_noticed"),
    [
        (FIELD.TYPE_FLOAT, FIELD.LABEL_REPEATED, True),
        (FIELD.TYPE_DOUBLE, FIELD.LABEL_REPEATED, True),
        (FIELD.TYPE_UINT32, FIELD.LABEL_REPEATED, True),
        (FIELD.TYPE_BYTES, FIELD.LABEL_OPTIONAL, True),
        (FIELD.TYPE_BYTES, FIELD.LABEL_REPEATED, True),
        (FIELD.TYPE_MESSAGE, FIELD.LABEL_OPTIONAL, True),
        (FIELD.TYPE_FLOAT, FIELD.LABEL_OPTIONAL, False),
        (FIELD.TYPE_STRING, FIELD.LABEL_REPEATED, False),
    ],
)
def test_a_new_grpc_field_is_noticed(kind: Any, label: Any, is_noticed: bool) -> None:
    file = descriptor_pb2.FileDescriptorProto(name="hyper.proto", package="qdrant")
    file.syntax = "proto3"
    inner = file.message_type.add(name="HyperInner")
    inner.field.add(name="data", number=1, type=FIELD.TYPE_FLOAT, label=FIELD.LABEL_REPEATED)
    outer = file.message_type.add(name="HyperQuery")
    field = outer.field.add(name="hyper", number=1, type=kind, label=label)
    if kind == FIELD.TYPE_MESSAGE:
        field.type_name = ".qdrant.HyperInner"
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    found = grpc_fields([pool.FindMessageTypeByName("qdrant.HyperQuery")])
    assert ("HyperQuery.hyper" in found) is is_noticed
    assert bool(complaint("grpc", found)) is is_noticed
