"""Qdrant's gRPC messages, as qdrant-client has them, without the client around them.

Importing ``qdrant_client.grpc`` runs the whole client first: its REST models take two seconds and a
hundred megabytes in every process. The generated modules need but each other, and protobuf has one
class for a message however often its module is loaded, so a client beside them has the same ones.
"""

import sys
from importlib import import_module
from importlib.util import find_spec, module_from_spec, spec_from_file_location
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from qdrant_client import grpc as messages

__all__ = ["SERVICES", "messages"]

_USUAL = "qdrant_client.grpc"
_NAME = f"{__package__}.qdrant_generated"
"""Under which the modules are known here: under their own one, the client would come with them."""


def _load() -> ModuleType:
    """Load the package of generated modules, or take it from a client that is there already."""
    client = find_spec("qdrant_client")
    if _USUAL in sys.modules or client is None or not client.submodule_search_locations:
        return import_module(_USUAL)  # where nothing is installed, it says so
    folder = Path(client.submodule_search_locations[0]) / "grpc"
    spec = spec_from_file_location(
        _NAME, folder / "__init__.py", submodule_search_locations=[str(folder)]
    )
    if spec is None or spec.loader is None:
        return import_module(_USUAL)  # not as the wheels lay it out
    package = module_from_spec(spec)
    sys.modules[_NAME] = package
    spec.loader.exec_module(package)
    return package


if not TYPE_CHECKING:
    messages = _load()

SERVICES: tuple[Any, ...] = tuple(
    import_module(f"{messages.__name__}.{name}")
    for name in (
        "points_service_pb2",
        "collections_service_pb2",
        "snapshots_service_pb2",
        "qdrant_pb2",
    )
)
"""The modules that describe Qdrant's services."""
