"""Golden cases of the keywords and methods that PyTorch's users type first, as PyTorch computes or refuses them."""

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor
from torch_cases import Arrays, Case, Settings, called, number, seed

CASES_OF_EACH = 12
ALONG = (
    "sum",
    "mean",
    "prod",
    "amax",
    "amin",
    "logsumexp",
    "softmax",
    "log_softmax",
    "cumsum",
    "flip",
    "argmax",
    "any",
)


def like(shape: list[int]) -> Tensor:
    """Numbers, some of them equal, of a shape that broadcasts to this one."""
    return torch.randint(-4, 5, [n if number(0, 2) else 1 for n in shape][number(0, len(shape)) :]) / 2.0


def bounded(name: str) -> tuple[Arrays, Arrays, Settings]:
    """Positional and keyword arrays, and settings, of clamping by tensors and numbers; in two dimensions at most."""
    shape = [number(1, 4) for _ in range(number(1, 2))]
    x = torch.randint(-4, 5, shape) / 2.0
    bounds = {"clamp": ["min", "max"], "clamp_min": ["min"], "clamp_max": ["max"]}[name]
    chosen = [bound for bound in bounds if number(0, 3)] or bounds[:1]
    return {"input": x}, {bound: like(shape) for bound in chosen}, {}


def divided() -> tuple[Arrays, Arrays, Settings]:
    """A division of floats or integers, rounded or not."""
    shape = [number(1, 4) for _ in range(2)]
    x, y = 4 * torch.randn(shape), torch.randint(1, 5, shape[number(0, 2) :]) * (1 - 2.0 * number(0, 1))
    if number(0, 1):
        x, y = (4 * x).long(), y.long()
    return {"input": x, "other": y}, {}, {"rounding_mode": ("trunc", "floor", "ceil")[number(0, 11) // 5]}


def spread() -> tuple[Arrays, Arrays, Settings]:
    """The variance or the standard deviation by `unbiased`."""
    x = torch.randn([number(2, 4) for _ in range(number(1, 3))])
    return {"input": x}, {}, {"dim": number(-x.ndim, x.ndim), "unbiased": bool(number(0, 1)), "keepdim": True}


def product(name: str) -> tuple[Arrays, Arrays, Settings]:
    """Factors of which some do not fit."""
    b, n, k, m = (number(1, 3) for _ in range(4))
    wrong = int(number(0, 6) == 0)
    shapes = {"mm": [(n, k), (k, m)], "mv": [(n, k), (k,)], "dot": [(k,), (k,)], "bmm": [(b, n, k), (b, k, m)]}
    first, second = shapes[{"addmm": "mm", "baddbmm": "bmm"}.get(name, name)]
    factors = {"x": torch.randn(first), "y": torch.randn((second[0] + wrong, *second[1:]))}
    if "add" not in name:
        return factors, {}, {}
    scales = {"beta": number(1, 3) / 2, "alpha": number(-2, 2) / 2}
    return {"input": torch.randn((n, m)[number(0, 1) :])} | factors, {}, scales


def method(name: str) -> tuple[Tensor, list[Any]]:
    """A tensor, and the arguments after it."""
    x = torch.randn([number(1, 4) for _ in range(number(1, 3))])
    dim = number(-x.ndim, x.ndim - 1 + (number(0, 9) == 0))
    length = x.shape[dim % x.ndim]
    given = {
        "narrow": [dim, number(-length, length), number(0, length)],
        "select": [dim, number(-length, length - 1 + (number(0, 5) == 0))],
        "unflatten": [dim, [length, -1] if number(0, 1) else [1, length + (number(0, 5) == 0)]],
    }
    return x, given[name]


def ops_first() -> Iterator[Case]:
    """Cases of each keyword and method."""
    draws = {name: lambda name=name: bounded(name) for name in ("clamp", "clamp_min", "clamp_max")}
    draws |= {"div": divided, "var": spread, "std": spread}
    draws |= {name: lambda name=name: product(name) for name in ("mm", "bmm", "mv", "dot", "addmm", "baddbmm")}
    for name, draw in draws.items():
        for k in range(CASES_OF_EACH):
            seed("ops_first", f"{name}_{k}")
            positional, keyword, settings = draw()
            yield f"{name}_{k}", *called(name, positional, settings, keyword, function=getattr(torch, name))
    for name in ("narrow", "select", "unflatten"):
        for k in range(CASES_OF_EACH):
            seed("ops_first", f"{name}_{k}")
            x, args = method(name)
            yield f"{name}_{k}", *called(name, {"input": x}, args=args, function=getattr(Tensor, name))
    for name in ALONG:
        for k in range(6):
            seed("ops_first", f"{name}_0d_{k}")
            dim = number(-2, 1)  # a 0-d tensor has -1 and 0
            settings: Settings = {"dims": [dim]} if name == "flip" else {"dim": dim}
            yield (
                f"{name}_0d_{k}",
                *called(name, {"input": torch.randn(()) + 0.5}, settings, function=getattr(torch, name)),
            )
