"""Encoder to ONNX: one file with its tokenizer inside, proved on texts of every length."""

import datetime
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import torch
from numpy.typing import NDArray

from trimtab.errors import ModelError
from trimtab.text.encoder import TextEncoder
from trimtab.text.encoder_file import (
    EMBEDDING_NAME,
    ENCODER_RULES,
    IDS_NAME,
    MASK_NAME,
    check_encoder,
)
from trimtab.text.encoder_manifest import ENCODER_KEY, TOKENIZER_KEY, EncoderManifest, Precision
from trimtab_training.embeddings.encoders import with_prefix
from trimtab_training.embeddings.local_encoder import LocalEncoder
from trimtab_training.errors import ExportError
from trimtab_training.export.probe_texts import probe_texts
from trimtab_training.export.rounded_encoder import WeightsBeside, round_weights, save_apart
from trimtab_training.export.text_module import INSTEAD, TextModule
from trimtab_training.export.tracing import trace

TOLERANCE = 1e-5
"""Largest distance, as 1 - cosine, between sentence-transformers' embedding and the file's."""

_SHARES: dict[Precision, float] = {"float32": 1.0, "int8": 0.27}
"""Of the size in float32 that a file takes: in 8 bits, with what is not rounded."""

_PACKAGES = ("trimtab", "torch", "transformers", "sentence-transformers", "tokenizers", "onnx")


@dataclass(frozen=True)
class ExportedEncoder:
    """An encoder's file, in memory.

    Attributes:
        content: Its bytes.
        manifest: What it says.
        worst: Largest distance from sentence-transformers' embeddings, as 1 - cosine.
        mean: Their mean distance.
        n_texts: Texts that were compared.
    """

    content: bytes
    manifest: EncoderManifest
    worst: float
    mean: float
    n_texts: int

    def remember(self, **loss: Any) -> "ExportedEncoder":
        """Write more of what the rounding costs into the file."""
        manifest = replace(self.manifest, loss={**self.manifest.loss, **loss})
        model = onnx.load_model_from_string(self.content)
        (tokenizer,) = (each.value for each in model.metadata_props if each.key == TOKENIZER_KEY)
        return replace(self, content=stamp_encoder(model, manifest, tokenizer), manifest=manifest)


def export_encoder(
    encoder: LocalEncoder, *, precision: Precision = "float32", texts: Sequence[str] = ()
) -> ExportedEncoder:
    """Build an encoder's file in memory, and prove that it gives what the encoder gives.

    Args:
        encoder: A sentence-transformers folder that is opened, on the CPU.
        precision: ``int8`` rounds the weights of products, and of token embeddings, to 8 bits, once
            the file without rounding is proved.
        texts: The user's own texts, for the proof beside the built-in ones.

    Returns:
        The file, and how near it comes.

    Raises:
        ExportError: The model has a part that can't be exported, or the file's tokens or, before
            any rounding, its embeddings differ from sentence-transformers' by more than
            :data:`TOLERANCE`.
    """
    _check_prompts(encoder)
    module = TextModule(encoder.model).eval()
    check_size(module, precision=precision)
    tokenizer = tokenizer_of(encoder)
    special_tokens = encoder.model.tokenizer.all_special_tokens
    probes = [*probe_texts(encoder.max_tokens or 0, special_tokens), *texts]
    wanted = _reference(encoder, probes)
    manifest = describe_encoder_file(encoder, module, dim=wanted.shape[1])
    model = trace_encoder(module)  # last: some models are not what they were once they are traced
    if precision == "float32":
        content = stamp_encoder(model, manifest, tokenizer)
        far = _measure(load_exported(content), encoder, probes, wanted)
        _need_near(far, module)
        return ExportedEncoder(content, manifest, float(far.max()), float(far.mean()), len(probes))
    rounded = replace(manifest, precision=precision)
    with tempfile.TemporaryDirectory() as folder:
        graph = save_apart(model, Path(folder))
        model = round_weights(graph)
        served = load_exported(stamp_encoder(model, rounded, tokenizer))
        before = _load_apart(stamp_encoder(model, manifest, tokenizer), graph)
        _need_near(_measure(before, encoder, probes, wanted), module)
        del before
    far = _measure(served, encoder, probes, wanted)
    worst, mean = float(far.max()), float(far.mean())
    loss = {"cosine_worst": worst, "cosine_mean": mean, "n_texts": len(probes)}
    rounded = replace(rounded, loss=loss)
    content = stamp_encoder(model, rounded, tokenizer)
    return ExportedEncoder(content, rounded, worst, mean, len(probes))


