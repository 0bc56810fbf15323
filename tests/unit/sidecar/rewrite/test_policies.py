"""Policies: what may be set, what is the default, and what is decided of every kind of place."""

from dataclasses import fields
from itertools import product
from typing import Any, get_args, get_type_hints

import numpy as np
import pytest

from trimtab.errors import ConfigError, RefusedError
from trimtab.rewrite import Kind, Place, Policies, Reason, Role, decide

DIMS = (6, 4)
DEFAULTS = {
    "examples": "never",
    "multivector": "untouched",
    "inference": "pass",
    "unknown_variant": "pass",
    "dims_out_match": "pass",
    "write_guard": "warn",
}
CHOICES = {name: get_args(hint) for name, hint in get_type_hints(Policies).items()}


def place(kind: Kind, role: Role = Role.QUERY, widths: tuple[int, ...] = (6,)) -> Place:
    rows = [np.ones(width, np.float32) for width in widths]
    value = rows if kind is Kind.MULTI else rows[0] if kind is Kind.DENSE else None
    return Place("", kind, role, ("searches", 2, "prefetch", "query"), value)


def test_defaults_are_those_of_the_wire_document() -> None:
    policies = Policies()
    assert {field.name: getattr(policies, field.name) for field in fields(Policies)} == DEFAULTS


def test_every_choice_can_be_set() -> None:
    for name, choices in CHOICES.items():
        for choice in choices:
            assert getattr(Policies(**{name: choice}), name) == choice


@pytest.mark.parametrize("name", CHOICES)
@pytest.mark.parametrize("value", ["", "Never", "PASS", "maybe", None, True, 1, "pass "])
def test_setting_that_does_not_exist_is_an_error_that_names_those_that_do(
    name: str, value: Any
) -> None:
    with pytest.raises(ConfigError) as caught:
        Policies(**{name: value})
    assert name in str(caught.value)
    assert all(choice in str(caught.value) for choice in CHOICES[name])


def test_policies_do_not_change() -> None:
    with pytest.raises(AttributeError):
        Policies().examples = "always"  # type: ignore[misc]


@pytest.mark.parametrize("role", Role)
@pytest.mark.parametrize("dims", [None, DIMS])
@pytest.mark.parametrize(
    ("kind", "reason"),
    [(Kind.ID, Reason.ID), (Kind.SPARSE, Reason.SPARSE), (Kind.NOTHING, Reason.NO_VECTOR)],
)
def test_what_holds_no_dense_vector_is_left_under_all_policies(
    kind: Kind, reason: Reason, role: Role, dims: tuple[int, int] | None
) -> None:
    for values in product(*CHOICES.values()):
        policies = Policies(**dict(zip(CHOICES, values, strict=True)))
        assert decide(place(kind, role), dims, policies) is reason


@pytest.mark.parametrize("kind", [Kind.DENSE, Kind.MULTI, Kind.INFERENCE, Kind.UNKNOWN])
def test_what_has_no_adapter_is_left_under_all_policies(kind: Kind) -> None:
    for values in product(*CHOICES.values()):
        policies = Policies(**dict(zip(CHOICES, values, strict=True)))
        assert decide(place(kind), None, policies) is Reason.NO_ROUTE


TABLE = [
    (place(Kind.DENSE), {}, Reason.ADAPTED),
    (place(Kind.DENSE, Role.EXAMPLE), {}, Reason.EXAMPLE),
    (place(Kind.DENSE, Role.EXAMPLE), {"examples": "always"}, Reason.ADAPTED),
    (place(Kind.DENSE, widths=(4,)), {}, Reason.DIMS_OUT_MATCH),
    (place(Kind.DENSE, widths=(4,)), {"dims_out_match": "refuse"}, None),
    (place(Kind.DENSE, widths=(5,)), {"dims_out_match": "refuse"}, Reason.DIMS_FIT_NEITHER),
    (place(Kind.DENSE, widths=(0,)), {"dims_out_match": "refuse"}, Reason.DIMS_FIT_NEITHER),
    (place(Kind.DENSE, Role.EXAMPLE, (4,)), {"dims_out_match": "refuse"}, Reason.EXAMPLE),
    (place(Kind.MULTI, widths=(6, 6)), {}, Reason.MULTIVECTOR),
    (place(Kind.MULTI, widths=(4, 4)), {"dims_out_match": "refuse"}, Reason.MULTIVECTOR),
    (place(Kind.MULTI, widths=(6, 6)), {"multivector": "rows"}, Reason.ADAPTED),
    (place(Kind.MULTI, widths=(6, 4)), {"multivector": "rows"}, Reason.DIMS_FIT_NEITHER),
    (place(Kind.MULTI, widths=(4, 4)), {"multivector": "rows"}, Reason.DIMS_OUT_MATCH),
    (place(Kind.MULTI, Role.EXAMPLE), {"multivector": "rows"}, Reason.EXAMPLE),
    (place(Kind.MULTI, Role.EXAMPLE), {"examples": "always"}, Reason.MULTIVECTOR),
    (place(Kind.INFERENCE), {}, Reason.INFERENCE),
    (place(Kind.INFERENCE), {"inference": "refuse"}, None),
    (place(Kind.INFERENCE, Role.EXAMPLE), {"inference": "refuse"}, None),
    (place(Kind.UNKNOWN), {}, Reason.UNKNOWN_VARIANT),
    (place(Kind.UNKNOWN), {"unknown_variant": "refuse"}, None),
]


@pytest.mark.parametrize(("where", "settings", "reason"), TABLE)
def test_routed_place_is_decided_as_the_policies_say(
    where: Place, settings: dict[str, str], reason: Reason | None
) -> None:
    policies = Policies(**settings)  # type: ignore[arg-type]
    if reason is not None:
        assert decide(where, DIMS, policies) is reason
        return
    with pytest.raises(RefusedError):
        decide(where, DIMS, policies)


@pytest.mark.parametrize("widths", [(4,), (6,), (5,)])
def test_equal_dims_are_the_adapters_and_never_refused(widths: tuple[int]) -> None:
    """Where both dims agree nothing tells an old client from a new one."""
    policies = Policies(dims_out_match="refuse")
    found = decide(place(Kind.DENSE, widths=widths), (6, 6), policies)
    assert found is (Reason.ADAPTED if widths == (6,) else Reason.DIMS_FIT_NEITHER)


@pytest.mark.parametrize(
    ("where", "settings"),
    [
        (place(Kind.DENSE, widths=(4,)), {"dims_out_match": "refuse"}),
        (place(Kind.UNKNOWN), {"unknown_variant": "refuse"}),
    ],
)
def test_refusal_says_where(where: Place, settings: dict[str, str]) -> None:
    with pytest.raises(RefusedError, match=r"searches\[2\]\.prefetch\.query"):
        decide(where, DIMS, Policies(**settings))  # type: ignore[arg-type]
