"""BEIR folders: corpus, queries and qrels, in any of the kinds that they are handed around in."""

from dataclasses import replace
from pathlib import Path

from training.errors import DataError
from training.importers.corpora import add_texts, find_file
from training.importers.qrels import add_labels, qrels_by_split
from training.importers.settings import ImportSettings
from training.importers.writer import DatasetWriter


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
    files = qrels_by_split(qrels if qrels.is_dir() else source, 0)
    add_labels(files, writer, settings.relevant_from)
    add_texts(replace(settings, queries=queries, corpus=corpus), writer)
