"""The cells of the atlas: values and gradients of independent references, derivatives, dtypes, devices, traces."""

import re
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from golden.load import load, options
from hypothesis import given
from hypothesis import strategies as st

import tinygrad_lstm as tg
from tinygrad_lstm.models import Recurrent
from tinygrad_lstm.models.atlas import (
    ATLAS,
    CoRNNCell,
    JANETCell,
    LEMCell,
    MLSTMCell,
    ProjectionLSTMCell,
    SLSTMCell,
    SRUCell,
    ZoneoutLSTMCell,
)
from tinygrad_lstm.models.cells import Cell

GOLDEN = {path.stem for path in (Path(__file__).parents[1] / "golden" / "atlas").glob("*.safetensors")}
CASES = [(name, case) for name in sorted(GOLDEN) for case in options(f"atlas/{name}")]
each_cell = pytest.mark.parametrize("name", ATLAS)


def drawn(*shape: int, dtype: str = "float64") -> np.ndarray:
    return np.random.default_rng(sum(shape)).normal(size=shape).astype(dtype)


def parts(state: Any) -> tuple[Any, ...]:
    return state if isinstance(state, tuple) else (state,)


def joined(states: Any) -> Any:
    """States as a cell takes them."""
    return tuple(states) if len(states) > 1 else states[0]


def host(tensor: tg.Tensor | None) -> np.ndarray:
    assert tensor is not None
    return tensor.detach().cpu().numpy()


def cell_of(name: str, I: int = 3, H: int = 4, dtype: str = "float64", **settings: Any) -> Cell:
    """A cell whose parameters are all random, the biases and norms too."""
    cell: Cell = ATLAS[name](I, H, **settings).to(dtype=dtype).eval()
    rng = np.random.default_rng(7)
    cell.load_state_dict({key: rng.normal(scale=0.6, size=value.shape) for key, value in cell.state_dict().items()})
    return cell


def states_of(cell: Cell, B: int, dtype: str = "float64") -> list[np.ndarray]:
    """Random states; normalizers and scales as they are after a step."""
    states = {name: drawn(B, *shape, dtype=dtype) for name, shape in cell.state_shapes().items()}
    return [np.abs(state) + 0.5 if name == "n" else state for name, state in states.items()]


# -- independent references --------------------------------------------------------------------------------------------


def test_every_cell_has_a_reference() -> None:
    """Those of `lstm` and `rnn` are PyTorch's, in test_golden.py."""
    assert set(ATLAS) - GOLDEN == {"lstm", "rnn"}
    assert set(ATLAS) >= GOLDEN


@pytest.mark.parametrize(("name", "case"), CASES)
def test_it_computes_what_its_paper_says(name: str, case: str, device: str) -> None:
    """Five steps: all states after each, and the gradients of inputs, initial states and parameters."""
    golden, settings = load(f"atlas/{name}", case), options(f"atlas/{name}")[case]
    I, H = settings["input_size"], settings["hidden_size"]
    cell = ATLAS[name](I, H, **settings["options"]).to(device, dtype="float64").eval()
    assert (list(cell.STATES), sorted(cell.state_dict())) == (settings["states"], sorted(settings["parameters"]))
    cell.load_state_dict({key: golden[key] for key in settings["parameters"]})

    def leaf(key: str) -> tg.Tensor:
        return tg.tensor(golden[key], device=device, requires_grad=True)

    x = leaf("x")
    initial = {f"initial_{state}": leaf(f"initial_{state}") for state in cell.STATES}
    states, loss = tuple(initial.values()), tg.zeros((), dtype="float64", device=device)
    for t, x_t in enumerate(tg.unbind(x, 0)):
        states = parts(cell(x_t, joined(states)))
        for state, value in zip(cell.STATES, states, strict=True):
            assert value.dtype == np.float64
            np.testing.assert_allclose(host(value), golden[state][t], rtol=1e-9, atol=1e-9)
            loss = loss + (value * tg.tensor(golden[f"w_{state}"][t], device=device)).sum()
    for state, value in zip(cell.STATES, states, strict=True):
        loss = loss + (value * tg.tensor(golden[f"w_final_{state}"], device=device)).sum()
    loss.backward()
    for key, tensor in {"x": x, **initial, **dict(cell.named_parameters())}.items():
        found = np.zeros(tensor.shape) if tensor.grad is None else host(tensor.grad)
        np.testing.assert_allclose(found, golden[f"grad_{key}"], rtol=1e-8, atol=1e-8, err_msg=key)


