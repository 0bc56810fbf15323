"""A sentence-transformers model as one torch module: token ids in, an embedding out.

Written out here, so that what is exported is a few plain operations, whatever the library's own
modules do beside them; that both give the same is proved on texts (``encoder_export``).
"""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from trimtab_training.errors import ExportError

POOLINGS = ("mean", "cls", "lasttoken")
_SHOWN = "a Transformer, a Pooling, and Dense or Normalize after it"


class TextModule(nn.Module):
    """Transformer, pooling, and what stands after them.

    Attributes:
        pooling: How the vectors of tokens become one.
        is_normalised: True where embeddings have unit length.
    """

    def __init__(self, model: Any) -> None:
        """Take a ``SentenceTransformer`` apart.

        Raises:
            ExportError: It has a module that is not known here.
        """
        super().__init__()
        kinds = [type(module).__name__ for module in model]
        if kinds[:2] != ["Transformer", "Pooling"] or not set(kinds[2:]) <= {"Dense", "Normalize"}:
            raise ExportError(
                f"the model is {' + '.join(kinds) or 'empty'}; only {_SHOWN} can be exported"
            )
        self.transformer = model[0].auto_model
        self.pooling = _pooling_of(model[1])
        self._pool = _POOL[self.pooling]
        self.layers = nn.ModuleList([_layer(module) for module in list(model)[2:]])
        self.is_normalised = kinds[-1] == "Normalize"

    def forward(self, input_ids: Tensor, attention_mask: Tensor) -> Tensor:
        """Embed texts: int64 ``(n, tokens)`` each, in; float32 ``(n, dim)`` out."""
        tokens = self.transformer(input_ids=input_ids, attention_mask=attention_mask)[0]
        embedding = self._pool(tokens, attention_mask)
        for layer in self.layers:
            embedding = layer(embedding)
        return embedding


class _Normalise(nn.Module):
    """Unit length."""

    def forward(self, embedding: Tensor) -> Tensor:
        """Scale rows to unit length."""
        return nn.functional.normalize(embedding, p=2, dim=-1)


def _layer(module: Any) -> nn.Module:
    """Give a module behind the pooling as one that takes and gives tensors."""
    if type(module).__name__ == "Normalize":
        return _Normalise()
    return nn.Sequential(module.linear, module.activation_function)


def _pooling_of(pooling: Any) -> str:
    """Tell how a model pools.

    Raises:
        ExportError: In a way that is not known here.
    """
    mode = pooling.pooling_mode
    modes = (mode,) if isinstance(mode, str) else tuple(mode)
    if len(modes) != 1 or modes[0] not in POOLINGS:
        raise ExportError(
            f"the model pools by {' + '.join(modes)}; only one of {', '.join(POOLINGS)} can be "
            "exported"
        )
    if not pooling.include_prompt:
        raise ExportError(
            "the model leaves the tokens of its prompt out of the pooling, which can't be exported"
        )
    return str(modes[0])


def _mean(tokens: Tensor, mask: Tensor) -> Tensor:
    """Average the tokens that are not masked."""
    weights = mask.unsqueeze(-1).to(tokens.dtype)
    return (tokens * weights).sum(dim=1) / weights.sum(dim=1).clamp(min=1e-9)


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
}
