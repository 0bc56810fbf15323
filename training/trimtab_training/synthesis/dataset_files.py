"""The dataset folder: written beside, then swapped in whole."""

import json
import shutil
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from trimtab_training.data.qrels import SPLITS
from trimtab_training.errors import DataError
from trimtab_training.files import beside, refuse_loss, refuse_mount, swap_folder
from trimtab_training.synthesis.candidates import Candidate
from trimtab_training.synthesis.corpus import Corpus
from trimtab_training.synthesis.filters import Filtered
from trimtab_training.synthesis.real import RealQueries
from trimtab_training.synthesis.store import Answer

REPORT = Path("synthesis")
SUMMARY = REPORT / "summary.json"
_OURS = {"corpus.jsonl", "queries.jsonl", "qrels", "synthesis"}
_HEADER = "query-id\tcorpus-id\tscore\n"


def check_output(output: Path, sources: Iterable[Path]) -> None:
    """Refuse a place where something stands that this command did not make.

    Args:
        output: Where the dataset is to be.
        sources: Folders and files that are read.

    Raises:
        ConfigError: It is a mount point.
        DataError: Writing there would destroy something.
    """
    for source in sources:
        if source.resolve() in (output.resolve(), *output.resolve().parents) or (
            output.resolve() in source.resolve().parents
        ):
            raise DataError(f"-o {output} would replace {source}, which is read; name another")
    refuse_mount(output)
    if not output.exists():
        return
    if not (output / SUMMARY).is_file():
        raise DataError(
            f"{output} is there and no dataset of 'trimtab synthesize'; name another folder"
        )
    refuse_loss(output, {entry.name for entry in output.iterdir()} - _OURS)


def write_dataset(
    output: Path,
    corpus: Corpus,
    splits: Mapping[str, Sequence[Candidate]],
    real: RealQueries | None,
    reports: Mapping[str, str],
) -> None:
    """Write the folder.

    Args:
        output: The dataset folder; it appears, or is replaced, once everything is there.
        corpus: Its file is copied byte for byte.
        splits: Written queries by split.
        real: Real queries; their lines are copied as they are.
        reports: Further files by name, for ``synthesis/``.
    """
    work = beside(output, "new")
    if work.exists():
        shutil.rmtree(work)
    (work / "qrels").mkdir(parents=True)
    (work / REPORT).mkdir()
    shutil.copyfile(corpus.path, work / "corpus.jsonl")
    written = [one for candidates in splits.values() for one in candidates]
    lines = [*(real.lines.values() if real else ()), *map(_query_line, written)]
    _write(work / "queries.jsonl", (f"{line}\n" for line in lines))
    for name in SPLITS:
        labels = real.splits.get(name, {}) if real else {}
        rows = [
            *(
                f"{query}\t{doc}\t{grade:g}\n"
                for query, g in labels.items()
                for doc, grade in g.items()
            ),
            *_label_lines(splits.get(name, ()), corpus),
        ]
        if rows:
            _write(work / "qrels" / f"{name}.tsv", (_HEADER, *rows))
    for file_name, content in reports.items():
        _write(work / REPORT / file_name, (content,))
    swap_folder(work, output)


def dropped_lines(filtered: Filtered) -> str:
    """Write what was dropped, one JSON object a line: why, and what stands in its way."""
    return _json_lines(
        {
            "_id": one.candidate.id,
            "text": one.candidate.text,
            "doc_id": one.candidate.doc_id,
            "style": one.candidate.style,
            "reason": one.reason,
            "instead": list(one.instead),
        }
        for one in filtered.dropped
    )


def failure_lines(failures: Iterable[Answer]) -> str:
    """Write what could not be answered, one JSON object a line."""
    return _json_lines(
        {
            "doc_id": one.doc_id,
            "style": one.style,
            "failure": one.failure,
            "answer": one.text,
        }
        for one in failures
    )


def false_negative_lines(filtered: Filtered) -> str:
    """Write what kept queries found before their own document: perhaps relevant, not labelled."""
    rows = [
        f"{query_id}\t{doc_id}\t{rank}\t{score:.6f}\n"
        for query_id, trip in filtered.trips.items()
        for rank, (doc_id, score) in enumerate(trip.above, start=1)
    ]
    return "query-id\tcorpus-id\trank\tscore\n" + "".join(rows)


def _query_line(candidate: Candidate) -> str:
    """Write one query with where it comes from."""
    metadata = {
        "synthetic": True,
        "style": candidate.style,
        "doc_id": candidate.doc_id,
        "model": candidate.model,
    }
    record = {"_id": candidate.id, "text": candidate.text, "metadata": metadata}
    return json.dumps(record, ensure_ascii=False)


def _label_lines(candidates: Iterable[Candidate], corpus: Corpus) -> Iterator[str]:
    """Write the labels: a query's document, and those with the same text."""
    for candidate in candidates:
        for doc_id in corpus.same_text(candidate.doc_id):
            yield f"{candidate.id}\t{doc_id}\t1\n"


def _json_lines(records: Iterable[dict[str, Any]]) -> str:
    """Write one JSON object a line."""
    return "".join(json.dumps(record) + "\n" for record in records)


def _write(path: Path, parts: Iterable[str]) -> None:
    """Write a file piece by piece."""
    with path.open("w", encoding="utf-8") as file:
        file.writelines(parts)
