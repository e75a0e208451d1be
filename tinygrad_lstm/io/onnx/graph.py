"""Builds an ONNX graph: nodes, arrays, names, and lengths that are known when it runs."""

import itertools
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, TypeAlias

import numpy as np
import onnx
from onnx import helper, numpy_helper

from tinygrad_lstm.backends.base import HostArray
from tinygrad_lstm.backends.dtypes import FLOAT64, INT64, checked_dtype, limits

from ...lengths import Derived, Length, Quotient, Size
from ...programs.program import Call, Constant, Operand, Value

__all__ = ["Graph", "Input", "largest", "smallest", "some", "value_info"]

Input: TypeAlias = Operand | HostArray | str | None
"""An input of a node: an operand of a call, an array, the name of a node's output, or None for an omitted input."""

smallest, largest = limits(INT64)
"""Ends of a slice up to the end of a dimension, backward and forward."""

_FEW_BYTES = 1024  # equal arrays up to this size are written once


class Graph:
    """Nodes in the order in which they were added, and the arrays and names that they use.

    Args:
        taken: the names of inputs and outputs, which nodes and arrays cannot have.

    Attributes:
        nodes: ONNX's nodes.
        arrays: initializers, by name.
        calls: the calls that are being written.
        call: the current one of these.
        user: what uses the operands written now, for messages.
    """

    calls: Sequence[Call]
    call: Call

    def __init__(self, taken: Iterable[str] = ()) -> None:
        self.nodes: list[onnx.NodeProto] = []
        self.arrays: dict[str, HostArray] = {}
        self._outer: Graph | None = None
        self._taken = set(taken)
        self._copies: Counter[str] = Counter()
        self._squeezed: dict[tuple[str, int], str] = {}  # by name and dimension, the input of a Squeeze
        self._names: dict[Operand, str] = {}
        self._equal: dict[Any, str] = {}
        self._given: set[str] = set()  # names of outputs
        self.user = ""
        self._lengths: dict[Any, str] = {}  # by their keys
        self._sources: dict[Any, tuple[Value, int]] = {}

    def inner(self) -> "Graph":
        """A graph within a node of this one, which can use names of this one and stores its arrays there."""
        graph = Graph()
        graph._outer = self
        graph.arrays, graph._taken, graph._copies, graph._equal = self.arrays, self._taken, self._copies, self._equal
        graph._names = dict(self._names)
        return graph

    # -- nodes ---------------------------------------------------------------------------------------------------------

    def node(self, kind: str, *inputs: Input, **attributes: Any) -> str:
        """Adds a node, and returns the name of its output."""
        return self.several(1, kind, *inputs, **attributes)[0]

    def several(self, number: int, kind: str, *inputs: Input, node_name: str = "", **attributes: Any) -> list[str]:
        """Adds a node with several outputs, and returns their names."""
        names = [self.name(each) for each in inputs]
        while names and not names[-1]:
            names.pop()
        outputs = [self.unique(kind) for _ in range(number)]
        self.nodes.append(helper.make_node(kind, names, outputs, node_name or outputs[0], **attributes))
        return outputs

    def joined(self, parts: Sequence[Input], dim: int) -> str:
        """The concatenation of parts along a dimension."""
        return self.node("Concat", *parts, axis=dim) if len(parts) > 1 else self.name(parts[0])

    def unbound(self, x: Input, dim: int, number: int) -> list[str]:
        """The slices along a dimension of length `number`, without that dimension."""
        parts = [self.name(x)] if number == 1 else self.several(number, "Split", x, axis=dim)
        squeezed = [self.node("Squeeze", part, np.array([dim])) for part in parts]
        self._squeezed |= {(name, dim): part for name, part in zip(squeezed, parts, strict=True)}
        return squeezed

    def unsqueezed(self, x: Input, dim: int) -> str:
        """x with a new dimension of length 1; undoes `unbound` if x is one of its slices."""
        name = self.name(x)
        return self._squeezed.get((name, dim)) or self.node("Unsqueeze", name, np.array([dim]))

    def unique(self, stem: str) -> str:
        """An unused name: the stem, or the stem with a number."""
        name = stem
        while name in self._taken:
            self._copies[stem] += 1
            name = f"{stem}_{self._copies[stem]}"
        self._taken.add(name)
        return name

    # -- what they take ------------------------------------------------------------------------------------------------

    def name(self, given: Input) -> str:
        """The name of a node's input; "" for None."""
        if given is None or isinstance(given, str):
            return given or ""
        if isinstance(given, np.ndarray):
            return self.array(given)
        if given not in self._names and isinstance(given, Constant):
            array = given.array
            self._names[given] = self._by_lengths(given) if array is None else self.array(array, given.name)
        return self._names[given]

    def filled(self, number: HostArray, shape: Iterable[Size]) -> str:
        """An array of that shape, all of it the number, which is given as an array (1,)."""
        return self.node("ConstantOfShape", self.ints(shape), value=numpy_helper.from_array(number))

    def _by_lengths(self, constant: Constant) -> str:
        """The name of an array that is made anew, as its shape depends on lengths: all of it is one number.

        Raises:
            ValueError: its values depend on the inputs.
        """
        if (filling := constant.filling) is not None:
            return self.filled(filling, constant.shape)
        raise ValueError(
            f"export_onnx: {self.user} is given an array, of shape "
            f"{some(array.shape for array in constant.arrays)}, that depends on the inputs "
            "and was not made of them by ops; only tg.zeros, ones, full and arange of an input's length may be"
        )

    def array(self, array: HostArray, name: str = "") -> str:
        """The name of an initializer with these values: the given name, if it is not used by a different array."""
        key = name or (array.dtype.str, array.shape, array.tobytes() if array.nbytes <= _FEW_BYTES else id(array))
        if key not in self._equal or (
            name and not np.array_equal(self.arrays[self._equal[key]], array, equal_nan=True)
        ):
            self._equal[key] = self.unique(name or "constant")
            self.arrays[self._equal[key]] = array
        return self._equal[key]

    def number(self, value: float | Derived, dtype: Any) -> Input:
        """A number, 0-d, in a dtype."""
        if isinstance(value, Quotient):
            return self.cast(self._float(value), dtype, FLOAT64)
        if isinstance(value, Length):
            return self.cast(self.node("Squeeze", self.length(value), np.array([0])), dtype, INT64)
        return np.array(value, dtype)

    def _float(self, value: float | Derived) -> Input:
        """A number in float64, as in Python."""
        if not isinstance(value, Quotient) or value.how is None:
            return self.number(value, FLOAT64)
        kind, *operands = value.how
        return self.node(_KINDS[kind], *map(self._float, operands))

    def cast(self, x: Any, dtype: Any, given: Any = None) -> Input:
        """Casts an input to a dtype if needed; `given` is the dtype of a node's output."""
        if not isinstance(x, Value | Constant | str):
            return np.asarray(x, dtype)
        given = given if isinstance(x, str) else x.dtype
        return x if given == dtype else self.node("Cast", x, to=helper.np_dtype_to_tensor_dtype(checked_dtype(dtype)))

    def note(self, value: Operand, name: str) -> None:
        """Records the name of a value, and that its lengths are known from here on."""
        if isinstance(value, Value):
            self._names[value] = name
            for dim, size in enumerate(value.shape):
                if isinstance(size, Length):
                    self._sources.setdefault(size.key, (value, dim))

    def has(self, value: Operand) -> bool:
        """Whether the value was written already."""
        return value in self._names or isinstance(value, Constant)

    def set_output(self, value: Operand, name: str) -> None:
        """Makes a value an output with a name, by renaming the node's output if it is not an output yet."""
        self.user = f"output {name!r}"
        old = self.name(value)
        if old in self._given or not any(old in node.output for node in self.nodes):
            old = self.node("Identity", old)
        for node in _all_nodes(self.nodes):
            node.input[:] = [name if each == old else each for each in node.input]
            node.output[:] = [name if each == old else each for each in node.output]
        self._names = {each: name if known == old else known for each, known in self._names.items()}
        self._given.add(name)

    def input(self, value: Value, stem: str) -> onnx.ValueInfoProto:
        """Adds an input of the graph for a value."""
        self.note(value, self.unique(stem))
        return value_info(self._names[value], value)

    def needed(self, outputs: Iterable[str]) -> tuple[list[onnx.NodeProto], dict[str, HostArray]]:
        """The nodes that these outputs need, and the arrays of the outermost graph."""
        used = set(outputs)
        nodes: list[onnx.NodeProto] = []
        for node in reversed(self.nodes):
            if used.intersection(node.output):
                nodes.append(node)
                used.update(name for each in _all_nodes([node]) for name in each.input)
        arrays = {} if self._outer else {name: array for name, array in self.arrays.items() if name in used}
        return nodes[::-1], arrays

    def finished(
        self, name: str, inputs: Sequence[onnx.ValueInfoProto], outputs: Sequence[onnx.ValueInfoProto]
    ) -> onnx.GraphProto:
        """The graph, with only what its outputs need."""
        nodes, arrays = self.needed(output.name for output in outputs)
        initializers = [numpy_helper.from_array(array, name) for name, array in arrays.items()]
        return helper.make_graph(nodes, name, inputs, outputs, initializers)

    # -- lengths -------------------------------------------------------------------------------------------------------

    def ints(self, sizes: Iterable[Size]) -> Input:
        """A vector of integers, some of which may be lengths that are known when the graph runs."""
        sizes = list(sizes)
        if not any(isinstance(size, Length) for size in sizes):
            return np.array(sizes, np.int64)
        parts: list[Input] = []
        for known, group in itertools.groupby(sizes, lambda size: isinstance(size, int)):
            numbers = list(group)
            parts += (
                [np.array(numbers, np.int64)] if known else [self.length(n) for n in numbers if isinstance(n, Length)]
            )
        return parts[0] if len(parts) == 1 else self.node("Concat", *parts, axis=0)

    def length(self, length: Length) -> str:
        """A vector of one integer.

        Raises:
            ValueError: it does not record how it follows from the length of a tensor.
        """
        if length.key not in self._lengths:
            self._lengths[length.key] = self._computed(length)
        return self._lengths[length.key]

    def _knows(self, length: Length) -> bool:
        """Whether it is the length of a tensor in this graph or in those around it."""
        return length.key in self._sources or (self._outer is not None and self._outer._knows(length))

    def _computed(self, length: Length) -> str:
        if length.key in self._sources:
            value, dim = self._sources[length.key]
            return self.node("Shape", value, start=dim, end=dim + 1)
        if self._outer is not None and self._outer._knows(length):
            return self._outer.length(length)
        if length.how is None:
            raise ValueError(
                f"export_onnx: {self.user} takes the number {some(length.values)}, by the lengths of the "
                "inputs, and it does not say how; make it of x.shape or len(x) of a tensor x by + - * // %, without "
                "int(), math or NumPy"
            )
        kind, *operands = length.how
        a, b = (self.length(each) if isinstance(each, Length) else np.array([each]) for each in operands)
        # ONNX rounds towards zero; and onnxruntime (1.32) computes x * (1 // y) as x // y.
        if kind == "floordiv" and not (isinstance(operands[0], Length) and all(map(_is_natural, operands))):
            a = self.node("Sub", a, self.node("Mod", a, b))
        return self.node(_KINDS[kind], a, b)


