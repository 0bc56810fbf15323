"""`trimtab demo`: the whole main job on real data, small enough for a laptop."""

import time
from pathlib import Path
from typing import TYPE_CHECKING

import click

from trimtab_training.commands.options import PATH, SEED

if TYPE_CHECKING:
    from trimtab_training.data.dataset import Dataset
    from trimtab_training.embeddings.store import Embeddings

_N_EXAMPLES = 5
_N_SHOWN = 3
_DEPTH = 100


@click.command()
@click.option(
    "-o", "--output", type=PATH, default=Path("models/hpo-lay"), show_default=True, help="Model."
)
@click.option("--data", type=PATH, default=Path("demo"), show_default=True, help="Kept data.")
@click.option(
    "--terms",
    type=click.IntRange(200),
    help="Only so many terms, for a quicker look.  [default: all 18387]",
)
@click.option("--seed", type=SEED, default=0, show_default=True, help="Seed of every choice.")
@click.option("--device", default="cpu", show_default=True, help="cpu, cuda or mps.")
def demo(output: Path, data: Path, terms: int | None, seed: int, device: str) -> None:
    """Run the whole main job on real data.

    Turns a frozen index of clinical terms towards laypeople's words.

    Takes the Human Phenotype Ontology and a small encoder from installed packages, fits an
    adapter, proves it on terms that it has not seen, exports it, and searches a FAISS index of the
    unchanged document vectors with it. Interrupted, it continues when it is run again.
    """
    from trimtab_training.build_options import BuildOptions
    from trimtab_training.commands.screen import progress_bar, results, show_evaluation, talk
    from trimtab_training.data.hpo_lay import NAME, ontology_version
    from trimtab_training.demo import open_demo_set, write_faiss_index, write_sidecar_settings
    from trimtab_training.export.model_folder import check_target
    from trimtab_training.model_files import CARD, EVALUATION, MODEL, REPORT
    from trimtab_training.pipeline import build_model

    check_target(output)
    started = time.monotonic()
    talk.print("Trimtab demo: laypeople's words find clinical terms", style="bold")
    talk.print(f"1. Human Phenotype Ontology, {ontology_version()}, embedded with all-MiniLM-L6-v2")
    with progress_bar() as show:
        dataset, embeddings = open_demo_set(f"demo:{NAME}", data, n_terms=terms, progress=show)
    embedded = time.monotonic()
    counts = ", ".join(f"{len(qrels)} {split}" for split, qrels in dataset.splits.items())
    talk.print(f"   {len(embeddings.documents)} documents, frozen; queries: {counts}")
    talk.print("2. fit, choose, export, and evaluate the exported file on the test split")
    with progress_bar(percent=True) as show:
        built = build_model(
            dataset,
            embeddings,
            output,
            options=BuildOptions(
                seed=seed, device=device, resume="if_same", allow_identity=True, tell=talk.print
            ),
            on_stage=lambda stage: show(stage, 0, None),
            progress=lambda done, total: show("fitting", done, total),
        )
    talk.print(f"   {built.fit.verdict}")
    fitted = time.monotonic()
    talk.print("3. search the unchanged vectors in FAISS, raw and through the exported adapter")
    index = dataset.folder / "documents.faiss"
    write_faiss_index(embeddings, index)
    served = dataset.folder.parent / "sidecar.toml"
    write_sidecar_settings(served, dataset, index, output)
    _show_examples(output, index, dataset, embeddings)
    results.print("\nAll test queries; none of their terms was seen in training", style="bold")
    show_evaluation(built.evaluation)
    size = (output / MODEL).stat().st_size / 1e6
    results.print(
        f"\ncost: {embedded - started:.0f} s embedding (0 next time), {fitted - embedded:.0f} s "
        f"fit, export and evaluation; {size:.2f} MB model; "
        f"{time.monotonic() - started:.0f} s in all"
    )
    results.print(f"made {output}/{MODEL}, {REPORT} (the proof), {EVALUATION} and {CARD}")
    _show_next(output, index, dataset, served)


def _show_next(output: Path, index: Path, dataset: "Dataset", served: Path) -> None:
    """Say what to type next."""
    from trimtab_training.commands.screen import talk, tell_next

    talk.print("next, on your own data (a BEIR folder; docs/guide.md shows the format):")
    talk.print("  trimtab embed DATASET -o EMB", style="bold")
    talk.print("  trimtab fit DATASET --embeddings EMB -o models/NAME", style="bold")
    talk.print("or serve this one as a Qdrant collection (any Qdrant client, 127.0.0.1:6333):")
    tell_next("trimtab", "serve", "-c", served, before="  ")
    talk.print("or search it here:")
    where = ("--index", index, "--dataset", dataset.folder)
    tell_next("trimtab", "search", output, *where, "--text", "runny nose", before="  ")


def _show_examples(model: Path, index: Path, dataset: "Dataset", embeddings: "Embeddings") -> None:
    """Show what some test queries found before and after, drawn by hash, not by success."""
    from trimtab_training.commands.screen import rank_of, results, side_by_side
    from trimtab_training.data.qrels import relevant
    from trimtab_training.data.splits import unit_hash
    from trimtab_training.evaluation.side_by_side import load_for_search, search_vectors

    test = dataset.split("test")
    drawn = sorted(test, key=lambda query: unit_hash(query, "example"))[: 4 * _N_EXAMPLES]
    texts = dataset.query_texts(drawn)
    both = search_vectors(
        load_for_search(model, index, None),
        [texts[query] for query in drawn],
        embeddings.queries.take_ids(drawn),
        _DEPTH,
    )
    wanted = [relevant(test[query]) for query in drawn]
    changed = [
        (one, meant)
        for one, meant in zip(both, wanted, strict=True)
        if rank_of(one.before, meant) != rank_of(one.after, meant)
    ][:_N_EXAMPLES]
    shown = {
        doc_id for one, _ in changed for doc_id, _ in one.before[:_N_SHOWN] + one.after[:_N_SHOWN]
    }
    names = dataset.document_texts(shown)
    results.print(
        f"\n{len(changed)} test queries whose term moved, drawn by hash (✔ the one that was meant)",
        style="bold",
    )
    for one, meant in changed:
        results.print(side_by_side(one, names, meant, n_shown=_N_SHOWN))
