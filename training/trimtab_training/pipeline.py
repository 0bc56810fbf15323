"""The whole way from labels and vectors to a model folder: fit, export, evaluate, write.

The folder appears at its place only once it is complete; an older model stands there until then.
"""

import json
import shutil
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from trimtab.model.manifest import Manifest
from trimtab_training.adapters import Adapter, IdentityAdapter
from trimtab_training.data.dataset import Dataset
from trimtab_training.data.training_digest import TRAINED_ON, TrainedOn
from trimtab_training.embeddings.missing_labels import keep_embedded
from trimtab_training.embeddings.store import Embeddings
from trimtab_training.errors import DataError
from trimtab_training.evaluation.evaluate import Evaluation, evaluate_model
from trimtab_training.evaluation.record import EVALUATION, encode_record
from trimtab_training.evaluation.runs import RUNS
from trimtab_training.evaluation.verdict import decide
from trimtab_training.export.model_folder import (
    MODEL_FILE,
    REPORT,
    _empty,
    check_target,
    keep_others,
    write_model,
)
from trimtab_training.export.onnx_export import describe_adapter, export_adapter, stamp_manifest
from trimtab_training.export.provenance import (
    describe_file,
    describe_fit,
    describe_training,
    versions,
    write_command,
)
from trimtab_training.files import swap_folder, write_whole
from trimtab_training.fit.checkpoint import Resume, Tell
from trimtab_training.fit.fit import FitResult, FitSettings, fit_adapter
from trimtab_training.fit.query_region import find_query_region
from trimtab_training.fit.recipe import Recipe
from trimtab_training.learning_curve import measure_size_curve
from trimtab_training.lock import locked
from trimtab_training.report import require_packages, write_report
from trimtab_training.report.model_card import write_card
from trimtab_training.size_frontier import measure_sizes

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
        evaluation: What it does to the test split.
        fit: How it came about.
        verdict: Whether to ship it, as ``trimtab_training.evaluation.verdict.decide`` puts it.
    """

    folder: Path
    file: Path | None
    report: Path
    evaluation: Evaluation
    fit: FitResult
    verdict: dict[str, Any]


@dataclass(frozen=True)
class BuildOptions:
    """How to build, beside data and recipe.

    Attributes:
        seed: Seed of every random choice.
        device: Where to compute: ``cpu``, ``cuda`` or ``mps``.
        resume: What becomes of an interrupted build in this place: ``must_match`` continues it, and
            refuses where it had other settings or data; ``if_same`` then starts over; ``never``
            always does.
        start_from: A trained adapter to start from instead of the identity.
        start_name: Where ``start_from`` stands, for whoever wants to do the same again.
        start_trained_on: What ``start_from`` was trained on, as far as that is known.
        from_unseen: Whether the user vouches that ``start_from`` has seen none of the queries.
        allow_identity: Where no adapter helps, write a model that changes nothing.
        index: ``faiss:PATH`` of the approximate index that will be searched, to be measured, too.
        size_curve: Whether to fit with fewer training queries, too, and show what they give.
        tell: Told, in a sentence each, what becomes of an interrupted build, and what a fit takes.
    """

    seed: int = 0
    device: str = "cpu"
    resume: Resume = "must_match"
    start_from: Adapter | None = None
    start_name: str = ""
    start_trained_on: TrainedOn | None = None
    from_unseen: bool = False
    allow_identity: bool = False
    index: str | None = None
    size_curve: bool = False
    tell: Tell = lambda _text: None

    def command(self, dataset: Dataset, embeddings: Embeddings, folder: Path) -> str:
        """Write the command that does the same again, its recipe being in ``recipe.toml``."""
        options = {
            "--seed": str(self.seed),
            "--device": self.device if self.device != "cpu" else None,
            "--from": self.start_name,
            "--from-unseen": self.from_unseen,
            "--allow-identity": self.allow_identity,
            "--index": self.index,
            "--size-curve": self.size_curve,
        }
        return write_command(dataset, embeddings, folder, options)


def build_model(  # noqa: PLR0913 - data in, folder out, and two ways to watch
    dataset: Dataset,
    embeddings: Embeddings,
    folder: Path,
    recipe: Recipe | None = None,
    options: BuildOptions | None = None,
    *,
    on_stage: Stage = lambda _text: None,
    progress: FitProgress = lambda _done, _all: None,
) -> BuiltModel:
    """Fit an adapter, export it, measure the exported file, and write a model folder.

    Args:
        dataset: Labels with a train and a test split.
        embeddings: Vectors of every labelled query and document.
        folder: Where the model goes, such as ``models/docs``.
        recipe: The knobs; the defaults where absent.
        options: Seed, device and the like; the defaults where absent.
        on_stage: Called before each step.
        progress: Called while fitting, every few steps.

    Raises:
        DataError: Another run builds there, or was interrupted there with other settings or data.
        TrainingError: Whatever stops the fit, the export or the evaluation; the folder is as it
            was before.
    """
    recipe, options = recipe or Recipe(), options or BuildOptions()
    require_packages()
    check_target(folder)
    with locked(folder):
        return _build(dataset, embeddings, folder, recipe, options, (on_stage, progress))


def _build(
    dataset: Dataset,
    embeddings: Embeddings,
    folder: Path,
    recipe: Recipe,
    options: BuildOptions,
    watchers: tuple[Stage, FitProgress],
) -> BuiltModel:
    """Build in a place that is held for this run alone."""
    on_stage, progress = watchers
    dataset, dropped = keep_embedded(dataset, embeddings, recipe.max_dropped)
    if dropped:
        options.tell(dropped.sentence())
    if options.index:
        on_stage("index")
        _check_index(options.index, dataset, embeddings, recipe)
    work = folder.with_name(f".{folder.name}.partial")
    settings = FitSettings(
        seed=options.seed,
        device=options.device,
        workspace=work / "fit",
        resume=options.resume,
        tell=options.tell,
        start_from=_as_start(options.start_from, embeddings, recipe),
        start_trained_on=_trained_before(options),
    )
    on_stage("fitting")
    fit = fit_adapter(dataset, embeddings, recipe, settings, progress=progress)
    on_stage("evaluating")
    training = describe_training(dataset, embeddings, fit, options.start_name)
    adapter = fit.adapter or _identity(embeddings, recipe, fit)
    exported = _export(adapter, folder.name, dataset, embeddings, training)
    trained_on = TrainedOn.of(dataset, _trained_before(options), splits=fit.training_splits)
    evaluation = evaluate_model(
        exported.content,
        dataset,
        embeddings,
        trained_on=trained_on,
        index=options.index,
        timed=True,
    )
    evaluation.notes.extend([dropped.sentence()] if dropped else [])
    is_written = fit.adapter is not None or options.allow_identity
    stamped = exported.stamp(evaluation) if is_written else None
    record = {
        **evaluation.as_dict(),
        "fit": describe_fit(fit, exported.manifest, options.command(dataset, embeddings, folder)),
    }
    record["fit"]["sizes"] = measure_sizes(
        fit.sizes if fit.adapter else (), fit.rank, exported.manifest, _proof(dataset, embeddings)
    )
    if dropped:
        record["dropped_labels"] = dropped.as_dict()
    if options.size_curve:
        record["size_curve"] = measure_size_curve(
            dataset,
            embeddings,
            recipe,
            settings,
            (evaluation, fit.adapter is not None),
            progress=lambda size, _all: on_stage(f"fit on {size}"),
        )
    new = _empty(work / "model")
    if stamped:
        record["model"] = describe_file(stamped.content, MODEL_FILE)
        write_model(new, adapter, stamped.content, stamped.manifest)
        write_whole(new / TRAINED_ON, trained_on.encode(training))
    record["verdict"] = decide(record)
    if evaluation.runs:
        evaluation.runs.write(new / RUNS)
    _write_papers(new, folder.name, record, stamped.manifest if stamped else None, fit, evaluation)
    keep_others(folder, new)
    swap_folder(new, folder)
    shutil.rmtree(work)
    file = folder / MODEL_FILE if stamped else None
    return BuiltModel(folder, file, folder / REPORT, evaluation, fit, record["verdict"])


def _as_start(adapter: Adapter | None, embeddings: Embeddings, recipe: Recipe) -> Adapter | None:
    """Give a start unit length where the index sees directions alone; its ranking stays the same.

    A converted adapter may give any length, which the loss's temperature is not made for.
    """
    if adapter is not None and (recipe.similarity == "cosine" or embeddings.unit_documents):
        adapter.normalised = True
    return adapter


def _trained_before(options: BuildOptions) -> TrainedOn | None:
    """Give what the start was trained on; None for a fit that starts at the identity."""
    if options.start_from is None:
        return None
    if options.from_unseen:
        return TrainedOn.nothing()
    return options.start_trained_on or replace(TrainedOn.nothing(), is_complete=False)


def _check_index(index: str, dataset: Dataset, embeddings: Embeddings, recipe: Recipe) -> None:
    """Refuse an index that can't be measured before hours are spent: sweep it with few queries."""
    from trimtab_training.evaluation.ann_recall import sweep_index

    queries = embeddings.queries.take_ids(list(dataset.split("test"))[:_TRIED_QUERIES])
    sweep_index(index, queries, queries, embeddings.documents, recipe.similarity)


