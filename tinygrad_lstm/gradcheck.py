"""Gradients held against finite differences."""

__all__: list[str] = []
