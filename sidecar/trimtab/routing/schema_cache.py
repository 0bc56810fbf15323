"""What Qdrant said of its collections and aliases, for as long as it is believed."""

import logging
import time
from collections.abc import Callable, Hashable, Mapping
from typing import NamedTuple

from trimtab.routing.vector_schema import IndexedVector

logger = logging.getLogger(__name__)

_NEVER = float("-inf")
_SAME_MOMENT_S = 1.0
"""REST and gRPC may write one moment with more or fewer digits."""
_MOST_CALLERS = 4096

Caller = Hashable
"""Whom Qdrant was asked for: it shows each only those aliases whose collections they may see."""

ANYONE: Caller = "anyone"
"""Stands for whoever asked last, where a wrong "no" does no harm."""


class _Alias(NamedTuple):
    """Where an alias leads, until when that is believed, and in whose list it stood."""

    collection: str
    until: float
    caller: Caller


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
        self._aliases: dict[str, _Alias] = {}
        self._asked_until: dict[Caller, float] = {}
        self._latest_until = _NEVER

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

    def are_aliases_known(self, caller: Caller = ()) -> bool:
        """Tell whether aliases need not be asked for now, for somebody."""
        until = self._latest_until if caller is ANYONE else self._asked_until.get(caller, _NEVER)
        return self.now() < until

    def is_alias_known(self, name: str, caller: Caller = ()) -> bool:
        """Tell whether Qdrant need not be asked whether a name is an alias.

        That it is, one caller's list says for all; that it is not, for that caller alone.
        """
        found = self._aliases.get(name)
        return (found is not None and self.now() < found.until) or self.are_aliases_known(caller)

    def collection_of(self, alias: str) -> str | None:
        """Give the collection behind an alias, or None where no such alias was shown."""
        found = self._aliases.get(alias)
        return None if found is None else found.collection

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
            self._doubt_aliases()
            logger.warning(
                "collection made anew under its old name; are its vectors still those that the "
                "adapter was trained for?",
                extra={"collection": collection},
            )

    def learn_aliases(
        self,
        aliases: Mapping[str, str] | None,
        *,
        epoch: int | None = None,
        caller: Caller = (),
    ) -> None:
        """Believe a list of aliases, asked for in an epoch; None keeps what is known for a while.

        Args:
            aliases: Collections by alias, as far as the caller may see them.
            epoch: The epoch of the question; see :class:`SchemaCache`.
            caller: Whom it was asked for.
        """
        ttl_s = self._retry_s if aliases is None else self._aliases_ttl_s
        if epoch not in {None, self.epoch}:
            if self.are_aliases_known(caller):
                return
            ttl_s = 0.0
        now, kept = self.now(), self._aliases.items()
        until = now + ttl_s
        if aliases is None:
            self._aliases = {
                name: each._replace(until=max(each.until, until)) for name, each in kept
            }
        else:
            others = {k: each for k, each in kept if each.caller != caller and now < each.until}
            mine = {name: _Alias(target, until, caller) for name, target in aliases.items()}
            self._aliases = others | mine
        if len(self._asked_until) >= _MOST_CALLERS:
            self._asked_until = {k: each for k, each in self._asked_until.items() if now < each}
        if len(self._asked_until) >= _MOST_CALLERS:
            self._asked_until.clear()
        self._asked_until[caller] = self._latest_until = until
        self.version += 1

    def _doubt_aliases(self) -> None:
        """Ask for aliases again, whoever is asked for; until then the last ones stand."""
        self._asked_until.clear()
        self._latest_until = _NEVER
        kept = self._aliases.items()
        self._aliases = {name: each._replace(until=_NEVER) for name, each in kept}

    def invalidate(self, collection: str | None = None) -> None:
        """Forget a collection, or all of them, and who is an alias of what."""
        if collection is None:
            self._vectors.clear()
        else:
            self._vectors.pop(collection, None)
        self._doubt_aliases()
        self.version += 1
        self.epoch += 1
