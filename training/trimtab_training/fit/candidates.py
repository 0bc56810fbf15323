"""What the softmax of a training step runs over: relevant documents as targets, and candidates."""

import logging
import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from trimtab_training.data.qrels import Qrels, only_relevant
from trimtab_training.embeddings.store import Embeddings
from trimtab_training.errors import DataError
from trimtab_training.fit.recipe import Recipe
from trimtab_training.retrieval.exact_search import prepare_documents

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Targets:
    """Training queries with their relevant documents, as flat arrays.

    Attributes:
        queries: Query vectors, float32.
        starts: Where each query's documents start in ``columns``; one entry more than queries.
        columns: Place of each relevant document among the labelled ones.
        shares: Share of each among its query's relevant documents, in proportion to grade.
        weights: What each query counts for in the loss; 1 on average.
    """

    queries: Float[Tensor, "queries dim"]
    starts: Int[Tensor, " bounds"]
    columns: Int[Tensor, " targets"]
    shares: Float[Tensor, " targets"]
    weights: Float[Tensor, " queries"]

    def batch(
        self, chosen: Int[Tensor, " batch"]
    ) -> tuple[Int[Tensor, " pairs"], Int[Tensor, " pairs"], Float[Tensor, " pairs"]]:
        """Give the relevant pairs of some queries: row in the batch, column, share."""
        counts = self.starts[chosen + 1] - self.starts[chosen]
        rows = torch.repeat_interleave(torch.arange(len(chosen)), counts)
        offsets = torch.arange(len(rows)) - torch.repeat_interleave(
            torch.cumsum(counts, 0) - counts, counts
        )
        places = self.starts[chosen][rows] + offsets
        return rows, self.columns[places], self.shares[places]


@dataclass(frozen=True)
class Candidates:
    """The documents of one softmax.

    Attributes:
        vectors: What queries are multiplied with.
        offsets: What the similarity adds to each document's score.
        log_weights: Log of how many documents each stands for.
    """

    vectors: Float[Tensor, "candidates dim"]
    offsets: Float[Tensor, " candidates"]
    log_weights: Float[Tensor, " candidates"]


class CandidatePool:
    """The documents that the softmax runs over, drawn anew every few steps.

    Labelled documents are always there. All others are stood for by a sample, whose logits carry
    the log of how many documents each stands for, times the trial's weight; where they all fit,
    the softmax is exact.

    Source:
        The correction of sampled softmax: Bengio & Senécal (2008), IEEE TNN 19(4), eq. 12,
        doi:10.1109/TNN.2007.912312, for a uniform proposal.
    """

    def __init__(
        self, embeddings: Embeddings, labelled: list[int], recipe: Recipe, weight: float
    ) -> None:
        """Split the corpus into labelled documents and the rest."""
        self._documents = embeddings.documents
        self._recipe = recipe
        self._weight = weight
        self.labelled = np.array(labelled, dtype=np.int64)
        is_labelled = np.zeros(len(embeddings.documents), dtype=bool)
        is_labelled[self.labelled] = True
        self._others = np.flatnonzero(~is_labelled)
        self._kept = embeddings.documents.take(self.labelled)
        if weight > 0 and len(self._others) > recipe.sampled_documents:
            logger.info(
                "unlabelled documents are sampled anew every few steps",
                extra={"sampled": recipe.sampled_documents, "unlabelled": len(self._others)},
            )

    @property
    def size(self) -> int:
        """Number of candidates."""
        return len(self._kept) + self._n_drawn

    @property
    def _n_drawn(self) -> int:
        """Number of documents that stand for all unlabelled ones."""
        return min(self._recipe.sampled_documents, len(self._others)) if self._weight > 0 else 0

    def draw(self, device: torch.device) -> Candidates:
        """Give the candidates of the next steps."""
        count = self._n_drawn
        drawn = self._others[np.sort(torch.randperm(len(self._others))[:count].numpy())]
        vectors, offsets = prepare_documents(
            torch.from_numpy(np.concatenate([self._kept, self._documents.take(drawn)])),
            self._recipe.compares_by,
        )
        log_weights = torch.zeros(len(vectors))
        if count:
            log_weights[len(self._kept) :] = math.log(self._weight * len(self._others) / count)
        return Candidates(vectors.to(device), offsets.to(device), log_weights.to(device))


def labelled_rows(train: Qrels, embeddings: Embeddings) -> list[int]:
    """Give the rows of all documents that a training query judges, relevant or not."""
    rows = embeddings.documents.rows
    return sorted({rows[doc_id] for labels in train.values() for doc_id in labels})


def make_targets(
    train: Qrels, embeddings: Embeddings, labelled: list[int], weight_of: Mapping[str, float]
) -> Targets:
    """Lay out training queries and their relevant documents as flat arrays.

    Args:
        train: Labels to train on.
        embeddings: The vectors.
        labelled: Rows of all documents that these labels name, in ascending order.
        weight_of: What a query counts for in the loss; 1 where it is not named.

    Raises:
        DataError: There is no query to train on.
    """
    if not train:
        raise DataError("a trial is left without a training query; a fit needs more that differ")
    column_of = {row: column for column, row in enumerate(labelled)}
    starts, columns, shares = [0], [], []
    for wanted in only_relevant(train).values():
        total = sum(wanted.values())
        columns += [column_of[embeddings.documents.rows[doc_id]] for doc_id in wanted]
        shares += [grade / total for grade in wanted.values()]
        starts.append(len(columns))
    weights = torch.tensor([weight_of.get(query, 1.0) for query in train], dtype=torch.float32)
    return Targets(
        torch.from_numpy(embeddings.queries.take_ids(list(train))),
        torch.tensor(starts),
        torch.tensor(columns),
        torch.tensor(shares, dtype=torch.float32),
        weights / weights.mean(),
    )
