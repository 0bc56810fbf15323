"""deploy/retrain.sh, a running sidecar, the real engine: better models alone get in."""

import json
import os
import re
import shutil
import signal
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import httpx
import numpy as np
import pytest

from tests.support.commands import TRIMTAB
from tests.support.onnx_models import matrix_bytes
from tests.support.qdrant.fixtures import connect
from tests.support.qdrant.process import Server
from tests.support.sidecar import Sidecar, running_sidecar
from tests.support.sidecar_world import new_client
from tests.support.worlds import World, make_world, unit
from trimtab.model.adapter import Adapter
from trimtab.model.manifest import EncoderCard
from trimtab_training.adapters import LinearAdapter, save_adapter
from trimtab_training.model_files import OURS

ROOT = Path(__file__).parents[2]
SCRIPT = ROOT / "deploy" / "retrain.sh"
DIM = 16
RECIPE = 'adapter = "linear"\nepochs = 8\nfolds = 2\nlearning_rate = 0.02\nmin_steps = 1\n'
CARD = EncoderCard("toy", "sha256:toy")


@dataclass
class Loop:
    """A place with a world of labels and a served model, and the sidecar that serves it."""

    folder: Path
    world: World
    sidecar: Sidecar
    server: Server

    @property
    def model(self) -> Path:
        return self.folder / "models" / "docs"

    def put(self, weight: np.ndarray) -> str:
        """Put a model in force; give its mark."""
        self.model.mkdir(parents=True, exist_ok=True)
        for file in self.model.iterdir():
            if file.is_file():
                file.unlink()
        content = matrix_bytes(weight, encoder=CARD, name="docs")
        (self.model / "adapter.onnx").write_bytes(content)
        assert httpx.post(f"{self.sidecar.admin_url}/reload").status_code == 200
        assert self.mark() == Adapter.from_bytes(content).mark
        return self.mark()

    def mark(self) -> str:
        """The adapter in force."""
        workers = httpx.get(f"{self.sidecar.admin_url}/routes").json()["workers"]
        (route,) = workers[0]["routes"]
        mark: str = route["adapter"]
        return mark

    def settings(self) -> dict[str, str]:
        """The script's environment."""
        return {
            "MODEL": "models/docs",
            "DATASET": str(self.world.folder),
            "EMBEDDINGS": str(self.world.vectors),
            "EMBED": "no",
            "RECIPE": "recipe.toml",
            "ADMIN": f"http://{self.sidecar.admin}",
            "TRIMTAB": str(TRIMTAB),
            "OMP_NUM_THREADS": "1",
        }

    def run(self, *words: str, **settings: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [SCRIPT, *words],
            cwd=self.folder,
            env={**os.environ, **self.settings(), **settings},
            capture_output=True,
            text=True,
            check=False,
        )

    def search(self) -> tuple[list[str], str]:
        """Search through the sidecar with a test query; give what it found, and the mark."""
        query = self.world.embeddings.queries.take_ids(["q3"])[0].tolist()
        with new_client(self.sidecar.rest_url) as client:
            answer = client.post("/collections/docs/points/query", json={"query": query})
        found = [str(point["id"]) for point in answer.json()["result"]["points"]]
        return found, answer.headers["x-trimtab-adapter"]


@pytest.fixture(scope="module")
def loop(standin: Server, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Loop]:
    folder = tmp_path_factory.mktemp("loop")
    world = make_world(folder / "docs", n_queries=160)
    (folder / "recipe.toml").write_text(RECIPE)
    fill(standin, world)
    first = folder / "models" / "docs"
    first.mkdir(parents=True)
    (first / "adapter.onnx").write_bytes(matrix_bytes(np.eye(DIM), encoder=CARD, name="docs"))
    config = folder / "sidecar.toml"
    config.write_text(
        f'[upstream]\nrest = "{standin.rest_url}"\n[reload]\nwatch = false\n'
        '[[route]]\ncollection = "docs"\nadapter = "models/docs"\n'
    )
    with running_sidecar(config=config) as sidecar:
        yield Loop(folder, world, sidecar, standin)


