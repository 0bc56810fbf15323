"""Trimtab at search time: load a trained adapter and put it before a vector index.

Needs onnxruntime and numpy, never torch.
"""

from typing import TYPE_CHECKING, Any

from trimtab.clients.faiss import AdaptedIndex
from trimtab.encoders import EndpointSettings, OpenAIEncoder
from trimtab.errors import SidecarError
from trimtab.hook import AsyncQueryHook, QueryHook
from trimtab.model.adapter import Adapter
from trimtab.model.manifest import Manifest
from trimtab.rewrite.policies import Policies
from trimtab.routing.routes import Route, Routes

if TYPE_CHECKING:
    from trimtab.clients.qdrant import AdaptedQdrantClient, AsyncAdaptedQdrantClient

__all__ = [
    "AdaptedIndex",
    "AdaptedQdrantClient",
    "Adapter",
    "AsyncAdaptedQdrantClient",
    "AsyncQueryHook",
    "EndpointSettings",
    "Manifest",
    "OpenAIEncoder",
    "Policies",
    "QueryHook",
    "Route",
    "Routes",
    "SidecarError",
]

_QDRANT = {"AdaptedQdrantClient", "AsyncAdaptedQdrantClient"}


def __getattr__(name: str) -> Any:
    """Import the Qdrant clients only once they are used: qdrant_client alone takes 0.8 s."""
    if name in _QDRANT:
        from trimtab.clients import qdrant

        return getattr(qdrant, name)
    raise AttributeError(f"module 'trimtab' has no attribute {name!r}")
