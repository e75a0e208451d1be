"""Python's operators on Tensors."""

from collections.abc import Callable
from typing import Any

from tinygrad_lstm.backends.dtypes import is_bool

from .._tensor import Tensor
from .comparison import (
    bitwise_and,
    bitwise_not,
    bitwise_or,
    bitwise_xor,
    eq,
    ge,
    gt,
    le,
    logical_and,
    logical_not,
    logical_or,
    logical_xor,
    lt,
    ne,
)
from .elementwise import abs, add, mul, neg, pow, sub
from .indexing import getitem
from .linalg import matmul
from .rounding import div, floor_divide, remainder, round

__all__: list[str] = []


def _reflected(function: Callable[[Any, Any], Tensor]) -> Callable[[Any, Any], Tensor]:
    return lambda x, y: function(y, x)


def _of_bits(of_bools: Callable[..., Tensor], of_integers: Callable[..., Tensor]) -> Callable[..., Tensor]:
    """One of Python's bitwise operators: of bool the logical op, which ONNX files and C code have."""

    def call(*values: Any) -> Tensor:
        bools = all(isinstance(value, bool) or (hasattr(value, "dtype") and is_bool(value.dtype)) for value in values)
        return of_bools(*values) if bools else of_integers(*values)

    return call


def _attach() -> None:
    both = {"add": add, "sub": sub, "mul": mul, "truediv": div, "pow": pow, "matmul": matmul}
    both |= {"floordiv": floor_divide, "mod": remainder, "and": _of_bits(logical_and, bitwise_and)}
    both |= {"or": _of_bits(logical_or, bitwise_or), "xor": _of_bits(logical_xor, bitwise_xor)}
    alone = {"neg": neg, "abs": abs, "invert": _of_bits(logical_not, bitwise_not), "getitem": getitem, "round": round}
    compared = {"lt": lt, "le": le, "gt": gt, "ge": ge, "eq": eq, "ne": ne}
    for name, function in {**both, **alone, **compared}.items():
        setattr(Tensor, f"__{name}__", function)
    for name, function in both.items():
        setattr(Tensor, f"__r{name}__", _reflected(function))
    setattr(Tensor, "__pos__", lambda x: x)  # noqa: B010


_attach()
