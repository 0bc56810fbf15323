"""Real queries about the same corpus: kept for what they alone can do, to measure by."""

import json
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from trimtab_training.data.json_lines import is_synthetic, parse_text, text_lines
from trimtab_training.data.qrels import Qrels, load_splits, name_some, relevant_documents
from trimtab_training.data.splits import refuse_shared_queries, split_qrels
from trimtab_training.errors import DataError

RealSplit = Literal["keep", "test", "divide"]


@dataclass(frozen=True)
class RealQueries:
    """Real queries with their labels.

    Attributes:
        splits: Labels by split; at least ``test``.
        lines: The query file's lines as they stand there, by query id.
        texts: The queries' texts by id.
    """

    splits: dict[str, Qrels]
    lines: dict[str, str]
    texts: dict[str, str]

    @classmethod
    def load(cls, folder: Path, *, split: RealSplit, corpus_ids: Collection[str]) -> "RealQueries":
        """Read them out of a BEIR folder; queries in it that a model wrote are left out.

        Args:
            folder: The folder.
            split: ``keep`` their splits, and where there is only one, all become ``test``; all to
                ``test``; or ``divide`` a single one: a fifth, by document, becomes ``test``, the
                rest ``train``.
            corpus_ids: Ids of the corpus.

        Raises:
            DataError: Malformed, no real query, or a label about a document that the corpus lacks.
        """
        if not folder.is_dir():
            raise DataError(f"no dataset folder at {folder}; expected a BEIR folder with qrels/")
        all_lines = dict(_read_lines(folder / "queries.jsonl"))
        lines = {query: line for query, line in all_lines.items() if line is not None}
        every_split = load_splits(folder / "qrels")
        refuse_shared_queries(every_split)
        textless = {q for qrels in every_split.values() for q in qrels} - all_lines.keys()
        if textless:
            raise DataError(
                f"{name_some(textless)} labelled queries are not in {folder / 'queries.jsonl'}"
            )
        splits = _only(every_split, lines)
        if not splits:
            raise DataError(f"{folder} has no labelled real queries; check --real")
        labelled = {d for qrels in splits.values() for labels in qrels.values() for d in labels}
        strangers = labelled - set(corpus_ids)
        if strangers:
            raise DataError(
                f"{name_some(strangers)} documents that {folder} labels are not in the corpus; "
                "--real must be about the same corpus"
            )
        merged = {query: labels for qrels in splits.values() for query, labels in qrels.items()}
        if split == "divide" and len(splits) == 1:
            splits = split_qrels(merged, by="document")
        elif split == "test" or len(splits) == 1:
            splits = {"test": merged}
        kept = {query: lines[query] for query in merged}
        texts = {query: json.loads(line).get("text") or "" for query, line in kept.items()}
        return cls(splits, kept, texts)

    def held_out_documents(self) -> set[str]:
        """Give the documents that real test and dev queries are about."""
        return {
            doc_id
            for name in ("dev", "test")
            for doc_id in relevant_documents(self.splits.get(name, {}))
        }


def _only(splits: dict[str, Qrels], lines: Collection[str]) -> dict[str, Qrels]:
    """Keep the labels of some queries, and the splits that still have any."""
    kept = {
        name: {query: labels for query, labels in qrels.items() if query in lines}
        for name, qrels in splits.items()
    }
    return {name: qrels for name, qrels in kept.items() if qrels}


def _read_lines(path: Path) -> Iterator[tuple[str, str | None]]:
    """Yield every query's id and line; None for the line of one that a model wrote."""
    for where, line in text_lines(path):
        record = parse_text(line, where)
        yield record["_id"], None if is_synthetic(record) else line
