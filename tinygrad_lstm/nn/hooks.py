"""Hooks of modules: functions that are called around `forward` and on the way back, as PyTorch's are."""

import itertools
import warnings
from collections import OrderedDict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from .._tensor import HookHandle, Tensor
from ..graph import GraphNode, Node, Pick, watch
from ..mode import mode

if TYPE_CHECKING:
    from .module import Module

_numbers = itertools.count()


@dataclass(frozen=True)
class Hook:
    """A function to call, and how; see `Module.register_forward_hook`."""

    function: Callable[..., Any]
    with_kwargs: bool = False
    always_call: bool = False


class Hooks:
    """The hooks of one module, each kind in the order in which they are called."""

    def __init__(self) -> None:
        self.forward_pre: OrderedDict[int, Hook] = OrderedDict()
        self.forward: OrderedDict[int, Hook] = OrderedDict()
        self.backward_pre: OrderedDict[int, Hook] = OrderedDict()
        self.backward: OrderedDict[int, Hook] = OrderedDict()

    def call(self, module: "Module", args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """What the module gives, with its hooks called."""
        output, called = None, set()
        try:
            for hook in list(self.forward_pre.values()):
                args, kwargs = _arguments_before(hook, module, args, kwargs)
            way_back = None
            if self.backward_pre or self.backward:
                way_back = _WayBack(module, [*self.backward_pre.values()], [*self.backward.values()])
                args = way_back.through_inputs(args)
            output = module.forward(*args, **kwargs)
            for number, hook in list(self.forward.items()):
                called.add(number)
                output = _output_after(hook, module, args, kwargs, output)
            return output if way_back is None else way_back.through_outputs(output)
        except Exception:
            for number, hook in list(self.forward.items()):
                if hook.always_call and number not in called:
                    try:
                        output = _output_after(hook, module, args, kwargs, output)
                    except Exception as error:  # the first error is the one to raise
                        warnings.warn(
                            f"a forward hook with always_call raised {error!r} after another error", stacklevel=3
                        )
            raise


def _arguments_before(
    hook: Hook, module: "Module", args: tuple[Any, ...], kwargs: dict[str, Any]
) -> tuple[tuple[Any, ...], dict[str, Any]]:
    if hook.with_kwargs:
        given = hook.function(module, args, kwargs)
        if given is None:
            return args, kwargs
        if not (isinstance(given, tuple) and len(given) == 2 and isinstance(given[1], dict)):
            raise TypeError(
                f"{type(module).__name__}: a forward pre-hook with_kwargs must return None or (args, kwargs), "
                f"got {type(given).__name__}"
            )
        return given[0] if isinstance(given[0], tuple) else (given[0],), given[1]
    given = hook.function(module, args)
    if given is None:
        return args, kwargs
    return given if isinstance(given, tuple) else (given,), kwargs


def _output_after(hook: Hook, module: "Module", args: tuple[Any, ...], kwargs: dict[str, Any], output: Any) -> Any:
    given = hook.function(module, args, *([kwargs] if hook.with_kwargs else []), output)
    return output if given is None else given


class _WayBack:
    """One call of a module with backward hooks: two nodes, behind its inputs and before its outputs, that call them."""

    def __init__(self, module: "Module", before: Sequence[Hook], after: Sequence[Hook]) -> None:
        self._module = module
        self._before = before
        self._after = after
        self._inputs: _Passage | None = None
        self._number_of_inputs = 0
        self._of_outputs: tuple[Tensor | None, ...] = ()

    def through_inputs(self, args: tuple[Any, ...]) -> tuple[Any, ...]:
        """The arguments, behind a node at which the hooks learn their gradients."""
        self._number_of_inputs = len(args)
        self._inputs = _Passage("hooked_inputs", self._inputs_reached)
        passed = self._inputs.passed(args)
        if passed is args:
            self._inputs = None
        return passed

    def through_outputs(self, output: Any) -> Any:
        """What the module gave, before a node at which the hooks learn its gradient."""
        parts = output if isinstance(output, tuple) else (output,)
        if not any(isinstance(part, Tensor) for part in parts):
            warnings.warn(
                f"{type(self._module).__name__}: backward hooks are not called, as the module gave "
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
            gradients = self._replaced(gradients, hook.function(self._module, gradients))
        if self._inputs is None:  # no input has a gradient, so the hooks are called now
            for hook in self._after:
                nothing = (None,) * self._number_of_inputs
                self._replaced(nothing, hook.function(self._module, nothing, gradients))
        else:
            self._of_outputs = gradients
        return gradients

    def _inputs_reached(self, gradients: tuple[Tensor | None, ...]) -> tuple[Tensor | None, ...]:
        of_outputs, self._of_outputs = self._of_outputs, ()
        for hook in self._after:
            gradients = self._replaced(gradients, hook.function(self._module, gradients, of_outputs))
        return gradients

    def _replaced(self, gradients: tuple[Tensor | None, ...], given: Any) -> tuple[Tensor | None, ...]:
        """The gradients that a hook gave in place of these."""
        if given is None:
            return gradients
        name = type(self._module).__name__
        parts = given if isinstance(given, tuple) else (given,)
        if len(parts) != len(gradients):
            raise RuntimeError(f"{name}: a backward hook returned {len(parts)} gradients, expected {len(gradients)}")
        return tuple(self._fitting(old, new) for old, new in zip(gradients, parts, strict=True))

    def _fitting(self, old: Tensor | None, new: Any) -> Tensor | None:
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


class _Passage:
    """The operation of a node that hands tensors on as they are, and their gradients to a function on the way back."""

    gives_own = False

    def __init__(self, name: str, reached: Callable[[tuple[Tensor | None, ...]], tuple[Tensor | None, ...]]) -> None:
        self.name = name
        self._reached = reached
        self._places: list[int] = []
        self._number = 0

    def passed(self, values: tuple[Any, ...]) -> tuple[Any, ...]:
        """The values, with the tensors among them that have a gradient behind a node; itself if none has."""
        now = mode().value
        self._number = len(values)
        self._places = [k for k, value in enumerate(values) if isinstance(value, Tensor) and value.requires_grad]
        if not self._places or not now.recording:
            return values
        tensors = [values[k] for k in self._places]
        node = Node(self, [x._graph_node() for x in tensors], tensors[0].device, tuple(x._array for x in tensors))
        if now.watched:
            watch(node)
        passed = list(values)
        for index, (k, x) in enumerate(zip(self._places, tensors, strict=True)):
            pick = Pick(node, index)
            pick.device = x.device
            passed[k] = Tensor._wrap(x._array, x.device, pick)
            x._share_version(passed[k])
            if now.watched:
                watch(pick)
        return tuple(passed)

    def pull(
        self, node: Any, g: Any, needed: set[GraphNode] | None, create_graph: bool
    ) -> Iterator[tuple[GraphNode, Any]]:
        """Each tensor's node with its gradient, once the hooks know all of them."""
        gradients: list[Tensor | None] = [None] * self._number
        for index, (k, parent) in enumerate(zip(self._places, node.parents, strict=True)):
            if index in g:
                with parent.device.current():
                    gradients[k] = g[index] if create_graph else Tensor._wrap(g[index].copy(), parent.device)
        reached = self._reached(tuple(gradients))
        for k, parent in zip(self._places, node.parents, strict=True):
            gradient = reached[k]
            if gradient is not None and (needed is None or parent in needed):
                yield parent, gradient if create_graph else gradient._array


class _ModuleHook(HookHandle):
    """The handle of a module's hook, without any of which the module is as it was before the first."""

    __slots__ = ("_module",)

    def __init__(self, hooks: OrderedDict[int, Hook], number: int, module: "HasHooks") -> None:
        super().__init__(hooks, number)
        self._module = module

    def remove(self) -> None:
        """Takes the hook away; does nothing the second time."""
        super().remove()
        self._module._forget_empty_hooks()


class HasHooks:
    """The part of `Module` that registers hooks, by PyTorch's names and in its order.

    A call runs the forward pre-hooks, `forward`, and the forward hooks, each kind in the order of registration. The
    backward hooks run when gradients come by. What calls `forward` itself, or computes without it as streams do, runs
    none. A module that is copied copies its hooks.
    """

    _hooks: Hooks | None = None

    def register_forward_pre_hook(
        self, hook: Callable[..., Any], *, prepend: bool = False, with_kwargs: bool = False
    ) -> HookHandle:
        """Calls `hook(module, args)` before `forward`; what it returns, unless None, takes the arguments' place.

        Args:
            hook: gives None, the arguments in a tuple, or a lone argument.
            prepend: call it before the hooks that are there.
            with_kwargs: call `hook(module, args, kwargs)`, which gives None or `(args, kwargs)`.

        Returns:
            A handle whose `remove()` undoes this, as does leaving a `with` block over it.

        >>> import tinygrad_lstm as tg
        >>> layer = tg.nn.Linear(3, 2)
        >>> with layer.register_forward_pre_hook(lambda module, args: args[0] * 0):
        ...     zero = layer(tg.ones(1, 3))
        >>> (zero == layer.bias).all().item()
        True
        """
        return self._add_hook("forward_pre", Hook(hook, with_kwargs), prepend)

    def register_forward_hook(
        self, hook: Callable[..., Any], *, prepend: bool = False, with_kwargs: bool = False, always_call: bool = False
    ) -> HookHandle:
        """Calls `hook(module, args, output)` after `forward`; what it returns, unless None, takes the output's place.

        Args:
            hook: gives None or an output.
            prepend: call it before the hooks that are there.
            with_kwargs: call `hook(module, args, kwargs, output)`.
            always_call: call it also if `forward` or a hook before it raises, with what output there is, or None.

        Returns:
            A handle, as of `register_forward_pre_hook`.

        >>> import tinygrad_lstm as tg
        >>> model, shapes = tg.nn.Sequential(tg.nn.Linear(3, 8), tg.tanh, tg.nn.Linear(8, 1)), []
        >>> for layer in model.children():
        ...     handle = layer.register_forward_hook(lambda module, args, output: shapes.append(output.shape))
        >>> y = model(tg.ones(5, 3))
        >>> shapes
        [(5, 8), (5, 8), (5, 1)]
        """
        return self._add_hook("forward", Hook(hook, with_kwargs, always_call), prepend)

    def register_full_backward_pre_hook(self, hook: Callable[..., Any], prepend: bool = False) -> HookHandle:
        """Calls `hook(module, grad_output)` once the gradient of the module's output is known.

        Args:
            hook: gets a tuple with a gradient for the output, or for each part of an output that is a tuple: None for
                what is no tensor, or has no gradient. It gives None, or what is to take the gradients' place.
            prepend: call it before the hooks that are there.

        Returns:
            A handle, as of `register_forward_pre_hook`.

        Raises:
            RuntimeError, TypeError, ValueError: (in `backward`) the hook returns something that does not fit.
        """
        return self._add_hook("backward_pre", Hook(hook), prepend)

    def register_full_backward_hook(self, hook: Callable[..., Any], prepend: bool = False) -> HookHandle:
        """Calls `hook(module, grad_input, grad_output)` once the gradients of the module's inputs are known.

        Args:
            hook: gets tuples with a gradient for each positional argument, and for the output as of
                `register_full_backward_pre_hook`. It gives None, or what is to take the place of `grad_input`. Where no
                argument requires a gradient, it is called as soon as `grad_output` is known.
            prepend: call it before the hooks that are there.

        Returns:
            A handle, as of `register_forward_pre_hook`.

        Raises:
            RuntimeError, TypeError, ValueError: (in `backward`) the hook returns something that does not fit.

        >>> import tinygrad_lstm as tg
        >>> layer, norms = tg.nn.Linear(3, 2), []
        >>> handle = layer.register_full_backward_hook(lambda module, inputs, outputs: norms.append(outputs[0].norm()))
        >>> layer(tg.ones(1, 3)).sum().backward()
        >>> round(norms[0].item(), 4)
        1.4142
        """
        return self._add_hook("backward", Hook(hook), prepend)

    def _add_hook(self, kind: str, hook: Hook, prepend: bool) -> HookHandle:
        if not callable(hook.function):
            raise TypeError(f"register hook: expected a function, got {type(hook.function).__name__}")
        if self._hooks is None:
            self._hooks = Hooks()
        hooks: OrderedDict[int, Hook] = getattr(self._hooks, kind)
        number = next(_numbers)
        hooks[number] = hook
        if prepend:
            hooks.move_to_end(number, last=False)
        return _ModuleHook(hooks, number, self)

    def _forget_empty_hooks(self) -> None:
        if self._hooks is not None and not any(vars(self._hooks).values()):
            del self._hooks
