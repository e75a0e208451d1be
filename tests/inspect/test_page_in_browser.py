"""The page in a real browser: its numbers against the trace's, its controls, its looks."""

import csv
import math
import re
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
from browser import DRIVER, WITHOUT, browser, console_errors, requests
from selenium.webdriver import ActionChains, Chrome
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys
from selenium.webdriver.remote.webelement import WebElement
from selenium.webdriver.support.ui import Select

import tinygrad_lstm as tg
from tinygrad_lstm.inspect import Trace
from tinygrad_lstm.models import GRU, LSTM, RNN, CharLM

pytestmark = pytest.mark.skipif(DRIVER is None, reason=WITHOUT)

TEXT = 'He said "wait (a little)",\nand then 42 more.\n' * 3
LETTERS = "".join(sorted(set(TEXT)))
WORDS = ["the", "cat", "sat", "a", "b", " New York", "end.\n", "a\u202eb", "toString", "שלום", "the", "👩‍🚀"]
STATES = {"LSTM": ("h", "c"), "GRU": ("h",), "RNN": ("h",)}


class Box(NamedTuple):
    """Where an element is in the window."""

    left: float
    right: float
    top: float


def box_of(element: WebElement) -> Box:
    box = element.parent.execute_script("return arguments[0].getBoundingClientRect().toJSON()", element)
    return Box(box["left"], box["right"], box["top"])


def text_right(element: WebElement) -> float:
    """Where an element's text ends, which may be beyond the element."""
    script = """
    const range = document.createRange();
    range.selectNodeContents(arguments[0]);
    return range.getBoundingClientRect().right;
    """
    return float(element.parent.execute_script(script, element))


@contextmanager
def sized(driver: Chrome, width: int) -> Iterator[None]:
    """Within it, the window is so wide."""
    driver.execute_cdp_cmd(
        "Emulation.setDeviceMetricsOverride", {"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": False}
    )
    try:
        yield
    finally:
        driver.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})


@dataclass
class Shown:
    """A page in the browser, and the trace that it shows."""

    driver: Chrome
    trace: Trace
    path: Path

    def open(self, where: str = "") -> None:
        self.driver.get("about:blank")
        self.driver.get(f"{self.path.as_uri()}{where}")

    def find(self, selector: str) -> WebElement:
        return self.driver.find_element(By.CSS_SELECTOR, selector)

    def all(self, selector: str) -> list[WebElement]:
        return self.driver.find_elements(By.CSS_SELECTOR, selector)

    def text(self, selector: str) -> str:
        return str(self.find(selector).get_property("textContent"))

    def press(self, *keys: str) -> None:
        ActionChains(self.driver).send_keys(*keys).perform()

    def select(self, name: str, value: str) -> None:
        Select(self.find(f"#{name}")).select_by_value(value)

    @property
    def step(self) -> int:
        return int(re.findall(r"step (\d+)", self.text("#where"))[0])

    @property
    def unit(self) -> int:
        return int(str(self.find("#unit").get_property("value")))

    def number(self, name: str) -> float:
        """A number of the drawing."""
        return number(self.text(f'#diagram [data-value="{name}"]'))

    def equations(self) -> dict[str, str]:
        """The equations with the numbers put in, by stage."""
        return {
            str(row.get_attribute("data-of")): str(
                row.find_element(By.CSS_SELECTOR, ".numbers").get_property("textContent")
            )
            for row in self.all("#equations .stage")
        }


SUPERSCRIPTS = str.maketrans("⁰¹²³⁴⁵⁶⁷⁸⁹⁻", "0123456789-")


def plain(text: str) -> str:
    """Python's way to write what the page shows."""
    text = re.sub(r"·10([⁰¹²³⁴⁵⁶⁷⁸⁹⁻]+)", lambda power: "e" + power[1].translate(SUPERSCRIPTS), text)
    return text.replace("−", "-").replace("·", "*")


def number(text: str) -> float:
    return float(plain(text))


def sigmoid(x: float) -> float:
    return 1 / (1 + math.exp(-x))


def computed(text: str) -> list[float]:
    """What each part of a chain "a = b = c" comes to."""
    return [eval(part, {"σ": sigmoid, "tanh": math.tanh}) for part in plain(text).split("=")]


