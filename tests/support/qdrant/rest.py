"""Qdrant's REST over the collections: an ASGI application."""

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any
from urllib.parse import unquote

import orjson
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.types import Receive, Scope, Send

from tests.support.qdrant.access import refusal
from tests.support.qdrant.errors import WireError, bad_format, from_engine, refuse_lacking
from tests.support.qdrant.record import Recorder
from tests.support.qdrant.registry import Registry
from tests.support.qdrant.routes import Call, Handler, find_route

VERSION = "1.20.0"
TITLE = "qdrant - vector search engine"

_OPEN = {"", "healthz", "livez", "readyz"}
_RECORD = "_test/requests"


@dataclass
class RestApp:
    """Answers HTTP for one registry."""

    registry: Registry
    recorder: Recorder
    api_key: str | None = None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return
        request = Request(scope, receive)
        body = await request.body()
        response = self._answer(request, body)
        await response(scope, receive, send)

    def _answer(self, request: Request, body: bytes) -> Response:
        path = request.scope["raw_path"].decode("latin-1")
        parts = [unquote(part) for part in path.split("/") if part]
        joined = "/".join(parts)
        if joined == _RECORD:
            return self._recorded(request.method)
        query = request.scope["query_string"].decode("latin-1")
        self.recorder.keep(
            "rest",
            request.method,
            f"{path}?{query}" if query else path,
            request.scope["headers"],
            body,
        )
        if joined in _OPEN and request.method == "GET":
            return _health(joined)
        refused = refusal(self.api_key, request.headers.get)
        if refused:
            return PlainTextResponse(refused, 401)
        found = find_route(request.method, parts)
        if found is None:
            return Response(status_code=404)
        return self._run(*found, request, body)

    def _run(self, handler: Handler, names: list[str], request: Request, body: bytes) -> Response:
        started = time.perf_counter()

        def elapsed() -> float:
            return time.perf_counter() - started

        try:
            call = Call(self.registry, names, _parse(body), dict(request.query_params))
            return _json(_ok(handler(call), elapsed))
        except WireError as error:
            return _json(_error(error, elapsed), error.status)
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            refused = from_engine(error)  # the request lacks something or has it of another type
            return _json(_error(refused, elapsed), refused.status)

    def _recorded(self, method: str) -> Response:
        if method == "DELETE":
            self.recorder.clear()
            return _json({"result": True})
        return _json({"result": self.recorder.requests()})


def _parse(body: bytes) -> Any:
    if not body:
        return None
    try:
        data = orjson.loads(body)
    except orjson.JSONDecodeError as error:
        raise bad_format(error) from error
    refuse_lacking(data)
    return data


def _health(name: str) -> Response:
    if not name:
        return _json({"title": TITLE, "version": VERSION, "commit": "0" * 40})
    text = "all shards are ready" if name == "readyz" else f"{name} check passed"
    return PlainTextResponse(text)


def _ok(result: Any, elapsed: Callable[[], float]) -> dict[str, Any]:
    return {"result": result, "status": "ok", "time": elapsed()}


def _error(error: WireError, elapsed: Callable[[], float]) -> dict[str, Any]:
    return {"status": {"error": error.message}, "result": None, "time": elapsed()}


def _json(content: Any, status: int = 200) -> Response:
    body = orjson.dumps(content, option=orjson.OPT_SERIALIZE_NUMPY)
    return Response(body, status, media_type="application/json")
