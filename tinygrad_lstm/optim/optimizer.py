"""The base class of optimizers: parameter groups and their settings, saving and loading."""

import itertools
import math
import sys
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Mapping
from typing import Any, ClassVar, TypeAlias

import numpy as np

from tinygrad_lstm.backends.base import HostArray
from tinygrad_lstm.backends.dtypes import is_float

from .._tensor import Tensor
from ..graph import set_gradient
from ..mode import enable_grad, no_grad

__all__ = ["Optimizer"]

Group: TypeAlias = dict[str, Any]
Parameters: TypeAlias = Iterable[Tensor] | Iterable[Mapping[str, Any]]
State: TypeAlias = dict[str, Any]


class Optimizer(ABC):
    """Changes parameters in place, using their gradients.

    Settings such as the learning rate are in `param_groups`, where schedules and users change them. User-defined
    optimizers are subclasses of `ElementwiseOptimizer`.

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

    # -- steps --------------------------------------------------------------------------------------------------------

    @abstractmethod
    def step(self, closure: Callable[[], Tensor] | None = None) -> Tensor | None:
        """Changes the parameters, in place.

        Args:
            closure: a function that clears the gradients, computes the loss, calls its `backward` and returns it.

        Returns:
            What the closure returned at first; None without one.
        """

    def _gradient(self, p: Tensor) -> Tensor | None:
        """The gradient of a parameter.

        Raises:
            RuntimeError: its device or shape differs from the parameter's.
        """
        grad = p.grad
        if grad is not None and (grad.device is not p.device or grad.shape != p.shape):
            raise RuntimeError(
                f"{self._name}: a parameter of shape {p.shape} on {str(p.device)!r} has a gradient of shape "
                f"{grad.shape} on {str(grad.device)!r}; use zero_grad() after moving a model"
            )
        return grad

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
        groups: list[Group] = []
        counter = itertools.count()
        for group in self.param_groups:
            settings = {name: _plain(value) for name, value in group.items() if name != "params"}
            groups.append({**settings, "params": [next(counter) for _ in group["params"]]})
        return {"state": self._saved_state(), "param_groups": groups}

    @abstractmethod
    def _saved_state(self) -> dict[str, HostArray]:
        """The state of all parameters, under the names of `state_dict`."""

    @abstractmethod
    def _loaded_state(self, given: Mapping[str, Any], groups: list[Group]) -> dict[Tensor, State]:
        """The state of all parameters that `_saved_state` returned.

        Raises:
            ValueError: it is of a different algorithm, or of different parameters.
        """

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


def evaluated(closure: Callable[[], Tensor]) -> Tensor:
    """The loss that a closure computes, with recording on.

    Raises:
        TypeError: it is not a function.
    """
    if not callable(closure):
        raise TypeError(f"step: closure must be a function that computes the loss, got {type(closure).__name__}")
    with enable_grad():
        return closure()


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
