"""Texts to an embeddings folder, resumable: what an interrupted run paid for is not paid for again.

Every batch is appended to a journal the moment it comes, each vector under the digest of its text.
An interrupted run, or one over a changed corpus, embeds only what the journal lacks.
"""

import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import NamedTuple

from trimtab.array_files import open_array
from trimtab_training.data.dataset import Dataset
from trimtab_training.embeddings.embed_texts import (
    Progress,
    Tell,
    embed_texts,
    open_journal,
)
from trimtab_training.embeddings.encoders import Encoder, describe_encoder
from trimtab_training.embeddings.partial_read import forget_read
from trimtab_training.embeddings.place import ENCODER, OWN, check_place
from trimtab_training.embeddings.qdrant_source import QdrantAccess
from trimtab_training.embeddings.query_vectors import NamedQueries
from trimtab_training.embeddings.store import EncoderInfo, check_unique, check_vectors, write_ids
from trimtab_training.embeddings.stored_documents import (
    Stored,
    as_stored,
    check_documents,
    checked_by_labels,
    copy_source,
    dim_of,
    open_source,
)
from trimtab_training.errors import DataError
from trimtab_training.files import beside, empty, keep_others, swap_folder
from trimtab_training.lock import locked


def embed_dataset(  # noqa: PLR0913 - texts in, folder out, and two ways to watch
    dataset: Dataset,
    encoder: Encoder,
    output: Path,
    *,
    documents: str | Stored | None = None,
    qdrant: QdrantAccess | None = None,
    progress: Progress = lambda _what, _done, _all: None,
    tell: Tell = lambda _text: None,
) -> EncoderInfo:
    """Make an embeddings folder for a dataset.

    Args:
        dataset: Texts of queries and documents.
        encoder: Embeds the queries, and the documents where they are not stored elsewhere.
        output: The folder; it appears, or is replaced, once everything is there. What else is in
            it stays.
        documents: Stored document vectors to copy instead; a source's name alone is for queries
            of the documents' own encoder.
        qdrant: Key and path for a Qdrant source.
        progress: Called after every batch.
        tell: Told how many labelled documents are not among the stored ones, and where what an
            endpoint gave an earlier run is of no use.

    Returns:
        What ``encoder.json`` says.

    Raises:
        DataError: An id stands twice, the stored vectors don't fit, a vector can't be used, another
            run makes the folder, or something would be lost there.
        EncoderError: The encoder fails; what it gave so far is kept for the next run.
    """
    check_place(output, dataset.folder)
    given = documents, qdrant or QdrantAccess()
    with locked(output), _working(output) as work:
        info, more = _embed(dataset, encoder, work, given, progress, tell)
        info.save(work.new / ENCODER, **more)
    return info


def _embed(
    dataset: Dataset,
    encoder: Encoder,
    work: "_Work",
    given: tuple[str | Stored | None, QdrantAccess],
    progress: Progress,
    tell: Tell,
) -> tuple[EncoderInfo, dict[str, object]]:
    """Embed into a place that is held for this run alone; describe what is there."""
    (documents, qdrant), (kept, new) = given, work
    query_ids, query_texts = _gather(dataset.iter_queries(), "queries")
    more: dict[str, object] = {}
    if documents is None:
        document_ids, texts = _gather(dataset.iter_documents(), "documents")
        journal = open_journal(encoder, "document", texts, kept, tell)
        embed_texts(encoder, "document", texts, new / "documents.npy", journal, progress)
        journal = open_journal(encoder, "query", query_texts, kept, tell)
    else:
        stored = as_stored(documents)
        source = open_source(stored.source, qdrant)
        stored_dim = dim_of(source)
        journal = open_journal(encoder, "query", query_texts, kept, tell)
        target = new / "queries.npy"
        _, dim = embed_texts(encoder, "query", query_texts[:1], target, journal, _say_nothing)
        stored.check_dim(stored_dim, dim, f"encoder {encoder.name}")
        known = checked_by_labels(dataset, stored.source, tell)
        document_ids, facts = copy_source(source, kept, new / "documents.npy", progress, known)
        more = {"documents": facts, "use": stored.use}
    normalised = check_documents(new / "documents.npy", document_ids, kept)
    write_ids(new / "document_ids.txt", document_ids)
    _, dim = embed_texts(encoder, "query", query_texts, new / "queries.npy", journal, progress)
    write_ids(new / "query_ids.txt", query_ids)
    queries = open_array(new / "queries.npy")
    normalised = check_vectors(queries, query_ids, "queries") and normalised
    return describe_encoder(encoder, dim, normalised=normalised), more


