"""A regressor of sequences."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from tinygrad_lstm.backends.base import HostArray
from tinygrad_lstm.models import ManyToOne

from .._tensor import Tensor
from ..mode import no_grad
from ..ops.loss import mse_loss
from .base import Lesson, SequenceEstimator
from .reading import numbers_of
from .splitting import Rows, rows_of, rows_of_groups

__all__ = ["SequenceRegressor"]

SPREAD = 1e-5
"""The smallest standard deviation of targets, relative to their mean: that of 84 steps between numbers of float32."""
SMALLEST = 2.0**-126
"""The smallest number that has float32's precision."""


class SequenceRegressor(SequenceEstimator):
    """Learns a number for each sequence.

    Sequences may have different lengths: a list of arrays (T_b, F), each with T_b steps of F numbers. An array
    (N, T, F) is N sequences. The rows of a table (N, T) are sequences of one feature.

    The network is trained on numbers that are standardised; its outputs are in the units of `y`.

    Args:
        cell: the recurrent cell, a name in `tinygrad_lstm.models.atlas.ATLAS`, such as "lstm" or "gru".
        hidden_size: H, the number of units in a layer.
        num_layers: the number of layers.
        bidirectional: whether the sequences are read in both directions.
        dropout: the probability of dropout, in training, between layers and before the outputs.
        lr: the highest learning rate of AdamW, which falls along a cosine.
        batch_size: the number of sequences in a batch.
        epochs: the largest number of epochs.
        patience: the number of epochs without a lower loss of the validation part after which training stops; at least
            300 steps of the optimizer.
        validation: the fraction of the sequences that decide about the number of epochs, chosen at random; 0 for none.
        standardize: whether the network subtracts the mean of each feature and divides by its standard deviation,
            as they are in the sequences that are trained on.
        device: "cpu", "cuda", ...; None is the default device.
        random_state: a seed, with which each `fit` is the same; a generator of NumPy; or None.
        verbose: 1 prints the losses of each epoch.

    Attributes:
        model_: the network, a `ManyToOne` with one output.
        history_: for each epoch, a dict with its `loss` and `validation_loss`, in units of the variance of `y`.
        n_iter_: the number of epochs.
        n_features_in_: the number of features; of a table, that of its columns.

    >>> import numpy as np
    >>> rng = np.random.default_rng(0)
    >>> X = [rng.normal(size=(rng.integers(5, 15), 2)) for _ in range(60)]
    >>> y = [100 + 50 * sequence[-1, 0] for sequence in X]
    >>> regressor = SequenceRegressor(hidden_size=16, random_state=0).fit(X, y)
    >>> regressor.score(X, y) > 0.8
    True
    """

    KIND = "regressor"
    EXPLAINED = "the sum of the predictions"

    _center: float
    _scale: float

    def _learn(self, caller: str, y: Any, rows: int, classes: Any = None) -> Lesson:
        numbers = numbers_of(caller, y, rows)
        center, scale = float(numbers.mean()), float(numbers.std())
        if (numbers == numbers[0]).all():
            scale = 1.0
        elif scale < max(SPREAD * abs(center), SMALLEST):
            raise ValueError(
                f"{caller}: y varies by only {scale:.3g} around {center:.6g}, which the float32 of predictions would "
                "round away; subtract a constant from y, or multiply it"
            )
        return Lesson(((numbers - center) / scale).astype(np.float32), 1, {"_center": center, "_scale": scale})

    def _targets(self, caller: str, y: Any, rows: int) -> HostArray:
        return ((numbers_of(caller, y, rows) - self._center) / self._scale).astype(np.float32)

    def _validation_rows(
        self, caller: str, lesson: Lesson, groups: HostArray | None, fraction: float, rng: np.random.Generator
    ) -> Rows:
        if groups is not None:
            return rows_of_groups(caller, groups, np.zeros(len(groups), np.int64), fraction, rng)
        return rows_of(caller, len(lesson.targets), fraction, rng)

    def _loss(self, outputs: Tensor, targets: Tensor) -> Tensor:
        loss: Tensor = mse_loss(outputs[:, 0], targets)
        return loss

    def _explained(self, outputs: Tensor) -> Tensor:
        total: Tensor = outputs.sum()
        return total

    def _to_units_of_targets(self, model: ManyToOne, known: Mapping[str, Any]) -> None:
        _rescale(model, known["_scale"], known["_center"])

    def _to_units_of_training(self, model: ManyToOne, known: Mapping[str, Any]) -> None:
        _rescale(model, 1 / known["_scale"], -known["_center"] / known["_scale"])

    def predict(self, X: Any) -> HostArray:
        """The numbers of sequences, (N,).

        Raises:
            NotFittedError: `fit` was not called yet.
            ValueError: X is invalid.
        """
        return self._outputs("predict", X)[:, 0]

    def score(self, X: Any, y: Any) -> float:
        """The coefficient of determination R²: 1 for perfect predictions, 0 for those of the mean of `y`.

        Raises:
            NotFittedError: `fit` was not called yet.
            ValueError: X or y is invalid.
        """
        predicted = self._outputs("score", X)[:, 0].astype(np.float64)
        numbers = numbers_of(f"{type(self).__name__}.score", y, len(predicted))
        missed, spread = np.square(numbers - predicted).sum(), np.square(numbers - numbers.mean()).sum()
        if spread == 0:
            return 1.0 if missed == 0 else 0.0
        return float(1 - missed / spread)

    def _more_contents(self) -> dict[str, Any]:
        return {"center": self._center, "scale": self._scale}

    @classmethod
    def _known_of(cls, contents: Mapping[str, Any]) -> tuple[dict[str, Any], int]:
        return {"_center": float(contents["center"]), "_scale": float(contents["scale"])}, 1


def _rescale(model: ManyToOne, scale: float, center: float) -> None:
    """Lets the outputs of a model be those before times `scale`, plus `center`."""
    weight, bias = model.output.weight, model.output.bias
    assert bias is not None
    with no_grad():
        weight[...] = weight * scale
        bias[...] = bias * scale + center
