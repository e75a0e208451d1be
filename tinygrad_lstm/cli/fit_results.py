"""What a fit has reached, for the terminal and in files."""

from collections.abc import Iterator
from pathlib import Path

from ..estimators import SequenceClassifier, SequenceRegressor
from ..estimators.evaluation import ClassScores, NumberScores, class_scores, number_scores
from ..inspect.tables import aligned
from .fit_parts import Parts
from .predictions import prediction_rows, write_rows

__all__ = ["MODEL", "confusion_lines", "write_results"]

MODEL = "model.safetensors"
"""The file of the fitted estimator."""

WIDEST = 12
"""The largest number of classes whose confusion matrix is printed."""


def write_results(estimator: SequenceClassifier | SequenceRegressor, parts: Parts, folder: Path) -> Iterator[str]:
    """Tests a fitted estimator, writes the results to the folder, and yields lines that say what they are."""
    if parts.test is None:
        yield "no test: how good the model is on new sequences is not known"
        yield f"files: {folder / MODEL}"
        return
    trained_on = parts.train.sequences, parts.targets
    scores: ClassScores | NumberScores
    if isinstance(estimator, SequenceClassifier):
        scores = class_scores(estimator, parts.test.sequences, parts.test_targets, trained_on)
    else:
        scores = number_scores(estimator, parts.test.sequences, parts.test_targets, trained_on)
    number = len(parts.test)
    yield f"\non the {number:,} sequences of the test, which were not trained on:\n"
    yield aligned(scores.rows())
    if not scores.is_better():
        yield "\nthe network is not better than the best of the simple methods: do not trust it more than them"
    if isinstance(scores, ClassScores):
        yield ""
        yield from confusion_lines(scores)
    place = folder / "predictions.csv"
    write_rows(place, prediction_rows(estimator, parts.test.sequences, parts.test.names, parts.test_targets))
    yield f"\nfiles: {folder / MODEL}  {place}"


def confusion_lines(scores: ClassScores) -> Iterator[str]:
    """The confusion matrix as lines; of many classes, the most frequent mistakes."""
    confusion, names = scores.confusion, [name if len(name) <= 16 else name[:15] + "…" for name in scores.classes]
    if len(names) <= WIDEST:
        yield "true class, and below each class how often it was predicted:"
        rows = [["", *names], *[[name, *map(str, row)] for name, row in zip(names, confusion.tolist(), strict=True)]]
        yield aligned(rows)
        return
    wrong = [(int(confusion[t, p]), names[t], names[p]) for t, p in zip(*confusion.nonzero(), strict=True) if t != p]
    yield "the most frequent mistakes:"
    yield aligned([["true", "predicted", "times"], *[[t, p, str(n)] for n, t, p in sorted(wrong)[:-11:-1]]], left=2)
