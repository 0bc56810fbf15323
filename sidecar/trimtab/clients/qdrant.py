"""The official Qdrant client, its queries adapted.

One line changes in an application::

    client = AdaptedQdrantClient(client, {"docs": "models/docs"})

The three query methods find the query vectors in their arguments, adapt those whose collection and
vector have a route, and go on as ever; every other method and attribute is the client's own. The
work is done below the official client, where it has turned texts into vectors (FastEmbed) and plain
lists into models, and above the connection: REST, gRPC and local mode are alike. Only a query that
is one bare vector is adapted before, which spares it the way into a list and back.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any, cast

import numpy as np
from qdrant_client import AsyncQdrantClient, QdrantClient
from qdrant_client.async_client_base import AsyncQdrantBase
from qdrant_client.client_base import QdrantBase
from qdrant_client.context_headers import headers

from trimtab.clients.qdrant_queries import (
    AsyncQueries,
    BlockingQueries,
    adapted_copy,
    mark_of_context,
)
from trimtab.clients.query_adapter import QueryAdapter
from trimtab.clients.second_look import BareQuery, DeeperQuery, Outcome, check_any
from trimtab.errors import ConfigError
from trimtab.rewrite.policies import Policies, Reason, reason_of_mark
from trimtab.routing.route_book import Finding
from trimtab.routing.routes import MARK_HEADER, Routes, RouteTable

ALIAS_TTL_S = 60.0
"""Seconds until an alias that leads to a collection with a route is looked up again."""


class _Adapted:
    """What the blocking and the asynchronous client have in common."""

    _query_adapter: QueryAdapter
    _official: Any  # the one that was handed over
    _looks_twice: bool
    _second_looks: Counter[Outcome]

    @property
    def routes(self) -> Routes:
        """Which adapter serves which vector of which collection."""
        return self._query_adapter.routes

    @property
    def decisions(self) -> dict[Reason, int]:
        """How many places in queries were adapted since the start, and how many not, by reason."""
        return dict(self._query_adapter.decisions)

    @property
    def second_looks(self) -> dict[Outcome, int]:
        """How many queries were looked at twice, and how many not, by reason; empty without.

        Every query of a batch counts.
        """
        return dict(self._second_looks)

    def _take_over(
        self, client: Any, query_adapter: QueryAdapter, queries: type, *, second_look: bool
    ) -> None:
        """Become the client that was handed over, but for where its queries go."""
        if second_look:
            check_any(query_adapter.routes)
        if isinstance(client, _Adapted):
            raise ConfigError("this client is adapted already; adapt the official one")
        inner = getattr(client, "_client", None)
        if not isinstance(inner, QdrantBase | AsyncQdrantBase):
            raise ConfigError(
                f"can't adapt a {type(client).__name__} of this version of qdrant-client: it keeps "
                "its connection elsewhere; put `trimtab serve` before Qdrant instead"
            )
        self.__dict__.update(client.__dict__)
        # The official client closes its connection when it is collected: it must live on.
        self._official = client
        self._query_adapter = query_adapter
        self._looks_twice, self._second_looks = second_look, Counter()
        self._client = adapted_copy(inner, query_adapter, queries)

    def _adapt_bare(
        self, collection: str, query: Any, using: str | None, prefetch: Any
    ) -> BareQuery | Outcome:
        """Adapt a query that is one vector and nothing else, or say why it can't be looked at."""
        mark = mark_of_context()
        if mark is not None:
            return "opted_out" if reason_of_mark(mark) is Reason.OPTED_OUT else "already_adapted"
        is_vector = isinstance(query, list | np.ndarray)
        if prefetch or not is_vector or isinstance(query, np.ma.MaskedArray):
            return "other_query"
        return self._query_adapter.adapt_bare(collection, query, using)

    def _ask_deeper(
        self,
        collection: str,
        query: BareQuery | Outcome,
        values: Sequence[Any],
        named: Mapping[str, Any],
    ) -> DeeperQuery | None:
        """Prepare a second look, or count why there is none."""
        if not self._looks_twice:
            return None
        deeper: DeeperQuery | Outcome
        if isinstance(query, BareQuery):
            distance = self._query_adapter.distance_of(collection, query.using)
            deeper = DeeperQuery.of(query, distance, values, named)
        else:
            deeper = query
        if isinstance(deeper, DeeperQuery):
            return deeper
        self._second_looks[deeper] += 1
        return None

    def _count_unseen(self, outcome: Outcome, n_queries: int = 1) -> None:
        """Count queries of a method that never looks twice."""
        if self._looks_twice:
            self._second_looks[outcome] += n_queries

    def _cut(self, deeper: DeeperQuery, response: Any) -> Any:
        """Look again, and count it."""
        cut, outcome = deeper.cut(response)
        self._second_looks[outcome] += 1
        return cut

    def __copy__(self) -> Any:
        """Share the connection, as the official client's copies do."""
        adapted = object.__new__(type(self))
        adapted.__dict__.update(self.__dict__)
        return adapted

    def __reduce_ex__(self, protocol: Any) -> Any:
        """Refuse to be pickled: a connection can't travel.

        Raises:
            ConfigError: Always, with what to do.
        """
        name = type(self).__name__
        raise ConfigError(
            f"the connection of an {name} can't be deep-copied or sent to another process; send "
            f"its routes, which can travel, and make the client there: {name}(client, routes)"
        )

    def __del__(self) -> None:
        """Leave the connection open; it belongs to the official client."""

    def __repr__(self) -> str:
        """Name the routes."""
        return f"{type(self).__name__}({', '.join(map(str, self._query_adapter.routes))})"


