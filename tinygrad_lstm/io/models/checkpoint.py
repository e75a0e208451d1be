"""The model of a checkpoint."""

from pathlib import Path

from tinygrad_lstm.models import CharLM

from ...estimators.saved import loaded
from ...nn import Module
from .. import checkpoint

__all__ = ["model_of"]


def model_of(path: Path) -> Module:
    """The model of a checkpoint, in evaluation mode.

    An estimator wrote it, or `tinygrad-lstm train`, or a `train.TextTrainer`.

    Raises:
        OSError, ValueError: as `load_model`.
    """
    contents = checkpoint.load(path)
    return loaded(path, contents).model_ if "estimator" in contents else CharLM.load(path)
