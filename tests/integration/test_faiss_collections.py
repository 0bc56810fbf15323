"""FAISS index files of every kind, served to the official client over a real socket."""

import errno
import functools
import logging
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Protocol

import faiss
import numpy as np
import pytest
from qdrant_client import QdrantClient, models

from tests.support.faiss_collections import (
    ask,
    build_index,
    normalise,
    serving,
    vectors_of,
    write_collection,
)
from tests.support.faiss_trials import forked_trials  # noqa: F401  # for every test here
from trimtab.faiss_collections import Collections
from trimtab.faiss_collections.index import SearchOptions, VectorIndex
from trimtab.routing.vector_schema import IndexedVector, read_vectors

DIM, N_ROWS = 16, 1200
VECTORS = vectors_of(N_ROWS, DIM)
QUERY = vectors_of(1, DIM, seed=9)[0]
PAYLOADS = [{"n": i, "part": i % 10, "half": i % 2} for i in range(N_ROWS)]
C = "/collections/papers/points"

EXACT_KINDS = [
    "Flat",
    "HNSW16",
    "IVF16,Flat",
    "IVF16_HNSW8,Flat",
    "RR16,Flat",
    "NSG16",
    "Flat,RFlat",
]
LOSSY_KINDS = [
    "SQ8", "SQfp16", "PQ8x4np", "PQ8x4fs", "HNSW16,SQ8", "HNSW16,PQ8x4np", "IVF16,SQ8",
    "IVF16,PQ8x4np", "PCAR8,IVF16,Flat", "OPQ8,IVF16,PQ8x4np", "RQ4x4", "IVF16,RQ4x4",
]  # fmt: skip
BLIND_KINDS = ["IVF16,PQ8x4fs"]
WITH_NUMBERS = ["IDMap,Flat", "IDMap2,HNSW16", "IDMap,IVF16,Flat", "IVF16,Flat"]


class Load(Protocol):
    def __call__(self, kind: str, distance: str = "Dot") -> Collections: ...


@pytest.fixture(scope="module")
def load(tmp_path_factory: pytest.TempPathFactory) -> Load:
    """Serve an index of a kind; each is opened, and tried in a process of its own, once."""

    @functools.cache
    def load(kind: str, distance: str = "Dot") -> Collections:
        folder = tmp_path_factory.mktemp("served")
        return Collections.load(
            [write_collection(folder, build(kind, distance), payloads=PAYLOADS)]
        )

    return load


@functools.cache  # training takes longer than everything else
def build(kind: str, distance: str) -> faiss.Index:
    return build_index(kind, VECTORS, distance)


def search(collections: Collections, **request: Any) -> list[dict[str, Any]]:
    status, body = ask(collections, "POST", f"{C}/query", {"query": QUERY.tolist()} | request)
    assert status == 200, body
    points: list[dict[str, Any]] = body["result"]["points"]
    return points


def best(similarities: np.ndarray, chosen: np.ndarray | None = None, k: int = 10) -> list[int]:
    rows = np.arange(len(similarities)) if chosen is None else np.flatnonzero(chosen)
    return rows[np.argsort(-similarities[rows])[:k]].tolist()


def ids(points: list[dict[str, Any]]) -> list[int]:
    return [point["id"] for point in points]


@pytest.mark.parametrize("kind", EXACT_KINDS)
@pytest.mark.parametrize("distance", ["Dot", "Euclid"])
def test_exact_search_is_exact(load: Load, kind: str, distance: str) -> None:
    collections = load(kind, distance)
    similarities = (
        VECTORS @ QUERY if distance == "Dot" else -np.linalg.norm(VECTORS - QUERY, axis=1)
    )
    found = search(collections, params={"exact": True})
    assert ids(found) == best(similarities)
    scores = np.abs(similarities) if distance == "Euclid" else similarities
    assert np.allclose([point["score"] for point in found], scores[ids(found)], rtol=1e-4)
    for condition, chosen in (
        ({"key": "part", "match": {"value": 3}}, np.arange(N_ROWS) % 10 == 3),
        ({"key": "n", "range": {"gte": 30}}, np.arange(N_ROWS) >= 30),
    ):
        found = search(collections, params={"exact": True}, filter={"must": condition})
        assert ids(found) == best(similarities, chosen)


@pytest.mark.parametrize("kind", [*EXACT_KINDS, *LOSSY_KINDS, *BLIND_KINDS])
def test_every_search_finds_as_many_points_as_there_are(load: Load, kind: str) -> None:
    collections = load(kind)
    assert len(search(collections, limit=N_ROWS + 5)) == N_ROWS
    assert len(search(collections, limit=900)) == 900
    assert len(set(ids(search(collections, limit=700)))) == 700


