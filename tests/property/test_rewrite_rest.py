"""REST: the intended vectors change and every other byte stays, whatever is asked and however."""

import json
import random
import re
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import helper
from qdrant_client import models

from tests.support.onnx_models import MANIFEST, graph_model, linear_bytes
from tests.support.qdrant_requests import (
    COLLECTION,
    DIM_IN,
    DIM_OUT,
    NAMES,
    Case,
    Refused,
    RequestWriter,
    Row,
    Slot,
    as_json,
    differences,
)
from trimtab.errors import RefusedError
from trimtab.model.adapter import Adapter
from trimtab.model.onnx_file import ModelFile
from trimtab.rewrite import Policies, Reason
from trimtab.routing.adapt_rest import adapt_rest
from trimtab.routing.outcome import Outcome
from trimtab.routing.routes import Route, Routes

GAP = 1e-5
"""Relative to a query's length: float32 sums of six products in two orders differ by less."""
REQUESTS = 200
SOME = settings(max_examples=200, deadline=None)
POLICIES: tuple[dict[str, str], ...] = (
    {},
    {"examples": "always", "multivector": "rows"},
    {"examples": "always"},
    {"multivector": "rows"},
    {"inference": "refuse"},
    {"dims_out_match": "refuse", "examples": "always"},
)
MODELS = {
    "query": models.QueryRequest,
    "query/batch": models.QueryRequestBatch,
    "query/groups": models.QueryGroupsRequest,
}


class CountingAdapter(Adapter):
    """An adapter that remembers how many rows it was asked for, call by call."""

    def __init__(self, model: ModelFile) -> None:
        self.calls: list[int] = []
        super().__init__(model)

    def transform(self, queries: Any) -> Any:
        adapted = super().transform(queries)
        self.calls.append(len(np.atleast_2d(adapted)))
        return adapted


@dataclass
class Rig:
    """A collection's routes, and what a test needs to know of them."""

    adapters: dict[str, CountingAdapter]
    routes: Routes = field(init=False)

    def __post_init__(self) -> None:
        made = (
            Route.make(COLLECTION, adapter, vector_name=name, on_error="refuse")
            for name, adapter in self.adapters.items()
        )
        self.routes = Routes(made)
        self.dims = {name: (one.dim_in, one.dim_out) for name, one in self.adapters.items()}

    def wanted(self, slots: Iterable[Slot]) -> dict[Row, Row]:
        """Give what must change into what: rows, and whole vectors where rows share one list."""
        pairs: dict[Row, Row] = {}
        for slot in slots:
            rows = self.adapters[slot.name]._run(np.array(slot.rows, np.float32)).tolist()
            if slot.flat:
                pairs[tuple(np.ravel(slot.rows).tolist())] = tuple(np.ravel(rows).tolist())
            else:
                pairs.update(zip(slot.rows, map(tuple, rows), strict=True))
        return pairs

    def forget(self) -> None:
        for adapter in self.adapters.values():
            adapter.calls.clear()

    def assert_calls(self, slots: Iterable[Slot]) -> None:
        """Every adapter that was needed has been asked once, for all rows."""
        rows: Counter[int] = Counter()
        for slot in slots:
            rows[id(self.adapters[slot.name])] += len(slot.rows)
        for adapter in self.adapters.values():
            assert adapter.calls == ([rows[id(adapter)]] if rows[id(adapter)] else [])


def linear(dim_in: int = DIM_IN, dim_out: int = DIM_OUT, seed: int = 0) -> CountingAdapter:
    content = linear_bytes(dim_in=dim_in, dim_out=dim_out, seed=seed, name=f"linear{seed}")
    return CountingAdapter.from_bytes(content)


def identity(dim: int = DIM_IN) -> CountingAdapter:
    node = helper.make_node("Identity", ["query"], ["adapted"])
    model = graph_model([node], (), replace(MANIFEST, dim_in=dim, dim_out=dim))
    return CountingAdapter.from_bytes(model.SerializeToString())


