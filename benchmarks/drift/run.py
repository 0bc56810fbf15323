"""Drift: which share of a set's own new queries counts as far, and which of other sets' queries.

Every set in turn is the training set; the test queries of all sets are asked. What ships
(``trimtab_training.fit.query_region``, asked through ``trimtab.model.query_region``) fills the
table. Beside it stand the designs that it was chosen from, cross-fitted in the same way:

- mean: one centroid, the plain mean direction;
- k-means: 4 to 32 centroids, those of a few queries dropped;
- nearest: every training query kept, which no model file could hold.

The time is that of one query, in turns with the product of one linear adapter of the same width.
"""

import os

os.environ["OMP_NUM_THREADS"] = os.environ["OPENBLAS_NUM_THREADS"] = "1"

import argparse
import sys
import time
from collections.abc import Callable, Iterable
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

import faiss
import numpy as np

from benchmarks.record import write_results
from trimtab.model.manifest import QueryRegion
from trimtab.model.query_region import Region
from trimtab_training.data.dataset import Dataset
from trimtab_training.embeddings.store import Embeddings, VectorTable
from trimtab_training.fit.query_region import find_query_region

SEEDS = 3
FOLDS = 5
MOST_QUERIES = 5000  # of a set, for the designs: nearest costs their square
SHARES = (0.01, 0.05)
DIMS = (384, 768, 1536, 3072)
CALLS = 2000
ROUNDS = 15

Score = Callable[[np.ndarray], np.ndarray]
Fit = Callable[[np.ndarray, int], Score]


def nearest_of(rows: np.ndarray) -> Score:
    return lambda queries: np.concatenate(
        [(queries[at : at + 1000] @ rows.T).max(axis=1) for at in range(0, len(queries), 1000)]
    )


def k_means(k: int) -> Fit:
    def fit(vectors: np.ndarray, seed: int) -> Score:
        found = faiss.Kmeans(
            vectors.shape[1], k, niter=20, spherical=True, seed=seed, min_points_per_centroid=1
        )
        found.train(vectors)
        nearest = (vectors @ found.centroids.T).argmax(axis=1)
        return nearest_of(found.centroids[np.bincount(nearest, minlength=k) >= 8])

    return fit


def mean(vectors: np.ndarray, _seed: int) -> Score:
    middle = vectors.mean(axis=0, keepdims=True)
    return nearest_of(middle / np.linalg.norm(middle))


DESIGNS: dict[str, Fit] = {
    "mean": mean,
    **{f"k-means, {k}": k_means(k) for k in (4, 8, 16, 32)},
    "nearest": lambda vectors, _seed: nearest_of(vectors),
}


def unit(vectors: np.ndarray) -> np.ndarray:
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


def shares_of(fit: Fit, train: np.ndarray, tests: list[np.ndarray], seed: int) -> list[list[float]]:
    """Give the share of far queries by test set, for each threshold."""
    rows = np.random.default_rng(seed).permutation(len(train))[:MOST_QUERIES]
    vectors = train[rows]
    fold_of = np.arange(len(vectors)) % FOLDS
    held_out = np.empty(len(vectors))
    for fold in range(FOLDS):
        held_out[fold_of == fold] = fit(vectors[fold_of != fold], seed)(vectors[fold_of == fold])
    score = fit(vectors, seed)
    found = [score(test) for test in tests]
    return [
        [
            float(np.mean(scores < np.quantile(held_out, share, method="weibull")))
            for scores in found
        ]
        for share in SHARES
    ]


def by_name(names: Iterable[str], values: np.ndarray) -> dict[str, float]:
    return dict(zip(names, values.round(4).tolist(), strict=True))


