"""A pytest plugin for the process that runs the strangers' tests; see the package's docstring.

It is loaded by its file's name alone, since their tests are a package named ``tests`` as well.
"""

import asyncio
import inspect
import json
import os
import random
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from qdrant_client.async_qdrant_remote import AsyncQdrantRemote
from qdrant_client.qdrant_remote import QdrantRemote

PREFIX = "CLIENT_SUITE_"
_SHOWN = 300


def pytest_configure() -> None:
    _seed()  # parameters of tests are drawn as their files are imported
    for kind in (QdrantRemote, AsyncQdrantRemote):
        _redirect(kind, int(_option("REST_PORT")), int(_option("GRPC_PORT")))


def _option(name: str) -> str:
    return os.environ[PREFIX + name]


def _redirect(kind: Any, rest_port: int, grpc_port: int) -> None:
    """Send what is meant for the default ports of this machine to the ports under test."""
    plain = kind.__init__
    ports = {6333: rest_port, 6334: grpc_port}
    prefers_grpc = _option("PROTOCOL") == "grpc"

    def __init__(self: Any, *values: Any, **named: Any) -> None:
        given = inspect.signature(plain).bind(self, *values, **named)
        given.apply_defaults()
        options = {key: value for key, value in given.arguments.items() if key != "self"}
        more = options.pop("kwargs", {})
        if options["url"] is None and options["host"] in {None, "localhost", "127.0.0.1"}:
            options["port"] = ports.get(options["port"], options["port"])
            options["grpc_port"] = ports.get(options["grpc_port"], options["grpc_port"])
            options["prefer_grpc"] = options["prefer_grpc"] or prefers_grpc
        plain(self, **options, **more)

    kind.__init__ = __init__


@pytest.fixture(autouse=True)
def _same_draws_both_ways() -> None:
    """Give both runs the same numbers."""
    _seed()


def _seed() -> None:
    random.seed(7)
    np.random.seed(7)  # noqa: NPY002  # theirs draw from it


def pytest_collection_finish() -> None:
    """Draw fewer points where that is wished: their local mode reads each in Python."""
    common = sys.modules.get("tests.congruence_tests.test_common")
    n_points = int(_option("POINTS"))
    if not n_points or common is None:
        return
    for function in vars(common).values():
        defaults = getattr(function, "__defaults__", None)
        if defaults:
            function.__defaults__ = tuple(
                n_points if value == common.NUM_VECTORS else value for value in defaults
            )


@pytest.hookimpl(tryfirst=True)
def pytest_pyfunc_call(pyfuncitem: Any) -> bool | None:
    """Run a test that is a coroutine."""
    if not inspect.iscoroutinefunction(pyfuncitem.obj):
        return None
    names = inspect.signature(pyfuncitem.obj).parameters
    asyncio.run(pyfuncitem.obj(**{name: pyfuncitem.funcargs[name] for name in names}))
    return True


def pytest_collectreport(report: Any) -> None:
    """Write which files are no tests for the client that is installed."""
    if report.failed:
        last = str(report.longrepr).strip().splitlines()[-1]
        _write({"test": report.nodeid, "outcome": "not collected", "said": last[:_SHOWN]})


def _write(line: dict[str, str]) -> None:
    with Path(_option("OUTCOMES")).open("a", encoding="utf-8") as file:
        file.write(json.dumps(line) + "\n")


def pytest_runtest_logreport(report: Any) -> None:
    """Write every end of a test as it comes: the file may run out of time."""
    if report.when != "call" and report.outcome == "passed":
        return
    said = ""
    if report.failed:
        crash = getattr(report.longrepr, "reprcrash", None)
        said = str(crash.message if crash else report.longrepr)[:_SHOWN]
    _write({"test": report.nodeid, "outcome": report.outcome, "said": said})
