"""Averages of a model's weights over the steps of training.

PyTorch's other names are left out: `get_ema_multi_avg_fn` and `get_swa_multi_avg_fn`, because `avg_fn` is as fast here;
and `SWALR`, because a `SequentialLR` of other schedules ends at a constant rate.
"""

import copy
from collections.abc import Callable, Iterable
from functools import partial
from typing import Any

from tinygrad_lstm.backends.dtypes import is_float

from .._tensor import Tensor, tensor
from ..device import Device
from ..mode import no_grad
from ..nn import Module
from ..nn.normalization import BatchNorm

__all__ = ["AveragedModel", "get_ema_avg_fn", "get_swa_avg_fn", "update_bn"]

AverageFunction = Callable[[Tensor, Tensor, int], Tensor]


class AveragedModel(Module):
    """A copy of a model whose parameters are averages of the model's.

    The first call of `update_parameters` copies the parameters. Each later call averages: by default with equal weights
    (SWA), or with `avg_fn=get_ema_avg_fn()` exponentially (EMA). `state_dict` has the averages, under names that begin
    with "module.", and their number, `n_averaged`; so a loaded average continues. It is called as the model is.

    Averages of float16 parameters would round small changes away: use `AveragedModel(model).to(dtype="float32")`.

    Izmailov, Podoprikhin, Garipov, Vetrov and Wilson, "Averaging weights leads to wider optima and better
    generalization" (2018); Polyak and Juditsky, "Acceleration of stochastic approximation by averaging" (1992).

    Args:
        model: the model, which is copied.
        device: the device of the averages; by default those of the model.
        avg_fn: a function of an average, a parameter of the model, and the number of averaged models so far. It returns
            the next average.
        use_buffers: whether float buffers are averaged as well; otherwise they are copied, as are other buffers.

    >>> import tinygrad_lstm as tg
    >>> from tinygrad_lstm.optim.swa_utils import AveragedModel
    >>> model = tg.nn.Linear(1, 1, bias=False)
    >>> averaged = AveragedModel(model)
    >>> for value in (1.0, 2.0, 6.0):
    ...     _ = tg.nn.init.constant_(model.weight, value)
    ...     averaged.update_parameters(model)
    >>> averaged.module.weight.item(), averaged(tg.ones(1)).item()
    (3.0, 3.0)
    """

    n_averaged: Tensor

    def __init__(
        self,
        model: Module,
        device: str | Device | None = None,
        avg_fn: AverageFunction | None = None,
        use_buffers: bool = False,
    ) -> None:
        if not isinstance(model, Module):
            raise TypeError(f"AveragedModel: expected a Module, got {type(model).__name__}")
        self.module = copy.deepcopy(model).to(device)
        self.module.zero_grad()
        # On the host, so that it is read there without a wait for the device.
        self.register_buffer("n_averaged", tensor(0, device="cpu"))
        self.avg_fn = avg_fn or get_swa_avg_fn()
        self.use_buffers = use_buffers

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        """The output of the averaged model."""
        return self.module(*args, **kwargs)

    @no_grad()
    def update_parameters(self, model: Module) -> None:
        """Averages the model's parameters into this one's, in place.

        Raises:
            ValueError: the names or shapes of the model's parameters or buffers are different. Nothing is changed then.
        """
        buffers = dict(self.module.named_buffers())
        mine = dict(self.module.named_parameters()) | buffers
        given = dict(model.named_parameters()) | dict(model.named_buffers())
        if differing := sorted(mine.keys() ^ given.keys()):
            raise ValueError(f"update_parameters: the averaged model and this one differ in {', '.join(differing)}")
        for name, average in mine.items():
            if average.shape != given[name].shape:
                raise ValueError(
                    f"update_parameters: {name} has shape {given[name].shape}, its average {average.shape}"
                )
        count = int(self.n_averaged.item())
        for name, average in mine.items():
            value = given[name].detach().to(average.device, average.dtype)
            averaged = name not in buffers or (self.use_buffers and is_float(average.dtype))
            average.copy_(self.avg_fn(average.detach(), value, count) if count and averaged else value)
        self.n_averaged += 1


@no_grad()
def update_bn(loader: Iterable[Any], model: Module, device: str | Device | None = None) -> None:
    """Computes the running statistics of a model's `BatchNorm` layers anew, as averages over all batches of a loader.

    Averaged weights need this, as the statistics of their model belong to other weights. Afterwards, each module is in
    the mode in which it was before.

    Args:
        loader: batches, which the model is called with; of a tuple or list only the first entry.
        model: changed in place. If it has no such layers, nothing is done.
        device: to which the batches are moved; by default they are not.

    >>> import tinygrad_lstm as tg
    >>> from tinygrad_lstm.optim.swa_utils import AveragedModel, update_bn
    >>> averaged = AveragedModel(tg.nn.Sequential(tg.nn.BatchNorm1d(1))).eval()
    >>> update_bn([tg.tensor([[0.0], [2.0]]), tg.tensor([[4.0], [6.0]])], averaged)
    >>> averaged.module[0].running_mean, averaged.module[0].running_var
    (tensor([3.]), tensor([2.]))
    """
    layers = [module for module in model.modules() if isinstance(module, BatchNorm)]
    if not layers:
        return
    momenta = [layer.momentum for layer in layers]
    with model.evaluating():
        model.train()
        try:
            for layer in layers:
                layer.reset_running_stats()
                layer.momentum = None
            for batch in loader:
                x = batch[0] if isinstance(batch, tuple | list) else batch
                model(x if device is None else x.to(device))
        finally:
            for layer, momentum in zip(layers, momenta, strict=True):
                layer.momentum = momentum


def get_swa_avg_fn() -> AverageFunction:
    """The function of an average with equal weights, for `AveragedModel`: a + (p - a) / (n + 1)."""
    return _equal


def get_ema_avg_fn(decay: float = 0.999) -> AverageFunction:
    """The function of an exponential moving average, for `AveragedModel`: decay · a + (1 - decay) · p.

    Raises:
        ValueError: `decay` is not within [0, 1].
    """
    if not 0 <= decay <= 1:
        raise ValueError(f"get_ema_avg_fn: decay must be within [0, 1], got {decay}")
    return partial(_exponential, decay=decay)


def _equal(average: Tensor, value: Tensor, count: int) -> Tensor:
    return average + (value - average) / (count + 1)


def _exponential(average: Tensor, value: Tensor, count: int, decay: float) -> Tensor:
    return decay * average + (1 - decay) * value
