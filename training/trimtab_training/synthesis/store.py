"""Every answer on disk the moment it comes, under the digest of what was asked.

A file of JSON lines that only grows. A line is written whole, flushed and synced before the next
request of its worker is sent: from then on neither a crash nor a lost power supply loses it. Half
a line at the end, which is all that a crash can leave, is cut off. Failures are kept, too: a
later answer to the same request takes their place.
"""

import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import BinaryIO

from trimtab_training.data.json_lines import parse_object
from trimtab_training.errors import DataError
from trimtab_training.lock import hold

_FIELDS = {
    "key": str,
    "doc_id": str,
    "style": str,
    "variant": int,
    "text": str,
    "is_cut": bool,
    "failure": str,
    "model": str,
    "prompt_tokens": int,
    "answer_tokens": int,
}
_WANTED = f"an answer that 'trimtab synthesize' kept, with {', '.join(_FIELDS)}"


@dataclass(frozen=True)
class Answer:
    """What came back for one request.

    Attributes:
        key: The request's key.
        doc_id: The document, for people: the key is what counts.
        style: Name of the style.
        variant: Number of the request among those of its document and style.
        text: What the model wrote, as it came; empty where nothing came.
        is_cut: True where the answer ended at the limit of tokens.
        failure: Why it can't be used, or empty.
        model: The model's name, as the endpoint gave it.
        prompt_tokens: Tokens of the prompt, as the endpoint counted them; 0 where it did not.
        answer_tokens: Tokens of the answer.
    """

    key: str
    doc_id: str
    style: str
    variant: int
    text: str = ""
    is_cut: bool = False
    failure: str = ""
    model: str = ""
    prompt_tokens: int = 0
    answer_tokens: int = 0


class AnswerStore:
    """The answers kept so far; add to it only inside `opened`.

    Attributes:
        path: The file.
        answers: The usable answer to each key.
        failures: The last failure of each key that has no usable answer yet.
        tries: How often each key failed.
        prompt_tokens: Tokens of all prompts that were paid for, failures included.
        answer_tokens: Tokens of all answers.
    """

    def __init__(self, path: Path) -> None:
        """Read what is kept.

        Raises:
            DataError: A line within the file is malformed.
        """
        self.path = path
        self._file: BinaryIO | None = None
        self._load()

    def _load(self) -> None:
        """Read the file from its beginning."""
        self.answers: dict[str, Answer] = {}
        self.failures: dict[str, Answer] = {}
        self.tries: dict[str, int] = {}
        self.prompt_tokens = self.answer_tokens = 0
        for number, line in enumerate(self._whole_lines(), start=1):
            self._note(_parse(line, f"{self.path}:{number}"))

    @contextmanager
    def opened(self) -> Iterator["AnswerStore"]:
        """Hold the file open, for this process alone.

        Raises:
            DataError: Another run writes to it, or it can't be written.
        """
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            with self.path.open("ab") as file:
                hold(file, self.path, "wait for it, or give this one another --kept")
                file.truncate(_end_of_last_line(self.path))
                self._load()  # another run may have added to it before the lock was ours
                self._file = file
                yield self
        except OSError as error:
            raise DataError(f"can't write {self.path}: {error}") from error
        finally:
            self._file = None

    def append(self, answer: Answer) -> None:
        """Keep an answer durably: once this returns, it is on disk."""
        if self._file is None:
            raise RuntimeError("the store is not open")
        line = json.dumps(asdict(answer)).encode() + b"\n"
        self._file.write(line)
        self._file.flush()
        os.fsync(self._file.fileno())
        self._note(answer)

    def _note(self, answer: Answer) -> None:
        """Take an answer into account."""
        self.prompt_tokens += answer.prompt_tokens
        self.answer_tokens += answer.answer_tokens
        if answer.failure:
            self.tries[answer.key] = self.tries.get(answer.key, 0) + 1
            if answer.key not in self.answers:
                self.failures[answer.key] = answer
        else:
            self.answers[answer.key] = answer
            self.failures.pop(answer.key, None)

    def _whole_lines(self) -> Iterator[bytes]:
        """Yield the lines of the file, less half a line at its end."""
        if not self.path.exists():
            return
        try:
            with self.path.open("rb") as file:
                for line in file:
                    if line.endswith(b"\n"):
                        yield line
        except OSError as error:
            raise DataError(f"can't read {self.path}: {error}") from error


def _parse(line: bytes, where: str) -> Answer:
    """Parse one line."""
    hint = "; remove this line, and its answer is asked for again"
    record = parse_object(line, where, _WANTED, hint=hint)
    if any(type(record.get(name)) is not kind for name, kind in _FIELDS.items()):
        raise DataError(f"{where}: expected {_WANTED}")
    return Answer(**{name: record[name] for name in _FIELDS})


def _end_of_last_line(path: Path) -> int:
    """Find where the last whole line ends."""
    end = path.stat().st_size
    with path.open("rb") as file:
        while end:
            start = max(0, end - 65536)
            file.seek(start)
            place = file.read(end - start).rfind(b"\n")
            if place >= 0:
                return start + place + 1
            end = start
    return 0
