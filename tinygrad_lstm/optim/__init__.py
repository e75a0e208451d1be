"""Optimizers, clipping of gradients, schedules of learning rates, and averages of weights.

PyTorch's `Adadelta`, `Adamax`, `ASGD`, `Rprop`, `SparseAdam`, `Adafactor` and `Muon` are left out: sequence models are
rarely trained with them, and each is a subclass of `ElementwiseOptimizer` of a few lines, except the last two. The
arguments `foreach`, `fused`, `capturable` and `differentiable` are left out: a step is already one launch for each
group and dtype where there are kernels for it, and is not differentiated.
"""

from .. import _public
from . import lr_scheduler as lr_scheduler
from . import swa_utils as swa_utils
from .adagrad import *
from .adam import *
from .clip import *
from .elementwise import *
from .lbfgs import *
from .nadam import *
from .optimizer import *
from .radam import *
from .rmsprop import *
from .sgd import *

_public.publish_gathered(globals(), "lr_scheduler", "swa_utils")
