"""The estimators as sktime's: `pip install '.[sktime]'` in a checkout."""

from typing import Any, ClassVar

from tinygrad_lstm.backends.base import HostArray
from tinygrad_lstm.backends.installing import how_to_install

from .adapters import TEST_PARAMETERS, AdaptedClassifier, AdaptedRegressor

try:
    from sktime.classification.base import BaseClassifier
    from sktime.regression.base import BaseRegressor
except ImportError as error:
    raise ImportError(f"tinygrad_lstm.estimators.sktime needs sktime ({error}); {how_to_install('sktime')}") from error

__all__ = ["SequenceClassifier", "SequenceRegressor"]

TAGS = {
    "X_inner_mtype": ["df-list", "numpy3D"],
    "y_inner_mtype": "numpy1D",
    "capability:multivariate": True,
    "capability:unequal_length": True,
    "capability:categorical_in_X": False,
    "capability:random_state": True,
    "property:randomness": "derandomized",
    "authors": "tinygrad_lstm authors",
    "maintainers": "tinygrad_lstm authors",
}


class _Panel:
    """Series as sktime passes them to estimators with these tags."""

    def _sequences(self, X: Any) -> list[HostArray]:
        # An array is (N, F, T); a data frame has a row for each step.
        return list(X.transpose(0, 2, 1)) if hasattr(X, "transpose") else [frame.to_numpy() for frame in X]

    @classmethod
    def get_test_params(cls, parameter_set: str = "default") -> list[dict[str, Any]]:
        """The parameters with which sktime tests the estimator."""
        return TEST_PARAMETERS


class SequenceClassifier(_Panel, AdaptedClassifier, BaseClassifier):  # type: ignore[misc] # no types of sktime
    """`tinygrad_lstm.estimators.SequenceClassifier` as a classifier of sktime, with the same parameters.

    It takes any panel of sktime: series of one or several variables, also of different lengths.

    Attributes:
        estimator_: the trained `tinygrad_lstm.estimators.SequenceClassifier`, with its `history_`, `model_`, `inspect`
            and `save`.

    >>> from sktime.datasets import load_unit_test
    >>> from tinygrad_lstm.estimators.sktime import SequenceClassifier
    >>> X, y = load_unit_test(split="train")
    >>> classifier = SequenceClassifier(hidden_size=4, epochs=2, random_state=0).fit(X, y)
    >>> classifier.predict(X).shape
    (20,)
    """

    _tags: ClassVar = {**TAGS, "capability:predict_proba": True}


class SequenceRegressor(_Panel, AdaptedRegressor, BaseRegressor):  # type: ignore[misc] # no types of sktime
    """`tinygrad_lstm.estimators.SequenceRegressor` as a regressor of sktime, with the same parameters.

    It takes any panel of sktime: series of one or several variables, also of different lengths.

    Attributes:
        estimator_: the trained `tinygrad_lstm.estimators.SequenceRegressor`, with its `history_`, `model_`, `inspect`
            and `save`.

    >>> from sktime.datasets import load_unit_test
    >>> from tinygrad_lstm.estimators.sktime import SequenceRegressor
    >>> X, y = load_unit_test(split="train")
    >>> regressor = SequenceRegressor(hidden_size=4, epochs=2, random_state=0).fit(X, y.astype(float))
    >>> regressor.predict(X).shape
    (20,)
    """

    _tags = TAGS
