"""An adapter and a map of documents, trained together over the fit's own loss."""

from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from trimtab_training.adapters import Adapter
from trimtab_training.fit.losses import anchor_loss, softmax_loss
from trimtab_training.fit.trainer import Trainer
from trimtab_training.retrieval.exact_search import normalise


class TwoSided(Adapter):
    """``A(q)`` for queries, ``B(d) = normalise(d + (d reduce) expand)`` for documents.

    Attributes:
        queries: The adapter of queries, ``A``.
        reduce: First matrix of the map of documents, ``(dim_out, rank)``.
        expand: Its second matrix, ``(rank, dim_out)``; zero before any training.
    """

    def __init__(self, queries: Adapter, rank: int) -> None:
        """Put a map that changes nothing beside an adapter.

        Args:
            queries: The adapter, untrained.
            rank: Rank of the map.
        """
        super().__init__(queries.dim_in, queries.dim_out)
        self.queries = queries
        self.reduce = nn.Parameter(torch.randn(self.dim_out, rank) / self.dim_out**0.5)
        self.expand = nn.Parameter(torch.zeros(rank, self.dim_out))

    def forward(self, queries: Float[Tensor, "n dim_in"]) -> Float[Tensor, "n dim_out"]:
        """Adapt queries."""
        return normalise(self.queries(queries))

    def map_documents(self, documents: Float[Tensor, "*n dim_out"]) -> Float[Tensor, "*n dim_out"]:
        """Map documents of unit length, which they stay."""
        return normalise(documents + (documents @ self.reduce) @ self.expand)


class TwoSidedTrainer(Trainer):
    """The fit's training loop, with documents mapped before they are scored."""

    adapter: TwoSided

    def __init__(self, *given: Any, document_anchor: float, **named: Any) -> None:
        """Set up a trial as :class:`Trainer` does.

        Args:
            document_anchor: Weight of what the map moves documents by.
            given: As :class:`Trainer` takes it.
            named: Likewise.
        """
        super().__init__(*given, **named)
        self._document_anchor = document_anchor

    def _loss(self, chosen: Tensor, candidates: Tensor, addition: Tensor) -> Tensor:
        """Give the fit's own loss over mapped documents, and what the map moves them by."""
        queries = self._targets.queries[chosen].to(self._device)
        anchors = self._draw_anchors()
        held_still = anchors if self._weights.anchor else queries[:0]
        adapted, moved = self.adapter(torch.cat([queries, held_still])).split(
            [len(queries), len(held_still)]
        )
        documents = self.adapter.map_documents(candidates)
        logits = torch.addmm(addition, adapted, documents.T, alpha=1 / self._scale)
        rows, columns, shares = (part.to(self._device) for part in self._targets.batch(chosen))
        weights = self._targets.weights[chosen].to(self._device)
        loss = softmax_loss(logits, rows, columns, shares, weights)
        mapped = anchor_loss(self.adapter.map_documents(anchors), anchors)
        held = self._document_anchor * mapped
        if len(held_still):
            held = held + self._weights.anchor * anchor_loss(moved, held_still)
        return loss + held / self._unit**2