def rigs() -> dict[str, Rig]:
    """Give routes onto fewer dims, where one adapter serves two names; and onto the same vector."""
    one, other, same = linear(), linear(seed=1), identity()
    return {
        "linear": Rig(dict(zip(NAMES[:3], (one, other, one), strict=True))),
        "identity": Rig(dict.fromkeys(NAMES[:3], same)),
    }


RIGS = rigs()


def close(found: Row, wanted: Row) -> bool:
    """Tell whether two vectors are one, but for the order in which products were summed."""
    size = max(1.0, float(np.linalg.norm(wanted)) * 10)
    return len(found) == len(wanted) and bool(
        np.all(np.abs(np.float32(found) - np.float32(wanted)) <= GAP * size)
    )


@dataclass(frozen=True)
class Written:
    """A vector as it stands in a text."""

    text: bytes
    row: Row


@dataclass
class JsonWriter:
    """Writes JSON in a spelling of its own, in parts: bytes that stay, and vectors."""

    random: random.Random
    rows: set[Row]
    spaces: tuple[str, ...] = ("",)
    escapes: float = 0.0
    foreign: float = 0.0
    parts: list[Written | bytes] = field(default_factory=list)

    def body(self) -> bytes:
        return b"".join(part.text if isinstance(part, Written) else part for part in self.parts)

    def put(self, text: str) -> None:
        self.parts.append((self.space() + text + self.space()).encode())

    def space(self) -> str:
        return self.random.choice(self.spaces)

    def write(self, value: Any) -> None:
        if isinstance(value, dict):
            self.object(list(value.items()))
        elif isinstance(value, list) and value and tuple_of(value) in self.rows:
            numbers = f"{self.space()},{self.space()}".join(map(self.number, value))
            text = f"[{self.space()}{numbers}{self.space()}]"
            self.parts.append(Written(text.encode(), tuple(value)))
        elif isinstance(value, bytes):
            self.parts.append(value)
        elif isinstance(value, list):
            self.put("[")
            for position, item in enumerate(value):
                if position:
                    self.put(",")
                self.write(item)
            self.put("]")
        else:
            self.put(self.string(value) if isinstance(value, str) else self.scalar(value))

    def object(self, items: list[tuple[str, Any]]) -> None:
        if self.random.random() < self.foreign:
            items += [("zz", FOREIGN), ("zz", FOREIGN), ("z\x00\x1f", 10**25)]
        self.random.shuffle(items)
        self.put("{")
        for position, (key, value) in enumerate(items):
            self.put(f"{',' if position else ''}{self.space()}{self.string(key)}{self.space()}:")
            self.write(value)
        self.put("}")

    def string(self, value: str) -> str:
        if not self.escapes:
            return json.dumps(value, ensure_ascii=self.random.random() < 0.5)
        one = (f"\\u{ord(character):04x}" for character in value)
        plain = (json.dumps(character)[1:-1] for character in value)
        chosen = (
            a if self.random.random() < self.escapes else b for a, b in zip(one, plain, strict=True)
        )
        return f'"{"".join(chosen)}"'

    def scalar(self, value: Any) -> str:
        return self.number(value) if isinstance(value, float) else json.dumps(value)

    def number(self, value: float) -> str:
        """Spell a float32 in one of the ways that read as the same one."""
        short = repr(value)
        padded = short if "e" in short else short + "00"
        return self.random.choice((short, padded, f"{value:.9g}", f"{value:.12E}"))


FOREIGN = json.dumps(
    {"query": [0.5] * DIM_IN, "prefetch": [{"query": [1] * DIM_IN}], "a": ']}"[{', "b": [{}]}
).encode()


def tuple_of(value: list[Any]) -> Any:
    return tuple(value) if all(type(item) is float for item in value) else None


def write_case(case: Case, seed: int) -> JsonWriter:
    """Write a case's body: plainly, or with odd spacing, escapes and keys nobody knows."""
    chosen = random.Random(seed)  # noqa: S311 - drawn tests, no secrets
    writer = JsonWriter(chosen, {row for slot in case.slots for row in slot.rows})
    if seed % 3 == 1:
        writer.spaces = ("", " ", "\n", "\t\r\n  ")
    if seed % 3:
        writer.escapes, writer.foreign = chosen.choice((0.0, 0.4, 1.0)), chosen.choice((0.0, 0.3))
    writer.write(as_json(case.request, nulls=seed % 4 == 0))
    return writer


