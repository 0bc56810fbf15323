"""Outgoing connections: to Qdrant's addresses, over REST and gRPC."""

__all__: list[str] = []
