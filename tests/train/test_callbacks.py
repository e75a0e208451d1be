"""Callbacks that show and record the progress of a trainer."""

import struct
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

import tinygrad_lstm as tg
from tinygrad_lstm.train import LearningCurves, LogLines, TensorBoard, Trainer


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


def test_tensorboard_gets_every_value(tmp_path: Path) -> None:
    pytest.importorskip("tensorboardX", reason="tensorboardX is not installed (the extra 'tensorboard')")
    from tensorboardX.proto.event_pb2 import Event

    trainer = make(TensorBoard(tmp_path))
    trainer.fit([tg.zeros(1)] * 2, [tg.zeros(1)], epochs=2)
    trainer.fit([tg.zeros(1)] * 2, [tg.zeros(1)], epochs=3)
    found: dict[str, list[int]] = {}
    for path in sorted(tmp_path.iterdir()):
        data = path.read_bytes()
        while data:
            (size,) = struct.unpack_from("<Q", data)
            event = Event.FromString(data[12 : 12 + size])
            data = data[16 + size :]
            for value in event.summary.value:
                found.setdefault(value.tag, []).append(event.step)
    assert found == {name: [2, 4, 6] for name in ("loss", "lr", "per_second", "validation/loss", "validation/error")}


def test_without_its_writer_tensorboard_says_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "tensorboardX", None)
    with pytest.raises(ImportError, match=r"pip install .tinygrad-lstm\[tensorboard\]"):
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