def check_bytes(parts: list[Written | bytes], content: bytes, wanted: Mapping[Row, Row]) -> None:
    """Assert that a text has all its parts in order, vectors apart those that had to change."""
    position = 0
    for part in parts:
        if isinstance(part, Written) and part.row in wanted:
            end = content.index(b"]", position) + 1
            assert close(tuple(json.loads(content[position:end])), wanted[part.row])
        else:
            text = part.text if isinstance(part, Written) else part
            end = position + len(text)
            assert content[position:end] == text
        position = end
    assert position == len(content)


def count_adapted(outcome: Outcome) -> int:
    """Count the places that were adapted, whatever they are counted as."""
    return outcome.decisions[Reason.ADAPTED] + outcome.decisions[Reason.ADAPTED_FEEDBACK]


def send(call: str, body: bytes, rig: Rig, policies: Mapping[str, str] | None = None) -> Outcome:
    path = f"/collections/{COLLECTION}/points/{call}"
    given = Policies(**(policies or {}))  # type: ignore[arg-type]
    return adapt_rest("POST", path, body, rig.routes.of_collection, given)


def check_rest(case: Case, seed: int, rig: Rig, policies: Mapping[str, str]) -> Counter[str]:
    """Send a case as JSON; assert that what had to change did, and nothing else."""
    writer = write_case(case, seed)
    body = writer.body()
    rig.forget()
    try:
        decisions, chosen = case.expect(rig.dims, policies)
    except Refused:
        with pytest.raises(RefusedError):
            send(case.call, body, rig, policies)
        rig.assert_calls([])
        return Counter({"refused": 1})
    outcome = send(case.call, body, rig, policies)
    assert outcome.decisions == decisions
    rig.assert_calls(chosen)
    if not chosen:
        assert outcome.content is body
        assert outcome.mark == ""
        return decisions
    wanted = rig.wanted(chosen)
    check_bytes(writer.parts, outcome.content, wanted)
    before, after = (json.loads(text, object_pairs_hook=list) for text in (body, outcome.content))
    changed = differences(as_lists(before), as_lists(after))
    assert {as_row(old) for old, _ in changed} <= wanted.keys()
    if rig is RIGS["identity"]:
        assert all(as_row(old) == as_row(new) for old, new in changed)
    if not writer.foreign and case.call in MODELS:
        MODELS[case.call].model_validate_json(outcome.content)
    return decisions


def as_row(values: Iterable[float]) -> Row:
    return tuple(np.array(values, np.float32).tolist())


def as_lists(value: Any) -> Any:
    return list(map(as_lists, value)) if isinstance(value, list | tuple) else value


