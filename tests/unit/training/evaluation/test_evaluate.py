"""Evaluation: raw against adapted, in the shape that others rely on."""

import json
from dataclasses import replace
from pathlib import Path

import faiss
import msgspec
import numpy as np
import pytest
import torch

from tests.support.worlds import World, make_world, write_vectors
from trimtab.model.encoder_probe import pack_probe
from trimtab_training.adapters import IdentityAdapter, LinearAdapter
from trimtab_training.data.dataset import Dataset
from trimtab_training.data.training_digest import TrainedOn
from trimtab_training.errors import DataError
from trimtab_training.evaluation.evaluate import evaluate_model
from trimtab_training.evaluation.record import Slice
from trimtab_training.evaluation.verdict import decide
from trimtab_training.export.onnx_export import describe_adapter, export_adapter

METRICS = {"ndcg@10", "mrr@10", "hit@10", "recall@100"}


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> World:
    return make_world(tmp_path_factory.mktemp("world"))


def model_of(world: World, adapter: torch.nn.Module, similarity: str = "cosine") -> bytes:
    encoder = world.embeddings.encoder
    return export_adapter(
        adapter, describe_adapter(adapter, encoder, name="toy", similarity=similarity)
    )


@pytest.fixture(scope="module")
def identity(world: World) -> bytes:
    return model_of(world, IdentityAdapter(16))


@pytest.fixture(scope="module")
def spoiled(world: World) -> bytes:
    adapter = LinearAdapter(16)
    adapter.difference.data = torch.randn(16, 16, generator=torch.Generator().manual_seed(0))
    return model_of(world, adapter)


@pytest.fixture(scope="module")
def shaken(world: World) -> bytes:
    """Moves queries a little, so that some gain and some lose."""
    adapter = LinearAdapter(16)
    noise = torch.randn(16, 16, generator=torch.Generator().manual_seed(1))
    adapter.difference.data = 0.2 * noise
    return model_of(world, adapter)


def test_identity_changes_nothing(world: World, identity: bytes) -> None:
    found = evaluate_model(identity, world.dataset, world.embeddings)
    assert found.ties == found.n_queries == 40
    for metric in found.metrics.values():
        assert metric.delta == 0
        assert metric.ci95 == (0, 0)
        assert metric.p_value == 1


def test_every_metric_and_both_slices_are_measured(world: World, identity: bytes) -> None:
    found = evaluate_model(identity, world.dataset, world.embeddings)
    assert set(found.metrics) == METRICS
    assert set(found.slices) == {"seen_documents", "unseen_documents"}
    parts = found.slices.values()
    assert sum(part.n_queries for part in parts) == found.n_queries
    json.dumps(msgspec.to_builtins(found), allow_nan=False)


def test_empty_slice_has_no_metrics(world: World, identity: bytes) -> None:
    dataset = replace(world.dataset, splits={"test": world.dataset.splits["test"]})
    found = evaluate_model(identity, dataset, world.embeddings)
    assert found.slices["seen_documents"] == Slice(n_queries=0, metrics=None)


def test_unseen_means_no_relevant_document_was_relevant_in_training(
    world: World, identity: bytes
) -> None:
    train = {"q0": {"d0": 1.0, "d1": 0.0}}
    test = {"q3": {"d0": 1.0}, "q7": {"d1": 1.0}, "q11": {"d0": 0.0, "d2": 1.0}}
    dataset = replace(world.dataset, splits={"train": train, "test": test})
    slices = evaluate_model(identity, dataset, world.embeddings).slices
    assert slices["seen_documents"].n_queries == 1
    assert slices["unseen_documents"].n_queries == 2


def test_seen_is_what_the_model_was_trained_on_whatever_the_dataset_trains_on(
    world: World, identity: bytes
) -> None:
    test = {"q3": {"d0": 1.0}, "q7": {"d1": 1.0, "d4": 1.0}, "q11": {"d0": 0.0, "d2": 1.0}}
    dataset = replace(world.dataset, splits={"train": {"q0": {"d0": 1.0}}, "test": test})
    old = replace(world.dataset, splits={"train": {"q1": {"d4": 1.0}, "q2": {"d2": 1.0}}})
    found = evaluate_model(identity, dataset, world.embeddings, trained_on=TrainedOn.of(old))
    assert found.slices["seen_documents"].n_queries == 2
    assert found.notes == []
    unknown = evaluate_model(identity, dataset, world.embeddings)
    assert unknown.slices["seen_documents"].n_queries == 1
    assert "taken from the dataset's train split" in unknown.notes[0]


def answer_only(dataset: Dataset, n_queries: int) -> Dataset:
    """Keep the relevant documents of the first test queries; nothing answers the others."""
    test = {
        query: labels if place < n_queries else dict.fromkeys(labels, 0.0)
        for place, (query, labels) in enumerate(dataset.split("test").items())
    }
    return replace(dataset, splits={**dataset.splits, "test": test})


