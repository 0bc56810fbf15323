"""QDRANT_WIRE.md, section A, row by row: what is asked, what is decided, which vectors change.

Vectors are told apart by their first value. Requests of the present endpoints are also sent as the
message that the official client makes of them, and must be treated the same.
"""

from collections.abc import Mapping, Set
from dataclasses import dataclass, field
from typing import Any

import orjson
import pytest
from qdrant_client import grpc, models
from qdrant_client.conversions.conversion import RestToGrpc

from tests.property.test_rewrite_grpc import REQUEST_OF, restore, send_grpc
from tests.property.test_rewrite_rest import RIGS, send
from tests.support.qdrant_requests import COLLECTION, DIM_IN, DIM_OUT, OTHER_DIM, differences
from trimtab.errors import RefusedError

RIG = RIGS["linear"]  # the unnamed vector and "title" have adapters from 6 to 4 values
ID, UUID = 7, "f47ac10b-58cc-4372-a567-0e02b2c3d479"
SPARSE = {"indices": [1, 2, 3, 4, 5, 6], "values": [0.5] * 6}
DOCUMENT = {"text": "a text", "model": "some/model"}
BM25 = {"text": "a text", "model": "qdrant/bm25"}
IMAGE = {"image": "http://x/y.png", "model": "some/model"}
OBJECT = {"object": {"nearest": [0.5] * 6}, "model": "some/model"}
STRATEGY = {"naive": {"a": 1.0, "b": 0.5, "c": 2.0}}
REFUSE = {"inference": "refuse"}
HYPER = {"query": {"hyper": [0.5] * 6}}
ADAPT_ALL = {"examples": "always", "multivector": "rows"}


def vec(mark: int, dim: int = DIM_IN) -> list[float]:
    """Give a vector that is known by its first value."""
    return [float(mark)] + [0.25] * (dim - 1)


def pair(positive: Any, negative: Any) -> dict[str, Any]:
    return {"positive": positive, "negative": negative}


@dataclass(frozen=True)
class Row:
    """One row of the table."""

    body: Any
    decisions: Mapping[str, int] = field(default_factory=dict)
    changed: Set[int] = frozenset()
    call: str = "query"
    policies: Mapping[str, str] = field(default_factory=dict)
    refused: bool = False


def discover(target: Any, *pairs: Any) -> dict[str, Any]:
    return {"discover": {"target": target, "context": list(pairs)}}


def feedback(target: Any, *examples: Any) -> dict[str, Any]:
    items = [{"example": example, "score": 0.5} for example in examples]
    return {"relevance_feedback": {"target": target, "feedback": items, "strategy": STRATEGY}}