@pytest.mark.parametrize("kind", [*EXACT_KINDS, *LOSSY_KINDS])
def test_every_filter_holds_and_finds_all(load: Load, kind: str) -> None:
    collections = load(kind)
    for few in (3, 9):
        found = search(collections, filter={"must": {"key": "n", "range": {"lt": few}}}, limit=20)
        assert sorted(ids(found)) == list(range(few))
    found = search(collections, filter={"must": {"key": "half", "match": {"value": 1}}}, limit=50)
    assert len(found) == 50
    assert all(point % 2 == 1 for point in ids(found))


@pytest.mark.parametrize("kind", [*EXACT_KINDS, *LOSSY_KINDS])
def test_a_point_finds_its_neighbours_and_not_itself(load: Load, kind: str) -> None:
    collections = load(kind)
    found = search(collections, query=7, limit=30, with_vector=True)
    assert len(found) == 30
    assert 7 not in ids(found)
    vectors = np.array([point["vector"] for point in found])
    correlation = np.corrcoef(vectors.ravel(), VECTORS[ids(found)].ravel())[0, 1]
    assert correlation > (0.9999 if kind in EXACT_KINDS else 0.6)


def test_a_diverse_query_chooses_among_so_many_at_most(tmp_path: Path) -> None:
    n_rows, most = 16_500, 16_384
    index = build_index("Flat", vectors_of(n_rows, 2))
    collections = Collections.load([write_collection(tmp_path, index)])
    query = {"nearest": [1.0, 2.0], "mmr": {}}
    nearest = search(collections, query=query["nearest"], limit=most)
    diverse = search(collections, query=query, limit=n_rows)
    assert len(diverse) == most
    assert set(ids(diverse)) == set(ids(nearest))


@pytest.mark.parametrize("kind", [*EXACT_KINDS, *LOSSY_KINDS, *BLIND_KINDS])
def test_information_says_what_the_index_is(load: Load, kind: str) -> None:
    collections = load(kind)
    info = ask(collections, "GET", "/collections/papers")[1]["result"]
    told = info["config"]["metadata"]
    assert told["lossy"] is (kind not in EXACT_KINDS)
    assert told["gives_vectors"] is (kind not in BLIND_KINDS)
    assert (info["points_count"], info["config"]["params"]["vectors"]["size"]) == (N_ROWS, DIM)


def test_what_an_index_without_vectors_can_not_do_is_said(load: Load) -> None:
    collections = load("IVF16,PQ8x4fs")
    assert len(search(collections)) == 10
    assert len(search(collections, params={"exact": True})) == 10
    few = {"must": {"key": "n", "range": {"lt": 5}}}
    assert sorted(ids(search(collections, filter=few))) == [0, 1, 2, 3, 4]
    for request in (
        {"query": 7},
        {"query": QUERY.tolist(), "with_vector": True},
        {"query": {"nearest": QUERY.tolist(), "mmr": {}}},
    ):
        status, body = ask(collections, "POST", f"{C}/query", request)
        assert status == 400
        assert "can't give its vectors back" in body["status"]["error"]
    point = ask(collections, "GET", f"{C}/7")[1]["result"]
    assert point == {"id": 7, "payload": PAYLOADS[7]}


def test_a_transform_that_can_not_be_undone_is_said(load: Load) -> None:
    collections = load("ITQ16,Flat", "Euclid")
    assert len(search(collections, params={"exact": True})) == 10
    status, body = ask(collections, "POST", f"{C}/query", {"query": 7})
    assert (status, "can't be undone" in body["status"]["error"]) == (400, True)


@pytest.mark.parametrize("kind", WITH_NUMBERS)
def test_numbers_of_the_index_are_ids(tmp_path: Path, kind: str) -> None:
    numbers = (np.random.default_rng(3).permutation(N_ROWS) + 2**40).tolist()
    index = build_index(kind, VECTORS, "Dot", numbers)
    payloads = [{"id": number, "n": row} for row, number in enumerate(numbers)]
    collections = Collections.load([write_collection(tmp_path, index, payloads=payloads)])
    found = search(collections, params={"exact": True}, with_payload=True, with_vector=True)
    assert [point["payload"]["n"] for point in found] == best(VECTORS @ QUERY)
    assert ids(found) == [numbers[point["payload"]["n"]] for point in found]
    for point in found:
        assert np.allclose(point["vector"], VECTORS[point["payload"]["n"]])
    odd = np.arange(N_ROWS) % 7 < 3
    request = {"must_not": {"has_id": [numbers[row] for row in np.flatnonzero(~odd)]}}
    found = search(collections, params={"exact": True}, filter=request, with_payload=True)
    assert [point["payload"]["n"] for point in found] == best(VECTORS @ QUERY, odd)


