"""What the golden cases share: their types, sizes, random numbers and gradients."""

import zlib
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

TIME, BATCH, INPUT, HIDDEN = 5, 4, 3, 4

Arrays = dict[str, Tensor]
Settings = dict[str, Any]
Case = tuple[str, Arrays, Settings]


def seed(file: str, case: str) -> None:
    """Start the random numbers of one case."""
    torch.manual_seed(zlib.crc32(f"{file}/{case}".encode()))


def gradients(loss: Tensor, inputs: Mapping[str, Tensor]) -> Arrays:
    """`grad_<name>` of a scalar loss for each named input."""
    return {f"grad_{name}": g for name, g in zip(inputs, torch.autograd.grad(loss, list(inputs.values())), strict=True)}
