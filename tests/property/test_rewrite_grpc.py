"""gRPC: the intended vectors change, every other field stays, known or not; REST says the same."""

from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import numpy as np
import orjson
import pytest
from google.protobuf.message import Message
from hypothesis import given, settings
from hypothesis import strategies as st
from qdrant_client import grpc, models
from qdrant_client.conversions.conversion import RestToGrpc
from qdrant_client.grpc import points_service_pb2

from tests.property.test_rewrite_rest import (
    POLICIES,
    RIGS,
    Rig,
    as_row,
    close,
    count_adapted,
    send,
    unless_beyond,
)
from tests.support.qdrant_requests import (
    COLLECTION,
    DIM_IN,
    Case,
    Refused,
    RequestWriter,
    Row,
    as_json,
    differences,
)
from trimtab.errors import RefusedError
from trimtab.rewrite import Policies, Reason
from trimtab.rewrite.qdrant_grpc import match_method
from trimtab.routing.adapt_grpc import adapt_grpc
from trimtab.routing.outcome import Outcome

REQUESTS = 200
SOME = settings(max_examples=200, deadline=None)
UNKNOWN_FIELD = bytes([0xF2, 0xFF, 0x03, 0x08, 0x0A, 0x06, *b"abcdef"])
"""Field 8190 with eight bytes, which look like a message with a text or numbers."""
REQUEST_OF = {
    "Query": grpc.QueryPoints,
    "QueryBatch": grpc.QueryBatchPoints,
    "QueryGroups": grpc.QueryPointGroups,
    "Search": grpc.SearchPoints,
    "SearchBatch": grpc.SearchBatchPoints,
    "SearchGroups": grpc.SearchPointGroups,
    "Recommend": grpc.RecommendPoints,
    "RecommendBatch": grpc.RecommendBatchPoints,
    "RecommendGroups": grpc.RecommendPointGroups,
    "Discover": grpc.DiscoverPoints,
    "DiscoverBatch": grpc.DiscoverBatchPoints,
}


def as_message(case: Case) -> Case:
    """Write a model's case as a message, with the client's own conversion."""
    if case.call == "query":
        message = RestToGrpc.convert_query_request(case.request, COLLECTION)
        return Case("Query", message, case.slots)
    if case.call == "query/batch":
        parts = [RestToGrpc.convert_query_request(one, "") for one in case.request.searches]
        batch = grpc.QueryBatchPoints(collection_name=COLLECTION, query_points=parts)
        return Case("QueryBatch", batch, case.slots)
    asked = case.request
    shared = ("query", "using", "prefetch", "filter", "params", "score_threshold", "limit")
    request = models.QueryRequest(**{name: getattr(asked, name) for name in shared})
    groups = grpc.QueryPointGroups(group_by=asked.group_by, group_size=asked.group_size)
    for field, value in RestToGrpc.convert_query_request(request, COLLECTION).ListFields():
        if field.is_repeated:
            getattr(groups, field.name).extend(value)
        elif field.message_type:
            getattr(groups, field.name).CopyFrom(value)
        else:
            setattr(groups, field.name, value)
    return Case("QueryGroups", groups, case.slots)


