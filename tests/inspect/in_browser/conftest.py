"""The browser, and the pages that several tests look at."""

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from browser import browser
from selenium.webdriver import Chrome
from shown_pages import LETTERS, STATES, TEXT, Shown

import tinygrad_lstm as tg
from tinygrad_lstm.models import GRU, LSTM, RNN, CharLM


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
