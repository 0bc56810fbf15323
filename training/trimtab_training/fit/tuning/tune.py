"""Tune the encoder of queries, and say whether that beats the vector adapter.

Every training query gets one held-out score by an encoder that was not tuned on it, on the folds of
the adapter's own cross-validation. The weights of the loss, the number of passes, and whether
anything tuned is shipped at all are chosen by those scores. Test queries are never looked at.
"""

import hashlib
import json
import logging
import time
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from trimtab_training.adapters import Adapter
from trimtab_training.data.dataset import Dataset
from trimtab_training.data.qrels import name_some
from trimtab_training.embeddings.local_encoder import LocalEncoder
from trimtab_training.embeddings.store import Embeddings
from trimtab_training.errors import ConfigError, DataError
from trimtab_training.fit.checkpoint import Workspace
from trimtab_training.fit.cross_validation import CrossValidation, count_folds
from trimtab_training.fit.device import find_device
from trimtab_training.fit.fit import FitResult
from trimtab_training.fit.initial import digest_of
from trimtab_training.fit.model_selection import HeldOut
from trimtab_training.fit.query_split import split_queries
from trimtab_training.fit.tuning.corpus_queries import read_corpus_queries
from trimtab_training.fit.tuning.fold_adapters import fit_fold_adapters
from trimtab_training.fit.tuning.selection import Choice, TuningSelection, select_tuning
from trimtab_training.fit.tuning.settings import TuningSettings, TuningWeights
from trimtab_training.fit.tuning.trainable_encoder import TrainableEncoder, require_same_encoder
from trimtab_training.fit.tuning.tuning_trials import (
    Candidate,
    Progress,
    TuningContext,
    TuningTrials,
)

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class TunedEncoder:
    """What came out of a tuning.

    Attributes:
        choice: What to ship: ``nothing``, the ``adapter`` of the fit, the ``tuned`` encoder, or the
            ``mean`` of the tuned encoder's vector and the adapted vector of the untouched encoder,
            each of unit length, scaled to unit length.
        verdict: One sentence: what was chosen and why.
        model: The tuned ``SentenceTransformer``, plain weights, on the processor; None where
            nothing tuned is shipped.
        adapter: The fit's adapter where it has a part in the choice, else None.
        candidate: How the model was trained; None where there is none.
        validation: Held-out nDCG@10 of all rivals and trials.
        curves: Training loss of every trial, by its name.
        seconds: Time taken.
        settings: The knobs.
    """

    choice: Choice
    verdict: str
    model: Any
    adapter: Adapter | None
    candidate: Candidate | None
    validation: dict[str, Any]
    curves: Mapping[str, list[dict[str, float]]]
    seconds: float
    settings: TuningSettings


def tune_encoder(
    dataset: Dataset,
    embeddings: Embeddings,
    encoder: LocalEncoder,
    fit: FitResult,
    settings: TuningSettings | None = None,
    *,
    progress: Progress = lambda _done, _all: None,
) -> TunedEncoder:
    """Tune the encoder of queries, if that beats the vector adapter.

    The same data, fit, settings and seed give the same weights on one machine, interrupted and
    resumed or not.

    Args:
        dataset: Texts and labels; the ``test`` split is not used.
        embeddings: The frozen document vectors, and the raw query vectors.
        encoder: The encoder that gave the raw query vectors; it is left as it is.
        fit: The vector adapter's fit on the same data, which tuning has to beat.
        settings: The knobs; the defaults where absent.
        progress: Called every few steps with the queries that were passed, and all that may be.

    Raises:
        ConfigError: The fit is a migration between encoders, the device is not there, or there
            is nothing to train in the encoder.
        DataError: Queries without a text, or a workspace of another tuning.
        EncoderError: The encoder is not the one that gave the query vectors.
        DivergedError: A loss is no longer finite.
    """
    return Tuning(dataset, embeddings, encoder, fit, settings or TuningSettings(), progress).run()


