"""The estimators as aeon's: `pip install '.[aeon]'` in a checkout."""

from typing import Any, ClassVar

from tinygrad_lstm.backends.base import HostArray
from tinygrad_lstm.backends.installing import how_to_install

from .adapters import TEST_PARAMETERS, AdaptedClassifier, AdaptedRegressor

try:
    from aeon.classification import BaseClassifier
    from aeon.regression import BaseRegressor
except ImportError as error:
    raise ImportError(f"tinygrad_lstm.estimators.aeon needs aeon ({error}); {how_to_install('aeon')}") from error

__all__ = ["SequenceClassifier", "SequenceRegressor"]


class _Collection:
    """Series as aeon passes them to estimators with these tags."""

    _tags: ClassVar = {
        "X_inner_type": ["np-list", "numpy3D"],
        "capability:multivariate": True,
        "capability:unequal_length": True,
        "algorithm_type": "deeplearning",
    }

    def _sequences(self, X: Any) -> list[HostArray]:
        return [series.T for series in X]  # each is (F, T)

    @classmethod
    def _get_test_params(cls, parameter_set: str = "default") -> list[dict[str, Any]]:
        return TEST_PARAMETERS


class SequenceClassifier(_Collection, AdaptedClassifier, BaseClassifier):  # type: ignore[misc] # no types of aeon
    """`tinygrad_lstm.estimators.SequenceClassifier` as a classifier of aeon, with the same parameters.

    It takes any collection of aeon: series of one or several channels, also of different lengths.

    Attributes:
        estimator_: the trained `tinygrad_lstm.estimators.SequenceClassifier`, with its `history_`, `model_`, `inspect`
            and `save`.

    >>> from aeon.datasets import load_unit_test
    >>> from tinygrad_lstm.estimators.aeon import SequenceClassifier
    >>> X, y = load_unit_test(split="train")
    >>> classifier = SequenceClassifier(hidden_size=4, epochs=2, random_state=0).fit(X, y)
    >>> classifier.predict(X).shape
    (20,)
    """


class SequenceRegressor(_Collection, AdaptedRegressor, BaseRegressor):  # type: ignore[misc] # no types of aeon
    """`tinygrad_lstm.estimators.SequenceRegressor` as a regressor of aeon, with the same parameters.

    It takes any collection of aeon: series of one or several channels, also of different lengths.

    Attributes:
        estimator_: the trained `tinygrad_lstm.estimators.SequenceRegressor`, with its `history_`, `model_`, `inspect`
            and `save`.

    >>> from aeon.datasets import load_covid_3month
    >>> from tinygrad_lstm.estimators.aeon import SequenceRegressor
    >>> X, y = load_covid_3month(split="train")
    >>> regressor = SequenceRegressor(hidden_size=4, epochs=2, random_state=0).fit(X, y)
    >>> regressor.predict(X).shape
    (140,)
    """
