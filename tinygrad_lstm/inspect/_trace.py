"""`trace`: runs a model once and returns every gate and state of its recurrent parts, and the gradients of a loss."""

import logging
import math
import threading
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from inspect import signature
from typing import Any, Protocol, runtime_checkable

from tinygrad_lstm.backends.base import HostArray
from tinygrad_lstm.backends.dtypes import is_float, promoted_dtype
from tinygrad_lstm.backends.scoped import Scoped

from .. import ops
from .._tensor import Tensor, as_tensor
from ..mode import Switch
from ..nn import Module, Parameter
from ..nn.module import described
from ..ops.recurrent import checked_lengths, going
from .calls import Calls, on_host, read_only
from .layers import Trace

__all__ = ["trace", "trace_memory"]

_log = logging.getLogger(__name__)


def trace(
    model: Module,
    x: Any,
    state: Any = None,
    lengths: Any = None,
    loss: Callable[[Any], Tensor] | None = None,
    *,
    max_bytes: int = 4 * 2**30,
) -> Trace:
    """Runs a model, and returns what its recurrent parts computed: every gate and state at every step.

    The model runs as it always does, on its fused layers, in the mode in which it is (`eval()` first, where dropout
    should not drop), and its results are the same to the bit. It costs one forward pass, and with a loss one to two
    backward passes. No `.grad` is touched. Several calls of one layer or cell within the model are joined in time.

    Gradients are those that `tg.grad` gives of the values, frozen parameters or not: 0 of what the loss does not depend
    on, and of what the model computed under `no_grad` or has detached.

    Args:
        model: a cell, an LSTM, a GRU, an RNN, a CharLM, or a module of yours with any of these in it. A cell goes
            through the steps of an x of three dimensions, (T, B, I), one by one.
        x: what the model takes: an array or a tensor.
        state: handed to the model as its second argument, if given.
        lengths: handed to the model as `lengths=`, if given; a cell takes them too.
        loss: a function of the model's output, or of the first of its outputs (the `out` of an LSTM, the logits of a
            CharLM), that gives a scalar; with it, the trace has gradients.
        max_bytes: how much the trace may take; `trace_memory` says it beforehand, and so does the log.

    Returns:
        A `Trace`, whose arrays are NumPy's, in the model's dtype, wherever it runs.

    Raises:
        ValueError: nothing recurrent has run; the loss is no scalar, or does not depend on what has run; the arguments
            do not fit the model; a layer was called with batches of different sizes.
        TypeError: `model` is no Module, or `loss` no function.
        RuntimeError: the model has changed in place what a cell or layer computed, or a layer computed with.
        MemoryError: the trace would take more than `max_bytes`.

    >>> import tinygrad_lstm as tg
    >>> from tinygrad_lstm.models import LSTM
    >>> traced = tg.inspect.trace(LSTM(3, 5, num_layers=2), tg.ones(7, 2, 3), loss=lambda out: out[-1].sum())
    >>> [layer.name for layer in traced]
    ['l0', 'l1']
    >>> traced["l1"].f.shape, traced["l1"].gradients["c"].shape
    ((7, 2, 5), (7, 2, 5))
    >>> traced["l0"].forget_product(start=0, end=6).shape
    (2, 5)
    """
    if loss is not None and not callable(loss):
        raise TypeError(f"trace: expected the loss to be a function of the model's output, got {type(loss).__name__}")
    x = as_tensor(x)
    _check_memory(trace_memory(model, x, gradients=loss is not None), max_bytes)
    inputs, numbers = on_host(x), None if lengths is None else on_host(as_tensor(lengths))
    batch_first = any(getattr(module, "batch_first", False) is True for module in model.modules())
    calls = Calls(model)
    # A checkpoint around this call would take from the layers what they keep.
    with Switch(recording=True, tracer=None), _thawed(model):
        output = _observed(model, x, state, lengths, calls, time=int(batch_first))
        value = None if loss is None else _scalar(loss(output))
        layers = calls.traced(value)
    return Trace(
        model=described(model),
        layers=layers,
        inputs=read_only(inputs),
        output=read_only(on_host(output)) if isinstance(output, Tensor) else None,
        loss=None if value is None else float(value.item()),
        lengths=None if numbers is None else read_only(numbers),
        batch_first=batch_first,
    )


