"""Query vectors in Qdrant's gRPC messages (package ``qdrant``, service ``Points``).

Only the eleven methods that carry query vectors are decoded. protobuf keeps the fields that it
does not know, so a newer client's message survives; where nothing is adapted the caller sends the
original bytes.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from google.protobuf.message import DecodeError, Message
from numpy.typing import NDArray

from trimtab.errors import MalformedError
from trimtab.rewrite.places import Kind, Path, Place, Role
from trimtab.rewrite.qdrant_messages import messages as grpc
from trimtab.rewrite.qdrant_query import BM25_MODEL

_SERVICE = "/qdrant.Points/"
_WITHOUT_VECTOR = {"order_by", "fusion", "sample", "formula", "rrf", "text"}
_INFERENCE = {"document", "image", "object"}
_WRITING_OPERATIONS = {"upsert", "update_vectors"}

_DATA_TAG = b"\x0a"  # field 1 of DenseVector, packed

Finder = Callable[[Any, Path], Iterator[Place]]


def find_in_level(level: Any, path: Path = ()) -> Iterator[Place]:
    """Find the places of a ``QueryPoints``, ``QueryPointGroups`` or ``PrefetchQuery``.

    Args:
        level: The message.
        path: The way to it.

    Yields:
        One place for every vector, id or text, and one for a level that has none.
    """
    levels = [(level, path)]
    while levels:
        level, where = levels.pop()
        query = level.query if level.HasField("query") else None
        yield from _find_in_query(query, level.using, (*where, "query"))
        levels += ((item, (*where, "prefetch", n)) for n, item in enumerate(level.prefetch))


def _find_in_query(query: Any, name: str, path: Path) -> Iterator[Place]:
    """Find the places of one ``Query``."""
    variant = "" if query is None else query.WhichOneof("variant") or ""
    if variant in _VARIANTS:
        yield from _VARIANTS[variant](getattr(query, variant), name, (*path, variant))
    elif variant in _WITHOUT_VECTOR or query is None or not query.ByteSize():
        yield Place(name, Kind.NOTHING, Role.QUERY, path)
    else:  # a variant of a newer Qdrant, kept by protobuf among the unknown fields
        yield Place(name, Kind.UNKNOWN, Role.QUERY, path)


def _find_nearest(nearest: Any, name: str, path: Path) -> Iterator[Place]:
    """Read what the nearest are searched of."""
    yield _read_input(nearest, name, Role.QUERY, path)


def _find_nearest_with_mmr(value: Any, name: str, path: Path) -> Iterator[Place]:
    """Read what the nearest are searched of; MMR uses the same vector."""
    yield _read_input(value.nearest, name, Role.QUERY, (*path, "nearest"))


def _find_examples(recommend: Any, name: str, path: Path) -> Iterator[Place]:
    """Read the positive and negative examples of a recommendation."""
    for side in ("positive", "negative"):
        for number, example in enumerate(getattr(recommend, side)):
            yield _read_input(example, name, Role.EXAMPLE, (*path, side, number))


def _find_discovery(discover: Any, name: str, path: Path) -> Iterator[Place]:
    """Read the target and the context of a discovery."""
    if discover.HasField("target"):
        yield _read_input(discover.target, name, Role.QUERY, (*path, "target"))
    yield from _find_in_pairs(discover.context, name, (*path, "context"))


def _find_feedback(feedback: Any, name: str, path: Path) -> Iterator[Place]:
    """Read the target and the judged examples of a feedback query."""
    yield _read_input(feedback.target, name, Role.FEEDBACK_TARGET, (*path, "target"))
    for number, item in enumerate(feedback.feedback):
        where = (*path, "feedback", number, "example")
        yield _read_input(item.example, name, Role.EXAMPLE, where)


def _find_in_pairs(context: Any, name: str, path: Path) -> Iterator[Place]:
    """Find both sides of every pair of a context."""
    for number, pair in enumerate(context.pairs):
        for side in ("positive", "negative"):
            if pair.HasField(side):
                where = (*path, "pairs", number, side)
                yield _read_input(getattr(pair, side), name, Role.EXAMPLE, where)


_VARIANTS: dict[str, Callable[[Any, str, Path], Iterator[Place]]] = {
    "nearest": _find_nearest,
    "nearest_with_mmr": _find_nearest_with_mmr,
    "recommend": _find_examples,
    "discover": _find_discovery,
    "context": _find_in_pairs,
    "relevance_feedback": _find_feedback,
}


def _read_input(value: Any, name: str, role: Role, path: Path) -> Place:
    """Read one ``VectorInput``."""
    variant = value.WhichOneof("variant")
    if variant == "id":
        return Place(name, Kind.ID, role, path)
    return _read_variant(value, variant, name, role, path)


def _read_variant(value: Any, variant: str | None, name: str, role: Role, path: Path) -> Place:
    """Read what ``VectorInput`` and ``Vector`` have in common."""
    if variant == "dense":
        return Place(name, Kind.DENSE, role, (*path, "dense", "data"), _read_dense(value.dense))
    if variant == "multi_dense":
        rows = [_read_dense(row) for row in value.multi_dense.vectors]
        return Place(name, Kind.MULTI, role, (*path, "multi_dense", "vectors"), rows)
    if variant == "sparse":
        return Place(name, Kind.SPARSE, role, path)
    if variant in _INFERENCE:
        if getattr(value, variant).model.lower() == BM25_MODEL:
            return Place(name, Kind.SPARSE, role, path)
        return Place(name, Kind.INFERENCE, role, path, value)
    return Place(name, Kind.UNKNOWN, role, path)


def _read_vector(value: Any, name: str, role: Role, path: Path) -> Place:
    """Read one ``Vector``, in its present or its deprecated flat form."""
    variant = value.WhichOneof("vector")
    if variant is not None or not value.data:
        return _read_variant(value, variant, name, role, path)
    if value.HasField("indices"):
        return Place(name, Kind.SPARSE, role, path)
    numbers = _floats(value.data)
    if not value.HasField("vectors_count"):
        return Place(name, Kind.DENSE, role, (*path, "data"), numbers)
    n_rows = value.vectors_count
    if n_rows == 0 or len(numbers) % n_rows:
        raise MalformedError(f"{len(numbers)} numbers can't make up {n_rows} rows of a vector")
    return Place(name, Kind.MULTI, role, (*path, "data"), list(numbers.reshape(n_rows, -1)))


def _find_in_search(search: Any, path: Path) -> Iterator[Place]:
    """Find the place of a ``SearchPoints`` or ``SearchPointGroups``."""
    if search.HasField("sparse_indices"):
        yield Place(search.vector_name, Kind.SPARSE, Role.QUERY, path)
    else:
        where = (*path, "vector")
        yield Place(search.vector_name, Kind.DENSE, Role.QUERY, where, _floats(search.vector))


def _find_in_recommend(recommend: Any, path: Path) -> Iterator[Place]:
    """Find the places of a ``RecommendPoints`` or ``RecommendPointGroups``."""
    name = recommend.using
    for side in ("positive", "negative"):
        for number, _ in enumerate(getattr(recommend, side)):
            yield Place(name, Kind.ID, Role.EXAMPLE, (*path, side, number))
        vectors = f"{side}_vectors"
        for number, vector in enumerate(getattr(recommend, vectors)):
            yield _read_vector(vector, name, Role.EXAMPLE, (*path, vectors, number))


def _find_in_discover(discover: Any, path: Path) -> Iterator[Place]:
    """Find the places of a ``DiscoverPoints``."""
    name = discover.using
    if discover.HasField("target") and discover.target.WhichOneof("target") == "single":
        single = discover.target.single
        yield _read_example(single, name, Role.QUERY, (*path, "target", "single"))
    for number, pair in enumerate(discover.context):
        for side in ("positive", "negative"):
            if pair.HasField(side):
                where = (*path, "context", number, side)
                yield _read_example(getattr(pair, side), name, Role.EXAMPLE, where)


def _read_example(example: Any, name: str, role: Role, path: Path) -> Place:
    """Read one ``VectorExample``."""
    if example.WhichOneof("example") == "vector":
        return _read_vector(example.vector, name, role, (*path, "vector"))
    kind = Kind.ID if example.WhichOneof("example") == "id" else Kind.UNKNOWN
    return Place(name, kind, role, path)


def _read_dense(dense: Any) -> NDArray[np.float32]:
    """Read a ``DenseVector`` from its own bytes: a tag, a length, and the numbers as they are.

    Number by number it takes fifteen times as long.
    """
    content = dense.SerializeToString()
    size = 4 * len(dense.data)
    head = _DATA_TAG + _varint(size)
    if len(content) != len(head) + size or not content.startswith(head):
        return _floats(dense.data)  # empty, or with fields that are newer than this version
    return np.frombuffer(content, dtype="<f4", offset=len(head)).astype(np.float32, copy=False)


def _put_floats(holder: Any, name: str, values: NDArray[np.float32]) -> None:
    """Replace a repeated field of floats by way of its bytes."""
    number = holder.DESCRIPTOR.fields_by_name[name].number
    content = values.astype("<f4", copy=False).tobytes()
    holder.ClearField(name)
    holder.MergeFromString(_varint(number << 3 | 2) + _varint(len(content)) + content)


def _varint(number: int) -> bytes:
    """Write a number of Protocol Buffers' wire format."""
    written = bytearray()
    while number > 0x7F:
        written.append(number & 0x7F | 0x80)
        number >>= 7
    written.append(number)
    return bytes(written)