def test_queries_that_nothing_answers_count_in_the_means_and_judge_nothing(
    world: World, shaken: bytes
) -> None:
    alone = list(world.dataset.split("test"))[:25]
    test = {query: world.dataset.split("test")[query] for query in alone}
    of_those = replace(world.dataset, splits={**world.dataset.splits, "test": test})
    whole = evaluate_model(shaken, of_those, world.embeddings)
    found = evaluate_model(shaken, answer_only(world.dataset, 25), world.embeddings)
    assert found.n_queries == 40
    assert found.metrics["ndcg@10"].base == pytest.approx(whole.metrics["ndcg@10"].base * 25 / 40)
    assert found.answered_queries == Slice(n_queries=25, metrics=whole.metrics)
    assert whole.answered_queries is None
    assert found.slices == whole.slices
    assert found.chance == whole.chance
    assert decide(found).reasons == decide(whole).reasons
    assert "the verdict and the slices are of the others" in found.notes[0]


def test_queries_that_nothing_answers_are_not_among_the_new_ones_that_judge(
    world: World, identity: bytes
) -> None:
    test = world.dataset.split("test")
    known = TrainedOn.of(replace(world.dataset, splits={"train": dict(list(test.items())[:10])}))
    dataset = answer_only(world.dataset, 25)
    found = evaluate_model(identity, dataset, world.embeddings, trained_on=known)
    assert found.fresh_queries is not None
    assert found.fresh_queries.n_queries == 15
    assert sum(part.n_queries for part in found.fresh_queries.slices.values()) == 15


def test_queries_that_had_no_part_in_the_model_are_measured_apart_by_slice(
    world: World, identity: bytes
) -> None:
    train, test = world.dataset.split("train"), world.dataset.split("test")
    used = replace(world.dataset, splits={"train": {**train, **dict(list(test.items())[:10])}})
    found = evaluate_model(identity, world.dataset, world.embeddings, trained_on=TrainedOn.of(used))
    assert found.fresh_queries is not None
    assert (found.n_used, found.fresh_queries.n_queries) == (10, 30)
    parts = found.fresh_queries.slices
    assert list(parts) == ["seen_documents", "unseen_documents"]
    assert sum(part.n_queries for part in parts.values()) == 30


def test_worse_is_reported_as_worse_with_the_worst_named(world: World, spoiled: bytes) -> None:
    evaluation = evaluate_model(spoiled, world.dataset, world.embeddings)
    assert evaluation.metrics["ndcg@10"].delta < -0.1
    assert evaluation.losses > evaluation.wins
    assert len(evaluation.regressions) == 10
    drops = [one.adapted - one.base for one in evaluation.regressions]
    assert drops == sorted(drops)
    worst = evaluation.regressions[0]
    assert worst.query == f"query {worst.query_id}"
    for found in (worst.relevant, worst.found_before, worst.found_after):
        assert found[0].text == f"document {found[0].doc_id}"


def test_better_is_reported_with_the_best_named(world: World, shaken: bytes) -> None:
    evaluation = evaluate_model(shaken, world.dataset, world.embeddings)
    assert evaluation.wins > 0
    gains = [one.adapted - one.base for one in evaluation.improvements]
    assert gains == sorted(gains, reverse=True)
    assert all(gain > 0 for gain in gains)
    assert len(gains) == min(10, evaluation.wins)


def test_changes_count_every_query(world: World, shaken: bytes) -> None:
    evaluation = evaluate_model(shaken, world.dataset, world.embeddings)
    changes = evaluation.changes
    middle = len(changes.counts) // 2
    assert sum(changes.counts[:middle]) == evaluation.losses
    assert sum(changes.counts[middle:]) == evaluation.wins
    assert changes.unchanged == evaluation.ties
    assert sum(msgspec.structs.astuple(changes.found)) == evaluation.n_queries


def test_record_holds_what_was_measured_and_no_more(world: World, identity: bytes) -> None:
    plain = evaluate_model(identity, world.dataset, world.embeddings)
    assert plain.latency is plain.approximate is None
    timed = evaluate_model(identity, world.dataset, world.embeddings, timed=True)
    assert timed.latency is not None
    assert timed.latency.dim_in == 16
    assert msgspec.structs.replace(timed, latency=None) == plain


def test_approximate_index_is_measured_with_raw_and_adapted_queries(
    world: World, spoiled: bytes, tmp_path: Path
) -> None:
    documents = world.embeddings.documents
    index = faiss.index_factory(documents.dim, "HNSW8,Flat", faiss.METRIC_INNER_PRODUCT)
    index.add(documents.take(np.arange(len(documents))))
    faiss.write_index(index, str(tmp_path / "docs.faiss"))
    (tmp_path / "docs.ids").write_text("".join(f"{one}\n" for one in documents.ids))
    source = f"faiss:{tmp_path / 'docs.faiss'}?ids={tmp_path / 'docs.ids'}"
    record = evaluate_model(spoiled, world.dataset, world.embeddings, index=source)
    assert record.approximate is not None
    assert record.approximate.kind == "HNSW"
    assert record.approximate.n_queries == record.n_queries


