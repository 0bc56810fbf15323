"""Which adapter serves which vector of which collection."""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, Protocol, get_args

from trimtab.errors import ConfigError
from trimtab.model.adapter import Adapter
from trimtab.model.manifest import Manifest

MARK_HEADER = "x-trimtab-adapter"
"""Header, or gRPC metadata, that a request with adapted vectors carries."""

OnError = Literal["passthrough", "refuse"]

Mode = Literal["on", "off", "shadow", "canary"]

CANARY_SHARE = 0.1
"""What a canary adapts unless it is told."""

RouteTable = Mapping[str | tuple[str, str], Adapter | str | Path]
"""Adapters or model files by collection, or by collection and vector name."""


class Aim(Protocol):
    """An adapter, and the vector whose queries it is for: a route, or what an encoder adapts."""

    @property
    def collection(self) -> str:
        """The collection's name, or an alias."""

    @property
    def vector_name(self) -> str:
        """The vector's name in it; empty for the unnamed one."""

    @property
    def manifest(self) -> Manifest:
        """What the adapter says about itself."""

    @property
    def mark(self) -> str:
        """``NAME@VERSION`` of the adapter."""

    @property
    def mode(self) -> Mode:
        """As of a route."""

    @property
    def on_error(self) -> OnError:
        """As of a route."""

    @property
    def remark(self) -> str:
        """What is allowed and still likely to be a mistake; empty for nothing."""

    @property
    def table(self) -> str:
        """Where in the settings it stands."""


@dataclass(frozen=True, slots=True)
class Route:
    """One vector of one collection, and the adapter of its queries.

    Attributes:
        collection: The collection's name, or an alias.
        vector_name: The vector's name in it; empty for the unnamed one.
        adapter: The adapter.
        on_error: What to do where the adapter can't transform a query: send the raw one
            (``passthrough``) or ``refuse`` it.
        mode: ``on``; ``off``; ``shadow``, which answers the raw query and asks the adapted one
            beside it; ``canary``, which adapts a share of the queries.
        share: That share, 0 to 1; which queries are in it depends on their values alone, or on the
            text that the sidecar has embedded.
    """

    collection: str
    vector_name: str
    adapter: Adapter
    on_error: OnError
    mode: Mode = "on"
    share: float = 1.0

    @classmethod
    def make(
        cls,
        collection: str,
        adapter: Adapter | str | Path,
        *,
        vector_name: str = "",
        on_error: OnError | None = None,
        mode: Mode = "on",
        share: float | None = None,
    ) -> "Route":
        """Make a route, loading the adapter where a path is given.

        Args:
            collection: The collection's name, or an alias.
            adapter: An adapter, or the path of a model.
            vector_name: The vector's name; empty for the unnamed one.
            on_error: ``passthrough`` or ``refuse``. Unless given, ``passthrough`` for an adapter
                whose queries come from the index's own encoder, and ``refuse`` for a migration
                adapter, whose raw queries mean nothing to the index.
            mode: ``on``, ``off``, ``shadow`` or ``canary``.
            share: For ``canary``, the share of queries that are adapted, 0 to 1; a tenth unless
                given.

        Raises:
            ConfigError: The collection's name is empty, there is no such ``on_error`` or mode, the
                mode knows no share, or it sends raw queries to an index that they mean nothing to.
            ModelError: The model can't be used.
        """
        if not collection:
            raise ConfigError("a route needs the name of a collection")
        if not isinstance(adapter, Adapter | str | Path):
            raise ConfigError(
                f"the route of {collection!r} leads to {type(adapter).__name__}; "
                "expected an Adapter or the path of a model"
            )
        if not isinstance(adapter, Adapter):
            adapter = Adapter.load(adapter)
        if on_error is None:
            on_error = "refuse" if adapter.manifest.use == "migration" else "passthrough"
        if on_error not in get_args(OnError):
            raise ConfigError(f"on_error is {on_error!r}; expected passthrough or refuse")
        check_share(collection, mode, share)
        share = CANARY_SHARE if share is None else share
        if mode not in get_args(Mode) or not 0 <= share <= 1:
            raise ConfigError(
                f"the route of {collection!r} has mode {mode!r} and share {share}; expected on, "
                "off, shadow or canary, and 0 to 1"
            )
        if adapter.manifest.use == "migration" and mode in {"canary", "shadow"}:
            raise ConfigError(
                f"the route of {collection!r} has mode {mode!r}, which answers raw queries; its "
                f"adapter {adapter.manifest.name!r} is for a migration: raw queries come from "
                "another encoder and mean nothing to the index; set mode to on, or off"
            )
        return cls(collection, vector_name, adapter, on_error, mode, share)

    @property
    def manifest(self) -> Manifest:
        """What the adapter says about itself."""
        return self.adapter.manifest

    @property
    def mark(self) -> str:
        """``NAME@VERSION`` of the adapter."""
        return self.adapter.mark

    @property
    def table(self) -> str:
        """Where in the settings it stands."""
        return "the route"

    @property
    def remark(self) -> str:
        """Say what is allowed and still likely to be a mistake; empty for nothing."""
        if self.on_error == "passthrough" and self.adapter.manifest.use == "migration":
            return (
                f"{self} has on_error passthrough, and its adapter is for a migration: a query "
                "that can't be adapted is sent raw, and means nothing to the index; set refuse"
            )
        return ""

    @property
    def dims(self) -> tuple[int, int]:
        """Values that the adapter takes and gives."""
        return self.adapter.dim_in, self.adapter.dim_out

    def __str__(self) -> str:
        """Name the collection and the vector for a message."""
        return name_vector(self.collection, self.vector_name)


