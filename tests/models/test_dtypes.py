"""Modules compute in the dtype of their parameters: floats of a different dtype are refused."""

import itertools
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import tinygrad_lstm as tg
from tinygrad_lstm import nn
from tinygrad_lstm.models import GRU, LSTM, RNN, CharLM, GRUCell, LSTMCell, ManyToOne, RNNCell

FLOATS = ["float16", "float32", "float64"]
MIXED = list(itertools.permutations(FLOATS, 2))

X, STEP = np.ones((5, 2, 3)), np.ones((2, 3))
H, PLACES = np.ones((2, 4)), np.ones((1, 2, 4))

# By name: the module, its input, and its states if it has any.
MODULES: dict[str, tuple[Callable[[], nn.Module], Any, list[Any]]] = {
    "Linear": (lambda: nn.Linear(3, 4), STEP, []),
    "Linear with an adapter": (lambda: adapted(nn.Linear(3, 4)), STEP, []),
    "Conv1d": (lambda: nn.Conv1d(2, 4, 1), X, []),
    "LayerNorm": (lambda: nn.LayerNorm(3), STEP, []),
    "Sequential": (lambda: nn.Sequential(tg.tanh, nn.Linear(3, 4)), STEP, []),
    "LSTMCell": (lambda: LSTMCell(3, 4), STEP, [H, H]),
    "GRUCell": (lambda: GRUCell(3, 4), STEP, [H]),
    "RNNCell": (lambda: RNNCell(3, 4), STEP, [H]),
    "LSTM": (lambda: LSTM(3, 4), X, [PLACES, PLACES]),
    "GRU": (lambda: GRU(3, 4), X, [PLACES]),
    "RNN": (lambda: RNN(3, 4), X, [PLACES]),
    "LSTM with peepholes": (lambda: LSTM(3, 4, peephole=True), X, [PLACES, PLACES]),
    "GRU with the reset before": (lambda: GRU(3, 4, reset_after=False), X, [PLACES]),
    "RNN with relu": (lambda: RNN(3, 4, nonlinearity="relu"), X, [PLACES]),
    "ManyToOne": (lambda: ManyToOne(LSTM(3, 4), 2), X, [PLACES, PLACES]),
}


def adapted(module: nn.Module) -> nn.Module:
    nn.add_lora(module, rank=2)
    return module


def as_state(parts: list[Any]) -> Any:
    return tuple(parts) if len(parts) > 1 else parts[0]


def first(out: Any) -> tg.Tensor:
    return out[0] if isinstance(out, tuple) else out


@pytest.mark.parametrize(("own", "given"), MIXED)
@pytest.mark.parametrize("name", MODULES)
def test_an_input_of_a_different_float_dtype_is_refused(name: str, own: str, given: str, device: str) -> None:
    make, x, _ = MODULES[name]
    model = make().to(device, own)
    with pytest.raises(TypeError, match=rf"x is {given}, but the parameters are {own}; .* \.to\(dtype='{own}'\)"):
        model(tg.tensor(x, dtype=given, device=device))
    assert first(model(tg.tensor(x, dtype=own, device=device))).dtype == own


@pytest.mark.parametrize(("own", "given"), MIXED)
@pytest.mark.parametrize(
    ("name", "place"), [(name, k) for name, (_, _, states) in MODULES.items() for k in range(len(states))]
)
def test_a_state_of_a_different_float_dtype_is_refused(
    name: str, place: int, own: str, given: str, device: str
) -> None:
    make, x, states = MODULES[name]
    model, x = make().to(device, own), tg.tensor(x, dtype=own, device=device)
    parts = [tg.tensor(part, dtype=own, device=device) for part in states]
    assert first(model(x, as_state(parts))).dtype == own
    parts[place] = tg.tensor(states[place], dtype=given, device=device)
    with pytest.raises(TypeError, match=rf"a state is {given}, but the parameters are {own}"):
        model(x, as_state(parts))


@pytest.mark.parametrize("name", MODULES)
def test_numpys_float64_arrays_are_refused_and_integers_taken(name: str) -> None:
    make, x, _ = MODULES[name]
    model = make()
    with pytest.raises(TypeError, match=r"x is float64, but the parameters are float32"):
        model(tg.as_tensor(x))
    assert first(model(tg.tensor(x, dtype="int64"))).dtype == "float32"


def test_a_language_models_state_is_checked() -> None:
    model, zeros = CharLM(5, 3, 4), tg.zeros(1, 2, 4, dtype="float64")
    with pytest.raises(TypeError, match=r"LSTM: a state is float64, but the parameters are float32"):
        model(tg.tensor([[1, 2]]), (zeros, zeros))


@pytest.mark.parametrize("dtype", FLOATS)
def test_the_head_of_many_to_one_is_made_like_its_network(dtype: str, device: str) -> None:
    model = ManyToOne(LSTM(3, 4).to(device, dtype), 2)
    assert {(str(p.device), str(p.dtype)) for p in model.parameters()} == {(device, dtype)}
    assert model(tg.ones(5, 2, 3, dtype=dtype, device=device)).dtype == dtype


def test_ops_themselves_promote() -> None:
    linear = nn.Linear(3, 4)
    assert tg.linear(tg.ones(2, 3, dtype="float64"), linear.weight, linear.bias).dtype == "float64"


@pytest.mark.parametrize("recurrent", [LSTM, GRU, RNN])
@pytest.mark.parametrize(
    "after", [lambda: nn.Linear(4, 1), lambda: nn.LayerNorm(4), lambda: nn.Dropout(), lambda: LSTM(4, 2)]
)
def test_a_row_of_modules_names_the_tuple_between_two(recurrent: Any, after: Callable[[], nn.Module]) -> None:
    model = nn.Sequential(tg.tanh, recurrent(3, 4), after())
    name = type(model[2]).__name__
    with pytest.raises(TypeError) as raised:
        model(tg.ones(1, 2, 3))  # of one step, so that outputs and states have the same shape
    message = str(raised.value)
    assert "\n" not in message
    for part in (f"module 1 ({recurrent.__name__}) returns a tuple of 2", f"module 2 ({name})", "given[0]"):
        assert part in message
    repaired = nn.Sequential(tg.tanh, recurrent(3, 4), lambda given: given[0], after())
    assert first(repaired(tg.ones(1, 2, 3))).shape[:2] == (1, 2)


def test_errors_within_a_row_of_modules_stay_as_they_are() -> None:
    with pytest.raises(ValueError, match=r"^linear: "):
        nn.Sequential(nn.Linear(3, 4), nn.Linear(3, 4))(tg.ones(2, 3))
    with pytest.raises(TypeError, match=r"^Linear: x is float64"):
        nn.Sequential(nn.Linear(3, 4))(np.ones((2, 3)))
