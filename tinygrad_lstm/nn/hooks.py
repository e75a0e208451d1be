"""Hooks of modules: functions that are called around `forward` and on the way back, as PyTorch's are."""

import itertools
import warnings
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from .._tensor import HookHandle
from .backward_hooks import WayBack

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

    def call(self, module: object, forward: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """What the module's `forward` gives, with its hooks called."""
        output, called = None, set()
        try:
            for hook in list(self.forward_pre.values()):
                args, kwargs = _arguments_before(hook, module, args, kwargs)
            way_back = None
            if self.backward_pre or self.backward:
                way_back = WayBack(module, _functions(self.backward_pre), _functions(self.backward))
                args = way_back.through_inputs(args)
            output = forward(*args, **kwargs)
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
