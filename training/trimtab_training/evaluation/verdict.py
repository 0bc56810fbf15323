"""From a finished evaluation to one sentence: ship, ship with care, or do not ship, and why.

A pure function of the record, so that report, card, screen and JSON say the same. It judges the
queries of the test split that have a relevant document, without those that had a part in the model
where these are known; whether an adapter is worth exporting at all was judged before, on held-out
training queries (``trimtab_training.fit.model_selection``).
"""

import math
from collections.abc import Iterator

import msgspec

from trimtab_training.evaluation.per_query import HEADLINE
from trimtab_training.evaluation.record import (
    ComparedMetric,
    Decision,
    Difference,
    Evaluation,
    Metric,
    Reason,
    Verdict,
    Weight,
)
from trimtab_training.retrieval.significance import SIGNIFICANT, queries_for_error, round_up

MATERIAL_LOSS = 0.005
"""A slice that loses more nDCG@10 than this is named even where chance could explain it; the same
tolerance as in ``trimtab_training.fit.model_selection``."""

MIN_SLICE = 30
"""Queries below which nothing is concluded: a percentile interval of a small sample is too short
(narrowness bias; Hesterberg 2015, doi:10.1080/00031305.2015.1089789)."""

NEAR_ZERO = 0.02
"""Raw queries that score no more, or no more than twice what an order of chance does, find nothing:
they may be of another encoder than the documents."""

RECALL_LOSS = 0.01
"""Recall@10 of the approximate index that adapted queries may lose against raw ones."""

_MAX_WANTED = 100_000
_ORDER: tuple[Weight, ...] = ("blind", "stop", "care", "good", "note")
_HEAVIEST: dict[Decision, Weight] = {
    "do not ship": "stop",
    "can't tell": "blind",
    "ship with care": "care",
    "ship": "care",
}
_NAMES = {
    "ndcg@10": "nDCG@10",
    "mrr@10": "MRR@10",
    "hit@10": "hit rate at 10",
    "recall@100": "recall@100",
}


def decide(record: Evaluation) -> Verdict:
    """Decide whether to ship a model.

    It stops where the fit found no adapter that helps, where the interval of the test gain lies
    below 0, or where a test without a fit behind it shows no gain. It can't tell where the model
    was trained on the queries, or may have been. It ships where that interval lies above 0, the
    p-value is at most .05 and nothing calls for care. All else is shipped with care.

    Args:
        record: An evaluation; ``fit`` and ``approximate`` are heard where they are there.
    """
    reasons = sorted(_reasons(record), key=lambda reason: _ORDER.index(reason.weight))
    weights = {reason.weight for reason in reasons}
    decision: Decision = "ship"
    if "blind" in weights:  # whatever the queries say
        decision = "can't tell"
    elif "stop" in weights:
        decision = "do not ship"
    elif "care" in weights:
        decision = "ship with care"
    return Verdict(
        decision=decision,
        sentence=_sentence(decision, _judged(record), reasons),
        reasons=reasons,
    )


def metric_name(key: str) -> str:
    """Write a metric as people do."""
    return _NAMES.get(key, key)


def slice_name(key: str) -> str:
    """Write a slice as people do: ``unseen_documents`` is "unseen documents"."""
    return key.replace("_", " ")


def difference(metric: Difference | Metric | ComparedMetric) -> str:
    """Write a difference with its interval."""
    low, high = metric.ci95
    return f"{signed(metric.delta)} ({signed(low)} to {signed(high)})"


def moved(metric: Metric | ComparedMetric, before: float, after: float) -> str:
    """Write what happens to nDCG@10, with the interval of the difference."""
    low, high = metric.ci95
    verb = "rises" if metric.delta > 0 else "falls" if metric.delta < 0 else "stays"
    return (
        f"nDCG@10 {verb} from {before:.3f} to {after:.3f} "
        f"({signed(metric.delta)}, 95 % interval {signed(low)} to {signed(high)})"
    )


