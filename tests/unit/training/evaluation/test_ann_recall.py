"""The served index against exact search, for raw and for adapted queries."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import faiss
import numpy as np
import pytest
from msgspec.structs import replace

from tests.support.served_indexes import (
    DIM,
    build,
    documents_of,
    nearest,
    on_a_line,
    recall_by_hand,
    rows_of,
    save,
)
from trimtab_training.errors import DataError
from trimtab_training.evaluation.ann_recall import Sweep, sweep_index

ROWS = rows_of(800)
RAW, ADAPTED = rows_of(60, seed=1), -rows_of(60, seed=2)  # adapted ones lie where no document does
DOCUMENTS = documents_of(ROWS)
IN_THE_MIDDLE = np.array([[0.2, 0]], dtype=np.float32)  # its ten nearest: five in either list
AT_THE_SIDE = np.array([[6, 0]], dtype=np.float32)  # its ten nearest: one list


def recalls(record: Sweep, name: str) -> dict[int, float]:
    return {point.value: getattr(point, name).recall for point in record.points}


def without_times(record: Sweep) -> tuple[Sweep, dict[int, float], dict[int, float]]:
    return replace(record, points=[]), recalls(record, "raw"), recalls(record, "adapted")


# What is measured


def test_recall_is_what_lists_that_part_at_zero_must_give(tmp_path: Path) -> None:
    index, rows = on_a_line()
    record = sweep_index(
        save(tmp_path, index), AT_THE_SIDE, IN_THE_MIDDLE, documents_of(rows), "euclid"
    )
    assert recalls(record, "raw") == {1: 1.0, 2: 1.0}
    assert recalls(record, "adapted") == {1: 0.5, 2: 1.0}
    assert (record.raw_recall_at_served, record.adapted_recall_at_served) == (1.0, 0.5)
    assert record.restores == 2


def test_record_says_what_was_measured(tmp_path: Path) -> None:
    index, rows = on_a_line()
    record = sweep_index(
        save(tmp_path, index), AT_THE_SIDE, IN_THE_MIDDLE, documents_of(rows), "euclid"
    )
    assert replace(record, points=[]) == Sweep(
        index=f"faiss:{tmp_path / 'x.faiss'}",
        kind="IVF",
        type="IndexIVFFlat",
        lossy=False,
        n_vectors=20,
        k=10,
        n_queries=1,
        n_queries_given=1,
        parameter="nprobe",
        served_value=1,
        points=[],
        raw_recall_at_served=1.0,
        adapted_recall_at_served=0.5,
        restores=2,
    )
    assert all(
        side.us_per_query > 0 for point in record.points for side in (point.raw, point.adapted)
    )


def test_graph_with_few_links_finds_the_share_that_counting_by_hand_gives(tmp_path: Path) -> None:
    index = build("HNSW2", ROWS)
    record = sweep_index(save(tmp_path, index), RAW, ADAPTED, DOCUMENTS, "cosine")
    for name, queries in (("raw", RAW), ("adapted", ADAPTED)):
        wanted = nearest(queries, ROWS)
        for value, found in recalls(record, name).items():
            index.hnsw.efSearch = value
            by_hand = recall_by_hand(index.search(queries, 10)[1], wanted)
            assert found == pytest.approx(by_hand, abs=1e-12), (name, value)
    assert record.kind == "HNSW"
    assert recalls(record, "raw")[8] < 0.9


@pytest.mark.parametrize(
    ("metric", "similarity"),
    [
        (faiss.METRIC_INNER_PRODUCT, "cosine"),
        (faiss.METRIC_L2, "cosine"),
        (faiss.METRIC_INNER_PRODUCT, "dot"),
        (faiss.METRIC_L2, "euclid"),
    ],
)
def test_every_list_visited_finds_everything(tmp_path: Path, metric: int, similarity: str) -> None:
    index = build("IVF16,Flat", ROWS, metric=metric)
    record = sweep_index(save(tmp_path, index), RAW, ADAPTED, DOCUMENTS, similarity)
    assert recalls(record, "raw")[16] == recalls(record, "adapted")[16] == 1.0
    assert recalls(record, "raw")[1] < 1


def test_documents_closer_than_rounding_count_as_equal(tmp_path: Path) -> None:
    rows = np.concatenate([ROWS[:40]] * 8)
    up = np.random.default_rng(5).random(rows.shape) < 0.5
    rows = np.where(up, np.nextafter(rows, np.float32(np.inf)), rows)
    index = build("IVF4,Flat", rows)
    index.nprobe = 4
    record = sweep_index(save(tmp_path, index), RAW, ADAPTED, documents_of(rows), "dot")
    assert record.raw_recall_at_served == record.adapted_recall_at_served == 1.0


def test_lengths_that_are_unit_but_for_rounding_cost_no_recall(tmp_path: Path) -> None:
    lengths = np.random.default_rng(4).uniform(0.996, 1.004, (800, 1)).astype(np.float32)
    index = build("IVF4,Flat", ROWS * lengths)
    index.nprobe = 4
    record = sweep_index(
        save(tmp_path, index), RAW, ADAPTED, documents_of(ROWS * lengths), "cosine"
    )
    assert record.raw_recall_at_served == record.adapted_recall_at_served == 1.0


def test_either_of_two_equal_documents_will_do(tmp_path: Path) -> None:
    rows = np.concatenate([ROWS[:40]] * 8)
    index = build("IVF4,Flat", rows)
    index.nprobe = 4
    record = sweep_index(save(tmp_path, index), RAW, ADAPTED, documents_of(rows), "dot")
    assert record.raw_recall_at_served == record.adapted_recall_at_served == 1.0


def test_length_of_a_query_does_not_count_in_cosine(tmp_path: Path) -> None:
    source = save(tmp_path, build("IVF16,Flat", ROWS, metric=faiss.METRIC_L2))
    plain = sweep_index(source, RAW, ADAPTED, DOCUMENTS, "cosine")
    scaled = sweep_index(source, RAW * 7, ADAPTED * np.float32(0.1), DOCUMENTS, "cosine")
    assert without_times(plain) == without_times(scaled)


def test_index_of_fewer_than_ten_documents_can_be_measured(tmp_path: Path) -> None:
    source = save(tmp_path, build("HNSW4", ROWS[:4]))
    record = sweep_index(source, RAW, ADAPTED, documents_of(ROWS[:4]), "cosine")
    assert record.raw_recall_at_served == record.adapted_recall_at_served == 1.0


def test_documents_that_are_not_found_at_all_are_missed(tmp_path: Path) -> None:
    rows = ROWS[:12].copy()
    index = build("IVF6,Flat", rows)  # a list holds fewer than ten
    record = sweep_index(save(tmp_path, index), RAW, ADAPTED, documents_of(rows), "cosine")
    assert (index.search(RAW, 10)[1] == -1).any()
    assert record.raw_recall_at_served == pytest.approx(
        recall_by_hand(index.search(RAW, 10)[1], nearest(RAW, rows)), abs=1e-12
    )


# Which queries


def test_no_more_than_two_thousand_queries_are_asked_always_the_same(tmp_path: Path) -> None:
    source = save(tmp_path, build("IVF8,Flat", ROWS))
    queries = rows_of(2300, seed=3)
    first, second = (sweep_index(source, queries, queries, DOCUMENTS, "cosine") for _ in range(2))
    assert (first.n_queries, first.n_queries_given) == (2000, 2300)
    assert without_times(first) == without_times(second)


def test_the_same_queries_are_drawn_of_both_kinds(tmp_path: Path) -> None:
    queries = rows_of(2300, seed=3)
    source = save(tmp_path, build("IVF8,Flat", ROWS))
    record = sweep_index(source, queries, queries, DOCUMENTS, "cosine")
    assert recalls(record, "raw") == recalls(record, "adapted")
    assert record.restores <= record.served_value


# Which values


def test_values_are_powers_of_two_and_the_one_that_is_served(tmp_path: Path) -> None:
    index = build("HNSW2", ROWS)
    index.hnsw.efSearch = 43
    record = sweep_index(save(tmp_path, index), RAW, RAW, DOCUMENTS, "cosine")
    values = [point.value for point in record.points]
    assert record.served_value == 43
    assert values == sorted(set(values))
    assert {8, 16, 32, 43, 64} <= set(values)
    assert set(values) - {2**power for power in range(3, 11)} - {43} <= {record.restores}


def test_served_value_beyond_the_sweep_is_measured_too(tmp_path: Path) -> None:
    index = build("HNSW16", ROWS)
    index.hnsw.efSearch = 3000
    record = sweep_index(save(tmp_path, index), RAW, ADAPTED, DOCUMENTS, "cosine")
    assert 3000 in recalls(record, "raw")
    assert record.raw_recall_at_served > 0.99


def test_sweep_ends_once_there_is_nothing_left_to_find(tmp_path: Path) -> None:
    record = sweep_index(save(tmp_path, build("HNSW16", ROWS)), RAW, RAW, DOCUMENTS, "cosine")
    assert max(recalls(record, "raw")) < 1024
    assert recalls(record, "raw")[max(recalls(record, "raw"))] > 0.999


# What restores


@pytest.mark.parametrize("nprobe", [1, 3, 11])
def test_restoring_value_is_the_least_of_all_that_do(tmp_path: Path, nprobe: int) -> None:
    index = build("IVF40,Flat", ROWS)
    index.nprobe = nprobe
    record = sweep_index(save(tmp_path, index), RAW, ADAPTED, DOCUMENTS, "cosine")
    wanted = nearest(ADAPTED, ROWS)
    for least in range(1, 41):
        index.nprobe = least
        if recall_by_hand(index.search(ADAPTED, 10)[1], wanted) >= record.raw_recall_at_served:
            break
    assert record.restores == least
    assert least in recalls(record, "adapted")


def test_nothing_restores_where_part_of_the_graph_is_out_of_reach(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    near, far = rng.standard_normal((2, 300, DIM)).astype(np.float32)
    rows = np.concatenate([near, far + 100])
    index = build("HNSW2", rows, metric=faiss.METRIC_L2)
    index.hnsw.efSearch = 256
    cut_off(index, 300)
    record = sweep_index(
        save(tmp_path, index), near[:20], far[:20] + 100, documents_of(rows), "euclid"
    )
    assert record.restores is None
    assert record.raw_recall_at_served > 0.5
    assert set(recalls(record, "adapted").values()) == {0.0}
    assert max(recalls(record, "adapted")) == 1024


def cut_off(index: Any, first: int) -> None:
    """Remove every link between rows before and from the first, and enter at row 0's side."""
    graph = index.hnsw
    links, offsets = (faiss.vector_to_array(part) for part in (graph.neighbors, graph.offsets))
    for row in range(index.ntotal):
        own = links[offsets[row] : offsets[row + 1]]
        own[(own >= first) != (row >= first)] = -1
    faiss.copy_array_to_vector(links, graph.neighbors)
    levels = faiss.vector_to_array(graph.levels)[:first]
    graph.entry_point, graph.max_level = int(levels.argmax()), int(levels.max()) - 1


