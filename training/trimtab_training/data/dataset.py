"""Datasets: texts and relevance labels in BEIR folders or TREC files, and splits where none exist.

Only labels are held in memory. Texts stay on disk and are read when somebody wants to see them.
"""

import hashlib
import json
from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

from trimtab_training.data.json_lines import is_synthetic, read_texts
from trimtab_training.data.qrels import Qrels, load_splits, refuse_unanswered
from trimtab_training.data.splits import is_near_share, refuse_shared_queries, split_qrels
from trimtab_training.errors import DataError


@dataclass(frozen=True)
class Dataset:
    """Queries, documents and which belong together.

    Attributes:
        name: Name for reports: the folder's.
        folder: Where ``corpus.jsonl`` and ``queries.jsonl`` are.
        splits: Relevance labels by split: ``train``, ``test`` and perhaps ``dev``.
        made_splits: How the test split was made, ``document`` or ``query``, or None where the data
            brought one.
        made_from: The split whose queries were divided into train and test, or None.
        synthetic: Ids of queries that an LLM wrote: those with ``metadata.synthetic`` in
            ``queries.jsonl``.
    """

    name: str
    folder: Path
    splits: dict[str, Qrels]
    made_splits: str | None = None
    synthetic: frozenset[str] = frozenset()
    made_from: str | None = None

    @classmethod
    def load(cls, folder: str | Path, *, split_by: str = "document") -> "Dataset":
        """Read a BEIR folder; its labels may also be TREC files.

        Where the folder has no test split, a fifth of its training queries becomes one. A test
        split without a train split stays whole; see :meth:`for_fit`.

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
        loaded = cls(path.resolve().name, path, splits, synthetic=_find_synthetic(path))
        loaded = loaded if "test" in splits else loaded._divide("train", split_by)
        refuse_shared_queries(loaded.splits)
        return loaded

    def for_fit(self, split_by: str = "document") -> "Dataset":
        """Give what a fit can use: where there is no train split, the test split is divided.

        A fifth of its queries stays the test split, the others are trained on.

        Args:
            split_by: How, as for :meth:`load`.

        Raises:
            DataError: There are too few queries, or they hang together.
        """
        return self if "train" in self.splits else self._divide("test", split_by)

    def _divide(self, split: str, by: str) -> "Dataset":
        """Make a train and a test split of one."""
        made = split_qrels(self.splits[split], by=by)
        return replace(self, splits={**self.splits, **made}, made_splits=by, made_from=split)

    def tell_made(self) -> str:
        """Say in a sentence which split was made, and how; empty where the data brought both."""
        if not self.made_from:
            return ""
        lacking = "test" if self.made_from == "train" else "train"
        n_train, n_test = len(self.splits["train"]), len(self.splits["test"])
        return (
            f"no {lacking} split in {self.folder}: {n_test:,} of the {n_train + n_test:,} "
            f"{self.made_from} queries are tested on, the others trained on, split by "
            f"{self.made_splits}{self._tell_share(n_test, n_train + n_test)}"
        )

    def _tell_share(self, n_test: int, n_all: int) -> str:
        """Say where a made test split is far from a fifth, and what makes it one."""
        if self.made_splits != "document" or is_near_share(n_test, n_all):
            return ""
        return (
            ". That is no fifth, as many queries hang together by their documents: split_by = "
            '"query" in a recipe makes it one'
        )

    def split(self, name: str) -> Qrels:
        """Give one split's labels.

        Raises:
            DataError: The dataset has no such split.
        """
        if name not in self.splits:
            have = ", ".join(sorted(self.splits))
            advice = "; Dataset.for_fit divides the test split" if name == "train" else ""
            raise DataError(f"dataset {self.name} has no split {name!r}; it has: {have}{advice}")
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
