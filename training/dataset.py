"""Datasets: texts and relevance labels in BEIR folders or TREC files, and splits where none exist.

Only labels are held in memory. Texts stay on disk and are read when somebody wants to see them.
"""

import hashlib
import json
import math
from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from training.errors import DataError

Qrels = dict[str, dict[str, float]]
"""``{query_id: {doc_id: grade}}``; a grade of 0 or less is a judged non-relevant document."""

SPLITS = ("train", "dev", "test")
MIN_DEV_QUERIES = 100
"""Held-out queries that judge alone; the mean of ten says more of the ten than of an adapter."""
_TREC_FIELDS = 4
_QRELS_SUFFIXES = (".tsv", ".qrels", ".trec", ".txt")
_EXAMPLES = 3
_HEADERS = {"query-id", "query_id", "queryid", "query", "qid"}


@dataclass(frozen=True)
class Dataset:
    """Queries, documents and which belong together.

    Attributes:
        name: Name for reports: the folder's.
        folder: Where ``corpus.jsonl`` and ``queries.jsonl`` are.
        splits: Relevance labels by split: ``train``, ``test`` and perhaps ``dev``.
        made_splits: How the test split was made, or None where the data brought one.
        synthetic: Ids of queries that an LLM wrote: those with ``metadata.synthetic`` in
            ``queries.jsonl``.
    """

    name: str
    folder: Path
    splits: dict[str, Qrels]
    made_splits: str | None = None
    synthetic: frozenset[str] = frozenset()

    @classmethod
    def load(cls, folder: str | Path, *, split_by: str = "document") -> "Dataset":
        """Read a BEIR folder; its labels may also be TREC files.

        Where the folder has no test split, a fifth of its labelled queries becomes one.

        Args:
            folder: Holds ``corpus.jsonl``, ``queries.jsonl`` and ``qrels/SPLIT.tsv``.
            split_by: How a missing test split is made: ``document`` keeps all queries that share
                a relevant document on one side, ``query`` splits queries alone.

        Raises:
            DataError: No folder, no labels, a malformed line, or a query in two splits.
        """
        path = Path(folder)
        if not path.is_dir():
            raise DataError(f"no dataset folder at {path}; expected a BEIR folder with qrels/")
        splits = load_splits(path / "qrels")
        made_splits = None
        if "test" not in splits or "train" not in splits:
            merged = splits.get("train") or splits.get("test") or {}
            splits = {**splits, **split_qrels(merged, by=split_by)}
            made_splits = split_by
        refuse_shared_queries(splits)
        return cls(path.resolve().name, path, splits, made_splits, _find_synthetic(path))

    def split(self, name: str) -> Qrels:
        """Give one split's labels.

        Raises:
            DataError: The dataset has no such split.
        """
        if name not in self.splits:
            have = ", ".join(sorted(self.splits))
            raise DataError(f"dataset {self.name} has no split {name!r}; it has: {have}")
        return self.splits[name]

    def iter_documents(self) -> Iterator[tuple[str, str]]:
        """Yield every document's id and text, title first, in file order."""
        for record in _read_jsonl(self.folder / "corpus.jsonl"):
            yield record["_id"], f"{record['title'] or ''} {record['text'] or ''}".strip()

    def iter_queries(self) -> Iterator[tuple[str, str]]:
        """Yield every query's id and text, in file order."""
        for record in _read_jsonl(self.folder / "queries.jsonl"):
            yield record["_id"], record["text"] or ""

    def document_texts(self, doc_ids: Collection[str]) -> dict[str, str]:
        """Read the texts of some documents; without a corpus file there are none."""
        return _pick(self.folder / "corpus.jsonl", self.iter_documents, doc_ids)

    def query_texts(self, query_ids: Collection[str]) -> dict[str, str]:
        """Read the texts of some queries; without a query file there are none."""
        return _pick(self.folder / "queries.jsonl", self.iter_queries, query_ids)

    def content_hash(self) -> str:
        """Digest the labels of every split and which queries are synthetic, in any order."""
        digest = hashlib.sha256()
        for name, qrels in sorted(self.splits.items()):
            digest.update(json.dumps([name, qrels], sort_keys=True).encode())
        if self.synthetic:
            digest.update(json.dumps(sorted(self.synthetic)).encode())
        return f"sha256:{digest.hexdigest()}"


