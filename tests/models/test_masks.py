"""Steps that a mask skips: the others are taken as if these were not there."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnxruntime
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import tinygrad_lstm as tg
from tinygrad_lstm.models import GRU, LSTM, RNN, LSTMCell, Recurrent

LAYERS = {
    "LSTM": lambda: LSTM(3, 5),
    "both directions": lambda: LSTM(3, 5, num_layers=2, bidirectional=True),
    "batch first": lambda: LSTM(3, 5, batch_first=True),
    "peepholes": lambda: LSTM(3, 5, peephole=True),
    "GRU": lambda: GRU(3, 5),
    "GRU, reset before": lambda: GRU(3, 5, reset_after=False),
    "RNN": lambda: RNN(3, 5),
    "cells": lambda: Recurrent((LSTMCell(3, 5), LSTMCell(3, 5))),
    "cells, step by step": lambda: Recurrent(LSTMCell(3, 5), compiled=False),
}


def taken_alone(layer: tg.nn.Module, x: tg.Tensor, mask: np.ndarray) -> tg.Tensor:
    """The outputs (T, B, ...) of the steps that are taken, each sequence by itself; others are zeros."""
    columns = []
    for b in range(mask.shape[1]):
        keep = np.flatnonzero(mask[:, b])
        part = x[keep, b : b + 1]
        if getattr(layer, "batch_first", False):
            out = layer(part.transpose(0, 1))[0].transpose(0, 1) if len(keep) else None
        else:
            out = layer(part)[0] if len(keep) else None
        places = {t: k for k, t in enumerate(keep)}
        zero = x[0, 0, 0] * tg.zeros(10 if getattr(layer, "bidirectional", False) else 5, device=x.device)
        columns.append(tg.stack([zero if out is None or t not in places else out[places[t], 0] for t in range(len(x))]))
    return tg.stack(columns, dim=1)


@pytest.mark.parametrize("name", LAYERS)
@given(mask=st.lists(st.lists(st.booleans(), min_size=3, max_size=3), min_size=1, max_size=6))
@settings(max_examples=6)
def test_skipped_steps_are_as_if_they_were_not_there(name: str, mask: list[list[bool]], device: str) -> None:
    tg.manual_seed(0)
    layer, flags = LAYERS[name]().to(device), np.array(mask)
    x = tg.randn(*flags.shape, 3).to(device).requires_grad_()
    weights = tg.randn(*flags.shape, 10 if getattr(layer, "bidirectional", False) else 5).to(device)
    weights = weights * tg.tensor(flags[..., None].astype("float32"), device=device)
    first = getattr(layer, "batch_first", False)
    out, _ = layer(x.transpose(0, 1), mask=flags.T) if first else layer(x, mask=flags)
    out = out.transpose(0, 1) if first else out
    alone = taken_alone(layer, x, flags)
    own, theirs = (
        tg.grad((each * weights).sum(), [x, *layer.parameters()], allow_unused=True) for each in (out, alone)
    )
    kept = out.detach().cpu().numpy() * flags[..., None]
    np.testing.assert_allclose(kept, alone.detach().cpu().numpy() * flags[..., None], atol=2e-6)
    for mine, other in zip(own, theirs, strict=True):
        expected = tg.zeros_like(mine) if other is None else other
        np.testing.assert_allclose(mine.cpu().numpy(), expected.cpu().numpy(), atol=2e-5)


def test_a_skipped_step_keeps_output_and_state() -> None:
    layer, x = GRU(3, 5), tg.randn(4, 1, 3)
    start = tg.randn(1, 1, 5)
    out, h = layer(x, start, mask=[[False], [True], [False], [False]])
    assert out[0].equal(start[0])
    assert out[1].equal(out[2])
    assert out[1].equal(out[3])
    assert h[0].equal(out[3])


def test_a_mask_is_not_taken_for_lengths() -> None:
    """Their flags have the same shapes, and a step of a plain layer is compiled once for all layers."""
    layer, x = GRU(4, 6), tg.randn(3, 2, 4)
    out, _ = layer(x, lengths=[1, 3])
    assert not out[1:, 0].detach().numpy().any()
    held, _ = layer(x, mask=[[True, True], [False, True], [False, True]])
    assert held[2, 0].equal(held[0, 0])
    out, _ = layer(x, lengths=[1, 3])
    assert not out[1:, 0].detach().numpy().any()


def test_values_of_skipped_steps_do_not_count() -> None:
    layer, flags = LSTM(3, 5), [[True], [False]]
    x = tg.tensor([[[1.0, 2.0, 3.0]], [[np.nan, np.inf, 0.0]]], requires_grad=True)
    out, _ = layer(x, mask=flags)
    (gradient,) = tg.grad(out.sum(), [x])
    assert not np.isnan(gradient.numpy()).any()
    assert not gradient[1].numpy().any()


def test_a_function_skips_steps() -> None:
    out, h = tg.scan(
        lambda x, h: h + x, tg.ones(3, 2, 1), tg.zeros(2, 1), mask=[[True, False], [False, False], [True, True]]
    )
    assert out[:, 0, 0].tolist() == [1.0, 1.0, 2.0]
    assert out[:, 1, 0].tolist() == [0.0, 0.0, 1.0]
    assert h[:, 0].tolist() == [2.0, 1.0]


@pytest.mark.parametrize("mask", [[[1], [0]], [[True, False]], [True, False]])
def test_a_mask_has_a_bool_for_each_step(mask: list[object]) -> None:
    with pytest.raises(ValueError, match=r"expected mask of shape \(2, 1\) and dtype bool"):
        LSTM(3, 5)(tg.ones(2, 1, 3), mask=mask)


class Masked(tg.nn.Module):
    """Skips steps whose first number is negative."""

    def __init__(self, layer: tg.nn.Module) -> None:
        self.layer = layer

    def forward(self, x: tg.Tensor) -> tg.Tensor:
        out: tg.Tensor = self.layer(x, mask=x[:, :, 0] >= 0)[0]
        return out


MODELS = [lambda: LSTM(3, 5, bidirectional=True), lambda: Recurrent(LSTMCell(3, 5))]


@pytest.mark.parametrize("make", MODELS)
def test_a_trace_shows_the_steps_that_are_taken(make: Callable[[], tg.nn.Module]) -> None:
    model, x = Masked(make()), tg.randn(6, 2, 3)
    out = model(x).detach().numpy()
    layer = tg.inspect.trace(model, x).layers[0]
    taken = x[:, :, 0].numpy() >= 0
    np.testing.assert_allclose(layer.h[taken], out[..., :5][taken], atol=1e-6)


@pytest.mark.parametrize("make", MODELS)
def test_an_exported_graph_skips_steps(make: Callable[[], tg.nn.Module], tmp_path: Path) -> None:
    model, x = Masked(make()), tg.randn(6, 2, 3)
    tg.io.export_onnx(model, tmp_path / "model.onnx", {"x": x})
    session = onnxruntime.InferenceSession(tmp_path / "model.onnx", providers=["CPUExecutionProvider"])
    (theirs,) = session.run(None, {"x": x.numpy()})
    np.testing.assert_allclose(theirs, model(x).detach().numpy(), atol=1e-6)
