"""The rival that re-embeds goes on where it was stopped, as if it had not been."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from benchmarks.quality import encoder_fit
from benchmarks.quality.encoder_fit import PATIENCE, Fit, Setting, Texts

N = 12
EPOCHS = 4
QRELS = {f"q{row}": {f"d{row}": 1.0} for row in range(N)}
TEXTS = Texts({f"q{row}": [row] for row in range(N)}, {f"d{row}": [N + row] for row in range(N)})
SETTING = Setting(0.05, EPOCHS, "float32")
SCORES = (0.1, 0.2, 0.3, 0.4)  # a new best, and so three files, every epoch


class TableEncoder:
    """A vector for every token, with dropout, so that chance has to go on as well."""

    def __init__(self) -> None:
        torch.manual_seed(1)
        self.body = torch.nn.Sequential(torch.nn.Embedding(2 * N, 6), torch.nn.Dropout(0.2))
        self.precision = "float32"

    def embed(self, tokens: list[list[int]]) -> torch.Tensor:
        vectors = self.body(torch.tensor([row[0] for row in tokens]))
        return torch.nn.functional.normalize(vectors, dim=-1)


class Scripted:
    """Validation scores told beforehand."""

    def __init__(self, *scores: float) -> None:
        self.scores = list(scores)

    def __call__(self, _encoder: object) -> float:
        return self.scores.pop(0)


def weights(encoder: TableEncoder) -> torch.Tensor:
    return encoder.body[0].weight.detach().clone()


def fit_in(folder: Path, encoder: TableEncoder | None = None) -> Fit:
    return Fit(folder, encoder or TableEncoder(), TEXTS, SETTING)


def cut_off_after(n_writes: int, patched: pytest.MonkeyPatch) -> None:
    """Let so many files be written, and no more."""
    done = []

    def counted(write: Callable[[Path, object], None]) -> Callable[[Path, object], None]:
        def write_or_stop(path: Path, content: object) -> None:
            if len(done) == n_writes:
                raise KeyboardInterrupt
            done.append(path)
            write(path, content)

        return write_or_stop

    for name in ("save_whole", "write_json"):
        patched.setattr(encoder_fit, name, counted(getattr(encoder_fit, name)))


def test_that_a_fit_that_was_stopped_ends_like_one_that_was_not(tmp_path: Path) -> None:
    straight = TableEncoder()
    fit_in(tmp_path / "straight", straight).run(QRELS, None, stop=EPOCHS)
    fit_in(tmp_path / "stopped").run(QRELS, None, stop=2)
    resumed = TableEncoder()
    fit_in(tmp_path / "stopped", resumed).run(QRELS, None, stop=EPOCHS)
    torch.testing.assert_close(weights(resumed), weights(straight))


@pytest.mark.parametrize("n_writes", range(6))
def test_that_an_epoch_is_not_trained_twice_wherever_its_writing_was_cut_off(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, n_writes: int
) -> None:
    straight = TableEncoder()
    wanted = fit_in(tmp_path / "straight", straight)
    wanted.run(QRELS, Scripted(*SCORES), stop=EPOCHS)
    with monkeypatch.context() as patched:
        cut_off_after(n_writes, patched)
        with pytest.raises(KeyboardInterrupt):
            fit_in(tmp_path / "stopped").run(QRELS, Scripted(*SCORES), stop=EPOCHS)
    resumed = TableEncoder()
    again = fit_in(tmp_path / "stopped", resumed)
    again.run(QRELS, Scripted(*SCORES[n_writes // 3 :]), stop=EPOCHS)
    torch.testing.assert_close(weights(resumed), weights(straight))
    assert [entry["dev"] for entry in again.log] == [entry["dev"] for entry in wanted.log]
    again.load_best()
    wanted.load_best()
    torch.testing.assert_close(weights(resumed), weights(straight))


def test_that_the_best_epoch_is_kept_and_patience_ends_the_rest(tmp_path: Path) -> None:
    encoder = TableEncoder()
    fit = fit_in(tmp_path, encoder)
    fit.run(QRELS, Scripted(0.3), stop=1)
    best = weights(encoder)
    again = fit_in(tmp_path, encoder)
    again.run(QRELS, Scripted(0.2, 0.1, 0.9), stop=EPOCHS)
    assert len(again.log) == 1 + PATIENCE < EPOCHS
    assert not torch.equal(weights(encoder), best)
    again.load_best()
    assert torch.equal(weights(encoder), best)


def test_that_a_finished_fit_trains_no_more(tmp_path: Path) -> None:
    fit_in(tmp_path).run(QRELS, None, stop=EPOCHS)
    kept = json.loads((tmp_path / "log.json").read_text(encoding="utf-8"))
    again = fit_in(tmp_path)
    again.run(QRELS, None, stop=EPOCHS)
    assert again.log == kept
    assert len(kept) == EPOCHS
