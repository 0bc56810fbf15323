"""A FAISS index served as a collection answers queries as Qdrant does with the same points.

Each call is made by the official client, on our front and on a server over Qdrant's own engine.
With ``QDRANT_URL`` set, the same calls compare with that server.
"""

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from qdrant_client import models

from tests.support.faiss_pairs import (
    CHEAP,
    DISTANCES,
    ID,
    OTHER,
    PAIRS,
    QUERY,
    RED,
    UUID,
    MakePair,
    field,
    making_pairs,
    must,
    query,
)
from tests.support.qdrant.agreement import Ask, order_ties
from tests.support.qdrant.fixtures import qdrant  # noqa: F401


@pytest.fixture(scope="module")
def make_pair(qdrant, tmp_path_factory) -> Iterator[MakePair]:  # noqa: F811
    with making_pairs(qdrant, tmp_path_factory) as make:
        yield make


def recommend(strategy: models.RecommendStrategy | None, *examples: Any, **more: Any) -> Ask:
    positive, negative = examples
    chosen = models.RecommendInput(positive=positive, negative=negative, strategy=strategy)
    return query(query=models.RecommendQuery(recommend=chosen), limit=9, **more)


def fuse(how: models.Query, *more: models.Prefetch, **arguments: Any) -> Ask:
    prefetch = [
        models.Prefetch(query=QUERY, limit=12),
        models.Prefetch(query=OTHER, limit=9, filter=CHEAP),
        *more,
    ]
    return query(prefetch=prefetch, query=how, limit=7, **arguments)


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
    "recommend average": recommend(None, [ID, 12], [20]),
    "recommend average, raw": recommend(None, [ID, QUERY], [OTHER]),
    "recommend best score": recommend(
        models.RecommendStrategy.BEST_SCORE, [ID, QUERY], [UUID], score_threshold=0.1
    ),
    "recommend best score, negatives": recommend(
        models.RecommendStrategy.BEST_SCORE, [], [UUID, 12]
    ),
    "recommend sum scores": recommend(
        models.RecommendStrategy.SUM_SCORES, [ID, QUERY], [UUID], query_filter=CHEAP
    ),
    "discover": query(
        query=models.DiscoverQuery(discover=models.DiscoverInput(target=QUERY, context=PAIRS))
    ),
    "discover by id": query(
        query=models.DiscoverQuery(discover=models.DiscoverInput(target=30, context=PAIRS[0]))
    ),
    "rrf": fuse(models.FusionQuery(fusion=models.Fusion.RRF)),
    "rrf, filter and threshold": fuse(
        models.FusionQuery(fusion=models.Fusion.RRF), query_filter=RED, score_threshold=0.2
    ),
    "rrf, weights": fuse(models.RrfQuery(rrf=models.Rrf(k=5, weights=[3.1, 1.3]))),
    "dbsf": fuse(models.FusionQuery(fusion=models.Fusion.DBSF), models.Prefetch(query=ID)),
    "dbsf, offset": fuse(models.FusionQuery(fusion=models.Fusion.DBSF), offset=3),
    "rescored": query(prefetch=models.Prefetch(query=OTHER, limit=20), query=QUERY, limit=6),
    "rescored, nested": query(
        prefetch=models.Prefetch(
            prefetch=[models.Prefetch(query=OTHER, limit=40), models.Prefetch(query=12, limit=5)],
            query=UUID,
            limit=25,
            filter=CHEAP,
        ),
        query=QUERY,
        limit=6,
        query_filter=must(field("sold", match=models.MatchValue(value=True))),
    ),
    "rescored by recommendation": query(
        prefetch=models.Prefetch(query=OTHER, limit=20),
        query=models.RecommendQuery(
            recommend=models.RecommendInput(
                positive=[ID], strategy=models.RecommendStrategy.BEST_SCORE
            )
        ),
        limit=6,
    ),
    "order by": query(query=models.OrderByQuery(order_by="rank"), limit=7),
    "order by, descending": query(
        query=models.OrderByQuery(
            order_by=models.OrderBy(key="rank", direction=models.Direction.DESC, start_from=60)
        ),
        limit=7,
    ),
    "order by a prefetch": query(
        prefetch=models.Prefetch(query=OTHER, limit=20),
        query=models.OrderByQuery(order_by="rank"),
        limit=7,
    ),
}


# Equal reciprocal ranks: the engine leaves their order to chance.
WITH_TIES = {"rrf", "rrf, filter and threshold"}


@pytest.mark.parametrize("distance", DISTANCES)
@pytest.mark.parametrize("kind", QUERIES)
def test_queries_agree(make_pair, distance: str, kind: str) -> None:
    arrange = order_ties if kind in WITH_TIES else list
    assert isinstance(make_pair(distance).agree(QUERIES[kind], arrange), list)


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


@pytest.mark.parametrize("distance", DISTANCES)
def test_context_search_agrees_but_for_ties(make_pair, distance: str) -> None:
    ask = query(query=models.ContextQuery(context=PAIRS), limit=60)
    make_pair(distance).agree(ask, order_ties)


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
    pair.agree(QUERIES["recommend best score"])
    first = models.Prefetch(query=OTHER, limit=20, params=EXACT)
    pair.agree(query(prefetch=first, query=QUERY, limit=6))
