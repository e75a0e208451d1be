"""The graph of a Keras model: its layers, and the calls of these in the order in which they run."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, NamedTuple, TypeVar

import numpy as np

from tinygrad_lstm.backends.base import HostArray
from tinygrad_lstm.backends.dtypes import checked_dtype

from ...errors import ContentError, shown
from .rules import is_known
from .spec import Spec

__all__ = ["Graph", "Invocation", "Ref", "graph_of", "leaves", "mapped"]

L = TypeVar("L")


class Ref(NamedTuple):
    """An output of a call: the layer, the number of its call, and the number of the output."""

    layer: str
    call: int = 0
    output: int = 0


@dataclass(frozen=True)
class Invocation:
    """A call of a layer.

    Attributes:
        args, kwargs: the arguments of Keras's call, which contain `Ref`s.
    """

    layer: str
    call: int
    args: tuple[Any, ...]
    kwargs: dict[str, Any]

    @property
    def uses(self) -> list[Ref]:
        """The outputs of calls that it uses."""
        return leaves(Ref, [self.args, self.kwargs])


@dataclass(frozen=True)
class Graph:
    """A model's graph.

    Attributes:
        layers: the layers by name, in the order of the file.
        inputs: the input layers, in the order of the model's inputs.
        calls: in an order in which each uses only inputs and outputs of earlier ones.
        outputs: the model's outputs.
    """

    layers: Mapping[str, Spec]
    inputs: tuple[str, ...]
    calls: tuple[Invocation, ...]
    outputs: tuple[Ref, ...]


_FUNCTIONAL = ("Functional", "Model")


def graph_of(model: Spec) -> Graph:
    """The graph of a Sequential or functional model.

    Raises:
        ContentError: layers are missing or called twice under a name, or calls depend on each other.
    """
    layers = _layers(model)
    if "input_layers" not in model.config:
        return _sequential(model, layers)
    configs = {_name_of(each): each for each in model.config["layers"]}
    calls: dict[tuple[str, int], Invocation] = {}
    for name, spec in layers.items():
        nodes = configs[name].get("inbound_nodes") or ()
        if not isinstance(nodes, list | tuple):
            raise ContentError(f"the layer {shown(name)} has calls that cannot be read")
        for number, node in enumerate(nodes):
            args, kwargs = _arguments(node, spec)
            calls[name, number] = Invocation(name, number, args, kwargs)
            if _is_unmarked_operation(spec, args):
                layers[name] = replace(spec, operation=True)
            elif args and not spec.is_operation and not leaves(Ref, args[0]):
                raise ContentError(f"the layer {shown(name)} is called with something that is not a tensor")
    inputs = [ref.layer for ref in leaves(Ref, _read_old(model.config["input_layers"], {}))]
    outputs = leaves(Ref, _read_old(model.config.get("output_layers"), {}))
    if unknown := [name for name in (*inputs, *(ref.layer for ref in outputs)) if name not in layers]:
        raise ContentError(f"the layer {shown(unknown[0])} is missing")
    if not outputs or not inputs:
        raise ContentError(f"the model {shown(model.name)} has no inputs or no outputs")
    if model.keras > 2:  # only outputs number the calls of models within a model from 1
        outputs = [ref._replace(call=ref.call - (layers[ref.layer].class_name in _FUNCTIONAL)) for ref in outputs]
    else:
        numbered = _renumbered(calls, outputs, layers)
        outputs = [numbered(ref) for ref in outputs]
        calls = {
            place: replace(each, args=mapped(Ref, numbered, each.args), kwargs=mapped(Ref, numbered, each.kwargs))
            for place, each in calls.items()
        }
    return Graph(layers, tuple(inputs), tuple(_in_order(calls, outputs, layers)), tuple(outputs))


def _is_unmarked_operation(spec: Spec, args: tuple[Any, ...]) -> bool:
    """Whether a layer in an `.h5` file of Keras 3, which does not say it, is a function: joining layers take lists."""
    if spec.keras < 3 or spec.module or not is_known(spec.class_name, operation=True):
        return False
    return not is_known(spec.class_name) or len(args) > 1 or "newshape" in spec.config


def _layers(model: Spec) -> dict[str, Spec]:
    """The layers of a model by name."""
    found: dict[str, Spec] = {}
    for spec, each in zip(model.within_list("layers"), model.config["layers"], strict=True):
        name = _name_of(each)
        if name in found:
            raise ContentError(f"two layers are called {shown(name)}")
        found[name] = spec
    return found


def _name_of(layer: Mapping[str, Any]) -> str:
    config = layer["config"]
    return str(layer.get("name") or (config.get("name", "") if isinstance(config, dict) else ""))


def _sequential(model: Spec, layers: Mapping[str, Spec]) -> Graph:
    """The graph of layers, one after the other."""
    names = list(layers)
    first = layers[names[0]]
    if first.class_name == "InputLayer":
        names = names[1:]
        value = Ref(first.name)
    else:
        value = Ref(f"{names[0]}_input")
        shape = first.config.get("batch_input_shape") or first.config.get("batch_shape")
        shape = shape or model.config.get("build_input_shape")
        dtype = "int64" if first.class_name == "Embedding" else "float32"
        config = {"name": value.layer, "batch_shape": shape, "dtype": dtype}
        layers = {value.layer: Spec("InputLayer", "", config, "", model.keras), **layers}
    inputs, calls = (value.layer,), []
    for name in names:
        calls.append(Invocation(name, 0, (value,), {}))
        value = Ref(name)
    return Graph(layers, inputs, tuple(calls), (value,))


def mapped(kind: type[L], function: Callable[[L], Any], value: Any) -> Any:
    """A value with a function applied to what is of this type, in lists, tuples and dicts too."""
    if isinstance(value, kind):
        return function(value)
    if isinstance(value, list):
        return [mapped(kind, function, each) for each in value]
    if type(value) is tuple:
        return tuple([mapped(kind, function, each) for each in value])
    if isinstance(value, dict):
        return {key: mapped(kind, function, each) for key, each in value.items()}
    if isinstance(value, slice):
        return slice(*(mapped(kind, function, each) for each in (value.start, value.stop, value.step)))
    return value


def leaves(kind: type[L], value: Any) -> list[L]:
    """What is of this type in a value, in order."""
    found: list[L] = []
    mapped(kind, found.append, value)
    return found


def _arguments(node: Any, spec: Spec) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """The arguments of a call, as Keras 3 or an older version writes it."""
    if isinstance(node, dict) and node.keys() >= {"args", "kwargs"}:
        args, named = _read_new(node["args"]), _read_new(node["kwargs"])
        if not isinstance(args, list) or not isinstance(named, dict):
            raise ContentError(f"the layer {shown(spec.name)} has a call that cannot be read")
        return tuple(args), named
    kwargs: dict[str, Any] = {}
    first = _read_old(node, kwargs)
    if isinstance(first, list) and len(first) == 1:
        first = first[0]
    return (first,), kwargs


def _read_new(value: Any) -> Any:
    """A value of a call in Keras 3."""
    if isinstance(value, list):
        return [_read_new(each) for each in value]
    if not isinstance(value, dict):
        return value
    config = value.get("config")
    match value.get("class_name"):
        case "__keras_tensor__":
            return _ref(config.get("keras_history") if isinstance(config, dict) else None)
        case "__tuple__":
            return tuple(_read_new(value.get("items")) or ())
        case "__slice__" if isinstance(config, dict):
            return slice(*(_read_new(config.get(key)) for key in ("start", "stop", "step")))
        case "__ellipsis__":
            return ...
        case "__tensor__" | "__numpy__" if isinstance(config, dict):
            return _constant(config)
    return {key: _read_new(each) for key, each in value.items()}


def _constant(config: Mapping[str, Any]) -> HostArray:
    """An array among the arguments of a call."""
    value, name = config.get("value"), config.get("dtype", "float32")
    try:
        dtype = checked_dtype(
            "float32" if name == "bfloat16" else str(name)
        )  # a dtype of long strings would take gigabytes
        if not isinstance(value, bool | int | float | list):
            raise TypeError
        with np.errstate(over="ignore"):
            return np.asarray(value, dtype)
    except (OverflowError, TypeError, ValueError) as error:
        raise ContentError(
            f"a call in the model's config has a constant that is not an array of {shown(str(name))}"
        ) from error


def _read_old(value: Any, kwargs: dict[str, Any]) -> Any:
    """A value of a call before Keras 3; adds to `kwargs` those that are written beside the tensors."""
    if isinstance(value, dict):
        if value.keys() == {"start", "stop", "step"}:
            return slice(*(_read_old(value[key], {}) for key in ("start", "stop", "step")))
        if value.get("class_name") == "__ellipsis__":
            return ...
        return {key: _read_old(each, kwargs) for key, each in value.items()}
    if not isinstance(value, list):
        return value
    if len(value) in (3, 4) and isinstance(value[0], str) and isinstance(value[1], int):
        if len(value) == 4 and isinstance(value[3], dict):
            kwargs.update({key: _read_old(each, {}) for key, each in value[3].items()})
        return _read_old(value[2], {}) if value[:2] == ["_CONSTANT_VALUE", -1] else _ref(value[:3])
    return [_read_old(each, kwargs) for each in value]


def _ref(history: Any) -> Ref:
    match history:
        case [str(name), int(call), int(output)] if call >= 0 and output >= 0:
            return Ref(name, call, output)
    raise ContentError("a call in the model's config refers to no tensor")


def _renumbered(
    calls: Mapping[tuple[str, int], Invocation], outputs: Sequence[Ref], layers: Mapping[str, Spec]
) -> Callable[[Ref], Ref]:
    """Returns a function that numbers a layer's calls from 0: Keras 2 numbers those of models in a model from 1."""
    first: dict[str, int] = {}
    for ref in [*(ref for each in calls.values() for ref in each.uses), *outputs]:
        if ref.layer in layers and "layers" in layers[ref.layer].config:
            first[ref.layer] = min(first.get(ref.layer, ref.call), ref.call)
    return lambda ref: ref._replace(call=ref.call - first.get(ref.layer, 0))


def _in_order(
    calls: Mapping[tuple[str, int], Invocation], outputs: Sequence[Ref], layers: Mapping[str, Spec]
) -> Iterator[Invocation]:
    """The calls that outputs depend on, each after those that it depends on."""
    done: set[tuple[str, int]] = set()
    open_: set[tuple[str, int]] = set()
    pending = [ref[:2] for ref in reversed(outputs)]
    while pending:
        place = pending[-1]
        if place in done:
            pending.pop()
            continue
        if place not in calls:
            name = place[0]
            if name not in layers:
                raise ContentError(f"the layer {shown(name)} is missing")
            if layers[name].class_name != "InputLayer":
                raise ContentError(f"the call {place[1]} of the layer {shown(name)} is missing")
            done.add(place)
            continue
        call = calls[place]
        needed = [ref[:2] for ref in call.uses if ref[:2] not in done]
        if not needed:
            open_.discard(place)
            done.add(place)
            yield call
        elif place in open_:
            raise ContentError(f"the layer {shown(place[0])} depends on itself")
        else:
            open_.add(place)
            pending += reversed(needed)
