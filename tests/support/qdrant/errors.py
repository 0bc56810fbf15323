"""What the server says when it refuses, and what the engine's own errors become.

Words and statuses: StorageError and its HttpError in Qdrant's source (1.19)
lib/storage/src/content_manager/errors.rs, src/actix/helpers.rs.
"""

import re
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any


class WireError(Exception):
    """A refusal with its HTTP status; gRPC derives its code from the same number."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status
        self.message = message


def wrong_input(what: str) -> WireError:
    return WireError(400, f"Wrong input: {what}")


def bad_request(what: str) -> WireError:
    return WireError(400, f"Bad request: {what}")


def bad_format(what: object) -> WireError:
    return WireError(400, f"Format error in JSON body: {what}")


def unknown_variant(value: object, known: Iterable[str]) -> WireError:
    names = ", ".join(f"`{name}`" for name in known)
    return bad_format(f"unknown variant `{value}`, expected one of {names}")


def invalid(what: str) -> WireError:
    return WireError(422, f"Validation error in JSON body: [{what}]")


def not_found(what: str) -> WireError:
    return WireError(404, f"Not found: {what}")


def missing_collection(name: str) -> WireError:
    return not_found(f"Collection `{name}` doesn't exist!")


def missing_point(point_id: object) -> WireError:
    return not_found(f"No point with id {point_id} found")


def already_exists(name: str) -> WireError:
    return WireError(409, f"Wrong input: Collection `{name}` already exists!")


def no_inference() -> WireError:
    # 500, not 400: src/common/inference/infer_processing.rs answers with a service error.
    return WireError(
        500,
        "Service internal error: InferenceService is not initialized. Please check if it was"
        " properly configured and initialized during startup.",
    )


# What changes an answer and is not done here: refused, since an answer without it would be wrong.
LACKING = frozenset(
    {
        "lookup_from",
        "with_lookup",
        "update_filter",
        "update_mode",
        "quantization_config",
        "hnsw_config",
        "optimizers_config",
    }
)


def lacking(name: str) -> WireError:
    return WireError(501, f"Not here: our stand-in for Qdrant has no `{name}`")


def refuse_lacking(data: Any) -> None:
    """Look for fields of `LACKING` anywhere in a body."""
    if isinstance(data, dict):
        for name, value in data.items():
            if name in LACKING and value is not None:
                raise lacking(name)
            refuse_lacking(value)
    elif isinstance(data, list) and data and isinstance(data[0], dict):
        for one in data:
            refuse_lacking(one)


# The engine's short words -> the server's (From<OperationError>, collection/.../types.rs)
_REWORDED = {
    "Wrong usage of sparse vectors": "Conversion between sparse and regular vectors failed",
    "Wrong usage of multi vectors": "Conversion between multi and regular vectors failed",
}
_INTERNAL = re.compile(r"^(Service (runtime|internal) error|.*panicked)", re.DOTALL)


def from_engine(error: Exception) -> WireError:
    """What the server would answer for one of the engine's errors."""
    text = str(error)
    if isinstance(error, KeyError):
        return bad_format(f"missing field `{error.args[0]}`")
    if isinstance(error, (TypeError, ValueError, OverflowError, AttributeError)):
        return bad_format(text.partition("\n")[0])
    missing = re.match(r"^No point with id (\S+)", text)
    if missing:
        return missing_point(missing[1])
    if _INTERNAL.match(text):
        return WireError(500, f"Service internal error: {text}")
    return wrong_input(_REWORDED.get(text, text))


@contextmanager
def engine_errors() -> Iterator[None]:
    """Turn whatever the engine, or a conversion for it, raises into a `WireError`."""
    try:
        yield
    except WireError:
        raise
    except Exception as error:
        raise from_engine(error) from error