class Tagger(tg.nn.Module):
    """A model of ids (B, T) that gives logits (B, T, V)."""

    def __init__(self, tokens: int) -> None:
        self.embed, self.lstm = tg.nn.Embedding(tokens, 4), LSTM(4, 3, batch_first=True)
        self.head = tg.nn.Linear(3, tokens)

    def forward(self, ids: tg.Tensor) -> tg.Tensor:
        logits: tg.Tensor = self.head(self.lstm(self.embed(ids))[0])
        return logits


class LeakyGates(NamedTuple):
    a: tg.Tensor
    h: tg.Tensor


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("pages")


@pytest.fixture(scope="module")
def driver(folder: Path) -> Iterator[Chrome]:
    with browser(folder) as driver:
        yield driver


@pytest.fixture(scope="module")
def text_page(driver: Chrome, folder: Path) -> Shown:
    """A model of characters, two layers, with the gradients of its last character's loss."""
    tg.manual_seed(0)
    model = CharLM(len(LETTERS), 8, 12, num_layers=2)
    ids = tg.tensor([LETTERS.index(letter) for letter in TEXT]).unsqueeze(1)
    traced = tg.inspect.trace(model, ids, loss=lambda logits: tg.cross_entropy(logits[-2], ids[-1]))
    path = tg.inspect.page(traced, folder / "text.html", vocabulary=LETTERS, title="<b>A page</b> & more")
    return Shown(driver, traced, path)


@pytest.fixture(scope="module")
def networks(driver: Chrome, folder: Path) -> Callable[[str], Shown]:
    """Networks of each kind: two layers in both directions, sequences of different lengths."""
    made: dict[str, Shown] = {}

    def make(kind: str) -> Shown:
        if kind not in made:
            tg.manual_seed(1)
            network = {"LSTM": LSTM, "GRU": GRU, "RNN": RNN}[kind](3, 6, num_layers=2, bidirectional=True)
            traced = tg.inspect.trace(
                network,
                tg.randn(9, 3, 3),
                state=tuple(tg.randn(4, 3, 6) for _ in STATES[kind]) if kind == "LSTM" else tg.randn(4, 3, 6),
                lengths=[9, 4, 6],
                loss=lambda out: (out * out).sum(),
            )
            made[kind] = Shown(driver, traced, tg.inspect.page(traced, folder / f"{kind}.html"))
        return made[kind]

    return make


def test_nothing_is_loaded_and_nothing_complains(text_page: Shown) -> None:
    console_errors(text_page.driver)
    requests(text_page.driver)
    text_page.open()
    text_page.press(Keys.ARROW_RIGHT, Keys.ARROW_DOWN, "f", Keys.END)
    assert console_errors(text_page.driver) == []
    assert [url for url in requests(text_page.driver) if url != "about:blank"] == [text_page.path.as_uri()]
    assert text_page.driver.title == "<b>A page</b> & more"
    assert text_page.text("h1") == "<b>A page</b> & more"


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
    """Each part of each chain of numbers comes to the same, and to the trace's value."""
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


def test_keys_and_buttons_go_through_time(text_page: Shown) -> None:
    text_page.open("#step=0")
    last = len(TEXT) - 1
    for key, expected in [
        (Keys.ARROW_RIGHT, 1),
        (Keys.PAGE_DOWN, 11),
        (Keys.ARROW_LEFT, 10),
        (Keys.PAGE_UP, 0),
        (Keys.ARROW_LEFT, 0),
        (Keys.END, last),
        (Keys.ARROW_RIGHT, last),
        (Keys.HOME, 0),
    ]:
        text_page.press(key)
        assert text_page.step == expected
    for button, expected in [("forward", 1), ("last", last), ("back", last - 1), ("first", 0)]:
        text_page.find(f"#{button}").click()
        assert text_page.step == expected
    slider = text_page.find("#slider")
    slider.send_keys(Keys.ARROW_RIGHT)
    assert text_page.step == 1
    assert "step 1 of" in str(slider.get_attribute("aria-valuetext"))
    text_page.find("#text").click()
    text_page.press(Keys.HOME)
    assert "step 0" in text_page.text("#announced")


