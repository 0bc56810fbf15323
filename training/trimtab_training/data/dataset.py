"""Datasets: texts and relevance labels in BEIR folders or TREC files, and splits where none exist.

Only labels are held in memory. Texts stay on disk and are read when somebody wants to see them.
"""

import hashlib
import json
from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass
from pathlib import Path

from trimtab_training.data.json_lines import is_synthetic, read_texts
from trimtab_training.data.qrels import Qrels, load_splits, refuse_unanswered
from trimtab_training.data.splits import refuse_shared_queries, split_qrels
from trimtab_training.errors import DataError


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

    def measurable_split(self, name: str) -> Qrels:
        """Give one split's labels, to measure by.

        Raises:
            DataError: The dataset has no such split, or no query of it has a relevant document.
        """
        qrels = self.split(name)
        refuse_unanswered(qrels, f"the {name} split of {self.name}")
        return qrels

    def iter_documents(self) -> Iterator[tuple[str, str]]:
        """Yield every document's id and text, title first, in file order."""
        for record in read_texts(self.folder / "corpus.jsonl"):
            yield record["_id"], f"{record['title'] or ''} {record['text'] or ''}".strip()

    def iter_queries(self) -> Iterator[tuple[str, str]]:
        """Yield every query's id and text, in file order."""
        for record in read_texts(self.folder / "queries.jsonl"):
            yield record["_id"], record["text"] or ""

    def check_documents(self) -> None:
        """Read every document's text once, where there are any; queries were read on loading.

        Raises:
            DataError: The file can't be read, or a line is malformed.
        """
        if (self.folder / "corpus.jsonl").exists():
            for _ in self.iter_documents():
                pass

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


def _find_synthetic(folder: Path) -> frozenset[str]:
    """Name the queries that are marked as written by an LLM; without a query file, none."""
    path = folder / "queries.jsonl"
    if not path.exists():
        return frozenset()
    return frozenset(record["_id"] for record in read_texts(path) if is_synthetic(record))


def _pick(
    path: Path, read: Callable[[], Iterator[tuple[str, str]]], wanted: Collection[str]
) -> dict[str, str]:
    """Read the texts of some ids from a file, if the file is there."""
    if not path.exists() or not wanted:
        return {}
    names = set(wanted)
    return {name: text for name, text in read() if name in names}
