"""Cells, heads and optimisers for torch models."""
