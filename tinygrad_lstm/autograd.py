"""Gradients: `backward` and `grad`."""

from collections.abc import Callable, Iterable, Sequence
from typing import Any, TypeVar

from .graph import GraphNode, set_gradient
from .mode import mode
from .walk import walk

__all__ = ["grad"]


class Differentiable:
    """The part of a Tensor from which gradients are followed back."""

    __slots__ = ()

    def backward(
        self,
        grad: Any = None,
        retain_graph: bool | None = None,
        create_graph: bool = False,
        inputs: Any = None,
        gradient: Any = None,
    ) -> None:
        """Adds to `.grad` of every leaf that this tensor was made from the gradient of this tensor.

        Args:
            grad: the gradient of some scalar with respect to this tensor, of its shape; 1 for a one-element tensor.
            retain_graph: keep what the graph kept, so that it can be walked again; by default as `create_graph`.
            create_graph: record the walk itself, so that the gradients can be differentiated in turn.
            inputs: add only to these tensors.
            gradient: torch's name for `grad`.

        Raises:
            RuntimeError: this requires no gradient; it is not a scalar and `grad` is missing; the graph was freed by
                an earlier backward; a value that a derivative needs was changed in place.
            TypeError: `grad` and `gradient` are both given.
            ValueError: `grad` has not this tensor's shape.
        """
        if grad is not None and gradient is not None:
            raise TypeError("backward: gradient= is another name for grad=; give one")
        grad = gradient if grad is None else grad
        backward([self], None if grad is None else [grad], retain_graph, create_graph, inputs)


T = TypeVar("T", bound=Differentiable)


def backward(
    outputs: Sequence[Any],
    grads: Sequence[Any] | None = None,
    retain_graph: bool | None = None,
    create_graph: bool = False,
    inputs: Any = None,
    on_leaf: Callable[[Any, Any], None] | None = None,
) -> None:
    """Adds the gradient of the outputs to `.grad` of every leaf, or of `inputs` only; see `Tensor.backward`.

    Args:
        on_leaf: called with each leaf's node and the array of its gradient, as soon as the last part of it has come.
            `.grad` is set later, when all gradients are known.
    """
    wanted = None if inputs is None else _as_list(inputs)
    found = _walked("backward", outputs, wanted, grads, retain_graph, create_graph, on_leaf)
    if wanted is None:
        receivers = [(node.tensor(), g) for node, g in found.items()]  # type: ignore[attr-defined]  # all are leaves
    else:
        receivers = [(tensor, found[tensor._node]) for tensor in wanted if tensor._node in found]
    sums = []
    for tensor, g in receivers:
        if tensor is not None and tensor._node is not None:
            total = _checked(g, tensor, create_graph, "backward")
            sums.append((tensor, total if tensor.grad is None else tensor.grad + total))
    for tensor, total in sums:  # no `.grad` changes unless all can
        set_gradient(tensor, total)


def grad(
    outputs: T | Iterable[T],
    inputs: T | Iterable[T],
    grad_outputs: Any = None,
    retain_graph: bool | None = None,
    create_graph: bool = False,
    allow_unused: bool = False,
) -> tuple[T, ...]:
    """The gradients of (the sum of) the outputs with respect to the inputs; no `.grad` is touched.

    Args:
        outputs: one tensor or several, from which the walk starts.
        inputs: one tensor or several, leaves or not.
        grad_outputs: for each output the gradient of some scalar, of its shape; 1 for one-element outputs.
        retain_graph: keep what the graph kept, so that it can be walked again; by default as `create_graph`.
        create_graph: record the walk itself, so that the gradients can be differentiated in turn.
        allow_unused: give None for an input from which no output was made, instead of raising.

    Returns:
        A tuple with a gradient for each input.

    Raises:
        RuntimeError: an output or input requires no gradient; an output is not a scalar and has no `grad_outputs`; an
            input was not used; the graph was freed; a value that a derivative needs was changed in place.

    >>> import tinygrad_lstm as tg
    >>> x = tg.tensor(3.0, requires_grad=True)
    >>> (first,) = tg.grad(x**3, x, create_graph=True)
    >>> (second,) = tg.grad(first, x)
    >>> first.item(), second.item()
    (27.0, 18.0)
    """
    wanted, given = _as_list(inputs), _as_list(outputs)
    grads = grad_outputs
    if grads is not None and not isinstance(grads, list | tuple):
        grads = [grads]
    found = _walked("grad", given, wanted, grads, retain_graph, create_graph)
    results: list[Any] = []
    for k, tensor in enumerate(wanted):
        g = found.get(tensor._graph_node())
        if g is None and not allow_unused:
            raise RuntimeError(
                f"grad: input {k} (shape {tensor.shape}) was not used to make the outputs; "
                "pass allow_unused=True to get None for it"
            )
        results.append(None if g is None else _checked(g, tensor, create_graph, "grad"))
    return tuple(results)


def _as_list(tensors: Any) -> list[Any]:
    return [tensors] if hasattr(tensors, "_graph_node") else list(tensors)


def _checked(g: Any, tensor: Any, is_tensor: bool, asked: str) -> Any:
    """The gradient as a tensor, if it can be that of `tensor`: rules of ops defined elsewhere may be wrong."""
    array = tensor._array
    if g.shape != array.shape or g.dtype != array.dtype:
        raise RuntimeError(
            f"{asked}: a {array.dtype} tensor of shape {array.shape} would get a {g.dtype} gradient of shape "
            f"{g.shape}; correct the derivative rule of an op on the way"
        )
    return g if is_tensor else tensor._wrap(g, tensor.device)


def _walked(
    asked: str,
    outputs: Sequence[Any],
    inputs: Sequence[Any] | None,
    grads: Sequence[Any] | None,
    retain_graph: bool | None,
    create_graph: bool,
    on_leaf: Callable[[Any, Any], None] | None = None,
) -> dict[GraphNode, Any]:
    """The gradients of the inputs, or of all leaves, by their nodes."""
    tracer = mode().value.tracer
    if tracer is not None:
        tracer.see_backward(create_graph)
    for k, tensor in enumerate(inputs or ()):
        if tensor._node is None:
            raise RuntimeError(f"{asked}: input {k} (shape {tensor.shape}) does not require a gradient")
    if grads is not None and len(grads) != len(outputs):
        raise ValueError(f"{asked}: {len(outputs)} outputs, but {len(grads)} gradients for them; give one for each")
    roots = []
    for k, output in enumerate(outputs):
        node, array = output._node, output._array
        if node is None:
            raise RuntimeError(
                f"{asked}: output {k} (shape {array.shape}) requires no gradient: it was made from nothing that does, "
                "or under no_grad"
            )
        if output._viewed_at is not None:
            output._check_current(asked)
        given = None if grads is None else grads[k]
        if given is None:
            if array.size != 1:
                raise RuntimeError(
                    f"{asked}: output {k} has shape {array.shape}; only a one-element output needs no gradient given"
                )
            with output.device.current():
                given = output._wrap(output.device.xp.ones(array.shape, array.dtype), output.device)
        else:
            given = output._matching(given)
            if given._array.shape != array.shape:
                raise ValueError(f"{asked}: output {k} has shape {array.shape}, its gradient {given.shape}")
        roots.append((node, given if create_graph else given._array))
    targets = None if inputs is None else {tensor._node for tensor in inputs}
    return walk(roots, targets, create_graph if retain_graph is None else retain_graph, create_graph, on_leaf)