def join_vectors(  # noqa: PLR0913 - vectors in, folder out, and two ways to watch
    dataset: Dataset,
    queries: NamedQueries,
    output: Path,
    *,
    documents: str | Stored,
    qdrant: QdrantAccess | None = None,
    progress: Progress = lambda _what, _done, _all: None,
    tell: Tell = lambda _text: None,
) -> EncoderInfo:
    """Make an embeddings folder of query vectors and document vectors that exist already.

    Args:
        dataset: Whose queries the vectors are of.
        queries: The query vectors.
        output: The folder; it appears, or is replaced, once everything is there. What else is in
            it stays.
        documents: Stored document vectors to copy.
        qdrant: Key and path for a Qdrant source.
        progress: Called page by page.
        tell: Told how many labelled documents are not among the stored ones.

    Returns:
        What ``encoder.json`` says.

    Raises:
        DataError: No vector is of any query, the stored vectors don't fit, one can't be used, or
            something would be lost at the output.
    """
    check_place(output, dataset.folder)
    queries.match([query_id for query_id, _ in dataset.iter_queries()])
    stored, info = as_stored(documents), queries.describe()
    source = open_source(stored.source, qdrant or QdrantAccess())
    stored.check_dim(dim_of(source), info.dim, "the file of query vectors")
    with locked(output), _working(output) as (kept, new):
        known = checked_by_labels(dataset, stored.source, tell)
        document_ids, facts = copy_source(source, kept, new / "documents.npy", progress, known)
        check_documents(new / "documents.npy", document_ids, kept)
        write_ids(new / "document_ids.txt", document_ids)
        queries.vectors.copy_to(new / "queries.npy")
        write_ids(new / "query_ids.txt", queries.ids)
        info.save(new / ENCODER, documents=facts, use=stored.use)
    return info


class _Work(NamedTuple):
    """Where an embeddings folder comes about.

    Attributes:
        kept: What the same command goes on from: journals, and pages of a Qdrant read.
        new: The folder itself, in the one above; made anew by every run.
    """

    kept: Path
    new: Path


@contextmanager
def _working(output: Path) -> Iterator[_Work]:
    """Give the place in which a folder comes about, and put it where it belongs once it is whole.

    Whatever fails, what is kept stays until the folder stands in its place. What the same command
    would make anew, such as the copy of an index, goes.
    """
    kept = beside(output, "partial")
    new = empty(kept / "embeddings")
    try:
        yield _Work(kept, new)
        keep_others(output, new, OWN)
        swap_folder(new, output)
        for journal in kept.glob("*.journal"):
            journal.unlink()
        forget_read(kept)
    finally:
        shutil.rmtree(new, ignore_errors=True)
        with suppress(OSError):
            kept.rmdir()  # unless something stays


def _say_nothing(_what: str, _done: int, _all: int) -> None:
    """Show no progress."""


def _gather(pairs: Iterator[tuple[str, str]], what: str) -> tuple[list[str], list[str]]:
    """Read ids and texts; refuse repeated ids."""
    ids, texts = [], []
    for name, text in pairs:
        if not text.isascii() and text.encode(errors="ignore").decode() != text:
            raise DataError(f"{what} {name!r}: its text holds half a surrogate pair; repair it")
        ids.append(name)
        texts.append(text)
    check_unique(ids, what)
    if not ids:
        raise DataError(f"the dataset has no {what}; expected at least one")
    return ids, texts
