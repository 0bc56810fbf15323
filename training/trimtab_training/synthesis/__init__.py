"""Queries for documents, written by any OpenAI-compatible LLM; see docs/synthesize.md."""
