"""What every test shares: its marker by folder, one thread, one seed, and what is made once."""

import functools
import gc
import os
import signal
import ssl
from pathlib import Path

os.environ["HAYSTACK_TELEMETRY_ENABLED"] = "False"  # read when it is imported, by whatever is first
os.environ["OMP_NUM_THREADS"] = "1"  # on tiny arrays, threads would only wait for one another

import httpx._transports.default as httpx_transport
import pytest

from tests.support.qdrant.fixtures import qdrant, running_standin, standin

__all__ = ["qdrant", "running_standin", "standin"]  # fixtures

KINDS = {"architecture", "contract", "e2e", "integration", "property", "unit"}


def pytest_configure() -> None:
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        # So a shell starts a script's jobs in the background, and commands would inherit it: tests
        # interrupt them as a user does.
        signal.signal(signal.SIGINT, signal.default_int_handler)
    _read_authorities_once()


def _read_authorities_once() -> None:
    """Read the system's certificate authorities once, and not for each of hundreds of clients."""
    make = httpx_transport.create_ssl_context

    @functools.cache
    def usual(_environment: tuple[str | None, ...]) -> ssl.SSLContext:
        return make()

    @functools.wraps(make)
    def make_or_reuse(*, verify: object = True, cert: object = None, trust_env: bool = True):
        if verify is not True or cert is not None or not trust_env:
            return make(verify=verify, cert=cert, trust_env=trust_env)
        return usual(tuple(os.environ.get(name) for name in ("SSL_CERT_FILE", "SSL_CERT_DIR")))

    httpx_transport.create_ssl_context = make_or_reuse


def pytest_collection_finish() -> None:
    """Leave what was imported alone: the collector went through all of it, again and again."""
    gc.collect()
    gc.freeze()


@pytest.hookimpl(trylast=True)  # once the order of chance is made
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    tests = Path(__file__).parent
    for item in items:
        parts = item.path.relative_to(tests).parts if item.path.is_relative_to(tests) else ()
        kind = parts[0] if parts and parts[0] in KINDS else "unit"
        item.add_marker(kind)
    # The demo takes longest: at the end, one worker would run it while others have nothing to do.
    items.sort(key=lambda item: item.path.name != "test_demo.py")