def relevant(labels: dict[str, float]) -> dict[str, float]:
    """Keep the documents of one query that are relevant: those with a grade above 0."""
    return {doc_id: grade for doc_id, grade in labels.items() if grade > 0}


def relevant_documents(qrels: Qrels) -> set[str]:
    """Gather every document that is relevant to some query."""
    return {doc_id for labels in qrels.values() for doc_id in relevant(labels)}


def load_qrels(path: Path) -> Qrels:
    """Read labels: BEIR (header, then three tab-separated columns) or TREC (four columns).

    Raises:
        DataError: A line has other columns, a grade is no number, or a pair stands twice with
            different grades.
    """
    qrels: Qrels = {}
    try:
        lines = path.read_text(encoding="utf-8-sig").split("\n")
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"can't read labels from {path}: {error}") from error
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        query_id, doc_id, text = _columns(line, f"{path}:{number}")
        if number == 1 and query_id.lower() in _HEADERS:
            continue
        grade = _grade(text, f"{path}:{number}")
        if qrels.setdefault(query_id, {}).setdefault(doc_id, grade) != grade:
            raise DataError(
                f"{path}:{number}: query {query_id!r} and document {doc_id!r} stand twice, "
                "with different grades"
            )
    if not qrels:
        raise DataError(f"{path} holds no labels; expected query-id, corpus-id, score")
    return qrels


def split_qrels(
    qrels: Qrels, *, by: str, test_share: float = 0.2, key: str = "test"
) -> dict[str, Qrels]:
    """Split labels into train and test by a stable hash, whatever their order.

    Args:
        qrels: Labels of all queries.
        by: ``document`` keeps all queries that share a relevant document, directly or through
            others, on one side, so that no relevant test document was seen in training;
            ``query`` splits queries alone.
        test_share: Share of the test split, from 0 to 1.
        key: Makes another split of the same labels.

    Raises:
        DataError: A side would be empty.
    """
    if by not in {"document", "query"}:
        raise DataError(f"can't split by {by!r}; expected 'document' or 'query'")
    groups = group_by_document(qrels) if by == "document" else {query: query for query in qrels}
    test = {query: qrels[query] for query in qrels if unit_hash(groups[query], key) < test_share}
    train = {query: qrels[query] for query in qrels if query not in test}
    if not test or not train:
        raise DataError(
            f"{len(qrels)} queries can't be split by {by} into train and test "
            f"({len(train)} and {len(test)}); add queries, or split by "
            f"{'query' if by == 'document' else 'document'}"
        )
    return {"train": train, "test": test}


def group_by_document(qrels: Qrels) -> dict[str, str]:
    """Name for every query the group of queries that it shares relevant documents with.

    Returns:
        ``{query_id: group}``, where queries have one group if a chain of shared relevant
        documents joins them; a group is named by its least query id.
    """
    parent = {query: query for query in qrels}

    def find(query: str) -> str:
        while parent[query] != query:
            parent[query] = parent[parent[query]]
            query = parent[query]
        return query

    first_with: dict[str, str] = {}
    for query, labels in qrels.items():
        for doc_id in relevant(labels):
            one, other = find(query), find(first_with.setdefault(doc_id, query))
            parent[max(one, other)] = min(one, other)
    return {query: find(query) for query in qrels}


def unit_hash(text: str, key: str) -> float:
    """Map a text to a number in [0, 1) that never changes."""
    digest = hashlib.sha256(f"{key}\x00{text}".encode()).digest()
    return int.from_bytes(digest[:8], "big") / 2**64


def name_some(ids: Collection[str]) -> str:
    """Write a count with a few examples, for messages."""
    examples = ", ".join(repr(name) for name in sorted(ids)[:_EXAMPLES])
    return (
        f"{len(ids)} (such as {examples})" if len(ids) > _EXAMPLES else f"{len(ids)} ({examples})"
    )


