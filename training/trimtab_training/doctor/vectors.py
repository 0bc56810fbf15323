"""What an embeddings folder is worth: broken vectors, the base score, signs of a wrong encoder."""

import hashlib
import re
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from trimtab.array_files import open_array
from trimtab_training.data.qrels import Qrels, relevant
from trimtab_training.data.splits import unit_hash
from trimtab_training.doctor.finding import Finding, about
from trimtab_training.embeddings.store import (
    BLOCK_ROWS,
    LARGEST_SQUARE,
    UNIT_TOLERANCE,
    Embeddings,
    EncoderInfo,
)
from trimtab_training.retrieval.exact_search import search
from trimtab_training.retrieval.metrics import measure
from trimtab_training.retrieval.significance import compare_paired

MAX_TEST_QUERIES = 2_000
_SEED = 0
_NEAR_CHANCE = 5.0  # times what a random ranking finds
_APART = 0.5  # standard deviations between relevant and random documents' similarities
_SAME_TEXT = 0.9  # cosine of one text as query and as document, without prefixes
_PREFIXES = {
    r"(^|[^a-z0-9])e5([^a-z0-9]|$)": "'query: ' and 'passage: '",
    r"(^|[^a-z])nomic-embed": "'search_query: ' and 'search_document: '",
    r"(^|[^a-z])bge-(small|base|large)-en": (
        "'Represent this sentence for searching relevant passages: ' before queries"
    ),
    r"arctic-embed|mxbai-embed": (
        "'Represent this sentence for searching relevant passages: ' before queries"
    ),
}


@dataclass(frozen=True)
class BaseScore:
    """How well raw queries find their documents.

    Attributes:
        n_queries: Test queries that were searched.
        ndcg: Mean nDCG@10.
        low: Lower end of its 95 % bootstrap interval.
        high: Upper end.
        spread: Standard deviation of nDCG@10 by query.
        recall: Mean recall@100.
        separation: How far relevant documents' similarities lie above random ones', in standard
            deviations of the latter.
    """

    n_queries: int
    ndcg: float
    low: float
    high: float
    spread: float
    recall: float
    separation: float


def check_matrix(
    path: Path, ids: Sequence[str], what: str, same_text: Collection[str] = ()
) -> list[Finding]:
    """Look through a matrix for vectors that nothing can be searched with, and for twins.

    Args:
        path: The matrix.
        ids: One id a row.
        what: ``documents`` or ``queries``.
        same_text: Ids that share their text with another one: theirs are equal for a reason.
    """
    matrix = open_array(path)
    broken: dict[str, list[str]] = {"non_finite": [], "too_long": [], "zero": []}
    keys, off_unit = np.empty(len(matrix), np.uint64), 0
    for start in range(0, len(matrix), BLOCK_ROWS):
        block = np.asarray(matrix[start : start + BLOCK_ROWS], dtype=np.float32)
        squares = np.einsum("nd,nd->n", block, block, dtype=np.float64)
        bad = ~np.isfinite(squares)
        for name, rows in (
            ("non_finite", bad),
            ("too_long", ~bad & (squares >= LARGEST_SQUARE)),
            ("zero", squares == 0),
        ):
            broken[name] += [ids[start + row] for row in np.flatnonzero(rows).tolist()]
        off_unit += int((np.abs(np.sqrt(squares) - 1) >= UNIT_TOLERANCE).sum())
        keys[start : start + len(block)] = [_row_key(row) for row in block]
    findings = []
    again = "embed them again, or drop them with their labels"
    for name, words, advice in (
        ("non_finite", "hold NaN or infinity", again),
        ("too_long", "are too long to compare in float32", "scale all vectors down"),
        ("zero", "are zero vectors", again),
    ):
        if broken[name]:
            message = f"{what} {words}: {{ids}}"
            findings.append(about(f"{name}_{what}", "error", broken[name], message, advice))
    return (
        findings
        + _check_twins(keys, ids, what, same_text)
        + _check_lengths(off_unit, len(ids), what)
    )


def check_encoder(encoder: EncoderInfo, record: dict[str, Any]) -> list[Finding]:
    """Look for signs that queries were not embedded as the model wants them.

    Args:
        encoder: What ``encoder.json`` says.
        record: The same with whatever else it holds.
    """
    findings = []
    for pattern, prefixes in _PREFIXES.items():
        if re.search(pattern, encoder.name.lower()) and not encoder.query_prefix:
            findings.append(
                Finding(
                    "missing_query_prefix",
                    "warning",
                    f"{encoder.name} was trained with {prefixes}; its query prefix is empty",
                    "embed again with --query-prefix, if the application uses it, too",
                )
            )
            break
    stored = record.get("documents")
    if isinstance(stored, dict) and stored.get("lossy"):
        findings.append(
            Finding(
                "lossy_documents",
                "note",
                f"document vectors come out of a lossy index ({stored.get('index', 'FAISS')})",
                "the fit sees what the index stores; that is what is searched",
            )
        )
    return findings


