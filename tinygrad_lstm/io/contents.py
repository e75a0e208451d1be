"""What a file of weights holds: arrays by name, and what it says of the recurrent layers that they belong to."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

from tinygrad_lstm.backends.base import HostArray

from ..kinds import Framework

__all__ = ["FileLayer", "Weights"]


@dataclass(frozen=True)
class FileLayer:
    """What a Keras or ONNX file says of a recurrent layer beside its arrays.

    Attributes:
        kind: its name in `KINDS`: Keras's SimpleRNN is RNN.
        framework: whose names, gate order and layout the arrays have.
        arrays: the names of its arrays in the file, by what they are called in the framework: of Keras kernel,
            recurrent_kernel, bias, for each direction; of ONNX W, R, B, P, which hold all directions, once.
        reverse: whether the layer, of one direction, runs from the end.
        bidirectional: whether it runs in both.
        reset_after: of a GRU, whether the reset gate comes after the product with the recurrent weights.
        nonlinearity: of an RNN.
        batch_first: whether its inputs are (B, T, I).
        unsupported: what else it computes that the layers here do not, in words.
        undecided: settings that the file does not tell, which must be given when the layer is loaded; of each, why.
        name: what the model calls it, which may differ from its path; empty if the file does not say it.
    """

    kind: str
    framework: Framework
    arrays: Sequence[Mapping[str, str]]
    reverse: bool = False
    bidirectional: bool = False
    reset_after: bool = True
    nonlinearity: Literal["tanh", "relu"] = "tanh"
    batch_first: bool = False
    unsupported: Sequence[str] = field(default=())
    undecided: Mapping[str, str] = field(default_factory=dict)
    name: str = ""


class Weights(dict[str, HostArray]):
    """Arrays by name.

    Attributes:
        layers: the recurrent layers of which the file says what they compute, by their names in it. Files of PyTorch's
            say it by their arrays' names alone, and have none here. `copy()` and `|` keep them; `dict(weights)` has the
            arrays alone.
        types: of arrays whose type in the file NumPy lacks, that type's name: "bfloat16", which is float32 here.
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
