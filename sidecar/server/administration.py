"""What an administrator can do to all workers at once, whatever process they live in."""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol, TypeVar

from sidecar.config import Settings
from sidecar.errors import SidecarError, WorkerEndedError
from sidecar.model_file import resolve_model_path
from sidecar.server.live import stamp
from sidecar.telemetry import Telemetry, add_up

Result = TypeVar("Result")
Read = Callable[[], Settings]

logger = logging.getLogger(__name__)


class Control(Protocol):
    """A worker, in this process or in another; see :class:`sidecar.server.worker.Worker`."""

    async def prepare(self) -> str:
        """Make the next table; give what is wrong with it, or an empty text."""

    async def commit(self) -> bool:
        """Put the table that was prepared in force."""

    async def abort(self, cause: str) -> None:
        """Keep the table in force."""

    async def roll_back(self) -> bool:
        """Go back to the table before."""

    async def describe(self) -> dict[str, Any]:
        """Give the routes in force."""

    async def measure(self) -> dict[str, Any]:
        """Give the numbers of the worker."""

    async def comparisons(self) -> list[dict[str, Any]]:
        """Give the last comparisons of shadow routes."""

    async def is_ready(self) -> bool:
        """Tell whether a query could be answered now."""


class Administration:
    """All workers.

    A reload is prepared by every worker before any of them commits, so that a file that one can't
    use changes nothing anywhere.

    Attributes:
        is_ending: True once the server was told to end.
    """

    def __init__(self, workers: Sequence[Control], lost: Telemetry) -> None:
        """Take the workers.

        Args:
            workers: Their sequence may change its members.
            lost: The numbers of workers that have ended; may grow.
        """
        self._lost = lost
        self.is_ending = False
        self._workers = workers
        self._lock = asyncio.Lock()

    async def reload(self) -> str:
        """Read the settings and models anew; give what is wrong with them, or an empty text."""
        async with self._lock:
            workers = list(self._workers)
            causes = await _of_living([worker.prepare() for worker in workers])
            cause = next((each for each in causes if each), "")
            await _of_living(
                [worker.abort(cause) if cause else worker.commit() for worker in workers]
            )
            return cause

    async def roll_back(self) -> bool:
        """Go back to the previous routes and models; False where there are none."""
        async with self._lock:
            done = await _of_living([worker.roll_back() for worker in self._workers])
        return any(done)

    async def describe(self) -> list[dict[str, Any]]:
        """Give the routes in force, by worker."""
        return await _of_living([worker.describe() for worker in self._workers])

    async def measure(self) -> Telemetry:
        """Add up the numbers of all workers, those included that have ended."""
        records = await _of_living([worker.measure() for worker in self._workers])
        return add_up([self._lost.to_record(), *records])

    async def comparisons(self) -> list[dict[str, Any]]:
        """Give the last comparisons of all workers, oldest first."""
        lists = await _of_living([worker.comparisons() for worker in self._workers])
        return sorted((each for one in lists for each in one), key=lambda each: str(each["time"]))

    async def is_ready(self) -> bool:
        """Tell whether every worker could answer a query now."""
        if self.is_ending:
            return False
        ready = await _of_living([worker.is_ready() for worker in self._workers])
        return bool(ready) and all(ready)


async def _of_living(calls: Sequence[Awaitable[Result]]) -> list[Result]:
    """Await calls to all workers; one that has ended reads everything anew when it is replaced."""
    results = await asyncio.gather(*calls, return_exceptions=True)
    for each in results:
        if isinstance(each, BaseException) and not isinstance(each, WorkerEndedError):
            raise each
    return [each for each in results if not isinstance(each, BaseException)]


async def watch_files(
    settings: Settings,
    administration: Administration,
    read: Read,
    seen: Mapping[Path, tuple[int, int]],
) -> None:
    """Reload whenever the settings' file, or a file that it names, has changed.

    A change counts once it has stood still for one look, so that a file that is being copied is
    not read half. What changes while it is read is seen at the next look.

    Args:
        settings: As they were read.
        administration: Reloads.
        read: Reads the settings anew.
        seen: :func:`stamp_files` from before anything was read.
    """
    last = seen
    while True:
        await asyncio.sleep(settings.reload.interval_s)
        now = stamp_files(settings)
        if now != seen and now == last:
            settings = _newest(read, settings)
            seen = stamp_files(
                settings
            )  # before they are read: what changes meanwhile is seen next
            logger.info("files have changed")
            await administration.reload()
        last = now


def _newest(read: Read, settings: Settings) -> Settings:
    """Read which files are named now; the last ones where that can't be read."""
    try:
        return read()
    except SidecarError:
        return settings


def stamp_files(settings: Settings) -> dict[Path, tuple[int, int]]:
    """Give size and time of change of every file that is watched."""
    paths = [] if settings.source is None else [settings.source]
    for route in settings.routes:
        try:
            paths.append(resolve_model_path(route.adapter))
        except SidecarError:
            paths.append(route.adapter)
    for each in settings.collections:
        paths += [path for path in (each.index, each.ids, each.payload) if path is not None]
    return {path: stamp(path) for path in paths}
