"""The page in a real browser: its keys, buttons, selections, downloads and addresses."""

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from browser import DRIVER, WITHOUT, console_errors
from selenium.webdriver import ActionChains
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys
from selenium.webdriver.support.ui import Select
from shown_pages import LETTERS, TEXT, Shown, downloaded, number

import tinygrad_lstm as tg

pytestmark = pytest.mark.skipif(DRIVER is None, reason=WITHOUT)


def test_keys_and_buttons_move_through_time(text_page: Shown) -> None:
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


def test_play_advances_by_itself_and_stops(text_page: Shown) -> None:
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


def test_gradient_flow_can_be_downloaded(text_page: Shown, folder: Path) -> None:
    """The norms of the gradients, and what only the forget gates carry back from the last step with a gradient."""
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


def test_everything_is_reachable_by_keyboard(text_page: Shown) -> None:
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
