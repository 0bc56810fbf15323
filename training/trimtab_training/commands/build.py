"""`trimtab build`: every model that has a recipe, as `make export` does."""

from pathlib import Path
from typing import NamedTuple

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
    are up to date are left alone. One that can't be built keeps no other from it.
    """
    from trimtab.errors import SidecarError
    from trimtab_training.commands.screen import results, talk
    from trimtab_training.errors import TrainingError

    paths = sorted(folder.glob("*/recipe.toml"))
    if not paths:
        raise click.ClickException(f"no {folder}/NAME/recipe.toml; copy models/hpo-lay as a start")
    failed = []
    for path in paths:
        try:
            done = _build(path, demo_data, device, force=force)
        except (TrainingError, SidecarError) as error:
            talk.print(f"{path}: {error}")
            failed.append(str(path))
        else:
            (results if done.is_new else talk).print(done.text)
    if failed:
        raise click.ClickException(
            f"{len(failed)} of {len(paths)} models could not be built: {', '.join(failed)}"
        )


class _Done(NamedTuple):
    """What became of a recipe: a model, or the one that there was."""

    text: str
    is_new: bool


def _build(path: Path, demo_data: Path, device: str, *, force: bool) -> _Done:
    """Build the model of one recipe, unless it is up to date.

    Raises:
        TrainingError: It can't be built.
        trimtab.errors.SidecarError: Likewise.
    """
    from trimtab_training.build_options import BuildOptions
    from trimtab_training.commands.screen import progress_bar, talk
    from trimtab_training.data.dataset import Dataset
    from trimtab_training.demo import open_demo_set
    from trimtab_training.embeddings.missing_labels import keep_embedded
    from trimtab_training.embeddings.store import Embeddings
    from trimtab_training.evaluation.per_query import HEADLINE
    from trimtab_training.fit.recipe import load_model_recipe
    from trimtab_training.pipeline import build_model

    recipe, target = load_model_recipe(path), path.parent
    with progress_bar(percent=True) as show:
        if recipe.embeddings is None:
            data, vectors = open_demo_set(recipe.dataset, demo_data, progress=show)
        else:
            split_by = recipe.fit.split_by
            data = Dataset.load(recipe.dataset, split_by=split_by).for_fit(split_by)
            vectors = Embeddings.open(recipe.embeddings)
        used, _ = keep_embedded(data, vectors, recipe.fit.max_dropped)
        wanted = {
            "labels": used.content_hash(),
            "vectors": vectors.content_hash(),
            "seed": recipe.seed,
            "recipe": recipe.fit.settle(vectors).as_dict(),
        }
        if not force and _is_up_to_date(target, recipe.name, wanted):
            return _Done(f"{target} is up to date", is_new=False)
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
    made = f"made {built.file}" if built.file else "no adapter helps, no model written"
    text = f"{target}: nDCG@10 {headline.base:.4f} -> {headline.adapted:.4f}, {made}"
    return _Done(text, is_new=True)


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
