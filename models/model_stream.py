"""Streams of whole models, made from what they compute."""

from __future__ import annotations

import copy
from collections import namedtuple
from collections.abc import Callable, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from tinygrad_lstm._tensor import Tensor
from tinygrad_lstm.arguments import integer
from tinygrad_lstm.backends.base import Array, HostArray
from tinygrad_lstm.backends.dtypes import INT64, is_integer
from tinygrad_lstm.device import get_device
from tinygrad_lstm.io.weights import load_weights, save_weights
from tinygrad_lstm.mode import no_grad
from tinygrad_lstm.nn import Module
from tinygrad_lstm.printable import printable
from tinygrad_lstm.programs.recording import named_errors
from tinygrad_lstm.programs.runs import recorded
from tinygrad_lstm.streams.nodes import Moment
from tinygrad_lstm.streams.plan import plan_of
from tinygrad_lstm.streams.step import StepOfModel

from .streaming import kept_rows

__all__ = ["ModelStream", "stream"]

_FEW_STEPS = 32
"""Chunks of up to this many steps run step by step, since the nodes of a chunk run op by op."""


def stream(
    model: Module,
    inputs: Mapping[str, Any] | None = None,
    batch: int = 1,
    *,
    dynamic: Mapping[str, Mapping[int, str]] | None = None,
    fixed: Mapping[str, Any] | None = None,
    states: Mapping[str, str] | None = None,
    lookahead: int = 0,
) -> ModelStream:
    """Inference of any model on a sequence as it comes in: `stream(x)` for each next step, or chunk of steps.

    The model may consist of recurrent layers, convolutions and pools along time, ops that compute each step by itself,
    slices, paddings and sums along time, and features such as an STFT. The outputs of all chunks together are those of
    the whole sequence. What the model computes is recorded, as for `export_onnx`: it is run twice, with inputs like the
    examples.

    Args:
        model: any module. The stream has a copy of its weights; later changes have no effect.
        inputs: example inputs, by the names of the parameters of `forward`: tensors or arrays of a few steps. By
            default those that the model defines with `example_inputs(T, B)`.
        batch: the number of sequences.
        dynamic: which dimensions of the inputs are the time and the batch; by default `{0: "time", 1: "batch"}` for
            each. An input without time is the same for all steps.
        fixed: the values of inputs without time; zeros by default.
        states: of a model that computes one step, without a time dimension, the inputs that are states, each with the
            output that is the state afterwards, as in `{"h": "next_h"}`. A chunk then has the time as a further
            dimension, the first.
        lookahead: the largest number of steps by which outputs may come later than their inputs.

    Raises:
        NotCausalError: an output depends on the whole sequence, or looks ahead by more steps than `lookahead`. The
            message names what does. (A ValueError.)
        ValueError: the model cannot be recorded; see `export_onnx`.

    >>> import numpy as np
    >>> import tinygrad_lstm as tg
    >>> from tinygrad_lstm.models import LSTM
    >>> class Spotter(tg.nn.Module):
    ...     def __init__(self):
    ...         self.conv = tg.nn.Conv1d(3, 8, kernel_size=4)
    ...         self.lstm = LSTM(8, 16)
    ...         self.output = tg.nn.Linear(16, 2)
    ...
    ...     def forward(self, x):
    ...         frames = tg.relu(self.conv(tg.pad(x.permute(1, 2, 0), (3, 0))))
    ...         out, _ = self.lstm(frames.permute(2, 0, 1))
    ...         return self.output(out)
    >>> stream = tg.models.stream(Spotter(), {"x": tg.zeros(10, 1, 3)})
    >>> stream(np.ones((1, 3), np.float32)).shape  # a step (B, I)
    (1, 2)
    >>> stream(np.ones((7, 1, 3), np.float32)).shape  # a chunk (T, B, I)
    (7, 1, 2)
    """
    return ModelStream(model, inputs, batch, dynamic, fixed, states, lookahead)


