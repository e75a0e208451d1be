"""The training loop: it learns, and a run that was interrupted ends as one that was not."""

import contextlib
import json
import math
import sys
from collections.abc import Iterator
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from emulated_backend import EMULATED
from hypothesis import given, settings
from hypothesis import strategies as st
from kernels_on_host import needs_compiler
from strict_backend import STRICT, StrictBackend

import tinygrad_lstm as tg
from tinygrad_lstm.data import Vocabulary
from tinygrad_lstm.io import checkpoint as checkpoint_file
from tinygrad_lstm.metrics import plot_metrics, read_metrics
from tinygrad_lstm.models import CharLM
from tinygrad_lstm.random import random_state, set_random_state
from tinygrad_lstm.train import (
    Checkpoint,
    Progress,
    Trainer,
    TrainingOptions,
    evaluate,
    nats_to_bits,
)

TEXT = "the quick brown fox jumps over the lazy dog, and the dog sleeps on.\n" * 9
# 551 characters to train on in 3 streams of 183, of which a window is 10 at most: 19 windows an epoch.
SMALL = {"embedding": 3, "hidden": 5, "layers": 2, "dropout": 0.3, "seq_len": 10, "batch": 3, "warmup": 4}
STEPS = 24
SMALL_OPTIONS = TrainingOptions(**SMALL, steps=STEPS, validate_every=7, log_every=3)  # type: ignore[arg-type]


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


def rates(out: Path) -> dict[int, float]:
    """The learning rate at each step that was reported."""
    return {line["step"]: line["lr"] for line in read_metrics(out / "metrics.jsonl")}


def test_the_rate_rises_and_falls_to_a_tenth_over_the_steps_asked_for(tmp_path: Path) -> None:
    assert start(tmp_path, lr=0.02, log_every=1).run().finished
    rise, fall = SMALL["warmup"], STEPS - SMALL["warmup"]
    expected = [0.02 * (1 + (rise - 1) * k / rise) / rise for k in range(rise)]
    expected += [0.02 - 0.018 * k / fall for k in range(fall)]
    np.testing.assert_allclose(list(rates(tmp_path).values()), expected, rtol=1e-12)


def test_given_more_steps_the_rate_goes_on_from_the_last_one(tmp_path: Path) -> None:
    trainer = start(tmp_path, lr=0.02, log_every=1)
    trainer.run(lambda progress: trainer.stop() if progress.step == 14 else None)
    assert resume(tmp_path, steps=40).run().finished
    reached = 0.02 - 0.018 * 10 / 20
    found = [rate for step, rate in rates(tmp_path).items() if step > 14]
    np.testing.assert_allclose(found, [reached + (0.002 - reached) * k / 26 for k in range(26)], rtol=1e-9)
    assert resume(tmp_path, steps=43).run().finished
    np.testing.assert_allclose([rates(tmp_path)[step] for step in (41, 42, 43)], 0.002, rtol=1e-9)


@pytest.mark.parametrize("steps", [None, 10, STEPS])
def test_a_finished_run_is_not_resumed_without_more_steps(unbroken: Path, steps: int | None) -> None:
    before = {path: path.read_bytes() for path in unbroken.iterdir()}
    with pytest.raises(ValueError, match=f"the run has done {STEPS} steps already"):
        resume(unbroken, steps)
    assert {path: path.read_bytes() for path in unbroken.iterdir()} == before


def test_a_run_is_resumed_on_its_own_text_alone(unbroken: Path) -> None:
    checkpoint = Checkpoint.load(unbroken / "last.safetensors")
    with pytest.raises(ValueError, match="the text is not the one"):
        Trainer.resume(make_model, TEXT + "x", checkpoint, unbroken, STEPS + 1)


def test_weights_that_are_not_finite_resume_without_a_warning(unbroken: Path, tmp_path: Path) -> None:
    checkpoint = Checkpoint.load(unbroken / "last.safetensors")
    output = np.copysign(np.float32(np.inf), checkpoint.weights["output.weight"])
    damaged = replace(checkpoint, weights={**checkpoint.weights, "output.weight": output})
    trainer = Trainer.resume(make_model, TEXT, damaged, tmp_path, STEPS + 1)
    with pytest.raises(FloatingPointError, match="the loss is nan"):
        trainer.run()


