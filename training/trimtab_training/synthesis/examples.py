"""The user's own examples of real queries, out of a text file, JSON Lines, or a BEIR folder."""

from pathlib import Path

from trimtab_training.data.dataset import Dataset
from trimtab_training.data.json_lines import parse_object, text_lines
from trimtab_training.data.qrels import load_splits, relevant
from trimtab_training.errors import DataError
from trimtab_training.synthesis.styles import Example

_WANTED = "a JSON object with 'query' and perhaps 'document'"
_MOST_DOCUMENT_CHARACTERS = 400  # of an example: it is shown with every document


def load_examples(path: Path) -> tuple[Example, ...]:
    """Read real queries, with their documents where these are known.

    Args:
        path: A text file of one query a line; JSON Lines of ``query`` (or ``text``) and perhaps
            ``document``; or a BEIR folder, whose train split gives queries and documents: never
            its test split, which is to measure by.

    Raises:
        DataError: It is missing, malformed or empty.
    """
    if path.is_dir():
        examples = _from_dataset(path)
    else:
        is_json = path.suffix in {".jsonl", ".ndjson"}
        examples = [
            _from_json(line, where) if is_json else Example(line)
            for where, line in text_lines(path)
        ]
    if not examples:
        raise DataError(f"{path} holds no examples; expected one real query a line")
    return tuple(examples)


def _from_json(line: str, where: str) -> Example:
    """Read one line of JSON."""
    record = parse_object(line, where, _WANTED)
    query, document = record.get("query", record.get("text")), record.get("document", "")
    if not isinstance(query, str) or not query.strip() or not isinstance(document, str):
        raise DataError(f"{where}: expected {_WANTED}")
    return Example(query.strip(), document.strip()[:_MOST_DOCUMENT_CHARACTERS])


def _from_dataset(folder: Path) -> list[Example]:
    """Take queries and their documents from a dataset's train split."""
    splits = load_splits(folder / "qrels")
    if "train" not in splits or len(splits) == 1:
        raise DataError(
            f"{folder} has only one split, which may be measured on; give examples as a file of "
            "queries that are not"
        )
    dataset = Dataset(folder.name, folder, splits)
    pairs = {query: next(iter(relevant(labels)), "") for query, labels in splits["train"].items()}
    queries = dataset.query_texts(pairs)
    documents = dataset.document_texts(set(pairs.values()))
    return [
        Example(queries[query].strip(), documents.get(doc_id, "")[:_MOST_DOCUMENT_CHARACTERS])
        for query, doc_id in pairs.items()
        if queries.get(query, "").strip()
    ]
