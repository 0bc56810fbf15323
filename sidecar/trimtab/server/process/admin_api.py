"""`/trimtab/*` on an address of its own: routes, health, metrics, reload, rollback, comparisons."""

import asyncio
import contextlib
import hmac
import ipaddress
import logging
import socket
from collections.abc import Awaitable, Callable
from urllib.parse import urlsplit

import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from trimtab.addresses import Address
from trimtab.metrics import Telemetry, render
from trimtab.server.process.admin_operations import Administration
from trimtab.server.process.worker import open_socket
from trimtab.unforeseen import Border, tell

logger = logging.getLogger(__name__)

Endpoint = Callable[[Request], Awaitable[Response]]

_METRICS_TYPE = "text/plain; version=0.0.4; charset=utf-8"


def make_app(administration: Administration, token: str | None, host: str) -> Starlette:
    """Make the application.

    Args:
        administration: The workers.
        host: Where it listens.
        token: What all but health and readiness ask for, as a bearer token; None for nothing.
    """
    numbers = administration.numbers

    async def health(_: Request) -> Response:
        return JSONResponse({"status": "ok"})

    async def ready(_: Request) -> Response:
        is_ready = await administration.is_ready()
        text = "ready" if is_ready else "draining, or Qdrant does not answer"
        return JSONResponse({"status": text}, 200 if is_ready else 503)

    async def routes(_: Request) -> Response:
        return JSONResponse({"workers": await administration.describe()})

    async def metrics(_: Request) -> Response:
        text = render(await administration.measure())
        return Response(text, media_type=_METRICS_TYPE)

    async def reload(_: Request) -> Response:
        cause = await administration.reload()
        if cause:
            return JSONResponse({"status": "refused; the old routes stay", "error": cause}, 409)
        return JSONResponse({"status": "reloaded", "workers": await administration.describe()})

    async def roll_back(_: Request) -> Response:
        if not await administration.roll_back():
            return JSONResponse({"status": "refused", "error": "there is no previous table"}, 409)
        return JSONResponse({"status": "rolled back", "workers": await administration.describe()})

    async def shadow(_: Request) -> Response:
        return JSONResponse({"comparisons": await administration.comparisons()})

    guarded: list[tuple[str, Endpoint, str]] = [
        ("routes", routes, "GET"),
        ("metrics", metrics, "GET"),
        ("shadow", shadow, "GET"),
        ("reload", reload, "POST"),
        ("rollback", roll_back, "POST"),
    ]
    app = Starlette(
        routes=[
            Route("/trimtab/health", _answered(health, numbers), methods=["GET"]),
            Route("/trimtab/ready", _answered(ready, numbers), methods=["GET"]),
            *(
                Route(
                    f"/trimtab/{name}",
                    _answered(_guard(endpoint, token, host), numbers),
                    methods=[method],
                )
                for name, endpoint, method in guarded
            ),
        ]
    )
    app.router.redirect_slashes = False
    return app


def _answered(endpoint: Endpoint, numbers: Telemetry) -> Endpoint:
    """Answer, whatever goes wrong."""

    async def asked(request: Request) -> Response:
        try:
            return await endpoint(request)
        except Exception as error:
            cause = tell(numbers, Border.ADMIN, error)
            extra = {"path": request.scope["path"], "cause": cause}  # .url reads Host, too
            logger.error("administrator's request failed", extra=extra)  # noqa: TRY400  # told with its traceback
            return JSONResponse({"status": "failed", "error": cause}, 500)

    return asked


def _guard(endpoint: Endpoint, token: str | None, host: str) -> Endpoint:
    """Ask for the token first; without one, keep web pages out that a browser here has open."""

    async def asked(request: Request) -> Response:
        scheme, _, given = request.headers.get("authorization", "").partition(" ")
        is_bearer = scheme.lower() == "bearer"  # in any case: RFC 9110, section 11.1
        if token is not None and not (
            hmac.compare_digest(given.strip().encode(), token.encode()) and is_bearer
        ):
            return JSONResponse({"error": "expected Authorization: Bearer TOKEN"}, 401)
        if token is None and not _is_from_here(request, host):
            return JSONResponse({"error": "not for web pages; set [admin] token_env"}, 403)
        return await endpoint(request)

    return asked


def _is_from_here(request: Request, host: str) -> bool:
    """Tell a request of a tool from one that a web page makes, perhaps under a name of its own."""
    if "origin" in request.headers:
        return False
    try:
        named = urlsplit(f"//{request.headers.get('host', '')}").hostname or ""
    except ValueError:  # it can be no host
        return False
    if named in {host, "localhost"}:
        return True
    try:
        ipaddress.ip_address(named)
    except ValueError:
        return not is_loopback(host)
    return True


def is_loopback(host: str) -> bool:
    """Tell whether only this machine can reach an address."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


class AdminServer:
    """The listener.

    Attributes:
        address: Where it listens.
    """

    def __init__(self, address: Address) -> None:
        """Open the socket.

        Raises:
            ConfigError: The address can't be had.
        """
        self._socket = open_socket(address, shares_port=False)
        self._socket.listen()  # from now on, though it is answered a moment later
        self.address = Address(address.host, self._socket.getsockname()[1])
        self._server: _QuietServer | None = None
        self._task: asyncio.Task[None] | None = None

    async def start(self, app: Starlette, numbers: Telemetry) -> None:
        """Begin to answer.

        Args:
            app: Answers.
            numbers: Counts what ends the listener before its time.
        """
        config = uvicorn.Config(
            app, lifespan="off", log_config=None, access_log=False, timeout_graceful_shutdown=1
        )
        logging.getLogger("uvicorn.error").setLevel(logging.ERROR)  # a line for every bad request
        self._server = _QuietServer(config)
        self._task = asyncio.create_task(_served(self._server, self._socket, numbers))

    def close(self) -> None:
        """Give the address back, before :meth:`start`."""
        self._socket.close()

    async def stop(self) -> None:
        """Answer no more."""
        if self._server is not None and self._task is not None:
            self._server.should_exit = True
            await self._task


async def _served(server: uvicorn.Server, opened: socket.socket, numbers: Telemetry) -> None:
    """Serve until told to end; what ends it before ends nothing else."""
    try:
        await server.serve([opened])
    except Exception as error:
        tell(numbers, Border.ADMIN, error)


class _QuietServer(uvicorn.Server):
    """Uvicorn, leaving the signals to us."""

    def capture_signals(self) -> "contextlib.AbstractContextManager[None]":  # type: ignore[override]  # a plain method where uvicorn has a generator
        """Capture none."""
        return contextlib.nullcontext()