def is_gain(metric: Difference | Metric | ComparedMetric) -> bool:
    """Tell whether a rise is more than chance explains.

    Interval and p-value must both say so: the interval alone is too short where few queries change
    (Hesterberg 2015). A loss is one by its interval alone: doubt is no reason to pass over it.
    """
    return metric.ci95[0] > 0 and metric.p_value <= SIGNIFICANT


def could_tell(
    metric: Metric | ComparedMetric,
    gain: float,
    n_queries: int,
    most: int,
    rare_losses: float = 0.0,
) -> str:
    """Say how many queries could tell a gain from none; nothing where that is out of reach.

    Args:
        metric: What ``n_queries`` have shown.
        gain: The gain.
        n_queries: Queries that have not told it.
        most: More queries than this are out of reach.
        rare_losses: What losses that no query has shown may take from the mean, times the queries.
    """
    low, high = metric.ci95
    half = (high - low) / 2
    if gain <= 0 or n_queries * (half / gain) ** 2 + rare_losses / gain > most:
        return ""
    wanted = queries_for_error(n_queries, half, gain) + math.ceil(rare_losses / gain)
    return f"; about {round_up(wanted):,} could" if wanted > n_queries else ""


def signed(value: float) -> str:
    """Write a difference to three decimals with its sign; what rounds to 0 has none."""
    text = f"{value:+.3f}"
    return text if float(text) else text[1:]


def _reason(weight: Weight, text: str) -> Reason:
    return Reason(weight=weight, text=text)


def _reasons(record: Evaluation) -> Iterator[Reason]:
    """Gather all that speaks for and against; a model that changes nothing needs no more."""
    if record.fit and not record.fit.helps:
        yield _reason("stop", "the fit found no adapter that beats the raw query")
    elif record.wins == record.losses == 0:
        yield _reason("stop", "it changes nDCG@10 for no query")
    else:
        judged = _judged(record)
        yield from _from_split(record)
        yield from _from_gain(judged)
        yield from _from_slices(judged)
        yield from _from_other_metrics(judged)
        yield from _from_index(record)
    yield from _from_tuning(record)
    yield from _from_second_look(record)


def _from_split(record: Evaluation) -> Iterator[Reason]:
    """Distrust queries that had a part in making the model; where others are known, they judge."""
    is_used = record.fresh_queries is not None and not record.fresh_queries.n_queries
    if record.n_used is None or is_used:
        yield from _from_used(record, is_used)
    if record.n_synthetic:
        yield _reason(
            "care",
            f"an LLM wrote {record.n_synthetic:,} of the {record.n_queries:,} {record.split} "
            "queries: scores on these are not scores on real ones",
        )


def _from_used(record: Evaluation, is_used: bool) -> Iterator[Reason]:
    """Judge queries that all had a part in the model, or of which that is not known."""
    if record.split == "train":
        yield _reason("blind", "these are training queries, which prove nothing; use --split test")
    elif record.split == "dev" and record.fit and record.is_own:
        if "dev" in record.fit.training_splits:
            yield _reason("blind", "it was trained on the dev split, too; use --split test")
        else:
            yield _reason("care", "these are the queries it was chosen by, which flatter it")
    elif is_used:
        yield _reason(
            "blind",
            "the model was trained on or chosen by every one of these queries; give labels that "
            "it has not seen",
        )
    elif record.split_is_made:
        yield _reason(
            "blind",
            "the dataset has a single split, so its test split was made of it, and what the model "
            "was trained on is not known: it may have seen them all. Give labels that it has "
            "not seen, as qrels/test.tsv or qrels/dev.tsv (--split dev)",
        )
    elif record.split == "dev":
        yield _reason("note", "whether it was chosen by these queries is not known")