def test_play_goes_on_by_itself_and_stops(text_page: Shown) -> None:
    text_page.open("#step=0")
    text_page.select("speed", "20")
    text_page.find("h1").click()
    text_page.press(" ")
    assert text_page.find("#play").get_attribute("aria-label") == "Pause"
    deadline = time.monotonic() + 20
    while text_page.step < 3 and time.monotonic() < deadline:
        time.sleep(0.05)
    text_page.press(" ")
    stopped = text_page.step
    assert stopped >= 3
    time.sleep(0.3)
    assert text_page.step == stopped
    assert text_page.find("#play").get_attribute("aria-label") == "Play"


def test_selection_of_layer_unit_and_quantity(text_page: Shown) -> None:
    text_page.open()
    text_page.select("layer", "1")
    unit = text_page.find("#unit")
    unit.clear()
    unit.send_keys("7", Keys.ENTER)
    assert text_page.unit == 7
    text_page.find("#text span:nth-child(10)").click()
    assert text_page.step == 9
    text_page.select("quantity", "f")
    expected = text_page.trace[1].f[:, 0, 7]
    for t in (0, 9, 40):
        span = text_page.all("#text span")[t]
        ActionChains(text_page.driver).move_to_element(span).perform()
        title = str(span.get_attribute("title"))
        assert title.startswith(f"step {t}, unit 7: f = ")
        assert number(title.partition(" = ")[2]) == pytest.approx(expected[t], abs=1e-4)
    assert text_page.text("#text").replace("↵", "") == TEXT
    text_page.press("o")
    assert Select(text_page.find("#quantity")).first_selected_option.text == "o, output gate"


def contrast(element: WebElement) -> float:
    """How well a text is read on its background, from 1 to 21 (Web Content Accessibility Guidelines 2.2, 1.4.3)."""
    luminances = []
    for name in ("background-color", "color"):
        channels = np.array(re.findall(r"\d+", element.value_of_css_property(name))[:3], float) / 255
        linear = np.where(channels <= 0.04045, channels / 12.92, ((channels + 0.055) / 1.055) ** 2.4)
        luminances.append(float(linear @ [0.2126, 0.7152, 0.0722]))
    return (max(luminances) + 0.05) / (min(luminances) + 0.05)


def test_colours_follow_the_values(text_page: Shown) -> None:
    """The forget gate's scale rises in lightness: what is more open is painted lighter."""
    text_page.open("#unit=2")
    text_page.select("quantity", "f")
    values = text_page.trace[0].f[:, 0, 2]
    lightness = []
    for span in text_page.all("#text span"):
        channels = re.findall(r"\d+", span.value_of_css_property("background-color"))
        lightness.append(sum(w * int(c) for w, c in zip((0.299, 0.587, 0.114), channels[:3])))
        assert contrast(span) > 4.5
    order = np.argsort(values)
    assert (np.diff(np.array(lightness)[order]) >= -1.5).all()
    assert np.ptp(lightness) > 1


def test_units_are_sorted_by_what_is_asked(text_page: Shown) -> None:
    text_page.open()
    layer = text_page.trace[0]
    states, forget = layer.c[:, 0].astype(float), layer.f[:, 0].astype(float)
    quotes = np.cumsum([letter == '"' for letter in TEXT]) % 2
    by_quotes = [np.corrcoef(states[:, u], quotes)[0, 1] for u in range(12)]
    for measure, expected in [
        ("variance of c", states.var(axis=0)),
        ("mean of f (how long it remembers)", forget.mean(axis=0)),
        ("correlation of c with: inside quotes", np.array(by_quotes)),
    ]:
        Select(text_page.find("#measure")).select_by_visible_text(measure)
        rows = [row.find_elements(By.TAG_NAME, "span") for row in text_page.all("#units button")]
        shown = [(int(unit.text), number(value.text)) for unit, value in rows]
        assert len(shown) == 12
        assert [unit for unit, _ in shown] == np.argsort(-np.abs(expected), kind="stable").tolist()
        assert [value for _, value in shown] == pytest.approx([expected[unit] for unit, _ in shown], abs=2e-3)
    text_page.all("#units button")[4].click()
    assert text_page.unit == shown[4][0]
    text_page.find("h1").click()
    text_page.press(Keys.ARROW_DOWN)
    assert text_page.unit == shown[5][0]


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


