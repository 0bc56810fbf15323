"""An encoder through the commands: exported, looked at, joined with an adapter, measured."""

import json
import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Literal

import click.testing
import numpy as np
import onnx
import pytest

from tests.support.onnx_models import CARD, linear_bytes
from tests.support.sets import write_dataset
from tests.support.tiny_encoder import write_tiny_bert
from tests.support.traced_once import trace_once
from trimtab import Adapter, TextEncoder
from trimtab.commands.group import main
from trimtab.errors import ConfigError
from trimtab_training.embeddings.local_encoder import LocalEncoder
from trimtab_training.errors import ExportError
from trimtab_training.export import encoder_export
from trimtab_training.export.encoder_export import export_encoder
from trimtab_training.export.fused_encoder import fuse_adapter
from trimtab_training.export.onnx_export import encoder_card
from trimtab_training.export.probe_texts import probe_texts
from trimtab_training.export.text_module import TextModule

PREFIXES = {"query": "query: ", "document": "passage: "}
TEXTS = ["how do i cancel my plan", "money back", "where is the invoice"]


def run(*words: object) -> click.testing.Result:
    return click.testing.CliRunner().invoke(main, [str(word) for word in words])


@pytest.fixture(autouse=True, scope="module")
def _traced_once() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        trace_once(patch)
        yield


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("encoder")
    return write_tiny_bert(place, pooling="cls", dense=True, prompts=PREFIXES)


@pytest.fixture(scope="module")
def encoder(folder: Path) -> LocalEncoder:
    return LocalEncoder(folder, query_prefix="query: ", document_prefix="passage: ")


@pytest.fixture(scope="module")
def adapter(encoder: LocalEncoder, tmp_path_factory: pytest.TempPathFactory) -> Path:
    card = replace(CARD, fingerprint=encoder.fingerprint, query_prefix="query: ")
    file = tmp_path_factory.mktemp("adapter") / "adapter.onnx"
    file.write_bytes(linear_bytes(dim_in=12, dim_out=5, encoder=card))
    return file


