"""What can be asked of a worker, in this process or in another, and how it is asked.

Between processes, calls and their results pass as lines of JSON. :class:`Call` is the one list of
them: the supervisor can't send another, and a worker answers what it does not know with an error.
"""

import asyncio
import json
from collections.abc import Callable
from enum import StrEnum
from typing import Any, Protocol

from trimtab.metrics import Telemetry
from trimtab.unforeseen import Border, describe_error, tell

LINE_LIMIT_BYTES = 64 * 2**20


class Control(Protocol):
    """A worker; see :class:`trimtab.server.process.worker.Worker`."""

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

    async def invalidate(self, collection: str) -> None:
        """Forget what Qdrant said of a collection, or of all where the name is empty."""


class Call(StrEnum):
    """The methods of :class:`Control`, by their names."""

    PREPARE = "prepare"
    COMMIT = "commit"
    ABORT = "abort"
    ROLL_BACK = "roll_back"
    DESCRIBE = "describe"
    MEASURE = "measure"
    COMPARISONS = "comparisons"
    IS_READY = "is_ready"
    INVALIDATE = "invalidate"


def write_line(message: Any) -> bytes:
    """Write a message."""
    return json.dumps(message).encode() + b"\n"


async def read_lines(
    reader: asyncio.StreamReader, take: Callable[[Any], None], telemetry: Telemetry
) -> None:
    """Hand over every message until the other side is gone; one that can't be read is told.

    Args:
        reader: Where they come from.
        take: Is given each.
        telemetry: Counts those that can't be read or taken.
    """
    while True:
        try:
            line = await reader.readline()
            if not line.endswith(b"\n"):  # the end, perhaps in the middle of a message
                return
            take(json.loads(line))
        except ConnectionError:
            return
        except Exception as error:
            tell(telemetry, Border.WORKERS, error)


async def answer_call(worker: Control, message: Any, telemetry: Telemetry) -> bytes:
    """Do what the supervisor asks; give the line to answer.

    Args:
        worker: Who does it.
        message: Number, name of the call, and its arguments.
        telemetry: Counts the calls that fail.
    """
    number, name, arguments = message
    try:
        result = await getattr(worker, Call(name))(*arguments)
        return write_line([number, {"result": result}])
    except Exception as error:
        tell(telemetry, Border.WORKERS, error)
        return write_line([number, {"failed": describe_error(error)}])
