"""The precision of CUDA devices' products of float32 matrices."""

from typing import Literal, TypeAlias, get_args

__all__ = ["Precision", "get_precision", "set_precision"]

Precision: TypeAlias = Literal["float32", "tf32", "float16"]

_precision: Precision = "float32"


def get_precision() -> Precision:
    """The precision in which CUDA devices multiply float32 matrices; "float32" by default."""
    return _precision


def set_precision(precision: Precision) -> None:
    """Sets the precision in which CUDA devices multiply float32 matrices.

    It applies to products of two matrices: linear layers, the inputs' and weights' parts of recurrent layers, and their
    steps if each is a product. Stacks of matrices (`matmul` of 3-d tensors), and recurrent layers that are one launch,
    always multiply in float32. All sums are float32.

    Args:
        precision: "float32"; or, faster on tensor cores, with factors rounded to 11 significant bits: "tf32" with
            float32's range, or "float16", in which a factor beyond 65504 is infinite, and one below 6e-8 is 0.

    Raises:
        ValueError: the precision is invalid.
    """
    global _precision
    if precision not in get_args(Precision):
        raise ValueError(f"set_precision: expected one of {', '.join(get_args(Precision))}, got {precision!r}")
    _precision = precision
