"""The derivative of a fused op: by its backend's kernel, or by the composed function of other ops that it equals."""

from collections.abc import Sequence
from typing import Any

from ..accumulate import tell_op
from ..autograd import grad
from ..graph import Node, Parents
from ..mode import enable_grad
from .rules import ON_TENSORS, asked_by, check_input, check_output, fitted_list, function_of, whole

__all__ = ["ComposedDerivative"]


class ComposedDerivative:
    """The derivative of an op of a list of tensors that has a composed twin; see `graph.Derivative`."""

    keep = -1  # the kernels may read all inputs
    keeps = keeps_out = keeps_shapes = True

    def __init__(self, op: Any) -> None:
        self.op = op
        self.fresh = op.fresh
        (self._list,) = op.inputs
        self._place = op.names.index(self._list)
        self._rule = function_of(op.rules[self._list])
        self._asked = asked_by(self._rule)

    def only_for(self, parents: Parents) -> "ComposedDerivative":
        """Itself: the rule is told which gradients are needed."""
        return self

    def pull(self, node: Node, g: Any, parents: Parents) -> Sequence[Any]:
        """The gradient for each parent, by the rule on arrays."""
        values = dict(zip(self.op.names, self._arguments(node)))
        values[self._list] = [getattr(x, "_array", x) for x in values[self._list]]
        values |= {
            "g": whole(node, g, on_tensors=False) if isinstance(g, dict) else g,
            "saved": node.out,
            "backend": node.device.backend,
            "needs_grad": [parent is not None for parent in parents],
        }
        try:
            gradients = self._rule(**{name: values[name] for name in self._asked})
        except Exception as error:
            tell_op(error, node)
            raise
        return fitted_list(node, gradients, parents, on_tensors=False)

    def pull_recorded(self, node: Node, g: Any, parents: Parents) -> Sequence[Any]:
        """The gradient for each parent, as part of a graph: those of the composed function at the same inputs."""
        arguments = list(self._arguments(node))
        # A view of each input gets only the gradient of this use of it, even if the same tensor is used elsewhere.
        inputs = [
            x if parent is None else x.reshape(x.shape)
            for x, parent in zip(arguments[self._place], parents, strict=True)
        ]
        arguments[self._place] = inputs
        with enable_grad():
            outputs = self.op.composed(*arguments)
        if isinstance(outputs, tuple):
            parts = whole(node, g, on_tensors=True)
        else:
            outputs, parts = (outputs,), (g,)
        pairs = [(out, part) for out, part in zip(outputs, parts, strict=True) if out.requires_grad]
        needed = [x for x, parent in zip(inputs, parents) if parent is not None]
        found = iter(
            grad([out for out, _ in pairs], needed, [part for _, part in pairs], create_graph=True, allow_unused=True)
        )
        gradients = [None if parent is None else next(found) for parent in parents]
        return [
            ON_TENSORS.zeros_like(x) if gradient is None and parent is not None else gradient
            for x, parent, gradient in zip(inputs, parents, gradients)
        ]

    def _arguments(self, node: Node) -> Sequence[Any]:
        check_output(node)
        arguments: Sequence[Any] = node.saved
        for x in arguments[self._place]:
            if getattr(x, "_version", None) is not None:
                check_input(node, x)
        return arguments
