"""Routes: which adapter serves which vector, and what is refused at the start."""

from pathlib import Path
from typing import Any

import pytest

from tests.support.onnx_models import DIM_IN, DIM_OUT, linear_adapter, linear_bytes
from trimtab.errors import ConfigError, ModelError
from trimtab.routing.routes import Route, Routes

ADAPTER = linear_adapter(name="toy")


def test_table_gives_routes_by_collection_and_vector_name() -> None:
    other = linear_adapter(seed=1)
    routes = Routes.of({"docs": ADAPTER, ("docs", "title"): other, ("faq", "x"): ADAPTER})
    found = routes.of_collection("docs")
    assert set(found) == {"", "title"}
    assert found[""].adapter is ADAPTER
    assert found["title"].adapter is other
    assert set(routes.of_collection("faq")) == {"x"}
    assert len(routes) == 3
    assert {(route.collection, route.vector_name) for route in routes} == {
        ("docs", ""),
        ("docs", "title"),
        ("faq", "x"),
    }


def test_collection_without_route_has_none() -> None:
    routes = Routes.of({"docs": ADAPTER})
    assert not routes.of_collection("other")
    assert not routes.of_collection("")
    assert len(routes) == 1


def test_routes_stay_as_they_are() -> None:
    routes = Routes.of({"docs": ADAPTER})
    assert Routes.of(routes) is routes
    with pytest.raises(AttributeError):
        routes.of_collection("docs")[""].collection = "faq"  # type: ignore[misc]


def test_table_may_be_changed_afterwards() -> None:
    table: dict[Any, Any] = {"docs": ADAPTER}
    routes = Routes.of(table)
    table["faq"] = ADAPTER
    assert not routes.of_collection("faq")


@pytest.mark.parametrize("kind", [str, Path])
def test_adapter_may_be_a_file(kind: type, tmp_path: Path) -> None:
    file = tmp_path / "adapter.onnx"
    file.write_bytes(linear_bytes(name="toy"))
    for path in (file, tmp_path):
        route = Routes.of({"docs": kind(path)}).of_collection("docs")[""]
        assert route.adapter.version == ADAPTER.version


def test_file_that_is_no_model_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "adapter.onnx").write_bytes(b"no model")
    for path in (tmp_path, tmp_path / "missing.onnx"):
        with pytest.raises(ModelError):
            Routes.of({"docs": path})


@pytest.mark.parametrize("table", [{}, None, [], "docs", [("docs", ADAPTER)], {"docs"}])
def test_table_that_is_none_is_an_error(table: Any) -> None:
    with pytest.raises(ConfigError):
        Routes.of(table)


@pytest.mark.parametrize("collection", ["", ("", "title")])
def test_route_without_collection_is_an_error(collection: Any) -> None:
    with pytest.raises(ConfigError, match="collection"):
        Routes.of({collection: ADAPTER})


@pytest.mark.parametrize("key", [("docs",), ("docs", "a", "b"), 7, ("docs", None)])
def test_key_that_is_no_name_is_an_error(key: Any) -> None:
    with pytest.raises(ConfigError):
        Routes.of({key: ADAPTER})


@pytest.mark.parametrize("adapter", [None, 7, b"x"])
def test_value_that_is_no_adapter_is_an_error(adapter: Any) -> None:
    with pytest.raises((ConfigError, ModelError)):
        Routes.of({"docs": adapter})


def test_two_routes_for_one_vector_are_an_error() -> None:
    with pytest.raises(ConfigError, match=r"docs.*title"):
        Routes(Route.make("docs", ADAPTER, vector_name="title") for _ in range(2))
    with pytest.raises(ConfigError, match="docs"):
        Routes.of({"docs": ADAPTER, ("docs", ""): ADAPTER})


@pytest.mark.parametrize(
    ("use", "on_error"), [("relevance", "passthrough"), ("migration", "refuse")]
)
def test_use_of_the_adapter_says_what_an_error_does(use: str, on_error: Any) -> None:
    adapter = linear_adapter(use=use)
    assert Route.make("docs", adapter).on_error == on_error
    assert Routes.of({"docs": adapter}).of_collection("docs")[""].on_error == on_error
    other = "refuse" if on_error == "passthrough" else "passthrough"
    assert Route.make("docs", adapter, on_error=other).on_error == other


@pytest.mark.parametrize("mode", ["canary", "shadow"])
def test_a_migration_has_no_raw_query_to_answer(mode: Any) -> None:
    with pytest.raises(ConfigError, match=r"is for a migration.*set mode to on"):
        Route.make("docs", linear_adapter(use="migration"), mode=mode)
    assert Route.make("docs", linear_adapter(use="relevance"), mode=mode).mode == mode
    assert Route.make("docs", linear_adapter(use="migration"), mode="off").mode == "off"


@pytest.mark.parametrize("mode", ["on", "shadow"])
def test_a_share_is_a_canarys(mode: Any) -> None:
    adapter = linear_adapter(use="relevance")
    with pytest.raises(ConfigError, match=f"share 0.1 and mode '{mode}', which knows none"):
        Route.make("docs", adapter, mode=mode, share=0.1)
    assert Route.make("docs", adapter, mode="canary").share == 0.1
    assert Route.make("docs", adapter, mode="canary", share=0.5).share == 0.5


@pytest.mark.parametrize("on_error", ["", "pass", "raise", True])
def test_unknown_on_error_is_an_error(on_error: Any) -> None:
    with pytest.raises(ConfigError, match="passthrough or refuse"):
        Route.make("docs", ADAPTER, on_error=on_error)


def test_route_says_its_dims_and_its_name() -> None:
    route = Route.make("docs", ADAPTER, vector_name="title")
    assert route.dims == (DIM_IN, DIM_OUT)
    assert "docs" in str(route)
    assert "title" in str(route)
    assert "vector" not in str(Route.make("docs", ADAPTER))


@pytest.mark.parametrize("name", ["toy", "naïve", "a,b", "a\nb: c", "日本", "x" * 300, 'a"b@c'])
def test_mark_fits_one_header_and_can_be_split(name: str) -> None:
    adapter = linear_adapter(name=name)
    mark = Route.make("docs", adapter).adapter.mark
    assert mark.isascii()
    assert mark.isprintable()
    assert "," not in mark
    assert mark.rpartition("@")[2] == adapter.version
