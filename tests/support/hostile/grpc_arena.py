"""Sends hostile gRPC calls to a sidecar before a recording upstream, and judges both ends.

The rule is that of the REST arena: what arrives is the message that came, byte for byte, or the
same with nothing but the query vectors of a query adapted; and whoever asks gets their own answer.
"""

import asyncio
import contextlib
import random
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import grpc
import grpc.aio
import numpy as np
from qdrant_client import grpc as messages

from tests.property.test_rewrite_grpc import (
    REQUEST_OF,
    MessageWriter,
    restore,
    scatter_unknown_fields,
)
from tests.support.grpc_upstream import UNLIMITED
from tests.support.hostile.http2 import SHAPES
from tests.support.onnx_models import DIM_IN, DIM_OUT
from tests.support.qdrant_requests import COLLECTION
from trimtab.model.adapter import Adapter
from trimtab.rewrite.policies import Policies
from trimtab.routing.adapt_grpc import adapt_grpc
from trimtab.routing.routes import MARK_HEADER, Route, Routes

TAG = "x-tag"
SERVICE = "/qdrant.Points/"
PATIENCE_S = 20.0
_QUIET_S = 0.05
_PATIENT_TRIES = 100
_TOLERANCE = 1e-5
_OWN = {"/qdrant.Collections/Get", "/qdrant.Collections/ListAliases"}
_LIMITED = {grpc.StatusCode.RESOURCE_EXHAUSTED, grpc.StatusCode.UNAVAILABLE}
_GONE = {grpc.StatusCode.CANCELLED, grpc.StatusCode.DEADLINE_EXCEEDED, grpc.StatusCode.OK}


@dataclass(frozen=True)
class Call:
    """One hostile call.

    Attributes:
        kind: Its shape.
        path: Its method.
        content: The message's bytes.
        metadata: What goes with it.
        codes: What it may end with.
        timeout_s: The caller's deadline.
        is_left: True where the caller goes away before the answer.
    """

    kind: str
    path: str
    content: bytes
    metadata: tuple[tuple[str, str | bytes], ...] = ()
    codes: frozenset[grpc.StatusCode] = frozenset({grpc.StatusCode.OK})
    timeout_s: float = PATIENCE_S
    is_left: bool = False


def random_call(seed: int, number: int) -> Call:
    """Draw call ``number`` of a seed; it depends on nothing else."""
    rng = random.Random(seed * 1_000_003 + number)  # noqa: S311  # hostile, not secret
    writer = MessageWriter(rng.randrange(2**31))
    case = writer.message_case()
    if rng.random() < 0.5:
        scatter_unknown_fields(case.request, writer)
    path, content = SERVICE + case.call, case.request.SerializeToString()
    kinds = ("valid", "damaged", "write", "unknown", "left", "late", "metadata")
    kind = rng.choices(kinds, (40, 30, 10, 6, 3, 3, 8))[0]
    if kind == "damaged":
        return Call(kind, path, _damaged(rng, content))
    if kind == "write":
        return _write(rng)
    if kind == "unknown":
        name = rng.choice(("/new.Thing/Do", "/qdrant.Points/Hyper", "/qdrant.Points/", "/x"))
        return Call(kind, name, _damaged(rng, content))
    if kind == "left":
        return Call(kind, path, content, codes=frozenset(_GONE), is_left=True)
    if kind == "late":
        return Call(kind, path, content, codes=frozenset(_GONE), timeout_s=rng.choice((1e-4, 1e-3)))
    metadata = _metadata(rng) if kind == "metadata" else ()
    is_large = sum(len(value) for _, value in metadata) > 8192
    codes = frozenset({grpc.StatusCode.OK, *(_LIMITED if is_large else ())})
    return Call(kind, path, content, metadata, codes)


def _damaged(rng: random.Random, content: bytes) -> bytes:
    """Cut, put in and change some bytes."""
    changed = bytearray(content)
    for _ in range(rng.randint(1, 4)):
        at = rng.randint(0, len(changed))
        changed[at : at + rng.randint(0, 4)] = rng.randbytes(rng.randint(0, 4))
    return bytes(changed)


