"""Which candidates become queries, and why the others do not: every filter in turn, counted."""

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from trimtab_training.synthesis.candidates import Candidate
from trimtab_training.synthesis.corpus import Corpus
from trimtab_training.synthesis.deduplication import find_duplicates
from trimtab_training.synthesis.language import LanguageCheck
from trimtab_training.synthesis.round_trip import MISSED, Trip
from trimtab_training.synthesis.rule_filters import (
    ANSWER,
    COPY,
    EMPTY,
    MENTION,
    TOO_LONG,
    broken_rule,
)

LANGUAGE = "wrong language"
DUPLICATE, NEAR_DUPLICATE = "duplicate", "near duplicate"
REAL = "same as a real query"
EXAMPLE = "same as an example"
REASONS = (
    EMPTY,
    TOO_LONG,
    COPY,
    ANSWER,
    MENTION,
    LANGUAGE,
    REAL,
    EXAMPLE,
    DUPLICATE,
    NEAR_DUPLICATE,
    MISSED,
)
"""Every filter, in the order in which they are applied."""


@dataclass(frozen=True)
class Known:
    """Queries that there are already.

    Attributes:
        real: Texts of real queries by id.
        examples: Queries that the model was shown.
    """

    real: Mapping[str, str]
    examples: Sequence[str] = ()


@dataclass(frozen=True)
class Dropped:
    """A candidate that is no query of the dataset.

    Attributes:
        candidate: The candidate.
        reason: One of `REASONS`.
        instead: What stands in its way: the id of the query that it repeats, or the documents that
            it found instead of its own.
    """

    candidate: Candidate
    reason: str
    instead: tuple[str, ...] = ()


@dataclass
class Filtered:
    """What the filters left.

    Attributes:
        kept: The queries.
        dropped: The others.
        trips: What the kept queries found, by their id; empty without a round trip.
    """

    kept: list[Candidate]
    dropped: list[Dropped] = field(default_factory=list)
    trips: dict[str, Trip] = field(default_factory=dict)

    def counts(self) -> dict[str, int]:
        """Count the dropped by reason, in the order of the filters, those of none included."""
        found = Counter(one.reason for one in self.dropped)
        return {reason: found[reason] for reason in REASONS}


def apply_filters(
    candidates: Sequence[Candidate],
    corpus: Corpus,
    *,
    language: LanguageCheck,
    known: Known,
    send: Callable[[Sequence[Candidate]], list[Trip]] | None,
    progress: Callable[[int], None] = lambda _done: None,
) -> Filtered:
    """Apply every filter, the cheap ones first.

    Args:
        candidates: What the model wrote; of two alike, the first stays.
        corpus: Their documents.
        language: Tells wrong languages.
        known: Queries that there are already; what repeats one is dropped.
        send: Makes the round trip, or None where there are no vectors or no encoder.
        progress: Called with the number of candidates that were looked at.
    """
    filtered = Filtered([])
    for done, candidate in enumerate(candidates, start=1):
        reason = _broken_rule(candidate, corpus, language)
        if reason is None:
            filtered.kept.append(candidate)
        else:
            filtered.dropped.append(Dropped(candidate, reason))
        progress(done)
    _drop_duplicates(filtered, known)
    if send is not None:
        _drop_lost(filtered, send(filtered.kept))
    return filtered


def _broken_rule(candidate: Candidate, corpus: Corpus, language: LanguageCheck) -> str | None:
    """Find what is wrong with one candidate alone."""
    document = corpus.read(candidate.doc_id)
    reason = broken_rule(candidate.text, document)
    if reason is None and language.is_wrong(candidate.text, document.text):
        return LANGUAGE
    return reason


def _drop_duplicates(filtered: Filtered, known: Known) -> None:
    """Drop what repeats a real query, an example, or an earlier candidate."""
    old = [*known.real.items(), *((f"example: {text}", text) for text in known.examples)]
    names = [*(name for name, _ in old), *(candidate.id for candidate in filtered.kept)]
    texts = [*(text for _, text in old), *(candidate.text for candidate in filtered.kept)]
    groups = [f"known {place}" for place in range(len(old))]
    groups += [candidate.doc_id for candidate in filtered.kept]
    repeats = {place: (of, exact) for place, of, exact in find_duplicates(texts, groups)}
    kept: list[Candidate] = []
    for place, candidate in enumerate(filtered.kept, start=len(old)):
        if place not in repeats:
            kept.append(candidate)
            continue
        of, exact = repeats[place]
        reason = DUPLICATE if exact else NEAR_DUPLICATE
        if of < len(old):
            reason = REAL if of < len(known.real) else EXAMPLE
        filtered.dropped.append(Dropped(candidate, reason, (names[of],)))
    filtered.kept = kept


def _drop_lost(filtered: Filtered, trips: Iterable[Trip]) -> None:
    """Drop what did not find its document."""
    kept: list[Candidate] = []
    for candidate, trip in zip(filtered.kept, trips, strict=True):
        if trip.rank is None:
            instead = tuple(doc_id for doc_id, _ in trip.above)
            filtered.dropped.append(Dropped(candidate, MISSED, instead))
        else:
            kept.append(candidate)
            filtered.trips[candidate.id] = trip
    filtered.kept = kept
