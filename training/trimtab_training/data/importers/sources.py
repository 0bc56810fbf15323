"""Files of any usual kind as a stream of rows: JSON Lines, JSON, CSV, TSV, Parquet; also gzipped.

A row that can't be read is dropped and counted, and the next one is read. What a file means is
decided by its first thousand rows, not by one: exports leave out what is empty.
"""

import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

from trimtab_training.data.importers.columns import is_missing
from trimtab_training.data.importers.json_rows import Row, read_json
from trimtab_training.data.importers.parquet_rows import parquet_classes, read_parquet
from trimtab_training.data.importers.table_rows import read_table
from trimtab_training.data.importers.tally import Tally
from trimtab_training.data.importers.understood import SAMPLE_ROWS
from trimtab_training.data.qrels import names_a_split
from trimtab_training.errors import DataError

SUFFIXES = {
    ".jsonl": "jsonl",
    ".ndjson": "jsonl",
    ".json": "json",
    ".csv": "csv",
    ".tsv": "tsv",
    ".tab": "tsv",
    ".parquet": "parquet",
    ".pq": "parquet",
}
SPLIT_OF_STEM = {"train": 0, "dev": 1, "val": 1, "test": 2}
_STEM = re.compile(  # train.tsv, train-00000-of-00002.parquet, trainset.json; not trainers.csv
    r"(?P<stem>train|dev|val|test)(?:ing|elopment|id|idation)?"
    r"(?:[-_ ]?(?:set|data|split))?(?![a-z])"
)
_SHARD = re.compile(r"(?P<start>.*[-_.])(?P<number>\d+)-of-(?P<total>\d+)(?!\d)")
_COPY = re.compile(r"\(\d+\)|[-_. ](?:copy|bak|backup|old|orig|original|tmp)(?![a-z])")


@dataclass(frozen=True)
class Sample:
    """The first rows of a file.

    Attributes:
        names: Every column that one of them has, in the order of appearance.
        rows: The rows.
        is_whole: Whether the file has no others.
        classes: Names of the classes that a column holds as numbers, where the file says so.
    """

    names: tuple[str, ...]
    rows: tuple[Row, ...]
    is_whole: bool
    classes: dict[str, list[str]]

    def has_values(self, name: str) -> bool:
        """Tell whether a column is more than empty."""
        return any(not is_missing(record.get(name)) for _, record in self.rows)


def kind_of(path: Path) -> str | None:
    """Tell a file's kind by its name, or None."""
    suffixes = [suffix.lower() for suffix in path.suffixes]
    if suffixes and suffixes[-1] == ".gz":
        suffixes.pop()
    return SUFFIXES.get(suffixes[-1]) if suffixes else None


def files_by_split(
    source: Path,
    split: int,
    *,
    is_known: Callable[[Path], object] = kind_of,
    kinds: Sequence[str] = tuple(SUFFIXES),
) -> list[tuple[int, Path]]:
    """Find the files to read and the split of each.

    Args:
        source: A file, or a folder whose files' names begin with train, dev, val(idation) or test.
        split: Split of a single file.
        is_known: Tells by its name whether a file can be read.
        kinds: The endings of such names, for messages.

    Raises:
        DataError: Nothing is there, the folder has no such file, one that may be a copy of
            another, or shards of which some are missing.
    """
    if source.is_file():
        return [(split, source)]
    if not source.is_dir():
        raise DataError(f"nothing to read at {source}; expected a file or a folder")
    found = [
        (SPLIT_OF_STEM[stem], path)
        for path in sorted(source.iterdir())
        if (stem := _stem_of(path)) and is_known(path) and path.is_file()
    ]
    if not found:
        raise DataError(
            f"{source} has no file that begins with train, dev, validation or test and ends with "
            f"{', '.join(kinds)}; name a file instead"
        )
    for number in set(SPLIT_OF_STEM.values()):
        _refuse_copies([path for of, path in found if of == number])
    _refuse_missing_shards([path for _, path in found])
    return sorted(found, key=lambda item: item[0])


def left_aside(source: Path, files: Sequence[tuple[int, Path]]) -> list[str]:
    """Name a folder's files that are called like a split's and are not read: train.tsv.bak."""
    if not source.is_dir():
        return []
    read = {path for _, path in files}
    names = [path.name for path in sorted(source.iterdir()) if path.is_file() and path not in read]
    stems = tuple(SPLIT_OF_STEM)
    return [
        name
        for name in names
        if name.lower().lstrip("._~#").startswith(stems) or names_a_split(name)
    ]


