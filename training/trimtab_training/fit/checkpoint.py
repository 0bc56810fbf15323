"""Training state on disk, without pickles: what an interrupted fit continues from.

Each file is written beside its place and renamed, so a crash leaves the old state or the new one.
"""

import json
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, Literal

import torch
from safetensors import SafetensorError
from safetensors.torch import load, save
from torch import Tensor

from trimtab.parsing import read_json
from trimtab_training.errors import DataError
from trimtab_training.files import write_whole

_RECORD = "record"
_CONTENTS = {
    "labels": "labels",
    "vectors": "vectors",
    "texts": "texts of queries",
    "corpus": "corpus queries",
    "start": "model to start from (--from), or other queries that it is known to have seen",
}

State = dict[str, Tensor]
Resume = Literal["never", "if_same", "must_match"]
Tell = Callable[[str], None]
"""Called with one sentence for the user."""


class Workspace:
    """The folder of one fit's unfinished work.

    Attributes:
        folder: Where it is; None keeps nothing on disk.
    """

    def __init__(
        self,
        folder: Path | None,
        identity: dict[str, Any],
        *,
        resume: Resume,
        tell: Tell = lambda _text: None,
    ) -> None:
        """Open the folder, emptied of work that is not to be continued.

        Args:
            folder: Where to keep states, or None to keep none.
            identity: What decides the outcome of the fit: recipe, seed, content hashes.
            resume: ``never`` starts over, ``if_same`` continues what stands there if it is this
                very fit and else starts over, ``must_match`` refuses to remove any other fit's.
            tell: Told what becomes of unfinished work, where there is some.

        Raises:
            DataError: ``must_match``, and the folder holds a fit with other settings or data.
        """
        self.folder = folder
        if folder is None:
            return
        folder.mkdir(parents=True, exist_ok=True)
        marker = folder / "fit.json"
        wanted = json.dumps(identity, sort_keys=True, indent=1)
        found = marker.read_text(encoding="utf-8") if marker.exists() else None
        n_states = len(list(folder.glob("*.safetensors")))
        if resume != "never" and found == wanted:
            if n_states:
                tell(
                    "continuing an interrupted fit of the same settings and data: "
                    f"trials begun in {folder}: {n_states} (--fresh starts over)"
                )
            return
        if n_states:
            differs = _differences(found, identity) if found != wanted else ""
            _give_up(
                f"{folder} holds an interrupted fit (trials begun: {n_states})",
                differs,
                resume,
                tell,
            )
        for file in folder.glob("*.safetensors"):
            file.unlink()
        write_whole(marker, wanted.encode())

    @property
    def is_empty(self) -> bool:
        """Tell whether nothing would be found of this fit if it ended now."""
        return self.folder is not None and not any(self.folder.glob("*.safetensors"))

    def load(self, name: str) -> tuple[State, dict[str, Any]] | None:
        """Read one state, if it is there.

        Raises:
            DataError: The file is damaged.
        """
        if self.folder is None or not (file := self._file(name)).exists():
            return None
        try:
            state = load(file.read_bytes())
            record = read_json(bytes(state.pop(_RECORD).tolist()))
        except (OSError, ValueError, KeyError, SafetensorError) as error:
            raise DataError(
                f"{file} is damaged ({error}); start over with --fresh, or remove that file"
            ) from error
        return state, record

    def save(self, name: str, state: State, record: dict[str, Any]) -> None:
        """Write one state and its JSON record, as one file."""
        if self.folder is None:
            return
        tensors = {key: value.detach().cpu().contiguous() for key, value in state.items()}
        encoded = json.dumps(record).encode()
        tensors[_RECORD] = torch.tensor(list(encoded), dtype=torch.uint8)
        write_whole(self._file(name), save(tensors))

    def _file(self, name: str) -> Path:
        """Place of one state."""
        assert self.folder is not None  # noqa: S101 - both callers have looked
        return self.folder / f"{name}.safetensors"


def _give_up(what: str, differs: str, resume: Resume, tell: Tell) -> None:
    """Say that unfinished work goes, or refuse to remove it.

    Raises:
        DataError: It is that of another fit, and nobody has said that it may go.
    """
    of_what = f" of other settings or data ({differs})" if differs else ""
    if resume == "must_match":
        raise DataError(
            f"{what}{of_what}; restore them to continue it, or give --fresh to remove it and "
            "start over"
        )
    tell(f"starting over: {what}{of_what}, which is removed")


def _differences(found: str | None, wanted: Mapping[str, Any]) -> str:
    """Name the settings and data in which two fits differ, with the values where they are short."""
    try:
        old = read_json(found or "")
        parts = list(_compared(old, wanted))
    except (ValueError, TypeError, AttributeError):
        return "its record is missing or malformed"
    return "; ".join(parts) or "its record is written in another way"


def _compared(old: Mapping[str, Any], new: Mapping[str, Any]) -> Iterator[str]:
    """Yield each difference; of the recipe, each knob that differs."""
    for key in sorted(set(old) | set(new)):
        before, after = old.get(key), new.get(key)
        if before == after:
            continue
        if isinstance(before, dict) and isinstance(after, dict):
            yield from _compared(before, after)
        elif key in _CONTENTS:
            yield f"other {_CONTENTS[key]}"
        else:
            yield f"{key} was {json.dumps(before)}, is {json.dumps(after)}"
