"""A source of labels, in one of the formats, to a dataset folder."""

from collections.abc import Callable
from dataclasses import fields
from importlib.metadata import version
from pathlib import Path
from typing import Any

from trimtab_training.data.importers.beir import import_beir
from trimtab_training.data.importers.clicks import import_clicks
from trimtab_training.data.importers.llama_index import import_llama_index
from trimtab_training.data.importers.pairs import import_pairs, import_triplets
from trimtab_training.data.importers.settings import ClickSettings, ImportSettings
from trimtab_training.data.importers.tally import Progress, Tally
from trimtab_training.data.importers.trec import import_trec
from trimtab_training.data.importers.understood import Announce, Understood
from trimtab_training.data.importers.writer import DatasetWriter
from trimtab_training.errors import ConfigError
from trimtab_training.lock import locked

Importer = Callable[[Path, DatasetWriter, ImportSettings], dict[str, Any] | None]

FORMATS: dict[str, Importer] = {
    "beir": import_beir,
    "clicks": import_clicks,
    "trec": import_trec,
    "llama-index": import_llama_index,
    "pairs": import_pairs,
    "triplets": import_triplets,
}

_CLICKS = {one.name for one in fields(ClickSettings)}
_UNUSED_IN = {
    "pairwise": ("propensities", "clip", "relevant_share"),
    "counts": ("propensities", "clip", "min_examined"),
}
_OPTIONS = {"columns": "--column", "header": "--no-header"}
_OF_LABELS = ("beir", "trec")  # read labels by id, and texts from files of their own
_OF_ANY_TEXTS = dict.fromkeys(("id", "title", "text"), ("queries", "documents"))
_OF_ID_TEXTS = {  # the files that a role is of
    "query": ("queries",),
    "query_id": ("queries",),
    "document": ("documents",),
    "document_id": ("documents",),
    **_OF_ANY_TEXTS,
}
_FEW_FILES = 3  # named in a message
_USED_BY = {
    "columns": ("beir", "clicks", "pairs", "trec", "triplets"),
    "corpus": ("beir", "clicks", "pairs", "trec", "triplets"),
    "delimiter": ("beir", "clicks", "pairs", "trec", "triplets"),
    "grades": ("pairs", "triplets"),
    "lists": ("pairs", "triplets"),
    "header": ("clicks", "pairs", "triplets"),
    "queries": ("beir", "trec"),
    "relevant_from": ("beir", "pairs", "trec", "triplets"),
}


def import_labels(
    format_: str,
    source: Path,
    output: Path,
    settings: ImportSettings | None = None,
    *,
    progress: Progress = lambda _what, _done, _all: None,
    announce: Announce = lambda _reading: None,
) -> dict[str, Any]:
    """Read a source and write a BEIR folder; nothing is written unless all of it is.

    Args:
        format_: One of ``FORMATS``.
        source: A file or a folder.
        output: The folder to make; an earlier import's is replaced, and what else is in it stays.
        settings: What the user says about the source.
        progress: Told how much is read.
        announce: Told how each file is understood, before it is read.

    Returns:
        What ``import.json`` says: how the files were understood, rows, what was dropped and why,
        and what was written.

    Raises:
        ConfigError: The format, a column or a setting is unknown.
        DataError: The source can't be read, too much of it can't be used, or something stands at
            the output.
    """
    if format_ not in FORMATS:
        raise ConfigError(f"unknown format {format_!r}; expected {', '.join(FORMATS)}")
    settings = settings or ImportSettings()
    _refuse_unused(format_, settings)
    tally = Tally(settings.max_dropped, progress)
    understood = Understood(announce)
    writing = DatasetWriter(output, tally, understood, force=settings.force)
    with locked(output), writing as writer:
        more = FORMATS[format_](source, writer, settings) or {}
        _refuse_unmet(format_, settings, understood)
        _refuse_without_tables(settings, tally)

        def describe(written: dict[str, Any]) -> dict[str, Any]:
            return {
                "format": format_,
                "source": str(source),
                "trimtab": version("trimtab"),
                "options": settings.as_dict(),
                "understood": understood.as_dict(),
                **tally.as_dict(),
                "written": written,
                **more,
            }

        return writer.finish(
            describe, split_by=settings.split_by, merge_queries=settings.merge_queries
        )


def _refuse_unused(format_: str, settings: ImportSettings) -> None:
    """Refuse what the format has no use for: silently ignored, it would mislead."""
    for name in settings.as_dict():
        formats = _USED_BY.get(name, ("clicks",) if name in _CLICKS else tuple(FORMATS))
        if format_ not in formats:
            option = _OPTIONS.get(name, f"--{name.replace('_', '-')}")
            raise ConfigError(
                f"{option} says nothing about {format_}; it is for {', '.join(formats)}"
            )
        if name in _UNUSED_IN.get(settings.clicks.estimate, ()):
            raise ConfigError(
                f"--{name.replace('_', '-')} says nothing about --estimate "
                f"{settings.clicks.estimate}; leave it out"
            )


def _refuse_without_tables(settings: ImportSettings, tally: Tally) -> None:
    """Refuse options of CSV and TSV where no file was of that kind."""
    for option, is_given in (
        ("--delimiter", settings.delimiter is not None),
        ("--no-header", not settings.header),
    ):
        if is_given and not tally.n_tables:
            names = ", ".join(path.name for path in tally.files[:_FEW_FILES])
            raise ConfigError(f"{option} is for CSV and TSV, and {names} is none: leave it out")


def _refuse_unmet(format_: str, settings: ImportSettings, understood: Understood) -> None:
    """Refuse a column that is given for a file of texts, and that no such file has."""
    roles = _OF_ID_TEXTS if format_ in _OF_LABELS else _OF_ANY_TEXTS
    for role, names in settings.columns.items():
        if format_ in _OF_LABELS and role not in roles:
            raise ConfigError(f"--column {role}=...: no such role; expected {', '.join(roles)}")
        for name in names if role in roles else ():
            files = roles[role]
            if not understood.uses(name, files):
                of = files[0] if len(files) == 1 else "texts"
                raise ConfigError(f"--column {role}={name}: no file of {of} has such a column")
