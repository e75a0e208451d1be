"""Recurrent nodes of ONNX files: a network computes what onnxruntime does, or the error names what it cannot be."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from commands import succeed
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import TensorProto, helper, numpy_helper
from onnx.inliner import inline_local_functions
from onnx_graphs import Graph, by_gates, constant, ints
from onnx_nodes import GATES, Drawn, assert_close, drawn_nodes
from onnx_runs import HostArray, gru, run, small

import tinygrad_lstm as tg
from tinygrad_lstm.io import load_weights
from tinygrad_lstm.io.recognition import recognised
from tinygrad_lstm.models import GRU, LSTM, RNN

KINDS: dict[str, Any] = {"LSTM": LSTM, "GRU": GRU, "RNN": RNN}
INF, NAN = np.inf, np.nan


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("onnx") / "model.onnx"


@settings(max_examples=100)
@given(drawn=drawn_nodes())
def test_a_network_computes_what_the_node_does_or_the_error_names_what_it_cannot(path: Path, drawn: Drawn) -> None:
    outputs = ["Y", "Y_h", "Y_c"][: 3 if drawn.kind == "LSTM" else 2]
    weights = load_weights(drawn.graph.saved(path, *outputs))
    (found,) = recognised(weights)
    if drawn.odd:
        with pytest.raises(ValueError, match="'node': a layer with") as raised:
            KINDS[drawn.kind].from_onnx(weights)
        assert all(words in str(raised.value) for words in drawn.odd) and "\n" not in str(raised.value)
        assert found.network is None and all(words in found.reason for words in drawn.odd)
        return
    network = KINDS[drawn.kind].from_onnx(weights)
    assert found.network is not None
    expected = drawn.run(*outputs)
    x = drawn.graph.inputs["X"]
    zeros = np.zeros((2 if network.bidirectional else 1, x.shape[1], network.hidden_size), np.float32)
    states = [tg.tensor(zeros if state is None else state) for state in drawn.states]
    out, final = network(tg.tensor(x), tuple(states) if len(states) > 1 else states[0], lengths=drawn.lengths)
    finals = final if isinstance(final, tuple) else (final,)
    T, D, B, H = expected[0].shape
    expected[0] = expected[0].transpose(0, 2, 1, 3).reshape(T, B, D * H)
    for actual, wanted in zip((out, *finals), expected, strict=True):
        assert_close(actual.detach().numpy(), wanted)


@pytest.mark.parametrize("kind", KINDS)
def test_sequences_first(path: Path, kind: str) -> None:
    """With layout=1, which onnxruntime does not run; the number of steps is dimension 1 of the input then."""
    H, some = 4, np.random.default_rng(0).uniform
    x, *weights = (
        some(-1, 1, shape).astype(np.float32) for shape in ((5, 2, 3), (1, GATES[kind] * H, 3), (1, GATES[kind] * H, H))
    )

    def network(layout: int, dim: int) -> Any:
        g = Graph(inputs={"X": x})
        steps, batch = (g.node("Gather", g.node("Shape", "X"), ints(each), axis=0) for each in (dim, 1 - dim))
        lengths = g.node("Cast", g.node("Expand", steps, batch), to=TensorProto.INT32)
        inputs = ["X", *map(g.array, weights), "", lengths]
        g.nodes.append(helper.make_node(kind, inputs, ["Y"], hidden_size=H, layout=layout))
        return KINDS[kind].from_onnx(g.saved(path, "Y"))

    out, _ = network(1, 1)(tg.tensor(x.transpose(1, 0, 2)))
    np.testing.assert_array_equal(
        out.detach().numpy().transpose(1, 0, 2), network(0, 0)(tg.tensor(x))[0].detach().numpy()
    )
    for layout, dim in ((0, 1), (1, 0)):
        with pytest.raises(ValueError, match=r"sequence_lens that the file fixes to the length of a tensor \('Cast"):
            network(layout, dim)


@pytest.mark.parametrize("array", [np.ones(2, "?"), np.ones(2, "c8"), np.ones(0, "i4"), np.array([NAN, INF], "f4")])
def test_what_a_file_fixes_is_said_of_any_array(path: Path, array: HostArray) -> None:
    g = Graph()
    g.nodes.append(helper.make_node("GRU", ["X", "", "", "", g.array(array), g.array(array)], ["Y"], "node"))
    (found,) = load_weights(g.saved(path)).layers.values()
    assert found.unsupported[0].startswith(f"sequence_lens that the file fixes to {array.dtype} of shape {array.shape}")
    assert len(found.unsupported) == (2 if array.size else 1)


@pytest.mark.parametrize(("condition", "words"), [
    ("given", []),
    ("fixed", ["initial_h that is made by the op 'If', which is not evaluated ('h'; make the network"]),
])  # fmt: skip
def test_states_that_a_branch_returns(path: Path, condition: str, words: list[str]) -> None:
    """They depend on the condition: if that is given to the model, the state is an argument of the network."""
    g = Graph(inputs={"X": small(5, 2, 3), "given": np.array(True)}, arrays={"fixed": np.array(True)})
    branch = Graph()
    body = branch.model(branch.node("Constant", value_floats=[1.0])).graph
    g.nodes.append(helper.make_node("If", [condition], ["h"], then_branch=body, else_branch=body))
    gru(g, g.array(small(1, 12, 3)), g.array(small(1, 12, 4)), "gru")
    g.nodes[-1].input.extend(["", "", "h"])
    (found,) = load_weights(g.saved(path, "gru_Y")).layers.values()
    assert [each[: len(start)] for each, start in zip(found.unsupported, words, strict=True)] == words


@pytest.mark.parametrize("op", ["RandomNormalLike", "RandomUniformLike", "EyeLike"])
def test_states_that_take_only_an_inputs_shape_are_not_arguments(path: Path, op: str) -> None:
    """Such an op takes none of the values, so the file fixes what it makes."""
    g = Graph(inputs={"X": small(5, 2, 3)})
    state = g.node(op, "X")
    gru(g, g.array(small(1, 12, 3)), g.array(small(1, 12, 4)), "gru")
    g.nodes[-1].input.extend(["", "", state])
    (found,) = load_weights(g.saved(path, "gru_Y")).layers.values()
    assert [each.partition(" (")[0] for each in found.unsupported] == [
        f"initial_h that is made by the op '{op}', which is not evaluated"
    ]


def test_weights_and_states_that_are_given_to_a_function(path: Path) -> None:
    """Where it is called from, an array may be given; once it is inlined, the node has it."""
    node = helper.make_node("GRU", ["X", "W", "R"], ["Y"], "node", linear_before_reset=1)
    g = Graph(inputs={"X": small(5, 2, 3)})
    g.nodes.append(
        helper.make_node("a\x1bb", ["X", g.array(small(1, 12, 3)), g.array(small(1, 12, 4))], ["Y"], domain="own")
    )
    model = g.model("Y")
    model.opset_import.append(helper.make_opsetid("own", 1))
    standard = [helper.make_opsetid("", 17)]
    model.functions.append(helper.make_function("own", "a\x1bb", ["X", "W", "R"], ["Y"], [node], standard))
    path.write_bytes(model.SerializeToString())
    (found,) = load_weights(path).layers.values()
    reason = "that is given to the function 'a\\x1bb' where it is called (inline it with onnx.inliner"
    assert [each.partition(".inline_")[0] for each in found.unsupported] == [f"a W {reason}", f"an R {reason}"]
    path.write_bytes(inline_local_functions(model).SerializeToString())
    assert GRU.from_onnx(path).hidden_size == 4
    node.input.extend(["", "", "h"])
    model.functions[0].CopyFrom(helper.make_function("own", "f", ["X", "W", "R", "h"], ["Y"], [node], standard))
    path.write_bytes(model.SerializeToString())
    (found,) = load_weights(path).layers.values()
    assert found.unsupported[2].startswith("initial_h that is given to the function 'f'")


@pytest.mark.parametrize(("domain", "op", "kind", "advice"), [
    ("com.microsoft", "DynamicQuantizeLSTM", LSTM, "export the model before quantization"),
    ("com.microsoft", "AttnLSTM", LSTM, "only ONNX's own are read"),
    ("own", "GRU", GRU, "only ONNX's own are read"),
])  # fmt: skip
def test_recurrent_ops_that_are_not_of_onnx_are_named(path: Path, domain: str, op: str, kind: Any, advice: str) -> None:
    g = Graph()
    weights = [g.array(np.ones((1, 3, 8), "u1"), "W"), g.array(np.ones((1, 2, 8), "u1"), "R")]
    g.nodes.append(helper.make_node(op, ["X", *weights], ["Y"], "node", domain=domain))
    with pytest.raises(ValueError, match=rf"'node': a layer with the op '{domain}\.{op}' \({advice}\)"):
        kind.from_onnx(g.saved(path))


def test_the_command_lists_what_is_made_and_what_is_in_branches(path: Path) -> None:
    """As it lists any file's arrays and layers."""
    branch = Graph()
    gru(branch, by_gates(branch, "W", small(1, 12, 3)), constant(branch, "R", small(1, 12, 4)), "gru")
    body = branch.model().graph
    g = Graph([helper.make_node("If", ["c"], ["y"], then_branch=body, else_branch=Graph().model().graph)])
    lines = succeed("show", g.saved(path)).splitlines()
    assert {"W 1 × 12 × 3 float32", "R 1 × 12 × 4 float32"} <= {" ".join(line.split()) for line in lines}
    assert lines[-2] == "  gru: GRU(3, 4, reset_after=False), by GRU.from_onnx(weights, prefix='gru')"


