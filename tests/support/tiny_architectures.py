"""Encoders that differ in kind, with random weights and tokenizers of their kinds trained here."""

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
import transformers
from sentence_transformers import SentenceTransformer
from sentence_transformers.sentence_transformer.modules import (
    Dense,
    LayerNorm,
    Normalize,
    Pooling,
    Transformer,
)
from tokenizers import Regex, Tokenizer, models, normalizers, pre_tokenizers, processors, trainers

from trimtab_training.export.probe_texts import probe_texts

DIM = 32
MAX_TOKENS = 24
_PLACES = 64
_SIZES = {
    "hidden_size": DIM,
    "num_attention_heads": 4,
    "num_hidden_layers": 1,
    "intermediate_size": 48,
}
_BERT = {"pad": "[PAD]", "cls": "[CLS]", "sep": "[SEP]", "unk": "[UNK]", "mask": "[MASK]"}
_ROBERTA = {"cls": "<s>", "pad": "<pad>", "sep": "</s>", "unk": "<unk>", "mask": "<mask>"}
_T5 = {"pad": "<pad>", "eos": "</s>", "unk": "<unk>"}
_POOLINGS = ("cls", "max", "mean", "mean_sqrt_len_tokens", "weightedmean", "lasttoken")
_INSTRUCTION = "Instruct: Given a web search query, retrieve relevant passages\nQuery:"


@dataclass(frozen=True)
class Architecture:
    """An encoder to be made.

    Attributes:
        config: Makes its configuration, of the number of tokens.
        tokenizer: Makes its tokenizer.
        behind: Makes what stands behind the transformer.
        transformer: Makes the transformer, of its configuration.
        prompts: What is put before queries and documents.
        settings: What its sentence_bert_config.json says besides.
    """

    config: Callable[[int], Any]
    tokenizer: Callable[[], Any]
    behind: Callable[[], Sequence[torch.nn.Module]] = lambda: (Pooling(DIM, "mean"), Normalize())
    transformer: Callable[[Any], Any] = transformers.AutoModel.from_config
    prompts: dict[str, str] = field(default_factory=dict)
    settings: dict[str, Any] = field(default_factory=dict)


def write_architecture(folder: Path, kind: str) -> Path:
    """Write the sentence-transformers folder of an encoder."""
    made = ARCHITECTURES[kind]
    tokenizer = made.tokenizer()
    config = made.config(len(tokenizer))
    with torch.random.fork_rng():
        torch.manual_seed(0)
        transformer, behind = made.transformer(config), made.behind()
        with torch.no_grad():  # the token that fills up is a word like any other to some
            for one in transformer.parameters():
                one.copy_(0.2 * torch.randn_like(one) + (one.ndim == 1))
    transformer.save_pretrained(folder / "base")
    tokenizer.save_pretrained(folder / "base")
    first = Transformer(str(folder / "base"), max_seq_length=MAX_TOKENS)
    model = SentenceTransformer(modules=[first, *behind], device="cpu", prompts=made.prompts)
    model.save_pretrained(str(folder / "model"), create_model_card=False)
    file = folder / "model" / "sentence_bert_config.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | made.settings))
    return folder / "model"


def _train(
    tokenizer: Tokenizer, trainer: Any, template: str, tokens: dict[str, str], **settings: Any
) -> Any:
    """Train a tokenizer on the texts of the proof, and give it its special tokens."""
    texts = probe_texts(50)
    tokenizer.train_from_iterator([*texts, *map(str.lower, texts)], trainer)
    special = [(one, tokenizer.token_to_id(one)) for one in template.split() if one != "$A"]
    tokenizer.post_processor = processors.TemplateProcessing(
        single=template, special_tokens=special
    )
    names = {f"{name}_token": token for name, token in tokens.items()}
    return transformers.PreTrainedTokenizerFast(tokenizer_object=tokenizer, **names, **settings)


def _words(**settings: Any) -> Any:
    """WordPiece, as BERT's, capitals left as they are."""
    tokenizer = Tokenizer(models.WordPiece(unk_token=_BERT["unk"]))
    tokenizer.normalizer = normalizers.BertNormalizer(lowercase=False)
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    trainer = trainers.WordPieceTrainer(vocab_size=300, special_tokens=[*_BERT.values()])
    return _train(tokenizer, trainer, "[CLS] $A [SEP]", _BERT, **settings)


