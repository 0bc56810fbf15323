"""Rankings, metrics, losses and significance: true of any scores."""

from collections.abc import Iterator

import numpy as np
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from trimtab_training.embeddings.store import VectorTable
from trimtab_training.fit.losses import anchor_loss, softmax_loss
from trimtab_training.retrieval.exact_search import best_of, search
from trimtab_training.retrieval.metrics import METRICS, measure
from trimtab_training.retrieval.significance import compare_paired

ANY = settings(max_examples=80, deadline=None, derandomize=True)
CLOSE = 1e-4  # float32 sums of a few terms up to 100
SHAPES = st.tuples(st.integers(1, 6), st.integers(1, 40))


@ANY
@given(
    # few different values: ties everywhere, and no rounding
    hnp.arrays(np.float32, SHAPES, elements=st.integers(-2, 2).map(float)),
    st.integers(1, 45),
)
def test_best_of_is_a_stable_sort_cut_short(scores: np.ndarray, k: int) -> None:
    columns, values = best_of(torch.from_numpy(scores), k)
    wanted = np.argsort(-scores, axis=1, kind="stable")[:, :k]
    np.testing.assert_array_equal(columns.numpy(), wanted)
    np.testing.assert_array_equal(values.numpy(), np.take_along_axis(scores, wanted, axis=1))


@ANY
@given(
    hnp.arrays(
        np.float32,
        SHAPES,
        elements=st.one_of(
            st.floats(-10, 10, width=32), st.just(float("-inf")), st.just(float("inf"))
        ),
    ),
    st.integers(1, 45),
)
def test_best_of_takes_infinite_scores(scores: np.ndarray, k: int) -> None:
    columns, _ = best_of(torch.from_numpy(scores), k)
    wanted = np.argsort(-scores, axis=1, kind="stable")[:, :k]
    np.testing.assert_array_equal(columns.numpy(), wanted)


class Blocks(VectorTable):
    """A table that is read a few rows at a time."""

    n_rows = 1

    def blocks(self, n_rows: int = 0) -> Iterator[tuple[int, np.ndarray]]:
        return super().blocks(n_rows or self.n_rows)


@ANY
@given(st.data(), st.integers(1, 30), st.integers(1, 4), st.sampled_from(["dot", "euclid"]))
def test_search_over_any_blocks_is_one_stable_sort(
    data: st.DataObject, n_documents: int, n_queries: int, similarity: str
) -> None:
    whole = st.integers(-3, 3).map(float)  # exact in float32: ties are ties
    documents = data.draw(hnp.arrays(np.float32, (n_documents, 3), elements=whole))
    queries = data.draw(hnp.arrays(np.float32, (n_queries, 3), elements=whole))
    table = Blocks([str(row) for row in range(n_documents)], documents, "documents")
    object.__setattr__(table, "n_rows", data.draw(st.integers(1, n_documents + 1)))
    depth = data.draw(st.integers(1, n_documents + 3))
    rows, scores = search(queries, table, depth=depth, similarity=similarity)
    wanted = queries @ documents.T
    if similarity == "euclid":
        wanted = -((queries[:, None] - documents[None]) ** 2).sum(axis=2)
    order = np.argsort(-wanted, axis=1, kind="stable")[:, :depth]
    np.testing.assert_array_equal(rows, order)
    np.testing.assert_array_equal(scores, np.take_along_axis(wanted, order, axis=1))


@st.composite
def judged(draw: st.DrawFn) -> tuple[np.ndarray, dict[int, float]]:
    """Draw one ranking and the grades of what is relevant."""
    n_documents = draw(st.integers(1, 130))
    order = draw(st.permutations(range(n_documents)))
    grades = st.sampled_from([0.5, 1.0, 2.0, 3.0])
    wanted = draw(st.dictionaries(st.integers(0, n_documents - 1), grades, max_size=12))
    return np.array([order[:100]], dtype=np.int64), wanted


@ANY
@given(judged())
def test_every_metric_lies_from_zero_to_one(given_: tuple[np.ndarray, dict[int, float]]) -> None:
    rows, wanted = given_
    scores = measure(rows, [wanted])
    assert scores.keys() == METRICS.keys()
    for name, values in scores.items():
        assert 0 <= values[0] <= 1 + 1e-12, name
        assert values[0] == 0 or wanted.keys() & set(rows[0].tolist()), name


@ANY
@given(judged(), st.data())
def test_moving_a_better_document_up_never_costs(
    given_: tuple[np.ndarray, dict[int, float]], data: st.DataObject
) -> None:
    rows, wanted = given_
    above = data.draw(st.integers(0, rows.shape[1] - 1))
    below = data.draw(st.integers(above, rows.shape[1] - 1))
    swapped = rows.copy()
    swapped[0, [above, below]] = rows[0, [below, above]]
    if wanted.get(int(rows[0, below]), 0.0) < wanted.get(int(rows[0, above]), 0.0):
        rows, swapped = swapped, rows
    worse, better = measure(rows, [wanted]), measure(swapped, [wanted])
    for name in METRICS:
        assert better[name][0] >= worse[name][0] - 1e-12, name


DIFFERENCES = hnp.arrays(
    np.float64, st.integers(1, 40), elements=st.floats(-1, 1).map(lambda x: round(x, 3))
)


@settings(max_examples=40, deadline=None, derandomize=True)
@given(DIFFERENCES, st.integers(0, 3))
def test_judged_difference_holds_together(differences: np.ndarray, seed: int) -> None:
    found = compare_paired(differences, np.random.default_rng(seed), 300)
    assert 1 / 301 <= found.p_value <= 1
    assert differences.min() - 1e-12 <= found.low <= found.high <= differences.max() + 1e-12
    assert found.mean == differences.mean()
    turned = compare_paired(-differences, np.random.default_rng(seed), 300)
    assert turned.p_value == found.p_value


@ANY
@given(
    hnp.arrays(np.float32, (4, 9), elements=st.floats(-20, 20, width=32)),
    hnp.arrays(np.float32, (4, 9), elements=st.integers(0, 3).map(float)),
    st.floats(-50, 50, width=32),
)
def test_softmax_loss_is_cross_entropy_and_ignores_a_shift(
    logits: np.ndarray, grades: np.ndarray, shift: float
) -> None:
    grades[:, 0] += 1
    targets = torch.from_numpy(grades / grades.sum(axis=1, keepdims=True))
    rows, columns = torch.nonzero(targets, as_tuple=True)
    scores = torch.from_numpy(logits)
    same = torch.ones(len(scores))
    found = softmax_loss(scores, rows, columns, targets[rows, columns], same)
    wanted = torch.nn.functional.cross_entropy(scores, targets)
    torch.testing.assert_close(found, wanted, rtol=CLOSE, atol=CLOSE)
    moved = softmax_loss(scores + shift, rows, columns, targets[rows, columns], same)
    torch.testing.assert_close(moved, found, rtol=CLOSE, atol=CLOSE)


@ANY
@given(hnp.arrays(np.float32, (5, 4), elements=st.floats(-50, 50, width=32)))
def test_anchor_loss_is_zero_only_at_the_documents(change: np.ndarray) -> None:
    documents = torch.zeros(5, 4)
    loss = anchor_loss(torch.from_numpy(change), documents)
    assert loss >= 0
    assert anchor_loss(documents, documents) == 0
    if np.abs(change).max() > 1e-3:
        assert loss > 0
