"""The client's own models: the intended vectors change in copies, and the caller's stay."""

import copy
import importlib
import inspect
import pkgutil
from collections import Counter
from collections.abc import Iterator, Mapping
from typing import Any, get_args, get_origin

import numpy as np
import orjson
import pytest
from pydantic import BaseModel, StrictFloat
from qdrant_client import grpc, models

from tests.property.test_rewrite_grpc import as_message, restore
from tests.property.test_rewrite_rest import (
    MODELS,
    POLICIES,
    RIGS,
    Rig,
    as_row,
    close,
    count_adapted,
    send,
)
from tests.support.qdrant_requests import (
    COLLECTION,
    Case,
    Refused,
    RequestWriter,
    as_json,
    differences,
)
from trimtab.errors import RefusedError
from trimtab.rewrite import Policies
from trimtab.rewrite.qdrant_models import find_in_arguments, replace_in_arguments
from trimtab.rewrite.qdrant_rest import match_endpoint
from trimtab.routing.transform import Adapted, adapt_places

REQUESTS = 200


def arguments_of(request: Any) -> dict[str, Any]:
    """Give a request as the client's methods take it."""
    if isinstance(request, models.QueryRequestBatch):
        return {"searches": request.searches}
    return {name: getattr(request, name) for name in ("query", "prefetch", "using")}


def adapt(
    arguments: Mapping[str, Any], rig: Rig, policies: Mapping[str, str]
) -> tuple[dict[str, Any], Adapted]:
    given = Policies(**policies)  # type: ignore[arg-type]
    places = find_in_arguments(arguments)
    adapted = adapt_places(places, rig.routes.of_collection(COLLECTION), given)
    return replace_in_arguments(arguments, adapted.changes), adapted


def plain(value: Any) -> Any:
    """Give arguments as plain values, arrays as lists."""
    if isinstance(value, np.ndarray):
        return value.tolist()
    if isinstance(value, dict):
        return {key: plain(item) for key, item in value.items()}
    return [plain(item) for item in value] if isinstance(value, list) else as_json(value)


def check_models(case: Case, rig: Rig, policies: Mapping[str, str]) -> Counter[str]:
    """Adapt a case's arguments; assert that what had to change did, in copies, and nothing else."""
    arguments = arguments_of(case.request)
    before, kept = plain(arguments), copy.copy(arguments)
    rig.forget()
    try:
        decisions, chosen = case.expect(rig.dims, policies)
    except Refused:
        with pytest.raises(RefusedError):
            adapt(arguments, rig, policies)
        return Counter({"refused": 1})
    result, adapted = adapt(arguments, rig, policies)
    assert adapted.decisions == decisions
    rig.assert_calls(chosen)
    assert plain(arguments) == before
    assert all(arguments[name] is value for name, value in kept.items())
    wanted = rig.wanted(chosen)
    changed = differences(before, plain(result))
    assert {old for old, _ in changed} == {old for old, new in wanted.items() if old != new}
    assert all(close(new, wanted[old]) for old, new in changed)
    assert {name: type(value) for name, value in result.items()} == {
        name: type(value) for name, value in arguments.items()
    }
    return decisions


@pytest.mark.parametrize("policies", POLICIES, ids=str)
@pytest.mark.parametrize("rig", RIGS.values(), ids=list(RIGS))
def test_only_the_intended_vectors_change(rig: Rig, policies: dict[str, str]) -> None:
    seen: Counter[str] = Counter()
    for seed in range(REQUESTS):
        seen += check_models(RequestWriter(seed).model_case(), rig, policies)
    assert seen["adapted"] > REQUESTS / 4


def test_new_arguments_are_valid_models() -> None:
    for seed in range(REQUESTS):
        case = RequestWriter(seed).model_case()
        result, _ = adapt(arguments_of(case.request), RIGS["linear"], POLICIES[1])
        again = type(case.request).model_validate(as_json(case.request) | plain(result))
        assert plain(arguments_of(again)) == plain(result)


