"""Queries that were written before: the same words, or nearly the same."""

import math
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence

from training.synthesis.wording import trigrams_of, units_of

NEAR = 0.75
"""Jaccard similarity of character trigrams from which on two queries are nearly the same: a plural,
a typing error, another order of words."""


def find_repeats(texts: Sequence[str]) -> Iterator[tuple[int, int, bool]]:
    """Find for each text an earlier one that it repeats; a repeat repeats nothing itself.

    Exact: every pair at least `NEAR` alike is found, by the prefix filter: two such sets share one
    of their rarest elements.

    Args:
        texts: Queries; the earlier of two stays.

    Yields:
        Place of the repeat, place of what it repeats, and True where the units are the same.

    Source:
        Bayardo, Ma and Srikant (2007), Scaling up all pairs similarity search,
        doi:10.1145/1242572.1242591; the prefix filter of Chaudhuri, Ganti and Kaushik (2006),
        doi:10.1109/ICDE.2006.9.
    """
    units = [units_of(text) for text in texts]
    sets = [trigrams_of(one) for one in units]
    frequency = Counter(trigram for one in sets for trigram in one)
    seen: dict[str, int] = {}
    holding: dict[str, list[int]] = defaultdict(list)
    for place, (words, trigrams) in enumerate(zip(units, sets, strict=True)):
        exact = seen.get(" ".join(words))
        if exact is not None:
            yield place, exact, True
            continue
        rarest = sorted(trigrams, key=lambda trigram: (frequency[trigram], trigram))
        prefix = rarest[: len(rarest) - math.ceil(NEAR * len(rarest)) + 1]
        near = _first_alike(trigrams, prefix, holding, sets)
        if near is not None:
            yield place, near, False
            continue
        seen[" ".join(words)] = place
        for trigram in prefix:
            holding[trigram].append(place)


def _first_alike(
    trigrams: frozenset[str],
    prefix: Sequence[str],
    holding: dict[str, list[int]],
    sets: Sequence[frozenset[str]],
) -> int | None:
    """Find the first kept set that is alike."""
    candidates = {place for trigram in prefix for place in holding.get(trigram, ())}
    for place in sorted(candidates):
        other = sets[place]
        if not NEAR * len(trigrams) <= len(other) <= len(trigrams) / NEAR:
            continue
        shared = len(trigrams & other)
        if shared >= NEAR * (len(trigrams) + len(other) - shared):
            return place
    return None
