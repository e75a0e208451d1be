"""`Recurrent`: any cell over sequences, in layers and directions."""

import copy
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import onnxruntime
import pytest
from any_cells import GatedCell, MatrixCell, as_parts, checked_derivatives, drawn
from drawn_graphs import drawn as drawn_graph
from hypothesis import given, settings
from hypothesis import strategies as st

import tinygrad_lstm as tg
from tinygrad_lstm.models import GRU, LSTM, RNN, GRUCell, LSTMCell, Recurrent, RNNCell, atlas

SIZED: list[Any] = [LSTMCell, GRUCell, RNNCell, GatedCell]
each_cell = pytest.mark.parametrize("kind", SIZED)


def made(kind: Any, *sizes: int, device: str = "cpu", seed: int = 1) -> Any:
    tg.manual_seed(seed)
    cell = kind(*sizes).to(device, "float64")
    cell.load_state_dict({name: drawn(*value.shape, seed=seed) for name, value in cell.state_dict().items()})
    return cell


def on(device: str, *shape: int, **options: Any) -> tg.Tensor:
    return tg.tensor(drawn(*shape), device=device, **options)


def host(tensor: tg.Tensor) -> np.ndarray:
    return tensor.detach().cpu().numpy()


def equal(actual: Any, expected: Any) -> None:
    for one, other in zip(as_parts(actual), as_parts(expected), strict=True):
        rounding = 1e-5 if one.dtype == "float32" else 1e-12  # layer norms of small deviations enlarge errors
        np.testing.assert_allclose(host(one), host(other), rtol=rounding, atol=rounding)


# -- the same as by hand -----------------------------------------------------------------------------------------------


@each_cell
@given(T=st.integers(0, 4), B=st.integers(0, 3), pairs=st.lists(st.booleans(), min_size=1, max_size=2), data=st.data())
@settings(max_examples=10)
def test_layers_and_directions_equal_those_by_hand(
    kind: Any, device: str, T: int, B: int, pairs: list[bool], data: st.DataObject
) -> None:
    """Values, first and second derivatives, of `scan`s one after the other."""
    lengths = data.draw(st.none() | st.lists(st.integers(0, T), min_size=B, max_size=B))
    resets = data.draw(st.none() | st.just(np.random.default_rng(3).random((T, B)) < 0.4))
    batch_first = data.draw(st.booleans())
    layers, size = [], 3
    for k, pair in enumerate(pairs):
        cells = [made(kind, size, 2, device=device, seed=2 * k + direction) for direction in range(1 + pair)]
        layers.append(tuple(cells))
        size = 2 * len(cells)
    network = Recurrent([cells if len(cells) > 1 else cells[0] for cells in layers], batch_first)
    x = on(device, T, B, 3, requires_grad=True)
    flags = None if resets is None else resets.T if batch_first else resets
    out, state = network(x.transpose(0, 1) if batch_first else x, None, lengths, flags)
    expected, finals = x, []
    for cells in layers:
        outputs = []
        for cell, reverse in zip(cells, (False, True)):
            own, final = tg.scan(cell, expected, None, lengths, resets, reverse)
            outputs.append(own)
            finals.append(final)
        expected = tg.cat(outputs, dim=-1)
    states = state if len(finals) > 1 else [state]
    assert isinstance(states, list) and len(states) == len(finals)
    checked_derivatives(
        [out.transpose(0, 1) if batch_first else out, *(part for each in states for part in as_parts(each))],
        [expected, *(part for each in finals for part in as_parts(each))],
        [x, *network.parameters()],
    )
    again, _ = network(x.transpose(0, 1) if batch_first else x, state, lengths)  # a state is taken as it is returned
    assert again.shape == out.shape


@pytest.mark.parametrize(("network", "cell"), [(LSTM, LSTMCell), (GRU, GRUCell), (RNN, RNNCell)])
def test_the_networks_are_the_same_with_names_of_their_own(network: Any, cell: Any, device: str) -> None:
    def weights(size: int, arrays: dict[str, np.ndarray]) -> Any:
        made = cell(size, 5)
        if cell is not GRUCell:
            arrays["weight"] = np.concatenate([arrays.pop("weight_hh"), arrays.pop("weight_ih")], axis=1)
        made.load_state_dict(arrays)
        return made

    fused = network(3, 5, num_layers=2, bidirectional=True).to(device)
    own = fused.state_dict()

    def of(place: str) -> dict[str, np.ndarray]:
        return {name.removesuffix(place): array for name, array in own.items() if name.endswith(place)}

    layers = [(weights(size, of(f"_l{k}")), weights(size, of(f"_l{k}_reverse"))) for k, size in enumerate((3, 10))]
    layer = Recurrent(layers).to(device)
    x = tg.tensor(drawn(6, 3, 3).astype("float32"), device=device)
    out, state = layer(x, lengths=[6, 0, 4])
    expected, final = fused(x, lengths=[6, 0, 4])
    np.testing.assert_allclose(host(out), host(expected), atol=1e-6)
    columns = [tg.stack(list(parts)) for parts in zip(*map(as_parts, state), strict=True)]
    for one, other in zip(columns, as_parts(final), strict=True):
        np.testing.assert_allclose(host(one), host(other), atol=1e-6)


