"""A table of a module and those in it: parameters, outputs, multiply-adds, and the memory kept for backward."""

import math
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np

from tinygrad_lstm.backends.base import Array
from tinygrad_lstm.backends.emit.program import Instruction

from .._tensor import Tensor
from ..graph import GraphNode, Node, ancestors
from ..html import preformatted, table
from ..mode import Switch, Tracer, mode
from ..nn import Module
from ..nn.module import described
from ..ops.sequence import is_sequence
from ..random import random_state, restored_random_state
from .tables import aligned

__all__ = ["Summary", "SummaryRow", "summary"]


@dataclass(frozen=True)
class SummaryRow:
    """A row for a module, with all modules below it.

    Attributes that need a run are None without one.

    Attributes:
        name: the dotted name; "" for the outermost module.
        kind: its class, with its settings in parentheses.
        depth: how many modules contain it.
        parameters: how many numbers its parameters hold, each parameter counted once.
        trainable: how many of them require a gradient.
        parameter_bytes: their memory.
        calls: how often it was called.
        outputs: the shapes of the tensors that the last call returned.
        multiply_adds: the multiply-adds of all calls, in products of matrices.
        kept_bytes: memory that the run keeps for backward, without the parameters and the input.
    """

    name: str
    kind: str
    depth: int
    parameters: int
    trainable: int
    parameter_bytes: int
    calls: int | None = None
    outputs: tuple[tuple[int, ...], ...] | None = None
    multiply_adds: int | None = None
    kept_bytes: int | None = None


@dataclass(frozen=True, repr=False)
class Summary:
    """A module's table; `print` and notebooks show it.

    Attributes:
        rows: the module itself, then all modules below it, parents first.
        uncounted: how many calls of `einsum` the multiply-adds do not include: those of one or more than two tensors,
            and those that were not recorded, since nothing requires a gradient.
    """

    rows: tuple[SummaryRow, ...]
    uncounted: int = 0

    @property
    def total(self) -> SummaryRow:
        """The whole module's row."""
        return self.rows[0]

    def __repr__(self) -> str:
        header, cells = self._cells()
        return f"{aligned([header, *cells])}\n{self._totals()}"

    def _repr_html_(self) -> str:
        return table(*self._cells()) + preformatted(self._totals())

    def _cells(self) -> tuple[list[str], list[list[str]]]:
        header = ["module", "parameters", "bytes"]
        if self.total.calls is not None:
            header += ["output", "multiply-adds", "kept"]
        return header, [_row_cells(row) for row in self.rows]

    def _totals(self) -> str:
        total = self.total
        parts = [f"{total.parameters:,} parameters in {_bytes(total.parameter_bytes)}"]
        if total.trainable != total.parameters:
            parts[0] += f", {total.trainable:,} of them trainable"
        if total.multiply_adds is not None and total.kept_bytes is not None:
            parts.append(f"{total.multiply_adds:,} multiply-adds")
            if self.uncounted:
                parts[-1] += (
                    f" (without {self.uncounted} einsum of one or more than two tensors, or without a gradient)"
                )
            parts.append(f"{_bytes(total.kept_bytes)} kept for backward")
        return f"total: {'; '.join(parts)}"


def _row_cells(row: SummaryRow) -> list[str]:
    own_name = row.name.rpartition(".")[2]
    text = "  " * row.depth + (f"{own_name}: " if own_name else "") + row.kind
    cells = [text, f"{row.parameters:,}", _bytes(row.parameter_bytes)]
    if row.calls is None or row.outputs is None:
        return cells
    if not row.calls:
        return [*cells, "not called", "", ""]
    times = f" × {row.calls}" if row.calls > 1 else ""
    return [*cells, ", ".join(map(str, row.outputs)) + times, f"{row.multiply_adds:,}", _bytes(row.kept_bytes or 0)]


