"""How good predictions are, and how good simpler ones would be."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from tinygrad_lstm.backends.base import HostArray

from ..printable import printable
from .baselines import LinearBaseline
from .classifier import SequenceClassifier
from .regressor import SequenceRegressor

__all__ = ["ClassScores", "NumberScores", "class_scores", "number_scores", "wilson_interval"]

LINEAR = "linear, on means and deviations"


@dataclass(frozen=True, eq=False)
class ClassScores:
    """Predicted classes beside the true ones."""

    classes: list[str]
    """The labels."""
    truths: npt.NDArray[np.int64]
    """The numbers of the true classes, (N,)."""
    probabilities: npt.NDArray[np.float64]
    """The probability of each class, (N, classes)."""
    baselines: dict[str, npt.NDArray[np.int64]]
    """The numbers of the classes that simpler methods predict, by the methods' names."""

    @property
    def predictions(self) -> npt.NDArray[np.int64]:
        """The numbers of the predicted classes, (N,)."""
        best: npt.NDArray[np.int64] = self.probabilities.argmax(1)
        return best

    @property
    def right(self) -> npt.NDArray[np.bool_]:
        """Which predictions are right, (N,)."""
        right: npt.NDArray[np.bool_] = self.predictions == self.truths
        return right

    @property
    def confusion(self) -> npt.NDArray[np.int64]:
        """The number of sequences of each true class (rows) that got each prediction (columns)."""
        counts = np.zeros((len(self.classes), len(self.classes)), np.int64)
        np.add.at(counts, (self.truths, self.predictions), 1)
        return counts

    def mistakes(self, number: int = 10) -> list[list[str]]:
        """A table of the most frequent mistakes, with a head."""
        wrong = np.where(np.eye(len(self.classes), dtype=bool), 0, self.confusion)
        most = [np.unravel_index(place, wrong.shape) for place in np.argsort(-wrong, axis=None, kind="stable")[:number]]
        rows = [[self.classes[true], self.classes[found], str(wrong[true, found])] for true, found in most]
        return [["true", "predicted", "times"], *[row for row in rows if row[2] != "0"]]

    def rows(self) -> list[list[str]]:
        """A table of the network's and the baselines' accuracies, with a head."""
        found = {"the network": self.predictions, **self.baselines}
        head = ["method", "accuracy", "right", "95 % interval"]
        return [head, *[_accuracy(*each, self.truths) for each in found.items()]]

    def is_better(self) -> bool:
        """Whether the network is right more often than each baseline."""
        best = max(((each == self.truths).sum() for each in self.baselines.values()), default=0)
        return bool(self.right.sum() > best)


@dataclass(frozen=True, eq=False)
class NumberScores:
    """Predicted numbers beside the true ones."""

    truths: npt.NDArray[np.float64]
    """The true numbers, (N,)."""
    predictions: npt.NDArray[np.float64]
    """The predicted numbers, (N,)."""
    baselines: dict[str, npt.NDArray[np.float64]]
    """What simpler methods predict, by the methods' names."""

    def rows(self) -> list[list[str]]:
        """A table of the network's and the baselines' errors, with a head."""
        found = {"the network": self.predictions, **self.baselines}
        head = ["method", "RMS error", "mean absolute", "R²"]
        return [head, *[_errors(*each, self.truths) for each in found.items()]]

    def is_better(self) -> bool:
        """Whether the network's mean square error is lower than that of each baseline."""
        best = min((np.square(each - self.truths).mean() for each in self.baselines.values()), default=np.inf)
        return bool(np.square(self.predictions - self.truths).mean() < best)


def class_scores(
    classifier: SequenceClassifier,
    sequences: Sequence[HostArray],
    labels: HostArray,
    trained_on: tuple[Sequence[HostArray], HostArray] | None = None,
) -> ClassScores:
    """The scores of a classifier on sequences.

    Args:
        labels: one for each sequence, among the classifier's classes.
        trained_on: the sequences and labels of the training, on which the baselines are fitted; None for no baselines.
    """
    classes = classifier.classes_
    names = [printable(str(label)) for label in classes.tolist()]
    baselines: dict[str, npt.NDArray[np.int64]] = {}
    if trained_on is not None:
        known = np.searchsorted(classes, trained_on[1])
        most = int(np.bincount(known, minlength=len(classes)).argmax())
        baselines[f"always {names[most]!r}"] = np.full(len(sequences), most)
        linear = LinearBaseline(trained_on[0], np.eye(len(classes))[known])
        baselines[LINEAR] = linear.predict(sequences).argmax(1)
    truths = np.searchsorted(classes, labels)
    return ClassScores(names, truths, classifier.predict_proba(sequences), baselines)


def number_scores(
    regressor: SequenceRegressor,
    sequences: Sequence[HostArray],
    numbers: HostArray,
    trained_on: tuple[Sequence[HostArray], HostArray] | None = None,
) -> NumberScores:
    """The scores of a regressor on sequences.

    Args:
        numbers: one for each sequence.
        trained_on: the sequences and numbers of the training, on which the baselines are fitted; None for no baselines.
    """
    baselines: dict[str, npt.NDArray[np.float64]] = {}
    if trained_on is not None:
        known = np.asarray(trained_on[1], np.float64)
        baselines["always the mean"] = np.full(len(sequences), known.mean())
        baselines[LINEAR] = LinearBaseline(trained_on[0], known[:, None]).predict(sequences)[:, 0]
    predictions = regressor.predict(sequences).astype(np.float64)
    return NumberScores(np.asarray(numbers, np.float64), predictions, baselines)


def wilson_interval(right: int, number: int) -> tuple[float, float]:
    """The 95 % interval of a share of which `right` of `number` were drawn, as Wilson (1927) gives it.

    >>> low, high = wilson_interval(19, 20)
    >>> round(low, 2), round(high, 2)
    (0.76, 0.99)
    """
    z = 1.959964
    share = right / number
    middle = (share + z * z / (2 * number)) / (1 + z * z / number)
    half = z / (1 + z * z / number) * math.sqrt(share * (1 - share) / number + z * z / (4 * number**2))
    return max(0.0, middle - half), min(1.0, middle + half)


def _accuracy(name: str, predictions: HostArray, truths: HostArray) -> list[str]:
    right, number = int((predictions == truths).sum()), len(truths)
    low, high = wilson_interval(right, number)
    return [name, f"{right / number:.1%}", f"{right} of {number}", f"{low:.0%} to {high:.0%}"]


def _errors(name: str, predictions: HostArray, truths: HostArray) -> list[str]:
    missed = predictions - truths
    spread = np.square(truths - truths.mean()).sum()
    r2 = f"{1 - np.square(missed).sum() / spread:.3f}" if spread else "-"
    return [name, f"{math.sqrt(np.square(missed).mean()):.4g}", f"{np.abs(missed).mean():.4g}", r2]