@each_cell
@pytest.mark.parametrize("batch_first", [False, True])
def test_a_sequence_without_a_batch(kind: Any, batch_first: bool) -> None:
    pair = made(kind, 3, 2), made(kind, 3, 2, seed=2)
    network, x = Recurrent(pair, batch_first), on("cpu", 5, 3)
    resets = np.array([False, True, False, False, True])
    out, state = network(x, resets=resets)
    batched = Recurrent(pair)
    expected, final = batched(x.unsqueeze(1), resets=resets[:, None])
    equal(out, expected[:, 0])
    for one, other in zip(state, final, strict=True):
        equal(one, tuple(part[0] for part in as_parts(other)) if isinstance(other, tuple) else other[0])
    again, _ = network(x, state)
    equal(again, batched(x.unsqueeze(1), final)[0][:, 0])
    equal(network(x, lengths=[3])[0], batched(x.unsqueeze(1), lengths=[3])[0][:, 0])


@each_cell
@given(T=st.integers(2, 5), cut=st.integers(1, 4))
@settings(max_examples=5)
def test_a_state_carries_on(kind: Any, T: int, cut: int) -> None:
    network, x = Recurrent([made(kind, 3, 2), made(kind, 2, 4)]), on("cpu", T, 2, 3)
    whole, final = network(x)
    first, state = network(x[:cut])
    second, last = network(x[cut:], state)
    equal(tg.cat([first, second]), whole)
    for one, other in zip(last, final, strict=True):
        equal(one, other)
    equal(network(x[:cut], [None, None])[0], first)


def test_a_matrix_as_a_state_and_an_output(device: str) -> None:
    network = Recurrent((made(MatrixCell, 3, 2, device=device), made(MatrixCell, 3, 2, device=device, seed=2)))
    out, (M, N) = network(on(device, 4, 2, 3), lengths=[4, 1])
    assert out.shape == (4, 2, 2, 4) and M.shape == N.shape == (2, 2, 2)
    np.testing.assert_array_equal(host(out)[3, 0, :, :2], host(M)[0])
    np.testing.assert_array_equal(host(out)[0, 1, :, 2:], host(N)[1])
    assert not host(out)[1:, 1].any()


@given(T=st.integers(1, 6), seed=st.integers(0, 50))
def test_resets_cut_a_sequence_into_pieces(T: int, seed: int) -> None:
    """Each is run alone, forward or backward."""
    network, x = Recurrent((made(GatedCell, 3, 2), made(GatedCell, 3, 2, seed=2))), on("cpu", T, 1, 3)
    resets = np.random.default_rng(seed).random((T, 1)) < 0.4
    out, _ = network(x, resets=resets)
    cells = list(next(iter(network.cells)).children())
    cuts = [0, *(t for t in range(1, T) if resets[t]), T]
    forward = [tg.scan(cells[0], x[a:b], None)[0] for a, b in pairwise(cuts)]
    cuts = [0, *(t + 1 for t in range(T - 1) if resets[t]), T]
    backward = [tg.scan(cells[1], x[a:b], None, reverse=True)[0] for a, b in pairwise(cuts)]
    equal(out, tg.cat([tg.cat(forward), tg.cat(backward)], dim=-1))


def test_dropout_is_between_layers_in_training_only() -> None:
    cells = [made(RNNCell, 3, 50), made(RNNCell, 50, 4)]
    x, plain = on("cpu", 5, 2, 3), Recurrent(cells)
    network = Recurrent(cells, dropout=0.5)
    equal(network.eval()(x)[0], plain(x)[0])
    network.train()
    tg.manual_seed(5)
    out, _ = network(x)
    tg.manual_seed(5)
    between, _ = tg.scan(cells[0], x, None)
    expected, _ = tg.scan(cells[1], tg.dropout(between, 0.5), None)
    equal(out, expected)
    equal(Recurrent(cells[:1], dropout=0.5)(x)[0], between)


