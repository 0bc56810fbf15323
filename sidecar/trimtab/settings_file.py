"""sidecar.toml, read into :class:`trimtab.settings.Settings`.

Unknown keys are errors, so a misspelt setting never passes for a default. Paths are relative to the
file.
"""

import tomllib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import MISSING, dataclass, fields, replace
from pathlib import Path
from types import NoneType, UnionType
from typing import Any, Literal, TypeVar, Union, cast, get_args, get_origin, get_type_hints

from trimtab.errors import ConfigError
from trimtab.settings import ANY_PREFIX, Address, Origin, Settings, read_prefix

_PORTS = {"rest": 6333, "grpc": 6334}
_TABLES = {"routes": "route", "collections": "collection"}
"""Fields that are lists of tables, and what the tables are called."""

Value = TypeVar("Value")


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


def _read_toml(path: Path) -> dict[str, Any]:
    """Read a file's tables."""
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigError(f"can't read {path}: {error.strerror}") from error
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
    values: dict[str, Any] = {}
    names = {_TABLES.get(item.name, item.name): item.name for item in fields(Settings)}
    del names["source"]
    _refuse_unknown(record, names, source)
    hints = get_type_hints(Settings)
    for key, value in record.items():
        name = names[key]
        where = f"{source}: [{key}]"
        if key == "workers":
            values[name] = _integer(value, f"{source}: workers")
        elif name in _TABLES:
            values[name] = _tables(get_args(hints[name])[0], value, where, folder)
        else:
            values[name] = _table(hints[name], value, where, folder)
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
    for where, prefix in (
        ("[listen]", listen.path_prefix if listen.path_prefix != ANY_PREFIX else ""),
        ("[upstream]", upstream.path_prefix),
    ):
        _placed(read_prefix, prefix, f"{source}: {where} path_prefix")
    for what, share in [("[shadow] share", settings.shadow.share)] + [
        (f"[[route]] {route.collection}: share", route.share) for route in settings.routes
    ]:
        if not 0 <= share <= 1:
            raise ConfigError(f"{source}: {what} is {share}; expected 0 to 1")
    if settings.workers < 1:
        raise ConfigError(f"{source}: workers is {settings.workers}; expected 1 or more")
    _check_unique(
        [(route.collection, route.vector) for route in settings.routes], "[[route]]", source
    )
    _check_unique([each.name for each in settings.collections], "[[collection]]", source)


def _check_unique(keys: Sequence[Any], what: str, source: str) -> None:
    """Refuse two tables for the same thing."""
    seen = set()
    for key in keys:
        if key in seen:
            raise ConfigError(f"{source}: two tables {what} for {key!r}; expected one")
        seen.add(key)


def _tables(kind: Any, value: Any, where: str, folder: Path) -> tuple[Any, ...]:
    """Read an array of tables."""
    if not isinstance(value, list):
        raise ConfigError(f"{where} is one table; write [{where[where.index('[') :]}] for each")
    return tuple(
        _table(kind, item, f"{where.replace('[', '[[').replace(']', ']]')} number {n}", folder)
        for n, item in enumerate(value, 1)
    )


def _table(kind: Callable[..., Value], value: Any, where: str, folder: Path) -> Value:
    """Read one table into its dataclass."""
    if not isinstance(value, dict):
        raise ConfigError(f"{where} is {value!r}; expected a table")
    record: Any = kind
    known = {item.name for item in fields(record)}
    _refuse_unknown(value, known, where)
    for item in fields(record):
        if item.default is MISSING and item.default_factory is MISSING and item.name not in value:
            raise ConfigError(f"{where} lacks {item.name!r}")
    hints = get_type_hints(kind)
    read = {
        key: _value(key, hints[key], given, f"{where} {key}", folder)
        for key, given in value.items()
    }
    try:
        return kind(**read)
    except ConfigError as error:
        raise ConfigError(f"{where} {error}") from error


def _refuse_unknown(record: Mapping[str, Any], known: Any, where: str) -> None:
    """Refuse the first key that means nothing."""
    for key in record:
        if key not in known:
            raise ConfigError(f"{where}: unknown key {key!r}; known: {', '.join(sorted(known))}")


def _value(key: str, kind: Any, given: Any, where: str, folder: Path) -> Any:
    """Read one setting as its type says."""
    if get_origin(kind) in {Union, UnionType}:  # X | None; an empty string switches it off
        if given == "":
            return None
        kind = next(each for each in get_args(kind) if each is not NoneType)
    if get_origin(kind) is Literal:
        if given not in get_args(kind):
            allowed = " or ".join(get_args(kind))
            raise ConfigError(f"{where} is {given!r}; expected {allowed}")
        return given
    if get_origin(kind) is tuple:
        origins = given if isinstance(given, list) else [given]
        return tuple(_origin(_text(each, where), _PORTS[key], where) for each in origins)
    if kind is Address:
        return _placed(Address.parse, _text(given, where), where)
    if kind is Path:
        return folder / _text(given, where)
    return _plain(kind, given, where)


def _origin(text: str, port: int, where: str) -> Origin:
    """Read one address of the upstream."""
    return _placed(lambda each: Origin.parse(each, default_port=port), text, where)


def _placed(parse: Callable[[str], Value], text: str, where: str) -> Value:
    """Read something whose errors do not say where it stands."""
    try:
        return parse(text)
    except ConfigError as error:
        raise ConfigError(f"{where}: {error}") from error


def _plain(kind: Any, given: Any, where: str) -> Any:
    """Read text, a number or a truth value."""
    if kind is float and type(given) is int:
        given = float(given)
    if type(given) is not kind:
        raise ConfigError(f"{where} is {given!r}; expected {kind.__name__}")
    if kind in {int, float} and not given >= 0:
        raise ConfigError(f"{where} is {given!r}; expected 0 or more")
    return given


def _text(given: Any, where: str) -> str:
    """Read text."""
    return cast(str, _plain(str, given, where))


def _integer(given: Any, where: str) -> int:
    """Read a whole number."""
    return cast(int, _plain(int, given, where))
