"""Index files of every supported make, swept, and held against recall worked out by hand."""

from pathlib import Path
from typing import Any

import faiss
import numpy as np
import pytest

from tests.support.worlds import unit
from trimtab_training.embeddings.store import VectorTable
from trimtab_training.evaluation.ann_recall import Sweep, sweep_index

N, DIM, K = 1500, 16, 10
_RNG = np.random.default_rng(0)
ROWS = unit(_RNG.standard_normal((N, DIM))).astype(np.float32)
RAW = unit(ROWS[:200] + 0.2 * _RNG.standard_normal((200, DIM))).astype(np.float32)
ADAPTED = unit(_RNG.standard_normal((200, DIM)) + 1.0).astype(np.float32)
NEAREST = {
    name: np.argsort(-(queries.astype(np.float64) @ ROWS.T.astype(np.float64)), axis=1)[:, :K]
    for name, queries in (("raw", RAW), ("adapted", ADAPTED))
}
"""The ten nearest documents of every query, by plain numpy."""
IDS = [f"d{row}" for row in range(N)]
DOCUMENTS = VectorTable(IDS, ROWS, "documents")

LOSSLESS = [
    ("HNSW16", "HNSW"),
    ("IVF20,Flat", "IVF"),
    ("IVF20_HNSW8,Flat", "IVF"),
    ("IDMap,HNSW16", "HNSW"),
    ("IDMap2,IVF20,Flat", "IVF"),
    ("L2norm,HNSW16", "HNSW"),
    ("IVF20,PQ8x4np,RFlat", "IVF"),
]
LOSSY = [("HNSW16_SQ8", "HNSW"), ("IVF20,SQ8", "IVF"), ("IVF20,PQ8x4np", "IVF")]


def write_index(
    folder: Path, factory: str, metric: int = faiss.METRIC_INNER_PRODUCT
) -> tuple[Any, np.ndarray]:
    """Write an index whose rows, and whose numbers, are in another order than the documents."""
    order = np.random.default_rng(1).permutation(N)
    index = faiss.index_factory(DIM, factory, metric)
    index.train(ROWS)
    if "IDMap" in factory:
        index.add_with_ids(ROWS[order], np.arange(N)[::-1] * 3)
    else:
        index.add(ROWS[order])
    faiss.write_index(index, str(folder / "x.faiss"))
    (folder / "x.ids").write_text("".join(f"{IDS[row]}\n" for row in order), encoding="utf-8")
    return index, order


def write_rows_in_order(folder: Path, index: Any) -> None:
    """Write an index whose row i is document i."""
    faiss.write_index(index, str(folder / "x.faiss"))
    (folder / "x.ids").write_text("".join(f"{one}\n" for one in IDS), encoding="utf-8")


def sweep(folder: Path, similarity: str = "cosine", **given: Any) -> Sweep:
    return sweep_index(
        f"faiss:{folder / 'x.faiss'}?ids={folder / 'x.ids'}",
        given.get("raw", RAW),
        given.get("adapted", ADAPTED),
        given.get("documents", DOCUMENTS),
        similarity,
    )


def set_value(index: Any, value: int) -> None:
    """Turn the parameter as FAISS's users do."""
    core = faiss.downcast_index(index)
    while not isinstance(core, faiss.IndexHNSW | faiss.IndexIVF):
        inner = core.base_index if isinstance(core, faiss.IndexRefine) else core.index
        core = faiss.downcast_index(inner)
    if isinstance(core, faiss.IndexIVF):
        core.nprobe = value
    else:
        core.hnsw.efSearch = value


