"""In what precision CUDA devices multiply float32 matrices."""

from typing import Literal, TypeAlias, get_args

__all__ = ["Precision", "precision", "set_precision"]

Precision: TypeAlias = Literal["float32", "tf32", "float16"]

_precision: Precision = "float32"


def precision() -> Precision:
    """The precision in force."""
    return _precision


def set_precision(wanted: Precision) -> None:
    """Sets the precision; a ValueError names those that there are."""
    global _precision
    if wanted not in get_args(Precision):
        raise ValueError(f"set_precision: expected one of {', '.join(get_args(Precision))}, got {wanted!r}")
    _precision = wanted
