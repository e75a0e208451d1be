"""Inference on data as it comes in: a model that keeps its state between calls."""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from tinygrad_lstm._tensor import as_tensor, tensor
from tinygrad_lstm.arguments import integer
from tinygrad_lstm.backends.base import Array, HostArray
from tinygrad_lstm.backends.dtypes import is_integer
from tinygrad_lstm.device import Device
from tinygrad_lstm.io import load_weights, save_weights
from tinygrad_lstm.nn import Embedding, Linear, Module
from tinygrad_lstm.ops.indexing import check_range
from tinygrad_lstm.ops.rules import Functions
from tinygrad_lstm.printable import printable

from .cells import parts_of, state_of_parts
from .stepping import Stepper

__all__ = ["Stream", "check_forward", "has_forward_of"]

# Chunks of up to this many steps run step by step: a fused layer first prepares its weights, which takes as long.
_FEW_STEPS = 8


class Stream:
    """A model that takes its input one step or one chunk at a time, and keeps its state in between.

    Networks and models have a method `stream()`. A user-defined model of an embedding, a network and a module for the
    outputs, or some of these, passes its parts to `Stream`. A stream copies their weights, which takes about twice
    their memory. It is in evaluation mode and records nothing. Its memory does not grow with the number of steps.

    Each thread needs its own stream: `copy()` returns one that shares the weights. `copy.deepcopy` and pickle copy the
    weights too.

    Args:
        network: an LSTM, GRU or RNN with one direction, or a subclass, which may override `forward`.
        batch: B, the number of sequences.
        state: the initial `state`; zeros by default.
        embedding: maps ids (...), integers, to the network's inputs (..., I).
        output: maps the network's outputs (..., H), or (..., P) with a projection, to (..., O).

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
        self._network, self._embedding, self._output = copy.deepcopy((network, embedding, output))
        for part in (self._network, self._embedding, self._output):
            if part is not None:
                part.eval().requires_grad_(False)
        parameter = next(network.parameters())
        self._device, self._dtype = parameter.device, parameter.dtype
        self._batch = batch
        self._stepper = None if network.changes_forward else self._network.stepper()
        self._embed = None if self._embedding is None else _on_arrays(self._embedding, self._device)
        self._output_of = None if self._output is None else _on_arrays(self._output, self._device)
        self._step_shape = (batch, network.input_size) if embedding is None else (batch,)
        self._time = 1 if network.batch_first else 0  # the dimension of a chunk's steps
        self._state = self._zeros()
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
        if x.shape == self._step_shape:
            return self._step(x)
        if x.ndim > len(self._step_shape) and (*x.shape[: self._time], *x.shape[self._time + 1 :]) == self._step_shape:
            return self._chunk(x)
        if x.shape == self._step_shape[1:] and self._batch == 1:
            return self._step(x[None])[0]
        raise self._misfit(x)

    def _step(self, x: Array) -> Array:
        if self._stepper is None:
            outputs = self._chunk(x[:, None] if self._time else x[None])
            return outputs[:, 0] if self._time else outputs[0]
        out, state = self._stepper(x if self._embed is None else self._embed(x), self._state)
        output = out.copy() if self._output_of is None else self._output_of(out)  # `out` is a view of the state
        self._state = state
        return output

    def _chunk(self, x: Array) -> Array:
        inputs = x if self._embed is None else self._embed(x)
        stepper = self._stepper_for(x.shape[self._time])
        out, state = self._at_once(inputs) if stepper is None else self._in_steps(stepper, inputs)
        outputs = out if self._output_of is None else self._output_of(out)
        self._state = state
        return outputs

    def _stepper_for(self, T: int) -> Stepper | None:
        """The stepper, if T steps should run one by one."""
        few = T <= _FEW_STEPS or self._network.options  # with options there are no fused layers
        return self._stepper if T and few else None

    def _in_steps(self, stepper: Stepper, inputs: Array) -> tuple[Array, Any]:
        outs, state = [], self._state
        for t in range(inputs.shape[self._time]):
            out, state = stepper(inputs[:, t] if self._time else inputs[t], state)
            outs.append(out)
        return self._device.xp.stack(outs, self._time), state

    def _at_once(self, inputs: Array) -> tuple[Array, Any]:
        out, state = self._network(
            as_tensor(inputs), state_of_parts([as_tensor(part) for part in parts_of(self._state)])
        )
        return out.data, state_of_parts([part.data for part in parts_of(state)])

    @property
    def state(self) -> Any:
        """The state after the last step, as the network returns it: (h, c) for an LSTM, h for a GRU or an RNN.

        Reading and assigning copy the arrays.

        Raises:
            ValueError: the assigned arrays have a different number, shape, dtype or device; the state is unchanged.
        """
        return self._copies(parts_of(self._state))

    @state.setter
    def state(self, state: Array | Sequence[Array]) -> None:
        parts = parts_of(state)
        expected, found = ([_described(part) for part in several] for several in (parts_of(self._state), parts))
        if found != expected:
            names = ", ".join(self._network.STATES)
            raise ValueError(f"stream.state: expected {names} as {', '.join(expected)}, got {', '.join(found)}")
        if not all(map(self._device.backend.owns, parts)):
            raise ValueError(f"stream.state: expected arrays on {str(self._device)!r}, where the model is")
        self._state = self._copies(parts)

    def reset(self, rows: int | slice | Sequence[int] | Sequence[bool] | HostArray | None = None) -> None:
        """Sets the state to zeros, for all or for some rows of the batch, so that new sequences begin.

        Args:
            rows: a row, a slice, several rows, or a boolean for each row.

        Raises:
            IndexError: a row is out of range, or the number of booleans is not the batch size.
            TypeError: `rows` is one boolean.
        """
        if rows is None:
            self._state = self._zeros()
            return
        if isinstance(rows, bool):
            raise TypeError(f"stream.reset: rows is {rows}; expected a row, several, or a boolean for each")
        kept = np.ones(self._batch, np.bool_)
        try:
            kept[list(rows) if isinstance(rows, tuple) else rows] = False
        except IndexError as error:
            raise IndexError(f"stream.reset: {rows!r} are no rows of a batch of {self._batch} ({error})") from error
        xp = self._device.xp
        with self._device.current():
            mask = self._device.backend.from_host(kept[:, None])
            self._state = state_of_parts(
                [xp.where(mask, part, xp.zeros((), part.dtype)) for part in parts_of(self._state)]
            )

    def copy(self) -> Stream:
        """An independent stream with the same state and shared weights, for this or a different thread."""
        twin = object.__new__(type(self))
        vars(twin).update(vars(self))
        return twin

    __copy__ = copy

    def __reduce__(self) -> tuple[Any, ...]:
        """For deepcopy and pickle: the parts, and the state on the host."""
        return type(self), (self._network, self._batch, None, self._embedding, self._output), self._on_host()

    def __setstate__(self, parts: Sequence[HostArray]) -> None:
        self.state = state_of_parts([self._device.backend.from_host(part) for part in parts])

    def _on_host(self) -> list[HostArray]:
        return [self._device.backend.to_host(part) for part in parts_of(self._state)]

    def save(self, path: str | Path) -> None:
        """Writes the state, with the names `h` and, for an LSTM, `c`, to a .safetensors or .npz file.

        Raises:
            OSError: the file cannot be written; an existing file is unchanged.
            ValueError: the path has a different suffix.
        """
        save_weights(path, dict(zip(self._network.STATES, self._on_host(), strict=True)))

    def load(self, path: str | Path) -> None:
        """Loads a state that `save` wrote.

        Raises:
            OSError: the file does not exist or cannot be read.
            ValueError: it is damaged, or does not contain a state of this model; the state is unchanged.
        """
        names, arrays = self._network.STATES, load_weights(path)
        if set(arrays) != set(names):
            found = ", ".join(map(printable, [*arrays][:4])) + ", ..." * (len(arrays) > 4)
            raise ValueError(f"{path}: expected the arrays {', '.join(names)} of a state, got {found or 'none'}")
        try:
            self.__setstate__([arrays[name] for name in names])
        except ValueError as error:
            raise ValueError(f"{path}: {error}") from error

    def _zeros(self) -> Any:
        layers, sizes = self._network.num_layers, self._network.state_sizes.values()
        with self._device.current():
            return state_of_parts([self._device.xp.zeros((layers, self._batch, size), self._dtype) for size in sizes])

    def _copies(self, parts: Sequence[Array]) -> Any:
        with self._device.current():
            return state_of_parts([part.copy() for part in parts])

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
        chunk = [str(length) for length in self._step_shape]
        chunk.insert(self._time, "T")
        return ValueError(
            f"stream: expected {dtype} of shape {self._step_shape}, or ({', '.join(chunk)}) for T steps, "
            f"got {x.dtype} of shape {x.shape}"
        )


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
        return weight.take(ids.astype(np.int64, copy=False), axis=0)

    return rows