def fill(server: Server, world: World) -> None:
    """Put the world's documents into the engine."""
    from qdrant_client import models

    client = connect(server)
    params = models.VectorParams(size=DIM, distance=models.Distance.COSINE)
    client.create_collection("docs", vectors_config=params)
    documents = world.embeddings.documents
    rows = documents.take(np.arange(len(documents)))
    points = [models.PointStruct(id=number, vector=row.tolist()) for number, row in enumerate(rows)]
    client.upsert("docs", points, wait=True)
    client.close()


def test_newer_model_gets_in_and_back_out(loop: Loop) -> None:
    before = loop.put(np.eye(DIM))
    manifest = json.loads(Adapter.load(loop.model).manifest.to_json())
    save_adapter(LinearAdapter(DIM), loop.model / "checkpoint", manifest=manifest)
    done = loop.run(START="previous", UNSEEN="yes")
    assert done.returncode == 0, done.stderr
    assert "B is better than A" in done.stdout
    assert "gate passes" in done.stdout
    after = Adapter.load(loop.model)
    assert after.manifest.kind == "linear"
    assert loop.mark() == after.mark != before
    query = loop.world.embeddings.queries.take_ids(["q3"])[0]
    documents = loop.world.embeddings.documents
    scores = documents.take(np.arange(len(documents))) @ after.transform(query)
    assert loop.search() == ([str(row) for row in np.argsort(-scores)[:10]], after.mark)
    assert Adapter.load(loop.folder / "models/previous/docs").mark == before

    evaluation = json.loads((loop.model / "evaluation.json").read_text())
    assert "--from models/docs" in evaluation["fit"]["command"]

    back = loop.run("rollback")
    assert back.returncode == 0, back.stderr
    assert loop.mark() == before == Adapter.load(loop.model).mark
    assert Adapter.load(loop.folder / "models/candidate/docs").mark == after.mark
    assert "no older model" in loop.run("rollback").stderr
    assert loop.mark() == before


def prepared(loop: Loop, weight: np.ndarray) -> str:
    """Write a trimtab that fits nothing and takes this model: fits are tested above, and slow."""
    (loop.folder / "made.onnx").write_bytes(matrix_bytes(weight, encoder=CARD, name="made"))
    script = loop.folder / "trimtab"
    script.write_text(
        f'#!/bin/sh\nif [ "$1" = fit ]; then mkdir -p models/candidate/docs && '
        f'cp made.onnx models/candidate/docs/adapter.onnx\nelse exec {TRIMTAB} "$@"\nfi\n'
    )
    script.chmod(0o755)
    return str(script)


def best_weight(world: World) -> np.ndarray:
    best: np.ndarray = np.linalg.lstsq(*pairs_of(world), rcond=None)[0]
    return best


def test_model_that_is_worse_stays_outside(loop: Loop) -> None:
    before = loop.put(best_weight(loop.world))
    done = loop.run(TRIMTAB=prepared(loop, np.eye(DIM)))
    assert done.returncode == 3, done.stderr
    assert "stays a candidate" in done.stderr
    assert loop.mark() == before
    assert (loop.folder / "models/candidate/docs/adapter.onnx").exists()


def test_sidecar_that_does_not_take_it_leaves_all_as_it_was(loop: Loop) -> None:
    before = loop.put(np.eye(DIM))
    older = loop.folder / "models" / "previous" / "docs"
    shutil.rmtree(older, ignore_errors=True)
    older.mkdir(parents=True)
    content = matrix_bytes(np.eye(DIM) * 2, encoder=CARD, name="older")
    (older / "adapter.onnx").write_bytes(content)
    nobody = "http://127.0.0.1:9"  # the port of discard
    for words in ((), ("rollback",)):
        fits = prepared(loop, best_weight(loop.world))
        done = loop.run(*words, ADMIN=nobody, TRIMTAB=fits)
        assert done.returncode == 1
        assert "models/docs is as it was" in done.stderr
        assert Adapter.load(loop.model).mark == before
        assert (older / "adapter.onnx").read_bytes() == content  # a rollback still has its model
        assert (loop.folder / "models/candidate/docs/adapter.onnx").exists()
        assert hidden(loop) == []


