"""The site: every link and anchor leads somewhere, every public name is there, and it works without a network."""

import contextlib
import os
import re
import sqlite3
import subprocess
import sys
import zlib
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from urllib.parse import unquote, urldefrag

import numpy as np
import pytest
from axe import violations
from browser import DRIVER, WITHOUT, browser, console_errors, requests
from selenium.webdriver import Chrome
from selenium.webdriver.common.by import By
from selenium.webdriver.support.ui import WebDriverWait

import tinygrad_lstm as tg

ROOT = Path(__file__).parents[2]
PACKAGES = [
    tg,
    tg.nn,
    tg.nn.init,
    tg.optim,
    tg.optim.lr_scheduler,
    tg.optim.swa_utils,
    tg.data,
    tg.io,
    tg.func,
    tg.cuda,
]
LAZY = [tg.inspect, tg.models, tg.models.atlas, tg.train]
LINK = re.compile(r'<(a|link|script|img|iframe)\b[^>]*?\b(?:href|src)="?([^"\s>]+)')
ID = re.compile(r'\b(?:id|name)="?([^"\s>]+)')


@pytest.fixture(scope="session")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The built site. If several processes run tests, the first one that needs it builds it for all."""
    base = tmp_path_factory.getbasetemp()
    folder = (base.parent if "PYTEST_XDIST_WORKER" in os.environ else base) / "site"
    with contextlib.closing(sqlite3.connect(folder.with_suffix(".lock"), timeout=300)) as lock:
        lock.execute("BEGIN EXCLUSIVE")  # waits until no other process is here
        if not folder.exists():
            build(folder)
    return folder


def build(folder: Path) -> None:
    unfinished = folder.with_suffix(".unfinished")
    result = subprocess.run(
        [sys.executable, "-m", "mkdocs", "build", "--quiet", "--site-dir", unfinished],
        cwd=ROOT,
        env={**os.environ, "NO_MKDOCS_2_WARNING": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert (result.returncode, result.stdout, result.stderr) == (0, "", "")
    unfinished.rename(folder)


def test_every_link_and_anchor_leads_somewhere(site: Path) -> None:
    pages = {path: path.read_text(encoding="utf-8") for path in site.rglob("*.html")}
    anchors = {path: set(map(unquote, ID.findall(text))) for path, text in pages.items()}
    lost = []
    for page, text in pages.items():
        # The first is shown under any address, so its links are those of a server's root. The second has its own tests.
        if page.name == "404.html" or page.is_relative_to(site / "lab"):
            continue
        for tag, link in LINK.findall(text):
            address, anchor = urldefrag(unquote(link).replace("&amp;", "&"))
            if re.match(r"[a-z]+:", address):
                assert tag == "a", f"{page.relative_to(site)} loads {link}"
                continue
            target = Path(os.path.normpath(page.parent / address)) if address else page
            if target.is_relative_to(site / "lab"):  # built by a command of its own
                continue
            known = "=" in anchor or not anchor or anchor in anchors.get(target, ())  # page.html#step=3 is a setting
            if not target.exists() or not known:
                lost.append(f"{page.relative_to(site)}: {link}")
    assert not lost
    assert not [page for page, text in pages.items() if "][tinygrad_lstm" in text], "a name without a docstring"


def public(module: ModuleType) -> Iterator[str]:
    for name in module.__all__:
        value = getattr(module, name)
        if callable(value) and not isinstance(value, ModuleType):
            yield f"{module.__name__}.{name}"


def test_every_public_name_is_documented(site: Path) -> None:
    *_, packed = (site / "objects.inv").read_bytes().split(b"\n", 4)
    documented = {line.split(" ")[0] for line in zlib.decompress(packed).decode().splitlines()}
    names = {name for module in (*PACKAGES, *LAZY) for name in public(module)} - {"tinygrad_lstm.Array"}
    assert len(names) > 250
    assert not names - documented


def test_functions_are_shown_with_types(site: Path) -> None:
    shown = re.sub(r"<[^>]+>|\s", "", (site / "api" / "ops.html").read_text(encoding="utf-8"))
    assert "tanh(x:Tensor)-&gt;Tensor" in shown
    tensors = re.sub(r"<[^>]+>|\s", "", (site / "api" / "tensors.html").read_text(encoding="utf-8"))
    assert "shape:tuple[int,...]" in tensors


def test_commands_are_shown_as_they_are_typed(site: Path) -> None:
    shown = re.sub(r"<[^>]+>", "", (site / "api" / "command-line.html").read_text(encoding="utf-8"))
    assert "Usage: tinygrad-lstm train [OPTIONS]" in shown
    assert len(re.findall("Usage: tinygrad-lstm ", shown)) == len(re.findall("Usage: ", shown)) > 5


def test_the_live_cell_does_what_the_chapter_says(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(ROOT / "docs"))
    import live

    traced, _ = live.traced_model()
    unit = live.remembering_unit(traced)
    c, f, i = (getattr(traced[0], name)[:, 0, unit] for name in ("c", "f", "i"))
    opened, closed = live.READ.index("("), live.READ.index(")")
    chapter = (ROOT / "docs" / "lstm.md").read_text(encoding="utf-8")
    steps = [int(step) for step in re.findall(r"unit=remembering&step=(\d+)\){", chapter)]
    assert steps == [opened - 1, opened, opened + 19, closed]
    assert f[opened] < 0.1 and i[opened] > 0.9 and f[closed] < 0.1
    assert np.median(f[opened + 1 : closed]) > 0.9
    assert (np.sign(c[opened:closed]) == -np.sign(c[opened - 1])).all() and np.sign(c[closed]) == np.sign(c[opened - 1])


# -- in a browser ------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def driver(site: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Chrome]:
    if DRIVER is None:
        pytest.skip(WITHOUT)
    with browser(tmp_path_factory.mktemp("downloads")) as started:
        yield started


@pytest.mark.parametrize("page", ["index.html", "tutorial.html", "lstm.html", "api/ops.html", "design/engine.html"])
def test_a_page_opens_as_a_file(site: Path, driver: Chrome, page: str) -> None:
    driver.get((site / page).as_uri())
    assert not console_errors(driver)
    assert not [
        address for address in requests(driver) if not address.startswith(("file:", "data:", "about:", "chrome:"))
    ]


def test_search_works_as_a_file(site: Path, driver: Chrome) -> None:
    driver.get((site / "index.html").as_uri())
    driver.find_element(By.CSS_SELECTOR, "input.md-search__input").send_keys("forget gate")
    found = WebDriverWait(driver, 20).until(lambda _: driver.find_elements(By.CSS_SELECTOR, ".md-search-result__link"))
    assert any("lstm.html" in (link.get_attribute("href") or "") for link in found)


def test_the_chapter_moves_the_live_cell(site: Path, driver: Chrome) -> None:
    driver.get((site / "lstm.html").as_uri())
    driver.find_element(By.LINK_TEXT, "The bracket closes").click()
    driver.switch_to.frame(driver.find_element(By.CSS_SELECTOR, "iframe.live"))
    WebDriverWait(driver, 20).until(lambda _: "step 42 of 80" in driver.find_element(By.TAG_NAME, "body").text)


@pytest.mark.parametrize("colours", ["light", "dark"])
@pytest.mark.parametrize(
    "page", ["index.html", "tutorial.html", "lstm.html", "how-to/own-text.html", "performance.html", "api/models.html"]
)
def test_a_page_is_accessible(site: Path, driver: Chrome, page: str, colours: str) -> None:
    scheme = {"name": "prefers-color-scheme", "value": colours}
    driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": [scheme]})
    driver.get((site / page).as_uri())
    driver.execute_script("localStorage.clear()")  # the theme remembers which colours it began with
    driver.refresh()
    assert not violations(driver)
