"""Which column holds what: found by the usual names, or as told."""

import math
import re
from collections.abc import Iterable, Mapping
from functools import lru_cache
from typing import Any

from trimtab_training.data.importers.texts import Unreadable, Unusable
from trimtab_training.data.label_lines import read_number
from trimtab_training.errors import ConfigError, DataError

Columns = dict[str, tuple[str, ...]]
"""The columns of every role that a file has; only some roles may have several."""

PAIR_ROLES: dict[str, tuple[str, ...]] = {
    "query": (
        "query", "anchor", "question", "text1", "text_1", "sentence1", "sentence_1", "sentence_a",
        "query_text", "search_query", "premise",
    ),
    "document": (
        "positive", "pos", "positives", "positive_passages", "positive_ctxs", "answer", "document",
        "doc", "passage", "context", "response", "text2", "text_2", "sentence2", "sentence_2",
        "sentence_b", "document_text", "passage_text", "hypothesis",
    ),
    "negative": (),
    "score": (
        "score", "label", "relevance", "grade", "similarity", "similarity_score", "rating",
        "scores", "labels", "relevances", "grades", "similarities", "ratings",
    ),
    "query_id": ("query_id", "qid", "q_id", "question_id"),
    "document_id": ("document_id", "doc_id", "docid", "corpus_id", "passage_id", "pid", "p_id"),
}  # fmt: skip
CLICK_ROLES: dict[str, tuple[str, ...]] = {
    "query": ("query", "query_text", "search_query", "q", "question"),
    "query_id": ("query_id", "qid", "q_id"),
    "shown": ("shown", "shown_ids", "results", "result_ids", "impressions", "documents"),
    "ranks": ("ranks", "positions"),
    "clicked": ("clicked", "clicked_ids", "clicks", "click", "is_clicked"),
    "dwell": ("dwell", "dwell_s", "dwell_time", "dwell_time_s"),
    "time": (
        "time",
        "timestamp",
        "time_stamp",
        "_timestamp",
        "ts",
        "date",
        "datetime",
        "date_time",
        "created_at",
        "event_time",
        "event_timestamp",
        "search_time",
        "query_time",
        "request_time",
        "occurred_at",
        "originaltimestamp",
        "original_timestamp",
        "logged_at",
        "received_at",
        "sent_at",
        "collector_tstamp",
    ),
    "document": ("document_id", "doc_id", "docid", "document", "doc", "result_id", "item_id"),
    "rank": ("rank", "position"),
    "page": (
        "page", "page_number", "page_no", "page_index", "result_page", "results_page", "start",
        "offset",
    ),
    "search": ("search_id", "impression_id", "request_id", "serp_id"),
    "session": ("session_id", "session", "user_id", "user", "visitor_id", "client_id"),
}  # fmt: skip
TEXT_ROLES: dict[str, tuple[str, ...]] = {
    "id": (
        "_id", "id", "docid", "doc_id", "document_id", "query_id", "qid", "q_id", "passage_id",
        "pid", "p_id", "number", "docno", "doc_no", "question_id", "topic_id", "corpus_id",
        "topicid", "topic",
    ),
    "title": ("title",),
    "text": (
        "text", "contents", "content", "body", "passage", "query", "question", "document", "title",
    ),
}  # fmt: skip
SUMMARIES = ("abstract", "description", "summary")  # a document's text where it has no other
DOCUMENT_ROLES = {
    **TEXT_ROLES,
    "text": (*TEXT_ROLES["text"][:-1], *SUMMARIES, "title"),
    "summary": SUMMARIES,
}
TEXT_RIVALS = {  # names of which a file of texts has one; a number or a title can stand beside it
    "id": tuple(name for name in TEXT_ROLES["id"] if name not in {"number", "topic", "topicid"}),
    "text": tuple(name for name in TEXT_ROLES["text"] if name != "title"),
}
CLICK_RIVALS = {  # the same of a log; times, searches and sessions often have several
    **{role: CLICK_ROLES[role] for role in ("query", "query_id", "clicked", "dwell", "rank")},
    "document": tuple(name for name in CLICK_ROLES["document"] if name not in {"document", "doc"}),
}
SEARCH_RIVALS = {  # and of one with a search a row
    **{role: CLICK_ROLES[role] for role in ("query", "query_id", "clicked", "dwell")},
    **{role: CLICK_ROLES[role] for role in ("shown", "ranks")},
}
_NEGATIVE = re.compile(r"(hard_)?neg(ative)?s?(_passages|_ctxs|_texts?)?(_?\d+)?")
SEVERAL = {"document", "negative"}


