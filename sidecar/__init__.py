"""Trimtab at search time: load a trained adapter and put it before a vector index.

Needs onnxruntime and numpy, never torch.
"""

from sidecar.adapter import Adapter
from sidecar.clients.faiss import AdaptedIndex
from sidecar.encoders import EndpointSettings, OpenAIEncoder
from sidecar.errors import SidecarError
from sidecar.hook import QueryHook
from sidecar.manifest import Manifest

__all__ = [
    "AdaptedIndex",
    "Adapter",
    "EndpointSettings",
    "Manifest",
    "OpenAIEncoder",
    "QueryHook",
    "SidecarError",
]
