"""The page in a real browser: its numbers are the trace's, and its equations add up."""

import math
import re
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from browser import DRIVER, WITHOUT, console_errors, requests
from selenium.webdriver import ActionChains, Chrome
from selenium.webdriver.common.keys import Keys
from selenium.webdriver.support.ui import Select
from shown_pages import LETTERS, STATES, TEXT, Shown, downloaded, number, plain

import tinygrad_lstm as tg
from tinygrad_lstm.models import LSTM, CharLM, Recurrent
from tinygrad_lstm.models.atlas import LEMCell

pytestmark = pytest.mark.skipif(DRIVER is None, reason=WITHOUT)


def sigmoid(x: float) -> float:
    return 1 / (1 + math.exp(-x))


def computed(text: str) -> list[float]:
    """The value of each part of a chain "a = b = c"."""
    return [eval(part, {"σ": sigmoid, "tanh": math.tanh}) for part in plain(text).split("=")]


def test_nothing_is_loaded_and_nothing_complains(text_page: Shown) -> None:
    console_errors(text_page.driver)
    requests(text_page.driver)
    text_page.open()
    text_page.press(Keys.ARROW_RIGHT, Keys.ARROW_DOWN, "f", Keys.END)
    assert console_errors(text_page.driver) == []
    assert [url for url in requests(text_page.driver) if url != "about:blank"] == [text_page.path.as_uri()]
    assert text_page.driver.title == "<b>A page</b> & more"
    assert text_page.text("h1") == "<b>A page</b> & more"


def test_a_cell_of_no_kind_has_its_equations(driver: Chrome, folder: Path) -> None:
    """As Python code, with the numbers of a unit, in both directions."""
    tg.manual_seed(1)
    network = Recurrent([(LEMCell(3, 6), LEMCell(3, 6)), LEMCell(12, 6)])
    traced = tg.inspect.trace(network, tg.randn(9, 2, 3), lengths=[9, 4], loss=lambda out: (out * out).sum())
    page = Shown(driver, traced, tg.inspect.page(traced, folder / "equations.html"))
    console_errors(driver)
    for which, layer in enumerate(traced):
        page.open(f"#layer={which}&item=1&step=2&unit=3")
        rows = [row.text for row in page.all("#equations .stage .formula")]
        assert tuple(rows) == layer.equations
        shown = dict(row.text.split(" = ") for row in page.all("#equations .stage .numbers"))
        assert list(shown) == ["dt_z", "dt_y", "next_z", "next_y"]
        for name, text in shown.items():
            value = layer.values[name.removeprefix("next_")][2, 1, 3]
            assert number(text) == pytest.approx(value, abs=6e-4)
        page.find("#copy-numbers").click()
    assert page.all("#diagram svg") and console_errors(driver) == []


