"""Golden cases of reductions, of ops that move or choose elements, and of products, as PyTorch computes them."""

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor
from torch_cases import Case, called, number, seed

CASES_OF_EACH = 4
REDUCTIONS = ("all", "amax", "amin", "any", "argmax", "argmin", "log_softmax", "mean", "softmax", "sum")
JOINS = ("cat", "concat", "concatenate", "stack")


def array(least: int = 1) -> Tensor:
    """Normal numbers in `least` to four dimensions."""
    return torch.randn([number(1, 4) for _ in range(number(least, 4))])


def dims_of(x: Tensor) -> list[int]:
    """Some dimensions, in any order, half of them counted from the end."""
    chosen = torch.randperm(x.ndim)[: number(1, x.ndim)].tolist()
    return [dim - x.ndim * number(0, 1) for dim in chosen]


def reduction(name: str, x: Tensor) -> dict[str, Any]:
    """The arguments of a reduction of all dimensions, of one, or of several where PyTorch takes several."""
    if "softmax" in name:
        return {"dim": dims_of(x)[0]}
    if number(0, 3) == 0:
        return {}
    return {"dim": dims_of(x)[0] if name.startswith("arg") else dims_of(x), "keepdim": bool(number(0, 1))}


def moves(x: Tensor) -> dict[str, list[Any]]:
    """Ops that move elements, and arguments of each."""
    dim, several = dims_of(x)[0], dims_of(x)
    return {
        "broadcast_to": [[number(1, 2), *x.shape]],
        "chunk": [number(1, 3), dim],
        "clone": [],
        "expand": [number(1, 2), *(-1 for _ in x.shape)],
        "flatten": sorted(number(0, x.ndim - 1) for _ in range(2)),
        "flip": [several],
        "permute": [torch.randperm(x.ndim).tolist()],
        "repeat": [number(1, 2), *(number(1, 2) for _ in x.shape)],
        "reshape": [[-1, x.shape[-1]]],
        "roll": [[number(-5, 5) for _ in several], several],
        "split": [number(1, 3), dim],
        "squeeze": [dim] if number(0, 1) else [],
        "swapaxes": [dim, several[-1]],
        "transpose": [dim, several[-1]],
        "unbind": [dim],
        "unsqueeze": [number(-x.ndim - 1, x.ndim)],
    }


def ops_arrays() -> Iterator[Case]:
    """Cases of each op."""
    for place in range(CASES_OF_EACH):
        for name in REDUCTIONS:
            case = f"{name}_{place}"
            seed("ops_arrays", case)
            x = array()
            if name in ("all", "any"):
                x = x < 1 if name == "all" else x > 1
            yield case, *called(name, {"input": x}, reduction(name, x))
        for name in moves(torch.zeros(1)):
            case = f"{name}_{place}"
            seed("ops_arrays", case)
            x = array()
            yield case, *called(name, {"input": x}, args=moves(x)[name])
        for name in JOINS:
            case = f"{name}_{place}"
            seed("ops_arrays", case)
            x, times = array(), number(1, 3)
            arrays = {f"x{k}": torch.randn_like(x) for k in range(times)}
            yield case, *called(name, arrays, {"dim": dims_of(x)[0]}, listed=True)
        seed("ops_arrays", f"others_{place}")
        x = array(2)
        for name in ("tril", "triu"):
            yield f"{name}_{place}", *called(name, {"input": x}, {"diagonal": number(-2, 2)})
        dim = dims_of(x)[0]
        index = torch.randint(x.shape[dim], (number(1, 5),))
        yield f"index_select_{place}", *called("index_select", {"input": x}, {"dim": dim}, {"index": index})
        index = torch.randint(x.shape[dim], [number(1, length) for length in x.shape])
        yield f"gather_{place}", *called("gather", {"input": x}, {"dim": dim}, {"index": index})
        index = x.argsort(dim)
        yield f"take_along_dim_{place}", *called("take_along_dim", {"input": x, "indices": index}, {"dim": dim})
        depth = x.shape[-1]
        rows = number(1, 4)
        weights = {"weight": torch.randn(rows, depth), "bias": torch.randn(rows)}
        yield f"linear_{place}", *called("linear", {"input": x} | weights)
        second = torch.randn(*x.shape[:-2], depth, number(1, 4)) if number(0, 1) else torch.randn(depth)
        yield f"matmul_{place}", *called("matmul", {"input": x, "other": second})
        yield f"outer_{place}", *called("outer", {"input": torch.randn(depth), "vec2": torch.randn(number(1, 4))})