# What can't be measured


@pytest.mark.parametrize(
    ("raw", "adapted", "message"),
    [
        (RAW[:0], RAW[:0], "0 raw and 0 adapted queries; expected as many, and some"),
        (RAW, RAW[:3], "60 raw and 3 adapted queries"),
        (RAW[:, :8].copy(), RAW, r"raw queries have 8 values, documents 16: .*leave out --index"),
        (RAW, RAW[:, :8].copy(), "adapted queries have 8 values, documents 16"),
    ],
)
def test_queries_that_do_not_fit_are_refused(
    tmp_path: Path, raw: np.ndarray, adapted: np.ndarray, message: str
) -> None:
    source = save(tmp_path, build("HNSW4", ROWS))
    with pytest.raises(DataError, match=message) as caught:
        sweep_index(source, raw, adapted, DOCUMENTS, "cosine")
    assert "\n" not in str(caught.value)


def test_source_that_is_no_index_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"'x\.npy' is no index; expected faiss:PATH"):
        sweep_index("x.npy", RAW, ADAPTED, DOCUMENTS, "cosine")


def test_index_built_for_another_similarity_is_refused(tmp_path: Path) -> None:
    rows = ROWS * np.float32(7)
    source = save(tmp_path, build("HNSW4", rows))
    with pytest.raises(DataError, match=r"compares by dot .*; build it for cosine"):
        sweep_index(source, RAW, ADAPTED, documents_of(rows), "cosine")


@pytest.fixture
def two_threads() -> Iterator[None]:
    before = faiss.omp_get_max_threads()
    faiss.omp_set_num_threads(2)
    yield
    faiss.omp_set_num_threads(before)


@pytest.mark.usefixtures("two_threads")
def test_faiss_has_its_threads_back_afterwards(tmp_path: Path) -> None:
    sweep_index(save(tmp_path, build("HNSW4", ROWS)), RAW, ADAPTED, DOCUMENTS, "cosine")
    assert faiss.omp_get_max_threads() == 2