def _judged(record: Evaluation) -> Evaluation:
    """Give the record of the queries that judge: answered ones, known to have had no part."""
    fresh, answered = record.fresh_queries, record.answered_queries
    if fresh and fresh.metrics:
        return msgspec.structs.replace(
            record, n_queries=fresh.n_queries, metrics=fresh.metrics, slices=fresh.slices
        )
    if answered and answered.metrics:
        return msgspec.structs.replace(
            record, n_queries=answered.n_queries, metrics=answered.metrics
        )
    return record


def _from_gain(record: Evaluation) -> Iterator[Reason]:
    """Judge the gain of all queries together."""
    metric, n_queries = record.metrics[HEADLINE], record.n_queries
    low, high = metric.ci95
    if record.is_comparable and metric.base <= max(NEAR_ZERO, 2 * record.chance):
        yield _reason(
            "care",
            f"raw queries find next to nothing (nDCG@10 {metric.base:.3f}, an order of chance "
            f"{record.chance:.3f}): if they are of another encoder than the documents, fit with "
            "--use migration, so that a query that can't be adapted is refused and never sent raw",
        )
    if not record.is_comparable:
        yield _reason(
            "care",
            "raw queries can't be searched with, as they are of another encoder: there is no base "
            "to compare with",
        )
    elif high < 0:
        yield _reason("stop", f"nDCG@10 falls: {difference(metric)}")
    elif metric.delta <= 0 and not record.fit:
        yield _reason("stop", f"nDCG@10 does not rise: {difference(metric)}")
    elif low > 0 and n_queries < MIN_SLICE:
        yield _reason("care", f"{n_queries} queries are too few to trust the interval of the gain")
    elif is_gain(metric):
        yield _reason("good", f"nDCG@10 rises: {difference(metric)}, more than chance explains")
    elif low > 0:
        yield _reason(
            "care",
            f"too few of the {n_queries} queries change to tell the gain from chance: "
            f"p = {metric.p_value:.3f}, though its interval lies above 0",
        )
    else:
        yield _reason("care", _too_few(metric, n_queries))


def _too_few(metric: Metric, n_queries: int) -> str:
    """Say that a test can't tell, by how much, and how many queries could."""
    low, high = metric.ci95
    could = could_tell(metric, metric.delta, n_queries, _MAX_WANTED)
    return (
        f"{n_queries} queries can't tell the change from chance: {signed(metric.delta)}, "
        f"give or take {(high - low) / 2:.3f}{could}{', for a gain of this size' if could else ''}"
    )


def _from_slices(record: Evaluation) -> Iterator[Reason]:
    """Judge each slice that has queries enough to tell; one that is the whole was judged before."""
    for key, part in record.slices.items():
        name, n_queries = slice_name(key), part.n_queries
        if n_queries == record.n_queries:
            continue
        if part.metrics is None or n_queries < MIN_SLICE:
            yield _reason("note", f"{n_queries or 'no'} queries about {name}: too few to judge")
            continue
        metric = part.metrics[HEADLINE]
        change = f"{n_queries} queries about {name}: nDCG@10 {difference(metric)}"
        if not record.is_comparable:
            continue
        if metric.ci95[1] < 0:
            yield _reason("care", f"a slice loses: {change}")
        elif metric.delta < -MATERIAL_LOSS:
            yield _reason("care", f"a slice may lose: {change}")
        elif is_gain(metric):
            yield _reason("good", f"a slice gains: {change}")
        else:
            yield _reason("note", f"a slice stays as it is, as far as can be told: {change}")


def _from_other_metrics(record: Evaluation) -> Iterator[Reason]:
    """Name any other metric that falls by more than chance explains."""
    for name, metric in record.metrics.items():
        if name != HEADLINE and metric.ci95[1] < 0:
            yield _reason("care", f"{metric_name(name)} falls: {difference(metric)}")


