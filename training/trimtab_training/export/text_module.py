"""A sentence-transformers model as one torch module: token ids in, an embedding out.

Pooling is written out here, so that what is exported is a few plain operations for texts that are
filled up on the right, whatever the library does beside them; that both give the same is proved on
texts (``encoder_export``).
"""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from trimtab_training.errors import ExportError

_BEHIND = ("Dense", "LayerNorm", "Dropout", "Normalize")
INSTEAD = "give QueryHook an encode of sentence-transformers instead"
"""What to do with a model that can't be exported."""
_EXPECTED = f"a Transformer, a Pooling, and then any of {', '.join(_BEHIND)}"


class TextModule(nn.Module):
    """Transformer, pooling, and what stands after them; cut where the model cuts embeddings.

    Attributes:
        pooling: How the vectors of tokens become one, as in ``mean`` or ``cls + mean``.
        is_normalised: True where embeddings have unit length.
    """

    def __init__(self, model: Any) -> None:
        """Take a ``SentenceTransformer`` apart.

        Raises:
            ExportError: It has a module that is not known here.
        """
        super().__init__()
        kinds = [type(module).__name__ for module in model]
        if kinds[:2] != ["Transformer", "Pooling"] or not set(kinds[2:]) <= set(_BEHIND):
            raise ExportError(
                f"the model is {' + '.join(kinds) or 'empty'}; only {_EXPECTED} can be exported; "
                f"{INSTEAD}"
            )
        self.transformer = model[0].auto_model
        modes = _modes_of(model[1])
        self.pooling = " + ".join(modes)
        self._pools = [_POOL[mode] for mode in modes]
        self.layers = nn.ModuleList(list(model)[2:])
        self._cut_at: int | None = getattr(model, "truncate_dim", None)
        self.is_normalised = kinds[-1] == "Normalize" and self._cut_at is None

    @property
    def architecture(self) -> str:
        """What transformers calls it, as in ``bert``."""
        return str(self.transformer.config.model_type)

    def forward(self, input_ids: Tensor, attention_mask: Tensor) -> Tensor:
        """Embed texts: int64 ``(n, tokens)`` each, in; float32 ``(n, dim)`` out."""
        tokens = self.transformer(input_ids=input_ids, attention_mask=attention_mask)[0]
        pooled = torch.cat([pool(tokens, attention_mask) for pool in self._pools], dim=-1)
        features = {"sentence_embedding": pooled}
        for layer in self.layers:
            features = layer(features)
        embedding = features["sentence_embedding"]
        return embedding if self._cut_at is None else embedding[:, : self._cut_at]


def _modes_of(pooling: Any) -> tuple[str, ...]:
    """Tell how a model pools; the vectors of several ways stand one after the other.

    Raises:
        ExportError: In a way that is not known here.
    """
    mode = pooling.pooling_mode
    modes = (mode,) if isinstance(mode, str) else tuple(mode)
    if not set(modes) <= set(POOLINGS):
        raise ExportError(
            f"the model pools by {' + '.join(modes)}; only {', '.join(POOLINGS)} can be exported; "
            f"{INSTEAD}"
        )
    if not pooling.include_prompt:
        raise ExportError(
            "the model leaves the tokens of its prompt out of the pooling, which can't be "
            f"exported; {INSTEAD}"
        )
    return modes


def _mean(tokens: Tensor, mask: Tensor) -> Tensor:
    """Average the tokens that are not masked."""
    return _average(tokens, mask.to(tokens.dtype))


def _mean_by_root(tokens: Tensor, mask: Tensor) -> Tensor:
    """Add the tokens up, over the root of their number."""
    number = mask.sum(dim=1, keepdim=True).to(tokens.dtype)
    return _mean(tokens, mask) * number.sqrt()


def _mean_by_place(tokens: Tensor, mask: Tensor) -> Tensor:
    """Average the tokens, the first with weight 1, the second with weight 2."""
    return _average(tokens, (mask * mask.cumsum(dim=1)).to(tokens.dtype))


def _average(tokens: Tensor, weights: Tensor) -> Tensor:
    """Average by weights; without any, the answer is zero."""
    total = weights.sum(dim=1, keepdim=True).clamp(min=1e-9)
    return (tokens * weights.unsqueeze(-1)).sum(dim=1) / total


def _largest(tokens: Tensor, mask: Tensor) -> Tensor:
    """Take the largest value of each coordinate."""
    return tokens.masked_fill(mask.unsqueeze(-1) == 0, float("-inf")).amax(dim=1)


def _first(tokens: Tensor, _: Tensor) -> Tensor:
    """Take the first token; texts are filled up on the right."""
    return tokens[:, 0]


def _last(tokens: Tensor, mask: Tensor) -> Tensor:
    """Take the last token that is not masked."""
    places = (mask.sum(dim=1) - 1).clamp(min=0)
    wanted = places[:, None, None].expand(-1, 1, tokens.shape[-1])
    return torch.gather(tokens, 1, wanted).squeeze(1)


_POOL: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "mean": _mean,
    "cls": _first,
    "lasttoken": _last,
    "max": _largest,
    "mean_sqrt_len_tokens": _mean_by_root,
    "weightedmean": _mean_by_place,
}
POOLINGS = tuple(_POOL)
