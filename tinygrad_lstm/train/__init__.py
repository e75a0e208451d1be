"""Training: a trainer for any model, and one of character models on text. It prints nothing."""

from .. import _public
from .callbacks import Callback, EarlyStopping, LearningCurves, LogLines, TensorBoard
from .checkpoint import Checkpoint
from .evaluation import weight_of
from .options import TrainingOptions
from .progress import Progress, Summary
from .text import TextTrainer
from .text_checkpoint import TextCheckpoint
from .text_evaluation import LanguageModel, evaluate, nats_to_bits
from .trainer import Trainer

__all__ = [
    "Callback",
    "Checkpoint",
    "EarlyStopping",
    "LanguageModel",
    "LearningCurves",
    "LogLines",
    "Progress",
    "Summary",
    "TensorBoard",
    "TextCheckpoint",
    "TextTrainer",
    "Trainer",
    "TrainingOptions",
    "evaluate",
    "nats_to_bits",
    "weight_of",
]

_public.publish(globals())
