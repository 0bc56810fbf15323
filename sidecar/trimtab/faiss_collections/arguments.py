"""Small parts of a request's body, read with Qdrant's own refusals."""

from typing import Any

from trimtab.faiss_collections.index import SearchOptions
from trimtab.faiss_collections.replies import Json, bad_format, invalid


def as_list(value: Any) -> list[Any]:
    """Read what may be one thing or a list of them."""
    if value is None:
        return []
    return value if isinstance(value, list) else [value]


def read_fields(value: Any) -> Json:
    """Read an object."""
    if not isinstance(value, dict):
        raise bad_format("invalid type: expected a map")
    return value


def read_number(data: Any, name: str, default: float) -> float:
    """Read a number that may be left out."""
    value = read_fields(data).get(name)
    if value is None:
        return default
    if type(value) not in {int, float}:
        raise bad_format(f"invalid type: expected a number for `{name}`")
    number: float = value
    return number


def read_count(data: Any, name: str, default: int, least: int = 1, most: int | None = None) -> int:
    """Read a whole number that may be left out."""
    value = read_fields(data).get(name)
    if value is None:
        return default
    if type(value) is not int:
        raise bad_format(f"invalid type: expected a whole number for `{name}`")
    if value < least:
        raise invalid(f"{name}: value {value} invalid, must be {least} or larger")
    if most is not None and value > most:
        raise invalid(f"{name}: value {value} invalid, must be {most} or smaller")
    return value


def read_limit(data: Any) -> int:
    """Read how many points are wanted; ``top`` is the older word."""
    return read_count(data, "limit", read_count(data, "top", 10))


def read_options(data: Any) -> SearchOptions:
    """Read ``params``: ``nprobe`` is ours; quantisation says nothing here."""
    fields = {} if data is None else read_fields(data)
    exact = fields.get("exact")
    return SearchOptions(
        exact=exact is not None and read_flag(exact, "exact"),
        hnsw_ef=read_count(fields, "hnsw_ef", 0) or None,
        nprobe=read_count(fields, "nprobe", 0) or None,
    )


def read_flag(value: Any, name: str) -> bool:
    """Read a boolean."""
    if type(value) is not bool:
        raise bad_format(f"invalid type: expected a boolean for `{name}`")
    return value


def read_vector_selector(data: Json) -> bool | list[str]:
    """Read ``with_vector``, which is a boolean or a list of names; false where it is left out."""
    value = data.get("with_vector", data.get("with_vectors"))
    if value is None:
        return False
    if isinstance(value, bool):
        return value
    if not isinstance(value, list) or not all(isinstance(name, str) for name in value):
        raise bad_format("data did not match any variant of untagged enum WithVector")
    return value


def read_list(data: Json, name: str) -> list[Any]:
    """Read a list that has to be there."""
    values = data.get(name)
    if not isinstance(values, list):
        raise bad_format(f"missing field `{name}`")
    return values


def read_legacy(data: Json) -> Json:
    """Read a request to ``points/search`` as the query that it means.

    Qdrant 1.19 still serves it: src/actix/api/search_api.rs.
    """
    if data.get("limit", data.get("top")) is None:
        raise bad_format("missing field `limit`")
    given = data.get("vector")
    named = given if isinstance(given, dict) else {"vector": given}
    vector, using = named.get("vector"), named.get("name")
    if not isinstance(vector, list | dict):
        raise bad_format("data did not match any variant of untagged enum NamedVectorStruct")
    return {**data, "prefetch": None, "query": vector, "using": using}
