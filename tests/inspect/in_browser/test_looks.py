"""The page in a real browser: colours, sizes, tokens, and drawings of cells that the page does not know."""

import re
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import combinations, pairwise
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
from axe import violations
from browser import DRIVER, WITHOUT, console_errors
from selenium.webdriver import ActionChains, Chrome
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys
from selenium.webdriver.remote.webelement import WebElement
from selenium.webdriver.support.ui import Select
from shown_pages import LETTERS, TEXT, Shown, number

import tinygrad_lstm as tg
from tinygrad_lstm.models import LSTM, CharLM, Recurrent
from tinygrad_lstm.models.atlas import ATLAS

pytestmark = pytest.mark.skipif(DRIVER is None, reason=WITHOUT)

WORDS = ["the", "cat", "sat", "a", "b", " New York", "end.\n", "a\u202eb", "toString", "שלום", "the", "👩‍🚀"]


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
    """Sets the window's width, within a with block."""
    driver.execute_cdp_cmd(
        "Emulation.setDeviceMetricsOverride", {"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": False}
    )
    try:
        yield
    finally:
        driver.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})


class Tagger(tg.nn.Module):
    """A model of ids (B, T) that returns logits (B, T, V)."""

    def __init__(self, tokens: int) -> None:
        self.embed, self.lstm = tg.nn.Embedding(tokens, 4), LSTM(4, 3, batch_first=True)
        self.head = tg.nn.Linear(3, tokens)

    def forward(self, ids: tg.Tensor) -> tg.Tensor:
        logits: tg.Tensor = self.head(self.lstm(self.embed(ids))[0])
        return logits


class LeakyGates(NamedTuple):
    a: tg.Tensor
    h: tg.Tensor


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


@pytest.mark.parametrize("theme", ["light", "dark"])
@pytest.mark.parametrize("width", [390, 820, 1400])
def test_it_is_usable_on_phones_and_large_screens(text_page: Shown, width: int, theme: str) -> None:
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


def test_an_lstm_and_its_predictions_are_side_by_side(text_page: Shown) -> None:
    with sized(text_page.driver, 1280):
        text_page.open("#step=30")
        cell, prediction = (box_of(text_page.find(f"#{name}-section")) for name in ("cell", "prediction"))
        assert cell.right < prediction.left and cell.top == prediction.top


class Leaky(tg.nn.Module):
    """A user-defined cell."""

    def __init__(self) -> None:
        self.gate = tg.nn.Linear(6, 3)

    def gates(self, x: tg.Tensor, h: tg.Tensor) -> Any:
        a = tg.sigmoid(self.gate(tg.concat([h, x], dim=-1)))
        return tg.inspect.show_step(self, "leaky", x, {"h": h}, LeakyGates(a, h + a * (x - h)))

    def forward(self, x: tg.Tensor, h: tg.Tensor) -> tg.Tensor:
        gates: LeakyGates = self.gates(x, h)
        return gates.h


def test_a_user_defined_cell_has_a_drawing_and_everything_else(driver: Chrome, folder: Path) -> None:
    traced = tg.inspect.trace(Leaky(), tg.randn(12, 1, 3), state=tg.zeros(1, 3), loss=lambda out: out[-1].sum())
    page = Shown(driver, traced, tg.inspect.page(traced, folder / "own.html"))
    console_errors(driver)
    page.open("#unit=1&step=4")
    for step in (4, 5):
        assert page.number("a") == pytest.approx(traced[0].a[step, 0, 1], abs=6e-4)
        assert page.number("h_before") == pytest.approx(traced[0].h[step - 1, 0, 1], abs=6e-4)
        assert page.number("h") == pytest.approx(traced[0].h[step, 0, 1], abs=6e-4)
        page.press(Keys.ARROW_RIGHT)
    texts = {str(text.get_property("textContent")) for text in page.all("#diagram svg text")}
    assert {"h", "x", "next_h", "a: σ", "output"} <= texts
    formulas = [row.text for row in page.all("#equations .formula")]
    assert "next_h = h + a * (x - h)" in formulas
    stage = next(k for k, formula in enumerate(formulas) if formula.startswith("a = sigmoid("))
    gate = page.find(f'#diagram [data-stage="{stage}"]')
    page.driver.execute_script("arguments[0].focus()", gate)
    equation, _, known = str(gate.accessible_name).partition("; a = ")
    assert gate.aria_role == "button" and equation == formulas[stage]
    assert number(known) == pytest.approx(traced[0].a[6, 0, 1], abs=1e-4)
    (chosen,) = page.all("#equations .stage.chosen")
    assert chosen.text.startswith("a = sigmoid(")
    assert [option.text for option in Select(page.find("#quantity")).options] == ["a", "h", "∂L/∂a", "∂L/∂h"]
    page.select("quantity", "a")
    assert number(page.text("#map p").rpartition(" = ")[2]) == pytest.approx(traced[0].a[6, 0, 1], abs=1e-4)
    assert console_errors(driver) == []


