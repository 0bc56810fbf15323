"""Answers survive whatever happens to the process that wrote them."""

import os
from pathlib import Path

import pytest

from trimtab_training.errors import DataError
from trimtab_training.synthesis.store import Answer, AnswerStore


def answer(key: str, **more: object) -> Answer:
    return Answer(key, f"doc of {key}", "question", 0, **more)  # type: ignore[arg-type]


def write(path: Path, *answers: Answer) -> None:
    with AnswerStore(path).opened() as store:
        for one in answers:
            store.append(one)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "kept" / "answers.jsonl"


def test_answers_are_read_back_as_they_were(path: Path) -> None:
    one = answer("a", text='["é \ud800"]', is_cut=True, prompt_tokens=3, answer_tokens=4)
    write(path, one)
    assert AnswerStore(path).answers == {"a": one}


def test_each_answer_is_on_disk_before_the_next_is_asked_for(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    synced: list[int] = []
    monkeypatch.setattr(os, "fsync", lambda _descriptor: synced.append(path.stat().st_size))
    with AnswerStore(path).opened() as store:
        for key in "abc":
            store.append(answer(key))
            assert len(synced) == len(store.answers)
            assert synced[-1] == path.stat().st_size > 0


@pytest.mark.parametrize("n_bytes", [1, 2, 20, 100])
def test_half_a_line_at_the_end_is_dropped_and_written_over(path: Path, n_bytes: int) -> None:
    write(path, answer("a"), answer("b"))
    os.truncate(path, path.stat().st_size - n_bytes)
    assert set(AnswerStore(path).answers) == {"a"}
    write(path, answer("c"))
    assert set(AnswerStore(path).answers) == {"a", "c"}
    assert path.read_bytes().count(b"\n") == 2


def test_file_of_half_a_line_only_is_an_empty_one(path: Path) -> None:
    path.parent.mkdir()
    path.write_bytes(b"x" * 200_000)
    write(path, answer("a"))
    assert set(AnswerStore(path).answers) == {"a"}
    assert path.read_bytes().startswith(b"{")


def test_failures_are_counted_until_an_answer_comes(path: Path) -> None:
    write(path, answer("a", failure="refused"), answer("b"), answer("a", failure="empty"))
    store = AnswerStore(path)
    assert store.failures["a"].failure == "empty"
    assert store.tries == {"a": 2}
    write(path, answer("a", text="x"))
    assert AnswerStore(path).failures == {}


def test_tokens_of_failures_are_paid_for_too(path: Path) -> None:
    write(path, answer("a", failure="refused", prompt_tokens=7), answer("a", answer_tokens=5))
    assert (AnswerStore(path).prompt_tokens, AnswerStore(path).answer_tokens) == (7, 5)


@pytest.mark.parametrize("line", [b"no json\n", b"[]\n", b'{"key": 1}\n', b"\n"])
def test_broken_line_within_is_named(path: Path, line: bytes) -> None:
    write(path, answer("a"))
    path.write_bytes(line + path.read_bytes())
    with pytest.raises(DataError, match=r"answers\.jsonl:1: (not JSON|expected an answer)"):
        AnswerStore(path)


def test_second_run_at_the_same_time_is_refused(path: Path) -> None:
    with (
        AnswerStore(path).opened(),
        pytest.raises(DataError, match=r"another run writes to .*--kept"),
        AnswerStore(path).opened(),
    ):
        pass


def test_what_another_run_added_meanwhile_is_seen(path: Path) -> None:
    early = AnswerStore(path)
    write(path, answer("a"))
    with early.opened():
        assert set(early.answers) == {"a"}


def test_folder_that_cannot_be_made_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    store = AnswerStore(tmp_path / "file" / "answers.jsonl")
    with pytest.raises(DataError, match="can't write"), store.opened():
        pass
