"""The whole way from labels and vectors to a model folder: fit, export, evaluate, write.

The folder appears at its place only once it is complete; an older model stands there until then.
"""

import shutil
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path

import msgspec
import numpy as np
import torch
from numpy.typing import NDArray

from trimtab.model.manifest import Manifest
from trimtab_training.adapters import Adapter, IdentityAdapter
from trimtab_training.build_options import BuildOptions
from trimtab_training.data.dataset import Dataset
from trimtab_training.data.qrels import answered
from trimtab_training.data.training_digest import TrainedOn
from trimtab_training.embeddings.missing_labels import Dropped, keep_embedded
from trimtab_training.embeddings.store import Embeddings, said_similarity
from trimtab_training.errors import DataError
from trimtab_training.evaluation.ann_recall import sweep_index
from trimtab_training.evaluation.evaluate import evaluate_runs
from trimtab_training.evaluation.record import (
    Evaluation,
    Tuning,
    Verdict,
    encode_record,
    note_dropped,
)
from trimtab_training.evaluation.runs import Runs
from trimtab_training.evaluation.verdict import decide
from trimtab_training.export.model_folder import check_target, write_model
from trimtab_training.export.onnx_export import describe_adapter, export_adapter, stamp_manifest
from trimtab_training.export.provenance import (
    describe_file,
    describe_fit,
    describe_training,
    versions,
)
from trimtab_training.export.second_look import add_second_look
from trimtab_training.files import beside, empty, keep_others, swap_folder, write_whole
from trimtab_training.fit.checkpoint import Tell
from trimtab_training.fit.device import seeded
from trimtab_training.fit.fit import FitResult, FitSettings, fit_adapter
from trimtab_training.fit.initial import Initialisation
from trimtab_training.fit.query_region import find_query_region
from trimtab_training.fit.recipe import Recipe
from trimtab_training.learning_curve import measure_size_curve
from trimtab_training.lock import locked
from trimtab_training.model_files import CARD, EVALUATION, MODEL, OURS, REPORT, RUNS, TRAINED_ON
from trimtab_training.report import require_packages, write_report
from trimtab_training.report.model_card import write_card
from trimtab_training.size_frontier import measure_sizes, settle_size, tell_precision

Stage = Callable[[str], None]
"""Called with what is about to be done."""

FitProgress = Callable[[int, int], None]
"""Called while fitting with the work that is done and all of it, as in ``fit_adapter``."""

_PROVED_QUERIES = 33
_TRIED_QUERIES = 5


@dataclass(frozen=True)
class BuiltModel:
    """What a build left on disk.

    Attributes:
        folder: The model's folder.
        file: The model file, or None where no adapter helps and none was asked for.
        report: The page that shows all of this.
        evaluation: What it does to the test split, with all of its record.
        fit: How it came about.
        verdict: Whether to ship it.
        manifest: The model file's, or None where there is none.
    """

    folder: Path
    file: Path | None
    report: Path
    evaluation: Evaluation
    fit: FitResult
    verdict: Verdict
    manifest: Manifest | None

    def record_tuning(self, tuning: Tuning, runs: Runs | None) -> Evaluation:
        """Write into record, report and card what tuning the encoder of the queries came to.

        Args:
            tuning: What was chosen and measured.
            runs: What every test query found, each way; None leaves the runs that stand there.

        Returns:
            The whole record, its verdict anew.
        """
        record = msgspec.structs.replace(self.evaluation, tuning=tuning)
        record = msgspec.structs.replace(record, verdict=decide(record))
        if runs is not None:
            runs.write(self.folder / RUNS)
        _write_record(self.folder, self.folder.name, record, self.manifest)
        return record


def build_model(  # noqa: PLR0913 - data in, folder out, and two ways to watch
    dataset: Dataset,
    embeddings: Embeddings,
    folder: str | Path,
    recipe: Recipe | None = None,
    options: BuildOptions | None = None,
    *,
    on_stage: Stage = lambda _text: None,
    progress: FitProgress = lambda _done, _all: None,
) -> BuiltModel:
    """Fit an adapter, export it, measure the exported file, and write a model folder.

    Args:
        dataset: Labels; of a test split alone, a fifth stays one, and the others are trained on.
        embeddings: Vectors of every labelled query and document.
        folder: Where the model goes, such as ``models/docs``.
        recipe: The knobs; the defaults where absent.
        options: Seed, device and the like; the defaults where absent.
        on_stage: Called before each step.
        progress: Called while fitting, every few steps.

    Raises:
        DataError: Another run builds there, or was interrupted there with other settings or data;
            or nothing answers the test queries.
        TrainingError: Whatever stops the fit, the export or the evaluation; the folder is as it
            was before.
    """
    recipe, options, folder = recipe or Recipe(), options or BuildOptions(), Path(folder)
    _tell_of_similarity(recipe, embeddings, options.tell)
    recipe = recipe.settle(embeddings)
    dataset = dataset.for_fit(recipe.split_by)
    if dataset.made_from:
        options.tell(dataset.tell_made())
    require_packages()
    check_target(folder)
    with locked(folder):
        dataset, dropped = keep_embedded(dataset, embeddings, recipe.max_dropped)
        dataset.measurable_split("test")
        build = _Build(dataset, dropped, embeddings, folder, recipe, options, on_stage, progress)
        try:
            return build.run()
        except BaseException:
            _forget_needless_work(folder)
            raise