class AdaptedQdrantClient(_Adapted, QdrantClient):
    """A ``QdrantClient`` whose queries are adapted.

    Made from a client that exists, over REST, gRPC, ``:memory:`` or ``path=``; both share one
    connection, and closing one closes both. Adapted are ``query_points``, ``query_batch_points``
    and ``query_points_groups``; writes, reads and the raw ``http`` and ``grpc_points`` never are.

    Qdrant is asked, once, whether the adapters fit their collections; see :meth:`check_routes`.

    Example:
        >>> client = AdaptedQdrantClient(client, {"docs": "models/docs"})  # doctest: +SKIP
        >>> client.query_points("docs", query=vector, limit=10)  # doctest: +SKIP
    """

    def __init__(
        self,
        client: QdrantClient,
        routes: Routes | RouteTable,
        *,
        policies: Policies | None = None,
        alias_ttl_s: float = ALIAS_TTL_S,
        second_look: bool = False,
    ) -> None:
        """Put adapters before a client's queries.

        Args:
            client: The official client; it goes on working, without adapters.
            routes: Adapters or model files by collection or alias, or by ``(collection, vector
                name)``; see :meth:`Routes.of`.
            policies: What to do where a request leaves a choice.
            alias_ttl_s: Seconds until aliases are looked up again.
            second_look: Whether ``query_points`` scores the best documents of a single dense vector
                anew, where the route's model can (:class:`trimtab.model.second_look.SecondLook`):
                it asks for as many as that looks at, and their vectors, and gives as many as were
                asked for, with the second look's scores. See :attr:`second_looks`.

        Raises:
            ConfigError: The client is no blocking official one, or the routes contradict; or a
                second look is asked for that no model has.
            ModelError: A model can't be used.
        """
        if not isinstance(client, QdrantClient):
            raise ConfigError(
                f"expected a QdrantClient, not {type(client).__name__}; "
                "an AsyncQdrantClient goes into AsyncAdaptedQdrantClient"
            )
        query_adapter = QueryAdapter(Routes.of(routes), policies or Policies(), ttl_s=alias_ttl_s)
        self._take_over(client, query_adapter, BlockingQueries, second_look=second_look)
        self.check_routes()

    def check_routes(self) -> list[Finding]:
        """Ask Qdrant whether every route can apply; say in the log, and give, what was found.

        Done when the client is made, too. A route that can't apply raises with the first query.
        """
        return cast(list[Finding], self._client.examine())

    def query_points(
        self,
        collection_name: str,
        query: Any = None,
        using: str | None = None,
        prefetch: Any = None,
        *more: Any,
        **options: Any,
    ) -> Any:
        """Query as the official client does; a bare vector is adapted before it is made a list."""
        if self._looks_twice:
            self._client.learn(collection_name)
        found = self._adapt_bare(collection_name, query, using, prefetch)
        deeper = self._ask_deeper(collection_name, found, more, options)
        if not isinstance(found, BareQuery):
            return super().query_points(collection_name, query, using, prefetch, *more, **options)
        with headers({MARK_HEADER: found.adapter.mark}):
            if deeper is None:
                return self._official.query_points(
                    collection_name, found.vector, using, prefetch, *more, **options
                )
            answer = self._official.query_points(
                collection_name, found.vector, using, **deeper.arguments
            )
        return self._cut(deeper, answer)

    def query_batch_points(
        self, collection_name: str, requests: Sequence[Any], *more: Any, **options: Any
    ) -> Any:
        """Query as the official client does; no query of a batch is looked at twice."""
        searches = list(requests)
        self._count_unseen("batch", len(searches))
        return super().query_batch_points(collection_name, searches, *more, **options)

    def query_points_groups(self, *values: Any, **named: Any) -> Any:
        """Query as the official client does; groups are not looked at twice."""
        self._count_unseen("groups")
        return super().query_points_groups(*values, **named)


