"""Golden cases of ops that write or select at indices with drawn arguments, as PyTorch computes or refuses them.

Places that are overwritten are drawn once each: PyTorch leaves undefined which of several values stays.
"""

import math
from collections.abc import Iterator, Sequence

import torch
from torch import Tensor
from torch_cases import Arrays, Case, Settings, called, number, seed

CASES_OF_EACH = 12
ALONG = ("gather", "scatter", "scatter_add")
SLICES = ("index_add", "index_copy", "index_fill")
NAMES = (*ALONG, *SLICES, "take", "put", "index_put", "masked_select", "masked_scatter", "one_hot")


def lengths(least: int, most: int) -> list[int]:
    """The lengths of a number of dimensions between two bounds."""
    return [number(1, 4) for _ in range(number(least, most))]


def drawn(shape: Sequence[int], dtype: torch.dtype) -> Tensor:
    """Floats, or small integers."""
    return torch.randn(shape) if dtype.is_floating_point else torch.randint(-4, 5, shape, dtype=dtype)


def along(name: str, x: Tensor) -> tuple[Arrays, Settings]:
    """An index, and a src that may be longer."""
    dim = number(-x.ndim, x.ndim - 1) if x.ndim else number(-1, 0)
    shape = [number(0, length) for length in x.shape]
    at = dim % max(x.ndim, 1)
    if shape:
        shape[at] = number(1, x.shape[at] if name == "scatter" else 5)
    places = torch.rand([*shape[:at], x.shape[at], *shape[at + 1 :]]).argsort(at) if shape else torch.tensor(0)
    index = places[(*(slice(None),) * at, slice(shape[at]))] if shape else places
    if name != "scatter" and shape:
        index = torch.randint(0, x.shape[at], shape)
    arrays = {"index": index}
    if name != "gather":
        # PyTorch differentiates a src of the index's shape only.
        arrays["src"] = drawn([length + number(0, int(x.dtype == torch.int64)) for length in index.shape], x.dtype)
    return arrays, {"dim": dim}


def slices(name: str, x: Tensor) -> tuple[Arrays, Settings]:
    """A 1-D index, and a source; once in a while the source is too long."""
    dim = number(-x.ndim, x.ndim - 1)
    length = x.shape[dim]
    index = torch.randint(0, length, (number(0, 5),)) if name == "index_add" else torch.randperm(length)
    index = index[: number(0, len(index))]
    if name == "index_fill":
        return {"index": index, "value": drawn([], x.dtype)}, {"dim": dim}
    shape = list(x.shape)
    shape[dim] = len(index) + (number(0, 9) == 0)
    alpha = {"alpha": number(-1, 2)} if name == "index_add" else {}
    return {"index": index, "source": drawn(shape, x.dtype)}, {"dim": dim} | alpha


def places(name: str, x: Tensor) -> tuple[Arrays, Settings]:
    """An index of any shape, counted from the start or the end."""
    shape = lengths(0, 2)
    if name == "take":
        return {"index": torch.randint(-x.numel(), x.numel(), shape)}, {}
    accumulate = bool(number(0, 1))
    index = torch.randint(-x.numel(), x.numel(), shape) if accumulate else torch.randperm(x.numel())[: math.prod(shape)]
    return {"index": index, "source": drawn(index.shape, x.dtype)}, {"accumulate": accumulate}


def indices(x: Tensor) -> tuple[Arrays, Settings]:
    """Lists of indices for some first dimensions, and values that broadcast."""
    dims = number(1, x.ndim)
    accumulate, size = bool(number(0, 1)), math.prod(x.shape[:dims])
    chosen = torch.randint(0, size, (number(1, 4),)) if accumulate else torch.randperm(size)[: number(1, 4)]
    at = [index.tolist() for index in torch.unravel_index(chosen, x.shape[:dims])]
    shape = [number(0, 1) or length for length in (len(chosen), *x.shape[dims:])]
    return {"values": drawn(shape[number(0, len(shape)) :], x.dtype)}, {"indices": at, "accumulate": accumulate}


def masks(name: str, x: Tensor) -> tuple[Arrays, Settings]:
    """A mask that broadcasts to x, and at least as many elements as it is true for."""
    shape = [number(0, 1) or length for length in x.shape]
    mask = torch.rand(shape[number(0, len(shape)) :]) < 0.5
    if name == "masked_select":
        return {"mask": mask}, {}
    true = int(mask.expand(x.shape).sum())
    return {"mask": mask, "source": drawn([true + number(0, 2)], x.dtype)}, {}


def index_put(x: Tensor, values: Tensor, indices: list[list[int]], accumulate: bool) -> Tensor:
    """PyTorch's, of lists."""
    return torch.index_put(x, tuple(map(torch.tensor, indices)), values, accumulate)


def ops_scattering() -> Iterator[Case]:
    """Cases of each op."""
    for name in NAMES:
        for place in range(CASES_OF_EACH):
            case = f"{name}_{place}"
            seed("ops_scattering", case)
            if name == "one_hot":
                ids = torch.randint(0, 4, lengths(0, 3))
                yield case, *called(name, {"input": ids}, {"num_classes": [-1, 4, 6][number(0, 2)]})
                continue
            x = drawn(lengths(0 if name in ALONG else 1, 3), [torch.float64, torch.int64][number(0, 3) // 3])
            if name in ALONG:
                keyword, kwargs = along(name, x)
            elif name in SLICES:
                keyword, kwargs = slices(name, x)
            elif name == "index_put":
                keyword, kwargs = indices(x)
            else:
                keyword, kwargs = (masks if name.startswith("masked") else places)(name, x)
            function = index_put if name == "index_put" else getattr(torch, name)
            yield case, *called(name, {"input": x}, kwargs, keyword, function=function)
