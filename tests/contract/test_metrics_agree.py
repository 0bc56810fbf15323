"""Our metrics and ir_measures': one answer for every query."""

import ir_measures
import numpy as np
import pytest
from ir_measures import RR, R, Success, nDCG

from trimtab_training.retrieval.metrics import measure

AGREE = 1e-9  # both are float64 sums of at most ten terms
TWINS = {"ndcg@10": nDCG @ 10, "mrr@10": RR @ 10, "hit@10": Success @ 10, "recall@100": R @ 100}


def made_up(
    n_documents: int, depth: int, grades: list[float], rng: np.random.Generator
) -> tuple[np.ndarray, list[dict[int, float]]]:
    """Rank random documents for 40 queries, some of which find or want nothing relevant."""
    rows, wanted = [], []
    for query in range(40):
        rows.append(rng.permutation(n_documents)[:depth])
        n_relevant = int(rng.integers(1, min(25, n_documents) + 1))
        relevant = rng.choice(n_documents, size=n_relevant, replace=False)
        if query % 10 == 9:
            relevant = np.setdiff1d(relevant, rows[-1])
        wanted.append({int(row): float(rng.choice(grades)) for row in relevant})
    return np.array(rows, dtype=np.int64), wanted


@pytest.mark.parametrize(
    ("n_documents", "depth"), [(5, 5), (9, 9), (40, 40), (400, 100), (5000, 100)]
)
@pytest.mark.parametrize("grades", [[1], [1, 2, 3], [1, 4, 9]])
def test_every_query_scores_as_ir_measures_says(
    n_documents: int, depth: int, grades: list[float]
) -> None:
    rng = np.random.default_rng(n_documents + len(grades))
    rows, wanted = made_up(n_documents, depth, grades, rng)
    ours = measure(rows, wanted)
    qrels = [
        ir_measures.Qrel(f"q{query}", f"d{row}", int(grade))
        for query, grades_of_query in enumerate(wanted)
        for row, grade in [*grades_of_query.items(), (n_documents, 0)]  # judged non-relevant
    ]
    run = [  # scores fall with our ranks, so neither side has ties to break
        ir_measures.ScoredDoc(f"q{query}", f"d{row}", float(depth - rank))
        for query, found in enumerate(rows)
        for rank, row in enumerate(found)
    ]
    theirs = {
        (one.query_id, one.measure): one.value
        for one in ir_measures.iter_calc(list(TWINS.values()), qrels, run)
    }
    assert len(theirs) == len(rows) * len(TWINS)
    for name, twin in TWINS.items():
        wanted_scores = [theirs[f"q{query}", twin] for query in range(len(rows))]
        np.testing.assert_allclose(ours[name], wanted_scores, rtol=0, atol=AGREE, err_msg=name)
