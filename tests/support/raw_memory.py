"""The peak memory of the sidecar while something passes through it."""

from pathlib import Path

from tests.support.raw_place import Place

GROWTH_KB = 40 * 1024
"""Buffers of sockets and of the event loop; a large body kept whole would be three times that."""


class PeakMemory:
    """The sidecar's peak resident set from here on."""

    def __init__(self, place: Place) -> None:
        self._process = Path(f"/proc/{place.sidecar.process.pid}")
        (self._process / "clear_refs").write_text("5")
        self._before = self._peak_kb()

    def growth_kb(self) -> int:
        return self._peak_kb() - self._before

    def _peak_kb(self) -> int:
        lines = (self._process / "status").read_text().splitlines()
        return next(int(line.split()[1]) for line in lines if line.startswith("VmHWM:"))
