"""What is wrong with one query, told from it and its document alone.

Each rule is one function, cheap and explainable; none asks a model. They are meant to miss
something rather than to drop a good query: the round trip comes after them.
"""

import math
import re

from trimtab_training.synthesis.corpus import Document
from trimtab_training.synthesis.tokenise import units_of

EMPTY = "empty"
TOO_LONG = "too long"
COPY = "copy of the text"
ANSWER = "answer in the query"
MENTION = "mentions the document"
MOST_UNITS, MOST_CHARACTERS = 64, 500
_COPIED_UNITS = 6  # shorter runs are names and set phrases, which a query may well share
_COPIED_SHARE = 0.8
_ANSWER_UNITS, _ANSWER_SHARE = 3, 0.8
_ANSWER_LABEL = re.compile(
    r"(?:^|[\s?.!])(?:answer|ans|a|antwort|réponse|respuesta|risposta|resposta|antwoord|ответ|回答|答案)"
    "\\s*[:\uff1a=]",
    re.IGNORECASE,
)
_MENTION = re.compile(
    r"\b(?:according to|in|from|by|does|of|based on)\s+(?:the|this|that)\s+(?:\w+\s+)?"
    r"(?:document|passage|text|article|excerpt|paragraph)\b|\b(?:document|passage|text) above\b|"
    r"\bthe author\b|\b(?:laut|gemäß)\s+(?:dem|diesem)\s+(?:text|dokument)\b|"
    r"\b(?:selon|d'après)\s+(?:le|ce)\s+(?:texte|document)\b|"
    r"\bsegún\s+(?:el|este)\s+(?:texto|documento)\b",
    re.IGNORECASE,
)


def broken_rule(query: str, document: Document) -> str | None:
    """Name what is wrong with a query, or give None.

    Args:
        query: Its text, cleaned.
        document: The document that it was written for.
    """
    units = units_of(query)
    if not units:
        return EMPTY
    if len(units) > MOST_UNITS or len(query) > MOST_CHARACTERS:
        return TOO_LONG
    if _is_copy(units, document):
        return COPY
    if _has_answer(query, document):
        return ANSWER
    return MENTION if _MENTION.search(query) and not _MENTION.search(document.text) else None


def _is_copy(units: list[str], document: Document) -> bool:
    """Tell whether a query is the title, the whole text, or mostly one run of the text."""
    text = units_of(document.text)
    if units in (text, units_of(document.title), units_of(document.body)):
        return True
    length = max(_COPIED_UNITS, math.ceil(_COPIED_SHARE * len(units)))
    if len(units) < length:
        return False
    joined = f" {' '.join(text)} "
    return any(
        f" {' '.join(units[at : at + length])} " in joined for at in range(len(units) - length + 1)
    )


def _has_answer(query: str, document: Document) -> bool:
    """Tell whether an answer stands behind the question: labelled, or in the document's words."""
    if _ANSWER_LABEL.search(query):
        return True
    question, mark, rest = query.replace("\uff1f", "?").rpartition("?")
    units = units_of(rest)
    if not mark or not question or len(units) < _ANSWER_UNITS:
        return False
    known = set(units_of(document.text))
    return sum(unit in known for unit in units) >= _ANSWER_SHARE * len(units)
