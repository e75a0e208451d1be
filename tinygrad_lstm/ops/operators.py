"""Python's operators on Tensors."""

from collections.abc import Callable
from typing import Any

from tinygrad_lstm.backends.dtypes import is_bool

from .._tensor import Tensor, as_tensor
from ..device import device_of
from .comparison import eq, ge, gt, le, logical_and, logical_not, logical_or, logical_xor, lt, ne
from .elementwise import abs, add, div, mul, neg, pow, round, sub
from .indexing import getitem
from .linalg import matmul

__all__: list[str] = []


def _reflected(function: Callable[[Any, Any], Tensor]) -> Callable[[Any, Any], Tensor]:
    return lambda x, y: function(y, x)


def _of_bools(sign: str, function: Callable[..., Tensor]) -> Callable[..., Tensor]:
    """A logical op for one of NumPy's bitwise operators, for bool only."""

    def call(*values: Any) -> Tensor:
        device = next(value.device for value in values if isinstance(value, Tensor))
        tensors = [
            value if isinstance(value, Tensor | bool) else as_tensor(value, device_of(value) or device)
            for value in values
        ]
        for value in tensors:
            if isinstance(value, Tensor) and not is_bool(value.dtype):
                raise TypeError(
                    f"{sign}: expected bool tensors, got {value.dtype} of shape {value.shape}; compare first, "
                    "as in (x != 0), or use tg.logical_and, logical_or, logical_xor, logical_not"
                )
        return function(*tensors)

    return call


def _attach() -> None:
    both = {"add": add, "sub": sub, "mul": mul, "truediv": div, "pow": pow, "matmul": matmul}
    signs = {"and": ("&", logical_and), "or": ("|", logical_or), "xor": ("^", logical_xor)}
    both |= {name: _of_bools(sign, function) for name, (sign, function) in signs.items()}
    alone = {"neg": neg, "abs": abs, "invert": _of_bools("~", logical_not), "getitem": getitem, "round": round}
    compared = {"lt": lt, "le": le, "gt": gt, "ge": ge, "eq": eq, "ne": ne}
    for name, function in {**both, **alone, **compared}.items():
        setattr(Tensor, f"__{name}__", function)
    for name, function in both.items():
        setattr(Tensor, f"__r{name}__", _reflected(function))
    setattr(Tensor, "__pos__", lambda x: x)  # noqa: B010


_attach()