def compare_designs(sets: dict[str, dict[str, np.ndarray]]) -> list[dict[str, object]]:
    tests = [part["test"] for part in sets.values()]
    is_own = np.eye(len(sets), dtype=bool)
    rows: list[dict[str, object]] = []
    for name, fit in DESIGNS.items():
        found = np.array(
            [
                [shares_of(fit, part["train"], tests, seed) for part in sets.values()]
                for seed in range(SEEDS)
            ]
        )  # seed, training set, threshold, test set
        for at, share in enumerate(SHARES):
            table = found[:, :, at]
            others = table[:, ~is_own]
            rows.append(
                {
                    "design": name,
                    "share": share,
                    "own": by_name(sets, table.mean(axis=0)[is_own]),
                    "others_mean": round(float(others.mean()), 4),
                    "others_mean_spread": round(float(np.ptp(others.mean(axis=1))), 4),
                    "others_least": round(float(others.mean(axis=0).min()), 4),
                }
            )
            print(f"{name}, {share:.0%}: {others.mean():.3f} of others' queries far", flush=True)
    return rows


def measure_shipped(tables: dict[str, tuple[VectorTable, Dataset]]) -> list[dict[str, object]]:
    tests = {
        name: table.take_ids(list(dataset.split("test")))
        for name, (table, dataset) in tables.items()
    }
    rows = []
    for name, (table, dataset) in tables.items():
        query_ids = list(dataset.split("train"))
        far = []
        for seed in range(SEEDS):
            started = time.monotonic()
            record = find_query_region(table, query_ids, seed=seed)
            seconds = time.monotonic() - started
            if record is None:
                raise SystemExit(f"{name} has {len(query_ids)} training queries, too few")
            region = Region(record)
            far.append([float(np.mean(region.is_far(test))) for test in tests.values()])
        rows.append(
            {
                "trained_on": name,
                "n_queries": len(query_ids),
                "n_centroids": record.n_centroids,
                "threshold": round(record.threshold, 4),
                "seconds": round(seconds, 2),
                "far": by_name(tests, np.mean(far, axis=0)),
                "spread_over_seeds": by_name(tests, np.ptp(far, axis=0)),
            }
        )
        print(name, rows[-1]["far"], flush=True)
    return rows


def time_one_query(dim: int) -> dict[str, object]:
    rng = np.random.default_rng(dim)
    record = QueryRegion.pack(
        unit(rng.standard_normal((16, dim))).astype(np.float32), threshold=0.3, share=0.01
    )
    region = Region(record)
    query = unit(rng.standard_normal((1, dim))).astype(np.float32)
    weight = rng.standard_normal((dim, dim)).astype(np.float32)
    calls = {"is_far": lambda: region.is_far(query), "linear_product": lambda: query @ weight}
    times: dict[str, list[float]] = {name: [] for name in calls}
    for _ in range(ROUNDS):
        for name, call in calls.items():
            started = time.perf_counter()
            for _ in range(CALLS):
                call()
            times[name].append((time.perf_counter() - started) / CALLS * 1e6)
    middle = {f"{name}_us": round(float(np.median(taken)), 2) for name, taken in times.items()}
    return {
        "dim": dim,
        **middle,
        "over_linear_product": round(middle["is_far_us"] / middle["linear_product_us"], 3),
        "stored_bytes": len(record.centroids),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--data", type=Path, required=True, help="folder of dataset folders")
    options = parser.parse_args()
    folders = sorted(path.parent for path in options.data.glob("*/qrels"))
    if len(folders) < 2:
        parser.error(f"fewer than two dataset folders in {options.data}; set SHARED=FOLDER")
    tables = {
        folder.name: (Embeddings.open(folder / "embeddings").queries, Dataset.load(folder))
        for folder in folders
    }
    timed = [time_one_query(dim) for dim in DIMS]
    shipped = measure_shipped(tables)
    sets = {
        name: {
            split: unit(table.take_ids(list(dataset.split(split)))) for split in ("train", "test")
        }
        for name, (table, dataset) in tables.items()
    }
    path = write_results(
        Path(__file__).resolve().parent,
        {
            "seeds": SEEDS,
            "one_query": timed,
            "shipped": shipped,
            "designs": compare_designs(sets),
        },
    )
    print(f"wrote {path.name}")


if __name__ == "__main__":
    main()
