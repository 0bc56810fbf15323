"""Seeded random Qdrant requests, each with what was known of its vectors as it was written.

Nothing here reads a finished request: every place is noted in the moment in which it is made, with
the vector's name and role, and number lists that are not query vectors (ids, match lists, formula
constants, weights, options) are drawn with the same widths and never noted. Models, fields and
forms are those of qdrant-client 1.20 and of Qdrant 1.19's legacy routes.
"""

import random
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any
from uuid import UUID

import numpy as np
from qdrant_client import models

DIM_IN, DIM_OUT, OTHER_DIM = 6, 4, 3
COLLECTION = "docs"
NAMES = ("", "title", 'na"ï\\ve', "unrouted")
U64_MAX = 2**64 - 1
UUIDS = ("f47ac10b-58cc-4372-a567-0e02b2c3d479", "936DA01F9ABD4d9d80C702AF85C822A8")
TEXTS = ("price", 'na"ï\\ve', "a.b[].c", "query", "vector", "nearest", "日本\u2028", "\t\x01/")

Row = tuple[float, ...]


ADAPTED = {"adapted", "adapted_feedback"}
"""Reasons of places that are adapted."""


class Refused(Exception):
    """What the oracle says where a policy forbids the request."""


@dataclass(frozen=True)
class Slot:
    """One place of a request: ``kind`` stands there, ``flat`` in one list though it is rows."""

    name: str
    kind: str
    role: str = "query"
    rows: tuple[Row, ...] = ()
    flat: bool = False

    def decide(self, dims: Mapping[str, tuple[int, int]], policies: Mapping[str, str]) -> str:
        if self.kind in {"id", "sparse", "no_vector"}:
            return self.kind
        if self.name not in dims:
            return "no_route"
        if self.kind == "inference":
            return self._pass(policies.get("inference"), "inference")
        if self.role == "example" and policies.get("examples") != "always":
            return "example"
        if self.kind == "multi" and policies.get("multivector") != "rows":
            return "multivector"
        return self._decide_by_width(dims[self.name], policies)

    def _decide_by_width(self, dims: tuple[int, int], policies: Mapping[str, str]) -> str:
        widths = {len(row) for row in self.rows}
        if widths == {dims[0]}:
            return "adapted_feedback" if self.role == "feedback_target" else "adapted"
        if widths == {dims[1]}:
            return self._pass(policies.get("dims_out_match"), "dims_out_match")
        return "dims_fit_neither"

    def _pass(self, policy: str | None, reason: str) -> str:
        if policy == "refuse":
            raise Refused(reason)
        return reason


@dataclass
class Case:
    """A request, how it is called, and the places that were written into it."""

    call: str
    request: Any
    slots: list[Slot] = field(default_factory=list)

    def expect(
        self, dims: Mapping[str, tuple[int, int]], policies: Mapping[str, str]
    ) -> tuple[Counter[str], list[Slot]]:
        """Give the decisions, and the places that are adapted; raise Refused where none may be."""
        reasons = [slot.decide(dims, policies) for slot in self.slots]
        chosen = zip(self.slots, reasons, strict=True)
        return Counter(reasons), [slot for slot, reason in chosen if reason in ADAPTED]