class AsyncAdaptedQdrantClient(_Adapted, AsyncQdrantClient):
    """An ``AsyncQdrantClient`` whose queries are adapted; see :class:`AdaptedQdrantClient`."""

    def __init__(
        self,
        client: AsyncQdrantClient,
        routes: Routes | RouteTable,
        *,
        policies: Policies | None = None,
        alias_ttl_s: float = ALIAS_TTL_S,
        second_look: bool = False,
    ) -> None:
        """Put adapters before a client's queries, as :class:`AdaptedQdrantClient` does.

        Raises:
            ConfigError: The client is no asynchronous official one, or the routes contradict.
            ModelError: A model can't be used.
        """
        if not isinstance(client, AsyncQdrantClient):
            raise ConfigError(
                f"expected an AsyncQdrantClient, not {type(client).__name__}; "
                "a QdrantClient goes into AdaptedQdrantClient"
            )
        query_adapter = QueryAdapter(Routes.of(routes), policies or Policies(), ttl_s=alias_ttl_s)
        self._take_over(client, query_adapter, AsyncQueries, second_look=second_look)

    async def check_routes(self) -> list[Finding]:
        """Ask Qdrant whether every route can apply; say in the log, and give, what was found.

        Done before the first query, too. A route that can't apply raises with its first query.
        """
        return cast(list[Finding], await self._client.examine())

    async def query_points(
        self,
        collection_name: str,
        query: Any = None,
        using: str | None = None,
        prefetch: Any = None,
        *more: Any,
        **options: Any,
    ) -> Any:
        """Query as the official client does; a bare vector is adapted before it is made a list."""
        if self._looks_twice:
            await self._client.learn(collection_name)
        found = self._adapt_bare(collection_name, query, using, prefetch)
        deeper = self._ask_deeper(collection_name, found, more, options)
        if not isinstance(found, BareQuery):
            return await super().query_points(
                collection_name, query, using, prefetch, *more, **options
            )
        with headers({MARK_HEADER: found.adapter.mark}):
            if deeper is None:
                return await self._official.query_points(
                    collection_name, found.vector, using, prefetch, *more, **options
                )
            answer = await self._official.query_points(
                collection_name, found.vector, using, **deeper.arguments
            )
        return self._cut(deeper, answer)

    async def query_batch_points(
        self, collection_name: str, requests: Sequence[Any], *more: Any, **options: Any
    ) -> Any:
        """Query as the official client does; no query of a batch is looked at twice."""
        searches = list(requests)
        self._count_unseen("batch", len(searches))
        return await super().query_batch_points(collection_name, searches, *more, **options)

    async def query_points_groups(self, *values: Any, **named: Any) -> Any:
        """Query as the official client does; groups are not looked at twice."""
        self._count_unseen("groups")
        return await super().query_points_groups(*values, **named)
