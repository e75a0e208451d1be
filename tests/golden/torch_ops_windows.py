"""Golden cases of convolutions and pools with drawn arguments, as PyTorch computes them."""

from collections.abc import Iterator

import torch
from torch_cases import Arrays, Case, Settings, called, number, seed

CASES_OF_EACH = 16


def setting(dims: int, least: int, most: int) -> int | list[int]:
    """An integer for all dimensions, or one for each."""
    return [number(least, most) for _ in range(dims)] if number(0, 1) else number(least, most)


def convolution(name: str) -> tuple[Arrays, Settings]:
    """The arrays and results of a call, and its settings."""
    dims = 2 if name.endswith("2d") else 1
    groups, depth, filters = number(1, 2), number(1, 2), number(1, 2)
    settings: Settings = {"stride": setting(dims, 1, 2), "dilation": setting(dims, 1, 2), "groups": groups}
    settings["padding"] = setting(dims, 0, 1 if name == "conv_transpose1d" else 2)
    if name == "conv_transpose1d":
        settings["output_padding"] = number(0, 1) if settings["stride"] in (2, [2]) else 0
    elif number(0, 3) == 0:
        settings |= {"padding": "same", "stride": 1}
    first, second = (depth, filters) if name == "conv_transpose1d" else (filters, depth)
    batch = [number(1, 2)] * number(0, 1)
    x = torch.randn(*batch, groups * depth, *[number(5, 7) for _ in range(dims)])
    keyword = {
        "weight": torch.randn(groups * first, second, *[number(1, 3) for _ in range(dims)]),
        "bias": torch.randn(groups * filters),
    }
    return called(name, {"input": x}, settings, keyword)


def ops_windows() -> Iterator[Case]:
    """Cases of each op."""
    for name in ("conv1d", "conv2d", "conv_transpose1d"):
        for place in range(CASES_OF_EACH):
            case = f"{name}_{place}"
            seed("ops_windows", case)
            yield case, *convolution(name)
