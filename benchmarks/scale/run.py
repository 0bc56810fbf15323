"""A fit on 1,000,000 documents of 384 dims in float16 and 10,000 training queries: time and memory.

The vectors are made up (topics on a sphere, queries turned and blurred), so quality here says only
that training works on this scale. Peak memory is the process's resident set, mapped files included.
"""

import argparse
import json
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

import numpy as np

from benchmarks.record import run_measured, write_results

HERE = Path(__file__).resolve().parent
DIM = 384


def make_world(folder: Path, n_documents: int, n_queries: int) -> None:
    rng = np.random.default_rng(0)
    vectors = folder / "embeddings"
    vectors.mkdir(parents=True, exist_ok=True)
    (folder / "qrels").mkdir(exist_ok=True)
    topics = rng.standard_normal((2000, DIM)).astype(np.float32)
    documents = np.lib.format.open_memmap(
        vectors / "documents.npy", mode="w+", dtype=np.float16, shape=(n_documents, DIM)
    )
    for start in range(0, n_documents, 50_000):
        count = min(50_000, n_documents - start)
        block = topics[rng.integers(2000, size=count)]
        block = block + 1.2 * rng.standard_normal((count, DIM), dtype=np.float32)
        documents[start : start + count] = block / np.linalg.norm(block, axis=1, keepdims=True)
    documents.flush()
    meant = rng.choice(n_documents, size=n_queries, replace=False)
    left, _, right = np.linalg.svd(np.eye(DIM) + 2 * rng.standard_normal((DIM, DIM)) / DIM**0.5)
    queries = documents[np.sort(meant)].astype(np.float32) @ (left @ right).astype(np.float32)
    queries += 2.0 / DIM**0.5 * rng.standard_normal(queries.shape, dtype=np.float32)
    queries /= np.linalg.norm(queries, axis=1, keepdims=True)
    np.save(vectors / "queries.npy", queries.astype(np.float16))
    for name, letter, count in (("document", "d", n_documents), ("query", "q", n_queries)):
        ids = "".join(f"{letter}{row}\n" for row in range(count))
        (vectors / f"{name}_ids.txt").write_text(ids, encoding="utf-8")
    encoder = {"name": "made-up", "fingerprint": "made-up", "dim": DIM, "normalised": True}
    (vectors / "encoder.json").write_text(json.dumps(encoder), encoding="utf-8")
    rows = np.sort(meant)
    order = rng.permutation(n_queries)  # queries are in the order of their documents
    n_train = n_queries * 10 // 11
    for split, chosen in (("train", order[:n_train]), ("test", order[n_train:])):
        lines = [f"q{query}\td{rows[query]}\t1\n" for query in chosen]
        (folder / "qrels" / f"{split}.tsv").write_text(
            "query-id\tcorpus-id\tscore\n" + "".join(lines), encoding="utf-8"
        )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--documents", type=int, default=1_000_000)
    parser.add_argument("--queries", type=int, default=11_000, help="a tenth more than training")
    options = parser.parse_args()
    work = HERE / ".work"
    folder = work / f"made-up-{options.documents}-{options.queries}"
    if not (folder / "qrels" / "test.tsv").exists():
        make_world(folder, options.documents, options.queries)
    command = [
        str(Path(sys.executable).with_name("trimtab")), "-v", "fit", str(folder),
        "--embeddings", str(folder / "embeddings"), "-o", str(work / "model"),
    ]  # fmt: skip
    seconds, peak_gb = run_measured(command)
    record = json.loads((work / "model" / "evaluation.json").read_text(encoding="utf-8"))
    headline = record["metrics"]["ndcg@10"]
    results = {
        "documents": options.documents,
        "training_queries": options.queries * 10 // 11,
        "dim": DIM,
        "document_bytes": (folder / "embeddings" / "documents.npy").stat().st_size,
        "seconds": round(seconds, 1),
        "fit_seconds": record["fit"]["seconds"],
        "peak_resident_gb": round(peak_gb, 2),
        "ndcg@10": {key: headline[key] for key in ("base", "adapted", "delta", "ci95")},
    }
    print(results)
    print(f"wrote {write_results(HERE, results).name}")


if __name__ == "__main__":
    main()
