"""A FastEmbed model of a few words, written here: embeds as ``tests.support.frameworks`` does."""

import json
import re
from pathlib import Path

import numpy as np
import onnx
from fastembed import TextEmbedding
from fastembed.common.model_description import ModelSource, PoolingType
from onnx import TensorProto, helper, numpy_helper
from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from tokenizers.normalizers import Lowercase
from tokenizers.pre_tokenizers import Whitespace

from tests.support.frameworks import DIM, DOCUMENTS, QUESTION, word_vector

NAME = "trimtab/tiny-words"
_UNKNOWN = "[UNK]"
_LONGEST = 16
_OPSET, _IR_VERSION = 18, 9


def register() -> None:
    """Make the model known to FastEmbed, once in a process."""
    known = {model["model"] for model in TextEmbedding.list_supported_models()}
    if NAME not in known:
        TextEmbedding.add_custom_model(
            model=NAME,
            pooling=PoolingType.MEAN,
            normalization=True,
            sources=ModelSource(hf=NAME),
            dim=DIM,
            model_file="model.onnx",
        )


def write_tiny(folder: Path) -> Path:
    """Write the files of the model; it knows the words of the documents and the question."""
    folder.mkdir(parents=True, exist_ok=True)
    words = sorted(set(re.findall(r"\w+", " ".join([*DOCUMENTS, QUESTION]).lower())))
    tokenizer = Tokenizer(
        WordLevel({_UNKNOWN: 0, **{word: 1 + place for place, word in enumerate(words)}}, _UNKNOWN)
    )
    tokenizer.normalizer, tokenizer.pre_tokenizer = Lowercase(), Whitespace()
    tokenizer.save(str(folder / "tokenizer.json"))
    for name, record in {
        "config": {"pad_token_id": 0},
        "tokenizer_config": {"model_max_length": _LONGEST, "pad_token": _UNKNOWN},
        "special_tokens_map": {"pad_token": _UNKNOWN, "unk_token": _UNKNOWN},
    }.items():
        (folder / f"{name}.json").write_text(json.dumps(record))
    table = np.stack([np.zeros(DIM), *map(word_vector, words)]).astype(np.float32)
    onnx.save(_lookup(table), str(folder / "model.onnx"))
    return folder


def _lookup(table: np.ndarray) -> onnx.ModelProto:
    """Build a graph that gives each token its vector."""
    tokens = ["texts", "tokens"]
    graph = helper.make_graph(
        [helper.make_node("Gather", ["table", "input_ids"], ["last_hidden_state"])],
        "tiny",
        [
            helper.make_tensor_value_info(name, TensorProto.INT64, tokens)
            for name in ("input_ids", "attention_mask")
        ],
        [
            helper.make_tensor_value_info(
                "last_hidden_state", TensorProto.FLOAT, [*tokens, table.shape[1]]
            )
        ],
        [numpy_helper.from_array(table, "table")],
    )
    return helper.make_model(
        graph, ir_version=_IR_VERSION, opset_imports=[helper.make_opsetid("", _OPSET)]
    )
