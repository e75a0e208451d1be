"""Golden cases of optimizers, learning rate schedules and gradient clipping, as PyTorch computes them."""

import itertools
from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import lr_scheduler
from torch_cases import Arrays, Case, Settings, seed

OPTIMIZER_STEPS, SCHEDULE_STEPS = 20, 30

OPTIMIZER_CASES: dict[str, tuple[type[torch.optim.Optimizer], Settings]] = {
    "sgd": (torch.optim.SGD, {}),
    "sgd_momentum": (torch.optim.SGD, {"momentum": 0.9}),
    "sgd_nesterov": (torch.optim.SGD, {"momentum": 0.9, "nesterov": True}),
    "sgd_weight_decay": (torch.optim.SGD, {"weight_decay": 0.1}),
    "sgd_dampening": (torch.optim.SGD, {"momentum": 0.9, "dampening": 0.5}),
    "sgd_nesterov_weight_decay": (torch.optim.SGD, {"lr": 0.1, "momentum": 0.9, "nesterov": True, "weight_decay": 0.1}),
    "rmsprop": (torch.optim.RMSprop, {}),
    "rmsprop_centered": (torch.optim.RMSprop, {"centered": True}),
    "rmsprop_momentum": (torch.optim.RMSprop, {"momentum": 0.9}),
    "rmsprop_all": (torch.optim.RMSprop, {"centered": True, "momentum": 0.9, "weight_decay": 0.1, "alpha": 0.9}),
    "adagrad": (torch.optim.Adagrad, {}),
    "adagrad_lr_decay": (torch.optim.Adagrad, {"lr_decay": 0.1}),
    "adagrad_weight_decay": (torch.optim.Adagrad, {"weight_decay": 0.1}),
    "adam": (torch.optim.Adam, {}),
    "adam_amsgrad": (torch.optim.Adam, {"amsgrad": True}),
    "adam_weight_decay": (torch.optim.Adam, {"weight_decay": 0.1}),
    "adamw": (torch.optim.AdamW, {}),
    "adamw_amsgrad_betas": (
        torch.optim.AdamW,
        {"lr": 0.1, "betas": [0.5, 0.9], "eps": 1e-6, "weight_decay": 0.1, "amsgrad": True},
    ),
}
# How torch runs a step, and which way: not what the step is.
NOT_HYPERPARAMETERS = {
    "params", "foreach", "fused", "maximize", "capturable", "differentiable", "decoupled_weight_decay",
}  # fmt: skip


def drawn_parameters() -> Arrays:
    """Two small parameters (or their gradients)."""
    return {"weight": torch.randn(3, 2), "bias": torch.randn(3)}


def optimizers() -> Iterator[Case]:
    """Steps down a quadratic bowl, with noise on its gradients."""
    for case, (optimizer_class, given) in OPTIMIZER_CASES.items():
        seed("optimizers", case)
        arrays = drawn_parameters()
        parameters = {name: nn.Parameter(initial.clone()) for name, initial in arrays.items()}
        optimum = drawn_parameters()
        curvature = {name: 0.5 + torch.rand_like(p) for name, p in parameters.items()}
        make: Callable[..., torch.optim.Optimizer] = optimizer_class
        optimizer = make(parameters.values(), **given)
        history: dict[str, list[Tensor]] = {f"{name}_{kind}": [] for name in parameters for kind in ("grads", "steps")}
        for _ in range(OPTIMIZER_STEPS):
            for name, p in parameters.items():
                p.grad = curvature[name] * (p.detach() - optimum[name]) + 0.3 * torch.randn_like(p)
                history[f"{name}_grads"].append(p.grad.clone())
            optimizer.step()
            for name, p in parameters.items():
                history[f"{name}_steps"].append(p.detach().clone())
        arrays |= {name: torch.stack(steps) for name, steps in history.items()}
        used = {name: v for name, v in optimizer.param_groups[0].items() if name not in NOT_HYPERPARAMETERS}
        yield case, arrays, {"class": optimizer_class.__name__, "given": given, "hyperparameters": used}


SCHEDULE_CASES: dict[str, tuple[str, Settings]] = {
    "step": ("StepLR", {"step_size": 7, "gamma": 0.5}),
    "exponential": ("ExponentialLR", {"gamma": 0.9}),
    "cosine": ("CosineAnnealingLR", {"T_max": 30, "eta_min": 0.001}),
    "warmup": ("LinearLR", {"start_factor": 0.1, "total_iters": 5}),
    "plateau": ("ReduceLROnPlateau", {"factor": 0.4, "patience": 2, "cooldown": 2, "min_lr": 0.01}),
    "plateau_max_abs": (
        "ReduceLROnPlateau",
        {"mode": "max", "factor": 0.5, "patience": 2, "threshold": 0.05, "threshold_mode": "abs"},
    ),
}
INITIAL_RATE = 0.1


