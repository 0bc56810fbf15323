"""When the next request may be sent: what an endpoint says of its limits, for all workers.

Source:
    Headers: OpenAI, "Rate limits" (``x-ratelimit-remaining-*``, ``x-ratelimit-reset-*`` as
    ``1s``, ``6m0s`` or ``12ms``), used alike by vLLM's, Groq's and OpenRouter's gateways.
"""

import asyncio
import random
import re
import time
from collections.abc import Awaitable, Callable, Mapping

from trimtab.retries import finite_number

_PART = re.compile(r"(\d+(?:\.\d+)?)(ms|s|m|h|d)?")
_SECONDS = {"ms": 0.001, "s": 1.0, "": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}
_LONGEST_RESET_S = 120.0  # a full reset may be far off where a little is free long before
_FIRST_BACKOFF_S, _LONGEST_BACKOFF_S = 0.5, 60.0


class Halted(Exception):
    """Whoever waited for a turn gets none: the run stops."""


class Pacer:
    """Holds requests back as long as the endpoint asks for."""

    def __init__(
        self,
        *,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
        clock: Callable[[], float] = time.monotonic,
        rng: random.Random | None = None,
    ) -> None:
        """Begin without a pause.

        Args:
            sleep: Waits a number of seconds.
            clock: Seconds that never go back.
            rng: Source of jitter.
        """
        self._sleep, self._clock = sleep, clock
        self._rng = rng or random.Random()  # noqa: S311 - jitter, no secret
        self._open_at = clock()
        self._halt = asyncio.Event()

    async def turn(self) -> None:
        """Wait until requests may be sent; not all waiting workers go at the same moment.

        Raises:
            Halted: The run stops.
        """
        while (pause_s := self._open_at - self._clock()) > 0:
            await self._wait(pause_s + self._rng.random() * min(1.0, pause_s))
        if self._halt.is_set():
            raise Halted

    def halt(self) -> None:
        """Send away whoever waits, and whoever comes."""
        self._halt.set()

    def pause(self, seconds: float) -> None:
        """Hold every request back for so long from now."""
        self._open_at = max(self._open_at, self._clock() + seconds)

    def note(self, headers: Mapping[str, str], tokens_needed: int) -> None:
        """Pause before a limit is hit: when no request, or too few tokens, remain until a reset.

        Args:
            headers: Of an answer, names in lower case.
            tokens_needed: What a request like the last one takes.
        """
        for kind, needed in (("requests", 1), ("tokens", tokens_needed)):
            remaining = finite_number(headers.get(f"x-ratelimit-remaining-{kind}"))
            limit = finite_number(headers.get(f"x-ratelimit-limit-{kind}"))
            reset_s = duration_s(headers.get(f"x-ratelimit-reset-{kind}", ""))
            if remaining is None or reset_s is None or (limit or 1) <= 0:
                continue  # Azure writes -1 where it does not count
            if 0 <= remaining < needed:
                self.pause(min(reset_s, _LONGEST_RESET_S))

    async def back_off(self, attempt: int) -> None:
        """Wait before one request's next try, longer each time, with jitter.

        Args:
            attempt: Tries that failed before this one, from 0.

        Raises:
            Halted: The run stops.
        """
        delay_s = min(_LONGEST_BACKOFF_S, _FIRST_BACKOFF_S * 2.0**attempt)
        await self._wait(delay_s * (0.5 + self._rng.random()))

    async def _wait(self, seconds: float) -> None:
        """Sleep, unless the run stops meanwhile."""
        naps = [
            asyncio.ensure_future(self._sleep(seconds)),
            asyncio.ensure_future(self._halt.wait()),
        ]
        try:
            await asyncio.wait(naps, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for nap in naps:
                nap.cancel()
        if self._halt.is_set():
            raise Halted


def duration_s(text: str) -> float | None:
    """Read a duration such as ``6m0s``, ``12ms`` or ``1.5``, in seconds.

    Example:
        >>> duration_s("6m0s"), duration_s("12ms"), duration_s("1.5"), duration_s("soon")
        (360.0, 0.012, 1.5, None)
    """
    parts = _PART.findall(text)
    if not parts or "".join(number + unit for number, unit in parts) != text.strip():
        return None
    return sum(float(number) * _SECONDS[unit] for number, unit in parts)