def test_weights_that_do_not_fit_are_refused(unbroken: Path) -> None:
    checkpoint = Checkpoint.load(unbroken / "last.safetensors")
    with pytest.raises(ValueError, match=r"last\.safetensors: its contents do not fit .*lstm\.weight_hh_l0"):
        Trainer.resume(lambda characters, options: CharLM(characters, 3, 6, 2), TEXT, checkpoint, unbroken, STEPS + 1)


def test_options_of_a_run_stay() -> None:
    assert SMALL_OPTIONS.continued({"steps": 99, "hidden": 5}).steps == 99
    assert SMALL_OPTIONS.continued({}) == SMALL_OPTIONS
    with pytest.raises(ValueError, match="hidden: the run to resume has 5, but 6 was given"):
        SMALL_OPTIONS.continued({"hidden": 6})


# -- training ---------------------------------------------------------------------------------------------------------


def test_it_learns_and_the_best_checkpoint_is_the_best(tmp_path: Path) -> None:
    trainer = start(tmp_path, dropout=0.0, hidden=24, layers=1, lr=0.03, steps=120, validate_every=20)
    summary = trainer.run()
    lines = read_metrics(trainer.metrics_path)
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
    # Rises in 4 steps from a quarter of 5e-3, then falls in 20 to a tenth: the rates of steps 3, 6 and 7.
    expected = [5e-3 * 0.625, 5e-3 * (1 - 0.9 / 20), 5e-3 * (1 - 0.9 * 2 / 20)]
    assert [line["lr"] for line in lines[:3]] == pytest.approx(expected)


def test_the_same_seed_gives_the_same_run_and_another_another(unbroken: Path, tmp_path: Path) -> None:
    start(tmp_path / "same").run()
    assert_same_run(unbroken, tmp_path / "same")
    start(tmp_path / "other", seed=1).run()
    a, b = (Checkpoint.load(folder / "last.safetensors").weights for folder in (unbroken, tmp_path / "other"))
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
            assert trainer.saved == Checkpoint.load(trainer.last_path).step == Checkpoint.load(trainer.best_path).step
            assert not trainer.plot_path.exists()
            trainer.stop()

    trainer.run(look)
    assert seen == [3, 6, 7]
    assert [line["step"] for line in read_metrics(trainer.metrics_path)] == seen
    # Stopped before it is validated, a run leaves no best checkpoint; that of the earlier one is not its own.
    trainer = start(tmp_path, seed=2)
    trainer.run(lambda progress: trainer.stop())
    assert Checkpoint.load(trainer.last_path).step == 3 and not trainer.best_path.exists()


def test_a_stop_amid_a_validation_gives_it_up_and_saves(tmp_path: Path) -> None:
    trainer = start(tmp_path)
    windows = 0

    def loss(ids: tg.Tensor, *args: Any) -> Any:
        nonlocal windows
        if not trainer.model.training:
            windows += 1
            trainer.stop()
        return CharLM.loss(trainer.model, ids, *args)

    trainer.model.loss = loss  # type: ignore[method-assign]
    trainer._validation = np.tile(trainer._validation, 100)
    summary = trainer.run()
    assert windows == 1
    assert (summary.step, summary.finished, summary.best) == (7, False, None)
    assert Checkpoint.load(trainer.last_path).step == 7 and trainer.model.training
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
    trainer = Trainer.start(on_device, TEXT, options, tmp_path)
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
        Trainer.start(lambda *args: make_model(*args).to(device), TEXT, SMALL_OPTIONS, tmp_path / str(k)).run()
        weights.append(Checkpoint.load(tmp_path / str(k) / "last.safetensors").weights)
    for name, value in weights[0].items():
        np.testing.assert_array_equal(value, weights[1][name])