def downloaded(path: Path) -> list[list[str]]:
    deadline = time.monotonic() + 20
    while not path.exists() and time.monotonic() < deadline:
        time.sleep(0.05)
    rows = list(csv.reader(path.read_text(encoding="utf-8").splitlines()))
    path.unlink()
    return rows


def test_gradient_flow_can_be_downloaded(text_page: Shown, folder: Path) -> None:
    """The norms of the gradients, and what the forget gates alone carry back from the last step with a gradient."""
    text_page.open()
    text_page.select("layer", "1")
    text_page.find("#flow-chart .caption button").click()
    head, *rows = downloaded(folder / "gradient-flow.csv")
    assert head == ["step", "‖∂L/∂cₜ‖", "‖∂L/∂hₜ‖", "by ∏f alone, from the last step"]
    layer, table = text_page.trace[1], np.array(rows, float)
    np.testing.assert_allclose(table[:, 1], layer.gradient_norms("c")[:, 0], rtol=2e-3)
    np.testing.assert_allclose(table[:, 2], layer.gradient_norms("h")[:, 0], rtol=2e-3)
    last = len(TEXT) - 2
    alone = [np.linalg.norm(layer.gradients["c"][last, 0] * layer.forget_product(t, last)[0]) for t in range(last + 1)]
    np.testing.assert_allclose(table[: last + 1, 3], alone, rtol=2e-3)


def test_a_map_can_be_downloaded_and_clicked(text_page: Shown, folder: Path) -> None:
    text_page.open("#step=3")
    text_page.press("g")
    text_page.find("#map-csv").click()
    head, *rows = downloaded(folder / "g.csv")
    assert head == ["step", *(f"g of unit {unit}" for unit in range(12))]
    np.testing.assert_allclose(np.array(rows, float)[:, 1:], text_page.trace[0].g[:, 0], atol=1e-4)
    canvas = text_page.find("#map canvas")
    right, top = canvas.size["width"] // 2 - 2, -canvas.size["height"] // 2 + 2
    ActionChains(text_page.driver).move_to_element_with_offset(canvas, right, top).click().perform()
    assert text_page.step == len(TEXT) - 1
    assert text_page.unit == int(text_page.find("#units button").get_attribute("data-unit") or -1)


def test_a_window_keeps_the_numbers_of_its_steps(text_page: Shown, folder: Path) -> None:
    path = tg.inspect.page(
        text_page.trace, folder / "window.html", vocabulary=LETTERS, steps=slice(10, 30), units=[7, 2]
    )
    page = Shown(text_page.driver, text_page.trace, path)
    page.open("#step=15&unit=7")
    assert (page.step, page.unit) == (15, 7)
    assert page.number("c") == pytest.approx(page.trace[0].c[15, 0, 7], abs=6e-4)
    page.press(Keys.HOME)
    assert page.step == 10
    assert page.number("c_before") == pytest.approx(page.trace[0].before["c"][10, 0, 7], abs=6e-4)
    assert "step 10 of 29" in page.text("#where")
    assert console_errors(page.driver) == []


def test_a_readers_own_keyboard_is_enough(text_page: Shown) -> None:
    """Every control has a name and can be reached with Tab; a focused stage of the drawing shows its equation."""
    text_page.open()
    text_page.find("#theme").send_keys(Keys.TAB)
    reached: list[Any] = []
    for _ in range(40):
        active = text_page.driver.switch_to.active_element
        reached.append(active.get_attribute("data-stage") or active.get_attribute("id"))
        active.send_keys(Keys.TAB)
    assert {"play", "slider", "f", "i", "g", "o", "c", "h", "copy-numbers", "quantity", "text", "measure"} <= set(
        reached
    )
    text_page.driver.execute_script("document.querySelector('#diagram [data-stage=o]').focus()")
    assert text_page.find('#equations [data-of="o"]').get_attribute("class") == "stage chosen"
    label = str(text_page.find("#diagram [data-stage=o]").get_attribute("aria-label"))
    assert label.startswith("output gate: o = σ(")
    for control in text_page.all("button, select, input, [role=img], [role=button]"):
        assert control.accessible_name or not control.is_displayed(), control.get_attribute("outerHTML")