ONE, NONE = {"adapted": 1}, {"no_vector": 1}
BOTH = [vec(1), [vec(2), vec(3)], ID]
PRESENT = {
    "query, using absent": Row({"query": vec(1), "limit": 3}, ONE, {1}),
    "query, using null": Row({"query": vec(1), "using": None}, ONE, {1}),
    "query, using empty": Row({"query": vec(1), "using": ""}, ONE, {1}),
    "query, using a name": Row({"query": vec(1), "using": "title"}, ONE, {1}),
    "query, using a name without adapter": Row({"query": vec(1), "using": "x"}, {"no_route": 1}),
    "query, prefetch object": Row(
        {"query": {"fusion": "rrf"}, "prefetch": {"query": vec(1)}}, {"adapted": 1, **NONE}, {1}
    ),
    "query, prefetch list": Row(
        {"query": vec(1), "prefetch": [{"query": vec(2)}, {"query": vec(3), "using": "title"}]},
        {"adapted": 3},
        {1, 2, 3},
    ),
    "query, prefetch has the using of its own level": Row(
        {
            "query": vec(1),
            "using": "x",
            "prefetch": {
                "query": vec(2),
                "prefetch": [{"query": vec(3), "using": "x", "prefetch": {"query": vec(4)}}],
            },
        },
        {"adapted": 2, "no_route": 2},
        {2, 4},
    ),
    "query/batch": Row(
        {"searches": [{"query": vec(1)}, {"query": ID}, {"query": {"nearest": vec(2)}}]},
        {"adapted": 2, "id": 1},
        {1, 2},
        call="query/batch",
    ),
    "query/groups": Row(
        {"query": vec(1), "group_by": "a", "with_lookup": "other", "prefetch": {"query": vec(2)}},
        {"adapted": 2},
        {1, 2},
        call="query/groups",
    ),
    "shape sparse": Row({"query": SPARSE}, {"sparse": 1}),
    "shape multi": Row({"query": [vec(1), vec(2)]}, {"multivector": 1}),
    "shape id, 64 bits": Row({"query": 2**64 - 1}, {"id": 1}),
    "shape uuid": Row({"query": UUID}, {"id": 1}),
    "shape document": Row({"query": DOCUMENT}, {"inference": 1}),
    "shape image": Row({"query": IMAGE}, {"inference": 1}),
    "shape object": Row({"query": OBJECT}, {"inference": 1}),
    # The variants
    "nearest": Row({"query": {"nearest": vec(1)}}, ONE, {1}),
    "nearest, mmr": Row({"query": {"nearest": vec(1), "mmr": {"diversity": 0.5}}}, ONE, {1}),
    "recommend": Row(
        {"query": {"recommend": {"positive": BOTH, "negative": [vec(4)]}}}, {"example": 3, "id": 1}
    ),
    "recommend, examples always": Row(
        {"query": {"recommend": {"positive": BOTH, "negative": [vec(4)]}}},
        {"adapted": 2, "multivector": 1, "id": 1},
        {1, 4},
        policies={"examples": "always"},
    ),
    "discover": Row(
        {"query": discover(vec(1), pair(vec(2), vec(3)))}, {"adapted": 1, "example": 2}, {1}
    ),
    "discover, examples always": Row(
        {"query": discover(ID, pair(vec(2), ID), pair(UUID, [vec(3), vec(4)]))},
        {"adapted": 2, "id": 3},
        {2, 3, 4},
        policies=ADAPT_ALL,
    ),
    "discover, context an object": Row(
        {"query": {"discover": {"target": vec(1), "context": pair(vec(2), ID)}}},
        {"adapted": 2, "id": 1},
        {1, 2},
        policies=ADAPT_ALL,
    ),
    "context": Row({"query": {"context": [pair(vec(1), vec(2))]}}, {"example": 2}),
    "context, an object, always": Row(
        {"query": {"context": pair(vec(1), ID)}}, {"adapted": 1, "id": 1}, {1}, policies=ADAPT_ALL
    ),
    "relevance feedback": Row(
        {"query": feedback(vec(1), vec(2), ID)},
        {"adapted_feedback": 1, "example": 1, "id": 1},
        {1},
    ),
    "relevance feedback, examples always": Row(
        {"query": feedback(vec(1), vec(2))},
        {"adapted_feedback": 1, "adapted": 1},
        {1, 2},
        policies=ADAPT_ALL,
    ),
    "order by": Row({"query": {"order_by": "price"}}, NONE),
    "sample": Row({"query": {"sample": "random"}}, NONE),
    "fusion": Row({"query": {"fusion": "dbsf"}}, NONE),
    "rrf": Row({"query": {"rrf": {"k": 2, "weights": [0.5] * 6}}}, NONE),
    "formula": Row({"query": {"formula": {"mult": [0.5] * 6}, "defaults": {"a": [0.5] * 6}}}, NONE),
    "formula over prefetch": Row(
        {"query": {"formula": {"sum": [0.5] * 6}}, "prefetch": {"query": vec(1)}},
        {"adapted": 1, **NONE},
        {1},
    ),
    "text: using is a payload field": Row({"query": {"text": "words"}, "using": "title"}, NONE),
    "text with scoring": Row(
        {"query": {"text": {"query": "w", "scoring": {"bm25": {"k": 1.5}}}}, "using": "x"}, NONE
    ),
    "bm25": Row({"query": BM25}, {"sparse": 1}),
    "lookup_from": Row(
        {"query": vec(1), "lookup_from": {"collection": "o", "vector": "x"}}, ONE, {1}
    ),
    "filter": Row({"filter": {"must": [{"has_id": [1, 2, 3, 4, 5, 6]}]}, "query": ID}, {"id": 1}),
    "dims of the index": Row({"query": vec(1, DIM_OUT)}, {"dims_out_match": 1}),
    "dims of neither": Row({"query": vec(1, OTHER_DIM)}, {"dims_fit_neither": 1}),
    "dims of neither, refusing the index's": Row(
        {"query": vec(1, OTHER_DIM)}, {"dims_fit_neither": 1}, policies={"dims_out_match": "refuse"}
    ),
    "dims, empty": Row({"query": []}, {"dims_fit_neither": 1}),
    "dims of an example that is left": Row(
        {"query": {"recommend": {"positive": [vec(1, DIM_OUT)]}}},
        {"example": 1},
        policies={"dims_out_match": "refuse"},
    ),
    # Policies
    "policy multivector rows": Row(
        {"query": [vec(1), vec(2)]}, ONE, {1, 2}, policies={"multivector": "rows"}
    ),
    "policy multivector rows of the index": Row(
        {"query": [vec(1, DIM_OUT)] * 2}, {"dims_out_match": 1}, policies={"multivector": "rows"}
    ),
    "policy inference refuse": Row({"query": DOCUMENT}, policies=REFUSE, refused=True),
    "policy inference refuse, image": Row(
        {"query": {"nearest": IMAGE}}, policies=REFUSE, refused=True
    ),
    "policy inference refuse, in an example": Row(
        {"query": {"context": [pair(OBJECT, ID)]}}, policies=REFUSE, refused=True
    ),
    "policy inference refuse, another vector": Row(
        {"query": DOCUMENT, "using": "x"}, {"no_route": 1}, policies=REFUSE
    ),
    "policy inference refuse, bm25": Row({"query": BM25}, {"sparse": 1}, policies=REFUSE),
    "policy inference refuse, text": Row(
        {"query": {"text": "w"}, "using": "title"}, NONE, policies=REFUSE
    ),
    "policy dims_out_match refuse": Row(
        {"query": vec(1, DIM_OUT)}, policies={"dims_out_match": "refuse"}, refused=True
    ),
    "policy refuses a batch for one search": Row(
        {"searches": [{"query": vec(1)}, {"query": DOCUMENT}]},
        call="query/batch",
        policies=REFUSE,
        refused=True,
    ),
}
LEGACY = {
    "search": Row({"vector": vec(1), "top": 3}, ONE, {1}, "search"),
    "search, named": Row({"vector": {"name": "title", "vector": vec(1)}}, ONE, {1}, "search"),
    "search, other name": Row(
        {"vector": {"name": "x", "vector": vec(1)}}, {"no_route": 1}, call="search"
    ),
    "search, using is no field of it": Row({"vector": vec(1), "using": "x"}, ONE, {1}, "search"),
    "search, sparse": Row(
        {"vector": {"name": "title", "vector": SPARSE}}, {"sparse": 1}, call="search"
    ),
    "search/batch": Row(
        {"searches": [{"vector": vec(1)}, {"vector": {"name": "x", "vector": vec(2)}}]},
        {"adapted": 1, "no_route": 1},
        {1},
        "search/batch",
    ),
    "search/groups": Row({"vector": vec(1), "group_by": "a"}, ONE, {1}, "search/groups"),
    "recommend": Row(
        {"positive": [ID, vec(1)], "negative": [SPARSE]},
        {"id": 1, "example": 1, "sparse": 1},
        call="recommend",
    ),
    "recommend, always": Row(
        {"positive": [ID, vec(1)], "negative": [vec(2)], "using": "title"},
        {"id": 1, "adapted": 2},
        {1, 2},
        "recommend",
        ADAPT_ALL,
    ),
    "recommend/batch": Row(
        {"searches": [{"positive": [vec(1)]}, {"positive": [vec(2)], "using": "x"}]},
        {"adapted": 1, "no_route": 1},
        {1},
        "recommend/batch",
        ADAPT_ALL,
    ),
    "recommend/groups": Row(
        {"positive": [vec(1)], "group_by": "a"}, ONE, {1}, "recommend/groups", ADAPT_ALL
    ),
    "discover": Row(
        {"target": vec(1), "context": [pair(vec(2), ID)]},
        {"adapted": 1, "example": 1, "id": 1},
        {1},
        "discover",
    ),
    "discover, context alone, always": Row(
        {"context": [pair(vec(1), vec(2))], "using": "title"},
        {"adapted": 2},
        {1, 2},
        "discover",
        ADAPT_ALL,
    ),
    "discover/batch": Row(
        {"searches": [{"target": vec(1)}, {"target": vec(2), "using": "x"}]},
        {"adapted": 1, "no_route": 1},
        {1},
        "discover/batch",
    ),
    "no legacy multivector": Row({"positive": [vec(1), vec(2)]}, {"example": 2}, call="recommend"),
    "unknown variant": Row(HYPER, {"unknown_variant": 1}),
    "unknown variant, refused": Row(HYPER, policies={"unknown_variant": "refuse"}, refused=True),
}


