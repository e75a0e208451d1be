"""Inference on data as it comes in: a model that keeps its state between calls."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator, Sequence
from itertools import zip_longest
from pathlib import Path
from typing import Any

import numpy as np

from tinygrad_lstm._tensor import as_tensor, tensor
from tinygrad_lstm.arguments import integer
from tinygrad_lstm.backends.base import Array, HostArray
from tinygrad_lstm.backends.dtypes import is_integer
from tinygrad_lstm.creation import zeros
from tinygrad_lstm.device import Device
from tinygrad_lstm.io.weights import load_weights, save_weights
from tinygrad_lstm.mode import no_grad
from tinygrad_lstm.nn import Embedding, Linear, Module
from tinygrad_lstm.ops.indexing import check_range
from tinygrad_lstm.ops.rules import Functions
from tinygrad_lstm.printable import printable
from tinygrad_lstm.states import leaves_of, mapped, rebuilt

from .stepping import Stepper

__all__ = ["Stream", "check_forward", "has_forward_of", "kept_rows"]

# Chunks of up to this many steps run step by step: a sequence first prepares its weights, which takes as long.
_FEW_STEPS = 16


class Stream:
    """A model that takes its input one step or one chunk at a time, and keeps its state in between.

    Networks and models have a method `stream()`. A user-defined model of an embedding, a network and a module for the
    outputs, or some of these, passes its parts to `Stream`. A stream copies their weights, which takes two to three
    times their memory. It is in evaluation mode and records nothing. Its memory does not grow with the number of steps.
    Later changes of the model have no effect on it. What a user-defined cell uses besides, such as a global variable,
    an attribute of its class or a tensor around a function, has its present value at each step. (If elements of such
    a tensor are written through its `data`, this may not be noticed.)

    Each thread needs its own stream: `copy()` returns one that shares the weights. `copy.deepcopy` and pickle copy the
    weights too.

    Args:
        network: an LSTM, GRU or RNN with one direction, or a subclass, which may override `forward`; or a `Recurrent`
            whose cells take inputs (B, I).
        batch: B, the number of sequences.
        state: the initial `state`; by default zeros, or what the cells of a `Recurrent` start from.
        embedding: maps ids (...), integers, to the network's inputs (..., I).
        output: maps the network's outputs (..., H), or (..., P) with a projection, to (..., O).
        scaling: computes the network's inputs from numbers of the same shape, such as a `Standardize`.

    Raises:
        ValueError: the network is bidirectional; `batch` is below 1; the state has a different shape, dtype or device.
        TypeError: `batch` is not an integer.

    >>> import numpy as np
    >>> import tinygrad_lstm as tg
    >>> from tinygrad_lstm.models import LSTM, Stream
    >>> stream = LSTM(3, 5).stream()
    >>> stream(np.ones((1, 3), np.float32)).shape  # a step (B, I)
    (1, 5)
    >>> stream(np.ones((7, 1, 3), np.float32)).shape  # a chunk (T, B, I)
    (7, 1, 5)
    >>> h, c = stream.state  # after these eight steps

    >>> class Tagger(tg.nn.Module):
    ...     def __init__(self):
    ...         self.lstm = LSTM(3, 5)
    ...         self.tags = tg.nn.Linear(5, 2)
    ...
    ...     def stream(self, batch=1):
    ...         return Stream(self.lstm, batch, output=self.tags)
    >>> Tagger().stream()([0.5, 1.0, 2.0]).shape  # a step without the batch dimension, (I,)
    (2,)
    """

    def __init__(
        self,
        network: Any,
        batch: int = 1,
        state: Array | Sequence[Array] | None = None,
        embedding: Module | None = None,
        output: Module | None = None,
        scaling: Module | None = None,
    ) -> None:
        if network.bidirectional:
            raise ValueError(
                f"stream: a bidirectional {type(network).__name__} cannot go step by step: its outputs depend on steps "
                "to come"
            )
        batch = integer("stream", "batch", batch)
        if batch < 1:
            raise ValueError(f"stream: expected a batch of 1 or more, got {batch}")
        # In one copy, so that shared weights stay shared.
        parts = copy.deepcopy((network, embedding, output, scaling))
        self._network, self._embedding, self._output, self._scaling = parts
        for part in parts:
            if part is not None:
                part.eval().requires_grad_(False)
        like = next(network.parameters(), None)
        like = zeros(1) if like is None else like
        self._device, self._dtype = like.device, like.dtype
        self._batch = batch
        self._stepper = None if network.changes_forward else self._network.stepper()
        self._embed = None if self._embedding is None else _on_arrays(self._embedding, self._device)
        self._scale = None if self._scaling is None else _on_arrays(self._scaling, self._device)
        self._output_of = None if self._output is None else _on_arrays(self._output, self._device)
        self._step_shape = (batch, network.input_size) if embedding is None else (batch,)
        self._time = 1 if network.batch_first else 0  # the dimension of a chunk's steps
        self._state: Any = None
        self._input_size: int | None = None
        self._start: Any = None  # what the network starts from, which is known when the size of an input is
        if network.input_size is not None:
            self._begin(network.input_size)
        if state is not None:
            self.state = state

    def __call__(self, x: Any) -> Array:
        """The outputs of the next step, or of all steps of a chunk.

        Args:
            x: a step (B, I); a chunk of any number of steps (T, B, I), or (B, T, I) if the network is `batch_first`;
                for a batch of 1 also a step (I,). Ids have the same shapes without I.
                It is an array on the model's device, with its dtype, or with an integer dtype for ids; or a number or
                nested lists of numbers.

        Returns:
            An array of x's shape with O in place of I, or with O appended if x are ids. Without `output`, O is the size
            of the network's outputs. The caller may change the array.

        Raises:
            ValueError: x has a different shape, dtype or device; the state is unchanged.
            IndexError: an id is out of range; the state is unchanged. (Arrays on a GPU are not checked: the outputs of
                such an id and of all later steps are NaN.)
        """
        if self._device.switch is None:
            return self._run(x)
        with self._device.switch():
            return self._run(x)

    def _run(self, x: Any) -> Array:
        if not self._device.backend.owns(x):
            x = self._from_numbers(x)
        if not (x.dtype == self._dtype if self._embed is None else is_integer(x.dtype)):
            raise self._misfit(x)
        if self._start is None:
            self._begin_with(x)
        if x.shape == self._step_shape:
            return self._step(x)
        if self._is_chunk(x, self._step_shape):
            return self._chunk(x)
        if x.shape == self._step_shape[1:] and self._batch == 1:
            return self._step(x[None])[0]
        raise self._misfit(x)

    def _is_chunk(self, x: Array, step_shape: tuple[Any, ...]) -> bool:
        return x.ndim > len(step_shape) and (*x.shape[: self._time], *x.shape[self._time + 1 :]) == step_shape

    def _begin_with(self, x: Array) -> None:
        """Sets the size of an input from the first one.

        Raises:
            ValueError: the shape is invalid.
        """
        shape = (self._batch, *x.shape[-1:]) if self._embed is None else (self._batch,)
        if not (x.shape == shape or self._is_chunk(x, shape) or (x.shape == shape[1:] and self._batch == 1)):
            raise self._misfit(x)
        self._begin((x if self._embed is None else self._embed(x)).shape[-1])

    def _begin(self, size: int) -> None:
        """Sets the size of an input, with which the network says what it starts from.

        Raises:
            ValueError: a state that was assigned before is not like that.
        """
        with no_grad():
            x = zeros(self._batch, size, dtype=self._dtype, device=self._device)
            start = mapped(lambda part: part.data, self._network.start_state(x))
        if self._state is not None:
            self._state = self._checked(self._state, start)
        if self._embed is None:
            self._step_shape = (self._batch, size)
        self._input_size, self._start = size, self._copied(start)
        self._state = self._start if self._state is None else self._state

    def _step(self, x: Array) -> Array:
        if self._stepper is None:
            outputs = self._chunk(x[:, None] if self._time else x[None])
            return outputs[:, 0] if self._time else outputs[0]
        out, state = self._stepper(self._inputs_of(x), self._state)
        output = out.copy() if self._output_of is None else self._output_of(out)  # `out` is a view of the state
        self._state = state
        return output

    def _chunk(self, x: Array) -> Array:
        inputs = self._inputs_of(x)
        stepper = self._stepper_for(x.shape[self._time])
        out, state = self._at_once(inputs) if stepper is None else self._in_steps(stepper, inputs)
        outputs = out if self._output_of is None else self._output_of(out)
        self._state = state
        return outputs

    def _inputs_of(self, x: Array) -> Array:
        """The network's inputs."""
        for prepare in (self._embed, self._scale):
            if prepare is not None:
                x = prepare(x)
        return x

    def _stepper_for(self, T: int) -> Stepper | None:
        """The stepper, if T steps should run one by one."""
        return self._stepper if 0 < T <= _FEW_STEPS else None

    def _in_steps(self, stepper: Stepper, inputs: Array) -> tuple[Array, Any]:
        outs, state = [], self._state
        for t in range(inputs.shape[self._time]):
            out, state = stepper(inputs[:, t] if self._time else inputs[t], state)
            outs.append(out)
        return self._device.xp.stack(outs, self._time), state

    def _at_once(self, inputs: Array) -> tuple[Array, Any]:
        with no_grad():
            out, state = self._network(as_tensor(inputs.copy()), mapped(as_tensor, self._state))
        return out.data, mapped(lambda part: part.data, state)

    @property
    def state(self) -> Any:
        """The state after the last step, as the network returns it: (h, c) for an LSTM, h for a GRU or an RNN.

        Reading and assigning copy the arrays.

        Raises:
            ValueError: the assigned arrays have a different number, shape, dtype or device; the state is unchanged. Or
                the state is not known before the first step, since the first cell has no `input_size`.
        """
        return self._copied(self._known(self._state))

    @state.setter
    def state(self, state: Any) -> None:
        state = state if self._start is None else self._checked(state, self._start)
        if not all(map(self._device.backend.owns, leaves_of(state))):
            raise ValueError(f"stream.state: expected arrays on {str(self._device)!r}, where the model is")
        self._state = self._copied(state)

    def _known(self, state: Any) -> Any:
        if state is None:
            raise ValueError(
                "stream: its state is not known before the first step, as the size of an input is not; give the first "
                "cell an attribute input_size"
            )
        return state

    def _checked(self, state: Any, start: Any) -> Any:
        """A state in the structure of the start.

        Raises:
            ValueError: its parts have a different number, shape or dtype.
        """
        parts = list(_leaves_along(start, state))
        expected, found = ([_described(part) for part in several] for several in (leaves_of(start), parts))
        if found != expected:
            names = ", ".join(self._network.state_names(start))
            raise ValueError(f"stream.state: expected {names} as {', '.join(expected)}, got {', '.join(found)}")
        return rebuilt(start, parts)

    def reset(self, rows: int | slice | Sequence[int] | Sequence[bool] | HostArray | None = None) -> None:
        """Sets the state to zeros, or to what the network starts from, for all or for some rows of the batch.

        Args:
            rows: a row, a slice, several rows, or a boolean for each row.

        Raises:
            IndexError: a row is out of range, or the number of booleans is not the batch size.
            TypeError: `rows` is one boolean.
        """
        if rows is None:
            self._state = self._start
            return
        kept = kept_rows(rows, self._batch)
        if self._state is None:  # every row is at its start
            return
        xp, dim = self._device.xp, self._network.STATE_BATCH_DIM
        chosen = []
        with self._device.current():
            mask = self._device.backend.from_host(kept)
            for part, start in zip(leaves_of(self._state), leaves_of(self._known(self._start)), strict=True):
                rows_of = mask.reshape([-1 if k == dim else 1 for k in range(part.ndim)])
                chosen.append(xp.where(rows_of, part, start))
        self._state = rebuilt(self._state, chosen)

    def copy(self) -> Stream:
        """An independent stream with the same state and shared weights, for this or a different thread."""
        twin = object.__new__(type(self))
        vars(twin).update(vars(self))
        return twin

    __copy__ = copy

    def __reduce__(self) -> tuple[Any, ...]:
        """For deepcopy and pickle: the parts, and the state on the host."""
        state = None if self._state is None else mapped(self._device.backend.to_host, self._state)
        parts = (self._network, self._batch, None, self._embedding, self._output, self._scaling)
        return type(self), parts, (self._input_size, state)

    def __setstate__(self, saved: tuple[int | None, Any]) -> None:
        size, state = saved
        if size is not None:
            self._begin(size)
        self._state = None if state is None else mapped(self._device.backend.from_host, state)

    def save(self, path: str | Path) -> None:
        """Writes the state to a .safetensors or .npz file, with the names of the states, such as `h` and `c`.

        Raises:
            OSError: the file cannot be written; an existing file is unchanged.
            ValueError: the path has a different suffix; the state is not known yet.
        """
        state = self._known(self._state)
        arrays = [self._device.backend.to_host(part) for part in leaves_of(state)]
        save_weights(path, dict(zip(self._network.state_names(state), arrays, strict=True)))

    def load(self, path: str | Path) -> None:
        """Loads a state that `save` wrote.

        Raises:
            OSError: the file does not exist or cannot be read.
            ValueError: it is damaged, or does not contain a state of this model; the state is unchanged. Or the state
                is not known yet.
        """
        start = self._known(self._start)
        names, arrays = self._network.state_names(start), load_weights(path)
        if set(arrays) != set(names):
            found = ", ".join(map(printable, [*arrays][:4])) + ", ..." * (len(arrays) > 4)
            raise ValueError(f"{path}: expected the arrays {', '.join(names)} of a state, got {found or 'none'}")
        try:
            self.state = rebuilt(start, [self._device.backend.from_host(arrays[name]) for name in names])
        except ValueError as error:
            raise ValueError(f"{path}: {error}") from error

    def _copied(self, state: Any) -> Any:
        with self._device.current():
            return mapped(lambda part: part.copy(), state)

    def _from_numbers(self, x: Any) -> Array:
        """A number, or nested lists of numbers, as an array."""
        if not isinstance(x, list | tuple | int | float | np.generic):
            raise ValueError(
                f"stream: expected an array on {str(self._device)!r}, where the model is, or a list of numbers, got a "
                f"{type(x).__module__}.{type(x).__name__}"
            )
        if self._embed is None:
            return tensor(x, dtype=self._dtype, device=self._device).data
        return np.array(x)  # ids stay on the host, where they are checked

    def _misfit(self, x: Array) -> ValueError:
        dtype = self._dtype if self._embed is None else "integers"
        step_shape = self._step_shape if None not in self._step_shape else f"({self._batch}, I)"
        chunk = ["I" if length is None else str(length) for length in self._step_shape]
        chunk.insert(self._time, "T")
        return ValueError(
            f"stream: expected {dtype} of shape {step_shape}, or ({', '.join(chunk)}) for T steps, "
            f"got {x.dtype} of shape {x.shape}"
        )


