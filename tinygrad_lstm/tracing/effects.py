"""What a run of a step changes besides its results: attributes, variables, lists, generators of random numbers.

Tracing takes a step more often than a loop does. What these runs change is found and put back.
"""

import functools
import random
import sys
import sysconfig
from collections import deque
from collections.abc import Callable, Iterable, Mapping
from types import BuiltinMethodType, CellType, CodeType, FunctionType, MethodType, ModuleType
from typing import Any, NamedTuple

import numpy as np

from .._tensor import Tensor
from ..device import Device
from ..graph import OWN_CODE

__all__ = ["Effects"]

_PLAIN = frozenset({bool, int, float, complex, str, bytes, type(None)})
_LEAVES = _PLAIN | {Device, np.dtype}
_MOST = 500  # of the objects that are looked at, and of the elements of one
_INSTALLED = tuple(sysconfig.get_paths()[name] for name in ("stdlib", "platstdlib", "purelib", "platlib"))
_LIBRARY = __name__.partition(".")[0]
_UNSET: Any = object()


class _Way(NamedTuple):
    """How the content of an object is read, and put back."""

    read: Callable[[Any], Any]
    put: Callable[[Any, Any], None]


def _refill(name: str) -> Callable[[Any, Any], None]:
    """Puts back the elements of a container, given the name of the method that adds several."""

    def put(container: Any, before: Any) -> None:
        container.clear()
        getattr(container, name)(before)

    return put


def _content(cell: CellType) -> tuple[Any, ...]:
    try:
        return (cell.cell_contents,)
    except ValueError:  # the variable has no value yet
        return ()


def _put_content(cell: CellType, before: tuple[Any, ...]) -> None:
    del cell.cell_contents
    for value in before:
        cell.cell_contents = value


_CELL = _Way(_content, _put_content)
_VARIABLE = _Way(
    lambda variable: variable[0].get(variable[1], _UNSET),
    lambda variable, before: variable[0].__setitem__(variable[1], before),
)
_DICT = _Way(dict, _refill("update"))
_CONTAINERS: dict[type, _Way] = {
    dict: _DICT,
    list: _Way(tuple, _refill("extend")),
    deque: _Way(tuple, _refill("extend")),
    set: _Way(tuple, _refill("update")),
}
_ARRAY = _Way(np.copy, np.copyto)
_GENERATORS: dict[type, _Way] = {
    np.random.RandomState: _Way(lambda rng: rng.get_state(legacy=False), lambda rng, before: rng.set_state(before)),
    np.random.Generator: _Way(
        lambda rng: rng.bit_generator.state, lambda rng, before: setattr(rng.bit_generator, "state", before)
    ),
    random.Random: _Way(random.Random.getstate, random.Random.setstate),
}


