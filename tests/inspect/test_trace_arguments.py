"""Traces of models with several inputs, states and outputs."""

from typing import Any, NamedTuple

import numpy as np
import pytest
from traced_models import drawn

import tinygrad_lstm as tg
from tinygrad_lstm import nn
from tinygrad_lstm.inspect import Trace, trace
from tinygrad_lstm.models import GRU, LSTM, LSTMCell, Recurrent


class Outputs(NamedTuple):
    score: tg.Tensor
    features: tg.Tensor


class Several(nn.Module):
    """Two inputs, a state and lengths; recurrent layers here and there, one of which is called twice."""

    def __init__(self) -> None:
        self.left = LSTM(3, 4)
        self.inner = nn.Sequential(nn.Linear(2, 5), nn.Tanh())
        self.right = Recurrent(LSTMCell(5, 4))
        self.joined = GRU(8, 4)

    def forward(self, x: Any, y: Any, h0: Any = None, c0: Any = None, lengths: Any = None) -> Outputs:
        state = None if h0 is None else (h0, c0)
        left, _ = self.left(x, state, lengths)
        right, _ = self.right(self.inner(y))
        both, _ = self.joined(tg.cat([left, right], -1))
        again, _ = self.joined(tg.cat([right, left], -1))
        return Outputs((both * again).sum(), both)


X, Y = drawn(5, 2, 3).astype("f4"), drawn(5, 2, 2).astype("f4")
H, C = drawn(1, 2, 4).astype("f4"), drawn(1, 2, 4).astype("f4")
LENGTHS = np.array([5, 3])


@pytest.fixture
def model() -> Several:
    tg.manual_seed(0)
    return Several()


def assert_same(one: Trace, other: Trace) -> None:
    assert [layer.name for layer in one] == [layer.name for layer in other]
    for ours, theirs in zip(one, other, strict=True):
        for name, array in ours.values.items():
            np.testing.assert_array_equal(array, theirs.values[name])
            np.testing.assert_array_equal(ours.gradients[name], theirs.gradients[name])


def test_inputs_by_position_and_by_name_are_the_same(model: Several) -> None:
    def loss(outputs: Outputs) -> tg.Tensor:
        return outputs.score + outputs.features[-1].sum()

    by_place = trace(model, X, Y, H, C, LENGTHS, loss=loss)
    by_name = trace(model, X, y=tg.tensor(Y), h0=tg.tensor(H), c0=C, lengths=[5, 3], loss=loss)
    assert_same(by_place, by_name)
    assert [layer.name for layer in by_place] == ["left.l0", "right.cells.0", "joined.l0"]
    assert [len(layer.h) for layer in by_place] == [5, 5, 10]
    np.testing.assert_array_equal(by_place["left.l0"].before["c"][0], C[0])
    np.testing.assert_array_equal(by_place.lengths, LENGTHS)


def test_gradients_are_those_of_the_loss_over_all_outputs(model: Several) -> None:
    """The loss is given the named tuple."""
    left = model.left
    x = tg.tensor(X)
    out, _ = left(x)
    out.retain_grad()
    right, _ = model.right(model.inner(tg.tensor(Y)))
    both, _ = model.joined(tg.cat([out, right], -1))
    again, _ = model.joined(tg.cat([right, out], -1))
    ((both * again).sum() + both[-1].sum()).backward()
    traced = trace(model, X, Y, loss=lambda outputs: outputs.score + outputs.features[-1].sum())
    # h of a step has, in addition, what later steps send back: only the last step's is that of the output.
    np.testing.assert_allclose(traced["left.l0"].gradients["h"][-1], out.grad.numpy()[-1], rtol=1e-5)
    assert traced.loss == pytest.approx(float(((both * again).sum() + both[-1].sum()).item()), rel=1e-5)


def test_all_inputs_and_outputs_are_kept(model: Several) -> None:
    traced = trace(model, X, Y, lengths=LENGTHS)
    assert {name: array.shape for name, array in traced.all_inputs.items()} == {
        "x": (5, 2, 3), "y": (5, 2, 2), "lengths": (2,),
    }  # fmt: skip
    assert {name: array.shape for name, array in traced.all_outputs.items()} == {"score": (), "features": (5, 2, 4)}
    np.testing.assert_array_equal(traced.inputs, X)
    assert traced.output is not None and traced.output.shape == ()
    plain = trace(LSTM(3, 4), X)
    assert list(plain.all_inputs) == ["x"] and list(plain.all_outputs) == ["output"]


class Named(nn.Module):
    """Its second argument has a name of its own."""

    def __init__(self) -> None:
        self.gru = GRU(3, 4)

    def forward(self, series: Any, initial: Any = None) -> dict[str, tg.Tensor]:
        out, last = self.gru(series, initial)
        return {"out": out, "last": last}


def test_x_and_state_are_the_first_arguments_of_every_model() -> None:
    model, state = Named(), drawn(1, 2, 4).astype("f4")

    def loss(outputs: Any) -> tg.Tensor:
        return outputs["last"].sum()

    expected = trace(model, X, state, loss=loss)
    assert_same(trace(model, x=X, state=state, loss=loss), expected)
    assert_same(trace(model, X, initial=state, loss=loss), expected)
    assert list(expected.all_inputs) == ["series", "initial"] and list(expected.all_outputs) == ["out", "last"]


def test_inputs_that_are_missing_or_unknown() -> None:
    with pytest.raises(ValueError, match=r"^trace: expected the inputs of the LSTM, got none"):
        trace(LSTM(3, 4))
    with pytest.raises(ValueError, match=r"cannot be given y: missing a required argument: 'x'"):
        trace(Several(), y=Y)
    with pytest.raises(ValueError, match=r"cannot be given x and z: got an unexpected keyword argument 'z'|missing"):
        trace(Several(), X, z=Y)
