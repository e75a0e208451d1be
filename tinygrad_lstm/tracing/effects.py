"""What a run of a step changes besides its results: attributes, variables, lists, generators of random numbers.

Tracing takes a step more often than a loop does. What these runs change is found and put back.
"""

import copyreg
import functools
import gc
import logging
import operator
import os
import random
import sys
import sysconfig
import threading
import weakref
from collections import deque
from collections.abc import Callable, Mapping
from types import BuiltinMethodType, CellType, FunctionType, MappingProxyType, MethodType, ModuleType
from typing import Any, NamedTuple

import numpy as np

from tinygrad_lstm.backends.base import Array, HostArray

from .._tensor import Tensor
from ..device import Device
from ..graph import OWN_CODE, sees_gradient, setting_gradient
from ..mode import mode
from .codes import codes_in, functions_of, names_in_code, variables_around
from .watching import IMPURE_BUILTINS, is_followed, is_known

__all__ = ["Effects", "see_attribute", "slots_of"]

_PLAIN = frozenset({bool, int, float, complex, str, bytes, type(None)})
_LEAVES = _PLAIN | {Device, np.dtype}
_MOST_OBJECTS = 5000  # that are looked at
_MOST_ELEMENTS = 1_000_000  # of containers and arrays, which are compared
_INSTALLED = tuple(sysconfig.get_paths()[name] + os.sep for name in ("purelib", "platlib"))
# The standard library may be in an archive, as in WebAssembly.
_STANDARD = (*(sysconfig.get_paths()[name] for name in ("stdlib", "platstdlib")), os.path.dirname(random.__file__))
_NOT_USERS = (*OWN_CODE, *_INSTALLED, *_STANDARD)
"""Where the files of this library and of installed packages are."""
_LIBRARY = __name__.partition(".")[0]
_UNSET: Any = object()


class _Way(NamedTuple):
    """How the content of an object is read, and put back: `put(thing, before, now)`, given both contents."""

    read: Callable[[Any], Any]
    put: Callable[[Any, Any, Any], None]


def _put_items(container: dict[Any, Any], before: dict[Any, Any], now: dict[Any, Any]) -> None:
    """Puts back the items of a dict: those that have changed, or all if their order has."""
    reordered = [key for key in now if key in before] != [*before]
    for key in now if reordered else now.keys() - before.keys():
        container.pop(key, None)
    for key, value in before.items():
        if reordered or not _is_same(now.get(key, _UNSET), value):
            container[key] = value


def _put_elements(container: Any, before: tuple[Any, ...], _: Any) -> None:
    """Puts back the elements of a set or a deque."""
    container.clear()
    (container.update if isinstance(container, set) else container.extend)(before)


def _content(cell: CellType) -> tuple[Any, ...]:
    try:
        return (cell.cell_contents,)
    except ValueError:  # the variable has no value yet
        return ()


def _put_content(cell: CellType, before: tuple[Any, ...], _: Any) -> None:
    if before:
        (cell.cell_contents,) = before
    else:
        del cell.cell_contents


def _put_attributes(thing: Any, before: dict[str, Any], now: dict[str, Any]) -> None:
    """Sets and deletes attributes of a class, or of an object without a `__dict__`."""
    for name in {**before, **now}:
        if name not in before:
            delattr(thing, name)
        elif not _is_same(before[name], now.get(name, _UNSET)):
            setattr(thing, name, before[name])


def _attributes(thing: Any) -> dict[str, Any]:
    """The attributes of a class without Python's own; of an object, those in slots."""
    if isinstance(thing, type):
        return {name: value for name, value in dict(vars(thing)).items() if not name.startswith("__")}
    return {name: getattr(thing, name) for name in slots_of(type(thing)) if hasattr(thing, name)}


def _put_bytes(buffer: Any, before: bytes, _: Any) -> None:
    memoryview(buffer).cast("B")[:] = before


def _bytes_to_write(thing: Any) -> int:
    """The size of the memory of a buffer that can be written to, such as an `array.array`; 0 of any other object."""
    try:
        with memoryview(thing) as buffer:
            return 0 if buffer.readonly else buffer.nbytes
    except (TypeError, ValueError, BufferError):
        return 0


def _put_tensor(tensor: Tensor, before: tuple[Any, ...], _: Any) -> None:
    tensor._array, tensor._node, tensor.grad = before


_CELL = _Way(_content, _put_content)
_VARIABLE = _Way(
    lambda variable: variable[0].get(variable[1], _UNSET),
    lambda variable, before, _: variable[0].__setitem__(variable[1], before),
)
_DICT = _Way(dict, _put_items)
_LIST = _Way(tuple, lambda elements, before, _: elements.__setitem__(slice(None), before))
_ATTRIBUTES = _Way(_attributes, _put_attributes)
_ARRAY = _Way(np.copy, lambda array, before, _: np.copyto(array, before))
_BUFFER = _Way(lambda buffer: memoryview(buffer).tobytes(), _put_bytes)


