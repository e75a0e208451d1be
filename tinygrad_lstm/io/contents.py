"""The contents of a file of weights: arrays by name, and descriptions of recurrent layers."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

from tinygrad_lstm.backends.base import HostArray

from ..kinds import Activation, Framework

__all__ = ["FileLayer", "Weights"]


@dataclass(frozen=True)
class FileLayer:
    """A Keras or ONNX file's description of a recurrent layer, in addition to its arrays.

    Attributes:
        kind: its name in `KINDS`: Keras's SimpleRNN is RNN.
        framework: the framework whose names, gate order and layout the arrays have.
        arrays: the names of its arrays in the file, by their names in the framework: kernel, recurrent_kernel, bias for
            each direction in Keras; W, R, B, P for all directions in ONNX.
        reverse: whether a layer of one direction runs from the end.
        bidirectional: whether it runs in both directions.
        reset_after: for a GRU, whether the reset gate comes after the product with the recurrent weights.
        nonlinearity: the nonlinearity of an RNN.
        activations: the activation functions, under our names, if they are not those of a plain layer.
        batch_first: whether its inputs are (B, T, I).
        unsupported: what it computes that the layers here do not, in words.
        undecided: settings that the file lacks and that must be given when the layer is loaded, with the reasons.
        name: its name in the model, which may differ from its path; empty if the file does not have it.
    """

    kind: str
    framework: Framework
    arrays: Sequence[Mapping[str, str]]
    reverse: bool = False
    bidirectional: bool = False
    reset_after: bool = True
    nonlinearity: Literal["tanh", "relu"] = "tanh"
    activations: Sequence[Activation] = ()
    batch_first: bool = False
    unsupported: Sequence[str] = field(default=())
    undecided: Mapping[str, str] = field(default_factory=dict)
    name: str = ""


class Weights(dict[str, HostArray]):
    """Arrays by name.

    Attributes:
        layers: the recurrent layers that the file describes, by their names in it. PyTorch's files have only the names
            of arrays, so this is empty for them. `copy()` and `|` keep the layers; `dict(weights)` has only the arrays.
        types: the type in the file of each array whose type NumPy lacks: "bfloat16", which is float32 here.
    """

    def __init__(
        self,
        arrays: Mapping[str, HostArray],
        layers: Mapping[str, FileLayer] | None = None,
        types: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(arrays)
        self.layers = dict(layers or {})
        self.types = dict(types or {})

    def copy(self) -> "Weights":
        return Weights(self, self.layers, self.types)

    def __or__(self, other: Mapping[str, HostArray]) -> "Weights":  # type: ignore[override]
        types = {name: own for name, own in self.types.items() if name not in other}
        return Weights(
            {**self, **other}, self.layers | getattr(other, "layers", {}), types | getattr(other, "types", {})
        )