@pytest.mark.parametrize("theme", ["light", "dark"])
@pytest.mark.parametrize("width", [390, 820, 1400])
def test_it_fits_phones_and_large_screens(text_page: Shown, width: int, theme: str) -> None:
    with sized(text_page.driver, width):
        text_page.open("#step=30")
        text_page.select("theme", theme)
        root = "document.documentElement"
        wide, room = text_page.driver.execute_script(f"return [{root}.scrollWidth, {root}.clientWidth]")
        assert width - 20 <= wide == room
        background = text_page.find("body").value_of_css_property("background-color")
        channels = [int(channel) for channel in re.findall(r"\d+", background)[:3]]
        assert (max(channels) < 60) if theme == "dark" else (min(channels) > 200)
        for selector in ("#diagram svg", "#text span", "#units button", "#map canvas", "#flow-chart svg"):
            assert text_page.find(selector).size["height"] > 10
        assert console_errors(text_page.driver) == []


def test_a_cell_of_ones_own_has_no_drawing_but_all_else(driver: Chrome, folder: Path) -> None:
    class Leaky(tg.nn.Module):
        def __init__(self) -> None:
            self.gate = tg.nn.Linear(6, 3)

        def gates(self, x: tg.Tensor, h: tg.Tensor) -> Any:
            a = tg.sigmoid(self.gate(tg.concat([h, x], dim=-1)))
            return tg.inspect.show_step(self, "leaky", x, {"h": h}, LeakyGates(a, h + a * (x - h)))

        def forward(self, x: tg.Tensor, h: tg.Tensor) -> tg.Tensor:
            gates: LeakyGates = self.gates(x, h)
            return gates.h

    traced = tg.inspect.trace(Leaky(), tg.randn(12, 1, 3), state=tg.zeros(1, 3), loss=lambda out: out[-1].sum())
    page = Shown(driver, traced, tg.inspect.page(traced, folder / "own.html"))
    console_errors(driver)
    page.open("#unit=1&step=4")
    assert not page.find("#cell-section").is_displayed()
    assert [option.text for option in Select(page.find("#quantity")).options] == ["a", "h", "∂L/∂a", "∂L/∂h"]
    page.select("quantity", "a")
    assert number(page.text("#map p").rpartition(" = ")[2]) == pytest.approx(traced[0].a[4, 0, 1], abs=1e-4)
    assert console_errors(driver) == []


def test_a_variant_has_no_drawing_but_all_else(driver: Chrome, folder: Path) -> None:
    """The equations of plain layers are not its own; what its forget gates keep is shown."""
    tg.manual_seed(2)
    lstm = LSTM(3, 5, proj_size=2, peephole=True, bidirectional=True)
    traced = tg.inspect.trace(lstm, tg.randn(12, 1, 3), loss=lambda out: out[-1].sum())
    page = Shown(driver, traced, tg.inspect.page(traced, folder / "variant.html"))
    console_errors(driver)
    for which, layer in enumerate(traced):
        page.open(f"#layer={which}&unit=4&step=3")
        assert not page.find("#cell-section").is_displayed()
        assert "LSTM(proj_size=2, peephole=True) with 5 units, 12 steps" in page.text("#about")
        quantities = [option.text for option in Select(page.find("#quantity")).options]
        assert quantities[:2] == ["i, input gate", "f, forget gate"]
        assert quantities[-1] == "∂L/∂c" and "h, hidden state" not in quantities
        for name in ("o", "c"):
            page.select("quantity", name)
            assert number(page.text("#map p").rpartition(" = ")[2]) == pytest.approx(
                layer.values[name][3, 0, 4], abs=1e-3
            )
        assert "∏f" in page.text("#flow-chart")
    assert console_errors(driver) == []


