"""A whole tuning: judged by queries that it has not seen, and never chosen below the adapter."""

import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from tests.support.sets import write_jsonl
from tests.support.tiny_transformer import read_queries, write_encoder, write_world
from trimtab_training.data.dataset import Dataset
from trimtab_training.embeddings.local_encoder import LocalEncoder
from trimtab_training.embeddings.store import Embeddings
from trimtab_training.errors import ConfigError, DataError, EncoderError
from trimtab_training.fit.fit import FitResult, fit_adapter
from trimtab_training.fit.recipe import Recipe
from trimtab_training.fit.tuning import (
    TunedEncoder,
    TuningSettings,
    cross_validate_tuning,
    tune_encoder,
)
from trimtab_training.fit.tuning.trainable_encoder import TrainableEncoder
from trimtab_training.fit.tuning.tuner import Tuner

RECIPE = Recipe(
    hidden=8,
    gated=False,
    folds=3,
    learning_rate=0.01,
    min_steps=100,
    unlabelled_weights=(0.0,),
    anchors=(0.3,),
    ranks=(),
)
BRIEF = replace(RECIPE, epochs=1, min_steps=1)
"""For a fit whose adapter nobody looks at."""
SETTINGS = TuningSettings(
    epochs=8,
    patience=4,
    batch_size=16,
    learning_rate=0.02,
    rank=8,
    pulls=(0.1,),
    corpus_weights=(0.0, 0.5),
)


@dataclass
class Bench:
    """A world, its encoder, and the fit that tuning has to beat."""

    dataset: Dataset
    embeddings: Embeddings
    encoder: LocalEncoder
    fit: FitResult

    def tune(self, settings: TuningSettings = SETTINGS, **options: Any) -> TunedEncoder:
        return tune_encoder(
            self.dataset, self.embeddings, self.encoder, self.fit, settings, **options
        )


def make_bench(folder: Path, recipe: Recipe = RECIPE, **options: Any) -> Bench:
    encoder = LocalEncoder(write_encoder(folder / "encoder"))
    dataset = Dataset.load(write_world(folder / "world", encoder, **options))
    embeddings = Embeddings.open(dataset.folder / "embeddings")
    return Bench(dataset, embeddings, encoder, fit_adapter(dataset, embeddings, recipe))


@pytest.fixture(scope="module")
def bench(tmp_path_factory: pytest.TempPathFactory) -> Bench:
    return make_bench(tmp_path_factory.mktemp("tune"))


@pytest.fixture(scope="module")
def told() -> list[tuple[int, int]]:
    """The progress of ``tuned``."""
    return []


@pytest.fixture(scope="module")
def tuned(bench: Bench, told: list[tuple[int, int]]) -> TunedEncoder:
    return bench.tune(progress=lambda done, total: told.append((done, total)))


def without_adapter(bench: Bench) -> Bench:
    return replace(bench, fit=replace(bench.fit, adapter=None))


@pytest.fixture(scope="module")
def tuned_alone(bench: Bench) -> TunedEncoder:
    return without_adapter(bench).tune()


def test_every_rival_is_scored_on_the_same_held_out_queries(
    bench: Bench, tuned: TunedEncoder
) -> None:
    rivals = tuned.validation["rivals"]
    assert set(rivals) == {"adapter", "tuned", "mean"}
    assert {each["n_queries"] for each in rivals.values()} == {len(bench.dataset.split("train"))}
    assert len({each["base_ndcg@10"] for each in rivals.values()}) == 1


def test_encoder_that_learns_the_words_is_chosen_and_finds_unseen_documents(
    bench: Bench, tuned_alone: TunedEncoder
) -> None:
    assert tuned_alone.choice == "tuned"
    assert tuned_alone.adapter is None
    test = bench.dataset.split("test")
    texts = read_queries(bench.dataset.folder)
    documents = torch.from_numpy(bench.embeddings.documents.take(np.arange(66)))
    rows = [bench.embeddings.documents.rows[next(iter(labels))] for labels in test.values()]

    def mean_rank(vectors: np.ndarray) -> float:
        scores = torch.from_numpy(vectors) @ documents.T
        own = scores[torch.arange(len(rows)), rows].unsqueeze(1)
        return float((scores > own).sum(dim=1).double().mean())

    chosen = [texts[query] for query in test]
    assert mean_rank(tuned_alone.model.encode(chosen)) < 0.5 * mean_rank(
        bench.encoder.encode(chosen)
    )


def test_model_is_plain_and_the_choice_names_its_parts(tuned: TunedEncoder) -> None:
    assert tuned.choice in {"adapter", "tuned", "mean"}
    assert (tuned.model is not None) == (tuned.choice in {"tuned", "mean"})
    assert (tuned.adapter is not None) == (tuned.choice in {"adapter", "mean"})