def cross_validate_tuning(
    dataset: Dataset,
    embeddings: Embeddings,
    encoder: LocalEncoder,
    fit: FitResult,
    settings: TuningSettings | None = None,
    *,
    progress: Progress = lambda _done, _all: None,
) -> TuningSelection:
    """Say by held-out queries what tuning is worth, without training what would be shipped.

    Arguments and errors are those of :func:`tune_encoder`.
    """
    tuning = Tuning(dataset, embeddings, encoder, fit, settings or TuningSettings(), progress)
    return tuning.select()


class Tuning:
    """The steps of one tuning, over data that they share.

    Attributes:
        fit: The fit that tuning has to beat.
        settings: The knobs.
        context: What all trials share, the encoder among it.
        trials: Runs them.
    """

    def __init__(
        self,
        dataset: Dataset,
        embeddings: Embeddings,
        encoder: LocalEncoder,
        fit: FitResult,
        settings: TuningSettings,
        progress: Progress,
    ) -> None:
        """Look at the data, and open the encoder and the workspace; as :func:`tune_encoder`."""
        self.fit, self.settings, recipe = fit, settings, fit.recipe
        self.started = time.monotonic()
        if recipe.use_between(embeddings.queries.dim, embeddings.documents.dim) == "migration":
            raise ConfigError(
                "queries of another encoder than the documents' can't be tuned: their vectors mean "
                "nothing to the index to start with; fit an adapter alone"
            )
        embeddings.require(dataset.splits)
        device = find_device(settings.device)
        query_split = split_queries(dataset, queries=embeddings.queries)
        folds = query_split.make_folds(embeddings, recipe, fit.seed)
        folds = folds[: count_folds(folds, recipe, recipe.compared_queries)]
        self.n_screened = count_folds(folds, recipe, recipe.screened_queries)
        judged = {query: None for fold in folds for query in fold.held_out}
        texts = _texts_of(dataset, {**judged, **dict.fromkeys(query_split.train)})
        is_unit = recipe.compares_by == "cosine" or embeddings.unit_documents
        trainable = TrainableEncoder(encoder, settings, is_unit=is_unit)
        require_same_encoder(trainable, texts, embeddings)
        corpus = read_corpus_queries(
            dataset,
            embeddings.documents,
            settings.corpus_queries,
            most=settings.max_corpus_queries,
            seed=settings.seed,
        )
        identity = self._identity(dataset, embeddings, encoder) | {
            "texts": _digest(texts),
            "corpus": _digest([corpus.texts, corpus.rows.tolist()]),
        }
        workspace = Workspace(
            settings.workspace, identity, resume=settings.resume, tell=settings.tell
        )
        adapters = []
        if fit.adapter is not None:
            adapters = fit_fold_adapters(
                fit, query_split, folds, embeddings, workspace=workspace, device=device
            )
        cross_validation = CrossValidation(folds, embeddings, recipe, seed=fit.seed, device=device)
        self.context = TuningContext(
            trainable,
            query_split,
            folds,
            cross_validation,
            adapters,
            texts,
            corpus,
            embeddings,
            recipe,
            settings,
            workspace,
        )
        self.trials = TuningTrials(self.context, progress)

    def _identity(
        self, dataset: Dataset, embeddings: Embeddings, encoder: LocalEncoder
    ) -> dict[str, Any]:
        """Name all that decides the outcome, beside the texts that are trained on."""
        fit, settings = self.fit, self.settings
        return {
            "settings": settings.as_dict(),
            "recipe": fit.recipe.as_dict(),
            "encoder": encoder.fingerprint,
            "max_tokens": encoder.max_tokens,
            "labels": dataset.content_hash(),
            "vectors": embeddings.content_hash() if settings.workspace else "",
            "adapter": [fit.weights.name, fit.blend, fit.seed, digest_of(fit.adapter)],
        }

    def run(self) -> TunedEncoder:
        """Choose, and train what is chosen on all queries."""
        selection = self.select()
        model = None
        if selection.candidate is not None:
            self.trials.fit_all(selection.candidate)
            model = self.context.encoder.finished()
        return TunedEncoder(
            choice=selection.choice,
            verdict=selection.text,
            model=model,
            adapter=self.fit.adapter if selection.choice in {"adapter", "mean"} else None,
            candidate=selection.candidate,
            validation=selection.validation,
            curves=self.trials.curves,
            seconds=time.monotonic() - self.started,
            settings=self.settings,
        )

    def select(self) -> TuningSelection:
        """Try weights on some folds, rate the best on all, and choose between all rivals."""
        tried = self._screen() if self.settings.epochs else {}
        rated = self._rate(_best_weights(tried), tried) if tried else {}
        selection = select_tuning(self._adapter(), rated, tried, self.fit.recipe.min_gain)
        logger.info("tuning judged", extra={"choice": selection.choice})
        return selection

    def _screen(self) -> dict[Candidate, HeldOut]:
        """Try corpus weights with the first pull, then pulls with the best corpus weight."""
        settings, fit = self.settings, self.fit
        shared = fit.weights.unlabelled, fit.weights.synthetic
        corpus = settings.corpus_weights if len(self.context.corpus) else (0.0,)
        n_folds, n_weights = len(self.context.folds), len(corpus) + len(settings.pulls) - 1
        self.trials.expect(n_weights * self.n_screened + n_folds - self.n_screened + 1)
        first = [TuningWeights(settings.pulls[0], weight, *shared) for weight in corpus]
        tried = self._try(first, {})
        best = _best_weights(tried)
        return self._try([replace(best, pull=pull) for pull in settings.pulls[1:]], tried)

    def _try(
        self, rivals: list[TuningWeights], tried: dict[Candidate, HeldOut]
    ) -> dict[Candidate, HeldOut]:
        """Add the scores of some weights; only the best of all keep what was trained."""
        for weights in rivals:
            tried = tried | self.trials.hold_out(weights, self.n_screened)
            for each in {candidate.weights for candidate in tried} - {_best_weights(tried)}:
                self.trials.forget(each)
        return tried

    def _rate(
        self, weights: TuningWeights, tried: Mapping[Candidate, HeldOut]
    ) -> Mapping[Candidate, HeldOut]:
        """Score the chosen weights on every fold."""
        n_folds = len(self.context.folds)
        if n_folds == self.n_screened:
            return {each: scores for each, scores in tried.items() if each.weights == weights}
        return self.trials.hold_out(weights, n_folds)

    def _adapter(self) -> HeldOut | None:
        """Give the held-out scores of the vector adapter; None where none helps."""
        context = self.context
        if not context.adapters:
            return None
        blend = self.fit.blend
        cross_validation = context.cross_validation
        parts = [
            cross_validation.held_out(
                {
                    0.0: cross_validation.score_vectors(cross_validation.raw_queries(fold), fold),
                    1.0: cross_validation.score_at(adapter, blend, fold),
                },
                fold,
            )
            for fold, adapter in enumerate(context.adapters)
        ]
        return HeldOut.join(parts)


def _best_weights(tried: Mapping[Candidate, HeldOut]) -> TuningWeights:
    """Give the weights of the candidate that held-out queries rate best."""
    return max(tried, key=lambda each: tried[each].gain(1.0)).weights


def _digest(content: Any) -> str:
    """Digest what JSON can hold."""
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


def _texts_of(dataset: Dataset, query_ids: Mapping[str, Any]) -> dict[str, str]:
    """Read the texts of queries.

    Raises:
        DataError: Some have none.
    """
    texts = {name: text for name, text in dataset.query_texts(query_ids).items() if text.strip()}
    missing = query_ids.keys() - texts.keys()
    if missing:
        raise DataError(
            f"{name_some(missing)} labelled queries have no text in "
            f"{dataset.folder / 'queries.jsonl'}; an encoder can't be tuned on them"
        )
    return {name: texts[name] for name in query_ids}
