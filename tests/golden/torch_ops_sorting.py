"""Golden cases of sorting, searching and cumulative ops with drawn arguments, as PyTorch computes or refuses them."""

import math
from collections.abc import Iterator

import torch
from torch import Tensor
from torch_cases import Case, Settings, called, number, seed

CASES_OF_EACH = 14
INTERPOLATIONS = ("linear", "lower", "higher", "midpoint", "nearest")
UNUSUAL = torch.tensor([math.nan, math.inf, -math.inf, 0.0, -0.0])
# Of equal elements, PyTorch may return any.
WITHOUT_TIES = {"topk", "median", "nanmedian", "quantile"}
WITH_DIM = {"cumsum", "cumprod", "logcumsumexp", "cummax", "cummin", "topk"}
NAMES = (*WITHOUT_TIES, *WITH_DIM, "sort", "argsort", "diff", "unique", "nonzero")


def drawn(name: str, shape: list[int]) -> tuple[Tensor, bool]:
    """Numbers; of ops for which it matters, some of them equal. And whether they are constant: some are not finite."""
    kind = number(0, 3)
    x = torch.randn(shape)
    if name in WITHOUT_TIES or kind == 0:
        return x, False
    if kind == 1:
        return torch.randint(-2, 3, shape).double(), False
    if kind == 2 and name not in ("logcumsumexp", "diff"):
        return torch.randint(-3, 4, shape), True
    return torch.where(torch.rand(shape) < 0.3, UNUSUAL[torch.randint(0, len(UNUSUAL), shape)], x), True


def arguments(name: str, shape: list[int]) -> Settings:
    """The keywords of a call; once in a while a dimension, a number of elements or a quantile is out of range."""
    outside = number(0, 9) == 0
    dim = number(-len(shape), len(shape) - 1) if shape else number(-1, 0)
    length = shape[dim] if shape else 1
    options: Settings = {"dim": len(shape) + 1 if outside else dim}
    if name in ("median", "nanmedian"):
        return {} if number(0, 2) == 0 else options | {"keepdim": bool(number(0, 1))}
    if name in ("sort", "argsort"):
        return options | {"descending": bool(number(0, 1)), "stable": True}
    if name == "topk":
        return {"k": length + 1 if outside else number(1, length), "dim": dim, "largest": bool(number(0, 1))}
    if name == "quantile":
        q = 1.25 if outside else number(0, 20) / 20
        of = {"q": q, "keepdim": bool(number(0, 1)), "interpolation": INTERPOLATIONS[number(0, 4)]}
        return of if number(0, 1) else of | {"dim": dim}
    if name == "diff":
        return {"n": number(0, 3), "dim": dim}
    if name == "unique":
        options = options if number(0, 1) else {}
        return options | {"return_inverse": bool(number(0, 1)), "return_counts": bool(number(0, 1))}
    return {"as_tuple": bool(number(0, 1))} if name == "nonzero" else options


def ops_sorting() -> Iterator[Case]:
    """Cases of each op."""
    for name in dict.fromkeys(sorted(NAMES)):
        for place in range(CASES_OF_EACH):
            case = f"{name}_{place}"
            seed("ops_sorting", case)
            shape = [number(1, 4) for _ in range(number(0, 3))]
            x, constant = drawn(name, shape)
            kwargs = arguments(name, shape)
            keyword = {}
            if name == "diff" and shape and number(0, 1):
                edge = [number(1, 2) if d == kwargs["dim"] % len(shape) else length for d, length in enumerate(shape)]
                keyword = {"prepend": torch.randn(edge), "append": torch.randn(edge)}
                kwargs |= {"n": number(1, 3)}
            if name == "unique":  # the order of slices with NaNs is not defined
                x, constant = torch.where(x.isfinite(), x, 1).round(), True
            arrays, settings = called(name, {"input": x}, kwargs, keyword, constant={"input"} if constant else ())
            yield case, arrays, settings
    for name in ("searchsorted", "bucketize"):
        for place in range(CASES_OF_EACH):
            case = f"{name}_{place}"
            seed("ops_sorting", case)
            in_rows = name == "searchsorted" and bool(number(0, 1))
            lead = [number(1, 3) for _ in range(number(0, 2) if in_rows else 0)]
            sequence = (torch.randint(-3, 4, [*lead, number(1, 5)]) / 2).sort(-1).values
            shape = [*lead, number(1, 4)] if in_rows else [number(1, 4) for _ in range(number(0, 2))]
            values = torch.randint(-4, 5, shape) / 2
            both = {"sorted_sequence": sequence, "values": values}
            if name == "bucketize":
                both = {"values": values, "boundaries": sequence}
            sides: list[Settings] = [{}, {"right": True}]
            sides += [{"side": "right"}, {"side": "left"}, {"side": "left", "right": True}] * (name != "bucketize")
            yield case, *called(name, both, sides[number(0, len(sides) - 1)], constant=list(both))
