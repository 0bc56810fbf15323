"""What Qdrant said of its collections and aliases, for as long as it is believed."""

import logging
import time
from collections.abc import Callable, Mapping

from trimtab.routing.vector_schema import IndexedVector

logger = logging.getLogger(__name__)

_NEVER = float("-inf")
_SAME_MOMENT_S = 1.0
"""REST and gRPC may write one moment with more or fewer digits."""


class SchemaCache:
    """What Qdrant said, for as long as it is believed.

    Attributes:
        now: Gives seconds.
        version: Grows whenever something is forgotten or learnt.
        epoch: Grows whenever something is forgotten. An answer to a question of an earlier one may
            tell of what was before a change: it is for who has asked, and is not kept.
    """

    def __init__(
        self,
        *,
        vectors_ttl_s: float,
        aliases_ttl_s: float,
        retry_s: float | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Know nothing yet.

        Args:
            vectors_ttl_s: Seconds for which a collection's vectors are believed.
            aliases_ttl_s: Seconds for which the list of aliases is believed.
            retry_s: Seconds for which a question that Qdrant did not answer is not asked again;
                as long as aliases are believed, unless given.
            clock: Gives seconds.
        """
        self.version = self.epoch = 0
        self._vectors_ttl_s = vectors_ttl_s
        self._aliases_ttl_s = aliases_ttl_s
        self._retry_s = aliases_ttl_s if retry_s is None else retry_s
        self.now = clock
        self._vectors: dict[str, tuple[float, Mapping[str, IndexedVector] | None]] = {}
        self._created_s: dict[str, float] = {}
        self._aliases: Mapping[str, str] = {}
        self._aliases_until = _NEVER

    def is_known(self, collection: str) -> bool:
        """Tell whether a collection need not be asked about now."""
        until, _ = self._vectors.get(collection, (_NEVER, None))
        return self.now() < until

    def known_until(self, collection: str) -> float:
        """Give the time until which a collection need not be asked about."""
        return self._vectors.get(collection, (_NEVER, None))[0]

    def vectors_of(self, collection: str) -> Mapping[str, IndexedVector] | None:
        """Give a collection's vectors by name, or None where Qdrant did not say."""
        return self._vectors.get(collection, (_NEVER, None))[1]

    def are_aliases_known(self) -> bool:
        """Tell whether aliases need not be asked for now."""
        return self.now() < self._aliases_until

    def collection_of(self, alias: str) -> str | None:
        """Give the collection behind an alias, or None where there is no such alias."""
        return self._aliases.get(alias)

    def learn_vectors(
        self,
        collection: str,
        vectors: Mapping[str, IndexedVector] | None,
        *,
        epoch: int | None = None,
    ) -> None:
        """Believe what was said of a collection, asked for in an epoch; None where nothing was."""
        ttl_s = self._retry_s if vectors is None else self._vectors_ttl_s
        if epoch not in {None, self.epoch}:
            if self.is_known(collection):
                return
            ttl_s = 0.0
        self._vectors[collection] = (self.now() + ttl_s, vectors)
        self.version += 1
        self._compare_creation(collection, getattr(vectors, "created_s", None))

    def _compare_creation(self, collection: str, created_s: float | None) -> None:
        """Say where a collection was deleted and made anew under its old name.

        Its vectors may fit as before and yet come from another model, and another collection may
        have its aliases.
        """
        if created_s is None:
            return
        before_s = self._created_s.get(collection, created_s)
        self._created_s[collection] = created_s
        if abs(created_s - before_s) > _SAME_MOMENT_S:
            self._aliases_until = _NEVER
            logger.warning(
                "collection made anew under its old name; are its vectors still those that the "
                "adapter was trained for?",
                extra={"collection": collection},
            )

    def learn_aliases(self, aliases: Mapping[str, str] | None, *, epoch: int | None = None) -> None:
        """Believe a list of aliases, asked for in an epoch; None keeps the last one for a while."""
        ttl_s = self._retry_s if aliases is None else self._aliases_ttl_s
        if epoch not in {None, self.epoch}:
            if self.are_aliases_known():
                return
            ttl_s = 0.0
        if aliases is not None:
            self._aliases = aliases
        self._aliases_until = self.now() + ttl_s
        self.version += 1

    def invalidate(self, collection: str | None = None) -> None:
        """Forget a collection, or all of them, and who is an alias of what."""
        if collection is None:
            self._vectors.clear()
        else:
            self._vectors.pop(collection, None)
        self._aliases_until = _NEVER
        self.version += 1
        self.epoch += 1