def score_base(test: Qrels, embeddings: Embeddings, similarity: str) -> BaseScore:
    """Search with the raw test queries, exactly; of many, with 2,000 drawn by hash.

    Args:
        test: Labels of the test split's answered queries, at least one; every id has a vector.
        embeddings: The vectors, of one width.
        similarity: ``cosine``, ``dot`` or ``euclid``.
    """
    drawn = sorted(test, key=lambda query: unit_hash(query, "doctor"))[:MAX_TEST_QUERIES]
    rows_of = embeddings.documents.rows
    wanted = [
        {rows_of[doc_id]: grade for doc_id, grade in relevant(test[query]).items()}
        for query in drawn
    ]
    queries = embeddings.queries.take_ids(drawn)
    rows, _ = search(queries, embeddings.documents, depth=100, similarity=similarity)
    scores = measure(rows, wanted)
    ndcg = scores["ndcg@10"]
    interval = compare_paired(ndcg, np.random.default_rng(_SEED))
    return BaseScore(
        len(drawn),
        interval.mean,
        interval.low,
        interval.high,
        float(ndcg.std()),
        float(scores["recall@100"].mean()),
        _separation(queries, wanted, embeddings),
    )


def check_base(base: BaseScore, n_documents: int) -> list[Finding]:
    """Look for a base score that no working encoder gives."""
    by_chance = min(1.0, 100 / n_documents)
    near_chance = base.recall < min(_NEAR_CHANCE * by_chance, (1 + by_chance) / 2)
    if not (near_chance or base.separation < _APART):
        return []
    return [
        Finding(
            "base_near_chance",
            "error" if near_chance and base.separation < _APART else "warning",
            f"raw queries hardly find their documents: recall@100 is {base.recall:.3f} where "
            f"chance gives {by_chance:.3f}, and relevant documents are {base.separation:.2f} "
            "standard deviations nearer than random ones",
            "check that query and document vectors come from one encoder, with the prefixes it "
            "wants, and that ids and rows are in one order; then embed again",
        )
    ]


def check_same_texts(
    pairs: Sequence[tuple[str, str]], embeddings: Embeddings, *, has_prefix: bool
) -> list[Finding]:
    """Compare the two vectors of a text that stands among queries and documents.

    Args:
        pairs: Query id and document id of one text.
        embeddings: The vectors.
        has_prefix: Whether queries or documents have a prefix, which sets the two apart.
    """
    known = [
        (query, document)
        for query, document in pairs
        if query in embeddings.queries.rows and document in embeddings.documents.rows
    ][:MAX_TEST_QUERIES]
    if not known or has_prefix:
        return []
    cosine = _cosines(
        embeddings.queries.take_ids([one for one, _ in known]),
        embeddings.documents.take_ids([one for _, one in known]),
    )
    median = float(np.median(cosine))
    if median >= _SAME_TEXT:
        return []
    return [
        Finding(
            "encoders_differ",
            "warning",
            f"{len(known)} texts stand among queries and documents, and their two vectors have a "
            f"median cosine of {median:.2f}, where one encoder gives 1",
            "queries and documents were embedded by different encoders, or with prefixes that "
            "encoder.json does not name; embed the queries as the application does",
            len(known),
        )
    ]


def _row_key(row: NDArray[np.float32]) -> int:
    """Digest a vector."""
    return int.from_bytes(hashlib.blake2b(row.tobytes(), digest_size=8).digest(), "little")


def _check_twins(
    keys: NDArray[np.uint64], ids: Sequence[str], what: str, same_text: Collection[str]
) -> list[Finding]:
    """Look for equal vectors."""
    _, inverse, counts = np.unique(keys, return_inverse=True, return_counts=True)
    twins = {ids[row] for row in np.flatnonzero(counts[inverse] > 1).tolist()} - set(same_text)
    if not twins:
        return []
    share = len(twins) / len(ids)
    return [
        about(
            f"duplicate_vectors_{what}",
            "warning" if share > 0.05 else "note",
            twins,
            f"{what} with the vector of another one, and not its text: {{ids}}",
            "no query can tell them apart" if what == "documents" else "",
        )
    ]


def _check_lengths(off_unit: int, n_rows: int, what: str) -> list[Finding]:
    """Report vectors that are not of unit length."""
    if not off_unit:
        return []
    return [
        Finding(
            f"non_unit_{what}",
            "note",
            f"{off_unit:,} of {n_rows:,} {what} vectors do not have unit length",
            "fine for cosine; where the index compares by dot product or distance, set "
            "similarity in the recipe",
            off_unit,
        )
    ]


def _separation(
    queries: NDArray[np.float32], wanted: list[dict[int, float]], embeddings: Embeddings
) -> float:
    """Say how far relevant documents stand out from random ones."""
    rng = np.random.default_rng(_SEED)
    pairs = [(row, max(rows, key=rows.__getitem__)) for row, rows in enumerate(wanted) if rows]
    if not pairs:
        return 0.0
    asked = queries[[row for row, _ in pairs]]
    near = _cosines(asked, embeddings.documents.take([document for _, document in pairs]))
    drawn = rng.integers(len(embeddings.documents), size=len(pairs))
    far = _cosines(asked, embeddings.documents.take(drawn))
    return float((near.mean() - far.mean()) / max(float(far.std()), 1e-9))


def _cosines(queries: NDArray[np.float32], documents: NDArray[np.float32]) -> NDArray[np.float64]:
    """Give the cosine of each query with the document beside it."""
    lengths = np.linalg.norm(queries, axis=1) * np.linalg.norm(documents, axis=1)
    products = np.einsum("nd,nd->n", queries, documents, dtype=np.float64)
    return np.asarray(products / np.maximum(lengths, 1e-12), dtype=np.float64)
