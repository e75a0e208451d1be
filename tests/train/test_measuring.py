"""What measures a run: evaluation, bits, and the file of metrics."""

import math
import sys
import tracemalloc
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import tinygrad_lstm as tg
from tinygrad_lstm.metrics import plot_metrics, read_metrics
from tinygrad_lstm.models import CharLM
from tinygrad_lstm.train import (
    evaluate,
    nats_to_bits,
)


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

    def interrupt(*args: object) -> None:
        assert not any(module.training for module in model.modules())
        raise KeyboardInterrupt

    model.loss = interrupt  # type: ignore[assignment, method-assign]
    with pytest.raises(KeyboardInterrupt):
        evaluate(model, ids)
    assert {name: module.training for name, module in model.named_modules()} == modes


@given(st.integers(2, 60), st.integers(1, 20))
def test_evaluate_in_windows_equals_evaluate_whole(length: int, seq_len: int) -> None:
    model = CharLM(5, 3, 4, dropout=0.5)
    ids = np.random.default_rng(length).integers(0, 5, length)
    whole, _ = model.eval().loss(tg.tensor(ids[:-1, None]), tg.tensor(ids[1:, None]))
    assert evaluate(model, ids, batch=1, seq_len=seq_len) == pytest.approx(whole.item(), rel=1e-5)


def test_evaluate_makes_one_batch_at_a_time() -> None:
    model, ids = CharLM(3, 2, 2), np.zeros(2**21, np.uint8)
    model.loss = lambda ids, targets, state: (tg.tensor(0.5), None)  # type: ignore[assignment, method-assign]
    tracemalloc.start()
    try:
        assert evaluate(model, ids) == 0.5
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < len(ids)  # bytes; all batches together have 16 for each character


def test_evaluate_needs_two_characters() -> None:
    with pytest.raises(ValueError, match="at least 2 characters, got 1"):
        evaluate(CharLM(3, 2, 2), np.zeros(1, np.int64))


def test_bits() -> None:
    assert nats_to_bits(math.log(8)) == pytest.approx(3.0)


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
def test_invalid_metrics_are_named_with_their_line(tmp_path: Path, odd: bytes) -> None:
    path = tmp_path / "metrics.jsonl"
    path.write_bytes(b'{"step": 1, "loss": 2, "validation_loss": null}\n' + odd + b"\n")
    with pytest.raises(ValueError, match=r"metrics\.jsonl: line 2 is not a line of metrics"):
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