def hidden(loop: Loop) -> list[str]:
    """Names of what a run has put beside the model for a while."""
    return sorted(path.name for path in (loop.folder / "models").glob("**/.docs*"))


def test_what_else_is_kept_in_the_folder_stays_there(loop: Loop) -> None:
    loop.put(np.eye(DIM))
    yours = {"encoder.onnx": "encoder", "recipe.toml": RECIPE, ".env": "A=1", "notes/why.txt": "so"}
    for name, text in yours.items():
        (loop.model / name).parent.mkdir(exist_ok=True)
        (loop.model / name).write_text(text)
    (loop.model / "report.html").write_text("of the older model")
    older = loop.folder / "models" / "candidate" / "docs" / "encoder.onnx"
    shutil.rmtree(older.parent, ignore_errors=True)
    older.parent.mkdir(parents=True)
    older.write_text("an older encoder, from a model that was taken back")

    def kept() -> dict[str, str]:
        return {name: (loop.model / name).read_text() for name in yours}

    fits = prepared(loop, best_weight(loop.world))
    for _ in range(2):  # the second removes what the first has put aside
        done = loop.run(TRIMTAB=fits)
        assert done.returncode == 0, done.stderr
        assert kept() == yours
        assert not (loop.model / "report.html").exists()
    (loop.model / "recipe.toml").write_text("changed since")
    (loop.model / "notes").chmod(0o555)  # which no rm takes away from others than root
    assert loop.run("rollback").returncode == 0
    assert kept() == {**yours, "recipe.toml": "changed since"}
    (loop.model / "encoder.onnx").unlink()
    done = loop.run(TRIMTAB=fits)
    assert done.returncode == 0, done.stderr
    assert not (loop.model / "encoder.onnx").exists()  # though the model taken back had one
    assert (loop.model / "notes").stat().st_mode & 0o777 == 0o555
    (loop.model / "notes").chmod(0o755)
    shutil.rmtree(loop.model / "notes")


def test_the_script_knows_what_a_fit_writes() -> None:
    (line,) = re.findall(r'^OF_A_FIT="(.*)"$', SCRIPT.read_text(), re.MULTILINE)
    assert set(line.split()) == OURS


def test_a_tuned_encoder_that_would_be_gone_is_refused_before_the_work(loop: Loop) -> None:
    before = loop.put(np.eye(DIM))
    (loop.model / "query.onnx").write_text("tuned")
    refused = loop.run(TRIMTAB=prepared(loop, best_weight(loop.world)))
    assert (refused.returncode, refused.stdout) == (1, "")
    assert "models/docs holds a tuned encoder, query.onnx" in one_line(refused.stderr)
    (loop.model / "query.onnx").unlink()
    assert loop.mark() == before


@pytest.mark.parametrize("words", [(), ("rollback",)])
def test_link_in_the_place_of_a_folder_is_refused_and_stays(
    loop: Loop, tmp_path: Path, words: tuple[str, ...]
) -> None:
    """It would be moved itself, and a relative one then leads nowhere."""
    content = matrix_bytes(np.eye(DIM), encoder=CARD, name="docs")
    for place in ("v1", "previous/docs"):
        (tmp_path / place).mkdir(parents=True)
        (tmp_path / place / "adapter.onnx").write_bytes(content)
    link = tmp_path / "docs"
    link.symlink_to("v1")
    fits = prepared(loop, best_weight(loop.world))
    done = loop.run(*words, MODEL=f"{link}/", ADMIN="http://127.0.0.1:9", TRIMTAB=fits)
    assert (done.returncode, done.stderr) == (
        1,
        f"retrain: MODEL={link} is a link, and would be moved itself; name the folder that it "
        "leads to\n",
    )
    assert (link.readlink(), (link / "adapter.onnx").read_bytes()) == (Path("v1"), content)
    candidate = loop.run(*words, MODEL=str(tmp_path / "v1"), CANDIDATE=f"{link}/")
    assert f"CANDIDATE={link} is a link" in candidate.stderr


