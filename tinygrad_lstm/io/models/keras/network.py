"""A Sequential or functional model of Keras: its layers, each built once, and the steps of its calls."""

from __future__ import annotations

import inspect
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

from tinygrad_lstm.backends.base import HostArray

from ...errors import ContentError, shown
from ..body import Body, Step, needed
from ..loaded import Loaded
from ..names import attribute_names
from ..ports import Port
from ..states import paired
from .graph import Invocation, Ref, graph_of, leaves, mapped
from .rules import (
    Layer,
    UnsupportedError,
    built,
    collected,
    naming_layer,
    register_kind,
    settings_of,
    slots_of,
)
from .spec import Slot, Spec

__all__ = ["Network"]

_IGNORED_ARGUMENTS = ("training",)

_DTYPES = {name: name for name in ("bool", "int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "uint64")}
_DTYPES |= {"float16": "float16", "bfloat16": "float32", "float32": "float32", "float64": "float64"}
"""The types of inputs here, by their names in Keras."""


class _Name(str):
    """The name of a value in a body, among the arguments of a call."""

    __slots__ = ()


@dataclass(frozen=True)
class _Place:
    """The place of a value among those that a step is given."""

    number: int


@dataclass(frozen=True)
class _Call:
    """A function of a step's values, which are its arguments, or in lists, tuples and dicts that are.

    Attributes:
        function: called with the first `own` values, then with the arguments.
        args, kwargs: contain `_Place`s.
    """

    function: Callable[..., Any]
    own: int
    args: Any
    kwargs: Any

    def __call__(self, *values: Any) -> Any:
        own, given = values[: self.own], values[self.own :]

        def value(place: _Place) -> Any:
            return given[place.number]

        return self.function(*own, *mapped(_Place, value, self.args), **mapped(_Place, value, self.kwargs))


@dataclass(frozen=True)
class _Nested(Layer):
    """A model within a model."""

    network: Network | None = None


class Network:
    """A model whose layers are built.

    Args:
        spec: the model.
        arrays: the arrays of its layers by their paths.

    Raises:
        UnsupportedError: layers compute what cannot be built.
        ContentError: the graph, a setting or an array is invalid.
    """

    def __init__(self, spec: Spec, arrays: Mapping[str, HostArray]) -> None:
        self.graph = graph_of(spec)
        self.layers: dict[str, Layer] = {}
        reasons: list[str] = []
        errors: list[ContentError] = []
        for name in dict.fromkeys(call.layer for call in self.graph.calls):
            try:
                self.layers[name] = built(self.graph.layers[name], arrays)
            except UnsupportedError as error:
                reasons += error.reasons
            except ContentError as error:
                errors.append(error)
        if reasons:
            raise collected(reasons)
        if errors:
            raise errors[0]

    def loaded(self, title: str, states: Mapping[str, str] | None = None) -> Loaded:
        """The model as a module.

        Raises:
            ContentError: the names of states are not those of inputs and outputs.
        """
        body = self.body([False] * len(self.graph.inputs), with_masks=False)[0]
        modules = {name: layer.module for name, layer in self.layers.items() if layer.module is not None}
        attributes = attribute_names(modules)
        contents = {_own(name): module for name, module in modules.items()}
        names = {_own(name): attributes[name] for name in modules}
        ports = list(self._ports())
        pairs = None if states is None else paired(ports, [Port(name) for name in body.outputs], states)
        return Loaded(title, ports, body, contents, names, states=pairs)

    def _ports(self) -> Iterator[Port]:
        users: dict[str, set[str]] = {}
        for call in self.graph.calls:
            for ref in call.uses:
                users.setdefault(ref.layer, set()).add(self.graph.layers[call.layer].class_name)
        for name in self.graph.inputs:
            config = self.graph.layers[name].config
            shape = config.get("batch_shape") or config.get("batch_input_shape")
            of_ids = "Embedding" in users.get(name, ()) and users[name] <= {"Embedding", "NotEqual"}  # and their mask
            dtype = "int64" if of_ids else _dtype(name, config.get("dtype") or "float32")
            yield Port(name, None if shape is None else _dims(name, shape), dtype)

    def body(self, masked: Sequence[bool], with_masks: bool = True) -> tuple[Body, list[bool]]:
        """The steps of the model, given which inputs have a mask; and which outputs then have one.

        The masks are further inputs and, `with_masks`, outputs, after the others.
        """
        steps = _Steps(self)
        inputs = [Ref(name) for name in self.graph.inputs]
        steps.known.update(inputs)
        masks = [steps.new_mask(ref) for ref, has in zip(inputs, masked, strict=True) if has]
        for call in self.graph.calls:
            with naming_layer(self.graph.layers[call.layer]):
                steps.add(call)
        outputs = self.graph.outputs
        kept = [steps.masks[ref] for ref in outputs if with_masks and ref in steps.masks]
        results = (*map(steps.value, outputs), *kept)
        body = Body((*map(steps.value, inputs), *masks), tuple(needed(steps.steps, results)), results)
        return body, [with_masks and ref in steps.masks for ref in outputs]


class _Steps:
    """The steps of a model, as its calls are added."""

    def __init__(self, network: Network) -> None:
        self.network = network
        self.steps: list[Step] = []
        self.masks: dict[Ref, str] = {}
        self.known: set[Ref] = set()
        self._names: dict[Ref, str] = {}
        self._taken: Counter[str] = Counter()

    def value(self, ref: Ref) -> str:
        """The name of an output of a call: the layer's, with the numbers of further calls and outputs.

        Raises:
            ContentError: the layer does not have this output.
        """
        if ref not in self.known:
            raise ContentError(f"the layer {shown(ref.layer)} has no output {ref.output}")
        if ref not in self._names:
            name = ref.layer + f":{ref.call}" * (ref.call > 0) + f"/{ref.output}" * (ref.output > 0)
            self._taken[name] += 1
            self._names[ref] = name + f"#{self._taken[name]}" * (self._taken[name] > 1)
        return self._names[ref]

    def new_mask(self, ref: Ref) -> str:
        """The name of the mask of an output, which has it from now on."""
        self.masks[ref] = f"{self.value(ref)} mask"
        return self.masks[ref]

    def add(self, call: Invocation) -> None:
        """Adds the steps of a call."""
        spec, layer = self.network.graph.layers[call.layer], self.network.layers[call.layer]
        kwargs = {name: value for name, value in call.kwargs.items() if name not in _IGNORED_ARGUMENTS}
        if not spec.is_operation:
            kwargs = {name: value for name, value in kwargs.items() if value is not None}
        masks = mapped(Ref, self._mask, call.args), mapped(Ref, self._mask, kwargs)
        args, kwargs = (mapped(Ref, lambda ref: _Name(self.value(ref)), given) for given in (call.args, kwargs))
        number = layer.outputs(call.kwargs) if callable(layer.outputs) else layer.outputs
        results = [Ref(call.layer, call.call, k) for k in range(number)]
        self.known.update(results)
        names = list(map(self.value, results))
        function = layer.function
        first_masks = leaves(_Name, masks[0][:1])
        if isinstance(layer, _Nested):
            assert layer.network is not None
            given = leaves(Ref, call.args)
            explicit = leaves(Ref, call.kwargs.get("mask"))
            first_masks = [_Name(self.value(ref)) for ref in explicit] or first_masks
            body, kept = layer.network.body([bool(explicit) or ref in self.masks for ref in given])
            function = partial(_run, body=body)
            args, kwargs = (*map(_Name, map(self.value, given)), *first_masks), {}
            names += [self.new_mask(result) for result, has in zip(results, kept, strict=True) if has]
        elif layer.takes_mask is True:
            # Keras 3 gives a layer the mask only if nothing else that it is given is a tensor.
            takes = "mask" not in kwargs and (spec.keras < 3 or _given_tensors(call) == 1)
            kwargs |= {"mask": masks[0][0]} if first_masks and takes else {}
        elif layer.takes_mask:
            by_name = {**dict(zip(layer.takes_mask, masks[0], strict=False)), **masks[1]}
            kwargs |= {f"{name}_mask": mask for name in layer.takes_mask if (mask := by_name.get(name)) is not None}
        self._add(spec, function, _own_names(call, layer), args, kwargs, names)
        if layer.mask == "keep":
            self.masks.update({result: first_masks[0] for result in results[: layer.kept] if first_masks})
        elif layer.mask is not None and (layer.makes_mask or first_masks):
            self._add(spec, layer.mask, [], (args[0], masks[0][0]), {}, [self.new_mask(results[0])], "Mask")

    def _add(
        self,
        spec: Spec,
        function: Callable[..., Any],
        own: Sequence[str],
        args: Any,
        kwargs: Any,
        outputs: Sequence[str],
        op: str = "",
    ) -> None:
        """Adds a step whose arguments have the names of values in them.

        Raises:
            TypeError: the function does not take such arguments.
        """
        inspect.signature(function).bind(*own, *args, **kwargs)
        inputs: list[str] = []

        def place(name: _Name) -> _Place:
            inputs.append(name)
            return _Place(len(inputs) - 1)

        call = _Call(function, len(own), mapped(_Name, place, args), mapped(_Name, place, kwargs))
        settings = "" if op else ", ".join(f"{name}={value}" for name, value in settings_of(spec).items())
        origin = f"the layer {shown(spec.name)}"
        self.steps.append(Step(op or spec.class_name, call, (*own, *inputs), tuple(outputs), settings, origin))

    def _mask(self, ref: Ref) -> _Name | None:
        return _Name(self.masks[ref]) if ref in self.masks else None


def _given_tensors(call: Invocation) -> int:
    """The number of arguments that are, or contain, tensors."""
    return sum(bool(leaves(Ref, each)) for each in (*call.args, *call.kwargs.values()))


def _own(layer: str) -> str:
    """The name of a layer's module among the values of a body."""
    return f"{layer} itself"


def _own_names(call: Invocation, layer: Layer) -> list[str]:
    return [] if layer.module is None else [_own(call.layer)]


def _run(model: Loaded, *given: Any, body: Body) -> Any:
    """A model within a model: its outputs, followed by their masks."""
    results = model.compute(body, *given)
    return results[0] if len(results) == 1 else results


class _Model:
    """The models of Keras, as layers."""

    def slots(self, spec: Spec) -> Iterator[Slot]:
        reasons: list[str] = []
        for layer in graph_of(spec).layers.values():
            try:
                yield from slots_of(layer)
            except UnsupportedError as error:
                reasons += error.reasons
        if reasons:
            raise collected(reasons)

    def build(self, spec: Spec, arrays: Mapping[str, HostArray]) -> Layer:
        network = Network(spec, arrays)
        body = network.body([False] * len(network.graph.inputs), with_masks=False)[0]
        function = partial(_run, body=body)
        return _Nested(function, network.loaded(spec.name), outputs=len(network.graph.outputs), network=network)


register_kind(_Model(), "Sequential", "Functional", "Model")


def _dtype(name: str, dtype: Any) -> str:
    found = _DTYPES.get(str(dtype))
    if found is None:
        raise ContentError(f"the input {shown(name)} has elements of an unsupported type, {shown(str(dtype))}")
    return found


def _dims(name: str, shape: Any) -> tuple[int | str, ...]:
    """The dimensions of an input; free ones have names."""
    if not isinstance(shape, list | tuple) or not all(each is None or isinstance(each, int) for each in shape):
        raise ContentError(f"the input {shown(name)} has an invalid shape")
    names = ["batch", *(f"{name}_{k}" for k in range(1, len(shape)))]
    return tuple([free if length is None else length for free, length in zip(names, shape, strict=True)])