def _write(rng: random.Random) -> Call:
    """Write points whose vectors would fit the adapter, whole or damaged."""
    data = [rng.gauss(0, 1) for _ in range(DIM_IN)]
    vectors = messages.Vectors(vector=messages.Vector(dense=messages.DenseVector(data=data)))
    point = messages.PointStruct(id=messages.PointId(num=1), vectors=vectors)
    message = messages.UpsertPoints(collection_name=COLLECTION, points=[point] * rng.randint(1, 3))
    content = message.SerializeToString()
    is_damaged = rng.random() < 0.5
    return Call("write", f"{SERVICE}Upsert", _damaged(rng, content) if is_damaged else content)


def _metadata(rng: random.Random) -> tuple[tuple[str, str | bytes], ...]:
    """Draw metadata that are odd."""
    options: Sequence[tuple[tuple[str, str | bytes], ...]] = (
        (("x-raw-bin", rng.randbytes(200)),),
        (("x-long", "y" * rng.choice((100, 7000, 20_000, 60_000))),),
        tuple((f"x-{n}", str(n)) for n in range(100)),
        (("x-twice", "1"), ("x-twice", "2")),
        ((MARK_HEADER, rng.choice(("none", "other@1", "", "NONE"))),),
        (("x-empty", ""), ("content-length", "5"), ("host", "evil"), ("connection", "close")),
    )
    return rng.choice(options)


