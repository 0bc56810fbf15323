"""Every error of ours has one answer."""

import inspect

import grpc
import pytest

from trimtab import errors
from trimtab.server.status import status_of

EXPECTED = {
    "RefusedError": (422, "FAILED_PRECONDITION"),
    "TooLargeError": (413, "RESOURCE_EXHAUSTED"),
    "MalformedError": (400, "INVALID_ARGUMENT"),
    "OverloadedError": (503, "UNAVAILABLE"),
    "UnavailableError": (502, "UNAVAILABLE"),
    "DeadlineError": (504, "DEADLINE_EXCEEDED"),
    "ConfigError": (503, "FAILED_PRECONDITION"),
    "NotServedError": (404, "UNIMPLEMENTED"),
    "MissingExtraError": (501, "UNIMPLEMENTED"),
}
KINDS = {
    name: kind
    for name, kind in vars(errors).items()
    if inspect.isclass(kind) and issubclass(kind, errors.SidecarError)
}


@pytest.mark.parametrize("name", EXPECTED)
def test_an_error_is_answered_as_it_deserves(name: str) -> None:
    status = status_of(KINDS[name]("told"))
    assert (status.http, status.grpc) == EXPECTED[name]


@pytest.mark.parametrize("name", KINDS)
def test_every_error_has_an_answer_that_both_protocols_know(name: str) -> None:
    status = status_of(KINDS[name]("told"))
    assert 400 <= status.http < 600
    assert status.grpc in grpc.StatusCode.__members__
    assert status.name.isidentifier()


def test_what_nobody_foresaw_is_internal() -> None:
    assert status_of(RuntimeError("told")) == (500, "INTERNAL", "internal")
