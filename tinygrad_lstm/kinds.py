"""The table of LSTM, GRU and RNN: gates, states and parameters, and their order and names in other frameworks.

Networks, readers and writers of files, traces, the page and the command line read it. The equations are in
`models/cells.py` and `models/variants.py`, where each gate and state is a variable of the same name.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias

__all__ = ["KINDS", "Activation", "Framework", "Gate", "Kind", "State", "Weight", "kind_of_op", "kind_with_gates"]

Framework = Literal["keras", "onnx", "tensorflow"]

Activation: TypeAlias = str | tuple[str | float, ...]
"""The name of an activation function of LSTM, GRU or RNN; or a tuple of a name and its numbers."""


@dataclass(frozen=True)
class Gate:
    """A gate: the function of W·x + U·h + b that a block of H rows of a layer's weights computes.

    Attributes:
        name: one letter.
        meaning: the name in words.
        function: the activation function. The values of σ are between 0 (closed) and 1 (open).
        symbol, subscript: the notation of the gate and its weights in equations.
        alias: a different letter that frameworks use for it.
    """

    name: str
    meaning: str
    function: Literal["σ", "tanh"]
    symbol: str
    subscript: str
    alias: str = ""


@dataclass(frozen=True)
class State:
    """A value that a layer carries from one step to the next.

    Attributes:
        name: one letter.
        meaning: the name in words.
        bounded: whether it is between -1 and 1.
    """

    name: str
    meaning: str
    bounded: bool = True


@dataclass(frozen=True)
class Weight:
    """A parameter of a layer in one direction.

    Attributes:
        name: the name without the layer's place, such as "_l0_reverse".
        shape: in terms of I, the input size; H, the number of units; P, the size of the hidden state; kH, H per gate.
        option: the option that requires it; if empty, every layer has it.
        gates: the gates whose rows it has; if empty, all.
        part_of: the one of PyTorch's two biases that contains it, as the rows of these gates.
    """

    name: str
    shape: tuple[str, ...]
    option: str = ""
    gates: str = ""
    part_of: str = ""


@dataclass(frozen=True)
class Kind:
    """A kind of recurrent layer.

    Attributes:
        name: the name of its network class.
        gates: in the order of the weights' rows. A gate with the name of a state is that state.
        states: the hidden state, which is the output, is first; the memory is last.
        weights: in the order of the op's parameters.
        options: the options of a layer, with the values of a plain layer.
        keeps: the gate that is the only factor of a state from one step to the next, and that state.
        follows, gradients_follow: the values, and the values' gradients, that the equations of a plain layer compute
            from the others. The page does not store them.
        one_product: whether only the sum of W·x and U·h is needed, so that a cell has one weight over [h, x].
        orders: the gates' order in other frameworks, in their letters. PyTorch's order is that of `gates`.
        keras_classes: the Keras classes of the layer and of its cell.
        cudnn_class: the Keras class of the layer whose arrays have CuDNN's layout.
        onnx_activations: the functions of the ONNX node of this name, in lower case.
        tensorflow_cells: a regular expression for the names of its cells in TensorFlow 1, in lower case.
    """

    name: str
    gates: tuple[Gate, ...]
    states: tuple[State, ...]
    weights: tuple[Weight, ...]
    options: Mapping[str, Any]
    keeps: tuple[str, str] | None
    follows: str
    gradients_follow: str
    one_product: bool
    orders: Mapping[Framework, str]
    keras_classes: tuple[str, str]
    cudnn_class: str
    onnx_activations: tuple[str, ...]
    tensorflow_cells: str

    @property
    def op(self) -> str:
        """The name of a plain layer's op."""
        return self.name.lower()

    @property
    def letters(self) -> str:
        """The gates' names, in order: "ifgo"."""
        return "".join(gate.name for gate in self.gates)

    @property
    def state_names(self) -> tuple[str, ...]:
        """The states' names, the hidden state's first."""
        return tuple(state.name for state in self.states)

    @property
    def values(self) -> tuple[str, ...]:
        """The names of all values of a step: gates, then states, the hidden state last."""
        states = self.state_names
        return (*(gate.name for gate in self.gates if gate.name not in states), *reversed(states))

    @property
    def shares(self) -> tuple[str, ...]:
        """The names of the gates whose values are between 0 and 1."""
        return tuple(gate.name for gate in self.gates if gate.function == "σ")

    @property
    def meanings(self) -> dict[str, str]:
        """The name in words of each gate and state, by its letter."""
        meanings = {gate.name: gate.meaning for gate in self.gates}
        return {**meanings, **{state.name: state.meaning for state in self.states}}

    def rows(self, gate: str, H: int) -> slice:
        """The rows of a gate in the weights of a layer with H units."""
        start = self.letters.index(gate) * H
        return slice(start, start + H)

    def order(self, theirs: str) -> str:
        """A different order of the gates, such as "iofc" (or in upper case), in the letters of this table.

        Raises:
            ValueError: the letters are not those of the gates.
        """
        aliases = {gate.alias: gate.name for gate in self.gates}
        order = "".join(aliases.get(letter, letter) for letter in theirs.lower())
        if sorted(order) != sorted(self.letters):
            raise ValueError(
                f"gates: expected the letters of {self.letters!r} in the order of the arrays' rows, got {theirs!r}"
            )
        return order

    def weights_with(self, options: Mapping[str, Any]) -> tuple[Weight, ...]:
        """The parameters of a layer with these options; other options have the values of a plain layer."""
        chosen = {"": True, **self.options, **options}
        return tuple(weight for weight in self.weights if chosen[weight.option])

    def shape(self, weight: Weight, I: int, H: int, P: int) -> tuple[int, ...]:
        """The shape of a parameter."""
        sizes = {"I": I, "H": H, "P": P, "kH": len(weight.gates or self.gates) * H}
        return tuple(sizes[size] for size in weight.shape)


