"""A sentence-transformers model taken apart gives what the library gives, however it pools."""

import itertools
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from tests.support.tiny_encoder import write_tiny_bert
from trimtab_training.embeddings.local_encoder import LocalEncoder
from trimtab_training.errors import ExportError
from trimtab_training.export.encoder_export import check_size
from trimtab_training.export.probe_texts import probe_texts
from trimtab_training.export.text_module import POOLINGS, TextModule

TEXTS = ["how do i cancel", "money", "", "where is the invoice of my plan, please"]


@pytest.mark.parametrize("pooling", [*POOLINGS, ("cls", "mean")])
@pytest.mark.parametrize("dense", [False, True])
def test_the_module_gives_what_the_library_gives(
    tmp_path: Path, pooling: str | tuple[str, ...], dense: bool
) -> None:
    folder = write_tiny_bert(tmp_path, pooling=pooling, dense=dense, normalise=not dense)
    encoder = LocalEncoder(folder)
    module = TextModule(encoder.model).eval()
    features = encoder.model.preprocess(TEXTS)
    with torch.no_grad():
        found = module(features["input_ids"], features["attention_mask"])
    assert torch.abs(found - torch.from_numpy(encoder.encode(TEXTS))).max() < 1e-6
    assert module.is_normalised is not dense


def test_the_module_cuts_embeddings_where_the_model_does(tmp_path: Path) -> None:
    encoder = LocalEncoder(write_tiny_bert(tmp_path))
    encoder.model.truncate_dim = 5
    module = TextModule(encoder.model).eval()
    features = encoder.model.preprocess(TEXTS)
    with torch.no_grad():
        found = module(features["input_ids"], features["attention_mask"])
    assert torch.abs(found - torch.from_numpy(encoder.encode(TEXTS))).max() < 1e-6
    assert not module.is_normalised


@pytest.mark.parametrize(
    ("kinds", "told"),
    [
        (["Transformer"], "the model is Transformer; only"),
        (["Transformer", "Pooling", "Router"], "Transformer \\+ Pooling \\+ Router; only"),
        (["Router", "Pooling"], "Router \\+ Pooling; only"),
        ([], "the model is empty"),
    ],
)
def test_modules_that_are_not_known_are_named(kinds: list[str], told: str) -> None:
    model = [type(kind, (), {})() for kind in kinds]
    with pytest.raises(ExportError, match=told):
        TextModule(model)


@pytest.mark.parametrize(
    ("pooling", "told"),
    [
        (SimpleNamespace(pooling_mode="rms", include_prompt=True), "pools by rms; only mean, cls"),
        (SimpleNamespace(pooling_mode=("cls", "rms"), include_prompt=True), "by cls \\+ rms; only"),
        (SimpleNamespace(pooling_mode="mean", include_prompt=False), "prompt out of the pooling"),
    ],
)
def test_poolings_that_are_not_known_are_named(pooling: SimpleNamespace, told: str) -> None:
    Transformer = type("Transformer", (), {"auto_model": torch.nn.Identity()})
    Pooling = type("Pooling", (SimpleNamespace,), {})
    with pytest.raises(ExportError, match=told):
        TextModule([Transformer(), Pooling(**vars(pooling))])


def module_of(n_rows: int) -> TextModule:
    """A model of so many rows of 32,768 weights, which take no memory."""
    large = torch.nn.Linear(2**15, n_rows, bias=False, device="meta")
    Transformer = type("Transformer", (), {"auto_model": large})
    Pooling = type("Pooling", (SimpleNamespace,), {})
    return TextModule([Transformer(), Pooling(pooling_mode="mean", include_prompt=True)])


def test_weights_that_no_file_can_hold_are_refused_before_they_are_traced() -> None:
    check_size(module_of(2**13), module_of(2**13 - 1))
    check_size(module_of(2**14 + 1), precision="int8")
    told = r"weights have 2\.1 GB in float32; one ONNX file holds 2\.1; --precision int8 makes one"
    with pytest.raises(ExportError, match=told):
        check_size(module_of(2**14 + 1))
    with pytest.raises(ExportError, match=r"have 2\.1 GB"):
        check_size(module_of(2**13), module_of(2**13 + 1))
    for precision in ("float32", "int8"):
        with pytest.raises(ExportError, match=r"have 8\.6 GB in float32.*give QueryHook an encode"):
            check_size(module_of(2**16), precision=precision)


def test_the_probes_are_of_every_length() -> None:
    lengths = sorted({len(text.split()) for text in probe_texts(256)})
    assert lengths[0] == 0
    assert lengths[-1] > 256
    assert all(after <= 2 * before + 1 for before, after in itertools.pairwise(lengths))
