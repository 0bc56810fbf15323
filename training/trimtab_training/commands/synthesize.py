"""`trimtab synthesize CORPUS -o DATASET`: queries for documents, written by an LLM."""

import json
import os
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from trimtab_training.commands.options import PATH, open_encoder
from trimtab_training.commands.synthesize_options import (
    corpus_options,
    dataset_options,
    filter_options,
    model_options,
    writing_options,
)

if TYPE_CHECKING:
    from trimtab_training.embeddings.encoders import Encoder
    from trimtab_training.embeddings.store import VectorTable
    from trimtab_training.synthesis.endpoint import LlmSettings
    from trimtab_training.synthesis.round_trip import RoundTrip
    from trimtab_training.synthesis.run import Job, Plan

_DEFAULT_STYLES = ("question", "keywords", "layperson")


@click.command()
@click.argument("corpus", type=PATH)
@click.option("-o", "--output", type=PATH, required=True, help="The dataset folder to make.")
@model_options
@writing_options
@corpus_options
@filter_options
@dataset_options
@click.option(
    "--kept", type=PATH, help="Folder of answers that were paid for.  [default: DATASET.kept]"
)
@click.option(
    "--only-kept", is_flag=True, help="Ask nothing; make the dataset from the answers kept so far."
)
@click.option(
    "--dry-run", is_flag=True, help="Show what would be asked and what it costs; ask nothing."
)
@click.option("--json", "as_json", is_flag=True, help="Print the summary as one JSON object.")
def synthesize(corpus: Path, as_json: bool, dry_run: bool, only_kept: bool, **options: Any) -> None:
    """Write queries for the documents of CORPUS with an LLM.

    CORPUS is a BEIR folder or a corpus.jsonl; the result is a dataset for `trimtab embed` and
    `fit`. Every answer is kept the moment it comes: interrupted, or after failures, the same
    command goes on and pays for nothing twice.
    """
    from trimtab_training.synthesis.endpoint import LlmSettings

    job = _job(corpus, options)
    settings = LlmSettings(
        base_url=options["base_url"],
        api=options["api"],
        api_key=os.environ.get(options["key_variable"], "").strip() or None,
        timeout_s=options["timeout"],
        retries=options["retries"],
        concurrency=options["concurrency"],
    )
    with _held(job, is_written=not dry_run or options["documents"] is not None):
        plan, round_trip = _prepare(job, options, needs_encoder=not dry_run)
        if dry_run:
            _show_dry_run(plan, as_json)
            return
        summary = _write(plan, None if only_kept else settings, round_trip)
    _show_summary(summary, job, as_json)


@contextmanager
def _held(job: "Job", *, is_written: bool) -> Iterator[None]:
    """Keep a second run out of both folders, so that nobody pays twice or for nothing."""
    from trimtab_training.lock import locked

    with ExitStack() as held:
        if is_written:
            held.enter_context(locked(job.output))
            held.enter_context(locked(job.kept, "wait for it, or give this one another --kept"))
        yield


def _prepare(
    job: "Job", options: dict[str, Any], *, needs_encoder: bool
) -> "tuple[Plan, RoundTrip | None]":
    """Choose documents, say what writing for them costs, and open what the round trip needs."""
    from trimtab_training.commands.screen import progress_bar, talk
    from trimtab_training.synthesis.round_trip import RoundTrip
    from trimtab_training.synthesis.run import make_plan

    with progress_bar() as show:
        documents = _stored_vectors(job, options, show)
    encoder = _encoder(documents, options) if needs_encoder else None
    with talk.status("reading documents"):
        plan = make_plan(job, documents)
    _show_plan(plan, options)
    if encoder is None or documents is None:
        return plan, None
    return plan, RoundTrip(documents, encoder, options["top_k"], options["similarity"])


def _write(
    plan: "Plan", settings: "LlmSettings | None", round_trip: "RoundTrip | None"
) -> dict[str, Any]:
    """Ask for what is missing, unless nothing may be asked, and make the dataset."""
    from trimtab_training.commands.screen import progress_bar, talk
    from trimtab_training.synthesis.run import ask_missing, build_dataset

    if plan.n_missing and settings is not None:
        with progress_bar(rate=True) as show:
            ask_missing(plan, settings, progress=show, on_interrupt=_say_interrupted)
    with progress_bar() as show:
        return build_dataset(plan, round_trip=round_trip, progress=show, tell=talk.print)


