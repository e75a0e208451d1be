"""The base class of optimizers that change each element of a parameter by its own gradient and state."""

from abc import abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from tinygrad_lstm.backends.base import Array, Backend, HostArray
from tinygrad_lstm.backends.dtypes import widened_dtype

from .._tensor import Tensor, cast_like
from ..device import Device, device_of
from ..printable import printable
from .optimizer import Group, Optimizer, Parameters, State, evaluated

__all__ = ["ElementwiseOptimizer"]


class Number(float):
    """The initial value of a state that is one number, kept on the host in float64."""


class Scratch:
    """Temporary arrays, shared by all parameters of a device and dtype.

    Their contents are overwritten from one parameter to the next.
    """

    def __init__(self) -> None:
        self._room: dict[tuple[int, np.dtype[Any], int], Array] = {}

    def like(self, backend: Backend, p: Array, index: int) -> Array:
        """An array of the parameter's shape and dtype; a different one for each index."""
        key = (id(backend), p.dtype, index)
        room = self._room.get(key)
        if room is None or room.shape[0] < p.size:
            room = self._room[key] = backend.xp.empty(p.size, p.dtype)
        return room[: p.size].reshape(p.shape)


class Update(NamedTuple):
    """A parameter to change, its gradient, and its state."""

    p: Array
    g: Array
    state: State

    def widened(self, maximize: bool) -> "Update":
        """The same in the dtype in which the step is computed: float32 for a float16 parameter, otherwise its own.

        The gradient is negated if the objective is maximized.
        """
        p, g, wide = self.p, self.g, widened_dtype(self.p.dtype)
        if p.dtype != wide:
            p, g = p.astype(wide), g.astype(wide)
        return Update(p, -g if maximize else g, self.state)


