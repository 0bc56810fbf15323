"""Find the query vectors in a Qdrant request, and put adapted ones in their place.

Pure functions: no I/O, no model. A finder reads one form of request (JSON bytes, the official
models, protobuf messages) into :class:`~trimtab.rewrite.places.Place`; ``policies.decide`` says of
each whether it is adapted, and if not why; the finder's module puts new vectors back. Whatever is
not a query vector to adapt leaves as it came.

The wire's facts are those of Qdrant 1.19's source and of qdrant-client 1.20's models and protos.
"""

from trimtab.rewrite.places import Kind, Place, Role
from trimtab.rewrite.policies import Policies, Reason, decide

__all__ = ["Kind", "Place", "Policies", "Reason", "Role", "decide"]