@pytest.mark.parametrize("place", ["forward", "backward", "step"])
def test_a_device_without_memory_spares_model_and_checkpoint(
    tmp_path: Path, place: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    options = TrainingOptions(**{**vars(SMALL_OPTIONS), "steps": 12})
    trainer = Trainer.start(lambda *args: make_model(*args).to("strict"), TEXT, options, tmp_path)

    def fail(*arguments: object) -> object:
        raise MemoryError("Out of memory allocating 5,368,709,120 bytes")

    def fill_up(progress: Progress) -> None:
        if progress.validation_loss is None:  # nothing was saved yet
            return
        name = {"forward": "lstm_forward", "backward": "lstm_backward", "step": "adam_update"}[place]
        monkeypatch.setattr(STRICT, name, fail)
        saved.update(trainer.model.state_dict())

    saved: dict[str, object] = {}
    doing = {"forward": "lstm", "backward": "backward", "step": "Adam.step"}[place]
    with pytest.raises(MemoryError, match=rf"{doing}: 'strict' has no memory left \(Out of.*\); make the batch"):
        trainer.run(fill_up)
    assert saved
    kept = Checkpoint.load(tmp_path / "last.safetensors")
    for name, value in trainer.model.state_dict().items():
        np.testing.assert_array_equal(value, saved[name])
        np.testing.assert_array_equal(value, kept.weights[name])
    monkeypatch.undo()  # there is room again
    trainer.run()
    assert trainer.step == options.steps
    finished = Checkpoint.load(tmp_path / "last.safetensors")
    Trainer.resume(make_model, TEXT, finished, tmp_path, options.steps + 1).run()  # every counter is the run's


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
    [
        ("steps", 0),
        ("hidden", 0),
        ("batch", -1),
        ("lr", 0.0),
        ("lr", math.nan),
        ("lr", math.inf),
        ("dropout", 1.0),
        ("seed", -1),
    ],
)
def test_options_out_of_range_are_named(name: str, value: float) -> None:
    with pytest.raises(ValueError, match=f"{name}: expected .*, got {value}"):
        TrainingOptions(**{name: value})  # type: ignore[arg-type]


@pytest.mark.parametrize(("name", "value"), [("steps", 1.5), ("hidden", True), ("batch", None), ("lr", "1")])
def test_options_of_odd_types_are_named(name: str, value: object) -> None:
    with pytest.raises(TypeError, match=f"{name}: expected (an integer|a number), got {value!r}"):
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


def test_evaluate_leaves_each_module_in_its_mode() -> None:
    model, ids = CharLM(7, 2, 3), np.arange(50) % 7
    model.lstm.eval()
    modes = {name: module.training for name, module in model.named_modules()}
    assert set(modes.values()) == {True, False}
    evaluate(model, ids)
    assert {name: module.training for name, module in model.named_modules()} == modes

    def interrupt() -> None:
        assert not any(module.training for module in model.modules())
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        evaluate(model, ids, before_window=interrupt)
    assert {name: module.training for name, module in model.named_modules()} == modes


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


def test_a_trainer_that_was_stopped_goes_on(unbroken: Path, tmp_path: Path) -> None:
    trainer = start(tmp_path)
    trainer.stop()
    assert trainer.run().step == 0
    assert trainer.run(lambda progress: trainer.stop() if progress.step == 9 else None).step == 9
    assert trainer.run().finished
    assert_same_run(unbroken, tmp_path)


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


def test_the_version_tells_what_a_checkpoint_holds() -> None:
    """Whoever changes this raises `checkpoint.VERSION`, so that older checkpoints are refused as what they are."""
    held = [field.name for kind in (Checkpoint, TrainingOptions) for field in fields(kind)]
    assert (checkpoint_file.VERSION, " ".join(held)) == (
        2,
        "options vocabulary text_digest sources step best random_state weights optimizer schedule state path "
        "steps embedding hidden layers forget_bias dropout seq_len batch lr warmup clip seed validate_every log_every",
    )


