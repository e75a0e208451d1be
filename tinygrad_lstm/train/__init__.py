"""Training a character model on a text: options, loop, checkpoints and metrics. It prints nothing."""

from .. import _public
from .checkpoint import Checkpoint
from .evaluation import LanguageModel, evaluate, nats_to_bits
from .options import TrainingOptions
from .trainer import Progress, Summary, Trainer

__all__ = [
    "Checkpoint",
    "LanguageModel",
    "Progress",
    "Summary",
    "Trainer",
    "TrainingOptions",
    "evaluate",
    "nats_to_bits",
]

_public.publish(globals())
