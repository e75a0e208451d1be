"""The running means of Adam and its kind, for any array module."""

from typing import Any

from .base import Array

__all__ = ["follow"]


def follow(xp: Any, g: Array, m: Array, v: Array, beta1: float, beta2: float, part: Array) -> None:
    """In place, m = β₁ m + (1 - β₁) g and v = β₂ v + (1 - β₂) g²; `part`, of the same shape, is overwritten."""
    xp.subtract(g, m, out=part)
    part *= 1 - beta1
    m += part

    xp.multiply(g, g, out=part)
    part *= 1 - beta2
    v *= beta2
    v += part