def _identity(embeddings: Embeddings, recipe: Recipe, fit: FitResult) -> Adapter:
    """Make the model that changes nothing, to be measured where no adapter helps."""
    dim = embeddings.documents.dim
    if recipe.use_between(embeddings.queries.dim, dim) == "migration":
        raise DataError(f"{fit.verdict} Raw queries of another encoder can't be searched, either.")
    adapter = IdentityAdapter(dim)
    adapter.normalised = recipe.similarity == "cosine" or embeddings.unit_documents
    return adapter.eval()


@dataclass(frozen=True)
class _Exported:
    """The bytes of a model, and the manifest in them."""

    content: bytes
    manifest: Manifest

    def stamp(self, evaluation: Evaluation) -> "_Exported":
        """Write what was measured into the manifest."""
        manifest = replace(self.manifest, metrics=_measured(evaluation))
        return _Exported(stamp_manifest(self.content, manifest), manifest)


def _export(
    adapter: Adapter,
    name: str,
    dataset: Dataset,
    embeddings: Embeddings,
    training: dict[str, Any],
) -> _Exported:
    """Make the model file in memory, proved on real queries."""
    manifest = describe_adapter(
        adapter,
        embeddings.encoder,
        name=name,
        use=training["use"],
        similarity=training["recipe"]["similarity"],
        training=training,
        versions=versions(),
        created=datetime.now(UTC).isoformat(timespec="seconds"),
        query_region=find_query_region(
            embeddings.queries, list(dataset.split("train")), seed=training["seed"]
        ),
    )
    content = export_adapter(adapter, manifest, queries=_proof(dataset, embeddings))
    return _Exported(content, manifest)


def _proof(dataset: Dataset, embeddings: Embeddings) -> NDArray[np.float32]:
    """Take some real queries, for the proof that a file gives what its adapter gives."""
    return embeddings.queries.take_ids(list(dataset.split("test"))[:_PROVED_QUERIES])


def _write_papers(
    folder: Path,
    name: str,
    record: dict[str, Any],
    manifest: Manifest | None,
    fit: FitResult,
    evaluation: Evaluation,
) -> None:
    """Write what people read: the figures, the report and the model card."""
    write_whole(folder / EVALUATION, encode_record(record))
    described = json.loads(manifest.to_json()) if manifest else None
    write_whole(folder / REPORT, write_report(record, described).encode())
    card = write_card(name, manifest, evaluation, fit, record["verdict"])
    write_whole(folder / "README.md", card.encode())


def _measured(evaluation: Evaluation) -> dict[str, Any]:
    """Pick what the manifest says about quality."""
    keys = ("dataset", "split", "n_queries", "metrics")
    return {key: evaluation.summary[key] for key in keys}
