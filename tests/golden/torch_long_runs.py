"""Golden cases of optimizers over a hundred steps, with two groups, as PyTorch computes them."""

from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor, nn
from torch_cases import Arrays, Case, Settings, seed

STEPS = 100
KEPT = [1, *range(10, STEPS + 1, 10)]

DECAY = {"weight_decay": 0.1}
CASES: dict[str, tuple[str, Settings]] = {
    "sgd": ("SGD", {"lr": 0.1, "momentum": 0.9, **DECAY}),
    "sgd_maximize": ("SGD", {"lr": 0.1, "momentum": 0.9, "nesterov": True, "maximize": True, **DECAY}),
    "rmsprop": ("RMSprop", {"momentum": 0.5, **DECAY}),
    "rmsprop_maximize": ("RMSprop", {"centered": True, "maximize": True, **DECAY}),
    "adagrad": ("Adagrad", {"lr": 0.1, "lr_decay": 0.01, **DECAY}),
    "adagrad_maximize": ("Adagrad", {"lr": 0.1, "maximize": True, **DECAY}),
    "adam": ("Adam", {"lr": 0.05, **DECAY}),
    "adam_maximize": ("Adam", {"lr": 0.05, "amsgrad": True, "maximize": True, **DECAY}),
    "adamw": ("AdamW", {"lr": 0.05}),
    "adamw_maximize": ("AdamW", {"lr": 0.05, "maximize": True, **DECAY}),
    "nadam": ("NAdam", {}),
    "nadam_weight_decay": ("NAdam", {"lr": 0.05, "momentum_decay": 0.01, **DECAY}),
    "nadam_decoupled": ("NAdam", {"lr": 0.05, "decoupled_weight_decay": True, **DECAY}),
    "nadam_maximize": ("NAdam", {"lr": 0.01, "betas": [0.8, 0.9], "maximize": True, **DECAY}),
    "radam": ("RAdam", {}),
    "radam_weight_decay": ("RAdam", {"lr": 0.05, "eps": 1e-3, **DECAY}),
    "radam_decoupled": ("RAdam", {"lr": 0.05, "decoupled_weight_decay": True, **DECAY}),
    "radam_maximize": ("RAdam", {"lr": 0.05, "betas": [0.8, 0.9], "maximize": True, **DECAY}),
}


def loss(arrays: Arrays, weight: Tensor, bias: Tensor, step: int) -> Tensor:
    """A regression, and a term that is different at each step."""
    error = (arrays["x"] @ weight.T + bias).tanh() - arrays["y"]
    return (error * error).mean() + ((arrays["noise"] * step).cos() * bias).sum() / 10


def trained(arrays: Arrays, weight: Tensor, bias: Tensor, optimizer: Any, maximize: bool) -> Arrays:
    """The parameters after the steps of an optimizer that calls a closure."""
    kept: dict[str, list[Tensor]] = {"weight_steps": [], "bias_steps": []}
    for step in range(1, STEPS + 1):

        def closure(step: int = step) -> Tensor:
            optimizer.zero_grad()
            value = loss(arrays, weight, bias, step)
            value = -value if maximize else value
            value.backward()
            return value

        optimizer.step(closure)
        if step in KEPT:
            kept["weight_steps"].append(weight.detach().clone())
            kept["bias_steps"].append(bias.detach().clone())
    return {name: torch.stack(steps) for name, steps in kept.items()}


def long_runs() -> Iterator[Case]:
    """Runs in which the bias has a group of its own."""
    for case, (name, given) in CASES.items():
        seed("long_runs", case)
        arrays = {"x": torch.randn(8, 2), "y": torch.rand(8, 3) - 0.5, "noise": torch.rand(3)}
        arrays |= {"weight": torch.randn(3, 2), "bias": torch.randn(3)}
        weight, bias = (nn.Parameter(arrays[key].clone()) for key in ("weight", "bias"))
        made: Callable[..., torch.optim.Optimizer] = getattr(torch.optim, name)
        second = {"lr": 2 * made([weight], **given).param_groups[0]["lr"], "weight_decay": 0.2}
        optimizer = made([{"params": [weight]}, {"params": [bias], **second}], **given)
        arrays |= trained(arrays, weight, bias, optimizer, given.get("maximize", False))
        yield case, arrays, {"class": name, "given": given, "second": second, "kept": KEPT}
