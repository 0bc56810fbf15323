"""A converted adapter gives what LlamaIndex gives: as it is on file, and as it is installed."""

import os
import subprocess
from pathlib import Path

import numpy as np
import pytest
import torch

from tests.support.llama_index_golden import cases
from trimtab.model.adapter import Adapter
from trimtab_training.conversion import Target, convert_adapter, read_llama_index, write_converted
from trimtab_training.export.model_folder import load_checkpoint

ROOT = Path(__file__).parents[2]
GOLDEN = Path(__file__).parent / "llama_index"
PYTHON = Path(
    os.environ.get("LLAMA_INDEX_PYTHON")
    or ROOT / "benchmarks" / "quality" / ".work" / "llama-index" / "venv" / "bin" / "python"
)
SAME = 2e-6
"""Outputs have size 1 to 10; float32 sums of a dozen products in another order differ by less."""

NAMES = [name for name, _, _ in cases()]
SERVED = (
    "linear-bias",
    "two-layer-sigmoid",
    "two-layer-tanh-residual",
    "two-layer-leaky_relu-residual",
    "two-layer-narrow",
)
"""Every class and every activation: a torch export takes a second, so not every mixture of them."""


def expected(folder: Path) -> tuple[np.ndarray, np.ndarray]:
    with np.load(folder / "expected.npz") as file:
        return file["queries"], file["adapted"]


def check_read(folder: Path) -> None:
    """Read, and hold what torch then gives against LlamaIndex's answers."""
    queries, adapted = expected(folder)
    with torch.no_grad():
        found = read_llama_index(folder).adapter(torch.from_numpy(queries)).numpy()
    np.testing.assert_allclose(found, adapted, atol=SAME, rtol=SAME)


@pytest.mark.parametrize("name", NAMES)
def test_adapter_that_is_read_gives_what_llama_index_gave(name: str) -> None:
    check_read(GOLDEN / name)


@pytest.mark.parametrize("name", SERVED)
def test_model_and_checkpoint_give_what_llama_index_gave(name: str, tmp_path: Path) -> None:
    target = Target(tmp_path / "model")
    write_converted(convert_adapter(read_llama_index(GOLDEN / name), target), target)
    queries, adapted = expected(GOLDEN / name)
    served = Adapter.load(target.path)
    checkpoint, _ = load_checkpoint(target.path)
    with torch.no_grad():
        kept = checkpoint(torch.from_numpy(queries)).numpy()
    single = np.stack([served.transform(row) for row in queries])
    for found in (served.transform(queries), single, kept):
        np.testing.assert_allclose(found, adapted, atol=SAME, rtol=SAME)


def test_cases_that_llama_index_wrote_are_the_cases_that_are_checked() -> None:
    assert {path.name for path in GOLDEN.iterdir() if path.is_dir()} == set(NAMES)


@pytest.mark.skipif(
    not PYTHON.exists(),
    reason="no Python with llama-index-embeddings-adapter: set LLAMA_INDEX_PYTHON, or make the "
    "environment of benchmarks/quality/requirements-llama-index.txt",
)
def test_llama_index_itself_gives_the_same_on_new_weights(tmp_path: Path) -> None:
    script = ROOT / "tests" / "support" / "llama_index_golden.py"
    subprocess.run([PYTHON, "-P", script, tmp_path, "1"], check=True, cwd=tmp_path)
    for name in NAMES:
        check_read(tmp_path / name)
