"""Networks made of other frameworks' weights: names, gate orders, biases, sizes; and what is refused."""

import copy
import itertools
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from safetensors.numpy import load_file

import tinygrad_lstm as tg
from tinygrad_lstm.io.contents import FileLayer, Weights
from tinygrad_lstm.models import GRU, LSTM, RNN, GRUCell, LSTMCell, RNNCell

Network = LSTM | GRU | RNN
KINDS: list[type[Network]] = [LSTM, GRU, RNN]
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
def networks(draw: st.DrawFn, kinds: list[type[Network]] = KINDS) -> Network:
    """A network of any kind and size, with every parameter drawn."""
    kind = draw(st.sampled_from(kinds))
    settings = {**draw(sizes), **draw(layouts), **draw(variants[kind])}
    if kind is LSTM and settings["hidden_size"] > 1 and draw(st.booleans()):
        settings["proj_size"] = settings["hidden_size"] - 1
    return with_drawn_parameters(kind(**settings), draw(st.integers(0, 2**32)))


def with_drawn_parameters(network: Network, seed: int) -> Network:
    rng = np.random.default_rng(seed)
    network.load_state_dict(
        {name: rng.standard_normal(array.shape).astype(array.dtype) for name, array in network.state_dict().items()}
    )
    return network


def same(one: Network, other: Network) -> bool:
    """Whether two networks have the same settings, and the same parameters to the bit."""
    a, b = one.state_dict(), other.state_dict()
    return repr(one) == repr(other) and a.keys() == b.keys() and all(np.array_equal(a[k], b[k]) for k in a)


def told_by_no_array(network: Any) -> dict[str, Any]:
    """The settings that `from_torch` must be given."""
    told = {"LSTM": ("layer_norm",), "RNN": ("nonlinearity",), "GRU": ()}[network.KIND]
    return {"batch_first": network.batch_first, **{name: getattr(network, name) for name in told}}


# -- PyTorch's names ---------------------------------------------------------------------------------------------------


@given(networks(), st.sampled_from(["", "lstm", "encoder.rnn."]))
def test_weights_converted_to_torch_are_loaded_back(network: Network, prefix: str) -> None:
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
def test_without_biases_they_are_zero(kind: type[Network]) -> None:
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


def test_layers_of_different_sizes_are_not_a_stack() -> None:
    arrays = {f"{name}.{key}": value for name, network in (("a", LSTM(2, 3)), ("b", LSTM(3, 3)), ("c", LSTM(3, 4)))
              for key, value in network.to_torch().items()}  # fmt: skip
    assert LSTM.from_torch(arrays, ["a", "b"]).num_layers == 2
    with pytest.raises(ValueError, match=r"LSTM\(2, 3\) cannot be stacked on LSTM\(3, 3\), whose outputs have size 3"):
        LSTM.from_torch(arrays, ["b", "a"])
    with pytest.raises(ValueError, match=r"LSTM\(2, 3\) and LSTM\(3, 4\) cannot be layers of one network"):
        LSTM.from_torch(arrays, ["a", "c"])
    with pytest.raises(ValueError, match="list of prefixes is empty"):
        LSTM.from_torch(arrays, [])


@given(networks(), st.data())
def test_one_error_names_all_that_is_wrong(network: Network, data: st.DataObject) -> None:
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
    biases, norms = {"bias_ih", "bias_hh"}, {"norm_ih", "norm_hh", "norm_c"}
    expected = roles | (biases if biases & roles else set()) | (norms if (norms | {"bias_c"}) & roles else set())
    missed = {name for name in renamed if name.rsplit("_l", 1)[0] in expected}
    missed |= {name for name in renamed if name.startswith(("weight_ih", "weight_hh"))}
    assert set(filter(None, parts.get("missing", "").split(", "))) == missed
    assert set(parts.get("extra", "").split(", ")) - {""} == {f"other_{name}" for name in renamed}
    for name in misshapen:
        assert f"{name} ({faulty[name].shape}, expected {arrays[name].shape})" in parts["misshapen"]
    assert "\n" not in said


def test_one_error_names_what_is_wrong_in_several_networks() -> None:
    arrays = {f"{prefix}.{name}": array for prefix in "ab" for name, array in LSTM(3, 3).to_torch().items()}
    del arrays["a.bias_hh_l0"]
    arrays["b.weight_ih_l0"] = arrays["b.weight_ih_l0"][:-1]
    for load in (tg.io.from_torch, lambda arrays: LSTM.from_torch(arrays, ["a", "b"])):
        with pytest.raises(ValueError, match=r"missing: a\.bias_hh_l0; .*misshapen: b\.weight_ih_l0 \(\(11, 3\)"):
            load(arrays)


