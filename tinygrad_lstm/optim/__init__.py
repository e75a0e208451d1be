"""Optimizers, clipping of gradients, and schedules of learning rates."""

from .. import _public
from . import lr_scheduler as lr_scheduler
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

_public.publish_gathered(globals(), "lr_scheduler")
