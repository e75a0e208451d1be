"""What LSTM, GRU and RNN are: one table of their gates, states and parameters, and of how other frameworks have them.

Networks, readers and writers of files, traces, the page and the command line read it. The equations stand in
`models/cells.py` and `models/variants.py`, where each gate and state is the variable of its name here.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

__all__ = ["KINDS", "Framework", "Gate", "Kind", "State", "Weight", "kind_of_op", "kind_with_gates"]

Framework = Literal["keras", "onnx"]


@dataclass(frozen=True)
class Gate:
    """What a block of H rows of a layer's weights computes: a function of W·x + U·h + b.

    Attributes:
        name: one letter.
        meaning: the name in words.
        function: what squashes the sum. What σ gives is a share, from 0, shut, to 1, open.
        symbol, subscript: how equations write the gate and its weights.
        alias: another letter that frameworks use for it.
    """

    name: str
    meaning: str
    function: Literal["σ", "tanh"]
    symbol: str
    subscript: str
    alias: str = ""


@dataclass(frozen=True)
class State:
    """What a layer carries from one step to the next.

    Attributes:
        name: one letter.
        meaning: the name in words.
        bounded: whether it lies between -1 and 1.
    """

    name: str
    meaning: str
    bounded: bool = True


@dataclass(frozen=True)
class Weight:
    """A parameter of a layer in one direction.

    Attributes:
        name: the name without the layer's place, such as "_l0_reverse".
        shape: of I, the size of the input; H, the number of units; P, that of the hidden state; kH, H for each gate.
        option: the option with which a layer has it; always, if empty.
        gates: those whose rows it has; all, if empty.
        part_of: which of PyTorch's two biases has it as its rows of these gates.
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
        name: what its network is called.
        gates: in the order of the weights' rows. A gate with the name of a state is that state.
        states: the hidden state, which is the output, first; the memory last.
        weights: in the order in which an op takes them.
        options: what a layer may compute otherwise, each with the value that a plain layer has.
        keeps: the gate that alone multiplies a state on its way to the next step, and that state.
        saved: what the forward kernel of a plain layer keeps for the backward kernel, in order: states before and after
            each step, all gates, and whatever else.
        follows, gradients_follow: values, and values whose gradients, that a plain layer's equations give of the
            others. The page leaves them out of its file.
        one_product: whether W·x and U·h are needed as their sum alone, so that a cell has one weight over [h, x].
        orders: the gates' order in other frameworks, in their letters; PyTorch's is that of `gates`.
        keras_classes: the classes of Keras's layer and of its cell.
        cudnn_class: the class of Keras's layer whose arrays have CuDNN's layout.
        onnx_activations: the functions of ONNX's node of this name, in lower case.
    """

    name: str
    gates: tuple[Gate, ...]
    states: tuple[State, ...]
    weights: tuple[Weight, ...]
    options: Mapping[str, Any]
    keeps: tuple[str, str] | None
    saved: tuple[str, ...]
    follows: str
    gradients_follow: str
    one_product: bool
    orders: Mapping[Framework, str]
    keras_classes: tuple[str, str]
    cudnn_class: str
    onnx_activations: tuple[str, ...]

    @property
    def op(self) -> str:
        """What the op of a plain layer is called, and with what the names of a backend's kernels for it begin."""
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
        """The names of all that a step computes: gates, then states, the hidden state last."""
        states = self.state_names
        return (*(gate.name for gate in self.gates if gate.name not in states), *reversed(states))

    @property
    def shares(self) -> tuple[str, ...]:
        """The names of the gates that lie between 0 and 1."""
        return tuple(gate.name for gate in self.gates if gate.function == "σ")

    @property
    def meanings(self) -> dict[str, str]:
        """What each gate and state is called in words, by name."""
        meanings = {gate.name: gate.meaning for gate in self.gates}
        return {**meanings, **{state.name: state.meaning for state in self.states}}

    def rows(self, gate: str, H: int) -> slice:
        """The rows of a gate in the weights of H units."""
        start = self.letters.index(gate) * H
        return slice(start, start + H)

    def order(self, theirs: str) -> str:
        """Another order of the gates, such as "iofc", in the letters of this table; in either case.

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
        """The parameters of a layer with these options, others being as a plain layer has them."""
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
            options={"proj_size": 0, "peephole": False, "layer_norm": None},
            keeps=("f", "c"),
            saved=("h", "c", "gates"),
            follows="h",
            gradients_follow="ifgo",
            one_product=True,
            orders={"keras": "ifco", "onnx": "iofc"},
            keras_classes=("LSTM", "LSTMCell"),
            cudnn_class="CuDNNLSTM",
            onnx_activations=("sigmoid", "tanh", "tanh"),
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
            options={"reset_after": True},
            keeps=("z", "h"),
            saved=("h", "gates", "q"),  # q = U_n·h + b_hn
            follows="",
            gradients_follow="zn",
            one_product=False,
            orders={"keras": "zrh", "onnx": "zrh"},
            keras_classes=("GRU", "GRUCell"),
            cudnn_class="CuDNNGRU",
            onnx_activations=("sigmoid", "tanh"),
        ),
        Kind(
            name="RNN",
            gates=(Gate("h", "hidden state", "tanh", symbol="hₜ", subscript=""),),
            states=(State("h", "hidden state"),),
            weights=_ALL,
            options={"nonlinearity": "tanh"},
            keeps=None,
            saved=("h",),
            follows="",
            gradients_follow="",
            one_product=True,
            orders={"keras": "h", "onnx": "h"},
            keras_classes=("SimpleRNN", "SimpleRNNCell"),
            cudnn_class="",
            onnx_activations=("tanh",),
        ),
    )
}
"""The kinds by name."""


def kind_with_gates(number: int | float) -> str | None:
    """The kind whose weights have so many gates' rows; None if there is none."""
    return next((name for name, kind in KINDS.items() if len(kind.gates) == number), None)


def kind_of_op(op: str) -> Kind | None:
    """The kind whose plain layer is an op of this name; None if there is none."""
    return next((kind for kind in KINDS.values() if kind.op == op), None)
