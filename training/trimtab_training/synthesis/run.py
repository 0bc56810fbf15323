"""The whole way from a corpus to a dataset of written queries."""

import asyncio
import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

from trimtab_training.embeddings.embed_texts import Tell
from trimtab_training.embeddings.store import VectorTable
from trimtab_training.errors import DataError
from trimtab_training.synthesis.candidates import Candidate, read_candidates
from trimtab_training.synthesis.corpus import Corpus
from trimtab_training.synthesis.dataset_files import (
    check_output,
    dropped_lines,
    failure_lines,
    false_negative_lines,
    write_dataset,
)
from trimtab_training.synthesis.endpoint import LlmEndpoint, LlmSettings
from trimtab_training.synthesis.filters import Filtered, Known, apply_filters
from trimtab_training.synthesis.language import LanguageCheck
from trimtab_training.synthesis.prompts import Request, Writing, make_requests, shown_examples
from trimtab_training.synthesis.real import RealQueries, RealSplit
from trimtab_training.synthesis.requests import ask_all
from trimtab_training.synthesis.round_trip import RoundTrip, Trip
from trimtab_training.synthesis.sampling import draw_from_clusters, draw_uniformly
from trimtab_training.synthesis.splits import Shares, assign_splits, count_splits
from trimtab_training.synthesis.store import Answer, AnswerStore

ANSWERS = "answers.jsonl"
WARNING = (
    "Scores on written queries are not scores on real ones: they are easier, and their "
    "manner is the model's. Judge by real queries (--real), however few."
)
_LANGUAGE_SAMPLE = 200

Progress = Callable[[str, int, int | None], None]


@dataclass(frozen=True)
class Job:
    """What is to be made, and out of what.

    Attributes:
        source: BEIR folder or corpus file.
        output: The dataset folder to make.
        kept: Folder of what was paid for: answers and query vectors.
        writing: How queries are written.
        budget: Documents to write for, or None for all.
        real: BEIR folder of real queries about the same corpus, or None.
        real_split: What becomes of their splits.
        include_held_out: Also write for documents that real dev and test queries are about.
        shares: How written queries are split.
    """

    source: Path
    output: Path
    kept: Path
    writing: Writing
    budget: int | None = 1000
    real: Path | None = None
    real_split: RealSplit = "keep"
    include_held_out: bool = False
    shares: Shares = field(default_factory=Shares)


@dataclass(frozen=True)
class Plan:
    """What a job comes to, before anything is asked.

    Attributes:
        job: The job.
        corpus: Its documents.
        doc_ids: The documents drawn.
        drawn_from: Number of documents that they were drawn from.
        left_out: Why other documents can't be drawn, and how many.
        sampling: ``clustered`` or ``uniform``.
        real: Real queries, or None.
        store: The answers kept so far.
        n_requests: Requests in all.
        n_kept: Those of them that are answered already.
        prompt_tokens: Estimate for the others' prompts.
        most_answer_tokens: What the others' answers have at most.
        first: The first request.
    """

    job: Job
    corpus: Corpus
    doc_ids: list[str]
    drawn_from: int
    left_out: dict[str, int]
    sampling: str
    real: RealQueries | None
    store: AnswerStore
    n_requests: int
    n_kept: int
    prompt_tokens: int
    most_answer_tokens: int
    first: Request

    @property
    def n_missing(self) -> int:
        """Count the requests that are still to be sent."""
        return self.n_requests - self.n_kept

    def requests(self) -> Iterator[Request]:
        """Yield all requests, answered or not."""
        return make_requests(self.corpus, self.doc_ids, self.job.writing)