def test_a_large_trace_opens(driver: Chrome, folder: Path) -> None:
    """2,000 steps of 512 units, with gradients, in less than 25 MB."""
    model = CharLM(65, 64, 512)
    ids = np.random.default_rng(0).integers(0, 65, (2000, 1))
    traced = tg.inspect.trace(model, ids, loss=lambda logits: tg.cross_entropy(logits[-2], tg.tensor(ids[-1])))
    path = tg.inspect.page(traced, folder / "large.html", vocabulary="".join(map(chr, range(48, 113))))
    assert path.stat().st_size < 25_000_000
    page = Shown(driver, traced, path)
    page.open("#step=1000&unit=100")
    assert page.number("c") == pytest.approx(traced[0].c[1000, 0, 100], abs=6e-4)
    assert len(page.all("#text span")) == 2000


def test_the_cells_gradient_adds_up_where_a_window_ends(networks: Callable[[str], Shown], folder: Path) -> None:
    """What comes back from beyond the window, in either direction, is shown as what it comes to."""
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


def test_what_is_no_number_is_shown_as_such(driver: Chrome, folder: Path) -> None:
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
    assert "“d” came; the loss is no finite number" in page.text("#prediction")
    striped = ["gradient" in span.value_of_css_property("background-image") for span in page.all("#text span")]
    assert striped == [False] * 3 + [True] * 3
    assert console_errors(driver) == []


def test_every_token_can_be_seen_and_none_is_code(driver: Chrome, folder: Path) -> None:
    """Marks without a width, directions of writing, ends of scripts."""
    tokens = ["a", "\u0301", "\u202e", "\r", "\t", "", "😀", "ש", "</script><img src=x onerror=alert(1)>", "{{trace}}"]
    ids = np.arange(len(tokens))[:, None]
    traced = tg.inspect.trace(CharLM(len(tokens), 4, 3), ids)
    path = tg.inspect.page(traced, folder / "tokens.html", vocabulary=tokens, title="\udcff{{script}}")
    page = Shown(driver, traced, path)
    console_errors(driver)
    page.open("#step=8")
    assert page.text("h1") == "?{{script}}"
    shown = [span.get_property("textContent") for span in page.all("#text span")]
    assert shown == ["a", "◌\u0301", "U+202E", "␍", "\t", "∅", "😀", "ש", *tokens[8:]]
    assert f"“{tokens[8]}”" in page.text("#where")
    assert not page.all("img")
    assert console_errors(driver) == []


@pytest.fixture(scope="module")
def words_page(driver: Chrome, folder: Path) -> Shown:
    """As many sequences as steps, of a model that takes sequences first; the seventh id of the first is there twice."""
    tg.manual_seed(4)
    ids = np.random.default_rng(4).integers(0, len(WORDS), (11, 11)).astype(np.uint8)
    ids[0] = [0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 11]
    traced = tg.inspect.trace(Tagger(len(WORDS)), ids, loss=lambda logits: logits.square().mean())
    return Shown(driver, traced, tg.inspect.page(traced, folder / "words.html", vocabulary=WORDS))


def test_sequences_first_have_their_own_tokens(words_page: Shown) -> None:
    words_page.open("#item=0&step=1&unit=2")
    shown = ["the", "cat", "sat", "a", "b", "␣New York", "end.↵", "aU+202Eb", "toString", "שלום", "👩‍🚀"]
    assert [span.get_property("textContent") for span in words_page.all("#text span")] == shown
    assert words_page.text("#where") == "step 1 of 10 “cat”"
    assert words_page.number("c") == pytest.approx(words_page.trace[0].c[1, 0, 2], abs=6e-4)
    assert "“sat” came" in words_page.text("#prediction")
    words_page.select("item", "3")
    tokens = [span.get_property("textContent") for span in words_page.all("#text span")]
    assert len(tokens) == 11 and tokens[0] != "the"
    assert "loss by token" in words_page.text("#loss-chart")


def test_of_two_tokens_with_one_spelling_the_one_that_came_is_marked(words_page: Shown) -> None:
    assert words_page.trace.output is not None
    for item, step in np.argwhere(np.isin(words_page.trace.inputs[:, 1:], [0, 10])):
        words_page.open(f"#item={item}&step={step}")
        likeliest = np.argsort(-words_page.trace.output[item, step].astype(float), kind="stable")[:5].tolist()
        marked = ["came" in str(row.get_attribute("class")) for row in words_page.all("#prediction .token")]
        assert marked == [k == words_page.trace.inputs[item, step + 1] for k in likeliest]


