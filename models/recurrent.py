"""`Recurrent`: any cell over whole sequences, in layers and in one direction or both."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar, TypeAlias

from tinygrad_lstm import ops
from tinygrad_lstm._scan import over_sequence
from tinygrad_lstm._tensor import Tensor, operand
from tinygrad_lstm.creation import randn, zeros
from tinygrad_lstm.mode import no_grad
from tinygrad_lstm.nn import Module, ModuleList
from tinygrad_lstm.ops.recurrent import checked_lengths
from tinygrad_lstm.starts import start_of
from tinygrad_lstm.states import joined_like, leaves_of, names_of, parts_of, rebuilt, with_tensors

from .cells import check_dropout
from .layout import Flags, Layout, Lengths
from .stepping import CellStepper, check_steps
from .streaming import Stream, has_forward_of

if TYPE_CHECKING:
    from tinygrad_lstm.inspect import Programs

__all__ = ["Recurrent"]

Cells: TypeAlias = Module | tuple[Module, Module]


class Directions(ModuleList):
    """The forward and the backward cell of a layer."""


class Recurrent(Module):
    """Layers of any cells over a batch of sequences.

    A cell is a module with `forward(x, state=None)`, which returns the next state for an input x (B, ...). A state is
    one Tensor, or a tuple of Tensors, each (B, ...); the first of them is the output. `forward(x, None)` starts from
    zeros, or from what the cell learns to start from.

    Args:
        cells: a cell; or a list or `ModuleList` of them, the layers, each of which takes the outputs of the layer
            below. In place of a cell, a pair (forward cell, backward cell): the second runs from the end to the start,
            and the outputs of both are concatenated along the last dimension.
        batch_first: inputs, resets and outputs are (B, T, ...) instead of (T, B, ...).
        dropout: the probability of dropout, in training, between layers.
        compiled: True requires that the cells run as one compiled op each; False runs each step's ops one by one; None
            chooses.

    The parameters have the names of the cells', after `cells.0.` for the first layer, or `cells.0.0.` and `cells.0.1.`
    for a pair.

    Raises:
        TypeError: a cell is not a module.
        ValueError: there is no cell, a pair does not have two cells, or `dropout` is not from 0 to 1.

    >>> import tinygrad_lstm as tg
    >>> from tinygrad_lstm.models import GRUCell, Recurrent
    >>> class Leaky(tg.nn.Module):
    ...     def __init__(self, input_size, hidden_size):
    ...         self.hidden_size = hidden_size
    ...         self.gate = tg.nn.Linear(input_size + hidden_size, hidden_size)
    ...
    ...     def forward(self, x, h=None):
    ...         h = tg.zeros(len(x), self.hidden_size) if h is None else h
    ...         return 0.9 * h + 0.1 * tg.tanh(self.gate(tg.cat([h, x], dim=-1)))
    >>> layer = Recurrent([Leaky(3, 5), (GRUCell(5, 4), GRUCell(5, 4))])
    >>> out, state = layer(tg.ones(7, 2, 3), lengths=[7, 4])
    >>> out.shape, [h.shape for h in state]
    ((7, 2, 8), [(2, 5), (2, 4), (2, 4)])
    """

    STATE_BATCH_DIM: ClassVar[int] = 0

    def __init__(
        self,
        cells: Cells | Sequence[Cells],
        batch_first: bool = False,
        dropout: float = 0.0,
        compiled: bool | None = None,
    ) -> None:
        super().__init__()
        check_dropout(self, dropout)
        layers = list(cells) if isinstance(cells, list) or type(cells) is ModuleList else [cells]
        if not layers:
            raise ValueError(f"{type(self).__name__}: expected at least one cell, got an empty list")
        self.cells = ModuleList([self._layer_of(layer) for layer in layers])
        self.batch_first = batch_first
        self.dropout = dropout
        self.compiled = compiled

    def _layer_of(self, given: Any) -> Module:
        """A cell, or a pair of cells as a module.

        Raises:
            TypeError: it is not a module.
            ValueError: a pair does not have two cells.
        """
        name = type(self).__name__
        if isinstance(given, tuple) and len(given) != 2:
            raise ValueError(f"{name}: expected a pair (forward cell, backward cell), got a tuple of {len(given)}")
        for cell in given if isinstance(given, tuple) else (given,):
            if not isinstance(cell, Module):
                raise TypeError(
                    f"{name}: expected a cell, a module with forward(x, state), got {type(cell).__name__}; a function "
                    "runs over a sequence by tg.scan"
                )
        return Directions(given) if isinstance(given, tuple) else given

    @property
    def _layers(self) -> list[tuple[Module, ...]]:
        """The cells of each layer: one, or that of each direction."""
        return [tuple(layer) if isinstance(layer, Directions) else (layer,) for layer in self.cells]

    @property
    def bidirectional(self) -> bool:
        """Whether a layer runs in both directions."""
        return any(len(cells) > 1 for cells in self._layers)

    def forward(
        self,
        x: Tensor,
        state: Any = None,
        lengths: Lengths | None = None,
        resets: Flags | None = None,
        mask: Flags | None = None,
    ) -> tuple[Tensor, Any]:
        """The outputs of the last layer, and the final states.

        Args:
            x: inputs (T, B, ...), or (T, I) of one sequence without the batch dimension, which states, resets and
                outputs then do not have either.
            state: the initial state as the cell takes it; of several layers or directions, a list of one for each, in
                order, the forward direction first. None, also in the list, is what a cell starts from.
            lengths: the number of steps of each of the B sequences, in any order; by default T. Outputs past a length
                are zero, and the final states are those after each sequence's last step.
            resets: (T, B) bool. Where it is true, the row's states begin anew before the step, as from None.
            mask: (T, B) bool. Where it is false, the row skips this step: its state, the first part of which is its
                output, is that of the step before.

        Returns:
            out (T, B, ...), and the state, like the argument.

        Raises:
            ValueError: a shape, a length, the resets or the mask are invalid; a cell changes the number, the shape or
                the dtype of its states, or what it starts from cannot be found; a cell cannot be compiled, and
                `compiled` is True.
            TypeError: a state is not a Tensor or a tuple of Tensors.
        """
        name = type(self).__name__
        x = operand(x)
        if x.ndim < 2:
            raise ValueError(f"{name}: expected an input of shape (time, batch, ...) or (time, size), got {x.shape}")
        layout = Layout(x.ndim > 2, self.batch_first)
        x = layout.inner(x)
        T, B = x.shape[:2]
        numbers = None if lengths is None else checked_lengths(name, lengths, T, B)
        flags = None if resets is None else layout.flags(name, "resets", resets, T, B)
        taken = None if mask is None else layout.flags(name, "mask", mask, T, B)
        initial = self._initial(state, layout.batched)
        final: list[Any] = []
        for k, cells in enumerate(self._layers):
            if k:
                x = ops.dropout(x, self.dropout, self.training)
            outputs = []
            for cell, reverse in zip(cells, (False, True)):
                given = initial[len(final)]
                out, after = over_sequence(name, cell, x, given, numbers, flags, reverse, self.compiled, taken)
                outputs.append(out)
                final.append(after if layout.batched else _each(lambda part: ops.squeeze(part, 0), after))
            x = ops.concat(outputs, dim=-1) if len(outputs) > 1 else outputs[0]
        return layout.outer(x), final if len(final) > 1 else final[0]

    def _initial(self, state: Any, batched: bool) -> list[Any]:
        """The initial state of each layer and direction, with the batch dimension; None for a cell's own start.

        Raises:
            ValueError: the number of states is different.
        """
        number = sum(map(len, self._layers))
        if state is None:
            return [None] * number
        given = [state] if number == 1 else state
        if not isinstance(given, list | tuple) or len(given) != number:
            got = f"{len(given)}" if isinstance(given, list | tuple) else f"a {type(given).__name__}"
            raise ValueError(
                f"{type(self).__name__}: expected a list of {number} states, one for each layer and direction, got "
                f"{got}"
            )
        if batched:
            return list(given)
        return [None if each is None else _each(lambda part: ops.unsqueeze(part, 0), each) for each in given]

    def stream(self, batch: int = 1, state: Any = None) -> Stream:
        """Inference on `batch` sequences of inputs (I,) as they come in, with the present weights; see `Stream`."""
        return Stream(self, batch, state)

    def program(self, x: Tensor | None = None) -> Programs:
        """What is computed of each cell over a sequence, and the generated code; see `tg.inspect.program`.

        Args:
            x: inputs as for `forward`, of which only the shape, the dtype and the device matter. It is only needed if
                the first cell has no attribute `input_size`.

        Raises:
            ValueError: the size of the inputs is not known; a cell cannot be computed as one op.
        """
        from tinygrad_lstm.inspect._program import program, programs_of  # not needed to compute

        if x is None:
            x = self.example_inputs(1, 1).get("x")
            if x is None:
                raise ValueError(
                    f"{type(self).__name__}: {type(self._layers[0][0]).__name__} has no attribute input_size; give "
                    "inputs, as in program(x)"
                )
        x = operand(x)
        x = Layout(x.ndim > 2, self.batch_first).inner(x)
        found = {}
        for k, cells in enumerate(self._layers):
            starts = [start_of(type(self).__name__, cell, x[0]) for cell in cells]
            for j, (cell, start) in enumerate(zip(cells, starts, strict=True)):
                found[f"cells.{k}.{j}" if len(cells) > 1 else f"cells.{k}"] = program(cell, x, start)
            x = ops.concat([leaves_of(start)[0] for start in starts], dim=-1).unsqueeze(0)
        return programs_of(found)

    @property
    def input_size(self) -> int | None:
        """I, the size of an input, if the first cell has an attribute of this name."""
        size = getattr(self._layers[0][0], "input_size", None)
        return size if isinstance(size, int) else None

    @property
    def changes_forward(self) -> bool:
        """Whether a subclass overrides `forward`, which a stepper would not run."""
        return not has_forward_of(self, Recurrent)

    def stepper(self) -> CellStepper:
        """The network for inference one step at a time, with its present weights; see `CellStepper`.

        Raises:
            ValueError: a layer has two directions; or a subclass overrides `forward`.
        """
        check_steps(self)
        return CellStepper([cell for (cell,) in self._layers], self.compiled)

    def start_state(self, x: Tensor) -> Any:
        """The state from which the cells start, given the inputs of a step."""
        starts: list[Any] = []
        for cells in self._layers:
            own = [start_of(type(self).__name__, cell, x) for cell in cells]
            x = ops.concat([leaves_of(start)[0] for start in own], dim=-1)
            starts += own
        return starts if len(starts) > 1 else starts[0]

    def state_names(self, state: Any) -> tuple[str, ...]:
        """The names of a state's parts: of one cell its `STATES`, of several after the cell's place: "0.h", "1.0.h"."""
        layers = self._layers
        if sum(map(len, layers)) == 1:
            return names_of(layers[0][0], len(leaves_of(state)))
        left, names = iter(state), []
        for k, cells in enumerate(layers):
            for j, cell in enumerate(cells):
                place = f"{k}.{j}" if len(cells) > 1 else f"{k}"
                names += [f"{place}.{name}" for name in names_of(cell, len(leaves_of(next(left))))]
        return tuple(names)

    def example_inputs(self, T: int, B: int) -> dict[str, Tensor]:
        """Inputs of `named_forward`, T steps of B sequences; none if the size of an input is not known."""
        if self.input_size is None:
            return {}
        like = next(self.parameters(), zeros(1))
        x = randn(T, B, self.input_size, dtype=like.dtype, device=like.device)
        with no_grad():
            start = self.start_state(x[0])
        names = [f"{name}0" for name in self.state_names(start)]
        return {
            "x": ops.transpose(x, 0, 1) if self.batch_first else x,
            **dict(zip(names, leaves_of(start), strict=True)),
        }

    def named_forward(
        self, x: Tensor, lengths: Lengths | None = None, resets: Flags | None = None, **states: Tensor
    ) -> dict[str, Tensor]:
        """`forward` with the tensor names of an exported file: x and the states before, such as h0, to out and h.

        Raises:
            ValueError: the states have different names; and as `forward`.
        """
        out, final = self(x, self.state_of(states, x), lengths, resets)
        return {"out": out, **self.named_state(final)}

    def state_of(self, named: Mapping[str, Tensor], x: Tensor) -> Any:
        """An initial state as `forward` takes it, given tensors with an exported file's names, and the input.

        Raises:
            ValueError: the names are different.
        """
        if not named:
            return None
        start = self.start_state(Layout(x.ndim > 2, self.batch_first).inner(x)[0])
        names = [f"{name}0" for name in self.state_names(start)]
        if sorted(names) != sorted(named):
            raise ValueError(f"{type(self).__name__}: expected the states {', '.join(names)}, got {', '.join(named)}")
        return rebuilt(start, [named[name] for name in names])

    def named_state(self, state: Any) -> dict[str, Tensor]:
        """The parts of a state that `forward` returned, by name."""
        return dict(zip(self.state_names(state), leaves_of(state), strict=True))

    @property
    def output_size(self) -> int:
        """The size of an output.

        Raises:
            ValueError: the size of an input is not known.
        """
        if self.input_size is None:
            raise ValueError(
                f"{type(self).__name__}.output_size: it is not known, as the size of an input is not; give the first "
                "cell an attribute input_size"
            )
        like = next(self.parameters(), zeros(1))
        with no_grad():
            start = self.start_state(zeros(1, self.input_size, dtype=like.dtype, device=like.device))
        size: int = self.final_output(start).shape[-1]
        return size

    def final_output(self, state: Any) -> Tensor:
        """The outputs after each sequence's last step, given the final state; of both directions side by side."""
        last = (state if isinstance(state, list) else [state])[-len(self._layers[-1]) :]
        return ops.concat([leaves_of(each)[0] for each in last], dim=-1)

    def extra_repr(self) -> str:
        """The settings that differ from the defaults."""
        parts = ["batch_first=True"] * self.batch_first
        parts += [f"dropout={self.dropout}"] * (self.dropout > 0)
        parts += [f"compiled={self.compiled}"] * (self.compiled is not None)
        return ", ".join(parts)


def _each(function: Callable[[Tensor], Tensor], state: Any) -> Any:
    """The state with a function applied to each of its tensors."""
    state = with_tensors(state)
    return joined_like(state)([function(part) for part in parts_of("Recurrent: the initial state", state)])