def _elements_on(device: Device) -> _Way:
    """How the elements of an array on a device are read, and put back."""

    def put(array: Array, before: HostArray, _: Any) -> None:
        with device.current():
            array[...] = device.backend.from_host(before)

    return _Way(lambda array: device.backend.to_host(array).copy(), put)


_TENSOR = _Way(lambda tensor: (tensor._array, tensor._node, tensor.grad), _put_tensor)
_CACHED: Any = type(functools.cache(len))
_CACHE = _Way(lambda function: function.cache_info().misses, lambda function, *_: function.cache_clear())
_CONTAINERS: dict[type, _Way] = {
    dict: _DICT,
    list: _LIST,
    bytearray: _LIST,
    deque: _Way(tuple, _put_elements),
    set: _Way(tuple, _put_elements),
}
_GENERATORS: dict[type, _Way] = {
    np.random.RandomState: _Way(lambda rng: rng.get_state(legacy=False), lambda rng, before, _: rng.set_state(before)),
    np.random.Generator: _Way(
        lambda rng: rng.bit_generator.state, lambda rng, before, _: setattr(rng.bit_generator, "state", before)
    ),
    random.Random: _Way(random.Random.getstate, lambda rng, before, _: rng.setstate(before)),
}


class Effects:
    """What a function reaches and can change: its variables, the attributes of objects, and the elements of containers.

    It is noted when this context is entered. Left out is what other threads set within it: attributes of modules, and
    gradients of tensors, by `set_gradient`.

    Containers that belong to objects of this library are left out. The elements of a tensor are noted when a `Tracer`
    sees that they are to be changed, or that an array of them is handed out.

    Attributes:
        unfollowed: why a change may remain unnoticed; None if all can be noted.
        iterator: the name of an iterator that it reaches, if there is one.
        codes: the ids of the code of the functions that it may call, without those of this library and of Python's.
        calls_unknown: whether it can call functions in C whose effects are not known; see `watched_calls`.
    """

    def __init__(self, function: Callable[..., Any]) -> None:
        self.unfollowed: str | None = None
        self.iterator: str | None = None
        self.codes: set[int] = set()
        self.calls_unknown = False
        self._kept: list[tuple[str, _Way, Any, Any]] = []
        self._written: dict[int, tuple[Tensor, Any, Any, Any, dict[str, Any]]] = {}
        self._names: dict[int, str] = {}  # of tensors, by id
        self._others: dict[int, set[str]] = {}  # what other threads set, by ids of `vars` of modules, and of tensors
        self._thread = threading.get_ident()
        self._package: str | None = None  # where the user's code is, if it is installed; "" if it is not
        self._elements = 0
        self._seen: set[Any] = set()  # ids; of modules, with the names that are looked up
        self._named: list[frozenset[str]] = []  # the names in the code of each function
        self._held: list[ModuleType] = []  # modules that are not reached by a global variable
        self._todo: list[tuple[str, Any]] = [("the step", function)]

    def _look(self) -> None:
        while self._todo:
            name, thing = self._todo.pop()
            if type(thing) not in _LEAVES and id(thing) not in self._seen:
                if len(self._seen) >= _MOST_OBJECTS or self._elements > _MOST_ELEMENTS:
                    self.unfollowed = f"it can change more than {_MOST_OBJECTS} objects or {_MOST_ELEMENTS} elements"
                    break
                self._seen.add(id(thing))
                self._visit(name, thing)

    def __enter__(self) -> "Effects":
        _under_way.append(self)
        with setting_gradient:
            sees_gradient.append(self._see_gradient)
        self._look()
        return self

    def __exit__(self, *exception: object) -> None:
        _under_way.remove(self)
        with setting_gradient:
            sees_gradient.remove(self._see_gradient)

    def _see_gradient(self, tensor: Tensor) -> None:
        if self._thread != threading.get_ident():
            self._others.setdefault(id(tensor), set()).add("grad")

    def note_write(self, tensor: Tensor) -> None:
        """Notes a tensor that is to be changed in place."""
        if id(tensor) not in self._written:
            array, version = tensor._array, tensor._shared_version()
            counted = {name: getattr(version, name) for name in version.__slots__}
            with tensor.device.current():
                self._written[id(tensor)] = tensor, array, array.copy(), tensor._node, counted

    def note_array(self, tensor: Tensor) -> None:
        """Notes the elements of a tensor whose array is handed out."""
        array = tensor._array
        if id(array) not in self._seen:
            self._seen.add(id(array))
            name = self._names.get(id(tensor), f"a tensor of shape {tensor.shape}")
            self._keep(name, _elements_on(tensor.device), array)

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
            now = way.read(thing)  # first: a change after it by a different thread is not undone
            others = [*self._others.get(id(thing), ())]
            if others and way is _TENSOR:
                before = (*before[:2], now[2])
                others = []
            for each in others:
                before.pop(each, None)
                now.pop(each, None)
            key = _changed(before, now)
            if key is not None:
                way.put(thing, before, now)
                changed = f"{name}.{key}" if way in (_DICT, _ATTRIBUTES) and isinstance(key, str) else name
        return changed

    @property
    def reached(self) -> list[tuple[Any, Callable[[], bool]]]:
        """What is noted, each with a function that says whether it has changed."""
        return [(thing, functools.partial(_has_changed, way, thing, before)) for _, way, thing, before in self._kept]

    def _is_users(self, module: str | None) -> bool:
        """Whether a module, by its name, is the user's."""
        if _is_users(module):
            self._package = self._package or ""
            return True
        file = None if self._package == "" else getattr(sys.modules.get(str(module)), "__file__", None)
        return file is not None and self._is_users_file(file)

    def _is_users_file(self, file: str) -> bool:
        """Whether code is the user's: it is not installed, or is in the installed package that the first code is in."""
        if not file.startswith(_NOT_USERS):
            self._package = self._package or ""
            return True
        if self._package is None and file.startswith(_INSTALLED) and not file.startswith((*OWN_CODE, *np.__path__)):
            folder = next(each for each in _INSTALLED if file.startswith(each))
            self._package = folder + file.removeprefix(folder).partition(os.sep)[0]
        return bool(self._package) and file.startswith(str(self._package))

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
            self.calls_unknown |= not is_followed(thing)
            if not isinstance(thing.__self__, ModuleType):
                self._todo.append((name, thing.__self__))
        elif kind is functools.partial:
            self._todo += [(name, part) for part in (thing.func, *thing.args, *thing.keywords.values())]
        elif isinstance(thing, _CACHED) and self._is_users(thing.__module__):
            self._keep(f"the cache of {name}", _CACHE, thing)
            self._todo.append((name, thing.__wrapped__))
        elif kind in _GENERATORS:
            self._keep(f"the random numbers of {name}", _GENERATORS[kind], thing)
        elif isinstance(thing, Tensor):
            self._names[id(thing)] = name
            self._keep(name, _TENSOR, thing)
        elif isinstance(thing, np.ndarray):
            self._visit_array(name, thing)
        elif isinstance(thing, tuple | frozenset):
            self._elements += len(thing)
            self._todo += [(name, part) for part in thing if type(part) not in _LEAVES]
        elif isinstance(thing, ModuleType):
            self._held.append(thing)
            for names in self._named:
                self._visit_module(thing, names)
        elif isinstance(thing, weakref.ref):
            self._todo.append((name, thing()))
        elif isinstance(thing, MappingProxyType):
            self._todo += [(name, part) for part in gc.get_referents(thing)]
        elif isinstance(thing, memoryview):
            self._todo.append((name, thing.obj))
        elif isinstance(thing, type):
            if self._is_users(thing.__module__):
                self._visit_class(thing)
                self._todo.append((name, type(thing)))
            elif not is_known(thing.__module__):
                self.calls_unknown = True
        elif isinstance(thing, logging.Logger):  # it leads to all others, and to open files
            self.calls_unknown = True
        else:
            way = next((way for container, way in _CONTAINERS.items() if isinstance(thing, container)), None)
            if way is not None:
                self._elements += len(thing)
                if self._elements <= _MOST_ELEMENTS:
                    content = self._keep(name, way, thing)
                    parts = content.values() if isinstance(content, dict) else content
                    self._todo += [(name, part) for part in parts if type(part) not in _LEAVES]
            elif hasattr(kind, "__next__") and not self._is_users(kind.__module__):
                self.iterator = name
                self.unfollowed = f"it can advance {name}, an iterator"
            elif number := _bytes_to_write(thing):
                self._elements += number
                if self._elements <= _MOST_ELEMENTS:
                    self._keep(name, _BUFFER, thing)
            self._visit_object(thing)

    def _visit_array(self, name: str, array: HostArray) -> None:
        self._elements += array.size
        if array.dtype.hasobject:
            self._todo.append((name, array.tolist()))
        if not array.flags.writeable:
            self._todo.append((name, array.base))
        elif self._elements <= _MOST_ELEMENTS:
            self._keep(name, _ARRAY, array)

    def _visit_function(self, function: FunctionType) -> None:
        if not self._is_users_file(function.__code__.co_filename):
            self.calls_unknown |= not is_known(function.__module__)
            parts = [part for _, cell in variables_around(function) for part in _content(cell)]
            parts += vars(function).values()
            self._todo += [(function.__name__, part) for part in parts if type(part) not in _CONTAINERS]
            return
        for name, cell in variables_around(function):
            self._todo += [(name, value) for value in self._keep(name, _CELL, cell)]
        self._todo += [(function.__name__, value) for value in function.__defaults__ or ()]
        self._todo += [(function.__name__, value) for value in (function.__kwdefaults__ or {}).values()]
        self._keep(function.__name__, _DICT, vars(function))
        self.codes.update(map(id, codes_in(function.__code__)))
        names, imports = names_in_code(function.__code__)
        self.calls_unknown |= bool(imports) or not names.isdisjoint(IMPURE_BUILTINS)
        self._visit_names(function.__globals__, names, True)
        self._named.append(names)
        for module in self._held:
            self._visit_module(module, names)
        self._todo += [(module, sys.modules[module]) for module in imports if module in sys.modules]

    def _visit_names(self, namespace: Mapping[str, Any], names: frozenset[str], users: bool) -> None:
        """The variables of a module that code names, and those of the modules among them.

        Of a module that is not the user's, only methods are taken, such as `np.random.rand`.
        """
        for name in [name for name in names if name in namespace]:  # a namespace may have many more
            value = namespace[name]
            if isinstance(value, ModuleType):
                self._visit_module(value, names)
            elif users:
                self._keep(name, _VARIABLE, (namespace, name))
                self._todo.append((name, value))
            elif type(value) in (BuiltinMethodType, MethodType):
                self._todo.append((name, value))

    def _visit_module(self, module: ModuleType, names: frozenset[str]) -> None:
        """The variables of a module that code with these names may name."""
        if (id(module), names) not in self._seen:
            self._seen.add((id(module), names))
            users = self._is_users(module.__name__)
            self.calls_unknown |= not (users or is_known(module.__name__))
            self._visit_names(vars(module), names, users)

    def _visit_object(self, thing: Any) -> None:
        """The attributes of an object, and its class; of an object of this library, no containers."""
        kind = type(thing)
        attributes = getattr(thing, "__dict__", None)
        parts = {} if attributes is None else dict(self._keep(kind.__name__, _DICT, attributes))
        if f"{kind.__module__}.".startswith(f"{_LIBRARY}.") and not hasattr(thing, "named_parameters"):
            parts = {name: part for name, part in parts.items() if type(part) not in _CONTAINERS}
        elif not is_known(kind.__module__) and not self._is_users(kind.__module__):
            self.calls_unknown = True
            functions = (part for value in vars(kind).values() for part in functions_of(value))
            self.codes.update(id(part.__code__) for part in functions if isinstance(part, FunctionType))
        elif self._is_users(kind.__module__):
            self._visit_class(kind)
            if slots_of(kind):
                parts |= self._keep(kind.__name__, _ATTRIBUTES, thing)
        self._todo += [(f"{kind.__name__}.{name}", part) for name, part in parts.items() if type(part) not in _LEAVES]

    def _visit_class(self, kind: type) -> None:
        for base in kind.__mro__:
            if base not in self._seen and self._is_users(base.__module__):
                self._seen.add(base)
                self._keep(base.__name__, _ATTRIBUTES, base)
                self._todo += [(name, part) for name, value in vars(base).items() for part in functions_of(value)]


