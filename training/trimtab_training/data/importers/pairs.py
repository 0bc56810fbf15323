"""Pairs and triplets as sentence-transformers and Hugging Face data sets have them, row by row."""

from collections.abc import Container, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from trimtab_training.data.importers.columns import (
    PAIR_ROLES,
    SEVERAL,
    Columns,
    find_columns,
    plain_name,
    require,
)
from trimtab_training.data.importers.corpora import add_corpus
from trimtab_training.data.importers.judging import may_grade
from trimtab_training.data.importers.objects import refuse_unknown_texts, unused_keys
from trimtab_training.data.importers.pair_rows import Graded, PairFile, PairRows
from trimtab_training.data.importers.readings import (
    find_lists,
    keys_inside,
    refuse_two_readings,
)
from trimtab_training.data.importers.settings import ImportSettings
from trimtab_training.data.importers.sources import (
    Sample,
    files_by_split,
    left_aside,
    read_rows,
    sample_rows,
)
from trimtab_training.data.importers.texts import Text, Unusable, text_key
from trimtab_training.data.importers.understood import N_EXAMPLES, Reading
from trimtab_training.data.importers.writer import DatasetWriter
from trimtab_training.data.qrels import SPLITS
from trimtab_training.errors import ConfigError, DataError

_SEVERAL = "a text that several documents of the corpus have: the first is labelled"


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
        self._given, self._rows = settings.for_rows(), PairRows(settings)
        self._with_negatives, self._has_scores = with_negatives, False
        corpus = settings.corpus
        self._by_text = None if corpus is None else add_corpus(corpus, writer, settings)

    def read(self, source: Path) -> None:
        """Read every file of the source."""
        files = files_by_split(source, SPLITS.index(self._settings.split))
        notes = [f"left aside: {name}" for name in left_aside(source, files)]
        for split, path in files:
            self._read_file(path, split, notes)
            notes = []
        self._refuse_without_scores(source)

    def _read_file(self, path: Path, split: int, notes: Sequence[str]) -> None:
        """Read one file; refuse one that holds something and gives nothing."""
        sample = sample_rows(path, header=self._settings.header, delimiter=self._settings.delimiter)
        file = self._understand(path, sample) if sample.rows else None
        if file is not None:
            if self._by_text is None:
                for name, objects in self._objects(file, sample).items():
                    refuse_unknown_texts(objects, name, str(path))
            self._show(file, sample, notes)
            self._has_scores |= "score" in file.columns or file.score_key is not None
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
                self._refuse_late(file, seen, record, place)
            try:
                self._add(*self._rows.parse(record, file), split, place)
                n_used += 1
            except Unusable as reason:
                tally.drop(str(reason), place)
        self._writer.taken.check(path, tally.n_rows - n_before)
        if not n_used and path.stat().st_size:
            tally.check()
            raise DataError(f"{path} gives no pair: {tally.explain()}")
        if file is not None:
            self._require_seen(seen, path, file.score_key)

    def _understand(self, path: Path, sample: Sample) -> PairFile:
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
            return PairFile(path, columns, lists, known)
        del columns["score"]
        return PairFile(path, columns, lists, known, score_key=inside)

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

    def _refuse_without_scores(self, source: Path) -> None:
        """Refuse what is said of scores where there are none."""
        for option, is_given in (
            ("--relevant-from", self._settings.relevant_from is not None),
            ("--grades", bool(self._settings.grades)),
        ):
            if is_given and not self._has_scores:
                raise ConfigError(
                    f"{option} says nothing about {source}, in which no column is known as the "
                    "score; --column score=NAME, or leave it out"
                )

    def _refuse_late(
        self, file: PairFile, seen: Iterable[str], record: Mapping[str, Any], place: int
    ) -> None:
        """Refuse a column that comes late and would have changed how the file is read."""
        found = find_columns(seen, PAIR_ROLES, {})
        if "score" not in found and file.score_key is None and "negative" not in file.columns:
            late = [name for name in record if name not in file.known]
            found |= {"score": tuple(name for name in late if may_grade(name, [record[name]]))}
        for role, names in found.items():
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

    def _show(self, file: PairFile, sample: Sample, notes: Sequence[str]) -> None:
        """Tell how a file is understood."""
        examples: list[dict[str, Any]] = []
        grades: list[float] = []
        for _, record in sample.rows:
            try:
                query, labels = self._rows.parse(record, file)
            except Unusable:
                continue
            grades += [grade for _, grade in labels]
            if len(examples) < N_EXAMPLES:
                examples.append(self._example(query, labels))
        lists = [f"cells of {name!r} are lists" for name in sorted(file.lists)]
        unused = [name for name in sample.names if name not in file.used]
        for name, objects in self._objects(file, sample).items():
            keys = [key for key in unused_keys(objects) if key != file.score_key]
            unused += [f"{name}.{key}" for key in keys]
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

    def _objects(self, file: PairFile, sample: Sample) -> dict[str, list[dict[str, Any]]]:
        """Give the documents of the first rows that are objects, by column."""
        found: dict[str, list[dict[str, Any]]] = {}
        for _, record in sample.rows:
            try:
                for name, one in self._rows.objects(record, file):
                    found.setdefault(name, []).append(one)
            except Unusable:
                continue
        return found

    def _example(self, query: Text, labels: Sequence[Graded]) -> dict[str, Any]:
        """Write a row as it will be stored."""
        return {
            "query": self._writer.queries.describe(query),
            "documents": [
                {**self._writer.documents.describe(document), "grade": grade}
                for document, grade in labels
            ],
        }

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
        is_repeated = key in self._by_text.repeated
        by_text = self._by_text.numbers.get(key) if document.joined else None
        found = by_text if document.name is None else self._writer.documents.find(document.name)
        if found is None:
            raise Unusable("document is not in the corpus")
        if document.name is not None and by_text not in {None, found} and not is_repeated:
            self._writer.taken.refuse("document", document.name, place, has_option=True)
        if document.name is None and is_repeated:
            self._writer.tally.note(_SEVERAL, place)
        return found


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