# -- laws --------------------------------------------------------------------------------------------------------------


@each_cell
def test_derivatives(name: str) -> None:
    """Of first and second order, of the input, the states and all parameters."""
    cell = cell_of(name, 2, 4)
    given_states = [tg.tensor(state, requires_grad=True) for state in states_of(cell, 2)]
    names = list(cell.state_dict())

    def run(x: tg.Tensor, *rest: tg.Tensor) -> tuple[tg.Tensor, ...]:
        for key, value in zip(names, rest[len(given_states) :], strict=True):
            vars(cell)[key] = value  # beside Module's guard: tensors of a graph in place of parameters
        return parts(cell(x, joined(rest[: len(given_states)])))

    inputs = [tg.tensor(drawn(2, 2), requires_grad=True), *given_states, *cell.parameters()]
    assert tg.gradcheck(run, inputs)
    assert tg.gradgradcheck(run, inputs)


@each_cell
@pytest.mark.parametrize("dtype", ["float16", "float32"])
def test_dtypes_are_kept(name: str, dtype: str) -> None:
    cell, exact = cell_of(name, dtype=dtype), cell_of(name)
    x, states = drawn(2, 3, dtype=dtype), states_of(cell, 2, dtype)
    found = parts(cell(tg.tensor(x), joined([tg.tensor(state) for state in states])))
    expected = parts(exact(tg.tensor(x, "float64"), joined([tg.tensor(state, "float64") for state in states])))
    for value, wanted in zip(found, expected, strict=True):
        assert value.dtype == dtype
        np.testing.assert_allclose(
            host(value), host(wanted), rtol=40 * np.finfo(dtype).eps, atol=np.finfo(dtype).eps * 40
        )
    with pytest.raises(TypeError, match=f"^{type(cell).__name__}: x is float64, but the parameters are {dtype}"):
        cell(tg.tensor(x, "float64"))


@each_cell
def test_no_state_means_zeros(name: str, device: str) -> None:
    cell = cell_of(name).to(device)
    x = tg.tensor(drawn(2, 3), device=device)
    zeros = [tg.zeros(2, *shape, dtype="float64", device=device) for shape in cell.state_shapes().values()]
    for found, expected in zip(parts(cell(x)), parts(cell(x, joined(zeros))), strict=True):
        np.testing.assert_array_equal(host(found), host(expected))
    for state, value in zip(cell.state_shapes().values(), parts(cell(x)), strict=True):
        assert value.shape == (2, *state)


@each_cell
def test_invalid_shapes_are_named(name: str) -> None:
    cell = cell_of(name)
    kind = type(cell).__name__
    with pytest.raises(ValueError, match=rf"^{kind}: expected an input of shape \(batch, 3\), got \(2, 4\)$"):
        cell(tg.tensor(drawn(2, 4)))
    with pytest.raises(ValueError, match=rf"^{kind}: expected .*state"):
        cell(tg.tensor(drawn(2, 3)), joined([tg.tensor(state[:, :-1]) for state in states_of(cell, 2)]))
    with pytest.raises(ValueError, match=f"^{kind}: expected an input size and a hidden size of at least 1"):
        ATLAS[name](3, 0)


@pytest.mark.parametrize("name", ["slstm", "mlstm"])
@given(shift=st.floats(-20, 20), heads=st.sampled_from([1, 2]))
def test_the_stabilizer_only_scales_the_other_states(name: str, shift: float, heads: int) -> None:
    """States that are divided by exp(m) are the same for each m."""
    cell = cell_of(name, num_heads=heads)
    h, memory, n, m = map(tg.tensor, states_of(cell, 2))
    x, scale = tg.tensor(drawn(2, 3)), float(np.exp(-shift))
    before, after = cell(x, (h, memory, n, m)), cell(x, (h, memory * scale, n * scale, m + shift))
    np.testing.assert_allclose(host(after[0]), host(before[0]), rtol=1e-9)


