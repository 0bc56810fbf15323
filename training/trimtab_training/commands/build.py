"""`trimtab build`: every model that has a recipe, as `make export` does."""

from pathlib import Path

import click

from trimtab_training.commands.options import PATH


@click.command()
@click.argument("folder", type=PATH, default=Path("models"))
@click.option("--demo-data", type=PATH, default=Path("demo"), show_default=True, hidden=True)
@click.option("--force", is_flag=True, help="Build models that are up to date, too.")
@click.option("--device", default="cpu", show_default=True, help="cpu, cuda or mps.")
def build(folder: Path, demo_data: Path, force: bool, device: str) -> None:
    """Build every model that has a recipe.

    A model is a folder FOLDER/NAME with a recipe.toml; FOLDER is `models` by default. Models that
    are up to date are left alone.
    """
    from trimtab_training.build_options import BuildOptions
    from trimtab_training.commands.screen import progress_bar, results, talk
    from trimtab_training.data.dataset import Dataset
    from trimtab_training.demo import open_demo_set
    from trimtab_training.embeddings.missing_labels import keep_embedded
    from trimtab_training.embeddings.store import Embeddings
    from trimtab_training.evaluation.per_query import HEADLINE
    from trimtab_training.fit.recipe import load_model_recipe
    from trimtab_training.pipeline import build_model

    paths = sorted(folder.glob("*/recipe.toml"))
    if not paths:
        raise click.ClickException(f"no {folder}/NAME/recipe.toml; copy models/hpo-lay as a start")
    for path in paths:
        recipe = load_model_recipe(path)
        with progress_bar(percent=True) as show:
            if recipe.embeddings is None:
                data, vectors = open_demo_set(recipe.dataset, demo_data, progress=show)
            else:
                split_by = recipe.fit.split_by
                data = Dataset.load(recipe.dataset, split_by=split_by).for_fit(split_by)
                vectors = Embeddings.open(recipe.embeddings)
            target = path.parent
            used, _ = keep_embedded(data, vectors, recipe.fit.max_dropped)
            wanted = {
                "labels": used.content_hash(),
                "vectors": vectors.content_hash(),
                "seed": recipe.seed,
                "recipe": recipe.fit.settle(vectors).as_dict(),
            }
            if not force and _is_up_to_date(target, recipe.name, wanted):
                talk.print(f"{target} is up to date")
                continue
            built = build_model(
                data,
                vectors,
                target,
                recipe.fit,
                BuildOptions(
                    name=recipe.name,
                    seed=recipe.seed,
                    device=device,
                    resume="if_same",
                    tell=talk.print,
                ),
                on_stage=lambda stage: show(stage, 0, None),
                progress=lambda done, total: show("fitting", done, total),
            )
        headline = built.evaluation.metrics[HEADLINE]
        results.print(
            f"{target}: nDCG@10 {headline.base:.4f} -> {headline.adapted:.4f}, "
            f"{'made ' + str(built.file) if built.file else 'no adapter helps, no model written'}"
        )


def _is_up_to_date(folder: Path, name: str, made_from: dict[str, object]) -> bool:
    """Tell whether a fit of this is on record, and the file that it made is still the one there.

    Args:
        folder: The model's folder.
        name: The name that it is to have.
        made_from: Labels, vectors, seed and recipe that are wanted.
    """
    from trimtab.model.onnx_file import check_model
    from trimtab_training.evaluation.record import record_beside
    from trimtab_training.export.provenance import describe_file
    from trimtab_training.model_files import MODEL

    found = record_beside(folder, made_from)
    if found.fit is None or not found.fit.helps:
        return found.fit is not None
    file = folder / MODEL
    content = file.read_bytes() if file.is_file() else b""
    return describe_file(content) == found.model and check_model(content).manifest.name == name
