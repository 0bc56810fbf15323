"""Search clients in the caller's process, with the adapter in front."""

from trimtab.clients.faiss import AdaptedIndex

__all__ = ["AdaptedIndex"]
