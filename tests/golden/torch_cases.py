"""What the golden cases share: their types, sizes, random numbers and gradients."""

import zlib
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

TIME, BATCH, INPUT, HIDDEN = 5, 4, 3, 4

Arrays = dict[str, Tensor]
Settings = dict[str, Any]
Case = tuple[str, Arrays, Settings]


def seed(file: str, case: str) -> None:
    """Start the random numbers of one case."""
    torch.manual_seed(zlib.crc32(f"{file}/{case}".encode()))


def number(least: int, most: int) -> int:
    """An integer within two bounds."""
    return int(torch.randint(least, most + 1, ()))


def one_of(*choices: Any) -> Any:
    """One of the choices."""
    return choices[number(0, len(choices) - 1)]


def gradients(loss: Tensor, inputs: Mapping[str, Tensor]) -> Arrays:
    """`grad_<name>` of a scalar loss for each named input."""
    return {f"grad_{name}": g for name, g in zip(inputs, torch.autograd.grad(loss, list(inputs.values())), strict=True)}


def called(
    op: str,
    positional: Arrays,
    kwargs: Settings | None = None,
    keyword: Arrays | None = None,
    *,
    args: Sequence[Any] = (),
    constant: Collection[str] = (),
    listed: bool = False,
    function: Callable[..., Any] | None = None,
) -> tuple[Arrays, Settings]:
    """The arrays and results of a call, and the settings with which a test repeats it.

    The results are `out` (or `out_0`, `out_1`, ...), and the gradients of the sum of `out * w_out` for the arrays of
    floats but for the `constant` ones. `args` follow the positional arrays, which a `listed` call takes as one list.
    `function` is PyTorch's, if `op` does not name it. If it refuses the arguments, there are no results, and the
    settings have `refused`.
    """
    kwargs, keyword = kwargs or {}, keyword or {}
    inputs = {n: a.clone() for n, a in (positional | keyword).items()}
    differentiated = {n: a.requires_grad_() for n, a in inputs.items() if a.is_floating_point() and n not in constant}
    first = [inputs[name] for name in positional]
    function = function or getattr(functional, op, None) or getattr(torch, op, None) or getattr(Tensor, op)
    settings = {"op": op, "positional": list(positional), "keyword": list(keyword), "kwargs": kwargs}
    settings |= {"args": list(args)} if args else {}
    settings |= {"listed": True} if listed else {}
    try:
        found = function(*([first] if listed else first), *args, **{name: inputs[name] for name in keyword}, **kwargs)
    except (RuntimeError, ValueError, IndexError, TypeError):
        return positional | keyword, settings | {"refused": True}
    outs = {"out": found} if isinstance(found, Tensor) else {f"out_{place}": out for place, out in enumerate(found)}
    weights = {f"w_{name}": torch.randn_like(out) for name, out in outs.items() if out.requires_grad}
    arrays = positional | keyword | outs | weights
    if weights:
        loss = sum((outs[name.removeprefix("w_")] * weight).sum() for name, weight in weights.items())
        arrays |= gradients(loss, differentiated)
    return arrays, settings
