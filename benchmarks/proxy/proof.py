"""Before anything is timed: does every contender do what it says?"""

import http.client
import json
from collections.abc import Mapping
from pathlib import Path

import grpc
import numpy as np
from numpy.typing import NDArray
from qdrant_client import grpc as messages

from benchmarks.proxy.contenders import CONTENDERS, Running
from benchmarks.proxy.processes import HOST
from benchmarks.proxy.queries import (
    GRPC_METHOD,
    REST_PATH,
    grpc_body,
    query_vectors,
    rest_body,
)
from benchmarks.proxy.upstreams import Upstream
from trimtab.model.adapter import Adapter
from trimtab.routing.routes import MARK_HEADER

_CHECKED = 3
_TIMEOUT_S = 10


class ProofError(Exception):
    """A contender answers something else than it must."""


def prove(
    upstream: Upstream,
    contenders: Mapping[str, Running],
    model_files: Mapping[str, Path],
    protocol: str,
    dim: int,
) -> None:
    """Hold answers against the upstream's own, to the query or to the query as a model adapts it.

    The static upstream gives one answer to everything; there only the sidecar's mark can tell.

    Raises:
        ProofError: An answer is another.
    """
    adapters = {name: Adapter.load(path) for name, path in model_files.items()}
    ask = _ask_rest if protocol == "rest" else _ask_grpc
    direct = upstream.rest_port if protocol == "rest" else upstream.grpc_port
    for query in query_vectors(dim)[:_CHECKED]:
        wanted: dict[str | None, list[int]] = {None: ask(direct, query)[0]}
        for name, adapter in adapters.items():
            wanted[name] = ask(direct, adapter.transform(query))[0]
            if upstream.name != "static" and wanted[name] == wanted[None]:
                raise ProofError(f"the {name} adapter changes no answer, and so can prove nothing")
        for name, one in contenders.items():
            model = CONTENDERS[name].adapts_by
            ids, mark = ask(one.port(protocol), query)
            if ids != wanted[model]:
                raise ProofError(f"{name} finds {ids}; expected {wanted[model]}")
            if name.startswith("ours") and bool(mark) != (model is not None):
                raise ProofError(f"{name} answers with {MARK_HEADER} {mark!r}")


def _ask_rest(port: int, query: NDArray[np.float32]) -> tuple[list[int], str | None]:
    """Ask over REST; give the ids and the mark."""
    connection = http.client.HTTPConnection(HOST, port, timeout=_TIMEOUT_S)
    try:
        headers = {"content-type": "application/json"}
        connection.request("POST", REST_PATH, rest_body(query), headers)
        answer = connection.getresponse()
        content = answer.read()
    finally:
        connection.close()
    if answer.status != http.client.OK:
        raise ProofError(f"port {port} answers {answer.status}: {content[:300]!r}")
    points = json.loads(content)["result"]["points"]
    return [point["id"] for point in points], answer.headers.get(MARK_HEADER)


def _ask_grpc(port: int, query: NDArray[np.float32]) -> tuple[list[int], str | None]:
    """Ask over gRPC; give the ids and the mark, from the first or the last metadata."""
    with grpc.insecure_channel(f"{HOST}:{port}") as channel:
        ask = channel.unary_unary(GRPC_METHOD)
        try:
            content, call = ask.with_call(grpc_body(query), timeout=_TIMEOUT_S)
        except grpc.RpcError as error:
            raise ProofError(f"port {port} answers {error}") from error
        metadata = dict([*call.initial_metadata(), *call.trailing_metadata()])
    points = messages.QueryResponse.FromString(content).result
    return [point.id.num for point in points], metadata.get(MARK_HEADER)
