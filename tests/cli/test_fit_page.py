"""The page of a fit: what it says, and that a browser shows it."""

import re
from html import unescape
from pathlib import Path

import numpy as np
import pytest
from axe import violations
from browser import DRIVER, WITHOUT, browser, console_errors, requests
from commands import succeed_here
from labelled_tables import LONG, QUICK, Row, rows_of, wide_table, written

from tinygrad_lstm.cli.predictions import confusion_lines
from tinygrad_lstm.estimators import load
from tinygrad_lstm.estimators.baselines import LinearBaseline, summary_of
from tinygrad_lstm.estimators.evaluation import ClassScores, NumberScores, wilson_interval

HIGH = "high & <b>"
"""A label that is not valid as HTML."""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a fit whose predictions are not all right: some sequences are labelled at random."""
    place = tmp_path_factory.mktemp("page")
    labels = np.random.default_rng(0).integers(2, size=60)
    rows: list[Row] = list(rows_of(lambda k, values: ("low", HIGH)[k % 2 if k % 3 else labels[k]], 60))
    written(place / "train.csv", ["id", "t", "left", "right", "y"], rows)
    succeed_here("fit", "classify", "train.csv", *LONG, *QUICK, "--epochs", 8, "--out", "out", cwd=place)
    return place / "out"


def tables(page: str) -> list[list[list[str]]]:
    """The cells of the rows of each table."""
    return [
        [[unescape(cell) for cell in re.findall(r"<t[dh]\b[^>]*>(.*?)</t", row)] for row in table.split("</tr>")[:-1]]
        for table in re.findall(r"<table>(.*?)</table>", page)
    ]


def test_it_says_what_was_right_and_what_was_wrong(folder: Path) -> None:
    page = (folder / "page.html").read_text(encoding="utf-8")
    result, confusion, wrong = tables(page)
    predicted = [line.split(",") for line in (folder / "predictions.csv").read_text().splitlines()[1:]]
    mistakes = [row for row in predicted if row[1] != row[2]]
    assert result[1][2] == f"{len(predicted) - len(mistakes)} of {len(predicted)}"
    assert result[1][0] == "the network" and len(result) == 4
    assert confusion[0] == ["", HIGH, "low"]
    counts = [[int(count) for count in row[1:]] for row in confusion[1:]]
    assert counts == [[sum(row[1:3] == [t, p] for row in predicted) for p in (HIGH, "low")] for t in (HIGH, "low")]
    assert 0 < len(wrong) - 1 == len(mistakes) and {row[0] for row in wrong[1:]} == {row[0] for row in mistakes}
    assert float(wrong[1][3]) == max(float(row[3]) for row in wrong[1:])
    assert "<b>" not in page.partition("<main")[2]


def test_it_draws_the_losses_and_leads_to_pages_of_predictions(folder: Path) -> None:
    page = (folder / "page.html").read_text(encoding="utf-8")
    lines = re.findall(r'<path class="(?:first|second|third)" d="M([^H]+?)"/>', page)
    assert [len(line.split("L")) for line in lines] == [8, 8, 8]
    for name in ("right", "wrong"):
        assert f'href="{name}.html"' in page
        assert "left" in (folder / f"{name}.html").read_text(encoding="utf-8")
    assert "Wrong predictions: 0: s" in (folder / "wrong.html").read_text(encoding="utf-8")


def test_pages_of_an_earlier_test_are_removed(folder: Path, tmp_path: Path) -> None:
    table = folder.parent / "train.csv"
    command = ["fit", "classify", table, *LONG, *QUICK, "--out", tmp_path / "out"]
    succeed_here(*command, "--test", table)
    results = [line.split(",") for line in (tmp_path / "out" / "predictions.csv").read_text().splitlines()[1:]]
    right = {name for name, true, predicted, *_ in results if true == predicted}
    assert len(right) < len(results) and (tmp_path / "out" / "wrong.html").exists()
    head, *lines = table.read_text().splitlines(keepends=True)
    easy = tmp_path / "easy.csv"
    easy.write_text(head + "".join(line for line in lines if line.partition(",")[0] in right))
    succeed_here(*command, "--test", easy, "--resume")
    assert not (tmp_path / "out" / "wrong.html").exists() and (tmp_path / "out" / "right.html").exists()


def test_numbers_are_points_and_best_and_worst(tmp_path: Path) -> None:
    wide_table(tmp_path / "wide.csv", 40)
    succeed_here("fit", "regress", "wide.csv", "--target", "y", *QUICK, "--out", "out", cwd=tmp_path)
    page = (tmp_path / "out" / "page.html").read_text(encoding="utf-8")
    assert page.count("<circle") == 8 and {"best.html", "worst.html"} <= {*re.findall(r'href="(.*?)"', page)}
    largest = tables(page)[1]
    missed = [abs(float(true) - float(found)) for _, true, found in largest[1:]]
    assert missed == pytest.approx(sorted(missed, reverse=True), abs=0.01)
    succeed_here("fit", "regress", "wide.csv", "--target", "y", *QUICK, "--test", 0, "--out", "all", cwd=tmp_path)
    assert "There was no test" in (tmp_path / "all" / "page.html").read_text(encoding="utf-8")


@pytest.mark.skipif(DRIVER is None, reason=WITHOUT)
def test_a_browser_shows_it_without_a_network(folder: Path, tmp_path: Path) -> None:
    with browser(tmp_path) as driver:
        driver.get((folder / "page.html").as_uri())
        assert console_errors(driver) == []
        assert not [url for url in requests(driver) if not url.startswith(("file:", "data:"))]
        for theme in ("light", "dark"):
            driver.execute_script(
                "const theme = document.getElementById('theme'); theme.value = arguments[0];"
                "theme.dispatchEvent(new Event('change'))",
                theme,
            )
            assert driver.execute_script("return document.documentElement.dataset.theme") == theme
            assert violations(driver) == []
        for width in (360, 1280):
            driver.set_window_size(width, 900)
            assert driver.execute_script("return document.body.scrollWidth <= window.innerWidth")


# -- the numbers -------------------------------------------------------------------------------------------------------


def test_a_linear_baseline_learns_means_and_not_the_order() -> None:
    rng = np.random.default_rng(0)
    sequences = [rng.normal(k, 1, (rng.integers(5, 9), 2)) for k in rng.uniform(-3, 3, 200)]
    targets = np.array([[3 * x[:, 0].mean() + 1] for x in sequences])
    fitted = LinearBaseline(sequences[:150], targets[:150])
    assert np.abs(fitted.predict(sequences[150:]) - targets[150:]).mean() < 0.1 * targets.std()
    np.testing.assert_allclose(summary_of([sequences[0]]), summary_of([sequences[0][::-1]]))
    constant = [np.column_stack([x, np.full(len(x), 7.1)]) for x in sequences]
    np.testing.assert_allclose(
        LinearBaseline(constant, targets).predict(constant),
        LinearBaseline(sequences, targets).predict(sequences),
        rtol=1e-9,
    )


def test_scores() -> None:
    probabilities = np.array([[0.9, 0.1], [0.2, 0.8], [0.6, 0.4]])
    scores = ClassScores(["a", "b"], np.array([0, 1, 1]), probabilities, {"always 'b'": np.array([1, 1, 1])})
    assert scores.confusion.tolist() == [[1, 0], [1, 1]] and not scores.is_better()
    assert scores.rows()[1:] == [
        ["the network", "66.7%", "2 of 3", "21% to 94%"],
        ["always 'b'", "66.7%", "2 of 3", "21% to 94%"],
    ]
    assert scores.mistakes() == [["true", "predicted", "times"], ["b", "a", "1"]]
    many = ClassScores([*map(str, range(70))], np.arange(70), np.roll(np.eye(70), 1, axis=1), {})
    assert [*confusion_lines(many)][1].splitlines()[1] == "0     1              1"
    numbers = NumberScores(np.array([1.0, 2, 4]), np.array([1.0, 2, 3]), {"always the mean": np.full(3, 2.0)})
    assert numbers.rows()[1] == ["the network", "0.5774", "0.3333", "0.786"] and numbers.is_better()
    assert wilson_interval(0, 10)[0] == 0 and wilson_interval(10, 10)[1] == pytest.approx(1)


def test_the_fitted_model_knows_its_columns(folder: Path) -> None:
    columns = load(folder / "model.safetensors").about_["columns"]
    assert columns == {"target": "y", "id": "id", "time": "t", "features": ["left", "right"], "drop": []}
