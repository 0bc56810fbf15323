"""sidecar.toml, read into :class:`trimtab.settings.Settings`.

Unknown keys are errors, so a misspelt setting never passes for a default. Paths are relative to the
file.
"""

import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, is_dataclass, replace
from itertools import combinations, product
from pathlib import Path
from types import NoneType
from typing import Any, get_args, get_origin, get_type_hints

from trimtab.addresses import Address, Origin, read_prefix
from trimtab.errors import ConfigError
from trimtab.parsing import MisfitError, parse, read_toml, refuse_unknown
from trimtab.rewrite.qdrant_query import BM25_MODEL
from trimtab.routing.routes import check_share
from trimtab.settings import ANY_PREFIX, EncoderSettings, Settings

_PORTS = {"rest": 6333, "grpc": 6334}
_ARRAYS = {"routes": "route", "collections": "collection", "encoders": "encoder"}
"""Settings that are arrays of tables, and what the tables are called."""


@dataclass(frozen=True, slots=True)
class Source:
    """Where settings come from: a file, and tables made of flags that override its own.

    Attributes:
        path: The file, if there is one.
        overrides: Tables as in the file, with absolute paths.
    """

    path: Path | None
    overrides: Mapping[str, Any]

    @classmethod
    def of(cls, path: Path | None, flags: Mapping[str, Any]) -> "Source":
        """Take a file and the flags of ``trimtab serve``.

        Raises:
            ConfigError: A flag can't be read.
        """
        return cls(path, _overrides(flags))

    def read(self) -> Settings:
        """Read the settings as they are now.

        Raises:
            ConfigError: The file can't be read, or a key is missing, unknown or wrong; the message
                names it.
        """
        if self.path is None:
            return parse_settings(self.overrides, "flags", Path())
        record = _read_toml(self.path)
        for key, value in self.overrides.items():
            known = record.get(key)
            if isinstance(known, dict) and isinstance(value, dict):
                record[key] = known | value
            else:
                record[key] = value
        settings = parse_settings(record, str(self.path), self.path.parent)
        return replace(settings, source=self.path)


def _overrides(flags: Mapping[str, Any]) -> dict[str, Any]:
    """Write flags as the file's tables."""
    tables: dict[str, Any] = {}
    for key, value in {
        "listen": {name: flags.get(name) for name in ("rest", "grpc", "admin", "path_prefix")},
        "upstream": {
            "path_prefix": flags.get("upstream_path_prefix"),
            **{
                name: list(flags.get(f"upstream_{name}") or ()) or None for name in ("rest", "grpc")
            },
        },
    }.items():
        given = {name: each for name, each in value.items() if each is not None}
        if given:
            tables[key] = given
    for key, what in (("route", "COLLECTION[/VECTOR]=MODEL"), ("collection", "NAME=INDEX")):
        if flags.get(key):
            tables[key] = [_read_pair(key, each, what, flags) for each in flags[key]]
    for flag in ("mode", "share"):
        if flags.get(flag) is not None and not flags.get("route"):
            raise ConfigError(f"--{flag} goes with --route; set {flag} in the file's [[route]]")
    if flags.get("workers") is not None:
        tables["workers"] = flags["workers"]
    return tables


def _read_pair(key: str, text: str, what: str, flags: Mapping[str, Any]) -> dict[str, Any]:
    """Read one route or collection."""
    name, separator, path = text.partition("=")
    if not separator or not name or not path:
        raise ConfigError(f"--{key} {text!r}; expected {what}")
    absolute = str(Path(path).absolute())
    if key == "collection":
        return {"name": name, "index": absolute}
    collection, _, vector = name.partition("/")
    extra = {each: flags[each] for each in ("mode", "share") if flags.get(each) is not None}
    return {"collection": collection, "vector": vector, "adapter": absolute, **extra}


def read_secret(name: str) -> str | None:
    """Read a secret out of a variable; None where that is not set, or empty.

    White space around it is no part of it: a file or a Kubernetes secret often ends with a line.

    Raises:
        ConfigError: No header could carry it.
    """
    secret = os.environ.get(name, "").strip()
    if not (secret.isascii() and secret.isprintable()):
        raise ConfigError(
            f"the variable {name} holds something else than printable ASCII, which no request can "
            "carry; expected the key or token alone"
        )
    return secret or None


