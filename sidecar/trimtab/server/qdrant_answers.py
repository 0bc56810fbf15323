"""What Qdrant says of its collections and aliases, read."""

from collections.abc import Mapping
from typing import Any

from trimtab.routing.route_book import Question
from trimtab.routing.vector_schema import SPARSE, CollectionVectors, IndexedVector, read_datetime


def read_answer(question: Question, result: Mapping[str, Any]) -> Any:
    """Read the JSON that Qdrant answers to a question."""
    if question.method == "get_aliases":
        return {each["alias_name"]: each["collection_name"] for each in result["aliases"]}
    vectors = result["config"]["params"].get("vectors") or {}
    named = {"": vectors} if isinstance(vectors.get("size"), int) else vectors
    sparse = dict.fromkeys(result["config"]["params"].get("sparse_vectors") or (), SPARSE)
    found = sparse | {
        name: IndexedVector(
            dim=params["size"],
            distance=str(params["distance"]).lower(),
            datatype=str(params.get("datatype") or "float32").lower(),
            is_multi=params.get("multivector_config") is not None,
        )
        for name, params in named.items()
    }
    return CollectionVectors(found, created_s=read_datetime(result.get("created_at")))
