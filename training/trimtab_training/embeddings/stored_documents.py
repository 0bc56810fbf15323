"""Document vectors that exist already, in a FAISS file or in Qdrant: copied, and checked."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Literal, NamedTuple

from trimtab.addresses import without_secrets
from trimtab.array_files import open_array
from trimtab_training.data.dataset import Dataset
from trimtab_training.data.label_lines import explain_unlike
from trimtab_training.data.qrels import name_some
from trimtab_training.embeddings.embed_texts import Progress, Tell
from trimtab_training.embeddings.faiss_source import SCHEME, FaissSource
from trimtab_training.embeddings.partial_read import forget_read
from trimtab_training.embeddings.qdrant_source import SCHEMES, QdrantAccess, QdrantSource
from trimtab_training.embeddings.store import check_vectors
from trimtab_training.errors import DataError
from trimtab_training.files import new_matrix

Use = Literal["relevance", "migration"]
"""Whether queries come from the documents' own encoder, or from another one on purpose."""

_CheckIds = Callable[[Sequence[str]], None]


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


def as_stored(documents: str | Stored) -> Stored:
    """Take a source's name for documents of the queries' own encoder."""
    return documents if isinstance(documents, Stored) else Stored(documents)


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
    source = open_source(documents, qdrant)
    return copy_source(source, work, work / "documents.npy", progress, lambda _ids: None)


def open_source(documents: str, qdrant: QdrantAccess) -> FaissSource | QdrantSource:
    """Open a source of documents by its name."""
    if documents.startswith(SCHEMES):
        return QdrantSource.parse(documents, qdrant)
    if documents.startswith(SCHEME):
        return FaissSource.open(documents)
    raise DataError(
        f"unknown source of documents {without_secrets(documents)!r}; expected "
        "faiss:PATH?ids=FILE or qdrant://HOST:PORT/COLLECTION?vector=NAME"
    )


def copy_source(
    source: FaissSource | QdrantSource,
    kept: Path,
    target: Path,
    progress: Progress,
    check_ids: _CheckIds,
) -> tuple[list[str], dict[str, Any]]:
    """Copy the vectors of a source.

    Args:
        source: The source.
        kept: Folder for what a Qdrant read goes on from.
        target: The ``.npy`` file.
        progress: Called page by page.
        check_ids: Called as soon as the ids are known: those of an index file before it is copied.

    Returns:
        As :func:`copy_documents`.

    Raises:
        DataError: The source can't be read.
    """
    if isinstance(source, QdrantSource):
        ids, facts = source.copy_to(kept, target, lambda done, of: progress("documents", done, of))
        check_ids(ids)
        return ids, facts
    check_ids(source.ids)
    return _copy_from_faiss(source, target)


def _copy_from_faiss(source: FaissSource, target: Path) -> tuple[list[str], dict[str, Any]]:
    """Copy the vectors of a FAISS index."""
    shape = (len(source.ids), source.dim)
    matrix = new_matrix(target, shape)
    source.copy_to(matrix)
    matrix.flush()
    return source.ids, {
        "index": source.kind,
        "lossy": source.lossy,
        "distance": source.distance,
    }


def dim_of(source: FaissSource | QdrantSource) -> int:
    """Ask a source how many values its vectors have."""
    return source.dim if isinstance(source, FaissSource) else source.find_dim()


def checked_by_labels(dataset: Dataset, source: str, tell: Tell) -> _CheckIds:
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


def check_documents(copy: Path, ids: Sequence[str], kept: Path) -> bool:
    """Refuse documents that nothing can be searched with; say whether all have unit length.

    Args:
        copy: The ``.npy`` file.
        ids: The documents' ids.
        kept: Folder of the Qdrant read, which is begun anew after a refusal.

    Raises:
        DataError: A vector can't be used.
    """
    try:
        return check_vectors(open_array(copy), ids, "documents")
    except DataError:
        forget_read(kept)  # the next run would only find the same there
        raise
