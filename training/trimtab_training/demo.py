"""The demo's data, made once: the built-in dataset, its vectors, and a FAISS index of them."""

import os
from collections.abc import Callable
from pathlib import Path

from trimtab_training.data.dataset import Dataset
from trimtab_training.data.hpo_lay import NAME, write_demo_dataset
from trimtab_training.embeddings.embed import embed_dataset
from trimtab_training.embeddings.local_encoder import packaged_minilm
from trimtab_training.embeddings.store import Embeddings, write_ids
from trimtab_training.errors import ConfigError, DataError
from trimtab_training.files import beside, swap_folder
from trimtab_training.lock import locked
from trimtab_training.model_files import MODEL

Progress = Callable[[str, int, int | None], None]


def open_demo_set(
    name: str,
    folder: Path,
    *,
    n_terms: int | None = None,
    progress: Progress = lambda _what, _done, _all: None,
) -> tuple[Dataset, Embeddings]:
    """Open the built-in set, making what is not there yet.

    Args:
        name: ``demo:hpo-lay``.
        folder: Where built-in sets are kept.
        n_terms: Only so many terms, for a quick look; all by default.
        progress: Called while embedding, after every batch.

    Raises:
        ConfigError: There is no such set, or the demo extra is not installed.
        DataError: Another run makes it.
    """
    if name != f"demo:{NAME}":
        raise ConfigError(f"no built-in dataset {name!r}; there is demo:{NAME}")
    place = folder / (NAME if n_terms is None else f"{NAME}-{n_terms}")
    with locked(place, "wait for it, or choose another --data"):
        return _make_demo_set(place, n_terms, progress)


def _make_demo_set(
    place: Path, n_terms: int | None, progress: Progress
) -> tuple[Dataset, Embeddings]:
    """Open the set in a place that is held for this run alone."""
    if not place.is_dir():
        partial = beside(place, "partial")
        write_demo_dataset(partial, n_terms)
        swap_folder(partial, place)
    dataset = Dataset.load(place)
    try:
        return dataset, Embeddings.open(place / "embeddings")
    except DataError:
        progress("loading", 0, None)  # the encoder's packages take seconds to import
        embed_dataset(dataset, packaged_minilm(), place / "embeddings", progress=progress)
        return dataset, Embeddings.open(place / "embeddings")


def write_faiss_index(embeddings: Embeddings, path: Path) -> None:
    """Write a FAISS index of the document vectors as they are, with their ids beside it."""
    import faiss

    index = faiss.IndexFlatIP(embeddings.documents.dim)
    for _, block in embeddings.documents.blocks():
        index.add(block)
    partial = path.with_name(path.name + ".partial")
    faiss.write_index(index, str(partial))
    write_ids(path.with_suffix(".ids"), embeddings.documents.ids)
    partial.replace(path)


def write_sidecar_settings(path: Path, dataset: Dataset, index: Path, model: Path) -> None:
    """Write settings that serve the demo's index as a Qdrant collection, its queries adapted.

    Args:
        path: Where to write them; paths in them are relative to its folder.
        dataset: The built-in set.
        index: Its FAISS index.
        model: The model's folder; where it has no adapter, there is no route.
    """
    places = {
        "index": index,
        "ids": index.with_suffix(".ids"),
        "payload": dataset.folder / "corpus.jsonl",
    }
    lines = [
        "# trimtab serve -c THIS: the demo's index as a Qdrant collection, without Qdrant",
        "[listen]",
        'rest = "127.0.0.1:6333"',
        "",
        "[[collection]]",
        f'name = "{NAME}"',
        *(f'{key} = "{_relative(place, path.parent)}"' for key, place in places.items()),
    ]
    if (model / MODEL).is_file():
        lines += ["", "[[route]]", f'collection = "{NAME}"']
        lines += [f'adapter = "{_relative(model, path.parent)}"']
    partial = path.with_name(path.name + ".partial")
    partial.write_text("\n".join(lines) + "\n", encoding="utf-8")
    partial.replace(path)


def _relative(path: Path, folder: Path) -> str:
    """Write a path as seen from a folder, with slashes."""
    return Path(os.path.relpath(path, folder)).as_posix()
