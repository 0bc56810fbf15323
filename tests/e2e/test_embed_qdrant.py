"""`trimtab embed --documents qdrant://...` as a user runs it, key from the environment."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from qdrant_client import models

from tests.support.qdrant.fixtures import connect
from tests.support.qdrant.process import Server, running_server
from tests.support.sets import write_dataset

TRIMTAB = Path(sys.executable).with_name("trimtab")
DIM, N_POINTS = 384, 30


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    with running_server(api_key="right") as server:
        client = connect(server)
        params = models.VectorParams(size=DIM, distance=models.Distance.COSINE)
        client.create_collection("docs", vectors_config={"text": params})
        rows = np.random.default_rng(0).standard_normal((N_POINTS, DIM)).tolist()
        batch = models.Batch(ids=list(range(N_POINTS)), vectors={"text": rows})
        client.upsert("docs", batch)
        client.close()
        yield server


def embed(folder: Path, documents: str, key: str | None) -> subprocess.CompletedProcess[str]:
    environment = {name: value for name, value in os.environ.items() if name != "QDRANT_API_KEY"}
    if key is not None:
        environment["QDRANT_API_KEY"] = key
    return subprocess.run(
        [TRIMTAB, "embed", "data", "-o", "emb", "--documents", documents],
        cwd=folder,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.fixture
def place(tmp_path: Path) -> Path:
    write_dataset(tmp_path / "data", documents=["one"], queries=["first", "second"])
    return tmp_path


def test_stored_vectors_are_copied_and_queries_embedded(server: Server, place: Path) -> None:
    done = embed(place, f"qdrant://{server.host}:{server.rest_port}/docs?vector=text", "right")
    assert done.returncode == 0, done.stderr
    assert "made emb" in done.stdout
    assert np.load(place / "emb" / "documents.npy").shape == (N_POINTS, DIM)
    assert np.load(place / "emb" / "queries.npy").shape == (2, DIM)
    assert (
        json.loads((place / "emb" / "encoder.json").read_text())["documents"]["index"] == "qdrant"
    )


def test_a_wrong_key_is_one_line(server: Server, place: Path) -> None:
    done = embed(place, f"qdrant://{server.host}:{server.rest_port}/docs?vector=text", "wrong")
    assert done.returncode == 1
    assert "refuses the key (401); set QDRANT_API_KEY" in " ".join(done.stderr.split())
    assert "Traceback" not in done.stderr
    assert not (place / "emb").exists()