def check_size(*modules: TextModule, precision: Precision = "float32") -> None:
    """Refuse, before minutes of tracing, weights that one file can't hold.

    Args:
        modules: All that are to stand in it.
        precision: How it is to hold their weights.

    Raises:
        ExportError: With their size.
    """
    weights = [one for module in modules for one in module.parameters()]
    size = sum(one.numel() * one.element_size() for one in weights)
    share, most = _SHARES[precision], ENCODER_RULES.max_size_bytes
    if size * share <= most:
        return
    instead = INSTEAD
    if precision == "float32" and size * _SHARES["int8"] <= most:
        instead = "--precision int8 makes one of a quarter of that"
    raise ExportError(
        f"the model's weights have {size / 1e9:.1f} GB in float32; one ONNX file holds "
        f"{most / 1e9:.1f}; {instead}"
    )


def _need_near(far: NDArray[np.float64], module: TextModule) -> None:
    """Refuse a file that gives other embeddings.

    Raises:
        ExportError: With how far they are.
    """
    if not far.max() <= TOLERANCE:
        raise ExportError(
            f"the file's embeddings are up to {far.max():.1e} (1 - cosine) from those of "
            f"sentence-transformers; at most {TOLERANCE:.0e} is allowed; nothing was written: "
            f"{module.architecture} can't be exported; {INSTEAD}"
        )


def _measure(
    served: TextEncoder, encoder: LocalEncoder, texts: Sequence[str], wanted: NDArray[np.float32]
) -> NDArray[np.float64]:
    """Tell how far a file's embeddings of texts are from those that are wanted.

    Raises:
        ExportError: It has other tokens.
    """
    _compare_tokens(encoder, served, texts)
    return distances(wanted, _embed_alone_and_together(served, encoder, texts))


def _check_prompts(encoder: LocalEncoder) -> None:
    """Refuse a model that writes more around texts than what is given as their prefix.

    Raises:
        ExportError: It puts a prompt before every text, or texts into a chat template.
    """
    if told := encoder.own_prompt():
        raise ExportError(told)
    if "message" in getattr(encoder.model[0], "modality_config", ()):
        raise ExportError(
            f"{encoder.name} puts texts into a chat template, which can't be exported; if it is "
            'not meant to, take "message" out of its sentence_bert_config.json'
        )


def describe_encoder_file(
    encoder: LocalEncoder, module: TextModule, *, dim: int
) -> EncoderManifest:
    """Fill in the manifest of an encoder's file."""
    return EncoderManifest(
        name=encoder.name,
        fingerprint=encoder.fingerprint,
        dim=dim,
        normalised=module.is_normalised,
        max_tokens=encoder.max_tokens or 0,
        query_prefix=encoder.query_prefix,
        document_prefix=encoder.document_prefix,
        lowercase=_lowers_before_splitting(encoder),
        pad_id=int(encoder.model.tokenizer.pad_token_id or 0),
        pooling=module.pooling,
        versions={package: version(package) for package in _PACKAGES},
        created=datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        probe=encoder.probe,
    )


def _lowers_before_splitting(encoder: LocalEncoder) -> bool:
    """Tell whether texts are lower-cased before the tokenizer has them.

    sentence-transformers used to, and gives the tokenizer a step for it today: that goes letter by
    letter, where Python writes a sigma at the end of a word in its own way.
    """
    if not getattr(encoder.model[0], "do_lower_case", False):
        return False
    backend = getattr(encoder.model.tokenizer, "backend_tokenizer", None)
    return "Lowercase()" not in str(getattr(backend, "normalizer", None))


def tokenizer_of(encoder: LocalEncoder) -> str:
    """Write the tokenizer as JSON, set to cut texts and to leave short ones as they are.

    Raises:
        ExportError: There is no such form of it, or nothing says where texts are cut.
    """
    tokenizer = encoder.model.tokenizer
    backend = getattr(tokenizer, "backend_tokenizer", None)
    if backend is None:
        raise ExportError(
            f"the tokenizer of {encoder.name} is written in Python alone; only one that the "
            f"tokenizers library can hold (a tokenizer.json) can be exported; {INSTEAD}"
        )
    limit = encoder.max_tokens
    if not limit or limit > 65_536:
        raise ExportError(
            f"{encoder.name} does not say how many tokens it reads (max_seq_length); say it: "
            "--max-tokens 512"
        )
    from tokenizers import Tokenizer

    copied = Tokenizer.from_str(backend.to_str())
    if limit <= copied.num_special_tokens_to_add(is_pair=False):
        raise ExportError(
            f"{limit} tokens of a text are to be read, and the tokenizer alone adds "
            f"{copied.num_special_tokens_to_add(is_pair=False)}; say more: --max-tokens 512"
        )
    copied.no_padding()
    copied.enable_truncation(limit, direction=tokenizer.truncation_side)
    text: str = copied.to_str()
    return text


