"""What each ONNX op computes, by family."""

# Each registers its rules.
from . import (  # noqa: F401
    activations,
    creation,
    elementwise,
    indexing,
    normalization,
    products,
    reductions,
    sequences,
    shapes,
    windows,
)
