"""Recurrent cells: one time step, written as its equations."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from inspect import signature
from typing import Any, ClassVar, NamedTuple, TypeAlias

from tinygrad_lstm import ops
from tinygrad_lstm._tensor import Tensor
from tinygrad_lstm.arguments import integer
from tinygrad_lstm.backends.base import HostArray
from tinygrad_lstm.creation import zeros
from tinygrad_lstm.io.torch.names import cell_in_torch_names, own_arrays
from tinygrad_lstm.kinds import KINDS
from tinygrad_lstm.nn import Module, Parameter, init
from tinygrad_lstm.nn.inputs import check_input
from tinygrad_lstm.observing import show_step

FORGET_BIAS = 1.0
"""The initial value of the forget gate's bias (Jozefowicz et al. 2015)."""

Shapes: TypeAlias = dict[str, tuple[int, ...]]
Activations: TypeAlias = Sequence[Callable[[Tensor], Tensor]]
"""The functions of a step, in the order of an ONNX node's: σ and tanh, or other functions in their place."""


class Cell(Module):
    """The base class of the built-in cells.

    Weights are initially uniform within ±1/√H, biases 0, and the scales of normalizations 1. A subclass with options
    sets them as attributes before it calls this constructor.

    Args:
        input_size: I, the length of an input x.
        hidden_size: H, the number of units.
    """

    STATES: ClassVar[tuple[str, ...]]
    adaptable = ("weight*",)
    bias: Parameter

    def __init__(self, input_size: int, hidden_size: int) -> None:
        check_sizes(self, input_size, hidden_size)
        self.input_size = input_size
        self.hidden_size = hidden_size
        self._options = {name: getattr(self, name) for name in self.options()}
        for name, shape in self.parameter_shapes(input_size, hidden_size, **self._options).items():
            setattr(self, name, Parameter(zeros(*shape)))
        init_recurrent(self, hidden_size)

    @classmethod
    def parameter_shapes(cls, I: int, H: int, **options: Any) -> Shapes:
        """The shapes of the parameters of a cell of these sizes, by name."""
        raise NotImplementedError

    @classmethod
    def state_shapes_of(cls, H: int, **options: Any) -> Shapes:
        """The shapes of the states of a cell with H units, for one sequence, by name."""
        return dict.fromkeys(cls.STATES, (H,))

    def state_shapes(self) -> Shapes:
        """The shapes of the states, for one sequence, by name."""
        return self.state_shapes_of(self.hidden_size, **self._options)

    def _known_start(self, x: Tensor) -> Any:
        """The state before the first step, given its input: zeros. None if a subclass or the user replaces the step."""
        step = (getattr(self, name) for name in ("forward", "gates", "step", "state_shapes") if hasattr(self, name))
        if not all(each.__module__.startswith("tinygrad_lstm.") for each in step):
            return None
        shapes = self.state_shapes().values()
        return state_of_parts([zeros(len(x), *shape, dtype=x.dtype, device=x.device) for shape in shapes])

    @classmethod
    def options(cls) -> dict[str, Any]:
        """The constructor's arguments after the two sizes, with their defaults."""
        arguments = list(signature(cls).parameters.values())[2:]
        return {argument.name: argument.default for argument in arguments}


class _Cell(Cell):
    """The base class of LSTMCell, GRUCell and RNNCell."""

    KIND: ClassVar[str]

    @classmethod
    def parameter_shapes(cls, I: int, H: int, **options: Any) -> Shapes:
        """Those of a plain layer, with one weight over [h, x] if the kind has one product."""
        kind = KINDS[cls.KIND]
        shapes = {weight.name: kind.shape(weight, I, H, H) for weight in kind.weights_with({})}
        if kind.one_product:
            (rows, _), _ = shapes.pop("weight_ih"), shapes.pop("weight_hh")
            shapes = {"weight": (rows, H + I), **shapes}
        return shapes

    def layer_sizes(self) -> list[tuple[int, dict[str, int]]]:
        """I, and the size of each gate and state, as a list of one layer."""
        return [(self.input_size, dict.fromkeys(KINDS[self.KIND].values, self.hidden_size))]

    def to_torch(self) -> dict[str, HostArray]:
        """The parameters under the names of PyTorch's cell; see `tinygrad_lstm.io.to_torch`, which takes a model."""
        return cell_in_torch_names(self.KIND, own_arrays(self))


class LSTMGates(NamedTuple):
    """The gates of an LSTM cell at a step, each (B, H), and the states after it."""

    i: Tensor
    f: Tensor
    g: Tensor
    o: Tensor
    c: Tensor
    h: Tensor


