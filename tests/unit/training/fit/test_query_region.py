"""The query region: new queries like the training queries are near, foreign ones are far."""

from functools import cache

import numpy as np
import pytest
from numpy.typing import NDArray

from trimtab.model.manifest import MAX_CENTROIDS, QueryRegion
from trimtab.model.query_region import Region
from trimtab_training.embeddings.store import VectorTable
from trimtab_training.fit.query_region import MIN_QUERIES, SHARE, find_query_region

DIM = 32
N_TOPICS = 6
UNSEEN = 4000


def domain(n: int, *, topics: int, seed: int) -> NDArray[np.float32]:
    """Draw queries around a few topics; ``topics`` is the seed of the topics themselves."""
    centres = np.random.default_rng(topics).standard_normal((N_TOPICS, DIM))
    rng = np.random.default_rng(seed)
    drawn = centres[rng.integers(N_TOPICS, size=n)] + 0.8 * rng.standard_normal((n, DIM))
    return drawn.astype(np.float32)


def table_of(vectors: NDArray[np.float32]) -> VectorTable:
    return VectorTable([f"q{row}" for row in range(len(vectors))], vectors, "queries")


def find(vectors: NDArray[np.float32], seed: int = 0) -> QueryRegion:
    table = table_of(vectors)
    region = find_query_region(table, table.ids, seed=seed)
    assert region is not None
    return region


@cache
def known(n: int = 2000) -> QueryRegion:
    return find(domain(n, topics=1, seed=2))


def far_share(region: QueryRegion, queries: NDArray[np.float32]) -> float:
    return float(np.mean(Region(region).is_far(queries)))


def test_unseen_queries_of_the_domain_are_far_at_about_the_stated_share() -> None:
    # 2000 training queries place the 1 % quantile to within 0.45 points, twice its spread.
    assert abs(far_share(known(), domain(UNSEEN, topics=1, seed=3)) - SHARE) < 0.0045


def test_stated_share_holds_on_average_for_small_training_sets_too() -> None:
    unseen = domain(UNSEEN, topics=1, seed=3)
    shares = [far_share(find(domain(120, topics=1, seed=seed)), unseen) for seed in range(40)]
    # A fold's centroids know a little less than those of all, so the mean is 0.8 %. A quantile
    # that is right only for large samples would give 1.3 % and more.
    assert 0.5 * SHARE < np.mean(shares) < 1.15 * SHARE


def test_queries_of_another_domain_are_far_far_more_often() -> None:
    assert far_share(known(), domain(UNSEEN, topics=9, seed=3)) > 0.9


def test_share_of_far_queries_grows_with_the_share_of_foreign_ones() -> None:
    own, foreign = domain(1000, topics=1, seed=3), domain(1000, topics=9, seed=3)
    shares = [
        far_share(known(), np.concatenate([own[:-n], foreign[:n]])) for n in (1, 100, 300, 600)
    ]
    assert shares == sorted(shares)
    assert shares[2] == pytest.approx(0.3, abs=0.05)


def test_length_of_training_queries_does_not_matter() -> None:
    vectors = domain(400, topics=1, seed=2)
    lengths = np.random.default_rng(0).uniform(0.1, 10, size=(400, 1)).astype(np.float32)
    one, other = find(vectors), find(vectors * lengths)
    assert one.threshold == pytest.approx(other.threshold, abs=1e-3)


def test_same_seed_gives_the_same_region_and_another_seed_another() -> None:
    vectors = domain(700, topics=1, seed=2)
    assert find(vectors, seed=4) == find(vectors, seed=4)
    assert find(vectors, seed=4) != find(vectors, seed=5)


def test_only_training_queries_count() -> None:
    own, foreign = domain(500, topics=1, seed=2), domain(500, topics=9, seed=2)
    table = table_of(np.concatenate([own, foreign]))
    region = find_query_region(table, table.ids[:500], seed=0)
    assert region == find(own)


def test_too_few_training_queries_give_no_region() -> None:
    table = table_of(domain(MIN_QUERIES, topics=1, seed=2))
    assert find_query_region(table, table.ids[:-1], seed=0) is None
    assert find_query_region(table, table.ids, seed=0) is not None


def test_large_training_sets_are_sampled(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("trimtab_training.fit.query_region._MAX_QUERIES", 1000)
    taken = []

    class Watched(VectorTable):
        def take_ids(self, ids: list[str]) -> NDArray[np.float32]:
            taken.append(len(set(ids)))
            return super().take_ids(ids)

    table = Watched([f"q{row}" for row in range(3000)], domain(3000, topics=1, seed=2), "queries")
    region = find_query_region(table, table.ids, seed=0)
    assert taken == [1000]
    assert region is not None
    assert far_share(region, domain(UNSEEN, topics=1, seed=3)) < 3 * SHARE


@pytest.mark.parametrize("seed", range(5))
def test_no_lone_training_query_is_stored(seed: int) -> None:
    """One that is like no other would be a centroid of its own."""
    n_alike = 270
    vectors = np.eye(DIM, dtype=np.float32)[np.r_[np.zeros(n_alike, int), 1 : DIM - 1]]
    rng = np.random.default_rng(seed)
    vectors += 0.02 * rng.standard_normal(vectors.shape).astype(np.float32)
    lone = vectors[n_alike:] / np.linalg.norm(vectors[n_alike:], axis=1, keepdims=True)
    assert (lone @ find(vectors, seed).unpack().T).max() < 0.5


def test_equal_training_queries_are_near_themselves() -> None:
    vectors = np.tile(domain(1, topics=1, seed=2), (200, 1))
    region = find(vectors)
    assert far_share(region, vectors) == 0
    assert far_share(region, -vectors) == 1


@pytest.mark.parametrize("n", [MIN_QUERIES, 5000])
def test_region_is_small_and_knows_its_numbers(n: int) -> None:
    region = find(domain(n, topics=1, seed=2))
    assert 1 <= region.n_centroids <= MAX_CENTROIDS // 2
    assert region.dim == DIM
    assert region.share == SHARE
    assert -1 < region.threshold < 1


def test_seed_of_any_size_is_taken() -> None:
    assert find(domain(200, topics=1, seed=2), seed=2**40)


def test_faiss_says_nothing(capfd: pytest.CaptureFixture[str]) -> None:
    find(domain(MIN_QUERIES, topics=1, seed=2))
    assert capfd.readouterr() == ("", "")