def make_plan(job: Job, documents: VectorTable | None = None) -> Plan:
    """Choose documents and estimate what writing for them costs.

    Args:
        job: What is to be made.
        documents: The stored vectors, for a sample that covers the corpus.

    Raises:
        DataError: Something that is read can't be used, or there is nothing to write for.
    """
    check_output(job.output, [job.source, *([job.real] if job.real else [])])
    corpus = Corpus.open(job.source)
    real = None
    if job.real is not None:
        real = RealQueries.load(job.real, split=job.real_split, corpus_ids=set(corpus.ids))
    candidates, left_out = _candidates(corpus, real, documents, job)
    if documents is None:
        sampling, doc_ids = "uniform", draw_uniformly(candidates, job.budget, job.writing.seed)
    else:
        sampling = "clustered"
        doc_ids = draw_from_clusters(candidates, documents, job.budget, job.writing.seed)
    store = AnswerStore(job.kept / ANSWERS)
    n_requests = n_kept = n_tokens = n_answer = 0
    first: Request | None = None
    for request in make_requests(corpus, doc_ids, job.writing):
        first = first or request
        n_requests += 1
        if request.key in store.answers:
            n_kept += 1
        else:
            n_tokens += request.estimated_tokens
            n_answer += job.writing.max_tokens
    if first is None:
        raise DataError("nothing to write: no style and no template; give --style")
    return Plan(
        job,
        corpus,
        doc_ids,
        len(candidates),
        left_out,
        sampling,
        real,
        store,
        n_requests,
        n_kept,
        n_tokens,
        n_answer,
        first,
    )


def _candidates(
    corpus: Corpus, real: RealQueries | None, documents: VectorTable | None, job: Job
) -> tuple[list[str], dict[str, int]]:
    """Give the documents that may be drawn, and why the others may not."""
    usable = corpus.candidates()
    left_out = {
        "without text": corpus.n_empty,
        "with the text of another": len(corpus.ids) - corpus.n_empty - len(usable),
    }
    if documents is not None:
        stored = [doc_id for doc_id in usable if doc_id in documents.rows]
        left_out["without a stored vector"] = len(usable) - len(stored)
        usable = stored
    if real is not None and not job.include_held_out:
        held_out = real.held_out_documents()
        free = [d for d in usable if held_out.isdisjoint(corpus.same_text(d))]
        left_out["of real dev and test queries"] = len(usable) - len(free)
        if usable and not free:
            raise DataError(
                "real dev and test queries are about every document; give --include-held-out to "
                "write about them all the same (all scores are then on seen documents)"
            )
        usable = free
    if not usable:
        reasons = ", ".join(f"{count} {reason}" for reason, count in left_out.items() if count)
        raise DataError(f"no document of {corpus.path} can be written for: {reasons}")
    return usable, {reason: count for reason, count in left_out.items() if count}


def ask_missing(
    plan: Plan,
    settings: LlmSettings,
    *,
    progress: Progress = lambda _what, _done, _all: None,
    on_interrupt: Callable[[int], None] = lambda _under_way: None,
) -> None:
    """Ask for every answer that is not kept yet.

    Raises:
        EndpointError: Nothing more can come of the endpoint now; what came is kept.
        KeyboardInterrupt: It was interrupted; what came is kept.
    """
    done = plan.n_kept
    progress("answers", done, plan.n_requests)

    def count(_answer: Answer) -> None:
        nonlocal done
        done += 1
        progress("answers", done, plan.n_requests)

    async def ask() -> None:
        async with LlmEndpoint(settings) as endpoint:
            await ask_all(
                plan.requests(),
                endpoint,
                plan.store,
                concurrency=settings.concurrency,
                on_answer=count,
                on_interrupt=on_interrupt,
            )

    with plan.store.opened():
        asyncio.run(ask())