class ModelStream:
    """A model that takes its inputs one step or one chunk at a time, and keeps what later steps need in between.

    `tg.models.stream` makes one, and so does the method `stream` of a loaded model, with the same arguments. It is in
    evaluation mode and records nothing. Its memory does not grow with the number of steps. Each thread needs its own:
    `copy()` returns one that shares the weights.

    Attributes:
        lookahead: the number of steps by which outputs come later than their inputs. The last ones come from
            `finish()`.
    """

    def __init__(
        self,
        model: Module,
        inputs: Mapping[str, Any] | None,
        batch: int,
        dynamic: Mapping[str, Mapping[int, str]] | None,
        fixed: Mapping[str, Any] | None,
        states: Mapping[str, str] | None,
        lookahead: int,
    ) -> None:
        batch = integer("stream", "batch", batch)
        if batch < 1:
            raise ValueError(f"stream: expected a batch of 1 or more, got {batch}")
        self._source = copy.deepcopy(model).eval().requires_grad_(False), inputs, dynamic, fixed, states, lookahead
        own = self._source[0]
        with named_errors("stream"):
            values = {name: value for name, value in (fixed or {}).items() if name not in (states or {})}
            names, program, labels = recorded(own, inputs, dynamic, values)
            starts = {name: value for name, value in (fixed or {}).items() if name in names}
        device = next((parameter.device for parameter in own.parameters()), get_device())
        with no_grad(), device.current():
            self._plan = plan_of(names, program, labels, batch, device, starts, lookahead, states or {})
        self._device, self._batch = device, batch
        self.lookahead, self._steady_from = self._plan.lookahead, self._plan.steady_from
        self._made = _outputs_of(tuple(self._plan.outputs))
        self._step_of: StepOfModel | None = None  # made when it is first needed
        self._names = self._plan.state_names
        self._begin()

    def __repr__(self) -> str:
        model = type(self._source[0]).__name__
        lookahead = f", lookahead={self.lookahead}" if self.lookahead else ""
        return f"ModelStream({model}, batch={self._batch}{lookahead}; {self._steps} steps until now)"

    def _begin(self) -> None:
        with no_grad(), self._device.current():
            plan = self._plan
            states, waiting = plan.run(plan.start(), [None] * len(plan.inputs), Moment(-1, 0, False, self._batch))
        self._start = self._states = states
        outputs = self._plan.outputs.values()
        known = any(each is not None and out.has_steps for out, each in zip(outputs, waiting, strict=True))
        self._first = self._waiting = waiting if known else None  # outputs that are known before the first step
        self._steps = 0

    @property
    def input_times(self) -> dict[str, int]:
        """The inputs of which steps come, each with its time dimension."""
        return {each.name: each.time for each in self._plan.inputs}

    @property
    def output_times(self) -> dict[str, int | None]:
        """The outputs, each with its time dimension; None if it has no steps."""
        return {name: output.time for name, output in self._plan.outputs.items()}

    @cached_property
    def is_by_step(self) -> bool:
        """Whether each output has one frame for each step, at once: those of a step have no time dimension."""
        return all(output.by_step for output in self._plan.outputs.values() if output.has_steps)

    # -- running -------------------------------------------------------------------------------------------------------

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """The outputs of the next step, or of all steps of a chunk.

        Args:
            args: the inputs, in order: a chunk, of the shape that the model takes, with any number of steps; or a step,
                without the time dimension. They are arrays on the model's device, or numbers in nested lists.
            kwargs: inputs by name.

        Returns:
            One array, or a named tuple of several, as the model returns them, with the steps that are known by now. For
            a step, an output that has one frame for each step has no time dimension. An output that the model computes
            of the whole sequence, such as its last state, is that of the steps until now.

        Raises:
            ValueError: an input has a different shape, dtype or device; the state is unchanged.
            TypeError: an input is missing, or unknown.
        """
        step = self._step_of
        is_steady = self._waiting is None and self._steps >= self._steady_from
        if step is not None and is_steady and step.takes(args) and not kwargs:
            return self._one_step(step, args)
        arrays, is_step = self._plan.checked(args, kwargs)
        if is_steady:
            few = is_step or (self.is_by_step and 0 < self._plan.number_of_steps(arrays) <= _FEW_STEPS)
            if few and step is None:
                step = self._step_of = StepOfModel(self._plan, self._states)
            if few and step is not None and step.works:
                return self._one_step(step, arrays) if is_step else self._in_steps(step, arrays)
        return self._chunk(arrays, is_step)

    def _in_steps(self, step: StepOfModel, arrays: Sequence[Array]) -> Any:
        """The outputs for a chunk of few steps, one by one."""
        xp, states, found = self._device.xp, self._states, []
        with self._device.current():
            for each in self._plan.in_steps(arrays):
                made, states = step(each, states)
                found.append(made)
            results = [
                parts[-1] if output.time is None else xp.stack(parts, output.time)
                for output, parts in zip(self._plan.outputs.values(), zip(*found, strict=True), strict=True)
            ]
        self._states, self._steps = states, self._steps + len(found)
        return results[0] if self._made is None else self._made(*results)

    def _one_step(self, step: StepOfModel, arrays: Sequence[Array]) -> Any:
        if self._device.switch is None:
            found, self._states = step(arrays, self._states)
        else:
            with self._device.switch():
                found, self._states = step(arrays, self._states)
        self._steps += 1
        return found[0] if self._made is None else self._made(*found)

    def _chunk(self, arrays: Sequence[Array], is_step: bool) -> Any:
        plan = self._plan
        with no_grad(), self._device.current():
            frames = plan.frames(arrays, is_step)
            number = len(frames[0])
            moment = Moment(self._steps, self._steps + number, False, self._batch)
            states, found = plan.run(self._states, frames, moment)
            results = self._returned(found, is_step)
        self._states, self._steps, self._waiting = states, self._steps + number, None
        return results

    def _returned(self, found: Sequence[Tensor | None], is_step: bool = False) -> Any:
        waiting = self._waiting or [None] * len(found)
        results = [
            output.array(before, frames, is_step)
            for output, before, frames in zip(self._plan.outputs.values(), waiting, found, strict=True)
        ]
        return results[0] if self._made is None else self._made(*results)

    def finish(self) -> Any:
        """The outputs that remain at the end of the sequence. Afterwards the stream is at its start.

        These are the outputs that look ahead, of windows that reach beyond the end. Other outputs have no steps.
        """
        with no_grad(), self._device.current():
            nothing = [None] * len(self._plan.inputs)
            _, found = self._plan.run(self._states, nothing, Moment(self._steps, self._steps, True, self._batch))
            results = self._returned(found)
        self.reset()
        return results

    # -- states --------------------------------------------------------------------------------------------------------

    @property
    def state(self) -> dict[str, Array]:
        """What the stream keeps, by name, and `steps`, the number of steps until now.

        The states of a recurrent layer have the name of its place in the model, as in `lstm.l0.h`, and the shape
        (B, ...). The frames (B, number, ...) that a convolution keeps are named as in `encoder.conv.frames`. Reading
        and assigning copy the arrays.

        Raises:
            ValueError: the assigned arrays have different names, shapes or dtypes; the state is unchanged.
        """
        with self._device.current():
            found = {name: part.copy() for name, part in zip(self._names, self._states, strict=True)}
        return found | {"steps": np.array(self._steps)}

    @state.setter
    def state(self, state: Mapping[str, Any]) -> None:
        self._states, self._steps = self._checked(state)
        self._waiting = self._first if self._steps == 0 else None

    def _checked(self, state: Mapping[str, Any]) -> tuple[Any, int]:
        """A state as the stream keeps it, and the number of steps.

        Raises:
            ValueError: a part is missing, unknown, or has a different shape or dtype.
        """
        expected = [*self._names, "steps"]
        if set(state) != set(expected):
            found = ", ".join(map(printable, [*state][:4])) + ", ..." * (len(state) > 4)
            raise ValueError(f"stream.state: expected the arrays {', '.join(expected)}, got {found or 'none'}")
        steps = np.asarray(state["steps"])
        if steps.shape != () or not is_integer(steps.dtype) or steps < 0:
            raise ValueError(
                f"stream.state: expected steps as an integer of 0 or more, got {steps.dtype} {steps.shape}"
            )
        shapes = self._plan.shapes_after(int(steps), self._start)
        for (shape, dtype), name in zip(shapes, self._names, strict=True):
            part = state[name]
            if getattr(part, "shape", None) != shape or part.dtype != dtype:
                got = f"{part.dtype} {part.shape}" if hasattr(part, "dtype") else type(part).__name__
                raise ValueError(f"stream.state: expected {name} as {dtype} {shape}, got {got}")
            if not self._device.backend.owns(part):
                raise ValueError(f"stream.state: expected arrays on {str(self._device)!r}, where the model is")
        with self._device.current():
            return [state[name].copy() for name in self._names], int(steps)

    def reset(self, rows: int | slice | Sequence[int] | Sequence[bool] | HostArray | None = None) -> None:
        """Sets the state to the start, for all or for some rows of the batch.

        Args:
            rows: a row, a slice, several rows, or a boolean for each row.

        Raises:
            IndexError: a row is out of range, or the number of booleans is not the batch size.
            TypeError: `rows` is one boolean.
            ValueError: some rows cannot begin anew: outputs do not come at every step, or one has no batch dimension.
        """
        if rows is None:
            self._states, self._waiting, self._steps = self._start, self._first, 0
            return
        kept = kept_rows(rows, self._batch)
        if self._steady_from > 0 or self._first is not None:
            raise ValueError("stream.reset: all rows must begin anew together, since outputs do not come at every step")
        if not self._plan.has_rows:
            raise ValueError("stream.reset: all rows must begin anew together, since an output has no batch dimension")
        xp = self._device.xp
        with self._device.current():
            mask = self._device.backend.from_host(kept)
            self._states = [
                xp.where(mask.reshape(-1, *[1] * (part.ndim - 1)), part, start)
                for part, start in zip(self._states, self._start, strict=True)
            ]

    def copy(self) -> ModelStream:
        """An independent stream with the same state and shared weights, for this or a different thread."""
        twin = object.__new__(type(self))
        vars(twin).update(vars(self))
        return twin

    __copy__ = copy

    def __reduce__(self) -> tuple[Any, ...]:
        """For deepcopy and pickle: the model, and the state on the host."""
        return _restored, (self._source, self._batch, self._on_host())

    def _on_host(self) -> dict[str, HostArray]:
        """The state, as arrays on the host."""
        found = {name: self._device.backend.to_host(part) for name, part in zip(self._names, self._states, strict=True)}
        return found | {"steps": np.array(self._steps, INT64)}

    def _restore(self, state: Mapping[str, HostArray]) -> None:
        """Sets the state from arrays on the host."""
        from_host = self._device.backend.from_host
        self.state = {name: array if name == "steps" else from_host(array) for name, array in state.items()}

    def save(self, path: str | Path) -> None:
        """Writes the state to a .safetensors or .npz file.

        Raises:
            OSError: the file cannot be written; an existing file is unchanged.
            ValueError: the path has a different suffix.
        """
        save_weights(path, self._on_host())

    def load(self, path: str | Path) -> None:
        """Loads a state that `save` wrote.

        Raises:
            OSError: the file does not exist or cannot be read.
            ValueError: it is damaged, or does not contain a state of this model; the state is unchanged.
        """
        arrays = load_weights(path)
        try:
            self._restore(arrays)
        except ValueError as error:
            raise ValueError(f"{path}: {error}") from error


def _outputs_of(names: tuple[str, ...]) -> Callable[..., Any] | None:
    """Makes a named tuple of several outputs; None for one."""
    return namedtuple("Outputs", names, rename=True) if len(names) > 1 else None


def _restored(source: tuple[Any, ...], batch: int, state: Mapping[str, HostArray]) -> ModelStream:
    """A copy of a stream."""
    model, inputs, *settings = source
    twin = ModelStream(model, inputs, batch, *settings)
    twin._restore(state)
    return twin
