"""A FAISS index served as a collection answers as Qdrant does with the same points.

Each call is made by the official client, on our front and on a server over Qdrant's own engine.
With ``QDRANT_URL`` set, the same calls compare with that server.
"""

import itertools
import json
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from qdrant_client import QdrantClient, models
from qdrant_client.http.exceptions import UnexpectedResponse

from tests.support.faiss_pairs import (
    CHEAP,
    DISTANCES,
    ID,
    N_POINTS,
    OTHER,
    QUERY,
    RED,
    UUID,
    MakePair,
    field,
    making_pairs,
    must,
    query,
)
from tests.support.faiss_trials import forked_trials  # noqa: F401  # for every test here
from tests.support.qdrant.agreement import Ask, Pair, plain
from tests.support.qdrant.fixtures import qdrant  # noqa: F401


@pytest.fixture(scope="module")
def make_pair(qdrant, tmp_path_factory) -> Iterator[MakePair]:  # noqa: F811
    with making_pairs(qdrant, tmp_path_factory) as make:
        yield make


@pytest.fixture(scope="module")
def pair(make_pair) -> Pair:
    return make_pair("Cosine")


QUERIES: dict[str, Ask] = {
    "nearest": query(query=QUERY, limit=15),
    "numpy": query(query=np.asarray(QUERY, np.float32)),
    "all": query(query=QUERY, limit=1000),
    "offset": query(query=QUERY, limit=5, offset=7),
    "offset past the end": query(query=QUERY, limit=5, offset=500),
    "filter": query(query=QUERY, query_filter=RED),
    "exact": query(query=QUERY, search_params=models.SearchParams(exact=True)),
    "by id": query(query=ID, limit=8),
    "by uuid": query(query=UUID, limit=8),
    "by id and filter": query(query=ID, limit=8, query_filter=CHEAP),
    "no query": query(limit=12),
    "no query, filter": query(limit=12, query_filter=RED, offset=2),
    "vectors": query(query=QUERY, limit=3, with_vectors=True),
    "payload fields": query(query=QUERY, with_payload=["colour", "maker.name", "parts[].size"]),
    "payload without": query(
        query=QUERY, with_payload=models.PayloadSelectorExclude(exclude=["story", "maker.year"])
    ),
    "payload none": query(query=QUERY, with_payload=False),
    "mmr": query(
        query=models.NearestQuery(
            nearest=QUERY, mmr=models.Mmr(diversity=0.6, candidates_limit=40)
        ),
        limit=8,
    ),
    "mmr by id": query(
        query=models.NearestQuery(nearest=ID, mmr=models.Mmr(diversity=0.3, candidates_limit=40)),
        limit=8,
        with_vectors=True,
    ),
    "rescored": query(prefetch=models.Prefetch(query=OTHER, limit=20), query=QUERY, limit=6),
    "rescored, filters": query(
        prefetch=models.Prefetch(query=UUID, limit=25, filter=CHEAP),
        query=QUERY,
        limit=6,
        query_filter=must(field("sold", match=models.MatchValue(value=True))),
    ),
    "rescored, several": query(
        prefetch=[models.Prefetch(query=OTHER, limit=12), models.Prefetch(query=12, limit=9)],
        query=ID,
        limit=7,
        offset=2,
    ),
    "rescored, thresholds": query(
        prefetch=models.Prefetch(query=OTHER, limit=30, score_threshold=0.1),
        query=QUERY,
        score_threshold=0.05,
    ),
    "rescored, mmr": query(
        prefetch=models.Prefetch(query=OTHER, limit=30),
        query=models.NearestQuery(
            nearest=QUERY, mmr=models.Mmr(diversity=0.6, candidates_limit=20)
        ),
        limit=8,
    ),
}


@pytest.mark.parametrize("distance", DISTANCES)
@pytest.mark.parametrize("kind", QUERIES)
def test_queries_agree(make_pair, distance: str, kind: str) -> None:
    assert isinstance(make_pair(distance).agree(QUERIES[kind]), list)


