"""From a finished comparison of two models to one sentence and a yes or no for a scheduled job.

A pure function of the record, so that screen, JSON and exit code say the same.
"""

from dataclasses import dataclass
from typing import Literal, get_args

import msgspec

from trimtab_training.evaluation.per_query import HEADLINE
from trimtab_training.evaluation.record import (
    Compared,
    ComparedMetric,
    Difference,
    GateVerdict,
)
from trimtab_training.evaluation.verdict import (
    MIN_SLICE,
    could_tell,
    difference,
    is_gain,
    moved,
    signed,
    slice_name,
)
from trimtab_training.retrieval.significance import PLAUSIBLE_LOSS, RARE_LOSSES

Decision = Literal["better", "no worse", "worse", "can't tell"]
Requirement = Literal["better", "no-worse"]

REQUIREMENTS: tuple[str, ...] = get_args(Requirement)
PASSES, FAILS, NOT_SHOWN = 0, 3, 4
"""Exit codes of ``--gate``: B may replace A; it must not; these queries can't tell. 1 stays for
failures and 2 for wrong usage."""

_MAX_WANTED = 1_000_000


@dataclass(frozen=True)
class Gate:
    """What is asked of the newer model.

    Attributes:
        requirement: ``no-worse``: it loses at most the margin; ``better``: it gains.
        margin: Loss of nDCG@10 that does not matter.
    """

    requirement: str = "no-worse"
    margin: float = 0.005


def judge(record: Compared, gate: Gate, letter: str = "B") -> GateVerdict:
    """Judge B against A, and against no adapter at all.

    No worse: the 95 % interval of B minus A lies above minus the margin, and so does the lower
    limit that allows for losses too rare for the queries to show. Better: besides, the interval
    lies above 0, and the p-value is at most .05. Worse: the interval lies below 0 and reaches below
    minus the margin. All else, and anything on fewer than
    30 queries with a relevant document, can't be told. Queries without one judge nothing. Nor can
    a model be told from the raw query where that can't be searched with.

    The gate passes where B is as good as required, and no worse than the raw query. It fails where
    B is worse than A or than the raw query, or where a slice of 30 queries or more loses more than
    the margin and more than chance explains. In between it is not shown.

    Args:
        record: What ``trimtab_training.evaluation.compare.compare_models`` has measured.
        gate: What is asked.
        letter: What the newer model is called in words.

    Source:
        Non-inferiority by the interval's lower end: Piaggio et al. (2012), JAMA 308(24),
        doi:10.1001/jama.2012.87802, figure 1.
    """
    record = _judged(record)
    decision = _decide(record.metrics[HEADLINE], record.lower_limits.a, gate.margin)
    if not _is_judged(record):
        decision = "can't tell"
    failures = [] if _is_blind(record) else list(_failures(record, gate, decision))
    doubts = list(_doubts(record, gate, decision))
    code = FAILS if failures else NOT_SHOWN if doubts else PASSES
    return GateVerdict(
        decision=decision,
        sentence=_sentence(decision, record, gate, letter),
        requirement=gate.requirement,
        margin=gate.margin,
        passes=code == PASSES,
        exit_code=code,
        reasons=failures + doubts,
    )


def _decide(found: Difference | ComparedMetric, limit: float, margin: float) -> Decision:
    """Read one difference of B from A, or from the raw query."""
    low, high = found.ci95
    if min(low, limit) >= -margin:
        return "better" if is_gain(found) else "no worse"
    return "worse" if low < -margin and high < 0 else "can't tell"


def _decide_raw(record: Compared, margin: float) -> Decision | None:
    """Read the difference of B from the raw query; None where there is nothing to differ from."""
    raw, limit = record.against_raw.b, record.lower_limits.raw
    return None if raw is None or limit is None else _decide(raw, limit, margin)