def _bytes(special: Sequence[str], template: str, tokens: dict[str, str], **settings: Any) -> Any:
    """BPE of bytes, as GPT's."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(
        vocab_size=400, special_tokens=[*special], initial_alphabet=alphabet
    )
    return _train(tokenizer, trainer, template, tokens, **settings)


def _pieces(special: Sequence[str], template: str, tokens: dict[str, str]) -> Any:
    """Unigram, as sentencepiece's."""
    tokenizer = Tokenizer(models.Unigram())
    blanks = normalizers.Replace(Regex(" {2,}"), " ")
    tokenizer.normalizer = normalizers.Sequence([normalizers.NFKC(), blanks])
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace()
    trainer = trainers.UnigramTrainer(
        vocab_size=300, special_tokens=[*special], unk_token=tokens["unk"]
    )
    return _train(tokenizer, trainer, template, tokens)


ARCHITECTURES = {
    "xlm-roberta": Architecture(
        lambda size: transformers.XLMRobertaConfig(
            vocab_size=size, max_position_embeddings=_PLACES, pad_token_id=1, **_SIZES
        ),
        lambda: _pieces([*_ROBERTA.values()], "<s> $A </s>", _ROBERTA),
        behind=lambda: (Pooling(DIM, "cls"), Normalize()),
        prompts={"query": "query: ", "document": "passage: "},
    ),
    "distilbert": Architecture(  # and all that may stand behind a transformer
        lambda size: transformers.DistilBertConfig(
            vocab_size=size,
            max_position_embeddings=_PLACES,
            dim=DIM,
            n_layers=1,
            n_heads=4,
            hidden_dim=48,
        ),
        lambda: _words(truncation_side="left"),
        behind=lambda: (
            Pooling(DIM, _POOLINGS),
            Dense(len(_POOLINGS) * DIM, DIM, use_residual=True),
            LayerNorm(DIM),
        ),
        settings={"do_lower_case": True},
    ),
    "modernbert": Architecture(
        lambda size: transformers.ModernBertConfig(
            vocab_size=size,
            max_position_embeddings=_PLACES,
            local_attention=8,
            layer_types=["sliding_attention"],
            pad_token_id=0,
            cls_token_id=1,
            sep_token_id=2,
            bos_token_id=1,
            eos_token_id=2,
            **_SIZES,
        ),
        lambda: _bytes(
            [*_BERT.values()],
            "[CLS] $A [SEP]",
            _BERT,
            model_input_names=["input_ids", "attention_mask"],
        ),
        behind=lambda: (Pooling(DIM, "cls"), Normalize()),
    ),
    "qwen3": Architecture(
        lambda size: transformers.Qwen3Config(
            vocab_size=size,
            max_position_embeddings=_PLACES,
            num_key_value_heads=2,
            head_dim=8,
            pad_token_id=0,
            **_SIZES,
        ),
        lambda: _bytes(
            ["<|endoftext|>", "<|im_end|>"],
            "$A <|endoftext|>",
            {"pad": "<|endoftext|>", "eos": "<|im_end|>"},
            padding_side="left",
        ),
        behind=lambda: (Pooling(DIM, "lasttoken"), Normalize()),
        prompts={"query": _INSTRUCTION, "document": ""},
    ),
    "t5": Architecture(
        lambda size: transformers.T5Config(
            vocab_size=size, d_model=DIM, d_kv=8, d_ff=48, num_layers=1, num_heads=4
        ),
        lambda: _pieces([*_T5.values()], "$A </s>", _T5),
        behind=lambda: (
            Pooling(DIM, "mean"),
            Dense(DIM, 24, bias=False, activation_function=torch.nn.Identity()),
            Normalize(),
        ),
        transformer=transformers.T5EncoderModel,
    ),
    "big_bird": Architecture(  # attends to random blocks, and only in texts of some length
        lambda size: transformers.BigBirdConfig(
            vocab_size=size,
            max_position_embeddings=_PLACES,
            block_size=2,
            num_random_blocks=1,
            **_SIZES,
        ),
        _words,
    ),
}
