"""Two rankings held against each other, and rankings read out of Qdrant's answers."""

from typing import Any

import pytest

from trimtab.server.rankings import overlap, rank_distance, read_rankings


@pytest.mark.parametrize(
    ("raw", "adapted", "shared", "distance"),
    [
        ([], [], 1.0, 0.0),
        (["a"], ["a"], 1.0, 0.0),
        (["a"], ["b"], 0.0, 1.0),
        (["a", "b"], ["a", "b"], 1.0, 0.0),
        (["a", "b"], ["b", "a"], 1.0, 2 / 6),
        (["a", "b"], ["c", "d"], 0.0, 1.0),
        (["a", "b", "c"], ["a", "c", "d"], 2 / 3, (0 + 2 + 1 + 1) / 12),
        (["a", "b"], [], 0.0, (2 + 1) / 6),
        (["a", "b"], ["a"], 0.5, 1 / 6),
    ],
)
def test_overlap_and_distance_are_as_defined(
    raw: list[str], adapted: list[str], shared: float, distance: float
) -> None:
    for one, other in ((raw, adapted), (adapted, raw)):
        assert overlap(one, other) == pytest.approx(shared)
        assert rank_distance(one, other) == pytest.approx(distance)


def points(*ids: Any) -> list[dict[str, Any]]:
    return [{"id": each, "score": 1.0} for each in ids]


@pytest.mark.parametrize(
    ("result", "expected"),
    [
        ({"points": points(3, "u")}, [["3", "u"]]),
        (points(3, 1), [["3", "1"]]),
        ([], [[]]),
        ({"points": []}, [[]]),
        ([{"points": points(1)}, {"points": points(2, 3)}], [["1"], ["2", "3"]]),
        ([points(1), points()], [["1"], []]),
        ({"groups": [{"hits": points(4, 5)}, {"hits": points(6)}]}, [["4", "5", "6"]]),
        # of two tags, and so in two groups
        ({"groups": [{"hits": points(4, 5)}, {"hits": points(5, 4, 6)}]}, [["4", "5", "6"]]),
    ],
)
def test_rankings_are_read_from_every_kind_of_answer(result: Any, expected: Any) -> None:
    assert read_rankings({"result": result, "status": "ok"}) == expected


@pytest.mark.parametrize(
    "answer", [{}, {"result": None}, {"result": {"a": 1}}, None, {"result": 7}]
)
def test_what_is_no_answer_to_a_query_is_an_error(answer: Any) -> None:
    with pytest.raises((LookupError, TypeError)):
        read_rankings(answer)