@pytest.mark.parametrize(
    ("left", "model", "previous", "candidate"),
    [
        ({".docs.new": "part"}, "now", "older", "next"),
        ({".docs.old": "now", "docs": None, ".docs.new": "next"}, "now", "older", "next"),
        ({".docs.old": "now", "docs": "next"}, "now", "older", "next"),  # nobody has said it is in
        ({".docs.replaced": "now", "docs": "next"}, "next", "now", "next"),
        (
            {".docs.replaced": "now", "docs": "next", "previous/.docs.part": "n"},
            *("next", "now", "next"),
        ),
        (
            {"previous/.docs.part": "now", "docs": "next", "previous/docs": None},
            *("next", "now", "next"),
        ),
        ({".docs.rejected": "now", "docs": "older"}, "older", None, "now"),
        ({"docs": None}, "older", None, "next"),  # as a script of 0.1 left it
    ],
)
def test_swap_that_was_killed_anywhere_is_ended_or_undone(
    loop: Loop,
    tmp_path: Path,
    left: dict[str, str | None],
    model: str,
    previous: str | None,
    candidate: str,
) -> None:
    models = {"docs": "now", "previous/docs": "older", "candidate/docs": "next", **left}
    for place, content in models.items():
        if content is not None:
            (tmp_path / place).mkdir(parents=True)
            (tmp_path / place / "adapter.onnx").write_text(content)
    assert loop.run(MODEL=str(tmp_path / "docs"), DATASET="").returncode == 1
    found = {
        str(file.parent.relative_to(tmp_path)): file.read_text()
        for file in tmp_path.rglob("adapter.onnx")
    }
    wanted = {"docs": model, "previous/docs": previous, "candidate/docs": candidate}
    assert found == {place: content for place, content in wanted.items() if content}


def test_what_can_not_be_copied_beside_the_model_leaves_all_as_it_was(
    loop: Loop, tmp_path: Path
) -> None:
    before = loop.put(np.eye(DIM))
    full = tmp_path / "cp"
    full.write_text('#!/bin/sh\nfor to in "$@"; do :; done\n: >"$to/adapter.onnx"\nexit 1\n')
    full.chmod(0o755)
    place = f"{tmp_path}{os.pathsep}{os.environ['PATH']}"
    fits = prepared(loop, best_weight(loop.world))
    script = Path(fits)
    script.write_text(script.read_text().replace("cp made", "/bin/cp made"))
    done = loop.run(TRIMTAB=fits, PATH=place)
    assert done.returncode == 1
    assert "can't copy models/candidate/docs/adapter.onnx beside models/docs" in done.stderr
    assert loop.mark() == before == Adapter.load(loop.model).mark
    assert "DATASET is not set" in loop.run(DATASET="").stderr  # the next run tidies up
    assert hidden(loop) == []


def test_places_within_each_other_are_refused_before_the_work(loop: Loop) -> None:
    for name in ("CANDIDATE", "PREVIOUS"):
        done = loop.run(**{name: "models/docs/inside/"}, TRIMTAB="false")
        assert (done.returncode, done.stderr) == (
            1,
            f"retrain: {name}=models/docs/inside lies in MODEL=models/docs; give places of their "
            "own\n",
        )
    assert "lies in" in loop.run(CANDIDATE="models/docs", TRIMTAB="false").stderr
    assert "lies in" in loop.run(PREVIOUS="models/candidate/docs/x", TRIMTAB="false").stderr
    assert not (loop.model / "inside").exists()


def test_swap_that_was_killed_half_way_is_undone(loop: Loop) -> None:
    before = loop.put(np.eye(DIM))
    previous = loop.folder / "models" / "previous" / "docs"
    shutil.rmtree(previous, ignore_errors=True)
    previous.parent.mkdir(exist_ok=True)
    loop.model.rename(previous)
    assert loop.run(DATASET="").returncode == 1
    assert Adapter.load(loop.model).mark == before