def test_an_ids_file_names_rows_under_an_id_map(tmp_path: Path) -> None:
    numbers = list(range(5000, 5000 + N_ROWS))
    names = [f"doc-{row}" for row in range(N_ROWS)]
    index = build_index("IDMap,Flat", VECTORS, "Dot", numbers)
    collections = Collections.load([write_collection(tmp_path, index, names)])
    found = search(collections, with_payload=True)
    assert [point["payload"]["_id"] for point in found] == [
        f"doc-{row}" for row in best(VECTORS @ QUERY)
    ]
    only = {"must": {"key": "_id", "match": {"any": ["doc-5", "doc-9"]}}}
    assert len(search(collections, filter=only)) == 2


def test_unit_vectors_make_a_cosine_collection(load: Load) -> None:
    for kind in ("Flat", "HNSW16", "IVF16,Flat", "IVF16,SQ8", "L2norm,Flat"):
        assert load(kind, "Cosine").vectors("papers")[""].distance == "cosine"
        wanted = "cosine" if kind == "L2norm,Flat" else "dot"
        assert load(kind, "Dot").vectors("papers")[""].distance == wanted
    collections = load("Flat", "Cosine")
    plain, scaled = search(collections), search(collections, query=(QUERY * 7).tolist())
    assert [point["score"] for point in plain] == pytest.approx(
        [point["score"] for point in scaled]
    )
    assert plain[0]["score"] == pytest.approx(
        (normalise(VECTORS) @ normalise(QUERY[None])[0]).max()
    )
    assert search(collections, query=[0.0] * DIM)[0]["score"] == 0