@pytest.mark.parametrize("distance", DISTANCES)
def test_scores_that_equal_the_threshold_are_left_out(make_pair, distance: str) -> None:
    pair = make_pair(distance)
    found = pair.remote.query_points(pair.name, QUERY, limit=9).points
    for threshold in (found[4].score, (found[4].score + found[5].score) / 2):
        kept = pair.remote.query_points(pair.name, QUERY, limit=9, score_threshold=threshold)
        n_better = sum(point.score != threshold for point in found[:5])
        assert len(kept.points) == n_better
    middle = (found[4].score + found[5].score) / 2
    pair.agree(query(query=QUERY, limit=9, score_threshold=middle))


EXACT = models.SearchParams(exact=True)
KINDS = ("HNSW8", "IVF4,Flat", "IVF4_HNSW4,Flat", "RR16,Flat", "Flat,RFlat")


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("distance", ["Cosine", "Euclid"])
def test_exact_search_agrees_for_every_index_that_keeps_its_vectors(
    make_pair, distance: str, kind: str
) -> None:
    pair = make_pair(distance, kind)
    pair.agree(query(query=QUERY, limit=15, search_params=EXACT))
    pair.agree(query(query=QUERY, limit=15, search_params=EXACT, query_filter=RED))
    pair.agree(query(query=ID, limit=500, search_params=EXACT))
    pair.agree(query(query=QUERY, limit=3, search_params=EXACT, with_vectors=True))
    first = models.Prefetch(query=OTHER, limit=20, params=EXACT)
    pair.agree(query(prefetch=first, query=QUERY, limit=6))


CONDITIONS: dict[str, Any] = {
    "text value": field("colour", match=models.MatchValue(value="red")),
    "number": field("rank", match=models.MatchValue(value=7)),
    "boolean": field("sold", match=models.MatchValue(value=True)),
    "one as a boolean": field("rank", match=models.MatchValue(value=True)),
    "in an array": field("tags", match=models.MatchValue(value="keel")),
    "in a mixed array": field("mixed", match=models.MatchValue(value=10)),
    "any": field("colour", match=models.MatchAny(any=["red", "teal"])),
    "any number": field("rank", match=models.MatchAny(any=[7, 14, 500])),
    "except": field("colour", match=models.MatchExcept(**{"except": ["red", "teal"]})),
    "except in an array": field("tags", match=models.MatchExcept(**{"except": ["keel"]})),
    "words": field("story", match=models.MatchText(text="Keel mast")),
    "any word": field("story", match=models.MatchTextAny(text_any="keel rudder")),
    "phrase": field("story", match=models.MatchPhrase(phrase="keel mast")),
    "range": field("price", range=models.Range(gt=20, lte=60)),
    "range in an array of objects": field("parts[].size", range=models.Range(gte=3)),
    "range of one item": field("parts[0].size", range=models.Range(gte=3)),
    "dates": field(
        "date", range=models.DatetimeRange(gte="2024-03-01T00:00:00Z", lt="2024-06-01T00:00:00Z")
    ),
    "nested key": field("maker.year", range=models.Range(gte=2005)),
    "count": field("tags", values_count=models.ValuesCount(gte=2)),
    "count of nothing": field("absent", values_count=models.ValuesCount(lt=1)),
    "count of a mixed array": field("mixed", values_count=models.ValuesCount(gt=2)),
    "empty": models.IsEmptyCondition(is_empty=models.PayloadField(key="colour")),
    "empty array": models.IsEmptyCondition(is_empty=models.PayloadField(key="none")),
    "null": models.IsNullCondition(is_null=models.PayloadField(key="note")),
    "not empty": field("note", is_empty=False),
    "null by field": field("note", is_null=True),
    **{
        f"{what} of {key} is {value}": field(key, **{what: value})
        for what in ("is_empty", "is_null")
        for key in ("mixed[]", "tags[]", "parts[].size", "absent", "none")
        for value in (True, False)
    },
    "ids": models.HasIdCondition(has_id=[1, 2, UUID, 1000]),
    "vector": models.HasVectorCondition(has_vector=""),
    "other vector": models.HasVectorCondition(has_vector="image"),
    "nested": models.NestedCondition(
        nested=models.Nested(
            key="parts",
            filter=must(
                field("name", match=models.MatchValue(value="keel")),
                field("size", range=models.Range(gte=2)),
            ),
        )
    ),
    "nested, negated": models.NestedCondition(
        nested=models.Nested(
            key="parts[]",
            filter=models.Filter(must_not=[field("name", match=models.MatchValue(value="keel"))]),
        )
    ),
}


