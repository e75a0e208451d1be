"""State dicts of modules: saving and loading."""

import numpy as np
import pytest
from small_modules import NAMES, Block, values

import tinygrad_lstm as tg
from tinygrad_lstm import nn


def test_a_state_dict_is_a_snapshot_on_the_host(device):
    with tg.default_device(device):
        block = Block()
    state = block.state_dict()
    assert sorted(state) == sorted([*NAMES, "offset"])
    assert all(isinstance(array, np.ndarray) for array in state.values())
    before = state["scale"].copy()
    with tg.no_grad():
        block.scale.fill_(9)
    np.testing.assert_array_equal(state["scale"], before)


def test_loading_brings_the_same_outputs_in_the_same_parameters(device):
    with tg.default_device(device):
        block, other = Block().eval(), Block().eval()
        before = list(other.parameters())
        x = tg.randn(4, 3)
    report = other.load_state_dict(block.state_dict())
    assert report == ([], [])
    assert all(mine is old for mine, old in zip(other.parameters(), before, strict=True))
    np.testing.assert_array_equal(other(x).detach().cpu(), block(x).detach().cpu())


def test_values_are_taken_from_any_place_and_dtype(device):
    layer = nn.Linear(2, 1)
    layer.load_state_dict({"weight": tg.tensor([[1, 2]], device=device), "bias": [0.5]})
    assert layer.weight.tolist() == [[1, 2]]
    assert layer.bias.tolist() == [0.5]
    assert layer.weight.dtype == np.float32
    assert layer.weight.device == "cpu"
    layer.load_state_dict({"weight": np.array([[3.0, 4.0]]), "bias": layer.bias})
    assert layer.weight.tolist() == [[3, 4]]
    assert layer.weight.dtype == np.float32


def test_one_error_lists_all_mismatches_and_nothing_changes():
    block = Block()
    before = values(block)
    state = block.state_dict()
    state["scale"] += 1
    del state["layers.0.bias"], state["offset"]
    state["layers.1.weight"] = np.ones((4, 3), np.float32)
    state["layers.1.bias"] = np.ones((2,), np.float64)
    state |= {"head.weight": np.ones(2), "step": np.ones(())}
    with pytest.raises(ValueError) as caught:
        block.load_state_dict(state)
    message = str(caught.value)
    assert "missing: layers.0.bias, offset" in message
    assert "unexpected: head.weight, step" in message
    assert "layers.1.weight (given float32 (4, 3), expected float32 (3, 3))" in message
    assert "layers.1.bias (given float64 (2,), expected float32 (3,))" in message
    assert "\n" not in message
    for mine, old in zip(values(block), before, strict=True):
        np.testing.assert_array_equal(mine, old)


def test_loading_what_there_is():
    block = Block()
    report = block.load_state_dict({"scale": [1, 2, 3], "head.weight": [0]}, strict=False)
    assert block.scale.tolist() == [1, 2, 3]
    assert report.missing == [*NAMES[1:], "offset"]
    assert report.unexpected == ["head.weight"]
    with pytest.raises(ValueError, match="invalid: scale"):
        block.load_state_dict({"scale": [1, 2]}, strict=False)


@pytest.mark.parametrize(
    ("value", "said"),
    [
        ([1.0, 1e300, 0.0], "given float64 numbers beyond the range of float32"),
        ("abc", "given a str, expected float32 (3,)"),
        (None, "given a NoneType, expected"),
        ([[1], [1, 2]], "given a list, expected"),
        (np.ones(3, complex), "given complex128 (3,), expected float32 (3,)"),
        (np.array([1.0, -1e300, np.inf]), "given float64 numbers beyond the range of float32"),
    ],
)
def test_an_invalid_value_is_named_among_the_others(value, said):
    block = Block()
    before = values(block)
    state = block.state_dict() | {"scale": value, "layers.0.bias": [1, 2]}
    with pytest.raises(ValueError) as caught:
        block.load_state_dict(state)
    assert f"scale ({said}" in str(caught.value)
    assert "layers.0.bias (given int64 (2,)" in str(caught.value)
    assert "\n" not in str(caught.value)
    for mine, old in zip(values(block), before, strict=True):
        np.testing.assert_array_equal(mine, old)


def test_numbers_that_a_dtype_cannot_hold_are_refused(device):
    module = nn.Module()
    module.register_buffer("count", tg.tensor([1, 2], dtype="int32", device=device))
    module.register_buffer("half", tg.ones(2, dtype="float16", device=device))
    for name, value in {"count": [1, 2**40], "half": [1, 70000]}.items():
        with pytest.raises(ValueError, match=f"{name} .given int64 numbers beyond the range of"):
            module.load_state_dict({name: value}, strict=False)
    module.load_state_dict({"count": [1, 2**31 - 1], "half": np.array([np.inf, np.nan])})
    assert module.count.tolist() == [1, 2**31 - 1]
    assert str(module.half.tolist()) == "[inf, nan]"


def test_floats_are_not_silently_cast_to_integers():
    module = nn.Module()
    module.register_buffer("count", tg.tensor([1, 2]))
    with pytest.raises(ValueError, match=r"count \(given float64"):
        module.load_state_dict({"count": np.array([1.5, 2.5])})
    assert module.count.tolist() == [1, 2]


def test_loading_between_forward_and_backward_is_noticed():
    layer = nn.Linear(2, 2)
    loss = layer(layer(tg.ones(1, 2))).sum()
    layer.load_state_dict(layer.state_dict())
    with pytest.raises(RuntimeError, match="changed in place"):
        loss.backward()
