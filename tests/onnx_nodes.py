"""Graphs with one recurrent node, as strategies draw them."""

from dataclasses import dataclass, field
from typing import Any

import numpy as np
from hypothesis import assume
from hypothesis import strategies as st
from onnx import TensorProto, helper, numpy_helper
from onnx_graphs import WAYS, Graph, constant, initialiser, ints, reshaped, transposed
from onnx_runs import HostArray, run

KINDS = ("GRU", "LSTM", "RNN")
GATES = {"LSTM": 4, "GRU": 3, "RNN": 1}
STANDARD = {"LSTM": ["Sigmoid", "Tanh", "Tanh"], "GRU": ["Sigmoid", "Tanh"], "RNN": ["Tanh"]}
PLAIN = ["Relu", "Sigmoid", "Softplus", "Softsign", "Tanh"]
WITH_PARAMETERS = ["Affine", "Elu", "HardSigmoid", "LeakyRelu", "ScaledTanh", "ThresholdedRelu"]
WITH_BETA = ["Affine", "HardSigmoid", "ScaledTanh"]
WITHOUT_DEFAULTS = {"Affine", "ScaledTanh", "ThresholdedRelu"}  # in onnxruntime


# Ways of states: fixed in the file, given to the model, or as large as the model's input makes them.


def expanded(g: Graph, name: str, array: HostArray) -> str:
    """One state for all sequences, of which there are as many as the input has. The sequences are dimension 1."""
    batch = g.node("Gather", g.node("Shape", "X"), ints(1), axis=0)
    shape = g.node("Concat", ints(array.shape[0]), batch, ints(array.shape[2]), axis=0)
    return g.node("Expand", g.array(array[:, :1]), shape, name=name)


def tiled(g: Graph, name: str, array: HostArray) -> str:
    batch = g.node("Slice", g.node("Shape", "X"), ints(1), ints(2))
    return g.node("Tile", g.array(array[:, :1]), g.node("Concat", ints(1), batch, ints(1), axis=0), name=name)


def filled(g: Graph, name: str, array: HostArray) -> str:
    value = numpy_helper.from_array(array.reshape(-1)[:1])
    batch = g.node("Gather", g.node("Shape", "X"), ints(1), axis=0)
    shape = g.node("Concat", ints(array.shape[0]), batch, ints(array.shape[2]), axis=0)
    return g.node("ConstantOfShape", shape, name=name, value=value)


def expanded_by_ops(g: Graph, name: str, array: HostArray) -> str:
    """As torch writes `expand`, with ops that are not evaluated."""
    shape = g.array(ints(*array.shape))
    wanted = g.node("Where", g.node("Equal", shape, ints(-1)), ints(1), shape)
    return g.node("Expand", g.array(array[:, :1]), wanted, name=name)


FIXED = [expanded_by_ops, initialiser, constant, transposed, reshaped, expanded, tiled, filled]


def all_steps(g: Graph, name: str) -> str:
    """As many as the input has, for each sequence, as tf2onnx writes it."""
    shape = g.node("Shape", "X")
    steps = g.node("Slice", shape, ints(0), ints(1))
    batch = g.node("Slice", shape, ints(1), ints(2))
    return g.node("Cast", g.node("Tile", steps, batch), name=name, to=TensorProto.INT32)


@dataclass
class Drawn:
    """A graph with one recurrent node, and what a network is to make of it."""

    kind: str
    graph: Graph
    odd: list[str] = field(default_factory=list)  # what an error is to name
    states: list[HostArray | None] = field(default_factory=list)
    lengths: HostArray | None = None

    def run(self, *outputs: str) -> list[HostArray]:
        """What onnxruntime computes. An example in which its Softplus overflows, of sums above 88, is left out."""
        found = run(self.graph, *outputs)
        assume(all(np.isfinite(each).all() for each in found))
        return found


def assert_close(actual: HostArray, expected: HostArray) -> None:
    """States may grow without bound where activations have none; then a small one is a difference of large ones."""
    assert actual.shape == expected.shape
    largest = np.abs(expected).max(initial=1.0)
    np.testing.assert_allclose(actual, expected, 1e-4, 1e-5 * largest)


def halves(chosen: list[str], attributes: dict[str, Any], directions: int) -> list[tuple[Any, ...]]:
    """The functions of each direction, with their numbers; a number that the node lacks is None."""
    alphas, betas = (iter(attributes.get(name, ())) for name in ("activation_alpha", "activation_beta"))
    found = [
        (name, name in WITH_PARAMETERS and next(alphas, None), name in WITH_BETA and next(betas, None))
        for name in chosen
    ]
    each = len(found) // directions
    return [tuple(found[start : start + each]) for start in range(0, len(found), each)]