@st.composite
def moved(draw: st.DrawFn) -> tuple[Graph, str]:
    """A graph that makes an array by a few ops, each of which may be one that ONNX refuses."""
    shape = draw(st.lists(st.integers(1, 4), min_size=1, max_size=3))
    g = Graph()
    name = g.array(np.random.default_rng(0).integers(-9, 9, shape).astype(np.float32))
    numbers = st.integers(-5, 5)
    for number in range(draw(st.integers(1, 3))):
        dims = draw(st.lists(st.integers(-3, 3), min_size=1, max_size=3, unique=True))
        several = st.lists(numbers, min_size=len(dims), max_size=len(dims))
        axis = draw(st.integers(-3, 3))
        match draw(st.sampled_from(sorted(MOVING))):
            case "Slice":
                parts = [ints(*draw(several)), ints(*draw(several | st.just([2**62] * len(dims))))]
                steps = draw(st.lists(st.sampled_from([-2, -1, 1, 2]), min_size=len(dims), max_size=len(dims)))
                name = g.node("Slice", name, *parts, ints(*dims), ints(*steps))
            case "Concat":
                name = g.node("Concat", name, *[name] * draw(st.integers(0, 2)), axis=axis)
            case "Gather":
                places = draw(st.lists(numbers, max_size=4))
                name = g.node("Gather", name, draw(st.sampled_from([ints(*places), ints(*places)[None]])), axis=axis)
            case "Reshape":
                lengths = draw(st.lists(st.sampled_from([-1, 0, 1, 2, 3, 4]), min_size=1, max_size=4))
                name = g.node("Reshape", name, ints(*lengths), allowzero=draw(st.integers(0, 1)))
            case "Transpose":
                perm = None if number else draw(st.permutations(range(len(shape))))
                name = g.node("Transpose", name, perm=perm)
            case "Flatten":
                name = g.node("Flatten", name, axis=axis)
            case "Expand" | "Tile" as kind:  # onnxruntime expands wrongly to lengths of 0
                lowest = 0 if kind == "Tile" else 1
                name = g.node(kind, name, ints(*draw(st.lists(st.integers(lowest, 3), min_size=1, max_size=4))))
            case kind:  # Squeeze, Unsqueeze
                name = g.node(kind, name, ints(*dims))
    return g, name