def trace_encoder(module: TextModule) -> onnx.ModelProto:
    """Trace the module, with any number of texts and tokens."""
    attention = module.transformer.config._attn_implementation
    module.transformer.set_attn_implementation("eager")  # the plainest graph, and the fastest
    ids = torch.ones((2, 7), dtype=torch.int64)
    free = {0: torch.export.Dim("n"), 1: torch.export.Dim("tokens")}
    try:
        with torch.no_grad():
            return trace(
                module,
                (ids, torch.ones_like(ids)),
                ([IDS_NAME, MASK_NAME], [EMBEDDING_NAME]),
                (free, free),
                what=f"this encoder ({module.architecture})",
            )
    except ExportError as error:
        raise ExportError(f"{error}; {INSTEAD}") from error
    finally:
        module.transformer.set_attn_implementation(attention)


def stamp_encoder(
    model: onnx.ModelProto,
    manifest: EncoderManifest,
    tokenizer: str,
    more: Mapping[str, str] | None = None,
) -> bytes:
    """Put manifest and tokenizer among the model's metadata, in place of any that stands there."""
    del model.metadata_props[:]
    metadata = {ENCODER_KEY: manifest.to_json(), TOKENIZER_KEY: tokenizer, **(more or {})}
    for key, value in metadata.items():
        entry = model.metadata_props.add()
        entry.key, entry.value = key, value
    try:
        encoded: bytes = model.SerializeToString(deterministic=True)
    except Exception as error:  # protobuf's own, of more than one kind
        raise ExportError(
            "the encoder is too large for one ONNX file, which holds 2 GB: "
            f"{' '.join(str(error).split())[:200]}"
        ) from error
    return encoded


def _load_apart(content: bytes, graph: Path) -> TextEncoder:
    """Load a graph whose weights stand beside it, described by a file of the same encoder.

    Raises:
        ExportError: It would be refused.
    """
    try:
        return WeightsBeside(check_encoder(content), graph)
    except ModelError as error:
        raise ExportError(f"the encoder would be refused when loaded: {error}") from error


def load_exported(content: bytes, what: str = "exported encoder") -> TextEncoder:
    """Load what was exported, as whoever serves it will.

    Args:
        content: The file's bytes.
        what: What it is called in the message.

    Raises:
        ExportError: It would be refused.
    """
    try:
        return TextEncoder.from_bytes(content)
    except ModelError as error:
        raise ExportError(f"the {what} would be refused when loaded: {error}") from error


def _reference(encoder: LocalEncoder, texts: Sequence[str]) -> NDArray[np.float32]:
    """Embed texts by sentence-transformers, as queries and as documents: ``(2 n, dim)``."""
    prefixed = with_prefix(encoder, "query", texts) + with_prefix(encoder, "document", texts)
    rows: dict[int, Any] = {}
    for places in encoder.batches(prefixed):
        vectors = encoder.encode([prefixed[place] for place in places])
        rows.update(zip(places, vectors, strict=True))
    return np.stack([rows[place] for place in range(len(prefixed))])


def _embed_alone_and_together(
    served: TextEncoder, encoder: LocalEncoder, texts: Sequence[str]
) -> list[NDArray[np.float32]]:
    """Embed the same texts by the file, in batches, and one by one."""
    together = [served.encode(texts), served.encode(texts, role="document")]
    alone = [np.stack([served.encode(text) for text in texts])]
    if encoder.query_prefix == encoder.document_prefix:
        alone.append(alone[0])
    else:
        alone.append(np.stack([served.encode(text, role="document") for text in texts]))
    return [np.concatenate(together), np.concatenate(alone)]


def distances(
    wanted: NDArray[np.floating[Any]], found: Sequence[NDArray[np.floating[Any]]]
) -> NDArray[np.float64]:
    """Give the largest distance, as 1 - cosine, of every row in several ways to embed the same.

    In float64: a matter of many digits. A text without any token may have the zero vector, which is
    near to itself alone.
    """
    truth, lengths = _unit(wanted)
    worst = np.zeros(len(truth))
    for rows in found:
        vectors, own = _unit(rows)
        cosines = np.einsum("nd,nd->n", vectors, truth)
        is_zero = lengths == 0
        worst = np.maximum(worst, np.where(is_zero, own, 1.0 - cosines))
    return worst


def _unit(rows: NDArray[np.floating[Any]]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Scale rows to unit length, zero ones left; give their lengths besides."""
    vectors = rows.astype(np.float64)
    lengths = np.linalg.norm(vectors, axis=1)
    return vectors / np.where(lengths == 0, 1.0, lengths)[:, None], lengths


def _compare_tokens(encoder: LocalEncoder, served: TextEncoder, texts: Sequence[str]) -> None:
    """Hold the file's tokens against sentence-transformers', text by text.

    Raises:
        ExportError: They differ.
    """
    model = encoder.model
    split = getattr(model, "preprocess", None) or model.tokenize  # as it was called before 6.0
    for text in with_prefix(encoder, "query", texts):
        wanted = split([text])["input_ids"][0].tolist()
        found = served.tokens(text)
        if found != wanted:
            raise ExportError(
                f"the file splits {text[:60]!r} into {len(found)} tokens otherwise than "
                f"sentence-transformers does ({len(wanted)}); this tokenizer can't be exported; "
                f"{INSTEAD}"
            )
