"""What LSTM, GRU and RNN have in common: layers, directions, lengths, and their parameters."""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from tinygrad_lstm import ops
from tinygrad_lstm._tensor import Tensor, operand
from tinygrad_lstm.arguments import integer
from tinygrad_lstm.backends.base import Array
from tinygrad_lstm.backends.emit.steps import StepOfArrays
from tinygrad_lstm.creation import randn, zeros, zeros_like
from tinygrad_lstm.kinds import KINDS
from tinygrad_lstm.mode import mode
from tinygrad_lstm.nn import Parameter
from tinygrad_lstm.nn.inputs import check_input
from tinygrad_lstm.observing import ShownLayer, show_step
from tinygrad_lstm.ops.recurrent import checked_lengths, run_scan, step_mask, traced_step
from tinygrad_lstm.ops.sequence import PureStep

from .cells import check_dropout, check_sizes, init_recurrent, state_of_parts, states_of
from .layout import Flags, Layout, Lengths
from .loading import Loadable
from .stepping import CellStep, Stepper, check_steps
from .streaming import Stream, has_forward_of
from .variants import Variant

if TYPE_CHECKING:
    from tinygrad_lstm.inspect import Programs

__all__ = ["Network"]

States = tuple[Tensor, ...]

_EQUATIONS = ("_step", "_variant")
"""The attributes of a network that determine what a step computes."""