def check_share(collection: str, mode: Mode, share: float | None) -> None:
    """Refuse a share of queries where a route's mode adapts all of them, or none.

    Raises:
        ConfigError: It does; beside ``off`` a canary's share may wait.
    """
    if share is not None and mode in {"on", "shadow"}:
        raise ConfigError(
            f"the route of {collection!r} has share {share:g} and mode {mode!r}, which knows none; "
            "set mode to canary, or leave share out"
        )


def name_vector(collection: str, vector_name: str) -> str:
    """Name a collection and a vector of it for a message."""
    return f"collection {collection!r}" + (f", vector {vector_name!r}" if vector_name else "")


class Routes:
    """All routes; never changed, only replaced as a whole."""

    def __init__(self, routes: Iterable[Route]) -> None:
        """Take the routes.

        Raises:
            ConfigError: Two serve the same vector of the same collection.
        """
        self._routes: dict[str, dict[str, Route]] = {}
        for route in routes:
            vectors = self._routes.setdefault(route.collection, {})
            if route.vector_name in vectors:
                raise ConfigError(f"two routes for {route}; expected one")
            vectors[route.vector_name] = route

    @classmethod
    def of(cls, table: "Routes | RouteTable") -> "Routes":
        """Make routes of a table by collection, or by collection and vector name.

        Args:
            table: ``{"docs": "models/docs", ("docs", "title"): adapter}``.

        Raises:
            ConfigError: The table is empty or holds something else.
            ModelError: A model can't be used.
        """
        if isinstance(table, Routes):
            return table
        if not isinstance(table, Mapping) or not table:
            raise ConfigError("expected routes such as {'my_collection': 'models/docs'}")
        routes = []
        for key, adapter in table.items():
            name, vector_name = _read_key(key)
            routes.append(Route.make(name, adapter, vector_name=vector_name))
        return cls(routes)

    def of_collection(self, name: str) -> Mapping[str, Route]:
        """Give the routes of a collection by vector name; empty where it has none."""
        return self._routes.get(name, {})

    def __iter__(self) -> Iterator[Route]:
        """Go through all routes."""
        return (route for vectors in self._routes.values() for route in vectors.values())

    def __len__(self) -> int:
        """Count the routes."""
        return sum(map(len, self._routes.values()))


def _read_key(key: object) -> tuple[str, str]:
    """Read the collection and the vector name that a table's key names."""
    match key:
        case str():
            return key, ""
        case (str() as collection, str() as vector_name):
            return collection, vector_name
    raise ConfigError(
        f"route {key!r} names no vector; expected a collection, or (collection, vector name)"
    )