def _failures(record: Compared, gate: Gate, decision: Decision) -> list[str]:
    """Name what forbids B."""
    found = []
    if decision == "worse":
        found.append("it is worse than A")
    raw = record.against_raw.b
    if raw and _decide_raw(record, gate.margin) == "worse" and _is_judged(record):
        found.append(f"it is below the raw query: {difference(raw)}")
    for name, part in record.slices.items():
        if part.metrics is None or not MIN_SLICE <= part.n_queries < record.n_queries:
            continue  # too few to tell, or all queries, which are judged above
        metric = part.metrics[HEADLINE]
        if metric.ci95[1] < 0 and metric.delta < -gate.margin:
            found.append(
                f"{part.n_queries} queries about {slice_name(name)} lose: {difference(metric)}"
            )
    return found


def _doubts(record: Compared, gate: Gate, decision: Decision) -> list[str]:
    """Name what has not been shown."""
    found = []
    if decision == "can't tell":
        found.append(f"that it is {gate.requirement.replace('-', ' ')} than A is not shown")
    elif decision == "no worse" and gate.requirement == "better":
        found.append("that it is better than A is not shown")
    raw = record.against_raw.b
    if raw and _decide_raw(record, gate.margin) == "can't tell":
        rare = _rare_losses(raw, record.lower_limits.raw, gate.margin)
        found.append(
            f"that it is no worse than the raw query is not shown: {difference(raw)}{rare}"
        )
    return found


def _judged(record: Compared) -> Compared:
    """Give the record of the queries that judge: those that have a relevant document."""
    answered = record.answered_queries
    if answered and answered.metrics:
        return msgspec.structs.replace(
            record, n_queries=answered.n_queries, metrics=answered.metrics
        )
    return record


def _is_judged(record: Compared) -> bool:
    """Tell whether there are queries enough to conclude anything, and new ones."""
    has_new = record.n_queries >= MIN_SLICE and not record.left_out.is_tainted
    return has_new and not _is_blind(record)


def _is_blind(record: Compared) -> bool:
    """Tell whether one side is the raw query, and that can't be searched with."""
    less_raw = record.against_raw
    return any(
        side.model is None and other is None
        for side, other in ((record.a, less_raw.b), (record.b, less_raw.a))
    )


def _sentence(decision: Decision, record: Compared, gate: Gate, letter: str) -> str:
    """Say what happens to nDCG@10 from A to B, and what that means."""
    metric, n_queries = record.metrics[HEADLINE], record.n_queries
    of = " with a relevant document" if record.answered_queries else ""
    facts = f"{moved(metric, metric.a, metric.b)} on {n_queries:,} {record.split} queries{of}"
    word = {
        "better": f"{letter} is better than A",
        "no worse": f"{letter} is no worse than A, within {gate.margin:g}",
        "worse": f"{letter} is worse than A",
        "can't tell": f"Can't tell {letter} from A",
    }[decision]
    if decision != "can't tell":
        return f"{word}: {facts}."
    if _is_blind(record):
        return (
            f"{word}: the raw query can't be searched with, as it is of another encoder or width "
            f"than the documents; compare {letter} with another model."
        )
    if record.left_out.kept:
        return f"{word}: {facts}, all of which A or {letter} was trained on."
    if record.left_out.may_be_used:
        return f"{word}: {facts}, all of which A or {letter} may have been trained on."
    if n_queries < MIN_SLICE:
        return f"{word}: {facts}, too few for any conclusion; {MIN_SLICE} are the least."
    rare = _rare_losses(metric, record.lower_limits.a, gate.margin)
    could = could_tell(
        metric, metric.delta + gate.margin, n_queries, _MAX_WANTED, PLAUSIBLE_LOSS * RARE_LOSSES
    )
    return f"{word} with so few queries: {facts}{rare}{could}."


def _rare_losses(found: Difference | ComparedMetric, limit: float | None, margin: float) -> str:
    """Say where losses that the queries do not show are all that is in doubt."""
    if limit is None or found.ci95[0] < -margin:
        return ""
    return f", but losses too rare for these queries to show may bring it to {signed(limit)}"