def scroll(condition: models.Filter | None, **more: Any) -> Ask:
    return lambda client, name: client.scroll(
        name, scroll_filter=condition, limit=N_POINTS, with_payload=False, **more
    )


@pytest.mark.parametrize("kind", CONDITIONS)
def test_conditions_agree(pair: Pair, kind: str) -> None:
    condition = CONDITIONS[kind]
    pair.agree(scroll(must(condition)))
    pair.agree(scroll(models.Filter(must_not=[condition])))
    pair.agree(lambda client, name: client.count(name, must(condition)).count)
    pair.agree(query(query=QUERY, limit=N_POINTS, query_filter=must(condition)))


PARTS: dict[str, tuple[Any, ...]] = {
    "match": (
        models.MatchValue(value="15"),
        models.MatchValue(value=40),
        models.MatchExcept(**{"except": [10]}),
    ),
    "range": (models.Range(gte=60), models.Range(lt=2)),
    "values_count": (models.ValuesCount(gte=3), models.ValuesCount(lt=1)),
    "is_empty": (True, False),
    "is_null": (True, False),
}


@pytest.mark.parametrize(
    "names", [*itertools.combinations(PARTS, 2), *itertools.combinations(PARTS, 3)], ids="+".join
)
def test_parts_of_one_field_condition_agree(pair: Pair, names: tuple[str, ...]) -> None:
    for values in itertools.product(*(PARTS[name] for name in names)):
        parts = dict(zip(names, values, strict=True))
        for key in ("mixed", "mixed[]", "note", "none", "absent", "parts[].size"):
            pair.agree(scroll(must(field(key, **parts))))


def test_clauses_agree(pair: Pair) -> None:
    chosen = [CONDITIONS[kind] for kind in ("text value", "range", "in an array", "words", "ids")]
    for first, second, third in itertools.permutations(chosen, 3):
        for clauses in (
            models.Filter(should=[first, second], must_not=[third]),
            models.Filter(must=[first, models.Filter(should=[second, third])]),
            models.Filter(
                min_should=models.MinShould(conditions=[first, second, third], min_count=2)
            ),
            models.Filter(must_not=models.Filter(must=[first], must_not=[second]), should=third),
        ):
            pair.agree(scroll(clauses))


def test_empty_clauses_say_nothing(pair: Pair) -> None:
    pair.agree(scroll(models.Filter(must=[], should=[], must_not=[])))
    empty = models.Filter()
    for clauses in (must(empty), models.Filter(should=[empty]), models.Filter(must_not=[empty])):
        pair.agree(scroll(clauses))


@pytest.mark.parametrize("condition", [None, RED, CHEAP])
@pytest.mark.parametrize("limit", [1, 7, N_POINTS - 1, N_POINTS])
def test_pages_agree(pair: Pair, limit: int, condition: models.Filter | None) -> None:
    def pages(client: QdrantClient, name: str) -> list[Any]:
        found, offset = [], None
        while True:
            points, offset = client.scroll(name, condition, limit=limit, offset=offset)
            found.append([*plain(points), offset])
            if offset is None:
                return found

    assert sum(len(page) - 1 for page in pair.agree(pages)) > 0


def test_scroll_agrees_on_offset_and_vectors(pair: Pair) -> None:
    pair.agree(lambda client, name: client.scroll(name, limit=5, offset=UUID, with_vectors=True))
    pair.agree(lambda client, name: client.scroll(name, limit=5, offset=1000))


def test_points_by_id_agree(pair: Pair) -> None:
    wanted = [UUID, 3, 3, 1000, UUID.replace("-", ""), 119]
    for more in ({}, {"with_vectors": True}, {"with_payload": ["maker"]}, {"with_payload": False}):
        pair.agree(lambda client, name, more=more: client.retrieve(name, wanted, **more))

    for wanted_id in (ID, UUID):
        pair.agree(
            lambda client, name, each=wanted_id: client.http.points_api.get_point(name, each).result
        )


