"""Stored document vectors out of a Qdrant collection: ``qdrant://HOST:PORT/COLLECTION?vector=NAME``.

Read page by page, in the order of the points' ids, straight onto disk. After every page a state
file says how far the read has come, so an interrupted one goes on where it stopped.
"""

import logging
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, unquote, urlsplit

import numpy as np
from numpy.typing import NDArray

from trimtab.addresses import without_secrets
from trimtab.routing.vector_schema import IndexedVector, read_vectors
from trimtab_training.embeddings.partial_read import PartialRead
from trimtab_training.embeddings.store import check_unique
from trimtab_training.errors import DataError

logger = logging.getLogger(__name__)

SCHEMES = ("qdrant://", "qdrant+https://")
_FORM = "qdrant://HOST:PORT/COLLECTION?vector=NAME&id=PAYLOAD_FIELD&filter=FILE.json"
_DEFAULT_PORT = 6333
_TIMEOUT_S = 60
_PAGE_VALUES, _MIN_PAGE, _MAX_PAGE = 400_000, 16, 1000  # about 4 MB of JSON a page
_IDS_PAGE = 10_000
_N_SAMPLE = 256
_LOSSLESS = "float32"


@dataclass(frozen=True)
class QdrantAccess:
    """What a source's name does not say.

    Attributes:
        api_key: Sent to Qdrant, where it wants one.
        path: Folder of a collection in the client's local mode, instead of a server.
    """

    api_key: str | None = None
    path: Path | None = None


