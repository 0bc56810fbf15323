"""The rivals of the quality bench do what their names say, and the shared evaluator agrees."""

from pathlib import Path

import numpy as np
import pytest
import torch

from benchmarks.quality.closed_form import (
    fit_ridge,
    fit_rotation,
    keep_raw,
    pairs_of,
    shift_mean,
    solve_ridge,
)
from benchmarks.quality.llama_index import read_adapter
from benchmarks.quality.ours import write_drawn
from benchmarks.quality.scoring import HEADLINE, Task, mean_ndcg, score_queries
from benchmarks.quality.triplet import Pairs, fit_chroma, fit_santander
from tests.support.worlds import make_world
from trimtab_training.adapters import LinearAdapter
from trimtab_training.data.dataset import Dataset
from trimtab_training.data.qrels import relevant
from trimtab_training.evaluation.evaluate import evaluate_model
from trimtab_training.export.onnx_export import describe_adapter, export_adapter

ROUNDING = 1e-6


@pytest.fixture(scope="module")
def task(tmp_path_factory: pytest.TempPathFactory) -> Task:
    return Task.load(make_world(tmp_path_factory.mktemp("worlds") / "toy").folder)


def score(task: Task, transform: object) -> float:
    queries = transform(task.queries(task.test))
    return mean_ndcg(queries, task.test, task.embeddings.documents)


def test_that_scores_are_those_of_trimtab_evaluate(task: Task) -> None:
    adapter = LinearAdapter(16)
    noise = torch.randn(16, 16, generator=torch.Generator().manual_seed(1))
    adapter.difference.data = 0.2 * noise
    model = export_adapter(
        adapter, describe_adapter(adapter, task.embeddings.encoder, name="toy", similarity="cosine")
    )
    summary = evaluate_model(model, task.dataset, task.embeddings)
    raw = task.queries(task.test)
    with torch.inference_mode():
        adapted = adapter(torch.from_numpy(raw)).numpy()
    found = {
        "base": score_queries(raw, task.test, task.embeddings.documents),
        "adapted": score_queries(adapted, task.test, task.embeddings.documents),
    }
    assert summary.metrics[HEADLINE].base != summary.metrics[HEADLINE].adapted
    for name, metric in summary.metrics.items():
        for side, scores in found.items():
            assert scores[name].mean() == pytest.approx(getattr(metric, side), abs=ROUNDING)
    assert task.is_seen().sum() == summary.slices["seen_documents"].n_queries


def test_that_a_larger_draw_holds_every_smaller_one(task: Task) -> None:
    small, large = task.drawn(20, 3), task.drawn(50, 3)
    assert (len(small.train), len(large.train)) == (20, 50)
    assert set(small.train) < set(large.train) < set(task.train)
    assert set(small.train) != set(task.drawn(20, 4).train)


def test_that_a_draw_leaves_no_dev_split_to_choose_by(task: Task) -> None:
    splits = {**task.dataset.splits, "dev": {"q0": {"d0": 1.0}}}
    whole = Task(Dataset("toy", task.dataset.folder, splits), task.embeddings)
    assert set(whole.drawn(20, 0).dataset.splits) == {"train", "test"}


def test_that_a_drawn_dataset_is_written_as_drawn(task: Task, tmp_path: Path) -> None:
    drawn = task.drawn(20, 0)
    written = Dataset.load(write_drawn(drawn, tmp_path / "toy"))
    assert written.splits == drawn.dataset.splits
    assert dict(written.iter_queries()) == dict(task.dataset.iter_queries())


def test_that_no_adapter_is_the_raw_query(task: Task) -> None:
    queries = task.queries(task.test)
    assert np.array_equal(keep_raw(task, 0)[0](queries), queries)


def test_that_mean_shift_carries_the_mean_query_onto_the_mean_document(task: Task) -> None:
    queries, documents = pairs_of(task.train, task.embeddings)
    shifted = shift_mean(task, 0)[0](queries)
    np.testing.assert_allclose(shifted.mean(axis=0), documents.mean(axis=0), atol=ROUNDING)


def test_that_procrustes_turns_and_nothing_else(task: Task) -> None:
    queries = task.queries(task.test)
    turned = fit_rotation(task, 0)[0](queries)
    np.testing.assert_allclose(turned @ turned.T, queries @ queries.T, atol=1e-5)
    assert score(task, fit_rotation(task, 0)[0]) > score(task, keep_raw(task, 0)[0]) + 0.1


def test_that_ridge_goes_from_least_squares_to_the_identity(task: Task) -> None:
    queries, documents = pairs_of(task.train, task.embeddings)
    free, _, _, _ = np.linalg.lstsq(queries, documents, rcond=None)
    np.testing.assert_allclose(solve_ridge(queries, documents, 1e-9), free, atol=1e-4)
    np.testing.assert_allclose(solve_ridge(queries, documents, 1e9), np.eye(16), atol=1e-4)


@pytest.mark.parametrize(
    ("fit", "gain"), [(fit_ridge, 0.1), (fit_chroma, 0.1), (fit_santander, 0.03)]
)
def test_that_a_rival_learns_what_can_be_learned(task: Task, fit: object, gain: float) -> None:
    transform, _ = fit(task, 0)
    assert score(task, transform) > score(task, keep_raw(task, 0)[0]) + gain


def test_that_no_negative_is_relevant(task: Task) -> None:
    pairs = Pairs(task, task.train, 0)
    wanted = [set(relevant(labels)) for labels in task.train.values()]
    ids = task.embeddings.documents.ids
    for rows in (pairs.draw_random(), pairs.draw_like(True), pairs.draw_like(False)):
        for owner, row in zip(pairs.owners, rows.tolist(), strict=True):
            assert ids[row] not in wanted[owner]


def test_that_hard_negatives_are_more_like_the_positive_than_opposite_ones(task: Task) -> None:
    pairs = Pairs(task, task.train, 0)
    positives = pairs.documents[pairs.positives]
    hard = (positives * pairs.documents[pairs.draw_like(True)]).sum(dim=1)
    opposite = (positives * pairs.documents[pairs.draw_like(False)]).sum(dim=1)
    assert (hard > opposite).all()


def test_that_llama_index_weights_compute_as_its_layers_do(tmp_path: Path) -> None:
    torch.manual_seed(0)
    queries = torch.randn(5, 4)
    linear = torch.nn.Linear(4, 4)
    first, second, share = torch.nn.Linear(4, 7), torch.nn.Linear(7, 4), torch.tensor([0.3])
    np.savez(
        tmp_path / "linear.npz",
        **{f"linear.{name}": value.numpy() for name, value in linear.state_dict().items()},
    )
    np.savez(
        tmp_path / "two.npz",
        residual_weight=share.numpy(),
        **{f"linear1.{name}": value.numpy() for name, value in first.state_dict().items()},
        **{f"linear2.{name}": value.numpy() for name, value in second.state_dict().items()},
    )
    with torch.inference_mode():
        for name, wanted in (
            ("linear", linear(queries)),
            ("two", share * second(torch.relu(first(queries))) + queries),
        ):
            found = read_adapter(tmp_path / f"{name}.npz")(queries.numpy())
            np.testing.assert_allclose(found, wanted.numpy(), atol=ROUNDING)