@each_cell
def test_traces_have_all_gates_and_their_gradients(name: str) -> None:
    cell = cell_of(name)
    x = tg.tensor(drawn(5, 2, 3))
    (layer,) = tg.inspect.trace(cell, x, lengths=[5, 3], loss=lambda out: (out[-1] * out[-1]).sum())
    assert (set(layer.before), layer.memory) == (set(cell.STATES), cell.STATES[:2][-1])
    assert set(layer.values) == set(layer.gradients) and set(layer.values) >= set(cell.STATES)
    states: Any = None
    for t in range(3):
        states = cell(x[t], states)
    for state, value in zip(cell.STATES, parts(states), strict=True):
        expected = host(value).reshape(2, -1)
        np.testing.assert_allclose(layer.values[state][2], expected, rtol=1e-12, atol=1e-14)
        np.testing.assert_array_equal(layer.before[state][3], layer.values[state][2] * [[1], [0]])
        assert not layer.values[state][3:, 1].any()
    output, *others = (value.detach() for value in parts(states))
    after = joined([output.requires_grad_(), *others])
    for t in range(3, 5):
        after = cell(x[t], after)
    (parts(after)[0][0] ** 2).sum().backward()
    gradient = np.zeros(output.shape) if output.grad is None else host(output.grad)
    np.testing.assert_allclose(layer.gradients[cell.STATES[0]][2], gradient, atol=1e-12)
    assert layer.nbytes <= tg.inspect.trace_memory(cell, x, gradients=True)


@each_cell
def test_weights_can_have_adapters(name: str) -> None:
    cell = cell_of(name)
    x, states = tg.tensor(drawn(2, 3)), joined([tg.tensor(state) for state in states_of(cell, 2)])
    before = [host(value) for value in parts(cell(x, states))]
    names = tg.nn.add_lora(cell, rank=2)
    assert names == [key for key, value in ATLAS[name](3, 4).named_parameters() if "weight" in key and value.ndim == 2]
    for expected, value in zip(before, parts(cell(x, states)), strict=True):
        np.testing.assert_allclose(host(value), expected, atol=1e-12)
    for key in names:
        adapter = getattr(cell, f"{key}_lora")
        tg.nn.init.normal_(adapter.B)
        assert any((host(value) != expected).any() for expected, value in zip(before, parts(cell(x, states))))
        tg.nn.init.zeros_(adapter.B)


# -- zoneout -----------------------------------------------------------------------------------------------------------


def test_zoneout_keeps_old_values_at_random() -> None:
    cell = ZoneoutLSTMCell(3, 50, zoneout_c=0.3, zoneout_h=0.8).to(dtype="float64")
    x, h, c = (tg.tensor(drawn(200, size)) for size in (3, 50, 50))
    new = dict(zip("hc", ZoneoutLSTMCell.forward(replaced(cell, zoneout_c=0.0, zoneout_h=0.0), x, (h, c))))
    tg.manual_seed(0)
    after = dict(zip("hc", cell(x, (h, c))))
    for state, old, p in (("h", h, 0.8), ("c", c, 0.3)):
        kept = np.isclose(host(after[state]), host(old), rtol=1e-12, atol=1e-12)
        np.testing.assert_allclose(host(after[state])[~kept], host(new[state])[~kept], atol=1e-12)
        assert abs(kept.mean() - p) < 0.02
    tg.manual_seed(0)
    np.testing.assert_array_equal(host(cell(x, (h, c))[0]), host(after["h"]))
    assert (host(cell(x, (h, c))[0]) != host(after["h"])).any()
    for state, old, p in (("h", h, 0.8), ("c", c, 0.3)):
        expectation = p * host(old) + (1 - p) * host(new[state])
        np.testing.assert_allclose(host(dict(zip("hc", cell.eval()(x, (h, c))))[state]), expectation, atol=1e-12)


def test_zoneout_draws_anew_at_each_step_of_a_sequence() -> None:
    tg.manual_seed(0)
    layer = Recurrent(ZoneoutLSTMCell(3, 50, zoneout_c=0.0, zoneout_h=0.5))
    out = host(layer(tg.tensor(drawn(6, 2, 3, dtype="float32")))[0])
    kept = np.isclose(out[1:], out[:-1], rtol=1e-6)
    assert all(0.3 < step.mean() < 0.7 for step in kept)
    assert all((one != other).any() for one, other in pairwise(kept))
    np.testing.assert_array_equal(host(layer.eval()(tg.ones(4, 2, 3))[0]), host(layer(tg.ones(4, 2, 3))[0]))


