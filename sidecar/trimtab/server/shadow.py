"""Routes in shadow mode: the raw query is answered, the adapted one is asked beside it.

After the client has its answer. What is kept of a comparison are ids and numbers, never vectors,
texts or keys.
"""

import asyncio
import logging
import random
from collections import deque
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from typing import Any

import orjson

from trimtab import metrics as t
from trimtab.errors import SidecarError
from trimtab.metrics import Telemetry
from trimtab.server.rankings import Ranking, overlap, rank_distance, read_rankings
from trimtab.settings import ShadowSettings
from trimtab.unforeseen import Border, tell
from trimtab.upstream.http1 import Fields, field_of, unpack
from trimtab.upstream.rest_connection import AnswerHead

logger = logging.getLogger(__name__)

ANSWER_LIMIT_BYTES = 4 * 2**20
"""A larger raw answer is not compared."""

AskShadow = Callable[[], Awaitable[Mapping[int, Ranking]]]
"""Asks the adapted query; gives the rankings of the searches that were changed, by position."""


@dataclass(frozen=True, slots=True)
class Comparison:
    """One query, answered raw and adapted.

    Attributes:
        time: When, ISO 8601 in UTC.
        collection: As the request named it.
        overlap: Share of points that both answers have.
        rank_distance: How far the rankings are apart, 0 to 1.
        raw: Ids of the raw answer, best first.
        adapted: Ids of the adapted one.
    """

    time: str
    collection: str
    overlap: float
    rank_distance: float
    raw: Ranking
    adapted: Ranking


class Shadow:
    """Asks twins and compares."""

    def __init__(self, settings: ShadowSettings, telemetry: Telemetry) -> None:
        """Begin with no comparison."""
        self._settings = settings
        self._telemetry = telemetry
        self._kept: deque[Comparison] = deque(maxlen=settings.kept)
        self._tasks: set[asyncio.Task[None]] = set()

    def comparisons(self) -> list[dict[str, Any]]:
        """Give the last comparisons, newest last."""
        return [asdict(each) for each in self._kept]

    def is_wanted(self) -> bool:
        """Tell whether the next request is to be compared; count one that comes at a bad time."""
        if random.random() >= self._settings.share:  # noqa: S311  # a sample, no secret
            return False
        return self._has_room()

    def _has_room(self) -> bool:
        """Tell whether one more twin may be under way; count the one that may not."""
        if len(self._tasks) < self._settings.concurrent:
            return True
        self._telemetry.count(t.SHADOW_SKIPPED, "busy")
        return False

    def offer(
        self, collection: str, raw: Callable[[], Sequence[Ranking]], ask_shadow: AskShadow
    ) -> None:
        """Compare an answer with that to the adapted query, in the background.

        Unless as many twins are under way as may be: others may have begun since the request was
        :meth:`wanted <is_wanted>`, while it was answered.

        Args:
            collection: As the request named it.
            raw: Reads the raw answer's rankings.
            ask_shadow: Asks the adapted query.
        """
        if not self._has_room():
            return
        task = asyncio.create_task(self._compare(collection, raw, ask_shadow))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _compare(
        self, collection: str, raw: Callable[[], Sequence[Ranking]], ask_shadow: AskShadow
    ) -> None:
        """Compare one answer."""
        try:
            ours = raw()
            theirs = await ask_shadow()
            if not theirs:
                self._telemetry.count(t.SHADOW_SKIPPED, "not_adapted")
                return
            for position, adapted in theirs.items():
                self._keep(collection, ours[position], adapted)
        except SidecarError as error:
            logger.warning("shadow query failed", extra={"cause": str(error)})
            self._telemetry.count(t.SHADOW_SKIPPED, "failed")
        except (ValueError, LookupError, TypeError, AttributeError):
            self._telemetry.count(t.SHADOW_SKIPPED, "unreadable")
        except Exception as error:
            tell(self._telemetry, Border.SHADOW, error)
            self._telemetry.count(t.SHADOW_SKIPPED, "failed")

    def _keep(self, collection: str, raw: Ranking, adapted: Ranking) -> None:
        """Keep and count one comparison."""
        comparison = Comparison(
            time=datetime.now(UTC).isoformat(timespec="milliseconds"),
            collection=collection,
            overlap=overlap(raw, adapted),
            rank_distance=rank_distance(raw, adapted),
            raw=raw,
            adapted=adapted,
        )
        self._kept.append(comparison)
        self._telemetry.observe(t.SHADOW_OVERLAP, comparison.overlap, collection)
        self._telemetry.observe(t.SHADOW_DISTANCE, comparison.rank_distance, collection)


class Capture:
    """Keeps a copy of an answer while it passes by, to be compared once it is whole."""

    def __init__(self, shadow: Shadow, collection: str, ask_shadow: AskShadow) -> None:
        """Wait for the answer.

        Args:
            shadow: Who compares.
            collection: As the request named it.
            ask_shadow: Asks the adapted query.
        """
        self._shadow = shadow
        self._collection = collection
        self._ask_shadow = ask_shadow
        self._status = 0
        self._fields: Fields = []
        self._pieces: list[bytes] = []
        self._size = 0

    def head_received(self, head: AnswerHead) -> None:
        """Take the head."""
        self._status, self._fields = head.status, head.fields

    def data_received(self, data: bytes) -> None:
        """Take a piece."""
        self._size += len(data)
        if self._size <= ANSWER_LIMIT_BYTES:
            self._pieces.append(data)

    def answer_ended(self) -> None:
        """Have it compared."""
        if self._status == 200 and self._size <= ANSWER_LIMIT_BYTES:
            self._shadow.offer(self._collection, self._read, self._ask_shadow)

    def _read(self) -> Sequence[Ranking]:
        """Read the rankings of the raw answer."""
        coding = field_of(self._fields, b"content-encoding") or b""
        content = unpack(b"".join(self._pieces), coding, ANSWER_LIMIT_BYTES)
        return read_rankings(orjson.loads(content or b"null"))
