"""`trimtab fit DATASET --embeddings EMB -o models/NAME`: fit, choose, evaluate, export."""

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from trimtab_training.commands.options import PATH, SEED, FiniteRange

if TYPE_CHECKING:
    from trimtab_training.data.dataset import Dataset
    from trimtab_training.embeddings.local_encoder import LocalEncoder
    from trimtab_training.embeddings.store import Embeddings
    from trimtab_training.fit.checkpoint import Resume
    from trimtab_training.fit.recipe import Recipe
    from trimtab_training.pipeline import BuiltModel


@click.command()
@click.argument("dataset", type=PATH)
@click.option("--embeddings", type=PATH, required=True, help="Embeddings folder of the dataset.")
@click.option("-o", "--output", type=PATH, required=True, help="Model folder: models/NAME.")
@click.option("--recipe", type=PATH, help="TOML file of knobs.  [default: docs/recipe.md]")
@click.option(
    "--max-dropped",
    type=FiniteRange(0, 1),
    metavar="SHARE",
    help="Share of the labels that may name what has no vector; they are left out.  [default: the "
    "recipe's, 0.1]",
)
@click.option("--resume", is_flag=True, help="Continue an interrupted fit: the default.")
@click.option(
    "--fresh",
    is_flag=True,
    help="Remove an interrupted fit and start over; with --resume, only where its settings or data "
    "were others.",
)
@click.option(
    "--from", "start_from", type=PATH, help="Model folder to start from, instead of the identity."
)
@click.option(
    "--from-unseen",
    is_flag=True,
    help="Vouch that the start was trained on none of these queries.  [default: told by what "
    "stands beside it]",
)
@click.option(
    "--use",
    type=click.Choice(["relevance", "migration"]),
    help="migration: queries of another encoder than the documents'.  [default: by the widths]",
)
@click.option("--seed", type=SEED, default=0, show_default=True, help="Seed of every choice.")
@click.option("--device", default="cpu", show_default=True, help="cpu, cuda or mps.")
@click.option(
    "--allow-identity", is_flag=True, help="Where no adapter helps, write one that does nothing."
)
@click.option(
    "--encoder",
    metavar="FOLDER",
    help="With --tune-encoder: the sentence-transformers folder that gave the query vectors, or "
    "'minilm'.",
)
@click.option(
    "--tune-encoder",
    type=click.Choice(["lora", "all"]),
    help="Tune the encoder of queries, too, documents frozen: by low-rank additions, or whole "
    "layers. Takes minutes to hours.",
)
@click.option(
    "--corpus-queries",
    type=click.Choice(["none", "titles", "sentences"]),
    default="none",
    show_default=True,
    help="With --tune-encoder: what of a document is a training query for it, besides.",
)
@click.option(
    "--index", metavar="faiss:PATH", help="Approximate index that is searched: report its recall."
)
@click.option(
    "--size-curve", is_flag=True, help="Fit with fewer training queries, too, and report the gains."
)
def fit(
    dataset: Path,
    embeddings: Path,
    output: Path,
    recipe: Path | None,
    start_from: Path | None,
    tune_encoder: str | None,
    **options: Any,
) -> None:
    """Fit the best adapter for DATASET, prove it, and export it.

    Where no adapter helps, says so and writes no model. Interrupted, it continues when it is run
    again with the same settings and data.
    """
    from trimtab_training.build_options import BuildOptions
    from trimtab_training.commands.screen import progress_bar, talk
    from trimtab_training.data.dataset import Dataset
    from trimtab_training.data.training_digest import TrainedOn
    from trimtab_training.embeddings.store import Embeddings, said_use
    from trimtab_training.export.model_folder import load_checkpoint
    from trimtab_training.fit.recipe import Recipe, load_recipe
    from trimtab_training.pipeline import build_model

    encoder, corpus_queries = options.pop("encoder"), options.pop("corpus_queries")
    _check_tuning(encoder, tune_encoder, corpus_queries, start_from)
    knobs = load_recipe(recipe) if recipe else Recipe()
    use = options.pop("use")
    if (max_dropped := options.pop("max_dropped")) is not None:
        knobs = replace(knobs, max_dropped=max_dropped)
    data = Dataset.load(dataset, split_by=knobs.split_by).for_fit(knobs.split_by)
    _tell_unread(dataset)
    with talk.status("reading vectors"):
        vectors = Embeddings.open(embeddings)
    opened = None if tune_encoder is None else _open_encoder(encoder, vectors, options["device"])
    if knobs.use == "auto":
        knobs = replace(knobs, use=said_use(embeddings))
    started, trained_before = None, None
    if start_from:
        started, manifest = load_checkpoint(start_from)
        trained_before = TrainedOn.find(start_from, manifest.training, data)
        _tell_of_lost_look(start_from, knobs)
        if knobs.use == "auto":
            knobs = replace(knobs, use=manifest.use)  # type: ignore[arg-type]  # it is one of them
    if use:
        knobs = replace(knobs, use=use)
    resume = _what_becomes_of_old_work(options.pop("resume"), options.pop("fresh"))
    with progress_bar(percent=True) as show:
        built = build_model(
            data,
            vectors,
            output,
            knobs,
            BuildOptions(
                start_from=started,
                start_name=str(start_from or ""),
                start_trained_on=trained_before,
                resume=resume,
                keeps_work=opened is not None,
                also=_tuning_options(encoder, tune_encoder, corpus_queries),
                tell=talk.print,
                **options,
            ),
            on_stage=lambda stage: show(stage, 0, None),
            progress=lambda done, total: show("fitting", done, total),
        )
    _show(built)
    if opened is not None:
        settings = {"method": tune_encoder, "corpus_queries": corpus_queries, "resume": resume}
        settings |= {"seed": options["seed"], "device": options["device"]}
        _tune(data, vectors, built, opened, settings)