def _observed(model: Module, x: Tensor, state: Any, lengths: Any, calls: Calls, time: int) -> Any:
    """Runs the model while `calls` takes notes.

    Args:
        time: the dimension of x that is time.

    Returns:
        The model's output, or the first of its outputs.

    Raises:
        ValueError: nothing recurrent has run.
    """
    x = _leading_back(x)
    with Switch(tracer=calls):
        if _is_cell(model):
            given: Any = _unrolled(model, x, state, None if lengths is None else on_host(as_tensor(lengths)), calls)
        else:
            given = _called(model, x, state, lengths)
    if not calls or 0 in x.shape[time : time + 1]:
        raise ValueError(
            f"trace: nothing recurrent has run in this {type(model).__name__}, of an input of shape {x.shape}; "
            "expected at least one step of a cell, an LSTM, a GRU or an RNN"
        )
    return given[0] if isinstance(given, tuple | list) else given


def trace_memory(model: Module, x: Any, gradients: bool = False) -> int:
    """How many bytes the arrays (T, B, ·) of a trace will take at most, before it is made.

    Counted are the built-in cells and networks in the model, each run once over the steps of x, whose first two
    dimensions are taken for time and batch.

    Raises:
        TypeError: `model` is no Module.

    >>> import tinygrad_lstm as tg
    >>> from tinygrad_lstm.models import LSTM
    >>> tg.inspect.trace_memory(LSTM(3, 5), tg.ones(7, 2, 3))  # 7 · 2 · (3 inputs + 5 · (4 gates + 2 · 2 states)) · 4
    2408
    """
    if not isinstance(model, Module):
        raise TypeError(f"trace: expected a Module, got {type(model).__name__}")
    x = as_tensor(x)
    rows = math.prod(x.shape[:1] if _is_cell(model) and x.ndim == 2 else x.shape[:2])
    total = 0
    for module in model.modules():
        if isinstance(module, _Foreseeable):
            dtype = next(module.parameters()).dtype
            width = promoted_dtype([dtype, x.dtype]).itemsize
            for inputs, sizes in module.layer_sizes():
                computed = sum(sizes.values()) * (2 if gradients else 1)
                total += rows * width * (inputs + computed + sum(sizes[state] for state in module.STATES))
    return total


@runtime_checkable
class _Foreseeable(Protocol):
    """What built-in cells and networks say of themselves: the names of their states, and what they show at a step."""

    STATES: Sequence[str]

    def layer_sizes(self) -> Sequence[tuple[int, Mapping[str, int]]]:
        """Of each layer in each direction I, and how many numbers each gate and state has."""


def _check_memory(expected: int, allowed: int) -> None:
    _log.info("a trace will take %.1f MB", expected / 1e6)
    if expected > allowed:
        raise MemoryError(
            f"trace: it would take {expected:,} bytes, and max_bytes is {allowed:,}; give fewer steps or sequences, or "
            "a larger max_bytes"
        )


def _is_cell(model: Module) -> bool:
    """Whether the model has a method `gates`, as cells have; an attribute may be anything."""
    return callable(getattr(type(model), "gates", None))


def _leading_back(x: Tensor) -> Tensor:
    """A copy of x; gradients are followed back to it, if it can have one: weights may be no parameters."""
    leaf = x.detach()
    leaf.requires_grad = is_float(x.dtype)
    return leaf.clone()


def _called(model: Module, x: Tensor, state: Any, lengths: Any) -> Any:
    arguments = (x,) if state is None else (x, state)
    named = {} if lengths is None else {"lengths": lengths}
    takes = signature(model.forward)
    try:
        takes.bind(*arguments, **named)
    except TypeError as error:
        given = " and ".join(["x", *["a state"] * (state is not None), *named])
        raise ValueError(
            f"trace: {type(model).__name__}.forward({', '.join(takes.parameters)}) cannot be given {given}: {error}"
        ) from error
    return model(*arguments, **named)


