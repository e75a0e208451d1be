"""The base class of optimizers: parameter groups, their settings and state, steps, saving and loading."""

import itertools
import math
import sys
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, ClassVar, NamedTuple, TypeAlias

import numpy as np

from tinygrad_lstm.backends.base import Array, Backend
from tinygrad_lstm.backends.dtypes import is_float, widened_dtype

from .._tensor import Tensor, cast_like
from ..device import Device, device_of
from ..graph import set_gradient
from ..mode import enable_grad, no_grad
from ..printable import printable

__all__ = ["Optimizer"]

Group: TypeAlias = dict[str, Any]
Parameters: TypeAlias = Iterable[Tensor] | Iterable[Mapping[str, Any]]
State: TypeAlias = dict[str, Any]


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


class Optimizer(ABC):
    """Changes parameters in place, using their gradients.

    A subclass defines an algorithm's state for each parameter (`initial_state`) and its step (`update`), on plain
    arrays. The step and the state of a float16 parameter are in float32: in float16, squares of gradients vanish and
    running means stop moving. Settings such as the learning rate are in `param_groups`, where schedules and users
    change them.

    Args:
        params: tensors, or groups: dicts with `params` and the settings that differ from the defaults.
        defaults: the default settings of groups.

    Raises:
        TypeError: `params` is a single tensor, or contains a value that is not a tensor; a setting has an invalid type.
        ValueError: there are no parameters; one is given twice, is not a leaf or is not a float; a setting is unknown
            or out of bounds.
    """

    bounds: ClassVar[dict[str, tuple[float, float]]] = {"lr": (0.0, math.inf), "weight_decay": (0.0, math.inf)}
    """The range [low, high) of each setting that is a number."""

    flags: ClassVar[tuple[str, ...]] = ("maximize",)
    """The settings that are True or False."""

    def __init__(self, params: Parameters, defaults: dict[str, Any]) -> None:
        if isinstance(params, Tensor | Mapping):
            raise TypeError(f"{self._name}: expected a list of parameters or groups, got a {type(params).__name__}")
        self.defaults = defaults
        self.param_groups: list[Group] = []
        self.state: dict[Tensor, State] = {}
        self._scratch = Scratch()
        given: list[Any] = list(params)
        if not given:
            raise ValueError(f"{self._name}: the list of parameters is empty; pass model.parameters()")
        groups = given if all(isinstance(entry, Mapping) for entry in given) else [{"params": given}]
        for group in groups:
            self.add_param_group(group)

    @property
    def _name(self) -> str:
        return type(self).__name__

    def add_param_group(self, group: Mapping[str, Any]) -> None:
        """Adds parameters, with their own settings.

        Args:
            group: `params`, and the settings that differ from the defaults.

        Raises:
            TypeError, ValueError: as for the constructor.
        """
        if "params" not in group:
            raise ValueError(f"{self._name}: a group needs 'params', this one has {', '.join(group) or 'nothing'}")
        params = group["params"]
        complete = {**self.defaults, **group, "params": [params] if isinstance(params, Tensor) else list(params)}
        self.check_settings(complete)
        known = {id(p) for other in self.param_groups for p in other["params"]}
        if not complete["params"]:
            raise ValueError(f"{self._name}: a group's list of parameters is empty")
        for p in complete["params"]:
            if not isinstance(p, Tensor):
                raise TypeError(f"{self._name}: a parameter must be a Tensor, got {type(p).__name__}")
            if not p.is_leaf:
                raise ValueError(
                    f"{self._name}: a tensor of shape {p.shape} was made by an op; only leaves can be optimized, "
                    "use .detach().requires_grad_()"
                )
            if not is_float(p.dtype):
                raise ValueError(f"{self._name}: a {p.dtype} tensor of shape {p.shape} has no gradient")
            if id(p) in known:
                raise ValueError(f"{self._name}: a parameter of shape {p.shape} was given twice")
            known.add(id(p))
        self.param_groups.append(complete)

    def check_settings(self, settings: Group) -> None:
        """Raises a ValueError if a setting is unknown or out of bounds, a TypeError if it has an invalid type.

        A subclass may check more.
        """
        known = [*self.defaults, "params", "initial_lr"]
        if unknown := [name for name in settings if name not in known]:
            raise ValueError(
                f"{self._name}: unknown setting {', '.join(unknown)}; there are {', '.join(self.defaults)}"
            )
        for name, bounds in self.bounds.items():
            self._check_number(name, settings[name], bounds)
        if "initial_lr" in settings:
            self._check_number("initial_lr", settings["initial_lr"], self.bounds["lr"])
        for name in self.flags:
            if not isinstance(settings[name], bool):
                raise TypeError(f"{self._name}: {name} must be True or False, got {settings[name]!r}")

    def _check_number(self, name: str, value: Any, bounds: tuple[float, float]) -> None:
        number = _plain(value)
        if not isinstance(number, int | float) or isinstance(number, bool):
            raise TypeError(f"{self._name}: {name} must be a number, got {value!r}")
        low, high = bounds
        if not (low <= number < high and abs(number) <= sys.float_info.max):
            raise ValueError(f"{self._name}: {name} must be within [{low:g}, {high:g}), got {value}")

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
        todo = [(p, p.grad, group) for group in self.param_groups for p in group["params"] if p.grad is not None]
        for p, grad, _ in todo:
            if grad.device is not p.device or grad.shape != p.shape:
                raise RuntimeError(
                    f"{self._name}: a parameter of shape {p.shape} on {str(p.device)!r} has a gradient of shape "
                    f"{grad.shape} on {str(grad.device)!r}; use zero_grad() after moving a model"
                )
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

    def zero_grad(self, set_to_none: bool = True) -> None:
        """Sets the gradients of all parameters to None.

        Args:
            set_to_none: if False, the gradients that exist become zeros, in place. The next step then also changes
                parameters whose gradient is 0, with momentum or weight decay.
        """
        for group in self.param_groups:
            for p in group["params"]:
                set_gradient(p, None if set_to_none or p.grad is None else _zeroed(p.grad))

    # -- saving and loading -------------------------------------------------------------------------------------------

    def state_dict(self) -> dict[str, Any]:
        """A snapshot of the optimizer's state, for a checkpoint.

        Returns:
            `state`: NumPy arrays by name, for safetensors: "3.exp_avg" is the state `exp_avg` of the fourth parameter,
            counted through all groups. Counters are 0-d int64 arrays. Parameters that never had a gradient have no
            state. `param_groups`: the settings of each group, plain values for JSON; `params` are the numbers of its
            parameters.
        """
        arrays: dict[str, Any] = {}
        groups: list[Group] = []
        counter = itertools.count()
        for group in self.param_groups:
            settings = {name: _plain(value) for name, value in group.items() if name != "params"}
            numbers = [next(counter) for _ in group["params"]]
            groups.append({**settings, "params": numbers})
            for number, p in zip(numbers, group["params"], strict=True):
                for name, value in self._present_state(p, group).items() if p in self.state else ():
                    host = (
                        np.asarray(value) if isinstance(value, int | float) else p.device.backend.to_host(value).copy()
                    )
                    arrays[f"{number}.{name}"] = host
        return {"state": arrays, "param_groups": groups}

    def load_state_dict(self, state_dict: Mapping[str, Any]) -> None:
        """Restores a state from `state_dict`, on the devices of this optimizer's parameters.

        Arrays of a different dtype are converted.

        Raises:
            TypeError: a setting has an invalid type.
            ValueError: the state is of a different algorithm, or of different parameters. Nothing is changed then.
        """
        if missing := [part for part in ("state", "param_groups") if part not in state_dict]:
            raise ValueError(f"{self._name}: this is not an optimizer's state, it lacks {', '.join(missing)}")
        groups = [self._loaded_group(mine, given) for mine, given in self._paired_groups(state_dict["param_groups"])]
        state = self._loaded_state(state_dict["state"], groups)
        self.param_groups, self.state = groups, state

    def _paired_groups(self, given: list[Group]) -> list[tuple[Group, Group]]:
        mine = [len(group["params"]) for group in self.param_groups]
        sizes = [len(group["params"]) for group in given]
        if mine != sizes:
            raise ValueError(f"{self._name}: the state is of groups of {sizes} parameters, this one has {mine}")
        return list(zip(self.param_groups, given, strict=True))

    def _loaded_group(self, mine: Group, given: Group) -> Group:
        given = {"maximize": False, **given}  # states that were saved before there was this setting
        if missing := [name for name in self.defaults if name not in given]:
            raise ValueError(f"{self._name}: the state's groups lack {', '.join(missing)}; is it another optimizer's?")
        settings = {name: tuple(v) if isinstance(v, list) else v for name, v in given.items()}
        loaded = {**settings, "params": mine["params"]}
        self.check_settings(loaded)
        return loaded

    def _loaded_state(self, given: Mapping[str, Any], groups: list[Group]) -> dict[Tensor, State]:
        loaded: dict[Tensor, State] = {}
        left = dict(given)
        numbered = enumerate((p, group) for group in groups for p in group["params"])
        for number, (p, group) in numbered:
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


def evaluated(closure: Callable[[], Tensor]) -> Tensor:
    """The loss that a closure computes, with recording on.

    Raises:
        TypeError: it is not a function.
    """
    if not callable(closure):
        raise TypeError(f"step: closure must be a function that computes the loss, got {type(closure).__name__}")
    with enable_grad():
        return closure()


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


def _zeroed(gradient: Tensor) -> Tensor:
    """The gradient with zeros written into it, without a graph."""
    alone = gradient.detach() if gradient.requires_grad else gradient
    with no_grad():
        return alone.zero_()


def _plain(value: Any) -> Any:
    """A setting as a JSON value: without tuples and NumPy numbers."""
    if isinstance(value, tuple | list):
        return [_plain(part) for part in value]
    return value.item() if isinstance(value, np.generic) else value


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
