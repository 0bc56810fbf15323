"""Which split each written query belongs to: by its document, so that no document is in two."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from trimtab_training.data.splits import unit_hash
from trimtab_training.synthesis.candidates import Candidate
from trimtab_training.synthesis.real import RealQueries


@dataclass(frozen=True)
class Shares:
    """How much of the documents goes where; the rest is for training.

    Attributes:
        dev: Share of the documents whose queries the fit chooses by.
        test: Share of the documents whose queries it is measured on.
    """

    dev: float = 0.1
    test: float = 0.1


def assign_splits(
    candidates: Sequence[Candidate], shares: Shares, real: RealQueries | None
) -> dict[str, list[Candidate]]:
    """Sort written queries into splits, by a hash of their document that never changes.

    Real queries, where there are any, are the whole test split; and where some of them can be
    chosen by (real train or dev queries), no written query stands in the dev split.
    """
    if real is not None:
        choosing_by_real = bool(real.splits.get("dev") or real.splits.get("train"))
        shares = Shares(0.0 if choosing_by_real else shares.dev, 0.0)
    splits: dict[str, list[Candidate]] = {"train": [], "dev": [], "test": []}
    for candidate in candidates:
        place = unit_hash(candidate.doc_id, "synthetic")
        name = "test" if place < shares.test else "dev" if place < shares.test + shares.dev else ""
        splits[name or "train"].append(candidate)
    return splits


def count_splits(
    splits: Mapping[str, Sequence[Candidate]], real: RealQueries | None
) -> dict[str, dict[str, int]]:
    """Count the queries of each split: ``{"train": {"synthetic": ..., "real": ...}, ...}``."""
    return {
        name: {
            "synthetic": len(candidates),
            "real": len(real.splits.get(name, {})) if real else 0,
        }
        for name, candidates in splits.items()
    }