MOVING = {"Slice", "Concat", "Gather", "Reshape", "Transpose", "Flatten", "Expand", "Tile", "Squeeze", "Unsqueeze"}


@settings(max_examples=200)
@given(made=moved())
def test_what_is_made_of_arrays_is_what_onnxruntime_makes(path: Path, made: tuple[Graph, str]) -> None:
    g, name = made
    try:
        (expected,) = run(g, name)
    except Exception:  # of onnxruntime's own classes
        expected = None
    g.nodes.append(helper.make_node("RNN", ["X", name], ["Y"], "node"))
    weights = load_weights(g.saved(path))
    (layer,) = weights.layers.values()
    if expected is None:
        assert len(layer.unsupported) == 1
    elif expected.size <= 4 * sum(array.size for array in g.arrays.values()):
        (roles,) = layer.arrays
        found = weights[roles["W"]]
        assert found.shape == expected.shape and np.array_equal(found, expected)


def test_a_name_that_is_not_utf_8_is_named(tmp_path: Path) -> None:
    """protobuf returns such a name as bytes."""
    name, path = "x" * 150, tmp_path / "model.onnx"
    node = helper.make_node("LSTM", ["x", "W", "R"], ["y"], hidden_size=5, **{name: [1, 2]})
    stored = [numpy_helper.from_array(np.ones((1, 20, size), np.float32), key) for key, size in (("W", 3), ("R", 5))]
    x = helper.make_tensor_value_info("x", TensorProto.FLOAT, [4, 2, 3])
    y = helper.make_tensor_value_info("y", TensorProto.FLOAT, None)
    model = helper.make_model(helper.make_graph([node], "graph", [x], [y], stored))
    path.write_bytes(model.SerializeToString().replace(name.encode(), b"\xff" * 150))
    with pytest.raises(ValueError, match=r"the attribute .*xff.* which the layers here do not have"):
        LSTM.from_onnx(path)
