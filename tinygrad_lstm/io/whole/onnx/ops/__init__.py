"""What each ONNX op computes, by family."""

# Each registers its rules.
from . import (  # noqa: F401
    activations,
    creation,
    elementwise,
    indexing,
    losses,
    normalization,
    pools,
    products,
    quantization,
    reductions,
    sequences,
    shapes,
    sorting,
    windows,
)
