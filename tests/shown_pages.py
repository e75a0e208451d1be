"""A page in the browser: what it shows, and how to press its keys and read its numbers."""

import csv
import re
import time
from dataclasses import dataclass
from pathlib import Path

from selenium.webdriver import ActionChains, Chrome
from selenium.webdriver.common.by import By
from selenium.webdriver.remote.webelement import WebElement
from selenium.webdriver.support.ui import Select

from tinygrad_lstm.inspect import Trace

TEXT = 'He said "wait (a little)",\nand then 42 more.\n' * 3
LETTERS = "".join(sorted(set(TEXT)))

STATES = {"LSTM": ("h", "c"), "GRU": ("h",), "RNN": ("h",)}


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


def downloaded(path: Path) -> list[list[str]]:
    deadline = time.monotonic() + 20
    while not path.exists() and time.monotonic() < deadline:
        time.sleep(0.05)
    rows = list(csv.reader(path.read_text(encoding="utf-8").splitlines()))
    path.unlink()
    return rows
