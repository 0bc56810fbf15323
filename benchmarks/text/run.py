"""Texts: what one costs in process, and what they do to vector queries beside them in the sidecar.

In process, one thread, the packaged MiniLM, contenders in turn within each round: splitting a text
into tokens and a bare ``session.run``; ``TextEncoder.encode``; sentence-transformers' ``encode``.

In the sidecar: a client asks with vectors of 384 values at a steady rate over one connection, alone
and while others keep the encoder saturated with texts that are all new; the real engine behind.
Phases alternate, so that what else the machine does hits both.
"""

import os

os.environ["OMP_NUM_THREADS"] = os.environ["OPENBLAS_NUM_THREADS"] = "1"
os.environ["TOKENIZERS_PARALLELISM"] = "false"

import argparse
import http.client
import json
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

import numpy as np
import torch
from qdrant_client import models

from benchmarks.record import write_results
from tests.support.onnx_models import CARD, linear_bytes
from tests.support.qdrant.fixtures import connect
from tests.support.qdrant.process import running_server
from tests.support.sidecar import running_sidecar
from trimtab.text.encoder import TextEncoder
from trimtab_training.embeddings.local_encoder import packaged_minilm
from trimtab_training.export.encoder_export import export_encoder

HERE = Path(__file__).parent
MODEL = "minilm"
WORDS = [
    "how",
    "do",
    "i",
    "cancel",
    "my",
    "subscription",
    "before",
    "it",
    "renews",
    "and",
    "get",
    "the",
    "money",
    "back",
    "for",
    "last",
    "month",
]
TEXTS = {"short": " ".join(WORDS[:9]), "long": " ".join(WORDS * 7)}
ROUNDS, WARM_UP = 60, 5
DIM, N_POINTS = 384, 5000


def percentiles(seconds: list[float]) -> dict[str, float]:
    """Give milliseconds."""
    found = np.percentile(np.array(seconds) * 1e3, [50, 95, 99])
    return dict(zip(("p50_ms", "p95_ms", "p99_ms"), map(float, found.round(3)), strict=True))


def in_process(files: dict[str, Path], original: Any) -> dict[str, Any]:
    """Time one text, one thread."""
    torch.set_num_threads(1)
    results: dict[str, Any] = {}
    for name, file in files.items():
        encoder = TextEncoder.load(file)
        for length, text in TEXTS.items():
            ways: dict[str, Callable[[], Any]] = {
                "bare": bare(encoder, text),
                "TextEncoder": lambda encoder=encoder, text=text: encoder.encode(text),
                "sentence-transformers": lambda text=text: original.encode(
                    text, show_progress_bar=False
                ),
            }
            times: dict[str, list[float]] = {way: [] for way in ways}
            for turn in range(ROUNDS + WARM_UP):
                for way, call in ways.items():
                    started = time.perf_counter()
                    call()
                    if turn >= WARM_UP:
                        times[way].append(time.perf_counter() - started)
            row: dict[str, Any] = {way: percentiles(taken) for way, taken in times.items()}
            row["n_tokens"] = len(encoder.tokens(text))
            row["to_bare"] = round(row["TextEncoder"]["p50_ms"] / row["bare"]["p50_ms"], 3)
            rival = row["sentence-transformers"]["p50_ms"]
            row["to_sentence_transformers"] = round(row["TextEncoder"]["p50_ms"] / rival, 3)
            results[f"{name}, {length}"] = row
            print(name, length, row, flush=True)
    return results


def bare(encoder: TextEncoder, text: str) -> Callable[[], Any]:
    """Split into tokens and run, with nothing around it."""
    tokenizer, session = encoder._tokenizer, encoder._session

    def call() -> Any:
        ids = np.array([tokenizer.encode_batch_fast([text])[0].ids])
        feeds = {"input_ids": ids, "attention_mask": np.ones_like(ids)}
        return session.run(["sentence_embedding"], feeds)[0]

    return call


class Texts:
    """Clients in processes' threads that ask with new texts, one after the other."""

    def __init__(self, address: tuple[str, int], n_clients: int) -> None:
        self._address, self._n_clients = address, n_clients
        self._over = threading.Event()
        self.n_answers, self.errors, self.times = 0, 0, []

    def __enter__(self) -> "Texts":
        """Begin."""
        self._threads = [
            threading.Thread(target=self._ask, args=(number,)) for number in range(self._n_clients)
        ]
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        """End."""
        self._over.set()
        for thread in self._threads:
            thread.join()

    def _ask(self, number: int) -> None:
        link, rng = http.client.HTTPConnection(*self._address), np.random.default_rng()
        while not self._over.is_set():
            text = " ".join(rng.permutation(WORDS)[:9]) + f" {number} {rng.integers(1 << 40)}"
            body = json.dumps({"query": {"text": text, "model": MODEL}, "limit": 10})
            started = time.perf_counter()
            link.request("POST", "/collections/docs/points/query", body)
            answer = link.getresponse()
            answer.read()
            self.times.append(time.perf_counter() - started)
            self.n_answers += 1
            self.errors += answer.status != 200


