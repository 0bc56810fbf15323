"""``POST /v1/embeddings`` and ``GET /v1/models``: the served encoders, as OpenAI's API has them.

Each encoder has three names there: its own takes texts as they are, ``NAME:document`` puts the
document prefix before them, and ``NAME:query`` the query prefix, and gives what the adapter in the
encoder's file makes of them.
"""

import base64
from collections.abc import Sequence
from typing import Any, NamedTuple

import orjson

from trimtab.errors import BusyError, MalformedError, SidecarError
from trimtab.faiss_collections.replies import Reply
from trimtab.server.encoders import Credentials, ServedEncoder
from trimtab.server.request_head import RequestHead
from trimtab.server.route_table import RouteTable
from trimtab.server.status import status_of
from trimtab.server.worker_state import WorkerState
from trimtab.text.encoder import Embedded
from trimtab.text.encoder_manifest import Role
from trimtab.upstream.http1 import unpack

_MOST_INPUTS = 2048
"""As for OpenAI."""

_FORMATS = ("float", "base64")


class _Asked(NamedTuple):
    """A request that is understood.

    Attributes:
        model: As it names it.
        served: The encoder.
        role: Whose prefix stands before the texts; None for no prefix.
        texts: The texts.
        is_base64: True for vectors as base64 of their float32.
    """

    model: str
    served: ServedEncoder
    role: Role | None
    texts: Sequence[str]
    is_base64: bool


class _RequestError(Exception):
    """A request that OpenAI's API would refuse."""

    def __init__(self, message: str, param: str | None = None, status: int = 400) -> None:
        super().__init__(message)
        self.param, self.status = param, status


async def answer_embeddings(
    state: WorkerState, table: RouteTable, head: RequestHead, target: bytes, body: bytes
) -> Reply:
    """Answer a request; errors have OpenAI's form."""
    try:
        if target.partition(b"?")[0].rstrip(b"/").endswith(b"models"):
            _need_method(head, b"GET")
            return _reply({"object": "list", "data": list(map(_model, _names(table, head.fields)))})
        _need_method(head, b"POST")
        asked = _read(table, _unpack(table, head, body), head.fields)
        pool = state.texts.of(asked.served)
        found = await pool.embed(
            asked.texts,
            asked.role or "document",
            prefixed=asked.role is not None,
            adapted=asked.role == "query",
        )
        return _reply(_written(asked, found))
    except _RequestError as error:
        return _refuse(error.status, str(error), param=error.param)
    except MalformedError as error:
        return _refuse(400, str(error))
    except SidecarError as error:
        return refuse(error)


def refuse(error: SidecarError) -> Reply:
    """Answer with an error of the sidecar's own, in OpenAI's form."""
    after = error.retry_after_s if isinstance(error, BusyError) else None
    return _refuse(status_of(error).http, str(error), retry_after_s=after)


def _need_method(head: RequestHead, method: bytes) -> None:
    """Refuse another method."""
    if head.method != method:
        raise _RequestError(f"only {method.decode()} is served here", status=405)


def _unpack(table: RouteTable, head: RequestHead, body: bytes) -> bytes:
    """Undo the body's content coding."""
    coding = head.values.get(b"content-encoding", b"")
    unpacked = unpack(body, coding, table.body_bytes)
    if unpacked is None:
        raise _RequestError("the body is in a coding that is not known here", status=415)
    return unpacked


def _names(table: RouteTable, fields: Credentials) -> list[str]:
    """Name every model that a request with these fields can ask for."""
    names = []
    for served in table.encoders:
        if not served.admits(fields):
            continue
        model = served.settings.model
        names += [model, f"{model}:document"] if served.encoder.has_raw else []
        if served.encoder.adapter is not None:
            names.append(f"{model}:query")
    return names


def _model(name: str) -> dict[str, Any]:
    """Write a model as OpenAI's list has it."""
    return {"id": name, "object": "model", "created": 0, "owned_by": "trimtab"}


