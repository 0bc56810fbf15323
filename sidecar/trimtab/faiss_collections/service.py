"""FAISS index files served as read-only Qdrant collections: requests in, replies out.

No sockets here: the server hands over each request about one of these collections after it has
adapted the query vectors in it.
"""

import logging
import time
from collections.abc import Sequence
from typing import Any

from trimtab.errors import ConfigError, SidecarError
from trimtab.faiss_collections.endpoints import find_endpoint
from trimtab.faiss_collections.points import Points
from trimtab.faiss_collections.query import Query
from trimtab.faiss_collections.refusals import check_served
from trimtab.faiss_collections.replies import (
    Reply,
    RequestError,
    bad_format,
    not_found,
    not_served,
    read_body,
    write_error,
    write_json,
    write_result,
)
from trimtab.rewrite.qdrant_rest import split_path
from trimtab.routing.vector_schema import IndexedVector
from trimtab.settings import CollectionSettings
from trimtab.unforeseen import describe_error

logger = logging.getLogger(__name__)

VERSION = "1.20.0"
"""The Qdrant whose requests are understood; clients compare it with their own."""

_UNREADABLE = (
    LookupError, TypeError, ValueError, AttributeError, OverflowError, RecursionError,
)  # fmt: skip
"""Raised for a value of another type or size than Qdrant's models have, or nested without end."""

_HEALTH = {
    "healthz": "healthz check passed",
    "livez": "livez check passed",
    "readyz": "all shards are ready",
}


class Collections:
    """The served collections.

    Safe for use from several threads: what is open never changes, and what is kept between
    requests is guarded.
    """

    def __init__(self, served: dict[str, Points], *, alone: bool = False) -> None:
        """Keep open collections by name; ``alone`` where no Qdrant stands behind."""
        self._served = served
        self._alone = alone

    @classmethod
    def load(cls, settings: Sequence[CollectionSettings], *, alone: bool = False) -> "Collections":
        """Open the files of every collection.

        Args:
            settings: The collections.
            alone: True where there is no upstream, so that requests about other collections, and
                about the server itself, are answered as well.

        Raises:
            ConfigError: A file is missing or damaged, files of a collection don't fit one
                another, or a name stands twice.
            MissingExtraError: A package that reads a file is not installed.
        """
        served: dict[str, Points] = {}
        for each in settings:
            if not each.name or each.name in served:
                raise ConfigError(
                    f"[[collection]] name {each.name!r}; expected a name that stands once"
                )
            started = time.perf_counter()
            try:
                points = served[each.name] = Points(each)
            except SidecarError:
                raise
            except Exception as error:  # of the libraries that read the files
                raise ConfigError(
                    f"[[collection]] {each.name!r} can't be opened: {describe_error(error)}"
                ) from error
            logger.info(
                "collection opened",
                extra={
                    "collection": each.name,
                    "kind": points.index.file.kind,
                    "points": points.index.size,
                    "distance": points.index.distance,
                    "took_s": round(time.perf_counter() - started, 3),
                },
            )
        return cls(served, alone=alone)

    def __contains__(self, name: object) -> bool:
        """Tell whether a collection is served here."""
        return name in self._served

    def names(self) -> list[str]:
        """Give the names of the served collections, in the settings' order."""
        return list(self._served)

    def vectors(self, name: str) -> dict[str, IndexedVector]:
        """Describe a collection's vectors as :mod:`trimtab.routing.vector_schema` does.

        Raises:
            KeyError: No such collection is served here.
        """
        index = self._served[name].index
        return {"": IndexedVector(index.dim, index.distance.lower(), "float32", is_multi=False)}

    def answer(self, method: str, target: bytes, body: bytes) -> Reply | None:
        """Answer a request.

        Args:
            method: The HTTP method.
            target: The raw request target, path and query string. The path is read as Qdrant
                reads it: percent-encoding undone, repeated and trailing slashes ignored.
            body: The whole body, not compressed; its query vectors are already adapted.

        Returns:
            The reply; None where the request is not about one of these collections.
        """
        started = time.perf_counter()
        parts = split_path(target)
        if parts is None:
            return None
        try:
            if len(parts) > 1 and parts[0] == "collections" and parts[1] in self._served:
                return write_result(self._collection(method, parts[1], parts[2:], body), started)
            return self._server(method, parts, started) if self._alone else None
        except RequestError as error:
            return write_error(error, started)
        except _UNREADABLE as error:
            logger.debug("request can't be read", exc_info=True)
            return write_error(bad_format(f"invalid type: {type(error).__name__}"), started)
        except (RuntimeError, MemoryError, ConfigError) as error:  # faiss, or a file that changed
            logger.exception("a collection can't answer")
            text = str(error).splitlines()[0] if str(error) else type(error).__name__
            return write_error(RequestError(500, f"Service internal error: {text}"), started)

    def _collection(self, method: str, name: str, call: tuple[str, ...], body: bytes) -> Any:
        """Answer a request about one collection."""
        endpoint = find_endpoint(method, call)
        data = read_body(body) if endpoint is not None and method == "POST" else {}
        check_served(method, call, data)
        if endpoint is None and method == "GET":
            raise not_served(
                f"`GET {'/'.join(call)}`",
                f"what is known of it stands in `GET /collections/{name}`, and a copy of its files "
                "is its snapshot",
            )
        if endpoint is None:
            raise RequestError(
                403,
                f"Forbidden: collection `{name}` is a read-only FAISS index; "
                f"{method} {'/'.join(call) or 'of the collection itself'} can't be done: rebuild "
                "the index file and reload, or keep what changes in a Qdrant collection",
            )
        return endpoint(Query(self._served[name], self._find), data)

    def _find(self, name: Any) -> Points:
        """Find another collection that a request mentions."""
        found = self._served.get(name) if isinstance(name, str) else None
        if found is None:
            raise not_found(
                f"Collection `{name}` is not a FAISS index that is served here, so a query on one "
                "can't look into it"
            )
        return found

    def _server(self, method: str, parts: tuple[str, ...], started: float) -> Reply | None:
        """Answer what a Qdrant without any other collection would."""
        if method == "GET":
            if not parts:
                return write_json({"title": "qdrant - vector search engine", "version": VERSION})
            if len(parts) == 1 and parts[0] in _HEALTH:
                return Reply(200, _HEALTH[parts[0]].encode(), "text/plain; charset=utf-8")
            if parts == ("collections",):
                shown = [{"name": name} for name in self._served]
                return write_result({"collections": shown}, started)
            if parts == ("aliases",):
                return write_result({"aliases": []}, started)
        if parts[:1] != ("collections",) or len(parts) < 2:
            return None
        if method == "GET" and parts[2:] == ("exists",):
            return write_result({"exists": False}, started)
        if (method, parts[2:]) in {("PUT", ()), ("POST", ())}:
            raise RequestError(
                403,
                "Forbidden: this server holds read-only FAISS indexes and no Qdrant; set "
                "[upstream] to have one behind it",
            )
        raise not_found(f"Collection `{parts[1]}` doesn't exist!")
