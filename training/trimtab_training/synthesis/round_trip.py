"""Does a query find its document in the frozen index, and what does it find instead?

Source:
    Round-trip consistency: Alberti et al. (2019), arXiv:1906.05416; for retrieval with written
    queries: Dai et al. (2022), Promptagator, arXiv:2209.11755, section 3.2.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from trimtab.array_files import open_array
from trimtab_training.embeddings.embed_texts import (
    Progress,
    Tell,
    embed_texts,
    open_journal,
)
from trimtab_training.embeddings.encoders import Encoder
from trimtab_training.embeddings.store import VectorTable, check_vectors
from trimtab_training.errors import DataError
from trimtab_training.retrieval.exact_search import search
from trimtab_training.synthesis.candidates import Candidate
from trimtab_training.synthesis.corpus import Corpus

MISSED = "does not find its document"


@dataclass(frozen=True)
class Trip:
    """What one query found.

    Attributes:
        rank: Rank of its document, from 1, or None where it is not among those found.
        above: Other documents before it, or all that were found: ids and scores, best first.
    """

    rank: int | None
    above: tuple[tuple[str, float], ...]


@dataclass(frozen=True)
class RoundTrip:
    """The frozen index, and how queries get into it.

    Attributes:
        documents: The stored vectors.
        encoder: Embeds the queries.
        top_k: Documents within which a query must find its own.
        similarity: ``cosine``, ``dot`` or ``euclid``.
    """

    documents: VectorTable
    encoder: Encoder
    top_k: int
    similarity: str

    def send(
        self,
        candidates: Sequence[Candidate],
        corpus: Corpus,
        folder: Path,
        progress: Progress = lambda _what, _done, _all: None,
        tell: Tell = lambda _text: None,
    ) -> list[Trip]:
        """Search with every query, exactly.

        Args:
            candidates: The queries.
            corpus: Knows which documents have the same text: any of them will do.
            folder: Where query vectors are kept, so that none is embedded twice.
            progress: Called after every batch.
            tell: Told where query vectors of an earlier run are of no use.

        Returns:
            A trip for each query.

        Raises:
            DataError: The encoder's width is not the documents'.
            EncoderError: The encoder fails.
        """
        if not candidates:
            return []
        folder.mkdir(parents=True, exist_ok=True)
        target = folder / "queries.npy"
        texts = [candidate.text for candidate in candidates]
        journal = open_journal(self.encoder, "query", texts, folder, tell)
        _, dim = embed_texts(self.encoder, "query", texts, target, journal, progress)
        if dim != self.documents.dim:
            raise DataError(
                f"the encoder {self.encoder.name} gives {dim} values, the stored document vectors "
                f"have {self.documents.dim}; check --encoder"
            )
        vectors = np.array(open_array(target))
        check_vectors(vectors, [candidate.id for candidate in candidates], "queries")
        target.unlink()
        rows, scores = search(vectors, self.documents, depth=self.top_k, similarity=self.similarity)
        return [
            self._trip(set(corpus.same_text(candidate.doc_id)), found, score)
            for candidate, found, score in zip(
                candidates, rows.tolist(), scores.tolist(), strict=True
            )
        ]

    def _trip(self, own: set[str], rows: Sequence[int], scores: Sequence[float]) -> Trip:
        """Find the own document among those found."""
        above: list[tuple[str, float]] = []
        for row, score in zip(rows, scores, strict=True):
            doc_id = self.documents.ids[row]
            if doc_id in own:
                return Trip(len(above) + 1, tuple(above))
            above.append((doc_id, score))
        return Trip(None, tuple(above))
