"""Neither a bool nor a tensor is an integer, wherever a dimension, length or count is taken."""

from collections.abc import Callable
from typing import Any

import hypothesis
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from ops.case import Case
from ops.cases import CASES

import tinygrad_lstm as tg
from tinygrad_lstm import nn
from tinygrad_lstm.models import GRU, LSTM, RNN, CharLM, GRUCell, LSTMCell, ManyToOne, RNNCell

# Settings of the ops in the table that are numbers, for which 1 and True mean the same; repeats may be a tensor.
NUMBERS = {"repeats", "p", "y", "correction", "value", "alpha", "beta", "negative_slope", "threshold", "min", "max"}
WRONG = {
    "bool": True,
    "numpy-bool": np.True_,
    "tensor": tg.tensor(1),
    "1-d": tg.tensor([0, 1]),
    "array": np.array(1),
}


def is_integer(value: Any) -> bool:
    return isinstance(value, int | np.integer) and not isinstance(value, bool)


def integer_settings(settings: dict[str, Any]) -> list[str]:
    """The settings that hold an integer, or a tuple or list of integers."""
    listed = {name: value if isinstance(value, tuple | list) else (value,) for name, value in settings.items()}
    return [name for name, values in listed.items() if name not in NUMBERS and values and all(map(is_integer, values))]


@pytest.mark.parametrize("case", CASES, ids=str)
@hypothesis.settings(max_examples=10)
@given(data=st.data())
def test_no_op_takes_a_bool_or_a_tensor_for_an_integer(case: Case, data: st.DataObject) -> None:
    drawn = data.draw(case.drawn)
    tensors = [tg.tensor(array) for array in drawn.arrays]
    for name in integer_settings(drawn.settings):
        value = drawn.settings[name]
        wrong = data.draw(st.sampled_from(list(WRONG.values())))
        if isinstance(value, tuple | list):
            place = data.draw(st.integers(0, len(value) - 1))
            wrong = type(value)((*value[:place], wrong, *value[place + 1 :]))
        if case.name in ("max", "min") and isinstance(wrong, tg.Tensor):
            continue  # of two tensors, their maximum
        with pytest.raises(TypeError):
            case.call(*tensors, **{**drawn.settings, name: wrong})


INTEGERS_OF = {"sum": "dim", "reshape": "shape", "pad": "pad", "tril": "diagonal", "split": "size_or_sizes"}


@pytest.mark.parametrize("case", [case for case in CASES if case.name in INTEGERS_OF], ids=str)
def test_the_property_above_finds_integers(case: Case) -> None:
    assert hypothesis.find(case.drawn, lambda drawn: INTEGERS_OF[case.name] in integer_settings(drawn.settings))


X = tg.ones(2, 3)
SIZES = {"in_channels": 1, "out_channels": 1, "kernel_size": 1}
HIDDEN = {"input_size": 3, "hidden_size": 4}

