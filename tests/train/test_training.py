"""The training loop: it learns, reports and saves; and runs repeat."""

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from emulated_backend import EMULATED
from kernels_on_host import needs_compiler
from small_runs import SMALL_OPTIONS, STEPS, TEXT, assert_same_run, make_model, start
from strict_backend import STRICT, StrictBackend

import tinygrad_lstm as tg
from tinygrad_lstm.backends.emit.sequence import ArraySequence
from tinygrad_lstm.metrics import read_metrics
from tinygrad_lstm.models import CharLM
from tinygrad_lstm.train import (
    Progress,
    TextCheckpoint,
    TextTrainer,
    TrainingOptions,
    evaluate,
)


def test_it_learns_and_the_best_checkpoint_is_the_best(tmp_path: Path) -> None:
    trainer = start(tmp_path, dropout=0.0, hidden=24, layers=1, lr=0.03, steps=120, validate_every=20)
    summary = trainer.run()
    lines = read_metrics(trainer.metrics_path)
    validations = [line["validation_loss"] for line in lines if line["validation_loss"] is not None]
    assert len(validations) == 6
    assert summary.best == min(validations) < 1.0 < lines[0]["loss"]
    best = TextCheckpoint.load(trainer.best_path)
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
    assert lines == [progress.values() for progress in reported]
    for line in lines:
        assert line["epoch"] == pytest.approx(line["step"] / 19)
        assert line["per_second"] > 0
        assert (line["validation_loss"] is None) == (line["step"] % 7 != 0 and line["step"] != STEPS)
    # Rises in 4 steps from a quarter of 2e-2, then falls in 20 to a fiftieth: the rates of steps 3, 6 and 7.
    expected = [2e-2 * 0.625, 2e-2 * (1 - 0.98 / 20), 2e-2 * (1 - 0.98 * 2 / 20)]
    assert [line["lr"] for line in lines[:3]] == pytest.approx(expected)


def test_the_same_seed_makes_the_same_run_and_a_different_seed_a_different_run(unbroken: Path, tmp_path: Path) -> None:
    start(tmp_path / "same").run()
    assert_same_run(unbroken, tmp_path / "same")
    start(tmp_path / "other", seed=1).run()
    a, b = (TextCheckpoint.load(folder / "last.safetensors").weights for folder in (unbroken, tmp_path / "other"))
    assert not np.array_equal(a["lstm.weight_hh_l0"], b["lstm.weight_hh_l0"])


def test_a_new_run_replaces_an_earlier_one_at_its_first_checkpoint(tmp_path: Path) -> None:
    start(tmp_path).run()
    before = {path: path.read_bytes() for path in tmp_path.iterdir()}
    trainer = start(tmp_path, seed=1)
    seen: list[int] = []

    def look(progress: Progress) -> None:
        seen.append(progress.step)
        if progress.step < 7:
            assert trainer.saved is None
            assert {path: path.read_bytes() for path in tmp_path.iterdir()} == before
        else:
            assert (
                trainer.saved
                == TextCheckpoint.load(trainer.last_path).step
                == TextCheckpoint.load(trainer.best_path).step
            )
            assert not trainer.plot_path.exists()
            trainer.stop()

    trainer.run(look)
    assert seen == [3, 6, 7]
    assert [line["step"] for line in read_metrics(trainer.metrics_path)] == seen
    # Stopped before it is validated, a run leaves no best checkpoint; that of the earlier one is not its own.
    trainer = start(tmp_path, seed=2)
    trainer.run(lambda progress: trainer.stop())
    assert TextCheckpoint.load(trainer.last_path).step == 3 and not trainer.best_path.exists()


def test_a_stop_during_a_validation_aborts_it_and_saves(tmp_path: Path) -> None:
    trainer = start(tmp_path)
    windows = 0

    def loss(ids: tg.Tensor, *args: Any) -> Any:
        nonlocal windows
        if not trainer.model.training:
            windows += 1
            trainer.stop()
        return CharLM.loss(trainer.model, ids, *args)

    trainer.model.loss = loss  # type: ignore[method-assign]
    trainer._validation = [*trainer._validation] * 100  # type: ignore[assignment]
    summary = trainer.run()
    assert windows == 1
    assert (summary.step, summary.finished, summary.best) == (7, False, None)
    assert TextCheckpoint.load(trainer.last_path).step == 7 and trainer.model.training
    assert read_metrics(trainer.metrics_path)[-1]["validation_loss"] is None


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="this system has no disk that is always full")
def test_a_full_disk_is_named(tmp_path: Path) -> None:
    trainer = start(tmp_path)

    def fill(progress: Progress) -> None:
        trainer.metrics_path.unlink()
        trainer.metrics_path.symlink_to("/dev/full")

    with pytest.raises(OSError, match=r"No space left on device: .*metrics\.jsonl"):
        trainer.run(fill)


@pytest.mark.parametrize("backend", [STRICT, pytest.param(EMULATED, marks=needs_compiler)], ids=["strict", "emulated"])
def test_losses_are_read_only_when_reported(tmp_path: Path, backend: StrictBackend) -> None:
    """No other value travels to the host, and nobody waits for the device."""

    def on_device(characters: int, options: TrainingOptions) -> CharLM:
        return make_model(characters, options).to("emulated" if backend is EMULATED else "strict")

    options = TrainingOptions(**{**vars(SMALL_OPTIONS), "steps": 7, "log_every": 100, "dropout": 0.2})
    trainer = TextTrainer.start(on_device, TEXT, options, tmp_path)
    backend.counts.reset()
    reads: list[int] = []

    def loss(*args: object) -> object:
        reads.append(backend.counts.device_to_host + backend.counts.synchronisations)
        return CharLM.loss(trainer.model, *args)  # type: ignore[arg-type]

    trainer.model.loss = loss  # type: ignore[assignment, method-assign]
    trainer.run()
    assert reads[:7] == [0] * 7
    assert backend.counts.device_to_host > 0


