"""How likely is each rank looked at, and how relevant is what was shown? Pure, on arrays.

The position-based model: a document is clicked if its rank is looked at and it is relevant,
``P(click | q, d, k) = p_k * r_qd``, the two independent (Craswell et al. 2008,
doi:10.1145/1341531.1341545). ``p`` is known up to a factor, which is chosen so that the first rank
has 1.
"""

from dataclasses import dataclass, replace

import numpy as np
from jaxtyping import Float, Int
from numpy.typing import NDArray

MIN_SWAPPED_CLICKS = 10.0  # below, a rank's propensity is noise: a third of it, or worse
_ITERATIONS = 20_000
_TOLERANCE = 1e-8


@dataclass(frozen=True)
class Exposures:
    """How often each document of a query was shown at each rank, and clicked there.

    One row for each (query, document, rank), each once.

    Attributes:
        query: Number of the query.
        document: Number of the document.
        rank: Rank, from 1.
        shown: Times shown, above 0.
        clicks: Times clicked.
    """

    query: Int[np.ndarray, " rows"]
    document: Int[np.ndarray, " rows"]
    rank: Int[np.ndarray, " rows"]
    shown: Float[np.ndarray, " rows"]
    clicks: Float[np.ndarray, " rows"]

    def __len__(self) -> int:
        """Count the rows."""
        return len(self.query)

    def take(self, rows: NDArray[np.bool_] | NDArray[np.int64]) -> "Exposures":
        """Keep some rows."""
        return Exposures(*(getattr(self, name)[rows] for name in self.__dataclass_fields__))


@dataclass(frozen=True)
class Propensities:
    """How likely each rank is looked at, relative to the first that is known.

    Attributes:
        values: One value a rank, rank 1 first; NaN where the log does not tell.
        swapped_clicks: Clicks at each rank on documents that were shown at other ranks, too: what
            the value rests on.
    """

    values: Float[np.ndarray, " ranks"]
    swapped_clicks: Float[np.ndarray, " ranks"]


@dataclass(frozen=True)
class Relevance:
    """What a log says about each document of a query; one row for each pair.

    Attributes:
        query: Number of the query.
        document: Number of the document.
        clicks: Times clicked.
        examined: Times looked at, as the propensities have it: ``sum_k shown_k * p_k``.
        relevance: Estimated probability of a click where it is looked at; may pass 1 by chance.
    """

    query: Int[np.ndarray, " pairs"]
    document: Int[np.ndarray, " pairs"]
    clicks: Float[np.ndarray, " pairs"]
    examined: Float[np.ndarray, " pairs"]
    relevance: Float[np.ndarray, " pairs"]


def harvest_propensities(exposures: Exposures, n_ranks: int) -> Propensities:
    """Estimate propensities from a log in which rankings changed.

    Wherever one document was shown for one query at two ranks, its relevance was the same at both,
    so that what differs between their click rates is the ranks' doing. Over all such pairs, for
    every two ranks ``k`` and ``m`` that swapped documents, the weighted clicks ``c`` and
    non-clicks ``n`` at each give the likelihood

    ``sum_{k != m} c[k, m] * log(p_k * r_km) + n[k, m] * log(1 - p_k * r_km)``

    with ``r_km = r_mk`` the mean relevance of what the two swapped; EM maximises it. A pair's
    weight is the same at both ranks, as it must be for ``r`` to be: half the harmonic mean of the
    times shown, so that a pair seen once at one of them counts for little.

    Args:
        exposures: What was shown and clicked.
        n_ranks: Ranks to estimate; rows beyond are left aside.

    Returns:
        Propensities; a rank has none (NaN) where under 10 clicks rest on swaps, or where no chain
        of swaps joins it to the first rank.

    Source:
        Agarwal, Zaitsev, Wang, Li, Najork & Joachims (2019), WSDM, doi:10.1145/3289600.3291017,
        arXiv:1812.05161: intervention harvesting with the AllPairs estimator. EM for the
        position-based model as in Wang, Golbandi, Bendersky, Metzler & Najork (2018), WSDM,
        doi:10.1145/3159652.3159732, here on swap sets instead of single pairs. The weights are
        ours.
    """
    clicks, weights = _swaps(exposures, n_ranks)
    swapped = clicks.sum(axis=1)
    known = _connected(weights, swapped >= MIN_SWAPPED_CLICKS)
    values = np.full(n_ranks, np.nan)
    if known.sum() > 1:
        grid = np.ix_(known, known)
        fitted = _fit(clicks[grid], weights[grid])
        values[known] = fitted / fitted[0]
    return Propensities(values, swapped)