class MessageWriter(RequestWriter):
    """Writes messages of the legacy methods, with vectors in every form that they may have."""

    def flat_vector(self, name: str, role: str) -> grpc.Vector:
        """Write the deprecated form, whose other fields say what its numbers are."""
        kind, width = self.one("dense", "sparse", "multi"), self.width()
        if kind == "sparse":
            self.note(name, "sparse", role)
            indices = grpc.SparseIndices(data=range(width))
            return grpc.Vector(data=self.numbers(width), indices=indices)
        rows = [self.numbers(width) for _ in range(self.one(1, 2, 5) if kind == "multi" else 1)]
        self.note(name, kind, role, rows, flat=True)
        count = len(rows) if kind == "multi" else None
        return grpc.Vector(data=np.ravel(rows).tolist(), vectors_count=count)

    def vector_message(self, name: str, role: str) -> grpc.Vector:
        if self.random.random() < 0.4:
            return self.flat_vector(name, role)
        value = RestToGrpc.convert_vector_input(self.vector(name, role, "dddmst"))
        variant = value.WhichOneof("variant")
        return grpc.Vector(**{variant: getattr(value, variant)})

    def id_message(self, name: str, role: str = "example") -> grpc.PointId:
        self.note(name, "id", role)
        return RestToGrpc.convert_extended_point_id(self.id())

    def example(self, name: str, role: str) -> grpc.VectorExample:
        if self.random.random() < 0.2:
            return grpc.VectorExample(id=self.id_message(name, role))
        return grpc.VectorExample(vector=self.vector_message(name, role))

    def shared(self, name: str, key: str) -> dict[str, Any]:
        limits = {
            "limit": 5,
            "filter": self.maybe(lambda: RestToGrpc.convert_filter(self.filter(2))),
        }
        return limits | {key: name or self.one(None, "")}

    def search_fields(self) -> dict[str, Any]:
        name, row = self.name(), self.numbers(self.width())
        sparse = self.random.random() < 0.2
        self.note(name, "sparse" if sparse else "dense", "query", [row])
        indices = grpc.SparseIndices(data=range(len(row))) if sparse else None
        return self.shared(name, "vector_name") | {"vector": row, "sparse_indices": indices}

    def recommend_fields(self) -> dict[str, Any]:
        name = self.name()
        lookup = grpc.LookupLocation(collection_name="other", vector_name="title")
        return self.shared(name, "using") | {
            "positive": self.several(lambda: self.id_message(name), 0, 2),
            "negative": self.several(lambda: self.id_message(name), 0, 2),
            "positive_vectors": self.several(lambda: self.vector_message(name, "example")),
            "negative_vectors": self.several(lambda: self.vector_message(name, "example"), 0),
            "lookup_from": self.one(None, lookup),
        }

    def discover_message(self) -> Message:
        name = self.name()
        target = self.maybe(lambda: grpc.TargetVector(single=self.example(name, "query")), 0.8)
        context = self.several(
            lambda: grpc.ContextExamplePair(
                positive=self.example(name, "example"), negative=self.example(name, "example")
            )
        )
        return grpc.DiscoverPoints(target=target, context=context, **self.shared(name, "using"))

    def batch(self, model: Any, field: str, one: Callable[[], Message]) -> Message:
        return model(collection_name=COLLECTION, **{field: self.several(one, 0, 4)})

    def message_case(self) -> Case:
        """Write a request of one of the eleven methods."""
        search = lambda: grpc.SearchPoints(**self.search_fields())  # noqa: E731
        recommend = lambda: grpc.RecommendPoints(**self.recommend_fields())  # noqa: E731
        more = {"group_by": "price", "group_size": 2}
        writers: dict[str, Callable[[], Message]] = {
            "Search": search,
            "Recommend": recommend,
            "Discover": self.discover_message,
            "SearchGroups": lambda: grpc.SearchPointGroups(**self.search_fields(), **more),
            "RecommendGroups": lambda: grpc.RecommendPointGroups(**self.recommend_fields(), **more),
            "SearchBatch": lambda: self.batch(grpc.SearchBatchPoints, "search_points", search),
            "RecommendBatch": lambda: self.batch(
                grpc.RecommendBatchPoints, "recommend_points", recommend
            ),
            "DiscoverBatch": lambda: self.batch(
                grpc.DiscoverBatchPoints, "discover_points", self.discover_message
            ),
        }
        call = self.one("Query", "Query", "Query", *writers)
        if call == "Query":
            return as_message(self.model_case())
        case = self.case(call, writers[call])
        case.request.collection_name = COLLECTION
        return case


def scatter_unknown_fields(message: Any, writer: RequestWriter) -> None:
    """Put a field that nobody knows into some of a message's parts."""
    if writer.random.random() < 0.5:
        message.MergeFromString(UNKNOWN_FIELD)
    for field, value in message.ListFields():
        if field.message_type and not field.message_type.GetOptions().map_entry:
            for part in value if field.is_repeated else [value]:
                scatter_unknown_fields(part, writer)


def restore(before: Any, after: Any) -> list[tuple[Row, Row]]:
    """Undo changed lists of floats, as far as both messages have the same parts; give them."""
    changed: list[tuple[Row, Row]] = []
    for field, old in before.ListFields():
        new = getattr(after, field.name)
        if field.is_repeated and field.type == field.TYPE_FLOAT:
            if list(old) != list(new):
                changed.append((tuple(old), tuple(new)))
                del new[:]
                new.extend(old)
        elif field.message_type and not field.message_type.GetOptions().map_entry:
            pairs = zip(old, new, strict=True) if field.is_repeated else [(old, new)]
            for one, other in pairs:
                changed += restore(one, other)
    return changed


