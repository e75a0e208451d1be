"""Golden cases of pools with drawn arguments, as PyTorch computes or refuses them."""

from collections.abc import Iterator

import torch
from torch import Tensor
from torch_cases import Arrays, Case, Settings, called, number, seed
from torch_ops_windows import setting

CASES_OF_EACH = {"max": 12, "avg": 12, "adaptive_max": 6, "adaptive_avg": 6}


def images(dims: int, least: int = 1) -> Tensor:
    """Numbers with ties or without, with or without a batch dimension."""
    batch = [number(1, 2)] * number(0, 1)
    shape = (*batch, number(1, 2), *[number(least, 7) for _ in range(dims)])
    return torch.randint(-6, 7, shape) / 4 if number(0, 1) else torch.randn(shape)


def arguments(kind: str, dims: int) -> Settings:
    """The keywords of a call."""
    if kind.startswith("adaptive"):
        size = setting(dims, 1, 8)
        if dims == 2 and isinstance(size, list) and number(0, 2) == 0:
            return {"output_size": [size[0], None] if number(0, 1) else [None, size[0]]}
        return {"output_size": size}
    settings: Settings = {"kernel_size": setting(dims, 1, 4), "ceil_mode": bool(number(0, 1))}
    if number(0, 3):
        settings["stride"] = setting(dims, 1, 4)
    if number(0, 3):
        settings["padding"] = setting(dims, 0, 2)
    if kind == "max":
        settings["dilation"] = setting(dims, 1, 2)
    else:
        settings["count_include_pad"] = bool(number(0, 1))
        if dims == 2 and number(0, 3) == 0:
            settings["divisor_override"] = number(-2, 5)
    return settings


def drawn(kind: str, dims: int) -> tuple[Arrays, Settings]:
    """The arrays and results of one call, and its settings."""
    settings = arguments(kind, dims)
    if kind.endswith("max"):
        settings["return_indices"] = bool(number(0, 1))
    return called(f"{kind}_pool{dims}d", {"input": images(dims, 1 if kind.startswith("adaptive") else 2)}, settings)


def ops_pooling() -> Iterator[Case]:
    """Cases of each pool."""
    for kind, cases in CASES_OF_EACH.items():
        for dims in (1, 2):
            for place in range(cases):
                case = f"{kind}_pool{dims}d_{place}"
                seed("ops_pooling", case)
                yield case, *drawn(kind, dims)
