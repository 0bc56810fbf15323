"""The index as it is served: recall@10 of HNSW and IVF for raw and for adapted queries.

Fits a default adapter on every set (`trimtab fit`, seed 0), builds both indexes over the set's
documents with FAISS on one thread, and sweeps their search parameter with the test queries. An
index is served here as somebody would who tuned it with raw queries: at the least power of two
with which they find 95 % of what exact search finds.

Models and indexes are kept in `.work/`; delete it to fit again.
"""

import os

os.environ["OMP_NUM_THREADS"] = os.environ["OPENBLAS_NUM_THREADS"] = "1"

import argparse
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

import faiss
import msgspec
import numpy as np

from benchmarks.record import run_measured, write_results
from trimtab.model.adapter import Adapter
from trimtab_training.data.dataset import Dataset
from trimtab_training.embeddings.store import Embeddings, write_ids
from trimtab_training.evaluation.ann_recall import SweepPoint, sweep_index
from trimtab_training.retrieval.exact_search import search

HERE = Path(__file__).resolve().parent
SETS = ("scifact", "hpo_lay", "tldr_pages")
SERVED_RECALL = 0.95
EF_CONSTRUCTION = 100


def fit(dataset: Path, model: Path) -> None:
    command = Path(sys.executable).with_name("trimtab")
    run_measured(
        [
            str(command), "fit", str(dataset), "--embeddings", str(dataset / "embeddings"),
            "-o", str(model),
        ]
    )  # fmt: skip


def build(kind: str, vectors: np.ndarray) -> faiss.Index:
    index = faiss.index_factory(vectors.shape[1], kind, faiss.METRIC_INNER_PRODUCT)
    if kind.startswith("HNSW"):
        index.hnsw.efConstruction = EF_CONSTRUCTION
    index.train(vectors)
    index.add(vectors)
    return index


def serve_at(index: faiss.Index, value: int, path: Path) -> None:
    faiss.ParameterSpace().set_index_parameter(
        index, "nprobe" if isinstance(index, faiss.IndexIVF) else "efSearch", value
    )
    faiss.write_index(index, str(path))


def tuned_value(points: list[SweepPoint]) -> int:
    """Give the least power of two at which raw queries find enough."""
    return min(
        point.value
        for point in points
        if point.value.bit_count() == 1 and point.raw.recall >= SERVED_RECALL
    )


def measure(dataset: Path, work: Path) -> list[dict[str, object]]:
    model = work / dataset.name
    if not (model / "evaluation.json").exists():
        fit(dataset, model)
    embeddings = Embeddings.open(dataset / "embeddings")
    documents = embeddings.documents
    raw = embeddings.queries.take_ids(list(Dataset.load(dataset).split("test")))
    adapted = Adapter.load(model).transform(raw)
    nearest = {
        name: float(search(queries, documents, depth=1, similarity="cosine")[1].mean())
        for name, queries in (("raw", raw), ("adapted", adapted))
    }
    path, ids = work / f"{dataset.name}.faiss", work / f"{dataset.name}.ids"
    write_ids(ids, documents.ids)
    vectors = documents.take(range(len(documents)))
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    cells = []
    for kind in ("HNSW16", f"IVF{round(len(vectors) ** 0.5)},Flat"):
        index = build(kind, vectors)
        serve_at(index, index.nprobe if kind.startswith("IVF") else index.hnsw.efSearch, path)
        untuned = sweep_index(f"faiss:{path}?ids={ids}", raw, adapted, documents, "cosine")
        serve_at(index, tuned_value(untuned.points), path)
        sweep = sweep_index(f"faiss:{path}?ids={ids}", raw, adapted, documents, "cosine")
        found = msgspec.to_builtins(sweep)
        del found["index"]
        cells.append(
            {
                "dataset": dataset.name,
                "factory": kind,
                "default_value": untuned.served_value,
                "mean_cosine_to_nearest": nearest,
                **found,
            }
        )
        show(cells[-1])
    return cells


def show(cell: dict[str, object]) -> None:
    print(
        f"{cell['dataset']} {cell['factory']}: at {cell['parameter']} {cell['served_value']} raw "
        f"{cell['raw_recall_at_served']:.4f}, adapted {cell['adapted_recall_at_served']:.4f}; "
        f"restored at {cell['restores']}",
        flush=True,
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, required=True, help="folder of dataset folders")
    parser.add_argument("--only", action="append", choices=SETS, help="may be repeated")
    options = parser.parse_args()
    work = HERE / ".work"
    work.mkdir(exist_ok=True)
    names = [name for name in SETS if not options.only or name in options.only]
    missing = [name for name in names if not (options.data / name / "qrels").is_dir()]
    if missing:
        parser.error(f"no {', '.join(missing)} in {options.data}; set SHARED=FOLDER")
    cells = [cell for name in names for cell in measure(options.data / name, work)]
    if options.only:
        print("a part of the sets: nothing written")
        return
    settings = {"served_recall": SERVED_RECALL, "ef_construction": EF_CONSTRUCTION, "fit_seed": 0}
    print(f"wrote {write_results(HERE, {**settings, 'cells': cells}).name}")


if __name__ == "__main__":
    main()
