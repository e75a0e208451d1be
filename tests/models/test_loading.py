"""Networks made of other frameworks' weights: names, gate orders, biases, sizes; and what does not fit."""

import itertools
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from safetensors.numpy import load_file

import tinygrad_lstm as tg
from tinygrad_lstm.models import GRU, LSTM, RNN
from tinygrad_lstm.models.recurrent import _Recurrent

Arrays = dict[str, np.ndarray]
KINDS: list[type[_Recurrent]] = [LSTM, GRU, RNN]
GATES = {LSTM: "ifgo", GRU: "rzn", RNN: "h"}

sizes = st.fixed_dictionaries(
    {"input_size": st.integers(1, 4), "hidden_size": st.integers(1, 4), "num_layers": st.integers(1, 3)}
)
layouts = st.fixed_dictionaries({"bidirectional": st.booleans(), "batch_first": st.booleans()})
variants = {
    LSTM: st.fixed_dictionaries(
        {}, optional={"peephole": st.just(True), "layer_norm": st.sampled_from(["cell", "output"])}
    ),
    GRU: st.just({}),
    RNN: st.sampled_from([{}, {"nonlinearity": "relu"}]),
}


@st.composite
def networks(draw: st.DrawFn, kinds: list[type[_Recurrent]] = KINDS) -> _Recurrent:
    """A network of any kind and size, with every parameter drawn."""
    kind = draw(st.sampled_from(kinds))
    settings = {**draw(sizes), **draw(layouts), **draw(variants[kind])}
    if kind is LSTM and settings["hidden_size"] > 1 and draw(st.booleans()):
        settings["proj_size"] = settings["hidden_size"] - 1
    return with_drawn_parameters(kind(**settings), draw(st.integers(0, 2**32)))


def with_drawn_parameters(network: _Recurrent, seed: int) -> _Recurrent:
    rng = np.random.default_rng(seed)
    network.load_state_dict(
        {name: rng.standard_normal(array.shape).astype(array.dtype) for name, array in network.state_dict().items()}
    )
    return network


def same(one: _Recurrent, other: _Recurrent) -> bool:
    """Whether two networks have the same settings, and the same parameters to the bit."""
    a, b = one.state_dict(), other.state_dict()
    return repr(one) == repr(other) and a.keys() == b.keys() and all(np.array_equal(a[k], b[k]) for k in a)


def told_by_no_array(network: Any) -> dict[str, Any]:
    """The settings that `from_torch` must be given."""
    told = {"LSTM": ("layer_norm",), "RNN": ("nonlinearity",), "GRU": ()}[network.KIND]
    return {"batch_first": network.batch_first, **{name: getattr(network, name) for name in told}}


# -- PyTorch's names ---------------------------------------------------------------------------------------------------


@given(networks(), st.sampled_from(["", "lstm", "encoder.rnn."]))
def test_what_goes_to_torch_comes_back(network: _Recurrent, prefix: str) -> None:
    start = prefix if not prefix or prefix.endswith(".") else f"{prefix}."
    arrays = {f"{start}{name}": array for name, array in network.to_torch().items()}
    assert all(f"{start}bias_{of}_l0" in arrays for of in ("ih", "hh"))
    options = {name: value for name, value in told_by_no_array(network).items() if value is not None}
    assert same(type(network).from_torch(arrays, prefix, **options), network)


@given(networks(), st.data())
def test_rows_in_any_order_of_the_gates(network: Any, data: st.DataObject) -> None:
    own = GATES[type(network)]
    order = "".join(data.draw(st.permutations(own)))
    H, arrays = network.hidden_size, network.to_torch()

    def reordered(array: np.ndarray, own: str) -> np.ndarray:
        by_gate = array.reshape(len(own), H, *array.shape[1:])
        return by_gate[[own.index(gate) for gate in order if gate in own]].reshape(array.shape)

    theirs = {}
    for name, array in arrays.items():
        if name.startswith("peephole"):
            theirs[name] = reordered(array, "ifo")
        elif name.startswith(("weight_ih", "weight_hh", "bias_ih", "bias_hh", "norm_ih", "norm_hh")):
            theirs[name] = reordered(array, own)
        else:
            theirs[name] = array
    options = {name: value for name, value in told_by_no_array(network).items() if value is not None}
    spelt = data.draw(st.sampled_from([order, order.upper(), order.replace("g", "c")]))
    assert same(type(network).from_torch(theirs, gates=spelt, **options), network)