@st.composite
def drawn_nodes(draw: st.DrawFn) -> Drawn:
    kind = draw(st.sampled_from(sorted(KINDS)))
    g = Graph()
    found = Drawn(kind, g)
    strange = draw(st.booleans())  # whether there may be what no network computes
    some = np.random.default_rng(draw(st.integers(0, 2**32))).uniform
    T, B, I, H = (draw(st.integers(1, 4)) for _ in range(4))
    H += 1
    direction = draw(st.sampled_from(["", "forward", "bidirectional", *["reverse"] * strange]))
    if direction == "reverse":
        found.odd.append("time that runs from the end")
    D = 2 if direction == "bidirectional" else 1
    x = g.given("X", some(-1, 1, (T, B, I)).astype(np.float32))

    def weight(name: str, *shape: int) -> str:
        array = some(-1, 1, (D, *shape)).astype(np.float32)
        return draw(st.sampled_from(WAYS))(g, name, array)

    rows = GATES[kind] * H
    inputs = [x, weight("W", rows, I), weight("R", rows, H), weight("B", 2 * rows) if draw(st.booleans()) else ""]

    match draw(st.sampled_from(["", "given", "all", *["fixed"] * strange])):
        case "":
            inputs.append("")
        case "given":
            found.lengths = np.array(draw(st.lists(st.integers(1, T), min_size=B, max_size=B)), np.int32)
            inputs.append(g.given("sequence_lens", found.lengths))
        case "fixed":
            inputs.append(draw(st.sampled_from([initialiser, constant]))(g, "sequence_lens", np.full(B, T, np.int32)))
            found.odd.append("sequence_lens that the file fixes to int32 of shape")
        case "all":
            inputs.append(all_steps(g, "sequence_lens"))

    for name in ("initial_h", "initial_c")[: 2 if kind == "LSTM" else 1]:
        state: HostArray | None = None
        match draw(st.sampled_from(["", "given", "zeros", *["fixed"] * strange])):
            case "":
                inputs.append("")
            case "given":
                state = some(-1, 1, (D, B, H)).astype(np.float32)
                inputs.append(g.given(name, state))
            case "fixed":
                array = some(0.5, 1, (D, B, H)).astype(np.float32)
                inputs.append(draw(st.sampled_from(FIXED))(g, name, array))
                found.odd.append(f"{name} that ")
            case "zeros":
                inputs.append(draw(st.sampled_from(FIXED))(g, name, np.zeros((D, B, H), np.float32)))
        found.states.append(state)
    if kind == "LSTM":
        inputs.append(weight("P", 3 * H) if draw(st.booleans()) else "")

    attributes: dict[str, Any] = {"hidden_size": H}
    if direction:
        attributes["direction"] = direction
    activations = STANDARD[kind] * D
    if draw(st.booleans()):
        functions = st.sampled_from([*PLAIN, *WITH_PARAMETERS])
        each = len(activations) // D
        alike = st.lists(functions, min_size=each, max_size=each).map(lambda one: one * D)
        others = st.lists(functions, min_size=each * D, max_size=each * D)
        attributes["activations"] = draw(st.just(activations) | (others if strange else alike))
    chosen = attributes.get("activations", activations)
    for name, number, takers in (("activation_alpha", 0.3, WITH_PARAMETERS), ("activation_beta", 0.7, WITH_BETA)):
        taken = sum(function in takers for function in chosen)
        all_ = not WITHOUT_DEFAULTS.isdisjoint(chosen)
        if all_ or draw(st.booleans()):
            one = [number - 0.05 * k for k in range(len(chosen))]
            alike = [*one[: taken // D] * D, *one]
            attributes[name] = draw(st.sampled_from([alike, *[one] * strange]))[: None if all_ else taken or 1]
    if len({*halves(chosen, attributes, D)}) > 1:
        found.odd.append("activations that differ by direction")
    if strange and draw(st.booleans()):
        attributes["clip"] = 0.5
        found.odd.append("sums clipped at 0.5")
    if kind == "LSTM" and draw(st.booleans()):
        attributes["input_forget"] = draw(st.integers(0, strange))
        found.odd += ["coupled input and forget gates"] * attributes["input_forget"]
    if kind == "GRU" and draw(st.booleans()):
        attributes["linear_before_reset"] = draw(st.integers(0, 1))
    outputs = ["Y", "Y_h", "Y_c"][: 3 if kind == "LSTM" else 2]
    g.nodes.append(helper.make_node(kind, inputs, outputs, "node", **attributes))
    return found
