"""Golden cases of elementwise ops as PyTorch computes them: drawn numbers, and the edges of what floats are."""

from collections.abc import Iterator

import torch
from torch import Tensor
from torch_cases import Case, called, seed

UNARY = (
    *("abs", "acos", "acosh", "asin", "asinh", "atan", "atanh", "ceil", "cos", "cosh", "erf", "exp", "expm1", "floor"),
    *("isfinite", "isinf", "isnan", "log", "log10", "log1p", "log2", "logical_not", "logsigmoid", "neg"),
    *(
        "reciprocal",
        "relu",
        "round",
        "rsqrt",
        "sigmoid",
        "sign",
        "sin",
        "sinh",
        "sqrt",
        "square",
        "tan",
        "tanh",
        "trunc",
    ),
)
BINARY = (
    *("add", "div", "eq", "floor_divide", "ge", "gt", "isclose", "le", "logical_and", "logical_or", "logical_xor"),
    *("lt", "maximum", "minimum", "mul", "ne", "pow", "sub"),
)
OF_INTEGERS = ("bitwise_and", "bitwise_or", "bitwise_xor", "floor_divide", "mul", "remainder", "sub", "eq", "maximum")
INF, NAN = float("inf"), float("nan")
EDGES = torch.tensor([NAN, -INF, -2.5, -1.0, -0.5, -0.0, 0.0, 0.5, 1.0, 2.5, INF], dtype=torch.float64)
COMPARED = {
    "abs": slice(1, None),  # PyTorch's sign of NaN is 0, NumPy's is NaN
    "sign": slice(1, None),
    "acosh": slice(8, 11),  # below 1 PyTorch has numbers as derivatives, although the value is NaN
    "rsqrt": slice(6, None),  # the derivative at -0.0 is inf in PyTorch; it is -inf on both sides here
}
"""The numbers with which this library agrees, where it does not agree with all of them."""


def drawn(*shape: int) -> Tensor:
    """Normal numbers, each dimension of length 1 instead in one of four draws, so that arrays are broadcast."""
    return 2 * torch.randn([1 if torch.rand(()) < 0.25 else length for length in shape])


def integers(*shape: int) -> Tensor:
    """Integers from -9 to 9 without 0."""
    return torch.randint(1, 10, shape) * (2 * torch.randint(2, shape) - 1)


def ops_elementwise() -> Iterator[Case]:
    """Cases of each op."""
    for name in UNARY:
        seed("ops_elementwise", name)
        yield name, *called(name, {"input": torch.cat([EDGES, 3 * torch.randn(5)])[COMPARED.get(name, slice(None))]})
    for name in BINARY:
        seed("ops_elementwise", name)
        constant = ("input", "other") if name == "floor_divide" else ()  # PyTorch has no derivative of it
        yield name, *called(name, {"input": drawn(2, 3, 2), "other": drawn(3, 2)}, constant=constant)
        yield f"{name}_edges", *called(name, {"input": EDGES[:, None], "other": EDGES}, constant=constant)
    for name in OF_INTEGERS:
        case = f"{name}_integers"
        seed("ops_elementwise", case)
        yield case, *called(name, {"input": integers(3, 4), "other": integers(4)})
    seed("ops_elementwise", "others")
    yield "bitwise_not", *called("bitwise_not", {"input": integers(6)})
    yield "bitwise_not_bool", *called("bitwise_not", {"input": torch.tensor([True, False])})
    for decimals in (-1, 2):
        yield f"round_{decimals}", *called("round", {"input": 40 * torch.randn(8)}, {"decimals": decimals})
    yield "lerp", *called("lerp", {"input": drawn(3, 4), "end": drawn(3, 4), "weight": drawn(4)})
    yield "lerp_number", *called("lerp", {"input": drawn(3, 4), "end": drawn(4)}, {"weight": 0.3})
    condition = {"condition": torch.rand(3, 4) < 0.5}
    yield "where", *called("where", condition | {"input": drawn(3, 4), "other": drawn(4)})
    yield "masked_fill", *called("masked_fill", {"input": drawn(3, 4), "mask": torch.rand(4) < 0.5}, {"value": -1.5})
    for name in ("clamp_max", "clamp_min"):
        yield name, *called(name, {"input": EDGES[1:]}, args=[0.5])  # at NaN the derivative is 1 here
    yield "clip", *called("clip", {"input": EDGES[1:]}, {"min": -0.5, "max": 1.5})
    near = torch.randn(6)
    yield (
        "isclose_tolerances",
        *called("isclose", {"input": near, "other": near + 1e-3}, {"rtol": 1e-3, "atol": 1e-4, "equal_nan": True}),
    )