def test_query_that_finds_nothing_relevant_counts_as_zero(world: World, identity: bytes) -> None:
    far = world.embeddings
    query = far.queries.take_ids(["q3"])
    scores = far.documents.take(np.arange(len(far.documents))) @ query[0]
    last = far.documents.ids[int(scores.argmin())]
    dataset = replace(world.dataset, splits={"train": {}, "test": {"q3": {last: 1.0}}})
    found = evaluate_model(identity, dataset, far)
    assert found.n_queries == 1
    assert found.metrics["ndcg@10"].base == 0


def test_query_without_relevant_documents_stays_and_is_noted(world: World, identity: bytes) -> None:
    test = {"q3": {"d0": 0.0}, "q7": {"d1": 1.0}}
    dataset = replace(world.dataset, splits={"train": {}, "test": test})
    evaluation = evaluate_model(identity, dataset, world.embeddings)
    assert evaluation.n_queries == 2
    assert "1 queries have no relevant document" in evaluation.notes[0]


def test_split_that_nothing_answers_gives_no_verdict(world: World, identity: bytes) -> None:
    test = {"q3": {"d0": 0.0}, "q7": {"d1": -1.0}}
    dataset = replace(world.dataset, splits={"train": {}, "test": test})
    message = (
        r"measured on the test split of \w+: none of its 2 queries has a document with a grade"
    )
    with pytest.raises(DataError, match=message):
        evaluate_model(identity, dataset, world.embeddings)


def test_score_shift_shows_where_thresholds_go(world: World, spoiled: bytes) -> None:
    shift = evaluate_model(spoiled, world.dataset, world.embeddings).score_shift
    assert set(shift) == {"rank_1", "rank_10"}
    assert shift["rank_1"].base.mean > shift["rank_1"].adapted.mean
    assert set(shift["rank_1"].adapted.quantiles) == {"0.05", "0.25", "0.5", "0.75", "0.95"}


def test_model_of_other_width_is_refused_with_both_numbers(world: World) -> None:
    with pytest.raises(DataError, match=r"wants queries of 8 values.*has 16"):
        evaluate_model(model_of(world, IdentityAdapter(8)), world.dataset, world.embeddings)


def test_model_of_another_encoder_is_refused(world: World, identity: bytes) -> None:
    encoder = replace(world.embeddings.encoder, fingerprint="sha256:other")
    with pytest.raises(DataError, match="embed the queries with the model's encoder"):
        evaluate_model(identity, world.dataset, replace(world.embeddings, encoder=encoder))


def test_model_of_another_pooling_is_refused(world: World, identity: bytes) -> None:
    one, other = (pack_probe(rows) for rows in np.split(np.eye(6, 16, dtype=np.float32), 2))
    encoder = replace(world.embeddings.encoder, probe=one)
    vectors = replace(world.embeddings, encoder=encoder)
    evaluate_model(identity, world.dataset, vectors)  # an older model has no probe
    adapter, elsewhere = IdentityAdapter(16), replace(encoder, probe=other)
    content = export_adapter(
        adapter, describe_adapter(adapter, elsewhere, name="toy", similarity="cosine")
    )
    with pytest.raises(DataError, match=r"other vectors.* embed the queries with the model's"):
        evaluate_model(content, world.dataset, vectors)


def test_missing_split_is_refused_with_those_there_are(world: World, identity: bytes) -> None:
    with pytest.raises(DataError, match="no split 'dev'; it has: test, train"):
        evaluate_model(identity, world.dataset, world.embeddings, split="dev")


def test_raw_queries_of_another_width_count_as_zero(tmp_path: Path) -> None:
    world = make_world(tmp_path, dim_query=24)
    adapter = LinearAdapter(24, 16)
    adapter.start_from(torch.randn(24, 16, generator=torch.Generator().manual_seed(0)))
    evaluation = evaluate_model(model_of(world, adapter), world.dataset, world.embeddings)
    assert evaluation.metrics["recall@100"].base == 0
    assert evaluation.score_shift["rank_1"].base is None
    assert any("another width" in note for note in evaluation.notes)


def test_equal_vectors_are_ranked_by_row_on_both_sides(tmp_path: Path) -> None:
    vectors = np.ones((5, 4))
    write_vectors(tmp_path / "e", vectors, vectors)
    world = World(tmp_path, tmp_path / "e")
    dataset = Dataset("ties", tmp_path, {"train": {}, "test": {"q0": {"d0": 1.0}}})
    found = evaluate_model(model_of(world, IdentityAdapter(4)), dataset, world.embeddings)
    assert found.metrics["mrr@10"].base == found.metrics["mrr@10"].adapted == 1
