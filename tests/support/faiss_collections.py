"""FAISS collections in files, and a small HTTP front before what answers for them."""

import contextlib
import json
import socket
import threading
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import faiss
import numpy as np
import uvicorn
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from trimtab.faiss_collections import Collections
from trimtab.faiss_files import IndexFile
from trimtab.settings import CollectionSettings

METRICS = {
    "Dot": faiss.METRIC_INNER_PRODUCT,
    "Cosine": faiss.METRIC_INNER_PRODUCT,
    "Euclid": faiss.METRIC_L2,
    "Manhattan": faiss.METRIC_L1,
}


def vectors_of(n_rows: int, dim: int, *, seed: int = 5) -> np.ndarray:
    """Random vectors, nothing like unit length."""
    return np.random.default_rng(seed).normal(size=(n_rows, dim)).astype(np.float32)


def normalise(vectors: np.ndarray) -> np.ndarray:
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


def build_index(
    kind: str, vectors: np.ndarray, distance: str = "Dot", numbers: Sequence[int] | None = None
) -> faiss.Index:
    """An index by its factory string, with the vectors; an id map gets the numbers."""
    if distance == "Cosine":
        vectors = normalise(vectors)
    index = faiss.index_factory(vectors.shape[1], kind, METRICS[distance])
    if kind.startswith("OPQ"):  # one of the rotations that it might find serves as well as another
        faiss.downcast_VectorTransform(index.chain.at(0)).niter = 1
    index.train(vectors)
    if numbers is not None or "IDMap" in kind:
        chosen = np.arange(len(vectors)) if numbers is None else np.array(numbers)
        index.add_with_ids(vectors, chosen)
    else:
        index.add(vectors)
    return index


def plain_rows(n_rows: int) -> IndexFile:
    """An index of so many rows, as far as a file of ids looks at it."""
    return IndexFile(None, (), np.arange(n_rows), None, "", None, has_own_numbers=False)


def write_collection(
    folder: Path,
    index: faiss.Index,
    ids: Sequence[Any] | None = None,
    payloads: Sequence[dict[str, Any]] | None = None,
    name: str = "papers",
) -> CollectionSettings:
    """The files of a collection."""
    index_path, ids_path, payload_path = (
        folder / f"{name}.{end}" for end in ("faiss", "ids", "jsonl")
    )
    faiss.write_index(index, str(index_path))
    if ids is not None:
        ids_path.write_text("".join(f"{each}\n" for each in ids))
    if payloads is not None:
        payload_path.write_text("".join(json.dumps(each) + "\n" for each in payloads))
    return CollectionSettings(
        name,
        index_path,
        ids_path if ids is not None else None,
        payload_path if payloads is not None else None,
    )


def ask(collections: Collections, method: str, path: str, body: Any = None) -> tuple[int, Any]:
    """The status and what stands in the body."""
    reply = collections.answer(
        method, path.encode(), b"" if body is None else json.dumps(body).encode()
    )
    assert reply is not None
    return reply.status, json.loads(reply.body)


class _Front:
    """Hands every request over, in threads, as the real server does."""

    def __init__(self, collections: Collections) -> None:
        self._collections = collections

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        request = Request(scope, receive)
        body = await request.body()
        target = request.scope["raw_path"] + b"?" + request.scope["query_string"]
        reply = await run_in_threadpool(self._collections.answer, request.method, target, body)
        response = (
            Response(status_code=404)
            if reply is None
            else Response(reply.body, reply.status, media_type=reply.content_type)
        )
        await response(scope, receive, send)


@contextlib.contextmanager
def serving(collections: Collections) -> Iterator[str]:
    """The URL of a front on loopback."""
    config = uvicorn.Config(
        _Front(collections), lifespan="off", log_level="warning", access_log=False
    )
    server = uvicorn.Server(config)
    with socket.create_server(("127.0.0.1", 0)) as listener:
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]}, daemon=True)
        thread.start()
        # The socket listens already: connections wait until the loop takes them.
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"
        server.should_exit = True
        thread.join()
