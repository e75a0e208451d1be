"""How each op is written in ONNX, by module; recurrent layers are in `recurrent`."""

# Each registers its ops.
from . import (  # noqa: F401
    creation,
    elementwise,
    indexing,
    products,
    reductions,
    scattering,
    shapes,
    sorting,
    spectral,
    windows,
)
from .entries import at_indices, write, writes

__all__ = ["at_indices", "write", "writes"]