def _bytes(number: int) -> str:
    """A number of bytes with a unit."""
    if number < 1000:
        return f"{number} B"
    power = min(int(math.log10(number)) // 3, 4)
    return f"{number / 1000**power:.1f} {' KMGT'[power]}B"


def summary(module: Module, x: Any = None) -> Summary:
    """A table of a module and all modules below it: parameters and, of a run, outputs, multiply-adds and memory kept.

    The run is one call of the module on x, in its current mode. The state of the random generator is unchanged
    afterwards. A module's numbers include those of the modules that it called. If it calls a method other than
    `forward`, such as a cell's `gates`, that counts as its own work.

    Multiply-adds are counted per op, not per kind of module: n·k·m for (n, k) times (k, m), in `matmul`, `linear`,
    convolutions, `einsum`, and at every step of recurrent layers, including padding. Elementwise ops, such as those of
    gates and biases, count 0; so do embeddings and user-defined ops.

    Memory is that of all arrays that the graph of the outputs holds, each counted once, except parameters and x.
    `checkpoint` has no effect here. Under `no_grad` nothing is kept.

    Args:
        module: any module.
        x: an example of its input, an array or a tensor; a tuple for several arguments. Without x nothing is run.

    Raises:
        TypeError: `module` is not a Module.

    >>> import tinygrad_lstm as tg
    >>> model = tg.nn.Sequential(tg.nn.Linear(3, 8), tg.tanh, tg.nn.Linear(8, 1))
    >>> tg.inspect.summary(model, tg.ones(5, 3))
    module               parameters  bytes  output  multiply-adds   kept
    Sequential                   41  164 B  (5, 1)            160  160 B
      0: Linear(3, 8)            32  128 B  (5, 8)            120    0 B
      1: Function(tanh)           0    0 B  (5, 8)              0  160 B
      2: Linear(8, 1)             9   36 B  (5, 1)             40    0 B
    total: 41 parameters in 164 B; 160 multiply-adds; 160 B kept for backward
    """
    if not isinstance(module, Module):
        raise TypeError(f"summary: expected a Module, got {type(module).__name__}")
    modules = list(module.named_modules())
    if x is None:
        return Summary(tuple(_row(name, part) for name, part in modules))
    run = _Run([part for _, part in modules])
    arguments = x if isinstance(x, tuple) else (x,)
    with restored_random_state(random_state()), Switch(tracer=run), run.following():
        outputs = module(*arguments)
    kept = run.kept_bytes(outputs, [*module.parameters(), *module.buffers(), *arguments])
    rows = [
        _row(name, part, run.calls[k], run.outputs[k], run.multiply_adds[k], kept[k])
        for k, (name, part) in enumerate(modules)
    ]
    return Summary(tuple(rows), run.uncounted)


def _row(name: str, module: Module, *of_run: Any) -> SummaryRow:
    parameters = list(module.parameters())
    return SummaryRow(
        name,
        described(module),
        name.count(".") + 1 if name else 0,
        sum(p.size for p in parameters),
        sum(p.size for p in parameters if p.requires_grad),
        sum(p.size * p.dtype.itemsize for p in parameters),
        *of_run,
    )


class _Run(Tracer):
    """Records a run: which modules call each op, and what the ops multiply and keep."""

    sees_steps = False

    def __init__(self, modules: Sequence[Module]) -> None:
        self._modules = modules
        self._running: tuple[int, ...] = ()  # the modules that are being called, outermost first
        self._outer: list[tuple[int, ...]] = []  # the value of `_running` before each open call
        self._made_in: dict[int, tuple[int, ...]] = {}  # the modules in which a node was made, by its number
        self.calls = [0] * len(modules)
        self.outputs: list[tuple[tuple[int, ...], ...]] = [()] * len(modules)
        self.multiply_adds = [0] * len(modules)
        self.uncounted = 0

    @contextmanager
    def following(self) -> Iterator[None]:
        """Within it, calls of the modules are recorded."""
        with ExitStack() as hooks:
            for k, module in enumerate(self._modules):
                hooks.enter_context(module.register_forward_pre_hook(partial(self._begin, k), prepend=True))
                hooks.enter_context(module.register_forward_hook(partial(self._end, k), always_call=True))
            yield

    def _begin(self, k: int, module: Module, args: Any) -> None:
        if mode().value.tracer is not self:  # a call in another thread
            return
        self._outer.append(self._running)
        self._running = self._running if k in self._running else (*self._running, k)

    def _end(self, k: int, module: Module, args: Any, output: Any) -> None:
        if mode().value.tracer is not self:
            return
        self._running = self._outer.pop()
        self.calls[k] += 1
        self.outputs[k] = tuple(tensor.shape for tensor in _tensors(output))

    def see_op(self, op: Any, arguments: Sequence[Any], result: Any) -> None:
        """Counts what an op multiplies; of a sequence, what each of its steps does."""
        if is_sequence(op):
            (x, *_), step, _ = arguments
            self._count(len(x) * sum(_of_instruction(each, x.shape[1]) for each in step.traced.program.instructions))
            return
        inputs = arguments[0] if isinstance(arguments[0], list) else arguments
        self.uncounted += op.name == "einsum"  # `see_node` counts those whose node has the terms
        shapes = [getattr(value, "shape", ()) for value in inputs]
        self._count(_multiply_adds(op.name, shapes, getattr(result, "shape", ())))

    def see_node(self, node: GraphNode) -> None:
        """Records in which modules a node was made."""
        self._made_in[node.number] = self._running
        if isinstance(node, Node) and node.op.name == "einsum" and len(node.parents) == 2:
            operands, terms, _ = node.saved
            lengths = {letter: n for x, term in zip(operands, terms, strict=True) for letter, n in zip(term, x.shape)}
            self._count(math.prod(lengths.values()))
            self.uncounted -= 1

    def _count(self, number: int) -> None:
        for k in self._running:
            self.multiply_adds[k] += number

    def kept_bytes(self, outputs: Any, given: Sequence[Any]) -> list[int]:
        """For each module the bytes that the graph of the outputs holds of its run, without the arrays given."""
        kept = [0] * len(self._modules)
        seen = {id(owner): owner for owner in map(_owner, _arrays(given))}
        for node in reversed(ancestors(tensor._graph_node() for tensor in _tensors(outputs) if tensor.requires_grad)):
            for array in _arrays((node.saved, node.out)) if isinstance(node, Node) else ():
                owner = _owner(array)
                if id(owner) not in seen:
                    seen[id(owner)] = owner
                    for k in self._made_in.get(node.number, ()):
                        kept[k] += math.prod(owner.shape) * owner.dtype.itemsize
        return kept


def _multiply_adds(name: str, shapes: Sequence[tuple[int, ...]], out: tuple[int, ...]) -> int:
    """The multiply-adds of an op, by the shapes of its inputs and output; 0 for ops that do not multiply matrices."""
    match name, shapes:
        case "linear", [(N, I), (O, _), *_]:
            return N * I * O
        case "matmul", [(*before_x, n, k), (*before_y, _, m)]:
            return math.prod(np.broadcast_shapes(tuple(before_x), tuple(before_y))) * n * k * m
        case "convolved", [_, (_, *of_filter), *_]:
            return math.prod(out) * math.prod(of_filter)
        case "convolved_back", [x, (_, *of_filter), *_]:
            return math.prod(x) * math.prod(of_filter)
    return 0


def _of_instruction(instruction: Instruction, B: int) -> int:
    """The multiply-adds of an instruction of a step, for a batch of B."""
    values = (*instruction.inputs, instruction.results[0])
    *shapes, out = [tuple(n if isinstance(n, int) else B for n in value.shape) for value in values]
    if instruction.op.name == "einsum":
        terms = dict(zip(instruction.op.names, instruction.arguments, strict=True))["terms"]
        return math.prod({letter: n for term, shape in zip(terms, shapes) for letter, n in zip(term, shape)}.values())
    return _multiply_adds(instruction.op.name, shapes, out)


def _tensors(value: Any) -> Iterator[Tensor]:
    """The tensors in what a module returned: one, or several in tuples, lists and dicts, in order."""
    if isinstance(value, Tensor):
        yield value
    elif isinstance(value, tuple | list | dict):
        for part in value.values() if isinstance(value, dict) else value:
            yield from _tensors(part)


def _arrays(value: Any) -> Iterator[Array]:
    """The arrays that a node keeps."""
    if isinstance(value, tuple | list):
        for part in value:
            yield from _arrays(part)
    elif isinstance(value, Tensor):
        yield value.data
    elif hasattr(value, "shape") and hasattr(value, "dtype"):
        yield value


def _owner(array: Array) -> Array:
    """The array that owns a view's memory."""
    while hasattr(getattr(array, "base", None), "dtype"):
        array = array.base
    return array
