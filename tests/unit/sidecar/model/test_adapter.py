"""The adapter: what it takes, what it gives, and what it says about anything else."""

import hashlib
import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from onnx import numpy_helper

from tests.support.onnx_models import (
    DIM_IN,
    DIM_OUT,
    GAP,
    MANIFEST,
    linear_adapter,
    linear_bytes,
    linear_model,
    queries_of,
    weight_of,
)
from trimtab.errors import DimensionError, ModelError, NonFiniteError, QueryError
from trimtab.model.adapter import Adapter

QUERIES = queries_of(5)
WANTED = QUERIES @ weight_of()


@pytest.fixture(scope="module")
def adapter() -> Adapter:
    return linear_adapter()


def test_adapter_tells_what_it_is(adapter: Adapter) -> None:
    assert (adapter.dim_in, adapter.dim_out) == (DIM_IN, DIM_OUT)
    assert adapter.manifest == MANIFEST
    assert adapter.version == hashlib.sha256(linear_bytes()).hexdigest()[:12]


def test_load_takes_a_file_or_its_folder(tmp_path: Path) -> None:
    file = tmp_path / "adapter.onnx"
    file.write_bytes(linear_bytes())
    found = {Adapter.load(path).version for path in (file, str(file), tmp_path, str(tmp_path))}
    assert found == {linear_adapter().version}


def test_load_takes_a_file_of_any_name(tmp_path: Path) -> None:
    file = tmp_path / "my model.bin"
    file.write_bytes(linear_bytes())
    assert Adapter.load(file).dim_in == DIM_IN


@pytest.mark.parametrize("name", ["absent", "absent.onnx", "."])
def test_load_says_that_there_is_no_model(tmp_path: Path, name: str) -> None:
    with pytest.raises(ModelError, match=r"no model at .*expected an adapter\.onnx or the folder"):
        Adapter.load(tmp_path / name)


def test_load_logs_the_name_and_version(tmp_path: Path) -> None:
    records: list[logging.LogRecord] = []
    handler = logging.Handler()
    handler.emit = records.append  # type: ignore[method-assign]
    logger = logging.getLogger("trimtab.model.adapter")
    level = logger.level
    (tmp_path / "adapter.onnx").write_bytes(linear_bytes())
    logger.addHandler(handler)
    logger.setLevel(logging.INFO)
    try:
        loaded = Adapter.load(tmp_path)
    finally:
        logger.setLevel(level)
        logger.removeHandler(handler)
    (record,) = records
    assert record.getMessage() == "adapter loaded"
    assert (record.adapter, record.version) == ("toy", loaded.version)  # type: ignore[attr-defined]


@pytest.mark.parametrize("rows", [(5, DIM_IN), (1, DIM_IN), (DIM_IN,)])
def test_transform_keeps_the_rank(adapter: Adapter, rows: tuple[int, ...]) -> None:
    queries = QUERIES[: rows[0]] if len(rows) == 2 else QUERIES[0]
    adapted = adapter.transform(queries)
    assert adapted.dtype == np.float32
    assert adapted.shape == (*rows[:-1], DIM_OUT)
    assert np.abs(adapted - queries @ weight_of()).max() < GAP


def test_adapter_can_be_called(adapter: Adapter) -> None:
    assert np.array_equal(adapter(QUERIES), adapter.transform(QUERIES))


FORMS: dict[str, Callable[[np.ndarray], Any]] = {
    "float64": lambda queries: queries.astype(np.float64),
    "longdouble": lambda queries: queries.astype(np.longdouble),
    "big endian": lambda queries: queries.astype(">f4"),
    "lists": lambda queries: queries.tolist(),
    "tuples": lambda queries: tuple(map(tuple, np.atleast_2d(queries).tolist())),
    "list of arrays": list,
    "strided": lambda queries: np.repeat(queries, 2, axis=-1)[..., ::2],
    "reversed": lambda queries: np.ascontiguousarray(queries[..., ::-1])[..., ::-1],
    "Fortran order": np.asfortranarray,
    "subclass": lambda queries: queries.view(np.recarray),
}


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("n", [0, 1, 5])
def test_transform_takes_any_form_of_the_same_numbers(adapter: Adapter, form: str, n: int) -> None:
    queries, wanted = (QUERIES[:n], WANTED[:n]) if n else (QUERIES[0], WANTED[0])
    adapted = adapter.transform(FORMS[form](queries))
    assert np.abs(adapted - wanted).max() < GAP