@pytest.mark.parametrize("distance", DISTANCES)
@pytest.mark.parametrize("key", ["colour", "tags", "rank", "parts[].name", "sold", "price"])
def test_groups_agree(make_pair, distance: str, key: str) -> None:
    def groups(**arguments: Any) -> Ask:
        return lambda client, name: client.query_points_groups(name, key, **arguments).groups

    pair = make_pair(distance)
    pair.agree(groups(query=QUERY, limit=4, group_size=3))
    pair.agree(groups(query=ID, limit=3, group_size=40, with_payload=["rank"], with_vectors=True))
    pair.agree(groups(query=QUERY, limit=50, group_size=2, query_filter=CHEAP))
    pair.agree(groups(query=QUERY, limit=3, group_size=1 << 31))
    pair.agree(
        groups(
            prefetch=[models.Prefetch(query=OTHER, limit=9), models.Prefetch(query=QUERY, limit=4)],
            query=QUERY,
            limit=3,
            group_size=2,
        )
    )


def test_batches_agree(pair: Pair) -> None:
    requests = [
        models.QueryRequest(query=QUERY, limit=4),
        models.QueryRequest(query=ID, filter=RED, with_payload=True),
        models.QueryRequest(limit=3, with_vector=True),
    ]
    pair.agree(
        lambda client, name: [answer.points for answer in client.query_batch_points(name, requests)]
    )


def legacy(path: str, **body: Any) -> Ask:
    def call(client: QdrantClient, name: str) -> Any:
        answer = client.http.client.request(
            type_=object,
            method="POST",
            url="/collections/{name}/points/" + path,
            path_params={"name": name},
            content=json.dumps(body),
            headers={"content-type": "application/json"},
        )
        return without_versions(answer["result"])

    return call


def without_versions(value: Any) -> Any:
    if isinstance(value, list):
        return [without_versions(each) for each in value]
    if isinstance(value, dict):
        return {key: without_versions(each) for key, each in value.items() if key != "version"}
    return value


LEGACY: dict[str, Ask] = {
    "search": legacy("search", vector=QUERY, limit=5, with_payload=True),
    "search, named": legacy("search", vector={"name": "", "vector": QUERY}, top=5, offset=2),
    "search batch": legacy("search/batch", searches=[{"vector": QUERY, "limit": 2}] * 2),
    "search groups": legacy("search/groups", vector=QUERY, limit=2, group_by="tags", group_size=2),
}


@pytest.mark.parametrize("kind", LEGACY)
def test_older_endpoints_agree(pair: Pair, kind: str) -> None:
    pair.agree(LEGACY[kind])


REFUSED: dict[str, Ask] = {
    "dimension": query(query=QUERY[:-1]),
    "name": query(query=QUERY, using="image"),
    "name with an id": query(query=ID, using="image"),
    "unknown id": query(query=1000),
    "no id": query(query="not-a-uuid"),
    "sparse": query(query=models.SparseVector(indices=[1], values=[1.0])),
    "multivector": query(query=[QUERY, OTHER]),
    "prefetch without a query": query(prefetch=models.Prefetch(query=QUERY)),
    "no such point": lambda client, name: client.http.points_api.get_point(name, 1000),
    "no point": lambda client, name: client.http.points_api.get_point(name, "abc"),
    "vector name": query(query=QUERY, with_vectors=["image"]),
    "vectors by a word": legacy("query", query=QUERY, with_vector="x"),
    "payload by a number": legacy("query", query=QUERY, with_payload=1),
    "a field without a condition": legacy("scroll", filter={"must": [{"key": "colour"}]}),
    "date": legacy("scroll", filter={"must": {"key": "date", "range": {"gt": "no date"}}}),
    "clause": legacy("scroll", filter={"musty": []}),
    "unknown query": legacy("query", query={"nearby": 1}),
    "limit": query(query=QUERY, limit=0),
    "too many candidates": query(
        query=models.NearestQuery(nearest=QUERY, mmr=models.Mmr(candidates_limit=16_385))
    ),
}


@pytest.mark.parametrize("kind", REFUSED)
def test_refusals_have_the_same_status(pair: Pair, kind: str) -> None:
    def status(client: QdrantClient, name: str) -> int:
        with pytest.raises(UnexpectedResponse) as refused:
            REFUSED[kind](client, name)
        return refused.value.status_code

    assert pair.agree(status) >= 400
