"""The ops that a function applied, and the line of code that applied each."""

import inspect
import linecache
import sys
from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from .._tensor import Tensor
from ..mode import Switch, Tracer

__all__ = ["AppliedOp", "CodeLine", "OpsRun", "lines_of"]


@dataclass(frozen=True)
class CodeLine:
    """A line of code that ran.

    Attributes:
        path: the path of its file.
        number: its line number, from 1.
        text: the line without its indentation.
    """

    path: str
    number: int
    text: str

    @property
    def file(self) -> str:
        """The file's name with that of its folder."""
        return "/".join(Path(self.path).parts[-2:])


@dataclass(frozen=True, eq=False)
class AppliedOp:
    """An op that was applied.

    Attributes:
        name: the op's name.
        inputs: the tensors that it was applied to.
        outputs: the tensors that it made.
        line: the line that applied it.
    """

    name: str
    inputs: tuple[Tensor, ...]
    outputs: tuple[Tensor, ...]
    line: CodeLine


class OpsRun(Tracer):
    """Calls a function and records the ops that it applies.

    The line of an op is the innermost running line of the function's own file.

    Attributes:
        result: what the function returned.
        ops: the ops in the order in which they were applied.

    >>> from tinygrad_lstm import ones
    >>> from tinygrad_lstm.models import RNNCell
    >>> run = OpsRun(RNNCell(3, 5).gates, ones(1, 3))
    >>> [op.name for op in run.ops]
    ['cat', 'linear', 'tanh']
    >>> run.ops[0].line.text
    'hx = ops.concat([h, x], dim=-1)  # [h, x]: (B, H + I)'
    """

    def __init__(self, function: Callable[..., Any], *arguments: Any) -> None:
        self._path = inspect.unwrap(function).__code__.co_filename
        self.ops: list[AppliedOp] = []
        with Switch(tracer=self):
            self.result = function(*arguments)
        self._makers = {id(output): op for op in self.ops for output in op.outputs}

    def maker(self, tensor: Tensor) -> AppliedOp | None:
        """The op that made a tensor; None for a tensor that existed before."""
        return self._makers.get(id(tensor))

    def behind(self, tensor: Tensor, others: Iterable[Tensor] = ()) -> set[AppliedOp]:
        """The ops that a tensor was computed by, without those of the tensors `others`."""
        stops = {id(other) for other in others} - {id(tensor)}
        found: set[AppliedOp] = set()
        left = [tensor]
        while left:
            op = self.maker(left.pop())
            if op is not None and op not in found:
                found.add(op)
                left += [value for value in op.inputs if id(value) not in stops]
        return found

    def see_op(self, op: Any, arguments: Sequence[Any], result: Any) -> None:
        """Records an op."""
        frame = sys._getframe(1)
        while frame.f_code.co_filename != self._path and frame.f_back is not None:
            frame = frame.f_back
        number = frame.f_lineno
        line = CodeLine(self._path, number, linecache.getline(self._path, number).strip())
        outputs = result if isinstance(result, tuple) else (result,)
        self.ops.append(AppliedOp(op.name, tuple(_tensors(arguments)), outputs, line))


def lines_of(ops: Collection[AppliedOp], run: OpsRun) -> tuple[CodeLine, ...]:
    """The lines that applied these ops, in the order in which they ran, each once."""
    return tuple(dict.fromkeys(op.line for op in run.ops if op in ops))


def _tensors(arguments: Iterable[Any]) -> Iterable[Tensor]:
    for argument in arguments:
        if isinstance(argument, Tensor):
            yield argument
        elif isinstance(argument, list | tuple):
            yield from _tensors(argument)
