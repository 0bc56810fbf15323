"""Queries that were written before: in the same words anywhere, or nearly for the same document.

Between two documents only equal words count: "symptoms of type 1" and "symptoms of type 2" are
nearly the same text and different queries. For one document nearly the same is no gain.
"""

from collections import defaultdict
from collections.abc import Iterator, Sequence

from trimtab_training.synthesis.tokenise import trigrams_of, units_of

NEAR = 0.75
"""Jaccard similarity of character trigrams from which on two queries of a document are nearly the
same: a plural, a typing error, another order of words."""


def find_duplicates(
    texts: Sequence[str], doc_ids: Sequence[str]
) -> Iterator[tuple[int, int, bool]]:
    """Find for each text an earlier one that it repeats; a repeat repeats nothing itself.

    Args:
        texts: Queries; the earlier of two stays.
        doc_ids: The document of each.

    Yields:
        Place of the repeat, place of what it repeats, and True where the words are the same.
    """
    first_with: dict[tuple[str, ...], int] = {}
    kept_of: dict[str, list[tuple[int, frozenset[str]]]] = defaultdict(list)
    for place, (text, doc_id) in enumerate(zip(texts, doc_ids, strict=True)):
        units = units_of(text)
        exact = first_with.get(tuple(units))
        if exact is not None:
            yield place, exact, True
            continue
        trigrams = trigrams_of(units)
        near = next((at for at, one in kept_of[doc_id] if _are_alike(one, trigrams)), None)
        if near is None:
            first_with[tuple(units)] = place
            kept_of[doc_id].append((place, trigrams))
        else:
            yield place, near, False


def _are_alike(one: frozenset[str], other: frozenset[str]) -> bool:
    """Tell whether two sets of trigrams are nearly the same."""
    shared = len(one & other)
    return shared >= NEAR * (len(one) + len(other) - shared)
