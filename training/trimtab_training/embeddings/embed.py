"""Texts to an embeddings folder, resumable: no text is embedded, or paid for, twice.

Every batch is appended to a journal the moment it comes, each vector under the digest of its text.
An interrupted run, or one over a changed corpus, embeds only what the journal lacks.
"""

import hashlib
import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from trimtab_training.data.dataset import Dataset
from trimtab_training.data.label_lines import explain_unlike
from trimtab_training.data.qrels import name_some
from trimtab_training.embeddings.encoders import Encoder, Role, describe_encoder, with_prefix
from trimtab_training.embeddings.faiss_source import SCHEME, FaissSource
from trimtab_training.embeddings.place import ENCODER, OWN, check_place
from trimtab_training.embeddings.qdrant_source import SCHEMES, QdrantAccess, QdrantSource
from trimtab_training.embeddings.query_vectors import NamedQueries
from trimtab_training.embeddings.store import (
    EncoderInfo,
    check_unique,
    check_vectors,
    write_ids,
)
from trimtab_training.errors import DataError, EncoderError
from trimtab_training.files import beside, keep_others, swap_folder
from trimtab_training.lock import locked

Use = Literal["relevance", "migration"]
"""Whether queries come from the documents' own encoder, or from another one on purpose."""

Progress = Callable[[str, int, int], None]
"""Called with what is embedded, how many texts are done, and how many there are."""

Tell = Callable[[str], None]
"""Called with one sentence for the user."""

_CheckIds = Callable[[Sequence[str]], None]

_DIGEST_BYTES = 32
_AHEAD = 2  # batches a worker that may wait for the disk


class Stored(NamedTuple):
    """Document vectors that exist already.

    Attributes:
        source: ``faiss:PATH?ids=FILE``, or ``qdrant://HOST:PORT/COLLECTION?vector=NAME``.
        use: ``migration`` where the queries are meant to come from another encoder than the
            documents; only then may their widths differ.
    """

    source: str
    use: Use = "relevance"

    def check_dim(self, stored_dim: int, dim: int, encoder: str) -> None:
        """Refuse queries of another width than the documents', before anything is copied.

        Args:
            stored_dim: Values in a document vector.
            dim: Values in a query vector.
            encoder: What gives the latter, for the message.

        Raises:
            DataError: The widths differ, and that is not meant.
        """
        if dim != stored_dim and self.use != "migration":
            raise DataError(
                f"the documents in {self.source} have {stored_dim} values, {encoder} gives {dim}; "
                "queries must come from the encoder that made the documents: name it by --encoder "
                "(a folder, or openai:MODEL with --base-url), or pass vectors of your own by "
                "--queries FILE.npy --query-ids FILE; if another encoder is meant for this index, "
                "say --use migration"
            )


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
        tell: Told how many labelled documents are not among the stored ones.

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
        _finish(work, output, info, more)
    return info


def _embed(
    dataset: Dataset,
    encoder: Encoder,
    work: Path,
    given: tuple[str | Stored | None, QdrantAccess],
    progress: Progress,
    tell: Tell,
) -> tuple[EncoderInfo, dict[str, object]]:
    """Embed into a place that is held for this run alone; describe what is there."""
    documents, qdrant = given
    query_ids, query_texts = _gather(dataset.iter_queries(), "queries")
    more: dict[str, object] = {}
    if documents is None:
        document_ids, texts = _gather(dataset.iter_documents(), "documents")
        embed_texts(encoder, "document", texts, work / "documents.npy", progress)
    else:
        stored = _as_stored(documents)
        source = _open_source(stored.source, qdrant)
        stored_dim = _dim_of(source)
        _, dim = embed_texts(encoder, "query", query_texts[:1], work / "queries.npy", _say_nothing)
        stored.check_dim(stored_dim, dim, f"encoder {encoder.name}")
        known = _checked_by_labels(dataset, stored.source, tell)
        document_ids, facts = _copy(source, work, progress, known)
        more = {"documents": facts, "use": stored.use}
    normalised = _check_documents(work, document_ids)
    write_ids(work / "document_ids.txt", document_ids)
    _, dim = embed_texts(encoder, "query", query_texts, work / "queries.npy", progress)
    write_ids(work / "query_ids.txt", query_ids)
    queries = np.load(work / "queries.npy", mmap_mode="r")
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
    stored, info = _as_stored(documents), queries.describe()
    source = _open_source(stored.source, qdrant or QdrantAccess())
    stored.check_dim(_dim_of(source), info.dim, "the file of query vectors")
    with locked(output), _working(output) as work:
        known = _checked_by_labels(dataset, stored.source, tell)
        document_ids, facts = _copy(source, work, progress, known)
        _check_documents(work, document_ids)
        write_ids(work / "document_ids.txt", document_ids)
        queries.vectors.copy_to(work / "queries.npy")
        write_ids(work / "query_ids.txt", queries.ids)
        _finish(work, output, info, {"documents": facts, "use": stored.use})
    return info


