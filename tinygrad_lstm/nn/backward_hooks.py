"""Calls a module's backward hooks, from two nodes of the graph: one for its inputs, one for its outputs."""

import warnings
from collections.abc import Callable, Sequence
from typing import Any

from .._tensor import Tensor
from ..graph import Derivative, Node, Parents, Pick, record, watch
from ..mode import mode, no_grad

__all__ = ["HookedCall"]

BackwardHook = Callable[..., Any]


class HookedCall:
    """One call of a module with backward hooks, which are called by a node for the inputs and one for the outputs."""

    def __init__(self, module: object, before: Sequence[BackwardHook], after: Sequence[BackwardHook]) -> None:
        self._module = module
        self._before = before
        self._after = after
        self._inputs: _Passage | None = None
        self._number_of_inputs = 0
        self._of_outputs: tuple[Tensor | None, ...] = ()

    def through_inputs(self, args: tuple[Any, ...]) -> tuple[Any, ...]:
        """The arguments, passed through a node whose backward gives the hooks their gradients."""
        self._number_of_inputs = len(args)
        self._inputs = _Passage("hooked_inputs", self._inputs_reached)
        passed = self._inputs.passed(args)
        if passed is args:
            self._inputs = None
        return passed

    def through_outputs(self, output: Any) -> Any:
        """The output, passed through a node whose backward gives the hooks its gradient."""
        parts = output if isinstance(output, tuple) else (output,)
        if not any(isinstance(part, Tensor) for part in parts):
            warnings.warn(
                f"{type(self._module).__name__}: backward hooks are not called, as the module returned "
                f"{type(output).__name__}; they need a Tensor, or a tuple with Tensors",
                stacklevel=4,
            )
            return output
        passed = _Passage("hooked_outputs", self._outputs_reached).passed(parts)
        if not isinstance(output, tuple):
            return passed[0]
        return type(output)(*passed) if hasattr(output, "_fields") else passed

    def _outputs_reached(self, gradients: tuple[Tensor | None, ...]) -> tuple[Tensor | None, ...]:
        for hook in self._before:
            gradients = self._replaced(gradients, hook(self._module, gradients))
        if self._inputs is None:  # no input has a gradient, so the hooks are called now
            for hook in self._after:
                nothing = (None,) * self._number_of_inputs
                self._replaced(nothing, hook(self._module, nothing, gradients))
        else:
            self._of_outputs = gradients
        return gradients

    def _inputs_reached(self, gradients: tuple[Tensor | None, ...]) -> tuple[Tensor | None, ...]:
        of_outputs, self._of_outputs = self._of_outputs, ()
        for hook in self._after:
            gradients = self._replaced(gradients, hook(self._module, gradients, of_outputs))
        return gradients

    def _replaced(self, gradients: tuple[Tensor | None, ...], given: Any) -> tuple[Tensor | None, ...]:
        """The gradients that a hook returned, or these if it returned None."""
        if given is None:
            return gradients
        name = type(self._module).__name__
        parts = given if isinstance(given, tuple) else (given,)
        if len(parts) != len(gradients):
            raise RuntimeError(f"{name}: a backward hook returned {len(parts)} gradients, expected {len(gradients)}")
        return tuple(self._checked(old, new) for old, new in zip(gradients, parts, strict=True))

    def _checked(self, old: Tensor | None, new: Any) -> Tensor | None:
        name = type(self._module).__name__
        if new is None:
            return None
        if old is None:
            raise RuntimeError(f"{name}: a backward hook returned a gradient where there is none; return None there")
        if not isinstance(new, Tensor):
            raise TypeError(f"{name}: a backward hook must return Tensors or None, got {type(new).__name__}")
        if new.shape != old.shape:
            raise ValueError(f"{name}: a backward hook returned a gradient of shape {new.shape}, expected {old.shape}")
        return old._matching(new)


class _Passage(Derivative):
    """A node's operation: the identity of tensors, whose gradients it passes to a function in the backward pass."""

    def __init__(self, name: str, reached: Callable[[tuple[Tensor | None, ...]], tuple[Tensor | None, ...]]) -> None:
        super().__init__(name)
        self._reached = reached
        self._places: list[int] = []
        self._number = 0

    def passed(self, values: tuple[Any, ...]) -> tuple[Any, ...]:
        """The values, in which tensors that require a gradient come from a new node; unchanged if there are none."""
        now = mode().value
        self._number = len(values)
        self._places = [k for k, value in enumerate(values) if isinstance(value, Tensor) and value.requires_grad]
        if not self._places or not now.recording:
            return values
        tensors = [values[k] for k in self._places]
        node = record(self, [x._graph_node() for x in tensors], tensors[0].device, tuple(x._array for x in tensors))
        if now.watched:
            watch(node)
        passed = list(values)
        for index, (k, x) in enumerate(zip(self._places, tensors, strict=True)):
            pick = Pick(node, index, x.device)
            passed[k] = Tensor._wrap(x._array, x.device, pick)
            x._share_version(passed[k])
            if now.watched:
                watch(pick)
        return tuple(passed)

    def pull(self, node: Node, g: Any, parents: Parents) -> list[Any]:
        """The gradient of each tensor, after the hooks have been called with all of them."""
        given: dict[int, Tensor] = {}
        for k, part in g.items():
            device = node.parents[k].device
            with device.current():
                given[k] = Tensor._wrap(part.copy(), device)
        with no_grad():
            reached = self._gradients(given)
        return [None if parent is None or x is None else x._array for parent, x in zip(parents, reached, strict=True)]

    def pull_recorded(self, node: Node, g: Any, parents: Parents) -> list[Any]:
        """The same, as part of a graph."""
        return [None if parent is None else x for parent, x in zip(parents, self._gradients(g), strict=True)]

    def _gradients(self, given: dict[int, Tensor]) -> list[Tensor | None]:
        """The gradients after the hooks, of the tensors that require one."""
        gradients: list[Tensor | None] = [None] * self._number
        for index, k in enumerate(self._places):
            gradients[k] = given.get(index)
        reached = self._reached(tuple(gradients))
        return [reached[k] for k in self._places]
