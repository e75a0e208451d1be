"""`tinygrad-lstm predict`."""

import csv
import sys
from pathlib import Path
from typing import Annotated

import typer

from tinygrad_lstm.backends.base import HostArray
from tinygrad_lstm.backends.dtypes import is_string

from ..data import LabelledSequences
from ..data.reading import is_table
from ..estimators import SequenceClassifier, SequenceRegressor, load
from ..estimators.evaluation import class_scores, number_scores
from ..inspect.tables import aligned
from ..io.errors import shown
from .labelled import DataFile, check_like_training, known_labels, numbers_of, read, roles_to_predict
from .predictions import MODEL, confusion_lines, prediction_rows, write_rows
from .shared import Device, Threads, path_option, use_threads, writable_file

__all__ = ["predict"]


def predict(
    model: Annotated[str, typer.Argument(help="The folder that fit wrote, or its model.safetensors.", metavar="MODEL")],
    data: DataFile,
    out: Annotated[
        str | None,
        typer.Option(help="The .csv file to write.  [default: standard output]", metavar="FILE"),
    ] = None,
    score: Annotated[
        bool, typer.Option("--score/--no-score", help="Compare with the targets, if the data have them.")
    ] = True,
    device: Device = None,
    threads: Threads = None,
) -> None:
    """Predict a class or a number for each sequence of a table like the one of the fit.

    Writes a row for each sequence: its id, the target if it is there, the prediction, the probability of each class.
    If there are targets, prints the score.
    """
    use_threads(threads)
    path = path_option("MODEL", model)
    path = path / MODEL if path.is_dir() else path
    place = None if out is None else writable_file("--out", out)
    estimator = load(path, device)
    source = path_option("DATA", data)
    text_classes = isinstance(estimator, SequenceClassifier) and is_string(estimator.classes_.dtype)
    roles = roles_to_predict(path, estimator.about_, text_classes)
    if (column := roles.id or roles.time) is not None and not is_table(source):
        raise ValueError(f"{source}: expected a table with the column {shown(column)}, as in the training")
    found = read(source, roles)
    check_like_training(found, source, estimator.model_.network.input_size, estimator.about_.get("rate"))
    targets = _targets(estimator, found, source) if score and found.targets is not None else None
    rows = prediction_rows(estimator, found.sequences, found.names, targets)
    if place is None:
        csv.writer(sys.stdout, lineterminator="\n").writerows(rows)
    else:
        write_rows(place, rows)
        print(f"wrote {place}: {len(found):,} predictions")
    if targets is not None:
        # The table is all that goes to standard output.
        print(_scores(estimator, found, targets), file=sys.stderr if place is None else sys.stdout)


def _targets(estimator: SequenceClassifier | SequenceRegressor, found: LabelledSequences, source: Path) -> HostArray:
    if isinstance(estimator, SequenceClassifier):
        return known_labels(found, source, estimator.classes_)
    return numbers_of(found, source)


def _scores(estimator: SequenceClassifier | SequenceRegressor, found: LabelledSequences, targets: HostArray) -> str:
    """How the predictions compare with the targets, as lines."""
    if isinstance(estimator, SequenceRegressor):
        return aligned(number_scores(estimator, found.sequences, targets).rows())
    scores = class_scores(estimator, found.sequences, targets)
    return "\n".join([aligned(scores.rows()), *confusion_lines(scores)])