def ask_vectors(address: tuple[str, int], seconds: float, rate: float) -> list[float]:
    """Ask with vectors at a steady rate; give the time of each answer from when it was due."""
    link = http.client.HTTPConnection(*address)
    rng = np.random.default_rng(0)
    bodies = [
        json.dumps({"query": rng.standard_normal(DIM).round(5).tolist(), "limit": 10})
        for _ in range(50)
    ]
    taken, began = [], time.perf_counter()
    for number in range(int(seconds * rate)):
        due = began + number / rate
        time.sleep(max(0.0, due - time.perf_counter()))
        link.request("POST", "/collections/docs/points/query", bodies[number % len(bodies)])
        answer = link.getresponse()
        answer.read()
        if answer.status != 200:
            raise SystemExit(f"a vector query was answered {answer.status}")
        taken.append(time.perf_counter() - due)
    return taken


def in_sidecar(
    file: Path, phases: int, seconds: float, rate: float, clients: int
) -> dict[str, Any]:
    """Time vector queries, alone and beside texts."""
    alone: list[float] = []
    beside: list[float] = []
    texts: list[float] = []
    n_answers = errors = 0
    with tempfile.TemporaryDirectory() as place, running_server() as server:
        folder = Path(place)
        direct = connect(server)
        params = models.VectorParams(size=DIM, distance=models.Distance.COSINE)
        direct.create_collection("docs", vectors_config=params)
        rows = np.random.default_rng(1).standard_normal((N_POINTS, DIM)).astype(np.float32)
        direct.upload_collection("docs", rows, wait=True)
        adapter = folder / "adapter.onnx"
        adapter.write_bytes(
            linear_bytes(dim_in=DIM, dim_out=DIM, use="relevance", encoder=card(file))
        )
        config = folder / "sidecar.toml"
        config.write_text(
            f'upstream.rest = "{server.rest_url}"\n[[route]]\ncollection = "docs"\n'
            f'adapter = "adapter.onnx"\n[[encoder]]\nmodel = "{MODEL}"\nfile = "{file}"\n'
        )
        with running_sidecar(config=config) as sidecar:
            ask_vectors(sidecar.rest_address, 2, rate)
            for _ in range(phases):
                alone += ask_vectors(sidecar.rest_address, seconds, rate)
                with Texts(sidecar.rest_address, clients) as load:
                    beside += ask_vectors(sidecar.rest_address, seconds, rate)
                n_answers, errors = n_answers + load.n_answers, errors + load.errors
                texts += load.times
    return {
        "rate": rate,
        "clients_with_texts": clients,
        "vector_queries_alone": percentiles(alone),
        "vector_queries_beside_texts": percentiles(beside),
        "p99_ratio": round(float(np.percentile(beside, 99) / np.percentile(alone, 99)), 2),
        "text_queries": percentiles(texts),
        "texts_per_s": round(n_answers / (phases * seconds), 1),
        "errors": errors,
    }


def card(file: Path) -> Any:
    """Name the encoder as an adapter that was trained on it does."""
    from dataclasses import replace

    return replace(CARD, fingerprint=TextEncoder.load(file).manifest.fingerprint, query_prefix="")


def main() -> None:
    """Export, measure, write."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--phases", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=8.0, help="of each phase")
    parser.add_argument("--rate", type=float, default=100.0, help="vector queries a second")
    parser.add_argument("--clients", type=int, default=8, help="with texts")
    given = parser.parse_args()
    original = packaged_minilm()
    with tempfile.TemporaryDirectory() as place:
        files = {}
        for precision in ("float32", "int8"):
            files[precision] = Path(place) / f"{precision}.onnx"
            files[precision].write_bytes(export_encoder(original, precision=precision).content)
        results = {
            "megabytes": {
                name: round(file.stat().st_size / 1e6, 1) for name, file in files.items()
            },
            "in_process": in_process(files, original.model),
            "in_sidecar": {
                name: in_sidecar(file, given.phases, given.seconds, given.rate, given.clients)
                for name, file in files.items()
            },
        }
    print(json.dumps(results["in_sidecar"], indent=1))
    write_results(HERE, results)


if __name__ == "__main__":
    main()
