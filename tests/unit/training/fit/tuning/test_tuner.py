"""The loop of a tuning: where it starts, what it pulls towards, and how it is interrupted."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pytest
import torch

from tests.support.tiny_transformer import read_queries, write_encoder, write_world
from trimtab_training.data.dataset import Dataset
from trimtab_training.embeddings.local_encoder import LocalEncoder
from trimtab_training.embeddings.store import Embeddings
from trimtab_training.errors import DataError, DivergedError
from trimtab_training.fit.checkpoint import Workspace
from trimtab_training.fit.device import seeded
from trimtab_training.fit.recipe import Recipe
from trimtab_training.fit.tuning.corpus_queries import CorpusQueries, read_corpus_queries
from trimtab_training.fit.tuning.settings import TuningSettings, TuningWeights
from trimtab_training.fit.tuning.trainable_encoder import TrainableEncoder
from trimtab_training.fit.tuning.tuner import Tuner, TuningData

CPU = torch.device("cpu")
SETTINGS = TuningSettings(epochs=4, batch_size=16, learning_rate=3e-3, rank=4)
PLAIN = TuningWeights(pull=0.0, corpus=0.0, unlabelled=1.0)
ROUNDING = 1e-5
"""Batches of another size add float32 in another order."""


@dataclass
class Bench:
    """What a trial is made of."""

    encoder: LocalEncoder
    embeddings: Embeddings
    data: TuningData
    texts: dict[str, str]

    def tuner(self, settings: TuningSettings = SETTINGS, weights: TuningWeights = PLAIN) -> Tuner:
        return Tuner(
            "trial",
            TrainableEncoder(self.encoder, settings),
            weights,
            data=self.data,
            embeddings=self.embeddings,
            recipe=Recipe(),
            settings=settings,
        )

    def run(
        self,
        settings: TuningSettings = SETTINGS,
        weights: TuningWeights = PLAIN,
        n_passes: int = 4,
        workspace: Workspace | None = None,
    ) -> torch.Tensor:
        """Train under a seed; give the vectors of some queries."""
        with seeded(settings.seed, CPU):
            tuner = self.tuner(settings, weights)
            tuner.run(workspace or open_workspace(None), n_passes)
        return tuner.encoder.embed(self.some_texts)

    @property
    def some_texts(self) -> list[str]:
        return list(self.texts.values())[:20]


def open_workspace(folder: Path | None) -> Workspace:
    return Workspace(folder, {}, resume="if_same")


@pytest.fixture(scope="module")
def bench(tmp_path_factory: pytest.TempPathFactory) -> Bench:
    place = tmp_path_factory.mktemp("tuner")
    encoder = LocalEncoder(write_encoder(place / "encoder"))
    dataset = Dataset.load(write_world(place / "world", encoder))
    embeddings = Embeddings.open(dataset.folder / "embeddings")
    train, texts = dataset.split("train"), read_queries(dataset.folder)
    corpus = read_corpus_queries(dataset, embeddings.documents, "titles", most=99, seed=0)
    return Bench(encoder, embeddings, TuningData(train, texts, (), corpus), texts)


@pytest.fixture(scope="module")
def free(bench: Bench) -> torch.Tensor:
    """What plain training makes of some queries."""
    return bench.run()


def raw(bench: Bench) -> torch.Tensor:
    return torch.from_numpy(bench.encoder.encode(bench.some_texts))


def test_trial_without_a_training_query_is_refused(bench: Bench) -> None:
    empty = replace(bench, data=replace(bench.data, train={}))
    with pytest.raises(DataError, match="left without a training query"):
        empty.tuner()


@pytest.mark.parametrize("method", ["lora", "all"])
def test_no_pass_leaves_the_encoder_untouched(bench: Bench, method: str) -> None:
    settings = replace(SETTINGS, method=method)
    found = bench.run(settings, n_passes=0)
    assert torch.allclose(found, raw(bench), atol=ROUNDING)


@pytest.mark.parametrize("method", ["lora", "all"])
def test_training_lowers_the_loss_and_leaves_the_given_encoder_alone(
    bench: Bench, method: str
) -> None:
    settings = replace(SETTINGS, method=method)
    before = raw(bench)
    with seeded(0, CPU):
        tuner = bench.tuner(settings)
        curve = tuner.run(open_workspace(None), 4).curve
    assert curve[-1]["loss"] < 0.8 * curve[0]["loss"]
    assert torch.equal(raw(bench), before)


def test_merged_model_gives_the_vectors_that_were_scored(bench: Bench) -> None:
    with seeded(0, CPU):
        tuner = bench.tuner()
        tuner.run(open_workspace(None), 2)
    scored = tuner.encoder.embed(bench.some_texts)
    model = tuner.encoder.finished()
    found = model.encode(bench.some_texts, convert_to_tensor=True)
    assert torch.allclose(found, scored, atol=ROUNDING)
    assert not [name for name, _ in model.named_parameters() if "lora" in name]


def test_pull_keeps_query_vectors_near_the_untouched_ones(bench: Bench, free: torch.Tensor) -> None:
    pulled = bench.run(weights=replace(PLAIN, pull=100.0))
    start = raw(bench)
    assert (pulled - start).norm() < 0.3 * (free - start).norm()


def test_the_same_seed_gives_the_same_weights_and_another_gives_others(bench: Bench) -> None:
    weights = replace(PLAIN, corpus=0.5)
    first, again = (bench.run(weights=weights, n_passes=1) for _ in range(2))
    assert torch.equal(first, again)
    assert not torch.equal(first, bench.run(replace(SETTINGS, seed=1), weights, n_passes=1))


RESUMED = replace(PLAIN, corpus=0.5, pull=0.5)


@pytest.fixture(scope="module")
def uninterrupted(bench: Bench) -> dict[str, torch.Tensor]:
    """What a run ends at, by its method."""
    return {
        method: bench.run(replace(SETTINGS, method=method), RESUMED, n_passes=2)
        for method in ("lora", "all")
    }


class Interruption(Exception):
    """What ends a run in the middle."""


@pytest.mark.parametrize("method", ["lora", "all"])
@pytest.mark.parametrize("n_rounds", [1, 3, 6])
def test_resumed_run_ends_as_an_uninterrupted_one(
    bench: Bench,
    uninterrupted: dict[str, torch.Tensor],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    *,
    method: str,
    n_rounds: int,
) -> None:
    monkeypatch.setattr("trimtab_training.fit.tuning.tuner.KEEP_EVERY_S", 0.0)
    monkeypatch.setattr("trimtab_training.fit.tuning.tuner.ROUND", 2)
    settings, left = replace(SETTINGS, method=method), n_rounds

    def interrupt(_n_steps: int) -> None:
        nonlocal left
        left -= 1
        if left == 0:
            raise Interruption

    with seeded(settings.seed, CPU), pytest.raises(Interruption):
        bench.tuner(settings, RESUMED).run(open_workspace(tmp_path), 2, on_round=interrupt)
    with seeded(settings.seed + 1, CPU):  # the state brings its own
        tuner = bench.tuner(settings, RESUMED)
        tuner.run(open_workspace(tmp_path), 2)
    assert torch.equal(tuner.encoder.embed(bench.some_texts), uninterrupted[method])


def test_run_ends_where_held_out_scores_no_longer_rise(bench: Bench) -> None:
    scores = iter([0.3, 0.5, 0.4, 0.4, 0.9])
    settings = replace(SETTINGS, epochs=5, patience=2)
    with seeded(0, CPU):
        tuned = bench.tuner(settings).run(
            open_workspace(None), 5, lambda: {"tuned": np.array([next(scores)])}
        )
    assert len(tuned.held_out) == 4
    assert tuned.best_pass("tuned") == 2


def test_best_weights_are_those_of_the_best_pass(bench: Bench) -> None:
    scores = iter([0.3, 0.5, 0.4])
    seen: list[torch.Tensor] = []
    with seeded(0, CPU):
        tuner = bench.tuner()

        def validate() -> dict[str, np.ndarray]:
            seen.append(tuner.encoder.embed(bench.some_texts))
            return {"tuned": np.array([next(scores)])}

        tuned = tuner.run(open_workspace(None), 3, validate)
    tuner.encoder.load_weights(tuned.best["tuned"])
    assert torch.equal(tuner.encoder.embed(bench.some_texts), seen[1])


def test_embeddings_are_cut_where_the_model_cuts_them(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bench.encoder.model, "truncate_dim", 5)
    found = TrainableEncoder(bench.encoder, SETTINGS, is_unit=False).embed(bench.some_texts)
    wanted = torch.from_numpy(bench.encoder.encode(bench.some_texts))
    assert torch.allclose(found, wanted, atol=ROUNDING)


def test_every_corpus_query_has_its_turn(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    few = dict(list(bench.data.train.items())[:16])
    data = replace(bench.data, train=few)
    embedded: list[str] = []
    vectors = TrainableEncoder.vectors

    def spy(encoder: TrainableEncoder, texts: Sequence[str]) -> torch.Tensor:
        embedded.extend(texts)
        return vectors(encoder, texts)

    monkeypatch.setattr(TrainableEncoder, "vectors", spy)
    settings = replace(SETTINGS, epochs=5)
    replace_data = replace(bench, data=data)
    replace_data.run(settings, replace(PLAIN, corpus=0.5), n_passes=5)
    titles = [text for text in embedded if text.startswith("doc")]
    assert len(titles) == 5 * 16
    assert set(titles) == set(bench.data.corpus.texts)


def test_sampled_candidates_stand_for_all(bench: Bench, free: torch.Tensor) -> None:
    few = replace(SETTINGS, max_candidates=4)
    train = dict(list(bench.data.train.items())[:40])
    small = replace(bench, data=replace(bench.data, train=train, corpus=no_corpus()))
    sampled, whole = small.run(few), small.run()
    assert not torch.equal(sampled, whole)
    closeness = (sampled * whole).sum(dim=1).mean()
    assert closeness > (free * raw(bench)).sum(dim=1).mean()


def no_corpus() -> CorpusQueries:
    return CorpusQueries([], np.empty(0, np.int64))


def test_loss_that_is_no_number_ends_the_run_with_the_way_out(bench: Bench) -> None:
    with pytest.raises(DivergedError, match=r"loss of trial is nan.*lower the learning rate"):
        bench.run(replace(SETTINGS, learning_rate=1e30))
