"""TREC: a file of judgements, and the topics and the collection that they are about."""

from pathlib import Path

from trimtab_training.data.importers.corpora import add_corpus, add_queries
from trimtab_training.data.importers.qrels import add_labels
from trimtab_training.data.importers.settings import ImportSettings
from trimtab_training.data.importers.writer import DatasetWriter
from trimtab_training.data.qrels import SPLITS


def import_trec(source: Path, writer: DatasetWriter, settings: ImportSettings) -> None:
    """Read judgements, and texts where they are given.

    Without texts, the dataset holds labels alone: enough for vectors that exist already.
    """
    add_labels(source, SPLITS.index(settings.split), writer, settings.relevant_from)
    if settings.queries is not None:
        add_queries(settings.queries, writer, settings)
    if settings.corpus is not None:
        add_corpus(settings.corpus, writer, settings, "document")