@dataclass(frozen=True)
class QdrantSource:
    """A collection, and what to read of it.

    Attributes:
        host: The server; empty in local mode.
        port: Its REST port.
        https: True for TLS.
        prefix: Path before Qdrant's own, behind a proxy; usually empty.
        collection: The collection or alias.
        vector_name: The vector; empty for the unnamed one.
        id_field: Payload field that holds the document's id; empty to take the point's.
        filter_file: JSON file with a Qdrant filter; empty to read every point.
        access: Key and path.
    """

    host: str
    port: int
    https: bool
    prefix: str
    collection: str
    vector_name: str
    id_field: str
    filter_file: str
    access: QdrantAccess

    @classmethod
    def parse(cls, source: str, access: QdrantAccess) -> "QdrantSource":
        """Read a source's name.

        Args:
            source: ``qdrant://HOST:PORT/COLLECTION?vector=NAME&id=FIELD&filter=FILE``, all options
                optional; ``qdrant:///COLLECTION`` in local mode.
            access: Key and path.

        Raises:
            DataError: It is malformed, holds credentials, or names both a server and a local path.
        """
        try:
            parts = urlsplit(source)
            host, port = parts.hostname or "", parts.port or _DEFAULT_PORT
        except ValueError:
            raise DataError(f"{without_secrets(source)} is malformed; expected {_FORM}") from None
        if "@" in parts.netloc:
            raise DataError(
                f"{without_secrets(source)} holds credentials, which Qdrant has not; expected "
                f"{_FORM}, and the key in QDRANT_API_KEY"
            )
        given = parse_qsl(parts.query, keep_blank_values=True)
        options = dict(given)
        if len(options) < len(given):
            raise DataError(f"{source}: an option stands more than once; expected {_FORM}")
        unknown = options.keys() - {"vector", "id", "filter"}
        if unknown:
            raise DataError(f"{source}: unknown option {min(unknown)!r}; expected {_FORM}")
        *prefix, collection = unquote(parts.path).strip("/").split("/")
        if not collection or (not host and access.path is None):
            raise DataError(f"{source} names no server or no collection; expected {_FORM}")
        if host and access.path is not None:
            raise DataError(
                f"{source} names a server, --upstream-path a local folder; with the folder, write "
                f"qdrant:///{collection}"
            )
        return cls(
            host=host,
            port=port,
            https=parts.scheme == "qdrant+https",
            prefix="/".join(prefix),
            collection=collection,
            vector_name=options.get("vector", ""),
            id_field=options.get("id", ""),
            filter_file=options.get("filter", ""),
            access=access,
        )

    @property
    def where(self) -> str:
        """Name the server or the folder for a message."""
        return str(self.access.path) if self.access.path else f"{self.host}:{self.port}"

    def copy_to(
        self, kept: Path, target: Path, progress: Callable[[int, int], None]
    ) -> tuple[list[str], dict[str, Any]]:
        """Write every vector into a ``.npy`` file, going on where an earlier read stopped.

        Args:
            kept: Folder that keeps what was read, for the next try.
            target: The file.
            progress: Called after every page with the points read and the points there are.

        Returns:
            The documents' ids, and facts for ``encoder.json``.

        Raises:
            DataError: Qdrant can't be reached or refuses, or the collection can't be used.
        """
        with self._connect() as client:
            vector = self._describe(client)
            chosen = self._read_filter()
            count = client.count(self.collection, count_filter=chosen, exact=True).count
            if count == 0:
                raise DataError(
                    f"no point of {self.collection!r} is to be read; it, or the filter's "
                    "choice, is empty"
                )
            page = max(_MIN_PAGE, min(_MAX_PAGE, _PAGE_VALUES // vector.dim))
            with PartialRead(kept, self._identity(vector, chosen), vector.dim) as partial:
                if self.id_field and not partial.n_seen:
                    self._check_ids(client, chosen)
                while not partial.is_done:
                    points, offset = client.scroll(
                        self.collection,
                        scroll_filter=chosen,
                        limit=page,
                        offset=partial.offset,
                        with_payload=[self.id_field] if self.id_field else False,
                        with_vectors=[self.vector_name] if self.vector_name else True,
                    )
                    self._take(points, offset, vector, partial)
                    progress(min(partial.n_seen, count), count)
                ids, rows = partial.finish(target)
            changed = self._has_changed(client, chosen, partial, rows)
        if changed:
            logger.warning(
                "the collection changed while it was read; some vectors may be missing or outdated",
                extra={"collection": self.collection},
            )
        facts = {
            "index": "qdrant",
            "collection": self.collection,
            "vector": self.vector_name,
            "distance": vector.distance,
            "lossy": vector.datatype != _LOSSLESS,
            "without_vector": partial.n_seen - len(ids),
            "changed_while_read": changed,
        }
        check_unique(ids, f"collection {self.collection!r}")
        return ids, facts

    def find_dim(self) -> int:
        """Ask how many values a vector has.

        Raises:
            DataError: Qdrant can't be reached or refuses, or there is no such dense vector.
        """
        with self._connect() as client:
            return self._find_vector(client).dim

    @contextmanager
    def _connect(self) -> Iterator[Any]:
        """Open a client, and turn what it raises into one line."""
        from qdrant_client import QdrantClient
        from qdrant_client.http.exceptions import ResponseHandlingException, UnexpectedResponse

        again = "run the same command again to go on where it stopped"
        client = None
        try:
            with warnings.catch_warnings():  # of keys without TLS, and of large local collections
                warnings.simplefilter("ignore")
                client = self._open(QdrantClient)
                yield client
        except UnexpectedResponse as error:
            raise DataError(self._explain(error)) from error
        except ResponseHandlingException as error:
            raise DataError(f"can't reach Qdrant at {self.where}: {error}; {again}") from error
        except (ValueError, RuntimeError) as error:  # how local mode says anything
            raise DataError(f"Qdrant at {self.where}: {error}") from error
        finally:
            if client is not None:
                client.close()

    def _open(self, make: Any) -> Any:
        """Make the client."""
        path = self.access.path
        if path is None:
            return make(
                host=self.host,
                port=self.port,
                https=self.https,
                prefix=self.prefix or None,
                api_key=self.access.api_key,
                timeout=_TIMEOUT_S,
                check_compatibility=False,
            )
        if not (path / "meta.json").is_file():  # the client would make a new, empty one
            raise DataError(f"no collections of Qdrant's local mode in {path}")
        return make(path=str(path))

    def _explain(self, error: Any) -> str:
        """Say in one line what Qdrant's answer means."""
        if error.status_code in {401, 403}:
            return (
                f"Qdrant at {self.where} refuses the key ({error.status_code}); "
                "set QDRANT_API_KEY to one that may read the collection"
            )
        if error.status_code == 404:
            return f"Qdrant at {self.where} has no collection or alias {self.collection!r}"
        reason = " ".join(error.content.decode(errors="replace").split())[:200]
        return f"Qdrant at {self.where} answered {error.status_code}: {reason}"

    def _find_vector(self, client: Any) -> IndexedVector:
        """Find the vector in the collection."""
        vectors = read_vectors(client.get_collection(self.collection))
        vector = vectors.get(self.vector_name)
        if vector is None:
            known = ", ".join(repr(name) for name in sorted(vectors)) or "none"
            raise DataError(
                f"collection {self.collection!r} has no dense vector {self.vector_name!r}; it has: "
                f"{known}; name one by ?vector=NAME"
            )
        return vector

    def _describe(self, client: Any) -> IndexedVector:
        """Find the vector, and refuse what no adapter can be trained on."""
        vector = self._find_vector(client)
        if vector.is_multi:
            raise DataError(
                f"vector {self.vector_name!r} of {self.collection!r} is a multivector; an adapter "
                "needs one vector a document"
            )
        if vector.distance == "manhattan":
            raise DataError(
                f"{self.collection!r} compares by Manhattan distance; adapters are trained for "
                "cosine, dot and euclid"
            )
        if vector.distance != "cosine":
            logger.warning(
                "the collection does not compare by cosine; set `similarity` in the recipe",
                extra={"distance": vector.distance},
            )
        return vector

    def _check_ids(self, client: Any, chosen: Any) -> None:
        """Refuse documents that two points name, before any vector is read."""
        points_of: dict[str, list[Any]] = {}
        offset: Any = None
        while True:
            points, offset = client.scroll(
                self.collection,
                scroll_filter=chosen,
                limit=_IDS_PAGE,
                offset=offset,
                with_payload=[self.id_field],
                with_vectors=False,
            )
            for point in points:
                with suppress(DataError):  # it may lack the vector, too; the read tells
                    points_of.setdefault(self._document_id(point), []).append(point.id)
            if offset is None:
                break
        repeated = {name: each for name, each in points_of.items() if len(each) > 1}
        for name, point_ids in repeated.items():
            found = client.retrieve(
                self.collection,
                ids=point_ids,
                with_payload=False,
                with_vectors=[self.vector_name] if self.vector_name else True,
            )
            with_vector = sum(self._vector_of(point) is not None for point in found)
            if with_vector > 1:
                raise DataError(
                    f"collection {self.collection!r}: {len(repeated)} ids in {self.id_field!r} "
                    f"stand more than once, such as {name!r} in {with_vector} points; ids must be "
                    "unique: choose one point of each with a filter, or another field"
                )

    def _vector_of(self, point: Any) -> Any:
        """Give the chosen vector of a point, which need not have it."""
        if isinstance(point.vector, dict):
            return point.vector.get(self.vector_name)
        return point.vector or None

    def _read_filter(self) -> Any:
        """Read the filter, if there is one."""
        if not self.filter_file:
            return None
        from qdrant_client import models

        try:
            return models.Filter.model_validate_json(Path(self.filter_file).read_bytes())
        except (OSError, ValueError) as error:
            line = " ".join(str(error).split())[:200]
            raise DataError(f"can't use the filter in {self.filter_file}: {line}") from error

    def _identity(self, vector: IndexedVector, chosen: Any) -> dict[str, Any]:
        """Say what is read, so that a partial read of something else is not continued."""
        record = {key: value for key, value in asdict(self).items() if key != "access"}
        if self.access.path is not None:
            record["path"] = str(self.access.path)
        record["filter"] = None if chosen is None else chosen.model_dump(mode="json")
        return record | {"size": vector.dim, "distance": vector.distance}

    def _take(self, points: Any, offset: Any, vector: IndexedVector, partial: PartialRead) -> None:
        """Keep one page."""
        ids, rows, point_ids = [], [], []
        for point in points:
            values = self._vector_of(point)
            if values is None:  # a point need not have every vector
                continue
            if len(values) != vector.dim:
                raise DataError(
                    f"point {point.id} has {len(values)} values, the collection says {vector.dim}; "
                    "it was changed while it was read: run the same command again"
                )
            ids.append(self._document_id(point))
            point_ids.append(point.id)
            rows.append(values)
        matrix = np.array(rows, dtype="<f4").reshape(len(rows), vector.dim)
        partial.append(list(zip(ids, point_ids, strict=True)), matrix, len(points), offset)

    def _document_id(self, point: Any) -> str:
        """Give the id of the document that a point holds."""
        if not self.id_field:
            return str(point.id)
        value: Any = point.payload
        for key in self.id_field.split("."):
            value = value.get(key) if isinstance(value, dict) else None
        if isinstance(value, bool) or not isinstance(value, str | int):
            raise DataError(
                f"point {point.id} has no text or number in payload field {self.id_field!r}"
            )
        return str(value)

    def _has_changed(
        self, client: Any, chosen: Any, partial: PartialRead, rows: NDArray[np.float32]
    ) -> bool:
        """Tell whether points came, went or were overwritten, the last by a sample."""
        count = client.count(self.collection, count_filter=chosen, exact=True).count
        if count != partial.n_seen:
            return True
        step = max(1, len(rows) // _N_SAMPLE)
        wanted = {partial.point_ids[row]: row for row in range(0, len(rows), step)}
        points = client.retrieve(
            self.collection,
            ids=list(wanted),
            with_payload=False,
            with_vectors=[self.vector_name] if self.vector_name else True,
        )
        found = {}
        for point in points:
            found[point.id] = self._vector_of(point)
        return any(
            found.get(point_id) is None
            or not np.array_equal(np.array(found[point_id], dtype=np.float32), rows[row])
            for point_id, row in wanted.items()
        )