def _unrolled(cell: Module, x: Tensor, state: Any, lengths: HostArray | None, calls: Calls) -> Tensor:
    """The outputs of a cell for each step of x, (T, B, H)."""
    if x.ndim not in (2, 3) or not len(x):
        raise ValueError(
            f"trace: {type(cell).__name__} expects an input of shape (time, batch, size), at least one step, or "
            f"(batch, size), got {x.shape}"
        )
    x = x if x.ndim == 3 else x.unsqueeze(0)
    masks: Sequence[Tensor | None] = [None] * len(x)
    if lengths is not None:
        lengths = checked_lengths("trace", lengths, *x.shape[:2])
        is_going = going(lengths, len(x), x.device)
        x = ops.where(is_going, x, 0.0)  # whatever stands past a length must not count, not even a NaN times zero
        masks = ops.unbind(is_going, 0)
    outputs = []
    for t, (step, mask) in enumerate(zip(ops.unbind(x, 0), masks)):
        calls.going = None if lengths is None else t < lengths
        stepped = cell(step) if state is None else cell(step, state)
        h = stepped[0] if isinstance(stepped, tuple) else stepped
        outputs.append(h if mask is None else ops.where(mask, h, 0.0))
        state = stepped if mask is None else _kept(mask, stepped, state)
    return ops.stack(outputs)


def _kept(mask: Tensor, new: Any, old: Any) -> Any:
    """The new states of the sequences that are going; the others keep theirs."""
    if isinstance(new, tuple):
        return tuple(_kept(mask, part, None if old is None else old[k]) for k, part in enumerate(new))
    return ops.where(mask, new, 0.0 if old is None else old)


_tracing = Scoped("tracing", False)
_thawing = threading.Lock()
_traces: Counter[int] = Counter()  # how many are under way, in any thread, of a parameter, by its id


@contextmanager
def _thawed(model: Module) -> Iterator[None]:
    """Within it, frozen parameters require gradients too, so that these are followed through what is made of them.

    They do in this thread alone: elsewhere the model is used, and perhaps trained, as it is.
    """
    parameters = [parameter for parameter in model.parameters() if is_float(parameter.dtype)]
    with _thawing:
        for parameter in parameters:
            _traces[id(parameter)] += 1
            if _traces[id(parameter)] == 1:
                parameter.__class__ = _followed(type(parameter))
    try:
        with _tracing.set_to(True):
            yield
    finally:
        with _thawing:
            for parameter in parameters:
                _traces[id(parameter)] -= 1
                if not _traces[id(parameter)]:
                    del _traces[id(parameter)]
                    (parameter.__class__,) = type(parameter).__bases__


_followed_kinds: dict[Any, type[Parameter]] = {}


def _followed(kind: type[Parameter]) -> type[Parameter]:
    """That class of parameters, but of such as require a gradient wherever a trace is under way."""
    if kind in _followed_kinds:
        return _followed_kinds[kind]
    own = Tensor.__dict__["_node"]

    def followed_node(parameter: Parameter) -> Any:
        node = own.__get__(parameter)
        return parameter._own_leaf() if node is None and _tracing.value else node

    attributes = {"__slots__": (), "__module__": kind.__module__, "_node": property(followed_node, own.__set__)}
    _followed_kinds[kind] = type(kind.__name__, (kind,), attributes)
    return _followed_kinds[kind]


def _scalar(value: Any) -> Tensor:
    if not isinstance(value, Tensor) or value.size != 1 or not is_float(value.dtype):
        given = f"{value.dtype} {value.shape}" if isinstance(value, Tensor) else f"a {type(value).__name__}"
        raise ValueError(f"trace: the loss gave {given}; expected a scalar tensor, as .sum() or .mean() gives")
    return value
