"""Faults that the real part can't be made to show without rights that tests don't have."""

import errno
from pathlib import Path

import pytest


def fail_to_rename(patched: pytest.MonkeyPatch, folder: Path) -> None:
    """Let a folder be renamed no more, as one that is in use elsewhere."""
    rename = Path.rename

    def fail(path: Path, target: Path) -> Path:
        if path == folder:
            raise OSError(errno.EBUSY, "Device or resource busy")
        return rename(path, target)

    patched.setattr(Path, "rename", fail)
