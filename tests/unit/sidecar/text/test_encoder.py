"""Texts in, embeddings out: by ONNX Runtime and tokenizers, and nothing else."""

import copy
import pickle
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import trimtab
from tests.support.tiny_encoder import (
    DIM,
    MANIFEST,
    MAX_TOKENS,
    embed,
    stamp,
    tokenizer_json,
    words_bytes,
    words_model,
)
from trimtab.errors import IntegrityError, ManifestError, ModelError, QueryError
from trimtab.text.encoder import TextEncoder
from trimtab.text.encoder_manifest import ENCODER_KEY, TOKENIZER_KEY

TEXTS = ["How do I cancel my plan?", "money back", "", "nobody knows", "the invoice"]


@pytest.fixture(scope="module")
def encoder() -> TextEncoder:
    return TextEncoder.from_bytes(words_bytes())


def test_texts_are_embedded_in_their_order(encoder: TextEncoder) -> None:
    found = encoder.encode(TEXTS * 700)  # several batches
    assert found.shape == (3500, DIM)
    assert found.dtype == np.float32
    assert np.abs(found - np.stack([embed(text) for text in TEXTS] * 700)).max() < 1e-6


def test_one_text_gives_one_vector(encoder: TextEncoder) -> None:
    """A text is a sequence of letters, too: none of them is a text of its own."""
    found = encoder.encode("money back")
    assert found.shape == (DIM,)
    assert np.abs(found - embed("money back")).max() < 1e-6


@pytest.mark.parametrize("kind", [bytearray, memoryview])
def test_encoder_loads_from_bytes_of_any_kind(encoder: TextEncoder, kind: Any) -> None:
    loaded = TextEncoder.from_bytes(kind(words_bytes()))
    assert np.array_equal(loaded.encode(TEXTS), encoder.encode(TEXTS))


def test_no_text_gives_no_row(encoder: TextEncoder) -> None:
    assert encoder.encode([]).shape == (0, DIM)


def test_what_is_longer_than_the_encoder_reads_is_cut_off(encoder: TextEncoder) -> None:
    long = "how do i cancel my plan money back"
    assert len(encoder.tokens(long)) == MAX_TOKENS
    assert np.array_equal(encoder.encode(long), encoder.encode("how do i cancel my plan"))


def test_each_role_has_its_prefix_and_a_call_has_none() -> None:
    encoder = TextEncoder.from_bytes(words_bytes(query_prefix="query ", document_prefix="passage "))
    assert np.abs(encoder.encode("money") - embed("query money")).max() < 1e-6
    assert np.abs(encoder.encode("money", role="document") - embed("passage money")).max() < 1e-6
    assert np.abs(encoder(["money"])[0] - embed("money")).max() < 1e-6


def test_a_hook_puts_the_prefix_once(tmp_path: Path) -> None:
    from tests.support.onnx_models import CARD, linear_bytes, weight_of

    content = linear_bytes(dim_in=DIM, dim_out=3)  # its manifest has the query prefix "query: "
    adapter = trimtab.Adapter.from_bytes(content)
    encoder = TextEncoder.from_bytes(
        words_bytes(query_prefix="query: ", fingerprint=CARD.fingerprint)
    )
    hook = trimtab.QueryHook(adapter, encoder=encoder)
    wanted = embed("query: money") @ weight_of(DIM, 3)
    assert np.abs(hook("money") - wanted).max() < 1e-5


@pytest.mark.parametrize(
    ("texts", "told"),
    [
        (["a", 7], "number 1 is a int"),
        ([None], "number 0 is a NoneType"),
        (["ok", "half \ud83d"], "number 1 holds half a surrogate pair"),
        (b"bytes", "number 0 is a int"),
        (None, "not a text: a NoneType"),
        (7, "not a text: a int"),
    ],
)
def test_what_is_no_text_is_named(encoder: TextEncoder, texts: object, told: str) -> None:
    with pytest.raises(QueryError, match=told):
        encoder.encode(texts)  # type: ignore[arg-type]


def test_many_threads_get_their_own_answers(encoder: TextEncoder) -> None:
    def ask(number: int) -> bool:
        text = TEXTS[number % len(TEXTS)]
        return bool(np.abs(encoder.encode(text) - embed(text)).max() < 1e-6)

    with ThreadPoolExecutor(8) as pool:
        assert all(pool.map(ask, range(400)))


