"""Labels written in other people's formats, as their tools write them."""

import csv
import gzip
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pyarrow as arrow
from pyarrow import parquet

from tests.support.sets import Labels


def write_rows(path: Path, rows: Sequence[Mapping[str, Any]]) -> Path:
    """Write rows in the format that the name tells; CSV and TSV cells hold lists as JSON."""
    path.parent.mkdir(parents=True, exist_ok=True)
    kind = path.name.removesuffix(".gz").rpartition(".")[2]
    if kind == "parquet":
        parquet.write_table(arrow.Table.from_pylist([dict(row) for row in rows]), path)
        return path
    lines = "".join(json.dumps(row) + "\n" for row in rows)
    if kind == "json":
        lines = json.dumps(list(rows), indent=1)
    if kind in {"csv", "tsv"}:
        with path.open("w", newline="", encoding="utf-8") as file:
            tab = {"delimiter": "\t", "quoting": csv.QUOTE_NONE, "quotechar": None}
            writer = csv.writer(file, **(tab if kind == "tsv" else {}))  # type: ignore[arg-type]
            writer.writerow(rows[0])
            for row in rows:
                writer.writerow(
                    json.dumps(cell) if isinstance(cell, list) else cell for cell in row.values()
                )
        return path
    path.write_bytes(gzip.compress(lines.encode()) if path.suffix == ".gz" else lines.encode())
    return path


def write_trec(
    folder: Path,
    queries: Mapping[str, str],
    documents: Mapping[str, str],
    splits: Mapping[str, Labels],
) -> tuple[Path, Path]:
    """Write judgements by split, and topics and a collection as TREC tags them."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, labels in splits.items():
        lines = [
            f"{query} 0 {doc} {grade:g}\n"
            for query, of in labels.items()
            for doc, grade in of.items()
        ]
        (folder / f"{name}.qrels").write_text("".join(lines), encoding="utf-8")
    topics, collection = folder / "topics.sgml", folder / "collection.sgml"
    topics.write_text(
        "".join(
            f"<top>\n<num> Number: {name}\n<title> {_escape(text)}\n\n<desc> Description:\nOther\n"
            "</top>\n\n"
            for name, text in queries.items()
        ),
        encoding="utf-8",
    )
    collection.write_text(
        "".join(
            f"<DOC>\n<DOCNO> {name} </DOCNO>\n<TEXT>\n{_escape(text)}\n</TEXT>\n</DOC>\n"
            for name, text in documents.items()
        ),
        encoding="utf-8",
    )
    return topics, collection


def write_llama_index(
    path: Path, queries: Mapping[str, str], documents: Mapping[str, str], labels: Labels
) -> Path:
    """Write a QA dataset as LlamaIndex saves it: relevant documents have no grades."""
    record = {
        "queries": {name: queries[name] for name in labels},
        "corpus": dict(documents),
        "relevant_docs": {query: list(of) for query, of in labels.items()},
        "mode": "text",
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(record, indent=4), encoding="utf-8")
    return path


def _escape(text: str) -> str:
    """Escape what tags are made of."""
    return text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