def _job(corpus: Path, options: dict[str, Any]) -> "Job":
    """Turn options into what is to be made."""
    from trimtab_training.synthesis.examples import load_examples
    from trimtab_training.synthesis.prompts import Writing
    from trimtab_training.synthesis.run import Job
    from trimtab_training.synthesis.splits import Shares

    output: Path = options["output"]
    if not output.name:
        raise click.UsageError("-o must name a folder to make, such as -o docs-written")
    examples = load_examples(options["examples"]) if options["examples"] else ()
    template = _template(options["template"])
    per_request = options["per_document"] if options["api"] == "chat" else 0
    writing = Writing(
        api=options["api"],
        model=options["model"],
        styles=_styles(options["styles"], bool(examples), template is not None),
        per_document=options["per_document"],
        language=options["language"],
        examples=examples,
        template=template,
        temperature=options["temperature"],
        max_tokens=options["max_tokens"] or (100 + 40 * per_request if per_request else 40),
        max_document_tokens=options["max_document_tokens"],
        seed=options["seed"],
        extra=_extra(options["extra"]),
    )
    return Job(
        source=corpus,
        output=output,
        kept=options["kept"] or output.with_name(f"{output.name}.kept"),
        writing=writing,
        budget=None if options["all_documents"] else options["budget"],
        real=options["real"],
        real_split=options["real_split"],
        include_held_out=options["include_held_out"],
        shares=Shares(options["dev_share"], options["test_share"]),
    )


def _styles(given: tuple[str, ...], has_examples: bool, has_template: bool) -> tuple[str, ...]:
    """Choose the styles: those given, else what examples and template suggest."""
    if "example" in given and not has_examples:
        raise click.UsageError("--style example needs --examples FILE: real queries to write like")
    chosen = tuple(dict.fromkeys(given))
    if not chosen and not has_template:
        chosen = ("example",) if has_examples else _DEFAULT_STYLES
    return (*chosen, "template") if has_template else chosen


def _template(path: Path | None) -> str | None:
    """Read the user's prompt."""
    from trimtab_training.data.plain_text import explain_unreadable
    from trimtab_training.errors import DataError

    if path is None:
        return None
    try:
        text = path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(
            f"can't read the template {path}: {explain_unreadable(path, error)}"
        ) from error
    if "{document}" not in text:
        raise DataError(f"the template {path} has no {{document}}; that is where the text goes")
    return text


def _extra(text: str | None) -> dict[str, Any] | None:
    """Read further fields of a request."""
    from trimtab.parsing import read_json

    if text is None:
        return None
    try:
        fields = read_json(text)
    except ValueError as error:
        raise click.UsageError(f"--extra is not JSON: {error}") from error
    if not isinstance(fields, dict):
        raise click.UsageError("--extra must be a JSON object, such as '{\"top_p\": 0.9}'")
    return fields


def _stored_vectors(job: "Job", options: dict[str, Any], show: Any) -> "VectorTable | None":
    """Open or copy the frozen document vectors, if there are any."""
    from trimtab.array_files import open_array
    from trimtab_training.embeddings.partial_read import forget_read
    from trimtab_training.embeddings.qdrant_source import QdrantAccess
    from trimtab_training.embeddings.store import VectorTable, check_vectors, open_documents
    from trimtab_training.embeddings.stored_documents import copy_documents
    from trimtab_training.errors import DataError

    if options["embeddings"] and options["documents"]:
        raise click.UsageError("give --embeddings or --documents, not both")
    if options["encoder"] and not (options["embeddings"] or options["documents"]):
        raise click.UsageError(
            "--encoder needs the stored vectors to search in: --embeddings or --documents"
        )
    if options["embeddings"]:
        return open_documents(options["embeddings"])
    if not options["documents"]:
        return None
    job.kept.mkdir(parents=True, exist_ok=True)
    access = QdrantAccess(os.environ.get("QDRANT_API_KEY") or None, options["upstream_path"])
    ids, _ = copy_documents(options["documents"], job.kept, access, show)
    forget_read(job.kept)
    matrix = open_array(job.kept / "documents.npy")
    try:
        check_vectors(matrix, ids, "documents")
    except DataError:
        (job.kept / "documents.npy").unlink()
        raise
    return VectorTable(ids, matrix, "documents")


