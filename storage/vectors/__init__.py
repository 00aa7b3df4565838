"""Embeddings in LanceDB tables."""
