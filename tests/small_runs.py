"""Short runs of the training loop: started, resumed and compared."""

from pathlib import Path

from tinygrad_lstm.models import CharLM
from tinygrad_lstm.train import (
    TextCheckpoint,
    TextTrainer,
    TrainingOptions,
)

TEXT = "the quick brown fox jumps over the lazy dog, and the dog sleeps on.\n" * 9
# 551 characters to train on in 3 streams of 183, of which a window is 10 at most: 19 windows an epoch.
SMALL = {"embedding": 3, "hidden": 5, "layers": 2, "dropout": 0.3, "seq_len": 10, "batch": 3, "warmup": 4}
STEPS = 24
SMALL_OPTIONS = TrainingOptions(**SMALL, steps=STEPS, validate_every=7, log_every=3)  # type: ignore[arg-type]


def make_model(characters: int, options: TrainingOptions) -> CharLM:
    return CharLM(characters, options.embedding, options.hidden, options.layers, options.dropout)


def start(out: Path, **changed: object) -> TextTrainer[CharLM]:
    return TextTrainer.start(make_model, TEXT, TrainingOptions(**{**vars(SMALL_OPTIONS), **changed}), out)


def assert_same_run(one: Path, other: Path) -> None:
    a, b = (TextCheckpoint.load(folder / "last.safetensors") for folder in (one, other))
    assert (a.step, a.best, a.options) == (b.step, b.best, b.options)
    assert a.random_state == b.random_state
    assert a.schedule == b.schedule
    assert a.optimizer["param_groups"] == b.optimizer["param_groups"]
    for mine, theirs in (
        (a.weights, b.weights),
        (a.optimizer["state"], b.optimizer["state"]),
        (dict(enumerate(a.carry)), dict(enumerate(b.carry))),
    ):
        assert mine.keys() == theirs.keys() and mine
        for name in mine:
            assert mine[name].tobytes() == theirs[name].tobytes(), name
