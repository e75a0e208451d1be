"""Pages of every gate and state of a few predictions, right and wrong ones."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from ..data import LabelledSequences
from ..estimators import SequenceClassifier, SequenceRegressor
from ..estimators.evaluation import ClassScores, NumberScores
from ..inspect import PageTooLargeError, page

__all__ = ["pages_inside", "write_inside"]

SHOWN = 4
"""The largest number of sequences on a page."""
NUMBERS = 25_000_000
"""The largest number of states of a page's trace, which has a few arrays of so many numbers."""


def pages_inside(estimator: SequenceClassifier | SequenceRegressor, folder: Path) -> list[Path]:
    """The pages that `write_inside` may write."""
    names = ("right", "wrong") if isinstance(estimator, SequenceClassifier) else ("best", "worst")
    return [folder / f"{name}.html" for name in names]


def write_inside(
    estimator: SequenceClassifier | SequenceRegressor,
    test: LabelledSequences,
    scores: ClassScores | NumberScores,
    folder: Path,
) -> dict[str, Path]:
    """Writes pages of the surest right and wrong predictions, or of the best and worst numbers, to a folder.

    Returns:
        The pages by what they show. Predictions of which there are none, or that are too long, have no page.
    """
    pages = {}
    for name, (title, rows) in _chosen(scores).items():
        rows = _affordable(estimator, test, rows)
        if not rows:
            continue
        sequences = [f"{k}: {test.names[row]}, {_said(scores, row)}" for k, row in enumerate(rows)]
        traced = estimator.inspect([test.sequences[row] for row in rows])
        path, shown = folder / f"{name}.html", f"{title}: {'; '.join(sequences)}"
        features, loss = {"x": test.features}, estimator.EXPLAINED
        try:
            page(traced, path, names=features, title=shown, loss_is=loss)
        except PageTooLargeError as error:
            if error.steps is None:
                continue
            page(traced, path, names=features, title=shown, loss_is=loss, steps=error.steps)
        pages[title] = path
    return pages


def _chosen(scores: ClassScores | NumberScores) -> dict[str, tuple[str, list[int]]]:
    """The rows of the sequences to show, with a title, by the names of the pages."""
    if isinstance(scores, NumberScores):
        order = np.abs(scores.predictions - scores.truths).argsort()
        best, worst = order[:SHOWN].tolist(), order[len(order) // 2 :][::-1][:SHOWN].tolist()
        return {"best": ("Best predictions", best), "worst": ("Worst predictions", worst)}
    surest = (-scores.probabilities.max(1)).argsort(kind="stable")
    right, wrong = (surest[scores.right[surest] == good].tolist() for good in (True, False))
    first = {scores.truths[row]: row for row in reversed(right)}  # the surest of each class
    return {
        "right": ("Right predictions", list(first.values())[:SHOWN]),
        "wrong": ("Wrong predictions", wrong[:SHOWN]),
    }


def _said(scores: ClassScores | NumberScores, row: int) -> str:
    if isinstance(scores, NumberScores):
        return f"{scores.predictions[row]:.4g} for {scores.truths[row]:.4g}"
    true, predicted = scores.classes[scores.truths[row]], scores.classes[scores.predictions[row]]
    return true if true == predicted else f"{predicted} for {true}"


def _affordable(
    estimator: SequenceClassifier | SequenceRegressor, test: LabelledSequences, rows: Sequence[int]
) -> list[int]:
    """The first of the rows, whose trace does not take too much memory."""
    width = estimator.hidden_size * estimator.num_layers * (1 + bool(estimator.bidirectional))
    for number in range(len(rows), 0, -1):
        if max(len(test.sequences[row]) for row in rows[:number]) * number * width <= NUMBERS:
            return list(rows[:number])
    return []