@pytest.mark.parametrize("width", [390, 1280])
@pytest.mark.parametrize("with_vocabulary", [True, False])
def test_tokens_of_several_characters_stand_apart(
    words_page: Shown, folder: Path, with_vocabulary: bool, width: int
) -> None:
    page = words_page
    if not with_vocabulary:
        page = Shown(page.driver, page.trace, tg.inspect.page(page.trace, folder / "ids.html"))
    with sized(page.driver, width):
        page.open("#item=0")
        if not with_vocabulary:
            shown = [span.get_property("textContent") for span in page.all("#text span")]
            assert shown == [str(number) for number in page.trace.inputs[0]]
        boxes = [box_of(span) for span in page.all("#text span")]
        gaps = [after.left - before.right for before, after in pairwise(boxes) if after.top == before.top]
        assert len(gaps) >= 5 and min(gaps) >= 1
        frame = box_of(page.find("#text"))
        assert all(frame.left <= box.left and box.right <= frame.right for box in boxes)


def test_characters_are_read_without_gaps_and_names_among_them_stand_apart(driver: Chrome, folder: Path) -> None:
    tokens = [*"abcd", "<end>"]
    traced = tg.inspect.trace(CharLM(5, 4, 3), np.array([0, 1, 4, 2, 3])[:, None])
    page = Shown(driver, traced, tg.inspect.page(traced, folder / "names.html", vocabulary=tokens))
    page.open()
    boxes = [box_of(span) for span in page.all("#text span")]
    gaps = [after.left - before.right for before, after in pairwise(boxes)]
    assert gaps == pytest.approx([0, gaps[1], gaps[2], 0], abs=0.5) and min(gaps[1:3]) >= 1


@pytest.mark.parametrize("width", [390, 820, 1400])
@pytest.mark.parametrize("size", [1e-9, 0.1, 1e2, 1e30])
def test_numbers_of_units_stay_beside_their_strips(driver: Chrome, folder: Path, size: float, width: int) -> None:
    """Units with numbers of four digits, of a text, so that each has a note; of gradients small and large too."""
    tg.manual_seed(0)
    model = CharLM(len(LETTERS), 4, 1100)
    ids = tg.tensor([LETTERS.index(letter) for letter in TEXT[:40]]).unsqueeze(1)
    traced = tg.inspect.trace(model, ids, loss=lambda logits: logits[-1].sum() * size)
    path = tg.inspect.page(traced, folder / "strips.html", vocabulary=LETTERS, units=slice(1000, 1100))
    page = Shown(driver, traced, path)
    with sized(driver, width):
        page.open()
        for option in [option.text for option in Select(page.find("#measure")).options][:4]:
            Select(page.find("#measure")).select_by_visible_text(option)
            for row in page.all("#units button")[:6]:
                parts = [box_of(part) for part in row.find_elements(By.CSS_SELECTOR, "span, canvas, small")]
                parts = [part for part in parts if part.right > part.left]
                texts = [text_right(part) for part in row.find_elements(By.CSS_SELECTOR, "span")]
                assert len(parts) >= 3
                assert all(before.right <= after.left for before, after in pairwise(parts))
                assert all(right <= after.left for right, after in zip(texts, parts[1:]))
                assert parts[2].right - parts[2].left >= 40
            assert page.driver.execute_script("return document.documentElement.scrollWidth") <= width


@pytest.mark.parametrize("kind", ["LSTM", "GRU", "RNN"])
def test_it_opens_in_the_middle_of_the_sequence(networks: Callable[[str], Shown], kind: str) -> None:
    page = networks(kind)
    for item, length in enumerate([9, 4, 6]):
        page.open(f"#item={item}")
        assert page.step == length // 2
        page.open(f"#item={item}&step=0")
        assert page.step == 0
    page.open()
    page.select("item", "1")
    assert page.step == 3  # the step stays, where the sequence has it


