"""What an import says it understood: fit for a screen and for JSON whatever the file holds."""

import json
from typing import Any

from trimtab_training.data.importers.understood import Reading, Understood, count_grades


def test_reading_is_json_with_three_examples_and_long_texts_cut() -> None:
    reading = Reading(
        "rows.jsonl",
        "pairs",
        {"query": ("frage \udce9",)},
        unused=("rest",),
        n_rows=9,
        examples=[{"query": {"text": "x" * 500}, "grade": 1.0}] * 5,
        grades=[1.0, 0.0, 1.0],
        times=[86_400.0, 0.0],
        notes=["lists are taken apart"],
    )
    record = reading.as_dict()
    assert json.loads(json.dumps(record, ensure_ascii=False).encode()) == record
    assert record["columns"] == {"query": ["frage \\udce9"]}
    assert len(record["examples"]) == 3
    assert record["examples"][0]["query"]["text"] == "x" * 199 + "…"
    assert record["grades"] == [{"grade": 0.0, "count": 1}, {"grade": 1.0, "count": 2}]
    assert record["times"] == {
        "first": "1970-01-01T00:00:00+00:00",
        "last": "1970-01-02T00:00:00+00:00",
    }


def test_many_grades_are_counted_in_ten_steps_that_lose_none() -> None:
    bars = count_grades([number / 100 for number in range(101)] * 2)
    assert len(bars) == 10
    assert sum(bar["count"] for bar in bars) == 202
    assert (bars[0]["from"], bars[-1]["to"]) == (0.0, 1.0)


def test_files_are_announced_as_they_come_and_the_whole_is_kept() -> None:
    told: list[dict[str, Any]] = []
    understood = Understood(told.append)
    understood.file(Reading("log.csv", "searches", {"query": ("q",)}))
    assert [one["file"] for one in told] == ["log.csv"]
    understood.times([3.0, 1e30])
    understood.grades([2.0])
    record = understood.as_dict()
    assert record["files"] == told
    assert record["grades"] == [{"grade": 2.0, "count": 1}]
    assert record["times"]["last"] == "1e+30 s since 1970"