def test_for_a_missing_prefix_the_existing_ones_are_named() -> None:
    arrays = {f"encoder.lstm.{name}": array for name, array in LSTM(2, 3).to_torch().items()}
    with pytest.raises(ValueError, match=r"no recurrent layer is under the prefix 'lstm'; .* under 'encoder\.lstm'"):
        LSTM.from_torch(arrays, "lstm")


@pytest.mark.parametrize(("theirs", "asked"), [p for p in itertools.product(KINDS, KINDS) if p[0] is not p[1]])
def test_for_a_different_kind_the_files_kind_is_named(theirs: type[Network], asked: type[Network]) -> None:
    with pytest.raises(ValueError, match=rf"are {theirs.KIND} layers; use {theirs.KIND}\.from_torch"):
        asked.from_torch(theirs(2, 3).to_torch())


def test_gates_must_be_those_of_the_kind() -> None:
    with pytest.raises(ValueError, match=r"gates: expected the letters of 'ifgo' .* got 'ifg'"):
        LSTM.from_torch(LSTM(2, 3).to_torch(), gates="ifg")


@pytest.mark.parametrize(
    ("kind", "options", "name"),
    [
        (LSTM, {}, "bias_l0"),  # beside PyTorch's two
        (GRU, {}, "bias_hn_l0"),
        (GRU, {"reset_after": False}, "bias_hn_l0"),
        (LSTM, {}, "bias_hn_l0"),
        (GRU, {}, "peephole_l0"),
        (RNN, {}, "norm_c_l0"),
        (LSTM, {}, "weight_hh"),  # a cell's name for the same
        (LSTM, {}, "weight_hh_l00"),
        (LSTM, {}, "weight_hh_l\N{ARABIC-INDIC DIGIT ZERO}"),
    ],
)
def test_what_a_kind_does_not_know_is_extra(kind: type[Network], options: dict[str, Any], name: str) -> None:
    arrays = kind(2, 3).to_torch()
    with pytest.raises(ValueError, match=rf"make no {kind.KIND}: extra: {name}$"):
        kind.from_torch({**arrays, name: arrays["weight_hh_l0"]}, **options)


@pytest.mark.parametrize("name", ["layernorm_i.bias", "layernorm_h.bias", "layernorm_c.bias"])
def test_biases_of_a_normalisation_without_weights_are_refused(name: str) -> None:
    """The missing arrays are named as the cell names them."""
    arrays = {key.removesuffix("_l0"): array for key, array in LSTM(2, 3).to_torch().items()}
    message = r"missing: a\.layernorm_c\.weight, a\.layernorm_h\.weight, a\.layernorm_i\.weight"
    with pytest.raises(ValueError, match=message):
        LSTM.from_torch({f"a.{key}": array for key, array in {**arrays, name: arrays["bias_ih"]}.items()}, "a")


def test_numbers_too_large_for_the_dtype() -> None:
    arrays = {name: np.full_like(array, 1e6) for name, array in LSTM(2, 3).to_torch().items()}
    with pytest.raises(ValueError, match=r"weight_ih_l0 \(given float32 numbers beyond the range of float16\)"):
        LSTM.from_torch(arrays, dtype="float16")


def test_biases_are_summed_before_they_are_narrowed_and_after_they_are_widened() -> None:
    arrays = {name: np.full_like(array, 2049 if "ih" in name else 1) for name, array in LSTM(1, 1).to_torch().items()}
    assert LSTM.from_torch(arrays, dtype="float16").bias_l0.tolist() == [2050] * 4  # 2049 itself would be 2048
    halves = {name: np.full_like(array, 1023.5 if "ih" in name else 1025, "float16") for name, array in arrays.items()}
    assert LSTM.from_torch(halves, dtype="float32").bias_l0.tolist() == [2048.5] * 4


class Foreign:
    """A tensor of a different library."""

    def __init__(self, array: np.ndarray) -> None:
        self.array = array
        self.dtype = "theirs"

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
        return self.array


def test_tensors_of_other_libraries_are_arrays() -> None:
    network = GRU(2, 3, bidirectional=True)
    theirs: Any = {f"rnn.{name}": Foreign(array) for name, array in network.to_torch().items()}
    assert same(GRU.from_torch(theirs, "rnn"), network)
    converted = tg.io.from_torch(theirs)
    assert all(np.array_equal(converted[f"rnn.{name}"], array) for name, array in network.state_dict().items())


def test_for_a_different_frameworks_file_the_remedy_is_named() -> None:
    layer = FileLayer("LSTM", "keras", [{"kernel": "0", "recurrent_kernel": "1"}])
    with pytest.raises(ValueError, match=r"layers of another framework: use LSTM\.from_keras"):
        LSTM.from_torch(Weights({"0": np.ones((2, 12)), "1": np.ones((3, 12))}, {"lstm": layer}))


