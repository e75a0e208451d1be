"""What looking inside costs: a trace beside the passes that it sees, and how soon a large page is on the screen.

    pip install -e '.[bench,test]'              # and, for the page, Debian's chromium and chromium-driver
    python benchmarks/inspecting.py             # compiled kernels, two threads
    python benchmarks/inspecting.py --page      # the page alone

Traces and plain passes take turns within one run; the figures are medians of the ratios turn by turn. The time of the
page is from its address to the end of its script, which has drawn everything, in Chromium without a window.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
from harness import Case, Worker, ratio, take_turns

SHAPES = [(500, 1, 64, 256), (100, 32, 64, 128), (2000, 1, 64, 512)]
SIDES = ["forward", "trace", "forward and backward", "trace with loss"]
PAGE_STEPS, PAGE_UNITS, OPENED = 2000, 512, 5


def prepare(side: str, shape: tuple[int, int, int, int], layers: int) -> Case:
    """A pass of an LSTM of that many layers, or a trace of it."""
    import tinygrad_lstm as tg
    from tinygrad_lstm.models import LSTM

    T, B, I, H = shape
    tg.manual_seed(0)
    model, x = LSTM(I, H, num_layers=layers), tg.randn(T, B, I)

    def loss(out: tg.Tensor) -> tg.Tensor:
        return out.square().mean()

    calls: dict[str, Any] = {
        "forward": lambda: model(x),
        "trace": lambda: tg.inspect.trace(model, x),
        "forward and backward": lambda: loss(model(x)[0]).backward(),
        "trace with loss": lambda: tg.inspect.trace(model, x, loss=loss),
    }
    return Case(calls[side])


def compare_traces(turns: int, threads: int) -> None:
    """Prints for each shape what a trace takes, divided by what the passes take."""
    workers = {side: Worker(prepare, side, threads) for side in SIDES}
    print("| (T, B, I, H), layers | trace / forward | trace with loss / forward and backward |\n| --- | --- | --- |")
    for shape in SHAPES:
        for layers in (1, 2):
            for worker in workers.values():
                worker.prepare(shape, layers)
            seconds = take_turns(workers, turns)
            plain, with_loss = (ratio(seconds[SIDES[k + 1]], seconds[SIDES[k]]) for k in (0, 2))
            print(f"| {shape}, {layers} | {plain:.2f} | {with_loss:.2f} |", flush=True)
    for worker in workers.values():
        worker.close()


def open_page() -> None:
    """Prints the size of the page of a large trace, and how long a browser takes to show it and to go a step on."""
    import tinygrad_lstm as tg
    from tinygrad_lstm.models import CharLM

    sys.path.append(str(Path(__file__).resolve().parents[1] / "tests"))
    from browser import browser

    characters = "".join(map(chr, range(48, 113)))
    ids = np.random.default_rng(0).integers(0, len(characters), (PAGE_STEPS, 1))
    tg.manual_seed(0)
    model, last = CharLM(len(characters), 64, PAGE_UNITS), tg.tensor(ids[-1])
    traced = tg.inspect.trace(model, ids, loss=lambda logits: tg.cross_entropy(logits[-2], last))
    with tempfile.TemporaryDirectory() as folder, browser(Path(folder)) as driver:
        path = tg.inspect.page(traced, Path(folder) / "page.html", vocabulary=characters)
        opened, stepped = [], []
        for _ in range(OPENED):
            driver.get("about:blank")
            driver.get(path.as_uri())
            opened.append(driver.execute_script("return performance.getEntriesByType('navigation')[0].loadEventEnd"))
            go_on = "const begun = performance.now(); document.querySelector('#forward').click();"
            stepped.append(driver.execute_script(f"{go_on} return performance.now() - begun"))
        print(
            f"{PAGE_STEPS:,} steps × {PAGE_UNITS} units: {path.stat().st_size / 1e6:.1f} MB, on the screen after "
            f"{statistics.median(opened) / 1e3:.2f} s, a step further in {statistics.median(stepped):.0f} ms"
        )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--turns", type=int, default=9)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--page", action="store_true", help="open the page alone")
    arguments = parser.parse_args()
    if not arguments.page:
        compare_traces(arguments.turns, arguments.threads)
    open_page()


if __name__ == "__main__":
    main()