def flat(*marks: int, **more: Any) -> grpc.Vector:
    return grpc.Vector(data=[value for mark in marks for value in vec(mark)], **more)


INDICES = grpc.SparseIndices(data=range(6))
VECTORS = {
    "dense": (grpc.Vector(dense=grpc.DenseVector(data=vec(1))), "adapted"),
    "sparse": (grpc.Vector(sparse=grpc.SparseVector(values=vec(1), indices=range(6))), "sparse"),
    "rows": (
        grpc.Vector(multi_dense=grpc.MultiDenseVector(vectors=[grpc.DenseVector(data=vec(1))] * 2)),
        "multivector",
    ),
    "document": (grpc.Vector(document=grpc.Document(text="a", model="m")), "inference"),
    "bm25": (grpc.Vector(document=grpc.Document(text="a", model="qdrant/bm25")), "sparse"),
    "image": (grpc.Vector(image=grpc.Image(model="m")), "inference"),
    "object": (grpc.Vector(object=grpc.InferenceObject(model="m")), "inference"),
    "flat": (flat(1), "adapted"),
    "flat sparse": (flat(1, indices=INDICES), "sparse"),
    "flat rows": (flat(1, 2, vectors_count=2), "multivector"),
    "flat row": (flat(1, vectors_count=1), "multivector"),
}


