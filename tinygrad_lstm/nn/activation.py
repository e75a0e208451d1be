"""Activation functions as modules: each calls the op of its name."""

from .. import ops
from .._tensor import Tensor
from ..arguments import integer
from ..creation import full
from .inputs import check_input
from .module import Module
from .op_module import OpModule
from .parameter import Parameter

__all__ = [
    "ELU",
    "GELU",
    "GLU",
    "SELU",
    "Hardsigmoid",
    "Hardtanh",
    "LeakyReLU",
    "LogSigmoid",
    "LogSoftmax",
    "Mish",
    "PReLU",
    "ReLU",
    "ReLU6",
    "SiLU",
    "Sigmoid",
    "Softmax",
    "Softplus",
    "Softsign",
    "Tanh",
]


class ReLU(OpModule):
    """max(x, 0)."""

    function = staticmethod(ops.relu)


class ReLU6(OpModule):
    """x limited to [0, 6]."""

    function = staticmethod(ops.relu6)


class Tanh(OpModule):
    """The hyperbolic tangent."""

    function = staticmethod(ops.tanh)


class Sigmoid(OpModule):
    """The logistic function σ(x) = 1 / (1 + e⁻ˣ)."""

    function = staticmethod(ops.sigmoid)


class SiLU(OpModule):
    """x·σ(x), also known as swish."""

    function = staticmethod(ops.silu)


class Mish(OpModule):
    """x·tanh(log(1 + eˣ))."""

    function = staticmethod(ops.mish)


class SELU(OpModule):
    """1.0507·ELU(x) with alpha=1.6733, which keeps the mean 0 and the variance 1 of a layer."""

    function = staticmethod(ops.selu)


class Softsign(OpModule):
    """x / (1 + |x|)."""

    function = staticmethod(ops.softsign)


class LogSigmoid(OpModule):
    """log σ(x), without overflow."""

    function = staticmethod(ops.logsigmoid)


class Hardsigmoid(OpModule):
    """(x + 3) / 6 limited to [0, 1]."""

    function = staticmethod(ops.hardsigmoid)


class GELU(OpModule):
    """x·Φ(x) with Φ the normal distribution function; "tanh" approximates it.

    Raises:
        ValueError: in `forward`, `approximate` is neither "none" nor "tanh".
    """

    function = staticmethod(ops.gelu)
    settings = ("approximate",)

    def __init__(self, approximate: str = "none") -> None:
        self.approximate = approximate


class ELU(OpModule):
    """x if x > 0, else alpha·(eˣ - 1)."""

    function = staticmethod(ops.elu)
    settings = ("alpha",)

    def __init__(self, alpha: float = 1.0) -> None:
        self.alpha = alpha


class LeakyReLU(OpModule):
    """x if x > 0, else negative_slope·x."""

    function = staticmethod(ops.leaky_relu)
    settings = ("negative_slope",)

    def __init__(self, negative_slope: float = 0.01) -> None:
        self.negative_slope = negative_slope


class Hardtanh(OpModule):
    """x limited to [min_val, max_val]."""

    function = staticmethod(ops.hardtanh)
    settings = ("min_val", "max_val")

    def __init__(self, min_val: float = -1.0, max_val: float = 1.0) -> None:
        self.min_val = min_val
        self.max_val = max_val


class Softplus(OpModule):
    """log(1 + e^(beta·x)) / beta, or x if beta·x is above `threshold`."""

    function = staticmethod(ops.softplus)
    settings = ("beta", "threshold")

    def __init__(self, beta: float = 1.0, threshold: float = 20.0) -> None:
        self.beta = beta
        self.threshold = threshold


class Softmax(OpModule):
    """eˣ divided by its sum along `dim`, which must be given."""

    function = staticmethod(ops.softmax)
    settings = ("dim",)

    def __init__(self, dim: int) -> None:
        self.dim = dim


class LogSoftmax(OpModule):
    """The logarithm of the softmax along `dim`, which must be given."""

    function = staticmethod(ops.log_softmax)
    settings = ("dim",)

    def __init__(self, dim: int) -> None:
        self.dim = dim


class GLU(OpModule):
    """a·σ(b) of the two halves a and b of x along `dim`, whose length becomes half as long.

    Raises:
        ValueError: in `forward`, the length along `dim` is odd or 0.
    """

    function = staticmethod(ops.glu)
    settings = ("dim",)

    def __init__(self, dim: int = -1) -> None:
        self.dim = dim


class PReLU(Module):
    """x if x > 0, else weight·x.

    Parameters: `weight` (num_parameters,), `init` at first.

    Args:
        num_parameters: 1, or the number of channels C of x (B, C, ...).

    Raises:
        TypeError: `num_parameters` is not an integer.
        ValueError: `num_parameters` is below 1; in `forward`, x has a different number of channels.
    """

    def __init__(self, num_parameters: int = 1, init: float = 0.25) -> None:
        if integer("PReLU", "num_parameters", num_parameters) < 1:
            raise ValueError(f"PReLU: num_parameters must be 1 or more, got {num_parameters}")
        self.num_parameters = num_parameters
        self.weight = Parameter(full((num_parameters,), float(init)))

    def forward(self, x: Tensor) -> Tensor:
        check_input("PReLU", "x", x, self.weight)
        return ops.prelu(x, self.weight)

    def extra_repr(self) -> str:
        return f"num_parameters={self.num_parameters}"
