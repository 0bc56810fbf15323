"""The mends that are taken away on purpose still stand where they are looked for."""

import pytest

from benchmarks.breaks.run import Break, read_breaks
from benchmarks.record import ROOT


@pytest.mark.parametrize("each", read_breaks(), ids=lambda each: each.point)
def test_a_break_finds_its_mend_and_its_tests(each: Break) -> None:
    assert (ROOT / each.file).read_text(encoding="utf-8").count(each.old) == 1
    for test in each.tests:
        file, _, name = test.partition("::")
        words = (ROOT / file).read_text(encoding="utf-8")
        assert not name or f"def {name.rpartition('::')[2].partition('[')[0]}(" in words, test
