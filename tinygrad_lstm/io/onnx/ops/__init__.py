"""How each op is written in ONNX, by module; recurrent layers are in `recurrent`."""

from . import creation, elementwise, indexing, products, reductions, shapes, windows  # noqa: F401  # each registers its ops
from .entries import at_indices, write, writes

__all__ = ["at_indices", "write", "writes"]