_ALL = (Weight("weight_ih", ("kH", "I")), Weight("weight_hh", ("kH", "P")), Weight("bias", ("kH",)))

KINDS: dict[str, Kind] = {
    kind.name: kind
    for kind in (
        Kind(
            name="LSTM",
            gates=(
                Gate("i", "input gate", "σ", symbol="i", subscript="i"),
                Gate("f", "forget gate", "σ", symbol="f", subscript="f"),
                Gate("g", "candidate", "tanh", symbol="c̃", subscript="C", alias="c"),
                Gate("o", "output gate", "σ", symbol="o", subscript="o"),
            ),
            states=(State("h", "hidden state"), State("c", "cell state", bounded=False)),
            weights=(
                *_ALL,
                Weight("weight_hr", ("P", "H"), option="proj_size"),
                Weight("peephole", ("kH",), option="peephole", gates="ifo"),
                Weight("norm_ih", ("kH",), option="layer_norm"),
                Weight("norm_hh", ("kH",), option="layer_norm"),
                Weight("norm_c", ("H",), option="layer_norm"),
                Weight("bias_c", ("H",), option="layer_norm"),
            ),
            options={"proj_size": 0, "peephole": False, "layer_norm": None, "activations": ("sigmoid", "tanh", "tanh")},
            keeps=("f", "c"),
            follows="h",
            gradients_follow="ifgo",
            one_product=True,
            orders={"keras": "ifco", "onnx": "iofc", "tensorflow": "icfo"},
            keras_classes=("LSTM", "LSTMCell"),
            cudnn_class="CuDNNLSTM",
            onnx_activations=("sigmoid", "tanh", "tanh"),
            tensorflow_cells=r"\w*lstm_?(fused_|block_)?(cell|wrapper)\w*(/.*)?",
        ),
        Kind(
            name="GRU",
            gates=(
                Gate("r", "reset gate", "σ", symbol="r", subscript="r"),
                Gate("z", "update gate", "σ", symbol="z", subscript="z"),
                Gate("n", "candidate", "tanh", symbol="n", subscript="n", alias="h"),
            ),
            states=(State("h", "hidden state"),),
            weights=(*_ALL, Weight("bias_hn", ("kH",), option="reset_after", gates="n", part_of="bias_hh")),
            options={"reset_after": True, "activations": ("sigmoid", "tanh")},
            keeps=("z", "h"),
            follows="",
            gradients_follow="zn",
            one_product=False,
            orders={"keras": "zrh", "onnx": "zrh", "tensorflow": "rzh"},
            keras_classes=("GRU", "GRUCell"),
            cudnn_class="CuDNNGRU",
            onnx_activations=("sigmoid", "tanh"),
            tensorflow_cells=r".*",  # the names of its arrays are enough
        ),
        Kind(
            name="RNN",
            gates=(Gate("h", "hidden state", "tanh", symbol="hₜ", subscript=""),),
            states=(State("h", "hidden state"),),
            weights=_ALL,
            options={"nonlinearity": "tanh"},
            keeps=None,
            follows="",
            gradients_follow="",
            one_product=True,
            orders={"keras": "h", "onnx": "h", "tensorflow": "h"},
            keras_classes=("SimpleRNN", "SimpleRNNCell"),
            cudnn_class="",
            onnx_activations=("tanh",),
            tensorflow_cells=r"basic_?rnn_?cell\w*",
        ),
    )
}
"""The kinds by name."""


def kind_with_gates(number: int | float) -> str | None:
    """The kind with this number of gates; None if there is none."""
    return next((name for name, kind in KINDS.items() if len(kind.gates) == number), None)


def kind_of_op(op: str) -> Kind | None:
    """The kind whose op has this name; None if there is none."""
    return next((kind for kind in KINDS.values() if kind.op == op), None)
