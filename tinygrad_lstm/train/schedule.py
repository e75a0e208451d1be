"""The learning rate over a run."""

from ..optim import Optimizer
from ..optim.lr_scheduler import ExponentialLR, LinearLR, LRScheduler, SequentialLR
from .options import TrainingOptions

__all__ = ["schedule"]


def schedule(optimizer: Optimizer, options: TrainingOptions) -> LRScheduler:
    """A linear rise, then an exponential fall.

    The fall does not depend on how many steps there are to be: a run that is given more of them later goes on as if it
    had had them from the start.
    """
    rise = LinearLR(optimizer, start_factor=1 / options.warmup, total_iters=options.warmup)
    fall = ExponentialLR(optimizer, gamma=0.5 ** (1 / options.half_life))
    return SequentialLR(optimizer, [rise, fall], milestones=[options.warmup])