def send_grpc(
    call: str, content: bytes, rig: Rig, policies: Mapping[str, str] | None = None
) -> Outcome:
    given = Policies(**(policies or {}))  # type: ignore[arg-type]
    return adapt_grpc(f"/qdrant.Points/{call}", content, rig.routes.of_collection, given)


def check_grpc(case: Case, rig: Rig, policies: Mapping[str, str]) -> Counter[str]:
    """Send a case as a message; assert that what had to change did, and nothing else."""
    content = case.request.SerializeToString()
    rig.forget()
    try:
        decisions, chosen = case.expect(rig.dims, policies)
    except Refused:
        with pytest.raises(RefusedError):
            send_grpc(case.call, content, rig, policies)
        rig.assert_calls([])
        return Counter({"refused": 1})
    outcome = send_grpc(case.call, content, rig, policies)
    assert outcome.decisions == decisions
    rig.assert_calls(chosen)
    if not chosen:
        assert outcome.content is content
        return decisions
    before, after = map(REQUEST_OF[case.call].FromString, (content, outcome.content))
    wanted, changed = rig.wanted(chosen), restore(before, after)
    assert {old for old, _ in changed} == {old for old, new in wanted.items() if old != new}
    assert all(close(new, wanted[old]) for old, new in changed)
    same = [message.SerializeToString(deterministic=True) for message in (before, after)]
    assert same[0] == same[1]
    return decisions


@pytest.mark.parametrize("policies", POLICIES, ids=str)
@pytest.mark.parametrize("rig", RIGS.values(), ids=list(RIGS))
def test_only_the_intended_vectors_change(rig: Rig, policies: dict[str, str]) -> None:
    seen: Counter[str] = Counter()
    for seed in range(REQUESTS):
        writer = MessageWriter(seed)
        case = writer.message_case()
        if seed % 2:
            scatter_unknown_fields(case.request, writer)
        seen += check_grpc(case, rig, policies)
    assert seen["adapted"] > REQUESTS / 4


@pytest.mark.parametrize("policies", [POLICIES[0], POLICIES[1]], ids=str)
def test_rest_and_grpc_adapt_the_same_vectors(policies: dict[str, str]) -> None:
    rig = RIGS["linear"]
    for seed in range(REQUESTS):
        case = RequestWriter(seed).model_case()
        message = as_message(case)
        rest = send(case.call, orjson.dumps(as_json(case.request)), rig, policies)
        content = message.request.SerializeToString()
        answer = send_grpc(message.call, content, rig, policies)
        assert rest.decisions == answer.decisions
        assert rest.mark == answer.mark
        old, new = map(REQUEST_OF[message.call].FromString, (content, answer.content))
        changed = differences(as_json(case.request), orjson.loads(rest.content))
        # Both write float32, REST as decimals: read as float32 the vectors are the same bits.
        assert sorted(restore(old, new)) == sorted((as_row(a), as_row(b)) for a, b in changed)


@given(st.integers(0, 10**6), st.data())
@SOME
def test_damaged_message_never_breaks_anything(seed: int, data: st.DataObject) -> None:
    writer = MessageWriter(seed)
    case = writer.message_case()
    content = bytearray(case.request.SerializeToString())
    for _ in range(data.draw(st.integers(1, 3))):
        start = data.draw(st.integers(0, len(content)))
        content[start : start + data.draw(st.integers(0, 4))] = data.draw(st.binary(max_size=3))
    damaged = bytes(content)
    outcome = unless_beyond(lambda: send_grpc(case.call, damaged, RIGS["linear"], POLICIES[1]))
    if outcome is None:
        return
    if not outcome.mark:
        assert outcome.content is damaged
    else:
        REQUEST_OF[case.call].FromString(outcome.content)


@given(st.binary(max_size=60), st.sampled_from(sorted(REQUEST_OF)))
@SOME
def test_any_bytes_come_back_as_they_are(content: bytes, call: str) -> None:
    outcome = send_grpc(call, content, RIGS["linear"])
    assert outcome.content is content
    try:
        REQUEST_OF[call].FromString(content)
    except Exception:
        assert outcome.decisions == Counter({Reason.MALFORMED: 1})


def test_deep_message_is_malformed_at_once() -> None:
    content = grpc.PrefetchQuery().SerializeToString()
    for _ in range(10_000):
        content = bytes([0x0A, *varint(len(content))]) + content
    content = grpc.QueryPoints(collection_name=COLLECTION).SerializeToString() + content
    outcome = send_grpc("Query", content, RIGS["linear"])
    assert outcome.content is content
    assert outcome.decisions == Counter({Reason.MALFORMED: 1})


