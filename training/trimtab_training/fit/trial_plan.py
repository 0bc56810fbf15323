"""Which trials a fit has: what it chooses between, and how many runs that takes."""

from collections.abc import Sequence
from dataclasses import dataclass

from trimtab_training.fit.query_split import QuerySplit
from trimtab_training.fit.recipe import Recipe

_MIN_UNLABELLED = 0.1
"""Share of the documents without a training query from which on their weight matters."""

_TEMPERATURES = (0.03, 0.05)
"""The second is tried where their weight does not matter: on banking77 it is worth .003."""


DOCUMENT_ANCHORS = (0.1, 1.0)
"""How strongly a second look may hold documents where they are."""


@dataclass(frozen=True)
class Planned:
    """A trial that is to come.

    Attributes:
        steps: Share of the steps that it takes.
        fold: The fold that it leaves out; None for all queries.
        unlabelled: Weights of unlabelled documents that it may have.
    """

    steps: float
    fold: int | None
    unlabelled: Sequence[float]


@dataclass(frozen=True)
class TrialPlan:
    """What a fit tries, as far as recipe and data say.

    Attributes:
        recipe: The knobs.
        query_split: Which queries teach, and which judge.
        use: ``relevance`` or ``migration``.
        unlabelled_share: Share of the documents without a training query.
        n_folds: Number of folds on which rivals are rated.
        n_screened: Number of them on which short trials choose the loss's weights.
    """

    recipe: Recipe
    query_split: QuerySplit
    use: str
    unlabelled_share: float
    n_folds: int
    n_screened: int

    @property
    def unlabelled(self) -> list[float]:
        """Weights of unlabelled documents to try, the smallest first."""
        weights = sorted(self.recipe.unlabelled_weights)
        return weights if self.unlabelled_share >= _MIN_UNLABELLED else weights[:1]

    @property
    def anchors(self) -> list[float]:
        """Weights of the anchor to try."""
        # Documents are no queries of another encoder's: there is nothing to hold still.
        return list(self.recipe.anchors) if self.use == "relevance" else [0.0]

    @property
    def temperatures(self) -> tuple[float, ...]:
        """Temperatures to try; the usual one alone where other trials take the time."""
        few = _TEMPERATURES if self.unlabelled_share < _MIN_UNLABELLED else _TEMPERATURES[:1]
        return self.recipe.temperatures or few

    @property
    def synthetic(self) -> tuple[float, ...]:
        """Weights of queries that an LLM wrote to try."""
        return self.recipe.synthetic_weights if self.query_split.is_mixed else (1.0,)

    @property
    def steps(self) -> list[float]:
        """Shares of the steps that may be shipped."""
        return sorted({self.recipe.screened_steps, 1.0})

    @property
    def n_kept(self) -> int:
        """Number of trained adapters that are kept at a time."""
        one_sided = len(self.steps) + len(self.temperatures) - 1 if self.query_split.dev else 1
        return one_sided + len(self.to_look_again(self.unlabelled))

    def to_screen(self) -> list[Planned]:
        """List the short trials that choose the loss's weights; none where there is no choice."""
        tried = [[weight] for weight in self.unlabelled for _ in self.anchors]
        tried += (len(self.synthetic) - 1) * [self.unlabelled]
        if len(tried) == 1:
            return []
        return [
            Planned(self.recipe.screened_steps, fold, weights)
            for weights in tried
            for fold in range(self.n_screened)
        ]

    def to_rate(self, unlabelled: list[float]) -> list[Planned]:
        """List the trials that come once weights are chosen, the last fit with all steps.

        Args:
            unlabelled: Weights of unlabelled documents that may have been chosen.
        """
        rivals = [*self.steps, *(1.0 for _ in self.temperatures[1:])]
        if self.query_split.dev:  # what it scores are the very fits on all training queries
            return [Planned(steps, None, unlabelled) for steps in rivals]
        n_known = self.n_screened if self.to_screen() else 0
        folds = [
            Planned(steps, fold, unlabelled)
            for steps in rivals
            for fold in range(self.n_folds)
            if steps != self.recipe.screened_steps or fold >= n_known
        ]
        return [*folds, Planned(1.0, None, unlabelled)]

    def to_look_again(self, unlabelled: Sequence[float], steps: float = 1.0) -> list[Planned]:
        """List the trials of a second look, where the recipe asks for one.

        Args:
            unlabelled: Weights of unlabelled documents that may have been chosen.
            steps: Share of the steps that was chosen, or all.
        """
        if not self.recipe.rescore:
            return []
        if self.query_split.dev:  # what it scores are the very trials on all training queries
            return [Planned(steps, None, unlabelled) for _ in DOCUMENT_ANCHORS]
        n_screened = min(self.n_screened, self.n_folds)
        folds = [fold for fold in range(n_screened) for _ in DOCUMENT_ANCHORS]
        folds += range(n_screened, self.n_folds)
        return [
            *(Planned(steps, fold, unlabelled) for fold in folds),
            Planned(steps, None, unlabelled),
        ]