def estimate_relevance(
    exposures: Exposures,
    propensities: Float[np.ndarray, " ranks"],
    *,
    clip: float,
    inverse: bool,
) -> Relevance:
    """Estimate the relevance of every pair that was shown at a rank with a propensity.

    With ``p`` clipped from below, which trades a little bias for much variance,

    - inverse: ``r = sum_k (clicks_k / p_k) / sum_k shown_k``, each click weighted by the inverse
      of its rank's propensity;
    - otherwise: ``r = sum_k clicks_k / sum_k (shown_k * p_k)``, clicks over expected
      examinations: weighted likewise, and a rank that is hardly looked at counts for little.

    Args:
        exposures: What was shown and clicked.
        propensities: One a rank, NaN where unknown; rows at such ranks are left aside.
        clip: Least propensity, from 0 to 1.
        inverse: Which of the two.

    Source:
        Joachims, Swaminathan & Schnabel (2017), WSDM, doi:10.1145/3018661.3018699,
        arXiv:1608.04468, for the inverse weights and clipping; Zhang & Jones (2007), WWW workshop
        on query log analysis, for clicks over expected clicks.
    """
    usable = exposures.rank <= len(propensities)
    usable[usable] = ~np.isnan(propensities[exposures.rank[usable] - 1])
    kept = exposures.take(usable)
    chance = np.maximum(propensities[kept.rank - 1], clip)
    starts, kept_order = _pair_starts(kept)
    kept, chance = kept.take(kept_order), chance[kept_order]
    sums = {
        "shown": kept.shown,
        "clicks": kept.clicks,
        "examined": kept.shown * chance,
        "weighted": kept.clicks / chance,
    }
    total = {
        name: np.add.reduceat(column, starts) if len(kept) else column
        for name, column in sums.items()
    }
    relevance = (
        total["weighted"] / total["shown"] if inverse else total["clicks"] / total["examined"]
    )
    return Relevance(
        kept.query[starts], kept.document[starts], total["clicks"], total["examined"], relevance
    )


def shrink(relevance: Relevance) -> tuple[Relevance, float, float]:
    """Pull what rests on few examinations towards the mean, as far as the log itself suggests.

    A pair examined once and clicked once is hardly of relevance 1. Clicks are taken as Poisson
    about ``examined * r``, and ``r`` as Gamma with the log's mean and variance over pairs, which
    gives ``r = (clicks + prior * mean) / (examined + prior)``.

    Returns:
        The shrunk estimates, the prior's strength in examinations, and the mean.

    Source:
        Clayton & Kaldor (1987), Biometrics 43(3), doi:10.2307/2532003: empirical Bayes, the
        Gamma's moments estimated as there.
    """
    clicks, examined = relevance.clicks, relevance.examined
    mean = float(clicks.sum() / examined.sum())
    spread = float(((clicks - mean * examined) ** 2).sum() - mean * examined.sum())
    variance = max(spread / float((examined**2).sum()), 1e-6 * mean**2)
    prior = mean / variance
    shrunk = (clicks + prior * mean) / (examined + prior)
    return replace(relevance, relevance=shrunk), prior, mean


def _pair_starts(rows: Exposures) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Order rows by pair, then rank; give where each pair starts, and the order."""
    order = np.lexsort((rows.rank, rows.document, rows.query)).astype(np.int64)
    query, document = rows.query[order], rows.document[order]
    is_first = np.ones(len(order), dtype=bool)
    is_first[1:] = (query[1:] != query[:-1]) | (document[1:] != document[:-1])
    return np.flatnonzero(is_first).astype(np.int64), order


def _swaps(
    exposures: Exposures, n_ranks: int
) -> tuple[Float[np.ndarray, "ranks ranks"], Float[np.ndarray, "ranks ranks"]]:
    """Gather, for every two ranks, the weighted clicks at the first and the weight of both."""
    rows = exposures.take(exposures.rank <= n_ranks)
    _, order = _pair_starts(rows)
    rows = rows.take(order)
    rate, rank = rows.clicks / rows.shown, rows.rank - 1
    clicks, weights = np.zeros((n_ranks, n_ranks)), np.zeros((n_ranks, n_ranks))
    for step in range(1, min(n_ranks, len(rows))):  # rows of one pair stand together
        same = rows.query[step:] == rows.query[:-step]
        same &= rows.document[step:] == rows.document[:-step]
        if not same.any():
            break
        one, other = np.flatnonzero(same), np.flatnonzero(same) + step
        weight = rows.shown[one] * rows.shown[other] / (rows.shown[one] + rows.shown[other])
        for first, second in ((one, other), (other, one)):
            np.add.at(clicks, (rank[first], rank[second]), weight * rate[first])
            np.add.at(weights, (rank[first], rank[second]), weight)
    return clicks, weights


def _connected(
    weights: Float[np.ndarray, "ranks ranks"], enough: NDArray[np.bool_]
) -> NDArray[np.bool_]:
    """Say which ranks a chain of swaps, through ranks with enough clicks, joins to the first."""
    known = np.zeros(len(weights), dtype=bool)
    if enough[:1].any():
        known[0] = True
    while True:
        reached = enough & ((weights[known] > 0).any(axis=0) | known)
        if (reached == known).all():
            return known
        known = reached


def _fit(
    clicks: Float[np.ndarray, "ranks ranks"], weights: Float[np.ndarray, "ranks ranks"]
) -> Float[np.ndarray, " ranks"]:
    """Maximise the likelihood of swaps by EM."""
    missed = weights - clicks
    both_weights, row_weights = np.maximum(weights + weights.T, 1e-300), weights.sum(axis=1)
    chance = 1 / np.arange(1, len(clicks) + 1)
    relevance = np.clip((clicks + clicks.T) / both_weights, 1e-6, 0.5)
    for _ in range(_ITERATIONS):
        unseen = missed / np.maximum(1 - chance[:, None] * relevance, 1e-12)
        looked = clicks + unseen * chance[:, None] * (1 - relevance)
        liked = clicks + unseen * relevance * (1 - chance[:, None])
        updated = looked.sum(axis=1) / row_weights
        relevance = np.clip((liked + liked.T) / both_weights, 1e-9, 1)
        moved = np.abs(updated / updated[0] - chance / chance[0]).max()
        chance = np.clip(updated, 1e-9, 1)
        if moved < _TOLERANCE:
            break
    return chance
