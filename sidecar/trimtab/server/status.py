"""The one table from what went wrong to what the caller is told."""

from http import HTTPStatus
from typing import NamedTuple

from trimtab.errors import (
    BusyError,
    ConfigError,
    DeadlineError,
    MalformedError,
    MissingExtraError,
    NotServedError,
    OverloadedError,
    RefusedError,
    SidecarError,
    TooLargeError,
    UnauthenticatedError,
    UnavailableError,
)


class Status(NamedTuple):
    """How an error is answered.

    Attributes:
        http: HTTP status.
        grpc: Name of the gRPC code.
        name: Label in metrics.
    """

    http: int
    grpc: str
    name: str


_TABLE: tuple[tuple[type[SidecarError], Status], ...] = (
    (RefusedError, Status(HTTPStatus.UNPROCESSABLE_ENTITY, "FAILED_PRECONDITION", "refused")),
    (UnauthenticatedError, Status(HTTPStatus.UNAUTHORIZED, "UNAUTHENTICATED", "unauthenticated")),
    (TooLargeError, Status(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, "RESOURCE_EXHAUSTED", "too_large")),
    (MalformedError, Status(HTTPStatus.BAD_REQUEST, "INVALID_ARGUMENT", "malformed")),
    (BusyError, Status(HTTPStatus.SERVICE_UNAVAILABLE, "RESOURCE_EXHAUSTED", "busy")),
    (OverloadedError, Status(HTTPStatus.SERVICE_UNAVAILABLE, "UNAVAILABLE", "overloaded")),
    (UnavailableError, Status(HTTPStatus.BAD_GATEWAY, "UNAVAILABLE", "upstream_unavailable")),
    (DeadlineError, Status(HTTPStatus.GATEWAY_TIMEOUT, "DEADLINE_EXCEEDED", "upstream_timeout")),
    (ConfigError, Status(HTTPStatus.SERVICE_UNAVAILABLE, "FAILED_PRECONDITION", "unfit")),
    (NotServedError, Status(HTTPStatus.NOT_FOUND, "UNIMPLEMENTED", "not_served")),
    (MissingExtraError, Status(HTTPStatus.NOT_IMPLEMENTED, "UNIMPLEMENTED", "missing_extra")),
)
_INTERNAL = Status(HTTPStatus.INTERNAL_SERVER_ERROR, "INTERNAL", "internal")


def status_of(error: Exception) -> Status:
    """Give an error's answer; anything not foreseen is internal."""
    return next((status for kind, status in _TABLE if isinstance(error, kind)), _INTERNAL)
