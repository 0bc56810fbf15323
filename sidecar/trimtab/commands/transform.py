"""`trimtab transform MODEL`: adapt query vectors from a file or from standard input."""

import contextlib
import io
import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

import click
import numpy as np

from trimtab.array_files import ArrayFileError, open_array
from trimtab.errors import QueryError
from trimtab.model.adapter import Adapter


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
        with _open_lines(source) as lines:
            rows = iter(list(_adapt_lines(adapter, lines)))
    else:
        rows = _adapt_lines(adapter, sys.stdin.buffer)
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
    content = io.BytesIO()
    np.save(content, matrix)
    target = target.resolve()  # a link stays a link
    partial = target.with_name(target.name + ".partial")
    try:
        if target.exists() and not target.is_file() and not target.is_dir():
            target.write_bytes(content.getvalue())
            return
        partial.write_bytes(content.getvalue())
        partial.replace(target)
    except OSError as error:
        with contextlib.suppress(OSError):
            partial.unlink(missing_ok=True)
        raise QueryError(f"can't write {target}: {error.strerror or error}") from error


def _open_lines(source: Path) -> BinaryIO:
    """Open a file of lines, or say in one line why not."""
    try:
        return source.open("rb")
    except OSError as error:
        raise QueryError(f"can't read {source}: {error.strerror}") from error


def _load_matrix(source: Path) -> np.ndarray:
    """Read a .npy matrix; arrays of Python objects are refused."""
    try:
        return open_array(source)
    except ArrayFileError as error:
        raise QueryError(f"can't read a matrix from {source}: {error}") from error


def _adapt_lines(adapter: Adapter, lines: BinaryIO) -> Iterator[np.ndarray]:
    """Adapt one JSON list a line, naming the line that is wrong."""
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        try:
            yield adapter.transform(json.loads(line.decode()))
        except UnicodeDecodeError as error:
            raise QueryError(f"line {number} is not UTF-8: {error}") from error
        except QueryError as error:
            raise type(error)(f"line {number}: {error}") from error
        except (ValueError, RecursionError) as error:
            raise QueryError(f"line {number} is not JSON: {error}") from error
