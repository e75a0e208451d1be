"""Callbacks that show and record the progress of a trainer."""

import json
import math
import struct
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

import tinygrad_lstm as tg
from tinygrad_lstm.train import EarlyStopping, LearningCurves, LogLines, Progress, TensorBoard, Trainer


def make(*callbacks: Any, out: Path | None = None, metrics: Sequence[str] = ("error",)) -> Trainer[tg.nn.Linear]:
    model = tg.nn.Linear(1, 1)
    return Trainer(
        model,
        lambda model, batch, carry: (model(batch).square().mean(), None, batch),
        tg.optim.SGD(model.parameters(), lr=0.125),
        metrics=dict.fromkeys(metrics, lambda out, batch: 0.5),
        callbacks=callbacks,
        out=out,
    )


def test_lines_say_what_matters() -> None:
    lines: list[str] = []
    trainer = make(LogLines(lines.append, seconds=1e9))
    trainer.fit([tg.zeros(1)] * 4, [tg.zeros(1)], epochs=1, validate_every=3, log_every=1)
    names = [[part.split()[0] for part in line.split("  ")] for line in lines]
    assert [name[0] for name in names] == ["step"] * 3  # the first report and two validations
    assert names[0][:4] == ["step", "epoch", "loss", "lr"] and "validation" not in names[0]
    assert lines[1].startswith("step 3  epoch 0.75  loss ") and "  lr 0.12  " in lines[1] and " left  " in lines[1]
    assert lines[1].endswith("  validation error 0.5")


def events_in(folder: Path) -> Iterator[Any]:
    from tensorboardX.proto.event_pb2 import Event

    for path in sorted(folder.iterdir()):
        data = path.read_bytes()
        while data:
            (size,) = struct.unpack_from("<Q", data)
            yield Event.FromString(data[12 : 12 + size])
            data = data[16 + size :]


def test_tensorboard_gets_every_value(tmp_path: Path) -> None:
    pytest.importorskip("tensorboardX", reason="tensorboardX is not installed (the extra 'tensorboard')")
    trainer = make(TensorBoard(tmp_path))
    trainer.fit([tg.zeros(1)] * 2, [tg.zeros(1)], epochs=2)
    trainer.fit([tg.zeros(1)] * 2, [tg.zeros(1)], epochs=3)
    found: dict[str, list[int]] = {}
    for event in events_in(tmp_path):
        for value in event.summary.value:
            found.setdefault(value.tag, []).append(event.step)
    assert found == {name: [2, 4, 6] for name in ("loss", "lr", "per_second", "validation/loss", "validation/error")}


def test_tensorboard_has_the_reports_of_a_run_that_ended_by_an_error(tmp_path: Path) -> None:
    pytest.importorskip("tensorboardX", reason="tensorboardX is not installed (the extra 'tensorboard')")
    trainer = make(TensorBoard(tmp_path))
    data = [tg.zeros(1)] * 2
    with pytest.raises(FloatingPointError):
        trainer.fit([*data, tg.ones(1) * math.inf], steps=5, log_every=1)
    for _ in range(100):  # a thread writes
        steps = {event.step for event in events_in(tmp_path) if event.summary.value}
        if steps == {1, 2}:
            break
        time.sleep(0.1)
    assert steps == {1, 2}
    trainer.model.load_state_dict(tg.nn.Linear(1, 1).state_dict())
    trainer.fit(data, steps=5, log_every=1)
    started = [event.step for event in events_in(tmp_path) if event.HasField("session_log")]
    assert started == [1, 4]  # from these steps on, the earlier file's values are hidden


def test_without_its_writer_tensorboard_says_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "tensorboardX", None)
    with pytest.raises(ImportError, match=r"pip install '.\[tensorboard\]'"):
        TensorBoard(tmp_path)


def test_curves_are_drawn_from_the_first_step_on(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    curves = LearningCurves(tmp_path / "curves.png")
    data = [tg.zeros(1)] * 2
    make(curves, out=tmp_path / "run").fit(data, data, epochs=2)
    assert curves.path.read_bytes().startswith(b"\x89PNG")
    resumed = LearningCurves(tmp_path / "again.png")
    make(resumed, out=tmp_path / "run").fit(data, data, epochs=3, resume=True)
    assert [line["step"] for line in resumed.lines] == [2, 4, 6] and resumed.path.exists()


def test_metrics_are_drawn_below_the_losses(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    data = [tg.zeros(1)] * 2
    heights: list[int] = []
    for names in ([], ["accuracy"], ["accuracy", "spread"]):
        curves = LearningCurves(tmp_path / "curves.png")
        make(curves, metrics=names).fit(data, data, epochs=2)
        heights.append(int.from_bytes(curves.path.read_bytes()[20:24], "big"))
    assert heights[0] < heights[1] < heights[2]


class Keras:
    def on_report(self, trainer: Any, progress: Progress) -> None:
        pass

    def on_epoch_end(self, epoch: int) -> None:
        pass


@pytest.mark.parametrize(
    ("callback", "message"),
    [
        (
            print,
            "none of a callback's methods; expected any of on_start, on_step, on_report, on_validation, on_end",
        ),
        (Keras(), "has on_epoch_end; expected any of on_start"),
        (LogLines, "the callback LogLines is a class; expected an object of it"),
    ],
)
def test_what_would_never_be_called_is_refused(callback: Any, message: str) -> None:
    with pytest.raises(TypeError, match=message):
        make(callback)


@pytest.mark.parametrize(("mode", "sign"), [("max", 1.0), ("min", -1.0)])
def test_early_stopping_follows_any_value_either_way(mode: str, sign: float) -> None:
    values = [math.nan, 1.0, 2.0, 1.5, 3.0, math.nan, 3.0, 4.0]
    stopping = EarlyStopping(patience=2, metric="error", mode=mode)
    trainer = make(stopping)
    trainer.metrics["error"] = lambda out, batch: sign * values[trainer.step - 1]
    assert trainer.fit([tg.zeros(1)], [tg.zeros(1)], epochs=8).epoch == 7
    assert stopping.best == sign * 3.0


def test_the_lines_of_metrics_are_json_also_of_values_that_are_not_finite(tmp_path: Path) -> None:
    trainer = make(out=tmp_path)
    trainer.metrics["error"] = lambda out, batch: math.nan
    assert math.isnan(trainer.fit([tg.zeros(1)], [tg.zeros(1)], epochs=1).validation["error"])
    (line,) = (tmp_path / "metrics.jsonl").read_text(encoding="utf-8").splitlines()
    assert json.loads(line, parse_constant=pytest.fail)["validation_error"] is None
