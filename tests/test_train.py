"""The training loop: it learns, and a run that was interrupted ends as one that was not."""

import json
import math
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from strict_backend import STRICT

import tinygrad_lstm as tg
from tinygrad_lstm.data import Vocabulary
from tinygrad_lstm.models import CharLM
from tinygrad_lstm.random import random_state, set_random_state
from tinygrad_lstm.train import (
    Checkpoint,
    Progress,
    Trainer,
    TrainingOptions,
    evaluate,
    nats_to_bits,
    plot_metrics,
    read_metrics,
)

TEXT = "the quick brown fox jumps over the lazy dog, and the dog sleeps on.\n" * 9
# 551 characters to train on in 3 streams of 183, of which a window is 10 at most: 19 windows an epoch.
SMALL = {"embedding": 3, "hidden": 5, "layers": 2, "dropout": 0.3, "seq_len": 10, "batch": 3, "warmup": 4}
STEPS = 24
SMALL_OPTIONS = TrainingOptions(**SMALL, half_life=10, steps=STEPS, validate_every=7, log_every=3)  # type: ignore[arg-type]


@pytest.fixture(autouse=True)
def _random_numbers_as_before() -> Iterator[None]:
    before = random_state()
    yield
    set_random_state(before)


def make_model(characters: int, options: TrainingOptions) -> CharLM:
    return CharLM(characters, options.embedding, options.hidden, options.layers, options.dropout)


def start(out: Path, **changed: object) -> Trainer[CharLM]:
    return Trainer.start(make_model, TEXT, TrainingOptions(**{**vars(SMALL_OPTIONS), **changed}), out)


def resume(out: Path, steps: int | None = None) -> Trainer[CharLM]:
    return Trainer.resume(make_model, TEXT, Checkpoint.load(out / "last.safetensors"), out, steps)


def assert_same_run(one: Path, other: Path) -> None:
    a, b = (Checkpoint.load(folder / "last.safetensors") for folder in (one, other))
    assert (a.step, a.best, a.options) == (b.step, b.best, b.options)
    assert a.random_state == b.random_state
    assert a.schedule == b.schedule
    assert a.optimizer["param_groups"] == b.optimizer["param_groups"]
    for mine, theirs in (
        (a.weights, b.weights),
        (a.optimizer["state"], b.optimizer["state"]),
        (dict(enumerate(a.state)), dict(enumerate(b.state))),
    ):
        assert mine.keys() == theirs.keys() and mine
        for name in mine:
            assert mine[name].tobytes() == theirs[name].tobytes(), name