def schedules() -> Iterator[Case]:
    """The learning rate at first and after each step."""
    for case, (name, kwargs) in SCHEDULE_CASES.items():
        seed("schedules", case)
        optimizer = torch.optim.SGD([nn.Parameter(torch.zeros(1))], lr=INITIAL_RATE)
        scheduler = getattr(lr_scheduler, name)(optimizer, **kwargs)
        arrays: Arrays = {}
        if name == "ReduceLROnPlateau":
            falling = torch.exp(-torch.arange(float(SCHEDULE_STEPS)) / 2.0) + 0.1 * torch.rand(SCHEDULE_STEPS)
            arrays["metric"] = 1.0 - falling if kwargs.get("mode") == "max" else falling
        rates = [optimizer.param_groups[0]["lr"]]
        for step in range(SCHEDULE_STEPS):
            optimizer.step()
            if "metric" in arrays:
                scheduler.step(arrays["metric"][step].item())
            else:
                scheduler.step()
            rates.append(optimizer.param_groups[0]["lr"])
        yield case, arrays | {"lr": torch.tensor(rates)}, {"class": name, "kwargs": kwargs, "lr": INITIAL_RATE}


PAIRED_SCHEDULES: dict[str, tuple[str, Settings]] = {
    "step": ("StepLR", {"step_size": 4, "gamma": 0.5}),
    "exponential": ("ExponentialLR", {"gamma": 0.9}),
    "cosine": ("CosineAnnealingLR", {"T_max": 9, "eta_min": 0.001}),
    "warmup": ("LinearLR", {"start_factor": 0.1, "total_iters": 5}),
    "sequential": (
        "SequentialLR",
        {
            "milestones": [3, 15],
            "schedulers": [
                ("LinearLR", {"start_factor": 0.25, "total_iters": 3}),
                ("CosineAnnealingLR", {"T_max": 6}),
                ("ExponentialLR", {"gamma": 0.8}),
            ],
        },
    ),
    "plateau": ("ReduceLROnPlateau", {"factor": 0.5, "patience": 2}),
    "multi_step": ("MultiStepLR", {"milestones": [20, 2, 7, 7], "gamma": 0.5}),
    "constant": ("ConstantLR", {"factor": 0.25, "total_iters": 8}),
    "restarts": ("CosineAnnealingWarmRestarts", {"T_0": 4, "T_mult": 2, "eta_min": 0.001}),
}
BY_HAND = (12, 0.05)


def made_schedule(optimizer: torch.optim.Optimizer, name: str, kwargs: Settings) -> Any:
    """A schedule of this class; those of a SequentialLR are described in its arguments."""
    if name == "SequentialLR":
        kwargs = {**kwargs, "schedulers": [made_schedule(optimizer, *own) for own in kwargs["schedulers"]]}
    return getattr(lr_scheduler, name)(optimizer, **kwargs)


def schedule_pairs() -> Iterator[Case]:
    """The learning rate of an optimizer with two schedules, at first and after each step."""
    for first, second in itertools.permutations(PAIRED_SCHEDULES, 2):
        optimizer = torch.optim.SGD([nn.Parameter(torch.zeros(1))], lr=INITIAL_RATE)
        described = [PAIRED_SCHEDULES[first], PAIRED_SCHEDULES[second]]
        made = [made_schedule(optimizer, *own) for own in described]
        rates = [optimizer.param_groups[0]["lr"]]
        for step in range(1, SCHEDULE_STEPS + 1):
            optimizer.step()
            for scheduler in made:
                scheduler.step(*[1.0] if isinstance(scheduler, lr_scheduler.ReduceLROnPlateau) else [])
            if step == BY_HAND[0]:
                optimizer.param_groups[0]["lr"] = BY_HAND[1]
            rates.append(optimizer.param_groups[0]["lr"])
        settings = {"schedules": described, "lr": INITIAL_RATE, "metric": 1.0, "by_hand": BY_HAND}
        yield f"{first}+{second}", {"lr": torch.tensor(rates)}, settings


CLIPPING_CASES: dict[str, tuple[str, Settings]] = {
    "norm_2": ("clip_grad_norm_", {"max_norm": 1.0}),
    "norm_inf": ("clip_grad_norm_", {"max_norm": 0.5, "norm_type": float("inf")}),
    "norm_2_untouched": ("clip_grad_norm_", {"max_norm": 100.0}),
    "value": ("clip_grad_value_", {"clip_value": 0.5}),
}


def clipping() -> Iterator[Case]:
    """Gradients before and after clipping, and the norm that clipping by norm returns."""
    for case, (function, kwargs) in CLIPPING_CASES.items():
        seed("clipping", case)
        before = drawn_parameters()
        parameters = {name: nn.Parameter(torch.zeros_like(grad)) for name, grad in before.items()}
        for name, p in parameters.items():
            p.grad = before[name].clone()
        total = getattr(nn.utils, function)(parameters.values(), **kwargs)
        arrays = {f"before_{name}": grad for name, grad in before.items()}
        arrays |= {f"after_{name}": p.grad for name, p in parameters.items() if p.grad is not None}
        yield case, arrays | ({} if total is None else {"total_norm": total}), {"function": function, "kwargs": kwargs}
