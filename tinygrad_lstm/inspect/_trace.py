"""`trace`: runs a model once and returns every gate and state of its recurrent parts, and the gradients of a loss."""

import logging
import math
import threading
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from inspect import signature
from typing import Any, Protocol, runtime_checkable

from tinygrad_lstm.backends.dtypes import is_float, promoted_dtype
from tinygrad_lstm.backends.scoped import Scoped

from .._scan import over_sequence
from .._tensor import Tensor, as_tensor
from ..mode import Switch
from ..nn import Module, MultiheadAttention, Parameter
from ..nn.module import described
from ..ops.recurrent import checked_lengths
from .arguments import Arguments, named_outputs
from .calls import Calls, on_host, read_only
from .layers import Trace

__all__ = ["trace", "trace_memory"]

_log = logging.getLogger(__name__)


def trace(
    model: Module,
    *inputs: Any,
    loss: Callable[[Any], Tensor] | None = None,
    max_bytes: int = 4 * 2**30,
    **named: Any,
) -> Trace:
    """Runs a model, and returns what its recurrent parts computed: every gate and state at every step.

    The model runs as it does without a trace, in its current mode (call `eval()` first to switch dropout off). Outputs,
    states and the loss are the same to the bit. The gates are computed from the states, for all steps at once, so they
    may be rounded differently. The cost is two forward passes and, with a loss, three backward passes. No `.grad`
    changes. Several calls of one layer or cell are concatenated over time.

    A cell in `Recurrent`, or a function in `scan`, that does not call `show_step` is shown by the names of its states
    and of its variables: the tensors of floats with a row for each sequence.

    Gradients are those that `tg.grad` returns, also where parameters are frozen. They are 0 for values that the loss
    does not depend on, that were detached, or that were computed under `no_grad`.

    Args:
        model: a cell, an LSTM, a GRU, an RNN, a Recurrent, a CharLM, a model from a file, or a user-defined module that
            contains any of these. A cell, a module with a method `gates`, runs over the time steps of x (T, B, I).
        inputs, named: the model's arguments by position and by name, of which None is left out: arrays, tensors, and
            what else the model takes, as in `trace(model, x, h0, c0)` or `trace(model, ids=ids, lengths=lengths)`. A
            cell takes x, state and lengths. `state=` is the second argument of a model without a parameter of this
            name.
        loss: a function of the model's output that returns a scalar; with it, the trace has gradients. It is given all
            outputs if these have names, as those in a named tuple or a dict; or else the first (the `out` of an LSTM,
            the logits of a CharLM).
        max_bytes: the largest size of the trace; `trace_memory` returns its size beforehand, and it is logged.

    Returns:
        A `Trace` of NumPy arrays in the model's dtype, on whichever device the model runs.

    Raises:
        ValueError: no recurrent layer or cell has run; the loss is not a scalar, or does not depend on what has run;
            the model does not take these arguments; a layer was called with batches of different sizes.
        TypeError: `model` is not a Module, or `loss` is not callable.
        RuntimeError: the model changed an output of a cell or layer, or an operand of a layer, in place.
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
    _check_module(model)
    run = partial(_unrolled, model) if _is_cell(model) else model
    given = Arguments.of(model, signature(run if _is_cell(model) else model.forward), inputs, named)
    _check_memory(trace_memory(model, given.first, gradients=loss is not None), max_bytes)
    arrays, lengths = given.arrays(), given.by_name.get("lengths")
    networks = [module for module in model.modules() if not isinstance(module, MultiheadAttention)]
    batch_first = any(getattr(module, "batch_first", False) is True for module in networks)
    calls = Calls(model, gradients=loss is not None)
    # A checkpoint around this call would make the layers save nothing.
    with Switch(recording=True, tracer=None), _thawed(model):
        outputs = _observed(model, run, given.copied(), calls, time=int(batch_first))
        first = outputs[0] if isinstance(outputs, tuple | list) else outputs
        value = None if loss is None else _scalar(loss(outputs if hasattr(outputs, "_fields") else first))
        layers = calls.traced(value)
    return Trace(
        model=described(model),
        layers=layers,
        inputs=arrays[given.names[0]],
        output=read_only(on_host(first)) if isinstance(first, Tensor) else None,
        loss=None if value is None else float(value.item()),
        lengths=None if lengths is None else read_only(on_host(as_tensor(lengths))),
        batch_first=batch_first,
        all_inputs=arrays,
        all_outputs=named_outputs(outputs),
    )


def _observed(model: Module, run: Callable[..., Any], given: Arguments, calls: Calls, time: int) -> Any:
    """Runs the model while `calls` records it.

    Args:
        time: the dimension of the first argument that is time.

    Returns:
        The model's outputs.

    Raises:
        ValueError: no recurrent layer or cell has run.
    """
    with Switch(tracer=calls):
        outputs = run(*given.positional, **given.named)
    x = given.first
    if not calls or 0 in x.shape[time : time + 1]:
        raise ValueError(
            f"trace: no recurrent layer or cell of the model has run, for an input of shape {x.shape}; "
            "expected at least one step of a cell, an LSTM, a GRU or an RNN"
        )
    return outputs


def trace_memory(model: Module, x: Any, gradients: bool = False) -> int:
    """The largest number of bytes that the arrays (T, B, ·) of a trace can take, without making it.

    It counts the built-in cells and networks in the model, each run once over the steps of x. The first two dimensions
    of x (T, B, ...), or of ids (T, B), are taken for time and batch.

    Raises:
        TypeError: `model` is not a Module.

    >>> import tinygrad_lstm as tg
    >>> from tinygrad_lstm.models import LSTM
    >>> tg.inspect.trace_memory(LSTM(3, 5), tg.ones(7, 2, 3))  # 7 · 2 · (3 inputs + 5 · (4 gates + 2 · 2 states)) · 4
    2408
    """
    _check_module(model)
    x = as_tensor(x)
    has_batch = x.ndim > 2 or (not _is_cell(model) and not is_float(x.dtype))
    rows = math.prod(x.shape[: 1 + has_batch])
    total = 0
    for module in model.modules():
        if isinstance(module, _HasSizes):
            dtype = next(module.parameters()).dtype
            width = promoted_dtype([dtype, x.dtype]).itemsize
            for inputs, sizes in module.layer_sizes():
                computed = sum(sizes.values()) * (2 if gradients else 1)
                total += rows * width * (inputs + computed + sum(sizes[state] for state in module.STATES))
    return total


def _check_module(model: Any) -> None:
    if not isinstance(model, Module):
        raise TypeError(f"trace: expected a Module, got {type(model).__name__}")


@runtime_checkable
class _HasSizes(Protocol):
    """What built-in cells and networks have: the names of their states, and the sizes of what they show at a step."""

    STATES: Sequence[str]

    def layer_sizes(self) -> Sequence[tuple[int, Mapping[str, int]]]:
        """For each layer and direction, its input size and the size of each gate and state."""


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


def _unrolled(cell: Module, x: Tensor, state: Any = None, lengths: Any = None) -> tuple[Tensor, Any]:
    """The outputs of a cell for each step of x, (T, B, H), and its final state."""
    if x.ndim not in (2, 3) or not len(x):
        raise ValueError(
            f"trace: {type(cell).__name__} expects an input of shape (time, batch, size), at least one step, or "
            f"(batch, size), got {x.shape}"
        )
    x = x if x.ndim == 3 else x.unsqueeze(0)
    numbers = None if lengths is None else checked_lengths("trace", on_host(as_tensor(lengths)), *x.shape[:2])
    return over_sequence("trace", cell, x, state, numbers, None, reverse=False)


_tracing = Scoped("tracing", False)
_thawing = threading.Lock()
_traces: Counter[int] = Counter()  # by a parameter's id, how many traces of it are running, in any thread


@contextmanager
def _thawed(model: Module) -> Iterator[None]:
    """Within it, frozen parameters require gradients too, so that what is computed from them is recorded.

    This holds only in this thread: other threads may use or train the model.
    """
    parameters = [parameter for parameter in model.parameters() if is_float(parameter.dtype)]
    with _thawing:
        for parameter in parameters:
            _traces[id(parameter)] += 1
            if _traces[id(parameter)] == 1:
                parameter.__class__ = _traceable(type(parameter))
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


_traceable_kinds: dict[Any, type[Parameter]] = {}


def _traceable(kind: type[Parameter]) -> type[Parameter]:
    """A subclass of `kind` whose parameters require a gradient in a thread that makes a trace."""
    if kind in _traceable_kinds:
        return _traceable_kinds[kind]
    original = Tensor.__dict__["_node"]

    def traceable_node(parameter: Parameter) -> Any:
        node = original.__get__(parameter)
        return parameter._own_leaf() if node is None and _tracing.value else node

    attributes = {"__slots__": (), "__module__": kind.__module__, "_node": property(traceable_node, original.__set__)}
    _traceable_kinds[kind] = type(kind.__name__, (kind,), attributes)
    return _traceable_kinds[kind]


def _scalar(value: Any) -> Tensor:
    if not isinstance(value, Tensor) or value.size != 1 or not is_float(value.dtype):
        given = f"{value.dtype} {value.shape}" if isinstance(value, Tensor) else f"a {type(value).__name__}"
        raise ValueError(f"trace: the loss returned {given}; expected a scalar tensor, as .sum() or .mean() returns")
    return value