def find_columns(
    names: Iterable[str], roles: Mapping[str, tuple[str, ...]], given: Mapping[str, tuple[str, ...]]
) -> Columns:
    """Find the columns of every role.

    Args:
        names: The file's columns.
        roles: Usual names of every role, best first.
        given: What the user says: names by role; none at all where no column has the role.

    Raises:
        ConfigError: A role or a column that was given does not exist.
    """
    available = list(names)
    plain = {plain_name(name): name for name in reversed(available)}
    found: Columns = {}
    for role, usual in roles.items():
        chosen = [plain[name] for name in usual if name in plain][:1]
        if role == "negative":
            chosen = [name for name in available if _NEGATIVE.fullmatch(plain_name(name))]
        if chosen:
            found[role] = tuple(chosen)
    for role, chosen_names in given.items():
        _check_given(role, chosen_names, roles, available)
        found[role] = chosen_names
    return {role: chosen for role, chosen in found.items() if chosen}


def usual_columns(
    names: Iterable[str], roles: Mapping[str, tuple[str, ...]], role: str
) -> list[str]:
    """Give all columns whose names are usual for a role, best first, in any case of letters."""
    available = list(names)
    return [name for usual in roles[role] for name in available if plain_name(name) == usual]


def require(columns: Columns, wanted: Iterable[str], names: Iterable[str], where: str) -> None:
    """Refuse a file that lacks a role.

    Raises:
        DataError: With what the file has, and how to say what is what.
    """
    missing = [role for role in wanted if role not in columns]
    if missing:
        have = ", ".join(repr(name) for name in list(names)[:12])
        raise DataError(
            f"{where} has no column that looks like {' or '.join(missing)}; it has {have}; "
            f"say which it is: --column {missing[0]}=NAME"
        )


def values_of(record: Mapping[str, Any], columns: Columns, role: str) -> list[Any]:
    """Give all values of a role, lists taken apart, those that are missing left out."""
    found: list[Any] = []
    for name in columns.get(role, ()):
        value = record.get(name)
        found += value if isinstance(value, list) else [value]
    return [value for value in found if not is_missing(value)]


def value_of(record: Mapping[str, Any], columns: Columns, role: str) -> Any:
    """Give the one value of a role, or None."""
    names = columns.get(role)
    value = record.get(names[0]) if names else None
    return None if is_missing(value) else value


def is_missing(value: Any) -> bool:
    """Tell what stands for no value: null, an empty text, and the NaN that pandas has for null."""
    return value is None or value == "" or (isinstance(value, float) and math.isnan(value))


def as_number(value: Any, what: str) -> float:
    """Take a finite number, also one written as text; true is 1, false 0.

    Raises:
        Unusable: It is none.
    """
    if isinstance(value, Unreadable):
        raise Unusable(f"{what} {value.reason}")
    if isinstance(value, str) and value.strip().lower() in {"true", "false"}:
        return float(value.strip().lower() == "true")
    try:
        number = read_number(value) if isinstance(value, str) else float(value)
    except (TypeError, ValueError, OverflowError) as error:
        raise Unusable(f"{what} is not a number") from error
    if not math.isfinite(number):
        raise Unusable(f"{what} is not a finite number")
    return number


def refuse_thousands(values: Iterable[Any], name: str, role: str, where: str) -> None:
    """Refuse numbers with a mark that may part thousands, and may stand before a fraction.

    A column that has any other fraction, or the same zeros behind all its points, has one reading.

    Args:
        values: What the column holds; only texts can have such marks.
        name: The column.
        role: Its role.
        where: The file, for messages.

    Raises:
        DataError: With both readings.
    """
    texts = [value.strip() for value in values if isinstance(value, str)]
    marks = [mark for mark in ".," if any(mark in text for text in texts)]
    if len(marks) != 1:
        return
    mark = marks[0]
    marked = [text for text in texts if mark in text]
    may_part = re.compile(rf"[-+]?[1-9]\d{{0,2}}([{mark}]\d{{3}})+")
    is_padded = mark == "." and all(text.endswith(".000") for text in texts)
    if all(map(may_part.fullmatch, marked)) and not is_padded:
        otherwise = f"say --column {role}={name}" if mark == "." else "write a point"
        whole = marked[0].replace(mark, "")
        raise DataError(
            f"{where}: {name!r} holds {marked[0]}, which may be {whole}, or a fraction: write it "
            f"without marks if it is whole, {otherwise} if it is a fraction"
        )


def plain_name(name: str) -> str:
    """Write a column's name in lower case with underscores; ``queryId`` is ``query_id``."""
    parted = re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", name.strip())
    return re.sub(r"[^a-z0-9_]+", "_", parted.lower())


@lru_cache(maxsize=1024)
def plain_key(key: Any) -> str:
    """Write an object's key as names of columns are written; objects have the same ones again."""
    return plain_name(str(key))


def _check_given(
    role: str, names: tuple[str, ...], roles: Mapping[str, Any], available: list[str]
) -> None:
    """Refuse a role or a column that is not there."""
    if role not in roles:
        raise ConfigError(f"--column {role}=...: no such role; expected {', '.join(roles)}")
    if len(names) > 1 and role not in SEVERAL:
        raise ConfigError(f"--column {role} is given {len(names)} times; expected one column")
    for name in names:
        if name not in available:
            have = ", ".join(repr(one) for one in available[:12])
            raise ConfigError(f"--column {role}={name}: no such column; the file has {have}")
