"""Golden cases of ops that pad, repeat or slide over elements, of diagonals, tensordot, max and min."""

from collections.abc import Callable, Iterator

import torch
from torch import Tensor
from torch_cases import Arrays, Case, Settings, called, number, seed
from torch_ops_arrays import array, dims_of

CASES_OF_EACH = {"pad": 24}
USUALLY = 8


def _pad() -> tuple[Arrays, Settings]:
    """PyTorch pads the last one to three dimensions, of one or two more, in the modes other than "constant"."""
    mode = ("constant", "reflect", "replicate", "circular")[number(0, 3)]
    padded = number(1, 3)
    ndim = padded + (number(1, 2) if mode != "constant" else number(0, 1))
    x = torch.randn([number(1, 3) for _ in range(ndim - padded)] + [number(1, 4) for _ in range(padded)])
    widths = [number(-2, 2 if mode == "constant" else 3) for _ in range(2 * padded)]
    for length, before, after in zip(reversed(x.shape), widths[::2], widths[1::2], strict=False):
        # PyTorch refuses some results of length 0, and repeats uninitialized elements if too few are left.
        left = length + min(before, 0) + min(after, 0)
        if length + before + after == 0 or (mode == "circular" and left < max(before, after)):
            return _pad()
    value = {"value": float(number(-2, 2))} if mode == "constant" else {}
    return called("pad", {"input": x}, {"pad": widths, "mode": mode, **value})


def _unfold() -> tuple[Arrays, Settings]:
    x = array()
    return called("unfold", {"input": x}, args=[dims_of(x)[0], number(0, 4), number(1, 3)], function=Tensor.unfold)


def _tile() -> tuple[Arrays, Settings]:
    return called("tile", {"input": array()}, args=[[number(0, 2) for _ in range(number(1, 5))]])


def _repeat_interleave() -> tuple[Arrays, Settings]:
    x = array()
    dim = dims_of(x)[0] if number(0, 2) else None
    length = x.numel() if dim is None else x.shape[dim]
    if number(0, 1):
        return called("repeat_interleave", {"input": x}, {"repeats": number(-1, 3), "dim": dim})
    repeats = torch.randint(0, 3, (length + (number(0, 3) == 0),))
    return called("repeat_interleave", {"input": x, "repeats": repeats}, {"dim": dim})


def _movedim() -> tuple[Arrays, Settings]:
    x = array()
    source, destination = (torch.randperm(x.ndim)[: number(1, 2)].tolist() for _ in range(2))
    return called("movedim", {"input": x}, {"source": source, "destination": destination})


def _diagonal() -> tuple[Arrays, Settings]:
    x = array(2)
    dim1, dim2 = number(-x.ndim, x.ndim - 1), number(-x.ndim, x.ndim - 1)
    return called("diagonal", {"input": x}, {"offset": number(-3, 3), "dim1": dim1, "dim2": dim2})


def _trace() -> tuple[Arrays, Settings]:
    return called("trace", {"input": torch.randn([number(1, 4) for _ in range(number(2, 2 + (number(0, 3) == 0)))])})


def _tensordot() -> tuple[Arrays, Settings]:
    lengths = [number(1, 3) for _ in range(number(0, 2))]
    x = torch.randn([number(1, 3) for _ in range(number(0, 2))] + lengths)
    y = torch.randn(lengths + [number(1, 3) for _ in range(number(0, 2))])
    if number(0, 1):
        return called("tensordot", {"input": x, "other": y}, {"dims": len(lengths)})
    order, places = torch.randperm(y.ndim), range(x.ndim - len(lengths), x.ndim)
    turned = y.permute(order.tolist()).contiguous()
    dims = [list(places), [int((order == k).nonzero()) for k in range(len(lengths))]]
    return called("tensordot", {"input": x, "other": turned}, {"dims": dims})


def _extreme(name: str) -> Callable[[], tuple[Arrays, Settings]]:
    def call() -> tuple[Arrays, Settings]:
        x = array()
        x = torch.randint(-2, 3, x.shape) / 2 if number(0, 1) else x
        return called(name, {"input": x}, {"dim": number(-x.ndim - 1, x.ndim), "keepdim": bool(number(0, 1))})

    return call


DRAWS: dict[str, Callable[[], tuple[Arrays, Settings]]] = {
    "pad": _pad,
    "unfold": _unfold,
    "tile": _tile,
    "repeat_interleave": _repeat_interleave,
    "movedim": _movedim,
    "diagonal": _diagonal,
    "trace": _trace,
    "tensordot": _tensordot,
    "max": _extreme("max"),
    "min": _extreme("min"),
}


def ops_padding() -> Iterator[Case]:
    """Cases of each op."""
    for name, draw in DRAWS.items():
        for place in range(CASES_OF_EACH.get(name, USUALLY)):
            case = f"{name}_{place}"
            seed("ops_padding", case)
            yield case, *draw()
