"""Schedules: learning rates that change during training.

A schedule starts from the learning rates of its optimizer's groups. Its `step()` is called once an epoch, or once a
step, after the optimizer's.

As in PyTorch, a step of most schedules changes the current rate instead of replacing it. So several schedules of one
optimizer compose, a `ReduceLROnPlateau` beside a warm-up keeps its reductions, and a rate that was set by hand stays.
`LambdaLR`, `OneCycleLR` and `CosineAnnealingWarmRestarts` replace the rate.

PyTorch's other schedules are left out: `ChainedScheduler`, because schedules of one optimizer compose without it;
`MultiplicativeLR`, `PolynomialLR` and `CyclicLR`, because each is a function of the number of steps, for `LambdaLR`.
"""

from ... import _public
from .base import *
from .cosine import *
from .factors import *
from .one_cycle import *
from .plateau import *
from .sequential import *

_public.publish_gathered(globals())
