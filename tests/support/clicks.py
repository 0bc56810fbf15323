"""A search engine whose readers follow the position-based model, with everything known."""

import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np


@dataclass(frozen=True)
class ClickWorld:
    """What is true, and what the log says.

    Attributes:
        propensities: How likely each rank is looked at, rank 1 first.
        relevance: Probability of a click where it is looked at, by query and document.
        queries: The query of every search.
        shown: Documents of every search, best first.
        clicked: Whether each was clicked.
    """

    propensities: np.ndarray
    relevance: np.ndarray
    queries: np.ndarray
    shown: np.ndarray
    clicked: np.ndarray

    def write_whole(self, path: Path) -> Path:
        """Write a JSON Lines log with one search a row."""
        with path.open("w", encoding="utf-8") as file:
            for search, query in enumerate(self.queries.tolist()):
                names = [f"d{query}-{one}" for one in self.shown[search].tolist()]
                clicked = np.flatnonzero(self.clicked[search]).tolist()
                row = {
                    "query": f"what about {query}?",
                    "shown": names,
                    "clicked": [names[one] for one in clicked],
                    "dwell": [30.0 for _ in clicked],
                    "time": 1_700_000_000 + 60 * search,
                }
                file.write(json.dumps(row) + "\n")
        return path


def make_clicks(
    n_searches: int,
    *,
    n_queries: int = 60,
    n_documents: int = 20,
    n_ranks: int = 10,
    decay: float = 1.0,
    noise: float = 0.6,
    wobble: float = 0.08,
    seed: int = 0,
) -> ClickWorld:
    """Run searches on an engine that is partly right, and whose rankings wobble a little.

    Args:
        n_searches: How many.
        n_queries: Different queries, the first the most frequent.
        n_documents: Documents that could be shown for each.
        n_ranks: Documents shown.
        decay: Rank k is looked at with probability ``k ** -decay``.
        noise: How wrong the engine is.
        wobble: How much its rankings change from search to search; 0: never.
        seed: Of everything.
    """
    rng = np.random.default_rng(seed)
    propensities = np.arange(1, n_ranks + 1, dtype=np.float64) ** -decay
    relevance = np.minimum(rng.beta(0.4, 1.6, size=(n_queries, n_documents)), 1)
    belief = relevance + rng.normal(0, noise, size=relevance.shape)
    weight = 1 / np.arange(1, n_queries + 1) ** 0.7
    queries = rng.choice(n_queries, size=n_searches, p=weight / weight.sum())
    scores = belief[queries] + rng.normal(0, wobble, size=(n_searches, n_documents))
    shown = np.argsort(-scores, axis=1)[:, :n_ranks]
    chance = propensities * relevance[queries[:, None], shown]
    return ClickWorld(propensities, relevance, queries, shown, rng.random(chance.shape) < chance)
