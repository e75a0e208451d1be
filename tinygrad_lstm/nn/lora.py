"""Low-rank adapters: a trained model is fine-tuned with few parameters added to each weight, which is unchanged.

Hu, Shen, Wallis, Allen-Zhu, Li, Wang, Wang and Chen, "LoRA: Low-rank adaptation of large language models" (2021).
"""

import math
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np

from tinygrad_lstm.backends.base import HostArray

from .._tensor import Tensor, tensor
from ..creation import zeros
from ..mode import no_grad
from ..printable import printable
from . import init
from .adapters import ADAPTABLE, Weight, adaptable_by_name, weights_of
from .module import Module
from .names import matching
from .parameter import Parameter

__all__ = ["LoRA", "add_lora", "load_lora", "lora_state_dict", "merge_lora"]


class LoRA(Module):
    """The adapter of a weight W (out, in): W' = W + (alpha / rank) · B·A.

    Parameters: `A` (rank, in), normal with mean 0 and variance 1 / in, and `B` (out, rank), zeros, so that W' is
    W at first. `alpha` is a buffer, so that it is saved with them. All have the device and dtype of the weight.

    Args:
        weight: the weight, which is not kept.
        rank: the number of rows of A, at most min(out, in).
        alpha: the scale of the product, and so of the steps of the optimizer; `rank` by default.

    Raises:
        ValueError: the weight does not have two dimensions, `rank` is out of range, or `alpha` is not in (0, ∞).
        TypeError: `rank` is not an integer, or `alpha` is not a number.

    >>> import tinygrad_lstm as tg
    >>> weight = tg.ones(4, 3)
    >>> adapter = LoRA(weight, rank=2, alpha=8)
    >>> adapter
    LoRA(rank=2, alpha=8)      14 parameters
    >>> (adapter(weight) == weight).all().item()
    True
    """

    alpha: Tensor

    def __init__(self, weight: Tensor, rank: int, alpha: float | None = None) -> None:
        _check_settings("LoRA", rank, alpha)
        if weight.ndim != 2 or rank > min(weight.shape):
            raise ValueError(f"LoRA: expected a weight (out, in), both at least the rank {rank}, got {weight.shape}")
        place: dict[str, Any] = {"dtype": weight.dtype, "device": weight.device}
        self.rank = int(rank)
        self.A = init.kaiming_normal_(Parameter(zeros(rank, weight.shape[1], **place)), nonlinearity="linear")
        self.B = Parameter(zeros(weight.shape[0], rank, **place))
        self.register_buffer("alpha", tensor(float(rank if alpha is None else alpha), **place))

    def forward(self, weight: Tensor) -> Tensor:
        return weight + (self.B * (self.alpha / self.rank)) @ self.A

    def extra_repr(self) -> str:
        return f"rank={self.rank}, alpha={self.alpha.item():g}"


def add_lora(model: Module, *patterns: str, rank: int, alpha: float | None = None) -> list[str]:
    """Adds adapters to weights of a model and freezes all other parameters, so that training changes only adapters.

    The weights of `Linear` and of the recurrent cells and networks can be adapted, and those of user-defined modules
    that read them with `Module.adapted`. The adapter of `lstm.weight_hh_l0` is the module `lstm.weight_hh_l0_lora`: its
    parameters and its `alpha` belong to the model, and are moved, trained, saved and loaded with it. At first the
    model's outputs are bitwise unchanged. A weight with several owners has one adapter for all of them, if all of them
    can be adapted.

    Existing adapters are unchanged. `model.unfreeze("*bias*")` lets other parameters learn too. Each call of a module
    computes W' and its gradient: adapters save memory of the optimizer and size of files, not time.

    Args:
        model: changed in place.
        patterns: shell patterns of dotted names, as in `Module.freeze`, which select from the weights that can be
            adapted: "lstm.*", "*weight_hh*", "output.weight". Without patterns, all are adapted.
        rank: the rank of each adapter; see `LoRA`.
        alpha: the scale of each adapter; see `LoRA`.

    Returns:
        The names of the weights that were given an adapter.

    Raises:
        ValueError: a pattern matches no weight that can be adapted; a weight already has an adapter, or is smaller than
            the rank; a setting is out of range. Nothing has been changed then.
        TypeError: a setting or a pattern has an invalid type.

    >>> from tinygrad_lstm.models import CharLM
    >>> model = CharLM(vocab_size=50, embedding_size=16, hidden_size=32)
    >>> add_lora(model, "lstm.*", rank=4, alpha=8)
    ['lstm.weight_ih_l0', 'lstm.weight_hh_l0']
    >>> model.lstm
    LSTM(16, 32)                                    7,488 parameters
      weight_ih_l0_lora: LoRA(rank=4, alpha=8)      576
      weight_hh_l0_lora: LoRA(rank=4, alpha=8)      640
    >>> sum(parameter.size for parameter in model.parameters() if parameter.requires_grad)
    1216
    """
    _check_settings("add_lora", rank, alpha)
    by_name = adaptable_by_name("add_lora", model)
    names = matching("add_lora", patterns or ["*"], by_name, ADAPTABLE)
    chosen = list({by_name[name].name: by_name[name] for name in names}.values())  # each weight once
    _check_free("add_lora", chosen)
    if small := [f"{weight.name} {weight.parameter.shape}" for weight in chosen if rank > min(weight.parameter.shape)]:
        raise ValueError(
            f"add_lora: rank {rank} is above a length of {', '.join(small)}; give a smaller rank, or patterns that "
            "leave these out"
        )
    return _attach(model, [(weight, LoRA(weight.parameter, rank, alpha)) for weight in chosen])


