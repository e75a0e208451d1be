"""The model of a training run's checkpoint."""

from pathlib import Path

from tinygrad_lstm.models import CharLM

from ...nn import Module

__all__ = ["model_of"]


def model_of(path: Path) -> Module:
    """The model of a checkpoint that `tinygrad-lstm train` or a `train.TextTrainer` wrote, in evaluation mode.

    Raises:
        OSError, ValueError: as `load_model`.
    """
    return CharLM.load(path)