@pytest.fixture(scope="module")
def unbroken(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a run that was not interrupted."""
    out = tmp_path_factory.mktemp("unbroken")
    assert start(out).run().finished
    return out


# -- resuming ---------------------------------------------------------------------------------------------------------


@settings(max_examples=8)
@given(stops=st.sets(st.integers(1, STEPS - 1), min_size=1, max_size=3))
def test_stopped_and_resumed_equals_unbroken(
    unbroken: Path, tmp_path_factory: pytest.TempPathFactory, stops: set[int]
) -> None:
    out = tmp_path_factory.mktemp("broken")
    trainer = start(out, log_every=1)
    for step in sorted(stops):

        def stop_there(progress: Progress, trainer: Trainer[CharLM] = trainer, step: int = step) -> None:
            if progress.step == step:
                trainer.stop()

        summary = trainer.run(stop_there)
        assert (summary.step, summary.finished) == (step, False)
        tg.manual_seed(step)  # what happened in between does not matter
        trainer = resume(out)
        assert trainer.step == step
    assert trainer.run().finished
    a, b = Checkpoint.load(unbroken / "last.safetensors"), Checkpoint.load(out / "last.safetensors")
    assert b.options.log_every == 1
    for name in a.weights:
        assert a.weights[name].tobytes() == b.weights[name].tobytes(), name
    assert a.random_state == b.random_state and a.best == b.best


def test_killed_and_resumed_equals_unbroken(unbroken: Path, tmp_path: Path) -> None:
    class Kill(BaseException):
        pass

    def kill(progress: Progress) -> None:
        if progress.step == 18:
            raise Kill

    with pytest.raises(Kill):
        start(tmp_path).run(kill)
    trainer = resume(tmp_path)
    assert trainer.step == 14  # the last validation
    assert [line["step"] for line in read_metrics(tmp_path / "metrics.jsonl")][-1] == 14
    trainer.run()
    assert_same_run(unbroken, tmp_path)
    steps = [[line["step"] for line in read_metrics(out / "metrics.jsonl")] for out in (unbroken, tmp_path)]
    assert steps[0] == steps[1] == [3, 6, 7, 9, 12, 14, 15, 18, 21, 24]
    losses = [[line["validation_loss"] for line in read_metrics(out / "metrics.jsonl")] for out in (unbroken, tmp_path)]
    assert losses[0] == losses[1]


def test_given_more_steps_equals_having_had_them(unbroken: Path, tmp_path: Path) -> None:
    assert start(tmp_path, steps=10).run().finished
    assert resume(tmp_path, steps=STEPS).run().finished
    mine, theirs = (Checkpoint.load(out / "last.safetensors").weights for out in (tmp_path, unbroken))
    for name in mine:
        assert mine[name].tobytes() == theirs[name].tobytes(), name


def test_a_finished_run_stays_as_it_is(unbroken: Path) -> None:
    before = (unbroken / "last.safetensors").read_bytes()
    summary = resume(unbroken).run()
    assert summary.finished and summary.step == STEPS
    assert (unbroken / "last.safetensors").read_bytes() == before


def test_a_run_is_resumed_on_its_own_text_alone(unbroken: Path) -> None:
    checkpoint = Checkpoint.load(unbroken / "last.safetensors")
    with pytest.raises(ValueError, match="the text is not the one"):
        Trainer.resume(make_model, TEXT + "x", checkpoint, unbroken)


def test_weights_that_do_not_fit_are_refused(unbroken: Path) -> None:
    checkpoint = Checkpoint.load(unbroken / "last.safetensors")
    with pytest.raises(ValueError, match=r"lstm\.weight_hh_l0"):
        Trainer.resume(lambda characters, options: CharLM(characters, 3, 6, 2), TEXT, checkpoint, unbroken)


def test_options_of_a_run_stay() -> None:
    assert SMALL_OPTIONS.continued({"steps": 99, "hidden": 5}).steps == 99
    assert SMALL_OPTIONS.continued({}) == SMALL_OPTIONS
    with pytest.raises(ValueError, match="hidden: the run to resume has 5, but 6 was given"):
        SMALL_OPTIONS.continued({"hidden": 6})


# -- training ---------------------------------------------------------------------------------------------------------


def test_it_learns_and_the_best_checkpoint_is_the_best(tmp_path: Path) -> None:
    trainer = start(tmp_path, dropout=0.0, hidden=24, layers=1, lr=0.03, steps=120, half_life=100, validate_every=20)
    summary = trainer.run()
    lines = read_metrics(trainer.metrics)
    validations = [line["validation_loss"] for line in lines if line["validation_loss"] is not None]
    assert len(validations) == 6
    assert summary.best == min(validations) < 1.0 < lines[0]["loss"]
    best = Checkpoint.load(trainer.best_path)
    assert best.best == summary.best
    model = make_model(len(best.vocabulary), best.options)
    model.load_state_dict(best.weights)
    held_back = TEXT[len(TEXT) - len(TEXT) // 10 :]
    assert evaluate(model, best.vocabulary.encode(held_back)) == summary.best


def test_metrics_are_json_lines_and_reported(tmp_path: Path) -> None:
    reported: list[Progress] = []
    trainer = start(tmp_path)
    trainer.run(reported.append)
    lines = [json.loads(line) for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    assert lines == [vars(progress) for progress in reported]
    for line in lines:
        assert line["bits"] == pytest.approx(line["loss"] / math.log(2))
        assert line["epoch"] == pytest.approx(line["step"] / 19)
        assert line["characters_per_second"] > 0
        assert (line["validation_loss"] is None) == (line["step"] % 7 != 0 and line["step"] != STEPS)
    # Rises in 4 steps from a quarter of 5e-3, then halves every 10: at the steps before those reported, 3, 6 and 7.
    assert [line["lr"] for line in lines[:3]] == pytest.approx([5e-3 * 0.625, 5e-3 * 0.5**0.1, 5e-3 * 0.5**0.2])


def test_the_same_seed_gives_the_same_run_and_another_another(unbroken: Path, tmp_path: Path) -> None:
    start(tmp_path / "same").run()
    assert_same_run(unbroken, tmp_path / "same")
    start(tmp_path / "other", seed=1).run()
    a, b = (Checkpoint.load(folder / "last.safetensors").weights for folder in (unbroken, tmp_path / "other"))
    assert not np.array_equal(a["lstm.weight_hh_l0"], b["lstm.weight_hh_l0"])


def test_a_new_run_replaces_what_was_in_the_folder(tmp_path: Path) -> None:
    start(tmp_path).run()
    trainer = start(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["metrics.jsonl"]
    assert trainer.metrics.read_text() == ""


def test_losses_are_read_only_when_reported(tmp_path: Path) -> None:
    def on_strict(characters: int, options: TrainingOptions) -> CharLM:
        return make_model(characters, options).to("strict")

    options = TrainingOptions(**{**vars(SMALL_OPTIONS), "steps": 7, "log_every": 100, "dropout": 0.0})
    trainer = Trainer.start(on_strict, TEXT, options, tmp_path)
    STRICT.counts.reset()
    reads: list[int] = []

    def loss(*args: object) -> object:
        reads.append(STRICT.counts.device_to_host)
        return CharLM.loss(trainer.model, *args)  # type: ignore[arg-type]

    trainer.model.loss = loss  # type: ignore[assignment, method-assign]
    trainer.run()
    assert reads[:7] == [0] * 7
    assert STRICT.counts.device_to_host > 0


def test_the_device_makes_no_difference(device: str, unbroken: Path, tmp_path: Path) -> None:
    options = Checkpoint.load(unbroken / "last.safetensors").options
    Trainer.start(lambda *args: make_model(*args).to(device), TEXT, options, tmp_path).run()
    mine, theirs = (Checkpoint.load(out / "last.safetensors").weights for out in (tmp_path, unbroken))
    for name in theirs:
        np.testing.assert_allclose(mine[name], theirs[name], rtol=1e-3, atol=1e-4)


def test_a_loss_that_is_no_number_ends_the_run_and_spares_the_checkpoint(tmp_path: Path) -> None:
    trainer = start(tmp_path, steps=20)

    def spoil(progress: Progress) -> None:
        if progress.step == 9:
            with tg.no_grad():
                trainer.model.output.bias.fill_(math.nan)

    with pytest.raises(FloatingPointError, match=r"the loss is nan at step 12: .* smaller lr"):
        trainer.run(spoil)
    checkpoint = Checkpoint.load(trainer.last_path)
    assert checkpoint.step == 7
    assert all(np.isfinite(array).all() for array in checkpoint.weights.values())


@pytest.mark.parametrize(
    ("name", "value"),
    [("steps", 0), ("hidden", 0), ("batch", -1), ("lr", 0.0), ("lr", math.nan), ("dropout", 1.0), ("seed", -1)],
)
def test_options_out_of_range_are_named(name: str, value: float) -> None:
    with pytest.raises(ValueError, match=f"{name}: expected .*, got {value}"):
        TrainingOptions(**{name: value})  # type: ignore[arg-type]


def test_too_short_a_text_says_how_much_is_needed(tmp_path: Path) -> None:
    options = TrainingOptions(seq_len=64, batch=32)
    with pytest.raises(ValueError, match="has 612 characters; seq-len 64 and batch 32 need at least 2276"):
        Trainer.start(make_model, TEXT, options, tmp_path)
    Trainer.start(make_model, "ab" * 1138, options, tmp_path)
    with pytest.raises(ValueError, match="need at least 2276"):
        Trainer.start(make_model, "ab" * 1137 + "a", options, tmp_path)


# -- measuring --------------------------------------------------------------------------------------------------------


@given(st.integers(2, 80), st.integers(1, 4), st.integers(1, 20))
def test_evaluate_predicts_each_character_but_the_first(length: int, batch: int, seq_len: int) -> None:
    ids = np.arange(length) % 7
    model = CharLM(7, 2, 3)
    with tg.no_grad():
        for parameter in model.parameters():
            parameter.zero_()
        model.output.bias[2] = 1.5  # without a state that matters: a distribution that stays
    logits = np.zeros(7)
    logits[2] = 1.5
    expected = -np.mean((logits - np.log(np.exp(logits).sum()))[ids[1:]])
    assert evaluate(model, ids, batch, seq_len) == pytest.approx(expected, rel=1e-5)
    assert model.training


@given(st.integers(2, 60), st.integers(1, 20))
def test_evaluate_in_windows_equals_evaluate_whole(length: int, seq_len: int) -> None:
    model = CharLM(5, 3, 4, dropout=0.5)
    ids = np.random.default_rng(length).integers(0, 5, length)
    whole, _ = model.eval().loss(tg.tensor(ids[:-1, None]), tg.tensor(ids[1:, None]))
    assert evaluate(model, ids, batch=1, seq_len=seq_len) == pytest.approx(whole.item(), rel=1e-5)


def test_evaluate_needs_two_characters() -> None:
    with pytest.raises(ValueError, match="at least 2 characters, got 1"):
        evaluate(CharLM(3, 2, 2), np.zeros(1, np.int64))


def test_bits() -> None:
    assert nats_to_bits(math.log(8)) == pytest.approx(3.0)


def test_checkpoints_say_what_they_hold(unbroken: Path) -> None:
    checkpoint = Checkpoint.load(unbroken / "last.safetensors")
    assert checkpoint.options == SMALL_OPTIONS
    assert checkpoint.vocabulary == Vocabulary(TEXT)
    assert checkpoint.step == STEPS
    assert checkpoint.sources == []
    weights = make_model(len(checkpoint.vocabulary), checkpoint.options).state_dict()
    assert {name: array.shape for name, array in checkpoint.weights.items()} == {
        name: array.shape for name, array in weights.items()
    }


def test_a_checkpoint_of_something_else_is_refused(tmp_path: Path) -> None:
    from tinygrad_lstm.io import checkpoint

    checkpoint.save(tmp_path / "a", {"weights": {}})
    with pytest.raises(ValueError, match="a: a checkpoint, but not one of a training run"):
        Checkpoint.load(tmp_path / "a")


def test_metrics_cut_off_by_a_kill_are_read_up_to_there(tmp_path: Path) -> None:
    (tmp_path / "metrics.jsonl").write_text('{"step": 1}\n{"step": 2}\n{"st')
    assert [line["step"] for line in read_metrics(tmp_path / "metrics.jsonl")] == [1, 2]
    assert read_metrics(tmp_path / "none.jsonl") == []


def test_the_loss_is_plotted_where_matplotlib_is_installed(
    unbroken: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("matplotlib")
    path = plot_metrics(unbroken / "metrics.jsonl", tmp_path / "loss.png")
    assert path is not None and path.read_bytes().startswith(b"\x89PNG")
    assert plot_metrics(tmp_path / "none.jsonl", tmp_path / "none.png") is None
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    assert plot_metrics(unbroken / "metrics.jsonl", tmp_path / "other.png") is None
    assert not (tmp_path / "other.png").exists()