def recall_by_hand(
    index: Any, order: np.ndarray, name: str, value: int, *, numbered: bool = False
) -> float:
    """Give the share of the ten nearest documents that the index finds."""
    set_value(index, value)
    found = index.search({"raw": RAW, "adapted": ADAPTED}[name], K)[1]
    if numbered:  # row i bears the number (N - 1 - i) * 3
        found = np.where(found >= 0, N - 1 - found // 3, -1)
    both = [
        len(set(order[mine[mine >= 0]].tolist()) & set(wanted.tolist()))
        for mine, wanted in zip(found, NEAREST[name], strict=True)
    ]
    return sum(both) / (len(found) * K)


@pytest.mark.parametrize(("factory", "kind"), LOSSLESS + LOSSY)
def test_every_point_is_the_recall_worked_out_by_hand(
    tmp_path: Path, factory: str, kind: str
) -> None:
    index, order = write_index(tmp_path, factory)
    record = sweep(tmp_path)
    assert record.kind == kind
    assert record.lossy is ((factory, kind) in LOSSY)
    assert len(record.points) > 1
    for point in record.points:
        for name in ("raw", "adapted"):
            by_hand = recall_by_hand(index, order, name, point.value, numbered="IDMap" in factory)
            assert getattr(point, name).recall == pytest.approx(by_hand), (name, point.value)


@pytest.mark.parametrize("similarity", ["cosine", "euclid"])
def test_an_index_by_distance_is_measured_too(tmp_path: Path, similarity: str) -> None:
    index, order = write_index(tmp_path, "IVF20,Flat", faiss.METRIC_L2)
    for point in sweep(tmp_path, similarity).points:
        by_hand = recall_by_hand(index, order, "adapted", point.value)
        assert point.adapted.recall == pytest.approx(by_hand)


def test_all_lists_probed_find_everything_even_among_equal_documents(tmp_path: Path) -> None:
    """Vectors of nearly unit length, in which inner product and cosine differ, five times each."""
    lengths = 1 + 4e-3 * np.random.default_rng(4).uniform(-1, 1, (N // 5, 1))
    rows = np.repeat((ROWS[: N // 5] * lengths).astype(np.float32), 5, axis=0)
    index = faiss.index_factory(DIM, "IVF20,Flat", faiss.METRIC_INNER_PRODUCT)
    index.train(rows)
    index.add(rows)
    index.nprobe = 20
    write_rows_in_order(tmp_path, index)
    record = sweep(tmp_path, documents=VectorTable(IDS, rows, "documents"))
    assert record.served_value == record.points[-1].value == 20
    assert record.raw_recall_at_served == record.adapted_recall_at_served == 1


def test_cosine_leaves_the_length_of_queries_aside(tmp_path: Path) -> None:
    """Lists are chosen by distance here, which would be others for a longer query."""
    write_index(tmp_path, "IVF20,Flat", faiss.METRIC_L2)
    short, long = (sweep(tmp_path, raw=RAW * factor).points for factor in (1, 9))
    assert [point.raw.recall for point in short] == [point.raw.recall for point in long]


def test_a_graph_with_few_links_misses_documents_and_loses_more_of_what_lies_apart(
    tmp_path: Path,
) -> None:
    """Documents in one cone, adapted queries outside it: the case that the sweep is made for."""
    rng = np.random.default_rng(2)
    rows = unit(rng.standard_normal((N, DIM)) + 0.7).astype(np.float32)
    index = faiss.IndexHNSWFlat(DIM, 2, faiss.METRIC_INNER_PRODUCT)
    index.hnsw.efConstruction = 8
    index.hnsw.efSearch = 32
    index.add(rows)
    write_rows_in_order(tmp_path, index)
    outside = unit(rng.standard_normal((200, DIM)) - 0.7).astype(np.float32)
    record = sweep(
        tmp_path, raw=rows[:200], adapted=outside, documents=VectorTable(IDS, rows, "documents")
    )
    assert record.adapted_recall_at_served < record.raw_recall_at_served < 1
    assert record.restores is None or record.restores > record.served_value


def test_restores_is_the_least_value_that_gives_the_raw_recall_back(tmp_path: Path) -> None:
    index, order = write_index(tmp_path, "IVF60,Flat")
    set_value(index, 6)
    faiss.write_index(index, str(tmp_path / "x.faiss"))
    record = sweep(tmp_path)
    wanted, restores = record.raw_recall_at_served, record.restores
    assert record.adapted_recall_at_served < wanted
    reaches = [recall_by_hand(index, order, "adapted", value) >= wanted for value in range(1, 61)]
    assert restores == reaches.index(True) + 1
    assert restores in [point.value for point in record.points]


def test_nothing_restores_what_compression_has_lost(tmp_path: Path) -> None:
    """Adapted queries ask for what an 8-bit code can't tell apart; raw ones are easy."""
    near = unit(ROWS[:1] + 1e-3 * np.random.default_rng(3).standard_normal((N, DIM)))
    rows = np.concatenate([ROWS[: N // 2], near[N // 2 :]]).astype(np.float32)
    index = faiss.index_factory(DIM, "IVF8,SQ8", faiss.METRIC_INNER_PRODUCT)
    index.train(rows)
    index.add(rows)
    index.nprobe = 8
    write_rows_in_order(tmp_path, index)
    record = sweep(
        tmp_path,
        raw=RAW,
        adapted=near[:200].astype(np.float32),
        documents=VectorTable(IDS, rows, "documents"),
    )
    assert record.lossy
    assert record.adapted_recall_at_served < record.raw_recall_at_served
    assert record.restores is None


def test_the_file_stays_as_it_was(tmp_path: Path) -> None:
    write_index(tmp_path, "HNSW16")
    before = (tmp_path / "x.faiss").read_bytes()
    sweep(tmp_path)
    assert (tmp_path / "x.faiss").read_bytes() == before
