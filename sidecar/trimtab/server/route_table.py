"""The route table that is in force, and how another takes its place.

A table is made whole and checked before anything changes, then swapped in by one assignment; a
request keeps the table that it began with. The one before stays in memory, to go back to.
"""

import hashlib
import itertools
import logging
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from trimtab.errors import ConfigError
from trimtab.faiss_collections.service import Collections
from trimtab.model.adapter import Adapter
from trimtab.model.followed import Stamp, stamp_of
from trimtab.model.onnx_file import naming_file, read_content, resolve_model_path
from trimtab.rewrite.policies import Policies
from trimtab.routing.outcome import is_write_guarded
from trimtab.routing.route_book import CollectionRoutes, RouteBook, check_routes
from trimtab.routing.routes import Aim, Route, Routes
from trimtab.routing.schema_cache import ANYONE, Caller, SchemaCache
from trimtab.server.encoders import Encoders, check_encoders
from trimtab.settings import CollectionSettings, RouteSettings, Settings

logger = logging.getLogger(__name__)

FIXED = ("listen", "upstream", "admin", "telemetry", "workers", "facts", "shadow", "reload")
"""Settings that only a restart changes."""


@dataclass(frozen=True, slots=True)
class RouteTable:
    """Everything that a request needs to know of the settings.

    Attributes:
        settings: What it was made of; those of ``FIXED`` as the server was started with them.
        routes: All routes.
        book: The routes, held against what Qdrant says of its collections.
        collections: FAISS indexes that are served as collections.
        encoders: Encoders of texts.
        stamps: What tells one state of their files from another.
        is_guarded: True where some write may have to be watched.
        number: Grows with every table.
    """

    settings: Settings
    routes: Routes
    book: RouteBook
    collections: Collections
    encoders: Encoders
    stamps: Mapping[Path, Stamp]
    is_guarded: bool
    number: int

    @property
    def content(self) -> tuple[object, ...]:
        """Give what tells one table from another: settings, models by their bytes, indexes."""
        marks = tuple(route.adapter.mark for route in self.routes)
        versions = tuple(served.encoder.version for served in self.encoders)
        return self.settings, marks, versions, tuple(self.stamps.items())

    @property
    def policies(self) -> Policies:
        """The user's settings."""
        return self.settings.policies

    @property
    def body_bytes(self) -> int:
        """How many bytes of a body may be kept, packed or unpacked."""
        return self.settings.limits.body_bytes

    @property
    def needs_aliases(self) -> bool:
        """Tell whether what is done with a collection's vectors depends on its name."""
        return len(self.routes) > 0 or self.encoders.adapt

    def known_routes(self, name: str, caller: Caller = ANYONE) -> CollectionRoutes | None:
        """Give the routes of a collection or alias, or None where Qdrant must be asked first.

        Args:
            name: The collection or alias.
            caller: Who wants to know.

        Raises:
            ConfigError: An adapter can't serve the collection.
        """
        if name in self.collections:
            return self.routes.of_collection(name)
        return self.book.known_routes(name, caller)


