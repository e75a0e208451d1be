"""If, Loop, Scan and SequenceMap: steps that run the bodies of graphs.

What a graph within a node takes from outside becomes further inputs of the step.

Reference: https://onnx.ai/onnx/operators/
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np

from .... import ops
from ...._tensor import Tensor, as_tensor
from ....creation import zeros
from ....ops.recurrent import run_scan
from ...errors import ContentError
from ..body import Body, Step, captured, plain_array
from ..rules import Value, host_ints
from ..scanned import LoopStep
from .graphs import attribute_value

if TYPE_CHECKING:
    from onnx import GraphProto, NodeProto

BodyOf: TypeAlias = "Callable[[GraphProto], Body]"

__all__ = ["CONTROL", "control_step"]

SCAN_WITHOUT_BATCH = 9
"""The version of the operators since which Scan has no batch dimension of its own."""


@dataclass(frozen=True)
class If:
    """Runs one of two bodies.

    Attributes:
        captured: the names of the values that the bodies take from outside.
    """

    then_branch: Body
    else_branch: Body
    captured: tuple[str, ...]

    def __call__(self, cond: Value, *outside: Any) -> Any:
        body = self.then_branch if _is_true(cond) else self.else_branch
        return _results(body.run(dict(zip(self.captured, outside, strict=True))))


@dataclass(frozen=True)
class Loop:
    """Runs a body again and again: at most a number of times, and as long as a condition is true.

    Attributes:
        captured: as of `If`.
        carried: the number of values that each run takes from the one before.
        empty: the shape of an element of each further output, after no run.
    """

    body: Body
    captured: tuple[str, ...]
    carried: int
    empty: tuple[tuple[int, ...], ...]

    def __call__(self, trips: Value | None, cond: Value | None, *given: Any) -> Any:
        carried, outside = list(given[: self.carried]), dict(zip(self.captured, given[self.carried :], strict=True))
        most = None if trips is None else _number(trips)
        columns: list[list[Any]] = [[] for _ in self.empty]
        count = 0
        while (most is None or count < most) and (cond is None or _is_true(cond)):
            values = (host_ints(count), np.array(True) if cond is None else cond, *carried)
            after, *results = self.body.run({**outside, **dict(zip(self.body.inputs, values, strict=True))})
            cond = None if cond is None else after
            carried = results[: self.carried]
            for column, element in zip(columns, results[self.carried :], strict=True):
                column.append(element)
            count += 1
        stacked = [_stacked(column, shape) for column, shape in zip(columns, self.empty, strict=True)]
        return _results([*carried, *stacked])


@dataclass(frozen=True)
class Scan:
    """Runs a body for each element of sequences.

    Attributes:
        captured: as of `If`.
        carried: the number of states.
        input_axes, output_axes: the time dimensions.
        backward, output_backward: whether the time runs backward.
        batched: whether all states and sequences have a batch dimension before those that the body takes, and a first
            input has the lengths of the sequences: the op before version 9.
        empty: as of `Loop`.
    """

    body: Body
    captured: tuple[str, ...]
    carried: int
    input_axes: tuple[int, ...]
    output_axes: tuple[int, ...]
    backward: tuple[bool, ...]
    output_backward: tuple[bool, ...]
    batched: bool
    empty: tuple[tuple[int, ...], ...]

    def __call__(self, *given: Any) -> Any:
        if not self.batched:
            return _results(self._one(given))
        lengths, *given_ = given
        number = self.carried + len(self.input_axes)
        of_batch, outside = given_[:number], given_[number:]
        B, T = of_batch[-1].shape[:2]
        steps = [T] * B if lengths is None else lengths.reshape(-1).tolist()
        rows = []
        for row, length in enumerate(steps):
            own = [each[row] for each in of_batch]
            states, sequences = own[: self.carried], own[self.carried :]
            (*results,) = self._one([*states, *(each[:length] for each in sequences), *outside])
            padded = [_padded(each, T) for each in results[self.carried :]]
            rows.append([*results[: self.carried], *padded])
        return _results([_stacked(list(column), ()) for column in zip(*rows, strict=True)])

    def _one(self, given: Sequence[Any]) -> list[Any]:
        """The final states and stacked outputs."""
        number = self.carried + len(self.input_axes)
        states, sequences, outside = list(given[: self.carried]), given[self.carried : number], given[number:]
        captured = dict(zip(self.captured, outside, strict=True))
        if (found := self._as_one_op(states, sequences, captured)) is not None:
            return found
        elements = [
            _elements(x, axis, backward)
            for x, axis, backward in zip(sequences, self.input_axes, self.backward, strict=True)
        ]
        columns: list[list[Any]] = [[] for _ in self.output_axes]
        for at_step in zip(*elements, strict=True):
            values = dict(zip(self.body.inputs, (*states, *at_step), strict=True))
            results = self.body.run({**captured, **values})
            states = list(results[: self.carried])
            for column, element in zip(columns, results[self.carried :], strict=True):
                column.append(element)
        outputs = []
        for column, axis, backward, shape in zip(
            columns, self.output_axes, self.output_backward, self.empty, strict=True
        ):
            out = _stacked(column[::-1] if backward else column, shape)
            outputs.append(ops.movedim(out, 0, axis) if axis and isinstance(out, Tensor) else out)
        return [*states, *outputs]

    def _as_one_op(
        self, states: Sequence[Any], sequences: Sequence[Any], captured: Mapping[str, Any]
    ) -> list[Any] | None:
        """The same as a sequence of `run_scan`, which is compiled and exported; None if it cannot be one.

        A single output is the state that it is equal to, or else a further state.
        """
        after, outputs = self.body.outputs[: self.carried], self.body.outputs[self.carried :]
        if not all(isinstance(each, Tensor) and each.ndim for each in (*states, *sequences)) or len(outputs) > 1:
            return None
        (x,), (axis,), (backward,) = sequences[:1], self.input_axes[:1], self.backward[:1]
        if len(sequences) > 1 or not x.shape[axis] or not (states or outputs):
            return None
        x = ops.movedim(x, axis, 0) if axis else x
        x = ops.flip(x, 0) if backward else x
        first = after.index(outputs[0]) if outputs and outputs[0] in after else 0
        further = outputs and outputs[0] not in after
        if further:
            (shape,) = self.empty
            if not states or len(shape) != 2 or not shape[1]:
                return None
            start = zeros(states[0].shape[0], shape[1], dtype=states[0].dtype, device=states[0].device)
            own = [start, *states]
        else:
            own = [states[first], *states[:first], *states[first + 1 :]]

        def step(x_t: Tensor, before: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
            head, *rest = before
            before = tuple(rest) if further else (*rest[:first], head, *rest[first:])
            results = self.body.run({**captured, **dict(zip(self.body.inputs, (*before, x_t), strict=True))})
            if further:
                return (results[-1], *results[:-1])
            results = results[: self.carried]
            return (results[first], *results[:first], *results[first + 1 :])

        out, head, *rest = run_scan(LoopStep(self, step), x, tuple(own))
        final = rest if further else [*rest[:first], head, *rest[first:]]
        if not outputs:
            return final
        out = ops.flip(out, 0) if self.output_backward[0] else out
        return [*final, ops.movedim(out, 0, self.output_axes[0]) if self.output_axes[0] else out]


@dataclass(frozen=True)
class SequenceMap:
    """Runs a body for each element of a sequence, and of further ones among the inputs.

    Attributes:
        captured: as of `If`.
    """

    body: Body
    captured: tuple[str, ...]

    def __call__(self, sequence: tuple[Any, ...], *given: Any) -> Any:
        number = len(self.body.inputs) - 1
        outside = dict(zip(self.captured, given[number:], strict=True))
        columns: list[list[Any]] = [[] for _ in self.body.outputs]
        for k, element in enumerate(sequence):
            others = (each[k] if isinstance(each, tuple) else each for each in given[:number])
            values = dict(zip(self.body.inputs, (element, *others), strict=True))
            for column, result in zip(columns, self.body.run({**outside, **values}), strict=True):
                column.append(result)
        return _results([tuple(column) for column in columns])


def _elements(x: Any, axis: int, backward: bool) -> Sequence[Any]:
    elements = list(ops.unbind(x, axis)) if isinstance(x, Tensor) else list(np.moveaxis(x, axis, 0))
    return elements[::-1] if backward else elements


def _padded(x: Any, T: int) -> Any:
    """A sequence with zeros up to length T."""
    missing = T - x.shape[0]
    return x if not missing else ops.pad(x, (0, 0) * (x.ndim - 1) + (0, missing))


def _stacked(column: Sequence[Any], shape: tuple[int, ...]) -> Any:
    if not column:
        return zeros(0, *shape)
    if all(isinstance(each, Tensor) for each in column):
        return ops.stack(list(column))
    if any(isinstance(each, Tensor) for each in column):
        device = next(each.device for each in column if isinstance(each, Tensor))
        return ops.stack([each if isinstance(each, Tensor) else _tensor(each, device) for each in column])
    return np.stack(column)


def _tensor(array: Any, device: Any) -> Tensor:
    return as_tensor(plain_array(array), device)


def _is_true(value: Value) -> bool:
    return bool(_number(value))


def _number(value: Value) -> Any:
    return value.reshape(-1)[0].item() if isinstance(value, Tensor) else value.reshape(-1).tolist()[0]


def _results(results: Sequence[Any]) -> Any:
    return results[0] if len(results) == 1 else tuple(results)


CONTROL = frozenset(("If", "Loop", "Scan", "SequenceMap"))


def control_step(node: NodeProto, inputs: Sequence[str], body_of: BodyOf, opset: int, origin: str) -> Step:
    """The step of a node in `CONTROL`, without its outputs.

    Args:
        inputs: the names of the values of its inputs.
        body_of: makes the body of a graph.
        opset: the version of the operators.
        origin: what it is in the file, for messages.

    Raises:
        ContentError: it has no body, or the numbers of values are different.
    """
    attributes = {each.name: attribute_value(each) for each in node.attribute}
    function: If | Loop | Scan | SequenceMap
    try:
        match node.op_type:
            case "If":
                function = _if(node, attributes, body_of)
            case "Loop":
                function = _loop(node, attributes, body_of)
                inputs = [*inputs, *[""] * (2 - len(inputs))]
            case "SequenceMap":
                body = body_of(attributes["body"])
                _check_number("inputs of the body", len(body.inputs), len(inputs))
                _check_number("outputs of the body", len(body.outputs), len(node.output))
                function = SequenceMap(body, captured(body))
            case _:
                function = _scan(node, attributes, body_of, opset)
    except KeyError as error:
        raise ContentError(f"{origin}: missing attribute {error}") from error
    except (TypeError, ValueError, AttributeError) as error:
        raise ContentError(f"{origin}: {error}") from error
    return Step(node.op_type, function, (*inputs, *function.captured), (), "", origin)


def _if(node: NodeProto, attributes: Mapping[str, Any], body_of: BodyOf) -> If:
    then_branch, else_branch = (body_of(attributes[name]) for name in ("then_branch", "else_branch"))
    for body in (then_branch, else_branch):
        _check_number("outputs of a branch", len(body.outputs), len(node.output))
    return If(then_branch, else_branch, captured(then_branch, else_branch))


def _loop(node: NodeProto, attributes: Mapping[str, Any], body_of: BodyOf) -> Loop:
    graph, carried = attributes["body"], max(len(node.input) - 2, 0)
    _check_number("inputs of the body", len(graph.input), carried + 2)
    _check_number("outputs of the body", len(graph.output), len(node.output) + 1)
    body = body_of(graph)
    return Loop(body, captured(body), carried, _element_shapes(graph, carried + 1))


def _scan(node: NodeProto, attributes: Mapping[str, Any], body_of: BodyOf, opset: int) -> Scan:
    graph, sequences = attributes["body"], attributes["num_scan_inputs"]
    batched = opset < SCAN_WITHOUT_BATCH
    number = len(node.input) - batched
    carried = number - sequences
    if carried < 0 or sequences < 1:
        raise ContentError(f"{sequences} sequences among {number} inputs")
    _check_number("inputs of the body", len(graph.input), number)
    _check_number("outputs of the body", len(graph.output), len(node.output))
    outputs = len(graph.output) - carried
    body = body_of(graph)
    return Scan(
        body,
        captured(body),
        carried,
        _one_each(attributes, "scan_input_axes", sequences),
        _one_each(attributes, "scan_output_axes", outputs),
        tuple(map(bool, _one_each(attributes, "directions" if batched else "scan_input_directions", sequences))),
        tuple(map(bool, _one_each(attributes, "scan_output_directions", outputs))),
        batched,
        _element_shapes(graph, carried),
    )


def _one_each(attributes: Mapping[str, Any], name: str, number: int) -> tuple[int, ...]:
    values = tuple(attributes.get(name) or [0] * number)
    _check_number(name, len(values), number)
    return values


def _check_number(what: str, number: int, expected: int) -> None:
    if number != expected:
        raise ContentError(f"{number} {what}, expected {expected}")


def _element_shapes(graph: GraphProto, start: int) -> tuple[tuple[int, ...], ...]:
    """The shapes of a graph's outputs from this one on, as far as the file has them; a free length is 0."""
    return tuple(tuple(dim.dim_value for dim in each.type.tensor_type.shape.dim) for each in list(graph.output)[start:])