_KINDS = {"add": "Add", "sub": "Sub", "mul": "Mul", "truediv": "Div", "floordiv": "Div", "mod": "Mod"}
"""The nodes of the functions of `operator`."""


def _is_natural(number: Size) -> bool:
    """Whether an integer cannot be negative."""
    if isinstance(number, int):
        return number >= 0
    return number.how is None or (number.how[0] != "sub" and all(map(_is_natural, number.how[1:])))


def value_info(name: str, value: Operand, labels: Mapping[Any, str] | None = None) -> onnx.ValueInfoProto:
    """A tensor's name, dtype and shape; free lengths have the label of their key, or none."""
    lengths = [size if isinstance(size, int) else (labels or {}).get(size.key) for size in value.shape]
    return helper.make_tensor_value_info(name, helper.np_dtype_to_tensor_dtype(value.dtype), lengths)


def some(values: Iterable[object]) -> str:
    """The first few different values from the runs, for a message."""
    return " or ".join(list(dict.fromkeys(map(str, values)))[:4])


def _all_nodes(nodes: Iterable[onnx.NodeProto]) -> Iterator[onnx.NodeProto]:
    """The nodes, and those of the graphs within them."""
    for node in nodes:
        yield node
        for attribute in node.attribute:
            yield from _all_nodes(attribute.g.node)