@pytest.mark.parametrize("width", [390, 1400])
@pytest.mark.parametrize("name", ["lem", "slstm", "mlstm", "lstm_zoneout", "lstm_layer_norm"])
def test_what_is_written_in_a_drawing_can_be_read(driver: Chrome, folder: Path, name: str, width: int) -> None:
    """No text is over another one or beyond its box, and none is small."""
    traced = tg.inspect.trace(Recurrent(ATLAS[name](3, 4)), tg.randn(5, 1, 3))
    page = Shown(driver, traced, tg.inspect.page(traced, folder / "cell.html"))
    with sized(driver, width):
        page.open("#step=2")
        script = """
        const box = (element) => element.getBoundingClientRect().toJSON();
        const texts = [...document.querySelectorAll("#diagram text")].filter((text) => text.textContent);
        const frames = [...document.querySelectorAll("#diagram .box, #diagram .op")].map(box);
        const svg = box(document.querySelector("#diagram svg"));
        return [texts.map((text) => ({ ...box(text), text: text.textContent })), frames, svg,
          document.documentElement.scrollWidth];
        """
        texts, frames, svg, wide = driver.execute_script(script)
    assert wide <= width and len(texts) > 20
    for text in texts:
        middle = (text["left"] + text["right"]) / 2, (text["top"] + text["bottom"]) / 2
        assert text["height"] > 10 and svg["left"] <= text["left"] and text["right"] <= svg["right"]
        for frame in frames:
            is_within = frame["left"] < middle[0] < frame["right"] and frame["top"] < middle[1] < frame["bottom"]
            assert not is_within or (frame["left"] <= text["left"] and text["right"] <= frame["right"]), text
    for one, other in combinations(texts, 2):
        across = min(one["right"], other["right"]) - max(one["left"], other["left"])
        down = min(one["bottom"], other["bottom"]) - max(one["top"], other["top"])
        assert across <= 0 or down <= 5, (one["text"], other["text"])  # the height of a line includes a gap


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_a_drawing_is_accessible(driver: Chrome, folder: Path, theme: str) -> None:
    traced = tg.inspect.trace(Recurrent(ATLAS["lem"](3, 4)), tg.randn(5, 1, 3), loss=lambda out: out.sum())
    page = Shown(driver, traced, tg.inspect.page(traced, folder / "accessible.html"))
    page.open("#step=2")
    page.select("theme", theme)
    # The name of a part is its equation with numbers, not the symbols in it.
    assert violations(driver, without=("label-content-name-mismatch",)) == []


def test_a_variant_has_a_drawing_of_its_own(driver: Chrome, folder: Path) -> None:
    """The equations of plain layers are not its own; what its forget gates keep is shown."""
    tg.manual_seed(2)
    lstm = LSTM(3, 5, proj_size=2, peephole=True, bidirectional=True)
    traced = tg.inspect.trace(lstm, tg.randn(12, 1, 3), loss=lambda out: out[-1].sum())
    page = Shown(driver, traced, tg.inspect.page(traced, folder / "variant.html"))
    console_errors(driver)
    for which, layer in enumerate(traced):
        page.open(f"#layer={which}&unit=4&step=3")
        assert page.number("c") == pytest.approx(layer.c[3, 0, 4], abs=6e-4)
        assert not page.all('#diagram [data-value="h"]')  # it has no number for each unit
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
def test_tokens_of_several_characters_are_separated(
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


def test_layers_whose_steps_are_not_those_of_the_text(driver: Chrome, folder: Path) -> None:
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


def test_equations_stay_where_they_are_when_pointed_at(text_page: Shown) -> None:
    text_page.open("#step=5")
    places = [row.location for row in text_page.all("#equations .stage")]
    for row in text_page.all("#equations .stage"):
        ActionChains(text_page.driver).move_to_element(row).perform()
        assert str(row.get_attribute("class")) == "stage chosen"
        assert text_page.text("#meaning") != ""
    assert [row.location for row in text_page.all("#equations .stage")] == places