@pytest.mark.parametrize("dev", [False, True])
def test_labels_of_noise_expect_no_gain_and_choose_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, dev: bool
) -> None:
    monkeypatch.setattr("trimtab_training.fit.query_split.MIN_DEV_QUERIES", 10)
    bench = make_bench(tmp_path, BRIEF, useful=False, dev=dev)
    settings = replace(SETTINGS, epochs=2, corpus_queries="titles")
    found = without_adapter(bench).tune(settings)
    assert found.choice == "nothing"
    assert found.model is None
    assert found.validation.get("expected_gain", 0.0) < 0.02
    assert "Keep the raw queries" in found.verdict


def test_mean_is_no_rival_where_vectors_may_have_any_length(bench: Bench) -> None:
    """Its file is of unit vectors, which dot product and Euclid's distance tell from others."""
    documents = bench.embeddings.documents
    longer = replace(documents, matrix=2 * np.asarray(documents.matrix))
    recipe = replace(bench.fit.recipe, similarity="dot", min_steps=1, epochs=1)
    given = replace(
        bench,
        embeddings=replace(bench.embeddings, documents=longer, unit_documents=False),
        fit=replace(bench.fit, recipe=recipe),
    )
    tuned = given.tune(replace(SETTINGS, epochs=1, corpus_weights=(0.0,)))
    assert set(tuned.validation["rivals"]) == {"adapter", "tuned"}


def test_no_pass_leaves_the_choice_to_the_adapter(bench: Bench) -> None:
    found = bench.tune(replace(SETTINGS, epochs=0))
    assert found.choice == "adapter"
    assert found.adapter is bench.fit.adapter
    assert without_adapter(bench).tune(replace(SETTINGS, epochs=0)).choice == "nothing"