class LSTMCell(_Cell):
    """One step of a long short-term memory (Hochreiter & Schmidhuber 1997; forget gate: Gers et al. 2000).

    With [h, x] the concatenation of the previous hidden state and the input, ⊙ the elementwise product:

        f  = σ(W_f·[h, x] + b_f)            forget gate
        i  = σ(W_i·[h, x] + b_i)            input gate
        c̃  = tanh(W_C·[h, x] + b_C)         candidate
        c' = f ⊙ c + i ⊙ c̃                  cell state
        o  = σ(W_o·[h, x] + b_o)            output gate
        h' = o ⊙ tanh(c')                   hidden state

    Args:
        input_size: I, the length of an input x.
        hidden_size: H, the length of the states h and c.
        forget_bias: the initial bias of the forget gate. At 1 (Jozefowicz et al. 2015) the cell remembers at first.
            Long lags need more, and texts are learnt faster from 0. The other biases start at 0.

    Parameters, rows in gate order i, f, g (the candidate), o, columns in the order [h, x]:
        weight (4H, H + I); bias (4H,).

    Raises:
        ValueError: a size is below 1, or `forget_bias` is not finite.

    >>> import tinygrad_lstm as tg
    >>> cell = LSTMCell(3, 5)
    >>> h, c = cell(tg.ones(2, 3))
    >>> h.shape, c.shape
    ((2, 5), (2, 5))
    """

    KIND, STATES = "LSTM", KINDS["LSTM"].state_names
    weight: Parameter

    def __init__(self, input_size: int, hidden_size: int, forget_bias: float = FORGET_BIAS) -> None:
        self.forget_bias = forget_bias
        super().__init__(input_size, hidden_size)
        check_finite(self, forget_bias=forget_bias)
        init_forget_bias(self.bias, hidden_size, forget_bias)

    def forward(self, x: Tensor, state: tuple[Tensor, Tensor] | None = None) -> tuple[Tensor, Tensor]:
        """The states after input x (B, I), given the states before it, (h, c), each (B, H); zeros by default.

        Raises:
            ValueError: x or a state has a different shape.
        """
        gates = self.gates(x, state)
        return gates.h, gates.c

    def gates(self, x: Tensor, state: tuple[Tensor, Tensor] | None = None) -> LSTMGates:
        """The same step, returning all gates: `gates.f`, `gates.i`, `gates.g`, `gates.o`, `gates.c`, `gates.h`."""
        h, c = checked_state(self, x, state)
        hx = ops.concat([h, x], dim=-1)  # [h, x]: (B, H + I)
        gates = lstm_step(ops.linear(hx, self.adapted("weight"), self.bias), c)
        return show_step(self, self.KIND, x, {"h": h, "c": c}, gates)

    def layer_parameters(self) -> dict[str, Tensor]:
        """The parameters as a layer of `LSTM` has them: weight_ih (4H, I), weight_hh (4H, H), bias (4H,)."""
        return parameters_apart(self)


def lstm_step(net: Tensor, c: Tensor, activations: Activations = (ops.sigmoid, ops.tanh, ops.tanh)) -> LSTMGates:
    """The step of an LSTM cell, given `net` (B, 4H), the W·[h, x] + b of the gates i, f, g, o side by side."""
    sigmoid, tanh, tanh_c = activations
    net_i, net_f, net_g, net_o = ops.chunk(net, 4, dim=-1)  # each (B, H)
    f = sigmoid(net_f)
    i = sigmoid(net_i)
    g = tanh(net_g)
    c = f * c + i * g
    o = sigmoid(net_o)
    h = o * tanh_c(c)
    return LSTMGates(i, f, g, o, c, h)


def lstm_layer_step(
    weights: Mapping[str, Tensor], activations: Activations, net_x: Tensor, h: Tensor, c: Tensor
) -> LSTMGates:
    """The step of a layer of `LSTM`, given its weights, and net_x (B, 4H), the W·x + b of the gates."""
    return lstm_step(net_x + ops.linear(h, weights["weight_hh"]), c, activations)


class GRUGates(NamedTuple):
    """The gates of a GRU cell at a step, each (B, H), and the state after it."""

    r: Tensor
    z: Tensor
    n: Tensor
    h: Tensor