@pytest.mark.parametrize("kind", ["LSTM", "GRU", "RNN"])
def test_numbers_are_the_traces(networks: Callable[[str], Shown], kind: str) -> None:
    """Of each layer, direction and sequence; what was before the first step too."""
    page = networks(kind)
    for which, layer in enumerate(page.trace):
        for item, length in enumerate([9, 4, 6]):
            for step in {0, length // 2, length - 1}:
                unit = (step + which) % 6
                page.open(f"#layer={which}&item={item}&step={step}&unit={unit}")
                assert (page.step, page.unit) == (step, unit)
                for name, values in layer.values.items():
                    if page.all(f'#diagram [data-value="{name}"]'):
                        assert page.number(name) == pytest.approx(values[step, item, unit], abs=6e-4)
                for name in layer.before:
                    if page.all(f'#diagram [data-value="{name}_before"]'):
                        expected = layer.before[name][step, item, unit]
                        assert page.number(f"{name}_before") == pytest.approx(expected, abs=6e-4)
    assert page.all('#diagram [data-value="h"]') and page.all('#diagram [data-value="h_before"]')


@pytest.mark.parametrize("kind", ["LSTM", "GRU", "RNN"])
def test_equations_add_up(networks: Callable[[str], Shown], kind: str) -> None:
    """All parts of each chain of numbers have the same value, which is the trace's."""
    page = networks(kind)
    for which, layer in enumerate(page.trace):
        for step in (0, 3, 5):
            page.open(f"#layer={which}&item=2&step={step}&unit=2")
            chains = page.equations()
            for stage, text in chains.items():
                if stage == "hx":
                    continue
                found = computed(text)
                assert len(found) > 1
                tolerance = 2e-3 * max(map(abs, found)) if stage == "back" else 1.1e-3
                assert found == pytest.approx([found[-1]] * len(found), abs=tolerance), text
                expected = layer.gradients[STATES[kind][-1]] if stage == "back" else layer.values[stage]
                assert found[-1] == pytest.approx(expected[step, 2, 2], abs=tolerance), text
            assert set(chains) - {"hx", "back"} <= set(layer.values)
            assert "h" in chains
            goes_on = step > 0 if layer.reverse else step < 5  # of the six steps of this sequence
            assert ("back" in chains) == (kind == "LSTM" or (kind == "GRU" and goes_on))


def test_equations_show_what_counts_most(text_page: Shown) -> None:
    text_page.open("#step=5&unit=3")
    ActionChains(text_page.driver).move_to_element(text_page.find('#diagram [data-stage="f"] .box')).perform()
    assert text_page.find('#equations [data-of="f"]').get_attribute("class") == "stage chosen"
    parts = text_page.text("#equations .parts")
    layer = text_page.trace[0]
    share = round(100 * float(layer.f[5, 0, 3]))
    assert f"keeps {share} % of the old cell state" in parts
    products = re.findall(r"(x|h)\[(\d+)\]: (\S+) × (\S+) = (\S+?)(?:,|$)", parts)
    assert len(products) == 4
    row = 12 + 3  # the forget gates' rows are the second of four
    for of, index, weight, value, product in products:
        weights = layer.parameters["weight_ih" if of == "x" else "weight_hh"]
        given = layer.inputs if of == "x" else layer.before["h"]
        assert number(weight) == pytest.approx(weights[row, int(index)], abs=1e-3)
        assert number(value) == pytest.approx(given[5, 0, int(index)], abs=1e-3)
        assert number(product) == pytest.approx(number(weight) * number(value), abs=1e-3)


def test_predictions_and_losses(text_page: Shown) -> None:
    text_page.open("#step=20")
    assert text_page.trace.output is not None
    logits = text_page.trace.output[20, 0].astype(float)
    probabilities = np.exp(logits - logits.max()) / np.exp(logits - logits.max()).sum()
    likeliest = np.argsort(-probabilities, kind="stable")[:5]
    tokens = [row.text for row in text_page.all("#prediction .token")]
    shown = [row.text for row in text_page.all("#prediction .bars > span:nth-child(3n)")]
    assert tokens == [{" ": "␣", "\n": "↵"}.get(LETTERS[k], LETTERS[k]) for k in likeliest]
    assert [number(text.removesuffix(" %")) for text in shown] == pytest.approx(
        100 * probabilities[likeliest], abs=0.06
    )
    loss = -math.log(probabilities[LETTERS.index(TEXT[21])])
    assert f"a loss of {loss:.3f} nats" in text_page.text("#prediction")
    text_page.press(Keys.END)
    assert "Nothing follows" in text_page.text("#prediction")


def test_the_cells_gradient_adds_up_where_a_window_ends(networks: Callable[[str], Shown], folder: Path) -> None:
    """The gradient from outside of the window is shown as one number, in both directions."""
    whole = networks("LSTM")
    path = tg.inspect.page(whole.trace, folder / "cut.html", steps=slice(2, 5))
    page = Shown(whole.driver, whole.trace, path)
    for which, layer in enumerate(page.trace):
        for step in (2, 3, 4):
            page.open(f"#layer={which}&step={step}&unit=1")
            found = computed(page.equations()["back"])
            expected = float(layer.gradients["c"][step, 0, 1])
            tolerance = 2e-3 * float(max(abs(expected), abs(layer.gradients["h"][step, 0, 1])))
            assert found == pytest.approx([expected] * 3, abs=tolerance)
    page.open("#layer=2&step=4&unit=1")
    ActionChains(page.driver).move_to_element(page.find('#equations [data-of="back"] code')).perform()
    assert "comes from where this page does not reach" in page.text("#meaning")


def test_large_states_and_small_gradients_add_up(driver: Chrome, folder: Path) -> None:
    """Numbers are shown in as many digits as the next one needs."""
    tg.manual_seed(5)
    state = (tg.randn(1, 1, 6), 4000 * tg.randn(1, 1, 6))
    traced = tg.inspect.trace(LSTM(3, 6), tg.randn(6, 1, 3), state=state, loss=lambda out: (out[-1] * 1e-6).sum())
    page = Shown(driver, traced, tg.inspect.page(traced, folder / "sizes.html"))
    for unit in range(6):
        page.open(f"#step=3&unit={unit}")
        for stage, text in page.equations().items():
            if stage == "hx":
                continue
            found = computed(text)
            assert found == pytest.approx([found[-1]] * len(found), rel=1e-3, abs=1.1e-3 if stage != "back" else 1e-30)


def test_equations_of_a_layer_that_runs_from_the_end_say_so(networks: Callable[[str], Shown]) -> None:
    page = networks("LSTM")
    page.open("#layer=1&step=2")
    assert Select(page.find("#layer")).first_selected_option.text == "l0_reverse"
    assert "time running from the end" in page.text("#about")
    assert "hₜ₋₁" not in page.text("#equations") + page.text("#diagram")
    label = str(page.find("#diagram [data-stage=c]").get_attribute("aria-label"))
    assert label.startswith("cell state: cₜ = f·cₜ₊₁ + i·c̃ = ")
    assert "∂L/∂cₜ₋₁·fₜ₋₁" in page.text("#equations")


def test_nothing_is_carried_back_past_a_new_beginning(driver: Chrome, folder: Path) -> None:
    """A layer called twice: the gates of the second call carry nothing into the first."""

    class Twice(tg.nn.Module):
        def __init__(self) -> None:
            self.lstm = LSTM(3, 4)

        def forward(self, x: tg.Tensor) -> tg.Tensor:
            state = (tg.ones(1, 1, 4), tg.full((1, 1, 4), 2.0))
            return tg.cat([self.lstm(x[:4], state)[0], self.lstm(x[4:], state)[0]])

    tg.manual_seed(0)
    traced = tg.inspect.trace(Twice(), tg.randn(9, 1, 3), loss=lambda out: out[-1].sum() + out[3].sum())
    page = Shown(driver, traced, tg.inspect.page(traced, folder / "twice.html"))
    page.open("#step=3&unit=1")
    assert page.number("c_before") == pytest.approx(traced[0].before["c"][3, 0, 1], abs=6e-4)
    assert computed(page.equations()["back"])[-1] == pytest.approx(traced[0].gradients["c"][3, 0, 1], rel=2e-3)
    page.find("#flow-chart .caption button").click()
    _, *rows = downloaded(folder / "gradient-flow.csv")
    alone = np.array(rows, float)[:, 3]
    assert (alone[:4] == 0).all()
    expected = [traced[0].gradients["c"][8, 0] * traced[0].forget_product(t, 8)[0] for t in range(4, 9)]
    np.testing.assert_allclose(alone[4:], np.linalg.norm(expected, axis=1), rtol=2e-3)


def test_nan_and_infinities_are_shown(driver: Chrome, folder: Path) -> None:
    model = CharLM(5, 4, 6)
    weights = {name: np.array(array) for name, array in model.state_dict().items()}
    embedding = next(name for name in weights if "embed" in name)
    weights[embedding][2] = np.nan
    model.load_state_dict(weights)
    ids = np.array([0, 1, 0, 2, 3, 4])[:, None]
    traced = tg.inspect.trace(model, ids, loss=lambda logits: logits[-1].sum())
    page = Shown(driver, traced, tg.inspect.page(traced, folder / "nan.html", vocabulary="abcde"))
    console_errors(driver)
    page.open("#step=2")
    assert "gave" in page.text("#prediction")
    page.press(Keys.ARROW_RIGHT)
    assert page.text('#diagram [data-value="c"]') == "NaN"
    assert page.text("#prediction .bars > span:nth-child(3)") == "NaN"
    assert "“d” came; the loss is not a finite number" in page.text("#prediction")
    striped = ["gradient" in span.value_of_css_property("background-image") for span in page.all("#text span")]
    assert striped == [False] * 3 + [True] * 3
    assert console_errors(driver) == []
