"""Vectors: the folder on disk, encoders, vectors out of FAISS and Qdrant."""
