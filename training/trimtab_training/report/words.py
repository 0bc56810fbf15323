"""Numbers and texts as people read them: on a page, and plainly on a screen and in a card."""

import re

from trimtab_training.evaluation.record import ComparedMetric, Interval, Metric

MINUS = "\N{MINUS SIGN}"

_UNPRINTABLE = re.compile(
    "[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\ud800-\udfff\ufdd0-\ufdef\ufffe\uffff]"
)
_REPLACEMENT = "\N{REPLACEMENT CHARACTER}"


def clean(text: str) -> str:
    """Replace what no HTML file may hold: control characters and halves of surrogate pairs."""
    return _UNPRINTABLE.sub(_REPLACEMENT, text)


def clip(text: str, length: int = 240) -> str:
    """Cut a text to a length, at a space where one is near, on one line."""
    line = " ".join(clean(text).split())
    if len(line) <= length:
        return line
    cut = line[: length - 1]
    space = cut.rfind(" ", length - 20)
    return f"{cut[: space if space > 0 else None].rstrip()}…"


def number(value: float, digits: int = 3) -> str:
    """Write a number with a fixed count of decimals and a true minus sign."""
    text = f"{value:,.{digits}f}"
    if float(text.replace(",", "")) == 0:
        text = text.lstrip("-")
    return text.replace("-", MINUS)


def cell(value: object) -> str:
    """Write a value of any kind into a table: with four decimals where one would lose something."""
    if not isinstance(value, float):
        return str(value)
    return number(value, 1 if round(value, 1) == value else 4)


def signed(value: float, digits: int = 3) -> str:
    """Write a difference: its sign always shows, except on what rounds to 0."""
    text = number(value, digits)
    return text if value <= 0 or float(f"{value:.{digits}f}") == 0 else f"+{text}"


def interval(ends: Interval, digits: int = 3) -> str:
    """Write an interval."""
    return f"{signed(ends[0], digits)} to {signed(ends[1], digits)}"


def p_value(value: float) -> str:
    """Write a p-value; the resamples can't tell those below 0.001 well apart."""
    return "< 0.001" if value < 0.001 else f"{value:.3f}"


def size_name(rank: int) -> str:
    """Name a size of the adapter by the rank of its linear part; 0 is any."""
    return f"rank {rank}" if rank else "whole matrix"


def way_name(way: str) -> str:
    """Name a way to embed queries, as a tuning chose between them."""
    return {
        "adapter": "the encoder, and the adapter",
        "tuned": "the tuned encoder",
        "mean": "both: the mean of their vectors",
    }.get(way, way)


def signs(text: str) -> str:
    """Put a true minus sign before every negative number of a sentence."""
    return re.sub(r"(?<![\w.-])-(?=\d)", MINUS, clean(text))


def after_colon(sentence: str) -> str:
    """Leave out the decision that a verdict's sentence opens with, where it stands above it."""
    rest = sentence.partition(": ")[2] or sentence
    first = rest.split(maxsplit=1)[0] if rest.split() else ""
    return rest[:1].upper() + rest[1:] if first.islower() else rest  # nDCG@10 stays as it is


def metric_cells(metric: Metric | ComparedMetric, *, typeset: bool = False) -> list[str]:
    """Write a row of a table of metrics: values, difference, 95 % interval, p-value.

    Args:
        metric: One metric.
        typeset: As on a page, with true minus signs; else plainly, as on a screen and in a card.
    """
    values = (
        (metric.base, metric.adapted)
        if isinstance(metric, Metric)
        else (metric.raw, metric.a, metric.b)
    )
    low, high = metric.ci95
    if typeset:
        ours = signed(metric.delta, 4), interval(metric.ci95, 4), p_value(metric.p_value)
        return [*(number(value, 4) for value in values), *ours]
    return [
        *(f"{value:.4f}" for value in values),
        f"{metric.delta:+.4f}",
        f"{low:+.4f} to {high:+.4f}",
        f"{metric.p_value:.4f}",
    ]