@dataclass
class GrpcArena:
    """Where a sidecar's gRPC listener is attacked; knows what may arrive and counts what did."""

    adapter: Adapter
    target: str = ""
    plain: tuple[str, int] = ("", 0)
    credentials: Any = None
    problems: list[tuple[str, str]] = field(default_factory=list)
    seen: Counter[str] = field(default_factory=Counter)
    codes: Counter[str] = field(default_factory=Counter)
    _sent: dict[str, Call] = field(default_factory=dict)
    _n_calls: int = 0

    def __post_init__(self) -> None:
        names = ("", "title")
        made = [Route.make(COLLECTION, self.adapter, vector_name=name) for name in names]
        self._routes = Routes(made)

    def channel(self) -> grpc.aio.Channel:
        """Open a connection of its own."""
        options = [
            *UNLIMITED,
            ("grpc.use_local_subchannel_pool", 1),
            ("grpc.ssl_target_name_override", "localhost"),
        ]
        if self.credentials is None:
            return grpc.aio.insecure_channel(self.target, options=options)
        return grpc.aio.secure_channel(self.target, self.credentials, options=options)

    async def script(self, method: str, requests: Any, context: Any) -> None:
        """Be the upstream: judge what arrives, and name it in the answer."""
        metadata = dict(context.invocation_metadata())
        content = b"".join([message async for message in requests])
        tag = str(metadata.get(TAG, ""))
        if not tag and method in _OWN:
            self.seen["own questions"] += 1
            await context.write(_own_answer(method))
            return
        if not tag and not content:
            self.seen["arrived of own bytes"] += 1
            await context.write(b"")
            return
        self.seen["arrived"] += 1
        call = self._sent.get(tag)
        if call is None:
            self.problems.append(("", f"nobody sent this: {method} {content[:200]!r}"))
        else:
            self._judge_arrival(call, method, content, str(metadata.get(MARK_HEADER, "")))
        await context.write(b"answer to " + tag.encode())

    def _judge_arrival(self, call: Call, method: str, content: bytes, mark: str) -> None:
        """Hold what arrived against what was sent."""
        faults = [] if method == call.path else [f"arrived as {method}"]
        marked_before = [str(value) for key, value in call.metadata if key == MARK_HEADER]
        if marked_before or not mark:
            if content != call.content:
                faults.append("changed without a mark")
            elif not marked_before and self._adapted(call).mark:
                faults.append("got round the adapter")
        else:
            self.seen["arrived adapted"] += 1
            faults += self._judge_adapted(call, content)
        self.problems += [(call.kind, f"{fault}; {call.content[:300]!r}") for fault in faults]

    def _adapted(self, call: Call) -> Any:
        """Adapt the same message here."""
        routes_of = self._routes.of_collection
        return adapt_grpc(call.path, call.content, routes_of, Policies())

    def _judge_adapted(self, call: Call, content: bytes) -> list[str]:
        """Hold an adapted message against the one that came."""
        kind = REQUEST_OF.get(call.path.removeprefix(SERVICE))
        if kind is None:
            return ["adapted what is no query"]
        before, after = kind.FromString(call.content), kind.FromString(content)
        changed = restore(before, after)
        if before.SerializeToString(deterministic=True) != after.SerializeToString(
            deterministic=True
        ):
            return ["changed more than query vectors"]
        for old, new in changed:
            rows = np.float32(old).reshape(-1, DIM_IN)
            wanted = np.atleast_2d(self.adapter.transform(rows)).ravel()
            if not np.allclose(wanted, new, rtol=_TOLERANCE, atol=_TOLERANCE):
                return ["adapted wrongly"]
        return []

    async def attack(self, channel: grpc.aio.Channel, call: Call) -> None:
        """Make a call and judge what its caller sees."""
        self._n_calls += 1
        tag = f"t{self._n_calls}"
        self._sent[tag] = call
        asked = channel.unary_unary(call.path)(
            call.content, metadata=(*call.metadata, (TAG, tag)), timeout=call.timeout_s
        )
        if call.is_left:
            await asyncio.sleep(0)
            asked.cancel()
        answer = b""
        with contextlib.suppress(grpc.aio.AioRpcError, asyncio.CancelledError):
            answer = await asked
        code = await asked.code()
        self.seen["calls"] += 1
        self.codes[code.name] += 1
        if code not in call.codes:
            said = f"{code.name}: {await asked.details()}"
            self.problems.append((call.kind, f"{said}; {call.content[:300]!r}"))
        elif code is grpc.StatusCode.OK and answer != b"answer to " + tag.encode():
            self.problems.append((call.kind, f"another's answer: {answer!r} to {tag}"))
        later = asyncio.get_running_loop().call_later
        later(PATIENCE_S, self._sent.pop, tag, None)

    async def check_patiently(self) -> None:
        """Ask plain queries until one is answered; bytes of one's own may end the listener."""
        lost = frozenset({grpc.StatusCode.CANCELLED, grpc.StatusCode.UNAVAILABLE})
        for _ in range(_PATIENT_TRIES):
            channel = self.channel()
            n_before = self.codes[grpc.StatusCode.OK.name]
            await self.attack(channel, _plain(lost | {grpc.StatusCode.OK}))
            await channel.close()
            if self.codes[grpc.StatusCode.OK.name] > n_before:
                return
            self.seen["lost with the listener"] += 1
            await asyncio.sleep(_QUIET_S)
        self.problems.append(("plain", "the listener does not come back"))

    async def check(self, channel: grpc.aio.Channel) -> None:
        """Ask a plain query, which must be adapted."""
        n_before = self.seen["arrived adapted"]
        await self.attack(channel, _plain(frozenset({grpc.StatusCode.OK})))
        if self.seen["arrived adapted"] == n_before:
            self.problems.append(("plain", "a plain query was not adapted"))

    async def knock(self, shape: str, rng: random.Random) -> None:
        """Send bytes of one's own to the port, and leave."""
        self.seen["knocks"] += 1
        reader, writer = await asyncio.open_connection(*self.plain)
        with contextlib.suppress(OSError):
            writer.write(SHAPES[shape](rng))
            await writer.drain()
            async with asyncio.timeout(_QUIET_S):
                while await reader.read(65536):
                    pass
        writer.transport.abort()


def _plain(codes: frozenset[grpc.StatusCode]) -> Call:
    """Write a query that is adapted."""
    nearest = messages.VectorInput(dense=messages.DenseVector(data=[0.5] * DIM_IN))
    query = messages.Query(nearest=nearest)
    message = messages.QueryPoints(collection_name=COLLECTION, query=query)
    return Call("plain", f"{SERVICE}Query", message.SerializeToString(), codes=codes)


def _own_answer(method: str) -> bytes:
    """Answer what the sidecar asks by itself."""
    if method == "/qdrant.Collections/ListAliases":
        return messages.ListAliasesResponse().SerializeToString()
    info = messages.CollectionInfo()
    for name in ("", "title"):
        params = info.config.params.vectors_config.params_map.map[name]
        params.size, params.distance = DIM_OUT, messages.Distance.Cosine
    return messages.GetCollectionInfoResponse(result=info).SerializeToString()