class Network(Loadable):
    """The base class of LSTM, GRU and RNN: layers, directions, sequences of different lengths."""

    STATES: ClassVar[tuple[str, ...]]
    STATE_BATCH_DIM: ClassVar[int] = 1
    adaptable = ("weight_*",)

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        num_layers: int = 1,
        batch_first: bool = False,
        dropout: float = 0.0,
        bidirectional: bool = False,
        bias: bool = True,
    ) -> None:
        super().__init__()
        check_sizes(self, input_size, hidden_size)
        check_dropout(self, dropout)
        if integer(type(self).__name__, "num_layers", num_layers) < 1:
            raise ValueError(f"{type(self).__name__}: expected at least 1 layer, got {num_layers}")
        self.input_size = input_size
        self.hidden_size = hidden_size
        self.num_layers = num_layers
        self.batch_first = batch_first
        self.dropout = dropout
        self.bidirectional = bidirectional
        self.bias = bias
        options = KINDS[self.KIND].options
        self.options = {name: value for name, plain in options.items() if (value := getattr(self, name)) != plain}
        self._directions = ("", "_reverse") if bidirectional else ("",)
        for layer in range(num_layers):
            shapes = self._parameter_shapes(self.output_size if layer else input_size)
            self._parameter_names = tuple(shapes)
            for direction in self._directions:
                for name, shape in shapes.items():
                    if bias or not name.startswith("bias"):
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
        """The parameters of a layer in one direction, such as "l0_reverse", by their names without this suffix.

        A bias that the network does not have is zeros.
        """
        given = {name: f"{name}_{place}" for name in self._parameter_names}
        if self.bias:
            return {name: self.adapted(full) for name, full in given.items()}
        like, shapes = getattr(self, given["weight_ih"]), self._parameter_shapes(self.input_size)
        return {
            name: zeros(*shapes[name], dtype=like.dtype, device=like.device)
            if name.startswith("bias")
            else self.adapted(full)
            for name, full in given.items()
        }

    def _run(
        self,
        x: Tensor,
        state: Tensor | Sequence[Tensor] | None,
        lengths: Lengths | None,
        resets: Flags | None = None,
        mask: Flags | None = None,
    ) -> tuple[Tensor, States]:
        """The outputs and final states for x and an initial state; see `LSTM.forward`."""
        name, parameter = type(self).__name__, getattr(self, f"{self._parameter_names[0]}_l0")
        check_input(name, "x", x, parameter)
        x = operand(x)
        if x.ndim not in (2, 3) or x.shape[-1] != self.input_size:
            order = "(batch, time" if self.batch_first else "(time, batch"
            raise ValueError(
                f"{name}: expected an input of shape {order}, {self.input_size}), got {x.shape}; or (time, "
                f"{self.input_size}) for one sequence"
            )
        layout = Layout(x.ndim == 3, self.batch_first)
        x = layout.inner(x)  # (T, B, I)
        T, B = x.shape[:2]
        rows = self._rows_of(name, state, layout, x, parameter)
        numbers = None if lengths is None else checked_lengths(name, lengths, T, B)
        flags = None if resets is None else layout.flags(name, "resets", resets, T, B).to(x.device)
        taken = None if mask is None else layout.flags(name, "mask", mask, T, B).to(x.device)
        if not T:  # one step that no sequence reaches, so that gradients are those of sequences of length 0
            x, numbers, flags, taken = ops.pad(x, (0, 0, 0, 0, 0, 1)), np.zeros(B, np.int64), None, None
        if numbers is not None:
            # Values past a length must not count, not even as NaN times 0.
            x = ops.where(step_mask(numbers, len(x), x.device), x, 0.0)
        if taken is not None:  # nor those of steps that are skipped
            x = ops.where(ops.unsqueeze(taken, -1), x, 0.0)

        for layer in range(self.num_layers):
            outputs = []
            for k, direction in enumerate(self._directions):
                place = layer * len(self._directions) + k
                output, *rows[place] = self._layer(
                    x, rows[place], numbers, flags, taken, f"l{layer}{direction}", k == 1
                )
                outputs.append(output)
            x = ops.concat(outputs, dim=-1) if self.bidirectional else outputs[0]  # (T, B, output_size)
            if layer < self.num_layers - 1:
                x = ops.dropout(x, self.dropout, self.training)
        final = tuple(ops.stack(list(column)) for column in zip(*rows, strict=True))
        if not layout.batched:
            final = tuple(ops.squeeze(each, 1) for each in final)
        return layout.outer(x if T else x[:0]), final

    def _rows_of(
        self, name: str, state: Tensor | Sequence[Tensor] | None, layout: Layout, x: Tensor, parameter: Tensor
    ) -> list[Sequence[Tensor]]:
        """The initial states (B, ·) of each layer and direction, given inputs (T, B, I); see `states_of`."""
        places, B, sizes = self.num_layers * len(self._directions), x.shape[1], self.state_sizes
        if state is None:
            return [[zeros(B, size, dtype=x.dtype, device=x.device) for size in sizes.values()]] * places
        batch = (B,) if layout.batched else ()
        states = states_of(name, state, {each: (places, *batch, size) for each, size in sizes.items()}, x, parameter)
        if not layout.batched:
            states = tuple(ops.unsqueeze(each, 1) for each in states)
        return list(zip(*(ops.unbind(each, 0) for each in states), strict=True))

    def _layer(
        self,
        x: Tensor,
        states: Sequence[Tensor],
        lengths: np.ndarray[Any, Any] | None,
        resets: Tensor | None,
        mask: Tensor | None,
        place: str,
        reverse: bool,
    ) -> tuple[Tensor, ...]:
        """One layer in one direction: its outputs (T, B, ·), and its states after the last step of each sequence."""
        parameters = self.layer_parameters(place)
        starts = () if resets is None else tuple(map(zeros_like, states))
        flags = {name: True for name, given in (("resets", resets), ("mask", mask)) if given is not None}
        options = {**self.options, **flags} if flags else self.options
        layer = ShownLayer(self, place, self.KIND, options, parameters, x)
        tracer = mode().value.tracer
        if tracer is None or not tracer.sees_steps or not self._has_known_equations:
            pure = self._pure_step(parameters, layer)
            return run_scan(pure, x, tuple(states), lengths, resets, starts, reverse, mask=mask)
        tracer.see_layer(layer)
        variant = self._variant(parameters)

        def step_of_nets(net_x: Tensor, states: States) -> States:
            gates = variant.step(net_x, *states)
            return tuple(getattr(gates, name) for name in self.STATES)

        nets = variant.inputs(x)
        return run_scan(step_of_nets, nets, tuple(states), lengths, resets, starts, reverse, mask=mask)

    def _pure_step(self, parameters: Mapping[str, Tensor], layer: ShownLayer | None = None) -> PureStep:
        """The step of a layer with these parameters, which is traced once for all layers with these options.

        If a subclass or the user replaces the equations, they may depend on more, and are traced as those of any cell.

        Args:
            layer: the layer, as a `trace` shows it.
        """
        names = tuple(parameters)

        def step(x: Tensor, states: States, fixed: Sequence[Tensor]) -> States:
            return self._step(x, states, dict(zip(names, fixed, strict=True)), layer)

        key: tuple[object, ...] | None = None
        if self._has_known_equations:
            options = (repr(getattr(self, name)) for name in KINDS[self.KIND].options)
            key = self.KIND, bool(self.options), *options
        name = "sequence" if layer is not None and layer.options else KINDS[self.KIND].op
        return PureStep(step, tuple(parameters.values()), key, name)

    @property
    def _has_known_equations(self) -> bool:
        """Whether neither a subclass nor the user replaces the equations of a step."""
        return all(getattr(self, name).__module__.startswith("tinygrad_lstm.") for name in _EQUATIONS)

    def _step(
        self, x: Tensor, states: States, parameters: Mapping[str, Tensor], layer: ShownLayer | None = None
    ) -> States:
        """A step of a layer with these parameters; a `trace` shows its gates if the layer is given."""
        variant = self._variant(parameters)
        gates = variant.step(variant.inputs(x), *states)
        if layer is not None:
            show_step(layer, self.KIND, x, dict(zip(self.STATES, states)), gates)
        return tuple(getattr(gates, name) for name in self.STATES)

    def program(self) -> Programs:
        """What is computed of each layer over a sequence, and the generated code; see `tg.inspect.program`."""
        from tinygrad_lstm.inspect._program import program_of, programs_of  # not needed to compute

        found = {}
        for k, (size, _) in enumerate(self.layer_sizes()):
            place = f"l{k // len(self._directions)}{self._directions[k % len(self._directions)]}"
            parameters = self.layer_parameters(place)
            like = parameters["weight_ih"]
            x, *states = (
                zeros(1, each, dtype=like.dtype, device=like.device) for each in (size, *self.state_sizes.values())
            )
            step = partial(self._step, parameters=parameters)
            used = {id(parameter._array): name for name, parameter in parameters.items()}
            found[place] = program_of(type(self).__name__, step, x, tuple(states), self.STATES, used)
        return programs_of(found)

    def _variant(self, parameters: Mapping[str, Tensor]) -> Variant:
        """The computation of a layer, given its parameters."""
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
        check_steps(self)
        return Stepper(copy.deepcopy(self).eval().requires_grad_(False))

    def layer_step(self, place: str) -> StepOfArrays:
        """A step of a layer on plain arrays, for a `Stepper`; the weights must not change."""
        pure = self._pure_step(parameters := self.layer_parameters(place))
        like = parameters["weight_ih"]
        if not self._has_known_equations:
            cell = CellStep(pure, [pure, self], f"{type(self).__name__}.stepper", like.device, None)

            def step_of_arrays(inputs: Sequence[Array], before: Sequence[Array], out: Sequence[Array]) -> None:
                for array, part in zip(out, cell(inputs[0], tuple(before)), strict=True):
                    array[...] = part

            return step_of_arrays
        sizes = like.shape[1], *self.state_sizes.values()
        x, *states = (zeros(1, size, dtype=like.dtype, device=like.device) for size in sizes)
        step, fixed = traced_step(pure, x, tuple(states))
        return step.stepper(fixed)

    def stream(self, batch: int = 1, state: Array | Sequence[Array] | None = None) -> Stream:
        """Inference on `batch` sequences as they come in, with the present weights; see `Stream`."""
        return Stream(self, batch, state)

    def start_state(self, x: Tensor) -> Any:
        """The state before the first step, zeros, given the inputs of a step (B, I)."""
        sizes = self.state_sizes.values()
        return state_of_parts([zeros(self.num_layers, len(x), size, dtype=x.dtype, device=x.device) for size in sizes])

    def state_names(self, state: Any) -> tuple[str, ...]:
        """The names of a state's parts."""
        return self.STATES

    def example_inputs(self, T: int, B: int) -> dict[str, Tensor]:
        """Random inputs of `named_forward`, T steps of B sequences."""
        like = next(self.parameters())
        shapes = {"x": (B, T, self.input_size) if self.batch_first else (T, B, self.input_size)}
        places = self.num_layers * len(self._directions)
        shapes |= {f"{name}0": (places, B, size) for name, size in self.state_sizes.items()}
        return {name: randn(*shape, dtype=like.dtype, device=like.device) for name, shape in shapes.items()}

    def named_forward(
        self, x: Tensor, lengths: Lengths | None = None, resets: Flags | None = None, **states: Tensor
    ) -> dict[str, Tensor]:
        """`forward` with the tensor names of an exported file: x, h0 (and c0) to out, h (and c).

        Raises:
            ValueError: the states have different names; a shape or a length is invalid.
        """
        more = {} if resets is None else {"resets": resets}
        out, final = self(x, self.state_of(states, x), lengths, **more)
        return {"out": out, **self.named_state(final)}

    def state_of(self, named: Mapping[str, Tensor], x: Tensor) -> Any:
        """An initial state as `forward` takes it, given tensors with an exported file's names: h0 (and c0).

        Args:
            named: the tensors; none for the default.
            x: the input.

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

    def final_output(self, state: Any) -> Tensor:
        """The outputs after each sequence's last step, (B, output_size), given the final state; of both directions."""
        h = state[0] if isinstance(state, tuple) else state
        return ops.concat(list(h[-2:]), dim=-1) if self.bidirectional else h[-1]

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
        parts += ["bias=False"] * (not self.bias)
        parts += [f"{name}={value!r}" for name, value in self.options.items()]
        return ", ".join(parts)