def test_a_checkpoint_of_something_else_is_refused(tmp_path: Path) -> None:
    checkpoint_file.save(tmp_path / "a", {"weights": {}})
    with pytest.raises(ValueError, match="a: a checkpoint, but not one of a training run"):
        Checkpoint.load(tmp_path / "a")


def places(value: Any, place: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """Where the values stand, those that hold others included; of many arrays side by side, the first three."""
    if place:
        yield place
    parts = list(value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ())
    for key, part in parts[:3] if all(isinstance(part, np.ndarray) for _, part in parts) else parts:
        yield from places(part, (*place, key))


def with_part(value: Any, place: tuple[Any, ...], part: Any) -> Any:
    if not place:
        return part
    copy = value.copy()
    copy[place[0]] = with_part(value[place[0]], place[1:], part)
    return copy


ODD = [None, [None], {}, "x", -1, 3, 1.5, math.nan, 10**30, np.ones((2, 3)), np.zeros(0, bool)]


@pytest.fixture(scope="module")
def saved(unbroken: Path) -> dict[str, Any]:
    return checkpoint_file.load(unbroken / "last.safetensors")


def test_odd_contents_are_refused_or_do_no_harm(saved: dict[str, Any], tmp_path: Path) -> None:
    path, refused, taken = tmp_path / "last.safetensors", set(), set()
    # Sizes with which there is not the memory for the model.
    huge = [("options", name) for name in ("hidden", "embedding", "layers", "steps")]
    for place in places(saved):
        for value in ODD:
            if place in huge and isinstance(value, int) and value > 3:
                continue
            checkpoint_file.save(path, with_part(saved, place, value))
            try:
                trainer = resume(tmp_path, STEPS + 1)
            except ValueError as error:
                assert str(error).startswith((f"{path}: ", "the run has done", "the text is not")), (place, value)
                refused.add(place)
            else:
                taken.add(place)
                with contextlib.suppress(FloatingPointError):
                    trainer.run()
    assert {("options",), ("step",), ("state", 0), ("weights", "embedding.weight"), ("optimizer", "state")} <= refused
    never = {place[0] for place in taken} & {"vocabulary", "text_digest", "state", "schedule", "weights"}
    assert not never


def test_any_of_the_contents_missing_is_named(saved: dict[str, Any], tmp_path: Path) -> None:
    for name in saved:
        path = tmp_path / name
        checkpoint_file.save(path, {key: value for key, value in saved.items() if key != name})
        with pytest.raises(ValueError, match=f"{name}: a checkpoint, but .*missing or unexpected: {name}"):
            Checkpoint.load(path)
    checkpoint_file.save(tmp_path / "more", {**saved, "more": 1})
    with pytest.raises(ValueError, match=r"more: a checkpoint, but .*missing or unexpected: more"):
        Checkpoint.load(tmp_path / "more")


def test_metrics_cut_off_by_a_kill_are_read_up_to_there(tmp_path: Path) -> None:
    lines = '{"step": 1, "loss": 2, "validation_loss": null}\n{"step": 2, "loss": 1.5, "validation_loss": 1}\n{"st'
    (tmp_path / "metrics.jsonl").write_text(lines)
    assert [line["step"] for line in read_metrics(tmp_path / "metrics.jsonl")] == [1, 2]
    assert read_metrics(tmp_path / "none.jsonl") == []


@pytest.mark.parametrize(
    "odd",
    [
        b"",
        b"{}",
        b"3",
        b"\xff\xfe",
        b"[" * 100_000,
        b'{"step": "1", "loss": 2, "validation_loss": null}',
        b'{"step": 1, "loss": 2}',
        b'{"step": 1, "loss": 2, "validation_loss": []}',
    ],
)
def test_odd_metrics_are_named_with_their_line(tmp_path: Path, odd: bytes) -> None:
    path = tmp_path / "metrics.jsonl"
    path.write_bytes(b'{"step": 1, "loss": 2, "validation_loss": null}\n' + odd + b"\n")
    with pytest.raises(ValueError, match=r"metrics\.jsonl: line 2 is no line of metrics"):
        read_metrics(path)


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