class NestedCell(tg.nn.Module):
    """Each step runs a sequence of its own over the parts of its input."""

    def __init__(self) -> None:
        self.inner, self.outer = Recurrent(GatedCell(2, 3)), GRUCell(3, 4)

    def forward(self, x: tg.Tensor, h: Any = None) -> Any:
        _, (last, _) = self.inner(x.reshape(len(x), 3, 2).transpose(0, 1))
        return self.outer(last, h)


@pytest.mark.parametrize("compiled", [None, True, False])
def test_a_cell_may_contain_a_network(compiled: bool | None) -> None:
    cell, x = made(NestedCell), on("cpu", 4, 2, 6, requires_grad=True)
    h, outs = None, []
    for x_t in x:
        h = cell(x_t, h)
        outs.append(h)
    out, _ = Recurrent(cell, compiled=compiled)(x)
    checked_derivatives([out], [tg.stack(outs)], [x, *cell.parameters()])


class AttendingCell(tg.nn.Module):
    """It uses a tensor of the whole batch, (B, S, H), that was set before."""

    def __init__(self, learnt: bool) -> None:
        self.weight, self.start, self.learnt = tg.nn.Linear(3, 4), tg.nn.Parameter(tg.ones(4)), learnt

    def forward(self, x: tg.Tensor, h: Any = None) -> Any:
        if h is None:
            h = self.start.broadcast_to(len(x), 4) if self.learnt else tg.zeros(len(x), 4, dtype=x.dtype)
        scores = tg.softmax((self.memory * h.unsqueeze(1)).sum(-1), dim=-1)
        return tg.tanh(self.weight(x) + (self.memory * scores.unsqueeze(2)).sum(1))

    memory: tg.Tensor


@pytest.mark.parametrize("learnt", [False, True])
def test_a_cell_may_use_tensors_of_the_whole_batch(learnt: bool) -> None:
    cell, x = made(AttendingCell, learnt), on("cpu", 4, 5, 3, requires_grad=True)
    cell.memory = on("cpu", 5, 6, 4, requires_grad=True)
    h, outs = None, []
    for x_t in x:
        h = cell(x_t, h)
        outs.append(h)
    out, _ = Recurrent(cell)(x)
    inputs = [x, cell.memory, cell.weight.weight, *([cell.start] if learnt else [])]
    checked_derivatives([out], [tg.stack(outs)], inputs)


# -- as a module -------------------------------------------------------------------------------------------------------


def test_parameters_have_the_names_of_the_cells() -> None:
    network = Recurrent([GRUCell(3, 4), (RNNCell(4, 5), GatedCell(4, 5)), RNNCell(10, 2)])
    names = [name for name, _ in network.named_parameters()]
    assert {name.rpartition(".")[0] for name in names} == {
        "cells.0", "cells.1.0", "cells.1.1", "cells.1.1.gate", "cells.2",
    }  # fmt: skip
    assert {"cells.0.weight_hh", "cells.1.0.weight", "cells.1.1.start", "cells.2.bias"} <= {*names}
    listed = Recurrent(tg.nn.ModuleList([GRUCell(3, 4), (RNNCell(4, 5))]))
    assert listed.cells[1].hidden_size == 5 and len(Recurrent(network.cells).cells) == 3
    shared = RNNCell(3, 3)
    assert len(list(Recurrent([shared, shared]).parameters())) == 2


def test_it_is_copied_saved_loaded_and_moved(tmp_path: Path, device: str) -> None:
    def network() -> Recurrent:
        return Recurrent([(LSTMCell(3, 4), GatedCell(3, 4)), GRUCell(8, 2)])

    original, x = network().to(device), tg.ones(5, 2, 3, device=device)
    out = host(original(x)[0])
    twin = copy.deepcopy(original)
    np.testing.assert_array_equal(host(twin(x)[0]), out)
    twin.load_state_dict({name: 0 * array for name, array in twin.state_dict().items()})
    np.testing.assert_array_equal(host(original(x)[0]), out)
    tg.io.save_weights(tmp_path / "a.safetensors", original.state_dict())
    loaded = network().to(device)
    loaded.load_state_dict(tg.io.load_weights(tmp_path / "a.safetensors"))
    np.testing.assert_array_equal(host(loaded(x)[0]), out)
    wide = loaded.to(dtype="float64")
    assert wide(x.to(dtype="float64"))[0].dtype == "float64"
    np.testing.assert_allclose(host(loaded.to("cpu", "float32")(x.cpu())[0]), out, atol=1e-6)


