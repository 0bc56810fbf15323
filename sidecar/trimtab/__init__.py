"""Trimtab at search time: load a trained adapter and put it before a vector index.

Needs onnxruntime and numpy, never torch.
"""

from importlib import import_module
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
    from trimtab.text.encoder import TextEncoder

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
    "TextEncoder",
]

_LATE = {
    "AdaptedQdrantClient": "trimtab.clients.qdrant",  # qdrant_client alone takes 0.8 s
    "AsyncAdaptedQdrantClient": "trimtab.clients.qdrant",
    "TextEncoder": "trimtab.text.encoder",
}


def __getattr__(name: str) -> Any:
    """Import what takes long only once it is used."""
    if name in _LATE:
        return getattr(import_module(_LATE[name]), name)
    raise AttributeError(f"module 'trimtab' has no attribute {name!r}")
