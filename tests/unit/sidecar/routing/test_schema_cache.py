"""What Qdrant said, for as long as it is believed, and the routes that follow from it."""

import contextlib
import tracemalloc
from collections.abc import Callable, Mapping
from typing import Any

import pytest

from tests.support.onnx_models import linear_adapter
from trimtab.errors import (
    ConfigError,
    DeadlineError,
    ForbiddenError,
    NoCollectionError,
    UnavailableError,
)
from trimtab.rewrite.policies import Policies
from trimtab.routing.route_book import Question, RouteBook
from trimtab.routing.routes import Mode, Route, Routes
from trimtab.routing.schema_cache import ANYONE, Caller, SchemaCache
from trimtab.routing.vector_schema import SPARSE, CollectionVectors, IndexedVector

DIM = 4
FITS = IndexedVector(DIM, "cosine", "float32", is_multi=False)
OTHER = IndexedVector(DIM + 1, "cosine", "float32", is_multi=False)
BYTES = IndexedVector(DIM, "cosine", "uint8", is_multi=False)
VECTORS_S, ALIASES_S, RETRY_S = 100.0, 10.0, 1.0


class Clock:
    """A clock that a test sets."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


class Qdrant:
    """Answers questions, and counts them."""

    def __init__(self) -> None:
        self.vectors: dict[str, Mapping[str, IndexedVector]] = {"docs": {"": FITS, "title": FITS}}
        self.aliases: dict[str, str] = {"alias": "docs"}
        self.failure: Exception | None = None
        self.asked: list[Question] = []

    def answer(self, question: Question) -> Any:
        self.asked.append(question)
        if self.failure is not None:
            raise self.failure
        if question.method == "get_aliases":
            return dict(self.aliases)
        try:
            return self.vectors[question.arguments["collection_name"]]
        except KeyError as error:
            raise UnavailableError("no such collection") from error


class Book:
    """A route book, the clock and the Qdrant that it asks."""

    def __init__(self, *routes: Route) -> None:
        self.clock, self.qdrant = Clock(), Qdrant()
        self.facts = SchemaCache(
            vectors_ttl_s=VECTORS_S, aliases_ttl_s=ALIASES_S, retry_s=RETRY_S, clock=self.clock
        )
        self.book = RouteBook(Routes(routes), self.facts)

    def look_up(self, name: str, caller: Caller = ()) -> dict[str, Route]:
        """Ask what must be asked; give the routes."""
        questions = self.book.look_up(name, caller)
        step: Callable[[], Question] = questions.__next__
        try:
            while True:
                question = step()
                try:
                    answer = self.qdrant.answer(question)
                except Exception as error:
                    step = lambda e=error: questions.throw(e)  # noqa: E731
                else:
                    step = lambda a=answer: questions.send(a)  # noqa: E731
        except StopIteration as end:
            return dict(end.value)

    def n_asked(self, method: str) -> int:
        return sum(question.method == method for question in self.qdrant.asked)


def route(collection: str = "docs", vector: str = "", *, mode: Mode = "on", **more: Any) -> Route:
    adapter = linear_adapter(dim_in=DIM, dim_out=DIM, use=more.pop("use", "relevance"))
    return Route.make(collection, adapter, vector_name=vector, mode=mode, **more)


def test_a_collection_is_asked_about_once_until_it_is_no_longer_believed() -> None:
    book = Book(route())
    assert book.book.known_routes("docs") is None
    assert set(book.look_up("docs")) == {""}
    assert set(book.book.known_routes("docs") or {}) == {""}
    assert book.n_asked("get_aliases") == 0
    book.clock.now += VECTORS_S
    assert book.book.known_routes("docs") is None
    book.look_up("docs")
    assert book.n_asked("get_collection") == 2


def test_an_alias_leads_to_its_collection_and_other_names_nowhere() -> None:
    book = Book(route())
    assert set(book.look_up("alias")) == {""}
    assert book.look_up("unknown") == {}
    assert book.book.known_routes("unknown") == {}
    assert book.n_asked("get_aliases") == 1
    book.clock.now += ALIASES_S
    assert book.book.known_routes("unknown") is None
    assert book.book.known_routes("alias") is None


def test_a_route_under_an_alias_wins_over_its_collections() -> None:
    alias = route("alias")
    book = Book(route(), alias)
    book.qdrant.vectors["alias"] = {"": FITS}  # Qdrant answers for an alias as for a collection
    assert book.look_up("alias") == {"": alias}


def test_what_is_forgotten_is_asked_for_again() -> None:
    book = Book(route())
    book.look_up("alias")
    book.facts.invalidate("docs")
    assert book.book.known_routes("docs") is None
    assert book.book.known_routes("alias") is None
    book.look_up("alias")
    book.facts.invalidate("another")
    assert set(book.book.known_routes("docs") or {}) == {""}
    assert book.book.known_routes("alias") is None  # any change may have moved an alias
    book.facts.invalidate()
    assert book.book.known_routes("docs") is None


def test_a_switched_alias_is_followed_once_the_old_list_is_not_believed() -> None:
    other = route("other")
    book = Book(route(), other)
    book.qdrant.vectors["other"] = {"": FITS}
    book.look_up("alias")
    book.qdrant.aliases["alias"] = "other"
    book.clock.now += ALIASES_S
    assert book.look_up("alias") == {"": other}


@pytest.mark.parametrize(
    ("vectors", "message"),
    [
        ({"": OTHER}, "vectors of 5 values"),
        ({"": BYTES}, "uint8"),
        (
            {"title": FITS},
            "has no unnamed vector, and the route names none; .* are: 'title'; name one of 4",
        ),
        ({}, "has no dense vectors"),
        ({"": SPARSE}, "has no dense vectors"),
        ({"": SPARSE, "title": FITS}, "is sparse"),
    ],
)
def test_an_adapter_that_cannot_serve_is_an_error_each_time(
    vectors: Mapping[str, IndexedVector], message: str
) -> None:
    book = Book(route())
    book.qdrant.vectors["docs"] = vectors
    for _ in range(2):
        with pytest.raises(ConfigError, match=message):
            book.look_up("docs")
        with pytest.raises(ConfigError, match=message):
            book.book.known_routes("docs")
    assert book.n_asked("get_collection") == 1
    book.qdrant.vectors["docs"] = {"": FITS}
    book.facts.invalidate("docs")
    assert set(book.look_up("docs")) == {""}


def test_a_route_that_is_off_is_not_held_against_anything() -> None:
    book = Book(route(mode="off"))
    book.qdrant.vectors["docs"] = {"": OTHER}
    assert set(book.look_up("docs")) == {""}


def test_where_one_vector_does_not_fit_the_others_are_served() -> None:
    book = Book(route(), route(vector="title"))
    book.qdrant.vectors["docs"] = {"": OTHER, "title": FITS}
    with pytest.raises(ConfigError):
        book.look_up("docs")
    assert set(book.book.fitting_routes("docs")) == {"title"}
    refusing = Book(route(use="migration"), route(vector="title"))
    refusing.qdrant.vectors["docs"] = {"": OTHER, "title": FITS}
    with pytest.raises(ConfigError):
        refusing.look_up("docs")
    with pytest.raises(ConfigError):
        refusing.book.fitting_routes("docs")


def test_writes_need_no_fitting_adapter() -> None:
    book = Book(route())
    book.qdrant.vectors["docs"] = {"": OTHER}
    assert set(book.book.unchecked_routes("docs") or {}) == {""}
    assert book.book.unchecked_routes("alias") is None
    with pytest.raises(ConfigError):
        book.look_up("alias")
    assert set(book.book.unchecked_routes("alias") or {}) == {""}
    assert book.book.unchecked_routes("unknown") == {}


def test_without_an_answer_the_adapter_is_trusted_for_a_short_while() -> None:
    book = Book(route())
    book.qdrant.failure = UnavailableError("down")
    assert set(book.look_up("docs")) == {""}
    assert set(book.book.known_routes("docs") or {}) == {""}
    book.clock.now += RETRY_S
    assert book.book.known_routes("docs") is None


def test_without_an_answer_the_last_list_of_aliases_is_believed() -> None:
    book = Book(route())
    book.look_up("alias")
    book.qdrant.failure = UnavailableError("down")
    book.clock.now += ALIASES_S
    assert set(book.look_up("alias")) == {""}
    book.clock.now += RETRY_S
    assert book.book.known_routes("alias") is None


def test_what_a_caller_may_not_see_says_nothing_about_the_next_one() -> None:
    book = Book(route())
    book.qdrant.failure = ForbiddenError("no key")
    assert book.look_up("alias") == {}
    book.look_up("docs")
    book.qdrant.failure = None
    assert book.book.known_routes("alias") is None
    assert book.book.known_routes("docs") is None
    assert set(book.look_up("alias")) == {""}


def test_facts_outlive_a_book() -> None:
    book = Book(route())
    book.look_up("docs")
    newer = RouteBook(Routes([route(vector="title")]), book.facts)
    assert set(newer.known_routes("docs") or {}) == {"title"}


def examined(book: Book, *, is_patient: bool = True, **policies: Any) -> dict[str, tuple[str, str]]:
    """What is found out of every route: whether it fits, and what is said."""
    questions = book.book.examine(Policies(**policies), is_patient=is_patient)
    try:
        question = next(questions)
        while True:
            try:
                answer = book.qdrant.answer(question)
            except Exception as error:
                question = questions.throw(error)
            else:
                question = questions.send(answer)
    except StopIteration as end:
        return {
            f"{each.route.collection}/{each.route.vector_name}": (each.fit, each.text)
            for each in end.value
        }


ROWS = IndexedVector(DIM, "cosine", "float32", is_multi=True)
MANHATTAN = IndexedVector(DIM, "manhattan", "float32", is_multi=False)


@pytest.mark.parametrize(
    ("vector", "fit", "said"),
    [
        (FITS, "fine", ""),
        (OTHER, "unfit", "vectors of 5 values"),
        (BYTES, "unfit", "uint8"),
        (SPARSE, "unfit", "no dense vectors"),
        (ROWS, "idle", "multivector"),
        (MANHATTAN, "doubtful", "compares by manhattan"),
    ],
)
def test_every_route_is_held_against_its_vector(vector: IndexedVector, fit: str, said: str) -> None:
    book = Book(route())
    book.qdrant.vectors["docs"] = {"": vector}
    found = examined(book)["docs/"]
    assert found[0] == fit
    assert said in found[1]


def test_rows_that_are_adapted_are_no_reason_to_doubt() -> None:
    book = Book(route())
    book.qdrant.vectors["docs"] = {"": ROWS}
    assert examined(book, multivector="rows")["docs/"][0] == "fine"


def test_each_collection_is_asked_about_once_and_each_route_is_judged_alone() -> None:
    book = Book(route(), route(vector="title"), route(vector="body"), route(vector="x", mode="off"))
    found = examined(book)
    assert {name: fit for name, (fit, _) in found.items()} == {
        "docs/": "fine", "docs/title": "fine", "docs/body": "unfit", "docs/x": "fine",
    }  # fmt: skip
    assert "'', 'title'" in found["docs/body"][1]
    assert book.n_asked("get_collection") == 1
    examined(book)
    assert book.n_asked("get_collection") == 1


@pytest.mark.parametrize(
    ("failure", "fit"),
    [
        (NoCollectionError("404"), "missing"),
        (ForbiddenError("403"), "unknown"),
        (UnavailableError("down"), "unknown"),
        (RuntimeError("a library's"), "unknown"),
    ],
)
def test_a_collection_that_qdrant_does_not_describe_is_missing_or_unknown(
    failure: Exception, fit: str
) -> None:
    book = Book(route())
    book.qdrant.failure = failure
    found = examined(book)["docs/"]
    assert found[0] == fit
    assert "collection 'docs'" in found[1]


def test_a_migration_that_passes_raw_queries_is_doubtful() -> None:
    found = examined(Book(route(use="migration", on_error="passthrough")))["docs/"]
    assert found[0] == "doubtful"
    assert "set refuse" in found[1]
    assert examined(Book(route(use="migration")))["docs/"][0] == "fine"


def test_a_collection_made_anew_under_its_old_name_is_told_at_once(
    caplog: pytest.LogCaptureFixture,
) -> None:
    facts = SchemaCache(vectors_ttl_s=VECTORS_S, aliases_ttl_s=ALIASES_S, clock=Clock())
    facts.learn_aliases({"alias": "docs"})
    for created_s in (None, 100.0, 100.4, None):  # REST and gRPC write more or fewer digits
        facts.learn_vectors("docs", CollectionVectors({"": FITS}, created_s=created_s))
    assert facts.are_aliases_known()
    assert not caplog.records
    facts.invalidate("docs")
    facts.learn_aliases({"alias": "docs"})
    facts.learn_vectors("docs", CollectionVectors({"": FITS}, created_s=250.0))
    assert not facts.are_aliases_known()
    facts.learn_vectors("docs", CollectionVectors({"": FITS}, created_s=250.0))
    facts.learn_vectors("other", CollectionVectors({"": FITS}, created_s=9.0))
    assert [each.message.count("made anew") for each in caplog.records] == [1]
    assert facts.vectors_of("docs") == {"": FITS}


@pytest.mark.parametrize(("is_patient", "n_asked"), [(True, 3), (False, 1)])
def test_who_can_wait_asks_on_where_qdrant_does_not_answer(is_patient: bool, n_asked: int) -> None:
    book = Book(*(route(name) for name in ("one", "two", "three")))
    book.qdrant.failure = UnavailableError("down")
    found = examined(book, is_patient=is_patient)
    assert {fit for fit, _ in found.values()} == {"unknown"}
    assert book.n_asked("get_collection") == n_asked


def test_a_qdrant_that_keeps_a_start_waiting_is_waited_for_once(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    book = Book(*(route(name) for name in ("one", "two", "three")))

    def wait_in_vain(question: Question) -> Any:
        book.qdrant.asked.append(question)
        book.clock.now += 2.0
        raise DeadlineError("no answer within 2 s")

    monkeypatch.setattr(book.qdrant, "answer", wait_in_vain)
    found = examined(book)
    assert {fit for fit, _ in found.values()} == {"unknown"}
    assert len(book.qdrant.asked) == 1
    assert "within 2 s" in found["one/"][1]
    assert "has not answered" in found["three/"][1]


def test_a_collection_that_is_not_shown_to_the_key_is_told_at_a_start(
    caplog: pytest.LogCaptureFixture,
) -> None:
    book = Book(route())
    book.qdrant.failure = ForbiddenError("403")
    assert examined(book)["docs/"][0] == "unknown"
    assert [each.levelname for each in caplog.records] == ["WARNING"]
    assert vars(caplog.records[0])["cause"] == "Qdrant does not show it to this key"
    caplog.clear()
    book.look_up("docs")  # for a caller, whose key says nothing of the next one's
    assert not caplog.records


@pytest.mark.parametrize("name", ["docs", "alias"])
def test_an_answer_to_a_question_from_before_a_change_is_not_kept(name: str) -> None:
    book = Book(route(), route("other"))
    book.look_up("other")
    questions = book.book.look_up(name)
    answer = book.qdrant.answer(next(questions))
    book.qdrant.aliases["alias"] = "other"
    book.facts.invalidate()
    with contextlib.suppress(StopIteration):
        while True:
            answer = book.qdrant.answer(questions.send(answer))
    assert book.book.known_routes(name) is None
    target = "docs" if name == "docs" else "other"
    assert {each.collection for each in book.look_up(name).values()} == {target}
    assert book.book.known_routes(name) is not None


def test_an_alias_that_one_caller_is_not_shown_is_asked_for_by_the_next() -> None:
    """Qdrant shows each key those aliases alone whose collections it may see."""
    book = Book(route())
    book.qdrant.aliases = {}
    assert book.look_up("alias", "narrow") == {}
    assert book.book.known_routes("alias", "narrow") == {}
    assert book.book.known_routes("alias", "full") is None
    assert book.book.unchecked_routes("alias", "full") is None
    book.qdrant.aliases = {"alias": "docs"}
    assert set(book.look_up("alias", "full")) == {""}
    for caller in ("full", "narrow", "another", ANYONE):
        assert set(book.book.known_routes("alias", caller) or {}) == {""}
    assert book.n_asked("get_aliases") == 2
    assert book.book.known_routes("unknown", "another") is None
    assert book.book.known_routes("unknown", ANYONE) == {}


def test_what_one_caller_was_shown_is_believed_as_long_as_ever() -> None:
    book = Book(route(), route("other"))
    book.look_up("alias", "full")
    book.clock.now += 0.75 * ALIASES_S
    book.qdrant.aliases = {}
    assert book.look_up("unknown", "narrow") == {}
    assert book.book.known_routes("alias", "narrow")  # may have been hidden
    book.clock.now += 0.5 * ALIASES_S
    assert book.book.known_routes("alias", "full") is None
    assert book.book.known_routes("alias", "narrow") is not None  # whose list is the newer
    book.qdrant.aliases = {"alias": "other"}
    assert {each.collection for each in book.look_up("alias", "full").values()} == {"other"}
    book.facts.invalidate()
    assert book.book.known_routes("alias", "full") is None
    assert book.book.known_routes("alias", "narrow") is None


def test_callers_without_number_cost_no_memory_without_bound() -> None:
    facts = SchemaCache(vectors_ttl_s=1, aliases_ttl_s=1)
    tracemalloc.start()
    try:
        for number in range(30_000):
            facts.learn_aliases({"alias": "docs"}, caller=("key", number))
        assert tracemalloc.get_traced_memory()[0] < 2_000_000
    finally:
        tracemalloc.stop()
    assert facts.is_alias_known("alias", "another")
