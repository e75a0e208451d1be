"""The laboratory in a real browser, from a blank tab to the page of gates."""

import functools
import json
import math
import threading
import time
from collections.abc import Callable, Iterator
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from axe import violations
from browser import DRIVER, WITHOUT, browser, console_errors, requests
from selenium.webdriver import Chrome
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys
from selenium.webdriver.support.ui import Select, WebDriverWait

import tinygrad_lstm as tg
from tinygrad_lstm.models import CharLM

pytestmark = pytest.mark.skipif(DRIVER is None, reason=WITHOUT)

BOTTLES = "{0} bottles of beer on the wall, {0} bottles of beer.\nTake one down: {1}.\n"
TEXT = "".join(BOTTLES.format(n, n - 1) for n in range(99, 0, -1))
STEPS = 40


class Handler(SimpleHTTPRequestHandler):
    def log_message(self, format: str, *args: Any) -> None:
        pass


class Page:
    """The laboratory's page in a browser."""

    def __init__(self, driver: Chrome, url: str, downloads: Path) -> None:
        self.driver, self.url, self.downloads = driver, url, downloads

    def open(self) -> None:
        self.driver.get(self.url)
        self.wait(lambda: self["where"] == "ready" or self["where"].startswith("step"))

    def find(self, id: str) -> Any:
        return self.driver.find_element(By.ID, id)

    def __getitem__(self, id: str) -> str:
        return str(self.find(id).get_property("textContent"))

    def fill(self, id: str, text: object) -> None:
        self.driver.execute_script(
            "arguments[0].value = arguments[1]; arguments[0].dispatchEvent(new Event('input'))",
            self.find(id),
            str(text),
        )

    def wait(self, ready: Callable[[], object]) -> None:
        """Waits until the page is ready; fails at once if it shows an error."""

        def is_ready(_: Chrome) -> bool:
            assert self["wrong"] == ""
            return bool(ready())

        WebDriverWait(self.driver, 60, 0.1).until(is_ready)

    def train(self, steps: int, button: str = "train") -> None:
        self.fill("steps", steps)
        self.find(button).click()
        self.wait(lambda: self["said"].endswith("are done."))

    def downloaded(self, name: str) -> Path:
        path = self.downloads / name
        self.wait(lambda: path.exists() and not list(self.downloads.glob("*.crdownload")))
        return path


@pytest.fixture(scope="module")
def page(built: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Page]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(Handler, directory=built))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    downloads = tmp_path_factory.mktemp("downloads")
    try:
        with browser(downloads) as driver:
            yield Page(driver, f"http://127.0.0.1:{server.server_port}/", downloads)
    finally:
        server.shutdown()
        server.server_close()


@pytest.fixture
def trained(page: Page) -> Page:
    """The page after training on TEXT; of the tests before, if they ran."""
    if not page.driver.current_url.startswith(page.url):
        page.open()
    if page["where"] == "ready" or page.find("text").get_property("value") != TEXT:
        page.fill("text", TEXT)
        page.train(STEPS)
    return page


def losses_of(laboratory: ModuleType, folder: Path) -> list[str]:
    """The losses of the page's run as this Python computes them, without kernels in C."""
    lab, losses = laboratory.Laboratory(folder), []
    with tg.compiled_kernels(False):
        lab.start(TEXT, "small", "lstm", STEPS, 0)
        finished = False
        while not finished:
            status = json.loads(lab.advance())
            finished = status["finished"]
            losses += [
                f"{report['loss']:.3f} ({report['loss'] / math.log(2):.3f} bits)" for report in status["reports"]
            ]
    return losses


def test_from_a_blank_tab_to_the_page_of_gates(page: Page, laboratory: ModuleType, tmp_path: Path) -> None:
    page.open()
    page.wait(lambda: "characters" in page["counted"])
    assert page.find("text").get_property("value") and not page.find("look").is_enabled()
    page.fill("text", TEXT)
    assert page["counted"] == f"{len(TEXT):,} characters, {len(set(TEXT))} different"
    page.train(STEPS)
    *_, last = losses_of(laboratory, tmp_path / "run")
    assert page["where"].startswith(f"step {STEPS}/{STEPS} · loss {last} · validation ")
    page.wait(lambda: "after 40 steps" in page["samples"])
    assert page.driver.find_element(By.CSS_SELECTOR, "#loss-chart svg").is_displayed()

    page.fill("reading", TEXT[:50])
    page.find("look").click()
    page.wait(lambda: page.find("page").is_displayed())
    page.driver.switch_to.frame("page")
    WebDriverWait(page.driver, 20, 0.1).until(lambda driver: driver.find_elements(By.CSS_SELECTOR, "#diagram svg"))
    assert "64 units, 50 steps" in page["about"]
    page.driver.switch_to.default_content()

    local = (page.url, "data:", f"blob:{page.url}")
    assert [url for url in requests(page.driver) if not url.startswith(local)] == []
    assert console_errors(page.driver) == []


