"""`trimtab doctor DATASET`: is it fit to train on, and honest to test on?"""

import json
from pathlib import Path
from typing import TYPE_CHECKING

import click

from trimtab_training.commands.options import PATH, FiniteRange

if TYPE_CHECKING:
    from trimtab_training.doctor import Diagnosis


@click.command()
@click.argument("dataset", type=PATH)
@click.option("--embeddings", type=PATH, help="Embeddings folder of the dataset.")
@click.option(
    "--difference",
    type=FiniteRange(0, 1, min_open=True),
    default=0.01,
    show_default=True,
    help="Difference in nDCG@10 that matters: is it told from chance, can leaks make it?",
)
@click.option(
    "--model",
    type=PATH,
    help="Model folder whose evaluation says how far differences spread.  [default: a guess]",
)
@click.option(
    "--similarity",
    type=click.Choice(("cosine", "dot", "euclid")),
    default="cosine",
    show_default=True,
    help="How the index compares vectors.",
)
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
def doctor(
    dataset: Path,
    embeddings: Path | None,
    difference: float,
    model: Path | None,
    similarity: str,
    as_json: bool,
) -> None:
    """Examine DATASET: leaks, gaps, broken vectors, size.

    Exits 1 where a fit would be impossible or its figures dishonest, else 0.
    """
    from trimtab_training.commands.screen import talk
    from trimtab_training.doctor import examine

    with talk.status("examining") as status:
        found = examine(
            dataset,
            embeddings,
            model=model,
            difference=difference,
            similarity=similarity,
            on_stage=lambda what: status.update(f"examining {what}"),
        )
    if as_json:
        click.echo(json.dumps(found.as_dict(), indent=2, ensure_ascii=False))
    else:
        _show(found)
        _show_next(found, dataset, embeddings)
    if not found.is_usable:
        click.get_current_context().exit(1)


def _show(found: "Diagnosis") -> None:
    """Print counts, figures, and what was found."""
    from rich.table import Table
    from rich.text import Text

    from trimtab_training.commands.screen import results

    counts = found.counts
    results.print(
        f"{found.dataset}: {counts['documents']:,} documents, {counts['queries']:,} queries",
        style="bold",
    )
    table = Table(box=None, pad_edge=False, header_style="bold")
    names = ("queries", "labels", "relevant", "documents")
    for name in ("split", *names):
        table.add_column(name, justify="left" if name == "split" else "right")
    for split, numbers in counts["splits"].items():
        table.add_row(split, *(f"{numbers[name]:,}" for name in names))
    results.print(table)
    for line in _figures(found):
        results.print(line)
    shown = Table(box=None, pad_edge=False, show_header=False, padding=(0, 1, 0, 0))
    shown.add_column(no_wrap=True)
    shown.add_column()
    styles = {"error": "bold red", "warning": "yellow", "note": "dim"}
    for one in found.findings:
        told = Text(one.message)
        if one.advice:
            told.append(f"\n→ {one.advice}", style="italic")
        shown.add_row(Text(one.severity, style=styles[one.severity]), told)
    if found.findings:
        results.print()
        results.print(shown)


def _figures(found: "Diagnosis") -> list[str]:
    """Write the figures that are not findings."""
    counts, lines = found.counts, []
    n_unseen = counts["test_queries_about_unseen_documents"]
    n_test = n_unseen + counts["test_queries_about_seen_documents"]
    if n_test:
        lines.append(
            f"{n_unseen:,} of {n_test:,} answered test queries ({n_unseen / n_test:.0%}) are about "
            "documents that no training query is about"
        )
    if found.base:
        base = found.base
        sample = "" if base.n_queries == n_test else f" ({base.n_queries:,} drawn)"
        lines.append(
            f"raw queries: nDCG@10 {base.ndcg:.4f} (95 % interval {base.low:.4f} to "
            f"{base.high:.4f}), recall@100 {base.recall:.4f}{sample}"
        )
    if found.power:
        power = found.power
        lines.append(
            f"smallest difference that the test split tells: {power.detectable:.4f} (80 % power; "
            f"spread {power.spread:.2f}, {power.source})"
        )
    return lines


def _show_next(found: "Diagnosis", dataset: Path, embeddings: Path | None) -> None:
    """Say in one line whether to go on, and with what."""
    from trimtab_training.commands.screen import results, tell_next

    n_errors = sum(one.severity == "error" for one in found.findings)
    n_warnings = sum(one.severity == "warning" for one in found.findings)
    told = f"{_plural(n_errors, 'error')}, {_plural(n_warnings, 'warning')}"
    results.print(f"\n{'not usable' if n_errors else 'usable'}: {told}", style="bold")
    if n_errors:
        return
    place = embeddings or f"{dataset}/embeddings"
    if embeddings:
        model = f"models/{found.dataset}"
        tell_next("trimtab", "fit", dataset, "--embeddings", place, "-o", model)
    else:
        tell_next("trimtab", "embed", dataset, "-o", place)


def _plural(count: int, word: str) -> str:
    """Count in words."""
    return f"{count or 'no'} {word}{'' if count == 1 else 's'}"
