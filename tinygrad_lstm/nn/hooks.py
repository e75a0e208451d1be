"""Hooks of modules, as PyTorch's: functions that are called around `forward` and in the backward pass."""

import itertools
import warnings
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from .._tensor import HookHandle
from ..mode import mode
from .backward_hooks import HookedCall

_numbers = itertools.count()


@dataclass(frozen=True)
class Hook:
    """A hook's function and options; see `Module.register_forward_hook`."""

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

    def call(self, module: object, forward: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """Calls the module's `forward` and its hooks, and returns the output."""
        tracer = mode().value.tracer
        if tracer is not None:
            tracer.see_hooks(module)
        output, called = None, set()
        try:
            for hook in list(self.forward_pre.values()):
                args, kwargs = _arguments_before(hook, module, args, kwargs)
            hooked = None
            if self.backward_pre or self.backward:
                hooked = HookedCall(module, _functions(self.backward_pre), _functions(self.backward))
                args = hooked.through_inputs(args)
            output = forward(*args, **kwargs)
            for number, hook in list(self.forward.items()):
                called.add(number)
                output = _output_after(hook, module, args, kwargs, output)
            return output if hooked is None else hooked.through_outputs(output)
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


def _functions(hooks: OrderedDict[int, Hook]) -> list[Callable[..., Any]]:
    return [hook.function for hook in hooks.values()]


def _arguments_before(
    hook: Hook, module: object, args: tuple[Any, ...], kwargs: dict[str, Any]
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


def _output_after(hook: Hook, module: object, args: tuple[Any, ...], kwargs: dict[str, Any], output: Any) -> Any:
    given = hook.function(module, args, *([kwargs] if hook.with_kwargs else []), output)
    return output if given is None else given


class _ModuleHook(HookHandle):
    """The handle of a module's hook. After the last one is removed, the module has no trace of hooks."""

    __slots__ = ("_module",)

    def __init__(self, hooks: OrderedDict[int, Hook], number: int, module: "HasHooks") -> None:
        super().__init__(hooks, number)
        self._module = module

    def remove(self) -> None:
        """Removes the hook; a second call does nothing."""
        super().remove()
        self._module._forget_empty_hooks()


class HasHooks:
    """The part of `Module` that registers hooks, with PyTorch's names and in its order.

    A call runs the forward pre-hooks, `forward`, and the forward hooks, each kind in the order of registration. The
    backward hooks run in the backward pass. A direct call of `forward`, or code that does not call it, such as streams,
    runs no hooks. A copy of a module has copies of its hooks.
    """

    _hooks: Hooks | None = None

    def register_forward_pre_hook(
        self, hook: Callable[..., Any], *, prepend: bool = False, with_kwargs: bool = False
    ) -> HookHandle:
        """Calls `hook(module, args)` before `forward`. A result, unless None, replaces the arguments.

        Args:
            hook: returns None, a tuple of arguments, or a single argument.
            prepend: call it before the existing hooks.
            with_kwargs: call `hook(module, args, kwargs)`, which returns None or `(args, kwargs)`.

        Returns:
            A handle. Its `remove()`, or the end of a `with` block over it, removes the hook.

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
        """Calls `hook(module, args, output)` after `forward`. A result, unless None, replaces the output.

        Args:
            hook: returns None or an output.
            prepend: call it before the existing hooks.
            with_kwargs: call `hook(module, args, kwargs, output)`.
            always_call: call it also if `forward` or an earlier hook raises, with the output so far, or None.

        Returns:
            A handle, as `register_forward_pre_hook` does.

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
        """Calls `hook(module, grad_output)` when the gradient of the module's output is computed.

        Args:
            hook: is called with a tuple: the gradient of the output, or of each part of a tuple; None for a part that
                is not a tensor or has no gradient. It returns None, or gradients that replace these.
            prepend: call it before the existing hooks.

        Returns:
            A handle, as `register_forward_pre_hook` does.

        Raises:
            RuntimeError, TypeError, ValueError: (in `backward`) the hook returns an invalid number, type or shape.
        """
        return self._add_hook("backward_pre", Hook(hook), prepend)

    def register_full_backward_hook(self, hook: Callable[..., Any], prepend: bool = False) -> HookHandle:
        """Calls `hook(module, grad_input, grad_output)` when the gradients of the module's inputs are computed.

        Args:
            hook: is called with two tuples: the gradient of each positional argument, and those of the output as in
                `register_full_backward_pre_hook`. It returns None, or gradients that replace `grad_input`. If no
                argument requires a gradient, it is called when `grad_output` is computed.
            prepend: call it before the existing hooks.

        Returns:
            A handle, as `register_forward_pre_hook` does.

        Raises:
            RuntimeError, TypeError, ValueError: (in `backward`) the hook returns an invalid number, type or shape.

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
