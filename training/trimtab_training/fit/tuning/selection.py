"""From held-out scores to a choice: nothing, the adapter, the tuned encoder, or the mean of both.

The adapter and "nothing" are always among the choices, on the same held-out queries, so that tuning
is never chosen below them.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from trimtab_training.fit.model_selection import (
    HeldOut,
    choose,
    objective,
    optimism_of,
    select,
    standard_error,
)
from trimtab_training.fit.tuning.tuning_trials import MEAN, TUNED, Candidate

Choice = Literal["nothing", "adapter", "tuned", "mean"]
_FULL = 1.0


@dataclass(frozen=True)
class TuningSelection:
    """What is to be shipped.

    Attributes:
        choice: Which.
        candidate: How the encoder was trained that is to be shipped; None where none is.
        best: The best candidate of each way of use, chosen or not.
        text: The same in one sentence.
        validation: Held-out nDCG@10 of every rival, and of every candidate that was tried.
    """

    choice: Choice
    candidate: Candidate | None
    best: Mapping[str, Candidate]
    text: str
    validation: dict[str, Any]


def select_tuning(
    adapter: HeldOut | None,
    rated: Mapping[Candidate, HeldOut],
    tried: Mapping[Candidate, HeldOut],
    min_gain: float,
) -> TuningSelection:
    """Choose by held-out scores, the cheapest to serve of those that are not clearly worse.

    Args:
        adapter: Scores of the vector adapter; None where none helps.
        rated: Scores of what may be shipped, on all folds.
        tried: Scores of all candidates while weights were chosen, on some folds.
        min_gain: Least gain in nDCG@10 that is worth anything.
    """
    best = {way: _best_of(way, rated) for way in (TUNED, MEAN) if _has(way, rated)}
    rivals: dict[str, HeldOut] = {} if adapter is None else {"adapter": adapter}
    rivals |= {way: rated[candidate] for way, candidate in best.items()}
    validation = _describe(rivals, best, {**tried, **rated})
    fallback: Choice = "nothing" if adapter is None else "adapter"
    chosen = choose(rivals) if rivals else fallback
    if chosen not in best:
        return TuningSelection(fallback, None, best, _say_no(validation, fallback), validation)
    everyone = [*rated.values(), *([] if adapter is None else [adapter])]
    optimism = max(optimism_of(list(each)) for each in (everyone, tried.values()) if each)
    selection = select(rated[best[chosen]], _FULL, optimism, min_gain)
    validation |= {"expected_gain": selection.gain, "standard_error": selection.error}
    if not selection.helps:
        return TuningSelection(fallback, None, best, _say_no(validation, fallback), validation)
    what = "The tuned encoder" if chosen == TUNED else "The mean of tuned and adapted queries"
    text = (
        f"{what} helps: nDCG@10 {selection.gain:+.4f} expected from {len(rivals[chosen].base)} "
        f"held-out queries, standard error {selection.error:.4f} (before choosing is taken off: "
        f"{_name_gains(validation)})."
    )
    choice: Choice = "tuned" if chosen == TUNED else "mean"
    return TuningSelection(choice, best[chosen], best, text, validation)


def _has(way: str, rated: Mapping[Candidate, HeldOut]) -> bool:
    """Tell whether a way of use was rated."""
    return any(candidate.way == way for candidate in rated)


def _best_of(way: str, rated: Mapping[Candidate, HeldOut]) -> Candidate:
    """Give the candidate of one way that held-out queries rate best."""
    of_way = [candidate for candidate in rated if candidate.way == way]
    return max(of_way, key=lambda candidate: rated[candidate].gain(_FULL))


def _say_no(validation: Mapping[str, Any], fallback: str) -> str:
    """Say that tuning is not chosen, and what stays."""
    keep = "raw queries" if fallback == "nothing" else "adapter"
    return (
        f"Tuning the encoder does not clearly help here (held-out gains in nDCG@10: "
        f"{_name_gains(validation) or 'none'}). Keep the {keep}."
    )


def _name_gains(validation: Mapping[str, Any]) -> str:
    """Name every rival with its held-out gain."""
    return ", ".join(f"{way} {each['gain']:+.4f}" for way, each in validation["rivals"].items())


def _describe(
    rivals: Mapping[str, HeldOut],
    best: Mapping[str, Candidate],
    tried: Mapping[Candidate, HeldOut],
) -> dict[str, Any]:
    """Write down what the choice rests on."""
    return {
        "rivals": {
            way: {
                "n_queries": len(scores.base),
                "base_ndcg@10": float(scores.base.mean()),
                "gain": objective(scores),
                "standard_error": standard_error(scores.gains(max(scores.adapted))),
                **({"passes": best[way].n_passes} if way in best else {}),
            }
            for way, scores in rivals.items()
        },
        "trials": [
            {
                "way": candidate.way,
                "pull": candidate.weights.pull,
                "corpus": candidate.weights.corpus,
                "unlabelled": candidate.weights.unlabelled,
                "passes": candidate.n_passes,
                "n_queries": len(scores.base),
                "gain": scores.gain(_FULL),
            }
            for candidate, scores in tried.items()
        ],
    }