def test_its_repr_shows_settings_and_cells() -> None:
    network = Recurrent([(RNNCell(3, 4), RNNCell(3, 4)), GRUCell(8, 2)], True, dropout=0.25, compiled=False)
    assert [line[: line.rindex("  ")].rstrip() for line in repr(network).splitlines()] == [
        "Recurrent(batch_first=True, dropout=0.25, compiled=False)",
        "  cells: ModuleList",
        "    0: Directions",
        "      0: RNNCell",
        "      1: RNNCell",
        "    1: GRUCell",
    ]
    assert repr(Recurrent(RNNCell(3, 4))).startswith("Recurrent   ")


def test_it_learns_lengths_and_all() -> None:
    """The sum of a sequence, from padded batches."""
    tg.manual_seed(1)
    network, head = Recurrent(GatedCell(1, 8)), tg.nn.Linear(8, 1)
    optimizer = tg.optim.Adam([*network.parameters(), *head.parameters()], lr=0.03)
    rng, losses = np.random.default_rng(2), []
    for _ in range(60):
        x, lengths = rng.uniform(0, 0.3, (6, 16, 1)).astype("float32"), rng.integers(1, 7, 16)
        x[np.arange(6)[:, None] >= lengths] = np.nan
        _, (h, _) = network(tg.tensor(x), lengths=lengths)
        loss = tg.mse_loss(head(h), tg.tensor(np.nansum(x, axis=0)))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert np.mean(losses[-10:]) < 0.2 * np.mean(losses[:5])


# -- looking inside ----------------------------------------------------------------------------------------------------


class Gates(NamedTuple):
    z: tg.Tensor
    h: tg.Tensor


class ReadingCell(tg.nn.Module):
    def forward(self, x: tg.Tensor, h: tg.Tensor | None = None) -> tg.Tensor:
        return x if x.sum().item() > 0 else -x


class ShownCell(tg.nn.Module):
    """A user-defined cell that shows its gates."""

    STATES = ("h",)

    def __init__(self, input_size: int, hidden_size: int) -> None:
        self.hidden_size = hidden_size
        self.gate = tg.nn.Linear(input_size + hidden_size, 2 * hidden_size)

    def gates(self, x: tg.Tensor, h: Any = None) -> Gates:
        h = tg.zeros(len(x), self.hidden_size) if h is None else h
        net_z, net_g = tg.chunk(self.gate(tg.cat([h, x], dim=-1)), 2, dim=-1)
        z = tg.sigmoid(net_z)
        return tg.inspect.show_step(self, "shown", x, {"h": h}, Gates(z, h + z * (tg.tanh(net_g) - h)))

    def forward(self, x: tg.Tensor, h: Any = None) -> tg.Tensor:
        return self.gates(x, h).h


def test_a_trace_has_the_gates_of_all_cells() -> None:
    """In the order of the sequence, with gradients, and zeros past a length."""
    network = Recurrent([(ShownCell(3, 4), ShownCell(3, 4)), LSTMCell(8, 5)])
    x, lengths = tg.tensor(drawn(6, 2, 3).astype("float32")), [6, 4]
    traced = tg.inspect.trace(network, x, lengths=lengths, loss=lambda out: (out * out).sum())
    assert [(layer.name, layer.kind, layer.reverse) for layer in traced] == [
        ("cells.0.0", "shown", False), ("cells.0.1", "shown", True), ("cells.1", "LSTM", False),
    ]  # fmt: skip
    forward, backward, above = traced
    np.testing.assert_array_equal(forward.inputs[:4], x.numpy()[:4])
    np.testing.assert_array_equal(forward.inputs, backward.inputs)
    assert not any(array[4:, 1].any() for layer in traced for array in (layer.inputs, *layer.values.values()))
    np.testing.assert_array_equal(np.concatenate([forward.h, backward.h], axis=-1), above.inputs)
    np.testing.assert_array_equal(forward.before["h"][1:, 0], forward.h[:-1, 0])
    np.testing.assert_array_equal(backward.before["h"][:-1, 0], backward.h[1:, 0])
    out, _ = network(x, lengths=lengths)
    np.testing.assert_allclose(above.h, out.detach().numpy(), atol=1e-6)
    assert traced.output is not None and all(
        np.abs(array).max() > 0 for layer in traced for array in layer.gradients.values()
    )