class GRUCell(_Cell):
    """One step of a gated recurrent unit (Cho et al. 2014), with the reset gate after the product, as in PyTorch.

        r  = σ(W_r·x + U_r·h + b_r)                     reset gate
        z  = σ(W_z·x + U_z·h + b_z)                     update gate
        n  = tanh(W_n·x + b_n + r ⊙ (U_n·h + b_hn))     candidate
        h' = (1 - z) ⊙ n + z ⊙ h                        hidden state

    Args:
        input_size: I, the length of an input x.
        hidden_size: H, the length of the state h.

    Parameters, rows in gate order r, z, n:
        weight_ih (3H, I), the W; weight_hh (3H, H), the U; bias (3H,); bias_hn (H,).
    """

    KIND, STATES = "GRU", KINDS["GRU"].state_names
    bias_hn: Parameter

    def forward(self, x: Tensor, state: Tensor | None = None) -> Tensor:
        """The state (B, H) after input x (B, I), given the state before it; zeros by default.

        Raises:
            ValueError: x or the state has a different shape.
        """
        return self.gates(x, state).h

    def gates(self, x: Tensor, state: Tensor | None = None) -> GRUGates:
        """The same step, returning all gates: `gates.r`, `gates.z`, `gates.n`, `gates.h`."""
        (h,) = checked_state(self, x, state)
        W, U = self.adapted("weight_ih"), self.adapted("weight_hh")
        net_x, net_h = ops.linear(x, W, self.bias), ops.linear(h, U)
        return show_step(self, self.KIND, x, {"h": h}, gru_step(net_x, net_h, self.bias_hn, h))

    def layer_parameters(self) -> dict[str, Tensor]:
        """The parameters as a layer of `GRU` has them: the same as the cell's."""
        return {weight.name: self.adapted(weight.name) for weight in KINDS["GRU"].weights_with({})}


def gru_layer_step(weights: Mapping[str, Tensor], activations: Activations, net_x: Tensor, h: Tensor) -> GRUGates:
    """The step of a layer of `GRU`, given its weights, and net_x (B, 3H), the W·x + b of the gates."""
    return gru_step(net_x, ops.linear(h, weights["weight_hh"]), weights["bias_hn"], h, activations)


def gru_step(
    net_x: Tensor, net_h: Tensor, bias_hn: Tensor, h: Tensor, activations: Activations = (ops.sigmoid, ops.tanh)
) -> GRUGates:
    """The step of a GRU cell, given W·x + b and U·h (B, 3H) of the gates r, z, n side by side."""
    sigmoid, tanh = activations
    x_r, x_z, x_n = ops.chunk(net_x, 3, dim=-1)  # each (B, H)
    h_r, h_z, h_n = ops.chunk(net_h, 3, dim=-1)
    r = sigmoid(x_r + h_r)
    z = sigmoid(x_z + h_z)
    n = tanh(x_n + r * (h_n + bias_hn))
    h = n + z * (h - n)  # equals (1 - z) ⊙ n + z ⊙ h, with one product less
    return GRUGates(r, z, n, h)


class RNNGates(NamedTuple):
    """The state (B, H) of a simple recurrent cell after a step. It has no gates."""

    h: Tensor


class RNNCell(_Cell):
    """One step of a simple recurrent network (Elman 1990).

        h' = tanh(W·[h, x] + b)             hidden state

    Args:
        input_size: I, the length of an input x.
        hidden_size: H, the length of the state h.

    Parameters, columns in the order [h, x]:
        weight (H, H + I); bias (H,).
    """

    KIND, STATES = "RNN", KINDS["RNN"].state_names
    weight: Parameter

    def forward(self, x: Tensor, state: Tensor | None = None) -> Tensor:
        """The state (B, H) after input x (B, I), given the state before it; zeros by default.

        Raises:
            ValueError: x or the state has a different shape.
        """
        return self.gates(x, state).h

    def gates(self, x: Tensor, state: Tensor | None = None) -> RNNGates:
        """The same step: `gates.h`."""
        (h,) = checked_state(self, x, state)
        hx = ops.concat([h, x], dim=-1)  # [h, x]: (B, H + I)
        gates = RNNGates(ops.tanh(ops.linear(hx, self.adapted("weight"), self.bias)))
        return show_step(self, self.KIND, x, {"h": h}, gates)

    def layer_parameters(self) -> dict[str, Tensor]:
        """The parameters as a layer of `RNN` has them: weight_ih (H, I), weight_hh (H, H), bias (H,)."""
        return parameters_apart(self)


CELLS: dict[str, Any] = {cls.KIND: cls for cls in (LSTMCell, GRUCell, RNNCell)}
"""The classes by the names of their kinds."""


def rnn_layer_step(weights: Mapping[str, Tensor], activations: Activations, net_x: Tensor, h: Tensor) -> RNNGates:
    """The step of a layer of `RNN`, given its weights, and net_x (B, H), the W·x + b."""
    (tanh,) = activations
    return RNNGates(tanh(net_x + ops.linear(h, weights["weight_hh"])))