def test_layers_that_take_other_steps_than_the_text(driver: Chrome, folder: Path) -> None:
    """A model that runs its layer twice over the ids: their steps have no token."""

    class Twice(tg.nn.Module):
        def __init__(self) -> None:
            self.embed, self.lstm = tg.nn.Embedding(5, 4), LSTM(4, 3)

        def forward(self, ids: tg.Tensor) -> tg.Tensor:
            x = self.embed(ids)
            return self.lstm(x)[0] + self.lstm(x)[0]

    traced = tg.inspect.trace(Twice(), np.arange(5)[:, None])
    page = Shown(driver, traced, tg.inspect.page(traced, folder / "other.html"))
    console_errors(driver)
    page.open("#step=7&unit=1")
    assert page.text("#where") == "step 7 of 9"
    assert page.number("c") == pytest.approx(traced[0].c[7, 0, 1], abs=6e-4)
    assert console_errors(driver) == []


def test_an_address_that_names_nothing_is_harmless(text_page: Shown) -> None:
    console_errors(text_page.driver)
    for where in ("#layer=-1&item=7&step=1.7&unit=99", "#step=NaN&unit=x", "#layer=1e9&step=-4"):
        text_page.open(where)
        assert 0 <= text_page.unit < 12
        assert text_page.step in (0, 1)
    text_page.driver.execute_script("location.hash = '#layer=1&step=7&unit=3'")
    deadline = time.monotonic() + 20
    while text_page.step != 7 and time.monotonic() < deadline:
        time.sleep(0.05)
    assert (text_page.step, text_page.unit) == (7, 3)
    assert console_errors(text_page.driver) == []


def test_keys_can_be_left_to_the_browser(text_page: Shown) -> None:
    text_page.open("#step=5")
    text_page.find("#shortcuts").click()
    text_page.find("h1").click()
    text_page.press(Keys.ARROW_RIGHT, "f")
    assert text_page.step == 5
    assert Select(text_page.find("#quantity")).first_selected_option.text == "c, cell state"


def test_equations_stay_where_they_are_when_pointed_at(text_page: Shown) -> None:
    text_page.open("#step=5")
    places = [row.location for row in text_page.all("#equations .stage")]
    for row in text_page.all("#equations .stage"):
        ActionChains(text_page.driver).move_to_element(row).perform()
        assert str(row.get_attribute("class")) == "stage chosen"
        assert text_page.text("#meaning") != ""
    assert [row.location for row in text_page.all("#equations .stage")] == places


def test_what_is_copied_is_a_table(text_page: Shown) -> None:
    text_page.open("#step=5&unit=2")
    text_page.driver.execute_script(
        "navigator.clipboard.writeText = async (text) => { window.copiedText = text; }"  # a real one asks for leave
    )
    text_page.find("#copy-numbers").click()
    rows = dict(row.split("\t") for row in text_page.driver.execute_script("return window.copiedText").split("\n"))
    layer = text_page.trace[0]
    assert (rows["step"], rows["unit"]) == ("5", "2")
    assert float(rows["c before"]) == pytest.approx(layer.before["c"][5, 0, 2], abs=1e-4)
    assert float(rows["dL/dc"]) == pytest.approx(layer.gradients["c"][5, 0, 2], rel=2e-3)
    text_page.all("#flow-chart .caption button")[1].click()
    head, *table = text_page.driver.execute_script("return window.copiedText").strip().split("\n")
    assert head.split("\t") == ["step", "‖∂L/∂cₜ‖", "‖∂L/∂hₜ‖", "by ∏f alone, from the last step"]
    assert {len(row.split("\t")) for row in table} == {4}


def test_a_screen_reader_hears_a_step_once(text_page: Shown) -> None:
    text_page.open("#step=5&unit=2")
    text_page.press(Keys.ARROW_RIGHT)
    text_page.driver.execute_cdp_cmd("Accessibility.enable", {})
    nodes = text_page.driver.execute_cdp_cmd("Accessibility.getFullAXTree", {})["nodes"]
    texts = {node["nodeId"]: node.get("name", {}).get("value", "") for node in nodes}
    live = [
        "".join(texts[child] for child in node["childIds"])
        for node in nodes
        if any(p["name"] == "live" and p["value"]["value"] == "polite" for p in node.get("properties", []))
    ]
    heard = [text for text in live if "step 6" in text]
    assert len(heard) == 1 and "unit 2: c = " in heard[0]
    stages = [str(group.get_attribute("data-stage")) for group in text_page.all("#diagram [data-stage]")]
    assert stages == ["hx", "f", "i", "g", "c", "o", "h"]
