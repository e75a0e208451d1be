"""What each op of TensorFlow computes, by family."""

# Each registers its rules.
from . import (  # noqa: F401
    activations,
    elementwise,
    indexing,
    lists,
    products,
    recurrent,
    reductions,
    shapes,
    spectral,
    windows,
)
