"""Queries or documents on their way to a file: their ids are held, their texts are not."""

import json
from array import array
from itertools import compress
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray

from trimtab_training.data.importers.labels import Flags, Names
from trimtab_training.data.importers.texts import Text, question_key, text_key


class TextTable:
    """Queries or documents: their ids in memory, their texts in a file."""

    def __init__(self, path: Path, letter: str) -> None:
        """Begin a file; ids of texts without one start with a letter."""
        self._path, self._letter = path, letter
        self._file: IO[str] | None = None
        self._numbers: dict[str | int, int] = {}
        self._digests = array("Q")  # as ``_compared`` gives it; 0 while there is no text
        self._written = array("q")  # numbers in the order of the file
        self._bare: dict[int, None] = {}  # ids that came without a text, which may yet come

    def number(self, key: str | int) -> int:
        """Give an id's number, whether or not its text has come."""
        number = self._numbers.setdefault(key, len(self._numbers))
        if number == len(self._digests):
            self._digests.append(0)
        return number

    def find(self, name: str) -> int | None:
        """Give the number of an id that has been seen."""
        return self._numbers.get(name)

    def add(self, text: Text) -> tuple[int, bool]:
        """Keep a text; the first under an id stays, and an id alone waits for one.

        Returns:
            Its number, and whether another text already has its id.
        """
        digest = text_key(text.joined)
        number = self.number(digest if text.name is None else text.name)
        if self._digests[number] and number not in self._bare:
            return number, self.has_other(text)
        self._digests[number] = self._compared(text)
        if text.name is not None and not text.joined:
            self._bare[number] = None
            return number, False
        self._bare.pop(number, None)
        self._write(self._record(text, digest), number)
        return number, False

    def _write(self, record: dict[str, Any], number: int) -> None:
        """Write one line, which opens the file."""
        if self._file is None:
            self._file = self._path.open("w", encoding="utf-8")
        self._file.write(json.dumps(record, ensure_ascii=False) + "\n")
        self._written.append(number)

    def write_bare(self) -> int:
        """Write the ids whose text never came, with an empty one; say how many those are."""
        name_of = self.namer()
        for number in self._bare:
            self._write(self._record(Text("", name=name_of(number)), 0), number)
        n_bare = len(self._bare)
        self._bare.clear()
        return n_bare

    def has_other(self, text: Text) -> bool:
        """Tell whether a text's id already has another text; an id alone has none of its own."""
        number = None if text.name is None else self._numbers.get(text.name)
        if number is None or not self._digests[number] or not text.joined:
            return False
        if number in self._bare:
            return False  # the text that it waits for
        return self._digests[number] != self._compared(text)

    def _compared(self, text: Text) -> int:
        """Digest a text as two under one id are compared: queries blind to case and outer marks."""
        is_query = self._letter == "q"
        return (question_key(text.text) if is_query else text_key(text.joined)) & (1 << 64) - 1 | 1

    def describe(self, text: Text) -> dict[str, Any]:
        """Give a text as the file would have it."""
        return self._record(text, text_key(text.joined))

    def _record(self, text: Text, digest: int) -> dict[str, Any]:
        """Write a text by column, under its id or one of its content."""
        name = text.name or self._name_of(digest)
        if self._letter == "d":
            return {"_id": name, "title": text.title, "text": text.text}
        marked = {"metadata": {"synthetic": True}} if text.synthetic else {}
        return {"_id": name, "text": text.text, **marked}

    @property
    def n_texts(self) -> int:
        """Count the texts, ids that wait for theirs among them."""
        return len(self._written) + len(self._bare)

    def count_different(self) -> int:
        """Count the texts that differ: queries by more than case and outer marks."""
        return len(np.unique(np.array(self._digests, np.uint64)[self.known()]))

    def _name_of(self, key: str | int) -> str:
        """Write a key as an id."""
        return key if isinstance(key, str) else f"{self._letter}-{key:020x}"

    def names(self, numbers: NDArray[np.int64]) -> set[str]:
        """Give the ids of some numbers, which may repeat."""
        name_of = self.namer()
        return {name_of(number) for number in np.unique(numbers).tolist()}

    def names_known(self) -> set[str]:
        """Give every id that has a text."""
        return self.names(np.flatnonzero(self.known()))

    def names_seen(self) -> set[str]:
        """Give every id that has a number, with a text or without."""
        return {self._name_of(key) for key in self._numbers}

    def namer(self) -> Names:
        """Give the function from numbers to ids."""
        keys = list(self._numbers)
        return lambda number: self._name_of(keys[number])

    def known(self) -> Flags:
        """Say of every number whether its text has come."""
        return np.array(self._digests, np.uint64).astype(np.bool_)

    def same(self) -> NDArray[np.int64]:
        """Give for every number the first with the same text, or itself."""
        first: dict[int, int] = {}
        numbers = np.arange(len(self._numbers))
        with self._path.open(encoding="utf-8") as lines:
            for number, line in zip(self._written, lines, strict=True):
                numbers[number] = first.setdefault(question_key(json.loads(line)["text"]), number)
        return numbers

    def prune(self, wanted: Flags) -> int:
        """Take out of the file what is not wanted; say how many texts that was.

        Args:
            wanted: Whether each number is to stay.
        """
        stays = wanted[np.array(self._written, np.int64)]
        if stays.all():
            return 0
        pruned = self._path.with_name(self._path.name + ".pruned")
        with self._path.open(encoding="utf-8") as lines, pruned.open("w", encoding="utf-8") as out:
            out.writelines(compress(lines, stays.tolist()))
        pruned.replace(self._path)
        self._written = array("q", compress(self._written, stays.tolist()))
        return int((~stays).sum())

    def close(self) -> None:
        """Finish the file."""
        if self._file is not None:
            self._file.close()
