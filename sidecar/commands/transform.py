"""`trimtab transform MODEL`: adapt query vectors from a file or from standard input."""

import contextlib
import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TextIO

import click
import numpy as np

from sidecar.adapter import Adapter
from sidecar.errors import QueryError


@click.command()
@click.argument("model", type=click.Path())
@click.option(
    "--input",
    "source",
    type=click.Path(path_type=Path),
    help="A .npy matrix, or a file with one JSON list a line.  [default: standard input]",
)
@click.option(
    "-o",
    "--output",
    "target",
    type=click.Path(path_type=Path),
    help="Write a .npy matrix.  [default: JSON lines on standard output]",
)
def transform(model: str, source: Path | None, target: Path | None) -> None:
    """Adapt query vectors with MODEL.

    Reads one JSON list a line, writes one a line.
    """
    adapter = Adapter.load(model)
    if source is not None and source.suffix == ".npy":
        rows = iter([adapter.transform(_load_matrix(source))])
    elif source is not None:
        with _open_text(source) as lines:
            rows = iter(list(_adapt_lines(adapter, lines)))
    else:
        rows = _adapt_lines(adapter, sys.stdin)
    if target is None:
        for row in rows:
            for vector in np.atleast_2d(row):
                click.echo(json.dumps([float(value) for value in vector]))
        return
    adapted = [np.atleast_2d(row) for row in rows]
    if not adapted:
        raise QueryError("no queries came in; expected one JSON list of numbers a line")
    matrix = np.concatenate(adapted)
    _save(matrix, target)
    click.echo(f"wrote {len(matrix)} adapted queries to {target}", err=True)


def _save(matrix: np.ndarray, target: Path) -> None:
    """Write a matrix whole or not at all; what is no plain file, such as a pipe, is written to."""
    partial = target.with_name(target.name + ".partial")
    try:
        if target.exists() and not target.is_file() and not target.is_dir():
            with target.open("wb") as stream:
                np.save(stream, matrix)
            return
        with partial.open("wb") as file:
            np.save(file, matrix)
        partial.replace(target)
    except OSError as error:
        with contextlib.suppress(OSError):
            partial.unlink(missing_ok=True)
        raise QueryError(f"can't write {target}: {error.strerror}") from error


def _open_text(source: Path) -> TextIO:
    """Open a text file, or say in one line why not."""
    try:
        return source.open(encoding="utf-8")
    except OSError as error:
        raise QueryError(f"can't read {source}: {error.strerror}") from error


def _load_matrix(source: Path) -> np.ndarray:
    """Read a .npy matrix; arrays of Python objects are refused."""
    try:
        matrix: np.ndarray = np.load(source, mmap_mode="r", allow_pickle=False)
    except (OSError, ValueError, EOFError) as error:
        raise QueryError(f"can't read a matrix from {source}: {error}") from error
    return matrix


def _adapt_lines(adapter: Adapter, lines: TextIO) -> Iterator[np.ndarray]:
    """Adapt one JSON list a line, naming the line that is wrong."""
    number = 0
    try:
        for number, line in enumerate(lines, start=1):  # noqa: B007 - used in the messages
            if line.strip():
                yield adapter.transform(json.loads(line))
    except UnicodeDecodeError as error:
        raise QueryError(f"{lines.name} is not UTF-8 after line {number}: {error}") from error
    except QueryError as error:
        raise type(error)(f"line {number}: {error}") from error
    except (ValueError, RecursionError) as error:
        raise QueryError(f"line {number} is not JSON: {error}") from error