def _from_index(record: Evaluation) -> Iterator[Reason]:
    """Judge whether the index as it is served finds what exact search finds."""
    sweep = record.approximate
    if sweep is None:
        return
    raw, adapted = sweep.raw_recall_at_served, sweep.adapted_recall_at_served
    served = f"{sweep.parameter} {sweep.served_value}"
    if raw - adapted <= RECALL_LOSS:
        yield _reason(
            "good",
            f"the {sweep.kind} index keeps its recall at {served}: "
            f"{raw:.3f} with raw queries, {adapted:.3f} with adapted ones",
        )
        return
    if sweep.restores is None:
        cure = f"no {sweep.parameter} that was tried restores it"
    else:
        cure = f"raise {sweep.parameter} to {sweep.restores}"
    yield _reason(
        "care",
        f"recall of the {sweep.kind} index falls from {raw:.3f} to {adapted:.3f} at {served}: "
        f"{cure}",
    )


def _from_tuning(record: Evaluation) -> Iterator[Reason]:
    """Say beside the adapter's verdict what the tuned encoder of its queries does."""
    tuning = record.tuning
    if tuning is None:
        return
    if tuning.test is None:
        yield _reason(
            "note", f"the encoder of queries was tuned, too: {tuning.verdict.rstrip('.')}"
        )
        return
    metric, than = (
        tuning.test.metrics[HEADLINE],
        "the adapter" if record.has_model else "raw queries",
    )
    beats = is_gain(metric)
    verb = "beats" if beats else "loses to" if metric.ci95[1] < 0 else "can't be told from"
    yield _reason(
        "good" if beats else "note",
        f"query.onnx, the encoder of queries tuned, {verb} {than} on {tuning.test.queries}: "
        f"nDCG@10 {metric.b:.3f} against {metric.a:.3f}, {difference(metric)}",
    )


def _from_second_look(record: Evaluation) -> Iterator[Reason]:
    """Say beside the adapter's verdict what its second look does; it is judged apart."""
    look = record.second_look
    if look is None:
        if record.fit and (tried := record.fit.second_look):
            yield _reason("note", tried.verdict[0].lower() + tried.verdict[1:].rstrip("."))
        return
    metric = look.test.metrics[HEADLINE]
    beats = is_gain(metric)
    verb = "beats" if beats else "loses to" if metric.ci95[1] < 0 else "can't be told from"
    yield _reason(
        "good" if beats else "note",
        f"a second look at the best {look.depth} documents, where search happens in process, {verb}"
        f" the adapter alone on {look.test.queries}: nDCG@10 {metric.b:.3f} against "
        f"{metric.a:.3f}, {difference(metric)}",
    )


def _sentence(decision: Decision, record: Evaluation, reasons: list[Reason]) -> str:
    """Put decision, gain and the heaviest reasons into one sentence."""
    heaviest = [reason.text for reason in reasons if reason.weight == _HEAVIEST[decision]]
    word = decision.capitalize()
    if decision == "can't tell":
        return f"{word}: {'; '.join(heaviest)}."
    if decision == "do not ship":
        keep = "keep the raw queries"
        if record.tuning and record.tuning.test:
            keep += ", or serve query.onnx, which is judged apart"
        return f"{word}: {'; '.join(heaviest)}; {keep}."
    gain = _gain(record)
    if decision == "ship":
        sizes = [part.n_queries for part in record.slices.values()]
        is_judged = any(MIN_SLICE <= size < record.n_queries for size in sizes)
        return f"{word}: {gain}{', and no slice shows a loss' if is_judged else ''}."
    return f"{word}: {gain}, but {'; '.join(heaviest)}."


def _gain(record: Evaluation) -> str:
    """Say what happens to nDCG@10, and on how many queries."""
    metric = record.metrics[HEADLINE]
    on = f"on {record.n_queries:,} {record.split} queries"
    if record.fresh_queries and record.fresh_queries.n_queries == record.n_queries:
        on += " that had no part in the model"
    elif record.answered_queries:
        on += " with a relevant document"
    if not record.is_comparable:
        return f"nDCG@10 is {metric.adapted:.3f} {on}"
    return f"{moved(metric, metric.base, metric.adapted)} {on}"
