"""Exact search, metrics and significance: pure, and knowing nothing else of ours but vectors."""
