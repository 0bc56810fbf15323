"""Records of evaluations, as `evaluation.json` holds them, made up for tests of what shows them."""

from typing import Any

import msgspec

from trimtab.model.manifest import EncoderCard, Manifest
from trimtab_training.evaluation.record import Evaluation

METRICS = ("ndcg@10", "mrr@10", "hit@10", "recall@100")


def make_metric(base: float, delta: float, half_width: float = 0.02) -> dict[str, Any]:
    """Make one metric with its difference."""
    return {
        "base": base,
        "adapted": base + delta,
        "delta": delta,
        "ci95": [delta - half_width, delta + half_width],
        "p_value": 0.0001 if abs(delta) > half_width else 0.7,
    }


def make_metrics(delta: float = 0.1, base: float = 0.6) -> dict[str, Any]:
    """Make every metric, all with the same difference."""
    return {name: make_metric(base, delta) for name in METRICS}


def make_example(
    number: int, *, delta: float = -0.5, query: str = "", text: str = ""
) -> dict[str, Any]:
    """Make one query that changed, with what it found."""
    documents = [
        {"doc_id": f"d{number}-{place}", "text": text or f"document {place}", "is_relevant": False}
        for place in range(6)
    ]
    documents[0]["is_relevant"] = True
    return {
        "query_id": f"q{number}",
        "query": query or f"query number {number}",
        "base": 0.5 - delta / 2,
        "adapted": 0.5 + delta / 2,
        "rank_before": 1,
        "rank_after": None,
        "relevant": documents[:1],
        "found_before": documents[:3],
        "found_after": documents[3:],
    }


def make_record(**changes: Any) -> Evaluation:
    """Make the record of a fit that helps, with every optional part; ``changes`` replace keys.

    Parts are plain JSON; an optional one that is changed to None is left out.
    """
    record = {
        "dataset": "articles",
        "split": "test",
        "n_queries": 300,
        "adapter": "docs",
        "metrics": make_metrics(0.1),
        "slices": {
            "seen_documents": {"n_queries": 200, "metrics": make_metrics(0.15)},
            "unseen_documents": {"n_queries": 100, "metrics": make_metrics(0.03)},
        },
        "wins": 102,
        "losses": 17,
        "ties": 181,
        "score_shift": _score_shift(),
        "changes": _changes(),
        "regressions": [make_example(number) for number in range(10)],
        "improvements": [make_example(number, delta=0.5) for number in range(20, 30)],
        "notes": ["2 queries have no relevant document and count as 0 on both sides"],
        "n_synthetic": 0,
        "split_is_made": False,
        "n_used": None,
        "chance_ndcg@10": 0.0,
        "latency": _latency(),
        "approximate": make_sweep(),
        "size_curve": _size_curve(),
        "fit": make_fit(),
        "model": {"file": "adapter.onnx", "size_bytes": 610_000, "sha256": f"sha256:{'ab' * 32}"},
        "verdict": {
            "decision": "ship",
            "sentence": "Ship: nDCG@10 rises from 0.600 to 0.700, and no slice shows a loss.",
            "reasons": [
                {"weight": "good", "text": "nDCG@10 rises: +0.100 (+0.080 to +0.120)"},
                {"weight": "note", "text": "a slice stays: 0.000 (-0.010 to +0.010)"},
            ],
        },
        **changes,
    }
    return msgspec.convert(record, Evaluation)


def make_fit(**changes: Any) -> dict[str, Any]:
    """Make the record of a fit."""
    curve = [{"step": 15.0 * part, "loss": 2 / part} for part in range(1, 9)]
    return {
        "verdict": "The adapter helps: nDCG@10 +0.0900 expected from 800 held-out queries.",
        "helps": True,
        "unlabelled_weight": 1.0,
        "anchor": 1.0,
        "temperature": 0.03,
        "blend": 0.75,
        "validation": {
            "on": "5 cross-fitted folds",
            "n_queries": 800,
            "base_ndcg@10": 0.6,
            "adapted_ndcg@10": 0.7444,
            "trials": [
                {"unlabelled_weight": 1.0, "anchor": 1.0, "objective": 0.1444},
                {"unlabelled_weight": 0.0, "anchor": 1.0, "objective": 0.0857, "family": "linear"},
            ],
            "families": {"linear": 0.1444, "linear+memory": 0.1512},
            "blends": {"0.0": 0.0, "0.5": 0.0801, "1.0": 0.1444},
        },
        "curves": [curve, curve[:5]],
        "sizes": [
            {
                "rank": rank,
                "size_bytes": size_bytes,
                "transform_us": us,
                "held_out_gain": 0.1444 - loss,
                "loss": loss,
                "loss_standard_error": error,
                "chosen": rank == 128,
            }
            for rank, size_bytes, us, loss, error in (
                (128, 630_000, 41.2, 0.0004, 0.0011),
                (256, 890_000, 52.9, 0.0001, 0.0006),
                (0, 1_120_000, 68.0, 0.0, 0.0),
            )
        ],
        "seconds": 34.2,
        "seed": 3,
        "dataset": "articles",
        "n_train": 809,
        "n_test": 300,
        "n_documents": 5183,
        "labels": f"sha256:{'1a' * 32}",
        "vectors": f"sha256:{'2b' * 32}",
        "recipe": {"adapter": "linear", "adapter_options": {}, "epochs": 40, "blends": [0.5, 1.0]},
        "versions": {"trimtab": "0.1.0", "torch": "2.13.0"},
        "created": "2026-11-25T01:00:00+00:00",
        "encoder": {"name": "toy", "fingerprint": "sha256:toy"},
        "command": "trimtab fit data --embeddings data/emb -o models/docs --recipe recipe.toml"
        " --seed 3",
        **changes,
    }


