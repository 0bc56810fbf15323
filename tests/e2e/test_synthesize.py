"""`trimtab synthesize` killed and interrupted: what was paid for is never paid for again."""

import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.commands import TRIMTAB
from tests.support.llm_endpoint import (
    LlmEndpoint,
    good,
    hangs,
    running_endpoint,
    waits_then_good,
    write_corpus,
)

TEXTS = [f"Everything that is known of subject {n}: it is called thing{n}" for n in range(12)]


@pytest.fixture
def endpoint() -> Iterator[LlmEndpoint]:
    with running_endpoint() as server:
        yield server


def start(folder: Path, endpoint: LlmEndpoint, concurrency: int) -> subprocess.Popen[str]:
    write_corpus(folder / "docs" / "corpus.jsonl", TEXTS)
    words = ["synthesize", "docs", "-o", "out", "--model", "toy", "--style", "question"]
    more = ["--base-url", endpoint.url, "--concurrency", str(concurrency)]
    return subprocess.Popen([TRIMTAB, *words, *more], cwd=folder, stderr=subprocess.PIPE, text=True)


def test_killed_run_goes_on_and_pays_for_nothing_twice(
    endpoint: LlmEndpoint, tmp_path: Path
) -> None:
    endpoint.moods = [good] * 5 + [hangs]
    running = start(tmp_path, endpoint, concurrency=1)
    for _ in range(6):  # the sixth is sent once the fifth is on disk
        endpoint.came.acquire()
    running.kill()
    running.communicate()
    assert not (tmp_path / "out").exists()
    with (tmp_path / "out.kept" / "answers.jsonl").open("ab") as file:
        file.write(b'{"key": "half a li')
    again = start(tmp_path, endpoint, concurrency=4)
    _, said = again.communicate()
    assert again.returncode == 0, said
    assert "5 of them answered already" in " ".join(said.split())
    assert (len(endpoint.paid), set(endpoint.paid.values())) == (12, {1})


def test_interrupted_run_waits_for_what_is_under_way(endpoint: LlmEndpoint, tmp_path: Path) -> None:
    endpoint.default = waits_then_good
    running = start(tmp_path, endpoint, concurrency=2)
    endpoint.came.acquire()
    endpoint.came.acquire()
    running.send_signal(signal.SIGINT)
    said = ""
    for line in running.stderr or ():
        said += line
        if "Ctrl-C again" in said:
            break
    endpoint.release.set()
    said += running.communicate()[1]
    assert running.returncode == 130, said
    assert "waiting for 2 requests" in said
    assert "run the same command again" in " ".join(said.split())
    assert "Traceback" not in said
    kept = (tmp_path / "out.kept" / "answers.jsonl").read_text().splitlines()
    assert len(kept) == sum(endpoint.paid.values()) == 2
