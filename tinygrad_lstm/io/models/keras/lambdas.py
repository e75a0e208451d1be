"""The functions of TensorFlow that functional models of Keras 2 call, as operations of Keras 3."""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from typing import Any

from tinygrad_lstm.backends.base import HostArray

from ...._tensor import Tensor
from ...errors import shown
from .operations import OPERATIONS, normalized
from .rules import Layer, UnsupportedError, register_kind
from .shape_operations import get_item
from .spec import Slot, Spec

__all__: list[str] = []


def _l2_normalize(x: Tensor, axis: Any = None, epsilon: float = 1e-12) -> Tensor:
    out: Tensor = normalized(x, axis, epsilon=math.sqrt(epsilon))
    return out


def _gelu(features: Tensor, approximate: bool = False) -> Tensor:
    out: Tensor = OPERATIONS["Gelu"](features, approximate)
    return out


def _gather(params: Tensor, indices: Any, axis: int = 0) -> Tensor:
    out: Tensor = OPERATIONS["Take"](params, indices, axis)
    return out


def _cumsum(x: Tensor, axis: int = 0) -> Tensor:
    out: Tensor = OPERATIONS["Cumsum"](x, axis)
    return out


# Operations with the defaults of TensorFlow where they differ.
_OPERATIONS: dict[str, Callable[..., Any]] = {
    **OPERATIONS,
    "L2Normalize": _l2_normalize,
    "TensorFlowGelu": _gelu,
    "Gather": _gather,
    "TensorFlowCumsum": _cumsum,
}

_BOTH = {"y": "x2"}
_OF_TENSORFLOW: dict[str, tuple[str, dict[str, str]]] = {
    **{
        f"{module}{name}": (operation_, _BOTH)
        for name, operation_ in {
            "add": "Add",
            "subtract": "Subtract",
            "multiply": "Multiply",
            "truediv": "TrueDivide",
            "divide": "Divide",
            "pow": "Power",
            "maximum": "Maximum",
            "minimum": "Minimum",
            "equal": "Equal",
            "not_equal": "NotEqual",
            "less": "Less",
            "less_equal": "LessEqual",
            "greater": "Greater",
            "greater_equal": "GreaterEqual",
            "logical_and": "LogicalAnd",
            "logical_or": "LogicalOr",
            "floordiv": "FloorDivide",
            "floormod": "Mod",
            "divide_no_nan": "DivideNoNan",
        }.items()
        for module in ("math.", "__operators__.", "")
    },
    **{
        f"{module}{name}": (operation_, {})
        for name, operation_ in {
            "abs": "Abs",
            "negative": "Negative",
            "square": "Square",
            "sqrt": "Sqrt",
            "rsqrt": "Rsqrt",
            "reciprocal": "Reciprocal",
            "exp": "Exp",
            "log": "Log",
            "log1p": "Log1p",
            "sin": "Sin",
            "cos": "Cos",
            "tanh": "Tanh",
            "sigmoid": "Sigmoid",
            "softplus": "Softplus",
            "erf": "Erf",
            "sign": "Sign",
            "floor": "Floor",
            "ceil": "Ceil",
            "logical_not": "LogicalNot",
            "reduce_mean": "Mean",
            "reduce_sum": "Sum",
            "reduce_prod": "Prod",
            "reduce_max": "Max",
            "reduce_min": "Min",
            "reduce_any": "Any",
            "reduce_all": "All",
            "reduce_std": "Std",
            "reduce_variance": "Var",
            "reduce_logsumexp": "Logsumexp",
        }.items()
        for module in ("math.", "")
    },
    **{
        f"nn.{name}": (operation_, {})
        for name, operation_ in {
            "relu": "Relu",
            "relu6": "Relu6",
            "sigmoid": "Sigmoid",
            "tanh": "Tanh",
            "softmax": "Softmax",
            "log_softmax": "LogSoftmax",
            "softplus": "Softplus",
            "softsign": "Softsign",
            "elu": "Elu",
            "selu": "Selu",
            "silu": "Silu",
            "swish": "Silu",
        }.items()
    },
    "nn.gelu": ("TensorFlowGelu", {}),
    "nn.leaky_relu": ("LeakyRelu", {"alpha": "negative_slope"}),
    "linalg.matmul": ("Matmul", {"b": "x2"}),
    "matmul": ("Matmul", {"b": "x2"}),
    "math.l2_normalize": ("L2Normalize", {"dim": "axis"}),
    "nn.l2_normalize": ("L2Normalize", {"dim": "axis"}),
    "linalg.l2_normalize": ("L2Normalize", {"dim": "axis"}),
    "clip_by_value": ("Clip", {"clip_value_min": "x_min", "clip_value_max": "x_max"}),
    "cast": ("Cast", {}),
    "reshape": ("Reshape", {"shape": "newshape"}),
    "expand_dims": ("ExpandDims", {}),
    "squeeze": ("Squeeze", {}),
    "compat.v1.squeeze": ("Squeeze", {"squeeze_dims": "axis"}),
    "transpose": ("Transpose", {"perm": "axes"}),
    "compat.v1.transpose": ("Transpose", {"perm": "axes"}),
    "concat": ("Concatenate", {}),
    "stack": ("Stack", {}),
    "tile": ("Tile", {"multiples": "repeats"}),
    "reverse": ("Flip", {}),
    "identity": ("Copy", {}),
    "stop_gradient": ("StopGradient", {}),
    "where": ("Where", {"x": "x1", "y": "x2"}),
    "gather": ("Gather", {}),
    "compat.v1.gather": ("Gather", {}),
    "ones_like": ("OnesLike", {}),
    "zeros_like": ("ZerosLike", {}),
    "math.cumsum": ("TensorFlowCumsum", {}),
    "cumsum": ("TensorFlowCumsum", {}),
    "one_hot": ("OneHot", {"depth": "num_classes"}),
}
"""For each function the operation that computes the same, and the arguments that have a different name there."""