def sample_rows(
    path: Path,
    *,
    header: bool = True,
    delimiter: str | None = None,
    n_rows: int = SAMPLE_ROWS,
    kind: str | None = None,
) -> Sample:
    """Read the first rows of a file, to see what it means.

    Raises:
        ConfigError: As ``read_rows``.
        DataError: As ``read_rows``.
    """
    stream = read_rows(path, Tally(), header=header, delimiter=delimiter, kind=kind)
    rows = tuple(islice(stream, n_rows))
    is_whole = next(stream, None) is None
    names = dict.fromkeys(name for _, record in rows for name in record)
    classes = parquet_classes(path) if kind_of(path) == "parquet" else {}
    return Sample(tuple(names), rows, is_whole, classes)


def read_rows(
    path: Path,
    tally: Tally,
    *,
    header: bool = True,
    delimiter: str | None = None,
    wanted: Sequence[str] | None = None,
    kind: str | None = None,
) -> Iterator[Row]:
    """Yield every row of a file with its place.

    Args:
        path: A file.
        tally: Counts rows, and those that can't be read.
        header: Whether the first line of CSV and TSV names the columns.
        delimiter: What parts the columns of CSV and TSV, where the file does not tell.
        wanted: Columns that are needed; of Parquet, no other is read.
        kind: One of the kinds of ``SUFFIXES``; None: the file's name tells.

    Raises:
        ConfigError: A Parquet file, and pyarrow is not installed.
        DataError: The file can't be read, or is of another kind.
    """
    kind = kind or kind_of(path)
    if kind is None:
        raise DataError(
            f"can't tell the format of {path.name}; expected a name ending with "
            f"{', '.join(SUFFIXES)} (also with .gz)"
        )
    if kind == "parquet":
        yield from read_parquet(path, tally, wanted)
    elif kind in {"csv", "tsv"}:
        yield from read_table(path, tally, kind, header=header, delimiter=delimiter)
    else:
        yield from read_json(path, tally)


def _stem_of(path: Path) -> str | None:
    """Tell whose split a file is, by the beginning of its name."""
    found = _STEM.match(path.name.lower())
    return found["stem"] if found else None


def _refuse_copies(files: Sequence[Path]) -> None:
    """Refuse files of one split of which one may be a copy of another.

    Raises:
        DataError: With both readings.
    """
    by_name: dict[str, Path] = {}
    for path in files:
        plain = path.name.lower().partition(".")[0] if not _is_numbered(path) else path.name
        other = by_name.setdefault(plain, path)
        marked = _COPY.search(path.name.lower()) and len(files) > 1
        if other != path or marked:
            other = other if other != path else next(one for one in files if one != path)
            raise DataError(
                f"{path.parent}: is {path.name} a copy of {other.name}, or are both to be read? "
                "Move the copy away, or join them under one name"
            )


def _refuse_missing_shards(files: Sequence[Path]) -> None:
    """Refuse files such as train-00000-of-00003.parquet where others of the set are not there.

    Raises:
        DataError: With the first that is missing.
    """
    sets: dict[tuple[str, str], dict[int, str]] = {}
    for path in files:
        if shard := _SHARD.match(path.name):
            numbers = sets.setdefault((shard["start"], shard["total"]), {})
            numbers[int(shard["number"])] = shard["number"]
    for (start, total), numbers in sets.items():
        first = 1 if int(total) in numbers else 0
        wanted = range(first, int(total) + first)
        missing = [number for number in wanted if number not in numbers]
        if missing:
            width = len(next(iter(numbers.values())))
            raise DataError(
                f"{files[0].parent}: {start}{missing[0]:0{width}}-of-{total} is not there, "
                f"{len(missing)} of {len(wanted)} such files are missing; get them, or take "
                f"-of-{total} out of the others' names if they are all that is to be read"
            )


def _is_numbered(path: Path) -> bool:
    """Tell a name whose parts are counted: train.1.jsonl and train.2.jsonl are no copies."""
    return any(part.isdigit() for part in path.name.split(".")[1:])