def test_models_and_rest_adapt_the_same_vectors() -> None:
    for seed in range(REQUESTS):
        case = RequestWriter(seed).model_case()
        body = orjson.dumps(as_json(case.request))
        rest = send(case.call, body, RIGS["linear"], POLICIES[1])
        result, adapted = adapt(arguments_of(case.request), RIGS["linear"], POLICIES[1])
        assert adapted.decisions == rest.decisions
        assert adapted.mark == rest.mark
        ours = differences(plain(arguments_of(case.request)), plain(result))
        theirs = differences(orjson.loads(body), orjson.loads(rest.content))
        assert {(old, as_row(new)) for old, new in ours} == {
            (old, as_row(new)) for old, new in theirs
        }


@pytest.mark.parametrize("policies", POLICIES[:2], ids=str)
def test_messages_in_the_arguments_are_adapted_in_copies(policies: dict[str, str]) -> None:
    rig = RIGS["linear"]
    for seed in range(REQUESTS):
        case = as_message(RequestWriter(seed).model_case())
        if case.call != "QueryBatch":
            continue
        searches = list(case.request.query_points)
        originals = [message.SerializeToString(deterministic=True) for message in searches]
        decisions, chosen = case.expect(rig.dims, policies)
        rig.forget()
        result, adapted = adapt({"searches": searches}, rig, policies)
        assert adapted.decisions == decisions
        rig.assert_calls(chosen)
        assert [message.SerializeToString(deterministic=True) for message in searches] == originals
        wanted = rig.wanted(chosen)
        pairs = zip(searches, result["searches"], strict=True)
        changed = [pair for old, new in pairs for pair in restore(old, new)]
        assert {old for old, _ in changed} == set(wanted)
        assert all(close(new, wanted[old]) for old, new in changed)
        assert [
            message.SerializeToString(deterministic=True) for message in result["searches"]
        ] == originals


def test_prefetch_may_be_messages_beside_a_model() -> None:
    rig = RIGS["linear"]
    row = [0.5, 1.0, 2.0, 3.0, 4.0, 5.0]
    below = grpc.PrefetchQuery(
        query=grpc.Query(nearest=grpc.VectorInput(dense=grpc.DenseVector(data=row))), using="title"
    )
    arguments = {
        "query": models.NearestQuery(nearest=row),
        "prefetch": [below, models.Prefetch(query=row)],
        "using": None,
    }
    result, adapted = adapt(arguments, rig, {})
    assert adapted.decisions == {"adapted": 3}
    assert list(below.query.nearest.dense.data) == row
    one, other = (tuple(rig.adapters[name].transform(row).tolist()) for name in ("", "title"))
    assert close(tuple(result["prefetch"][0].query.nearest.dense.data), other)
    assert close(tuple(result["prefetch"][1].query), one)
    assert close(tuple(result["query"].nearest), one)


@pytest.mark.parametrize("dtype", [np.float64, np.float32, np.float16, np.int64, np.uint8])
@pytest.mark.parametrize("rows", [0, 2])
def test_arrays_of_any_dtype_are_vectors_and_stay_unchanged(dtype: Any, rows: int) -> None:
    row = np.arange(6, dtype=dtype)
    value = np.stack([row] * rows) if rows else row
    original = value.copy()
    result, adapted = adapt({"query": value}, RIGS["linear"], {"multivector": "rows"})
    assert adapted.decisions == {"adapted": 1}
    assert np.array_equal(value, original)
    wanted = np.atleast_2d(RIGS["linear"].adapters[""]._run(row.astype(np.float32)[None]))
    assert np.allclose(np.atleast_2d(np.asarray(result["query"])), wanted, atol=1e-5)
    models.QueryRequest(query=result["query"])


# Closed over the official models: what a new client brings must be looked at

API = "qdrant_client.http.api"
WRITING_CALLS = {("PUT", "points"), ("PUT", "points/vectors"), ("POST", "points/batch")}
QUERYING_CALLS = {("POST", f"points/query{end}") for end in ("", "/batch", "/groups")}
VECTOR = [1.0, 2.0, 3.0, 4.0, 5.0, 6.0]