def merge_lora(model: Module) -> list[str]:
    """Writes W' = W + (alpha / rank) · B·A into each adapted weight, and removes the adapters.

    The model's outputs are unchanged, and it has the parameters that it had before `add_lora`, to be exported, streamed
    or adapted again. Frozen parameters stay frozen; `model.unfreeze()` lets all learn.

    Returns:
        The names of the weights that were adapted.

    Raises:
        ValueError: the model has no adapters; a weight has one in only some of its modules, because it was tied later.
            Nothing has been changed then.

    >>> import tinygrad_lstm as tg
    >>> model = tg.nn.Sequential(tg.nn.Linear(3, 8), tg.tanh, tg.nn.Linear(8, 2))
    >>> add_lora(model, rank=2)
    ['0.weight', '2.weight']
    >>> merge_lora(model)
    ['0.weight', '2.weight']
    >>> [name for name, _ in model.named_parameters()]
    ['0.weight', '0.bias', '2.weight', '2.bias']
    """
    adapted = _adapted("merge_lora", model)
    with no_grad():  # all are computed before any is changed: if memory runs out, nothing changes
        merged = [adapter(weight.parameter) for weight, adapter in adapted]
        for (weight, _), values in zip(adapted, merged, strict=True):
            weight.parameter.copy_(values)
    for weight, _ in adapted:
        for module, name in weight.owners:
            delattr(module, f"{name}_lora")
    return [weight.name for weight, _ in adapted]


def lora_state_dict(model: Module) -> dict[str, HostArray]:
    """A snapshot of only a model's adapters: the part of `state_dict` that `load_lora` accepts.

    Raises:
        ValueError: as for `merge_lora`.

    >>> import tinygrad_lstm as tg
    >>> layer = tg.nn.Linear(3, 8)
    >>> names = add_lora(layer, rank=2)
    >>> {name: array.shape for name, array in lora_state_dict(layer).items()}
    {'weight_lora.A': (2, 3), 'weight_lora.B': (8, 2), 'weight_lora.alpha': ()}
    """
    return {
        f"{weight.name}_lora.{part}": array
        for weight, adapter in _adapted("lora_state_dict", model)
        for part, array in adapter.state_dict().items()
    }