def slots_of(kind: Any) -> list[str]:
    """The names of an object's slots."""
    names: list[str] = copyreg._slotnames(kind)  # type: ignore[attr-defined]
    return names


_under_way: list[Effects] = []


def see_attribute(module: Any, name: str) -> None:
    """Shows that an attribute of a module is to be set: what other threads set is not put back."""
    tracer = mode().value.tracer
    if tracer is not None:
        tracer.see_attribute(module, name)
    for effects in [*_under_way]:
        if effects._thread != threading.get_ident():
            effects._others.setdefault(id(vars(module)), set()).add(name)


@functools.lru_cache(1024)
def _is_users(module: object) -> bool:
    """Whether a module, by its name, is neither of this library nor installed."""
    if not isinstance(module, str):
        return module is None
    if module == "__main__" or module not in sys.modules:
        return True
    file = getattr(sys.modules[module], "__file__", None)
    return file is not None and not file.startswith(_NOT_USERS)


def _has_changed(way: _Way, thing: Any, before: Any) -> bool:
    return _changed(before, way.read(thing)) is not None


def _changed(before: Any, now: Any) -> str | bool | None:
    """A key whose values differ, of dicts; otherwise True if there is a difference; None if there is none."""
    if isinstance(before, dict):
        if [*before] == [*now] and all(map(operator.is_, before.values(), now.values())):
            return None
        keys = {**before, **now}
        changed = (str(key) for key in keys if not _is_same(before.get(key, _UNSET), now.get(key, _UNSET)))
        return next(changed, None) or (None if [*before] == [*now] else True)
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
