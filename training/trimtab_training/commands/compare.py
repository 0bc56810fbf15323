"""`trimtab compare A B [C]... DATASET --embeddings EMB`: is a newer model better?"""

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from trimtab_training.commands.options import PATH, FiniteRange, max_dropped_option

if TYPE_CHECKING:
    from trimtab_training.evaluation.per_query import ComparedExample
    from trimtab_training.evaluation.record import Comparison, GateVerdict

_N_SHOWN = 5
_EXIT_CODES = "0: B may replace A. 3: it must not. 4: these queries can't tell."


@click.command()
@click.argument("models", type=click.Path(), nargs=-1, required=True, metavar="A B [C]...")
@click.argument("dataset", type=PATH)
@click.option("--embeddings", type=PATH, required=True, help="Embeddings folder of the dataset.")
@click.option("--split", default="test", show_default=True, help="train, dev or test.")
@click.option(
    "--margin",
    type=FiniteRange(0, 1),
    default=0.005,
    show_default=True,
    help="Loss of nDCG@10 that does not matter.",
)
@click.option(
    "--gate", is_flag=True, help=f"Answer by exit code, too, for A and B alone. {_EXIT_CODES}"
)
@click.option(
    "--require",
    "requirement",
    type=click.Choice(["no-worse", "better"]),
    default="no-worse",
    show_default=True,
    help="What the gate asks of B: to lose at most the margin, or to gain.",
)
@max_dropped_option
@click.option(
    "-o",
    "--output",
    type=PATH,
    metavar="FOLDER",
    help="Write what every query found and scored, with each model and raw.",
)
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
@click.pass_context
def compare(
    ctx: click.Context,
    /,
    models: tuple[str, ...],
    dataset: Path,
    *,
    as_json: bool,
    gate: bool,
    **options: Any,
) -> None:
    """Compare the newer model B with the older model A.

    Give the models as A B [C]... and then DATASET: model files or folders; the word none stands
    for no adapter. All search DATASET exactly. Queries that any of them was trained on are left
    out. Every further model is compared with A, too, on the same queries.

    With --gate, exit status 1 and 2 stay what they are: a failure, and wrong usage.
    """
    if len(models) < 2:
        raise click.UsageError("name two models or more, and then the dataset: A B DATASET")
    if gate and len(models) > 2:
        raise click.UsageError("--gate answers for one newer model: name A and B alone")
    record = _compare(models, dataset, options)
    if as_json:
        from trimtab_training.evaluation.record import encode_record

        click.echo(encode_record(record), nl=False)
    else:
        for place, each in enumerate([record, *(record.more or [])], start=1):
            _show(each, chr(ord("A") + place))
            _show_verdict(each.verdict, gate=gate)
    if gate:
        ctx.exit(record.verdict.exit_code)


def _compare(models: tuple[str, ...], dataset: Path, options: dict[str, Any]) -> "Comparison":
    """Search, compare, and write what was found where that is wanted."""
    from trimtab_training.commands.screen import talk
    from trimtab_training.data.dataset import Dataset
    from trimtab_training.embeddings.missing_labels import keep_embedded
    from trimtab_training.embeddings.store import Embeddings
    from trimtab_training.evaluation.compare import compare_models
    from trimtab_training.evaluation.evaluate import split_made_for
    from trimtab_training.evaluation.gate import Gate
    from trimtab_training.evaluation.record import note_dropped
    from trimtab_training.evaluation.runs import check_place
    from trimtab_training.evaluation.searched_models import NO_ADAPTER

    output, split = options["output"], options["split"]
    if output:
        check_place(output)
    made_for = [name for name in (*models[1:], models[0]) if name not in NO_ADAPTER]
    data = Dataset.load(dataset, split_by=split_made_for(made_for[0]) if made_for else "document")
    vectors = Embeddings.open(options["embeddings"])
    data, dropped = keep_embedded(data, vectors, options["max_dropped"], splits=(split,))
    asked = Gate(options["requirement"], options["margin"])
    with talk.status("searching with every model and with raw queries"):
        record, runs = compare_models(models, data, vectors, asked, split=split)
    if output:
        runs.write(output)
        talk.print(f"made {output}")
    return note_dropped(record, dropped)


def _show(record: "Comparison", letter: str) -> None:
    """Print the table, who won and lost, the largest changes, and what to know beside."""
    from trimtab_training.commands.screen import metrics_table, results

    for name, side in (("A", record.a), (letter, record.b)):
        mark = f" ({side.model})" if side.model else ""
        results.print(f"{name}  {side.name}{mark}, {side.kind}")
    results.print(metrics_table(record, ("raw", "A", letter, f"{letter} - A"), no_wrap=True))
    results.print(
        f"{letter} against A: {record.wins} queries better, {record.losses} worse, "
        f"{record.ties} the same (nDCG@10)"
    )
    for title, examples in (
        ("largest losses", record.largest_losses),
        ("largest wins", record.largest_wins),
    ):
        if examples:
            results.print(
                f"\n{title} (nDCG@10 and rank of the first answer, A -> {letter})", style="bold"
            )
        for example in examples[:_N_SHOWN]:
            _show_example(example)
    results.print("")
    for note in record.notes:
        results.print(f"note: {note}")


def _show_example(example: "ComparedExample") -> None:
    """Print one query, what it wants, and how far down A and B find it."""
    from trimtab_training.commands.screen import one_line, results

    ranks = " -> ".join(str(rank or "beyond 100") for rank in (example.rank_a, example.rank_b))
    results.print(
        f"  {example.a:.2f} -> {example.b:.2f}, rank {ranks}  {example.query_id}  "
        f"{one_line(example.query, 60)}",
    )
    for wanted in example.relevant[:1]:
        results.print(f"      wanted {wanted.doc_id}  {one_line(wanted.text, 60)}")


def _show_verdict(verdict: "GateVerdict", *, gate: bool) -> None:
    """Print the one sentence, and what the gate makes of it."""
    from trimtab_training.commands.screen import results

    results.print(verdict.sentence, style="bold")
    if not gate:
        return
    word = "passes: B may replace A" if verdict.passes else "does not pass"
    why = f": {'; '.join(verdict.reasons)}" if verdict.reasons else ""
    results.print(f"gate {word}{why} (exit status {verdict.exit_code})", style="bold")