def make_old_fit() -> dict[str, Any]:
    """Make a fit as version 0.1 wrote it: fewer keys, and some that are gone."""
    return {
        "verdict": "The adapter helps.",
        "helps": True,
        "unlabelled_weight": 1.0,
        "anchor": 1.0,
        "blend": 0.75,
        "validation": {
            "on": "5 cross-fitted folds",
            "families": {"linear": 0.1, "linear+memory": 0.2},
            "n_queries": 800,
            "base_ndcg@10": 0.5,
            "adapted_ndcg@10": 0.6,
            "trials": [{"family": "linear", "epochs": 12, "patience": None}],
            "blends": {"0.0": 0.0, "1.0": 0.1},
        },
        "curves": [[{"loss": 1.0, "validation": 0.5}, {"loss": None}]],
        "seconds": 34.2,
        "stores_queries": True,
        "labels": "sha256:a",
        "vectors": "sha256:b",
        "seed": 0,
        "recipe": {"epochs": 3},
    }


def make_manifest() -> Manifest:
    """Make the manifest of the model."""
    fit = make_fit()
    kept = ("dataset", "labels", "vectors", "n_train", "n_test", "n_documents", "seed", "recipe")
    return Manifest(
        name="docs",
        kind="linear",
        use="relevance",
        dim_in=384,
        dim_out=384,
        similarity="cosine",
        normalised=True,
        encoder=EncoderCard("toy", "sha256:toy"),
        training={key: fit[key] for key in kept},
        versions=fit["versions"],
        created=fit["created"],
    )


def make_sweep(**changes: Any) -> dict[str, Any]:
    """Make the recall of an approximate index over its search parameter."""
    points = [
        {
            "value": value,
            "raw": {"recall@10": 1 - 1 / value, "us_per_query": 10.0 * value},
            "adapted": {"recall@10": 1 - 1.2 / value, "us_per_query": 11.0 * value},
        }
        for value in (8, 16, 19, 32, 64)
    ]
    return {
        "index": "faiss:docs.faiss",
        "kind": "HNSW",
        "type": "IndexHNSWFlat",
        "lossy": False,
        "n_vectors": 5183,
        "k": 10,
        "n_queries": 300,
        "n_queries_given": 300,
        "parameter": "efSearch",
        "served_value": 16,
        "points": points,
        "raw_recall_at_served": points[1]["raw"]["recall@10"],
        "adapted_recall_at_served": points[1]["adapted"]["recall@10"],
        "restores": 19,
        **changes,
    }


def _score_shift() -> dict[str, Any]:
    quantiles = {level: float(level) for level in ("0.05", "0.25", "0.5", "0.75", "0.95")}
    side = {"mean": 0.5, "quantiles": quantiles}
    return {rank: {"base": side, "adapted": side} for rank in ("rank_1", "rank_10")}


def _changes() -> dict[str, Any]:
    edges = [round(-1 + step / 10, 6) for step in range(21)]
    counts = [0] * 7 + [4, 6, 7] + [60, 20] + [0] * 7 + [22]
    found = {"both": 237, "only_adapted": 36, "only_base": 1, "neither": 26}
    return {
        "metric": "ndcg@10", "edges": edges, "counts": counts, "unchanged": 181, "found": found
    }  # fmt: skip


def _latency() -> dict[str, Any]:
    return {
        "dim_in": 384,
        "dim_out": 384,
        "n_calls": 2000,
        "transform_us": {"p50": 11.42, "p99": 20.9},
        "numpy_matvec_us": {"p50": 6.7, "p99": 14.1},
        "batch": {"size": 256, "queries_per_s": 108_083},
        "machine": {"processor": "a processor", "cores": 2, "system": "Linux x86_64"},
    }


def _size_curve() -> dict[str, Any]:
    gains = {50: 0.0, 100: 0.02, 250: 0.05, 809: 0.1}
    points = [
        {
            "n_train": size,
            **{key: value for key, value in make_metric(0.6, gain).items() if key != "p_value"},
            "helps": gain > 0,
        }
        for size, gain in gains.items()
    ]
    return {"sizes": list(gains), "points": points}
