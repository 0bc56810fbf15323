"""Which places are adapted: the settings that a user has, and the rule that applies them."""

from dataclasses import dataclass, fields
from enum import StrEnum
from typing import Literal, get_args, get_type_hints

from trimtab.errors import ConfigError, RefusedError
from trimtab.rewrite.places import Kind, Place, Role


class Reason(StrEnum):
    """Why a place was adapted, or was not.

    ``off``, ``shadow`` and ``canary`` (outside of its share) are modes of a route; ``unfit`` is an
    adapter that can't serve its collection; ``encoded`` a body in a coding that is not known here;
    ``opted_out`` a request whose sender wants none adapted. ``adapted_feedback`` is the target of
    relevance feedback: adapted, while its strategy's coefficients were trained on other scores.
    """

    ADAPTED = "adapted"
    ADAPTED_FEEDBACK = "adapted_feedback"
    ALREADY_ADAPTED = "already_adapted"
    OPTED_OUT = "opted_out"
    NO_ROUTE = "no_route"
    ID = "id"
    SPARSE = "sparse"
    MULTIVECTOR = "multivector"
    EXAMPLE = "example"
    INFERENCE = "inference"
    UNKNOWN_VARIANT = "unknown_variant"
    DIMS_OUT_MATCH = "dims_out_match"
    DIMS_FIT_NEITHER = "dims_fit_neither"
    NO_VECTOR = "no_vector"
    ADAPTER_ERROR = "adapter_error"
    MALFORMED = "malformed"
    WRITE = "write"
    OFF = "off"
    SHADOW = "shadow"
    CANARY = "canary"
    UNFIT = "unfit"
    ENCODED = "encoded"

    __hash__ = str.__hash__  # an enum's own is Python, and reasons are counted for every query


@dataclass(frozen=True, slots=True)
class Policies:
    """What to do where a request leaves a choice.

    Attributes:
        examples: Raw vectors among the examples of recommend, context and feedback: ``never`` adapt
            them (they usually come out of the index), or ``always``.
        multivector: Queries of many rows: ``untouched``, or adapt their ``rows``.
        inference: Texts, images and objects that Qdrant itself embeds, out of the adapter's reach:
            ``pass`` or ``refuse``.
        unknown_variant: A kind of query that this version does not know: ``pass`` or ``refuse``.
        dims_out_match: A query that has the index's dims and not the adapter's, as from a client
            that still uses the index's own encoder: ``pass`` or ``refuse``.
        write_guard: Vectors written into a collection that has a migration adapter, and so may be
            of the new model in an index of the old one: ``pass`` silently, ``warn``, or ``refuse``.
            They are never adapted.
    """

    examples: Literal["never", "always"] = "never"
    multivector: Literal["untouched", "rows"] = "untouched"
    inference: Literal["pass", "refuse"] = "pass"
    unknown_variant: Literal["pass", "refuse"] = "pass"
    dims_out_match: Literal["pass", "refuse"] = "pass"
    write_guard: Literal["pass", "warn", "refuse"] = "warn"

    def __post_init__(self) -> None:
        """Refuse a setting that does not exist.

        Raises:
            ConfigError: With the settings that do.
        """
        hints = get_type_hints(type(self))
        for field in fields(self):
            value, allowed = getattr(self, field.name), get_args(hints[field.name])
            if value not in allowed:
                raise ConfigError(
                    f"policy {field.name} is {value!r}; expected {' or '.join(allowed)}"
                )


OPT_OUT = "none"
"""What a request carries in place of an adapter's mark to have nothing in it adapted."""

FEEDBACK_WARNING = (
    "the target of relevance feedback is adapted, and its coefficients were trained on the scores "
    "of raw queries; train them again on adapted ones, or opt out for these queries"
)


def reason_of_mark(mark: str) -> Reason:
    """Say why a request that carries a mark is left as it is."""
    is_opt_out = mark.strip().lower() == OPT_OUT
    return Reason.OPTED_OUT if is_opt_out else Reason.ALREADY_ADAPTED


_WITHOUT_VECTOR = {
    Kind.NOTHING: Reason.NO_VECTOR,
    Kind.ID: Reason.ID,
    Kind.SPARSE: Reason.SPARSE,
}


def decide(place: Place, dims: tuple[int, int] | None, policies: Policies) -> Reason:
    """Say whether a place is adapted, and if not why.

    Args:
        place: What was found.
        dims: Values that the adapter of its vector name takes and gives; None without an adapter.
        policies: The user's settings.

    Returns:
        ``Reason.ADAPTED``, or why it stays as it is.

    Raises:
        RefusedError: A policy forbids the request.
    """
    if place.kind in _WITHOUT_VECTOR:
        return _WITHOUT_VECTOR[place.kind]
    return Reason.NO_ROUTE if dims is None else _decide_routed(place, dims, policies)


def _decide_routed(place: Place, dims: tuple[int, int], policies: Policies) -> Reason:
    """Say whether a place that has an adapter is adapted."""
    if place.kind is Kind.INFERENCE:
        _refuse_if(
            policies.inference,
            "the query is embedded by Qdrant itself, out of the adapter's reach; embed it in the "
            "application and send the vector",
        )
        return Reason.INFERENCE
    if place.kind is Kind.UNKNOWN:
        _refuse_if(
            policies.unknown_variant,
            f"unknown kind of query at {name_path(place)}; this version of trimtab can't tell "
            "whether it holds a query vector",
        )
        return Reason.UNKNOWN_VARIANT
    if place.role is Role.EXAMPLE and policies.examples == "never":
        return Reason.EXAMPLE
    if place.kind is Kind.MULTI and policies.multivector == "untouched":
        return Reason.MULTIVECTOR
    return _decide_by_dims(place, dims, policies)


def _decide_by_dims(place: Place, dims: tuple[int, int], policies: Policies) -> Reason:
    """Say whether an adapter fits the vector, or every row of it."""
    rows = place.value if place.kind is Kind.MULTI else (place.value,)
    widths = {len(row) for row in rows}
    if widths == {dims[0]}:
        return Reason.ADAPTED
    if widths == {dims[1]}:
        _refuse_if(
            policies.dims_out_match,
            f"the query at {name_path(place)} has {dims[1]} values, as the index; the adapter "
            f"wants {dims[0]}; embed it with the encoder that the adapter was trained for",
        )
        return Reason.DIMS_OUT_MATCH
    return Reason.DIMS_FIT_NEITHER


def _refuse_if(policy: str, message: str) -> None:
    """Refuse a request where the policy says so."""
    if policy == "refuse":
        raise RefusedError(message)


def name_path(place: Place) -> str:
    """Write where a place is, as in ``searches[2].prefetch.query``."""
    written = "".join(f"[{step}]" if isinstance(step, int) else f".{step}" for step in place.path)
    return written.removeprefix(".") or "the request"
