"""Estimators with scikit-learn's `fit` and `predict`, for sequences. They do not need scikit-learn."""

from .. import _public
from .classifier import SequenceClassifier
from .regressor import SequenceRegressor
from .saved import load

__all__ = ["SequenceClassifier", "SequenceRegressor", "load"]

_public.publish(globals())
