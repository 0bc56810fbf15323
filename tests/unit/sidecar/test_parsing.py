"""Records held against types: what fits is a value, what does not is named in words."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, Literal

import pytest
from msgspec import Meta

from trimtab.parsing import MisfitError, parse, read_json, read_toml


@dataclass(frozen=True, slots=True)
class Inner:
    name: str
    size: int | None = None


@dataclass(frozen=True, slots=True)
class Record:
    count: Annotated[int, Meta(ge=1)]
    share: Annotated[float, Meta(ge=0, lt=1)] = 0.5
    mode: Literal["on", "off"] | None = None
    numbers: tuple[float, ...] = ()
    texts: dict[str, str] = field(default_factory=dict)
    inner: Inner | None = None
    path: Path | None = None
    weight: Annotated[float, Meta(gt=0)] | None = None


def read(**record: Any) -> Record:
    return parse({"count": 1, **record}, Record, hook=lambda _, given: Path(parse(given, str)))


def test_a_record_is_a_value_with_its_defaults() -> None:
    assert read() == Record(1)
    assert read(count=2, share=0, numbers=[1, 2.5], inner={"name": "a"}, path="x") == Record(
        2, 0.0, None, (1.0, 2.5), {}, Inner("a"), Path("x")
    )


def test_a_whole_number_for_a_fraction_becomes_one() -> None:
    assert type(read(share=0).share) is float


@pytest.mark.parametrize(
    ("record", "message"),
    [
        ({"cuont": 1}, "has unknown key 'cuont'; known: count, inner, mode, numbers, path, share"),
        ({"weight": 0}, "weight is 0, expected more than 0"),
        ({"count": "1"}, "count is '1', expected int"),
        ({"count": True}, "count is True, expected int"),
        ({"count": 1.0}, "count is 1.0, expected int"),
        ({"count": 0}, "count is 0, expected 1 or more"),
        ({"share": "1"}, "share is '1', expected float or int"),
        ({"share": 1}, "share is 1, expected 0 or more and less than 1"),
        ({"share": float("nan")}, "share is nan, expected 0 or more and less than 1"),
        ({"share": 10**400}, "out of range"),
        ({"mode": "maybe"}, "mode is 'maybe', expected on or off"),
        (
            {"mode": "a - at `$.q`"},
            "mode is 'a - at `$.q`', expected on or off".replace("$", r"\$"),
        ),
        ({"mode": 3}, "mode is 3, expected on or off"),
        ({"numbers": 3}, "numbers is 3, expected list"),
        ({"numbers": [1, "2"]}, r"numbers\[1\] is '2', expected float or int"),
        ({"texts": {"a": None}}, "texts holds NoneType, expected str"),
        ({"inner": []}, r"inner is \[\], expected dict or NoneType"),
        ({"inner": {}}, "lacks 'inner.name'"),
        ({"inner": {"name": 3}}, "inner.name is 3, expected str"),
        ({"inner": {"name": "a", "size": "b"}}, "inner.size is 'b', expected int or NoneType"),
        ({"path": 3}, "path is 3, expected str"),
    ],
)
def test_what_does_not_fit_is_named(record: dict[str, Any], message: str) -> None:
    with pytest.raises(MisfitError, match=message):
        read(**record)


def test_what_is_missing_is_named() -> None:
    with pytest.raises(MisfitError, match="lacks 'count'") as caught:
        parse({}, Record)
    assert (caught.value.path, caught.value.fact) == ("count", "is missing")


@pytest.mark.parametrize("record", [[], 3, "text", None])
def test_what_is_no_table_is_refused(record: Any) -> None:
    with pytest.raises(MisfitError, match=r"expected dict$"):
        parse(record, Record)


def test_keys_that_a_later_version_has_are_overlooked_where_asked() -> None:
    assert parse({"count": 1, "more": 2}, Record, allow_unknown=True) == Record(1)


def test_values_are_shown_as_asked() -> None:
    with pytest.raises(MisfitError, match=r"^count is str, expected int$"):
        parse({"count": "secret"}, Record, show=lambda value: type(value).__name__)


@pytest.mark.parametrize(
    ("given", "kind", "fact"),
    [
        ("c", Literal["a", "b"], "is 'c', expected a or b"),
        (0, Annotated[float, Meta(gt=0)], "is 0, expected more than 0"),
        ([], Annotated[list[int], Meta(min_length=1)], "is [], expected 1 value or more"),
    ],
)
def test_any_type_can_be_asked_for(given: Any, kind: Any, fact: str) -> None:
    with pytest.raises(MisfitError) as caught:
        parse(given, kind)
    assert (caught.value.path, caught.value.fact) == ("", fact)


@pytest.mark.parametrize(
    ("read_text", "text"),
    [
        (read_json, "[" * 100_000),
        (read_toml, f"a = {'[' * 5000}"),
        (read_json, "{"),
        (read_toml, "a"),
    ],
)
def test_text_that_is_broken_or_nested_too_deep_is_one_kind_of_error(
    read_text: Any, text: str
) -> None:
    with pytest.raises(ValueError, match=r".") as caught:
        read_text(text)
    assert len(str(caught.value).splitlines()) == 1
