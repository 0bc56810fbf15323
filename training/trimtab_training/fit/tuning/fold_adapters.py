"""The vector adapter of a finished fit, as it would be without each fold's queries."""

import copy
from collections.abc import Sequence

import torch

from trimtab_training.adapters import Adapter
from trimtab_training.data.folds import Fold
from trimtab_training.embeddings.store import Embeddings
from trimtab_training.fit.checkpoint import Workspace
from trimtab_training.fit.device import seeded
from trimtab_training.fit.fit import FitResult
from trimtab_training.fit.initial import Initialisation
from trimtab_training.fit.query_split import QuerySplit
from trimtab_training.fit.trainer import Trainer

_SEEDS = 1009  # as the trials of a fit: the same folds give the same adapters


def fit_fold_adapters(
    fit: FitResult,
    query_split: QuerySplit,
    folds: Sequence[Fold],
    embeddings: Embeddings,
    *,
    workspace: Workspace,
    device: torch.device,
) -> list[Adapter]:
    """Train a fit's choice on what each fold keeps, at the blend that was chosen.

    Args:
        fit: A fit of the same data, which found an adapter.
        query_split: Who teaches and who judges.
        folds: What is held out.
        embeddings: The vectors.
        workspace: Where unfinished work is kept.
        device: Where to compute.

    Returns:
        One adapter a fold, ready to be applied to raw queries. A dev split is left out by the fit
        itself, so its adapter is the fit's.
    """
    if query_split.dev:
        assert fit.adapter is not None  # noqa: S101 - the caller has looked
        return [copy.deepcopy(fit.adapter).to(device)]
    return [
        _fit_fold(fit, query_split, fold, number, embeddings, workspace, device)
        for number, fold in enumerate(folds)
    ]


def _fit_fold(  # noqa: PLR0913, PLR0917 - as above
    fit: FitResult,
    query_split: QuerySplit,
    fold: Fold,
    number: int,
    embeddings: Embeddings,
    workspace: Workspace,
    device: torch.device,
) -> Adapter:
    """Train on what one fold keeps."""
    only_real = fit.weights.synthetic == 0 and query_split.is_mixed
    train = query_split.only_real(fold.train) if only_real else fold.train
    with seeded(fit.seed * _SEEDS + number, device):
        initialisation = Initialisation(fit.recipe, embeddings, None, fit.seed)
        trainer = Trainer(
            f"adapter-fold{number}",
            initialisation.make(train),
            fit.weights,
            train=train,
            synthetic=query_split.synthetic,
            embeddings=embeddings,
            recipe=fit.recipe,
            device=device,
        )
        adapter = trainer.run(workspace).adapter
    with torch.no_grad():
        adapter.blend.fill_(fit.blend)
    return adapter
