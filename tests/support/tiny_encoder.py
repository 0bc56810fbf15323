"""Encoders that are made in a moment: a file of a few words, and a sentence-transformers folder."""

import hashlib
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper
from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from tokenizers.normalizers import Lowercase
from tokenizers.pre_tokenizers import Whitespace

from tests.support.onnx_models import IR_VERSION, OPSET
from trimtab.text.encoder_file import EMBEDDING_NAME, IDS_NAME, MASK_NAME
from trimtab.text.encoder_manifest import ENCODER_KEY, TOKENIZER_KEY, EncoderManifest

WORDS = (
    *("how", "do", "i", "cancel", "my", "plan", "money", "back"),
    *("where", "is", "the", "invoice", "query", "passage"),
)
DIM = 8
MAX_TOKENS = 6
MANIFEST = EncoderManifest(
    name="toy/words",
    fingerprint="sha256:words",
    dim=DIM,
    normalised=True,
    max_tokens=MAX_TOKENS,
    pooling="mean",
    created="2026-01-02T03:04:05Z",
)
_ROWS = np.array([1], dtype=np.int64)


def word_vector(word: str, dim: int = DIM) -> NDArray[np.float32]:
    """Give the vector of a word: unknown ones have a vector, too, and the empty one has none."""
    if not word:
        return np.zeros(dim, dtype=np.float32)
    known = word if word in WORDS else "[UNK]"
    seed = int.from_bytes(hashlib.sha256(known.encode()).digest()[:4])
    return np.random.default_rng(seed).standard_normal(dim).astype(np.float32)


def embed(text: str, *, dim: int = DIM, max_tokens: int = MAX_TOKENS) -> NDArray[np.float32]:
    """Embed a text by hand as the file does: the mean of its first words, at unit length."""
    words = re.findall(r"\w+|[^\w\s]+", text.lower())[:max_tokens]
    total = np.sum([word_vector(word, dim) for word in words] or [word_vector("", dim)], axis=0)
    length = np.linalg.norm(total)
    return np.asarray(total / length if length else total, dtype=np.float32)


def words_model(*, dim: int = DIM, **manifest: Any) -> onnx.ModelProto:
    """Build the encoder of a few words."""
    table = np.stack([word_vector(word, dim) for word in ("[UNK]", *WORDS)])
    nodes = [
        helper.make_node("Gather", ["table", IDS_NAME], ["vectors"]),
        helper.make_node("Cast", [MASK_NAME], ["weights"], to=TensorProto.FLOAT),
        helper.make_node("Unsqueeze", ["weights", "last"], ["column"]),
        helper.make_node("Mul", ["vectors", "column"], ["kept"]),
        helper.make_node("ReduceSum", ["kept", "rows"], ["total"], keepdims=0),
        helper.make_node("LpNormalization", ["total"], [EMBEDDING_NAME], p=2, axis=-1),
    ]
    tokens = ["n", "tokens"]
    graph = helper.make_graph(
        nodes,
        "words",
        [
            helper.make_tensor_value_info(name, TensorProto.INT64, tokens)
            for name in (IDS_NAME, MASK_NAME)
        ],
        [helper.make_tensor_value_info(EMBEDDING_NAME, TensorProto.FLOAT, ["n", dim])],
        [
            numpy_helper.from_array(table, "table"),
            numpy_helper.from_array(_ROWS, "rows"),
            numpy_helper.from_array(np.array([-1], dtype=np.int64), "last"),
        ],
    )
    model = helper.make_model(
        graph, opset_imports=[helper.make_opsetid("", OPSET)], ir_version=IR_VERSION
    )
    told = replace(MANIFEST, dim=dim, **manifest)
    stamp(model, ENCODER_KEY, told.to_json())
    stamp(model, TOKENIZER_KEY, tokenizer_json(told.max_tokens))
    return model


def words_bytes(**settings: Any) -> bytes:
    """Give the bytes of :func:`words_model`."""
    return words_model(**settings).SerializeToString()


def tokenizer_json(max_tokens: int = MAX_TOKENS) -> str:
    """Write the tokenizer of the few words."""
    ids = {"[UNK]": 0, **{word: 1 + place for place, word in enumerate(WORDS)}}
    tokenizer = Tokenizer(WordLevel(ids, "[UNK]"))
    tokenizer.normalizer, tokenizer.pre_tokenizer = Lowercase(), Whitespace()
    tokenizer.enable_truncation(max_tokens)
    return tokenizer.to_str()


def stamp(model: onnx.ModelProto, key: str, value: str) -> None:
    """Put a value among the metadata, in place of one that stands there."""
    kept = [(each.key, each.value) for each in model.metadata_props if each.key != key]
    del model.metadata_props[:]
    for name, text in (*kept, (key, value)):
        entry = model.metadata_props.add()
        entry.key, entry.value = name, text


def write_tiny_bert(
    folder: Path,
    *,
    pooling: str | tuple[str, ...] = "mean",
    dense: bool = False,
    normalise: bool = True,
    prompts: dict[str, str] | None = None,
    max_tokens: int = 16,
    seed: int = 0,
) -> Path:
    """Write a sentence-transformers folder: a BERT of two layers with random weights."""
    import torch
    from sentence_transformers import SentenceTransformer
    from sentence_transformers.sentence_transformer import modules
    from transformers import BertConfig, BertModel, BertTokenizerFast

    torch.manual_seed(seed)
    folder.mkdir(parents=True, exist_ok=True)
    letters = [chr(code) for code in range(ord("a"), ord("z") + 1)]
    pieces = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *WORDS]
    pieces += letters + [f"##{letter}" for letter in letters]
    vocabulary = {piece: place for place, piece in enumerate(dict.fromkeys(pieces))}
    tokenizer = BertTokenizerFast(vocab=vocabulary, model_max_length=max_tokens)
    config = BertConfig(
        vocab_size=len(vocabulary),
        hidden_size=16,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=32,
        max_position_embeddings=2 * max_tokens,
        initializer_range=0.2,
    )
    base = folder / "base"
    BertModel(config).save_pretrained(base)
    tokenizer.save_pretrained(base)
    parts: list[Any] = [modules.Transformer(str(base), max_seq_length=max_tokens)]
    parts.append(modules.Pooling(16, pooling_mode=pooling))
    if dense:
        parts.append(modules.Dense(parts[-1].get_embedding_dimension(), 12))
    if normalise:
        parts.append(modules.Normalize())
    model = SentenceTransformer(modules=parts, device="cpu", prompts=prompts or {})
    model.save(str(folder / "model"))
    return folder / "model"
