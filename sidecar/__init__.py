"""Trimtab at search time: load a trained adapter and put it before a vector index.

Needs onnxruntime and numpy, never torch.
"""

from typing import TYPE_CHECKING, Any

from sidecar.adapter import Adapter
from sidecar.clients.faiss import AdaptedIndex
from sidecar.encoders import EndpointSettings, OpenAIEncoder
from sidecar.errors import SidecarError
from sidecar.hook import AsyncQueryHook, QueryHook
from sidecar.manifest import Manifest
from sidecar.rewrite.policies import Policies
from sidecar.routes import Route, Routes

if TYPE_CHECKING:
    from sidecar.clients.qdrant import AdaptedQdrantClient, AsyncAdaptedQdrantClient

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
        from sidecar.clients import qdrant

        return getattr(qdrant, name)
    raise AttributeError(f"module 'sidecar' has no attribute {name!r}")
