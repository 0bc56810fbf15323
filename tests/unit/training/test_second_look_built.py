"""A second look through a build: file, checkpoint, record, report, card and commands."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner

from tests.support.fits import LOOKING
from tests.support.onnx_models import linear_bytes
from tests.support.second_looks import look_bytes
from tests.support.worlds import World, make_world
from trimtab.commands.group import main
from trimtab.model.adapter import Adapter
from trimtab_training.build_options import BuildOptions
from trimtab_training.evaluation.compare import compare_models
from trimtab_training.evaluation.evaluate import evaluate_model
from trimtab_training.evaluation.per_query import HEADLINE
from trimtab_training.evaluation.record import Evaluation, decode_record, encode_record
from trimtab_training.pipeline import BuiltModel, build_model
from trimtab_training.retrieval.metrics import measure

SLOW = replace(LOOKING, learning_rate=0.01)


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> World:
    return make_world(tmp_path_factory.mktemp("world"), n_documents=400, n_queries=240)


@pytest.fixture(scope="module")
def built(world: World, tmp_path_factory: pytest.TempPathFactory) -> BuiltModel:
    folder = tmp_path_factory.mktemp("built") / "docs"
    options = BuildOptions(size_curve=True)
    return build_model(world.dataset, world.embeddings, folder, SLOW, options)


def by_hand(world: World, model: Adapter) -> dict[str, np.ndarray]:
    """nDCG@10 and the like of the test queries, searched and looked at again one by one."""
    look, embeddings, test = model.second_look, world.embeddings, world.dataset.split("test")
    assert look is not None
    documents = embeddings.documents.take(np.arange(len(embeddings.documents)))
    unit = documents / np.linalg.norm(documents, axis=1, keepdims=True)
    found = []
    for query in embeddings.queries.take_ids(list(test)):
        adapted = model.transform(query)
        rows = np.argsort(-(unit @ adapted), kind="stable")
        best = rows[: look.depth]
        order = np.argsort(-look.rescore(query, adapted, documents[best]), kind="stable")
        found.append([*best[order], *rows[look.depth :]][:100])
    wanted = [
        {embeddings.documents.rows[name]: grade for name, grade in labels.items()}
        for labels in test.values()
    ]
    return measure(np.array(found), wanted)


def test_the_file_is_measured_as_it_is_searched_with(world: World, built: BuiltModel) -> None:
    look, model = built.evaluation.second_look, Adapter.load(built.folder)
    assert look is not None
    assert model.second_look is not None
    assert (look.depth, look.rank) == (40, model.second_look.rank)
    metrics = look.test.metrics
    for name, scores in by_hand(world, model).items():
        assert metrics[name].b == pytest.approx(scores.mean(), abs=1e-6)
    assert metrics[HEADLINE].a == pytest.approx(built.evaluation.metrics[HEADLINE].adapted)
    assert metrics[HEADLINE].raw == pytest.approx(built.evaluation.metrics[HEADLINE].base)
    assert metrics[HEADLINE].delta > 0.02


def test_a_look_deeper_than_what_is_measured_is_measured_whole(tmp_path: Path) -> None:
    world = make_world(tmp_path / "world", n_documents=400, n_queries=80, noise=1.5)
    content = look_bytes(16, 16, depth=300, similarity="cosine", use="relevance")
    (tmp_path / "adapter.onnx").write_bytes(content)
    found = evaluate_model(tmp_path / "adapter.onnx", world.dataset, world.embeddings)
    assert found.second_look is not None
    assert found.second_look.depth == 300
    for name, scores in by_hand(world, Adapter.from_bytes(content)).items():
        assert found.second_look.test.metrics[name].b == pytest.approx(scores.mean(), abs=1e-6)
    assert found.second_look.test.metrics["recall@100"].delta != 0


def test_the_verdict_is_the_first_looks_with_the_second_beside_it(built: BuiltModel) -> None:
    reasons = [reason for reason in built.verdict.reasons if "second look" in reason.text]
    (reason,) = reasons
    assert reason.weight == "good"
    assert "beats the adapter alone on 60 test queries" in reason.text
    assert "second look" not in built.verdict.sentence


def test_the_record_holds_choice_and_measure_and_can_be_read_again(built: BuiltModel) -> None:
    record = decode_record(encode_record(built.evaluation), Evaluation, "evaluation.json")
    assert record.second_look == built.evaluation.second_look
    assert record.fit is not None
    assert record.fit.second_look is not None
    assert record.fit.second_look.helps
    assert record.fit.recipe["rescore"] == 40
    runs = built.folder / "runs"
    assert any("second_look" in file.name for file in runs.iterdir())


def test_report_and_card_show_it_and_how_to_use_it(built: BuiltModel) -> None:
    page = built.report.read_text(encoding="utf-8")
    assert "A second look at the best documents" in page
    assert "second_look=True" in page
    card = (built.folder / "README.md").read_text(encoding="utf-8")
    assert "## A second look at the best documents" in card
    assert 'AdaptedQdrantClient(qdrant_client, {"docs": adapter}, second_look=True)' in card


def test_fits_of_the_size_curve_train_none(built: BuiltModel) -> None:
    curve = built.evaluation.size_curve
    assert curve is not None
    assert curve.points[-1].adapted == pytest.approx(built.evaluation.metrics[HEADLINE].adapted)


def test_an_export_of_the_checkpoint_has_it_still(built: BuiltModel, tmp_path: Path) -> None:
    file = tmp_path / "again.onnx"
    done = CliRunner().invoke(main, ["export", str(built.folder), "-o", str(file)])
    assert done.exit_code == 0, done.output
    one, other = (Adapter.load(each).second_look for each in (built.folder, file))
    assert one is not None
    assert other is not None
    queries, documents = np.eye(16, dtype=np.float32)[:2], np.eye(16, dtype=np.float32)
    each = np.stack([documents, documents])
    assert np.array_equal(
        one.rescore(queries, queries, each), other.rescore(queries, queries, each)
    )


def test_inspect_and_evaluate_tell_of_it(world: World, built: BuiltModel) -> None:
    shown = CliRunner().invoke(main, ["inspect", str(built.folder)]).output
    assert "second look     at the best 40 documents" in shown
    as_json = json.loads(CliRunner().invoke(main, ["inspect", str(built.folder), "--json"]).output)
    assert as_json["second_look"]["depth"] == 40
    given = [str(built.folder), str(world.folder), "--embeddings", str(world.vectors)]
    done = CliRunner().invoke(main, ["evaluate", *given, "--json"])
    assert done.exit_code == 0, done.output
    assert json.loads(done.output)["second_look"]["test"]["metrics"][HEADLINE]["delta"] > 0.02
    assert (
        "a second look at the best 40 documents"
        in CliRunner().invoke(main, ["evaluate", *given]).output
    )


def test_one_that_does_not_help_is_told_and_not_shipped(
    world: World, built: BuiltModel, tmp_path: Path
) -> None:
    assert built.fit.second_look is not None
    gain = built.fit.second_look.validation["expected_gain"]
    recipe = replace(SLOW, min_gain=gain + 0.01)
    plain = build_model(world.dataset, world.embeddings, tmp_path / "docs", recipe)
    assert Adapter.load(plain.folder).second_look is None
    assert plain.evaluation.second_look is None
    assert any(
        reason.text.startswith("a second look at the best 40 documents does not help")
        for reason in plain.verdict.reasons
    )
    assert "does not help" in plain.report.read_text(encoding="utf-8")


def test_a_comparison_says_that_it_leaves_second_looks_out(
    world: World, built: BuiltModel, tmp_path: Path
) -> None:
    plain = tmp_path / "plain.onnx"
    plain.write_bytes(linear_bytes(dim_in=16, dim_out=16, normalised=True, use="relevance"))

    def notes(*models: object) -> str:
        names = [str(model) for model in models]
        return " ".join(compare_models(names, world.dataset, world.embeddings)[0].notes)

    assert "A has a second look; adapters alone are compared. B has none: where it takes" in notes(
        built.folder, plain
    )
    assert "B has a second look; adapters alone are compared" in notes(plain, built.folder)
    assert "B has none" not in notes(plain, built.folder) + notes(built.folder, "none")
    assert "A and B have a second look" in notes(built.folder, built.folder)
    assert "second look" not in notes(plain, "none")


@pytest.mark.parametrize("rescore", [0, 40])
def test_a_fit_that_goes_on_without_the_second_look_of_its_start_says_so(
    world: World, built: BuiltModel, tmp_path: Path, rescore: int
) -> None:
    recipe = tmp_path / "recipe.toml"
    recipe.write_text(f"epochs = 1\nmin_steps = 1\nfolds = 2\nrescore = {rescore}\n")
    place = [str(world.folder), "--embeddings", str(world.vectors), "-o", str(tmp_path / "on")]
    start = ["--from", str(built.folder), "--from-unseen", "--recipe", str(recipe)]
    done = CliRunner().invoke(main, ["fit", *place, *start])
    assert done.exit_code == 0, done.output
    said = " ".join(done.output.split())
    assert ("the new model will have none" in said) == (rescore == 0)
    assert rescore or "where the recipe says 'rescore = 40'" in said