@dataclass(frozen=True)
class _Exported:
    """A model in memory: the adapter, the bytes of its file, manifest and second look in them."""

    adapter: Adapter
    content: bytes
    manifest: Manifest
    second_look: str | None = None

    def stamp(self, evaluation: Evaluation) -> "_Exported":
        """Write what was measured into the manifest."""
        measured = {
            "dataset": evaluation.dataset,
            "split": evaluation.split,
            "n_queries": evaluation.n_queries,
            "metrics": msgspec.to_builtins(evaluation.metrics),
        }
        manifest = replace(self.manifest, metrics=measured)
        return replace(self, content=stamp_manifest(self.content, manifest), manifest=manifest)


@dataclass(frozen=True)
class _Build:
    """The steps of one build, in a place that is held for this run alone."""

    dataset: Dataset
    dropped: Dropped | None
    embeddings: Embeddings
    folder: Path
    recipe: Recipe
    options: BuildOptions
    on_stage: Stage
    progress: FitProgress

    def run(self) -> BuiltModel:
        """Fit, export, evaluate, record, write."""
        if self.dropped:
            self.options.tell(self.dropped.sentence())
        self.on_stage("texts")
        self.dataset.check_documents()  # the report needs some; a broken line is told before hours
        if self.options.index:
            self.on_stage("index")
            self._try_index(self.options.index)
        self._try_export()
        self.on_stage("fitting")
        fit = self._fit()
        self.on_stage("evaluating")
        trained_on = TrainedOn.of(
            self.dataset, self.options.trained_before, splits=fit.training_splits
        )
        exported = self._export(fit)
        evaluation, runs = evaluate_runs(
            exported.content,
            self.dataset,
            self.embeddings,
            trained_on=trained_on,
            index=self.options.index,
            timed=True,
        )
        is_model = fit.adapter is not None or self.options.allow_identity
        model = exported.stamp(evaluation) if is_model else None
        record = self._record(fit, exported, evaluation)
        if model:
            record = msgspec.structs.replace(record, model=describe_file(model.content))
        verdict = decide(record)
        record = msgspec.structs.replace(record, verdict=verdict)
        self._write(record, runs, model, trained_on)
        file = self.folder / MODEL if model else None
        report, manifest = self.folder / REPORT, model.manifest if model else None
        return BuiltModel(self.folder, file, report, record, fit, verdict, manifest)

    @property
    def _work(self) -> Path:
        """Where unfinished work stands."""
        return _work_beside(self.folder)

    @property
    def _settings(self) -> FitSettings:
        """What the fit is told."""
        return FitSettings(
            seed=self.options.seed,
            device=self.options.device,
            workspace=self._work / "fit",
            resume=self.options.resume,
            tell=self.options.tell,
            start_from=_as_start(self.options.start_from, self.embeddings, self.recipe),
            start_trained_on=self.options.trained_before,
        )

    def _test_queries(self, most: int) -> NDArray[np.float32]:
        """Take some real queries."""
        return self.embeddings.queries.take_ids(list(self.dataset.split("test"))[:most])

    def _try_index(self, index: str) -> None:
        """Refuse an index that can't be measured before hours are spent: ask it few queries."""
        queries = self._test_queries(_TRIED_QUERIES)
        sweep_index(index, queries, queries, self.embeddings.documents, self.recipe.compares_by)

    def _try_export(self) -> None:
        """Refuse a class of the user's own that can't be exported before hours are spent."""
        settings = self._settings
        start = Initialisation(self.recipe, self.embeddings, settings.start_from, settings.seed)
        if ":" not in start.kind:
            return
        self.on_stage("trying the export")
        with seeded(settings.seed, torch.device("cpu")):
            adapter = start.make(answered(self.dataset.split("train")))
            manifest = describe_adapter(
                adapter,
                self.embeddings.encoder,
                name=self.folder.name,
                similarity=self.recipe.compares_by,
            )
            export_adapter(adapter, manifest)

    def _fit(self) -> FitResult:
        """Fit the best adapter that the training queries support, or none."""
        given = self.dataset, self.embeddings, self.recipe, self._settings
        fit = fit_adapter(*given, progress=self.progress)
        queries = self._test_queries(_PROVED_QUERIES)
        return settle_size(fit, self.embeddings.encoder, queries, self.options.tell)

    def _export(self, fit: FitResult) -> _Exported:
        """Make the model file in memory, proved on real queries."""
        adapter = fit.adapter or _identity(self.embeddings, self.recipe, fit)
        training = describe_training(self.dataset, self.embeddings, fit, self.options.start_name)
        manifest = describe_adapter(
            adapter,
            self.embeddings.encoder,
            name=self.options.name or self.folder.name,
            use=training["use"],
            similarity=self.recipe.compares_by,
            training=training,
            versions=versions(),
            created=datetime.now(UTC).isoformat(timespec="seconds"),
            query_region=find_query_region(
                self.embeddings.queries, list(self.dataset.split("train")), seed=fit.seed
            ),
        )
        queries = self._test_queries(_PROVED_QUERIES)
        content = export_adapter(adapter, manifest, queries=queries)
        tell_precision(adapter, content, self.options.tell)
        content, look = add_second_look(content, fit.second_look, manifest, queries)
        return _Exported(adapter, content, manifest, look)

    def _record(self, fit: FitResult, exported: _Exported, evaluation: Evaluation) -> Evaluation:
        """Add to what was measured how the model came about."""
        command = self.options.command(self.dataset, self.embeddings, self.folder)
        sizes = measure_sizes(
            fit.sizes if fit.adapter else (),
            fit.rank,
            exported.manifest,
            self._test_queries(_PROVED_QUERIES),
        )
        record = msgspec.structs.replace(
            note_dropped(evaluation, self.dropped),
            fit=describe_fit(fit, exported.manifest, command, sizes),
        )
        if not self.options.size_curve:
            return record
        curve = measure_size_curve(
            self.dataset,
            self.embeddings,
            self.recipe,
            self._settings,
            record,
            progress=lambda size, _all: self.on_stage(f"fit on {size}"),
        )
        return msgspec.structs.replace(record, size_curve=curve)

    def _write(
        self, record: Evaluation, runs: Runs, model: _Exported | None, trained_on: TrainedOn
    ) -> None:
        """Write the model and what people read, and put the finished folder in its place."""
        new = empty(self._work / "model")
        manifest = model.manifest if model else None
        if model:
            write_model(new, model.adapter, model.content, model.manifest, model.second_look)
            write_whole(new / TRAINED_ON, trained_on.encode(model.manifest.training))
        runs.write(new / RUNS)
        _write_record(new, self.folder.name, record, manifest)
        keep_others(self.folder, new, OURS)
        swap_folder(new, self.folder)
        if not self.options.keeps_work:
            forget_work(self.folder)