@pytest.fixture(scope="module")
def exported(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    file = tmp_path_factory.mktemp("out") / "models" / "encoder.onnx"
    done = run("export-encoder", folder, "-o", file)
    assert done.exit_code == 0, done.output
    assert f"made {file}" in done.stdout
    assert "cls pooling, 16 tokens, float32" in done.stdout
    assert f"next: trimtab inspect {file}" in done.stderr
    return file


def test_the_file_gives_what_sentence_transformers_gives(
    exported: Path, encoder: LocalEncoder
) -> None:
    served = TextEncoder.load(exported)
    assert served.manifest.fingerprint == encoder.fingerprint
    texts = probe_texts(16)
    queries = encoder.encode([f"query: {text}" for text in texts])
    documents = encoder.encode([f"passage: {text}" for text in texts])
    assert np.abs(served.encode(texts) - queries).max() < 1e-5
    assert np.abs(served.encode(texts, role="document") - documents).max() < 1e-5


def test_a_model_that_cuts_its_embeddings_is_cut_in_the_file(tmp_path: Path) -> None:
    folder = write_tiny_bert(tmp_path, seed=1)
    settings = folder / "config_sentence_transformers.json"
    settings.write_text(json.dumps({**json.loads(settings.read_text()), "truncate_dim": 6}))
    done = run("export-encoder", folder, "-o", tmp_path / "encoder.onnx")
    assert done.exit_code == 0, done.output
    served = TextEncoder.load(tmp_path / "encoder.onnx")
    assert (served.dim, served.manifest.normalised) == (6, False)
    assert np.abs(served.encode(TEXTS) - LocalEncoder(folder).encode(TEXTS)).max() < 1e-5


def test_the_file_names_nothing_of_this_machine(exported: Path, folder: Path) -> None:
    content = exported.read_bytes()
    for word in (str(folder.parent), str(Path.home()), "site-packages", ".py"):
        assert word.encode() not in content


def test_inspect_shows_an_encoder(exported: Path) -> None:
    done = run("inspect", exported)
    assert done.exit_code == 0, done.output
    assert "text -> 12 dims, cls pooling, unit length" in done.stdout
    assert "queries 'query: ', documents 'passage: '" in done.stdout
    record = json.loads(run("inspect", exported.parent, "--json").stdout)
    assert record["encoder"]["max_tokens"] == 16
    assert record["adapter"] is None


def test_an_adapter_is_joined_and_both_give_what_they_gave_in_turn(
    exported: Path, adapter: Path, tmp_path: Path
) -> None:
    file = tmp_path / "query.onnx"
    file.write_bytes(fuse_adapter(exported.read_bytes(), adapter.read_bytes()))
    fused, raw, behind = TextEncoder.load(file), TextEncoder.load(exported), Adapter.load(adapter)
    texts = probe_texts(16)
    assert np.abs(fused.encode(texts) - behind.transform(raw.encode(texts))).max() < 1e-5
    assert np.abs(fused.encode(texts, raw=True) - raw.encode(texts)).max() < 1e-6
    documents = raw.encode(texts, role="document")
    assert np.abs(fused.encode(texts, role="document") - documents).max() < 1e-6
    assert onnx.load(file).graph.output[0].name == "adapted"  # some readers take the first
    onnx.checker.check_model(onnx.load(file), full_check=True)


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("data") / "docs"
    labels = {f"q{number}": {f"d{number}": 1} for number in range(4)}
    splits = {"train": {"q3": labels.pop("q3")}, "test": labels}
    documents = [f"invoice of plan {number}" for number in range(5)]
    queries = dict(enumerate([*TEXTS, "how is my money"]))
    return write_dataset(
        place,
        queries={f"q{number}": text for number, text in queries.items()},
        documents={f"d{number}": text for number, text in enumerate(documents)},
        splits=splits,
    )


@pytest.fixture(scope="module")
def embeddings(folder: Path, data: Path) -> Path:
    place = data.parent / "emb"
    prefixes = ("--query-prefix", "query: ", "--document-prefix", "passage: ")
    done = run("embed", data, "-o", place, "--encoder", folder, *prefixes)
    assert done.exit_code == 0, done.output
    return place


def test_rounding_is_measured_and_written_down_and_an_adapter_stands_behind_it(
    folder: Path, adapter: Path, data: Path, embeddings: Path, tmp_path: Path
) -> None:
    file = tmp_path / "int8.onnx"
    done = run(
        *("export-encoder", folder, "-o", file, "--precision", "int8", "--adapter", adapter),
        *("--embeddings", embeddings, "--dataset", data, "--json"),
    )
    assert done.exit_code == 0, done.output
    record = json.loads(done.stdout)
    assert 0 < record["cosine_mean"] <= record["cosine_worst"] < 0.5
    assert record["on_dataset"]["n_queries"] == 3
    served = TextEncoder.load(file)
    assert served.manifest.loss["ndcg"]["delta"] == record["on_dataset"]["delta"]
    assert record["size_bytes"] == file.stat().st_size
    shown = run("inspect", file).stdout
    assert "int8, 1 - cosine" in shown
    assert "adapter behind it  toy: linear, 12 -> 5 dims" in shown
    texts = probe_texts(16)
    assert np.array_equal(served.encode(texts), np.stack([served.encode(text) for text in texts]))


def test_weights_beyond_one_file_go_into_one_once_they_are_rounded(
    encoder: LocalEncoder, monkeypatch: pytest.MonkeyPatch
) -> None:
    size = sum(4 * one.numel() for one in encoder.model.parameters())
    rules = replace(encoder_export.ENCODER_RULES, max_size_bytes=size - 1)
    monkeypatch.setattr(encoder_export, "ENCODER_RULES", rules)
    with pytest.raises(ExportError, match="--precision int8 makes one of a quarter"):
        export_encoder(encoder)
    rounded = export_encoder(encoder, precision="int8")
    texts = [f"query: {text}" for text in TEXTS]
    near = np.einsum(
        "nd,nd->n", TextEncoder.from_bytes(rounded.content)(texts), encoder.encode(texts)
    )
    assert near.min() > 0.9


@pytest.mark.parametrize("precision", ["float32", "int8"])
def test_a_graph_that_gives_other_embeddings_is_refused_before_any_rounding(
    encoder: LocalEncoder, precision: Literal["float32", "int8"], monkeypatch: pytest.MonkeyPatch
) -> None:
    trace = encoder_export.trace_encoder

    def spoiled(module: TextModule) -> onnx.ModelProto:
        model = trace(module)
        matrices = [one for one in model.graph.initializer if len(one.dims) == 2]
        largest = max(matrices, key=lambda one: len(one.raw_data))
        weights = onnx.numpy_helper.to_array(largest)
        largest.raw_data = (weights + 0.01 * np.sign(weights)).astype(np.float32).tobytes()
        return model

    monkeypatch.setattr(encoder_export, "trace_encoder", spoiled)
    with pytest.raises(ExportError, match=r"the file's embeddings are up to .* bert can't be"):
        export_encoder(encoder, precision=precision)


def test_another_encoder_than_the_embeddings_is_refused(embeddings: Path, tmp_path: Path) -> None:
    other = write_tiny_bert(tmp_path / "other", pooling="cls", dense=True, seed=1)
    file = tmp_path / "out.onnx"
    done = run("export-encoder", other, "-o", file, "--embeddings", embeddings)
    assert done.exit_code == 1
    assert "expected the same weights and prefixes" in done.stderr
    assert not file.exists()


@pytest.fixture(scope="module")
def other_pooling(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same weights, and so the same fingerprint, behind another pooling."""
    place = tmp_path_factory.mktemp("other-pooling")
    return write_tiny_bert(place, pooling="mean", dense=True, prompts=PREFIXES)


def test_another_pooling_than_that_of_the_embeddings_is_refused(
    other_pooling: Path, embeddings: Path, data: Path, encoder: LocalEncoder, tmp_path: Path
) -> None:
    file = tmp_path / "out.onnx"
    words = ("export-encoder", other_pooling, "-o", file, "--embeddings")
    done = run(*words, embeddings)
    assert done.exit_code == 1
    assert "the same weights and prefixes, and other vectors" in done.stderr
    older = tmp_path / "older"  # as versions before the probe wrote it
    shutil.copytree(embeddings, older)
    record = json.loads((older / "encoder.json").read_text())
    assert record.pop("probe") == encoder.probe
    (older / "encoder.json").write_text(json.dumps(record))
    done = run(*words, older, "--dataset", data)
    assert done.exit_code == 1
    assert "(1 - cosine) on average from those in" in " ".join(done.stderr.split())
    assert not file.exists()
    done = run(*words, older)
    assert done.exit_code == 0, done.output


def test_an_adapter_is_not_put_behind_its_encoder_of_another_pooling(
    exported: Path, other_pooling: Path, encoder: LocalEncoder
) -> None:
    other = LocalEncoder(other_pooling, query_prefix="query: ", document_prefix="passage: ")
    assert other.fingerprint == encoder.fingerprint
    content = linear_bytes(dim_in=12, encoder=encoder_card(other))
    with pytest.raises(ExportError, match=r"queries of model; .* another pooling or tokenizer"):
        fuse_adapter(exported.read_bytes(), content)
    with pytest.raises(ConfigError, match="is another encoder than the one"):
        TextEncoder.load(exported).require_for(Adapter.from_bytes(content).manifest)
    own = Adapter.from_bytes(linear_bytes(dim_in=12, encoder=encoder_card(encoder)))
    TextEncoder.load(exported).require_for(own.manifest)


def test_another_adapter_than_the_encoders_is_refused(exported: Path) -> None:
    content = exported.read_bytes()
    for settings, told in (
        ({"dim_in": 11}, "takes 11 values, encoder model gives 12"),
        ({"dim_in": 12}, "was trained on queries of toy-encoder"),  # another fingerprint
    ):
        with pytest.raises(ExportError, match=told):
            fuse_adapter(content, linear_bytes(**settings))


def test_two_adapters_do_not_stand_behind_each_other(exported: Path, adapter: Path) -> None:
    once = fuse_adapter(exported.read_bytes(), adapter.read_bytes())
    with pytest.raises(ExportError, match="holds adapter toy already"):
        fuse_adapter(once, adapter.read_bytes())


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (("nowhere", "-o", "out.onnx"), "no sentence-transformers model in nowhere"),
        (("nowhere", "-o", "out.bin"), "out.bin does not end in .onnx"),
        (("nowhere", "-o", "out.onnx", "--dataset", "docs"), "--dataset needs --embeddings"),
    ],
)
def test_mistakes_are_one_line(words: tuple[str, ...], told: str) -> None:
    done = run("export-encoder", *words)
    assert done.exit_code != 0
    assert told in done.stderr
    assert "Traceback" not in done.output
