"""How many labels does it take? Fits on nested shares of the training queries, one test split."""

from collections.abc import Callable, Sequence
from dataclasses import replace

from trimtab_training.adapters import Adapter
from trimtab_training.data.dataset import Dataset
from trimtab_training.data.qrels import Qrels, answered
from trimtab_training.data.splits import unit_hash
from trimtab_training.embeddings.store import Embeddings
from trimtab_training.errors import DataError
from trimtab_training.evaluation.evaluate import evaluate_model
from trimtab_training.evaluation.origin import CurvePoint, SizeCurve
from trimtab_training.evaluation.per_query import HEADLINE
from trimtab_training.evaluation.record import Evaluation
from trimtab_training.export.onnx_export import describe_adapter, export_adapter
from trimtab_training.fit.fit import FitSettings, fit_adapter
from trimtab_training.fit.query_split import split_queries
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
    drawn = sorted(answered(qrels), key=lambda query: unit_hash(query, "size curve"))[:n_queries]
    return {query: qrels[query] for query in drawn}


def measure_size_curve(
    dataset: Dataset,
    embeddings: Embeddings,
    recipe: Recipe,
    settings: FitSettings,
    full: Evaluation,
    *,
    progress: Progress = lambda _size, _all: None,
) -> SizeCurve:
    """Fit with fewer training queries under the same recipe and seed, and measure each fit.

    A dev split that is too small to judge is drawn from as well: it is trained on. A size of which
    a start has seen too much to be judged is left out, and that is told.

    Args:
        dataset: Labels; the test split is the same for all.
        embeddings: Vectors of every labelled query and document.
        recipe: The recipe of the full fit.
        settings: Seed, device and start of the full fit; nothing is kept on disk.
        full: Evaluation of the full fit, with its record: the last point.
        progress: Called before each fit.
    """
    query_split = split_queries(dataset, queries=embeddings.queries)
    train, n_train = query_split.train, len(query_split.train)
    others = {name: x for name, x in dataset.splits.items() if name != "dev" or query_split.dev}
    settings = replace(settings, workspace=None, resume="never")
    points = []
    recipe = replace(recipe, rescore=0)  # the curve is of the adapter alone
    for size in _sizes_below(n_train):
        progress(size, n_train)
        drawn = replace(dataset, splits={**others, "train": draw_nested(train, size)})
        try:
            fit = fit_adapter(drawn, embeddings, recipe, settings)
        except DataError as error:  # what was enough for the full fit is too little here
            settings.tell(f"no fit on {size} queries for the size curve: {error}")
            continue
        if fit.adapter is None:
            points.append(_unchanged(size, full))
            continue
        content = _export(fit.adapter, embeddings, recipe)
        points.append(_measured(size, evaluate_model(content, dataset, embeddings), helps=True))
    points.append(_measured(n_train, full, helps=full.fit is None or full.fit.helps))
    return SizeCurve(sizes=[point.n_train for point in points], points=points)


def _sizes_below(n_train: int) -> Sequence[int]:
    """Give the sizes that are worth a fit of their own."""
    return [size for size in SIZES if size < n_train]


def _export(adapter: Adapter, embeddings: Embeddings, recipe: Recipe) -> bytes:
    """Make the model file, which is what is measured."""
    manifest = describe_adapter(
        adapter,
        embeddings.encoder,
        name="size-curve",
        use=recipe.use_between(embeddings.queries.dim, embeddings.documents.dim),
        similarity=recipe.compares_by,
    )
    return export_adapter(adapter, manifest)


def _measured(n_train: int, evaluation: Evaluation, *, helps: bool) -> CurvePoint:
    """Write down one fit's nDCG@10 on the test split."""
    metric = evaluation.metrics[HEADLINE]
    return CurvePoint(
        n_train=n_train,
        base=metric.base,
        adapted=metric.adapted,
        delta=metric.delta,
        ci95=metric.ci95,
        helps=helps,
    )


def _unchanged(n_train: int, full: Evaluation) -> CurvePoint:
    """Write down a fit that keeps the raw query."""
    base = full.metrics[HEADLINE].base
    return CurvePoint(
        n_train=n_train, base=base, adapted=base, delta=0.0, ci95=(0.0, 0.0), helps=False
    )