def _read_toml(path: Path) -> dict[str, Any]:
    """Read a file's tables."""
    try:
        return read_toml(path.read_text(encoding="utf-8-sig"))
    except OSError as error:
        raise ConfigError(f"can't read {path}: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise ConfigError(f"{path} is not TOML: it is not UTF-8; convert it") from error
    except ValueError as error:
        raise ConfigError(f"{path} is not TOML: {error}") from error


def parse_settings(record: Mapping[str, Any], source: str, folder: Path) -> Settings:
    """Make settings of a file's tables.

    Args:
        record: The parsed TOML.
        source: What to call it in messages.
        folder: What relative paths are relative to.

    Raises:
        ConfigError: A key is missing, unknown or wrong.
    """
    hints = get_type_hints(Settings, include_extras=True)
    names = {_ARRAYS.get(name, name): name for name in hints if name != "source"}
    with _named(source):
        refuse_unknown(record, names)
    values: dict[str, Any] = {}
    for key, given in record.items():
        kind: Any = hints[names[key]]
        where = f"{source}: [{key}]"
        if get_origin(kind) is tuple:
            if not isinstance(given, list):
                raise ConfigError(f"{where} is one table; write [[{key}]] for each")
            values[names[key]] = tuple(
                _table(get_args(kind)[0], each, f"{source}: [[{key}]] number {n}", folder)
                for n, each in enumerate(given, 1)
            )
        elif is_dataclass(kind):
            values[key] = _table(kind, given, where, folder)
        else:
            with _named(f"{source}: {key}"):
                values[key] = parse(given, kind)
    settings = Settings(**values)
    check_settings(settings, source)
    return settings


def check_settings(settings: Settings, source: str) -> None:
    """Refuse settings that contradict each other.

    Raises:
        ConfigError: The message names both.
    """
    listen, upstream = settings.listen, settings.upstream
    if listen.rest is None and listen.grpc is None:
        raise ConfigError(f"{source}: nothing to listen on; set rest or grpc in [listen]")
    if (listen.certificate is None) != (listen.key is None):
        raise ConfigError(f"{source}: [listen] certificate and key go together; set both")
    if (upstream.certificate is None) != (upstream.key is None):
        raise ConfigError(f"{source}: [upstream] certificate and key go together; set both")
    if not upstream.rest and not upstream.grpc and not settings.collections:
        raise ConfigError(
            f"{source}: nothing to serve; name Qdrant in [upstream], or an index in [[collection]]"
        )
    if listen.grpc is not None and not upstream.grpc:
        raise ConfigError(f"{source}: [listen] grpc needs [upstream] grpc, Qdrant's gRPC address")
    _check_addresses(settings, source)
    for where, prefix in (
        ("[listen]", listen.path_prefix if listen.path_prefix != ANY_PREFIX else ""),
        ("[upstream]", upstream.path_prefix),
    ):
        with _named(f"{source}: {where} path_prefix"):
            read_prefix(prefix)
    for route in settings.routes:
        with _named(source):
            check_share(route.collection, route.mode, route.share)
    _check_unique(
        [(route.collection, route.vector) for route in settings.routes], "[[route]]", source
    )
    _check_unique([each.name for each in settings.collections], "[[collection]]", source)
    _check_unique([each.model.lower() for each in settings.encoders], "[[encoder]]", source)
    _check_encoders(settings.encoders, source)


def _check_unique(keys: Sequence[Any], what: str, source: str) -> None:
    """Refuse two tables for the same thing."""
    seen = set()
    for key in keys:
        if key in seen:
            raise ConfigError(f"{source}: two tables {what} for {key!r}; expected one")
        seen.add(key)


def _check_addresses(settings: Settings, source: str) -> None:
    """Refuse two listeners in one place, and an upstream that is the sidecar itself."""
    listen, upstream = settings.listen, settings.upstream
    listeners = {
        f"[listen] {name}": address
        for name in ("rest", "grpc", "admin")
        if (address := getattr(listen, name)) is not None
    }
    for (name, one), (other_name, other) in combinations(listeners.items(), 2):
        if one.answers_at(other) or other.answers_at(one):
            raise ConfigError(
                f"{source}: {name} {one} and {other_name} {other} are one place; give each a port"
            )
    origins = [("rest", each) for each in upstream.rest] + [
        ("grpc", each) for each in upstream.grpc
    ]
    for (protocol, origin), (name, address) in product(origins, listeners.items()):
        if address.answers_at(origin.address):
            raise ConfigError(
                f"{source}: [upstream] {protocol} {origin} is the sidecar itself, which has {name} "
                f"{address}; name Qdrant's own address, or listen on another port"
            )


def _check_encoders(encoders: Sequence[EncoderSettings], source: str) -> None:
    """Refuse names that no request can ask for, or that mean something else."""
    known = {each.model.lower(): each.model for each in encoders}
    for encoder in encoders:
        where = f"{source}: [[encoder]] model {encoder.model!r}"
        if not encoder.model or encoder.model != encoder.model.strip():
            raise ConfigError(f"{where} is empty or has space around it; expected a plain name")
        if encoder.model.lower() == BM25_MODEL:
            raise ConfigError(f"{where} is the name of Qdrant's own BM25; give it another")
        name, _, role = encoder.model.lower().rpartition(":")
        if role in {"query", "document"} and name in known:
            raise ConfigError(
                f"{where} is what /v1/embeddings calls the {role} form of {known[name]!r}; "
                "give one of them another name"
            )
        for place in encoder.adapts:
            collection, slash, vector = place.partition("/")
            if not collection or (slash and not vector):
                raise ConfigError(
                    f"{where} adapts {place!r}; expected a collection, or COLLECTION/VECTOR"
                )


@contextmanager
def _named(where: str) -> Iterator[None]:
    """Say where it stands what can't be read."""
    try:
        yield
    except MisfitError as error:
        raise ConfigError(f"{where} {error}") from error
    except ConfigError as error:
        raise ConfigError(f"{where}: {error}") from error


def _table(kind: Any, given: Any, where: str, folder: Path) -> Any:
    """Read one table into its dataclass."""
    if not isinstance(given, dict):
        raise ConfigError(f"{where} is {given!r}; expected a table")
    hints, table = get_type_hints(kind), {}
    for key, value in given.items():
        with _named(f"{where} {key}"):
            table[key] = _as_told(hints.get(key), value, _PORTS.get(key, 0))
    with _named(where):
        return parse(table, kind, hook=lambda _, path: folder / _read_path(path))


def _read_path(given: Any) -> str:
    """Read a path.

    Raises:
        MisfitError: It is none that a file can have.
    """
    path = parse(given, str)
    if "\0" in path:
        raise MisfitError("", f"is {path!r}, expected a path without NUL")
    return path


def _as_told(kind: Any, given: Any, port: int) -> Any:
    """Read addresses, and the empty string that switches off what may be None."""
    if given == "" and NoneType in get_args(kind):
        return None
    if kind == tuple[Origin, ...]:
        origins = given if isinstance(given, list) else [given]
        return tuple(Origin.parse(parse(each, str), default_port=port) for each in origins)
    return Address.parse(parse(given, str)) if Address in get_args(kind) else given