@pytest.mark.parametrize(("vector", "reason"), VECTORS.values(), ids=list(VECTORS))
def test_legacy_methods_take_every_form_of_vector(vector: grpc.Vector, reason: str) -> None:
    single = grpc.TargetVector(single=grpc.VectorExample(vector=vector))
    one = grpc.DiscoverPoints(collection_name=COLLECTION, target=single)
    changed = {1} if reason == "adapted" else set()
    check_grpc("Discover", one, Row(None, {reason: 1}, changed))
    many = grpc.DiscoverBatchPoints(collection_name=COLLECTION, discover_points=[one, one])
    check_grpc("DiscoverBatch", many, Row(None, {reason: 2}, changed))
    examples = grpc.RecommendPoints(
        collection_name=COLLECTION, positive=[grpc.PointId(num=7)], negative_vectors=[vector]
    )
    left = "example" if reason in {"adapted", "multivector"} else reason
    check_grpc("Recommend", examples, Row(None, {"id": 1, left: 1}))
    always = Row(None, {"id": 1, reason: 1}, changed, policies={"examples": "always"})
    check_grpc("Recommend", examples, always)
    groups = grpc.RecommendPointGroups(collection_name=COLLECTION, positive_vectors=[vector])
    check_grpc("RecommendGroups", groups, Row(None, {left: 1}))
    batch = grpc.RecommendBatchPoints(collection_name=COLLECTION, recommend_points=[examples])
    check_grpc("RecommendBatch", batch, always)


