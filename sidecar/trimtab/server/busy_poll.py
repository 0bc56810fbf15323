"""Looking for the next bytes a little longer before going to sleep.

To sleep and be woken costs a processor tens of microseconds, more than a query's whole way through
the adapter. So a worker whose waits are short stays awake through them, and one whose waits are
long sleeps at once: whether it pays is told from the last waits, as KVM does before it halts a
guest's processor (``halt_poll_ns``) and HAProxy with ``busy-polling`` does always.
"""

import asyncio
import os
from time import perf_counter, sleep

_WEIGHT = 1 / 8
"""Of the last wait, in the share of waits that were short."""
_PAYS_FROM = 0.5
_CAN_YIELD = hasattr(os, "sched_yield")

FOR_ANSWER, FOR_REQUEST = 0, 1
"""What is waited for: Qdrant's answer to what was just sent, or a client's next request."""


class BusyPoll:
    """Keeps one event loop awake through waits that are short.

    What is waited for tells long waits from short ones: Qdrant may take a millisecond where the
    client comes back at once. While it is awake the worker gives way to whatever else wants its
    processor, once for each look.
    """

    def __init__(self, longest_us: int) -> None:
        """Begin with the belief that waits are long.

        Args:
            longest_us: Microseconds that the loop stays awake for; 0 to sleep at once.
        """
        self._longest_s = longest_us / 1e6
        self._share_short = [0.0, 0.0]
        self._waits_for = FOR_REQUEST
        self._since = 0.0
        self._until = 0.0
        self._is_awake = False

    def wait(self, waits_for: int, now: float) -> None:
        """Begin to wait.

        Args:
            waits_for: ``FOR_ANSWER`` or ``FOR_REQUEST``.
            now: By ``time.perf_counter``.
        """
        self._waits_for = waits_for
        self._since = now
        if self._share_short[waits_for] > _PAYS_FROM:
            self._until = now + self._longest_s
            if not self._is_awake:
                self._is_awake = True
                asyncio.get_running_loop().call_soon(self._look)

    def arrived(self, now: float) -> None:
        """End a wait, and learn how long it was.

        Args:
            now: By ``time.perf_counter``.
        """
        self._until = 0.0
        share = self._share_short[self._waits_for]
        is_short = now - self._since < self._longest_s
        self._share_short[self._waits_for] = share + (is_short - share) * _WEIGHT

    def _look(self) -> None:
        """Have the loop look once more without sleeping: it does where a call is due."""
        if perf_counter() < self._until:
            if _CAN_YIELD:
                os.sched_yield()
            else:  # Windows
                sleep(0)
            asyncio.get_running_loop().call_soon(self._look)
        else:
            self._is_awake = False