def test_a_trace_of_an_lstm_cell_is_that_of_the_network() -> None:
    network = LSTM(3, 4)
    cell = LSTMCell(3, 4)
    arrays = {name.removesuffix("_l0"): array for name, array in network.state_dict().items()}
    arrays["weight"] = np.concatenate([arrays.pop("weight_hh"), arrays.pop("weight_ih")], axis=1)
    cell.load_state_dict(arrays)
    x, loss = tg.tensor(drawn(6, 2, 3).astype("float32")), lambda out: (out * out).sum()
    (one,), (other,) = (tg.inspect.trace(model, x, lengths=[6, 4], loss=loss) for model in (Recurrent(cell), network))
    for name, values in other.values.items():
        np.testing.assert_allclose(one.values[name], values, atol=1e-6)
        np.testing.assert_allclose(one.gradients[name], other.gradients[name], atol=1e-6)
        np.testing.assert_allclose(one.parameters["weight_hh"], other.parameters["weight_hh"])
    for name, before in other.before.items():
        np.testing.assert_allclose(one.before[name], before, atol=1e-6)


def test_summary_and_graph_know_it() -> None:
    network, x = Recurrent([ShownCell(3, 4), GRUCell(4, 5)], compiled=False), tg.ones(6, 2, 3, requires_grad=True)
    summary = str(tg.inspect.summary(network, x))
    assert "ShownCell" in summary and "(2, 5) × 6" in summary
    assert drawn_graph(network(x)[0].sum(), network).loops() == ["× 6", "× 6"]


@pytest.mark.parametrize("cells", [
    lambda: LSTMCell(3, 4),
    lambda: [(GatedCell(3, 4), GRUCell(3, 4)), LSTMCell(8, 2)],
    lambda: MatrixCell(3, 2),
    lambda: atlas.MLSTMCell(3, 4),
])  # fmt: skip
@pytest.mark.parametrize("options", [(), ("lengths",), ("resets",), ("lengths", "resets", "batch_first")], ids=str)
def test_it_is_exported_to_onnx(tmp_path: Path, cells: Callable[[], Any], options: tuple[str, ...]) -> None:
    """As a Scan for each layer and direction, of any number of steps and sequences."""
    tg.manual_seed(1)
    network, batch_first = Recurrent(cells(), "batch_first" in options), "batch_first" in options
    first, second = ("batch", "time") if batch_first else ("time", "batch")

    def of(T: int, B: int) -> dict[str, np.ndarray]:
        shape = (B, T) if batch_first else (T, B)
        given = {"x": drawn(*shape, 3).astype("float32")}
        given |= {"lengths": np.arange(B) % (T + 1)} if "lengths" in options else {}
        return given | ({"resets": drawn(*shape) > 0.2} if "resets" in options else {})

    dynamic = {"x": {0: first, 1: second}, "resets": {0: first, 1: second}, "lengths": {0: "batch"}}
    given = of(5, 3)
    tg.io.export_onnx(network, tmp_path / "a.onnx", given, dynamic={name: dynamic[name] for name in given})
    session = onnxruntime.InferenceSession(tmp_path / "a.onnx")
    for T, B in ((5, 3), (2, 4)):
        outs = session.run(None, of(T, B))
        expected = network.named_forward(**{name: tg.tensor(array) for name, array in of(T, B).items()})
        assert [output.name for output in session.get_outputs()] == list(expected)
        for one, other in zip(outs, expected.values(), strict=True):
            np.testing.assert_allclose(one, host(other), atol=1e-5)


def test_its_own_inputs_have_the_names_of_the_states(tmp_path: Path) -> None:
    network = Recurrent([(LSTMCell(3, 4), GRUCell(3, 4)), RNNCell(8, 2)])
    tg.io.export_onnx(network, tmp_path / "a.onnx")
    session = onnxruntime.InferenceSession(tmp_path / "a.onnx")
    assert [given.name for given in session.get_inputs()] == ["x", "0.0.h0", "0.0.c0", "0.1.h0", "1.h0"]
    given = {each.name: drawn(*((6, 2, 3) if each.name == "x" else (2, each.shape[1]))).astype("float32")
             for each in session.get_inputs()}  # fmt: skip
    out, *_ = session.run(None, given)
    state = [(given["0.0.h0"], given["0.0.c0"]), given["0.1.h0"], given["1.h0"]]
    np.testing.assert_allclose(out, host(network(given["x"], state)[0]), atol=1e-5)
    with pytest.raises(ValueError, match=r"Recurrent: expected the states 0\.0\.h0, .*, got h0"):
        network.named_forward(tg.tensor(given["x"]), h0=tg.zeros(2, 4))
    with pytest.raises(ValueError, match="give examples"):
        tg.io.export_onnx(Recurrent(GatedCell(3, 4)), tmp_path / "b.onnx")


