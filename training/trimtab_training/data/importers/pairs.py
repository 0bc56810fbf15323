"""Pairs and triplets as sentence-transformers and Hugging Face data sets have them, row by row."""

from collections.abc import Container, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from trimtab_training.data.importers.cells import may_be_list, spelled_list
from trimtab_training.data.importers.columns import (
    PAIR_ROLES,
    SEVERAL,
    Columns,
    as_number,
    find_columns,
    is_missing,
    plain_name,
    require,
    value_of,
    values_of,
)
from trimtab_training.data.importers.corpora import add_corpus
from trimtab_training.data.importers.readings import (
    find_lists,
    is_list_of,
    keys_inside,
    refuse_two_readings,
)
from trimtab_training.data.importers.settings import (
    JUDGED_OTHERWISE,
    ImportSettings,
    class_key,
    grade_from,
)
from trimtab_training.data.importers.sources import (
    Sample,
    files_by_split,
    left_aside,
    read_rows,
    sample_rows,
)
from trimtab_training.data.importers.texts import (
    ID_NAMES,
    Text,
    Unusable,
    as_document,
    as_filled_text,
    as_name,
    text_key,
)
from trimtab_training.data.importers.understood import N_EXAMPLES, Reading
from trimtab_training.data.importers.writer import DatasetWriter
from trimtab_training.data.qrels import SPLITS
from trimtab_training.errors import ConfigError, DataError

Graded = tuple[Text, float]

_SEVERAL = "a text that several documents of the corpus have: the first is labelled"


def import_pairs(source: Path, writer: DatasetWriter, settings: ImportSettings) -> None:
    """Read queries with documents that answer them, perhaps scored."""
    _PairReader(writer, settings, with_negatives=False).read(source)


def import_triplets(source: Path, writer: DatasetWriter, settings: ImportSettings) -> None:
    """Read queries with documents that answer them and documents that do not."""
    _PairReader(writer, settings, with_negatives=True).read(source)


@dataclass(frozen=True)
class _File:
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


