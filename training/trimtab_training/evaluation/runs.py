"""What every query found and scored, as files: whoever doubts a report's means can take them anew.

Runs and labels are in TREC's format, which ir_measures, ranx and trec_eval read; the scores of
every query are JSON Lines.
"""

import json
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from itertools import chain
from pathlib import Path
from urllib.parse import quote

import numpy as np
from numpy.typing import NDArray

from trimtab_training.data.qrels import Qrels, relevant
from trimtab_training.errors import DataError
from trimtab_training.evaluation.per_query import Searched
from trimtab_training.files import (
    beside,
    make_parent,
    refuse_loss,
    refuse_mount,
    swap_folder,
    write_whole,
)
from trimtab_training.retrieval.exact_search import Ranking

PER_QUERY = "per_query.jsonl"
QRELS = "qrels.trec"
_SCALES = (1, 10, 100, 1000, 10_000, 100_000)
_EXACT = 1e-9


@dataclass(frozen=True)
class Runs:
    """Rankings of one split's queries, and what each is worth.

    Attributes:
        qrels: The labels that were measured against, in the order of the rankings' rows.
        document_ids: Names of the documents' rows.
        rankings: By name, such as ``raw`` and ``adapted``.
        scores: The same names' metrics of every query.
    """

    qrels: Qrels
    document_ids: Sequence[str]
    rankings: Mapping[str, Ranking]
    scores: Mapping[str, Mapping[str, NDArray[np.float64]]]

    @classmethod
    def of(cls, qrels: Qrels, document_ids: Sequence[str], found: Mapping[str, Searched]) -> "Runs":
        """Gather what models, and the raw query, found."""
        rankings = {name: one.ranking for name, one in found.items()}
        return cls(qrels, document_ids, rankings, {name: one.scores for name, one in found.items()})

    def write(self, folder: Path) -> None:
        """Write the folder: ``NAME.trec`` for each ranking, ``qrels.trec``, ``per_query.jsonl``.

        TREC's format has no place for white space in ids: where there is any, it and ``%`` stand
        as ``%20`` and the like in all of its files. It has whole grades only: fractions are
        multiplied by one power of ten, which leaves linear nDCG as it is.
        """
        work = beside(folder, "new")
        if work.exists():
            shutil.rmtree(work)
        work.mkdir(parents=True)
        try:
            self._write_into(work)
        except BaseException:  # such as a full disk
            shutil.rmtree(work, ignore_errors=True)
            raise
        swap_folder(work, folder)

    def _write_into(self, work: Path) -> None:
        """Write all files."""
        spell = _spelling(self)
        write_whole(work / QRELS, "".join(_qrels_lines(self.qrels, spell)).encode())
        for name in self.rankings:
            write_whole(work / f"{name}.trec", "".join(self._run_lines(name, spell)).encode())
        write_whole(work / PER_QUERY, "".join(self._score_lines()).encode())

    def _run_lines(self, name: str, spell: Callable[[str], str]) -> Iterator[str]:
        """Write one ranking; equal scores are told apart, as tools order those by id."""
        for query, rows, scores in zip(self.qrels, *self.rankings[name], strict=True):
            found = rows >= 0
            for rank, (row, score) in enumerate(
                zip(rows[found].tolist(), falling(scores[found]), strict=True), start=1
            ):
                document = spell(self.document_ids[row])
                yield f"{spell(query)} Q0 {document} {rank} {score} {name}\n"

    def _score_lines(self) -> Iterator[str]:
        """Write each query's metrics in every ranking."""
        for place, (query, labels) in enumerate(self.qrels.items()):
            record = {
                "query_id": query,
                "n_relevant": len(relevant(labels)),
                **{
                    name: {metric: float(values[place]) for metric, values in metrics.items()}
                    for name, metrics in self.scores.items()
                },
            }
            yield json.dumps(record) + "\n"


def check_place(folder: Path) -> None:
    """Refuse to replace a folder that holds anything but runs, and a place where none can be.

    Raises:
        ConfigError: There can be no folder, or it is a mount point.
        DataError: It is a file, or holds something else.
    """
    make_parent(beside(folder, "new"))
    refuse_mount(folder)
    if not folder.exists():
        return
    if not folder.is_dir():
        raise DataError(f"{folder} is a file; runs need a folder of their own there")
    names = (entry.name for entry in folder.iterdir() if entry.suffix != ".trec")
    refuse_loss(folder, (name for name in names if name != PER_QUERY))


def falling(scores: NDArray[np.float32]) -> list[str]:
    """Write scores, best first, so that each is below the one before, also as float32.

    Example:
        >>> falling(np.array([0.5, 0.5, 0.25], dtype=np.float32))
        ['0.5', '0.49999997', '0.25']
    """
    written: list[str] = []
    last = np.float32(np.inf)
    for score in scores.astype(np.float32):
        last = min(score, np.nextafter(last, np.float32(-np.inf)))
        written.append(str(last))
    return written


def _spelling(runs: Runs) -> Callable[[str], str]:
    """Tell how ids are written, so that TREC's format can hold them: as they are, if it can."""
    labelled = chain.from_iterable(runs.qrels.values())
    names = chain(runs.qrels, runs.document_ids, labelled)
    if all(len(name.split()) == 1 and name == name.strip() for name in names):
        return str
    return cache(_without_spaces)


def _without_spaces(name: str) -> str:
    """Write white space, and the sign that marks it, as a URL does."""
    return "".join(
        quote(letter, safe="") if letter.isspace() or letter == "%" else letter for letter in name
    )


def _qrels_lines(qrels: Qrels, spell: Callable[[str], str]) -> Iterator[str]:
    """Write the labels, grades as whole numbers."""
    scale = _scale_of({grade for labels in qrels.values() for grade in labels.values()})
    for query, labels in qrels.items():
        for document, grade in labels.items():
            yield f"{spell(query)} 0 {spell(document)} {_whole(grade, scale)}\n"


def _scale_of(grades: set[float]) -> int:
    """Find the least power of ten that makes all grades whole, or the largest that is tried."""
    for scale in _SCALES:
        if all(abs(grade * scale - round(grade * scale)) < _EXACT * scale for grade in grades):
            return scale
    return _SCALES[-1]


def _whole(grade: float, scale: int) -> int:
    """Write a grade as a whole number; a relevant document stays one."""
    whole = round(grade * scale)
    return max(whole, 1) if grade > 0 else whole