@pytest.mark.parametrize("policies", POLICIES, ids=str)
@pytest.mark.parametrize("rig", RIGS.values(), ids=list(RIGS))
def test_only_the_intended_vectors_change(rig: Rig, policies: dict[str, str]) -> None:
    seen: Counter[str] = Counter()
    for seed in range(REQUESTS):
        writer = RequestWriter(seed)
        case = writer.legacy_case() if seed % 3 == 0 else writer.model_case()
        seen += check_rest(case, seed // 3, rig, policies)
    assert seen["adapted"] > REQUESTS / 4


VECTOR = [0.5, -1.25, 3.0, 0.1, 2e-3, 1.0]
QUERY = b'{"query": [0.5, -1.25, 3, 0.10, 2E-3, 1.0], "limit": 3}'
ADAPTED = Counter({Reason.ADAPTED: 1})
MALFORMED = Counter({Reason.MALFORMED: 1})


@given(st.integers(0, 10**6), st.floats(0, 1, exclude_max=True))
@SOME
def test_body_that_is_cut_short_comes_back_as_malformed(seed: int, where: float) -> None:
    writer = RequestWriter(seed)
    case = writer.model_case()
    body = write_case(case, seed).body().strip()
    cut = body[: int(where * len(body))]
    outcome = send(case.call, cut, RIGS["linear"])
    assert outcome.content is cut
    assert outcome.decisions == MALFORMED


@given(st.integers(0, 10**6), st.data())
@SOME
def test_damaged_body_never_breaks_anything(seed: int, data: st.DataObject) -> None:
    writer = RequestWriter(seed)
    case = writer.one(writer.model_case, writer.legacy_case)()
    body = bytearray(write_case(case, seed).body())
    for _ in range(data.draw(st.integers(1, 3))):
        start = data.draw(st.integers(0, len(body)))
        end = start + data.draw(st.integers(0, 4))
        body[start:end] = data.draw(st.binary(max_size=2) | st.sampled_from(list(DAMAGE)))
    damaged = bytes(body)
    outcome = unless_beyond(lambda: send(case.call, damaged, RIGS["linear"], POLICIES[1]))
    if outcome is None:
        return
    is_by_examples = case.call.startswith(("recommend", "discover")) or BY_EXAMPLES.search(damaged)
    may_lack_vectors = is_by_examples or case.call.endswith("batch")
    assert sum(outcome.decisions.values()) > 0 or may_lack_vectors
    if not outcome.mark:
        assert outcome.content is damaged
    elif readable(damaged):
        changed = differences(*map(parsed, (damaged, outcome.content)))
        assert all((len(old), len(new)) == (DIM_IN, DIM_OUT) for old, new in changed)


DAMAGE = (b'"', b"{", b"]", b",", b"[1]", b"\\", b"null", b"1e39", b"-", b'{"query":[1]}', b"\xff")


BY_EXAMPLES = re.compile(rb'"(?:recommend|discover|context|relevance_feedback)"')
"""Queries that are no vector themselves, and have none where no example is left."""


def unless_beyond(ask: Callable[[], Outcome]) -> Outcome | None:
    """Send what is damaged; None where its route refuses it for a number that became too large."""
    try:
        return ask()
    except RefusedError as error:
        if re.search("expected finite float32 numbers|answers with NaN or infinity", str(error)):
            return None
        raise


def readable(body: bytes) -> bool:
    try:
        json.loads(body)
    except ValueError:
        return False
    return True


def parsed(body: bytes) -> Any:
    return as_lists(json.loads(body, object_pairs_hook=list))


@given(st.binary(max_size=60), st.sampled_from(["query", "search/batch", "recommend", "discover"]))
@SOME
def test_any_bytes_come_back_as_they_are(body: bytes, call: str) -> None:
    assert send(call, body, RIGS["linear"]).content is body


DEEP = 10_000


@pytest.mark.parametrize(
    "body",
    {
        "arrays": b'{"query":' + b"[" * DEEP + b"]" * DEEP + b"}",
        "open arrays": b'{"query":' + b"[" * 100 * DEEP,
        "prefetch": b'{"prefetch":' * DEEP + b"{}" + b"}" * DEEP,
        "prefetch lists": b'{"prefetch":[' * DEEP + b"{}" + b"]}" * DEEP,
        "filter": b'{"filter":' + b'{"must":' * DEEP + b"[]" + b"}" * DEEP + b"}",
        "open string": b'{"query": "' + b"\\n" * 100 * DEEP,
        "spaces": b'{"query":' + b" " * 100 * DEEP,
        "open numbers": b'{"query":[' + b"1," * 10 * DEEP,
        "many levels": b'{"prefetch":[' + b"{}," * DEEP + b"[",
        "digits": b'{"limit": ' + b"9" * DEEP + b",",
    }.items(),
    ids=lambda item: item[0],
)
def test_deep_and_endless_bodies_are_malformed(body: tuple[str, bytes]) -> None:
    outcome = send("query", body[1], RIGS["linear"])
    assert outcome.content is body[1]
    assert outcome.decisions == MALFORMED


def test_ninety_levels_of_prefetch_are_adapted() -> None:
    inner = b'{"query":' + json.dumps(VECTOR).encode() + b"}"
    body = b'{"prefetch":' * 90 + inner + b"}" * 90
    assert send("query", body, RIGS["linear"]).decisions[Reason.ADAPTED] == 1
