"""Documents that are objects: what they hold under the usual names, in any case of letters."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from trimtab_training.data.importers.columns import SUMMARIES, is_missing, plain_key
from trimtab_training.data.importers.texts import (
    Text,
    Unusable,
    as_name,
    as_text,
    one_value,
    refuse_missing,
)
from trimtab_training.data.importers.titles import count_words, may_be_text
from trimtab_training.errors import DataError

_ID_NAMES = ("_id", "id", "docid", "doc_id", "document_id", "passage_id", "pid")
_TITLE_NAMES = ("title",)
_TEXT_NAMES = (
    "text", "contents", "content", "body", "passage", "passage_text", "document_text",
    "page_content",
)  # fmt: skip


def is_id(key: str) -> bool:
    """Tell a key under which an object has its id."""
    return plain_key(key) in _ID_NAMES


def has_text(value: Mapping[str, Any]) -> bool:
    """Tell an object that has a text under one of the usual names."""
    return any(isinstance(of, str) and plain_key(key) in _TEXT_NAMES for key, of in value.items())


def as_document(value: Any) -> Text:
    """Take a document: a text, or an object with text and perhaps title and id.

    Raises:
        Unusable: It is neither, or has no text at all.
    """
    if isinstance(value, dict):
        name = _value_under(value, _ID_NAMES)
        body = _value_under(value, _TEXT_NAMES)
        if body is None:
            body = _value_under(value, SUMMARIES)
        document = Text(
            as_text(body, "document"),
            as_text(_value_under(value, _TITLE_NAMES), "title"),
            None if name is None else as_name(name, "document id"),
        )
    else:
        document = Text(as_text(value, "document"))
    if not document.joined and document.name is None:
        raise Unusable("empty document")
    if not document.title:
        refuse_missing(document.text, "document")
    return document


def unused_keys(objects: Iterable[Mapping[str, Any]]) -> list[str]:
    """Name the keys that hold something in one of several documents, and that none makes use of."""
    filled, used = dict[str, None](), set[str]()
    for one in objects:
        filled |= dict.fromkeys(key for key, value in one.items() if not _is_empty(value))
        used.update(_keys_under(one, _ID_NAMES), _keys_under(one, _TITLE_NAMES), _text_keys(one))
    return [key for key in filled if key not in used]


def refuse_unknown_texts(objects: Sequence[Mapping[str, Any]], name: str, where: str) -> None:
    """Refuse documents without a text under a usual name, of which another key may hold it.

    Such a key has more words than the title, mostly different ones, and never stands beside a text.

    Args:
        objects: The documents of a file's first rows.
        name: Their column.
        where: The file, for the message.

    Raises:
        DataError: With that key; or where all documents are ids alone.
    """
    textless = [one for one in objects if not _text_keys(one)]
    beside = {key for one in objects if _text_keys(one) for key, _ in _texts(one)}
    titles, others = list[str](), dict[str, list[str]]()
    for key, text in (found for one in textless for found in _texts(one)):
        if plain_key(key) in _TITLE_NAMES:
            titles.append(text)
        elif key not in beside and not is_id(key):
            others.setdefault(key, []).append(text)
    n_words = {
        key: count_words(texts)
        for key, texts in others.items()
        if 2 * len(set(texts)) > len(set(titles)) and may_be_text(key, sorted(set(texts)))
    }
    key = max(n_words, key=n_words.__getitem__, default="")
    if n_words.get(key, 0) > count_words(titles):
        raise DataError(
            f"{where}: {key!r} could be the text of objects in {name!r}, which have none under a "
            "name that is known: call it text in them if it is, take it out if it is not; or give "
            "the texts of their ids with --corpus FILE"
        )
    if textless and len(textless) == len(objects) and not any(titles):
        raise DataError(
            f"{where}: the objects in {name!r} have no text: give the texts of their ids with "
            "--corpus FILE"
        )


def _value_under(record: Mapping[str, Any], names: Sequence[str]) -> Any:
    """Give what an object has under one of several usual names, or None; empty values are none.

    Raises:
        Unusable: It has different values under two of them.
    """
    return one_value({key: record[key] for key in _keys_under(record, names)}, "document")


def _text_keys(record: Mapping[str, Any]) -> list[str]:
    """Give the keys of a document's text: of its summary, where it has no other."""
    return _keys_under(record, _TEXT_NAMES) or _keys_under(record, SUMMARIES)


def _keys_under(record: Mapping[str, Any], names: Sequence[str]) -> list[str]:
    """Give the keys that hold something and are usual names, the best name first."""
    found = [key for key in record if plain_key(key) in names and not _is_empty(record[key])]
    return sorted(found, key=lambda key: names.index(plain_key(key)))


def _is_empty(value: Any) -> bool:
    """Tell what says nothing, blanks alone among it."""
    return is_missing(value.strip() if isinstance(value, str) else value) or value in ([], {})


def _texts(value: Any, path: str = "") -> Iterator[tuple[str, str]]:
    """Yield every text of an object with its key; ``_source.text`` where it is in another one."""
    if isinstance(value, Mapping):
        for key, of in value.items():
            yield from _texts(of, f"{path}.{key}" if path else str(key))
    elif isinstance(value, list):
        for of in value:
            yield from _texts(of, path)
    elif isinstance(value, str):
        yield path, value
