"""Relevance labels: BEIR and TREC files read, and what is relevant by them."""

import math
import re
from collections.abc import Collection
from pathlib import Path

from trimtab_training.data.label_lines import label_rows, read_number
from trimtab_training.data.plain_text import explain_unreadable
from trimtab_training.errors import DataError

Qrels = dict[str, dict[str, float]]
"""``{query_id: {doc_id: grade}}``; a grade of 0 or less is a judged non-relevant document."""

SPLITS = ("train", "dev", "test")

_QRELS_SUFFIXES = (".tsv", ".qrels", ".qrel", ".trec", ".txt")

_EXAMPLES = 3

_SPLIT_WORDS = {  # in a file's name: qrels_test.tsv, testset.tsv, test (1).tsv; not latest.tsv
    name: re.compile(rf"(?<![a-z])(?:{words})(?:[-_ ]?(?:set|data|split|qrels))?(?![a-z])")
    for name, words in (
        ("train", "train(?:ing)?"),
        ("dev", "dev(?:elopment)?|val(?:id(?:ation)?)?"),
        ("test", "test(?:ing)?|h[eo]ld[-_ ]?out|eval(?:uation)?"),
    )
}


def relevant(labels: dict[str, float]) -> dict[str, float]:
    """Keep the documents of one query that are relevant: those with a grade above 0."""
    return {doc_id: grade for doc_id, grade in labels.items() if grade > 0}


def only_relevant(qrels: Qrels) -> Qrels:
    """Keep of every query the documents that are relevant, as :func:`relevant` does."""
    return {query: relevant(labels) for query, labels in qrels.items()}


def answered(qrels: Qrels) -> Qrels:
    """Keep the queries that have a relevant document, with all of their labels."""
    return {query: labels for query, labels in qrels.items() if relevant(labels)}


def relevant_documents(qrels: Qrels) -> set[str]:
    """Gather every document that is relevant to some query."""
    return set().union(*only_relevant(qrels).values())


def refuse_unanswered(qrels: Qrels, what: str) -> None:
    """Refuse labels by which nothing can be measured: no query of them has a relevant document.

    Args:
        qrels: The labels.
        what: What they are, for the message.

    Raises:
        DataError: None has.
    """
    if not answered(qrels):
        raise DataError(
            f"nothing can be measured on {what}: none of its {len(qrels)} queries has a document "
            "with a grade above 0; correct the grades, or measure on another split"
        )


def load_qrels(path: Path) -> Qrels:
    """Read labels: BEIR (header, then three tab-separated columns) or TREC (four columns).

    Raises:
        DataError: A line has other columns, the header can't be read whole, a grade is no number,
            or a pair stands twice with different grades.
    """
    qrels: Qrels = {}
    try:
        lines = path.read_text(encoding="utf-8-sig").split("\n")
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(
            f"can't read labels from {path}: {explain_unreadable(path, error)}"
        ) from error
    for number, cells in label_rows(enumerate(lines, start=1), path):
        if cells is None:
            raise DataError(
                f"{path}:{number}: expected query-id, corpus-id, score separated by tabs, "
                f"or the four columns of TREC; found {lines[number - 1][:80]!r}"
            )
        query_id, doc_id, text = cells
        grade = _grade(text, f"{path}:{number}")
        if qrels.setdefault(query_id, {}).setdefault(doc_id, grade) != grade:
            raise DataError(
                f"{path}:{number}: query {query_id!r} and document {doc_id!r} stand twice, "
                "with different grades"
            )
    if not qrels:
        raise DataError(f"{path} holds no labels; expected query-id, corpus-id, score")
    return qrels


def name_some(ids: Collection[str]) -> str:
    """Write a count with a few examples, for messages."""
    examples = ", ".join(repr(name) for name in sorted(ids)[:_EXAMPLES])
    return (
        f"{len(ids)} (such as {examples})" if len(ids) > _EXAMPLES else f"{len(ids)} ({examples})"
    )


def load_splits(folder: Path) -> dict[str, Qrels]:
    """Read every split that a qrels folder has, whether or not they go together.

    Raises:
        DataError: There is neither train nor test, one stands in two files or under a name that is
            not read, a line is malformed, or the folder can't be read.
    """
    try:
        return _load_splits(folder)
    except OSError as error:
        raise DataError(f"can't read labels in {folder}: {error.strerror or error}") from error


def _load_splits(folder: Path) -> dict[str, Qrels]:
    """Read every split; see :func:`load_splits`."""
    splits: dict[str, Qrels] = {}
    for name in SPLITS:
        found = [
            path for suffix in _QRELS_SUFFIXES if (path := folder / f"{name}{suffix}").exists()
        ]
        if len(found) > 1:
            raise DataError(f"split {name!r} stands in {found[0].name} and {found[1].name}")
        if found:
            splits[name] = load_qrels(found[0])
        else:
            _refuse_overlooked(folder, name)
    if "train" not in splits and "test" not in splits:
        raise DataError(f"no labels in {folder}; expected train.tsv, and test.tsv if there is one")
    return splits


def _refuse_overlooked(folder: Path, split: str) -> None:
    """Refuse a file that seems to be a split's and has another name: it would be left unread.

    Raises:
        DataError: With the name that it must have.
    """
    beside = [folder.parent / f"{split}{suffix}" for suffix in _QRELS_SUFFIXES]
    for path in [*unread_files(folder), *(beside if folder.name == "qrels" else ())]:
        if path.is_file() and _SPLIT_WORDS[split].search(path.name.lower()):
            raise DataError(
                f"{path} is not read: labels of the {split} split stand in {folder.name}/{split}"
                ".tsv, unpacked and with tabs; rename or convert it, or move it away"
            )


def names_a_split(name: str) -> bool:
    """Tell whether a file's name has a split's name in it, as a word."""
    return any(word.search(name.lower()) for word in _SPLIT_WORDS.values())


def unread_files(folder: Path) -> list[Path]:
    """Give the files of a qrels folder that are no split's, less those that systems hide there."""
    read = {f"{name}{suffix}" for name in SPLITS for suffix in _QRELS_SUFFIXES}
    found = sorted(folder.iterdir()) if folder.is_dir() else []
    return [
        path
        for path in found
        if path.name not in read and not path.name.startswith(".") and path.is_file()
    ]


def _grade(text: str, where: str) -> float:
    """Read a grade, which must be a finite number."""
    try:
        grade = read_number(text)
    except ValueError as error:
        raise DataError(f"{where}: grade {text!r} is not a number") from error
    if not math.isfinite(grade):
        raise DataError(f"{where}: grade {text!r} is not a finite number")
    return grade
