"""What applying an op means, step by step, without any short cut: the reference for the functions that are written."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import tinygrad_lstm as tg
from tinygrad_lstm.graph import GraphNode
from tinygrad_lstm.mode import mode
from tinygrad_lstm.ops.operation import Op
from tinygrad_lstm.ops.rules import ON_TENSORS, asked_by, function_of, on_arrays


@dataclass
class Applied:
    """An op that was applied.

    Attributes:
        out: the output, with no graph.
        requires_grad: whether an input requires a gradient, and the op has a rule for it.
        inputs: the tensors, numbers and None that the op computed with.
        parents: the node of each input for which there is a rule, else None.
        gradient: gives the gradient of one of the inputs, as `gradient(name, g, create_graph)`.
    """

    out: tg.Tensor
    requires_grad: bool
    inputs: list[Any]
    parents: list[GraphNode | None]
    gradient: Callable[[str, Any, bool], Any]


def apply_plainly(op: Op, *given: Any) -> Applied:
    """The op of these inputs, all of which are in their places."""
    for value in given:
        if isinstance(value, tg.Tensor):
            value._check_current(op.name)
    inputs = list(op.settled(given))
    device = next(value.device for value in inputs if isinstance(value, tg.Tensor))
    promoted = [value for name, value in zip(op.inputs, inputs, strict=True) if name in op.promoted]
    dtypes = [value.dtype for value in promoted if isinstance(value, tg.Tensor)]
    if dtypes and dtypes[0].kind != "f":
        assert op.take_beside(dtypes[0], promoted)
    arrays = [value.data if isinstance(value, tg.Tensor) else value for value in inputs]
    try:
        out = op.forward(op.context(device), *arrays)
    except Exception as error:
        op.explain(error, inputs, device)
        raise
    out = device.backend.as_array(out)
    parents = [
        value._node if isinstance(value, tg.Tensor) and name in op.rules else None
        for name, value in zip(op.inputs, inputs, strict=True)
    ]

    def gradient(name: str, g: Any, create_graph: bool) -> Any:
        F = ON_TENSORS if create_graph else on_arrays(device)
        wrap = tg.Tensor._wrap
        pool = {
            "g": g if create_graph else g.data,
            "F": F,
            "out": wrap(out, device) if create_graph else out,
            **dict(zip(op.names, inputs if create_graph else arrays, strict=True)),
            **{f"{name}_shape": getattr(x, "shape", ()) for name, x in zip(op.inputs, arrays, strict=True)},
        }
        rule = function_of(op.rules[name])
        made = rule(**{asked: pool[asked] for asked in asked_by(rule)})
        made = F.sum_to(made, pool[f"{name}_shape"])
        return made if create_graph else wrap(device.backend.as_array(made), device)

    recorded = any(parents) and mode().value.recording
    return Applied(tg.Tensor._wrap(out, device), recorded, inputs, parents, gradient)
