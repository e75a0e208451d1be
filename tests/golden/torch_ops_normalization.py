"""Golden cases of batch_norm, group_norm and rms_norm with drawn arguments, as PyTorch computes them."""

from collections.abc import Iterator

import torch
from torch.nn import functional
from torch_cases import Arrays, Case, Settings, gradients, seed

CASES_OF_EACH = 20


def drawn(*choices: object) -> object:
    """One of the choices."""
    return choices[int(torch.randint(len(choices), ()))]


def lengths(least: int, most: int) -> list[int]:
    """The lengths of a number of dimensions between two bounds."""
    return torch.randint(1, 5, (int(torch.randint(least, most + 1, ())),)).tolist()


def affine(shape: list[int], bias: bool = True) -> Arrays:
    """A weight and, in half of the cases, a bias; or neither. PyTorch has no derivative of a bias alone."""
    names = ["weight", "bias"][: int(torch.randint(3 if bias else 2, ()))]
    return {name: torch.randn(shape) for name in names}


def batch_norm() -> tuple[Arrays, Settings]:
    """The arrays and keywords of a call."""
    batch, channels, *rest = [int(torch.randint(2, 5, ())), *lengths(1, 4)]
    statistics: Arrays = {"running_mean": torch.randn(channels), "running_var": 0.2 + torch.rand(channels)}
    training = bool(drawn(True, True, False))
    settings: Settings = {"training": training, "momentum": drawn(0.0, 0.1, 0.7, 1.0), "eps": drawn(1e-5, 0.1)}
    if training and drawn(True, False, False):
        statistics, settings = {}, {"running_mean": None, "running_var": None} | settings
    return {"input": 1 + 3 * torch.randn(batch, channels, *rest), **statistics, **affine([channels])}, settings


def group_norm() -> tuple[Arrays, Settings]:
    """The arrays and keywords of a call."""
    groups = int(torch.randint(1, 4, ()))
    batch, size, *rest = [int(torch.randint(2, 4, ())), *lengths(1, 3)]
    arrays = {"input": 1 + 3 * torch.randn(batch, groups * size, *rest), **affine([groups * size])}
    return arrays, {"num_groups": groups, "eps": drawn(1e-5, 0.1)}


def rms_norm() -> tuple[Arrays, Settings]:
    """The arrays and keywords of a call."""
    shape = lengths(1, 4)
    normalized = shape[int(torch.randint(len(shape), ())) :]
    return {"input": torch.randn(shape), **affine(normalized, False)}, {
        "normalized_shape": normalized,
        "eps": drawn(None, 1e-5, 0.1),
    }


def ops_normalization() -> Iterator[Case]:
    """Cases of each op; of batch_norm also the running statistics after the call."""
    for draw in (batch_norm, group_norm, rms_norm):
        for number in range(CASES_OF_EACH):
            case = f"{draw.__name__}_{number}"
            seed("ops_normalization", case)
            arrays, settings = draw()
            given = {name: array.clone() for name, array in arrays.items()}
            inputs = {name: given[name].requires_grad_() for name in ("input", "weight", "bias") if name in given}
            out = getattr(functional, draw.__name__)(**given, **settings)
            w_out = torch.randn_like(out)
            after = {f"{name}_after": given[name] for name in ("running_mean", "running_var") if name in given}
            results = after | {"out": out, "w_out": w_out} | gradients((out * w_out).sum(), inputs)
            options = {"op": draw.__name__, "positional": ["input"], "keyword": list(given)[1:], "kwargs": settings}
            yield case, arrays | results, options
