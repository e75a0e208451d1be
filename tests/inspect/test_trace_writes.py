"""Traces of models that write in place, and of models that several threads trace at the same time."""

import threading
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pytest
from traced_models import Looping, assert_close, assert_same, drawn, drawn_model, score

import tinygrad_lstm as tg
from tinygrad_lstm import nn
from tinygrad_lstm.inspect import Trace, trace
from tinygrad_lstm.models import GRU, LSTM, RNNCell


@pytest.mark.parametrize("where", ["output", "view", "state", "input", "weight"])
def test_what_is_changed_in_place_is_refused(where: str) -> None:
    class Writing(nn.Module):
        def __init__(self) -> None:
            self.cell, self.lstm = RNNCell(3, 3), LSTM(3, 4)

        def forward(self, x: tg.Tensor) -> tg.Tensor:
            h = self.cell(x[0])
            out, _ = self.lstm(x)
            with tg.no_grad():
                written = {"output": out, "view": out[-1], "state": h, "input": x, "weight": self.lstm.weight_hh_l0}
                written[where][0] = 0.0
            return out

    named = "'cell'" if where == "state" else r"'lstm\.l0'"
    with pytest.raises(
        RuntimeError, match=rf"that {named} returned, or computed with, was changed in place later; change"
    ):
        trace(Writing(), tg.ones(2, 2, 3))


def test_an_input_that_the_model_writes_into_first() -> None:
    class Masking(nn.Module):
        def __init__(self) -> None:
            self.lstm = LSTM(3, 4)

        def forward(self, x: tg.Tensor) -> Any:
            x[:, :, 0] = 0.0
            return self.lstm(x)

    x = tg.ones(2, 2, 3)
    traced = trace(Masking(), x, loss=score)
    assert x.sum().item() == traced.inputs.sum() == 12
    assert traced[0].inputs.sum() == 8


def test_buffers_that_a_model_writes_into() -> None:
    """What goes into a cell, and the states of a network, may stand in one place at every step."""

    class Stateful(nn.Module):
        def __init__(self) -> None:
            self.cell, self.gru = RNNCell(3, 4), GRU(4, 2)
            for name, shape in {"x": (2, 3), "h": (2, 4), "code": (1, 2, 2)}.items():
                self.register_buffer(name, tg.zeros(shape, dtype="float64"))

        def forward(self, x: tg.Tensor) -> None:
            for step in x:
                self.x.copy_(step.detach())
                self.h.copy_(self.cell(self.x, self.h).detach())
                self.code.copy_(self.gru(self.h.clone().unsqueeze(0), self.code)[1].detach())

    model, x = drawn_model(Stateful), drawn(4, 2, 3)
    buffers = {name: buffer.clone() for name, buffer in model.named_buffers()}
    cell, gru = trace(model, x)
    (cell_alone,) = trace(model.cell, x, buffers["h"])
    (gru_alone,) = trace(model.gru, cell_alone.h, buffers["code"])
    for layer, alone in ((cell, cell_alone), (gru, gru_alone)):
        assert_close(layer.inputs, alone.inputs)
        assert_close(layer.h, alone.h)
        assert_close(layer.before["h"], alone.before["h"])


@pytest.mark.parametrize("first_out", [0, 1])
def test_traces_of_one_frozen_model_that_overlap_in_threads(first_out: int) -> None:
    """Whichever is done first, the other goes on as before; then the model is frozen again."""
    begun, done = [threading.Event(), threading.Event()], [threading.Event(), threading.Event()]
    own = threading.local()

    class Meeting(Looping):
        def forward(self, ids: tg.Tensor) -> tg.Tensor:
            begun[own.number].set()
            awaited = begun[1] if own.number == first_out else done[first_out]
            assert awaited.wait(timeout=30)
            return super().forward(ids)

    def traced(number: int) -> Trace:
        own.number = number
        assert number == 0 or begun[0].wait(timeout=30)
        found = trace(model, ids, loss=score)
        done[number].set()
        return found

    ids = np.random.default_rng(0).integers(0, 7, (5, 2))
    expected = trace(drawn_model(Looping), ids, loss=score)
    model = drawn_model(Meeting).requires_grad_(False)
    with ThreadPoolExecutor(2) as pool:
        for found in pool.map(traced, range(2)):
            assert_same(found, expected)
    assert not any(parameter.requires_grad for parameter in model.parameters())


@pytest.mark.parametrize("frozen", [True, False])
def test_a_trace_changes_no_parameter_for_other_threads(frozen: bool) -> None:
    """What they see is the model as it is, and may freeze and unfreeze it."""
    seen: list[Any] = []

    class Looked(Looping):
        def forward(self, ids: tg.Tensor) -> tg.Tensor:
            if not seen:
                look()
                seen.append([parameter.requires_grad for parameter in self.parameters()])
            return super().forward(ids)

    def look() -> None:
        def from_outside() -> None:
            seen.append([parameter.requires_grad for parameter in model.parameters()])
            with tg.enable_grad():
                seen.append(score(model(tg.tensor(ids))).requires_grad)
            model.requires_grad_(frozen)
            seen.append([parameter.requires_grad for parameter in model.parameters()])

        thread = threading.Thread(target=from_outside)
        thread.start()
        thread.join()

    ids = np.random.default_rng(0).integers(0, 7, (5, 2))
    expected = trace(drawn_model(Looping), ids, loss=score)
    model = drawn_model(Looked).requires_grad_(not frozen)
    number, classes = len(list(model.parameters())), {type(parameter) for parameter in model.parameters()}
    found = trace(model, ids, loss=score)
    assert_same(found, expected)
    assert seen[0] == [not frozen] * number and seen[1] == (not frozen) and seen[2] == [frozen] * number
    assert seen[3] == [True] * number  # in the trace's own thread
    assert all(parameter.requires_grad == frozen for parameter in model.parameters())
    assert {type(parameter) for parameter in model.parameters()} == classes == {nn.Parameter}


def test_layers_that_a_different_thread_runs_are_not_traced() -> None:
    class Sending(nn.Module):
        def __init__(self) -> None:
            self.here, self.there = LSTM(3, 4), LSTM(3, 4)

        def forward(self, x: tg.Tensor) -> tg.Tensor:
            with ThreadPoolExecutor(1) as pool:
                other, _ = pool.submit(self.there, x).result()
            return self.here(x)[0] + other.detach()

    assert [layer.name for layer in trace(Sending(), tg.ones(2, 2, 3))] == ["here.l0"]
