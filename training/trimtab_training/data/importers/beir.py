"""BEIR folders: corpus, queries and qrels, in any of the kinds that they are handed around in."""

from pathlib import Path

from trimtab_training.data.importers.corpora import add_corpus, add_queries, find_file
from trimtab_training.data.importers.qrels import add_labels
from trimtab_training.data.importers.settings import ImportSettings
from trimtab_training.data.importers.writer import DatasetWriter
from trimtab_training.errors import DataError


def import_beir(source: Path, writer: DatasetWriter, settings: ImportSettings) -> None:
    """Read ``corpus.*``, ``queries.*`` and ``qrels/``; leave out queries without labels.

    Raises:
        DataError: One of them is missing or can't be read.
    """
    if not source.is_dir():
        raise DataError(f"no folder at {source}; expected one with corpus, queries and qrels/")
    corpus = settings.corpus or find_file(source, "corpus")
    queries = settings.queries or find_file(source, "queries")
    for what, path, option in (("corpus", corpus, "--corpus"), ("queries", queries, "--queries")):
        if path is None:
            raise DataError(
                f"no {what}.jsonl in {source}; expected BEIR's layout, or {option} FILE"
            )
    qrels = source / "qrels"
    add_labels(qrels if qrels.is_dir() else source, 0, writer, settings.relevant_from)
    if queries is not None and corpus is not None:
        add_queries(queries, writer, settings)
        add_corpus(corpus, writer, settings, "document")
