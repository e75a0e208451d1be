"""The trainer of any model: limits, carry, validation, averages, callbacks, and runs that are resumed bit for bit."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import tinygrad_lstm as tg
from tinygrad_lstm.train import Checkpoint, EarlyStopping, Progress, Summary, Trainer

Batch = tuple[tg.Tensor, tg.Tensor]


class Windows:
    """A series that is continued from batch to batch, shuffled anew in each epoch."""

    def __init__(self, number: int = 5) -> None:
        self.series = [tg.tensor(np.random.default_rng(k).normal(size=(6, 2, 3)).astype("f")) for k in range(number)]

    def epoch(self, number: int, start: int = 0) -> Iterator[Batch]:
        order = np.random.default_rng(number).permutation(len(self.series))
        return ((self.series[k][:-1], self.series[k][1:]) for k in order[start:])

    def __iter__(self) -> Iterator[Batch]:
        return self.epoch(0)

    def __len__(self) -> int:
        return len(self.series)


class Network(tg.nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.lstm = tg.models.LSTM(3, 4)
        self.dropout = tg.nn.Dropout(0.3)
        self.head = tg.nn.Linear(4, 3)

    def forward(self, x: tg.Tensor, state: Any) -> tuple[tg.Tensor, Any]:
        out, state = self.lstm(x, state)
        return self.head(self.dropout(out)), state


def loss(model: Network, batch: Batch, carry: Any) -> tuple[tg.Tensor, Any, tg.Tensor]:
    x, y = batch
    out, state = model(x, carry)
    return tg.mse_loss(out, y), state, out


def make(out: Path | None = None, **options: Any) -> Trainer[Network]:
    tg.manual_seed(7)
    model = Network()
    optimizer = tg.optim.AdamW(model.parameters(), lr=0.02)
    schedule = tg.optim.lr_scheduler.ExponentialLR(optimizer, gamma=0.97)
    return Trainer(model, loss, optimizer, schedule, out=out, clip=1.0, **options)


def assert_same_weights(one: Any, other: Any) -> None:
    mine, theirs = one.state_dict(), other.state_dict()
    assert mine.keys() == theirs.keys()
    for name in mine:
        assert mine[name].tobytes() == theirs[name].tobytes(), name


def test_it_learns_and_returns_what_it_found(tmp_path: Path) -> None:
    trainer = make(tmp_path, metrics={"error": lambda out, batch: (out - batch[1]).abs().mean()})
    before = trainer.evaluate(Windows())
    summary = trainer.fit(Windows(), Windows(), epochs=12)
    after = trainer.evaluate(Windows())
    assert (summary.step, summary.epoch, summary.finished) == (60, 12, True)
    assert after["loss"] < before["loss"] and after.keys() == {"loss", "error"}
    assert summary.validation == after and summary.best == min(
        line["validation_loss"] for line in lines(tmp_path) if line["validation_loss"] is not None
    )
    assert lines(tmp_path)[-1]["validation_error"] == after["error"]


def lines(out: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (out / "metrics.jsonl").read_text().splitlines()]


@pytest.mark.parametrize("options", [{}, {"average": 0.9}, {"accumulate": 2}, {"callbacks": True}])
@settings(max_examples=5, deadline=None)
@given(stops=st.sets(st.integers(1, 16), min_size=1, max_size=3))
def test_stopped_and_resumed_equals_unbroken(
    tmp_path_factory: pytest.TempPathFactory, options: dict[str, Any], stops: set[int]
) -> None:
    def made(out: Path | None) -> Trainer[Network]:
        own = {"callbacks": [EarlyStopping(patience=50)]} if "callbacks" in options else options
        return make(out, **own)

    whole = made(None)
    whole.fit(Windows(), Windows(), steps=17, validate_every=4)
    out, previous = tmp_path_factory.mktemp("broken"), None
    for number, step in enumerate([*sorted(stops), None]):
        trainer = made(out)

        class Stop:
            def on_step(self, trainer: Trainer[Any], step: int | None = step) -> None:
                if trainer.step == step:
                    trainer.stop()

        trainer.callbacks.append(Stop())
        summary = trainer.fit(Windows(), Windows(), steps=17, validate_every=4, resume=number > 0)
        assert summary.finished == (step is None)
        previous = trainer
    assert previous is not None
    assert_same_weights(previous.model, whole.model)
    assert (previous.best, previous.validation) == (whole.best, whole.validation)
    if whole.averaged is not None and previous.averaged is not None:
        assert_same_weights(previous.averaged, whole.averaged)


def test_carry_begins_anew_with_each_epoch_and_is_detached() -> None:
    seen: list[Any] = []

    def noting(model: Network, batch: Batch, carry: Any) -> tuple[tg.Tensor, Any]:
        seen.append(carry)
        value, state, _ = loss(model, batch, carry)
        return value, state

    trainer = make()
    trainer.loss = noting
    trainer.fit(Windows(3), epochs=2)
    assert [carry is None for carry in seen] == [True, False, False] * 2
    assert not any(part.requires_grad for carry in seen if carry is not None for part in carry)


def test_accumulated_batches_make_the_step_of_their_mean() -> None:
    data = [(tg.randn(5, 2, 3), tg.randn(5, 2, 3)) for _ in range(2)]
    both = [tuple(tg.cat(parts, dim=1) for parts in zip(*data, strict=True))]

    def without_carry(model: Network, batch: Batch, carry: Any) -> tuple[tg.Tensor, None]:
        return loss(model, batch, None)[0], None

    weights = []
    for batches, accumulate in ((data, 2), (both, 1)):
        trainer = make(accumulate=accumulate)
        trainer.model.dropout.p = 0.0
        trainer.loss = without_carry
        assert trainer.fit(batches, epochs=3).step == 3
        weights.append(trainer.model.state_dict())
    for name in weights[0]:
        np.testing.assert_allclose(weights[0][name], weights[1][name], rtol=1e-4, atol=1e-6)


def test_limits() -> None:
    assert make().fit(Windows(), steps=7).step == 7
    assert make().fit(Windows(), epochs=2).step == 10
    assert make().fit(Windows(), epochs=9, steps=7).step == 7
    assert make().fit(iter_of(Windows()), epochs=2).step == 10
    summary = make().fit(Windows(), minutes=0.002)
    assert summary.finished and 0.1 < summary.seconds < 60
    trainer = make()
    trainer.fit(Windows(), steps=3)
    assert trainer.fit(Windows(), steps=7).step == 7
    with pytest.raises(ValueError, match="no limit was given; expected epochs, steps or minutes"):
        make().fit(Windows())


def iter_of(windows: Windows) -> Any:
    """The same batches, of which the number is not known before."""

    class Unknown:
        def __iter__(self) -> Iterator[Batch]:
            return iter(windows.epoch(0))

    return Unknown()


def test_an_iterator_that_ends_is_named() -> None:
    with pytest.raises(ValueError, match="there is no batch in epoch 2; expected an iterable that begins anew"):
        make().fit(Windows().epoch(0), epochs=2)


def test_the_best_weights_are_kept_and_loaded(tmp_path: Path) -> None:
    for out in (None, tmp_path):
        trainer = make(out, average=0.5)
        trainer.fit(Windows(), Windows(2), epochs=6)
        best = trainer.best
        trainer.load_best()
        assert trainer.evaluate(Windows(2))["loss"] == best
    with pytest.raises(ValueError, match="nothing was validated yet"):
        make().load_best()


def test_callbacks_are_told() -> None:
    told: list[str] = []

    class Noting:
        def on_start(self, trainer: Trainer[Any]) -> None:
            told.append("start")

        def on_step(self, trainer: Trainer[Any]) -> None:
            told.append(f"step {trainer.step}")

        def on_validation(self, trainer: Trainer[Any], progress: Progress) -> None:
            assert progress.validation_loss == trainer.validation["loss"]
            told.append("validation")

        def on_report(self, trainer: Trainer[Any], progress: Progress) -> None:
            told.append(f"report {progress.step}")

        def on_end(self, trainer: Trainer[Any], summary: Summary) -> None:
            told.append("end")

    make(callbacks=[Noting()]).fit(Windows(3), Windows(2), epochs=1, log_every=2)
    assert told == ["start", "step 1", "step 2", "report 2", "step 3", "validation", "report 3", "end"]


def test_a_run_is_not_resumed_by_a_different_trainer(tmp_path: Path) -> None:
    make(tmp_path).fit(Windows(), steps=2)
    stepwise = make(tmp_path)
    stepwise.schedule = tg.optim.lr_scheduler.StepLR(stepwise.optimizer, 1)
    for trainer, what in (
        (make(tmp_path, average=0.9), "an average of its weights"),
        (make(tmp_path, callbacks=[EarlyStopping()]), "these callbacks"),
        (stepwise, "this schedule"),
        (make(tmp_path, micro_batches=2), "micro_batches"),
    ):
        message = rf"last\.safetensors: its contents are of a different run, .*{what}"
        with pytest.raises(ValueError, match=message):
            trainer.fit(Windows(), steps=4, resume=True)
    with pytest.raises(ValueError, match="needs a folder"):
        make().fit(Windows(), steps=4, resume=True)
    with pytest.raises(FileNotFoundError, match=r"other.last\.safetensors: there is no checkpoint"):
        make(tmp_path / "other").fit(Windows(), steps=4, resume=True)
    assert not (tmp_path / "other").exists()
    assert Checkpoint.load(tmp_path / "last.safetensors").step == 2


def test_metrics_need_outputs() -> None:
    trainer = make(metrics={"error": lambda out, batch: 0.0})
    trainer.loss = lambda model, batch, carry: loss(model, batch, carry)[:2]
    with pytest.raises(ValueError, match=r"the loss must return \(loss, carry, outputs\)"):
        trainer.evaluate(Windows())


@pytest.mark.parametrize(("returned", "what"), [(tg.zeros(()), "a Tensor"), ((1, 2, 3, 4), "4 values")])
def test_a_loss_that_returns_something_different_is_an_error(returned: Any, what: str) -> None:
    trainer = make()
    trainer.loss = lambda model, batch, carry: returned
    for use in (lambda: trainer.fit(Windows(), steps=1), lambda: trainer.evaluate(Windows())):
        with pytest.raises(TypeError, match=rf"the loss returned {what}; expected \(loss, carry\), as"):
            use()


def test_a_schedule_of_a_different_optimizer_is_refused() -> None:
    other = tg.optim.SGD(tg.nn.Linear(1, 1).parameters(), lr=0.1)
    with pytest.raises(ValueError, match="the schedule is of a different optimizer"):
        Trainer(Network(), loss, make().optimizer, tg.optim.lr_scheduler.StepLR(other, 1))
