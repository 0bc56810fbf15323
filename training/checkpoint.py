"""Training state on disk, without pickles: what an interrupted fit continues from.

Each file is written beside its place and renamed, so a crash leaves the old state or the new one.
"""

import json
from pathlib import Path
from typing import Any, Literal

import torch
from safetensors import SafetensorError
from safetensors.torch import load, save
from torch import Tensor

from training.errors import DataError
from training.files import write_whole

_RECORD = "record"

State = dict[str, Tensor]
Resume = Literal["never", "if_same", "must_match"]


class Workspace:
    """The folder of one fit's unfinished work.

    Attributes:
        folder: Where it is; None keeps nothing on disk.
    """

    def __init__(self, folder: Path | None, identity: dict[str, Any], *, resume: Resume) -> None:
        """Open the folder, emptied of work that is not to be continued.

        Args:
            folder: Where to keep states, or None to keep none.
            identity: What decides the outcome of the fit: recipe, seed, content hashes.
            resume: ``never`` starts over, ``if_same`` continues what stands there if it is this
                very fit, ``must_match`` refuses anything else.

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
        if resume != "never" and found == wanted:
            return
        if resume == "must_match" and found is not None:
            raise DataError(
                f"{folder} holds an unfinished fit with other settings or data "
                f"({_first_difference(found, identity)}); "
                "run without --resume to start over, or restore the settings"
            )
        for file in folder.glob("*.safetensors"):
            file.unlink()
        write_whole(marker, wanted.encode())

    def load(self, name: str) -> tuple[State, dict[str, Any]] | None:
        """Read one state, if it is there.

        Raises:
            DataError: The file is damaged.
        """
        if self.folder is None or not (file := self._file(name)).exists():
            return None
        try:
            state = load(file.read_bytes())
            record = json.loads(bytes(state.pop(_RECORD).tolist()))
        except (OSError, ValueError, KeyError, SafetensorError) as error:
            raise DataError(f"{file} is damaged ({error}); run without --resume") from error
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


def _first_difference(found: str, wanted: dict[str, Any]) -> str:
    """Name the first setting in which two fits differ."""
    old = json.loads(found)
    for key in sorted(set(old) | set(wanted)):
        if old.get(key) != wanted.get(key):
            return f"{key} differs"
    return "its record is malformed"
