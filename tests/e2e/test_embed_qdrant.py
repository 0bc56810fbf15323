"""`trimtab embed --documents qdrant://...` as a user runs it, key from the environment."""

import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from qdrant_client import models

from tests.support.commands import Done, trimtab
from tests.support.qdrant.fixtures import connect
from tests.support.qdrant.process import Server, running_server
from tests.support.sets import write_dataset

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


def embed(folder: Path, server: Server, key: str, check: int) -> Done:
    source = f"qdrant://{server.host}:{server.rest_port}/docs?vector=text"
    words = ("embed", "data", "-o", "emb", "--documents", source)
    return trimtab(*words, cwd=folder, check=check, env={"QDRANT_API_KEY": key})


@pytest.fixture
def place(tmp_path: Path) -> Path:
    splits = {"train": {"first": {"1": 1}}, "test": {"second": {"2": 1}}}
    write_dataset(tmp_path / "data", documents=["one"], queries=["first", "second"], splits=splits)
    return tmp_path


def test_stored_vectors_are_copied_and_queries_embedded(server: Server, place: Path) -> None:
    done = embed(place, server, "right", check=0)
    assert "made emb" in done.stdout
    assert np.load(place / "emb" / "documents.npy").shape == (N_POINTS, DIM)
    assert np.load(place / "emb" / "queries.npy").shape == (2, DIM)
    assert (
        json.loads((place / "emb" / "encoder.json").read_text())["documents"]["index"] == "qdrant"
    )


def test_a_wrong_key_is_one_line(server: Server, place: Path) -> None:
    done = embed(place, server, "wrong", check=1)
    assert "refuses the key (401); set QDRANT_API_KEY" in " ".join(done.stderr.split())
    assert not (place / "emb").exists()
