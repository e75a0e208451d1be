"""How each op is written in ONNX, by family; recurrent layers are in `recurrent`."""

from . import creation, elementwise, indexing, products, reductions, shapes  # noqa: F401  # each enters its own ops in the table
from .entries import at_places, write, writes

__all__ = ["at_places", "write", "writes"]
