"""Every field of Qdrant's requests that may hold a vector, read from the official client.

A field may hold one if its type takes a list of numbers at any depth, raw bytes or just anything,
or leads to a field that may. The models and descriptors of whichever qdrant-client is installed are
read, so that a new client's fields are seen before anybody has looked at them.
"""

import importlib
import inspect
import pkgutil
from collections.abc import Iterable, Iterator, Mapping, Sequence
from types import UnionType
from typing import Annotated, Any, Union, get_args, get_origin, get_type_hints

import numpy as np
import qdrant_client
from google.protobuf.descriptor import Descriptor, FieldDescriptor
from pydantic import BaseModel
from qdrant_client.http import api

__all__ = ["grpc_fields", "grpc_methods", "rest_calls", "rest_fields"]

_NUMBERS = {int, float}
_LISTS = {list, tuple, set, Sequence, Iterable}
_ANYTHING = {Any, bytes, np.ndarray, object}
_MESSAGE = FieldDescriptor.TYPE_MESSAGE
_NUMERIC = {
    FieldDescriptor.CPPTYPE_DOUBLE,
    FieldDescriptor.CPPTYPE_FLOAT,
    FieldDescriptor.CPPTYPE_INT32,
    FieldDescriptor.CPPTYPE_INT64,
    FieldDescriptor.CPPTYPE_UINT32,
    FieldDescriptor.CPPTYPE_UINT64,
}
_JSON_VALUE = "qdrant.Value"  # of payloads; anything may be in one


def rest_calls() -> dict[str, tuple[type[BaseModel], ...]]:
    """Give the models of the body of every REST call, by the name that the client gives it."""
    calls = {}
    for module_info in pkgutil.iter_modules(api.__path__):
        module = importlib.import_module(f"{api.__name__}.{module_info.name}")
        for kind in vars(module).values():
            if inspect.isclass(kind) and kind.__module__ == module.__name__:
                calls.update(_calls_of(kind, vars(module)))
    return calls


def _calls_of(kind: type, names: Mapping[str, Any]) -> dict[str, tuple[type[BaseModel], ...]]:
    """Give the models of the calls that one class of the client's builds."""
    return {
        name.removeprefix("_build_for_"): tuple(
            model
            for argument, hint in get_type_hints(build, dict(names)).items()
            if argument != "return"
            for model in _models(hint)
        )
        for name, build in vars(kind).items()
        if name.startswith("_build_for_")
    }


def rest_fields(models: Iterable[type[BaseModel]]) -> set[str]:
    """Give the fields that may hold a vector below some models, as ``Model.field``."""
    seen = set(_closure(models))
    direct = {
        (model, name)
        for model in seen
        for name, field in model.model_fields.items()
        if _may_hold(field.annotation)
    }
    bearing = {model for model, _ in direct}
    found = set(direct)
    while True:
        links = {
            (model, name)
            for model in seen
            for name, field in model.model_fields.items()
            if bearing & set(_models(field.annotation))
        }
        found |= links
        if {model for model, _ in links} <= bearing:
            return {f"{model.__name__}.{name}" for model, name in found}
        bearing |= {model for model, _ in links}


def _closure(models: Iterable[type[BaseModel]]) -> Iterator[type[BaseModel]]:
    """Go through models and all that they lead to."""
    seen: set[type[BaseModel]] = set()
    waiting = list(models)
    while waiting:
        model = waiting.pop()
        if model not in seen:
            seen.add(model)
            yield model
            for field in model.model_fields.values():
                waiting += _models(field.annotation)


def _models(hint: Any) -> list[type[BaseModel]]:
    """Give the models that a type names."""
    if inspect.isclass(hint) and get_origin(hint) is None:
        return [hint] if issubclass(hint, BaseModel) else []
    return [model for part in get_args(hint) for model in _models(part)]


def _may_hold(hint: Any) -> bool:
    """Tell whether a type itself takes a list of numbers, bytes or anything."""
    if _is_anything(hint):
        return True
    if get_origin(hint) in _LISTS:
        return any(_is_number(item) or _may_hold(item) for item in get_args(hint))
    return any(_may_hold(part) for part in _parts(hint))


def _is_anything(hint: Any) -> bool:
    return any(hint is each for each in _ANYTHING)


def _parts(hint: Any) -> tuple[Any, ...]:
    """Give the types that a union, a dict or an annotated type is made of."""
    origin = get_origin(hint)
    if origin is Annotated:
        return get_args(hint)[:1]
    if origin is dict:
        return get_args(hint)[1:]
    return get_args(hint) if origin in {Union, UnionType} else ()


def _is_number(hint: Any) -> bool:
    return hint in _NUMBERS or any(_is_number(part) for part in _parts(hint))


def grpc_methods() -> dict[str, Descriptor]:
    """Give the request of every method of every service, by its path."""
    return {
        f"/{service.full_name}/{method.name}": method.input_type
        for module in _descriptions()
        for service in module.DESCRIPTOR.services_by_name.values()
        for method in service.methods
    }


def _descriptions() -> Iterator[Any]:
    """Find every module of the client's that describes gRPC messages, new services' too."""
    packages = pkgutil.walk_packages(qdrant_client.__path__, f"{qdrant_client.__name__}.")
    for name in sorted(each.name for each in packages if each.name.endswith("_pb2")):
        yield importlib.import_module(name)


def grpc_fields(messages: Iterable[Descriptor]) -> set[str]:
    """Give the fields that may hold a vector below some messages, as ``Message.field``."""
    seen: dict[str, Descriptor] = {}
    waiting = list(messages)
    while waiting:
        message = waiting.pop()
        if message.full_name not in seen and message.full_name != _JSON_VALUE:
            seen[message.full_name] = message
            waiting += [f.message_type for f in message.fields if f.type == _MESSAGE]
    fields = [field for message in seen.values() for field in message.fields]
    found = {field.full_name for field in fields if _takes_numbers(field)}
    while True:
        bearing = {name.rpartition(".")[0] for name in found} | {_JSON_VALUE}
        links = {
            field.full_name
            for field in fields
            if field.type == _MESSAGE and field.message_type.full_name in bearing
        }
        if links <= found:
            return {name.removeprefix("qdrant.") for name in found}
        found |= links


def _takes_numbers(field: FieldDescriptor) -> bool:
    """Tell whether a field itself takes a list of numbers, or bytes."""
    is_enum = field.type == FieldDescriptor.TYPE_ENUM
    is_list = field.is_repeated and field.cpp_type in _NUMERIC and not is_enum
    return is_list or field.type == FieldDescriptor.TYPE_BYTES