class LiveTable:
    """The table in force.

    Attributes:
        current: The table.
        previous: The one before, if there was one.
    """

    def __init__(
        self,
        read: Callable[[], Settings],
        facts: SchemaCache,
        started: Settings | None = None,
    ) -> None:
        """Make the first table.

        Args:
            read: Reads the settings, as they are now.
            facts: What Qdrant said; outlives tables.
            started: What the server was started with; unless given, what is read first.

        Raises:
            SidecarError: The settings, a model or an index can't be used.
        """
        self._read = read
        self._facts = facts
        self._numbers = itertools.count(1)
        self._last_read = read()
        fixed = self._last_read if started is None else started
        self._fixed = {name: getattr(fixed, name) for name in FIXED}
        self.previous: RouteTable | None = None
        self.current: RouteTable = self._make(self._last_read, None)

    def prepare(self) -> RouteTable:
        """Make a table of the settings as they are now; changes nothing yet. Files are read.

        Raises:
            SidecarError: They can't be used.
        """
        settings = self._read()
        _tell_fixed(self._last_read, settings)
        self._last_read = settings
        return self._make(settings, self.current)

    def commit(self, table: RouteTable) -> None:
        """Put a table in force; the one before is kept, unless nothing differs."""
        if table.content != self.current.content:
            self.previous = self.current
        self.current = table

    def roll_back(self) -> bool:
        """Put the previous table in force again; False where there is none."""
        if self.previous is None:
            return False
        self.previous, self.current = self.current, self.previous
        return True

    def _make(self, settings: Settings, old: RouteTable | None) -> RouteTable:
        """Make a table, taking over from the old one what has not changed."""
        settings = replace(settings, **self._fixed)
        routes = _make_routes(settings.routes, old)
        found = stamps(settings.collections)
        collections = _load_collections(settings, old)
        encoders = Encoders.load(settings.encoders, None if old is None else old.encoders)
        check_encoders(encoders, routes)
        aims: list[Aim] = [*routes, *encoders.aims]
        _check_places(settings, aims)
        for collection in settings.collections:
            check_routes(
                [aim for aim in aims if aim.collection == collection.name],
                collections.vectors(collection.name),
            )
        return RouteTable(
            settings=settings,
            routes=routes,
            book=RouteBook(routes, self._facts),
            collections=collections,
            encoders=encoders,
            stamps=found,
            is_guarded=is_write_guarded({str(route): route for route in routes}, settings.policies),
            number=next(self._numbers),
        )


def _make_routes(settings: tuple[RouteSettings, ...], old: RouteTable | None) -> Routes:
    """Load the adapters; one that has not changed is not made again."""
    known: dict[str, Adapter] = {}
    if old is not None:
        known = {route.adapter.version: route.adapter for route in old.routes}
    return Routes(
        Route.make(
            each.collection,
            _load(each.adapter, known),
            vector_name=each.vector,
            on_error=each.on_error,
            mode=each.mode,
            share=each.share,
        )
        for each in settings
    )


def _check_places(settings: Settings, routes: Iterable[Aim]) -> None:
    """Refuse what leads nowhere, and warn of what is likely to be a mistake.

    Raises:
        ConfigError: There is no Qdrant, and no index of a route's name.
    """
    names = [each.name for each in settings.collections]
    has_upstream = settings.upstream.rest or settings.upstream.grpc
    for route in routes:
        if not has_upstream and route.collection not in names:
            raise ConfigError(
                f"{route} is no index of [[collection]], and there is no Qdrant in [upstream]; "
                f"the indexes are: {', '.join(map(repr, names))}"
            )
        if route.remark:
            logger.warning("route is likely to be a mistake", extra={"cause": route.remark})


def _load(path: Path, known: dict[str, Adapter]) -> Adapter:
    """Load an adapter, unless the same bytes are loaded already.

    Raises:
        ModelError: It can't be used; the message names the file.
    """
    file = resolve_model_path(path)
    content = read_content(file)
    version = hashlib.sha256(content).hexdigest()[:12]
    if version not in known:
        with naming_file(file):
            known[version] = Adapter.from_bytes(content)
    return known[version]


def _load_collections(settings: Settings, old: RouteTable | None) -> Collections:
    """Open the indexes, unless the same ones are open already."""
    if (
        old is not None
        and old.settings.collections == settings.collections
        and stamps(settings.collections) == old.stamps
    ):
        return old.collections
    return Collections.load(settings.collections, alone=not settings.upstream.rest)


def stamps(collections: tuple[CollectionSettings, ...]) -> Mapping[Path, Stamp]:
    """Give the stamps of every file of some collections."""
    paths = [path for each in collections for path in (each.index, each.ids, each.payload) if path]
    return {path: stamp(path) for path in paths}


def stamp(path: Path) -> Stamp:
    """Give what changes with a file; nothing where there is none."""
    try:
        return stamp_of(path)
    except OSError:
        return ()


def _tell_fixed(old: Settings, new: Settings) -> None:
    """Warn of settings that differ and only count after a restart."""
    for name in FIXED:
        if getattr(old, name) != getattr(new, name):
            logger.warning("setting counts only after a restart", extra={"setting": name})
