"""Two answers to one query, held against each other: how many points they share, in what order."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

Ranking = Sequence[str]
"""Ids of points, best first, each once."""


def overlap(raw: Ranking, adapted: Ranking) -> float:
    """Give the share of the longer ranking's points that both have; 1 for two empty ones."""
    size = max(len(raw), len(adapted))
    return len(set(raw) & set(adapted)) / size if size else 1.0


def rank_distance(raw: Ranking, adapted: Ranking) -> float:
    """Give how far two rankings are apart: 0 for the same, 1 where they share no point.

    Spearman's footrule of top-k lists, a missing point standing at place k + 1, over the largest
    value that it can take.

    Source:
        Fagin, Kumar and Sivakumar (2003), SIAM J. Discrete Math. 17(1), section 3.2 (F with
        location parameter k + 1), doi:10.1137/S0895480102412856.
    """
    k = max(len(raw), len(adapted))
    if not k:
        return 0.0
    places = [{point: place for place, point in enumerate(each)} for each in (raw, adapted)]
    moved = sum(
        abs(places[0].get(point, k) - places[1].get(point, k)) for point in {*raw, *adapted}
    )
    return moved / (k * (k + 1))


def read_rankings(answer: Any) -> list[Ranking]:
    """Read the ranked ids out of Qdrant's JSON answer to any query.

    Args:
        answer: The parsed answer.

    Returns:
        One ranking for each search; of groups, the points of all groups in their order
        (:func:`of_groups`).

    Raises:
        LookupError: It is no answer to a query; a TypeError likewise.
    """
    result = answer["result"]
    if isinstance(result, Mapping):
        return [_read_one(result)]
    is_batch = bool(result) and (isinstance(result[0], list) or "points" in result[0])
    return [_read_one(each) for each in result] if is_batch else [_read_one(result)]


def of_groups(groups: Iterable[Iterable[str]]) -> Ranking:
    """Give the points of all groups in their order; one in several counts where it is first.

    A point stands in a group for every value of its field, and so in several where that is a list.
    """
    return list(dict.fromkeys(point for group in groups for point in group))


def of_searches(rankings: Sequence[Ranking], positions: Iterable[int]) -> dict[int, Ranking]:
    """Give the rankings of some searches, by their positions in the request.

    Raises:
        LookupError: There are fewer rankings.
    """
    return {position: rankings[position] for position in sorted(positions)}


def _read_one(result: Any) -> Ranking:
    """Read one search's ids."""
    if isinstance(result, Mapping):
        if "groups" in result:
            return of_groups(_ids(group["hits"]) for group in result["groups"])
        result = result["points"]
    return _ids(result)


def _ids(points: Iterable[Any]) -> list[str]:
    """Give points' ids."""
    return [str(point["id"]) for point in points]
