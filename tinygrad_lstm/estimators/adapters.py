"""What the adapters for sktime and aeon share: an estimator of this library within an estimator of theirs."""

from typing import Any, ClassVar, Self

from tinygrad_lstm.backends.base import HostArray

from .base import SequenceEstimator
from .classifier import SequenceClassifier
from .parameters import SequenceParameters
from .regressor import SequenceRegressor

__all__ = ["TEST_PARAMETERS", "AdaptedClassifier", "AdaptedRegressor"]

TEST_PARAMETERS: list[dict[str, Any]] = [
    {"hidden_size": 4, "epochs": 2, "validation": 0, "random_state": 0},
    {"cell": "gru_reset_after", "hidden_size": 3, "bidirectional": True, "batch_size": 4, "epochs": 3, "validation": 0},
]
"""Parameters with which sktime and aeon run their own tests: small, and trained quickly."""


class Adapted(SequenceParameters):
    """Calls an estimator of this library, where sktime and aeon expect `_fit` and `_predict`.

    Their base classes check the data and convert it, and clone, print and save the adapter.
    """

    ESTIMATOR: ClassVar[type[SequenceEstimator]]
    """What is trained."""

    estimator_: Any
    """The trained estimator, which `fit` makes; it has `history_`, `model_`, `inspect` and `save`."""

    def _sequences(self, X: Any) -> list[HostArray]:
        """The framework's series as arrays (T_b, F)."""
        raise NotImplementedError

    def _fit(self, X: Any, y: Any) -> Self:
        parameters = {name: getattr(self, name) for name in self.ESTIMATOR().get_params()}
        self.estimator_ = self.ESTIMATOR(**parameters).fit(self._sequences(X), y)
        return self

    def _predict(self, X: Any) -> HostArray:
        predicted: HostArray = self.estimator_.predict(self._sequences(X))
        return predicted


class AdaptedClassifier(Adapted):
    """A `SequenceClassifier` within a classifier of sktime or aeon."""

    ESTIMATOR = SequenceClassifier

    def _predict_proba(self, X: Any) -> HostArray:
        probabilities: HostArray = self.estimator_.predict_proba(self._sequences(X))
        return probabilities


class AdaptedRegressor(Adapted):
    """A `SequenceRegressor` within a regressor of sktime or aeon."""

    ESTIMATOR = SequenceRegressor
