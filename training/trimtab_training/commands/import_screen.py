"""What `trimtab import` shows: how files are understood, what was kept, and what was not."""

import json
from pathlib import Path
from typing import Any

from rich.table import Table
from rich.text import Text

from trimtab_training.commands.screen import one_line, results, talk, tell_next

_N_RANKS = 10
_N_UNUSED = 8
_EXAMPLE_WIDTH = 160


def show_reading(reading: dict[str, Any]) -> None:
    """Say how a file is understood, before it is read."""
    talk.print(
        f"{reading['file']} is read as {reading['what']}, by its first {reading['rows']:,} rows:",
    )
    lines = [(role, ", ".join(names)) for role, names in reading["columns"].items()]
    if reading["unused"]:
        named = reading["unused"][:_N_UNUSED]
        n_more = len(reading["unused"]) - len(named)
        lines.append(("not used", ", ".join(named) + (f" and {n_more} more" * (n_more > 0))))
    lines += _of_values(reading)
    lines += [("note", note) for note in reading.get("notes", ())]
    for example in reading["examples"]:
        text = json.dumps(example, ensure_ascii=False)
        lines.append(("stored as", one_line(text, _EXAMPLE_WIDTH)))
    table = _plain_table()
    for role, text in lines:
        table.add_row("", role, Text(text))
    talk.print(table)


def show_record(record: dict[str, Any], output: Path) -> None:
    """Print what was kept and what was not."""
    written = record["written"]
    table = Table(box=None, pad_edge=False, header_style="bold")
    for name in ("split", "queries", "labels", "relevant"):
        table.add_column(name, justify="left" if name == "split" else "right")
    for split, counts in written["splits"].items():
        table.add_row(split, *(f"{counts[name]:,}" for name in ("queries", "labels", "relevant")))
    documents = f"{written['documents']:,} documents" if written["documents"] else "no documents"
    results.print(f"{documents}, {written['queries']:,} queries from {record['rows']:,} rows")
    results.print(table)
    for role, text in _of_values(record["understood"]):
        results.print(f"{role}: {text}")
    for line in _about_clicks(record.get("clicks")):
        results.print(line)
    for title, key in (("dropped", "dropped"), ("left out", "left_out"), ("noted", "noted")):
        if record[key]:
            _show_counts(title, record[key])
    results.print(f"made {output}; {output / 'import.json'} says the same")
    tell_next("trimtab", "doctor", output)


def _plain_table() -> Table:
    """Begin a table without a header, indented."""
    table = Table(box=None, pad_edge=False, show_header=False)
    for ratio in (None, None, 1):
        table.add_column(overflow="fold", ratio=ratio)
    return table


def _of_values(facts: dict[str, Any]) -> list[tuple[str, str]]:
    """Write grades and times, where there are any."""
    lines = []
    if facts.get("grades"):
        lines.append(("grades", ", ".join(map(_bar, facts["grades"]))))
    if facts.get("times"):
        lines.append(("times", f"{facts['times']['first']} to {facts['times']['last']}"))
    return lines


def _bar(counted: dict[str, Any]) -> str:
    """Write one bar of a histogram."""
    if "grade" in counted:
        return f"{counted['count']:,} of {counted['grade']:g}"
    return f"{counted['count']:,} from {counted['from']:g} to {counted['to']:g}"


def _about_clicks(facts: dict[str, Any] | None) -> list[str]:
    """Write what a click log said about itself."""
    if facts is None:
        return []
    lines = [f"{facts['clicks']:,} clicks in {facts['searches']:,} searches"]
    if facts["splits_begin"]:
        dev, test = (time or "never" for time in facts["splits_begin"])
        lines.append(f"dev begins {dev}, test {test}")
    if "dev_joined_train" in facts:
        few = facts["dev_joined_train"]
        lines.append(
            f"no dev split: {few['queries']} queries are too few to judge, {few['at_least']} are "
            "enough; their searches joined train"
        )
    if "propensities" in facts:
        shown = ["?" if one is None else f"{one:.2f}" for one in facts["propensities"]]
        shown = shown[:_N_RANKS]
        lines.append(f"ranks 1 to {len(shown)} are looked at with {' '.join(shown)}")
    return lines


def _show_counts(title: str, counts: list[dict[str, Any]]) -> None:
    """Print reasons, most frequent first."""
    table = Table(box=None, pad_edge=False, header_style="bold")
    table.add_column(title, justify="right")
    table.add_column("why")
    table.add_column("first at")
    for one in counts:
        table.add_row(f"{one['count']:,}", Text(one["reason"]), Text(one["first"]))
    results.print(table)
