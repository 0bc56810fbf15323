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
    places = (client and client.submodule_search_locations) or ()
    files = [file for place in places if (file := Path(place) / "grpc" / "__init__.py").is_file()]
    if _USUAL in sys.modules or not files:  # it is there, or not as wheels lay it out, or nowhere
        return import_module(_USUAL)
    folder = [str(files[0].parent)]
    spec = spec_from_file_location(_NAME, files[0], submodule_search_locations=folder)
    assert spec is not None  # noqa: S101 - the two are of any Python file
    assert spec.loader is not None  # noqa: S101
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