class _PairReader:
    """Rows to labels; ids come from the row, from an existing corpus, or from the text."""

    def __init__(
        self, writer: DatasetWriter, settings: ImportSettings, *, with_negatives: bool
    ) -> None:
        """Read the existing corpus, if one is given."""
        self._writer, self._settings = writer, settings
        self._given = settings.for_rows()
        self._with_negatives = with_negatives
        corpus = settings.corpus
        self._by_text = None if corpus is None else add_corpus(corpus, writer, settings)

    def read(self, source: Path) -> None:
        """Read every file of the source."""
        files = files_by_split(source, SPLITS.index(self._settings.split))
        notes = [f"left aside: {name}" for name in left_aside(source, files)]
        for split, path in files:
            self._read_file(path, split, notes)
            notes = []

    def _read_file(self, path: Path, split: int, notes: Sequence[str]) -> None:
        """Read one file; refuse one that holds something and gives nothing."""
        sample = sample_rows(path, header=self._settings.header, delimiter=self._settings.delimiter)
        file = self._understand(path, sample) if sample.rows else None
        if file is not None:
            self._show(file, sample, notes)
        n_used, tally = 0, self._writer.tally
        n_before = tally.n_rows
        rows = read_rows(
            path,
            tally,
            header=self._settings.header,
            delimiter=self._settings.delimiter,
            wanted=None if file is None else file.used,
        )
        seen = dict.fromkeys(sample.names)
        for place, record in rows:
            if file is None:
                continue
            if not record.keys() <= seen.keys():
                seen |= dict.fromkeys(record)
                self._refuse_late(file, seen, place)
            try:
                self._add(*self._parse(record, file), split, place)
                n_used += 1
            except Unusable as reason:
                tally.drop(str(reason), place)
        self._writer.taken.check(path, tally.n_rows - n_before)
        if not n_used and path.stat().st_size:
            tally.check()
            raise DataError(f"{path} gives no pair: {tally.explain()}")
        if file is not None:
            self._require_seen(seen, path, file.score_key)

    def _understand(self, path: Path, sample: Sample) -> _File:
        """Decide by the first rows what every column is.

        Raises:
            ConfigError: A column that is given does not exist.
            DataError: Columns are missing, or can be read in two ways.
        """
        columns = self._columns(sample, path)
        refuse_two_readings(sample, columns, self._settings, str(path))
        lists = find_lists(sample, columns, self._settings.lists, str(path))
        known = frozenset(sample.names)
        inside = columns.get("score", ("",))[0]
        if inside in known or inside not in keys_inside(sample, columns.get("document", ())):
            return _File(path, columns, lists, known)
        del columns["score"]
        return _File(path, columns, lists, known, score_key=inside)

    def _columns(self, sample: Sample, path: Path) -> Columns:
        """Find a file's columns by the names in its first rows."""
        names, given = list(sample.names), self._known(sample)
        wanted = ["query", "document"]
        filled = [name for name in names if sample.has_values(name)]
        filled += [name for of in given.values() for name in of if name in names]
        columns = find_columns(names, PAIR_ROLES, given)
        columns |= find_columns(dict.fromkeys(filled), PAIR_ROLES, given)
        if all(name.isdigit() for name in names) and not {"query", "document"} <= given.keys():
            _refuse_names_as_row(sample.rows[0][1], path)
            columns = self._by_place(names, columns)
        late = {role: of for role, of in self._given.items() if role not in given}
        columns |= {role: of for role, of in late.items() if of and role in PAIR_ROLES}
        if self._with_negatives:
            wanted.append("negative")
        if self._by_text is not None and "document_id" in columns:
            wanted.remove("document")
        require(columns, wanted, names, str(path))
        return columns

    def _by_place(self, names: list[str], given: Columns) -> Columns:
        """Give columns without names their roles by place; what is given goes first."""
        third = "negative" if self._with_negatives else "score"
        rest = tuple(names[2:]) if self._with_negatives else tuple(names[2:3])
        usual: Columns = {"query": ("1",), "document": ("2",), third: rest}
        taken = {name for of in given.values() for name in of}
        free = {
            role: tuple(name for name in of if name not in taken)
            for role, of in usual.items()
            if role not in self._given
        }
        return {**{role: of for role, of in free.items() if of}, **given}

    def _known(self, sample: Sample) -> dict[str, tuple[str, ...]]:
        """Give the user's columns that can be looked for now.

        Others may come in later rows; a score may stand inside the documents.
        """
        names = set(sample.names)
        inside = keys_inside(sample, sample.names)
        return {
            role: of
            for role, of in self._given.items()
            if role not in PAIR_ROLES
            or names.issuperset(of)
            or (sample.is_whole and not (role == "score" and inside.issuperset(of)))
        }

    def _refuse_late(self, file: _File, seen: Iterable[str], place: int) -> None:
        """Refuse a column that comes late and would have changed how the file is read."""
        for role, names in find_columns(seen, PAIR_ROLES, {}).items():
            late = [name for name in names if name not in file.known]
            if late and role not in self._given and (role not in file.columns or role in SEVERAL):
                raise DataError(
                    f"{file.path}: {late[0]!r} comes at {self._writer.tally.where(place)} for the "
                    f"first time: say --column {role}={late[0]} if it is the {role} of all rows "
                    f"that have it, --column {role}= if it is not"
                )

    def _require_seen(self, seen: Container[str], path: Path, score_key: str | None) -> None:
        """Refuse a column that is given and that no row has."""
        for role, names in self._given.items():
            for name in names:
                if name not in seen and name != score_key:
                    raise ConfigError(f"--column {role}={name}: no row of {path} has such a column")

    def _show(self, file: _File, sample: Sample, notes: Sequence[str]) -> None:
        """Tell how a file is understood."""
        examples: list[dict[str, Any]] = []
        grades: list[float] = []
        for _, record in sample.rows:
            try:
                query, labels = self._parse(record, file)
            except Unusable:
                continue
            grades += [grade for _, grade in labels]
            if len(examples) < N_EXAMPLES:
                examples.append(self._example(query, labels))
        lists = [f"cells of {name!r} are lists" for name in sorted(file.lists)]
        unused = [name for name in sample.names if name not in file.used]
        self._writer.understood.file(
            Reading(
                file.path.name,
                "triplets" if self._with_negatives else "pairs",
                file.columns,
                unused,
                n_rows=len(sample.rows),
                examples=examples,
                grades=grades,
                notes=[*notes, *lists],
            )
        )

    def _example(self, query: Text, labels: Sequence[Graded]) -> dict[str, Any]:
        """Write a row as it will be stored."""
        return {
            "query": self._writer.queries.describe(query),
            "documents": [
                {**self._writer.documents.describe(document), "grade": grade}
                for document, grade in labels
            ],
        }

    def _parse(self, record: Mapping[str, Any], file: _File) -> tuple[Text, list[Graded]]:
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

    def _unfold(self, record: Mapping[str, Any], file: _File) -> Mapping[str, Any]:
        """Take apart the lists that cells hold as text; drop what is unlike the first rows."""
        changed: dict[str, Any] = {}
        for role, names in file.columns.items():
            if role.endswith("_id"):
                continue
            for name in names:
                cell = record.get(name)
                if not isinstance(cell, str) or not (name in file.lists or may_be_list(cell)):
                    continue
                is_list = is_list_of(cell, role)
                if self._settings.lists is None and cell and is_list != (name in file.lists):
                    kind = "a list" if is_list else "no list"
                    raise Unusable(f"{role} is {kind}, unlike in the first rows")
                if is_list and self._settings.lists is not False:
                    changed[name] = spelled_list(cell)
        if changed.keys() & set(file.columns.get("document", ())):
            changed |= {
                name: _spelled_ids(record.get(name)) for name in file.columns.get("document_id", ())
            }
        return {**record, **changed} if changed else record

    def _graded(self, record: Mapping[str, Any], file: _File) -> list[Graded]:
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
        items = record.get(columns["document"][0]) if len(columns["document"]) == 1 else None
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
        """Take a row's documents, under the ids that the row gives."""
        documents = [self._document(value) for value in values_of(record, columns, "document")]
        given = value_of(record, columns, "document_id")
        if given is None:
            return documents
        names = given if isinstance(given, list) else [given]
        if len(names) != max(len(documents), 1):
            raise Unusable("documents and their ids differ in number")
        return [
            Text(one.text, one.title, as_name(name, "document id"))
            for one, name in zip(documents or [Text("")], names, strict=True)
        ]

    def _document(self, value: Any) -> Text:
        """Take a document, without the id that it has in itself where ids are said to be none."""
        if isinstance(value, dict) and self._given.get("document_id") == ():
            value = {key: of for key, of in value.items() if key not in ID_NAMES}
        return as_document(value)

    def _add(self, query: Text, graded: Sequence[Graded], split: int, place: int) -> None:
        """Keep the labels of one row: all of them, or none."""
        added = graded if self._by_text is None else ()
        self._writer.check_ids(query, (document for document, _ in added), place)
        labels = [(self._number(document, place), grade) for document, grade in graded]
        number = self._writer.add_query(query, place)
        for document, grade in labels:
            self._writer.labels.add(split, number, document, grade, place)

    def _number(self, document: Text, place: int) -> int:
        """Find a document in the existing corpus, or add it."""
        if self._by_text is None:
            return self._writer.add_document(document, place)
        key = text_key(document.joined)
        is_repeated, by_text = key in self._by_text.repeated, self._by_text.numbers.get(key)
        found = by_text if document.name is None else self._writer.documents.find(document.name)
        if found is None:
            raise Unusable("document is not in the corpus")
        if document.name is not None and by_text not in {None, found} and not is_repeated:
            self._writer.taken.refuse("document", document.name, place, has_option=True)
        if document.name is None and is_repeated:
            self._writer.tally.note(_SEVERAL, place)
        return found


def _spelled_ids(cell: Any) -> Any:
    """Take apart the ids that stand beside a list of texts; one alone stays as it is."""
    ids = spelled_list(cell)
    if ids is None and may_be_list(cell):
        raise Unusable("document ids can't be read as the list that they seem to be")
    return cell if ids is None else ids


def _refuse_names_as_row(record: Mapping[str, Any], path: Path) -> None:
    """Refuse a first row that names columns, where the columns were said to have no names."""
    cells = [plain_name(cell) for cell in record.values() if isinstance(cell, str)]
    if any(c in PAIR_ROLES["query"] for c in cells) and any(
        c in PAIR_ROLES["document"] for c in cells
    ):
        raise DataError(
            f"{path}: the first row holds names of columns ({', '.join(cells)}): leave --no-header "
            "out, or take that row out"
        )
