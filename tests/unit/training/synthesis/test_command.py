"""`trimtab synthesize` as it is typed: what it shows, and what it refuses."""

import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner, Result

from tests.support.llm_endpoint import LlmEndpoint, running_endpoint, status, write_corpus
from tests.support.sets import write_embeddings
from trimtab.commands.group import main
from trimtab_training.lock import locked

TEXTS = [f"Everything that is known of subject {n}: it is called thing{n}" for n in range(12)]


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    write_corpus(tmp_path / "docs" / "corpus.jsonl", TEXTS)
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    return tmp_path


@pytest.fixture
def endpoint() -> Iterator[LlmEndpoint]:
    with running_endpoint() as server:
        yield server


def synthesize(*words: object) -> Result:
    given = ("synthesize", "docs", "-o", "out", "--model", "toy", *words)
    return CliRunner().invoke(main, [str(word) for word in given])


def said(result: Result) -> str:
    return " ".join(result.stderr.split())


def test_dry_run_shows_the_first_prompt_and_the_cost_and_makes_nothing(place: Path) -> None:
    result = synthesize("--dry-run", "--base-url", "http://127.0.0.1:1/v1")
    assert result.exit_code == 0, result.output
    assert "36 requests, 0 of them answered already" in said(result)
    assert "estimated: UTF-8 bytes over 4" in said(result)
    assert "<document>" in result.stdout
    assert sorted(path.name for path in place.iterdir()) == ["docs"]


def test_summary_names_every_count_and_the_next_step(place: Path, endpoint: LlmEndpoint) -> None:
    endpoint.moods = [status(400, "too long")]
    result = synthesize("--base-url", endpoint.url, "--style", "question", "--concurrency", 1)
    assert result.exit_code == 0, result.output
    assert "33 queries written, 33 kept" in result.stdout
    assert "1 requests failed and 0 were not asked" in result.stdout
    assert "tokens paid for so far: 110 of prompts, 55 of answers" in result.stdout
    assert "made out" in result.stdout
    assert "drawn uniformly" in said(result)
    assert "no round trip" in said(result)
    assert "Scores on written queries are not scores on real ones" in said(result)
    assert "next: trimtab embed out -o out.embeddings" in said(result)


def test_json_is_one_object_on_stdout(place: Path, endpoint: LlmEndpoint) -> None:
    result = synthesize("--base-url", endpoint.url, "--json", "--budget", 4)
    summary = json.loads(result.stdout)
    assert summary == json.loads((place / "out" / "synthesis" / "summary.json").read_text())
    assert summary["documents"]["drawn"] == 4
    assert summary["styles"] == ["question", "keywords", "layperson"]


def test_stored_vectors_make_the_sample_cover_the_corpus(
    place: Path, endpoint: LlmEndpoint
) -> None:
    vectors = np.eye(12, dtype=np.float32)
    write_embeddings(place / "emb", documents=vectors, queries=vectors[:1], dim=12)
    (place / "emb" / "queries.npy").unlink()  # there are none yet
    result = synthesize("--base-url", endpoint.url, "--embeddings", "emb", "--budget", 5)
    assert result.exit_code == 0, result.output
    assert "5 of 12 documents, drawn from clusters" in said(result)


def test_kept_answers_make_a_dataset_without_the_endpoint(
    place: Path, endpoint: LlmEndpoint
) -> None:
    endpoint.moods = [status(401)]
    first = synthesize("--base-url", endpoint.url, "--style", "question", "--concurrency", 1)
    assert first.exit_code == 1
    assert "check the key" in said(first)
    assert not (place / "out").exists()
    assert synthesize("--only-kept").exit_code == 1
    endpoint.default = status(402, "no credit")
    from tests.support.llm_endpoint import good

    endpoint.moods = [good] * 3
    asked = ("--base-url", endpoint.url, "--style", "question", "--concurrency", 1)
    assert synthesize(*asked).exit_code == 1
    result = synthesize(*asked, "--only-kept")
    assert result.exit_code == 0, result.output
    assert "9 queries written" in result.stdout
    assert "0 requests failed and 9 were not asked" in result.stdout


def test_key_comes_from_the_named_variable(
    place: Path, endpoint: LlmEndpoint, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MY_KEY", "secret")
    synthesize("--base-url", endpoint.url, "--key-variable", "MY_KEY", "--budget", 1)
    assert endpoint.keys == {"Bearer secret"}


@pytest.mark.parametrize(
    ("words", "code", "message"),
    [
        (["--style", "example"], 2, "--style example needs --examples FILE"),
        (["--extra", "{"], 2, "--extra is not JSON"),
        (["--extra", "[" * 100_000], 2, "--extra is not JSON"),
        (["--extra", "[]"], 2, "--extra must be a JSON object"),
        (["--encoder", "minilm"], 2, "--encoder needs the stored vectors"),
        (["--embeddings", "a", "--documents", "b"], 2, "not both"),
        (["--embeddings", "nothing"], 1, "no embeddings folder at nothing"),
        (["--documents", "x:y"], 1, "unknown source of documents 'x:y'"),
        (["--template", "nothing.txt"], 1, "can't read the template nothing.txt"),
        (["--template", "docs/corpus.jsonl"], 1, "has no {document}"),
        (["--base-url", "not an address"], 1, "expected such as http://localhost:8000/v1"),
        (["-o", "."], 2, "-o must name a folder"),
        (["--real", "nothing"], 1, "no dataset folder at nothing"),
    ],
)
def test_mistakes_are_one_line_and_leave_nothing(
    place: Path, words: list[str], code: int, message: str
) -> None:
    result = synthesize("--budget", 1, *words)
    assert result.exit_code == code, result.output
    assert message in said(result)
    assert "Traceback" not in result.output
    assert not (place / "out").exists()


@pytest.mark.parametrize("held", ["out", "out.kept"])
def test_second_run_is_refused_before_it_asks_or_writes(place: Path, held: str) -> None:
    with locked(place / held):
        result = synthesize("--base-url", "http://127.0.0.1:1/v1")
        dry = synthesize("--base-url", "http://127.0.0.1:1/v1", "--dry-run")
    assert result.exit_code == 1
    assert f"another run writes to {held}; wait for it" in said(result)
    assert dry.exit_code == 0
    assert sorted(path.name for path in place.iterdir()) == ["docs"]
