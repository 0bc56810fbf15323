"""One row of pairs or triplets: its query, and its documents with their grades."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from trimtab_training.data.importers.cells import (
    is_in_brackets,
    is_word_in_braces,
    may_be_list,
    spelled_list,
)
from trimtab_training.data.importers.columns import (
    Columns,
    as_number,
    is_missing,
    value_of,
    values_of,
)
from trimtab_training.data.importers.objects import as_document, is_id
from trimtab_training.data.importers.readings import list_of
from trimtab_training.data.importers.settings import (
    JUDGED_OTHERWISE,
    ImportSettings,
    class_key,
    grade_from,
)
from trimtab_training.data.importers.texts import (
    Text,
    Unusable,
    as_filled_text,
    as_name,
)

Graded = tuple[Text, float]
"""A document, and how relevant it is."""


@dataclass(frozen=True)
class PairFile:
    """A file as it is understood.

    Attributes:
        path: Where it is.
        columns: Its columns by role.
        lists: Those whose cells hold lists as text.
        known: All columns that were seen when that was decided.
        score_key: Where the documents are objects that hold their score: under which key.
    """

    path: Path
    columns: Columns
    lists: frozenset[str]
    known: frozenset[str]
    score_key: str | None = None

    @property
    def used(self) -> list[str]:
        """Name the columns in use."""
        return [name for names in self.columns.values() for name in names]


class PairRows:
    """Takes rows apart, as the user and the first rows of their file say."""

    def __init__(self, settings: ImportSettings) -> None:
        """Follow the user's options."""
        self._settings, self._given = settings, settings.for_rows()

    def parse(self, record: Mapping[str, Any], file: PairFile) -> tuple[Text, list[Graded]]:
        """Take the query of one row, and its documents with their grades."""
        record = self._unfold(record, file)
        columns = file.columns
        text = as_filled_text(value_of(record, columns, "query"), "query")
        name = value_of(record, columns, "query_id")
        query = Text(text, "", None if name is None else as_name(name, "query id"))
        positives = self._graded(record, file)
        negatives = [self._document(value) for value in values_of(record, columns, "negative")]
        if not positives and not negatives:
            raise Unusable("empty document")
        return query, [*positives, *((document, JUDGED_OTHERWISE) for document in negatives)]

    def objects(
        self, record: Mapping[str, Any], file: PairFile
    ) -> Iterator[tuple[str, dict[str, Any]]]:
        """Yield the documents of one row that are objects, each with its column.

        Raises:
            Unusable: Its cells are unlike those of the first rows.
        """
        record = self._unfold(record, file)
        for role in ("document", "negative"):
            for name in file.columns.get(role, ()):
                for value in values_of(record, {role: (name,)}, role):
                    if isinstance(value, dict):
                        yield name, value

    def _unfold(self, record: Mapping[str, Any], file: PairFile) -> Mapping[str, Any]:
        """Take apart the lists that cells hold as text; drop what is unlike the first rows."""
        changed: dict[str, Any] = {}
        for role, names in file.columns.items():
            if role.endswith("_id"):
                continue
            for name in names:
                cell = record.get(name)
                if not isinstance(cell, str) or not self._may_be_list(cell, name, file):
                    continue
                items = list_of(cell, role)
                is_list = items is not None
                if self._settings.lists is None and cell and is_list != (name in file.lists):
                    kind = "a list" if is_list else "no list"
                    raise Unusable(f"{role} is {kind}, unlike in the first rows")
                if not is_list and self._settings.lists and is_in_brackets(cell):
                    raise Unusable(f"{role} can't be read as the list that it seems to be")
                if is_list and self._settings.lists is not False:
                    changed[name] = items
        texts, ids = file.columns.get("document", ()), file.columns.get("document_id", ())
        if changed.keys() & set(texts):
            changed |= {name: _spelled_ids(record.get(name)) for name in ids}
        elif not texts and self._settings.lists is not False:
            changed |= {name: of for name in ids if (of := spelled_list(record.get(name)))}
        return {**record, **changed} if changed else record

    def _may_be_list(self, cell: str, name: str, file: PairFile) -> bool:
        """Tell a cell that is to be looked at: one of a column of lists, or spelled like one."""
        is_text = self._settings.lists is None and is_word_in_braces(cell)
        return name in file.lists or (may_be_list(cell) and not is_text)

    def _graded(self, record: Mapping[str, Any], file: PairFile) -> list[Graded]:
        """Take a row's documents with their grades: 1 where the file has no scores."""
        columns = file.columns
        if file.score_key is not None:
            return [
                (self._document(item), self._grade_inside(item, file.score_key))
                for item in values_of(record, columns, "document")
            ]
        if "score" not in columns:
            return [(document, 1.0) for document in self._documents(record, columns)]
        score = value_of(record, columns, "score")
        if score is None:
            raise Unusable("score is missing")
        if not isinstance(score, list):
            grade = self._grade(score)
            return [(document, grade) for document in self._documents(record, columns)]
        names = columns.get("document") or columns["document_id"]
        items = record.get(names[0]) if len(names) == 1 else None
        if not isinstance(items, list) or len(items) != len(score):
            raise Unusable("document and score differ in length")
        kept = [one for item, one in zip(items, score, strict=True) if not is_missing(item)]
        return list(zip(self._documents(record, columns), map(self._grade, kept), strict=True))

    def _grade_inside(self, item: Any, key: str) -> float:
        """Take the grade that a document itself has."""
        if not isinstance(item, dict) or is_missing(item.get(key)):
            raise Unusable("score is missing")
        return self._grade(item[key])

    def _grade(self, score: Any) -> float:
        """Take the grade of a score, or of a class."""
        settings = self._settings
        if not settings.grades:
            return grade_from(as_number(score, "score"), settings.relevant_from)
        grade = settings.grades.get(class_key(score))
        if grade is None:
            raise Unusable("score is a class without a grade; --grades names the others")
        return grade_from(grade, settings.relevant_from)

    def _documents(self, record: Mapping[str, Any], columns: Columns) -> list[Text]:
        """Take a row's documents, under the ids that the row gives, which may stand alone."""
        documents = [self._document(value) for value in values_of(record, columns, "document")]
        given = value_of(record, columns, "document_id")
        if given is None:
            return documents
        names = given if isinstance(given, list) else [given]
        documents = documents or [Text("")] * len(names)
        if len(names) != len(documents):
            raise Unusable("documents and their ids differ in number")
        return [
            Text(one.text, one.title, as_name(name, "document id"))
            for one, name in zip(documents, names, strict=True)
        ]

    def _document(self, value: Any) -> Text:
        """Take a document, without the id that it has in itself where ids are said to be none."""
        if isinstance(value, dict) and self._given.get("document_id") == ():
            value = {key: of for key, of in value.items() if not is_id(key)}
        return as_document(value)


def _spelled_ids(cell: Any) -> Any:
    """Take apart the ids that stand beside a list of texts; one alone stays as it is."""
    ids = spelled_list(cell)
    if ids is None and may_be_list(cell):
        raise Unusable("document ids can't be read as the list that they seem to be")
    return cell if ids is None else ids
