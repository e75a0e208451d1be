"""What the current thread or asyncio task does with ops: whether they record, and who follows the run."""

import functools
import inspect
from collections.abc import Callable, Mapping, Sequence
from typing import Any, ParamSpec, TypeVar, cast

from tinygrad_lstm.backends.base import Array
from tinygrad_lstm.backends.scoped import Block, Scoped

__all__ = ["detect_anomaly", "enable_grad", "no_grad"]

P = ParamSpec("P")
R = TypeVar("R")


class Tracer:
    """Follows a run: override the methods for what is to be seen. By default they do nothing.

    `Switch(tracer=...)` sets it for a thread or an asyncio task. An inner tracer replaces an outer one.

    Attributes:
        sees_steps: whether each step of a sequence must be taken as its ops; otherwise a sequence may be one op.
    """

    sees_steps = True

    def see_node(self, node: Any) -> None:
        """A node was recorded."""

    def forward_of(self, op: Any) -> Callable[..., Any]:
        """An op is to be computed: returns what computes it, its forward rule or a replacement."""
        forward: Callable[..., Any] = op.forward
        return forward

    def see_op(self, op: Any, arguments: Sequence[Any], result: Any) -> None:
        """An op has given this result, a Tensor or a tuple of Tensors."""

    def see_call(self, function: Callable[..., Any], args: Sequence[Any], kwargs: Mapping[str, Any]) -> Any:
        """A function made of ops is called: returns its result."""
        return function(*args, **kwargs)

    def see_backward(self, create_graph: bool) -> None:
        """Gradients are computed."""

    def see_hooks(self, module: Any) -> None:
        """A module is called that has hooks."""

    def see_copy(self, source: Any, copied: Array) -> None:
        """An array of integers or bools was copied, outside of an op, from an array or a Tensor."""

    def see_shape(self, tensor: Any, shape: tuple[int, ...]) -> tuple[int, ...]:
        """The shape of a Tensor is read: returns it, perhaps with a `Length` in place of a length."""
        return shape

    def see_read(self, tensor: Any) -> None:
        """The values of a Tensor are read as Python numbers."""

    def see_dropout(self, x: Any, p: float) -> Any:
        """Elements of a Tensor are to be dropped: returns which are kept, a Tensor of bools; None draws them."""
        return None

    def see_write(self, tensor: Any) -> None:
        """The values of a Tensor are to be changed in place."""

    def see_attribute(self, module: Any, name: str) -> None:
        """An attribute of a module is to be set."""

    def see_print(self) -> bool:
        """Values are to be printed: returns whether to do so."""
        return True

    def see_array(self, tensor: Any) -> None:
        """The array of a Tensor is handed out, or copied outside of an op."""

    def see_requires_grad(self, tensor: Any) -> None:
        """User code asks whether a Tensor requires a gradient, or is a leaf."""

    def see_step(self, cell: Any, kind: str, x: Any, before: Mapping[str, Any], gates: Any) -> None:
        """A cell has made a step; see `observing.show_step`."""

    def see_part(self, name: str) -> None:
        """A part of a model is to be computed, such as a node of a file's graph."""

    def see_layer(self, layer: Any) -> None:
        """A `ShownLayer` of a network is to be computed, step by step."""

    def see_sequence(
        self, step: Callable[..., Any], T: int, lengths: Any, reverse: bool, mask: Any
    ) -> Callable[..., Any]:
        """T steps are to be taken, one after the other: returns the step to take."""
        return step

    def see_fused(
        self,
        run: Callable[[Sequence[Any], Sequence[Any]], tuple[Any, ...]],
        inputs: Sequence[Any],
        others: Sequence[Any],
        scan: Any,
    ) -> tuple[Any, ...]:
        """A sequence, a `Scan`, is to be computed as one op: returns what the op returns, given inputs and others."""
        return run(inputs, others)


