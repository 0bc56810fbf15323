"""A build: a whole model folder, or the folder that was there before."""

import hashlib
import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from onnx import numpy_helper

from tests.support.fits import PLAIN
from tests.support.worlds import World, make_world
from trimtab.model.adapter import Adapter
from trimtab_training import pipeline
from trimtab_training.adapters import load_adapter
from trimtab_training.adapters.registry import make_adapter
from trimtab_training.build_options import BuildOptions
from trimtab_training.data.dataset import Dataset
from trimtab_training.data.training_digest import TrainedOn
from trimtab_training.errors import ConfigError, DataError, ExportError, TrainingError
from trimtab_training.evaluation.evaluate import evaluate_model
from trimtab_training.evaluation.record import Evaluation, decode_record, encode_record
from trimtab_training.evaluation.verdict import decide
from trimtab_training.export.model_folder import load_checkpoint
from trimtab_training.export.onnx_export import export_adapter
from trimtab_training.fit.query_region import find_query_region
from trimtab_training.lock import locked
from trimtab_training.pipeline import BuiltModel, build_model

QUICK = replace(PLAIN, epochs=12, folds=2)


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> World:
    return make_world(tmp_path_factory.mktemp("world"))


@pytest.fixture(scope="module")
def noise(tmp_path_factory: pytest.TempPathFactory) -> World:
    return make_world(tmp_path_factory.mktemp("noise"), useful=False, seed=1)


def build(world: World, folder: Path, **options: object) -> BuiltModel:
    return build_model(
        world.dataset,
        world.embeddings,
        folder,
        QUICK,
        BuildOptions(**options),  # type: ignore[arg-type]
    )


@pytest.fixture(scope="module")
def built(world: World, tmp_path_factory: pytest.TempPathFactory) -> BuiltModel:
    """A model that tests only read; they change a copy of its folder."""
    return build(world, tmp_path_factory.mktemp("built") / "docs", seed=3)


@pytest.fixture(scope="module")
def rebuilt(world: World, tmp_path_factory: pytest.TempPathFactory) -> BuiltModel:
    """The same model once more, with a size curve, behind a link, among a user's files."""
    folder = tmp_path_factory.mktemp("rebuilt") / "docs"
    folder.symlink_to("v3")
    (folder.parent / "v3" / "notes").mkdir(parents=True)
    (folder / "recipe.toml").write_text("# mine")
    (folder / "notes" / "why.txt").write_text("mine, too")
    return build(world, folder, seed=3, size_curve=True)


@pytest.fixture(scope="module")
def odd(tmp_path_factory: pytest.TempPathFactory) -> BuiltModel:
    """A model of few training queries, whose texts UTF-8 can not hold."""
    place = tmp_path_factory.mktemp("odd")
    world = make_world(place / "world", n_queries=100)
    lines = [
        json.dumps({"_id": f"q{row}", "text": "half \ud83d <script>alert(1)</script> \x00"})
        for row in range(100)
    ]
    (world.folder / "queries.jsonl").write_text("".join(f"{line}\n" for line in lines))
    return build(world, place / "docs")


@pytest.fixture(scope="module")
def gone_on(
    built: BuiltModel, world: World, tmp_path_factory: pytest.TempPathFactory
) -> BuiltModel:
    """A model whose start gave any length, and for which the user vouches."""
    start, _ = load_checkpoint(built.folder)
    start.normalised = False
    folder = tmp_path_factory.mktemp("gone_on") / "docs"
    return build(world, folder, start_from=start, from_unseen=True)


def test_fit_on_test_labels_alone_is_measured_on_what_it_leaves_out(tmp_path: Path) -> None:
    alone = make_world(tmp_path / "world", n_queries=200)
    (alone.folder / "qrels" / "train.tsv").rename(alone.folder / "qrels" / "test.tsv")
    told: list[str] = []
    made = build(alone, tmp_path / "docs", tell=told.append)
    fitted = alone.dataset.for_fit()
    n_test, n_all = len(fitted.split("test")), len(alone.dataset.split("test"))
    assert 0 < n_test < n_all
    assert any(f"no train split in {alone.folder}: {n_test} of the {n_all} test" in x for x in told)
    assert (made.evaluation.n_queries, made.evaluation.n_used) == (n_test, 0)
    later = evaluate_model(made.folder, alone.dataset, alone.embeddings)
    assert (later.n_queries, later.n_used) == (n_all, n_all - n_test)


def weights_of(file: Path) -> list[np.ndarray]:
    graph = onnx.load(file).graph
    return [numpy_helper.to_array(tensor) for tensor in graph.initializer]


