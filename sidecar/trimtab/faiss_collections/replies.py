"""Answers in Qdrant's form: a result, or the error that its server would give.

Words and statuses are those of Qdrant 1.19: lib/storage/src/content_manager/errors.rs and
src/actix/helpers.rs.
"""

import time
from dataclasses import dataclass
from typing import Any

from trimtab.errors import MissingExtraError, SidecarError

try:
    import orjson
except ImportError as error:
    raise MissingExtraError("collections need orjson: pip install 'trimtab[server]'") from error

Json = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Reply:
    """What goes back to the client: status, the whole body, its media type, more of its head."""

    status: int
    body: bytes
    content_type: str = "application/json"
    fields: tuple[tuple[bytes, bytes], ...] = ()


class RequestError(SidecarError):
    """A request about a served collection that is answered with an error of Qdrant's form.

    Whatever reads a part of a request raises it, and :mod:`service` answers it.

    Attributes:
        status: HTTP status.
    """

    def __init__(self, status: int, message: str) -> None:
        """Keep the status beside the message."""
        super().__init__(message)
        self.status = status


def write_result(result: Any, started: float) -> Reply:
    """Wrap a result; ``started`` is what ``time.perf_counter`` gave when the request came."""
    return write_json({"result": result, "status": "ok", "time": time.perf_counter() - started})


def write_error(error: RequestError, started: float) -> Reply:
    """Wrap an error."""
    took = time.perf_counter() - started
    return write_json({"status": {"error": str(error)}, "result": None, "time": took}, error.status)


def write_json(content: Any, status: int = 200) -> Reply:
    """Write a body; numpy's numbers and arrays keep float32's shortest form."""
    return Reply(status, orjson.dumps(content, option=orjson.OPT_SERIALIZE_NUMPY))


def read_body(body: bytes) -> Json:
    """Read the object that every POST of Qdrant's takes."""
    try:
        data = orjson.loads(body)
    except orjson.JSONDecodeError as error:
        raise bad_format(error) from error
    if not isinstance(data, dict):
        raise bad_format("invalid type: expected a map")
    return data


def bad_format(what: object) -> RequestError:
    """Say that a body can't be read."""
    return RequestError(400, f"Format error in JSON body: {what}")


def wrong_input(what: str) -> RequestError:
    """Say that a request makes no sense for this collection."""
    return RequestError(400, f"Wrong input: {what}")


def bad_request(what: str) -> RequestError:
    """Say that a request lacks something."""
    return RequestError(400, f"Bad request: {what}")


def invalid(what: str) -> RequestError:
    """Say that a value is out of its range."""
    return RequestError(422, f"Validation error in JSON body: [{what}]")


def not_found(what: str) -> RequestError:
    """Say that something does not exist."""
    return RequestError(404, f"Not found: {what}")


def not_served(what: str, instead: str) -> RequestError:
    """Say what a FAISS index can't do here, and what to do instead."""
    return RequestError(400, f"Bad request: {what} can't be done on a FAISS index; {instead}")
