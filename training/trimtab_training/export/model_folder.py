"""The model folder: where it may stand, how it is written and opened."""

import json
import shutil
from pathlib import Path

from trimtab.errors import ManifestError
from trimtab.model.manifest import Manifest
from trimtab_training.adapters import Adapter, load_adapter, save_adapter
from trimtab_training.errors import ConfigError, DataError
from trimtab_training.files import real_place, write_whole
from trimtab_training.model_files import CHECKPOINT, MODEL


def load_checkpoint(folder: Path) -> tuple[Adapter, Manifest]:
    """Open the trained adapter behind a model.

    Args:
        folder: A model folder, or the checkpoint folder in it.

    Raises:
        DataError: There is no checkpoint, or it is damaged.
    """
    if (folder / CHECKPOINT).is_dir():
        folder = folder / CHECKPOINT
    adapter, record = load_adapter(folder)
    try:
        return adapter.eval(), Manifest.from_json(json.dumps(record.get("manifest")))
    except ManifestError as error:
        raise DataError(f"{folder}/adapter.json: {error}") from error


def check_target(folder: Path) -> None:
    """Refuse a place where no folder can be, before hours are spent on what would go there."""
    if folder.exists() and not folder.is_dir():
        raise ConfigError(f"{folder} is a file; -o wants a folder such as models/docs")
    if not folder.name:
        raise ConfigError(f"{folder} has no name; -o wants a folder such as models/docs")
    parent = real_place(folder).parent
    try:
        parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ConfigError(f"can't make {parent}: {error.strerror}") from error


def empty(folder: Path) -> Path:
    """Make a folder, without what an interrupted build left in it."""
    if folder.exists():
        shutil.rmtree(folder)
    folder.mkdir(parents=True)
    return folder


def write_model(folder: Path, adapter: Adapter, content: bytes, manifest: Manifest) -> None:
    """Write the model file, and the trained adapter behind it."""
    write_whole(folder / MODEL, content)
    save_adapter(adapter, folder / CHECKPOINT, manifest=json.loads(manifest.to_json()))
