"""The trainer where runs end, stop, fail and are resumed at odd moments."""

import math
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

import tinygrad_lstm as tg
from tinygrad_lstm.train import Checkpoint, EarlyStopping, Progress, Trainer

DATA = [tg.tensor([[float(k), 1.0]]) for k in range(1, 6)]


class Unsized:
    """Batches whose number is not known before."""

    def __iter__(self) -> Iterator[tg.Tensor]:
        return iter(DATA)


def loss(model: tg.nn.Linear, batch: tg.Tensor, carry: Any) -> tuple[tg.Tensor, None]:
    return tg.mse_loss(model(batch), batch.sum(1, keepdim=True)), None


def make(out: Path | None = None, lr: float = 0.05, plateau: bool = False, **options: Any) -> Trainer[tg.nn.Linear]:
    tg.manual_seed(3)
    model = tg.nn.Linear(2, 1)
    optimizer = tg.optim.Adam(model.parameters(), lr=lr)
    schedule = tg.optim.lr_scheduler.ReduceLROnPlateau(optimizer, factor=0.5, patience=0) if plateau else None
    return Trainer(model, loss, optimizer, schedule, out=out, **options)


def state_of(trainer: Trainer[Any]) -> Any:
    """What a run must have in common with one that was never interrupted."""
    made = trainer.checkpoint()
    weights = {name: array.tobytes() for name, array in made.weights.items()}
    return weights, made.step, made.epoch, made.batch, made.best, made.due, made.schedule, made.callbacks


class At:
    """A callback that does something once, in an event of a step."""

    def __init__(self, event: str, step: int, action: Any) -> None:
        setattr(self, event, lambda trainer, *arguments: self._act(trainer))
        self._step, self._action, self._done = step, action, False

    def _act(self, trainer: Trainer[Any]) -> None:
        if trainer.step == self._step and not self._done:
            self._done = True
            self._action(trainer)


def fail(trainer: Trainer[Any]) -> None:
    raise RuntimeError("a fault of the callback")


# -- stopping ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("step", [3, 5, 10])
@pytest.mark.parametrize("batches", [DATA, Unsized()])
def test_a_cancelled_validation_is_made_up_for(tmp_path: Path, batches: Any, step: int) -> None:
    """Otherwise early stopping and schedules would count differently; in the last step the run would not be whole."""
    whole = make(callbacks=[EarlyStopping(patience=9)], plateau=True)
    whole.fit(batches, DATA, steps=10)
    trainer = make(tmp_path, callbacks=[EarlyStopping(patience=9), At("on_step", step, Trainer.stop)], plateau=True)
    summary = trainer.fit(batches, DATA, steps=10)
    assert (summary.step, summary.finished) == (step, False)
    for again in (trainer, make(tmp_path, callbacks=[EarlyStopping(patience=9)], plateau=True)):
        assert again.fit(batches, DATA, steps=10, resume=again is not trainer).finished
        assert state_of(again) == state_of(whole)


def test_early_stopping_is_saved_as_the_end_of_the_run(tmp_path: Path) -> None:
    trainer = make(tmp_path, lr=0.0, callbacks=[EarlyStopping(patience=2)])
    assert trainer.fit(DATA, DATA, epochs=50).epoch == 3
    resumed = make(tmp_path, lr=0.0, callbacks=[EarlyStopping(patience=2)])
    summary = resumed.fit(DATA, DATA, epochs=50, resume=True)
    assert (summary.epoch, summary.finished) == (3, True) and state_of(resumed) == state_of(trainer)
    patient = make(tmp_path, lr=0.0, callbacks=[EarlyStopping(patience=4)])
    assert patient.fit(DATA, DATA, epochs=50, resume=True).epoch == 5


@pytest.mark.parametrize("event", ["on_step", "on_report"])
def test_a_run_that_a_callback_ends_is_validated_and_saved(tmp_path: Path, event: str) -> None:
    trainer = make(tmp_path, callbacks=[At(event, 3, Trainer.finish)])
    summary = trainer.fit(DATA, DATA, epochs=50, log_every=1)
    assert (summary.step, summary.finished) == (3, True)
    assert summary.best == trainer.evaluate(DATA)["loss"] and Checkpoint.load(tmp_path / "last.safetensors").step == 3


def test_the_time_of_a_run_goes_on_when_it_is_resumed(tmp_path: Path) -> None:
    assert make(tmp_path).fit(DATA, DATA, minutes=0.005).finished
    saved = Checkpoint.load(tmp_path / "last.safetensors")
    assert saved.seconds >= 0.3
    resumed = make(tmp_path)
    assert resumed.fit(DATA, DATA, minutes=0.005, resume=True).step == saved.step
    assert resumed.fit(DATA, DATA, minutes=0.006).step > saved.step
    # A run that its time ends is saved where it ended, though no validation was due.
    assert make(tmp_path / "long").fit(DATA, DATA, minutes=0.005, validate_every=10**9, log_every=1).best is not None