def test_held_out_query_trains_nothing_not_even_as_a_corpus_query(
    bench: Bench, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    queries = read_queries(bench.dataset.folder)
    folder = write_world(tmp_path / "world", bench.encoder)
    titles = list(queries.values())[::2]
    write_jsonl(
        folder / "corpus.jsonl",
        [
            {"_id": f"d{row}", "title": f" {text.upper()}", "text": ""}
            for row, text in enumerate(titles)
        ],
    )
    trained: dict[str, set[str]] = {}
    scored: dict[str, set[str]] = {}
    under_way = ""
    run, embed, vectors = Tuner.run, TrainableEncoder.embed, TrainableEncoder.vectors

    def spy_run(tuner: Tuner, *args: Any, **options: Any) -> Any:
        nonlocal under_way
        under_way = tuner.name
        outcome = run(tuner, *args, **options)
        under_way = ""
        return outcome

    def spy_embed(encoder: TrainableEncoder, texts: Sequence[str]) -> torch.Tensor:
        scored.setdefault(under_way, set()).update(texts)
        return embed(encoder, texts)

    def spy_vectors(encoder: TrainableEncoder, texts: Sequence[str]) -> torch.Tensor:
        if torch.is_grad_enabled():
            plain = {" ".join(text.lower().split()) for text in texts}
            trained.setdefault(under_way, set()).update(plain)
        return vectors(encoder, texts)

    monkeypatch.setattr(Tuner, "run", spy_run)
    monkeypatch.setattr(TrainableEncoder, "embed", spy_embed)
    monkeypatch.setattr(TrainableEncoder, "vectors", spy_vectors)
    dataset = Dataset.load(folder)
    settings = replace(SETTINGS, epochs=1, corpus_queries="titles")
    fit = without_adapter(bench).fit
    cross_validate_tuning(dataset, bench.embeddings, bench.encoder, fit, settings)
    folds = [name for name in trained if "-c0.5-" in name and "fold" in name]
    assert len(folds) == 3
    for name in folds:
        assert trained[name].isdisjoint(scored[name])
    assert set.union(*(scored[name] for name in folds)) == {
        queries[query] for query in dataset.split("train")
    }


def test_dev_split_judges_what_is_shipped_itself(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("trimtab_training.fit.query_split.MIN_DEV_QUERIES", 10)
    bench = without_adapter(make_bench(tmp_path, BRIEF, dev=True))
    found = bench.tune()
    assert found.choice == "tuned"
    dev = bench.dataset.split("dev")
    texts = read_queries(bench.dataset.folder)
    vectors = found.model.encode([texts[query] for query in dev])
    scores = vectors @ bench.embeddings.documents.take(np.arange(66)).T
    own = [bench.embeddings.documents.rows[next(iter(labels))] for labels in dev.values()]
    ranks = 1 + (scores > scores[np.arange(len(own)), own][:, None]).sum(axis=1)
    ndcg = np.where(ranks <= 10, 1 / np.log2(ranks + 1), 0).mean()
    rival = found.validation["rivals"]["tuned"]
    assert ndcg == pytest.approx(rival["base_ndcg@10"] + rival["gain"], abs=1e-6)
    assert found.validation["rivals"]["tuned"]["n_queries"] == len(dev)


def test_interrupted_tuning_ends_as_an_uninterrupted_one(
    bench: Bench, tuned_alone: TunedEncoder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("trimtab_training.fit.tuning.tuner.KEEP_EVERY_S", 0.0)
    kept = replace(SETTINGS, workspace=tmp_path, resume="must_match")
    calls = 0

    def interrupt(_done: int, _all: int) -> None:
        nonlocal calls
        calls += 1
        if calls == 12:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        without_adapter(bench).tune(kept, progress=interrupt)
    resumed = without_adapter(bench).tune(kept)
    assert resumed.validation == tuned_alone.validation
    models = resumed.model, tuned_alone.model
    for one, other in zip(*(model.parameters() for model in models), strict=True):
        assert torch.equal(one, other)


@pytest.mark.parametrize(
    ("file", "field", "told"),
    [
        ("corpus.jsonl", "title", "other corpus queries"),
        ("corpus.jsonl", None, "other corpus queries"),  # fewer of them
        ("queries.jsonl", "text", "other texts of queries"),
    ],
)
def test_tuning_interrupted_on_other_texts_is_not_gone_on_with(
    bench: Bench,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    file: str,
    field: str | None,
    told: str,
) -> None:
    monkeypatch.setattr("trimtab_training.fit.tuning.tuner.KEEP_EVERY_S", 0.0)
    world = write_world(tmp_path / "world", bench.encoder)
    changed = replace(without_adapter(bench), dataset=Dataset.load(world))
    kept = replace(
        SETTINGS, corpus_queries="titles", workspace=tmp_path / "work", resume="must_match"
    )

    def interrupt(_done: int, _all: int) -> None:
        if any(kept.workspace.glob("*.safetensors")):
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        changed.tune(kept, progress=interrupt)
    records = [json.loads(line) for line in (world / file).read_text().splitlines()]
    if field is None:
        records.pop()
    else:  # of a training query, or of a document; the encoder lower-cases
        records[-5][field] = records[-5][field].swapcase()
    write_jsonl(world / file, records)
    with pytest.raises(DataError, match=rf"settings or data \({told}\)"):
        changed.tune(kept)


def test_no_more_folds_are_run_than_the_recipe_compares(bench: Bench) -> None:
    few = replace(bench.fit, recipe=replace(RECIPE, compared_queries=1))
    found = replace(bench, fit=few).tune(replace(SETTINGS, epochs=1))
    n_queries = {each["n_queries"] for each in found.validation["rivals"].values()}
    assert max(n_queries) <= len(bench.dataset.split("train")) / 2


@pytest.mark.usefixtures("tuned")
def test_progress_ends_with_all_of_it(told: list[tuple[int, int]]) -> None:
    assert [done for done, _ in told] == sorted(done for done, _ in told)
    assert told[-1][0] <= told[-1][1]


def test_another_encoder_is_refused(bench: Bench, tmp_path: Path) -> None:
    other = LocalEncoder(write_encoder(tmp_path / "other", seed=1))
    with pytest.raises(EncoderError, match="does not give the stored query vectors"):
        replace(bench, encoder=other).tune()


def test_another_prefix_is_refused(bench: Bench, tmp_path: Path) -> None:
    prefixed = LocalEncoder(write_encoder(tmp_path / "encoder"), query_prefix="doc1 ")
    with pytest.raises(EncoderError, match="with its prefix and length"):
        replace(bench, encoder=prefixed).tune()


def test_query_without_a_text_is_refused(bench: Bench, tmp_path: Path) -> None:
    folder = write_world(tmp_path / "world", bench.encoder)
    write_jsonl(folder / "queries.jsonl", [{"_id": "q0-0", "text": "ask0 ask1"}])
    with pytest.raises(DataError, match="labelled queries have no text"):
        replace(bench, dataset=Dataset.load(folder)).tune()


def test_migration_is_refused(bench: Bench) -> None:
    migration = replace(bench.fit, recipe=replace(RECIPE, use="migration"))
    with pytest.raises(ConfigError, match="can't be tuned"):
        replace(bench, fit=migration).tune()


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("method", "qlora", "expected 'lora' or 'all'"),
        ("corpus_queries", "words", "expected 'titles', 'sentences' or 'none'"),
        ("batch_size", 0, "batch_size is 0; expected 1 or more"),
        ("learning_rate", 0.0, "learning_rate is 0.0; expected more than 0"),
        ("epochs", -1, "epochs is -1; expected 0 or more"),
        ("pulls", (), r"pulls are \(\); expected one or more"),
        ("corpus_weights", (0.0, -1.0), "expected one or more, each 0 or more"),
    ],
)
def test_setting_that_nothing_can_be_tuned_with_is_refused(
    name: str, value: object, message: str
) -> None:
    with pytest.raises(ConfigError, match=message):
        replace(SETTINGS, **{name: value})
