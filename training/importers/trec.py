"""TREC: a file of judgements, and the topics and the collection that they are about."""

from pathlib import Path

from training.dataset import SPLITS
from training.importers.corpora import add_texts
from training.importers.qrels import add_labels, qrels_by_split
from training.importers.settings import ImportSettings
from training.importers.writer import DatasetWriter


def import_trec(source: Path, writer: DatasetWriter, settings: ImportSettings) -> None:
    """Read judgements, and texts where they are given.

    Without texts, the dataset holds labels alone: enough for vectors that exist already.
    """
    add_labels(qrels_by_split(source, SPLITS.index(settings.split)), writer, settings.relevant_from)
    add_texts(settings, writer)
