"""What each ONNX op computes, by family."""

# Each registers its rules.
from . import (  # noqa: F401
    activations,
    attention,
    creation,
    elementwise,
    indexing,
    losses,
    microsoft,
    normalization,
    pools,
    products,
    quantization,
    reductions,
    resize,
    sequences,
    shapes,
    sorting,
    spectral,
    windows,
)