@contextmanager
def _working(output: Path) -> Iterator[Path]:
    """Give the folder in which the other one comes about.

    Where that fails, what the same command goes on from stays there: journals, and pages of a
    Qdrant read. What it would make anew, such as the copy of an index, goes.
    """
    work = beside(output, "partial")
    work.mkdir(parents=True, exist_ok=True)
    try:
        yield work
    except BaseException:
        with suppress(OSError):
            for name in OWN:
                (work / name).unlink(missing_ok=True)
            work.rmdir()  # unless something stays
        raise


def _check_documents(work: Path, ids: Sequence[str]) -> bool:
    """Refuse documents that nothing can be searched with; say whether all have unit length."""
    try:
        return check_vectors(np.load(work / "documents.npy", mmap_mode="r"), ids, "documents")
    except DataError:
        for read in work.glob("documents.[fir]*"):  # the next run would only find the same there
            read.unlink()
        raise


def _finish(work: Path, output: Path, info: EncoderInfo, more: dict[str, object]) -> None:
    """Describe what a folder holds, tidy it up, and put it in its place."""
    info.save(work / ENCODER, **more)
    for rest in (*work.glob("*.journal"), *work.glob("documents.[fir]*")):
        rest.unlink()
    keep_others(output, work, OWN)
    swap_folder(work, output)


def _as_stored(documents: str | Stored) -> Stored:
    """Take a source's name for documents of the queries' own encoder."""
    return documents if isinstance(documents, Stored) else Stored(documents)


def _checked_by_labels(dataset: Dataset, source: str, tell: Tell) -> _CheckIds:
    """Give what holds the ids of stored documents against the labels."""

    def check(ids: Sequence[str]) -> None:
        splits = dataset.splits.values()
        labelled = {doc for qrels in splits for labels in qrels.values() for doc in labels}
        missing = labelled.difference(ids)
        if len(missing) == len(labelled):
            raise DataError(
                f"none of the {len(labelled)} labelled documents of {dataset.name} is among the "
                f"{len(ids)} of {source}: {explain_unlike(labelled, set(ids))}; expected ids as in "
                "the labels, by ?ids=FILE or &id=FIELD"
            )
        if missing:
            tell(
                f"{name_some(missing)} of {len(labelled)} labelled documents of {dataset.name} "
                f"have no vector in {source}"
            )

    return check


def _dim_of(source: FaissSource | QdrantSource) -> int:
    """Ask a source how many values its vectors have."""
    return source.dim if isinstance(source, FaissSource) else source.find_dim()


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


def copy_documents(
    documents: str, work: Path, qdrant: QdrantAccess, progress: Progress
) -> tuple[list[str], dict[str, Any]]:
    """Copy stored document vectors.

    Args:
        documents: ``faiss:PATH?ids=FILE``, or ``qdrant://HOST:PORT/COLLECTION?vector=NAME``.
        work: Folder for ``documents.npy``, and for what a Qdrant read goes on from.
        qdrant: Key and path for a Qdrant source.
        progress: Called page by page.

    Returns:
        The documents' ids, in the order of the rows, and what is known of the source.

    Raises:
        DataError: The source can't be read.
    """
    return _copy(_open_source(documents, qdrant), work, progress, lambda _ids: None)


