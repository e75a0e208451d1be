"""The activation functions of LSTM, GRU and RNN nodes: their names and numbers in ONNX, and those of networks here."""

import math
from collections.abc import Iterable, Sequence
from typing import NamedTuple

import numpy as np

from ...kinds import Activation

__all__ = ["in_onnx", "is_known", "of_node"]


class _Function(NamedTuple):
    """A function of ONNX's nodes.

    Attributes:
        name: its name in ONNX.
        defaults: ONNX's defaults of alpha and beta, if it has these; None if the node must have the number.
        defaults_here: the defaults of the function here.
    """

    name: str
    defaults: tuple[float | None, ...] = ()
    defaults_here: tuple[float, ...] = ()


_FUNCTIONS = {
    "affine": _Function("Affine", (None, None), (1.0, 0.0)),
    "elu": _Function("Elu", (1.0,), (1.0,)),
    "hard_sigmoid": _Function("HardSigmoid", (0.2, 0.5), (1 / 6, 0.5)),
    "leaky_relu": _Function("LeakyRelu", (0.01,), (0.01,)),
    "relu": _Function("Relu"),
    "scaled_tanh": _Function("ScaledTanh", (None, None), (1.0, 1.0)),
    "sigmoid": _Function("Sigmoid"),
    "softplus": _Function("Softplus"),
    "softsign": _Function("Softsign"),
    "tanh": _Function("Tanh"),
    "thresholded_relu": _Function("ThresholdedRelu", (1.0,), (1.0,)),
}
"""The functions by their names here. "identity" is ONNX's Affine with 1 and 0."""

_NAMES_HERE = {function.name.lower(): name for name, function in _FUNCTIONS.items()}


def is_known(name: str) -> bool:
    """Whether ONNX's nodes have a function of this name, in lower case."""
    return name in _NAMES_HERE


def of_node(
    names: Sequence[str], alphas: Iterable[float], betas: Iterable[float]
) -> tuple[tuple[Activation, ...], list[str]]:
    """The activations of a node, and the names of those that lack a number.

    Args:
        names: known names, in lower case.
        alphas, betas: the node's numbers. Each function takes the next ones, if it has any.
    """
    given = iter(alphas), iter(betas)
    found: list[Activation] = []
    incomplete = []
    for name in names:
        here = _NAMES_HERE[name]
        function = _FUNCTIONS[here]
        numbers = [next(source, default) for source, default in zip(given, function.defaults)]
        incomplete += [name] * (None in numbers)
        found.append(_named(here, [_decimal(number) for number in numbers if number is not None]))
    return tuple(found), incomplete


def in_onnx(activation: Activation) -> tuple[str, tuple[float, ...]] | None:
    """The name of an activation in ONNX, and its alpha and beta; None if ONNX's nodes do not have it."""
    name, *numbers = (
        ("affine",) if activation == "identity" else activation if isinstance(activation, tuple) else (activation,)
    )
    function = _FUNCTIONS.get(str(name))
    return function and (function.name, (*map(float, numbers), *function.defaults_here[len(numbers) :]))


def _named(name: str, numbers: Sequence[float]) -> Activation:
    """A function with these numbers; only the name, if the numbers are the defaults."""
    defaults = _FUNCTIONS[name].defaults_here
    if all(math.isclose(*pair, rel_tol=1e-6) for pair in zip(numbers, defaults, strict=False)):
        return "identity" if name == "affine" else name
    return (name, *numbers)


def _decimal(number: float) -> float:
    """The number that was written to a file in float32, such as 0.2."""
    return float(str(np.float32(number)))