# -- batches ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("accumulate", [1, 2])
@pytest.mark.parametrize("step", range(1, 7))
def test_batches_of_unknown_number_are_resumed(tmp_path: Path, step: int, accumulate: int) -> None:
    whole = make(accumulate=accumulate)
    whole.fit(Unsized(), DATA, epochs=2)
    assert whole.epoch == 2
    make(tmp_path, accumulate=accumulate, callbacks=[At("on_step", step, Trainer.stop)]).fit(Unsized(), DATA, epochs=2)
    resumed = make(tmp_path, accumulate=accumulate)
    assert resumed.fit(Unsized(), DATA, epochs=2, resume=True).finished
    assert state_of(resumed) == state_of(whole)


def test_each_step_is_reported_once() -> None:
    steps: list[int] = []

    class Noting:
        def on_report(self, trainer: Trainer[Any], progress: Progress) -> None:
            steps.append(progress.step)

    make(callbacks=[Noting()]).fit(Unsized(), DATA, steps=10, validate_every=5, log_every=5)
    assert steps == [5, 10]


def test_a_validation_that_is_used_up_is_refused_before_training() -> None:
    trainer = make()
    for validation, message in (
        (iter(DATA), "validation is a list_iterator, which the first validation uses up; expected an iterable that"),
        ((batch for batch in DATA), "validation is a generator, which the first"),
        ([], "validation is empty; expected at least one batch, or None"),
    ):
        with pytest.raises(ValueError, match=message):
            trainer.fit(DATA, validation, epochs=2)
    assert trainer.step == 0


# -- schedules that follow the validation -----------------------------------------------------------------------------


def test_a_plateau_reduces_the_rate_after_validations(tmp_path: Path) -> None:
    trainer = make(tmp_path, lr=1e-30, plateau=True)
    trainer.fit(DATA, DATA, epochs=3)
    resumed = make(tmp_path, lr=1e-30, plateau=True)
    resumed.fit(DATA, DATA, epochs=4, resume=True)
    trainer.fit(DATA, DATA, epochs=4)
    assert state_of(resumed) == state_of(trainer)
    fast = make(lr=1e3, plateau=True)  # its loss rises, so that each validation halves the rate
    fast.fit(DATA, DATA, epochs=1)
    before = fast.optimizer.param_groups[0]["lr"]
    fast.fit([10 * batch for batch in DATA], [1e6 * batch for batch in DATA], epochs=2)
    assert (before, fast.optimizer.param_groups[0]["lr"]) == (1e3, 5e2)
    with pytest.raises(ValueError, match="the schedule is a ReduceLROnPlateau; expected `validation`"):
        make(plateau=True).fit(DATA, epochs=1)


# -- errors -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("event", ["on_step", "on_validation", "on_report"])
@pytest.mark.parametrize("resume", [False, True])
def test_an_error_of_a_callback_changes_nothing_by_half(tmp_path: Path, event: str, resume: bool) -> None:
    def followers() -> list[Any]:
        return [EarlyStopping(patience=9)]

    whole = make(callbacks=followers(), plateau=True)
    whole.fit(DATA, DATA, epochs=4)
    trainer = make(tmp_path, callbacks=[*followers(), At(event, 10, fail)], plateau=True)
    with pytest.raises(RuntimeError, match="a fault of the callback"):
        trainer.fit(DATA, DATA, epochs=4)
    if resume:
        trainer = make(tmp_path, callbacks=followers(), plateau=True)
    assert trainer.fit(DATA, DATA, epochs=4, resume=resume).finished
    assert state_of(trainer) == state_of(whole)


