"""The model folder: where it may stand, how it is written and opened."""

import json
from pathlib import Path

from trimtab.errors import ManifestError
from trimtab.model.manifest import Manifest
from trimtab_training.adapters import Adapter, load_adapter, save_adapter
from trimtab_training.errors import ConfigError, DataError
from trimtab_training.files import make_parent, refuse_loss, refuse_mount, write_whole
from trimtab_training.model_files import CHECKPOINT, EVALUATION, MODEL, OURS

_SECOND_LOOK = "second_look.json"


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
    """Refuse a place where no folder can be, before hours are spent on what would go there.

    Raises:
        ConfigError: It is a file or a mount point, or there can be no such folder.
        DataError: It is no model's, and holds what a model's would replace.
    """
    if folder.exists() and not folder.is_dir():
        raise ConfigError(f"{folder} is a file; -o wants a folder such as models/docs")
    if not folder.name:
        raise ConfigError(f"{folder} has no name; -o wants a folder such as models/docs")
    refuse_mount(folder)
    if folder.is_dir() and not any((folder / name).is_file() for name in (MODEL, EVALUATION)):
        refuse_loss(folder, (item.name for item in folder.iterdir() if item.name in OURS))
    make_parent(folder)


def check_file(file: Path) -> None:
    """Refuse a place where no file can be, before minutes are spent on it.

    Raises:
        ConfigError: It is a folder, or there can be no such file.
    """
    if file.is_dir():
        raise ConfigError(f"{file} is a folder; -o wants a file, such as models/NAME/{MODEL}")
    make_parent(file)


def write_file(file: Path, content: bytes) -> None:
    """Write a model as one file.

    Raises:
        ConfigError: It can't be written.
    """
    try:
        write_whole(file, content)
    except OSError as error:
        raise ConfigError(f"can't write {file}: {error.strerror or error}") from error


def load_second_look(folder: Path) -> str | None:
    """Read a second look that stands beside a checkpoint, as ``attach_second_look`` takes it.

    Args:
        folder: A model folder, or the checkpoint folder in it.

    Raises:
        DataError: It can't be read.
    """
    within = folder / CHECKPOINT if (folder / CHECKPOINT).is_dir() else folder
    file = within / _SECOND_LOOK
    try:
        return file.read_text(encoding="utf-8") if file.exists() else None
    except (OSError, ValueError) as error:
        raise DataError(f"can't read {file}: {error}") from error


def write_model(
    folder: Path,
    adapter: Adapter,
    content: bytes,
    manifest: Manifest,
    second_look: str | None = None,
) -> None:
    """Write the model file, and the trained adapter behind it, with its second look."""
    write_whole(folder / MODEL, content)
    save_adapter(adapter, folder / CHECKPOINT, manifest=json.loads(manifest.to_json()))
    if second_look is not None:
        write_whole(folder / CHECKPOINT / _SECOND_LOOK, second_look.encode())
