"""What an ``[[encoder]]`` table may not say, found before anything is served."""

from pathlib import Path

import click.testing
import onnx
import pytest

from tests.support.onnx_models import CARD, linear_bytes
from tests.support.tiny_encoder import words_bytes
from trimtab.commands.group import main
from trimtab_training.export.fused_encoder import fuse_adapter

ROUTE = '[[route]]\ncollection = "docs"\nadapter = "adapter.onnx"\n'
PLAIN = '[[encoder]]\nmodel = "toy/words"\nfile = "plain.onnx"\n'


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    plain = words_bytes(fingerprint=CARD.fingerprint)
    adapter = linear_bytes(dim_in=8, dim_out=8, use="relevance")
    (tmp_path / "plain.onnx").write_bytes(plain)
    (tmp_path / "adapter.onnx").write_bytes(adapter)
    (tmp_path / "fused.onnx").write_bytes(fuse_adapter(plain, adapter))
    queries_alone = onnx.load(tmp_path / "fused.onnx")
    del queries_alone.graph.output[1:]
    onnx.save(queries_alone, tmp_path / "tuned.onnx")
    return tmp_path


def check(folder: Path, tables: str) -> click.testing.Result:
    config = folder / "sidecar.toml"
    config.write_text(f'upstream.rest = "http://127.0.0.1:9"\n{tables}')
    return click.testing.CliRunner().invoke(main, ["serve", "--config", str(config), "--check"])


def test_what_fits_together_is_served(folder: Path) -> None:
    fused = '[[encoder]]\nmodel = "toy/fused"\nfile = "fused.onnx"\nadapts = ["docs/title", "x"]\n'
    colon = PLAIN.replace("words", "words:latest")
    done = check(folder, ROUTE + PLAIN + colon + fused)
    assert done.exit_code == 0, done.output


@pytest.mark.parametrize(
    ("tables", "told"),
    [
        (PLAIN.replace("plain", "missing"), "no encoder at"),
        (PLAIN.replace("plain", "adapter"), "this is an adapter: it takes vectors"),
        (PLAIN + PLAIN.replace("toy", "TOY"), "two tables [[encoder]] for 'toy/words'"),
        (PLAIN.replace("toy/words", ""), "model '' is empty"),
        (PLAIN.replace("toy/words", " toy/words"), "has space around it"),
        (PLAIN.replace("toy/words", "Qdrant/BM25"), "Qdrant's own BM25"),
        (PLAIN + PLAIN.replace("words", "Words:query"), "the query form of 'toy/words'"),
        (PLAIN.replace("words", "words:document") + PLAIN, "the document form of 'toy/words'"),
        (PLAIN + 'adapts = ["docs"]\n', "there is no adapter in its file"),
        (
            ROUTE + PLAIN.replace("plain", "fused") + 'adapts = ["docs"]\n',
            "adapts collection 'docs', which has a [[route]] as well",
        ),
        (
            PLAIN.replace("plain", "tuned") + "writes = true\n",
            "writes, and its file embeds queries alone",
        ),
        (PLAIN.replace("plain", "fused") + 'adapts = ["docs/"]\n', "adapts 'docs/'; expected"),
        (PLAIN.replace("plain", "fused") + 'adapts = [""]\n', "adapts ''; expected"),
        (PLAIN.replace("plain", "fused") + 'adapts = ["/x"]\n', "adapts '/x'; expected"),
        (PLAIN + "threads = 0\n", "threads"),
        (PLAIN + "waiting = 0\n", "waiting"),
        (PLAIN + "write = true\n", "write"),
        ('[[encoder]]\nmodel = "toy/words"\n', "file"),
    ],
)
def test_what_does_not_is_told_in_one_line(folder: Path, tables: str, told: str) -> None:
    done = check(folder, tables)
    assert done.exit_code == 1
    assert told in done.stderr
    assert "Traceback" not in done.output