def test_two_biases_are_summed() -> None:
    arrays = LSTM(2, 3).to_torch()
    arrays |= {"bias_ih_l0": np.arange(12, dtype="float32"), "bias_hh_l0": np.ones(12, "float32")}
    assert LSTM.from_torch(arrays).state_dict()["bias_l0"].tolist() == list(range(1, 13))


@pytest.mark.parametrize("kind", KINDS)
def test_without_biases_they_are_zero(kind: type[_Recurrent]) -> None:
    arrays = {name: array for name, array in kind(2, 3).to_torch().items() if not name.startswith("bias")}
    loaded = kind.from_torch(arrays).state_dict()
    assert all(not array.any() for name, array in loaded.items() if name.startswith("bias"))
    assert np.array_equal(loaded["weight_hh_l0"], arrays["weight_hh_l0"])


@pytest.mark.parametrize("dtype", ["float16", "float32", "float64"])
def test_the_network_gets_the_arrays_dtype(dtype: str) -> None:
    arrays = {name: array.astype(dtype) for name, array in GRU(2, 3).to_torch().items()}
    assert {p.dtype.name for p in GRU.from_torch(arrays).parameters()} == {dtype}


def test_it_lies_on_the_default_device(device: str) -> None:
    arrays = LSTM(2, 3).to_torch()
    with tg.default_device(device):
        network = LSTM.from_torch(arrays)
    assert {str(p.device) for p in network.parameters()} == {str(tg.zeros(1, device=device).device)}
    assert np.array_equal(network.state_dict()["weight_ih_l0"], arrays["weight_ih_l0"])


def test_cells_become_the_layers_of_a_stack() -> None:
    network = with_drawn_parameters(LSTM(2, 3, num_layers=2), 0)
    arrays = network.to_torch()
    cells = {f"cells.{name[-1]}.{name[:-3]}": array for name, array in arrays.items()}
    assert cells.keys() >= {"cells.0.weight_ih", "cells.1.bias_hh"}
    assert same(LSTM.from_torch(cells, ["cells.0", "cells.1"]), network)


def test_layers_that_do_not_fit_make_no_stack() -> None:
    arrays = {f"{name}.{key}": value for name, network in (("a", LSTM(2, 3)), ("b", LSTM(3, 3)), ("c", LSTM(3, 4)))
              for key, value in network.to_torch().items()}  # fmt: skip
    assert LSTM.from_torch(arrays, ["a", "b"]).num_layers == 2
    with pytest.raises(ValueError, match=r"LSTM\(2, 3\) cannot stand on LSTM\(3, 3\), whose outputs have 3 numbers"):
        LSTM.from_torch(arrays, ["b", "a"])
    with pytest.raises(ValueError, match=r"LSTM\(2, 3\) and LSTM\(3, 4\) cannot be layers of one network"):
        LSTM.from_torch(arrays, ["a", "c"])
    with pytest.raises(ValueError, match="list of prefixes is empty"):
        LSTM.from_torch(arrays, [])


