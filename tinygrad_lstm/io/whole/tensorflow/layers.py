"""Loops over time whose step is that of an LSTM, GRU or RNN, as layers.

A loop is a layer if it takes an element of a sequence, changes states by a step, and collects one of the states, once
for each element. What its step computes is compared with the step of a layer of the same weights, in numbers.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import permutations, product
from typing import Any

import numpy as np

from tinygrad_lstm.backends.base import HostArray
from tinygrad_lstm.backends.dtypes import is_float
from tinygrad_lstm.kinds import KINDS
from tinygrad_lstm.models import GRU, LSTM, RNN

from .... import ops
from ...._tensor import Tensor, tensor
from ....mode import no_grad
from ....nn import Module
from ...contents import FileLayer
from ...file_layers import network_of
from ...recurrent import Recurrent
from ...tensorflow.cells import cells_of, tensorflow_network
from ..body import Body, Step
from ..onnx.rules import host_ints, tensors
from .control import While
from .ops.lists import TensorList

__all__ = ["Found", "Layer", "layer_of"]

NETWORKS: dict[str, Any] = {"LSTM": LSTM, "GRU": GRU, "RNN": RNN}

READS = {"TensorListGetItem": (0, 1), "TensorArrayReadV3": (2, 1)}
"""Which inputs are the list and the index, of the ops that take an element of a list."""

WRITES = {"TensorListSetItem": (0, 1, 2), "TensorArrayWriteV3": (3, 1, 2)}
"""Which inputs are the list, the index and the element, of the ops that set one."""

MADE_OF = {"TensorListFromTensor": 0, "TensorArrayScatterV3": 2}
"""Which input is the tensor, of the ops that make a list of one."""

LIST, LAST, COUNTER = "list", "last", "counter"
"""What a loop carries beside states: all outputs, the last output, the number of steps."""

ROLES = ("kernel", "recurrent_kernel", "bias")
MOST_WEIGHTS = len(ROLES)

MOST_STEPS = 200
"""The most steps of the body of a loop that is compared."""

COMPARED = frozenset(
    {
        *("MatMul", "_FusedMatMul", "BiasAdd", "Add", "AddV2", "Sub", "Mul", "Sigmoid", "Tanh", "Relu", "Split"),
        *("SplitV", "Unpack", "ConcatV2", "StridedSlice", "Slice", "Squeeze", "Reshape", "Transpose", "Identity"),
        *("Neg", "ExpandDims", "Cast", *READS, *WRITES),
    }
)
"""The ops of the bodies that are run to be compared: their results are not much larger than what they are given."""

TOLERANCE = 1e-5


@dataclass(frozen=True)
class Layer:
    """Runs a layer in place of a loop.

    Attributes:
        roles: for each value that the loop carries, what it is; a state by its number.
        length: the number of steps, if the graph has it as a constant.
    """

    roles: tuple[str | int, ...]
    length: int | None

    def __call__(self, layer: Any, sequence: TensorList, *carried: Any) -> Any:
        x = sequence.stacked(())
        if self.length is not None and x.shape[0] != self.length:
            raise ValueError(f"a loop of {self.length} steps over a sequence of {x.shape[0]}")
        initial = [each for each in self._states(carried)]
        initial = [ops.unsqueeze(each, 0) for each in tensors(*initial)]
        out, final = layer(x, initial[0] if len(initial) == 1 else tuple(initial))
        finals = [ops.squeeze(each, 0) for each in (final if isinstance(final, tuple) else (final,))]
        results: list[Any] = []
        for role, value in zip(self.roles, carried, strict=True):
            if role == LIST:
                results.append(TensorList.of(out))
            elif role == LAST:
                results.append(TensorList((finals[0],), tuple(finals[0].shape), finals[0].dtype))
            elif role == COUNTER:
                results.append(host_ints(value.item() + x.shape[0]))
            else:
                results.append(finals[int(role)])
        return results[0] if len(results) == 1 else tuple(results)

    def _states(self, carried: Sequence[Any]) -> list[Any]:
        """The initial states, the hidden state first."""
        places = {role: value for role, value in zip(self.roles, carried, strict=True) if isinstance(role, int)}
        return [places[number] for number in sorted(places)]


@dataclass(frozen=True)
class Found:
    """A layer that a loop is.

    Attributes:
        module: the layer.
        function: runs it; takes the layer, the sequence, and what the loop carries.
        sequence: the name of the list with the sequence.
        weights: the names of the layer's weights.
    """

    module: Module
    function: Layer
    sequence: str
    weights: tuple[str, ...]


@dataclass(frozen=True)
class _Outside:
    """What is known outside of the loop: arrays by name, and the steps that compute other values."""

    arrays: Mapping[str, HostArray]
    steps: Mapping[str, Step]


def layer_of(loop: While, given: Sequence[str], arrays: Mapping[str, HostArray], steps: Sequence[Step]) -> Found | None:
    """The layer that a loop is; None if it is not one.

    Args:
        given: the names of the first values that it carries.
        arrays: constants and weights by name.
        steps: those before it.
    """
    outside = _Outside(arrays, {name: step for step in steps for name in step.outputs})
    if len(loop.body.steps) > MOST_STEPS or any(step.op not in COMPARED for step in loop.body.steps):
        return None
    shape = _shape_of(loop, given, outside)
    if shape is None:
        return None
    sequence, roles, length = shape
    known = _known(loop.body, outside, {sequence, *loop.body.inputs})
    if known is None:
        return None
    values, weights = known
    for network in _candidates(weights, sum(isinstance(role, int) for role in roles), values):
        module = NETWORKS[network.kind].of_found(network).eval()
        if _same_step(loop.body, roles, values, sequence, module, network):
            return Found(module, Layer(roles, length), sequence, tuple(weights))
    return None


# -- the form of the loop ----------------------------------------------------------------------------------------------


def _shape_of(
    loop: While, given: Sequence[str], outside: _Outside
) -> tuple[str, tuple[str | int, ...], int | None] | None:
    """The name of the sequence, what each value is that the loop carries, and the number of steps if it is constant."""
    body = loop.body
    reads = [step for step in body.steps if step.op in READS]
    writes = [step for step in body.steps if step.op in WRITES]
    if len(reads) != 1 or len(writes) != 1:
        return None
    sequence, counter = (reads[0].inputs[k] for k in READS[reads[0].op])
    collected, index, item = (writes[0].inputs[k] for k in WRITES[writes[0].op])
    made = outside.steps.get(sequence)
    if made is None or made.op not in MADE_OF or counter not in body.inputs or collected not in body.inputs:
        return None
    is_last = _is_number(outside, index, 0)
    if not is_last and index != counter:
        return None
    producers = {name: step for step in body.steps for name in step.outputs}
    roles: list[str | int] = []
    states: list[int] = []
    for number, (name, result) in enumerate(zip(body.inputs, body.outputs, strict=True)):
        if name == collected and result == writes[0].outputs[0]:
            roles.append(LAST if is_last else LIST)
        elif _counts(producers.get(result), name, outside) and _is_number(outside, given[number], 0):
            roles.append(COUNTER)
        else:
            roles.append(-1)
            states.append(number)
    hidden = [number for number in states if body.outputs[number] == item]
    if len(hidden) != 1 or len(states) > 2 or roles[body.inputs.index(counter)] != COUNTER:
        return None
    for place, number in enumerate(sorted(states, key=lambda number: number != hidden[0])):
        roles[number] = place
    limits = list(_limits(loop.cond, roles))
    constants = {outside.arrays[name].item() for name in limits if _is_integer(outside, name)}
    others = [name for name in limits if not _is_integer(outside, name)]
    of_x = all(_is_length(name, made.inputs[MADE_OF[made.op]], outside) for name in others)
    if not limits or not of_x or len(constants) > 1:
        return None
    return sequence, tuple(roles), constants.pop() if constants else None


def _is_integer(outside: _Outside, name: str) -> bool:
    array = outside.arrays.get(name)
    return array is not None and array.size == 1 and not is_float(array.dtype)


def _is_number(outside: _Outside, name: str, number: int) -> bool:
    return _is_integer(outside, name) and bool(outside.arrays[name].item() == number)


def _counts(step: Step | None, name: str, outside: _Outside) -> bool:
    """Whether a step adds 1 to a value."""
    if step is None or step.op not in ("Add", "AddV2") or name not in step.inputs:
        return False
    return any(_is_number(outside, other, 1) for other in step.inputs if other != name)


def _limits(cond: Body, roles: Sequence[str | int]) -> Iterator[str]:
    """The values that counters are less than as long as the loop runs; "" for a different condition."""
    counters = {name for name, role in zip(cond.inputs, roles, strict=True) if role == COUNTER}
    for step in cond.steps:
        if step.op == "Less" and step.inputs[0] in counters:
            yield step.inputs[1]
        elif step.op != "LogicalAnd":
            yield ""


def _is_length(name: str, x: str, outside: _Outside) -> bool:
    """Whether a value is the first length of the shape of x."""
    step = outside.steps.get(name)
    if step is None or step.op != "StridedSlice":
        return False
    begin = outside.arrays.get(step.inputs[1])
    shape = outside.steps.get(step.inputs[0])
    first = begin is not None and begin.shape == (1,) and begin.item() == 0
    return first and shape is not None and shape.op == "Shape" and shape.inputs[0] == x


# -- the step ----------------------------------------------------------------------------------------------------------


def _known(body: Body, outside: _Outside, given: set[str]) -> tuple[dict[str, Any], dict[str, HostArray]] | None:
    """The values that the body takes from outside, and the weights that they are made of.

    None if some depend on inputs of the model.
    """
    values: dict[str, Any] = {}
    weights: dict[str, HostArray] = {}

    def value(name: str, deeper: int) -> bool:
        if name in values or name in given:
            return True
        if name in outside.arrays:
            array = outside.arrays[name]
            large = is_float(array.dtype) and array.ndim > 0
            values[name] = tensor(array) if large else array
            if large:
                weights[name] = array
            return True
        step = outside.steps.get(name)
        if (
            step is None
            or step.op not in COMPARED
            or not deeper
            or not all(value(each, deeper - 1) for each in step.inputs)
        ):
            return False
        results = step.function(*[values[each] for each in step.inputs])
        values.update(zip(step.outputs, (results,) if len(step.outputs) == 1 else results, strict=True))
        return True

    own: set[str] = set()
    with no_grad():
        for step in body.steps:
            if not all(name in own or value(name, 4) for name in step.inputs):
                return None
            own.update(step.outputs)
    return values, weights


def _candidates(weights: Mapping[str, HostArray], states: int, values: Mapping[str, Any]) -> Iterator[Recurrent]:
    """The layers that may have these weights."""
    for make in _makers(weights, states, values):
        try:
            yield make()
        except ValueError:  # the shapes are not those of this layer
            continue


def _makers(
    weights: Mapping[str, HostArray], states: int, values: Mapping[str, Any]
) -> Iterator[Callable[[], Recurrent]]:
    scalars = [each for each in values.values() if isinstance(each, np.ndarray) and each.size == 1]
    forget_biases = {0.0} | {float(each.item()) for each in scalars if is_float(each.dtype)}
    for cell, forget_bias in product(cells_of(weights), sorted(forget_biases, reverse=True)):
        yield partial(tensorflow_network, cell.kind, weights, cell.path, forget_bias=forget_bias)
    if len(weights) > MOST_WEIGHTS:
        return
    of_kind: dict[str, list[dict[str, Any]]] = {
        "LSTM": [{}],
        "GRU": [{"reset_after": True}, {"reset_after": False}],
        "RNN": [{"nonlinearity": "tanh"}, {"nonlinearity": "relu"}],
    }
    kinds = [kind for kind in NETWORKS if len(KINDS[kind].states) == states]
    for kind, arrays in product(kinds, permutations(weights.values())):
        own = dict(zip(ROLES, arrays, strict=False))
        for options in of_kind[kind]:
            yield partial(network_of, own, FileLayer(kind, "keras", [{role: role for role in own}], **options))


def _same_step(
    body: Body,
    roles: Sequence[str | int],
    values: Mapping[str, Any],
    sequence: str,
    module: Any,
    network: Recurrent,
) -> bool:
    """Whether the body and the layer compute the same states of random inputs."""
    rng = np.random.default_rng(0)
    dtype = next(module.parameters()).dtype
    sizes = [network.options.get("proj_size") or network.hidden_size, network.hidden_size]
    x, h, c = (tensor(rng.standard_normal((3, size)).astype(dtype)) for size in (network.input_size, *sizes))
    states = {0: h, 1: c}
    nothing = TensorList((None,), None, dtype)
    carried = [states[role] if isinstance(role, int) else np.array(0) if role == COUNTER else nothing for role in roles]
    with no_grad():
        try:
            given = {**values, sequence: TensorList((x,), None, dtype), **dict(zip(body.inputs, carried, strict=True))}
            results = body.run(given)
        except (ValueError, IndexError, TypeError, AttributeError):  # the step takes different sizes
            return False
        initial = [each for role, each in zip(roles, carried, strict=True) if isinstance(role, int)]
        if len(initial) != len(module.STATES):
            return False
        own = tuple(ops.unsqueeze(states[number], 0) for number in range(len(initial)))
        _, final = module(ops.unsqueeze(x, 0), own if len(own) > 1 else own[0])
    finals = final if isinstance(final, tuple) else (final,)
    return all(
        isinstance(result, Tensor)
        and result.shape == finals[role].shape[1:]
        and np.allclose(result.numpy(), finals[role].numpy()[0], atol=TOLERANCE)
        for role, result in zip(roles, results, strict=True)
        if isinstance(role, int)
    )