@pytest.mark.parametrize("name", [name for name in atlas.__all__ if name.endswith("Cell") and name != "Cell"])
def test_every_cell_of_the_atlas_runs_over_sequences(name: str) -> None:
    cell = getattr(atlas, name)(4, 4)
    x, state, steps = tg.tensor(drawn(5, 2, 4).astype("float32")), None, []
    for x_t in x:
        state = cell.eval()(x_t, state)
        steps.append(as_parts(state)[0])
    out, final = Recurrent(cell)(x)
    equal(out, tg.stack(steps))
    equal(final, state)
    padded, _ = Recurrent(cell)(x, lengths=[5, 2])
    equal(padded[:2], out[:2])
    assert not host(padded)[2:, 1].any()


@pytest.mark.parametrize("run", [
    lambda network, x: tg.checkpoint(lambda x: network(x, lengths=[5, 3])[0], x),
    lambda network, x: tg.func.functional_call(network, dict(network.named_parameters()), (x, None, [5, 3]))[0],
], ids=["checkpoint", "functional_call"])  # fmt: skip
def test_it_runs_within_other_functions(run: Callable[[Any, tg.Tensor], tg.Tensor]) -> None:
    network = Recurrent([(made(GatedCell, 3, 2), made(GatedCell, 3, 2, seed=2)), made(LSTMCell, 4, 2)])
    x = on("cpu", 5, 2, 3, requires_grad=True)
    checked_derivatives([run(network, x)], [network(x, lengths=[5, 3])[0]], [x, *network.parameters()])


# -- errors ------------------------------------------------------------------------------------------------------------


def called(network: Callable[[], Recurrent], *arguments: Any, **options: Any) -> Callable[[], Any]:
    return lambda: network()(*arguments, **options)


def plain() -> Recurrent:
    return Recurrent(RNNCell(3, 4))


def double() -> Recurrent:
    return Recurrent([RNNCell(3, 4), RNNCell(4, 4)])


X = tg.ones(5, 2, 3)


@pytest.mark.parametrize(("call", "error", "message"), [
    (lambda: Recurrent([]), ValueError, "Recurrent: expected at least one cell, got an empty list"),
    (lambda: Recurrent(lambda x, h: h), TypeError, "expected a cell, a module with .*, got function; .* by tg.scan"),
    (lambda: Recurrent((RNNCell(3, 4),)), ValueError, "expected a pair .*, got a tuple of 1"),
    (lambda: Recurrent([RNNCell(3, 4)], dropout=1.5), ValueError, r"expected a dropout in \[0, 1\], got 1.5"),
    (lambda: Recurrent([RNNCell(3, 4)], dropout=True), TypeError, "dropout is True; expected a number from 0 to 1"),
    (called(plain, tg.ones(3)), ValueError, r"expected an input of shape .*, got \(3,\)"),
    (called(plain, X, lengths=[6, 1]), ValueError, "expected 2 lengths, integers from 0 to 5"),
    (called(plain, X, resets=np.zeros((2, 5), bool)), ValueError, r"expected resets of shape \(5, 2\) and dtype bool"),
    (called(plain, tg.ones(5, 3), resets=np.zeros((5, 1), bool)), ValueError, r"expected resets of shape \(5,\)"),
    (called(plain, X, tg.ones(3, 4)), ValueError, r"expected states of shape \(2, ...\), for a batch of 2"),
    (called(plain, X, 3), TypeError, "expected a state of one Tensor, or a tuple of Tensors, got int"),
    (called(double, X, tg.ones(2, 4)), ValueError, "expected a list of 2 states, .* got a Tensor"),
    (called(double, X, [tg.ones(2, 4)]), ValueError, "expected a list of 2 states, one for each .*, got 1"),
    (called(lambda: Recurrent(ReadingCell(), compiled=True), X), ValueError, "compiled=True: the step reads a value"),
])  # fmt: skip
def test_errors_say_what_was_expected(call: Callable[[], Any], error: Any, message: str) -> None:
    with pytest.raises(error, match=message) as raised:
        call()
    assert "\n" not in str(raised.value)