@given(networks(), st.data())
def test_one_error_names_all_that_is_wrong(network: _Recurrent, data: st.DataObject) -> None:
    arrays = network.to_torch()
    # Without the first layer's weights nothing tells the sizes.
    names = [name for name in arrays if name not in ("weight_ih_l0", "weight_hh_l0") and "weight_hr" not in name]
    chosen = data.draw(st.lists(st.sampled_from(names), min_size=1, unique=True))
    renamed, misshapen = chosen[::2], chosen[1::2]
    faulty = {name: array for name, array in arrays.items() if name not in renamed}
    faulty |= {f"other_{name}": arrays[name] for name in renamed}
    faulty |= {name: np.concatenate([arrays[name], arrays[name]]) for name in misshapen}
    options = {name: value for name, value in told_by_no_array(network).items() if value is not None}
    with pytest.raises(ValueError, match=rf"^{network.KIND}\.from_torch: ") as raised:
        type(network).from_torch(faulty, **options)
    said = str(raised.value)
    parts = dict(part.split(": ", 1) for part in said.split(f"make no {network.KIND}: ")[1].split("; "))
    # A role that no place has any more is not missed: a network may be without biases.
    roles = {name.rsplit("_l", 1)[0] for name in faulty if not name.startswith("other_")}
    together = [{"bias_ih", "bias_hh"}, {"norm_ih", "norm_hh", "norm_c"}]
    expected = roles.union(*(group for group in together if group & roles))
    missed = {name for name in renamed if name.rsplit("_l", 1)[0] in expected}
    missed |= {name for name in renamed if name.startswith(("weight_ih", "weight_hh"))}
    assert set(filter(None, parts.get("missing", "").split(", "))) == missed
    assert set(parts.get("extra", "").split(", ")) - {""} == {f"other_{name}" for name in renamed}
    for name in misshapen:
        assert f"{name} ({faulty[name].shape}, expected {arrays[name].shape})" in parts["misshapen"]
    assert "\n" not in said


def test_a_prefix_that_is_not_there_is_told_which_are() -> None:
    arrays = {f"encoder.lstm.{name}": array for name, array in LSTM(2, 3).to_torch().items()}
    with pytest.raises(ValueError, match=r"no recurrent layer is under the prefix 'lstm'; .* under 'encoder\.lstm'"):
        LSTM.from_torch(arrays, "lstm")


@pytest.mark.parametrize(("theirs", "asked"), [p for p in itertools.product(KINDS, KINDS) if p[0] is not p[1]])
def test_another_kind_is_told_which_it_is(theirs: type[_Recurrent], asked: type[_Recurrent]) -> None:
    with pytest.raises(ValueError, match=rf"are {theirs.KIND} layers; use {theirs.KIND}\.from_torch"):
        asked.from_torch(theirs(2, 3).to_torch())


def test_gates_must_be_those_of_the_kind() -> None:
    with pytest.raises(ValueError, match=r"gates: expected the letters of 'ifgo' .* got 'ifg'"):
        LSTM.from_torch(LSTM(2, 3).to_torch(), gates="ifg")


def test_integers_are_no_weights() -> None:
    arrays = LSTM(2, 3).to_torch()
    arrays["bias_ih_l0"] = arrays["bias_ih_l0"].astype("int64")
    with pytest.raises(ValueError, match=r"misshapen: bias_ih_l0 \(int64 \(12,\), expected \(12,\)\)"):
        LSTM.from_torch(arrays)


def test_a_gru_with_the_reset_gate_first_cannot_go_to_torch() -> None:
    with pytest.raises(ValueError, match="PyTorch has no GRU with the reset gate before the product"):
        GRU(2, 3, reset_after=False).to_torch()


class Tagger(tg.nn.Module):
    """A model of a user's, with a recurrent network among other layers."""

    def __init__(self) -> None:
        self.embedding = tg.nn.Embedding(5, 3)
        self.rnn = GRU(3, 4, num_layers=2, bidirectional=True)
        self.output = tg.nn.Linear(8, 2)


def test_a_whole_model_goes_to_torchs_names_and_back(tmp_path: Path) -> None:
    model, other = Tagger(), Tagger()
    tg.io.export_torch(model, tmp_path / "model.safetensors")
    written = load_file(tmp_path / "model.safetensors")
    assert {"embedding.weight", "rnn.bias_ih_l1_reverse", "rnn.bias_hh_l0", "output.bias"} <= written.keys()
    assert not any("bias_hn" in name for name in written)
    other.load_state_dict(tg.io.from_torch(tg.io.load_weights(tmp_path / "model.safetensors")))
    assert all(np.array_equal(array, other.state_dict()[name]) for name, array in model.state_dict().items())


# -- Keras's and ONNX's layouts ----------------------------------------------------------------------------------------


def by_gate(array: np.ndarray, kind: type[_Recurrent], order: str) -> np.ndarray:
    """The rows of this library's order in another."""
    own = GATES[kind]
    parts = np.split(array, len(own))
    return np.concatenate([parts[own.index(gate)] for gate in order])


