"""Any FAISS file is read as faiss itself has it, or refused in one line."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.faiss_battery import CONDITIONS, DAMAGED, KINDS

Outcomes = dict[tuple[str, str], str]

ROOT = Path(__file__).parents[2]
NOT_GIVEN_BACK = {"PCAW4,Flat", "ITQ8,LSH", "IVF4,FlatDedup", "IVF4,PQ4x4fs"}
"""Kinds whose vectors FAISS can't give, or gives wrong: they are searched only."""
NEVER_REMOVED = ("HNSW", "NSG", "Refine", "RFlat")
CUT_BYTE_UNUSED = {"IVF4,FlatPanorama2"}
"""Its file ends in bytes that FAISS writes and never reads: the last may be missing."""


@pytest.fixture(scope="module")
def outcomes() -> Outcomes:
    """What became of every case; a case that ended its process says so."""
    found: Outcomes = {}
    kinds = list(KINDS)
    while kinds:
        child = subprocess.run(
            [sys.executable, "-m", "tests.support.faiss_battery", *kinds],
            cwd=ROOT,
            env={**os.environ, "OMP_NUM_THREADS": "1"},
            capture_output=True,
            text=True,
            check=False,
        )
        told = [json.loads(line) for line in child.stdout.splitlines() if line.startswith('["')]
        found |= {(kind, condition): outcome for kind, condition, outcome in told}
        if not child.returncode:
            return found
        assert told, child.stderr
        last, condition, _ = told[-1]
        found[last, condition] = f"wrong: the process ended with {child.returncode}"
        kinds = kinds[kinds.index(last) + 1 :]
    return found


@pytest.mark.parametrize("condition", CONDITIONS)
def test_no_file_is_read_wrong_or_ends_the_process(outcomes: Outcomes, condition: str) -> None:
    of_it = {kind: outcomes[kind, condition] for kind in KINDS if (kind, condition) in outcomes}
    assert len(of_it) == len(DAMAGED if condition == "damaged" else KINDS)
    assert not {kind: outcome for kind, outcome in of_it.items() if outcome.startswith("wrong")}
    assert not [outcome for outcome in of_it.values() if "\n" in outcome]


@pytest.mark.parametrize("condition", ["as it is", "own", "moved"])
def test_every_kind_that_can_give_its_vectors_is_read(outcomes: Outcomes, condition: str) -> None:
    for kind in KINDS:
        searched_only = kind in NOT_GIVEN_BACK
        assert outcomes[kind, condition] == ("searched" if searched_only else "read"), kind


def test_numbers_that_faiss_confused_are_refused(outcomes: Outcomes) -> None:
    for kind in KINDS:
        outcome = outcomes[kind, "removed"]
        if any(word in kind for word in NEVER_REMOVED):
            continue
        if "IVF" in kind or "IMI" in kind:  # lists don't move up, so numbers are handed out again
            assert "stand twice" in outcome or "id map does not fit" in outcome, (kind, outcome)
        else:
            assert outcome in {"read", "searched", "not possible in FAISS"}, (kind, outcome)


def test_files_that_were_cut_short_are_refused(outcomes: Outcomes) -> None:
    for kind in set(KINDS) - CUT_BYTE_UNUSED:
        assert outcomes[kind, "truncated"].startswith("refused: "), kind