def test_integers_are_not_weights() -> None:
    arrays = LSTM(2, 3).to_torch()
    arrays["bias_ih_l0"] = arrays["bias_ih_l0"].astype("int64")
    with pytest.raises(ValueError, match=r"misshapen: bias_ih_l0 \(int64 \(12,\), expected floats \(12,\)\)"):
        LSTM.from_torch(arrays)


def test_a_gru_with_the_reset_gate_first_is_not_converted_to_torch() -> None:
    with pytest.raises(ValueError, match="PyTorch has no GRU with the reset gate before the product"):
        GRU(2, 3, reset_after=False).to_torch()


class Tagger(tg.nn.Module):
    """A model of a user's, with a recurrent network among other layers."""

    def __init__(self) -> None:
        self.embedding = tg.nn.Embedding(5, 3)
        self.rnn = GRU(3, 4, num_layers=2, bidirectional=True)
        self.output = tg.nn.Linear(8, 2)


def test_a_whole_model_is_converted_to_torchs_names_and_back(tmp_path: Path) -> None:
    model, other = Tagger(), Tagger()
    tg.io.export_torch(model, tmp_path / "model.safetensors")
    written = load_file(tmp_path / "model.safetensors")
    assert {"embedding.weight", "rnn.bias_ih_l1_reverse", "rnn.bias_hh_l0", "output.bias"} <= written.keys()
    assert not any("bias_hn" in name for name in written)
    other.load_state_dict(tg.io.from_torch(tg.io.load_weights(tmp_path / "model.safetensors")))
    assert all(np.array_equal(array, other.state_dict()[name]) for name, array in model.state_dict().items())


class Cells(tg.nn.Module):
    """A model of a user's, made of cells."""

    def __init__(self) -> None:
        self.lstm, self.gru, self.rnn = LSTMCell(2, 3), GRUCell(2, 3), RNNCell(2, 3)


def test_cells_have_the_names_of_pytorchs_cells() -> None:
    """Those of a layer without its number; the values, too, are those that a layer of the same weights has."""
    model = Cells()
    tg.nn.add_lora(model, rank=1)
    for parameter in model.parameters():
        tg.nn.init.normal_(parameter)
    arrays = tg.io.to_torch(model)
    assert set(arrays) == {
        f"{cell}.{name}_{of}" for cell in ("lstm", "gru", "rnn") for name in ("weight", "bias") for of in ("ih", "hh")
    }
    x = tg.tensor(np.random.default_rng(0).standard_normal((1, 4, 2)).astype("float32"))
    layers = LSTM.from_torch(arrays, "lstm"), GRU.from_torch(arrays, "gru"), RNN.from_torch(arrays, "rnn")
    for cell, layer in zip((model.lstm, model.gru, model.rnn), layers, strict=True):
        h = cell(x[0])[0] if isinstance(cell, LSTMCell) else cell(x[0])
        np.testing.assert_allclose(h.detach().numpy(), layer(x)[0][0].detach().numpy(), rtol=1e-5, atol=1e-6)
    other = Cells()
    other.load_state_dict(tg.io.from_torch(arrays))
    tg.nn.merge_lora(model)
    for values in (other.state_dict(), tg.io.from_torch(model.state_dict())):  # what has our names keeps them
        assert values.keys() == model.state_dict().keys()
        assert all(np.array_equal(array, values[name]) for name, array in model.state_dict().items())


# -- Keras's and ONNX's layouts ----------------------------------------------------------------------------------------


def by_gate(array: np.ndarray, kind: type[Network], order: str) -> np.ndarray:
    """The rows of this library's gate order, in a different order."""
    own = GATES[kind]
    parts = np.split(array, len(own))
    return np.concatenate([parts[own.index(gate)] for gate in order])


def in_keras(network: Any, place: str, kind: type[Network]) -> list[np.ndarray]:
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
def test_keras_arrays(kind: type[Network], I: int, H: int, bidirectional: bool, reset_after: bool, seed: int) -> None:
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
    kind: type[Network], I: int, H: int, bidirectional: bool, reset_after: bool, peephole: bool, seed: int
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
    with pytest.raises(ValueError, match=r"bias \(\(2, 12\), expected \(12,\)\)"):
        LSTM.from_keras([np.ones((2, 12)), np.ones((3, 12)), np.ones((2, 12))])
    with pytest.raises(ValueError, match=r"misshapen: kernel \(\(2, 1, 12\), expected two dimensions\)"):
        LSTM.from_keras({"kernel": np.ones((2, 1, 12)), "recurrent_kernel": np.ones((3, 12)), "bias": np.ones(24)})
    with pytest.raises(
        ValueError, match="'lstm': a layer with the array 'lstm/peephole', which the layers here do not"
    ):
        LSTM.from_keras({"lstm/kernel": np.ones((2, 12)), "lstm/recurrent_kernel": np.ones((3, 12)),
                         "lstm/peephole": np.ones(9)})  # fmt: skip


