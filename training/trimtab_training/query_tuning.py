"""Beside a model that is built: the encoder of its queries tuned, where that helps, as one file."""

import dataclasses
import json
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from trimtab.text.encoder import TextEncoder
from trimtab_training.data.dataset import Dataset
from trimtab_training.embeddings.encoders import LocalEncoder
from trimtab_training.embeddings.store import Embeddings
from trimtab_training.export.encoder_loss import EncoderLoss, measure_file
from trimtab_training.export.query_model import export_query_model
from trimtab_training.files import write_whole
from trimtab_training.fit.tuning.settings import TuningSettings
from trimtab_training.fit.tuning.tune import TunedEncoder, tune_encoder
from trimtab_training.model_files import QUERY_MODEL, TUNING
from trimtab_training.pipeline import BuiltModel

Progress = Callable[[int, int], None]


@dataclass(frozen=True)
class QueryModel:
    """What a tuning left in a model's folder.

    Attributes:
        tuned: How it came about.
        file: The file from text to query vector, or None where tuning is not chosen.
        record: What was chosen and why, as JSON.
        test: What the file finds for the test queries, beside raw vectors; None without a file.
    """

    tuned: TunedEncoder
    file: Path | None
    record: Path
    test: EncoderLoss | None


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
        data: Texts and labels.
        vectors: The frozen document vectors, and the raw query vectors.
        built: The model that it has to beat; its folder is written to.
        encoder: The encoder of the queries.
        settings: The knobs.
        progress: Called every few steps with what is done, and all.

    Raises:
        TrainingError: Data, encoder and fit do not go together; see :func:`tune_encoder`.
    """
    tuned = tune_encoder(data, vectors, encoder, built.fit, settings, progress=progress)
    file, test = None, None
    if tuned.model is not None:
        adapter = None
        if tuned.choice == "mean" and built.file is not None:
            adapter = built.file.read_bytes()
        content = export_query_model(encoder, tuned.model, adapter, name=built.folder.name)
        file = built.folder / QUERY_MODEL
        write_whole(file, content)
        test = measure_file(TextEncoder.from_bytes(content), data, vectors, adapted=True)
    record = built.folder / TUNING
    written = {
        "choice": tuned.choice,
        "verdict": tuned.verdict,
        "settings": tuned.settings.as_dict(),
        "validation": tuned.validation,
        "curves": tuned.curves,
        "seconds": tuned.seconds,
        "test": None if test is None else dataclasses.asdict(test),
    }
    write_whole(record, (json.dumps(written, indent=1) + "\n").encode())
    if settings.workspace is not None:  # what stands there was for an interruption
        shutil.rmtree(settings.workspace, ignore_errors=True)
    return QueryModel(tuned, file, record, test)