def load_splits(folder: Path) -> dict[str, Qrels]:
    """Read every split that a qrels folder has, whether or not they go together.

    Raises:
        DataError: There is neither train nor test, one stands in two files, or a line is malformed.
    """
    splits: dict[str, Qrels] = {}
    for name in SPLITS:
        found = [
            path for suffix in _QRELS_SUFFIXES if (path := folder / f"{name}{suffix}").exists()
        ]
        if len(found) > 1:
            raise DataError(f"split {name!r} stands in {found[0].name} and {found[1].name}")
        if found:
            splits[name] = load_qrels(found[0])
    if "train" not in splits and "test" not in splits:
        raise DataError(f"no labels in {folder}; expected train.tsv, and test.tsv if there is one")
    return splits


def _find_synthetic(folder: Path) -> frozenset[str]:
    """Name the queries that are marked as written by an LLM; without a query file, none."""
    path = folder / "queries.jsonl"
    if not path.exists():
        return frozenset()
    return frozenset(
        record["_id"]
        for record in _read_jsonl(path)
        if isinstance(record.get("metadata"), dict) and record["metadata"].get("synthetic") is True
    )


def refuse_shared_queries(splits: dict[str, Qrels]) -> None:
    """Refuse a query that stands in two splits: it would be trained on and tested.

    Raises:
        DataError: There is one.
    """
    for position, one in enumerate(SPLITS):
        for other in SPLITS[position + 1 :]:
            shared = set(splits.get(one, {})) & set(splits.get(other, {}))
            if shared:
                raise DataError(
                    f"{name_some(shared)} queries stand in both {one} and {other}; "
                    "keep each query in one split"
                )


def _grade(text: str, where: str) -> float:
    """Read a grade, which must be a finite number."""
    try:
        grade = float(text)
    except ValueError as error:
        raise DataError(f"{where}: grade {text!r} is not a number") from error
    if not math.isfinite(grade):
        raise DataError(f"{where}: grade {text!r} is not a finite number")
    return grade


def _columns(line: str, where: str) -> tuple[str, str, str]:
    """Take query, document and grade from a BEIR or TREC line."""
    tabbed = line.split("\t")
    if len(tabbed) == _TREC_FIELDS - 1:
        return tabbed[0].strip(), tabbed[1].strip(), tabbed[2].strip()
    spaced = line.split()
    if len(spaced) == _TREC_FIELDS:
        return spaced[0], spaced[2], spaced[3]
    raise DataError(
        f"{where}: expected query-id, corpus-id, score separated by tabs, "
        f"or the four columns of TREC; found {line[:80]!r}"
    )


def _read_jsonl(path: Path) -> Iterator[dict[str, Any]]:
    """Yield the objects of a JSON Lines file; each must have an ``_id``."""
    try:
        with path.open(encoding="utf-8-sig") as lines:
            for number, line in enumerate(lines, start=1):
                if line.strip():
                    yield parse_record(line, f"{path}:{number}")
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"can't read {path}: {error}") from error


def parse_record(line: str, where: str) -> dict[str, Any]:
    """Parse one line of a JSON Lines file."""
    try:
        record = json.loads(line)
    except ValueError as error:
        raise DataError(f"{where}: not JSON: {error}") from error
    if not isinstance(record, dict) or not isinstance(record.get("_id"), str):
        raise DataError(f"{where}: expected a JSON object with a text '_id'")
    for key in ("title", "text"):
        if not isinstance(record.setdefault(key, ""), str | None):
            raise DataError(f"{where}: {key!r} is {record[key]!r}, expected a text")
    return record


def _pick(
    path: Path, read: Callable[[], Iterator[tuple[str, str]]], wanted: Collection[str]
) -> dict[str, str]:
    """Read the texts of some ids from a file, if the file is there."""
    if not path.exists() or not wanted:
        return {}
    names = set(wanted)
    return {name: text for name, text in read() if name in names}
