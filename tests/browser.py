"""A real browser without a window, for tests of pages: Chromium, driven by Selenium."""

import json
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from selenium.webdriver import Chrome, ChromeOptions
from selenium.webdriver.chrome.service import Service

__all__ = ["DRIVER", "WITHOUT", "browser", "console_errors", "requests"]

DRIVER = shutil.which("chromedriver")
WITHOUT = "there is no browser to drive (Debian's packages chromium and chromium-driver)"


@contextmanager
def browser(downloads: Path) -> Iterator[Chrome]:
    """A browser that keeps what it downloads in a folder, and notes what it asks the network for."""
    options = ChromeOptions()
    for argument in ("--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--no-first-run"):
        options.add_argument(argument)
    options.add_experimental_option("prefs", {"download.default_directory": str(downloads)})
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    driver = Chrome(options, Service(DRIVER))
    try:
        driver.set_window_size(1280, 900)
        yield driver
    finally:
        driver.quit()


def console_errors(driver: Chrome) -> list[str]:
    """What the page has written to the console as warnings or errors, since this was last asked."""
    return [entry["message"] for entry in driver.get_log("browser") if entry["level"] in ("WARNING", "SEVERE")]


def requests(driver: Chrome) -> list[str]:
    """The addresses that the page has asked for, since this was last asked."""
    messages = (json.loads(entry["message"])["message"] for entry in driver.get_log("performance"))
    return [
        message["params"]["request"]["url"] for message in messages if message["method"] == "Network.requestWillBeSent"
    ]