def test_transform_takes_half_precision(adapter: Adapter) -> None:
    half = QUERIES.astype(np.float16)
    adapted = adapter.transform(half)
    assert np.abs(adapted - half.astype(np.float32) @ weight_of()).max() < GAP


@pytest.mark.parametrize("dtype", [np.int8, np.int64, np.uint16])
def test_transform_takes_integers(adapter: Adapter, dtype: type) -> None:
    numbers = np.arange(2 * DIM_IN).reshape(2, DIM_IN)
    adapted = adapter.transform(numbers.astype(dtype))
    assert np.allclose(adapted, numbers @ weight_of(), rtol=GAP, atol=GAP)


@pytest.mark.parametrize("queries", [QUERIES[0], QUERIES[:1], QUERIES])
def test_transform_takes_read_only_memory_and_leaves_it(
    adapter: Adapter, queries: np.ndarray
) -> None:
    locked = queries.copy()
    locked.flags.writeable = False
    adapter.transform(locked)
    assert np.array_equal(locked, queries)


@pytest.mark.parametrize("queries", [QUERIES[0], QUERIES[:1], QUERIES])
def test_transform_gives_memory_of_its_own(adapter: Adapter, queries: np.ndarray) -> None:
    first = adapter.transform(queries)
    kept = first.copy()
    second = adapter.transform(-queries)
    assert not np.shares_memory(first, second)
    assert not np.shares_memory(first, queries)
    assert np.array_equal(first, kept)
    second[:] = 99
    assert np.array_equal(adapter.transform(queries), kept)
    assert first.flags.writeable
    assert first.flags.c_contiguous


def test_transform_of_a_row_is_that_of_its_batch(adapter: Adapter) -> None:
    batch = adapter.transform(QUERIES)
    alone = np.stack([adapter.transform(query) for query in QUERIES])
    bound = np.concatenate([adapter.transform(query[None]) for query in QUERIES])
    assert np.abs(batch - alone).max() < GAP
    assert np.array_equal(alone, bound)


@pytest.mark.parametrize("size", [1e18, 1e19, 3e19, 1e25, 1e30])
@pytest.mark.filterwarnings("ignore:overflow encountered in dot:RuntimeWarning")
def test_transform_takes_values_whose_squares_overflow(adapter: Adapter, size: float) -> None:
    """Quietness is another test's matter."""
    for queries in (QUERIES[0] * size, QUERIES * size):
        adapted = adapter.transform(queries)
        assert np.abs(adapted / size - (queries / size) @ weight_of()).max() < GAP


def test_transform_takes_huge_values_quietly(adapter: Adapter) -> None:
    adapter.transform(QUERIES[0] * 1e25)


@pytest.mark.parametrize("size", [1e-38, 1e-44, 0.0])
def test_transform_takes_values_near_zero(adapter: Adapter, size: float) -> None:
    adapted = adapter.transform((QUERIES[0] * size).astype(np.float32))
    assert np.abs(adapted).max() <= size


@pytest.mark.parametrize("n_rows", [0, 1, 3])
@pytest.mark.parametrize("dim", [1, DIM_IN - 1, DIM_IN + 1, 768])
def test_transform_names_both_widths(adapter: Adapter, n_rows: int, dim: int) -> None:
    shape = (n_rows, dim) if n_rows else (dim,)
    with pytest.raises(DimensionError, match=f"has {dim} values; the adapter wants {DIM_IN}"):
        adapter.transform(np.zeros(shape, np.float32))


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("position", range(DIM_IN))
def test_transform_names_the_value_that_is_not_finite(
    adapter: Adapter, bad: float, position: int
) -> None:
    query = QUERIES[0].copy()
    query[position] = bad
    with pytest.raises(NonFiniteError, match=f"holds {bad} at position {position};"):
        adapter.transform(query)
    with pytest.raises(NonFiniteError, match=f"holds {bad} at position {position};"):
        adapter.transform(query[None])
    with pytest.raises(NonFiniteError, match=f"holds {bad} at row 1, position {position};"):
        adapter.transform(np.stack([QUERIES[1], query, query]))