def varint(value: int) -> bytes:
    head = []
    while value > 127:
        head.append(value & 127 | 128)
        value >>= 7
    return bytes([*head, value])


@pytest.mark.parametrize("count", [0, 4, 7, 2**32 - 1])
def test_flat_rows_that_do_not_divide_are_left(count: int) -> None:
    vector = grpc.Vector(data=[1.0] * DIM_IN, vectors_count=count)
    content = grpc.RecommendPoints(
        collection_name=COLLECTION, positive_vectors=[vector]
    ).SerializeToString()
    outcome = send_grpc("Recommend", content, RIGS["linear"], POLICIES[1])
    assert outcome.content is content
    assert not outcome.decisions[Reason.ADAPTED]


# Closed over the official descriptors: what a new client brings must be looked at

NO_VECTORS = {"Rrf.weights", "SparseVector.values"}
"""Repeated floats that are never dense vectors."""
WRITES = {"Upsert", "UpdateVectors", "UpdateBatch"}
POINTS = points_service_pb2.DESCRIPTOR.services_by_name["Points"]


def paths_to_floats(message: Any, seen: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
    """Give every path of fields that ends in floats, going twice at most through a message."""
    if seen.count(message.full_name) > 1:
        return
    for field in message.fields:
        if field.message_type:
            for below in paths_to_floats(field.message_type, (*seen, message.full_name)):
                yield (field.name, *below)
            continue
        is_floats = field.type == field.TYPE_FLOAT and field.is_repeated
        if is_floats and f"{message.name}.{field.name}" not in NO_VECTORS:
            yield (field.name,)


def test_every_method_that_can_hold_a_vector_is_known() -> None:
    holding = {m.name for m in POINTS.methods if any(paths_to_floats(m.input_type))}
    assert holding == REQUEST_OF.keys() | WRITES
    for method in POINTS.methods:
        known = match_method(f"/{POINTS.full_name}/{method.name}")
        assert (known is not None) == (method.name in holding)
        assert known is None or known.is_write == (method.name in WRITES)


def put_floats(message: Any, path: tuple[str, ...]) -> None:
    """Put a vector at the end of a path, and ids where a vector is due beside it."""
    if len(path) == 1:
        getattr(message, path[0]).extend([1.0, 2.0, 3.0, 4.0, 5.0, 6.0])
        return
    value = getattr(message, path[0])
    if message.DESCRIPTOR.fields_by_name[path[0]].is_repeated:
        value = value.add()
    value.SetInParent()
    put_floats(value, path[1:])
    for field in message.DESCRIPTOR.fields:
        if field.message_type and field.name in {"positive", "negative", "target", "example"}:
            beside = None if field.is_repeated else getattr(message, field.name)
            if beside is not None and not beside.ByteSize():
                target = getattr(beside, "single", beside)
                target.id.num = 7


@pytest.mark.parametrize("call", REQUEST_OF)
def test_vector_at_the_end_of_every_path_is_adapted(call: str) -> None:
    rig, n_paths = RIGS["linear"], 0
    for path in paths_to_floats(REQUEST_OF[call].DESCRIPTOR):
        message = REQUEST_OF[call](collection_name=COLLECTION)
        put_floats(message, path)
        content = message.SerializeToString(deterministic=True)
        outcome = send_grpc(call, content, rig, POLICIES[1])
        assert count_adapted(outcome) == 1, path
        after = REQUEST_OF[call].FromString(outcome.content)
        assert len(restore(message, after)) == 1
        assert after.SerializeToString(deterministic=True) == content
        n_paths += 1
    assert n_paths >= 1 + call.startswith("Query") * 20


@pytest.mark.parametrize("call", REQUEST_OF)
def test_identity_gives_an_equal_message(call: str) -> None:
    for path in paths_to_floats(REQUEST_OF[call].DESCRIPTOR):
        message = REQUEST_OF[call](collection_name=COLLECTION)
        put_floats(message, path)
        message.MergeFromString(UNKNOWN_FIELD)
        content = message.SerializeToString()
        outcome = send_grpc(call, content, RIGS["identity"], POLICIES[1])
        assert count_adapted(outcome) == 1, path
        assert REQUEST_OF[call].FromString(outcome.content) == message
        assert outcome.content == content