def test_an_encoder_can_be_copied_and_sent(encoder: TextEncoder) -> None:
    for other in (copy.deepcopy(encoder), pickle.loads(pickle.dumps(encoder))):  # noqa: S301
        assert np.array_equal(other.encode(TEXTS), encoder.encode(TEXTS))
        assert other.version == encoder.version


def test_rounded_encoders_run_each_text_alone() -> None:
    """Rounding goes by the largest value of a batch: neighbours must not change a text's vector."""
    encoder = TextEncoder.from_bytes(words_bytes(precision="int8"))
    sizes = []
    inner = encoder._session.run

    class Watching:
        def run(self, outputs: list[str], feeds: dict[str, np.ndarray]) -> list[np.ndarray]:
            sizes.append(len(next(iter(feeds.values()))))
            return inner(outputs, feeds)

    encoder._session = Watching()
    encoder.encode(TEXTS)
    assert sizes == [1] * len(TEXTS)


def test_a_file_or_its_folder_is_loaded(tmp_path: Path) -> None:
    (tmp_path / "encoder.onnx").write_bytes(words_bytes())
    assert TextEncoder.load(tmp_path).version == TextEncoder.load(tmp_path / "encoder.onnx").version
    with pytest.raises(ModelError, match=r"no encoder at .*; expected an encoder.onnx"):
        TextEncoder.load(tmp_path / "other")


def test_unit_length_is_held_against_the_graph() -> None:
    model = words_model()
    norm = next(node for node in model.graph.node if node.op_type == "LpNormalization")
    norm.op_type = "Identity"
    del norm.attribute[:]
    with pytest.raises(ManifestError, match="says that vectors have unit length"):
        TextEncoder.from_bytes(model.SerializeToString())


def test_a_graph_that_mixes_texts_is_refused() -> None:
    model = words_model()
    reduce = next(node for node in model.graph.node if node.op_type == "ReduceSum")
    model.graph.initializer[1].CopyFrom(_rows("rows", [0, 1]))
    reduce.attribute[0].i = 0
    with pytest.raises((IntegrityError, ManifestError)):
        TextEncoder.from_bytes(model.SerializeToString())


def test_rounded_encoders_need_not_give_the_same_in_a_batch() -> None:
    model = words_model(precision="int8", pad_id=5)
    kept = next(node for node in model.graph.node if node.op_type == "Mul")
    kept.op_type = "Identity"  # what fills a text up to its neighbours' length counts
    del kept.input[1:]
    encoder = TextEncoder.from_bytes(model.SerializeToString())
    assert np.array_equal(encoder.encode(TEXTS), np.stack([encoder.encode(one) for one in TEXTS]))


def test_a_tokenizer_that_cuts_elsewhere_is_refused() -> None:
    model = words_model()
    stamp(model, TOKENIZER_KEY, tokenizer_json(MAX_TOKENS + 1))
    with pytest.raises(IntegrityError, match=f"at {MAX_TOKENS + 1} tokens, the manifest says"):
        TextEncoder.from_bytes(model.SerializeToString())


def test_a_tokenizer_that_is_none_is_refused() -> None:
    model = words_model()
    stamp(model, TOKENIZER_KEY, "{}")
    with pytest.raises(IntegrityError, match="tokenizer can't be read"):
        TextEncoder.from_bytes(model.SerializeToString())


def test_a_width_that_the_graph_does_not_have_is_refused() -> None:
    model = words_model()
    stamp(model, ENCODER_KEY, replace(MANIFEST, dim=DIM + 1).to_json())
    with pytest.raises(ManifestError, match="the graph's outputs are"):
        TextEncoder.from_bytes(model.SerializeToString())


def test_texts_need_neither_torch_nor_transformers(tmp_path: Path) -> None:
    (tmp_path / "encoder.onnx").write_bytes(words_bytes())
    code = f"""
import sys
from trimtab import TextEncoder
TextEncoder.load({str(tmp_path)!r}).encode("money back")
heavy = {{"torch", "transformers", "sentence_transformers", "huggingface_hub", "onnx"}}
print(sorted(heavy & set(sys.modules)))
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def _rows(name: str, values: list[int]) -> object:
    from onnx import numpy_helper

    return numpy_helper.from_array(np.array(values, dtype=np.int64), name)


@pytest.mark.parametrize("role", ["Query", "queries", "", None])
def test_role_that_does_not_exist_is_refused(encoder: TextEncoder, role: Any) -> None:
    with pytest.raises(QueryError, match="expected 'query' or 'document'"):
        encoder.encode("money back", role=role)
