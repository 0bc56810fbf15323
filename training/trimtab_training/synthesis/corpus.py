"""The documents that queries are written for: read by place, a large corpus stays on disk."""

import hashlib
import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from trimtab_training.data.json_lines import parse_text
from trimtab_training.data.plain_text import explain_unreadable, packed_beside
from trimtab_training.embeddings.store import check_unique
from trimtab_training.errors import DataError

_BOM = b"\xef\xbb\xbf"


@dataclass(frozen=True)
class Document:
    """One document.

    Attributes:
        id: Its id.
        title: Its title, perhaps empty.
        body: Its text without the title.
    """

    id: str
    title: str
    body: str

    @property
    def text(self) -> str:
        """Title and body joined by one space, as everywhere in Trimtab."""
        return f"{self.title} {self.body}".strip()


class Corpus:
    """A corpus file and where each of its documents stands.

    Attributes:
        path: The file, JSON Lines with ``_id``, ``title`` and ``text``.
        ids: Ids in file order.
        twins: Ids of the documents that have the same text, by the least of them; only where
            there are several.
        n_empty: Documents without a letter or a digit; no query can be written for them.
    """

    def __init__(self, path: Path) -> None:
        """Read the file once.

        Raises:
            DataError: It is missing or malformed, has no document, or an id stands twice.
        """
        self.path = path
        self.ids: list[str] = []
        self.twins: dict[str, list[str]] = {}
        self.n_empty = 0
        self._places: dict[str, int] = {}
        self._unusable: set[str] = set()
        with_text: dict[bytes, str | list[str]] = {}
        for place, document in self._scan():
            self.ids.append(document.id)
            self._places[document.id] = place
            self._note_text(document, with_text)
        check_unique(self.ids, str(path))
        if not self.ids:
            raise DataError(f"{path} has no documents; expected one JSON object a line")
        for same in with_text.values():
            if isinstance(same, list):
                self.twins[min(same)] = sorted(same)
                self._unusable.update(set(same) - {min(same)})

    @classmethod
    def open(cls, source: Path) -> "Corpus":
        """Open a BEIR folder's corpus, or a corpus file.

        Raises:
            DataError: There is none, or it is malformed.
        """
        path = source / "corpus.jsonl" if source.is_dir() else source
        if not path.is_file():
            packed = packed_beside(path)
            raise DataError(
                f"no corpus at {path}; "
                + (packed or "expected a BEIR folder, or JSON Lines of _id, title, text")
            )
        return cls(path)

    def candidates(self) -> list[str]:
        """Give the ids that queries can be written for: one of each text, none empty."""
        return [doc_id for doc_id in self.ids if doc_id not in self._unusable]

    def same_text(self, doc_id: str) -> list[str]:
        """Give the ids of all documents with this one's text, itself first."""
        return self.twins.get(doc_id, [doc_id])

    def read(self, doc_id: str) -> Document:
        """Read one document.

        Raises:
            DataError: The file changed since it was opened.
        """
        with self.path.open("rb") as file:
            file.seek(self._places[doc_id])
            document = _parse(file.readline(), self.path, "")
        if document.id != doc_id:
            raise DataError(f"{self.path} changed while it was read; run the same command again")
        return document

    def _scan(self) -> Iterator[tuple[int, Document]]:
        """Yield every document with the place of its line."""
        try:
            with self.path.open("rb") as file:
                place = 0
                for number, line in enumerate(file, start=1):
                    if line.removeprefix(_BOM).strip():
                        yield place, _parse(line, self.path, f":{number}")
                    place += len(line)
        except OSError as error:
            raise DataError(f"can't read {self.path}: {error}") from error

    def _note_text(self, document: Document, with_text: dict[bytes, str | list[str]]) -> None:
        """Note documents of equal text, and empty ones."""
        if not any(character.isalnum() for character in document.text):
            self.n_empty += 1
            self._unusable.add(document.id)
            return
        digest = hashlib.blake2b(repaired(document.text).encode(), digest_size=16).digest()
        known = with_text.setdefault(digest, document.id)
        if isinstance(known, list):
            known.append(document.id)
        elif known != document.id:
            with_text[digest] = [known, document.id]


def repaired(text: str) -> str:
    """Drop halves of surrogate pairs, which no request and no file can carry."""
    return text if text.isascii() else text.encode(errors="ignore").decode()


def _parse(line: bytes, path: Path, place: str) -> Document:
    """Parse one line of the file."""
    where = f"{path}{place}"
    try:
        text = line.removeprefix(_BOM).decode()
    except UnicodeDecodeError as error:
        raise DataError(f"{where}: {explain_unreadable(path, error)}") from error
    record = parse_text(text, where)
    return Document(record["_id"], record["title"] or "", record["text"] or "")


def text_digest(text: str) -> str:
    """Digest a text: what a document's draws depend on, whatever its id or its place."""
    return hashlib.sha256(json.dumps(text).encode()).hexdigest()