def _tell_of_lost_look(start_from: Path, recipe: "Recipe") -> None:
    """Say that the start has a second look, where none is asked for."""
    from trimtab.model.second_look import SecondLookRecord
    from trimtab_training.commands.screen import talk
    from trimtab_training.export.model_folder import load_second_look

    if (look := load_second_look(start_from)) is not None and not recipe.rescore:
        talk.print(
            f"{start_from} has a second look, and the new model will have none: it is trained anew "
            f"where the recipe says 'rescore = {SecondLookRecord.from_json(look).depth}'"
        )


def _tell_unread(dataset: Path) -> None:
    """Name the files beside the labels that are not read."""
    from trimtab_training.commands.screen import talk
    from trimtab_training.data.qrels import unread_files

    if unread := unread_files(dataset / "qrels"):
        talk.print(f"not read in {dataset}: {', '.join(f'qrels/{one.name}' for one in unread)}")


def _check_tuning(
    encoder: str | None, method: str | None, corpus_queries: str, start_from: Path | None
) -> None:
    """Refuse options of a tuning that do not go together."""
    if (encoder is None) != (method is None):
        raise click.UsageError("--encoder and --tune-encoder go together: which, and how")
    if method is None and corpus_queries != "none":
        raise click.UsageError("--corpus-queries goes with --tune-encoder")
    if method is not None and start_from is not None:
        raise click.UsageError("--tune-encoder starts at the untouched encoder; leave out --from")


def _tuning_options(
    encoder: str | None, method: str | None, corpus_queries: str
) -> dict[str, object]:
    """Give the options of a tuning as the command has them; none without one."""
    if method is None:
        return {}
    given = None if corpus_queries == "none" else corpus_queries
    return {"--encoder": encoder, "--tune-encoder": method, "--corpus-queries": given}


def _open_encoder(encoder: str, vectors: "Embeddings", device: str) -> "LocalEncoder":
    """Open the encoder of the queries, as it was used for their vectors."""
    from trimtab_training.embeddings.local_encoder import MINILM, LocalEncoder, packaged_minilm

    info = vectors.encoder
    used: dict[str, Any] = {
        "query_prefix": info.query_prefix,
        "document_prefix": info.document_prefix,
        "max_tokens": info.max_tokens,
        "device": device,
    }
    if encoder == MINILM:
        return packaged_minilm(**used)
    return LocalEncoder(Path(encoder), name=info.name, **used)


def _tune(
    data: "Dataset",
    vectors: "Embeddings",
    built: "BuiltModel",
    encoder: "LocalEncoder",
    settings: dict[str, Any],
) -> None:
    """Tune the encoder of queries beside the model; print what came out of it."""
    from trimtab_training.commands.screen import progress_bar, results, show_tuned, talk, tell_next
    from trimtab_training.files import beside
    from trimtab_training.fit.tuning.settings import TuningSettings
    from trimtab_training.query_tuning import tune_queries

    work = beside(built.folder, "tuning")
    told = TuningSettings(workspace=work, tell=talk.print, **settings)
    with progress_bar(percent=True) as show:
        made = tune_queries(
            data,
            vectors,
            built,
            encoder,
            told,
            progress=lambda done, total: show("tuning the encoder", done, total),
        )
    results.print(made.tuned.verdict, style="bold")
    results.print(f"made {made.record}: what was tried, and what was chosen")
    tuning = made.evaluation.tuning
    if made.file is None or tuning is None or tuning.test is None:
        return
    show_tuned(tuning.test, has_adapter=built.file is not None)
    size = made.file.stat().st_size / 1e6
    results.print(
        f"made {made.file} ({size:.1f} MB) in {made.tuned.seconds:.0f} s: text in, query out; "
        f"{built.report} shows both"
    )
    tell_next("trimtab", "inspect", made.file)


def _show(built: "BuiltModel") -> None:
    """Print what came out of it, and what was made."""
    from trimtab_training.commands.screen import results, show_evaluation, talk, tell_next

    talk.print(built.fit.verdict)
    if built.fit.second_look:
        talk.print(built.fit.second_look.verdict)
    show_evaluation(built.evaluation)
    results.print(built.verdict.sentence, style="bold")
    if built.file is None:
        results.print(f"no model written; {built.report} says why")
        return
    size = built.file.stat().st_size / 1e6
    results.print(f"made {built.file} ({size:.2f} MB) in {built.fit.seconds:.0f} s")
    results.print(f"made {built.report}: the proof, to read in a browser and to show")
    tell_next("trimtab", "inspect", built.folder)


def _what_becomes_of_old_work(is_resumed: bool, is_fresh: bool) -> "Resume":
    """Read the two options: an interrupted fit is not removed unless somebody says so."""
    if not is_fresh:
        return "must_match"
    return "if_same" if is_resumed else "never"
