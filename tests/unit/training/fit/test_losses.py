"""Losses against torch's own and by hand."""

import pytest
import torch
from torch import Tensor
from torch.nn.functional import cross_entropy

from trimtab_training.fit.losses import anchor_loss, softmax_loss

CLOSE = {"rtol": 1e-6, "atol": 1e-6}  # float32 keeps seven digits


def soft_targets(targets: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    rows, columns = torch.nonzero(targets, as_tuple=True)
    return rows, columns, targets[rows, columns], torch.ones(len(targets))


def made_up(seed: int, n_queries: int = 7, n_candidates: int = 30) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    logits = 5 * torch.randn(n_queries, n_candidates, generator=generator)
    grades = torch.randint(0, 4, (n_queries, n_candidates), generator=generator).float()
    grades[:, 1:] *= torch.rand(n_queries, n_candidates - 1, generator=generator) < 0.2
    grades[:, 0] = 1  # each query has a relevant document
    return logits, grades / grades.sum(dim=1, keepdim=True)


@pytest.mark.parametrize("seed", range(5))
def test_softmax_loss_is_cross_entropy_with_soft_targets(seed: int) -> None:
    logits, targets = made_up(seed)
    found = softmax_loss(logits, *soft_targets(targets))
    torch.testing.assert_close(found, cross_entropy(logits, targets), **CLOSE)


def test_softmax_loss_has_the_gradient_of_cross_entropy() -> None:
    logits, targets = made_up(0)
    gradients = []
    for loss in (lambda x: softmax_loss(x, *soft_targets(targets)), None):
        x = logits.clone().requires_grad_()
        (loss(x) if loss else cross_entropy(x, targets)).backward()
        gradients.append(x.grad)
    torch.testing.assert_close(gradients[0], gradients[1], **CLOSE)


def test_softmax_loss_is_zero_where_the_relevant_document_is_certain() -> None:
    logits = torch.tensor([[0.0, 200.0], [200.0, 0.0]])
    one = torch.ones(2)
    rows = torch.arange(2)
    assert softmax_loss(logits, rows, torch.tensor([1, 0]), one, one) == 0
    assert softmax_loss(logits, rows, torch.tensor([0, 1]), one, one) == 200


def test_softmax_loss_leaves_out_candidates_of_weight_zero() -> None:
    logits, targets = made_up(1)
    without = torch.cat([logits, torch.full((7, 4), float("-inf"))], dim=1)
    found = softmax_loss(without, *soft_targets(targets))
    torch.testing.assert_close(found, cross_entropy(logits, targets), **CLOSE)


def test_softmax_loss_counts_a_query_by_its_weight() -> None:
    logits, targets = made_up(3)
    weights = torch.tensor([2.0, 0.5, 0.5, 1.0, 1.0, 1.0, 1.0])
    rows, columns, shares, _ = soft_targets(targets)
    each = cross_entropy(logits, targets, reduction="none")
    found = softmax_loss(logits, rows, columns, shares, weights)
    torch.testing.assert_close(found, (each * weights).mean(), **CLOSE)


def test_softmax_loss_stays_finite_for_large_scores() -> None:
    logits, targets = made_up(2)
    assert torch.isfinite(softmax_loss(1e4 * logits, *soft_targets(targets)))


def test_anchor_loss_of_the_identity_is_zero() -> None:
    documents = torch.randn(5, 3, generator=torch.Generator().manual_seed(0))
    assert anchor_loss(documents, documents) == 0


def test_anchor_loss_is_the_mean_squared_distance() -> None:
    documents = torch.zeros(2, 2)
    adapted = torch.tensor([[3.0, 4.0], [0.0, 1.0]])
    assert anchor_loss(adapted, documents) == 13.0


def test_anchor_loss_pulls_towards_the_documents() -> None:
    adapted = torch.tensor([[3.0, 4.0]], requires_grad=True)
    anchor_loss(adapted, torch.tensor([[1.0, 4.0]])).backward()
    assert adapted.grad is not None
    assert adapted.grad.tolist() == [[4.0, 0.0]]
