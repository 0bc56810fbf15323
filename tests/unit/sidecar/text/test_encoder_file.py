"""An encoder's file is looked into before anything runs it, as an adapter's is."""

import json
from collections.abc import Callable
from pathlib import Path

import onnx
import pytest
from onnx import TensorProto, helper

from tests.support.onnx_models import linear_bytes
from tests.support.tiny_encoder import MANIFEST, stamp, words_bytes, words_model
from trimtab.errors import IntegrityError, ManifestError, ModelError
from trimtab.text.encoder_file import check_encoder, holds_encoder, read_encoder_file
from trimtab.text.encoder_manifest import ENCODER_KEY, TOKENIZER_KEY, EncoderManifest

Change = Callable[[onnx.ModelProto], object]


def test_a_good_file_says_what_it_is() -> None:
    read = check_encoder(words_bytes())
    assert read.manifest == MANIFEST
    assert read.adapter is None
    assert '"WordLevel"' in read.tokenizer


def _with_node(operator: str, domain: str = "") -> Change:
    node = helper.make_node(operator, ["input_ids"], ["more"], domain=domain)
    return lambda model: model.graph.node.append(node)


def _with_loop(model: onnx.ModelProto) -> None:
    body = helper.make_graph([], "body", [], [])
    model.graph.node.append(helper.make_node("If", ["input_ids"], ["more"], then_branch=body))


def _with_external(model: onnx.ModelProto) -> None:
    model.graph.initializer[0].data_location = TensorProto.EXTERNAL


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (_with_node("StringNormalizer"), "'StringNormalizer', which is not on the list"),
        (_with_node("FusedGemm", "com.microsoft"), "com.microsoft.FusedGemm, not a standard"),
        (_with_loop, "'If', which is not on the list"),
        (_with_external, "keeps weights in another file; encoders are one file"),
        (lambda model: setattr(model, "ir_version", 99), "encoders use 9 or lower"),
        (lambda model: model.functions.add(), "functions of its own, which an encoder never"),
    ],
)
def test_what_an_encoder_never_needs_is_refused(change: Change, told: str) -> None:
    model = words_model()
    change(model)
    with pytest.raises(IntegrityError, match=told):
        check_encoder(model.SerializeToString())


def _renamed(model: onnx.ModelProto) -> None:
    model.graph.input[0].name = "tokens"


def _third_input(model: onnx.ModelProto) -> None:
    more = helper.make_tensor_value_info("token_type_ids", TensorProto.INT64, ["n", "t"])
    model.graph.input.append(more)


@pytest.mark.parametrize("change", [_renamed, _third_input])
def test_other_inputs_are_refused(change: Change) -> None:
    model = words_model()
    change(model)
    with pytest.raises(ManifestError, match="the graph's inputs are"):
        check_encoder(model.SerializeToString())


@pytest.mark.parametrize("key", [ENCODER_KEY, TOKENIZER_KEY])
def test_what_must_stand_once_may_not_stand_twice_or_never(key: str) -> None:
    model = words_model()
    (entry,) = [each for each in model.metadata_props if each.key == key]
    model.metadata_props.append(entry)
    with pytest.raises(ManifestError, match=r"has 2 .*, expected one"):
        check_encoder(model.SerializeToString())
    kept = [each for each in model.metadata_props if each.key != key]
    del model.metadata_props[:]
    model.metadata_props.extend(kept)
    with pytest.raises(ManifestError, match=r"has 0 .*, expected one"):
        check_encoder(model.SerializeToString())


def test_an_adapter_is_told_from_an_encoder(tmp_path: Path) -> None:
    file = tmp_path / "adapter.onnx"
    file.write_bytes(linear_bytes())
    assert not holds_encoder(file.read_bytes())
    with pytest.raises(ManifestError, match=r"adapter.onnx: this is an adapter: it takes vectors"):
        read_encoder_file(file)


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"schema_version": 2}, "reads up to 1; upgrade"),
        ({"schema_version": None}, "has no schema_version"),
        ({"dim": 0}, "dim is 0"),
        ({"max_tokens": "many"}, "max_tokens is 'many'"),
        ({"precision": "int4"}, "precision is 'int4'"),
        ({"pad_id": -1}, "pad_id is -1"),
    ],
)
def test_a_manifest_out_of_range_is_refused(change: dict[str, object], told: str) -> None:
    record = json.loads(MANIFEST.to_json()) | change
    with pytest.raises(ManifestError, match=told):
        EncoderManifest.from_json(json.dumps(record))


@pytest.mark.parametrize("text", ["", "[]", "not json"])
def test_a_manifest_that_is_none_is_refused(text: str) -> None:
    with pytest.raises(ManifestError):
        EncoderManifest.from_json(text)


def test_later_versions_may_say_more() -> None:
    record = json.loads(MANIFEST.to_json()) | {"more": 1}
    assert EncoderManifest.from_json(json.dumps(record)) == MANIFEST


def test_a_cut_file_is_refused() -> None:
    content = words_bytes()
    for share in (0.1, 0.5, 0.9, 0.99):
        with pytest.raises(ModelError):
            check_encoder(content[: int(share * len(content))])


def test_the_manifest_can_be_replaced_whole() -> None:
    model = words_model()
    stamp(model, ENCODER_KEY, MANIFEST.to_json())
    assert check_encoder(model.SerializeToString()).manifest == MANIFEST
