"""How small a difference can a test split tell from chance? Pure."""

import math
from dataclasses import asdict, dataclass
from typing import Any

_Z_TWO_SIDED_5 = 1.959964
_Z_POWER_80 = 0.841621
ASSUMED_BASE_SPREAD = 0.4  # nDCG@10 by query; .34 to .41 on the five sets of docs/quality.md
ASSUMED_CORRELATION = 0.85  # of raw and adapted nDCG@10 by query; .53 to .97 on the five sets


@dataclass(frozen=True)
class Power:
    """What a test split can tell.

    Attributes:
        n_queries: Its queries that have a relevant document.
        spread: Standard deviation of the paired differences by query.
        source: Where the spread is from.
        detectable: Least true difference that is found significant (two-sided, 5 %) in 80 of 100
            such splits.
        difference: The difference that is asked about.
        n_needed: Queries that it takes.
    """

    n_queries: int
    spread: float
    source: str
    detectable: float
    difference: float
    n_needed: int

    def as_dict(self) -> dict[str, Any]:
        """Give it as JSON."""
        return asdict(self)


def spread_of_differences(base_spread: float) -> float:
    """Guess the spread of paired differences before there is an adapter.

    ``sqrt(2 * (1 - correlation)) * base_spread``: two systems of one spread whose scores by query
    correlate as raw and adapted ones do. The correlation is an assumption. Large gains come with
    a larger spread (up to the base's own), but there few queries are enough anyway.

    Args:
        base_spread: Standard deviation of the base's scores by query.
    """
    return math.sqrt(2 * (1 - ASSUMED_CORRELATION)) * base_spread


def power_of(n_queries: int, spread: float, source: str, difference: float) -> Power:
    """Work out the least detectable difference, and the queries that another one takes.

    ``detectable = (z_0.975 + z_0.80) * spread / sqrt(n)``, the normal approximation of the paired
    t test's.

    Args:
        n_queries: Test queries that have a relevant document.
        spread: Standard deviation of the paired differences by query.
        source: Where the spread is from.
        difference: Difference to be told from chance, above 0.

    Source:
        Webber, Moffat & Zobel (2008), CIKM, doi:10.1145/1458082.1458158, who also show how far
        such guesses of the spread may be off; Sakai (2016), Information Retrieval Journal 19,
        doi:10.1007/s10791-015-9273-z.
    """
    reach = (_Z_TWO_SIDED_5 + _Z_POWER_80) * spread
    detectable = reach / math.sqrt(n_queries) if n_queries else math.inf
    needed = math.ceil((reach / difference) ** 2)
    return Power(n_queries, spread, source, detectable, difference, needed)
