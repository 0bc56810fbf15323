"""What is read in Qdrant's gRPC messages beside query vectors."""

from typing import Any

import pytest
from qdrant_client import grpc as messages
from qdrant_client.grpc import points_service_pb2

from trimtab.errors import MalformedError, UpstreamError
from trimtab.routing.route_book import Question
from trimtab.routing.vector_schema import IndexedVector
from trimtab.server.grpc.messages import (
    changed_collection,
    known_methods,
    peek_collection,
    read_answer,
    read_rankings,
    write_question,
)

METHODS = {method.path: method for method in known_methods()}
GET = Question("get_collection", {"collection_name": "docs"})
ALIASES = Question("get_aliases", {})


def test_eleven_methods_are_queries_and_three_are_writes() -> None:
    kinds = [method.kind for method in METHODS.values()]
    assert (kinds.count("query"), kinds.count("write")) == (11, 3)
    assert all(method.vectors for method in METHODS.values() if method.kind != "other")


@pytest.mark.parametrize(
    "path",
    ["/qdrant.Collections/Get", "/qdrant.Qdrant/HealthCheck", "/qdrant.Snapshots/Create"],
)
def test_the_other_services_are_known(path: str) -> None:
    assert METHODS[path].kind == "other"


def test_the_collections_name_is_field_1_wherever_it_is_peeked_at() -> None:
    points = points_service_pb2.DESCRIPTOR.services_by_name["Points"]
    for method in points.methods:
        assert method.input_type.fields_by_name["collection_name"].number == 1


@pytest.mark.parametrize(
    ("content", "name"),
    [
        (messages.UpsertPoints(collection_name="döcs", wait=True).SerializeToString(), "döcs"),
        (messages.UpsertPoints(wait=True).SerializeToString(), ""),
        (b"", ""),
        (b"\x0a", ""),
        (b"\x0a\x7fdocs", ""),
        (b"\x0a\x02\xff\xfe", "\ufffd\ufffd"),
    ],
)
def test_a_name_is_read_where_it_comes_first(content: bytes, name: str) -> None:
    assert peek_collection(content) == name


@pytest.mark.parametrize(
    ("path", "changed"),
    [("/qdrant.Collections/Delete", "docs"), ("/qdrant.Collections/UpdateAliases", None)],
)
def test_what_a_call_changes(path: str, changed: str | None) -> None:
    content = messages.DeleteCollection(collection_name="docs").SerializeToString()
    assert METHODS[path].invalidates
    assert changed_collection(METHODS[path], content) == changed


def test_a_call_that_names_no_collection_may_change_any() -> None:
    assert changed_collection(METHODS["/qdrant.Collections/Delete"], b"") is None


def test_questions_are_written_as_qdrant_takes_them() -> None:
    path, content = write_question(GET)
    assert path == "/qdrant.Collections/Get"
    assert messages.GetCollectionInfoRequest.FromString(content).collection_name == "docs"
    assert write_question(ALIASES) == ("/qdrant.Collections/ListAliases", b"")


def info(config: Any) -> bytes:
    found = messages.CollectionInfo()
    found.config.params.vectors_config.CopyFrom(config)
    return messages.GetCollectionInfoResponse(result=found).SerializeToString()


def params(size: int, distance: str, **more: Any) -> Any:
    return messages.VectorParams(size=size, distance=messages.Distance.Value(distance), **more)


def test_an_unnamed_vector_is_read() -> None:
    answer = info(messages.VectorsConfig(params=params(4, "Cosine")))
    assert read_answer(GET, answer) == {
        "": IndexedVector(dim=4, distance="cosine", datatype="float32", is_multi=False)
    }


def test_named_vectors_are_read() -> None:
    rows = messages.MultiVectorConfig(comparator=messages.MultiVectorComparator.MaxSim)
    named = messages.VectorParamsMap(
        map={
            "bytes": params(3, "Dot", datatype=messages.Datatype.Uint8),
            "rows": params(5, "Euclid", multivector_config=rows),
            "half": params(6, "Manhattan", datatype=messages.Datatype.Float16),
            "newer": messages.VectorParams(size=7, distance=98, datatype=99),
        }
    )
    assert read_answer(GET, info(messages.VectorsConfig(params_map=named))) == {
        "bytes": IndexedVector(dim=3, distance="dot", datatype="uint8", is_multi=False),
        "rows": IndexedVector(dim=5, distance="euclid", datatype="float32", is_multi=True),
        "half": IndexedVector(dim=6, distance="manhattan", datatype="float16", is_multi=False),
        "newer": IndexedVector(dim=7, distance="number 98", datatype="number 99", is_multi=False),
    }


def test_a_collection_without_dense_vectors_has_none() -> None:
    assert read_answer(GET, info(messages.VectorsConfig())) == {}
    assert read_answer(GET, b"") == {}


def test_aliases_are_read() -> None:
    alias = messages.AliasDescription(alias_name="today", collection_name="docs")
    answer = messages.ListAliasesResponse(aliases=[alias]).SerializeToString()
    assert read_answer(ALIASES, answer) == {"today": "docs"}


@pytest.mark.parametrize("question", [GET, ALIASES])
def test_an_answer_that_is_none_is_an_error(question: Question) -> None:
    with pytest.raises(UpstreamError, match="new to us"):
        read_answer(question, b"\xff\xff")


def scored(*ids: int | str) -> list[Any]:
    return [
        messages.ScoredPoint(
            id=messages.PointId(num=each) if isinstance(each, int) else messages.PointId(uuid=each)
        )
        for each in ids
    ]


@pytest.mark.parametrize("name", ["Query", "Search", "Recommend", "Discover"])
def test_rankings_are_read_of_every_kind_of_answer(name: str) -> None:
    def response(kind: str, result: Any) -> bytes:
        answer = getattr(messages, f"{name}{kind}Response")(result=result)
        return bytes(answer.SerializeToString())

    assert read_rankings(name, response("", scored(3, "u"))) == [["3", "u"]]
    batch = [messages.BatchResult(result=scored(1, 2)), messages.BatchResult(result=scored())]
    assert read_rankings(f"{name}Batch", response("Batch", batch)) == [["1", "2"], []]
    if name != "Discover":
        groups = messages.GroupsResult(
            groups=[messages.PointGroup(hits=scored(1, 2)), messages.PointGroup(hits=scored(0, 1))]
        )
        assert read_rankings(f"{name}Groups", response("Groups", groups)) == [["1", "2", "0"]]


def test_an_answer_that_is_no_ranking_is_an_error() -> None:
    with pytest.raises(MalformedError, match="not an answer to Query"):
        read_rankings("Query", b"\xff\xff")
