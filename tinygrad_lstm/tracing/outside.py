"""What a step reads outside of its own objects: whether it has changed since the step was compiled."""

import functools
from collections.abc import Callable, Mapping, Sequence
from operator import is_
from types import BuiltinFunctionType, FunctionType, MethodType, ModuleType
from typing import Any

from .._tensor import Tensor
from .effects import Effects, slots_of

__all__ = ["changes_outside", "written_at"]

_NOT_COPIED = FunctionType, BuiltinFunctionType, ModuleType, type  # by `copy.deepcopy`
_COPIED_WHOLLY = __name__.partition(".")[0], "numpy"


def changes_outside(function: Callable[..., Any], own: Sequence[Any]) -> Callable[[], bool] | None:
    """Returns a function that says whether anything has changed since now that a function reaches.

    These are global variables, variables around a function, attributes of classes, and the objects that they lead to.
    Changes of the elements of a tensor are seen if they were made by its methods, not if through its `data`.

    Args:
        own: objects that nobody changes, as they are a copy, and so are the objects that belong to them.

    Returns:
        None if not all that is read can be noted.
    """
    with Effects(function) as effects:
        pass
    if effects.unfollowed is not None or effects.calls_unknown:
        return None
    copied = _copied(own)
    reached = [each for each in effects.reached if id(each[0]) not in copied]
    tensors = [(thing, thing._array, written_at(thing)) for thing, _ in reached if isinstance(thing, Tensor)]
    dicts: list[Mapping[Any, Any]] = [thing for thing, _ in reached if isinstance(thing, dict)]
    dicts += [vars(thing) for thing, _ in reached if isinstance(thing, type)]
    items = [(each, (*each,), (*each.values(),)) for each in dicts]
    others = [has_changed for thing, has_changed in reached if not isinstance(thing, Tensor | type | dict)]

    def changed() -> bool:
        for each, keys, values in items:
            if len(each) != len(keys) or not (all(map(is_, each, keys)) and all(map(is_, each.values(), values))):
                return True
        if any(tensor._array is not array or written_at(tensor) != time for tensor, array, time in tensors):
            return True
        return any(has_changed() for has_changed in others)

    return changed


def written_at(tensor: Tensor) -> int:
    """When the elements of a tensor were last changed in place, in node numbers."""
    return tensor._version.written if tensor._version is not None else -1


def _copied(own: Sequence[Any]) -> dict[int, Any]:
    """The objects that `copy.deepcopy` would copy, by their ids."""
    found: dict[int, Any] = {}
    todo = [*own]
    while todo:
        thing = todo.pop()
        if id(thing) in found or isinstance(thing, _NOT_COPIED) or _copies_itself(thing):
            continue
        found[id(thing)] = thing
        if isinstance(thing, MethodType):
            todo.append(thing.__self__)
        elif isinstance(thing, functools.partial):
            todo += [thing.args, thing.keywords]
        elif isinstance(thing, dict):
            todo += thing.values()
        elif isinstance(thing, list | tuple | set | frozenset):
            todo += thing
        else:
            todo += [getattr(thing, name) for name in slots_of(type(thing)) if hasattr(thing, name)]
            attributes = getattr(thing, "__dict__", None)
            todo += [] if attributes is None else [attributes]
    return found


def _copies_itself(thing: Any) -> bool:
    """Whether its class has a method by which it may share what it holds with its copy, or be its own copy."""
    return hasattr(thing, "__deepcopy__") and type(thing).__module__.partition(".")[0] not in _COPIED_WHOLLY
