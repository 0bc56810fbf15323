"""How many labels does it take? Fits on nested shares of the training queries, one test split."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

from trimtab_training.adapters import Adapter
from trimtab_training.data.dataset import Dataset
from trimtab_training.data.qrels import Qrels, relevant
from trimtab_training.data.splits import unit_hash
from trimtab_training.embeddings.store import Embeddings
from trimtab_training.evaluation.evaluate import Evaluation, evaluate_model
from trimtab_training.evaluation.per_query import HEADLINE
from trimtab_training.export.onnx_export import describe_adapter, export_adapter
from trimtab_training.fit.fit import FitSettings, fit_adapter
from trimtab_training.fit.recipe import Recipe

SIZES = (50, 100, 250, 500, 1000)
"""Training queries of the fits, where there are more than that."""

Progress = Callable[[int, int], None]
"""Called with the training queries of the fit under way, and of all that there are."""


def draw_nested(qrels: Qrels, n_queries: int) -> Qrels:
    """Draw queries with a relevant document by hash, so that a larger draw holds every smaller one.

    Args:
        qrels: Labels of the training split.
        n_queries: How many; all, where there are fewer.
    """
    usable = [query for query, labels in qrels.items() if relevant(labels)]
    drawn = sorted(usable, key=lambda query: unit_hash(query, "size curve"))[:n_queries]
    return {query: qrels[query] for query in drawn}


def measure_size_curve(
    dataset: Dataset,
    embeddings: Embeddings,
    recipe: Recipe,
    settings: FitSettings,
    full: tuple[Evaluation, bool],
    *,
    progress: Progress = lambda _size, _all: None,
) -> dict[str, Any]:
    """Fit with fewer training queries under the same recipe and seed, and measure each fit.

    Args:
        dataset: Labels; the test split is the same for all.
        embeddings: Vectors of every labelled query and document.
        recipe: The recipe of the full fit.
        settings: Seed, device and start of the full fit; nothing is kept on disk.
        full: Evaluation of the full fit and whether it found an adapter: the last point.
        progress: Called before each fit.

    Returns:
        ``sizes`` and ``points``, each with ``n_train``, ``base``, ``adapted``, ``delta``, ``ci95``
        of nDCG@10 on the test split, and ``helps``. A fit that finds no adapter leaves the raw
        query.
    """
    train = dataset.split("train")
    n_train = len(draw_nested(train, len(train)))
    settings = replace(settings, workspace=None, resume="never")
    points = []
    for size in _sizes_below(n_train):
        progress(size, n_train)
        drawn = replace(dataset, splits={**dataset.splits, "train": draw_nested(train, size)})
        fit = fit_adapter(drawn, embeddings, recipe, settings)
        if fit.adapter is None:
            points.append(_unchanged(size, full[0]))
            continue
        content = _export(fit.adapter, embeddings, recipe)
        evaluation = evaluate_model(content, dataset, embeddings)
        points.append(_point(size, evaluation, helps=True))
    points.append(_point(n_train, full[0], helps=full[1]))
    return {"sizes": [point["n_train"] for point in points], "points": points}


def _sizes_below(n_train: int) -> Sequence[int]:
    """Give the sizes that are worth a fit of their own."""
    return [size for size in SIZES if size < n_train]


def _export(adapter: Adapter, embeddings: Embeddings, recipe: Recipe) -> bytes:
    """Make the model file, which is what is measured."""
    manifest = describe_adapter(
        adapter, embeddings.encoder, name="size-curve", similarity=recipe.similarity
    )
    return export_adapter(adapter, manifest)


def _point(n_train: int, evaluation: Evaluation, *, helps: bool) -> dict[str, Any]:
    """Write down one fit's nDCG@10 on the test split."""
    metric = evaluation.summary["metrics"][HEADLINE]
    values = {key: metric[key] for key in ("base", "adapted", "delta", "ci95")}
    return {"n_train": n_train, **values, "helps": helps}


def _unchanged(n_train: int, full: Evaluation) -> dict[str, Any]:
    """Write down a fit that keeps the raw query."""
    base = full.summary["metrics"][HEADLINE]["base"]
    return {
        "n_train": n_train,
        "base": base,
        "adapted": base,
        "delta": 0.0,
        "ci95": [0.0, 0.0],
        "helps": False,
    }