def parameters_apart(cell: LSTMCell | RNNCell) -> dict[str, Tensor]:
    """The parameters with the weight over [h, x] split into views."""
    W, H = cell.adapted("weight"), cell.hidden_size
    return {"weight_ih": W[:, H:], "weight_hh": W[:, :H], "bias": cell.bias}


def init_recurrent(module: Module, hidden_size: int) -> None:
    """Draws the weights uniformly from ±1/√H, and sets the biases to 0 and the scales of normalizations to 1."""
    bound = 1 / math.sqrt(hidden_size)
    for name, parameter in module.named_parameters():
        if "bias" in name:
            init.zeros_(parameter)
        elif name.startswith("norm"):
            init.constant_(parameter, 1.0)
        else:
            init.uniform_(parameter, -bound, bound)


def init_forget_bias(bias: Parameter, hidden_size: int, value: float) -> None:
    """Sets the forget gate's rows of an LSTM's bias."""
    with bias.device.current():
        bias.data[KINDS["LSTM"].rows("f", hidden_size)] = value


def check_finite(module: Module, **options: float) -> None:
    """Raises ValueError unless each option is finite."""
    for name, value in options.items():
        if not math.isfinite(value):
            raise ValueError(f"{type(module).__name__}: expected a finite {name}, got {value}")


def check_sizes(module: Module, input_size: int, hidden_size: int) -> None:
    """Raises TypeError unless both are integers, ValueError unless they are at least 1."""
    name = type(module).__name__
    if integer(name, "input_size", input_size) < 1 or integer(name, "hidden_size", hidden_size) < 1:
        raise ValueError(
            f"{name}: expected an input size and a hidden size of at least 1, got {input_size} and {hidden_size}"
        )


def check_dropout(module: Module, dropout: float) -> None:
    """Raises TypeError for a bool, ValueError unless it is from 0 to 1."""
    name = type(module).__name__
    if isinstance(dropout, bool):
        raise TypeError(f"{name}: dropout is {dropout}; expected a number from 0 to 1; give flags by name")
    if not 0 <= dropout <= 1:
        raise ValueError(f"{name}: expected a dropout in [0, 1], got {dropout}")


def checked_state(cell: Cell, x: Tensor, state: Tensor | Sequence[Tensor] | None) -> tuple[Tensor, ...]:
    """The states of a cell, by default zeros.

    Raises:
        TypeError: x or a state has a different float dtype than the parameters.
        ValueError: the shape of x or of a state is invalid.
    """
    name, I = type(cell).__name__, cell.input_size
    check_input(name, "x", x, cell.bias)
    if x.ndim != 2 or x.shape[1] != I:
        raise ValueError(f"{name}: expected an input of shape (batch, {I}), got {x.shape}")
    shapes = {state: (x.shape[0], *shape) for state, shape in cell.state_shapes().items()}
    return states_of(name, state, shapes, x, cell.bias)


def states_of(
    name: str,
    state: Tensor | Sequence[Tensor] | None,
    shapes: Mapping[str, tuple[int, ...]],
    like: Tensor,
    parameter: Tensor,
) -> tuple[Tensor, ...]:
    """The given states, checked; or, for None, zeros of these shapes, with the dtype and device of `like`.

    Raises:
        TypeError: a state has a different float dtype than the parameters.
        ValueError: the number of states or a shape is different.
    """
    if state is None:
        return tuple(zeros(*shape, dtype=like.dtype, device=like.device) for shape in shapes.values())
    states = parts_of(state)
    given = [getattr(part, "shape", type(part).__name__) for part in states]
    if given != list(shapes.values()):
        if len(shapes) == 1:
            expected = "a state of shape"
        else:
            each = "each of shape" if len(set(shapes.values())) == 1 else "of shapes"
            expected = f"{len(shapes)} states, ({', '.join(shapes)}), {each}"
        expected_shapes = " and ".join(map(str, dict.fromkeys(shapes.values())))
        raise ValueError(f"{name}: expected {expected} {expected_shapes}, got {', '.join(map(str, given))}")
    for part in states:
        check_input(name, "a state", part, parameter)
    return states


def parts_of(state: Any) -> tuple[Any, ...]:
    """The tensors or arrays of a state: (h, c), or only h."""
    return tuple(state) if isinstance(state, tuple | list) else (state,)


def state_of_parts(parts: Sequence[Any]) -> Any:
    """A state of these tensors or arrays, as networks take and return it: a single one is not in a tuple."""
    return tuple(parts) if len(parts) > 1 else parts[0]