def test_a_full_disk_changes_nothing_by_half(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = make(callbacks=[EarlyStopping(patience=9)], plateau=True)
    whole.fit(DATA, DATA, epochs=4)
    trainer = make(tmp_path, callbacks=[EarlyStopping(patience=9)], plateau=True)
    assert trainer.folder is not None

    def full(*arguments: object) -> None:
        raise OSError(28, "No space left on device")

    trainer.fit(DATA, DATA, epochs=1)
    monkeypatch.setattr(trainer.folder, "save", full)
    with pytest.raises(OSError, match="No space left"):
        trainer.fit(DATA, DATA, epochs=4)
    monkeypatch.undo()
    trainer.fit(DATA, DATA, epochs=4)
    assert state_of(trainer) == state_of(whole)
    assert Checkpoint.load(tmp_path / "best.safetensors").best == trainer.best


def test_a_request_to_end_does_not_outlive_an_error() -> None:
    def finish_and_fail(trainer: Trainer[Any]) -> None:
        trainer.finish()
        trainer.stop()
        fail(trainer)

    trainer = make(callbacks=[At("on_step", 2, finish_and_fail)])
    with pytest.raises(RuntimeError):
        trainer.fit(DATA, steps=9)
    assert trainer.fit(DATA, steps=9).step == 9


def test_the_best_average_is_loaded_as_what_is_evaluated() -> None:
    trainer = make(lr=1.0, average=0.5)
    trainer.fit(DATA, DATA, epochs=9)
    trainer.load_best()
    assert trainer.evaluate(DATA)["loss"] == trainer.best


def test_a_stop_while_a_callback_ends_the_run_leaves_the_validation_due() -> None:
    def end(trainer: Trainer[Any]) -> None:
        trainer.finish()
        trainer.stop()

    trainer = make(callbacks=[At("on_step", 3, end)])
    assert not trainer.fit(DATA, DATA, steps=9).finished and trainer.due
    assert trainer.fit(DATA, DATA, steps=3).finished and trainer.best is not None


@pytest.mark.parametrize(
    "fault",
    [
        {"optimizer": lambda state: {**state, "param_groups": [{**state["param_groups"][0], "eps": 0.5}]}},
        {"callbacks": lambda callbacks: [[callbacks[0][0], {}]]},
        {"average": lambda average: dict.fromkeys(average, "?")},
        {"random_state": lambda state: {"bit_generator": "none"}},
    ],
    ids=lambda fault: next(iter(fault)),
)
def test_a_checkpoint_that_cannot_be_restored_changes_nothing(fault: dict[str, Any]) -> None:
    other = make(callbacks=[EarlyStopping(patience=9)], average=0.5, plateau=True)
    other.fit(DATA, DATA, epochs=2)
    checkpoint = other.checkpoint()
    damaged = replace(checkpoint, **{name: change(getattr(checkpoint, name)) for name, change in fault.items()})
    trainer, twin = (make(callbacks=[EarlyStopping(patience=9)], average=0.5, plateau=True) for _ in range(2))
    trainer.fit(DATA, DATA, epochs=1)
    before = state_of(trainer)
    with pytest.raises((LookupError, TypeError, ValueError)):
        trainer.restore(damaged)
    assert state_of(trainer) == before
    trainer.fit(DATA, DATA, epochs=3)  # as a run that has seen no other checkpoint
    twin.fit(DATA, DATA, epochs=3)
    assert state_of(trainer) == state_of(twin)


def test_without_an_average_the_best_checkpoint_is_the_last_one(tmp_path: Path) -> None:
    make(tmp_path).fit(DATA, DATA, epochs=1)
    assert (tmp_path / "best.safetensors").read_bytes() == (tmp_path / "last.safetensors").read_bytes()


# -- divergence --------------------------------------------------------------------------------------------------------


def spoil(trainer: Trainer[tg.nn.Linear]) -> None:
    with tg.no_grad():
        trainer.model.weight.fill_(math.nan)


@pytest.mark.parametrize(("validation", "what"), [(None, "largest weight"), (DATA, "loss")])
def test_what_stands_after_a_divergence_is_usable(tmp_path: Path, validation: Any, what: str) -> None:
    """Also if only the last step of an epoch spoils the weights, of which no loss tells."""
    unbroken = make(tmp_path / "unbroken")
    unbroken.fit(DATA, validation, epochs=3)
    trainer = make(tmp_path / "a", callbacks=[At("on_step", 10, spoil)])
    with pytest.raises(FloatingPointError, match=f"the {what} is nan at step 10: training diverged; try a smaller lr"):
        trainer.fit(DATA, validation, epochs=3)
    assert Checkpoint.load(tmp_path / "a" / "last.safetensors").step == 5
    if validation is not None:
        trainer.load_best()
        assert trainer.model.weight.isfinite().all().item()
    resumed = make(tmp_path / "a")
    resumed.fit(DATA, validation, epochs=3, resume=True)
    assert state_of(resumed) == state_of(unbroken)


def test_a_run_that_diverges_at_once_leaves_no_folder(tmp_path: Path) -> None:
    (tmp_path / "mine").mkdir()
    for out in (tmp_path / "new" / "run", tmp_path / "mine"):
        with pytest.raises(FloatingPointError, match="the loss is nan at step 3"):
            make(out, callbacks=[At("on_step", 2, spoil)]).fit(DATA, epochs=1, log_every=1)
    assert [path.name for path in tmp_path.iterdir()] == ["mine"]
