"""`trimtab import FORMAT SOURCE -o DATASET`: labels that exist already, into a dataset folder."""

import json
import math
from dataclasses import fields
from pathlib import Path
from typing import Any

import click

from trimtab_training.commands.options import PATH, Finite, FiniteRange

_FORMATS = ("beir", "clicks", "llama-index", "pairs", "trec", "triplets")


@click.command("import")
@click.argument("format_", metavar="FORMAT", type=click.Choice(_FORMATS))
@click.argument("source", type=PATH)
@click.option("-o", "--output", type=PATH, required=True, help="The dataset folder to make.")
@click.option(
    "--corpus",
    type=PATH,
    metavar="FILE",
    help="Documents with ids: what trec and clicks name; pairs and triplets are mapped onto it.",
)
@click.option(
    "--queries", "--topics", type=PATH, metavar="FILE", help="Queries with ids, for trec and beir."
)
@click.option(
    "--column",
    "columns",
    multiple=True,
    metavar="ROLE=NAME",
    help="Which column holds what, where its name does not tell: query, document, negative, score, "
    "query_id, document_id; docs/labels.md lists all. ROLE= alone: no column has it. Repeatable.",
)
@click.option(
    "--grades",
    metavar="CLASS=GRADE,...",
    help="Pairs: what each class of the score is worth, such as entailment=1,contradiction=0.",
)
@click.option(
    "--lists/--no-lists",
    default=None,
    help="Pairs: cells spelled ['a', 'b'] are lists, or texts.  [default: seen, if all are alike]",
)
@click.option(
    "--delimiter",
    metavar="CHARACTER",
    help="What parts the columns of CSV and TSV, such as ';' or tab.  [default: seen]",
)
@click.option("--no-header", is_flag=True, help="CSV or TSV without names: columns are 1, 2, ...")
@click.option(
    "--relevant-from",
    type=Finite(),
    metavar="SCORE",
    help="Scores below are judged non-relevant, grade 0.  [default: 0 and below]",
)
@click.option(
    "--split",
    type=click.Choice(("train", "dev", "test")),
    default="train",
    show_default=True,
    help="Split of a SOURCE that is one file.",
)
@click.option(
    "--split-by",
    type=click.Choice(("document", "query")),
    help="Write a test split, a fifth, where there is none.  [default: left to `trimtab fit`]",
)
@click.option(
    "--merge-queries",
    is_flag=True,
    help="Join queries of one text, blind to case and outer punctuation, under the first's id.",
)
@click.option(
    "--max-dropped",
    type=FiniteRange(0, 1),
    default=0.1,
    show_default=True,
    metavar="SHARE",
    help="Share of rows that may be unusable; beyond it nothing is written.",
)
@click.option(
    "--estimate",
    type=click.Choice(("examined", "ips", "pairwise", "counts")),
    default="examined",
    show_default=True,
    help="Clicks: over expected examinations, by inverse propensity, compared in a search, or as "
    "they are (no ranks).",
)
@click.option(
    "--propensities",
    type=PATH,
    metavar="FILE",
    help="Clicks: JSON array of how likely ranks 1, 2, ... are looked at.  [default: from the log]",
)
@click.option(
    "--clip",
    type=FiniteRange(0, 1),
    default=0.1,
    show_default=True,
    help="Clicks: least propensity used, so that no click weighs more than its inverse.",
)
@click.option(
    "--min-clicks",
    type=FiniteRange(1),
    default=2,
    show_default=True,
    help="Clicks that a relevant document has at least.",
)
@click.option(
    "--min-examined",
    type=FiniteRange(0),
    default=10,
    show_default=True,
    help="Clicks: expected examinations before a document is judged non-relevant.",
)
@click.option(
    "--relevant-share",
    type=FiniteRange(0, 1),
    default=0.1,
    show_default=True,
    help="Clicks: least estimate of a relevant document, as a share of the query's best.",
)
@click.option(
    "--min-dwell",
    type=FiniteRange(0),
    default=0,
    show_default=True,
    metavar="SECONDS",
    help="Clicks that were left sooner count as none.",
)
@click.option(
    "--dev-share",
    type=FiniteRange(0, 0.5),
    default=0.1,
    show_default=True,
    help="Clicks: share of the searches in the dev split, before the test split.",
)
@click.option(
    "--test-share",
    type=FiniteRange(0, 0.5),
    default=0.2,
    show_default=True,
    help="Clicks: share of the searches in the test split, the latest.",
)
@click.option(
    "--train-until", metavar="TIME", help="Clicks: end of the train split, instead of the shares."
)
@click.option("--dev-until", metavar="TIME", help="Clicks: end of the dev split.")
@click.option(
    "--clicked",
    type=click.Choice(("ids", "mask")),
    help="Clicks: what lists of clicks hold, ids or a flag for each one shown.  [default: told]",
)
@click.option(
    "--ranks-from",
    type=click.Choice(("0", "1")),
    help="Clicks: what the log calls the first rank.  [default: told by the log]",
)
@click.option(
    "--search-id",
    metavar="COLUMN|none",
    help="Clicks: the search's id in logs of one row a document; none: there is none.",
)
@click.option(
    "--time-format",
    metavar="FORM",
    help="Clicks: s, ms, us, ns, excel, or a pattern such as %d/%m/%Y.  [default: told by the log]",
)
@click.option("--time-zone", metavar="ZONE", help="Clicks: zone of times without.  [default: UTC]")
@click.option("--force", is_flag=True, help="Write into a folder that no import made.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
def import_(format_: str, source: Path, output: Path, as_json: bool, **options: Any) -> None:
    """Make a dataset of labels: pairs, judgements, clicks.

    FORMAT says what SOURCE, a file or a folder, holds: `beir`, `trec`, `llama-index` (its QA
    dataset JSON), `pairs`, `triplets` (JSON Lines, CSV, TSV, Parquet), or `clicks` (a search log).
    Streams, so that size does not matter; says what was dropped and why, also in import.json.
    """
    from trimtab_training.commands.import_screen import show_reading, show_record
    from trimtab_training.commands.screen import progress_bar
    from trimtab_training.data.importers import ClickSettings, ImportSettings, import_labels
    from trimtab_training.data.importers.times import check_form

    columns = _parse_columns(options.pop("columns"))
    header = not options.pop("no_header")
    options["grades"] = _parse_grades(options["grades"])
    options["delimiter"] = _parse_delimiter(options["delimiter"])
    for name in ("train_until", "dev_until"):
        options[name] = _parse_time(name, options[name], options["time_zone"])
    options["ranks_from"] = None if options["ranks_from"] is None else int(options["ranks_from"])
    if options["time_format"] is not None:
        check_form(options["time_format"])
    names = {one.name for one in fields(ClickSettings)}
    clicks = ClickSettings(**{name: options.pop(name) for name in names})
    settings = ImportSettings(columns=columns, header=header, clicks=clicks, **options)
    with progress_bar() as show:
        record = import_labels(
            format_, source, output, settings, progress=show, announce=show_reading
        )
    if as_json:
        click.echo(json.dumps(record, indent=2, ensure_ascii=False))
        return
    show_record(record, output)


def _parse_columns(given: tuple[str, ...]) -> dict[str, tuple[str, ...]]:
    """Take ROLE=NAME apart."""
    columns: dict[str, tuple[str, ...]] = {}
    for one in given:
        role, mark, name = one.partition("=")
        if not mark or not role:
            raise click.UsageError(f"--column {one}: expected ROLE=NAME, such as query=anchor")
        columns[role] = (*columns.get(role, ()), *([name] if name else []))
    return columns


def _parse_grades(given: str | None) -> dict[str, float]:
    """Take CLASS=GRADE,... apart."""
    from trimtab_training.data.importers.settings import class_key
    from trimtab_training.data.label_lines import read_number

    grades: dict[str, float] = {}
    for one in given.split(",") if given else ():
        name, _, grade = one.rpartition("=")
        try:
            worth = read_number(grade)
        except ValueError:
            worth = math.nan
        if not name.strip() or not math.isfinite(worth):
            raise click.UsageError(
                f"--grades {given}: expected CLASS=GRADE,..., such as entailment=1,contradiction=0"
            )
        grades[class_key(name)] = worth
    return grades


def _parse_delimiter(given: str | None) -> str | None:
    """Take one character, or the name of one that is hard to type."""
    from trimtab_training.data.importers.table_rows import DELIMITERS

    named = {name: one for one, name in DELIMITERS.items()} | {"\\t": "\t"}
    delimiter = None if given is None else named.get(given, given)
    if delimiter is not None and len(delimiter) != 1:
        raise click.UsageError(
            f"--delimiter {given}: expected one character, or {', '.join(DELIMITERS.values())}"
        )
    return delimiter


def _parse_time(name: str, text: str | None, zone: str | None) -> float | None:
    """Take a moment as the log's times are written, in their zone."""
    from trimtab_training.data.importers.dates import as_zone
    from trimtab_training.data.importers.texts import Unusable
    from trimtab_training.data.importers.times import as_time
    from trimtab_training.errors import DataError

    if text is None:
        return None
    try:
        return as_time(text, None if zone is None else as_zone(zone))
    except (DataError, Unusable) as error:
        raise click.UsageError(
            f"--{name.replace('_', '-')} {text}: expected ISO 8601, such as 2025-03-01T00:00"
        ) from error
