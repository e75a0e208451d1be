"""Golden cases of batch_norm, group_norm and rms_norm with drawn arguments, as PyTorch computes them."""

from collections.abc import Iterator

import torch
from torch import Tensor
from torch.nn import functional
from torch_cases import Arrays, Case, Settings, called, number, one_of, seed

CASES_OF_EACH = 20
STATISTICS = ("running_mean", "running_var")


def lengths(least: int, most: int) -> list[int]:
    """The lengths of a number of dimensions between two bounds."""
    return torch.randint(1, 5, (number(least, most),)).tolist()


def affine(shape: list[int], bias: bool = True) -> Arrays:
    """A weight and, in half of the cases, a bias; or neither. PyTorch has no derivative of a bias alone."""
    names = ["weight", "bias"][: int(torch.randint(3 if bias else 2, ()))]
    return {name: torch.randn(shape) for name in names}


def batch_norm() -> tuple[Arrays, Settings]:
    """The arrays and keywords of a call."""
    batch, channels, *rest = [number(2, 4), *lengths(1, 4)]
    statistics: Arrays = {"running_mean": torch.randn(channels), "running_var": 0.2 + torch.rand(channels)}
    training = bool(one_of(True, True, False))
    settings: Settings = {"training": training, "momentum": one_of(0.0, 0.1, 0.7, 1.0), "eps": one_of(1e-5, 0.1)}
    if training and one_of(True, False, False):
        statistics, settings = {}, {"running_mean": None, "running_var": None} | settings
    return {"input": 1 + 3 * torch.randn(batch, channels, *rest), **statistics, **affine([channels])}, settings


def group_norm() -> tuple[Arrays, Settings]:
    """The arrays and keywords of a call."""
    groups = number(1, 3)
    batch, size, *rest = [number(2, 3), *lengths(1, 3)]
    arrays = {"input": 1 + 3 * torch.randn(batch, groups * size, *rest), **affine([groups * size])}
    return arrays, {"num_groups": groups, "eps": one_of(1e-5, 0.1)}


def rms_norm() -> tuple[Arrays, Settings]:
    """The arrays and keywords of a call."""
    shape = lengths(1, 4)
    normalized = shape[int(torch.randint(len(shape), ())) :]
    return {"input": torch.randn(shape), **affine(normalized, False)}, {
        "normalized_shape": normalized,
        "eps": one_of(None, 1e-5, 0.1),
    }


def after(x: Tensor, settings: Settings, arrays: Arrays) -> Arrays:
    """The running statistics after a call of batch_norm."""
    given = {name: array.clone() for name, array in arrays.items()}
    functional.batch_norm(x, **given, **settings)
    return {f"{name}_after": given[name] for name in STATISTICS if name in given}


def ops_normalization() -> Iterator[Case]:
    """Cases of each op; of batch_norm also the running statistics after the call."""
    for draw in (batch_norm, group_norm, rms_norm):
        for place in range(CASES_OF_EACH):
            name = draw.__name__
            seed("ops_normalization", f"{name}_{place}")
            arrays, kwargs = draw()
            x = arrays.pop("input")
            statistics = after(x, kwargs, arrays) if draw is batch_norm else {}
            results, settings = called(name, {"input": x}, kwargs, arrays, constant=STATISTICS)
            yield f"{name}_{place}", results | statistics, settings
