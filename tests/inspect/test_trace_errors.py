"""Traces: the memory that they need, and what is refused."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from traced_models import drawn, score

import tinygrad_lstm as tg
from tinygrad_lstm import nn
from tinygrad_lstm.inspect import trace, trace_memory
from tinygrad_lstm.models import GRU, LSTM, RNN, CharLM, GRUCell, LSTMCell, RNNCell

# -- memory ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("gradients", [False, True])
def test_memory_is_known_beforehand(gradients: bool) -> None:
    x, ids = drawn(6, 2, 3), np.zeros((6, 2), np.int64)
    models = [
        (LSTM(3, 4, num_layers=2, bidirectional=True), x.astype("float32")),
        (GRU(3, 4, num_layers=2).to(dtype="float64"), x),
        (RNN(3, 4, batch_first=True).to(dtype="float16"), x.astype("float16")),
        (LSTMCell(3, 4), x.astype("float32").tolist()),
        (GRUCell(3, 4), x.astype("float32")[0]),
        (CharLM(5, 2, 3, num_layers=2), ids),
    ]
    for model, given_x in models:
        traced = trace(model, given_x, loss=score if gradients else None)
        assert trace_memory(model, given_x, gradients) == traced.nbytes == sum(layer.nbytes for layer in traced)
        for layer in traced:
            arrays = [layer.inputs, *layer.values.values(), *layer.gradients.values(), *layer.before.values()]
            assert layer.nbytes == sum(array.nbytes for array in arrays)


def test_memory_is_reported_and_limited(caplog: pytest.LogCaptureFixture) -> None:
    model, x = LSTM(3, 500), tg.zeros(50, 2, 3)
    needed = trace_memory(model, x)
    with caplog.at_level("INFO", "tinygrad_lstm"):
        trace(model, x, max_bytes=needed)
    assert caplog.messages == [f"a trace will take {needed / 1e6:.1f} MB"]
    with pytest.raises(
        MemoryError, match=f"it would take {needed:,} bytes, and max_bytes is {needed - 1:,}; give fewer"
    ):
        trace(model, x, max_bytes=needed - 1)
    with pytest.raises(MemoryError, match="it would take"):
        trace(model, x, loss=score, max_bytes=needed)


# -- errors ------------------------------------------------------------------------------------------------------------


class Ending(nn.Module):
    """A network, and a head that ends in a vector; takes no lengths."""

    def __init__(self) -> None:
        self.lstm = LSTM(3, 4)

    def forward(self, x: tg.Tensor, state: Any = None) -> tg.Tensor:
        return self.lstm(x, state)[0][-1]


LOSSES: dict[str, tuple[Callable[..., Any], str]] = {
    "a vector": (lambda out: out.sum(0), r"the loss returned float32 \(4,\); expected a scalar tensor, as .sum"),
    "an integer": (lambda out: (out > 0).sum(), r"the loss returned int64 \(\); expected a scalar tensor"),
    "a number": (lambda out: 1.0, "the loss returned a float; expected a scalar tensor"),
    "a constant": (lambda out: tg.ones(1), "the loss does not depend on what the recurrent parts computed; make it of"),
    "another graph": (
        lambda out: (tg.ones(1, requires_grad=True) * 2).sum(),
        "the loss does not depend on what the recurrent parts computed",
    ),
    "detached": (lambda out: out.detach().sum(), "the loss does not depend on what the recurrent parts computed"),
}


@pytest.mark.parametrize("which", LOSSES)
def test_losses_that_are_refused(which: str) -> None:
    loss, message = LOSSES[which]
    with pytest.raises(ValueError, match=f"^trace: {message}") as caught:
        trace(Ending(), tg.ones(5, 2, 3), loss=loss)
    assert "\n" not in str(caught.value)


def test_a_loss_of_one_element_is_a_scalar() -> None:
    assert trace(Ending(), tg.ones(5, 2, 3), loss=lambda out: out.sum().reshape(1, 1)).loss is not None


ARGUMENTS: dict[str, tuple[Callable[[], nn.Module], dict[str, Any], str]] = {
    "nothing recurrent": (
        lambda: nn.Linear(3, 4), {},
        r"no recurrent layer or cell of the model has run, for an input of shape \(5, 2, 3\); expected at least",
    ),
    "no steps": (lambda: LSTM(3, 4), {"x": tg.zeros(0, 2, 3)}, r"no recurrent layer or cell .* of shape \(0, 2, 3\)"),
    "no steps of a cell": (
        lambda: LSTMCell(3, 4), {"x": np.zeros((0, 2, 3))},
        r"LSTMCell expects an input of shape .*, at least one step, .* got \(0, 2, 3\)",
    ),
    "one number": (lambda: GRUCell(3, 4), {"x": 1.0}, r"GRUCell expects .* \(time, batch, size\), .* got \(\)"),
    "lengths that are not taken": (
        Ending, {"lengths": [5, 2]},
        r"Ending.forward\(x, state\) cannot be given x and lengths: got an unexpected keyword argument 'lengths'",
    ),
    "a state that is not taken": (
        lambda: nn.Linear(3, 4), {"state": tg.zeros(1)}, r"Linear.forward\(x\) cannot be given x and state: got an",
    ),
    "a cell's lengths, too few": (lambda: LSTMCell(3, 4), {"lengths": [5]}, "expected 2 lengths, integers from 0 to 5"),
    "too long": (lambda: LSTMCell(3, 4), {"lengths": [5, 6]}, r"expected 2 .* from 0 to 5, got int64 \[5 6\]"),
    "negative": (lambda: RNNCell(3, 4), {"lengths": [5, -1]}, "expected 2 lengths"),
    "no integers": (lambda: RNNCell(3, 4), {"lengths": [5.0, 1.0]}, "expected 2 lengths, integers .* got float32"),
}  # fmt: skip


@pytest.mark.parametrize("which", ARGUMENTS)
def test_arguments_that_are_refused(which: str) -> None:
    make, options, message = ARGUMENTS[which]
    with pytest.raises(ValueError, match=f"^trace: {message}") as caught:
        trace(make(), **{"x": np.ones((5, 2, 3), np.float32), **options})
    assert "\n" not in str(caught.value)


def test_invalid_models_and_losses() -> None:
    wrong: Any = np.tanh
    for run in (lambda: trace(wrong, tg.ones(5, 2, 3)), lambda: tg.inspect.trace_memory(wrong, tg.ones(5, 2, 3))):
        with pytest.raises(TypeError, match=r"^trace: expected a Module, got ufunc$"):
            run()
    number: Any = 3
    with pytest.raises(TypeError, match=r"^trace: expected the loss to be a function of the model's output, got int$"):
        trace(LSTM(3, 4), tg.ones(5, 2, 3), loss=number)


def test_errors_raised_by_a_network_are_not_changed() -> None:
    with pytest.raises(ValueError, match=r"^LSTM: expected 2 lengths"):
        trace(LSTM(3, 4), tg.ones(5, 2, 3), lengths=[1])
    with pytest.raises(ValueError, match=r"^GRUCell: expected a state of shape"):
        trace(GRUCell(3, 4), tg.ones(5, 2, 3), state=tg.zeros(2, 5))
    with pytest.raises(ValueError, match=r"^LSTM: expected 2 states, \(h, c\), each of shape \(1, 2, 4\), got int"):
        trace(LSTM(3, 4), tg.ones(5, 2, 3), state=3)