def ways_to_floats(hint: Any, seen: tuple[Any, ...] = ()) -> Iterator[Any]:
    """Give a value for every way in which a type can hold a vector, wrapped as the type wants."""
    if get_origin(hint) is list and is_strict_float(get_args(hint)[0]):
        yield VECTOR
    elif isinstance(hint, type) and issubclass(hint, BaseModel):
        if seen.count(hint) < 2:
            for name, field in hint.model_fields.items():
                if holds_floats(field.annotation):
                    for value in ways_to_floats(field.annotation, (*seen, hint)):
                        yield least(hint) | {name: value}
    elif get_origin(hint) is list:
        yield from ([value] for value in ways_to_floats(get_args(hint)[0], seen))
    elif get_origin(hint) is dict:
        yield from ({"a": value} for value in ways_to_floats(get_args(hint)[1], seen))
    else:
        for arm in get_args(hint):
            yield from ways_to_floats(arm, seen)


def is_strict_float(hint: Any) -> bool:
    """Vectors, and no other lists, are of StrictFloat in the client's models."""
    return hint == StrictFloat


def least(model: type[BaseModel]) -> dict[str, Any]:
    """Give a model's required fields, an id where a vector is due."""
    plain_values = {"str": "a", "int": 1, "float": 0.5}
    found: dict[str, Any] = {}
    for name, field in model.model_fields.items():
        if field.is_required():
            hint = field.annotation
            if isinstance(hint, type) and issubclass(hint, BaseModel):
                found[name] = least(hint)
            else:
                named = plain_values.get(getattr(hint, "__name__", ""))
                found[name] = [] if "ContextPair" in str(hint) else named or 7
                if get_origin(hint) is list:
                    found[name] = []
    return found


def test_vector_at_the_end_of_every_way_is_adapted() -> None:
    for call, model in MODELS.items():
        ways = list(ways_to_floats(model))
        assert len(ways) > 20
        for body in ways:
            model.model_validate(body)
            content = orjson.dumps(body)
            outcome = send(call, content, RIGS["linear"], POLICIES[1])
            assert count_adapted(outcome) == 1, body
            changed = differences(body, orjson.loads(outcome.content))
            assert [old for old, _ in changed] == [tuple(VECTOR)]
            equal = send(call, content, RIGS["identity"], POLICIES[1])
            assert orjson.loads(equal.content) == body


class Recorder:
    """Stands in for the client's connection; remembers what is asked."""

    def __init__(self) -> None:
        self.asked: list[tuple[str, str]] = []

    def request(self, *, method: str, url: str, **_: Any) -> None:
        self.asked.append((method, url))


def holding_calls() -> set[tuple[str, str]]:
    """Ask every call of the official client whose body can hold a vector."""
    recorder = Recorder()
    for module in pkgutil.iter_modules(importlib.import_module(API).__path__, f"{API}."):
        found = vars(importlib.import_module(module.name)).items()
        for api in [one for name, one in found if name.startswith("_") and name.endswith("Api")]:
            for name, build in inspect.getmembers(api, inspect.isfunction):
                asked = [one.annotation for one in inspect.signature(build).parameters.values()]
                if name.startswith("_build_for") and any(map(holds_floats, asked)):
                    build(api(recorder), *map(body_of, asked[1:]))
    return set(recorder.asked)


def holds_floats(hint: Any) -> bool:
    """Look at each type once; every way through types that nest, as filters do, takes hours."""
    seen: set[str] = set()
    waiting = [hint]
    while waiting:
        each = waiting.pop()
        if repr(each) in seen:
            continue
        seen.add(repr(each))
        if get_origin(each) is list and is_strict_float(get_args(each)[0]):
            return True
        if isinstance(each, type) and issubclass(each, BaseModel):
            waiting += [field.annotation for field in each.model_fields.values()]
        waiting += get_args(each)
    return False


def body_of(hint: Any) -> Any:
    arms = [hint, *get_args(hint)]
    model = next((a for a in arms if isinstance(a, type) and issubclass(a, BaseModel)), None)
    if model and holds_floats(hint):
        return model.model_construct()
    return "docs" if hint is str else None


def test_every_call_that_can_hold_a_vector_is_known() -> None:
    known = {}
    for method, url in holding_calls():
        endpoint = match_endpoint(method, url.format(collection_name="docs"))
        assert endpoint is not None, url
        known[method, url.partition("{collection_name}/")[2]] = endpoint.is_write
    assert known == dict.fromkeys(WRITING_CALLS, True) | dict.fromkeys(QUERYING_CALLS, False)
