"""What Qdrant's requests mean: where in them a vector can stand, whatever they are written in.

JSON bodies and the official client's models have the same fields, so one grammar serves both; a
subclass says how its values are looked at. Qdrant tells the forms of a ``query`` apart by trying
them in a fixed order and taking the first that fits (serde, untagged; Qdrant 1.19,
lib/api/src/rest/schema.rs), and so does this module.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from trimtab.errors import MalformedError
from trimtab.rewrite.places import Kind, Path, Place, Role

Fields = Mapping[str, Any]

BM25_MODEL = "qdrant/bm25"
"""The one inference model whose vectors are sparse wherever it runs."""

_INFERENCE = ("text", "image", "object")  # each beside "model"
_WITHOUT_VECTOR = ("order_by", "fusion", "rrf", "formula", "sample")


class QueryFinder(ABC):
    """Finds every place of a request where a vector can stand."""

    @abstractmethod
    def fields(self, value: Any) -> Fields | None:
        """Give the fields of an object; None for anything else."""

    @abstractmethod
    def items(self, value: Any) -> Sequence[Any] | None:
        """Give the items of an array; None for anything else."""

    @abstractmethod
    def text(self, value: Any) -> str | None:
        """Give the text of a string; None for anything else."""

    @abstractmethod
    def array(self, value: Any) -> tuple[Kind, Any] | None:
        """Tell a dense vector (its numbers) from a multivector (its rows); None for neither."""

    @abstractmethod
    def is_id(self, value: Any) -> bool:
        """Tell whether a value is the id of a point."""

    def get(self, fields: Fields, key: str) -> Any:
        """Give a field, None where it is absent."""
        return fields.get(key)

    def find_query(self, request: Any, path: Path = ()) -> Iterator[Place]:
        """Find the places of a request to ``points/query`` or ``points/query/groups``.

        Every level has its own ``query`` and ``using``; ``prefetch`` holds further levels.

        Args:
            request: The request, or one of its prefetches.
            path: The way to it.

        Yields:
            One place for every vector, id or text, and one for a level that has none.

        Raises:
            MalformedError: Qdrant would not read it either.
        """
        levels = [(request, path)]
        while levels:  # not recursive: the nesting is the sender's choice
            level, where = levels.pop()
            yield from self.find_level(level, where, levels)

    def find_level(self, level: Any, path: Path, deeper: list[tuple[Any, Path]]) -> Iterator[Place]:
        """Find the places of one level, and add the levels below it to ``deeper``."""
        fields = self._need_fields(level, path)
        name = self._name(fields, "using")
        yield from self._find_in_query(self.get(fields, "query"), name, (*path, "query"))
        prefetch = self.get(fields, "prefetch")
        if prefetch is not None:
            deeper += self._one_or_many(prefetch, (*path, "prefetch"))

    def find_search(self, request: Any, path: Path = ()) -> Iterator[Place]:
        """Find the place of a request to the legacy ``points/search`` or ``search/groups``."""
        vector = self.get(self._need_fields(request, path), "vector")
        path = (*path, "vector")
        named = self.fields(vector)
        if named is None:
            yield self._need_vector(vector, "", Role.QUERY, path)
        else:
            yield self._need_vector(
                self.get(named, "vector"), self._name(named, "name"), Role.QUERY, (*path, "vector")
            )

    def find_recommend(self, request: Any, path: Path = ()) -> Iterator[Place]:
        """Find the places of a request to the legacy ``points/recommend`` or its groups."""
        fields = self._need_fields(request, path)
        yield from self._examples(request, self._name(fields, "using"), path)

    def find_discover(self, request: Any, path: Path = ()) -> Iterator[Place]:
        """Find the places of a request to the legacy ``points/discover``."""
        fields = self._need_fields(request, path)
        yield from self._discover(request, self._name(fields, "using"), path)

    def find_batch(
        self, request: Any, find: Callable[[Any, Path], Iterator[Place]], path: Path = ()
    ) -> Iterator[Place]:
        """Find the places of every request in ``searches``."""
        searches = self.items(self.get(self._need_fields(request, path), "searches"))
        if searches is None:
            raise MalformedError("searches is no array")
        for number, search in enumerate(searches):
            yield from find(search, (*path, "searches", number))

    def _find_in_query(self, query: Any, name: str, path: Path) -> Iterator[Place]:
        """Find the places of one ``query``, in any of its forms."""
        if query is None:
            yield Place(name, Kind.NOTHING, Role.QUERY, path)
            return
        vector = self._vector(query, name, Role.QUERY, path)
        if vector is not None:
            yield vector
            return
        fields = self.fields(query)
        if fields is None:
            raise MalformedError("query is neither a vector, an id nor an object")
        yield from self._find_in_variant(fields, name, path)

    def _find_in_variant(self, fields: Fields, name: str, path: Path) -> Iterator[Place]:
        """Find the places of a query object, in the order in which Qdrant tries its variants."""
        nearest = self._vector(self.get(fields, "nearest"), name, Role.QUERY, (*path, "nearest"))
        if nearest is not None:
            yield nearest
            return
        for key, find in (
            ("recommend", self._examples),
            ("discover", self._discover),
            ("context", self._pairs),
        ):
            if self.get(fields, key) is not None:
                yield from find(self.get(fields, key), name, (*path, key))
                return
        if any(self.get(fields, key) is not None for key in _WITHOUT_VECTOR):
            yield Place(name, Kind.NOTHING, Role.QUERY, path)
        elif self.get(fields, "relevance_feedback") is not None:
            yield from self._feedback(
                self.get(fields, "relevance_feedback"), name, (*path, "relevance_feedback")
            )
        elif self.get(fields, "text") is not None:  # BM25 over a payload field, which `using` names
            yield Place("", Kind.NOTHING, Role.QUERY, path)
        else:
            yield Place(name, Kind.UNKNOWN, Role.QUERY, path)

    def _examples(self, recommend: Any, name: str, path: Path) -> Iterator[Place]:
        """Find the positive and negative examples of a recommendation."""
        fields = self._need_fields(recommend, path)
        for key in ("positive", "negative"):
            examples = self.get(fields, key)
            for number, example in enumerate(self._items_or_none(examples, (*path, key))):
                yield self._need_vector(example, name, Role.EXAMPLE, (*path, key, number))

    def _discover(self, discover: Any, name: str, path: Path) -> Iterator[Place]:
        """Find the target and the context of a discovery; legacy ones need no target."""
        fields = self._need_fields(discover, path)
        target = self.get(fields, "target")
        if target is not None:
            yield self._need_vector(target, name, Role.QUERY, (*path, "target"))
        context = self.get(fields, "context")
        if context is not None:
            yield from self._pairs(context, name, (*path, "context"))

    def _pairs(self, context: Any, name: str, path: Path) -> Iterator[Place]:
        """Find both sides of every pair of a context."""
        for pair, where in self._one_or_many(context, path):
            fields = self._need_fields(pair, where)
            for side in ("positive", "negative"):
                example = self.get(fields, side)
                yield self._need_vector(example, name, Role.EXAMPLE, (*where, side))

    def _feedback(self, feedback: Any, name: str, path: Path) -> Iterator[Place]:
        """Find the target and the judged examples of a feedback query."""
        fields = self._need_fields(feedback, path)
        target = self.get(fields, "target")
        yield self._need_vector(target, name, Role.FEEDBACK_TARGET, (*path, "target"))
        judged = self._items_or_none(self.get(fields, "feedback"), (*path, "feedback"))
        for number, item in enumerate(judged):
            where = (*path, "feedback", number)
            example = self.get(self._need_fields(item, where), "example")
            yield self._need_vector(example, name, Role.EXAMPLE, (*where, "example"))

    def _vector(self, value: Any, name: str, role: Role, path: Path) -> Place | None:
        """Read what stands where a vector is due; None if it is no form of a vector."""
        if value is None:
            return None
        fields = self.fields(value)
        if fields is not None:
            kind = self._kind_of_object(fields)
            if kind is None:
                return None
            return Place(name, kind, role, path, value if kind is Kind.INFERENCE else None)
        if self.is_id(value):
            return Place(name, Kind.ID, role, path)
        found = self.array(value)
        return None if found is None else Place(name, found[0], role, path, found[1])

    def _kind_of_object(self, fields: Fields) -> Kind | None:
        """Tell a sparse vector from something that Qdrant embeds; None for neither."""
        if self.get(fields, "indices") is not None and self.get(fields, "values") is not None:
            return Kind.SPARSE
        model = self.text(self.get(fields, "model"))
        if model is None or all(self.get(fields, key) is None for key in _INFERENCE):
            return None
        return Kind.SPARSE if model.lower() == BM25_MODEL else Kind.INFERENCE

    def _need_vector(self, value: Any, name: str, role: Role, path: Path) -> Place:
        """Read what must be some form of a vector."""
        place = self._vector(value, name, role, path)
        if place is None:
            raise MalformedError(f"{path[-1]} is no vector, id or object to embed")
        return place

    def _need_fields(self, value: Any, path: Path) -> Fields:
        """Read what must be an object."""
        fields = self.fields(value)
        if fields is None:
            raise MalformedError(f"{path[-1] if path else 'the request'} is no object")
        return fields

    def _name(self, fields: Fields, key: str) -> str:
        """Read a vector's name, absent and null being the unnamed vector's."""
        value = self.get(fields, key)
        if value is None:
            return ""
        name = self.text(value)
        if name is None:
            raise MalformedError(f"{key} is no string")
        return name

    def _items_or_none(self, value: Any, path: Path) -> Sequence[Any]:
        """Read an array that may be absent."""
        if value is None:
            return ()
        items = self.items(value)
        if items is None:
            raise MalformedError(f"{path[-1]} is no array")
        return items

    def _one_or_many(self, value: Any, path: Path) -> list[tuple[Any, Path]]:
        """Read an object, or an array of them, with the way to each."""
        items = self.items(value)
        if items is None:
            return [(value, path)]
        return [(item, (*path, number)) for number, item in enumerate(items)]
