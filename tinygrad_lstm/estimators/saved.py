"""Estimators from files."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ..io import checkpoint
from .classifier import SequenceClassifier
from .regressor import SequenceRegressor

__all__ = ["load", "loaded"]

ESTIMATORS = {kind.__name__: kind for kind in (SequenceClassifier, SequenceRegressor)}


def load(path: str | Path, device: str | None = None) -> SequenceClassifier | SequenceRegressor:
    """An estimator from a file that its `save` wrote. No code in the file is run.

    Args:
        path: the file.
        device: the device of its network; by default the default device.

    Raises:
        OSError: the file is not there or cannot be read.
        ValueError: it is not such a file, or is damaged.

    >>> import numpy as np
    >>> from tinygrad_lstm.estimators import SequenceClassifier, load
    >>> X, y = np.random.default_rng(0).normal(size=(20, 5, 2)), [0, 1] * 10
    >>> SequenceClassifier(hidden_size=4, epochs=2).fit(X, y).save("classifier.safetensors")
    >>> load("classifier.safetensors").predict(X).shape
    (20,)
    """
    return loaded(path, checkpoint.load(path), device)


def loaded(
    path: str | Path, contents: Mapping[str, Any], device: str | None = None
) -> SequenceClassifier | SequenceRegressor:
    """An estimator from the contents of its file."""
    if not isinstance(contents.get("estimator"), str) or contents["estimator"] not in ESTIMATORS:
        raise ValueError(f"{path}: a checkpoint, but not of an estimator; tg.train.Checkpoint.load reads those of runs")
    estimator = ESTIMATORS[contents["estimator"]]()
    try:
        estimator.restore(contents, device)
    except (ArithmeticError, AttributeError, LookupError, TypeError, ValueError) as error:
        raise ValueError(f"{path}: its contents are invalid ({error!s:.300})") from error
    return estimator
