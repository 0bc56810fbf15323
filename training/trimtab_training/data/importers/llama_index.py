"""LlamaIndex's QA datasets: one JSON object of queries, corpus and relevant documents.

Source:
    run-llama/llama_index, ``EmbeddingQAFinetuneDataset.save_json`` in
    llama_index/finetuning/embeddings/common.py.
"""

from itertools import islice
from pathlib import Path
from typing import Any

from trimtab_training.data.importers.json_rows import load_json
from trimtab_training.data.importers.settings import ImportSettings
from trimtab_training.data.importers.sources import files_by_split, left_aside
from trimtab_training.data.importers.texts import Text, Unusable, as_filled_text, as_name
from trimtab_training.data.importers.understood import N_EXAMPLES, SAMPLE_ROWS, Reading
from trimtab_training.data.importers.writer import DatasetWriter
from trimtab_training.data.qrels import SPLITS
from trimtab_training.errors import DataError

_PARTS = ("queries", "corpus", "relevant_docs")
_KINDS = {"query": "queries", "document": "documents"}


def import_llama_index(source: Path, writer: DatasetWriter, settings: ImportSettings) -> None:
    """Read one file, or a folder of train, val and test files; places count a file's entries.

    Raises:
        DataError: A file is not such a dataset.
    """
    files = files_by_split(source, SPLITS.index(settings.split))
    notes = [f"left aside: {name}" for name in left_aside(source, files)]
    for split, path in files:
        parts = _load(path)
        _show(path, parts, writer, notes)
        notes = []
        place = writer.tally.open(path)
        taken = {
            word: _add_texts(writer, path, word, parts[part])
            for word, part in (("document", "corpus"), ("query", "queries"))
        }
        for number, (name, wanted) in enumerate(parts["relevant_docs"].items(), start=1):
            _add_labels(writer, (split, name, wanted), place + number, taken)


def _load(path: Path) -> dict[str, dict[str, Any]]:
    """Read a file and check its parts."""
    value = load_json(path)
    if not isinstance(value, dict) or not all(isinstance(value.get(key), dict) for key in _PARTS):
        raise DataError(
            f"{path} is not a LlamaIndex QA dataset; expected a JSON object with "
            f"{', '.join(_PARTS)}, each an object"
        )
    return value


def _show(
    path: Path, parts: dict[str, dict[str, Any]], writer: DatasetWriter, notes: list[str]
) -> None:
    """Tell how a file is understood."""
    head = list(islice(parts["relevant_docs"].items(), SAMPLE_ROWS))
    examples = [
        {
            "query": {"_id": query, "text": parts["queries"].get(query)},
            "documents": [
                {"_id": name, "text": parts["corpus"].get(str(name)), "grade": 1.0}
                for name in (wanted if isinstance(wanted, list) else [])
            ],
        }
        for query, wanted in head[:N_EXAMPLES]
    ]
    grades = [1.0 for _, wanted in head if isinstance(wanted, list) for _ in wanted]
    columns = {"query": ("queries",), "document": ("corpus",), "relevant": ("relevant_docs",)}
    writer.understood.file(
        Reading(
            path.name,
            "a LlamaIndex QA dataset",
            columns,
            [key for key in parts if key not in _PARTS],
            len(head),
            examples,
            grades,
            notes=notes,
        )
    )


def _add_texts(writer: DatasetWriter, path: Path, word: str, texts: dict[str, Any]) -> set[str]:
    """Keep a file's queries or documents; give the ids that are texts' of an earlier file."""
    table = writer.queries if word == "query" else writer.documents
    start, taken, kind = writer.tally.open(path), set[str](), _KINDS[word]
    with writer.tally.reading(kind):
        for place, (name, value) in enumerate(texts.items(), start=start + 1):
            writer.tally.row()
            try:
                text = Text(as_filled_text(value, word), "", as_name(name, f"{word} id"))
                if table.has_other(text):
                    taken.add(text.name or "")
                    writer.taken.refuse(word, text.name or "", place, has_option=False)
                (writer.add_query if word == "query" else writer.add_document)(text, place)
            except Unusable as reason:
                writer.tally.drop(str(reason), place)
        writer.taken.check(path, len(texts), kind, has_option=False)
    return taken


def _add_labels(
    writer: DatasetWriter, label: tuple[int, str, Any], place: int, taken: dict[str, set[str]]
) -> None:
    """Keep the relevant documents of one query: split, query and documents, each by itself."""
    split, name, wanted = label
    if not isinstance(wanted, list) or not wanted:
        writer.tally.row()
        if wanted != []:
            writer.tally.drop("relevant_docs of a query is not a list", place)
        return
    for one in wanted:
        writer.tally.row()
        try:
            query, document = (
                _as_own_name(name, "query", taken),
                _as_own_name(one, "document", taken),
            )
        except Unusable as reason:
            writer.tally.drop(str(reason), place)
            continue
        numbers = writer.queries.number(query), writer.documents.number(document)
        writer.labels.add(split, *numbers, 1.0, place)


def _as_own_name(value: Any, word: str, taken: dict[str, set[str]]) -> str:
    """Take an id of a label, which must not be that of another file's text."""
    name = as_name(value, f"{word} id")
    if name in taken[word]:
        raise Unusable(f"another text already has the label's {word} id")
    return name
