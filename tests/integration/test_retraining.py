"""deploy/retrain.sh, a running sidecar, the real engine: better models alone get in."""

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import httpx
import numpy as np
import pytest

from sidecar.adapter import Adapter
from sidecar.manifest import EncoderCard
from tests.support.onnx_models import matrix_bytes
from tests.support.qdrant.fixtures import connect
from tests.support.qdrant.process import Server, running_server
from tests.support.sidecar import Sidecar, running_sidecar
from tests.support.sidecar_world import new_client
from tests.support.worlds import World, make_world
from training.adapters import LinearAdapter, save_adapter

ROOT = Path(__file__).parents[2]
SCRIPT = ROOT / "deploy" / "retrain.sh"
TRIMTAB = Path(sys.executable).with_name("trimtab")
DIM = 16
RECIPE = 'adapter = "linear"\nepochs = 8\nfolds = 2\nlearning_rate = 0.02\nrefits = 1\n'
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

    def run(self, *words: str, **settings: str) -> subprocess.CompletedProcess[str]:
        env = {
            "MODEL": "models/docs",
            "DATASET": str(self.world.folder),
            "EMBEDDINGS": str(self.world.vectors),
            "EMBED": "no",
            "RECIPE": "recipe.toml",
            "ADMIN": f"http://{self.sidecar.admin}",
            "TRIMTAB": str(TRIMTAB),
            "OMP_NUM_THREADS": "1",
        }
        return subprocess.run(
            [SCRIPT, *words],
            cwd=self.folder,
            env={**os.environ, **env, **settings},
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
def loop(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Loop]:
    folder = tmp_path_factory.mktemp("loop")
    world = make_world(folder / "docs", n_queries=160)
    (folder / "recipe.toml").write_text(RECIPE)
    with running_server() as server:
        fill(server, world)
        first = folder / "models" / "docs"
        first.mkdir(parents=True)
        (first / "adapter.onnx").write_bytes(matrix_bytes(np.eye(DIM), encoder=CARD, name="docs"))
        config = folder / "sidecar.toml"
        config.write_text(
            f'[upstream]\nrest = "{server.rest_url}"\n[reload]\nwatch = false\n'
            '[[route]]\ncollection = "docs"\nadapter = "models/docs"\n'
        )
        with running_sidecar(config=config) as sidecar:
            yield Loop(folder, world, sidecar, server)


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
    done = loop.run(START="previous")
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
    assert not (loop.folder / "models/docs.retraining").exists()

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
    train = world.dataset.split("train")
    queries = world.embeddings.queries.take_ids(list(train))
    wanted = [next(iter(labels)) for labels in train.values()]
    documents = world.embeddings.documents.take_ids(wanted)
    best: np.ndarray = np.linalg.lstsq(queries, documents, rcond=None)[0]
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
    nobody = "http://127.0.0.1:9"  # the port of discard
    done = loop.run(ADMIN=nobody, TRIMTAB=prepared(loop, best_weight(loop.world)))
    assert done.returncode == 1
    assert "models/docs is as it was" in done.stderr
    assert Adapter.load(loop.model).mark == before


def test_swap_that_was_killed_half_way_is_undone(loop: Loop) -> None:
    before = loop.put(np.eye(DIM))
    previous = loop.folder / "models" / "previous" / "docs"
    shutil.rmtree(previous, ignore_errors=True)
    previous.parent.mkdir(exist_ok=True)
    loop.model.rename(previous)
    assert loop.run(DATASET="").returncode == 1
    assert Adapter.load(loop.model).mark == before


def test_runs_do_not_meet_and_mistakes_are_one_line(loop: Loop) -> None:
    lock = loop.folder / "models" / "docs.retraining"
    lock.mkdir()
    assert "another run is under way" in loop.run().stderr
    assert lock.exists()
    lock.rmdir()
    assert loop.run("undo").stderr == "retrain: unknown argument 'undo'; there is only: rollback\n"
    assert "DATASET is not set" in loop.run(DATASET="").stderr
    assert "MODEL" in loop.run(MODEL="").stderr
