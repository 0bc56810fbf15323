"""A BEIR folder written as its rows are read: texts go to disk at once, ids and labels are held."""

import json
import shutil
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np

from trimtab_training.data.importers.foreign import refuse_foreign
from trimtab_training.data.importers.labels import (
    Labels,
    LabelTable,
    keep_known,
    keep_one_split,
    merge_repeated,
)
from trimtab_training.data.importers.place import OWN, RECORD, check_place
from trimtab_training.data.importers.taken import TakenIds
from trimtab_training.data.importers.tally import Tally
from trimtab_training.data.importers.text_table import TextTable
from trimtab_training.data.importers.texts import Text
from trimtab_training.data.importers.understood import Understood
from trimtab_training.data.qrels import SPLITS, Qrels
from trimtab_training.data.splits import split_qrels
from trimtab_training.errors import ConfigError, DataError
from trimtab_training.files import beside, keep_others, swap_folder

_HEADER = "query-id\tcorpus-id\tscore\n"


class DatasetWriter:
    """One dataset on its way, beside its place until it is whole.

    Attributes:
        queries: The queries.
        documents: The documents.
        labels: The labels.
        tally: What was dropped.
        taken: Ids that came again with another text.
        understood: How the source's files are read.
        shares: Of train, dev and test, where a query with labels in several is drawn to one of
            them; None: it stays where it is tested.
    """

    def __init__(
        self,
        output: Path,
        tally: Tally,
        understood: Understood | None = None,
        *,
        force: bool = False,
    ) -> None:
        """Begin.

        Raises:
            DataError: Something stands at the output that no import made.
        """
        self._output = output.resolve()
        check_place(self._output, output, force=force)
        self._work = beside(self._output, "new")
        self.tally = tally
        self.taken = TakenIds(tally)
        self.understood = understood or Understood()
        self.shares: Sequence[float] | None = None
        self._n_joined = 0
        self._topics_that_are_documents: set[str] = set()
        self.labels = LabelTable()
        self.queries = TextTable(self._work / "queries.jsonl", "q")
        self.documents = TextTable(self._work / "corpus.jsonl", "d")

    def __enter__(self) -> "DatasetWriter":
        """Make the folder to work in."""
        try:
            if self._work.exists():  # of an import that was killed
                shutil.rmtree(self._work)
            self._work.mkdir(parents=True)
        except OSError as error:
            raise DataError(f"can't write to {self._work.parent}: {error.strerror}") from error
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None
    ) -> None:
        """Close the files; where the import failed, take away what it wrote."""
        with suppress(OSError):  # of a full disk; where that matters, ``finish`` has closed them
            self.queries.close()
        with suppress(OSError):
            self.documents.close()
        if kind is not None:
            shutil.rmtree(self._work, ignore_errors=True)
        if isinstance(error, OSError):
            raise DataError(f"can't write {self._output}: {error}") from error

    def check_ids(self, query: Text, documents: Iterable[Text], place: int) -> None:
        """Refuse a row whose texts have ids of other texts: its labels would be theirs.

        Raises:
            Unusable: A text has.
        """
        if self.queries.has_other(query):
            self.taken.refuse("query", query.name or "", place, has_option=True)
        here: dict[str, str] = {}
        for one in documents:
            if one.name is None:
                continue
            is_other = self.documents.has_other(one) or here.get(one.name, one.joined) != one.joined
            if is_other:
                self.taken.refuse("document", one.name, place, has_option=True)
            here[one.name] = one.joined

    def add_query(self, text: Text, place: int) -> int:
        """Keep a query; give its number."""
        return self._add("query", self.queries, text, place)

    def leave_query(self, name: str, place: int) -> None:
        """Leave out a query that no label is about; remember one that labels call a document."""
        self.tally.leave_out("a query without labels", place)
        if self.documents.find(name) is not None:
            self._topics_that_are_documents.add(name)

    def refuse_foreign_labels(self) -> None:
        """Refuse labels whose ids are not those of the texts.

        Raises:
            DataError: With an example of both sides.
        """
        labels = self.labels.columns()
        refuse_foreign(
            (self.queries.names(labels.query), self.documents.names(labels.document)),
            (self.queries.names_known(), self.documents.names_known()),
            self._topics_that_are_documents,
        )

    def add_document(self, text: Text, place: int) -> int:
        """Keep a document; give its number."""
        return self._add("document", self.documents, text, place)

    def _add(self, what: str, table: TextTable, text: Text, place: int) -> int:
        """Keep a text; count one whose id is taken."""
        number, is_taken = table.add(text)
        if is_taken:
            self.taken.count(what, text.name or "", place)
            self.tally.leave_out("another text under the same id; the first stays", place)
        return number

    def finish(
        self,
        describe: Callable[[dict[str, Any]], dict[str, Any]],
        *,
        split_by: str | None = None,
        merge_queries: bool = False,
    ) -> dict[str, Any]:
        """Settle the labels, write them, and put the folder in its place.

        Args:
            describe: Makes ``import.json`` of the counts of what is written.
            split_by: Make a test split, by ``document`` or ``query``, where there is none.

            merge_queries: Join queries of one text under the first one's id.

        Returns:
            What ``import.json`` says.

        Raises:
            DataError: Too much was dropped, or nothing is left.
        """
        for what, table in (("query", self.queries), ("document", self.documents)):
            if n_bare := table.write_bare():
                self.tally.note(f"a {what} of which there is an id alone, stored so", -1, n_bare)
            table.close()
        splits = self._settle(split_by, merge_queries=merge_queries)
        self.understood.grades(splits.grade)
        counts = {
            "queries": self.queries.n_texts,
            "documents": self.documents.n_texts,
            "splits": self._write_labels(splits),
        }
        text = json.dumps(describe(counts), indent=1, ensure_ascii=False) + "\n"
        (self._work / RECORD).write_text(text, encoding="utf-8")
        keep_others(self._output, self._work, OWN)
        swap_folder(self._work, self._output)
        record: dict[str, Any] = json.loads(text)
        return record

    def _settle(self, split_by: str | None, *, merge_queries: bool) -> Labels:
        """Bring the labels into the state that a dataset must have."""
        labels = self.labels.columns()
        if not self._is_all_known(labels):
            self.refuse_foreign_labels()
        self.tally.settle(len(labels))
        for what, table in (("query", self.queries), ("document", self.documents)):
            if table.n_texts:
                labels = keep_known(labels, table.known(), what, self.tally)
        self.tally.check()
        if merge_queries:
            labels = self._merge_queries(labels)
        labels = merge_repeated(labels, self.tally)
        labels = keep_one_split(labels, self.tally, self.queries.namer(), self.shares)
        if not (labels.grade > 0).any():
            why = self.tally.explain("no grade is over 0")
            raise DataError(f"no relevant label is left of {why}; nothing was written")
        if not (labels.split != 1).any():
            raise DataError("all labels are of the dev split; expected train or test labels, too")
        self._prune_queries(labels)
        return self._made_split(labels, split_by) if split_by else labels

    def _is_all_known(self, labels: Labels) -> bool:
        """Tell whether every label's query and document has a text, where there are texts."""
        pairs = ((self.queries, labels.query), (self.documents, labels.document))
        return all(bool(table.known()[numbers].all()) for table, numbers in pairs if table.n_texts)

    def _merge_queries(self, labels: Labels) -> Labels:
        """Give the labels of queries with one text to the first of them."""
        if not self.queries.n_texts:
            raise ConfigError("--merge-queries needs the queries' texts: --queries FILE")
        joined = replace(labels, query=self.queries.same()[labels.query])
        moved = joined.query != labels.query
        if moved.any():
            first = int(labels.place[moved].min())
            n_queries = len(np.unique(labels.query[moved]))
            self.tally.leave_out("query joined with one of the same text", first, n_queries)
            self._n_joined = n_queries
        return joined

    def _prune_queries(self, labels: Labels) -> None:
        """Leave out queries without labels: nobody needs their vectors."""
        wanted = np.zeros(len(self.queries.known()), dtype=bool)
        wanted[labels.query] = True
        without = self.queries.prune(wanted) - self._n_joined
        if without > 0:
            self.tally.leave_out("a query without labels", -1, without)

    def _made_split(self, labels: Labels, split_by: str) -> Labels:
        """Make the test split that a fit would make."""
        if {0, 2} <= set(np.unique(labels.split).tolist()):
            raise DataError("the data has a train and a test split; leave --split-by out")
        names, documents = self.queries.namer(), self.documents.namer()
        qrels: Qrels = {}
        parted = labels.take(labels.split != 1)
        for query, document, grade in zip(
            parted.query.tolist(), parted.document.tolist(), parted.grade.tolist(), strict=True
        ):
            qrels.setdefault(names(query), {})[documents(document)] = grade
        test = split_qrels(qrels, by=split_by)["test"]
        is_test = np.array([names(query) in test for query in labels.query.tolist()])
        split = np.where(labels.split == 1, 1, np.where(is_test, 2, 0)).astype(np.int8)
        return Labels(split, labels.query, labels.document, labels.grade, labels.place)

    def _write_labels(self, labels: Labels) -> dict[str, dict[str, int]]:
        """Write one file a split; count what is in it."""
        queries, documents = self.queries.namer(), self.documents.namer()
        (self._work / "qrels").mkdir()
        counts = {}
        for number, name in enumerate(SPLITS):
            rows = labels.take(labels.split == number)
            if not len(rows):
                continue
            counts[name] = {
                "queries": len(np.unique(rows.query)),
                "labels": len(rows),
                "relevant": int((rows.grade > 0).sum()),
            }
            with (self._work / "qrels" / f"{name}.tsv").open("w", encoding="utf-8") as file:
                file.write(_HEADER)
                file.writelines(
                    f"{queries(query)}\t{documents(document)}\t{_write_grade(grade)}\n"
                    for query, document, grade in zip(
                        rows.query.tolist(),
                        rows.document.tolist(),
                        rows.grade.tolist(),
                        strict=True,
                    )
                )
        return counts


def _write_grade(grade: float) -> str:
    """Write a grade without a needless fraction."""
    return str(int(grade)) if grade.is_integer() else repr(grade)
