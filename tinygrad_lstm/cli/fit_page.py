"""The page of a fit: how good the model is, what it confuses, and how it was trained."""

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from html import escape
from importlib.resources import files
from pathlib import Path
from typing import Any

from ..estimators.evaluation import ClassScores, NumberScores
from ..io.atomic import write_atomically
from .fit_charts import curves, scatter

__all__ = ["Facts", "write_page"]

WIDEST = 60
"""The largest number of classes whose confusion matrix is shown."""
LISTED = 10
"""The largest number of predictions in a table."""


@dataclass(frozen=True)
class Facts:
    """What a page says beside the scores."""

    title: str
    described: str
    """The data, in lines."""
    model: str
    """The model and its training, in lines."""
    history: list[dict[str, Any]]
    """The losses of each epoch."""
    names: list[str]
    """The names of the sequences of the test."""
    inside: dict[str, Path] = field(default_factory=dict)
    """Pages of predictions in the same folder, by what they show."""
    footer: str = ""


def write_page(path: Path, scores: ClassScores | NumberScores | None, facts: Facts) -> None:
    """Writes the page as one file that loads nothing.

    Args:
        scores: those of the test; None if there was none.

    Raises:
        OSError: it cannot be written; an existing file is unchanged.
    """
    left, right = [_result(scores, len(facts.names)), _curves(facts)], list[str]()
    if isinstance(scores, ClassScores):
        right += [_confusion(scores), _class_predictions(scores, facts)]
    elif scores is not None:
        chart = scatter(scores.truths.tolist(), scores.predictions.tolist())
        right += [_section("Predictions", chart), _number_predictions(scores, facts)]
    left.append(_section("The data and the model", _lines(facts.described) + _lines(facts.model)))
    folder = files("tinygrad_lstm.inspect") / "web"

    def read(name: str) -> str:
        return (folder / name).read_text(encoding="utf-8").rstrip()

    filling = {
        "title": escape(facts.title),
        "about": escape(facts.described.partition("\n")[0].partition(": ")[2]),
        "style": f"{read('page.css')}\n{read('fit.css')}",
        "script": read("dom.js"),
        "sections": "\n".join(f'<div class="column">{"".join(column)}</div>' for column in (left, right) if column),
        "footer": escape(facts.footer),
    }
    page = re.sub(r"\{\{(\w+)\}\}", lambda found: filling[found[1]], read("fit.html"))
    write_atomically(path, page.encode(errors="replace"))


def _section(title: str, *contents: str) -> str:
    return f"<section>\n<h2>{escape(title)}</h2>\n{''.join(contents)}\n</section>"


def _lines(text: str) -> str:
    return "".join(f"<p>{escape(line)}</p>" for line in text.splitlines())


def _table(rows: Sequence[Sequence[str]], ours: Iterable[int] = (), words: int = 1) -> str:
    """Rows of cells, the first of which are heads; the first `words` columns are flush left."""

    def cell(text: str, column: int, head: bool) -> str:
        kind, scope = ("th", f' scope="{"col" if head else "row"}"') if head or column == 0 else ("td", "")
        flush = ' class="words"' if column < words else ""
        return f"<{kind}{scope}{flush}>{escape(text)}</{kind}>"

    head, *body = ["".join(cell(text, k, n == 0) for k, text in enumerate(row)) for n, row in enumerate(rows)]
    classes = {True: ' class="ours"', False: ""}
    lines = "".join(f"<tr{classes[n in ours]}>{row}</tr>" for n, row in enumerate(body))
    return f'<div class="wide" tabindex="0"><table><thead><tr>{head}</tr></thead><tbody>{lines}</tbody></table></div>'


def _result(scores: ClassScores | NumberScores | None, number: int) -> str:
    if scores is None:
        return _section("Result", _lines("There was no test: how good the model is on new sequences is not known."))
    rows = scores.rows()
    if isinstance(scores, ClassScores):
        said = f"{rows[1][1]} right"
    else:
        said = f"Mean absolute error {rows[1][2]}"
    parts = [
        f'<p class="headline">{escape(said)}</p>',
        f'<p class="hint">on {number:,} sequences that it was not trained on, beside simple methods:</p>',
        _table(rows, ours=[0]),
    ]
    if not scores.is_better():
        parts.append(
            '<p class="warning">The network is not better than the best of the simple methods: do not trust it more '
            "than them.</p>"
        )
    return _section("Result", *parts)


def _confusion(scores: ClassScores) -> str:
    if len(scores.classes) > WIDEST:
        return _section("The most frequent mistakes", _table(scores.mistakes(20), words=2))
    names, confusion = scores.classes, scores.confusion
    head = "".join(f'<th scope="col">{escape(name)}</th>' for name in names)
    rows = []
    for true, counts in enumerate(confusion.tolist()):
        total = max(sum(counts), 1)
        cells = []
        for predicted, count in enumerate(counts):
            colour, share = "--accent" if predicted == true else "--mark", round(60 * count / total)
            shade = f' style="background: color-mix(in srgb, var({colour}) {share}%, transparent)"' if count else ""
            cells.append(f"<td{shade}>{count}</td>")
        rows.append(f'<tr><th scope="row">{escape(names[true])}</th>{"".join(cells)}</tr>')
    table = f"<table><thead><tr><td></td>{head}</tr></thead><tbody>{''.join(rows)}</tbody></table>"
    return _section(
        "Confusion matrix",
        '<p class="hint">A row for each true class: how often each class was predicted.</p>',
        f'<div class="wide confusion" tabindex="0">{table}</div>',
    )


def _curves(facts: Facts) -> str:
    search = [line for line in facts.history if line["validation_loss"] is not None]
    final = facts.history[len(search) :]
    lines = {
        "training, in the search for the number of epochs": [line["loss"] for line in search],
        "validation": [line["validation_loss"] for line in search],
        "training of the final network": [line["loss"] for line in final],
    }
    drawn = {name: values for name, values in lines.items() if values}
    return _section("Learning curves", '<p class="hint">The loss of each epoch.</p>', curves(drawn))


def _class_predictions(scores: ClassScores, facts: Facts) -> str:
    sure = scores.probabilities.max(1)
    wrong = sorted((row for row, right in enumerate(scores.right) if not right), key=lambda row: -sure[row])
    rows = [["sequence", "true", "predicted", "probability"]]
    for row in wrong[:LISTED]:
        true, predicted = scores.classes[scores.truths[row]], scores.classes[scores.predictions[row]]
        rows.append([facts.names[row], true, predicted, f"{sure[row]:.2f}"])
    said = (
        f"Wrong predictions, the most certain first ({len(rows) - 1} of {len(wrong)}):" if wrong else "All are right."
    )
    table = _table(rows, words=3) if wrong else ""
    return _section("Single predictions", f'<p class="hint">{said}</p>', table, _inside(facts))


def _number_predictions(scores: NumberScores, facts: Facts) -> str:
    missed = abs(scores.predictions - scores.truths)
    rows = [["sequence", "true", "predicted"]]
    for row in (-missed).argsort()[:LISTED]:
        rows.append([facts.names[row], f"{scores.truths[row]:.5g}", f"{scores.predictions[row]:.5g}"])
    return _section("Single predictions", '<p class="hint">The largest errors:</p>', _table(rows), _inside(facts))


def _inside(facts: Facts) -> str:
    links = "".join(f'<li><a href="{escape(path.name)}">{escape(name)}</a></li>' for name, path in facts.inside.items())
    return f"<p>Every gate and state, step by step:</p><ul>{links}</ul>" if links else ""
