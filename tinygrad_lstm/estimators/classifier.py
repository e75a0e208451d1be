"""A classifier of sequences."""

from collections.abc import Mapping
from typing import Any, Self

import numpy as np

from tinygrad_lstm.backends.base import HostArray
from tinygrad_lstm.backends.dtypes import is_real, is_string

from .._tensor import Tensor
from ..ops.class_loss import cross_entropy
from ..printable import printable
from .base import Lesson, SequenceEstimator
from .reading import labels_of, listed
from .splitting import Rows, rows_of_each_class, rows_of_groups

__all__ = ["SequenceClassifier"]


class SequenceClassifier(SequenceEstimator):
    """Learns a class for each sequence.

    Sequences may have different lengths: a list of arrays (T_b, F), each with T_b steps of F numbers. An array
    (N, T, F) is N sequences. The rows of a table (N, T) are sequences of one feature.

    Labels are integers, strings or booleans.

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
        validation: the fraction of the sequences that decide about the number of epochs, the same of each class; 0 for
            none.
        standardize: whether the network subtracts the mean of each feature and divides by its standard deviation,
            as they are in the sequences that are trained on.
        device: "cpu", "cuda", ...; None is the default device.
        random_state: a seed, with which each `fit` is the same; a generator of NumPy; or None.
        verbose: 1 prints the losses of each epoch.

    Attributes:
        classes_: the labels, sorted.
        model_: the network, a `ManyToOne`, whose outputs are the scores of the classes, before a softmax.
        history_: for each epoch, a dict with its `loss` and `validation_loss`.
        n_iter_: the number of epochs.
        n_features_in_: the number of features; of a table, that of its columns.

    >>> import numpy as np
    >>> rng = np.random.default_rng(0)
    >>> X = [rng.normal(size=(rng.integers(5, 15), 2)) + k % 2 for k in range(40)]
    >>> y = ["low", "high"] * 20
    >>> classifier = SequenceClassifier(hidden_size=8, epochs=20, random_state=0).fit(X, y)
    >>> classifier.score(X, y) > 0.9
    True
    >>> classifier.predict_proba(X).shape
    (40, 2)
    """

    KIND = "classifier"
    EXPLAINED = "the log-probability of the predicted class"

    classes_: HostArray

    def _learn(self, caller: str, y: Any, rows: int, classes: Any = None) -> Lesson:
        labels = labels_of(caller, y, rows)
        known = np.unique(labels if classes is None else labels_of(f"{caller}: classes", classes, len(classes)))
        if len(known) < 2:
            raise ValueError(f"{caller}: y has 1 class, {listed(known.tolist())}; expected at least two")
        return Lesson(_codes(caller, labels, known), len(known), {"classes_": known})

    def _targets(self, caller: str, y: Any, rows: int) -> HostArray:
        return _codes(caller, labels_of(caller, y, rows), self.classes_)

    def _validation_rows(
        self, caller: str, lesson: Lesson, groups: HostArray | None, fraction: float, rng: np.random.Generator
    ) -> Rows:
        if groups is not None:
            return rows_of_groups(caller, groups, lesson.targets, fraction, rng)
        return rows_of_each_class(caller, lesson.targets, lesson.known["classes_"], fraction, rng)

    def _loss(self, outputs: Tensor, targets: Tensor) -> Tensor:
        return cross_entropy(outputs, targets)

    def _explained(self, outputs: Tensor) -> Tensor:
        return -cross_entropy(outputs, outputs.detach().argmax(dim=1), reduction="sum")

    def partial_fit(self, X: Any, y: Any, classes: Any = None) -> Self:
        """Trains for one epoch on further sequences, without validation. The first call makes the network.

        The inputs are standardised as those of the first call, or of `fit`.

        Args:
            X, y: as for `fit`.
            classes: all labels, also those that are not in `y` yet, for the first call. By default those in `y`.

        Raises:
            ValueError: as for `fit`; or `y` has a label that is not among the classes.
        """
        return self._partial_fit(X, y, classes)

    def predict(self, X: Any) -> HostArray:
        """The labels of sequences, (N,).

        Raises:
            NotFittedError: `fit` was not called yet.
            ValueError: X is invalid.
        """
        best = self._outputs("predict", X).argmax(1)
        labels: HostArray = self.classes_[best]
        return labels

    def predict_proba(self, X: Any) -> HostArray:
        """The probabilities of the classes, (N, classes), in the order of `classes_`.

        Raises:
            NotFittedError: `fit` was not called yet.
            ValueError: X is invalid.
        """
        scores = self._outputs("predict_proba", X).astype(np.float64)
        powers = np.exp(scores - scores.max(1, keepdims=True))
        probabilities: HostArray = powers / powers.sum(1, keepdims=True)
        return probabilities

    def score(self, X: Any, y: Any) -> float:
        """The accuracy: the fraction of sequences whose label is predicted.

        Raises:
            NotFittedError: `fit` was not called yet.
            ValueError: X is invalid; or `y` has a label that was not in training.
        """
        predicted = self._outputs("score", X).argmax(1)
        return float((predicted == self._targets(f"{type(self).__name__}.score", y, len(predicted))).mean())

    def _more_contents(self) -> dict[str, Any]:
        return {"labels": self.classes_.tolist(), "labels_dtype": self.classes_.dtype.str}

    @classmethod
    def _known_of(cls, contents: Mapping[str, Any]) -> tuple[dict[str, Any], int]:
        labels, dtype = contents["labels"], contents["labels_dtype"]
        if not isinstance(labels, list) or not isinstance(dtype, str) or len({type(each) for each in labels}) != 1:
            raise ValueError("the labels are not a list of one type")
        classes = np.array(labels, dtype)
        of_labels = is_real(classes.dtype) or is_string(classes.dtype)
        if classes.ndim != 1 or not of_labels or classes.tolist() != sorted(set(labels)):
            raise ValueError("the labels are not different and sorted")
        return {"classes_": classes}, len(classes)


def _codes(caller: str, labels: HostArray, known: HostArray) -> HostArray:
    """The numbers of the classes.

    Raises:
        ValueError: a label is not known.
    """
    numbers = {label: number for number, label in enumerate(known.tolist())}
    for row, label in enumerate(labels.tolist()):
        if label not in numbers:
            raise ValueError(
                f"{caller}: y has the label {printable(repr(label))} in row {row}, which was not in training; "
                f"expected one of {listed(known.tolist())}"
            )
    return np.array([numbers[label] for label in labels.tolist()], np.int64)