class ElementwiseOptimizer(Optimizer):
    """Changes each element of a parameter by its own gradient and state.

    A subclass defines an algorithm's state for each parameter (`initial_state`) and its step (`update`), on plain
    arrays. The step and the state of a float16 parameter are in float32: in float16, squares of gradients vanish and
    running means stop moving. Arguments and errors are those of `Optimizer`.
    """

    def __init__(self, params: Parameters, defaults: dict[str, Any]) -> None:
        super().__init__(params, defaults)
        self._scratch = Scratch()

    # -- for subclasses -----------------------------------------------------------------------------------------------

    @abstractmethod
    def initial_state(self, group: Group) -> dict[str, int | float]:
        """The initial state of a parameter: the names and values that are kept between steps.

        An int is a counter, and a `Number` one number. Any other float is the initial value of an array of the
        parameter's shape, on its device, in its dtype, or in float32 for a float16 parameter.
        """

    @abstractmethod
    def update(self, backend: Backend, updates: Sequence[Update], group: Group, scratch: Scratch) -> None:
        """Changes parameters and their states in place. Gradients must not be changed.

        All have one dtype, float32 or float64: float16 parameters are passed as float32 copies.
        """

    # -- steps --------------------------------------------------------------------------------------------------------

    def step(self, closure: Callable[[], Tensor] | None = None) -> Tensor | None:
        """Changes each parameter that has a gradient.

        Args:
            closure: a function that clears the gradients, computes the loss, calls its `backward` and returns it. It is
                called first, once.

        Returns:
            What the closure returned; None without one.

        Raises:
            TypeError, ValueError: a setting in `param_groups` was changed to an invalid one.
            RuntimeError: the device or the shape of a gradient differs from its parameter's.
            MemoryError: there is no memory for the algorithm's state. In all these cases nothing has been changed; but
                if there is no memory for temporary arrays, some parameters may already be updated.
        """
        for group in self.param_groups:
            self.check_settings(group)
        loss = None if closure is None else evaluated(closure)
        with_gradients = ((p, self._gradient(p), group) for group in self.param_groups for p in group["params"])
        todo = [(p, grad, group) for p, grad, group in with_gradients if grad is not None]
        together: dict[Any, tuple[Device, Group, list[Update]]] = {}
        for p, grad, group in todo:
            *_, updates = together.setdefault((p.device, p.dtype, id(group)), (p.device, group, []))
            updates.append(Update(p._array, grad._array, self._present_state(p, group)))
        for p, _, _ in todo:
            p._mark_written()
        for device, group, updates in together.values():
            with device.making(f"{self._name}.step"):
                widened = [update.widened(group["maximize"]) for update in updates]
                self.update(device.backend, widened, group, self._scratch)
                for update, wide in zip(updates, widened, strict=True):
                    if wide.p is not update.p:
                        update.p[...] = wide.p
        return loss

    def _present_state(self, p: Tensor, group: Group) -> State:
        """A parameter's state, on its device, with the entries that the group's current settings need."""
        state, start = self.state.get(p, {}), self.initial_state(group)
        if state.keys() != start.keys():
            with p.device.making(f"{self._name}.step"):
                state = {name: state[name] if name in state else _started(p, value) for name, value in start.items()}
            self.state[p] = state
        _follow(p, state)
        return state

    # -- saving and loading -------------------------------------------------------------------------------------------

    def _saved_state(self) -> dict[str, HostArray]:
        arrays: dict[str, HostArray] = {}
        for number, (p, group) in enumerate(_in_groups(self.param_groups)):
            for name, value in self._present_state(p, group).items() if p in self.state else ():
                kept = isinstance(value, int | float)
                arrays[f"{number}.{name}"] = np.asarray(value) if kept else p.device.backend.to_host(value).copy()
        return arrays

    def _loaded_state(self, given: Mapping[str, Any], groups: list[Group]) -> dict[Tensor, State]:
        loaded: dict[Tensor, State] = {}
        left = dict(given)
        for number, (p, group) in enumerate(_in_groups(groups)):
            start = self.initial_state(group)
            found = {name: left.pop(f"{number}.{name}") for name in start if f"{number}.{name}" in left}
            if not found:
                continue
            if len(found) < len(start):
                lacking = ", ".join(f"{number}.{name}" for name in start if name not in found)
                raise ValueError(f"{self._name}: the state lacks {lacking}; is it another optimizer's?")
            loaded[p] = {name: self._loaded_value(f"{number}.{name}", p, start[name], found[name]) for name in start}
        if left:
            unexpected = printable(", ".join(left))
            raise ValueError(f"{self._name}: the state has unexpected {unexpected}; is it another optimizer's?")
        return loaded

    def _loaded_value(self, name: str, p: Tensor, start: int | float, given: Any) -> Any:
        counts, number = isinstance(start, int), isinstance(start, Number)
        try:
            if counts or number:
                like = Tensor(start, dtype="float64" if number else None, device="cpu")
            else:
                like = p.detach().to(dtype=widened_dtype(p.dtype))
            value = cast_like(given, like)
        except ValueError as error:
            raise ValueError(f"{self._name}: {name} is invalid: {error}") from error
        if not (counts or number):
            return value.clone()._array
        if counts and value.item() < 0:
            raise ValueError(f"{self._name}: {name} is a counter, got {value.item()}")
        return value.item()


def decayed(backend: Backend, p: Array, g: Array, group: Group, scratch: Scratch) -> Array:
    """The gradient plus `weight_decay` times the parameter, in scratch 1; the gradient itself if that is 0."""
    if not group["weight_decay"]:
        return g
    total = backend.xp.multiply(p, float(group["weight_decay"]), out=scratch.like(backend, p, 1))
    total += g
    return total


def _started(p: Tensor, value: int | float) -> Any:
    if isinstance(value, Number):
        return float(value)
    return value if isinstance(value, int) else p.device.xp.full_like(p._array, value, dtype=widened_dtype(p.dtype))


def _follow(p: Tensor, state: State) -> None:
    """Moves the state to its parameter's device and dtype, if a module was moved after the last step."""
    backend, dtype = p.device.backend, widened_dtype(p.dtype)
    for name, value in state.items():
        if isinstance(value, int | float) or (backend.owns(value) and value.dtype == dtype):
            continue
        source = device_of(value)
        assert source is not None
        with p.device.making("optimizer"):
            state[name] = backend.from_device(value, source.backend).astype(dtype)


def _in_groups(groups: list[Group]) -> Iterator[tuple[Tensor, Group]]:
    """All parameters, each with its group."""
    return ((p, group) for group in groups for p in group["params"])