OTHERS: dict[str, Callable[[Any], Any]] = {
    "round": lambda n: X.round(n),
    "softmax": lambda n: X.softmax(n),
    "log_softmax": lambda n: X.log_softmax(n),
    "layer_norm": lambda n: tg.layer_norm(tg.ones(2, 1), n),
    "layer_norm of several": lambda n: tg.layer_norm(tg.ones(2, 1), (n,)),
    "embedding": lambda n: tg.embedding([0, 1], X, n),
    "cross_entropy": lambda n: tg.cross_entropy(X, [0, 1], ignore_index=n),
    "nll_loss": lambda n: tg.nll_loss(X, [0, 1], ignore_index=n),
    **{
        f"conv1d of a {setting}": lambda n, setting=setting: tg.conv1d(X, tg.ones(1, 2, 1), **{setting: n})
        for setting in ("stride", "padding", "dilation", "groups")
    },
    "var": lambda n: X.var((n,)),
    "zeros": lambda n: tg.zeros(n, 2),
    "zeros of a tuple": lambda n: tg.zeros((2, n)),
    "ones": lambda n: tg.ones(n),
    "full": lambda n: tg.full((n,), 1.0),
    "rand": lambda n: tg.rand(n),
    "randn": lambda n: tg.randn(n),
    "eye": lambda n: tg.eye(n),
    "eye of columns": lambda n: tg.eye(2, n),
    "linspace": lambda n: tg.linspace(0, 1, n),
    "Linear": lambda n: nn.Linear(n, 3),
    "Linear of outputs": lambda n: nn.Linear(3, n),
    "Embedding": lambda n: nn.Embedding(n, 3),
    "Embedding of padding": lambda n: nn.Embedding(3, 3, padding_idx=n),
    **{
        f"Conv1d of {setting}": lambda n, setting=setting: nn.Conv1d(**{**SIZES, setting: n})
        for setting in ("in_channels", "out_channels", "kernel_size", "stride", "padding", "dilation", "groups")
    },
    "LayerNorm": lambda n: nn.LayerNorm(n),
    "LayerNorm of several": lambda n: nn.LayerNorm((2, n)),
    **{
        f"{kind.__name__} of {setting}": lambda n, kind=kind, setting=setting: kind(**{**HIDDEN, setting: n})
        for kind in (LSTM, GRU, RNN, LSTMCell, GRUCell, RNNCell)
        for setting in ("input_size", "hidden_size")
    },
    "LSTM of layers": lambda n: LSTM(3, 4, n),
    "LSTM of a projection": lambda n: LSTM(3, 4, proj_size=n),
    "CharLM": lambda n: CharLM(n, 3, 4),
    "ManyToOne": lambda n: ManyToOne(LSTM(3, 4), n),
    "stream": lambda n: LSTM(3, 4).stream(n),
    "add_lora": lambda n: nn.add_lora(nn.Linear(3, 4), rank=n),
}


@pytest.mark.parametrize("wrong", WRONG.values(), ids=WRONG)
@pytest.mark.parametrize("call", OTHERS.values(), ids=OTHERS)
def test_nothing_else_takes_a_bool_or_a_tensor_for_an_integer(call: Callable[[Any], Any], wrong: Any) -> None:
    with pytest.raises(TypeError):
        call(wrong)


def test_the_error_says_what_to_do() -> None:
    with pytest.raises(TypeError, match=r"^sum: dim is True; expected an integer, .* give flags by name \(inputs"):
        X.sum(True)
    with pytest.raises(TypeError, match=r"^reshape: shape is a Tensor of shape \(\); expected integers; use .item\(\)"):
        X.reshape(tg.tensor(6))
    with pytest.raises(TypeError, match=r"^LSTM: dropout is True; expected a number from 0 to 1"):
        LSTM(3, 4, 1, True, True)


@pytest.mark.parametrize("unbiased", [True, False])
@pytest.mark.parametrize("name", ["std", "var"])
def test_torchs_unbiased_is_pointed_to_correction(name: str, unbiased: bool) -> None:
    with pytest.raises(TypeError, match=rf"^{name}: dim is {unbiased}; .* give correction={int(unbiased)}$"):
        getattr(X, name)(unbiased)
    # After a dimension torch's `unbiased` means what `correction` does.
    assert getattr(X, name)(0, unbiased).tolist() == getattr(X, name)(0, correction=int(unbiased)).tolist()


@pytest.mark.parametrize(("name", "twin"), [("max", "maximum"), ("min", "minimum")])
@pytest.mark.parametrize("dtype", ["int64", "float32"])
def test_the_extreme_of_two_tensors_is_elementwise_as_in_torch(name: str, twin: str, dtype: str, device: str) -> None:
    x = tg.tensor([[1, 2], [3, 4]], dtype=dtype, device=device, requires_grad=dtype == "float32")
    y = tg.tensor([0, 3], dtype=dtype, device=device)
    expected = getattr(tg, twin)(x, y)
    for found in (getattr(tg, name)(x, y), getattr(x, name)(y)):
        assert found.dtype == dtype
        assert found.tolist() == expected.tolist()
    if x.requires_grad:
        weights = tg.tensor([[1.0, 2.0], [3.0, 4.0]], device=device)
        gradients = [tg.grad((out * weights).sum(), x)[0].tolist() for out in (getattr(tg, name)(x, y), expected)]
        assert gradients[0] == gradients[1]
    assert getattr(tg, name)(tg.zeros(0, 1, 3, device=device), tg.zeros(0, 10, 3, device=device)).shape == (0, 10, 3)
    with pytest.raises(TypeError, match=f"^{name}: "):
        getattr(tg, name)(x, y, keepdim=True)
