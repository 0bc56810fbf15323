"""Qdrant's REST protocol: a client's connection, a request and its answer."""