def _encoder(documents: "VectorTable | None", options: dict[str, Any]) -> "Encoder | None":
    """Open the encoder for the round trip, if one is given."""
    from trimtab_training.commands.screen import talk

    if documents is None or not options["encoder"]:
        return None
    with talk.status("loading the encoder"):
        return open_encoder(
            options["encoder"],
            base_url=options["encoder_url"],
            query_prefix=options["query_prefix"],
            document_prefix="",
            device=options["device"],
        )


def _show_plan(plan: Any, options: dict[str, Any]) -> None:
    """Say what will be written, and what that takes."""
    from trimtab_training.commands.screen import talk

    how = {
        "clustered": "drawn from clusters of their vectors in turn",
        "uniform": "drawn uniformly (--embeddings or --documents makes it cover the corpus)",
    }[plan.sampling]
    talk.print(f"{len(plan.doc_ids)} of {plan.drawn_from} documents, {how}")
    if plan.left_out:
        rest = ", ".join(f"{count} {reason}" for reason, count in plan.left_out.items())
        talk.print(f"left out: {rest}")
    writing = plan.job.writing
    styles = ", ".join(writing.styles)
    talk.print(f"styles: {styles}; {writing.per_document} queries each; model {writing.model}")
    talk.print(
        f"{plan.n_requests} requests, {plan.n_kept} of them answered already; the other "
        f"{plan.n_missing} take about {plan.prompt_tokens:,} tokens of prompts and at most "
        f"{plan.most_answer_tokens:,} of answers (estimated: UTF-8 bytes over 4)"
    )
    if not options["encoder"]:
        talk.print("no round trip: that filter needs the stored vectors and --encoder")


def _show_dry_run(plan: Any, as_json: bool) -> None:
    """Show the first request instead of sending any."""
    from trimtab_training.commands.screen import results, talk

    if as_json:
        facts = {
            "documents": len(plan.doc_ids),
            "requests": plan.n_requests,
            "answered_already": plan.n_kept,
            "estimated_prompt_tokens": plan.prompt_tokens,
            "most_answer_tokens": plan.most_answer_tokens,
            "first_request": plan.first.body,
        }
        click.echo(json.dumps(facts, indent=1, ensure_ascii=False))
        return
    talk.print(f"dry run: nothing is sent. The first request of {plan.n_missing}:")
    results.print(json.dumps(plan.first.body, indent=1, ensure_ascii=False))


def _say_interrupted(under_way: int) -> None:
    """Say what a Ctrl-C does."""
    from trimtab_training.commands.screen import talk

    talk.print(
        f"stopping: waiting for {under_way} requests that are under way (Ctrl-C again drops them)"
    )


def _show_summary(summary: dict[str, Any], job: "Job", as_json: bool) -> None:
    """Print what was made, what was dropped and why, and what to do next."""
    from trimtab_training.commands.screen import results, talk, tell_next

    if as_json:
        click.echo(json.dumps(summary, indent=1, ensure_ascii=False))
        return
    _show_filters(summary["queries"])
    requests = summary["requests"]
    tokens = summary["tokens"]
    results.print(
        f"tokens paid for so far: {tokens['prompts']:,} of prompts, "
        f"{tokens['answers']:,} of answers"
    )
    for name, counts in summary["splits"].items():
        results.print(f"  {name}: {counts['synthetic']} written, {counts['real']} real")
    if requests["failed"] or requests["not_asked"]:
        results.print(
            f"{requests['failed']} requests failed and {requests['not_asked']} were not asked: "
            f"the same command tries them again; {job.output}/synthesis/failures.jsonl lists them"
        )
    results.print(f"made {job.output}")
    talk.print(summary["warning"], style="yellow")
    place = f"{job.output}.embeddings"
    after = ", with the --documents and --encoder of your index"
    tell_next("trimtab", "embed", job.output, "-o", place, after=after)


def _show_filters(queries: dict[str, Any]) -> None:
    """Print how many queries were written, kept, and dropped by which filter."""
    from trimtab_training.commands.screen import results

    results.print(f"{queries['written']} queries written, {queries['kept']} kept")
    for reason, count in queries["dropped"].items():
        if count:
            results.print(f"  {count:>6} dropped: {reason}")
    trip = queries["round_trip"]
    if trip:
        results.print(
            f"{trip['found_first']} find their document first, the others within "
            f"{trip['top_k']}; {trip['possible_false_negatives']} possible false negatives noted"
        )
    if queries["missing_in_answers"] or queries["surplus_in_answers"]:
        results.print(
            f"answers fell short of {queries['missing_in_answers']} queries, and had "
            f"{queries['surplus_in_answers']} too many"
        )