def kept_rows(rows: Any, batch: int) -> HostArray:
    """Which rows of a batch are not among these: a row, a slice, several rows, or a boolean for each row.

    Raises:
        IndexError: a row is out of range, or the number of booleans is not the batch size.
        TypeError: `rows` is one boolean.
    """
    if isinstance(rows, bool):
        raise TypeError(f"stream.reset: rows is {rows}; expected a row, several, or a boolean for each")
    kept = np.ones(batch, np.bool_)
    try:
        kept[list(rows) if isinstance(rows, tuple) else rows] = False
    except IndexError as error:
        raise IndexError(f"stream.reset: {rows!r} are no rows of a batch of {batch} ({error})") from error
    return kept


def check_forward(model: Module, own: type[Module], method: str) -> None:
    """Checks that a model has the `forward` of the class `own`, whose `method` computes the same outputs.

    Raises:
        ValueError: a subclass overrides it.
    """
    if not has_forward_of(model, own):
        raise ValueError(
            f"{type(model).__name__}.{method}: it overrides forward, whose outputs are not those of "
            f"{own.__name__}'s {method}; define {method}, too"
        )


def has_forward_of(model: Module, own: type[Module]) -> bool:
    """Whether a model's `forward` is that of the class `own`, not overridden by a subclass."""
    return getattr(model.forward, "__func__", None) is vars(own)["forward"]