def _read(table: RouteTable, body: bytes, fields: Credentials) -> _Asked:
    """Read a request.

    Raises:
        _RequestError: It can't be answered.
        UnauthenticatedError: It lacks the key of the encoder that it asks for.
    """
    try:
        record = orjson.loads(body)
    except ValueError as error:
        raise _RequestError(f"the body is not JSON: {error}") from error
    if not isinstance(record, dict) or not isinstance(record.get("model"), str):
        raise _RequestError("the body names no model; expected a string", "model")
    model = record["model"]
    served, role = _find(table, model, fields)
    served.admit(fields)
    form = record.get("encoding_format") or "float"
    if form not in _FORMATS:
        raise _RequestError(f"encoding_format is {form!r}; expected float or base64",
                            "encoding_format")  # fmt: skip
    _check_dimensions(served, role, record.get("dimensions"))
    return _Asked(model, served, role, _texts(record.get("input")), form == "base64")


def _find(table: RouteTable, model: str, fields: Credentials) -> tuple[ServedEncoder, Role | None]:
    """Find what a model's name means."""
    served = table.encoders.find(model)
    if served is not None and served.encoder.has_raw:
        return served, None
    name, _, role = model.rpartition(":")
    served = table.encoders.find(name)
    known = ", ".join(_names(table, fields))
    roles = {"query", "document"} if served is None or served.encoder.has_raw else {"query"}
    if served is None or role not in roles:
        raise _RequestError(f"no model {model!r} here; there are: {known}", "model", 404)
    if role == "query" and served.encoder.adapter is None:
        raise _RequestError(
            f"no adapter stands behind {name!r}: make its file by trimtab export-encoder --adapter "
            f"MODEL, or ask for {name!r} and adapt its queries elsewhere",
            "model",
            404,
        )
    return served, "query" if role == "query" else "document"


def _check_dimensions(served: ServedEncoder, role: Role | None, dimensions: Any) -> None:
    """Refuse another width than the model's own."""
    encoder = served.encoder
    dim = encoder.adapter.dim_out if role == "query" and encoder.adapter else encoder.dim
    if dimensions is not None and dimensions != dim:
        raise _RequestError(f"dimensions is {dimensions!r}; this model gives {dim}", "dimensions")


def _texts(given: Any) -> list[str]:
    """Read the texts."""
    texts = [given] if isinstance(given, str) else given
    if not isinstance(texts, list) or not texts:
        raise _RequestError("input is no text and no list of texts", "input")
    if not all(isinstance(text, str) for text in texts):
        raise _RequestError("input holds what is no text; token ids are not taken here", "input")
    if len(texts) > _MOST_INPUTS:
        raise _RequestError(f"input has {len(texts)} texts; at most {_MOST_INPUTS}", "input")
    return texts


def _written(asked: _Asked, found: Sequence[Embedded]) -> dict[str, Any]:
    """Write embeddings as OpenAI's API does."""
    n_tokens = sum(embedded.n_tokens for embedded in found)
    vectors = [embedded.vector.astype("<f4", copy=False) for embedded in found]
    return {
        "object": "list",
        "model": asked.model,
        "data": [
            {
                "object": "embedding",
                "index": index,
                "embedding": base64.b64encode(vector.tobytes()).decode()
                if asked.is_base64
                else vector,
            }
            for index, vector in enumerate(vectors)
        ],
        "usage": {"prompt_tokens": n_tokens, "total_tokens": n_tokens},
    }


def _reply(content: dict[str, Any], status: int = 200) -> Reply:
    """Write an answer."""
    return Reply(status, orjson.dumps(content, option=orjson.OPT_SERIALIZE_NUMPY))


def _refuse(
    status: int, message: str, *, param: str | None = None, retry_after_s: int | None = None
) -> Reply:
    """Write an error in OpenAI's form."""
    kind = "invalid_request_error" if status < 500 else "server_error"
    error = {"message": f"trimtab: {message}", "type": kind, "param": param, "code": None}
    fields = () if retry_after_s is None else ((b"retry-after", b"%d" % retry_after_s),)
    return Reply(status, orjson.dumps({"error": error}), fields=fields)