def _open_source(documents: str, qdrant: QdrantAccess) -> FaissSource | QdrantSource:
    """Open a source of documents by its name."""
    if documents.startswith(SCHEMES):
        return QdrantSource.parse(documents, qdrant)
    if documents.startswith(SCHEME):
        return FaissSource.open(documents)
    raise DataError(
        f"unknown source of documents {documents!r}; expected faiss:PATH?ids=FILE or "
        "qdrant://HOST:PORT/COLLECTION?vector=NAME"
    )


def _copy(
    source: FaissSource | QdrantSource, work: Path, progress: Progress, check_ids: _CheckIds
) -> tuple[list[str], dict[str, Any]]:
    """Copy the vectors of a source; see :func:`copy_documents`.

    Its ids are checked as soon as they are known: those of an index file before it is copied.
    """
    if isinstance(source, QdrantSource):
        ids, facts = source.copy_to(work, lambda done, of: progress("documents", done, of))
        check_ids(ids)
        return ids, facts
    check_ids(source.ids)
    return _copy_from_faiss(source, work / "documents.npy")


def _copy_from_faiss(source: FaissSource, target: Path) -> tuple[list[str], dict[str, Any]]:
    """Copy the vectors of a FAISS index."""
    shape = (len(source.ids), source.dim)
    matrix = np.lib.format.open_memmap(target, mode="w+", dtype=np.float32, shape=shape)
    source.copy_to(matrix)
    matrix.flush()
    return source.ids, {"index": source.kind, "lossy": source.lossy}


def embed_texts(
    encoder: Encoder, role: Role, texts: Sequence[str], target: Path, progress: Progress
) -> tuple[int, int]:
    """Embed texts into a matrix, by way of a journal beside it.

    Args:
        encoder: Embeds what the journal lacks.
        role: ``query`` or ``document``: which prefix is put before the texts.
        texts: Any number of them; equal ones are embedded once.
        target: The ``.npy`` file, float32.
        progress: Called after every batch.

    Returns:
        The matrix's shape.

    Raises:
        EncoderError: The encoder fails; what it gave so far is in the journal.
    """
    prefixed = with_prefix(encoder, role, texts)
    keys = [hashlib.sha256(text.encode()).digest() for text in prefixed]
    salt = hashlib.sha256(f"{encoder.fingerprint} {encoder.max_tokens}".encode()).hexdigest()[:16]
    journal = Journal(target.with_name(f"{role}-{salt}.journal"))
    missing = list(dict.fromkeys(key for key in keys if key not in journal.places))
    place_of = {key: place for place, key in enumerate(keys)}
    wanted = [prefixed[place_of[key]] for key in missing]
    what = "queries" if role == "query" else "documents"
    n_unique = len(set(keys))
    done = n_unique - len(missing)
    progress(what, done, n_unique)
    for places, vectors in _encode_all(encoder, wanted):
        _check_batch(vectors, [wanted[place] for place in places], encoder.name)
        journal.append([missing[place] for place in places], vectors)
        done += len(places)
        progress(what, done, n_unique)
    matrix = np.lib.format.open_memmap(
        target, mode="w+", dtype=np.float32, shape=(len(texts), journal.dim)
    )
    journal.fill(matrix, keys)
    matrix.flush()
    return len(texts), journal.dim


def _check_batch(vectors: NDArray[np.float32], texts: Sequence[str], name: str) -> None:
    """Refuse vectors that nothing can be searched with, before they are kept."""
    if vectors.ndim != 2 or len(vectors) != len(texts) or vectors.shape[1] == 0:
        raise EncoderError(
            f"encoder {name} gave shape {vectors.shape} for {len(texts)} texts; expected (n, dim)"
        )
    usable = np.isfinite(vectors).all(axis=1) & vectors.any(axis=1)
    if not usable.all():
        first = texts[int(np.argmin(usable))]
        raise EncoderError(
            f"encoder {name} gave NaN, infinity or only zeros for {int((~usable).sum())} texts, "
            f"such as {first[:60]!r}; nothing of that batch was kept"
        )