@pytest.mark.parametrize("value", [1e39, -1e300])
def test_transform_refuses_values_past_float32(adapter: Adapter, value: float) -> None:
    query = QUERIES[0].astype(np.float64)
    query[2] = value
    with pytest.raises(NonFiniteError, match=r"holds -?inf at position 2; expected finite float32"):
        adapter.transform(query)
    with pytest.raises(NonFiniteError, match=r"holds -?inf at row 0, position 2;"):
        adapter.transform(np.stack([query, query]))


@pytest.mark.parametrize(
    ("queries", "because"),
    [
        ([], "empty"),
        ([[]], "empty"),
        (np.zeros((0, DIM_IN), np.float32), r"empty \(shape \(0, 6\)\)"),
        ([[1.0] * DIM_IN, [1.0]], "different lengths"),
        ("how do I cancel?", "<U16 values; expected real numbers"),
        (["a"] * DIM_IN, "<U1 values"),
        (np.ones(DIM_IN, complex), "complex128 values"),
        (np.ones(DIM_IN, bool), "bool values"),
        ([None] * DIM_IN, "object values"),
        (None, "object values"),
        (np.ones((1, 2, DIM_IN)), r"3 dimensions \(shape \(1, 2, 6\)\)"),
        (np.float32(1)[...], "0 dimensions"),
        (1.5, "query has"),
        (7, "query has"),
    ],
)
def test_transform_refuses_what_is_no_query(adapter: Adapter, queries: Any, because: str) -> None:
    with pytest.raises(QueryError, match=because):
        adapter.transform(queries)


def test_transform_works_after_a_refusal(adapter: Adapter) -> None:
    wanted = adapter.transform(QUERIES[0])
    with pytest.raises(QueryError):
        adapter.transform(np.full(DIM_IN, np.nan))
    assert np.array_equal(adapter.transform(QUERIES[0]), wanted)


def test_transform_normalises_where_the_model_does() -> None:
    adapted = linear_adapter(normalised=True).transform(QUERIES)
    assert np.abs(np.linalg.norm(adapted, axis=1) - 1).max() < GAP


@pytest.mark.parametrize("kind", [bytearray, memoryview])
def test_model_loads_from_bytes_of_any_kind(adapter: Adapter, kind: Any) -> None:
    loaded = Adapter.from_bytes(kind(linear_bytes()))
    assert np.array_equal(loaded.transform(QUERIES), adapter.transform(QUERIES))


@pytest.mark.parametrize("size", [1e17, 1e18])
@pytest.mark.parametrize("n", [1, 3])
def test_transform_normalises_or_refuses_where_weights_magnify(size: float, n: int) -> None:
    """Never the zero vector that an overflowing norm gives."""
    model = linear_model(normalised=True)
    weight = numpy_helper.from_array(weight_of() * np.float32(1000), "weight")
    model.graph.initializer[0].CopyFrom(weight)
    loud = Adapter.from_bytes(model.SerializeToString())
    try:
        adapted = loud.transform(QUERIES[:n] * np.float32(size))
    except QueryError:
        return
    assert np.abs(np.linalg.norm(adapted, axis=1) - 1).max() < GAP


def test_adapter_of_width_one_takes_a_vector_of_one_value() -> None:
    tiny = linear_adapter(dim_in=1, dim_out=1)
    assert tiny.transform([2.0]).shape == (1,)
    assert tiny.transform([[2.0], [3.0]]).shape == (2, 1)