def load_lora(model: Module, state_dict: Mapping[str, Any]) -> list[str]:
    """Adds adapters with the values from `lora_state_dict`, and freezes all other parameters, as `add_lora` does.

    For a model that already has these adapters, use `model.load_state_dict(state_dict, strict=False)`.

    Args:
        model: has the sizes of the model that was adapted; changed in place.
        state_dict: arrays by name; their shapes determine the ranks.

    Returns:
        The names of the weights that were given an adapter.

    Raises:
        ValueError: names are missing or unexpected, values have an invalid shape or dtype, or a weight already has an
            adapter. One error names all of them. Nothing has been changed then.

    >>> import tinygrad_lstm as tg
    >>> layer, fresh = tg.nn.Linear(3, 8), tg.nn.Linear(3, 8)
    >>> names = add_lora(layer, rank=2)
    >>> tg.io.save_weights("adapters.safetensors", lora_state_dict(layer))
    >>> load_lora(fresh, tg.io.load_weights("adapters.safetensors"))
    ['weight']
    """
    if not state_dict:
        raise ValueError("load_lora: there are no adapters to load; expected what lora_state_dict returns")
    by_name = adaptable_by_name("load_lora", model)
    parts: dict[str, dict[str, Any]] = {name: {} for name in by_name}  # for each weight, by its first name
    unexpected: list[str] = []
    for key, value in state_dict.items():
        name, _, part = key.rpartition("_lora.")
        if name in by_name:
            parts[by_name[name].name][part] = value
        else:
            unexpected.append(key)
    if unexpected:
        names = printable(", ".join(unexpected))
        raise ValueError(f"load_lora: names of no weight that can be adapted in this {type(model).__name__}: {names}")
    chosen = [by_name[name] for name, values in parts.items() if values]
    _check_free("load_lora", chosen)
    adapters: list[tuple[Weight, LoRA]] = []
    misfits: list[str] = []
    for weight in chosen:
        try:
            adapters.append((weight, _loaded(weight.parameter, parts[weight.name])))
        except ValueError as error:
            misfits.append(f"{weight.name}: {error}")
    if misfits:
        listed = printable("; ".join(misfits))
        raise ValueError(f"load_lora: the values do not fit this {type(model).__name__}: {listed}")
    return _attach(model, adapters)


def _adapted(caller: str, model: Module) -> list[tuple[Weight, LoRA]]:
    """The weights that have an adapter, and these adapters.

    Raises:
        ValueError: there is no adapter; a weight has one in only some of its modules.
    """
    found: list[tuple[Weight, LoRA]] = []
    for weight in weights_of(caller, model):
        first, *others = weight.adapters
        if any(other is not first for other in others):
            raise ValueError(
                f"{caller}: {', '.join(weight.names)} are one weight with different adapters; merge before tying"
            )
        if isinstance(first, LoRA):
            found.append((weight, first))
    if not found:
        raise ValueError(f"{caller}: this {type(model).__name__} has no adapters; add_lora adds them")
    return found


def _check_free(caller: str, weights: Iterable[Weight]) -> None:
    if taken := [weight.name for weight in weights if any(adapter is not None for adapter in weight.adapters)]:
        raise ValueError(f"{caller}: {', '.join(taken)} has an adapter already; merge_lora merges it")


def _check_settings(caller: str, rank: Any, alpha: Any) -> None:
    if isinstance(rank, bool) or not isinstance(rank, int | np.integer):
        raise TypeError(f"{caller}: rank must be an integer, got {rank!r}")
    if rank < 1:
        raise ValueError(f"{caller}: rank must be 1 or more, got {rank}")
    if isinstance(alpha, bool) or not isinstance(alpha, int | float | np.number | None):
        raise TypeError(f"{caller}: alpha must be a number, got {alpha!r}")
    if alpha is not None and not 0 < alpha < math.inf:
        raise ValueError(f"{caller}: alpha must be above 0 and finite, got {alpha}")


def _attach(model: Module, adapters: Iterable[tuple[Weight, LoRA]]) -> list[str]:
    """Sets adapters in all modules of their weights, freezes other parameters, and returns the weights' names."""
    adapters = list(adapters)
    kept = {id(p) for module in model.modules() if isinstance(module, LoRA) for p in module.parameters()}
    for parameter in model.parameters():
        if id(parameter) not in kept:
            parameter.requires_grad, parameter.grad = False, None
    for weight, adapter in adapters:
        for module, name in weight.owners:
            setattr(module, f"{name}_lora", adapter)
    return [weight.name for weight, _ in adapters]


def _loaded(weight: Parameter, values: Mapping[str, Any]) -> LoRA:
    """The adapter of a weight with the given values of A, B and alpha.

    Raises:
        ValueError: one is missing, or does not have the weight's sizes.
    """
    if missing := [part for part in ("A", "B", "alpha") if part not in values]:
        raise ValueError(f"missing {', '.join(missing)}")
    rank = (*np.shape(values["A"]), 0)[0]
    adapter = LoRA(weight, rank)
    adapter.load_state_dict(values)
    _check_settings("LoRA", rank, adapter.alpha.item())
    return adapter