def held_script(loop: Loop) -> subprocess.Popen[str]:
    """Start the script with a trimtab that says that it runs and waits; returns once it does."""
    slow = loop.folder / "slow"
    slow.write_text("#!/bin/sh\necho under way\nexec sleep 600\n")
    slow.chmod(0o755)
    running = subprocess.Popen(
        [SCRIPT],
        cwd=loop.folder,
        env={**os.environ, **loop.settings(), "TRIMTAB": str(slow)},
        stdout=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    assert running.stdout is not None
    assert running.stdout.readline() == "under way\n"
    return running


@pytest.mark.skipif(
    not (shutil.which("flock") or shutil.which("perl")), reason="needs flock or perl"
)
def test_runs_do_not_meet_and_a_killed_one_is_in_nobody_s_way(loop: Loop) -> None:
    before = loop.put(np.eye(DIM))
    running = held_script(loop)
    try:
        assert "another run is under way" in loop.run().stderr
        assert "another run is under way" in loop.run("rollback").stderr
        running.kill()  # the script alone: what it had started lives on
        running.wait()
        assert "no older model" in loop.run("rollback", PREVIOUS="models/none").stderr
    finally:
        os.killpg(running.pid, signal.SIGKILL)
        running.communicate()
    assert loop.mark() == before


def test_lock_is_taken_without_flock_too(loop: Loop, tmp_path: Path) -> None:
    if not shutil.which("perl"):
        pytest.skip("needs perl")
    for name in ("bash", "dirname", "basename", "mkdir", "perl", "sleep", "sh", "cat", "env"):
        (tmp_path / name).symlink_to(shutil.which(name) or "")
    running = held_script(loop)
    try:
        assert "another run is under way" in loop.run(PATH=str(tmp_path)).stderr
    finally:
        os.killpg(running.pid, signal.SIGKILL)
        running.communicate()
    assert "DATASET is not set" in loop.run(PATH=str(tmp_path), DATASET="").stderr


def test_options_go_to_the_import(loop: Loop) -> None:
    said = loop.folder / "said"
    said.write_text('#!/bin/sh\nprintf "%s\\n" "$@" > words\nexit 9\n')
    said.chmod(0o755)
    labels = {"LABELS": "log.csv", "FORMAT": "pairs", "CORPUS": "corpus.jsonl", "DATASET": "new"}
    options = ["--column", "query=the words", "--max-dropped", "0.3"]
    done = loop.run(*options, TRIMTAB=str(said), **labels)
    assert done.returncode == 9
    assert (loop.folder / "words").read_text().splitlines() == [
        "import", "pairs", "log.csv", "-o", "new", "--corpus", "corpus.jsonl", *options,
    ]  # fmt: skip


def test_the_command_on_the_path_is_called_where_none_is_named(loop: Loop, tmp_path: Path) -> None:
    said = tmp_path / "trimtab"
    said.write_text('#!/bin/sh\nprintf "%s\\n" "$@" > words\nexit 9\n')
    said.chmod(0o755)
    settings = {**os.environ, **loop.settings(), "PATH": f"{tmp_path}:{os.environ['PATH']}"}
    del settings["TRIMTAB"]
    done = subprocess.run([SCRIPT], cwd=loop.folder, env=settings, check=False, timeout=60)
    assert done.returncode == 9
    assert (loop.folder / "words").read_text().splitlines()[0] == "fit"


def test_a_slash_behind_the_model_is_no_part_of_its_name(loop: Loop) -> None:
    lock = loop.folder / "models" / "docs.lock"
    lock.unlink(missing_ok=True)
    assert "DATASET is not set" in loop.run(MODEL="models/docs//", DATASET="").stderr
    assert lock.exists()
    assert not (loop.model / ".lock").exists()


def test_mistakes_are_one_line(loop: Loop) -> None:
    assert loop.run(MODEL="models/docs/adapter.onnx").stderr == (
        "retrain: MODEL=models/docs/adapter.onnx is a file; expected its folder, such as "
        "models/docs\n"
    )
    assert loop.run("undo").stderr == (
        "retrain: unknown argument 'undo'; there are: rollback, and options of trimtab import\n"
    )
    assert "LABELS is not set" in loop.run("--min-clicks", "3").stderr
    assert "rollback takes no options" in loop.run("rollback", "now").stderr
    assert "DATASET is not set" in loop.run(DATASET="").stderr
    assert "MODEL" in loop.run(MODEL="").stderr


def test_retraining_goes_on_where_documents_are_gone_and_others_are_new(
    loop: Loop, tmp_path: Path
) -> None:
    before = loop.put(np.eye(DIM))
    changed = change_documents(loop.world, tmp_path / "changed")
    settings = {"DATASET": str(changed.folder), "EMBEDDINGS": str(changed.vectors)}
    done = loop.run(MAX_DROPPED="0.01", **settings)
    assert done.returncode == 1
    assert "more than --max-dropped 0.01 allows" in one_line(done.stderr)
    assert loop.mark() == before
    done = loop.run(**settings)
    assert done.returncode == 0, done.stderr
    gone = [f"d{number}" for number in range(N_GONE)]
    labelled = [doc for x in loop.world.dataset.splits.values() for y in x.values() for doc in y]
    n_gone = sum(labelled.count(name) for name in gone)
    assert n_gone > 0
    assert f"{n_gone} of {len(labelled) + N_NEW} labels" in one_line(done.stderr)
    record = json.loads((loop.model / "evaluation.json").read_text())
    assert sum(left for left, _ in record["dropped_labels"]["labels"].values()) == n_gone
    assert record["dropped_labels"]["documents_without_vector"] == len({*gone} & {*labelled})
    assert any("have no vector" in note for note in record["notes"])
    assert "have no vector" in (loop.model / "report.html").read_text()
    assert record["n_queries"] < len(loop.world.dataset.split("test"))
    assert loop.mark() == Adapter.load(loop.model).mark != before


N_GONE, N_NEW = 6, 20


def change_documents(world: World, folder: Path) -> World:
    """Copy a world without its first documents' vectors, with new documents and queries of them."""
    shutil.copytree(world.folder, folder)
    changed = World(folder, folder / "embeddings")
    rng = np.random.default_rng(5)
    old, queries = (np.load(changed.vectors / f"{name}.npy") for name in ("documents", "queries"))
    new = unit(rng.standard_normal((N_NEW, DIM))).astype(np.float32)
    turn = np.linalg.lstsq(*pairs_of(world), rcond=None)[0]
    asked = unit(new @ np.linalg.pinv(turn)).astype(np.float32)
    np.save(changed.vectors / "documents.npy", np.vstack([old[N_GONE:], new]))
    np.save(changed.vectors / "queries.npy", np.vstack([queries, asked]))
    for name, letter, begin, n_rows in (
        ("document", "d", N_GONE, len(old)),
        ("query", "q", 0, len(queries)),
    ):
        ids = [f"{letter}{row}" for row in range(begin, n_rows)]
        ids += [f"{letter}-new{row}" for row in range(N_NEW)]
        (changed.vectors / f"{name}_ids.txt").write_text("".join(f"{each}\n" for each in ids))
    with (folder / "qrels" / "train.tsv").open("a") as labels:
        labels.writelines(f"q-new{row}\td-new{row}\t1\n" for row in range(N_NEW))
    return changed


def pairs_of(world: World) -> tuple[np.ndarray, np.ndarray]:
    """The training queries and what each wants."""
    train = world.dataset.split("train")
    wanted = [next(iter(labels)) for labels in train.values()]
    embeddings = world.embeddings
    return embeddings.queries.take_ids(list(train)), embeddings.documents.take_ids(wanted)


def one_line(text: str) -> str:
    return " ".join(text.split())