@pytest.mark.parametrize(("reset_after", "shape"), [(True, (9,)), (False, (2, 9))])
def test_a_keras_grus_bias_is_that_of_its_variant(reset_after: bool, shape: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match=r"misshapen: bias \(\(.*\), expected \("):
        GRU.from_keras([np.ones((2, 9)), np.ones((3, 9)), np.ones(shape)], reset_after=reset_after)


def test_what_no_array_tells_is_given() -> None:
    keras = [np.ones((2, 3)), np.ones((3, 3))]
    onnx = {"W": np.ones((1, 3, 2)), "R": np.ones((1, 3, 3))}
    assert (RNN.from_keras(keras).nonlinearity, RNN.from_onnx(onnx).nonlinearity) == ("tanh", "tanh")
    assert RNN.from_keras(keras, nonlinearity="relu").nonlinearity == "relu"
    assert RNN.from_onnx(onnx, nonlinearity="relu").nonlinearity == "relu"
    with pytest.raises(ValueError, match=r"LSTM\.from_keras: nonlinearity is not a setting of this kind; leave it out"):
        LSTM.from_keras([np.ones((2, 12)), np.ones((3, 12))], nonlinearity="relu")
    gru = {"W": np.ones((1, 9, 2)), "R": np.ones((1, 9, 3))}
    with pytest.raises(ValueError, match="give reset_after, the node's linear_before_reset"):
        GRU.from_onnx(gru)


def test_copies_of_a_files_weights_keep_what_it_says_of_layers() -> None:
    layer = FileLayer("RNN", "onnx", [{"W": "a", "R": "b"}], nonlinearity="relu")
    weights = Weights({"a": np.ones((1, 3, 2)), "b": np.ones((1, 3, 3))}, {"rnn": layer})
    for copied in (weights.copy(), weights | {"c": np.ones(3)}, copy.deepcopy(weights), weights | weights):
        assert RNN.from_onnx(copied).nonlinearity == "relu"


def test_arrays_of_onnx_that_make_no_layer() -> None:
    with pytest.raises(ValueError, match=r"R \(\(12, 3\), expected \(1, ·, ·\)\)"):
        LSTM.from_onnx({"W": np.ones((1, 12, 2)), "R": np.ones((12, 3))})
    with pytest.raises(ValueError, match="missing: R"):
        LSTM.from_onnx({"W": np.ones((1, 12, 2))})
    with pytest.raises(ValueError, match=r"W \(\(\), expected \(1, ·, ·\)\)"):
        LSTM.from_onnx({"W": np.ones(()), "R": np.ones((1, 12, 3))})
    with pytest.raises(ValueError, match="a layer with the array 'Q'"):
        LSTM.from_onnx({"W": np.ones((1, 12, 2)), "R": np.ones((1, 12, 3)), "Q": np.ones(3)})
    with pytest.raises(ValueError, match="no recurrent layer's name begins with ''; there are none"):
        LSTM.from_onnx({"weight": np.ones((1, 12, 2))})
    with pytest.raises(ValueError, match=r"B \(\(1, 31\), expected \(1, 2·k·H\)\)"):
        LSTM.from_onnx({"W": np.ones((1, 16, 3)), "R": np.ones((1, 16, 4)), "B": np.ones((1, 31))})


def test_arrays_of_a_different_framework_are_distinguished() -> None:
    arrays = LSTM(3, 4).to_torch()
    for load in (LSTM.from_keras, LSTM.from_onnx):
        with pytest.raises(ValueError, match=r"there are none; .* another framework: use LSTM\.from_torch"):
            load(arrays)
    onnx = Weights({}, {"a": FileLayer("LSTM", "onnx", [{}])})
    with pytest.raises(ValueError, match=r"there are none; .* another framework: use LSTM\.from_onnx"):
        LSTM.from_keras(onnx)


@pytest.mark.parametrize("load", [LSTM.from_torch, LSTM.from_keras, LSTM.from_onnx])
def test_a_module_in_place_of_its_arrays_is_refused(load: Callable[[Any], LSTM]) -> None:
    with pytest.raises(TypeError, match=r"expected a file's path, or arrays by name .* state_dict\(\), got a LSTM"):
        load(LSTM(3, 4))


def test_nested_lists_are_arrays() -> None:
    keras = {"kernel": np.ones((3, 16)).tolist(), "recurrent_kernel": np.ones((4, 16)).tolist()}
    onnx = {"W": np.ones((1, 16, 3)).tolist(), "R": np.ones((1, 16, 4)).tolist()}
    for lstm in (LSTM.from_keras(keras), LSTM.from_onnx(onnx)):
        assert (lstm.input_size, lstm.hidden_size) == (3, 4)
