"""Texts and ids as they come, made fit for a dataset; ids of texts that have none."""

import hashlib
import unicodedata
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

_OUTER_MARKS = " .,;:!?\"'"
_MISSING = {  # as programs spell it, spreadsheets' errors among them
    "nan", "NaN", "NaT", "None", "null", "NULL", "<NA>", "\\N", "N/A", "n/a", "#N/A", "#REF!",
    "#NAME?", "#VALUE!", "#DIV/0!", "#NUM!", "#NULL!", "#SPILL!", "#CALC!", "#FIELD!", "#BLOCKED!",
    "#ERROR!", "#GETTING_DATA",
}  # fmt: skip
_EXACT_WHOLE = 1 << 53  # beyond, floats no longer hold every whole number
_DIGEST_BYTES = 10  # at 10 million texts, two share an id by chance with probability 4e-11


class Unusable(ValueError):
    """A value that no dataset can hold; the message is the reason to drop its row."""


@dataclass(frozen=True)
class Unreadable:
    """Stands for a value that a file holds and Python can't; what uses it drops its row.

    Attributes:
        reason: What is wrong with it, such as ``holds bytes that are not UTF-8``.
    """

    reason: str


@dataclass(frozen=True)
class Text:
    """A document, or whatever stands for one.

    Attributes:
        text: Its text, perhaps empty.
        title: Its title, perhaps empty.
        name: Its id, or None where it has none.
        synthetic: Whether it is a query that is marked as written by an LLM.
    """

    text: str
    title: str = ""
    name: str | None = None
    synthetic: bool = False

    @property
    def joined(self) -> str:
        """Title and text as encoders see them."""
        return f"{self.title} {self.text}".strip()


def text_key(text: str) -> int:
    """Digest a text, blind to Unicode's composition and to the kind and number of blanks."""
    plain = text if text.isascii() else unicodedata.normalize("NFC", text)
    digest = hashlib.blake2b(" ".join(plain.split()).encode(), digest_size=_DIGEST_BYTES)
    return int.from_bytes(digest.digest(), "big")


def question_key(text: str) -> int:
    """Digest a text, blind to what does not change a question: case, width, outer marks too."""
    plain = " ".join(unicodedata.normalize("NFKC", text).casefold().split()).strip(_OUTER_MARKS)
    digest = hashlib.blake2b(plain.encode(errors="replace"), digest_size=8)
    return int.from_bytes(digest.digest(), "big")


def as_text(value: Any, what: str) -> str:
    """Take a text as it came, less blanks around it.

    Raises:
        Unusable: It is no text, or holds what UTF-8 can't write.
    """
    if value is None:
        return ""
    if isinstance(value, Unreadable):
        raise Unusable(f"{what} {value.reason}")
    if not isinstance(value, str):
        raise Unusable(f"{what} is not a text")
    if not value.isascii():
        try:
            value.encode()
        except UnicodeEncodeError as error:
            raise Unusable(f"{what} holds bytes that are not UTF-8") from error
    return value.strip()


def as_filled_text(value: Any, what: str) -> str:
    """Take a text that says something.

    Raises:
        Unusable: It is no text, or empty.
    """
    text = as_text(value, what)
    if not text:
        raise Unusable(f"empty {what}")
    refuse_missing(text, what)
    return text


def spells_missing(text: str) -> bool:
    """Tell a text that is only how a program spells a missing value."""
    return text in _MISSING


def refuse_missing(text: str, what: str) -> None:
    """Refuse a text that is only how a program spells a missing value.

    Raises:
        Unusable: It is.
    """
    if spells_missing(text):
        raise Unusable(f"{what} is {text!r}, as programs spell a missing value")


def one_value(found: Mapping[str, Any], what: str) -> Any:
    """Give the one value that an object has under several names, or None.

    Args:
        found: What it has, by its own keys.
        what: What the object is called in messages.

    Raises:
        Unusable: The values differ.
    """
    if len(set(map(str, found.values()))) > 1:
        raise two_values(found, what)
    return next(iter(found.values()), None)


def two_values(found: Iterable[str], what: str) -> Unusable:
    """Make the error of an object that has different values under keys of one meaning."""
    first, second = list(found)[:2]
    return Unusable(
        f"{what} has {first!r} and {second!r} with different values, and either could be its own; "
        "keep one"
    )


def as_name(value: Any, what: str) -> str:
    """Take an id: a text or a whole number, also one that pandas keeps as 7.0.

    Raises:
        Unusable: It is neither, is empty, or holds a tab or a line break.
    """
    if isinstance(value, int) and not isinstance(value, bool):
        return str(value)
    if isinstance(value, float) and value.is_integer() and abs(value) < _EXACT_WHOLE:
        return str(int(value))
    name = as_text(value, what)
    if not name:
        raise Unusable(f"{what} is empty")
    refuse_missing(name, what)
    if not name.isprintable() and any(mark in name for mark in "\t\n\r"):
        raise Unusable(f"{what} holds a tab or a line break")
    return name
