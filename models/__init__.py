"""Cells, sequence models, and whole programs' models."""
