"""Pairs and triplets as sentence-transformers and Hugging Face data sets have them, row by row."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from training.dataset import SPLITS
from training.importers.columns import (
    PAIR_ROLES,
    Columns,
    as_number,
    find_columns,
    require,
    value_of,
    values_of,
)
from training.importers.corpora import add_corpus
from training.importers.settings import JUDGED_OTHERWISE, ImportSettings, grade_from
from training.importers.sources import files_by_split, read_rows
from training.importers.texts import Text, Unusable, as_document, as_filled_text, as_name, text_key
from training.importers.writer import DatasetWriter


def import_pairs(source: Path, writer: DatasetWriter, settings: ImportSettings) -> None:
    """Read queries with documents that answer them, perhaps scored."""
    _PairReader(writer, settings, with_negatives=False).read(source)


def import_triplets(source: Path, writer: DatasetWriter, settings: ImportSettings) -> None:
    """Read queries with documents that answer them and documents that do not."""
    _PairReader(writer, settings, with_negatives=True).read(source)


class _PairReader:
    """Rows to labels; ids come from the row, from an existing corpus, or from the text."""

    def __init__(
        self, writer: DatasetWriter, settings: ImportSettings, *, with_negatives: bool
    ) -> None:
        """Read the existing corpus, if one is given."""
        self._writer, self._settings = writer, settings
        self._with_negatives = with_negatives
        corpus = settings.corpus
        self._by_text = None if corpus is None else add_corpus(corpus, writer)

    def read(self, source: Path) -> None:
        """Read every file of the source."""
        tally = self._writer.tally
        for split, path in files_by_split(source, SPLITS.index(self._settings.split)):
            columns: Columns | None = None
            for place, record in read_rows(path, tally, header=self._settings.header):
                if columns is None:
                    columns = self._columns(list(record), path)
                try:
                    self._add(record, columns, split, place)
                except Unusable as reason:
                    tally.drop(str(reason), place)

    def _columns(self, names: list[str], path: Path) -> Columns:
        """Find a file's columns by its first row."""
        given = self._settings.columns
        wanted = ["query", "document"]
        if all(name.isdigit() for name in names) and not given:
            third = tuple(names[2:])
            columns: Columns = {"query": ("1",), "document": ("2",)}
            if third:
                columns |= {"negative": third} if self._with_negatives else {"score": third[:1]}
        else:
            columns = find_columns(names, PAIR_ROLES, given)
        if self._with_negatives:
            wanted.append("negative")
        if self._by_text is not None and "document_id" in columns:
            wanted.remove("document")
        require(columns, wanted, names, str(path))
        return columns

    def _add(self, record: Mapping[str, Any], columns: Columns, split: int, place: int) -> None:
        """Keep the labels of one row: all of them, or none."""
        text = as_filled_text(value_of(record, columns, "query"), "query")
        name = value_of(record, columns, "query_id")
        query = Text(text, "", None if name is None else as_name(name, "query id"))
        grade = self._grade(record, columns)
        positives = self._documents(record, columns)
        negatives = [as_document(value) for value in values_of(record, columns, "negative")]
        if not positives and not negatives:
            raise Unusable("empty document")
        labels = [
            *((self._number(document, place), grade) for document in positives),
            *((self._number(document, place), JUDGED_OTHERWISE) for document in negatives),
        ]
        number = self._writer.add_query(query, place)
        for document, its_grade in labels:
            self._writer.labels.add(split, number, document, its_grade, place)

    def _grade(self, record: Mapping[str, Any], columns: Columns) -> float:
        """Take a row's grade: 1 where the file has no scores."""
        if "score" not in columns:
            return 1.0
        grade = as_number(value_of(record, columns, "score"), "score")
        return grade_from(grade, self._settings.relevant_from)

    def _documents(self, record: Mapping[str, Any], columns: Columns) -> list[Text]:
        """Take a row's documents, under the id that the row gives if there is one document."""
        documents = [as_document(value) for value in values_of(record, columns, "document")]
        name = value_of(record, columns, "document_id")
        if name is None or len(documents) > 1:
            return documents
        one = documents[0] if documents else Text("")
        return [Text(one.text, one.title, as_name(name, "document id"))]

    def _number(self, document: Text, place: int) -> int:
        """Find a document in the existing corpus, or add it."""
        if self._by_text is None:
            return self._writer.add_document(document, place)
        found = (
            self._writer.documents.find(document.name)
            if document.name is not None
            else self._by_text.get(text_key(document.joined))
        )
        if found is None:
            raise Unusable("document is not in the corpus")
        return found