def _encode_all(
    encoder: Encoder, texts: Sequence[str]
) -> Iterator[tuple[list[int], NDArray[np.float32]]]:
    """Encode batches, several at once where the encoder allows, and yield each as it comes."""

    def encode(places: list[int]) -> tuple[list[int], NDArray[np.float32]]:
        return places, encoder.encode([texts[place] for place in places])

    if encoder.n_workers == 1:
        yield from map(encode, encoder.batches(texts))
        return
    with ThreadPoolExecutor(encoder.n_workers) as workers:
        running: set[Future[tuple[list[int], NDArray[np.float32]]]] = set()
        batches = encoder.batches(texts)
        failure: BaseException | None = None
        while True:
            while failure is None and len(running) < encoder.n_workers * _AHEAD:
                batch = next(batches, None)
                if batch is None:
                    break
                running.add(workers.submit(encode, batch))
            if not running:
                break
            finished, running = wait(running, return_when=FIRST_COMPLETED)
            for future in finished:
                if future.exception() is not None:
                    failure = future.exception()  # what else is under way is paid: keep it
                else:
                    yield future.result()
        if failure is not None:
            raise failure


class Journal:
    """Vectors on disk under the digests of their texts, appended batch by batch.

    A file of records, each a 32-byte digest and the vector as float32, behind the width as eight
    bytes. A record that a crash cut short is dropped.

    Attributes:
        places: Number of each digest's record.
        dim: Values in a vector; 0 while the journal is empty.
    """

    def __init__(self, path: Path) -> None:
        """Open a journal, or prepare to begin one."""
        self._path = path
        self.places: dict[bytes, int] = {}
        self.dim = 0
        if path.exists():
            self._read()

    def _read(self) -> None:
        """Find what the journal holds, and cut off half a record at its end."""
        size = self._path.stat().st_size
        if size < 8:
            self._path.unlink()
            return
        with self._path.open("rb") as file:
            self.dim = int.from_bytes(file.read(8), "little")
        n_records = (size - 8) // self._record_bytes
        os.truncate(self._path, 8 + n_records * self._record_bytes)
        if n_records:
            records = self._records(n_records)
            self.places = {bytes(records["key"][place]): place for place in range(n_records)}

    @property
    def _record_bytes(self) -> int:
        """Size of one record."""
        return _DIGEST_BYTES + 4 * self.dim

    def _records(self, count: int) -> NDArray[Any]:
        """Look at the records without loading them."""
        layout = np.dtype([("key", np.uint8, _DIGEST_BYTES), ("vector", "<f4", self.dim)])
        return np.memmap(self._path, dtype=layout, mode="r", offset=8, shape=count)

    def append(self, keys: Sequence[bytes], vectors: NDArray[np.float32]) -> None:
        """Add one batch durably: once this returns, a crash no longer loses it.

        Raises:
            EncoderError: The vectors' width changed since the journal began.
        """
        with self._path.open("ab") as file:
            if self.dim == 0:
                self.dim = vectors.shape[1]
                file.write(self.dim.to_bytes(8, "little"))
            if vectors.shape[1] != self.dim:
                raise EncoderError(
                    f"the encoder gave vectors of {vectors.shape[1]} values after {self.dim}; "
                    f"remove {self._path} and try again"
                )
            for key, vector in zip(keys, vectors, strict=True):
                self.places[key] = len(self.places)
                file.write(key + vector.astype("<f4").tobytes())
            file.flush()
            os.fsync(file.fileno())

    def fill(self, matrix: NDArray[np.float32], keys: Sequence[bytes]) -> None:
        """Put the vector of each key into its row of a matrix."""
        records = self._records(len(self.places))
        for row, key in enumerate(keys):
            matrix[row] = records["vector"][self.places[key]]
