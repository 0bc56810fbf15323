"""Points with every kind of vector and payload, the same from every seed's run to the next."""

from typing import Any

import numpy as np
from qdrant_client import models

N_POINTS = 120
DENSE = {"text": 24, "image": 32, "code": 16}
TOKEN_DIM = 8
_VOCABULARY = 60
_COLOURS = ("red", "green", "blue", "teal")
_WORDS = ("rudder", "keel", "anchor", "mast", "sail", "deck", "helm", "hull")
_DISTANCES = {
    "text": models.Distance.COSINE,
    "image": models.Distance.DOT,
    "code": models.Distance.EUCLID,
}


def vectors_config() -> dict[str, models.VectorParams]:
    config = {
        name: models.VectorParams(size=size, distance=_DISTANCES[name])
        for name, size in DENSE.items()
    }
    config["tokens"] = models.VectorParams(
        size=TOKEN_DIM,
        distance=models.Distance.COSINE,
        multivector_config=models.MultiVectorConfig(
            comparator=models.MultiVectorComparator.MAX_SIM
        ),
    )
    return config


def sparse_config() -> dict[str, models.SparseVectorParams]:
    return {
        "terms": models.SparseVectorParams(),
        "idf": models.SparseVectorParams(modifier=models.Modifier.IDF),
    }


def dense(rng: np.random.Generator, dim: int) -> list[float]:
    return rng.normal(size=dim).astype(np.float32).tolist()


def tokens(rng: np.random.Generator) -> list[list[float]]:
    return [dense(rng, TOKEN_DIM) for _ in range(rng.integers(2, 6))]


def sparse(rng: np.random.Generator) -> models.SparseVector:
    indices = sorted(rng.choice(_VOCABULARY, size=12, replace=False).tolist())
    values = rng.uniform(0.1, 2.0, size=12).astype(np.float32).tolist()
    return models.SparseVector(indices=indices, values=values)


def all_vectors(rng: np.random.Generator) -> dict[str, Any]:
    named: dict[str, Any] = {name: dense(rng, dim) for name, dim in DENSE.items()}
    return named | {"tokens": tokens(rng), "terms": sparse(rng), "idf": sparse(rng)}


def payload(rng: np.random.Generator, i: int) -> dict[str, Any]:
    words = rng.choice(_WORDS, size=4, replace=False).tolist()
    content: dict[str, Any] = {
        "colour": _COLOURS[int(rng.integers(len(_COLOURS)))],
        "price": round(float(rng.uniform(0, 100)), 3),
        "rank": i * 7 % N_POINTS,
        "sold": bool(rng.integers(2)),
        "tags": words[:2],
        "story": " ".join(words),
        "date": f"2024-{1 + i % 12:02d}-{1 + i % 28:02d}T00:00:00Z",
        "place": {"lon": float(rng.uniform(-10, 10)), "lat": float(rng.uniform(40, 55))},
        "parts": [{"name": words[0], "size": i % 5}, {"name": words[1], "size": i % 3}],
        "maker": {"name": words[2], "year": 1990 + i % 30},
    }
    if i % 6 == 0:
        content["note"] = None
    if i % 10 == 0:
        del content["colour"]
    return content


def points(seed: int = 7) -> list[models.PointStruct]:
    """Most points have every vector; each ninth lacks one, and each seventh is a UUID."""
    rng = np.random.default_rng(seed)
    made = []
    for i in range(N_POINTS):
        vectors = all_vectors(rng)
        if i % 9 == 0:
            del vectors["image"]
        point_id = i if i % 7 else f"00000000-0000-4000-8000-{i:012d}"
        made.append(models.PointStruct(id=point_id, vector=vectors, payload=payload(rng, i)))
    return made


INDEXES = {
    "colour": models.PayloadSchemaType.KEYWORD,
    "price": models.PayloadSchemaType.FLOAT,
    "rank": models.PayloadSchemaType.INTEGER,
    "sold": models.PayloadSchemaType.BOOL,
    "tags": models.PayloadSchemaType.KEYWORD,
    "date": models.PayloadSchemaType.DATETIME,
    "place": models.PayloadSchemaType.GEO,
}
