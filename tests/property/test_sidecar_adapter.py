"""Whatever queries come: right numbers that depend on nothing else, or one typed error."""

from typing import Any

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from tests.support.onnx_models import DIM_IN, DIM_OUT, linear_adapter, weight_of
from trimtab.errors import QueryError
from trimtab.model.adapter import Adapter
from trimtab.vectors import as_floats

SOME = settings(max_examples=200, deadline=None)
GAP = 1e-5
"""Relative to the query's length: float32 sums of six products in two orders differ by less."""

ADAPTERS = {name: linear_adapter(normalised=name == "unit") for name in ("any length", "unit")}
LIMIT = 1e8  # well below the length that a normalised model refuses
values = st.floats(-LIMIT, LIMIT, width=32)
batches = hnp.arrays(np.float32, st.tuples(st.integers(1, 9), st.just(DIM_IN)), elements=values)
vectors = hnp.arrays(np.float32, (DIM_IN,), elements=values)


def sizes(queries: np.ndarray) -> np.ndarray:
    """Give what an error may be measured by, for each row."""
    return np.maximum(1.0, np.linalg.norm(queries.astype(np.float64), axis=-1, keepdims=True))


@given(batches)
@SOME
def test_answers_are_those_of_float64(queries: np.ndarray) -> None:
    adapted = ADAPTERS["any length"].transform(queries)
    wanted = queries.astype(np.float64) @ weight_of().astype(np.float64)
    assert np.all(np.abs(adapted - wanted) <= GAP * sizes(queries))


@pytest.mark.parametrize("adapter", ADAPTERS.values(), ids=list(ADAPTERS))
@given(queries=batches, data=st.data())
@SOME
def test_row_does_not_depend_on_its_batch(
    adapter: Adapter, queries: np.ndarray, data: st.DataObject
) -> None:
    row = data.draw(st.integers(0, len(queries) - 1))
    together = adapter.transform(queries)[row]
    alone = adapter.transform(queries[row])
    bound = adapter.transform(queries[row : row + 1])[0]
    size = 1.0 if adapter.manifest.normalised else sizes(queries[row])
    assert np.array_equal(alone, bound)
    assert np.all(np.abs(together - alone) <= GAP * size)


@given(batches, st.permutations(range(9)))
@SOME
def test_order_of_rows_decides_nothing(queries: np.ndarray, order: list[int]) -> None:
    rows = [row for row in order if row < len(queries)]
    shuffled = ADAPTERS["unit"].transform(queries[rows])
    assert np.all(np.abs(shuffled - ADAPTERS["unit"].transform(queries)[rows]) <= GAP)


@given(vectors)
@SOME
def test_unit_length_is_kept_where_it_is_promised(query: np.ndarray) -> None:
    assume(np.linalg.norm(query.astype(np.float64) @ weight_of()) > 1e-6)
    assert abs(np.linalg.norm(ADAPTERS["unit"].transform(query)) - 1) <= GAP


@given(
    hnp.arrays(
        hnp.floating_dtypes() | hnp.integer_dtypes() | hnp.unsigned_integer_dtypes(),
        st.tuples(st.integers(1, 3), st.just(DIM_IN)),
        elements=st.integers(0, 100),
    ),
    st.sampled_from(["C", "F"]),
)
@SOME
def test_dtype_and_order_decide_nothing(queries: np.ndarray, order: str) -> None:
    floats = queries.astype(np.float32)
    adapted = ADAPTERS["any length"].transform(np.asarray(queries, order=order))
    assert np.array_equal(adapted, ADAPTERS["any length"].transform(floats))


anything = st.recursive(
    st.none() | st.booleans() | st.floats() | st.integers() | st.text(max_size=3) | st.binary(),
    lambda inner: st.lists(inner, max_size=DIM_IN) | st.dictionaries(st.text(), inner, max_size=2),
    max_leaves=14,
)


@given(anything | st.lists(st.floats() | st.integers(), min_size=DIM_IN, max_size=DIM_IN))
@SOME
@pytest.mark.filterwarnings("ignore:overflow encountered in dot:RuntimeWarning")
def test_anything_is_adapted_or_refused(query: Any) -> None:
    try:
        adapted = ADAPTERS["any length"].transform(query)
    except QueryError:
        return
    assert adapted.dtype == np.float32
    assert adapted.shape[-1] == DIM_OUT


@given(
    hnp.arrays(
        hnp.scalar_dtypes() | hnp.unicode_string_dtypes() | hnp.byte_string_dtypes(),
        hnp.array_shapes(min_dims=0, max_dims=4, min_side=0, max_side=3),
    )
)
@SOME
@pytest.mark.filterwarnings("ignore:invalid value encountered in cast:RuntimeWarning")
def test_any_array_becomes_float32_or_is_refused(queries: np.ndarray) -> None:
    try:
        floats = as_floats(queries)
    except QueryError:
        assert queries.ndim not in {1, 2} or not queries.size or queries.dtype.kind not in "fiu"
        return
    assert queries.dtype.kind in "fiu"
    assert floats.dtype == np.float32
    assert floats.size == queries.size > 0