def _floats(numbers: Any) -> NDArray[np.float32]:
    """Copy a repeated field of floats."""
    return np.fromiter(numbers, dtype=np.float32, count=len(numbers))


@dataclass(frozen=True, slots=True)
class _Method:
    """How one method's request is read.

    Attributes:
        message: Its class.
        find: Finds the places of a request, or of each request of a batch.
        batch: The field that holds the requests of a batch.
    """

    message: Any
    find: Finder
    batch: str = ""


_QUERIES = {
    "Query": _Method(grpc.QueryPoints, find_in_level),
    "QueryBatch": _Method(grpc.QueryBatchPoints, find_in_level, "query_points"),
    "QueryGroups": _Method(grpc.QueryPointGroups, find_in_level),
    "Search": _Method(grpc.SearchPoints, _find_in_search),
    "SearchBatch": _Method(grpc.SearchBatchPoints, _find_in_search, "search_points"),
    "SearchGroups": _Method(grpc.SearchPointGroups, _find_in_search),
    "Recommend": _Method(grpc.RecommendPoints, _find_in_recommend),
    "RecommendBatch": _Method(grpc.RecommendBatchPoints, _find_in_recommend, "recommend_points"),
    "RecommendGroups": _Method(grpc.RecommendPointGroups, _find_in_recommend),
    "Discover": _Method(grpc.DiscoverPoints, _find_in_discover),
    "DiscoverBatch": _Method(grpc.DiscoverBatchPoints, _find_in_discover, "discover_points"),
}
_WRITES = {
    "Upsert": grpc.UpsertPoints,
    "UpdateVectors": grpc.UpdatePointVectors,
    "UpdateBatch": grpc.UpdateBatchPoints,
}


