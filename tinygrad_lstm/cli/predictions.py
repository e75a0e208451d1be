"""What `fit` and `predict` say of predictions: tables of them, and what they confuse."""

import csv
import io
from collections.abc import Iterator, Sequence
from pathlib import Path

from tinygrad_lstm.backends.base import HostArray

from ..estimators import SequenceClassifier, SequenceRegressor
from ..estimators.evaluation import ClassScores
from ..inspect.tables import aligned
from ..io.atomic import write_atomically

__all__ = ["MODEL", "confusion_lines", "prediction_rows", "write_rows"]

MODEL = "model.safetensors"
"""The file of the fitted estimator."""

WIDEST = 12
"""The largest number of classes whose confusion matrix is printed."""


def prediction_rows(
    estimator: SequenceClassifier | SequenceRegressor,
    sequences: Sequence[HostArray],
    names: Sequence[str],
    targets: HostArray | None,
) -> Iterator[list[str]]:
    """A head, and a row for each sequence: its name, the target if it is known, the prediction, the probabilities."""
    known = [] if targets is None else ["target"]
    truths = [[] for _ in names] if targets is None else [[_written(value)] for value in targets.tolist()]
    if isinstance(estimator, SequenceClassifier):
        labels, probabilities = estimator.classes_.tolist(), estimator.predict_proba(sequences)
        yield ["sequence", *known, "prediction", *[f"p({label})" for label in labels]]
        for name, truth, row in zip(names, truths, probabilities, strict=True):
            yield [name, *truth, str(labels[row.argmax()]), *[f"{share:.4f}" for share in row]]
    else:
        yield ["sequence", *known, "prediction"]
        for name, truth, value in zip(names, truths, estimator.predict(sequences).tolist(), strict=True):
            yield [name, *truth, f"{value:.7g}"]


def _written(value: object) -> str:
    return f"{value:.7g}" if isinstance(value, float) else str(value)


def write_rows(path: Path, rows: Iterator[list[str]]) -> None:
    """Writes a table as .csv.

    Raises:
        OSError: it cannot be written; an existing file is unchanged.
    """
    content = io.StringIO()
    csv.writer(content, lineterminator="\n").writerows(rows)
    write_atomically(path, content.getvalue().encode("utf-8", "replace"))


def confusion_lines(scores: ClassScores) -> Iterator[str]:
    """The confusion matrix as lines; of many classes, the most frequent mistakes."""
    if len(scores.classes) > WIDEST:
        yield "the most frequent mistakes:"
        yield aligned(scores.mistakes(), left=2)
        return
    names = [name if len(name) <= 16 else f"{name[:15]}…" for name in scores.classes]
    rows = [[name, *map(str, counts)] for name, counts in zip(names, scores.confusion.tolist(), strict=True)]
    yield "true class, and below each class how often it was predicted:"
    yield aligned([["", *names], *rows])
