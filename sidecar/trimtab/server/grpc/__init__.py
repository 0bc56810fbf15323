"""Qdrant's gRPC protocol, as raw bytes."""