def replaced(cell: ZoneoutLSTMCell, **settings: float) -> ZoneoutLSTMCell:
    """A cell with the same weights and different options."""
    other = ZoneoutLSTMCell(cell.input_size, cell.hidden_size, **settings).to(dtype="float64")
    other.load_state_dict(cell.state_dict())
    return other


@pytest.mark.parametrize("training", [False, True])
def test_zoneout_of_all_units_changes_nothing(training: bool) -> None:
    cell = ZoneoutLSTMCell(3, 4, zoneout_c=1.0, zoneout_h=1.0).to(dtype="float64").train(training)
    states = states_of(cell, 2)
    for found, expected in zip(cell(tg.tensor(drawn(2, 3)), joined([*map(tg.tensor, states)])), states, strict=True):
        np.testing.assert_array_equal(host(found), expected)


# -- how they are made -------------------------------------------------------------------------------------------------


@each_cell
def test_first_values(name: str) -> None:
    """Weights and peepholes uniform within ±1/√H, norms 1, biases 0, or 1 for a gate by which the cell remembers."""
    keeps = {"lstm_1997": 0, "lstm_cifg": 0, "janet": 1, "ugrnn": 1, "slstm": 1, "mlstm": 1}
    for key, parameter in ATLAS[name](30, 16).named_parameters():
        values = host(parameter)
        if key.startswith("norm"):
            assert (values == 1).all()
        elif key == "bias":
            blocks = values.reshape(-1, 16) if len(values) % 16 == 0 else values[None, -1:]
            assert [*blocks.max(1)].count(1) == keeps.get(name, int(name.startswith("lstm")))
            assert (blocks.max(1) == blocks.min(1)).all()
        elif "bias" in key:
            assert not values.any()
        else:
            assert 0.2 < np.abs(values).max() <= 0.25 and (values > 0).any() and (values < 0).any()


@pytest.mark.parametrize(
    ("cell", "text"),
    [
        (ZoneoutLSTMCell(3, 5, zoneout_h=0.5), "ZoneoutLSTMCell(3, 5, zoneout_h=0.5)"),
        (ProjectionLSTMCell(3, 5), "ProjectionLSTMCell(3, 5, proj_size=2)"),
        (ProjectionLSTMCell(3, 1), "ProjectionLSTMCell(3, 1, proj_size=1)"),
        (SRUCell(3, 5), "SRUCell(3, 5)"),
        (MLSTMCell(3, 6, num_heads=2), "MLSTMCell(3, 6, num_heads=2)"),
        (CoRNNCell(3, 5, dt=0.1), "CoRNNCell(3, 5, dt=0.1)"),
    ],
)
def test_it_says_its_options(cell: Cell, text: str) -> None:
    assert repr(cell).startswith(f"{text}  ")


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (
            lambda: ZoneoutLSTMCell(3, 5, zoneout_c=1.5),
            "ZoneoutLSTMCell: expected zoneout_c to be a probability from 0 to 1, got 1.5",
        ),
        (
            lambda: ZoneoutLSTMCell(3, 5, zoneout_h=float("nan")),
            "ZoneoutLSTMCell: expected zoneout_h to be a probability from 0 to 1, got nan",
        ),
        (
            lambda: ProjectionLSTMCell(3, 5, proj_size=6),
            "ProjectionLSTMCell: expected a proj_size from 1 to 5, which is H, got 6",
        ),
        (
            lambda: ProjectionLSTMCell(3, 5, proj_size=0),
            "ProjectionLSTMCell: expected a proj_size from 1 to 5, which is H, got 0",
        ),
        (lambda: SLSTMCell(3, 5, num_heads=2), "SLSTMCell: expected num_heads to divide the hidden size 5, got 2"),
        (lambda: MLSTMCell(3, 5, num_heads=0), "MLSTMCell: expected num_heads to divide the hidden size 5, got 0"),
        (lambda: JANETCell(3, 5, beta=float("inf")), "JANETCell: expected a finite beta, got inf"),
        (lambda: LEMCell(3, 5, dt=float("nan")), "LEMCell: expected a finite dt, got nan"),
        (lambda: CoRNNCell(3, 5, gamma=float("inf")), "CoRNNCell: expected a finite gamma, got inf"),
        (lambda: SRUCell(3, 5, alpha=float("inf")), "SRUCell: expected a finite alpha, got inf"),
    ],
)
def test_invalid_options_are_named(make: Callable[[], Any], message: str) -> None:
    with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
        make()