def test_params_steer_the_search(load: Load, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[Any] = []
    plain = VectorIndex._params

    def watch(self: VectorIndex, *arguments: Any) -> Any:
        asked.append(plain(self, *arguments))
        return asked[-1]

    monkeypatch.setattr(VectorIndex, "_params", watch)
    collections = load("IVF16,Flat")
    for params, n_lists in (
        (None, 1), ({"nprobe": 5}, 5), ({"hnsw_ef": 7}, 7), ({"hnsw_ef": 400}, 16),
        ({"nprobe": 3, "hnsw_ef": 9}, 3), ({"exact": True}, 16),
    ):  # fmt: skip
        search(collections, limit=1, params=params)
        assert asked[-1].nprobe == n_lists
    collections = load("HNSW16")
    for params, ef in ((None, 16), ({"hnsw_ef": 99}, 99), ({"hnsw_ef": 10**12}, N_ROWS)):
        search(collections, params=params)
        assert asked[-1].efSearch == ef


def test_more_probes_find_more(load: Load) -> None:
    collections = load("IVF16,Flat")
    wanted = set(best(VECTORS @ QUERY, k=20))
    found = [
        len(wanted & set(ids(search(collections, limit=20, params={"nprobe": n}))))
        for n in (1, 4, 16)
    ]
    assert found == sorted(found)
    assert found[0] < found[2] == 20


def test_few_allowed_rows_are_compared_one_by_one(
    load: Load, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("trimtab.faiss_collections.index._FEW_ROWS", 0)
    for kind in ("Flat", "HNSW16", "IVF16,Flat", "PQ8x4np"):
        collections = load(kind)
        half = {"must": {"key": "half", "match": {"value": 1}}}
        found = ids(search(collections, filter=half, params={"exact": True}))
        if kind != "PQ8x4np":
            assert found == best(VECTORS @ QUERY, np.arange(N_ROWS) % 2 == 1)
        found = ids(search(collections, filter=half, limit=600, params={"nprobe": 1}))
        assert sorted(found) == list(range(1, N_ROWS, 2))


def test_threads_of_faiss_are_left_as_they_were(load: Load) -> None:
    collections = load("IVF16,Flat")
    before = faiss.omp_get_max_threads()
    faiss.omp_set_num_threads(3)
    try:
        seen: list[int] = []

        def work() -> None:
            faiss.omp_set_num_threads(4)
            search(collections)
            seen.append(faiss.omp_get_max_threads())

        thread = threading.Thread(target=work)
        thread.start()
        thread.join()
        search(collections)
        assert (seen, faiss.omp_get_max_threads()) == ([4], 3)
    finally:
        faiss.omp_set_num_threads(before)


def test_an_index_is_mapped_and_not_read(tmp_path: Path) -> None:
    def in_memory_kib() -> int:
        status = Path("/proc/self/status").read_text().splitlines()
        return int(next(line.split()[1] for line in status if line.startswith("RssAnon")))

    if not Path("/proc/self/status").exists():
        pytest.skip("tells memory apart on Linux only")
    path = tmp_path / "big.faiss"
    faiss.write_index(build_index("Flat", vectors_of(40_000, 256)), str(path))
    before = in_memory_kib()
    index = VectorIndex(path)
    found = index.search(index.prepare(np.ones(256, np.float32)), 5, None, SearchOptions())
    grown = in_memory_kib() - before
    assert len(found.rows) == 5
    assert grown < 20_000, f"{grown} KiB of 40,000 in memory"


@pytest.mark.parametrize("kind", ["Flat", "HNSW16"])
@pytest.mark.parametrize("by", ["faiss", "the system"])
def test_an_index_that_can_not_be_mapped_is_read_and_said(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    kind: str,
    by: str,
) -> None:
    plain = faiss.read_index

    def read(source: Any, flags: int = 0) -> Any:
        if flags:
            raise RuntimeError("Error: 'ptr != MAP_FAILED' failed: could not mmap: No such device")
        return plain(source, flags)

    def refuse(*_: Any) -> Any:
        raise OSError(errno.ENODEV, "No such device")

    settings = write_collection(tmp_path, build_index(kind, VECTORS))
    if by == "faiss":
        monkeypatch.setattr(faiss, "read_index", read)
    else:
        monkeypatch.setattr(np, "memmap", refuse)
    with caplog.at_level(logging.WARNING):
        collections = Collections.load([settings])
    assert "can't be mapped" in caplog.text
    assert len(search(collections)) == 10


def test_no_points_are_a_collection_too(tmp_path: Path) -> None:
    for kind in ("Flat", "HNSW8"):
        index = faiss.index_factory(DIM, kind)
        collections = Collections.load([write_collection(tmp_path, index)])
        assert search(collections) == []
        assert search(collections, query=None) == []
        assert search(collections, filter={"must": {"is_empty": {"key": "a"}}}) == []
        assert ask(collections, "POST", f"{C}/scroll", {})[1]["result"]["points"] == []
        assert ask(collections, "POST", f"{C}/count", {})[1]["result"] == {"count": 0}


@pytest.fixture(scope="module")
def client(tmp_path_factory: pytest.TempPathFactory) -> Iterator[QdrantClient]:
    folder = tmp_path_factory.mktemp("client")
    names = [f"doc-{row}" for row in range(N_ROWS)]
    payloads = [{"_id": name} | payload for name, payload in zip(names, PAYLOADS, strict=True)]
    index = build_index("HNSW16", VECTORS, "Cosine")
    settings = write_collection(folder, index, names, payloads[::-1])
    with serving(Collections.load([settings], alone=True)) as url:
        client = QdrantClient(url=url)  # asks for the version, and would warn
        yield client
        client.close()


def test_the_official_client_finds_a_server_with_collections(client: QdrantClient) -> None:
    assert [each.name for each in client.get_collections().collections] == ["papers"]
    assert client.collection_exists("papers")
    assert not client.collection_exists("others")
    info = client.get_collection("papers")
    assert info.status is models.CollectionStatus.GREEN
    assert read_vectors(info) == {"": IndexedVector(DIM, "cosine", "float32", is_multi=False)}
    assert info.config.hnsw_config.m == 16
    assert client.get_aliases().aliases == []
    assert client.count("papers").count == N_ROWS


def test_the_official_client_reads_all_points(client: QdrantClient) -> None:
    seen, offset = [], None
    while True:
        points, offset = client.scroll("papers", limit=500, offset=offset)
        seen += points
        if offset is None:
            break
    assert sorted(point.payload["n"] for point in seen) == list(range(N_ROWS))
    chosen = client.retrieve("papers", [seen[3].id], with_vectors=True)[0]
    assert chosen.payload == seen[3].payload
    assert np.allclose(chosen.vector, normalise(VECTORS)[chosen.payload["n"]], atol=1e-6)


def test_the_official_client_searches(client: QdrantClient) -> None:
    found = client.query_points(
        "papers", QUERY, limit=10, search_params=models.SearchParams(exact=True)
    )
    rows = best(normalise(VECTORS) @ QUERY)
    assert [point.payload["_id"] for point in found.points] == [f"doc-{row}" for row in rows]
    one = models.FieldCondition(key="part", match=models.MatchValue(value=4))
    groups = client.query_points_groups(
        "papers", "half", query=QUERY, query_filter=models.Filter(must=[one]), group_size=2
    )
    assert [group.id for group in groups.groups] == [0]


@pytest.mark.parametrize(
    "write",
    [
        lambda client: client.delete_collection("papers"),
        lambda client: client.upsert("papers", [models.PointStruct(id=1, vector=[0.0] * DIM)]),
        lambda client: client.set_payload("papers", {"a": 1}, points=[1]),
        lambda client: client.create_payload_index("papers", "n", models.PayloadSchemaType.INTEGER),
        lambda client: client.create_collection(
            "new", models.VectorParams(size=4, distance=models.Distance.DOT)
        ),
        lambda client: client.update_collection_aliases([]),
    ],
)
def test_the_official_client_is_told_that_nothing_can_be_written(
    client: QdrantClient, write: Any
) -> None:
    with pytest.raises(Exception, match="read-only FAISS index"):
        write(client)