def build_dataset(
    plan: Plan,
    *,
    round_trip: RoundTrip | None,
    progress: Progress = lambda _what, _done, _all: None,
    tell: Tell = lambda _text: None,
) -> dict[str, Any]:
    """Make the dataset out of the answers that are kept.

    Args:
        plan: What was asked.
        round_trip: The frozen index, or None to do without this filter.
        progress: Called while candidates are filtered and embedded.
        tell: Told where query vectors of an earlier run are of no use.

    Returns:
        The summary, as ``synthesis/summary.json`` says it.

    Raises:
        DataError: Nothing usable is left.
    """
    writing, store = plan.job.writing, plan.store
    failures: list[Answer] = []
    answered = _answered(plan, failures)
    candidates, counts = read_candidates(answered, writing.api, writing.model)
    filtered = _apply_filters(plan, candidates, round_trip, progress, tell)
    if not filtered.kept:
        raise DataError(
            f"no query is left of {len(candidates)}: {_main_reason(filtered, failures)}; "
            f"the answers are kept in {store.path}"
        )
    splits = assign_splits(filtered.kept, plan.job.shares, plan.real)
    summary: dict[str, Any] = {
        "model": writing.model,
        "styles": list(writing.styles),
        "documents": {
            "drawn": len(plan.doc_ids),
            "of": plan.drawn_from,
            "sampling": plan.sampling,
            "left_out": plan.left_out,
        },
        "requests": {
            "all": plan.n_requests,
            "answered": counts.answers,
            "failed": len(failures),
            "not_asked": plan.n_requests - counts.answers - len(failures),
        },
        "queries": {
            "written": len(candidates),
            "missing_in_answers": counts.missing,
            "surplus_in_answers": counts.surplus,
            "dropped": filtered.counts(),
            "kept": len(filtered.kept),
            "round_trip": _describe_round_trip(round_trip, filtered),
        },
        "tokens": {"prompts": store.prompt_tokens, "answers": store.answer_tokens},
        "splits": count_splits(splits, plan.real),
        "warning": WARNING,
    }
    reports = _reports(summary, filtered, failures)
    write_dataset(plan.job.output, plan.corpus, splits, plan.real, reports)
    return summary


def _reports(summary: dict[str, Any], filtered: Filtered, failures: list[Answer]) -> dict[str, str]:
    """Write what stands in ``synthesis/``."""
    reports = {
        "summary.json": json.dumps(summary, indent=1) + "\n",
        "dropped.jsonl": dropped_lines(filtered),
        "failures.jsonl": failure_lines(failures),
    }
    if summary["queries"]["round_trip"] is not None:
        reports["possible_false_negatives.tsv"] = false_negative_lines(filtered)
    return reports


def _answered(plan: Plan, failures: list[Answer]) -> Iterator[tuple[Request, Answer]]:
    """Yield the requests that are answered; note the failures of the others."""
    for request in plan.requests():
        if request.key in plan.store.answers:
            yield request, plan.store.answers[request.key]
        elif request.key in plan.store.failures:
            failures.append(plan.store.failures[request.key])


def _apply_filters(
    plan: Plan,
    candidates: list[Candidate],
    round_trip: RoundTrip | None,
    progress: Progress,
    tell: Tell,
) -> Filtered:
    """Apply the filters."""
    sample = (plan.corpus.read(doc_id).text for doc_id in plan.doc_ids[:_LANGUAGE_SAMPLE])
    send: Callable[[Sequence[Candidate]], list[Trip]] | None = None
    if round_trip is not None:
        send = partial(
            round_trip.send,
            corpus=plan.corpus,
            folder=plan.job.kept,
            progress=progress,
            tell=tell,
        )
    return apply_filters(
        candidates,
        plan.corpus,
        language=LanguageCheck(plan.job.writing.language, sample),
        known=Known(plan.real.texts if plan.real else {}, shown_examples(plan.job.writing)),
        send=send,
        progress=lambda done: progress("filters", done, len(candidates)),
    )


def _describe_round_trip(round_trip: RoundTrip | None, filtered: Filtered) -> dict[str, Any] | None:
    """Say how the round trip was made, or None where it was not."""
    if round_trip is None:
        return None
    firsts = sum(trip.rank == 1 for trip in filtered.trips.values())
    return {
        "top_k": round_trip.top_k,
        "similarity": round_trip.similarity,
        "encoder": round_trip.encoder.name,
        "found_first": firsts,
        "possible_false_negatives": sum(len(trip.above) for trip in filtered.trips.values()),
    }


def _main_reason(filtered: Filtered, failures: list[Answer]) -> str:
    """Name what happened most."""
    counts = {reason: count for reason, count in filtered.counts().items() if count}
    if counts:
        reason = max(counts, key=lambda name: counts[name])
        return f"most were dropped as {reason!r} ({counts[reason]})"
    return f"the last failure was {failures[-1].failure!r}" if failures else "nothing was asked"
