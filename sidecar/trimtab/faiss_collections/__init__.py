"""FAISS index files as read-only Qdrant collections, over Qdrant's REST API.

A request goes through :mod:`library` (whose is it), :mod:`endpoints` (what does it ask),
:mod:`query` (what scores the points), :mod:`filters` (which may be found) and :mod:`index`
(search).
"""

from trimtab.faiss_collections.replies import Reply
from trimtab.faiss_collections.service import Collections

__all__ = ["Collections", "Reply"]