class Effects:
    """What a function reaches and can change: its variables, the attributes of objects, and the elements of containers.

    What belongs to this library or to installed packages is left out. A tensor is noted when a `Tracer` sees that it is
    to be changed.
    """

    def __init__(self, function: Callable[..., Any]) -> None:
        self._kept: list[tuple[str, _Way, Any, Any]] = []
        self._written: dict[int, tuple[Tensor, Any, Any, Any, dict[str, Any]]] = {}
        self._seen: set[Any] = set()  # ids; of modules, with the names that are looked up
        self._todo: list[tuple[str, Any]] = [("the step", function)]
        if type(function) is FunctionType:
            self._todo += [(name, part) for name, cell in _variables_around(function) for part in _content(cell)]
        while self._todo and len(self._seen) < _MOST:
            name, thing = self._todo.pop()
            if type(thing) not in _LEAVES and id(thing) not in self._seen:
                self._seen.add(id(thing))
                self._visit(name, thing)

    def note_write(self, tensor: Tensor) -> None:
        """Notes a tensor that is to be changed in place."""
        if id(tensor) not in self._written:
            array, version = tensor._array, tensor._shared_version()
            counted = {name: getattr(version, name) for name in version.__slots__}
            with tensor.device.current():
                self._written[id(tensor)] = tensor, array, array.copy(), tensor._node, counted

    def undo(self) -> str | None:
        """Puts back what has changed; returns the name of one change, or None. Tensors are not named."""
        for tensor, array, values, node, counted in self._written.values():
            with tensor.device.current():
                array[...] = values
            tensor._array, tensor._node = array, node
            for name, value in counted.items():
                setattr(tensor._shared_version(), name, value)
        changed = None
        for name, way, thing, before in self._kept:
            key = _changed(before, way.read(thing))
            if key is not None:
                way.put(thing, before)
                changed = f"{name}.{key}" if way is _DICT else name
        return changed

    def _keep(self, name: str, way: _Way, thing: Any) -> Any:
        content = way.read(thing)
        self._kept.append((name, way, thing, content))
        return content

    def _visit(self, name: str, thing: Any) -> None:
        kind = type(thing)
        if kind is FunctionType:
            self._visit_function(thing)
        elif kind is MethodType:
            self._todo += [(name, thing.__func__), (name, thing.__self__)]
        elif kind is BuiltinMethodType:
            self._todo.append((name, thing.__self__))
        elif kind is functools.partial:
            self._todo += [(name, part) for part in (thing.func, *thing.args, *thing.keywords.values())]
        elif kind in _GENERATORS:
            self._keep(f"the random numbers of {name}", _GENERATORS[kind], thing)
        elif kind is np.ndarray:
            if thing.size <= _MOST and thing.flags.writeable and not thing.dtype.hasobject:
                self._keep(name, _ARRAY, thing)
        elif kind in _CONTAINERS:
            if len(thing) <= _MOST:
                content = self._keep(name, _CONTAINERS[kind], thing)
                self._todo += [(name, part) for part in (content.values() if kind is dict else content)]
        elif isinstance(thing, Tensor):
            self._todo += [] if thing.requires_grad else [(name, thing._array)]
        elif isinstance(thing, tuple):
            self._todo += [(name, part) for part in thing[:_MOST]]
        elif not isinstance(thing, type | ModuleType) and hasattr(thing, "__dict__"):
            self._visit_object(thing)

    def _visit_function(self, function: FunctionType) -> None:
        if not _is_users(function.__module__):
            self._todo.append((function.__name__, getattr(function, "__wrapped__", None)))
            return
        for name, cell in _variables_around(function):
            self._todo += [(name, value) for value in self._keep(name, _CELL, cell)]
        self._visit_names(function.__globals__, _names(function.__code__), True)

    def _visit_names(self, namespace: Mapping[str, Any], names: frozenset[str], users: bool) -> None:
        """The variables of a module that code names, and those of the modules among them.

        Of a module that is not the user's, only methods are taken, such as `np.random.rand`.
        """
        for name in names.intersection(namespace):
            value = namespace[name]
            if isinstance(value, ModuleType):
                if (id(value), names) not in self._seen:
                    self._seen.add((id(value), names))
                    self._visit_names(vars(value), names, _is_users(value.__name__))
            elif users:
                self._keep(name, _VARIABLE, (namespace, name))
                self._todo.append((name, value))
            elif type(value) in (BuiltinMethodType, MethodType):
                self._todo.append((name, value))

    def _visit_object(self, thing: Any) -> None:
        """The attributes of an object, and the variables of its methods, if its class is the user's.

        Of an object of this library, only other objects are taken, such as the cells of a network.
        """
        kind = type(thing)
        parts = [(f"{kind.__name__}.{name}", part) for name, part in vars(thing).items()]
        if _is_users(kind.__module__):
            self._keep(kind.__name__, _DICT, vars(thing))
            for base in kind.__mro__:
                parts += [(name, part) for name, part in vars(base).items() if type(part) is FunctionType]
        elif kind.__module__.startswith(_LIBRARY):
            parts = [(name, part) for name, part in parts if type(part) not in _CONTAINERS]
        else:
            return
        self._todo += parts


def _variables_around(function: FunctionType) -> Iterable[tuple[str, CellType]]:
    return zip(function.__code__.co_freevars, function.__closure__ or (), strict=True)


@functools.lru_cache(1024)
def _names(code: CodeType) -> frozenset[str]:
    """The names of globals and attributes in the code of a function, and of those inside it."""
    inner = (_names(constant) for constant in code.co_consts if isinstance(constant, CodeType))
    return frozenset(code.co_names).union(*inner)


@functools.lru_cache(1024)
def _is_users(module: str | None) -> bool:
    """Whether a module, by its name, is neither of this library nor installed."""
    if module is None or module == "__main__" or module not in sys.modules:
        return True
    file = getattr(sys.modules[module], "__file__", None)
    return file is not None and not file.startswith((*OWN_CODE, *_INSTALLED))


def _changed(before: Any, now: Any) -> str | bool | None:
    """A key whose values differ, of dicts; otherwise True if there is a difference; None if there is none."""
    if isinstance(before, dict):
        keys = {**before, **now}
        return next((str(key) for key in keys if not _is_same(before.get(key, _UNSET), now.get(key, _UNSET))), None)
    return None if _is_same(before, now) else True


def _is_same(one: Any, other: Any) -> bool:
    """Whether two values are the same object, equal numbers or strings, or made of such."""
    if one is other:
        return True
    if type(one) is not type(other):
        return False
    if type(one) is tuple:
        return len(one) == len(other) and all(map(_is_same, one, other))
    if type(one) is dict:
        return _changed(one, other) is None
    if type(one) is np.ndarray:
        return bool(one.tobytes() == other.tobytes())
    return type(one) in _PLAIN and bool(one == other)
