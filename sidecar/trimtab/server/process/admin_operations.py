"""What an administrator can do to all workers at once, whatever process they live in."""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

from trimtab.errors import SidecarError, WorkerEndedError
from trimtab.metrics import Telemetry, add_up
from trimtab.model.followed import Stamp
from trimtab.model.onnx_file import resolve_model_path
from trimtab.server.process.control import Control
from trimtab.server.route_table import stamp
from trimtab.settings import Settings
from trimtab.text.encoder_file import resolve_encoder_path
from trimtab.unforeseen import Border, repeat, tell

Result = TypeVar("Result")
Read = Callable[[], Settings]

logger = logging.getLogger(__name__)


class Administration:
    """All workers.

    A reload is prepared by every worker before any of them commits, so that a file that one can't
    use changes nothing anywhere.

    Attributes:
        numbers: Those of workers that have ended, and of this process.
        is_ending: True once the server was told to end.
    """

    def __init__(
        self, workers: Sequence[Control], numbers: Telemetry, changing: asyncio.Lock | None = None
    ) -> None:
        """Take the workers.

        Args:
            workers: Their sequence may change its members.
            numbers: Those of workers that have ended; may grow.
            changing: Held while the workers' models, or the workers, change.
        """
        self.numbers = numbers
        self.is_ending = False
        self._workers = workers
        self._lock = changing or asyncio.Lock()

    async def reload(self) -> str:
        """Read the settings and models anew; give what is wrong with them, or an empty text."""
        async with self._lock:
            workers = list(self._workers)
            causes = await self._of_living([self._prepare(worker) for worker in workers])
            cause = next((each for each in causes if each), "")
            await self._of_living(
                [worker.abort(cause) if cause else worker.commit() for worker in workers]
            )
            return cause

    async def _prepare(self, worker: Control) -> str:
        """Have a worker prepare; give what went wrong, whatever it was."""
        try:
            return await worker.prepare()
        except WorkerEndedError:
            raise
        except Exception as error:
            return tell(self.numbers, Border.RELOAD, error)

    async def roll_back(self) -> bool:
        """Go back to the previous routes and models; False where there are none."""
        async with self._lock:
            done = await self._of_living([worker.roll_back() for worker in self._workers])
        return any(done)

    async def describe(self) -> list[dict[str, Any]]:
        """Give the routes in force, by worker."""
        return await self._of_living([worker.describe() for worker in self._workers])

    async def measure(self) -> Telemetry:
        """Add up the numbers of all workers, those included that have ended."""
        measured = await self._of_living([_measure(worker) for worker in self._workers])
        # One that was replaced while another was waited for is among self.numbers by now.
        records = [record for worker, record in measured if worker in self._workers]
        return add_up([self.numbers.to_record(), *records])

    async def comparisons(self) -> list[dict[str, Any]]:
        """Give the last comparisons of all workers, oldest first."""
        lists = await self._of_living([worker.comparisons() for worker in self._workers])
        return sorted((each for one in lists for each in one), key=lambda each: str(each["time"]))

    async def is_ready(self) -> bool:
        """Tell whether every worker could answer a query now."""
        if self.is_ending:
            return False
        ready = await self._of_living([self._is_ready(worker) for worker in self._workers])
        return bool(ready) and all(ready)

    async def _is_ready(self, worker: Control) -> bool:
        """Tell whether a worker is ready; one that can't say is not."""
        try:
            return await worker.is_ready()
        except WorkerEndedError:
            raise
        except Exception as error:
            tell(self.numbers, Border.WORKERS, error)
            return False

    async def _of_living(self, calls: Sequence[Awaitable[Result]]) -> list[Result]:
        """Await calls to all workers, and leave out those that fail.

        One that has ended reads everything anew when it is replaced. What else goes wrong with one
        is told, and keeps nobody from hearing of the others.
        """
        results = await asyncio.gather(*calls, return_exceptions=True)
        for each in results:
            if isinstance(each, Exception) and not isinstance(each, WorkerEndedError):
                cause = tell(self.numbers, Border.WORKERS, each)
                logger.error("a worker did not do what it was asked", extra={"cause": cause})
        return [each for each in results if not isinstance(each, BaseException)]


async def _measure(worker: Control) -> tuple[Control, dict[str, Any]]:
    """Give a worker and its numbers."""
    return worker, await worker.measure()


async def watch_files(
    settings: Settings,
    administration: Administration,
    read: Read,
    seen: Mapping[Path, Stamp],
) -> None:
    """Reload whenever the settings' file, or a file that it names, has changed.

    Args:
        settings: As they were read.
        administration: Reloads.
        read: Reads the settings anew.
        seen: :func:`stamp_files` from before anything was read.
    """
    watch = _Watch(settings, administration, read, seen)
    numbers, every_s = administration.numbers, settings.reload.interval_s
    await repeat(numbers, Border.WATCHER, every_s, watch.look)


class _Watch:
    """The files, as they were seen last.

    A change counts once it has stood still for one look, so that a file that is being copied is
    not read half. What changes while it is read is seen at the next look.
    """

    def __init__(
        self,
        settings: Settings,
        administration: Administration,
        read: Read,
        seen: Mapping[Path, Stamp],
    ) -> None:
        """Begin with what was seen before anything was read."""
        self._settings = settings
        self._administration = administration
        self._read = read
        self._seen = self._last = seen

    async def look(self) -> None:
        """Look at the files once."""
        now = stamp_files(self._settings)
        has_changed = now != self._seen and now == self._last
        self._last = now
        if has_changed:
            self._settings = self._newest()
            # Before they are read: what changes meanwhile is seen next.
            self._seen = stamp_files(self._settings)
            logger.info("files have changed")
            await self._administration.reload()

    def _newest(self) -> Settings:
        """Read which files are named now; the last ones where that can't be read."""
        try:
            return self._read()
        except Exception as error:  # the reload says what is wrong, and counts
            tell(self._administration.numbers, Border.WATCHER, error)
            return self._settings


def stamp_files(settings: Settings) -> dict[Path, Stamp]:
    """Give the stamps of every file that is watched."""
    paths = [] if settings.source is None else [settings.source]
    for route in settings.routes:
        try:
            paths.append(resolve_model_path(route.adapter))
        except SidecarError:
            paths.append(route.adapter)
    for encoder in settings.encoders:
        try:
            paths.append(resolve_encoder_path(encoder.file))
        except SidecarError:
            paths.append(encoder.file)
    for each in settings.collections:
        paths += [path for path in (each.index, each.ids, each.payload) if path is not None]
    return {path: stamp(path) for path in paths}
