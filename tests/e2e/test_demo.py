"""The demo, on fewer terms: interrupted wherever it hurts, it ends the same."""

import json
import shlex
import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.support.commands import TRIMTAB, trimtab

WORDS = [TRIMTAB, "demo", "--terms", "600"]


def interrupt_when(ready: Callable[[], bool], cwd: Path) -> None:
    """Start the demo, press Ctrl-C once something is there, and wait for its end."""
    running = subprocess.Popen(WORDS, cwd=cwd, stderr=subprocess.PIPE, text=True)
    while not ready():
        assert running.poll() is None, "the demo ended before it could be interrupted"
        time.sleep(0.02)
    running.send_signal(signal.SIGINT)
    _, talk = running.communicate()
    assert running.returncode == 130, talk
    assert "Traceback" not in talk


@pytest.fixture(scope="module")
def demo(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """Run the demo, interrupted while embedding and while fitting; give place and screen."""
    place = tmp_path_factory.mktemp("demo")
    vectors = place / "demo" / "hpo-lay-600" / ".embeddings.partial"

    def has_embedded_some() -> bool:
        return any(file.stat().st_size > 200_000 for file in vectors.glob("*.journal"))

    def has_fitted_some() -> bool:
        return len(list((place / "models/.hpo-lay.partial/fit").glob("*.safetensors"))) > 1

    interrupt_when(has_embedded_some, place)
    journal = max(file.stat().st_size for file in vectors.glob("*.journal"))
    assert journal > 200_000
    interrupt_when(has_fitted_some, place)
    done = subprocess.run(WORDS, cwd=place, capture_output=True, text=True, check=True)
    return place, done.stdout + done.stderr


def test_demo_leaves_a_model_that_helps_on_unseen_terms(demo: tuple[Path, str]) -> None:
    record = json.loads((demo[0] / "models/hpo-lay/evaluation.json").read_text())
    low, _ = record["metrics"]["ndcg@10"]["ci95"]
    assert low > 0
    assert record["slices"]["seen_documents"]["n_queries"] == 0


def test_demo_leaves_nothing_half_made(demo: tuple[Path, str]) -> None:
    left = [path.name for path in demo[0].rglob("*") if "partial" in path.name]
    assert left == []
    assert {path.name for path in (demo[0] / "models/hpo-lay").iterdir()} == {
        "adapter.onnx", "evaluation.json", "report.html", "README.md", "checkpoint",
        "runs", "trained_on.npz",
    }  # fmt: skip


def test_demo_shows_version_examples_table_cost_and_next_step(demo: tuple[Path, str]) -> None:
    for words in (
        "hp/releases/", "adapted query", "✔", "ndcg@10", "95 % interval", "cost:", "MB model",
        "trimtab fit DATASET",
    ):  # fmt: skip
        assert words in demo[1]


def test_search_command_that_the_demo_names_works(demo: tuple[Path, str]) -> None:
    line = next(text for text in demo[1].splitlines() if "trimtab search" in text)
    assert "“runny nose”" in trimtab(*shlex.split(line)[1:], cwd=demo[0]).stdout