@dataclass(frozen=True, slots=True)
class GrpcMethod:
    """One of the methods that carry vectors.

    Attributes:
        name: Its name in the service ``Points``.
        is_write: True where the vectors are documents' and go into the collection.
    """

    name: str
    is_write: bool = False


def match_method(path: str) -> GrpcMethod | None:
    """Tell whether a method is one that can carry vectors.

    Args:
        path: As gRPC names it: ``/qdrant.Points/Query``.

    Returns:
        The method, or None for one that carries none.
    """
    name = path.removeprefix(_SERVICE)
    if name == path or (name not in _QUERIES and name not in _WRITES):
        return None
    return GrpcMethod(name, is_write=name in _WRITES)


def read_message(method: GrpcMethod, content: bytes) -> Any:
    """Decode a request.

    Raises:
        MalformedError: It is no such message; Qdrant would not read it either.
    """
    kind: Any = _WRITES[method.name] if method.is_write else _QUERIES[method.name].message
    try:
        return kind.FromString(content)
    except DecodeError as error:
        raise MalformedError(f"not a {kind.DESCRIPTOR.name}: {error}") from error


def find_in_message(method: GrpcMethod, message: Any) -> list[Place]:
    """Find every place of a request where a query vector can stand.

    Args:
        method: From :func:`match_method`; not a write.
        message: From :func:`read_message`. Its own ``collection_name`` is the collection of all
            requests of a batch, as for the server.

    Returns:
        The places; the value of a dense one is a float32 array, of a multivector a list of them.

    Raises:
        MalformedError: Qdrant would refuse it too.
    """
    how = _QUERIES[method.name]
    if not how.batch:
        return list(how.find(message, ()))
    requests = enumerate(getattr(message, how.batch))
    return [place for n, request in requests for place in how.find(request, (how.batch, n))]


def has_vectors_to_write(message: Any) -> bool:
    """Tell whether a write brings vectors, and does not only delete or set payloads."""
    if not isinstance(message, grpc.UpdateBatchPoints):
        return True
    kinds = {operation.WhichOneof("operation") for operation in message.operations}
    return bool(kinds & _WRITING_OPERATIONS)


def replace_in_message(
    message: Message, path: Path, kind: Kind, adapted: NDArray[np.float32]
) -> Message:
    """Put an adapted vector in its place, in a copy.

    Args:
        message: What the place was found in; not changed.
        path: The way from the message to the place.
        kind: ``Kind.DENSE`` or ``Kind.MULTI``.
        adapted: float32, ``(dim,)`` or ``(n, dim)``.

    Returns:
        A copy of the message.
    """
    clone = type(message)()
    clone.CopyFrom(message)
    put_in_message(clone, path, kind, adapted)
    return clone


def put_in_message(message: Any, path: Path, kind: Kind, adapted: NDArray[np.float32]) -> None:
    """Put an adapted vector in its place, in the message itself."""
    holder = message
    for step in path[:-1]:
        holder = holder[step] if isinstance(step, int) else getattr(holder, step)
    name = str(path[-1])
    if kind is Kind.MULTI and name == "vectors":
        for row, values in zip(holder.vectors, adapted, strict=True):
            _put_floats(row, "data", values)
    else:
        _put_floats(holder, name, adapted.ravel())
