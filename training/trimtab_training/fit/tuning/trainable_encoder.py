"""A sentence-transformers model as something to train: texts in, vectors with gradients out."""

import copy
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor, nn

from trimtab_training.embeddings.local_encoder import LocalEncoder
from trimtab_training.embeddings.store import Embeddings
from trimtab_training.errors import ConfigError, EncoderError
from trimtab_training.fit.tuning.lora import add_lora, merge_lora, reset_lora
from trimtab_training.fit.tuning.settings import TuningSettings
from trimtab_training.retrieval.exact_search import normalise

_COMPARED_QUERIES = 8
_SAME = 0.999
"""Least cosine between a stored query vector, which may be float16, and what the encoder gives."""

_PADDING = 1.25
"""Longest text of a batch over its shortest, in tokens: padding is computed like any other."""


class TrainableEncoder:
    """A copy of an encoder whose layers can be trained, and put back to where they started.

    Nothing is dropped out: the model computes as it will when it serves.

    Attributes:
        parameters: What is trained, in a fixed order.
        is_unit: Whether vectors are given unit length.
    """

    def __init__(
        self, encoder: LocalEncoder, settings: TuningSettings, *, is_unit: bool = True
    ) -> None:
        """Copy an encoder and open it for training.

        Args:
            encoder: The encoder of the queries; left as it is.
            settings: Say what is trained and where.
            is_unit: Whether vectors are given unit length.

        Raises:
            ConfigError: There is nothing to train in it.
        """
        self.is_unit, self._encoder = is_unit, encoder
        self._device = torch.device(settings.device)
        self._tokens_at_once = settings.tokens_at_once
        self._model: Any = copy.deepcopy(encoder.model).to(self._device).eval()
        transformer: nn.Module = self._model[0]
        if settings.method == "lora":
            self.parameters = add_lora(transformer, settings.rank)
        else:
            self.parameters = _open_layers(transformer)
        self._start = [] if settings.method == "lora" else self.copy_weights()

    def reset(self) -> None:
        """Put everything back to where training starts: the untouched encoder."""
        if self._start:
            self.load_weights(self._start)
        else:
            reset_lora(self._model)

    def copy_weights(self) -> list[Tensor]:
        """Copy what is trained."""
        return [parameter.detach().clone() for parameter in self.parameters]

    @torch.no_grad()
    def load_weights(self, weights: Sequence[Tensor]) -> None:
        """Put weights in place of those that stand."""
        for parameter, value in zip(self.parameters, weights, strict=True):
            parameter.copy_(value)

    def swap_weights(self, weights: Sequence[Tensor]) -> None:
        """Exchange weights with those that stand."""
        for parameter, value in zip(self.parameters, weights, strict=True):
            parameter.data, value.data = value.data, parameter.data

    @property
    def n_weights(self) -> int:
        """Number of weights that every token is multiplied with."""
        return sum(
            parameter.numel()
            for name, parameter in self._model.named_parameters()
            if "embeddings" not in name.split(".")
        )

    def count_tokens(self, texts: Sequence[str]) -> list[int]:
        """Count the tokens of queries, as far as the model reads."""
        return self._encoder.count_tokens(self._prefixed(texts))

    def batches(self, lengths: Sequence[int]) -> Iterator[list[int]]:
        """Group texts, by their places, so that little is padded and memory is bounded.

        Args:
            lengths: Tokens of each text.
        """
        batch: list[int] = []
        for place in np.argsort(lengths, kind="stable").tolist():
            longest = lengths[place]
            is_full = (len(batch) + 1) * longest > self._tokens_at_once
            if batch and (is_full or longest > _PADDING * lengths[batch[0]] + 1):
                yield batch
                batch = []
            batch.append(place)
        if batch:
            yield batch

    def vectors(self, texts: Sequence[str]) -> Float[Tensor, "texts dim"]:
        """Embed one batch of queries, with gradients."""
        preprocess = getattr(self._model, "preprocess", None) or self._model.tokenize
        features = {
            key: value.to(self._device) if isinstance(value, Tensor) else value
            for key, value in preprocess(self._prefixed(texts)).items()
        }
        found: Tensor = self._model(features)["sentence_embedding"][:, : self._model.truncate_dim]
        return normalise(found) if self.is_unit else found

    @torch.no_grad()
    def embed(self, texts: Sequence[str]) -> Float[Tensor, "texts dim"]:
        """Embed any number of queries, without gradients."""
        places: list[int] = []
        parts: list[Tensor] = []
        for batch in self.batches(self.count_tokens(texts)):
            places += batch
            parts.append(self.vectors([texts[place] for place in batch]))
        back = torch.empty(len(places), dtype=torch.long)
        back[torch.tensor(places, dtype=torch.long)] = torch.arange(len(places))
        return torch.cat(parts)[back.to(self._device)]

    def finished(self) -> Any:
        """Give the model with everything merged into plain weights, on the processor.

        Returns:
            A ``sentence_transformers.SentenceTransformer`` with the modules of the one it was
            copied from; this object is of no more use.
        """
        merge_lora(self._model)
        return self._model.requires_grad_(True).cpu().eval()

    def _prefixed(self, texts: Sequence[str]) -> list[str]:
        """Put before every query what the encoder puts there."""
        prompt = (self._model.prompts or {}).get(self._model.default_prompt_name) or ""
        return [prompt + self._encoder.query_prefix + text for text in texts]


def require_same_encoder(
    encoder: TrainableEncoder, texts: dict[str, str], embeddings: Embeddings
) -> None:
    """Refuse an encoder that does not give the stored query vectors.

    Args:
        encoder: The untouched encoder.
        texts: Texts of queries that have vectors.
        embeddings: The vectors.

    Raises:
        EncoderError: It gives others: it is another model, or has another prefix or length.
    """
    some = list(texts)[:_COMPARED_QUERIES]
    found = normalise(encoder.embed([texts[name] for name in some])).cpu()
    stored = normalise(torch.from_numpy(embeddings.queries.take_ids(some)))
    if found.shape != stored.shape:
        raise EncoderError(
            f"the encoder gives {found.shape[1]} values, the stored queries have "
            f"{stored.shape[1]}; name the encoder that made them"
        )
    least = float((found * stored).sum(dim=1).min())
    if least < _SAME:
        raise EncoderError(
            f"the encoder does not give the stored query vectors (cosine {least:.3f}, expected "
            f"{_SAME} or more); name the encoder that made them, with its prefix and length"
        )


def _open_layers(transformer: nn.Module) -> list[Tensor]:
    """Freeze token embeddings, and give every other parameter that a vector depends on.

    Raises:
        ConfigError: There is none.
    """
    transformer.requires_grad_(False)
    found: list[Tensor] = [
        parameter.requires_grad_(True)
        for name, parameter in transformer.named_parameters()
        if parameter.is_floating_point() and {"embeddings", "pooler"}.isdisjoint(name.split("."))
    ]
    if not found:
        raise ConfigError("the encoder has no parameters to tune beside its token embeddings")
    return found
