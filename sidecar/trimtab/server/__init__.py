"""The transparent sidecar: Qdrant's protocols in, the same protocols out, query vectors adapted."""

__all__: list[str] = []