def _leaves_along(structure: Any, state: Any) -> Iterator[Any]:
    """The parts of a state that is to have this structure; a list of numbers in place of an array is one part."""
    nested = isinstance(structure, tuple | list)
    if isinstance(state, tuple | list) and (nested or all(hasattr(part, "dtype") for part in state)):
        for below, part in zip_longest(structure[: len(state)] if nested else (), state):
            yield from _leaves_along(below, part)
    else:
        yield state


def _described(part: Any) -> str:
    return f"{part.dtype} {part.shape}" if hasattr(part, "dtype") else type(part).__name__


def _on_arrays(module: Module, device: Device) -> Callable[[Array], Array]:
    """A module as a function of plain arrays; `Linear` and `Embedding` without the overhead of ops."""
    if type(module) is Linear:
        return _linear(module, device)
    if type(module) is Embedding:
        return _rows(module) if device == "cpu" else lambda ids: module(ids).data
    return lambda x: module(as_tensor(x.copy(), device)).data  # a copy, since the module may return a view of x


def _linear(module: Linear, device: Device) -> Callable[[Array], Array]:
    weight, bias = module.adapted("weight").data, None if module.bias is None else module.bias.data
    linear_op = Functions(device).linear_op

    def linear(x: Array) -> Array:
        y = linear_op(x.reshape(-1, x.shape[-1]), weight, bias)
        return y.reshape(*x.shape[:-1], y.shape[1])

    return linear


def _rows(module: Embedding) -> Callable[[Array], Array]:
    weight: HostArray = module.weight.data

    def rows(ids: HostArray) -> HostArray:
        check_range("embedding", ids, len(weight), 0, lowest=0)
        return weight.take(ids.astype(np.intp, copy=False), axis=0)

    return rows