def test_search_methods_adapt_what_has_no_sparse_indices() -> None:
    where = {"collection_name": COLLECTION, "vector": vec(1)}
    searches = [
        (grpc.SearchPoints(**where), ONE, {1}),
        (grpc.SearchPoints(**where, vector_name="title"), ONE, {1}),
        (grpc.SearchPoints(**where, vector_name="x"), {"no_route": 1}, set()),
        (grpc.SearchPoints(**where, sparse_indices=INDICES), {"sparse": 1}, set()),
        (grpc.SearchPoints(**where, sparse_indices=grpc.SparseIndices()), {"sparse": 1}, set()),
    ]
    for one, decisions, changed in searches:
        check_grpc("Search", one, Row(None, decisions, changed))
        batch = grpc.SearchBatchPoints(collection_name=COLLECTION, search_points=[one])
        check_grpc("SearchBatch", batch, Row(None, decisions, changed))
    check_grpc("SearchGroups", grpc.SearchPointGroups(**where), Row(None, ONE, {1}))


MODEL_OF = {
    "query": models.QueryRequest,
    "query/batch": models.QueryRequestBatch,
    "query/groups": models.QueryGroupsRequest,
}


def check_rest(row: Row) -> None:
    body = orjson.dumps(row.body)
    if row.refused:
        with pytest.raises(RefusedError):
            send(row.call, body, RIG, row.policies)
        return
    outcome = send(row.call, body, RIG, row.policies)
    assert outcome.decisions == row.decisions
    changed = differences(row.body, orjson.loads(outcome.content))
    assert {old[0] for old, _ in changed} == row.changed
    assert {len(new) for _, new in changed} <= {DIM_OUT}
    if not row.changed:
        assert outcome.content is body
    assert bool(outcome.mark) is bool(row.changed)


def check_grpc(method: str, message: Any, row: Row) -> None:
    content = message.SerializeToString()
    if row.refused:
        with pytest.raises(RefusedError):
            send_grpc(method, content, RIG, row.policies)
        return
    outcome = send_grpc(method, content, RIG, row.policies)
    assert outcome.decisions == row.decisions
    if not row.changed:
        assert outcome.content is content
    after = REQUEST_OF[method].FromString(outcome.content)
    changed = restore(message, after)
    assert {old[0] for old, _ in changed} == row.changed
    assert after == message
    assert bool(outcome.mark) is bool(row.changed)


@pytest.mark.parametrize(
    "row",
    [*PRESENT.values(), *LEGACY.values()],
    ids=[*PRESENT, *map("legacy {}".format, LEGACY)],
)
def test_endpoints(row: Row) -> None:
    check_rest(row)


@pytest.mark.parametrize("row", PRESENT.values(), ids=list(PRESENT))
def test_present_methods(row: Row) -> None:
    request = MODEL_OF[row.call].model_validate(row.body)
    if row.call == "query/batch":
        parts = [RestToGrpc.convert_query_request(one, "") for one in request.searches]
        message = grpc.QueryBatchPoints(collection_name=COLLECTION, query_points=parts)
        check_grpc("QueryBatch", message, row)
        return
    fields = {key: getattr(request, key) for key in ("query", "prefetch", "using", "filter")}
    same = RestToGrpc.convert_query_request(models.QueryRequest(**fields), COLLECTION)
    if row.call == "query":
        check_grpc("Query", same, row)
        return
    groups = grpc.QueryPointGroups(
        collection_name=COLLECTION, query=same.query, prefetch=same.prefetch, group_by="a"
    )
    check_grpc("QueryGroups", groups, row)