def read(file: Path) -> Evaluation:
    return decode_record(file.read_bytes(), Evaluation, file)


def test_build_leaves_model_evaluation_card_and_checkpoint(built: BuiltModel) -> None:
    assert built.file == built.folder / "adapter.onnx"
    assert {item.name for item in built.folder.iterdir()} == {
        "adapter.onnx", "evaluation.json", "report.html", "README.md", "checkpoint",
        "runs", "trained_on.npz",
    }  # fmt: skip
    assert [item.name for item in built.folder.parent.iterdir()] == ["docs"]


def test_second_build_of_one_folder_is_refused_before_it_touches_anything(
    world: World, tmp_path: Path
) -> None:
    with locked(tmp_path / "docs"), pytest.raises(DataError, match=r"another run writes to .*docs"):
        build(world, tmp_path / "docs")
    assert list(tmp_path.iterdir()) == []


def test_interrupted_build_is_continued_by_the_same_and_refused_by_another(
    world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    told: list[str] = []
    with monkeypatch.context() as patch:
        patch.setattr(pipeline, "evaluate_runs", stop)
        with pytest.raises(KeyboardInterrupt):
            build(world, tmp_path / "docs")
    with pytest.raises(DataError, match="seed was 0, is 1"):
        build(world, tmp_path / "docs", seed=1)
    build(world, tmp_path / "docs", tell=told.append)
    assert len(told) == 2  # and what the fit takes
    assert told[0].startswith("continuing an interrupted fit")
    assert [item.name for item in tmp_path.iterdir()] == ["docs"]


def stop(*_words: object, **_more: object) -> None:
    raise KeyboardInterrupt


def test_default_recipe_s_model_says_what_it_is_composed_of(world: World, tmp_path: Path) -> None:
    recipe = replace(QUICK, adapter="auto", epochs=6, hidden=8)
    built = build_model(world.dataset, world.embeddings, tmp_path / "docs", recipe)
    manifest = Adapter.load(tmp_path / "docs").manifest
    assert manifest.kind == "composed"
    assert manifest.training["families"] == list(built.fit.families)
    assert not manifest.stores_queries
    assert load_checkpoint(tmp_path / "docs")[0].options["centroids"] > 0


def test_metrics_agree_in_manifest_evaluation_and_a_second_look(
    built: BuiltModel, world: World
) -> None:
    record = json.loads((built.folder / "evaluation.json").read_text())
    manifest = Adapter.load(built.folder).manifest
    again = json.loads(encode_record(evaluate_model(built.folder, world.dataset, world.embeddings)))
    assert manifest.metrics["metrics"] == record["metrics"] == again["metrics"]
    assert {key: record[key] for key in again} == again
    assert manifest.training["seed"] == 3
    assert manifest.training["labels"] == world.dataset.content_hash()


def test_verdict_is_one_in_record_card_report_and_result(built: BuiltModel) -> None:
    record = read(built.folder / "evaluation.json")
    assert record == built.evaluation
    assert record.verdict == built.verdict == decide(record)
    assert built.report == built.folder / "report.html"
    assert built.verdict.sentence in (built.folder / "README.md").read_text()
    assert built.verdict.decision.capitalize() in built.report.read_text()


def test_record_names_file_command_versions_and_the_cost_of_a_query(
    built: BuiltModel,
) -> None:
    record = json.loads((built.folder / "evaluation.json").read_text())
    assert built.file is not None
    digest = hashlib.sha256(built.file.read_bytes()).hexdigest()
    assert record["model"]["sha256"] == f"sha256:{digest}"
    assert record["fit"]["command"].endswith("--recipe recipe.toml --seed 3")
    assert record["fit"]["encoder"]["fingerprint"] == "sha256:toy"
    assert {"trimtab", "torch", "numpy"} <= set(record["fit"]["versions"])
    assert record["latency"]["dim_out"] == 16


def test_index_that_can_not_be_measured_is_refused_before_training(
    world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pipeline, "fit_adapter", None)
    with pytest.raises(DataError):
        build(world, tmp_path / "docs", index=f"faiss:{tmp_path / 'none.faiss'}")
    assert not (tmp_path / "docs").exists()


def test_corpus_that_can_not_be_read_is_refused_before_training(
    world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pipeline, "fit_adapter", None)
    folder = tmp_path / "data"
    shutil.copytree(world.folder, folder)
    with (folder / "corpus.jsonl").open("a", encoding="utf-8") as corpus:
        corpus.write('{"_id": "last", "text": \n')
    with pytest.raises(DataError, match=r"corpus\.jsonl:\d+: not JSON"):
        build(replace(world, folder=folder), tmp_path / "docs")
    assert not (tmp_path / "docs").exists()


def test_missing_package_of_the_report_is_said_before_training(
    world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pipeline, "fit_adapter", None)
    monkeypatch.setattr("trimtab_training.report.page.find_spec", lambda _name: None)
    with pytest.raises(ModuleNotFoundError):
        build(world, tmp_path / "docs")


def test_size_curve_is_kept_where_it_is_asked_for(rebuilt: BuiltModel) -> None:
    record = json.loads((rebuilt.folder / "evaluation.json").read_text())
    curve = record["size_curve"]
    assert curve["sizes"] == [50, 100, 120]
    assert curve["points"][-1]["adapted"] == record["metrics"]["ndcg@10"]["adapted"]


def test_texts_that_utf8_can_not_hold_do_not_stop_a_build(odd: BuiltModel) -> None:
    record = json.loads((odd.folder / "evaluation.json").read_text())
    assert "\ud83d" in record["improvements"][0]["query"]
    assert "<script>alert" not in odd.report.read_text()


def test_card_names_gain_seed_and_use(built: BuiltModel) -> None:
    card = (built.folder / "README.md").read_text()
    for words in (
        "# docs",
        "| ndcg@10 |",
        "seed 3",
        'Adapter.load("models/docs")',
        "no training q",
    ):
        assert words in card


def test_model_knows_where_its_training_queries_lie(built: BuiltModel, world: World) -> None:
    manifest = Adapter.load(built.folder).manifest
    queries, train = world.embeddings.queries, list(world.dataset.split("train"))
    assert manifest.query_region is not None
    assert manifest.query_region == find_query_region(queries, train, seed=3)
    assert load_checkpoint(built.folder)[1].query_region == manifest.query_region
    assert "mean directions of training queries" in (built.folder / "README.md").read_text()


def test_model_of_few_training_queries_has_no_region(odd: BuiltModel) -> None:
    assert Adapter.load(odd.folder).manifest.query_region is None
    assert "mean directions" not in (odd.folder / "README.md").read_text()


def test_user_files_beside_a_model_survive_a_new_build(rebuilt: BuiltModel) -> None:
    assert (rebuilt.folder / "recipe.toml").read_text() == "# mine"
    assert (rebuilt.folder / "notes" / "why.txt").read_text() == "mine, too"


def test_build_behind_a_link_leaves_the_link(rebuilt: BuiltModel) -> None:
    assert rebuilt.folder.readlink() == Path("v3")
    assert sorted(item.name for item in rebuilt.folder.parent.iterdir()) == ["docs", "v3"]


def test_build_remembers_what_it_and_its_start_were_trained_on(
    built: BuiltModel, gone_on: BuiltModel, world: World, tmp_path: Path
) -> None:
    first = known_by(built, world)
    train, test = (list(world.dataset.split(split)) for split in ("train", "test"))
    assert first.has_query(world.dataset, train).all()
    assert not first.has_query(world.dataset, test).any()
    assert first.is_complete
    assert known_by(gone_on, world).is_complete
    adapter, _ = load_checkpoint(built.folder)
    seen = TrainedOn.of(Dataset("seen", world.folder, {"train": world.dataset.split("test")}))
    heir = build(world, tmp_path / "heir", start_from=adapter, start_trained_on=seen)
    assert known_by(heir, world).is_complete
    assert known_by(heir, world).has_query(world.dataset, [*train, *test]).all()


def test_model_for_another_encoder_says_so_and_can_be_gone_on_from(tmp_path: Path) -> None:
    world = make_world(tmp_path / "world", dim_query=16, n_queries=240)
    recipe = replace(QUICK, use="migration")
    built = build_model(world.dataset, world.embeddings, tmp_path / "docs", recipe)
    assert built.file is not None
    assert Adapter.load(built.file).manifest.use == "migration"
    assert built.evaluation.metrics["ndcg@10"].base == 0
    assert any("another encoder" in note for note in built.evaluation.notes)
    assert "there is no base to compare with" in built.verdict.sentence
    adapter, _ = load_checkpoint(built.folder)
    queries = world.embeddings.queries.take([0, 1, 2])
    wanted = Adapter.load(built.file).transform(queries)
    with torch.no_grad():
        np.testing.assert_allclose(adapter(torch.from_numpy(queries)).numpy(), wanted, atol=1e-5)


def test_no_identity_stands_in_for_a_migration(tmp_path: Path) -> None:
    noise = make_world(tmp_path / "noise", useful=False, dim_query=16)
    recipe, options = replace(QUICK, use="migration"), BuildOptions(allow_identity=True)
    with pytest.raises(DataError, match="Keep the old encoder"):
        build_model(noise.dataset, noise.embeddings, tmp_path / "docs", recipe, options)


def known_by(built: BuiltModel, world: World) -> TrainedOn:
    assert built.file is not None
    found = TrainedOn.beside(built.folder, Adapter.load(built.file).manifest.training)
    assert found is not None
    return found


def test_start_of_any_length_becomes_one_of_unit_length(gone_on: BuiltModel) -> None:
    """As converted adapters are; a ranking by direction is the same, training needs the length."""
    assert Adapter.load(gone_on.folder).manifest.normalised


def test_failed_build_leaves_the_old_model(
    built: BuiltModel, world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copytree(built.folder, tmp_path / "docs")
    before = {item.name for item in (tmp_path / "docs").iterdir()}
    content = (tmp_path / "docs" / "adapter.onnx").read_bytes()

    def fail(*_: object, **__: object) -> bytes:
        raise TrainingError("no")

    monkeypatch.setattr(pipeline, "evaluate_runs", fail)
    with pytest.raises(TrainingError):
        build(world, tmp_path / "docs", seed=1)
    assert {item.name for item in (tmp_path / "docs").iterdir()} == before
    assert (tmp_path / "docs" / "adapter.onnx").read_bytes() == content


def test_where_no_adapter_helps_there_is_no_model_but_the_reason(
    built: BuiltModel, noise: World, tmp_path: Path
) -> None:
    shutil.copytree(built.folder, tmp_path / "docs")
    none = build(noise, tmp_path / "docs")
    assert none.file is None
    assert {item.name for item in (tmp_path / "docs").iterdir()} == {
        "evaluation.json", "report.html", "README.md", "runs",
    }  # fmt: skip
    record = json.loads((tmp_path / "docs" / "evaluation.json").read_text())
    assert record["fit"]["helps"] is False
    assert record["metrics"]["ndcg@10"]["delta"] == 0
    assert "No adapter" in (tmp_path / "docs" / "README.md").read_text()
    assert none.verdict.decision == "do not ship"
    assert "Do not ship" in (tmp_path / "docs" / "report.html").read_text()


def test_identity_is_written_where_it_is_allowed(noise: World, tmp_path: Path) -> None:
    build(noise, tmp_path / "docs", allow_identity=True)
    adapter = Adapter.load(tmp_path / "docs")
    assert adapter.manifest.kind == "identity"
    queries = noise.embeddings.queries.take(np.arange(4))
    np.testing.assert_allclose(adapter.transform(queries), queries, atol=1e-6)


def test_checkpoint_exports_to_the_same_weights(built: BuiltModel, tmp_path: Path) -> None:
    adapter, manifest = load_checkpoint(built.folder)
    again = tmp_path / "again.onnx"
    again.write_bytes(export_adapter(adapter, manifest))
    for one, other in zip(
        weights_of(built.folder / "adapter.onnx"), weights_of(again), strict=True
    ):
        np.testing.assert_array_equal(one, other)


def test_same_seed_gives_same_weights_in_the_file(built: BuiltModel, rebuilt: BuiltModel) -> None:
    for one, other in zip(
        *(weights_of(each.folder / "adapter.onnx") for each in (built, rebuilt)), strict=True
    ):
        np.testing.assert_array_equal(one, other)


def test_own_adapter_is_trained_saved_and_opened_by_name(
    world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "my_adapters.py").write_text(
        "import torch\nfrom trimtab_training import Adapter\n\n"
        "class Bottleneck(Adapter):\n"
        "    def __init__(self, dim_in, dim_out=None, *, width=4):\n"
        "        super().__init__(dim_in, dim_out)\n"
        "        self.width = width\n"
        "        self.down = torch.nn.Linear(dim_in, width)\n"
        "        self.up = torch.nn.Linear(width, self.dim_out)\n"
        "        torch.nn.init.zeros_(self.up.weight)\n"
        "        torch.nn.init.zeros_(self.up.bias)\n\n"
        "    @property\n"
        "    def options(self):\n"
        "        return {'width': self.width}\n\n"
        "    def change(self, queries):\n"
        "        return self.up(torch.tanh(self.down(queries)))\n"
    )
    monkeypatch.chdir(tmp_path)
    recipe = replace(
        QUICK, adapter="my_adapters:Bottleneck", adapter_options={"width": 16}, epochs=40
    )
    built = build_model(world.dataset, world.embeddings, tmp_path / "own", recipe)
    assert built.file is not None, built.fit.verdict
    assert Adapter.load(built.file).manifest.kind == "my_adapters:Bottleneck"
    opened, _ = load_adapter(tmp_path / "own" / "checkpoint")
    assert opened.options == {"width": 16}


@pytest.mark.parametrize("is_start", [False, True])
def test_own_adapter_that_can_not_be_exported_is_refused_before_training(
    world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, is_start: bool
) -> None:
    (tmp_path / "branching.py").write_text(
        "from trimtab_training.adapters import LinearAdapter\n\n\n"
        "class Branching(LinearAdapter):\n"
        "    def change(self, queries):\n"
        "        return super().change(queries if float(queries.sum()) > 0 else -queries)\n"
    )
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(pipeline, "fit_adapter", None)
    kind = "branching:Branching"
    start = make_adapter(kind, 16, 16, {}) if is_start else None
    with pytest.raises(ExportError, match="the adapter can't be expressed in ONNX"):
        build_model(
            world.dataset,
            world.embeddings,
            tmp_path / "docs",
            replace(QUICK, adapter="auto" if is_start else kind),
            BuildOptions(start_from=start),
        )
    assert [each.name for each in tmp_path.iterdir() if each.name.startswith("docs")] == []


@pytest.mark.parametrize(
    ("kind", "options", "message"),
    [
        ("no_such_module:Adapter", {}, "can't import"),
        ("json:JSONDecoder", {}, "not a subclass of trimtab_training.Adapter"),
        ("linear", {"rank": 3}, "can't take options"),
        ("low_rank", {"rank": 99}, "from 1 to 16"),
        ("two_layer", {"hidden": 0}, "1 or more"),
    ],
)
def test_adapters_that_can_not_be_made_are_refused(
    world: World, tmp_path: Path, kind: str, options: dict[str, int], message: str
) -> None:
    recipe = replace(QUICK, adapter=kind, adapter_options=options)
    with pytest.raises(ConfigError, match=message):
        build_model(world.dataset, world.embeddings, tmp_path / "docs", recipe)
    assert list(tmp_path.iterdir()) == []


def test_folder_that_is_no_model_is_refused_before_training(world: World, tmp_path: Path) -> None:
    (tmp_path / "docs" / "runs").mkdir(parents=True)
    with pytest.raises(DataError, match="holds runs, which would be lost"):
        build(world, tmp_path / "docs")
    assert [path.name for path in tmp_path.rglob("*")] == ["docs", "runs"]


def test_test_split_that_nothing_answers_is_refused_before_training(
    world: World, tmp_path: Path
) -> None:
    unanswered = {query: dict.fromkeys(x, 0.0) for query, x in world.dataset.split("test").items()}
    dataset = replace(world.dataset, splits={**world.dataset.splits, "test": unanswered})
    with pytest.raises(DataError, match="nothing can be measured on the test split"):
        build_model(dataset, world.embeddings, tmp_path / "docs", QUICK)
    assert list(tmp_path.iterdir()) == []


def test_file_in_the_place_of_the_folder_is_refused_before_training(
    world: World, tmp_path: Path
) -> None:
    (tmp_path / "docs").write_text("")
    with pytest.raises(ConfigError, match="is a file"):
        build(world, tmp_path / "docs")


@pytest.mark.parametrize("damage", ["missing", "json", "weights", "manifest"])
def test_damaged_checkpoints_are_refused(built: BuiltModel, tmp_path: Path, damage: str) -> None:
    shutil.copytree(built.folder, tmp_path / "docs")
    checkpoint = tmp_path / "docs" / "checkpoint"
    record = json.loads((checkpoint / "adapter.json").read_text())
    if damage == "missing":
        (checkpoint / "adapter.json").unlink()
    elif damage == "json":
        (checkpoint / "adapter.json").write_text("{")
    elif damage == "weights":
        (checkpoint / "adapter.safetensors").write_bytes(b"\x80\x04pickle")
    else:
        (checkpoint / "adapter.json").write_text(json.dumps({**record, "manifest": None}))
    with pytest.raises(DataError):
        load_checkpoint(tmp_path / "docs")


@pytest.mark.parametrize("kind", [str, Path])
def test_folder_may_be_named_by_a_text(world: World, tmp_path: Path, kind: type) -> None:
    (tmp_path / "docs").write_text("mine")
    with pytest.raises(TrainingError, match="docs"):
        build_model(world.dataset, world.embeddings, kind(tmp_path / "docs"))