class _Lambda:
    """A function of TensorFlow that a functional model of Keras 2 calls."""

    def slots(self, spec: Spec) -> Iterator[Slot]:
        return iter(())

    def build(self, spec: Spec, arrays: Mapping[str, HostArray]) -> Layer:
        name = spec.config.get("function")
        found = _OF_TENSORFLOW.get(str(name))
        if found is None:
            raise UnsupportedError(f"the function {shown(str(name))}")
        operation, renamed = found
        function = partial(_as_in_tensorflow, operation_name=operation, renamed=tuple(renamed.items()))
        return Layer(function, outputs=partial(_checked, operation, renamed))


def _checked(operation: str, renamed: Mapping[str, str], kwargs: Mapping[str, Any]) -> int:
    """The number of outputs, which is 1.

    Raises:
        UnsupportedError: an argument of TensorFlow's function is not there, and is not off, as conjugate=False is.
    """
    known = {*inspect.signature(_OPERATIONS[operation]).parameters, "name"}
    known |= {"transpose_a", "transpose_b"} if operation == "Matmul" else set()
    unknown = [name for name, value in kwargs.items() if renamed.get(name, name) not in known and _is_on(name, value)]
    if unknown:
        raise UnsupportedError(f"the arguments {', '.join(map(shown, unknown))}")
    return 1


def _is_on(name: str, value: Any) -> bool:
    """Whether an argument changes what a function computes; silu multiplies by 1.0 unless it is told otherwise."""
    return value not in (None, False, 0) and not (name == "beta" and value == 1.0)


def _as_in_tensorflow(*args: Any, operation_name: str, renamed: tuple[tuple[str, str], ...], **kwargs: Any) -> Any:
    names, function = dict(renamed), _OPERATIONS[operation_name]
    given = {names.get(key, key): value for key, value in kwargs.items() if key != "name" and value is not None}
    if operation_name == "Matmul":
        args, given = _turned(args, given)
    known = inspect.signature(function).parameters
    return function(*args, **{name: value for name, value in given.items() if name in known})


def _turned(args: tuple[Any, ...], given: dict[str, Any]) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """The arguments of a product without `transpose_a` and `transpose_b`."""
    (a,), b = args, given.pop("x2")
    if given.pop("transpose_a", False):
        a = a.transpose(-2, -1)
    if given.pop("transpose_b", False):
        b = b.transpose(-2, -1)
    return (a, b), given


class _Slice(_Lambda):
    """An index of Keras 2: `x[...]`."""

    def build(self, spec: Spec, arrays: Mapping[str, HostArray]) -> Layer:
        return Layer(_sliced)


def _sliced(x: Tensor, slice_spec: Any, var: Any = None) -> Any:
    return get_item(x, slice_spec)


register_kind(_Lambda(), "TFOpLambda", operations=True)
register_kind(_Slice(), "SlicingOpLambda", operations=True)
