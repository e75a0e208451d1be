"""How each op is written in ONNX, by module; recurrent layers are in `recurrent`."""

# Each registers its ops.
from . import creation, elementwise, indexing, products, reductions, scattering, shapes, sorting, windows  # noqa: F401
from .entries import at_indices, write, writes

__all__ = ["at_indices", "write", "writes"]
