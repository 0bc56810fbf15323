"""A sentence-transformers folder of a few words and random weights, and a world that it embeds."""

import itertools
import json
from pathlib import Path

import numpy as np
import torch
from sentence_transformers import SentenceTransformer
from sentence_transformers.sentence_transformer.modules import Normalize, Pooling, Transformer
from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from tokenizers.normalizers import Lowercase
from tokenizers.pre_tokenizers import Whitespace
from transformers import BertConfig, BertModel, PreTrainedTokenizerFast

from tests.support.sets import write_dataset, write_embeddings, write_jsonl
from trimtab_training.embeddings.local_encoder import LocalEncoder

DIM = 32
N_TOPICS = 12
_LONGEST = 16
_PAD, _UNKNOWN = "[PAD]", "[UNK]"
WORDS = [f"{kind}{topic}" for kind in ("ask", "doc") for topic in range(N_TOPICS)]


def write_encoder(folder: Path, *, n_layers: int = 2, seed: int = 0) -> Path:
    """Write a model that knows the words of a world, and nothing of what they mean."""
    words = {word: place for place, word in enumerate([_PAD, _UNKNOWN, *WORDS])}
    tokenizer = Tokenizer(WordLevel(words, _UNKNOWN))
    tokenizer.normalizer, tokenizer.pre_tokenizer = Lowercase(), Whitespace()
    config = BertConfig(
        vocab_size=len(words),
        hidden_size=DIM,
        num_hidden_layers=n_layers,
        num_attention_heads=2,
        intermediate_size=2 * DIM,
        max_position_embeddings=_LONGEST,
        pad_token_id=0,
        initializer_range=0.3,
    )
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        bert = BertModel(config)
    source = folder.with_name(f"{folder.name}-transformer")
    bert.save_pretrained(source)
    fast = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        pad_token=_PAD,
        unk_token=_UNKNOWN,
        model_max_length=_LONGEST,
    )
    fast.save_pretrained(source)
    transformer = Transformer(str(source))
    modules = [transformer, Pooling(DIM, "mean"), Normalize()]
    model = SentenceTransformer(modules=modules, device="cpu")
    model.save_pretrained(str(folder), create_model_card=False)
    return folder


def write_world(
    folder: Path, encoder: LocalEncoder, *, useful: bool = True, dev: bool = False
) -> Path:
    """Write a dataset whose queries name two topics in other words than their document does.

    Whoever learns the words from some queries finds the documents of the others. Where it is not
    ``useful``, a query's document is one of chance.

    Returns:
        The dataset's folder, with ``embeddings`` in it.
    """
    pairs = list(itertools.combinations(range(N_TOPICS), 2))
    rng = np.random.default_rng(0)
    meant = np.arange(len(pairs)) if useful else rng.permutation(len(pairs))
    documents = {f"d{row}": f"doc{one} doc{other}" for row, (one, other) in enumerate(pairs)}
    queries, splits = {}, {"train": {}, "dev": {}, "test": {}}
    for row, (one, other) in enumerate(pairs):
        for turn, text in enumerate((f"ask{one} ask{other}", f"ask{other} ask{one}")):
            name = f"q{row}-{turn}"
            queries[name] = text
            split = "test" if row % 6 == 5 else "dev" if dev and row % 6 == 4 else "train"
            splits[split][name] = {f"d{meant[row]}": 1}
    write_dataset(
        folder,
        documents=documents,
        queries=queries,
        splits={name: labels for name, labels in splits.items() if labels},
    )
    write_jsonl(
        folder / "corpus.jsonl",
        [{"_id": name, "title": text, "text": ""} for name, text in documents.items()],
    )
    write_embeddings(
        folder / "embeddings",
        documents=encoder.encode(list(documents.values())),
        queries=encoder.encode(list(queries.values())),
        document_ids=list(documents),
        query_ids=list(queries),
        fingerprint=encoder.fingerprint,
        dim=DIM,
    )
    return folder


def read_queries(folder: Path) -> dict[str, str]:
    """Read the texts of all queries."""
    lines = (folder / "queries.jsonl").read_text(encoding="utf-8").splitlines()
    return {record["_id"]: record["text"] for record in map(json.loads, lines)}