def forget_work(folder: Path) -> None:
    """Remove the work beside a model's folder that was kept for an interruption."""
    shutil.rmtree(_work_beside(folder), ignore_errors=True)


def _forget_needless_work(folder: Path) -> None:
    """Remove of a build that ended what no other goes on from; its trials stay."""
    work = _work_beside(folder)
    shutil.rmtree(work / "model", ignore_errors=True)
    if not any(work.rglob("*.safetensors")):
        forget_work(folder)


def _work_beside(folder: Path) -> Path:
    """Give the place of unfinished work on a model's folder."""
    return beside(folder, "partial")


def _write_record(folder: Path, name: str, record: Evaluation, manifest: Manifest | None) -> None:
    """Write a record for programs, and what people read of it."""
    write_whole(folder / EVALUATION, encode_record(record))
    write_whole(folder / REPORT, write_report(record, manifest).encode())
    write_whole(folder / CARD, write_card(name, manifest, record).encode())


def _tell_of_similarity(recipe: Recipe, embeddings: Embeddings, tell: Tell) -> None:
    """Say that the index does not compare by cosine, and whether the fit follows it."""
    own = said_similarity(embeddings)
    if own in (None, recipe.similarity):
        return
    words = f"the documents are from an index that compares by {own}, and have no unit length"
    if recipe.similarity == "auto":
        tell(f"{words}: the fit compares by it, too, unless similarity in a recipe says otherwise")
    else:
        tell(f"{words}; the fit compares by {recipe.similarity}, as the recipe says")


def _as_start(adapter: Adapter | None, embeddings: Embeddings, recipe: Recipe) -> Adapter | None:
    """Give a start unit length where the index sees directions alone; its ranking stays the same.

    A converted adapter may give any length, which the loss's temperature is not made for.
    """
    if adapter is not None and (recipe.compares_by == "cosine" or embeddings.unit_documents):
        adapter.normalised = True
    return adapter


def _identity(embeddings: Embeddings, recipe: Recipe, fit: FitResult) -> Adapter:
    """Make the model that changes nothing, to be measured where no adapter helps."""
    dim = embeddings.documents.dim
    if recipe.use_between(embeddings.queries.dim, dim) == "migration":
        raise DataError(f"{fit.verdict} Raw queries of another encoder can't be searched, either.")
    adapter = IdentityAdapter(dim)
    adapter.normalised = recipe.compares_by == "cosine" or embeddings.unit_documents
    return adapter.eval()
