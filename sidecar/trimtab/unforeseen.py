"""What nobody foresaw, at the borders with libraries and the system.

Errors that this package raises on purpose say what is wrong and what to do about it. Whoever meets
any other tells it here: it goes into the log with its traceback and into the metrics, and whatever
was under way goes on.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable
from enum import StrEnum

from trimtab import metrics as t
from trimtab.errors import SidecarError
from trimtab.metrics import Telemetry

logger = logging.getLogger(__name__)

_MOST_CHARACTERS = 300


class Border(StrEnum):
    """Where other people's code is called whose errors must end nothing."""

    RELOAD = "reload"
    WATCHER = "watcher"
    WORKERS = "workers"
    ADMIN = "admin"
    FACTS = "facts"
    SHADOW = "shadow"
    CLIENTS = "clients"
    UPSTREAM = "upstream"
    REQUEST = "request"
    END = "end"


def tell(telemetry: Telemetry, border: Border, error: BaseException) -> str:
    """Log and count an error, unless it was raised on purpose; give it on one line."""
    if isinstance(error, SidecarError):
        return str(error)
    cause = describe_error(error)
    logger.error("unforeseen error", exc_info=error, extra={"where": border.value, "cause": cause})
    telemetry.count(t.UNFORESEEN, border)
    return cause


def describe_error(error: BaseException) -> str:
    """Write an error on one line; one that was not raised on purpose with its type."""
    if isinstance(error, SidecarError):
        return str(error)
    text = " ".join(str(error).split())[:_MOST_CHARACTERS]
    return f"{type(error).__name__}: {text}" if text else type(error).__name__


async def repeat(
    telemetry: Telemetry, border: Border, every_s: float, work: Callable[[], Awaitable[None]]
) -> None:
    """Do something again and again, whatever becomes of one turn.

    Args:
        telemetry: Counts the turns that fail.
        border: Where they do.
        every_s: Seconds before each turn.
        work: One turn.
    """
    while True:
        await asyncio.sleep(every_s)
        try:
            await work()
        except Exception as error:
            tell(telemetry, border, error)
