"""FAISS index files as read-only Qdrant collections, over Qdrant's REST API.

What clients and frameworks call on dense vectors that are only read. A request goes through
:mod:`service` (whose is it), :mod:`refusals` (is it served), :mod:`endpoints` (what does it ask),
:mod:`query` (near to what), :mod:`filters` (which may be found) and :mod:`index` (search).
"""

from trimtab.faiss_collections.replies import Reply
from trimtab.faiss_collections.service import Collections

__all__ = ["Collections", "Reply"]