def in_keras(network: Any, place: str, kind: type[_Recurrent]) -> list[np.ndarray]:
    """A layer's arrays in one direction as Keras has them."""
    order = {LSTM: "ifgo", GRU: "zrn", RNN: "h"}[kind]
    arrays = network.state_dict()
    kernels = [by_gate(arrays[f"{name}_{place}"], kind, order).T for name in ("weight_ih", "weight_hh")]
    bias = by_gate(arrays[f"bias_{place}"], kind, order)
    if kind is GRU and network.reset_after:
        of_h = np.zeros_like(bias)
        of_h[-network.hidden_size :] = arrays[f"bias_hn_{place}"]
        bias = np.stack([bias, of_h])
    return [*kernels, bias]


@given(st.sampled_from(KINDS), st.integers(1, 4), st.integers(1, 4), st.booleans(), st.booleans(), st.integers(0, 99))
def test_keras_arrays(
    kind: type[_Recurrent], I: int, H: int, bidirectional: bool, reset_after: bool, seed: int
) -> None:
    settings = {} if kind is not GRU else {"reset_after": reset_after}
    network = with_drawn_parameters(kind(I, H, batch_first=True, bidirectional=bidirectional, **settings), seed)
    places = ["l0", "l0_reverse"] if bidirectional else ["l0"]
    arrays = [array for place in places for array in in_keras(network, place, kind)]
    assert same(kind.from_keras(arrays), network)


@given(
    st.sampled_from(KINDS), st.integers(1, 4), st.integers(1, 4), st.booleans(), st.booleans(), st.booleans(),
    st.integers(0, 99),
)  # fmt: skip
def test_onnx_arrays(
    kind: type[_Recurrent], I: int, H: int, bidirectional: bool, reset_after: bool, peephole: bool, seed: int
) -> None:
    settings: dict[str, Any] = {}
    settings |= {"reset_after": reset_after} if kind is GRU else {}
    settings |= {"peephole": True} if kind is LSTM and peephole else {}
    network = with_drawn_parameters(kind(I, H, bidirectional=bidirectional, **settings), seed)
    places = ["l0", "l0_reverse"] if bidirectional else ["l0"]
    order = {LSTM: "iofg", GRU: "zrn", RNN: "h"}[kind]
    own = network.state_dict()

    def stacked(name: str) -> np.ndarray:
        return np.stack([by_gate(own[f"{name}_{place}"], kind, order) for place in places])

    of_h = np.zeros_like(stacked("bias"))
    if kind is GRU and reset_after:
        of_h[:, -H:] = np.stack([own[f"bias_hn_{place}"] for place in places])
    arrays = {"W": stacked("weight_ih"), "R": stacked("weight_hh"), "B": np.concatenate([stacked("bias"), of_h], 1)}
    if "peephole" in settings:
        i, f, o = np.split(np.stack([own[f"peephole_{place}"] for place in places]), 3, axis=1)
        arrays["P"] = np.concatenate([i, o, f], axis=1)
    loaded = kind.from_onnx(arrays, reset_after=reset_after) if kind is GRU else kind.from_onnx(arrays)
    assert same(loaded, network)


def test_arrays_of_keras_that_make_no_layer() -> None:
    with pytest.raises(ValueError, match="expected 2 or 3 arrays, or those of two directions, got 1"):
        LSTM.from_keras([np.ones((2, 12))])
    with pytest.raises(ValueError, match=r"recurrent_kernel \(\(3, 11\), expected \(H, 4·H\)\)"):
        LSTM.from_keras([np.ones((2, 12)), np.ones((3, 11)), np.ones(12)])


def test_arrays_of_onnx_that_make_no_layer() -> None:
    with pytest.raises(ValueError, match=r"R \(\(12, 3\), expected \(1, ·, ·\)\)"):
        LSTM.from_onnx({"W": np.ones((1, 12, 2)), "R": np.ones((12, 3))})
    with pytest.raises(ValueError, match="missing: R"):
        LSTM.from_onnx({"W": np.ones((1, 12, 2))})
    with pytest.raises(ValueError, match="no recurrent layer's name begins with ''; there are none"):
        LSTM.from_onnx({"weight": np.ones((1, 12, 2))})
