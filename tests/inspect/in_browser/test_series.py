"""Inputs and outputs as lines, in a real browser."""

from pathlib import Path

import numpy as np
import pytest
from axe import violations
from browser import DRIVER, WITHOUT, console_errors
from selenium.webdriver import Chrome
from selenium.webdriver.support.ui import Select
from shown_pages import Shown, downloaded, number

import tinygrad_lstm as tg
from tinygrad_lstm.models import LSTM

pytestmark = pytest.mark.skipif(DRIVER is None, reason=WITHOUT)

NAMES = ["wind", "rain", "sun", "snow", "<b>fog</b>"]


class Forecast(tg.nn.Module):
    def __init__(self) -> None:
        self.lstm, self.head = LSTM(5, 4), tg.nn.Linear(4, 1)

    def forward(self, x: tg.Tensor) -> tg.Tensor:
        return self.head(self.lstm(x)[0])


@pytest.fixture(scope="module")
def forecast(driver: Chrome, folder: Path) -> Shown:
    tg.manual_seed(0)
    traced = tg.inspect.trace(Forecast(), tg.randn(9, 2, 5), loss=lambda out: out[-1].sum())
    return Shown(driver, traced, tg.inspect.page(traced, folder / "series.html", names={"x": NAMES}))


def readings(shown: Shown, place: int) -> dict[str, float]:
    """The numbers below a chart, by name."""
    entries = shown.all("#series-section .chart")[place].find_elements("css selector", ".caption > span:has(svg)")
    parts = (str(entry.get_property("textContent")).strip().rpartition(" ") for entry in entries)
    return {name: number(value) for name, _, value in parts}


def test_the_numbers_of_a_step(forecast: Shown) -> None:
    forecast.open("#item=1&step=3&unit=2")
    titles = [title.text for title in forecast.all("#series-section h3")]
    assert titles == ["Input x", "Output", "Gates of unit 2"]
    x, layer = forecast.trace.inputs, forecast.trace[0]
    assert readings(forecast, 0) == pytest.approx(dict(zip(NAMES[:4], map(float, x[3, 1]))), rel=1e-3)
    assert readings(forecast, 1) == pytest.approx({"output": float(forecast.trace.output[3, 1, 0])}, rel=1e-3)
    assert readings(forecast, 2) == pytest.approx(
        {name: float(layer.values[name][3, 1, 2]) for name in "ifo"}, rel=1e-3
    )
    forecast.press("\ue014")  # a step on, with the right arrow
    assert readings(forecast, 0)["wind"] == pytest.approx(float(x[4, 1, 0]), rel=1e-3)
    assert console_errors(forecast.driver) == []


def test_other_columns_and_the_table(forecast: Shown, folder: Path) -> None:
    forecast.open("#step=0")
    Select(forecast.find("#series select")).select_by_visible_text(NAMES[4])
    assert [*readings(forecast, 0)] == NAMES[4:]
    forecast.all("#series .caption button")[0].click()
    title, *rows = downloaded(folder / "x.csv")
    assert title == ["step", NAMES[4]]
    np.testing.assert_allclose([float(row[1]) for row in rows], forecast.trace.inputs[:, 0, 4], rtol=1e-3, atol=1e-4)


def test_the_inputs_of_equations_have_their_names(forecast: Shown) -> None:
    forecast.open("#step=5&unit=1")
    forecast.driver.execute_script("document.querySelector('#diagram [data-stage=f]').focus()")
    assert "largest products: " in forecast.text("#meaning")
    shown = [name for name in NAMES if f"x[{name}]" in forecast.text("#meaning")]
    assert shown, forecast.text("#meaning")


def test_it_is_accessible(forecast: Shown) -> None:
    forecast.open()
    assert violations(forecast.driver, without=("label-content-name-mismatch",)) == []