class Mode:
    """What a thread does with ops; never changed once made.

    Attributes:
        recording: whether ops record.
        anomaly: whether NaNs are looked for.
        tracer: who follows the run.
        watched: whether there is more to do at an op than to compute and to record.
    """

    __slots__ = ("anomaly", "recording", "tracer", "watched")

    def __init__(self, recording: bool = True, anomaly: bool = False, tracer: Tracer | None = None) -> None:
        self.recording = recording
        self.anomaly = anomaly
        self.tracer = tracer
        self.watched = anomaly or tracer is not None


_MODE = Scoped("tinygrad_lstm mode", Mode())

mode = _MODE.top
"""Returns the layer whose `value` is the current `Mode`. Every call of an op reads it."""


class Switch:
    """Sets fields of the mode, as a context manager or a decorator.

    It holds in the thread or asyncio task that enters it, and in tasks that are created within it. One object may be
    entered again while it is entered, and by several threads.
    """

    def __init__(self, **fields: Any) -> None:
        self._fields = fields
        self._entered: list[Block[Mode]] = []

    def __enter__(self) -> None:
        self._entered.append(_MODE.enter(self._change))

    def __exit__(self, *exception: object) -> None:
        entered = self._entered
        block = entered[-1]
        if len(entered) > 1:
            block = next(filter(_MODE.is_within, reversed(entered)), block)
        entered.remove(block)
        _MODE.leave(block)

    def _change(self, around: Mode) -> Mode:
        fields = {"recording": around.recording, "anomaly": around.anomaly, "tracer": around.tracer}
        return Mode(**{**fields, **self._fields})

    def __call__(self, function: Callable[P, R]) -> Callable[P, R]:
        """The function, which runs within the switch; if it is asynchronous, its body does.

        Raises:
            TypeError: it is a generator function, a class, or no function.
        """
        given: Any = function
        own, name = type(self).__name__, getattr(given, "__name__", repr(given))
        if inspect.isgeneratorfunction(function) or inspect.isasyncgenfunction(function):
            raise TypeError(f"{own}: {name} is a generator, which runs after its call; use a with block inside it")
        if inspect.isclass(function):
            raise TypeError(f"{own}: {name} is a class; decorate its methods, such as forward")
        if not callable(given) or isinstance(given, staticmethod):
            raise TypeError(f"{own}: expected a function, got {type(given).__name__}; put it next to the def line")
        if inspect.iscoroutinefunction(function):

            @functools.wraps(function)
            async def switched_coroutine(*args: P.args, **kwargs: P.kwargs) -> Any:
                with Switch(**self._fields):
                    return await function(*args, **kwargs)

            return cast(Callable[P, R], switched_coroutine)

        @functools.wraps(function)
        def switched(*args: P.args, **kwargs: P.kwargs) -> R:
            with Switch(**self._fields):
                return function(*args, **kwargs)

        return switched


class no_grad(Switch):  # noqa: N801
    """Within it, operations record nothing, in this thread or asyncio task.

    Decorates functions and coroutine functions too. A generator that is suspended within it leaves it on for the code
    that runs the generator, until the generator goes on or is closed.

    >>> import tinygrad_lstm as tg
    >>> x = tg.ones(2, requires_grad=True)
    >>> with tg.no_grad():
    ...     print((x * 2).requires_grad)
    False
    """

    def __init__(self) -> None:
        super().__init__(recording=False)


class enable_grad(Switch):  # noqa: N801
    """Within it, operations record again, inside a `no_grad`."""

    def __init__(self) -> None:
        super().__init__(recording=True)


class detect_anomaly(Switch):  # noqa: N801
    """Within it, the first NaN that an op makes, forward or backward, raises.

    The error names the forward op and the line of the user's code that called it. Slower: every result is read.

    Raises:
        FloatingPointError: an op without a NaN in its inputs, or a derivative without one in its incoming gradient,
            made one.
    """

    def __init__(self) -> None:
        super().__init__(anomaly=True)
