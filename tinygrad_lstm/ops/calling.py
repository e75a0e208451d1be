"""The function that applies an op: `Op.run`, and the short cuts past what it must look at besides."""

from collections.abc import Callable
from typing import Any

from tinygrad_lstm.backends.dtypes import FLOAT32, FLOAT64

from .._tensor import Tensor
from ..graph import Node
from ..mode import mode
from .operation import NUMBERS, Op

_NOTHING = (None,)


def caller(op: Op) -> Callable[..., Any]:
    """The function that applies an op.

    Float tensors, or a float tensor and a number, are most of what ops of one or two inputs get: for these the function
    takes a short cut past what `Op.run` must look at besides.
    """
    simple = op.only_inputs and op.view is False and op.trusted
    if simple and op.arity == 1:
        return _unary(op)
    if simple and op.arity == 2:
        return _binary(op)
    return lambda *args, **kwargs: op.run(args, kwargs)


def _unary(op: Op) -> Callable[..., Any]:
    forward, wants_backend, has_rules = op.forward, op.wants_backend, bool(op.rules)

    def call(*args: Any, **kwargs: Any) -> Any:
        if kwargs or len(args) != 1 or not isinstance(x := args[0], Tensor):
            return op.run(args, kwargs)
        now = mode().value
        if now.watched:
            return op.run(args, kwargs)
        array, device = x._array, x.device
        dtype = array.dtype
        if (dtype is not FLOAT32 and dtype is not FLOAT64) or device.switch is not None:
            return op.run(args, kwargs)
        if x._viewed_at is not None:
            x._check_current(op.name)
        try:
            out = forward(device.backend if wants_backend else device.xp, array)
        except MemoryError as error:
            raise device.out_of_memory(op.name, error)  # noqa: B904 (it has its cause)
        except Exception as error:
            op.explain(error, args)
            raise
        if out.__class__ is not device.array_type:
            out = device.backend.as_array(out)
        if not (has_rules and x._requires_grad and now.recording):
            return Tensor._wrap(out, device)
        plan = op.plan(1, 1)
        node = Node(
            op,
            (x._node or x._graph_node(),),
            device,
            out,
            plan,
            args if plan.kept else _NOTHING,
            out if plan.keeps_out else None,
            (array.shape,) if plan.keeps_shapes else None,
        )
        return Tensor._wrap(out, device, node)

    return call


def _binary(op: Op) -> Callable[..., Any]:
    forward, wants_backend, has_rules, broadcasts = op.forward, op.wants_backend, bool(op.rules), op.broadcasts

    def call(*args: Any, **kwargs: Any) -> Any:
        now = mode().value
        if kwargs or len(args) != 2 or now.watched:
            return op.run(args, kwargs)
        x, y = args
        wanting = 0
        device = None
        if isinstance(x, Tensor):
            device, a = x.device, x._array
            dtype = a.dtype
            if x._requires_grad:
                wanting = 2
            if x._viewed_at is not None:
                x._check_current(op.name)
        elif type(x) in NUMBERS:
            a = x
        else:
            return op.run(args, kwargs)
        if isinstance(y, Tensor):
            b = y._array
            if device is None:
                device, dtype = y.device, b.dtype
            elif y.device is not device or b.dtype is not dtype:
                return op.run(args, kwargs)
            if y._requires_grad:
                wanting += 1
            if y._viewed_at is not None:
                y._check_current(op.name)
        elif type(y) in NUMBERS:
            b = y
        else:
            return op.run(args, kwargs)
        if device is None or (dtype is not FLOAT32 and dtype is not FLOAT64) or device.switch is not None:
            return op.run(args, kwargs)
        try:
            out = forward(device.backend if wants_backend else device.xp, a, b)
        except MemoryError as error:
            raise device.out_of_memory(op.name, error)  # noqa: B904 (it has its cause)
        except Exception as error:
            op.explain(error, args)
            raise
        if out.__class__ is not device.array_type:
            out = device.backend.as_array(out)
        if not (wanting and has_rules and now.recording):
            return Tensor._wrap(out, device)
        plan = op.plan(wanting, 2)
        shapes = None
        if broadcasts or plan.keeps_shapes:
            shape, first, second = out.shape, getattr(a, "shape", ()), getattr(b, "shape", ())
            if plan.keeps_shapes or first != shape or second != shape:
                shapes = (first, second)
        saved = args if not plan.dropped else (x if 0 in plan.kept else None, y if 1 in plan.kept else None)
        parents = (
            (x._node or x._graph_node()) if wanting & 2 else None,
            (y._node or y._graph_node()) if wanting & 1 else None,
        )
        node = Node(op, parents, device, out, plan, saved, out if plan.keeps_out else None, shapes)
        return Tensor._wrap(out, device, node)

    return call