class RequestWriter:
    """Writes requests from one seed."""

    def __init__(self, seed: int, dim_in: int = DIM_IN, dim_out: int = DIM_OUT) -> None:
        self.random = random.Random(seed)  # noqa: S311 - drawn tests, no secrets
        self.dims = (dim_in, dim_out, OTHER_DIM)
        self.slots: list[Slot] = []

    def case(self, call: str, make: Callable[[], Any]) -> Case:
        self.slots = []
        return Case(call, make(), self.slots)

    def one(self, *options: Any) -> Any:
        return self.random.choice(options)

    def maybe(self, make: Callable[[], Any], chance: float = 0.3) -> Any:
        return make() if self.random.random() < chance else None

    def several(self, make: Callable[[], Any], least: int = 1, most: int = 3) -> list[Any]:
        return [make() for _ in range(self.random.randint(least, most))]

    def numbers(self, width: int | None = None) -> list[float]:
        """Draw float32 values of many sizes; no two draws agree."""
        scale = self.one(1.0, 1.0, 1e-4, 1e3)
        drawn = [self.random.gauss(0, scale) for _ in range(width or self.dims[0])]
        return np.array(drawn, dtype=np.float32).tolist()

    def width(self) -> int:
        return self.random.choices(self.dims, (8, 1, 1))[0]

    def name(self) -> str:
        return self.random.choices(NAMES, (5, 3, 1, 1))[0]

    def text(self) -> str:
        return self.one(*TEXTS)

    def id(self) -> Any:
        return self.one(0, 7, U64_MAX, *UUIDS)

    def note(self, name: str, kind: str, role: str, rows: Any = (), *, flat: bool = False) -> None:
        self.slots.append(Slot(name, kind, role, tuple(tuple(row) for row in rows), flat))

    def vector(self, name: str, role: str = "query", kinds: str = "ddddimst") -> Any:
        """Write any form of a vector: Dense, Id, Multi, Sparse, or a Text to embed."""
        kind = self.random.choice(kinds)
        if kind == "d":
            row = self.numbers(self.width())
            self.note(name, "dense", role, [row])
            return row
        if kind == "m":
            width = self.width()
            rows = [self.numbers(self.one(width, width, width)) for _ in range(self.one(1, 2, 5))]
            self.note(name, "multi", role, rows)
            return rows
        if kind == "i":
            self.note(name, "id", role)
            return self.one(self.id(), UUID(UUIDS[0]))
        if kind == "s":
            self.note(name, "sparse", role)
            return models.SparseVector(indices=range(self.dims[0]), values=self.numbers())
        return self.inference(name, role)

    def inference(self, name: str, role: str) -> Any:
        options = {"nearest": self.numbers(), "query": {"vector": self.numbers()}}
        if self.random.random() < 0.3:
            self.note(name, "sparse", role)
            return models.Document(text=self.text(), model="qdrant/bm25")
        self.note(name, "inference", role)
        return self.one(
            models.Document(text=self.text(), model="m", options=self.one(options, None)),
            models.Image(image=self.one("http://x/y.png", options), model="m"),
            models.InferenceObject(object=self.one(options, [self.numbers()]), model="m"),
        )

    def pair(self, name: str, kinds: str = "ddddimst") -> models.ContextPair:
        return models.ContextPair(
            positive=self.vector(name, "example", kinds),
            negative=self.vector(name, "example", kinds),
        )

    def query(self, name: str) -> Any:
        """Write any form of a query."""
        writers = {
            self.vector: 6,
            self.nearest: 4,
            self.recommendation: 2,
            self.discovery: 2,
            lambda name: models.ContextQuery(context=self.context(name)): 1,
            self.feedback: 1,
            self.without_vector: 6,
        }
        return self.random.choices(list(writers), list(writers.values()))[0](name)

    def nearest(self, name: str) -> Any:
        mmr = self.maybe(lambda: models.Mmr(diversity=0.5, candidates_limit=self.one(None, 9)))
        return models.NearestQuery(nearest=self.vector(name), mmr=mmr)

    def recommendation(self, name: str) -> Any:
        return models.RecommendQuery(recommend=models.RecommendInput(**self.examples(name)))

    def discovery(self, name: str) -> Any:
        discover = models.DiscoverInput(target=self.vector(name), context=self.context(name))
        return models.DiscoverQuery(discover=discover)

    def feedback(self, name: str) -> Any:
        naive = models.NaiveFeedbackStrategyParams(a=1.0, b=0.5, c=2.0)
        return models.RelevanceFeedbackQuery(
            relevance_feedback=models.RelevanceFeedbackInput(
                target=self.vector(name, "feedback_target"),
                feedback=self.several(
                    lambda: models.FeedbackItem(example=self.vector(name, "example"), score=0.5)
                ),
                strategy=models.NaiveFeedbackStrategy(naive=naive),
            )
        )

    def examples(self, name: str, kinds: str = "ddddimst") -> dict[str, Any]:
        return {
            "positive": self.several(lambda: self.vector(name, "example", kinds)),
            "negative": self.maybe(
                lambda: self.several(lambda: self.vector(name, "example", kinds))
            ),
            "strategy": self.one(None, *models.RecommendStrategy),
        }

    def context(self, name: str) -> Any:
        if self.random.random() < 0.3:
            return self.pair(name)
        return self.several(lambda: self.pair(name))

    def without_vector(self, name: str) -> Any:
        self.note(name, "no_vector", "query")
        weights = [1.0] * self.dims[0]
        order = models.OrderBy(key=self.text(), direction="desc", start_from=0.5)
        bm25 = models.Bm25Scoring(bm25=models.Bm25Params(k=1.5))
        return self.one(
            None,
            models.OrderByQuery(order_by=self.one(self.text(), order)),
            models.FusionQuery(fusion=self.one(*models.Fusion)),
            models.RrfQuery(rrf=models.Rrf(k=self.one(None, 60), weights=self.one(None, weights))),
            models.FormulaQuery(formula=self.formula(2), defaults={"price": self.numbers()}),
            models.SampleQuery(sample=models.Sample.RANDOM),
            models.TextQuery(text=self.text()),
            models.TextQuery(text=models.TextQueryInput(query=self.text(), scoring=bm25)),
        )

    def formula(self, depth: int) -> Any:
        if not depth:
            return self.one(0.5, "$score", "price", self.condition(0))
        return self.one(
            lambda: models.SumExpression(sum=self.several(lambda: self.formula(depth - 1))),
            lambda: models.MultExpression(mult=self.numbers()),
            lambda: models.LinDecayExpression(
                lin_decay=models.DecayParamsExpression(x=self.formula(depth - 1), scale=0.5)
            ),
            lambda: models.GeoDistance(
                geo_distance=models.GeoDistanceParams(origin=self.place(), to=self.text())
            ),
        )()

    def level(self, model: type, depth: int, **more: Any) -> Any:
        """Write a QueryRequest, a QueryGroupsRequest or a Prefetch, and what is below it."""
        name = self.name()
        using = name or self.one(None, "")
        prefetch = self.prefetch(depth - 1) if depth and self.random.random() < 0.5 else None
        return model(
            query=self.query(name), using=using, prefetch=prefetch, **self.settings(), **more
        )

    def prefetch(self, depth: int) -> Any:
        if self.random.random() < 0.3:
            return self.level(models.Prefetch, depth)
        return self.several(lambda: self.level(models.Prefetch, depth))

    def settings(self) -> dict[str, Any]:
        lookup = models.LookupLocation(collection="other", vector=self.name())
        return {
            "filter": self.maybe(lambda: self.filter(2)),
            "params": self.maybe(self.params),
            "score_threshold": self.maybe(lambda: 0.25),
            "limit": self.maybe(lambda: 10),
            "lookup_from": self.maybe(lambda: lookup, 0.2),
        }

    def output(self) -> dict[str, Any]:
        shard = self.one("a", 1, ["a", "b"], models.ShardKeyWithFallback(target="a", fallback="b"))
        return {
            "with_vector": self.one(None, True, ["title", "image"]),
            "with_payload": self.one(None, False, ["price"]),
            "shard_key": self.maybe(lambda: shard, 0.2),
        }

    def params(self) -> models.SearchParams:
        rescore = models.QuantizationSearchParams(rescore=True, oversampling=2.5)
        return models.SearchParams(hnsw_ef=64, exact=self.one(True, False), quantization=rescore)

    def place(self) -> models.GeoPoint:
        return models.GeoPoint(lon=self.random.uniform(-9, 9), lat=self.random.uniform(-9, 9))

    def filter(self, depth: int) -> models.Filter:
        conditions = self.several(lambda: self.condition(depth))
        return models.Filter(**{self.one("must", "should", "must_not"): conditions})

    def condition(self, depth: int) -> Any:
        n = self.dims[0]
        ring = models.GeoLineString(points=[self.place() for _ in range(n)])
        match = self.one(
            models.MatchAny(any=[self.random.randrange(99) for _ in range(n)]),
            models.MatchExcept(**{"except": ["a", "b"]}),
            models.MatchValue(value=self.one(True, 7, self.text())),
            models.MatchText(text=self.text()),
        )
        options = [
            models.HasIdCondition(has_id=[self.id() for _ in range(n)]),
            models.HasVectorCondition(has_vector="title"),
            models.IsEmptyCondition(is_empty=models.PayloadField(key=self.text())),
            models.FieldCondition(key=self.text(), match=match),
            models.FieldCondition(key=self.text(), range=models.Range(gte=0.1, lt=1e9)),
            models.FieldCondition(key="geo", geo_polygon=models.GeoPolygon(exterior=ring)),
            models.FieldCondition(key="tags", values_count=models.ValuesCount(gt=2)),
        ]
        if depth:
            inner = self.filter(depth - 1)
            nested = models.Nested(key=self.text(), filter=inner)
            options += [inner, models.NestedCondition(nested=nested)]
        return self.one(*options)

    def query_request(self) -> Any:
        return self.level(models.QueryRequest, 3, offset=self.one(None, 5), **self.output())

    def query_batch(self) -> Any:
        return models.QueryRequestBatch(searches=self.several(self.query_request, 0, 4))

    def query_groups(self) -> Any:
        lookup = models.WithLookup(collection="other", with_vectors=["title"])
        more = {"group_by": self.text(), "group_size": 3, "with_lookup": self.one(None, lookup)}
        return self.level(models.QueryGroupsRequest, 3, **more, **self.output())

    def model_case(self) -> Case:
        """Write a request of ``points/query``, ``/batch`` or ``/groups`` as an official model."""
        call = self.one("query", "query", "query/batch", "query/groups")
        makes = {"query": self.query_request, "query/batch": self.query_batch}
        return self.case(call, makes.get(call, self.query_groups))

    def legacy_case(self) -> Case:
        """Write a body of ``points/search``, ``/recommend`` or ``/discover``, alone or many."""
        what = self.one("search", "recommend", "discover")
        how = self.one("", "", "/batch", "/groups" if what != "discover" else "/batch")
        one = {"search": self.search, "recommend": self.recommend, "discover": self.discover}[what]
        if how == "/batch":
            return self.case(what + how, lambda: {"searches": self.several(one, 0, 4)})
        groups = {"group_by": "price", "group_size": 2} if how else {}
        return self.case(what + how, lambda: one() | groups)

    def legacy_settings(self) -> dict[str, Any]:
        kept = {key: as_json(value) for key, value in self.settings().items() if value is not None}
        limit = {self.one("limit", "top"): kept.pop("limit", 5)}
        return kept | limit | {self.one("with_vector", "with_vectors"): self.one(True, ["title"])}

    def search(self) -> dict[str, Any]:
        name = self.name()
        vector = as_json(self.vector(name, kinds="ddddds"))
        if name or isinstance(vector, dict) or self.random.random() < 0.2:
            vector = {"name": name, "vector": vector}
        return {"vector": vector} | self.legacy_settings()

    def recommend(self) -> dict[str, Any]:
        name = self.name()
        examples = as_json(self.examples(name, "ddddis"))
        return examples | {"using": name or self.one(None, "")} | self.legacy_settings()

    def discover(self) -> dict[str, Any]:
        name = self.name()
        target = as_json(self.maybe(lambda: self.vector(name, kinds="ddddis"), 0.8))
        pairs = as_json(self.several(lambda: self.pair(name, "ddddis")))
        return {"target": target, "context": pairs, "using": name} | self.legacy_settings()


def as_json(value: Any, *, nulls: bool = False) -> Any:
    """Give models and what holds them as plain JSON values, absent fields as null if asked."""
    if isinstance(value, list | tuple):
        return [as_json(item) for item in value]
    if isinstance(value, dict):
        return {key: as_json(item) for key, item in value.items()}
    if hasattr(value, "model_dump"):
        return value.model_dump(mode="json", by_alias=True, exclude_none=not nulls)
    return str(value) if isinstance(value, UUID) else value


def differences(before: Any, after: Any) -> list[tuple[Row, Row]]:
    """Give the lists of numbers that differ between two plain values; assert that all else agrees.

    The items of one list of numbers may differ in number too; any other difference is an error.
    """
    if before == after and type(before) is type(after):
        return []
    assert isinstance(before, dict | list), (before, after)
    assert type(before) is type(after)
    if isinstance(before, dict):
        assert list(before) == list(after)
        return [pair for key in before for pair in differences(before[key], after[key])]
    if before and after and all(isinstance(item, int | float) for item in [*before, *after]):
        return [(tuple(before), tuple(after))]
    assert len(before) == len(after)
    return [pair for old, new in zip(before, after, strict=True) for pair in differences(old, new)]
