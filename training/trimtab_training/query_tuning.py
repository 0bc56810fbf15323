"""Beside a model that is built: the encoder of its queries tuned, where that helps, as one file."""

import json
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import msgspec
import numpy as np
from numpy.typing import NDArray

from trimtab.model.adapter import Adapter
from trimtab.text.encoder import TextEncoder
from trimtab_training.data.dataset import Dataset
from trimtab_training.data.qrels import name_some
from trimtab_training.data.training_digest import TrainedOn
from trimtab_training.embeddings.local_encoder import LocalEncoder
from trimtab_training.embeddings.missing_labels import keep_embedded
from trimtab_training.embeddings.store import Embeddings
from trimtab_training.errors import DataError
from trimtab_training.evaluation.record import Evaluation, RivalTest, Tuning, TuningRival
from trimtab_training.evaluation.rival import measure_tuned
from trimtab_training.evaluation.runs import Runs
from trimtab_training.export.provenance import describe_file
from trimtab_training.export.query_model import export_query_model
from trimtab_training.files import write_whole
from trimtab_training.fit.tuning.settings import TuningSettings
from trimtab_training.fit.tuning.tune import TunedEncoder, tune_encoder
from trimtab_training.model_files import QUERY_MODEL, TUNING
from trimtab_training.pipeline import BuiltModel, forget_work

Progress = Callable[[int, int], None]


@dataclass(frozen=True)
class QueryModel:
    """What a tuning left in a model's folder.

    Attributes:
        tuned: How it came about.
        file: The file from text to query vector, or None where tuning is not chosen.
        record: What was tried and chosen, as JSON.
        evaluation: The model's record, with what the file does to the test split.
    """

    tuned: TunedEncoder
    file: Path | None
    record: Path
    evaluation: Evaluation


def tune_queries(
    data: Dataset,
    vectors: Embeddings,
    built: BuiltModel,
    encoder: LocalEncoder,
    settings: TuningSettings,
    *,
    progress: Progress = lambda _done, _all: None,
) -> QueryModel:
    """Tune the encoder of queries, and write it beside the model if held-out queries prefer it.

    Args:
        data: Texts and labels; what the build left out of them, for want of a vector, stays out.
        vectors: The frozen document vectors, and the raw query vectors.
        built: The model that it has to beat; its folder is written to.
        encoder: The encoder of the queries.
        settings: The knobs.
        progress: Called every few steps with what is done, and all.

    Raises:
        TrainingError: Data, encoder and fit do not go together; see :func:`tune_encoder`.
    """
    data, _ = keep_embedded(data, vectors, built.fit.recipe.max_dropped)
    texts = _test_texts(data)
    tuned = tune_encoder(data, vectors, encoder, built.fit, settings, progress=progress)
    file, content, test, runs = None, None, None, None
    if tuned.model is not None:
        adapter = built.file.read_bytes() if built.file is not None else None
        mixed = adapter if tuned.choice == "mean" else None
        similarity = built.fit.recipe.compares_by
        content = export_query_model(
            encoder, tuned.model, mixed, name=built.evaluation.adapter, similarity=similarity
        )
        embedded = TextEncoder.from_bytes(content).encode(texts)
        test, runs = _measure(embedded, adapter, data, vectors, built)
        file = built.folder / QUERY_MODEL
        write_whole(file, content)
    evaluation = built.record_tuning(_describe(tuned, test, content), runs)
    record = built.folder / TUNING
    written = {
        "choice": tuned.choice,
        "verdict": tuned.verdict,
        "settings": tuned.settings.as_dict(),
        "validation": tuned.validation,
        "curves": tuned.curves,
        "seconds": tuned.seconds,
    }
    write_whole(record, (json.dumps(written, indent=1) + "\n").encode())
    if settings.workspace is not None:  # what stands there was for an interruption
        shutil.rmtree(settings.workspace, ignore_errors=True)
    forget_work(built.folder)
    return QueryModel(tuned, file, record, evaluation)


def _test_texts(data: Dataset) -> list[str]:
    """Read the texts of the test queries, before hours are spent on what they are to judge.

    Raises:
        DataError: Some have none.
    """
    test = data.split("test")
    texts = data.query_texts(test)
    if missing := [query for query in test if query not in texts]:
        raise DataError(
            f"{name_some(missing)} test queries have no text in "
            f"{data.folder / 'queries.jsonl'}; a tuned encoder can't be measured on them"
        )
    return [texts[query] for query in test]


def _measure(
    embedded: NDArray[np.float32],
    adapter: bytes | None,
    data: Dataset,
    vectors: Embeddings,
    built: BuiltModel,
) -> tuple[RivalTest, Runs]:
    """Hold what the file gives for the test queries against the model that stands beside it."""
    return measure_tuned(
        embedded,
        Adapter.from_bytes(adapter) if adapter else None,
        data,
        vectors,
        trained_on=TrainedOn.of(data, splits=built.fit.training_splits),
        similarity=built.fit.recipe.compares_by,
    )


def _describe(tuned: TunedEncoder, test: RivalTest | None, content: bytes | None) -> Tuning:
    """Say for the model's record what was chosen, and on what grounds."""
    return Tuning(
        choice=tuned.choice,
        verdict=tuned.verdict,
        settings=tuned.settings.as_dict(),
        rivals=msgspec.convert(tuned.validation["rivals"], dict[str, TuningRival]),
        seconds=tuned.seconds,
        test=test,
        model=None if content is None else describe_file(content, QUERY_MODEL),
    )
