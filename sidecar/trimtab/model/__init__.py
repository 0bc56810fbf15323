"""The model file: its manifest, its checks, and the session that runs it."""