def test_two_runs_on_one_device_agree_bit_for_bit(device: str, tmp_path: Path) -> None:
    weights = []
    for k in range(2):
        TextTrainer.start(lambda *args: make_model(*args).to(device), TEXT, SMALL_OPTIONS, tmp_path / str(k)).run()
        weights.append(TextCheckpoint.load(tmp_path / str(k) / "last.safetensors").weights)
    for name, value in weights[0].items():
        np.testing.assert_array_equal(value, weights[1][name])


@pytest.mark.parametrize("place", ["forward", "backward", "step"])
def test_out_of_memory_changes_neither_model_nor_checkpoint(
    tmp_path: Path, place: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    options = TrainingOptions(**{**vars(SMALL_OPTIONS), "steps": 12})
    trainer = TextTrainer.start(lambda *args: make_model(*args).to("strict"), TEXT, options, tmp_path)

    def fail(*arguments: object) -> object:
        raise MemoryError("Out of memory allocating 5,368,709,120 bytes")

    def fill_up(progress: Progress) -> None:
        if progress.validation_loss is None:  # nothing was saved yet
            return
        name = "adam_update" if place == "step" else place
        monkeypatch.setattr(STRICT if place == "step" else ArraySequence, name, fail)
        saved.update(trainer.model.state_dict())

    saved: dict[str, object] = {}
    doing = {"forward": "lstm", "backward": "backward", "step": "AdamW.step"}[place]
    with pytest.raises(MemoryError, match=rf"{doing}: 'strict' has no memory left \(Out of.*\); make the batch"):
        trainer.run(fill_up)
    assert saved
    kept = TextCheckpoint.load(tmp_path / "last.safetensors")
    for name, value in trainer.model.state_dict().items():
        np.testing.assert_array_equal(value, saved[name])
        np.testing.assert_array_equal(value, kept.weights[name])
    monkeypatch.undo()  # there is room again
    trainer.run()
    assert trainer.step == options.steps
    finished = TextCheckpoint.load(tmp_path / "last.safetensors")
    TextTrainer.resume(make_model, TEXT, finished, tmp_path, options.steps + 1).run()  # every counter is the run's


def test_every_device_trains_the_same(device: str, unbroken: Path, tmp_path: Path) -> None:
    options = TextCheckpoint.load(unbroken / "last.safetensors").options
    TextTrainer.start(lambda *args: make_model(*args).to(device), TEXT, options, tmp_path).run()
    mine, theirs = (TextCheckpoint.load(out / "last.safetensors").weights for out in (tmp_path, unbroken))
    for name in theirs:
        np.testing.assert_allclose(mine[name], theirs[name], rtol=1e-3, atol=1e-4)


def test_a_nan_loss_ends_the_run_and_keeps_the_checkpoint(tmp_path: Path) -> None:
    trainer = start(tmp_path, steps=20)

    def spoil(progress: Progress) -> None:
        if progress.step == 9:
            with tg.no_grad():
                trainer.model.output.bias.fill_(math.nan)

    with pytest.raises(FloatingPointError, match=r"the loss is nan at step 12: .* smaller lr"):
        trainer.run(spoil)
    checkpoint = TextCheckpoint.load(trainer.last_path)
    assert checkpoint.step == 7
    assert all(np.isfinite(array).all() for array in checkpoint.weights.values())


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("steps", 0),
        ("hidden", 0),
        ("batch", -1),
        ("lr", 0.0),
        ("lr", math.nan),
        ("lr", math.inf),
        ("dropout", 1.0),
        ("seed", -1),
        ("epochs", 0),
        ("minutes", math.nan),
        ("patience", 0),
        ("schedule", "steps"),
        ("weight_decay", -1.0),
        ("steps", None),
    ],
)
def test_options_out_of_range_are_named(name: str, value: float) -> None:
    with pytest.raises(ValueError, match=f"{name}: expected .*, got {value}"):
        TrainingOptions(**{name: value})  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("name", "value"), [("steps", 1.5), ("hidden", True), ("epochs", True), ("batch", None), ("lr", "1"), ("tie", 1)]
)
def test_options_of_invalid_types_are_named(name: str, value: object) -> None:
    with pytest.raises(TypeError, match=f"{name}: expected (an integer|a number|True or False), got {value!r}"):
        TrainingOptions(**{name: value})  # type: ignore[arg-type]


def test_too_short_a_text_says_how_much_is_needed(tmp_path: Path) -> None:
    options = TrainingOptions(seq_len=64, batch=32)
    with pytest.raises(ValueError, match="has 612 characters; seq-len 64 and batch 32 need at least 2276"):
        TextTrainer.start(make_model, TEXT, options, tmp_path)
    TextTrainer.start(make_model, "ab" * 1138, options, tmp_path)
    with pytest.raises(ValueError, match="need at least 2276"):
        TextTrainer.start(make_model, "ab" * 1137 + "a", options, tmp_path)