def test_a_run_survives_a_reload_and_is_continued_and_stopped(trained: Page) -> None:
    before, sample = trained["where"], trained["samples"]
    assert before.startswith(f"step {STEPS}/{STEPS}")
    trained.driver.refresh()
    trained.wait(lambda: trained["where"] == before)
    assert trained["said"] == "The browser has kept this run."
    assert trained.find("text").get_property("value") == TEXT
    trained.wait(lambda: trained["samples"])
    assert trained["samples"] in sample

    trained.driver.switch_to.new_window("tab")
    trained.driver.get(trained.url)
    trained.wait(lambda: trained["said"])
    assert trained["said"].startswith("A laboratory is open in a different tab") and trained["where"] == "ready"
    trained.driver.close()
    trained.driver.switch_to.window(trained.driver.window_handles[0])

    trained.fill("steps", 5000)
    assert trained["resume"] == "Train 5000 steps more"
    trained.find("resume").click()
    trained.wait(lambda: trained["where"].startswith(f"step {STEPS + 10}/"))
    trained.find("stop").click()
    trained.wait(lambda: trained["said"].startswith("Stopped after step"))
    stopped = trained["where"]
    time.sleep(1)
    assert trained["where"] == stopped and trained["resume"] == "Continue"
    trained.train(STEPS)  # anew, for the other tests


def test_weights_are_saved_and_loaded(trained: Page, tmp_path: Path) -> None:
    trained.find("save").click()
    file = trained.downloaded("laboratory.safetensors")
    assert CharLM.load(file).lstm.hidden_size == 64
    trained.find("remove").click()
    trained.wait(lambda: trained["where"] == "ready")
    assert not trained.find("save").is_enabled()

    damaged = tmp_path / "damaged.safetensors"
    damaged.write_bytes(file.read_bytes()[:-1])
    trained.find("load").send_keys(str(damaged))
    WebDriverWait(trained.driver, 20, 0.1).until(lambda _: trained["wrong"])
    assert trained["wrong"].startswith("not a whole safetensors file") and trained["where"] == "ready"

    trained.find("load").send_keys(str(file))
    WebDriverWait(trained.driver, 20, 0.1).until(lambda _: trained["said"] == "The weights are loaded.")
    trained.wait(lambda: trained["where"].startswith(f"step {STEPS}/{STEPS}"))
    trained.train(5, "resume")
    assert trained["where"].startswith(f"step {STEPS + 5}/")
    trained.fill("text", "too short")
    trained.find("train").click()
    WebDriverWait(trained.driver, 20, 0.1).until(lambda _: trained["wrong"])
    assert trained["wrong"].startswith("the text has 9 characters")


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_everyone_can_use_it(trained: Page, theme: str) -> None:
    Select(trained.find("theme")).select_by_value(theme)
    if not trained.find("page").is_displayed():
        trained.find("look").click()
        trained.wait(lambda: trained.find("page").is_displayed())
    assert violations(trained.driver) == []
    trained.driver.switch_to.frame("page")
    Select(trained.find("theme")).select_by_value(theme)
    # The drawing's labels say in words what its symbols and numbers show.
    assert violations(trained.driver, without=("label-content-name-mismatch",)) == []
    trained.driver.switch_to.default_content()


def test_the_keyboard_alone_trains_a_model(page: Page) -> None:
    page.open()
    page.fill("text", TEXT)
    page.fill("steps", 5)
    page.driver.execute_script("document.activeElement.blur()")
    body, reached = page.driver.find_element(By.TAG_NAME, "body"), ""
    for _ in range(10):
        body.send_keys(Keys.TAB) if not reached else page.driver.switch_to.active_element.send_keys(Keys.TAB)
        reached = str(page.driver.switch_to.active_element.get_attribute("id"))
        if reached == "train":
            break
    page.driver.switch_to.active_element.send_keys(Keys.ENTER)
    page.wait(lambda: page["said"] == "All 5 steps are done.")
