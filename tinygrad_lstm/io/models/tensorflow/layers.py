"""Loops over time whose step is that of an LSTM, GRU or RNN, as layers.

A loop is a layer if it takes an element of a sequence, changes states by a step, and collects one of the states, once
for each element. What its step computes is compared with the step of a layer of the same weights, in numbers.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import permutations, product
from typing import Any, get_args

import numpy as np

from tinygrad_lstm.backends.base import HostArray
from tinygrad_lstm.backends.dtypes import is_bool, is_float
from tinygrad_lstm.kinds import KINDS
from tinygrad_lstm.models.networks import NETWORKS, Nonlinearity

from .... import ops
from ...._scan import scan
from ...._tensor import Tensor, tensor
from ....mode import no_grad
from ....nn import Module
from ...contents import FileLayer
from ...file_layers import network_of
from ...recurrent import Recurrent
from ...tensorflow.cells import cells_of, tensorflow_network
from ..body import Body, Step, plain_array
from ..rules import Value, host_ints, tensors
from ..scanned import LoopStep
from .control import While
from .forms import COUNTER, LAST, LIST, READS, WRITES, Form
from .ops.lists import TensorList
from .outside import Outside

__all__ = ["Found", "Layer", "Scan", "layer_of"]

ROLES = ("kernel", "recurrent_kernel", "bias")
MOST_WEIGHTS = len(ROLES)

VARIANTS: dict[str, tuple[Any, ...]] = {"reset_after": (True, False), "nonlinearity": get_args(Nonlinearity)}
"""The options that the weights do not show, with their values."""

MOST_STEPS = 200
"""The most steps of the body of a loop that is compared."""

COMPARED = frozenset(
    {
        *("MatMul", "_FusedMatMul", "BiasAdd", "Add", "AddV2", "Sub", "Mul", "Sigmoid", "Tanh", "Relu", "Split"),
        *("SplitV", "Unpack", "ConcatV2", "StridedSlice", "Slice", "Squeeze", "Reshape", "Transpose", "Identity"),
        *("Neg", "ExpandDims", "Cast", *READS, *WRITES),
    }
)
"""The ops of the bodies that are run to be compared."""

MOST_ELEMENTS = 2**24
"""The most elements of a result of these ops."""

MOST_BEFORE = 4
"""The most steps, one after the other, by which a value that the body takes from outside is made of weights."""

UNFIT = (ArithmeticError, AttributeError, IndexError, TypeError, ValueError)
"""What is raised by steps that are given values of unexpected shapes or types."""

TOLERANCE = 1e-5


@dataclass(frozen=True)
class Layer:
    """Runs a layer in place of a loop."""

    form: Form

    def __call__(self, layer: Any, sequence: TensorList, lengths: Value | None, *carried: Any) -> Any:
        x = sequence.stacked(())
        _check_length(self.form, x)
        initial = [ops.unsqueeze(each, 0) for each in tensors(*_states(self.form, carried))]
        out, final = layer(x, initial[0] if len(initial) == 1 else tuple(initial), _plain(lengths))
        finals = [ops.squeeze(each, 0) for each in (final if isinstance(final, tuple) else (final,))]
        return _results(self.form, carried, out, finals)


@dataclass(frozen=True)
class Scan:
    """Runs the body of a loop with `tg.scan`, which records it once.

    A sequence is an argument of the loop that it captures.
    """

    form: Form
    loop: While

    def __call__(self, *given: Any) -> Any:
        number, form = len(self.loop.body.inputs), self.form
        carried, outside = given[:number], dict(zip(self.loop.captured, given[number:], strict=True))
        sequences = [outside[name].stacked(()) for name in form.sequences]
        states = tensors(*_states(form, carried))
        T, B = sequences[0].shape[:2] if sequences[0].ndim > 1 else (0, 0)
        rows = all(x.ndim > 1 and x.shape[:2] == (T, B) for x in sequences)
        if not rows or not T or any(state.ndim < 2 or state.shape[0] != B for state in states):
            return self.loop(*given)
        _check_length(form, sequences[0])
        floats = next((x.dtype for x in sequences if is_float(x.dtype)), states[0].dtype)
        kinds = None if len(sequences) == 1 else [(x.shape[2:], x.dtype) for x in sequences]
        x = sequences[0]
        if kinds:
            x = ops.cat([ops.flatten(ops.unsqueeze(x, 2), 2).astype(floats) for x in sequences], -1)

        def step(x_t: Tensor, states: Any) -> Any:
            return self._step(outside, kinds, x_t, states)

        out, final = scan(LoopStep(self, step), x, tuple(states), lengths=_plain(outside.get(form.lengths)))
        return _results(form, carried, out, final)

    def _step(
        self, outside: Mapping[str, Any], kinds: Sequence[tuple[tuple[int, ...], Any]] | None, x: Tensor, states: Any
    ) -> Any:
        """The states after a step.

        Args:
            kinds: the shape and dtype of the element of each sequence, which are joined; None for only one.
        """
        body, nothing = self.form.body, TensorList((None,), None, None)
        values = dict(outside)
        if kinds is None:
            values[self.form.sequences[0]] = TensorList((x,), None, x.dtype)
        start = 0
        for name, (shape, dtype) in zip(self.form.sequences, kinds or (), strict=kinds is not None):
            size = math.prod(shape)
            part = x[:, start : start + size].reshape((-1, *shape))
            start += size
            element = part if part.dtype == dtype else part != 0 if is_bool(dtype) else part.astype(dtype)
            values[name] = TensorList((element,), None, dtype)
        for name, role in zip(body.inputs, self.form.roles, strict=True):
            of_states = states if isinstance(states, tuple) else (states,)
            values[name] = of_states[role] if isinstance(role, int) else np.array(0) if role == COUNTER else nothing
        results = body.run(values)
        after = {role: each for role, each in zip(self.form.roles, results, strict=True) if isinstance(role, int)}
        return tuple(after[number] for number in range(len(after)))


def _plain(lengths: Value | None) -> Value | None:
    """Lengths as layers take them."""
    return plain_array(lengths) if isinstance(lengths, np.ndarray) else lengths


def _check_length(form: Form, x: Tensor) -> None:
    if form.length is not None and x.shape[0] != form.length:
        raise ValueError(f"a loop of {form.length} steps over a sequence of {x.shape[0]}")


def _states(form: Form, carried: Sequence[Any]) -> list[Any]:
    """The initial states, in the order of their numbers."""
    of_number = {role: value for role, value in zip(form.roles, carried, strict=True) if isinstance(role, int)}
    return [of_number[number] for number in range(len(of_number))]


def _results(form: Form, carried: Sequence[Any], out: Tensor, finals: Sequence[Tensor]) -> Any:
    """What the loop returns: its outputs are the values of the state with the number 0.

    The number of steps is not known without reading the lengths of sequences, if they are different.
    """
    results: list[Any] = []
    for role, value in zip(form.roles, carried, strict=True):
        if role == LIST:
            results.append(TensorList.of(out))
        elif role == LAST:
            results.append(TensorList((finals[0],), tuple(finals[0].shape), finals[0].dtype))
        elif role == COUNTER:
            results.append(None if form.lengths else host_ints(value.item() + out.shape[0]))
        else:
            results.append(finals[int(role)])
    return results[0] if len(results) == 1 else tuple(results)


@dataclass(frozen=True)
class Found:
    """A layer that a loop is.

    Attributes:
        module: the layer.
        function: runs it; takes the layer, the sequence, the lengths or None, and what the loop carries.
        sequence: the name of the list with the sequence.
        weights: the names of the layer's weights.
    """

    module: Module
    function: Layer
    sequence: str
    weights: tuple[str, ...]


def layer_of(form: Form, outside: Outside) -> Found | None:
    """The layer that a loop is; None if it is not one."""
    if len(form.body.steps) > MOST_STEPS or any(step.op not in COMPARED for step in form.body.steps):
        return None
    states = sum(isinstance(role, int) for role in form.roles)
    if len(form.sequences) > 1 or states > 2:
        return None
    known = _known(form.body, outside, {*form.sequences, *form.body.inputs})
    if known is None:
        return None
    values, weights = known
    for network in _candidates(weights, states, values):
        module = NETWORKS[network.kind].of_found(network).eval()
        if _same_step(form, values, module, network):
            return Found(module, Layer(form), form.sequences[0], tuple(weights))
    return None


# -- the step ----------------------------------------------------------------------------------------------------------


def _known(body: Body, outside: Outside, given: set[str]) -> tuple[dict[str, Any], dict[str, HostArray]] | None:
    """The values that the body takes from outside, and the weights that they are made of.

    None if some depend on inputs of the model.
    """
    values: dict[str, Any] = {}
    weights: dict[str, HostArray] = {}

    def is_known(name: str, deeper: int) -> bool:
        """Whether a value is made of weights and constants, by this number of steps at most."""
        if name in values:
            return True
        step = outside.steps.get(name)
        if name in outside.arrays:
            array = outside.arrays[name]
            if is_float(array.dtype) and array.ndim > 0:
                weights[name] = array
            values[name] = tensor(array) if name in weights else array
        elif (
            step is None
            or step.op not in COMPARED
            or not deeper
            or not all(is_known(each, deeper - 1) for each in step.inputs)
        ):
            return False
        else:
            values.update(_results_of(step, values))
        return True

    own = set(given)
    for step in body.steps:
        if step.op in (*READS, *WRITES) and step.inputs[0] not in own:  # an array of TensorFlow 1, not its content
            own.add(step.inputs[0])
            values[step.inputs[0]] = None
    with no_grad():
        for step in body.steps:
            try:
                if not all(name in own or is_known(name, MOST_BEFORE) for name in step.inputs):
                    return None
            except UNFIT:
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
    kinds = [kind for kind in NETWORKS if len(KINDS[kind].states) == states]
    for kind, arrays in product(kinds, permutations(weights.values())):
        own = dict(zip(ROLES, arrays, strict=False))
        options = {name: values for name, values in VARIANTS.items() if name in KINDS[kind].options}
        for chosen in product(*options.values()):
            settings: dict[str, Any] = dict(zip(options, chosen, strict=True))
            yield partial(network_of, own, FileLayer(kind, "keras", [{role: role for role in own}], **settings))


def _run(body: Body, values: Mapping[str, Any]) -> list[Any]:
    """The outputs of a body.

    Raises:
        ValueError: a result would be too large.
    """
    values = dict(values)
    for step in body.steps:
        values.update(_results_of(step, values))
    return [values[name] for name in body.outputs]


def _results_of(step: Step, values: Mapping[str, Any]) -> dict[str, Any]:
    """The results of a step by their names; raises the errors of `_run`."""
    inputs = [values[name] for name in step.inputs]
    if _size_of_result(step, [each.shape for each in inputs if hasattr(each, "ndim")]) > MOST_ELEMENTS:
        raise ValueError(f"{step.op} has a large result")
    results = step.function(*inputs)
    return dict(zip(step.outputs, (results,) if len(step.outputs) == 1 else results, strict=True))


def _size_of_result(step: Step, shapes: Sequence[tuple[int, ...]]) -> int:
    """At most how many elements the result of one of the ops has that are compared."""
    sizes = [math.prod(shape) for shape in shapes]
    if step.op in ("MatMul", "_FusedMatMul"):
        a, b = shapes[:2]
        attributes = step.function.attributes  # type: ignore[attr-defined]
        return a[1 if attributes["transpose_a"] else 0] * b[0 if attributes["transpose_b"] else 1]
    if step.op in ("Add", "AddV2", "Sub", "Mul", "BiasAdd"):
        return math.prod(np.broadcast_shapes(*shapes))
    return sum(sizes)


def _same_step(
    form: Form,
    values: Mapping[str, Any],
    module: Any,
    network: Recurrent,
) -> bool:
    """Whether the body and the layer compute the same states of random inputs."""
    body, roles, (sequence,) = form.body, form.roles, form.sequences
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
            results = _run(body, given)
        except UNFIT:  # the step takes different sizes
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
