"""LSTM, GRU and RNN: layers over whole sequences, in one direction or both, with PyTorch's names."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, ClassVar, Literal, get_args

import numpy as np

from tinygrad_lstm import ops
from tinygrad_lstm._tensor import Tensor, operand
from tinygrad_lstm.arguments import integer
from tinygrad_lstm.backends.base import Array
from tinygrad_lstm.creation import randn, zeros
from tinygrad_lstm.kinds import KINDS
from tinygrad_lstm.nn import Parameter
from tinygrad_lstm.nn.inputs import check_input
from tinygrad_lstm.observing import SteppedLayer, show_layer, show_steps
from tinygrad_lstm.ops.recurrent import LAYERS, checked_lengths, run_scan, step_mask

from .cells import (
    FORGET_BIAS,
    check_finite,
    check_sizes,
    gru_layer_step,
    init_forget_bias,
    init_recurrent,
    lstm_layer_step,
    rnn_layer_step,
    state_of_parts,
    states_of,
)
from .loading import Loadable
from .recurrent import Lengths
from .stepping import ArrayFunctions, LayerStep, Stepper, variant_step
from .streaming import Stream, has_forward_of
from .variants import GRUResetBefore, LSTMNorm, LSTMVariant, RNNWithReLU, Variant

Nonlinearity = Literal["tanh", "relu"]
States = tuple[Tensor, ...]


class _Recurrent(Loadable):
    """The base class of LSTM, GRU and RNN: layers, directions, sequences of different lengths."""

    STATES: ClassVar[tuple[str, ...]]
    STEP: ClassVar[Callable[..., Any]]  # a step of a plain layer, as the ops in `LAYERS` take it
    adaptable = ("weight_*",)

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        num_layers: int = 1,
        batch_first: bool = False,
        dropout: float = 0.0,
        bidirectional: bool = False,
    ) -> None:
        super().__init__()
        check_sizes(self, input_size, hidden_size)
        name = type(self).__name__
        if isinstance(dropout, bool):
            raise TypeError(f"{name}: dropout is {dropout}; expected a number from 0 to 1; give flags by name")
        if integer(name, "num_layers", num_layers) < 1 or not 0 <= dropout <= 1:
            raise ValueError(
                f"{name}: expected at least 1 layer and a dropout in [0, 1], got {num_layers} and {dropout}"
            )
        self.input_size = input_size
        self.hidden_size = hidden_size
        self.num_layers = num_layers
        self.batch_first = batch_first
        self.dropout = dropout
        self.bidirectional = bidirectional
        options = KINDS[self.KIND].options
        self.options = {name: value for name, plain in options.items() if (value := getattr(self, name)) != plain}
        self._directions = ("", "_reverse") if bidirectional else ("",)
        for layer in range(num_layers):
            shapes = self._parameter_shapes(self.output_size if layer else input_size)
            self._parameter_names = tuple(shapes)
            for direction in self._directions:
                for name, shape in shapes.items():
                    setattr(self, f"{name}_l{layer}{direction}", Parameter(zeros(*shape)))
        self._init_parameters()

    def _parameter_shapes(self, inputs: int) -> dict[str, tuple[int, ...]]:
        """The shapes of a layer's parameters in one direction, by name, in the op's order."""
        kind, H, P = KINDS[self.KIND], self.hidden_size, self.state_sizes["h"]
        return {weight.name: kind.shape(weight, inputs, H, P) for weight in kind.weights_with(self.options)}

    def _init_parameters(self) -> None:
        init_recurrent(self, self.hidden_size)

    @property
    def state_sizes(self) -> dict[str, int]:
        """The size of each state, by name."""
        return dict.fromkeys(self.STATES, self.hidden_size)

    @property
    def output_size(self) -> int:
        """The size of an output: that of the hidden state times the number of directions."""
        return self.state_sizes["h"] * len(self._directions)

    def layer_parameters(self, place: str) -> dict[str, Tensor]:
        """The parameters of a layer in one direction, such as "l0_reverse", by their names without this suffix."""
        return {name: self.adapted(f"{name}_{place}") for name in self._parameter_names}

    def _run(
        self, x: Tensor, state: Tensor | Sequence[Tensor] | None, lengths: Lengths | None
    ) -> tuple[Tensor, States]:
        """The outputs and final states for x and an initial state; see `LSTM.forward`."""
        name, T_dim = type(self).__name__, 1 if self.batch_first else 0
        parameter = getattr(self, f"{self._parameter_names[0]}_l0")
        check_input(name, "x", x, parameter)
        x = operand(x)
        if x.ndim != 3 or x.shape[2] != self.input_size:
            order = "(batch, time" if self.batch_first else "(time, batch"
            raise ValueError(f"{name}: expected an input of shape {order}, {self.input_size}), got {x.shape}")
        x = ops.transpose(x, 0, 1) if self.batch_first else x  # (T, B, I)
        T, B = x.shape[:2]
        places = self.num_layers * len(self._directions)
        shapes = {state: (places, B, size) for state, size in self.state_sizes.items()}
        states = states_of(name, state, shapes, x, parameter)
        numbers = None if lengths is None else checked_lengths(name, lengths, T, B)
        if not T:  # one step that no sequence reaches, so that gradients are those of sequences of length 0
            x, numbers = ops.pad(x, (0, 0, 0, 0, 0, 1)), np.zeros(B, np.int64)
        if numbers is not None:
            # Values past a length must not count, not even as NaN times 0.
            x = ops.where(step_mask(numbers, len(x), x.device), x, 0.0)

        rows: list[Sequence[Tensor]] = list(zip(*(ops.unbind(state, 0) for state in states), strict=True))
        for layer in range(self.num_layers):
            outputs = []
            for k, direction in enumerate(self._directions):
                place = layer * len(self._directions) + k
                output, *rows[place] = self._layer(x, rows[place], numbers, f"l{layer}{direction}", reverse=k == 1)
                outputs.append(output)
            x = ops.concat(outputs, dim=-1) if self.bidirectional else outputs[0]  # (T, B, output_size)
            if layer < self.num_layers - 1:
                x = ops.dropout(x, self.dropout, self.training)
        final = tuple(ops.stack(list(column)) for column in zip(*rows, strict=True))
        return ops.transpose(x if T else x[:0], 0, T_dim), final

    def _layer(
        self, x: Tensor, states: Sequence[Tensor], lengths: np.ndarray[Any, Any] | None, place: str, reverse: bool
    ) -> tuple[Tensor, ...]:
        """One layer in one direction: its outputs (T, B, ·), and its states after the last step of each sequence."""
        parameters = self.layer_parameters(place)
        if self.options:
            layer = SteppedLayer(place, self.KIND, self.options, parameters, x, self.STATES, lengths, reverse)
            return self._unrolled(layer, states)
        operands, layer = [x, *states, *parameters.values()], LAYERS[self.KIND]
        return show_layer(self, place, lambda operands: layer(operands, self.STEP, lengths, reverse), operands)

    def _unrolled(self, layer: SteppedLayer, states: Sequence[Tensor]) -> tuple[Tensor, ...]:
        """The same for a layer with options, for which there is no fused op."""
        variant = self._variant(layer.parameters)
        nets = variant.inputs(layer.x)
        take = show_steps(self, layer, variant.step)

        def step(net_x: Tensor, states: States) -> States:
            gates = take(net_x, *states)
            return tuple(getattr(gates, name) for name in self.STATES)

        return run_scan(step, nets, tuple(states), layer.lengths, reverse=layer.reverse)

    def _variant(self, parameters: Mapping[str, Any], F: Any = ops) -> Variant:
        """The computation of a layer with options, given its parameters and the functions F."""
        raise NotImplementedError

    @property
    def changes_forward(self) -> bool:
        """Whether a subclass overrides the `forward` of LSTM, GRU or RNN, which a stepper would not run."""
        return not has_forward_of(self, next(cls for cls in type(self).__mro__ if "KIND" in vars(cls)))

    def stepper(self) -> Stepper:
        """The network for inference one step at a time, with its present weights; see `Stepper`.

        Raises:
            ValueError: the network is bidirectional, so that its outputs depend on later steps; or a subclass overrides
                `forward`.
        """
        name = type(self).__name__
        if self.bidirectional:
            raise ValueError(f"{name}.stepper: a bidirectional network cannot go step by step")
        if self.changes_forward:
            raise ValueError(f"{name}.stepper: it overrides forward, which a stepper does not run; use stream()")
        return Stepper(self)

    def layer_step(self, place: str) -> LayerStep:
        """A step of a layer on plain arrays, with its present weights; see `Stepper`."""
        parameters = {name: parameter.data for name, parameter in self.layer_parameters(place).items()}
        device = next(self.parameters()).device
        with device.current():
            if self.options:
                own = {name: array.copy() for name, array in parameters.items()}
                return variant_step(self._variant(own, ArrayFunctions(device)), self.STATES)
            step: LayerStep = getattr(device.backend, f"{KINDS[self.KIND].op}_stepper")(list(parameters.values()))
            return step

    def stream(self, batch: int = 1, state: Array | Sequence[Array] | None = None) -> Stream:
        """Inference on `batch` sequences as they come in, with the present weights; see `Stream`."""
        return Stream(self, batch, state)

    def example_inputs(self, T: int, B: int) -> dict[str, Tensor]:
        """Random inputs of `named_forward`, T steps of B sequences."""
        bias = next(parameter for name, parameter in self.named_parameters() if name.startswith("bias"))
        shapes = {"x": (B, T, self.input_size) if self.batch_first else (T, B, self.input_size)}
        places = self.num_layers * len(self._directions)
        shapes |= {f"{name}0": (places, B, size) for name, size in self.state_sizes.items()}
        return {name: randn(*shape, dtype=bias.dtype, device=bias.device) for name, shape in shapes.items()}

    def named_forward(self, x: Tensor, lengths: Lengths | None = None, **states: Tensor) -> dict[str, Tensor]:
        """`forward` with the tensor names of an exported file: x, h0 (and c0) to out, h (and c).

        Raises:
            ValueError: the states have different names; a shape or a length is invalid.
        """
        out, final = self(x, self.state_of(states), lengths)
        return {"out": out, **self.named_state(final)}

    def state_of(self, named: Mapping[str, Tensor]) -> Any:
        """An initial state as `forward` takes it, given tensors with an exported file's names: h0 (and c0).

        Raises:
            ValueError: the names are different.
        """
        names = [f"{name}0" for name in self.STATES]
        if not named:
            return None
        if sorted(named) != sorted(names):
            raise ValueError(f"{type(self).__name__}: expected the states {', '.join(names)}, got {', '.join(named)}")
        return state_of_parts([named[name] for name in names])

    def named_state(self, state: Any) -> dict[str, Tensor]:
        """The parts of a state that `forward` returned, by name: h (and c)."""
        return dict(zip(self.STATES, state if isinstance(state, tuple) else (state,), strict=True))

    def layer_sizes(self) -> list[tuple[int, dict[str, int]]]:
        """I, and the size of each gate and state, of each layer in each direction."""
        inputs = [self.input_size, *[self.output_size] * (self.num_layers - 1)]
        sizes = dict.fromkeys(KINDS[self.KIND].values, self.hidden_size) | self.state_sizes
        return [(I, sizes) for I in inputs for _ in self._directions]

    def extra_repr(self) -> str:
        """The sizes, and the options that differ from the defaults."""
        parts = [str(self.input_size), str(self.hidden_size)]
        parts += [f"num_layers={self.num_layers}"] * (self.num_layers > 1)
        parts += ["batch_first=True"] * self.batch_first
        parts += [f"dropout={self.dropout}"] * (self.dropout > 0)
        parts += ["bidirectional=True"] * self.bidirectional
        parts += [f"{name}={value!r}" for name, value in self.options.items()]
        return ", ".join(parts)


class LSTM(_Recurrent):
    """Layers of `LSTMCell`s over a batch of sequences.

    Args:
        input_size: I, the length of an input.
        hidden_size: H, the length of the states.
        num_layers: L. Each layer takes the outputs of the layer below.
        batch_first: inputs and outputs are (B, T, ...) instead of (T, B, ...).
        dropout: the probability of dropout, in training, between layers.
        bidirectional: every layer also runs from the end to the start; both outputs are concatenated (D = 2).
        forget_bias: the initial bias of the forget gates; see `LSTMCell`.

    Options (see `variants.LSTMVariant` for the equations). With any of them, a layer runs step by step, not as one op:
        proj_size: the size of the outputs and of h, which are then a projection of o ⊙ tanh(c); 0 for none.
        peephole: the gates depend on the cell state too.
        layer_norm: normalizes the gates' two products, and the cell state: "cell" carries it normalized to the next
            step, "output" normalizes it only for the output, as in the paper.

    Parameters of layer k, with `_reverse` appended for the backward direction, rows in gate order i, f, g, o; P is H,
    or proj_size:
        weight_ih_l{k} (4H, I or D·P); weight_hh_l{k} (4H, P); bias_l{k} (4H,);
        weight_hr_l{k} (P, H), with proj_size; peephole_l{k} (3H,), with peephole, of i, f, o; with layer_norm
        norm_ih_l{k} (4H,), norm_hh_l{k} (4H,), norm_c_l{k} (H,), bias_c_l{k} (H,).

    Raises:
        ValueError: a size or an option is invalid, or `forget_bias` is not finite.

    >>> import tinygrad_lstm as tg
    >>> lstm = LSTM(3, 5, num_layers=2, bidirectional=True)
    >>> out, (h, c) = lstm(tg.ones(7, 2, 3), lengths=[7, 4])
    >>> out.shape, h.shape, c.shape
    ((7, 2, 10), (4, 2, 5), (4, 2, 5))
    >>> out, (h, c) = LSTM(3, 5, proj_size=2, peephole=True)(tg.ones(7, 2, 3))
    >>> out.shape, h.shape, c.shape
    ((7, 2, 2), (1, 2, 2), (1, 2, 5))
    """

    KIND, STATES, STEP = "LSTM", KINDS["LSTM"].state_names, staticmethod(lstm_layer_step)

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        num_layers: int = 1,
        batch_first: bool = False,
        dropout: float = 0.0,
        bidirectional: bool = False,
        *,
        proj_size: int = 0,
        peephole: bool = False,
        layer_norm: LSTMNorm | None = None,
        forget_bias: float = FORGET_BIAS,
    ) -> None:
        if integer("LSTM", "proj_size", proj_size) and not 0 < proj_size < hidden_size:
            raise ValueError(f"LSTM: expected a proj_size from 0 to {hidden_size - 1}, below H, got {proj_size}")
        _check_option(self, "peephole", peephole, (False, True))
        _check_option(self, "layer_norm", layer_norm, (None, *get_args(LSTMNorm)))
        self.proj_size = proj_size
        self.peephole = peephole
        self.layer_norm = layer_norm
        check_finite(self, forget_bias=forget_bias)
        self._forget_bias = forget_bias
        super().__init__(input_size, hidden_size, num_layers, batch_first, dropout, bidirectional)

    @property
    def state_sizes(self) -> dict[str, int]:
        return {"h": self.proj_size or self.hidden_size, "c": self.hidden_size}

    def _init_parameters(self) -> None:
        super()._init_parameters()
        for name, parameter in self.named_parameters():
            if name.startswith("bias_l"):
                init_forget_bias(parameter, self.hidden_size, self._forget_bias)

    def _variant(self, parameters: Mapping[str, Any], F: Any = ops) -> LSTMVariant:
        return LSTMVariant(parameters, self.layer_norm, F)

    def forward(
        self, x: Tensor, state: tuple[Tensor, Tensor] | None = None, lengths: Lengths | None = None
    ) -> tuple[Tensor, tuple[Tensor, Tensor]]:
        """All hidden states of the last layer, and the final states of all layers.

        Args:
            x: inputs (T, B, I).
            state: initial states, h (L·D, B, P) and c (L·D, B, H); zeros by default.
            lengths: the number of steps of each of the B sequences, in any order; by default T. Outputs past a length
                are zero, and the final states are those after each sequence's last step.

        Returns:
            out (T, B, D·P), and (h, c) with the shapes of `state`.

        Raises:
            ValueError: a shape or a length is invalid.
        """
        out, (h, c) = self._run(x, state, lengths)
        return out, (h, c)


class GRU(_Recurrent):
    """Layers of `GRUCell`s over a batch of sequences; arguments as for `LSTM`.

    Options:
        reset_after: whether the reset gate comes after the product with U_n, as in PyTorch and by default in Keras; if
            not, it comes before, as by default in ONNX (`variants.GRUResetBefore`), and layers run step by step.

    Parameters of layer k, with `_reverse` appended for the backward direction, rows in gate order r, z, n:
        weight_ih_l{k} (3H, I or D·H); weight_hh_l{k} (3H, H); bias_l{k} (3H,); bias_hn_l{k} (H,), with reset_after.
    """

    KIND, STATES, STEP = "GRU", KINDS["GRU"].state_names, staticmethod(gru_layer_step)

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        num_layers: int = 1,
        batch_first: bool = False,
        dropout: float = 0.0,
        bidirectional: bool = False,
        *,
        reset_after: bool = True,
    ) -> None:
        _check_option(self, "reset_after", reset_after, (True, False))
        self.reset_after = reset_after
        super().__init__(input_size, hidden_size, num_layers, batch_first, dropout, bidirectional)

    def forward(self, x: Tensor, state: Tensor | None = None, lengths: Lengths | None = None) -> tuple[Tensor, Tensor]:
        """All hidden states of the last layer (T, B, D·H), and final states of all (L·D, B, H); see `LSTM.forward`."""
        out, (h,) = self._run(x, state, lengths)
        return out, h

    def _variant(self, parameters: Mapping[str, Any], F: Any = ops) -> GRUResetBefore:
        return GRUResetBefore(parameters, F)


class RNN(_Recurrent):
    """Layers of `RNNCell`s over a batch of sequences; arguments as for `LSTM`.

    Options:
        nonlinearity: "tanh" or "relu". With "relu", layers run step by step.

    Parameters of layer k, with `_reverse` appended for the backward direction:
        weight_ih_l{k} (H, I or D·H); weight_hh_l{k} (H, H); bias_l{k} (H,).
    """

    KIND, STATES, STEP = "RNN", KINDS["RNN"].state_names, staticmethod(rnn_layer_step)

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        num_layers: int = 1,
        batch_first: bool = False,
        dropout: float = 0.0,
        bidirectional: bool = False,
        *,
        nonlinearity: Nonlinearity = "tanh",
    ) -> None:
        _check_option(self, "nonlinearity", nonlinearity, get_args(Nonlinearity))
        self.nonlinearity = nonlinearity
        super().__init__(input_size, hidden_size, num_layers, batch_first, dropout, bidirectional)

    def forward(self, x: Tensor, state: Tensor | None = None, lengths: Lengths | None = None) -> tuple[Tensor, Tensor]:
        """All hidden states of the last layer (T, B, D·H), and final states of all (L·D, B, H); see `LSTM.forward`."""
        out, (h,) = self._run(x, state, lengths)
        return out, h

    def _variant(self, parameters: Mapping[str, Any], F: Any = ops) -> RNNWithReLU:
        return RNNWithReLU(parameters, F)


def _check_option(network: _Recurrent, name: str, value: object, known: Sequence[object]) -> None:
    if value not in known:
        raise ValueError(
            f"{type(network).__name__}: expected {name} to be {' or '.join(map(repr, known))}, got {value!r}"
        )
