"""What a fit has reached, for the terminal and in files."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from ..data import LabelledSequences
from ..estimators import SequenceClassifier, SequenceRegressor
from ..estimators.evaluation import ClassScores, NumberScores, class_scores, number_scores
from ..inspect.tables import aligned
from .fit_inside import pages_inside, write_inside
from .fit_page import Facts, write_page
from .fit_parts import Parts
from .predictions import MODEL, confusion_lines, prediction_rows, write_rows

__all__ = ["write_results"]


def write_results(
    estimator: SequenceClassifier | SequenceRegressor, parts: Parts, model: str, folder: Path
) -> Iterator[str]:
    """Tests a fitted estimator, writes the results to its folder, and yields lines that say what they are.

    Args:
        model: the model and its training, in words.
    """
    page, table, written = folder / "page.html", folder / "predictions.csv", [folder / MODEL]
    for earlier in (table, *pages_inside(estimator, folder)):
        earlier.unlink(missing_ok=True)  # of a fit that was resumed with a different test
    facts = Facts(
        title=f"What a network has learnt from {parts.path.name}",
        described=parts.described,
        model=f"{model}\n{estimator!r}",
        history=estimator.history_,
        names=[],
        footer=f"The model is {folder / MODEL}; tinygrad-lstm predict {folder} DATA applies it.",
    )
    if parts.test is None:
        write_page(page, None, facts)
        yield "no test: how good the model is on new sequences is not known"
    else:
        scores = _scores(estimator, parts, parts.test)
        yield f"\non the {len(parts.test):,} sequences of the test, which were not trained on:\n"
        yield from _lines(scores)
        write_rows(table, prediction_rows(estimator, parts.test.sequences, parts.test.names, parts.test_targets))
        inside = write_inside(estimator, parts.test, scores, folder)
        write_page(page, scores, replace(facts, names=parts.test.names, inside=inside))
        written += [table, *inside.values()]
    yield f"\nfiles: {'  '.join(map(str, written))}"
    yield f"page: {page}; open it in a browser"


def _scores(
    estimator: SequenceClassifier | SequenceRegressor, parts: Parts, test: LabelledSequences
) -> ClassScores | NumberScores:
    trained_on = parts.train.sequences, parts.targets
    if isinstance(estimator, SequenceClassifier):
        return class_scores(estimator, test.sequences, parts.test_targets, trained_on)
    return number_scores(estimator, test.sequences, parts.test_targets, trained_on)


def _lines(scores: ClassScores | NumberScores) -> Iterator[str]:
    yield aligned(scores.rows())
    if not scores.is_better():
        yield "\nthe network is not better than the best of the simple methods: do not trust it more than them"
    if isinstance(scores, ClassScores):
        yield ""
        yield from confusion_lines(scores)
