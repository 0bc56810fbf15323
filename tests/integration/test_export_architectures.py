"""Encoders that differ in kind: exported as the library has them, or refused in one line."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click.testing
import numpy as np
import pytest
from sentence_transformers import SentenceTransformer

from tests.support.tiny_architectures import ARCHITECTURES, MAX_TOKENS, write_architecture
from tests.support.tiny_encoder import write_tiny_bert
from tests.support.traced_once import read_operators_once
from trimtab import TextEncoder
from trimtab.commands.group import main
from trimtab_training.export.probe_texts import probe_texts

TOLERANCE = 1e-5
"""Of a coordinate, and of 1 - cosine: float32 in two orders of adding up."""
TEXTS = [*probe_texts(MAX_TOKENS), *(" ".join(["plan"] * number) for number in range(30))]
REFUSED = "big_bird"


@pytest.fixture(autouse=True, scope="module")
def _read_operators_once() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        read_operators_once(patch)
        yield


def export(folder: Path, file: Path, *more: str) -> click.testing.Result:
    words = ["export-encoder", str(folder), "-o", str(file), *more]
    return click.testing.CliRunner().invoke(main, words)


def check_near(wanted: np.ndarray, found: np.ndarray) -> None:
    lengths = np.linalg.norm(wanted, axis=1)
    assert lengths.min() > 0
    assert np.abs(wanted - found).max() < TOLERANCE * max(1.0, lengths.max())
    cosines = np.einsum("nd,nd->n", wanted, found) / lengths / np.linalg.norm(found, axis=1)
    assert (1 - cosines).max() < TOLERANCE


@pytest.mark.parametrize("kind", [kind for kind in ARCHITECTURES if kind != REFUSED])
def test_an_encoder_gives_what_sentence_transformers_gives(kind: str, tmp_path: Path) -> None:
    folder = write_architecture(tmp_path, kind)
    done = export(folder, tmp_path / "encoder.onnx")
    assert done.exit_code == 0, done.output
    served, model = TextEncoder.load(tmp_path), SentenceTransformer(str(folder), device="cpu")
    for role in ("query", "document"):
        prompt = model.prompts.get(role, "")
        alone = np.stack([model.encode(text, prompt=prompt) for text in TEXTS])
        mixed = model.encode(TEXTS, prompt=prompt, batch_size=len(TEXTS))
        check_near(mixed, alone)  # or there is no one vector to hold the file against
        check_near(alone, served.encode(TEXTS, role=role))
        check_near(alone, np.stack([served.encode(text, role=role) for text in TEXTS]))
    for text in TEXTS:
        assert served.tokens(text) == model.preprocess([text])["input_ids"][0].tolist()


def test_an_encoder_that_does_otherwise_with_longer_texts_is_refused(tmp_path: Path) -> None:
    done = export(write_architecture(tmp_path, REFUSED), tmp_path / "encoder.onnx")
    check_refused(done, "big_bird can't be exported; give QueryHook an encode of")
    assert not (tmp_path / "encoder.onnx").exists()


def check_refused(done: click.testing.Result, told: str) -> None:
    assert done.exit_code == 1
    assert isinstance(done.exception, SystemExit)
    last = done.stderr.rstrip().splitlines()[-1]
    assert last.startswith("Error: ")
    assert told in last


def change(file: Path, **values: Any) -> None:
    record = json.loads(file.read_text()) if file.exists() else {}
    file.write_text(json.dumps(record | values))


def text_of_special_tokens(folder: Path) -> None:
    """Take special tokens in a text for words; what tokenizer.json holds does not say so."""
    change(folder / "tokenizer_config.json", split_special_tokens=True)


def own_code(folder: Path) -> None:
    (folder / "own.py").write_text("raise SystemError('the code of a model was run')\n")
    code = {"AutoConfig": "own.Config", "AutoModel": "own.Model"}
    change(folder / "config.json", model_type="own", auto_map=code)


def own_module(folder: Path) -> None:
    own_code(folder)
    modules = json.loads((folder / "modules.json").read_text())
    modules[0]["type"] = "own.Transformer"
    (folder / "modules.json").write_text(json.dumps(modules))


def default_prompt(folder: Path) -> None:
    prompts = {"prompts": {"query": "query: "}, "default_prompt_name": "query"}
    change(folder / "config_sentence_transformers.json", **prompts)


def chat_template(folder: Path) -> None:
    settings = {"method": "forward", "method_output_name": "last_hidden_state"}
    both = {"text": settings, "message": settings | {"format": "flat"}}
    change(folder / "sentence_bert_config.json", modality_config=both)


def no_pad_token(folder: Path) -> None:
    change(folder / "tokenizer_config.json", pad_token=None, tokenizer_class="TokenizersBackend")


@pytest.mark.parametrize(
    ("spoil", "told"),
    [
        (own_code, "it brings Python code of its own (trust_remote_code), which is never run"),
        (own_module, "it brings Python code of its own (trust_remote_code), which is never run"),
        (lambda folder: change(folder / "config.json", model_type="own"), "model type `own` but"),
        (default_prompt, "puts 'query: ' before every text by itself; take default_prompt_name"),
        (chat_template, "puts texts into a chat template, which can't be exported"),
        (no_pad_token, "the tokenizer does not have a padding token"),
        (text_of_special_tokens, "the file splits 'do [UNK] cancel' into 5 tokens otherwise"),
    ],
)
def test_a_model_that_can_not_be_held_is_refused_in_one_line(
    spoil: Any, told: str, tmp_path: Path
) -> None:
    folder = write_tiny_bert(tmp_path)
    spoil(folder)
    check_refused(export(folder, tmp_path / "encoder.onnx"), told)
    assert not (tmp_path / "encoder.onnx").exists()


def test_more_tokens_than_the_model_has_places_for_are_refused(tmp_path: Path) -> None:
    folder = write_tiny_bert(tmp_path)
    done = export(folder, tmp_path / "encoder.onnx", "--max-tokens", "200")
    check_refused(
        done, "model, set to read 200 tokens (--max-tokens), fails on texts of up to 35: "
    )
