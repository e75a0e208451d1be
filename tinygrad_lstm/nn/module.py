"""`Module`: named parameters and submodules, and methods that apply to all of them."""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, ClassVar, Self

from tinygrad_lstm.backends.base import HostArray
from tinygrad_lstm.backends.dtypes import DType

from .._tensor import Tensor
from ..device import Device
from ..graph import declare_step, next_number, set_gradient
from ..tracing.effects import see_attribute
from .groups import grouped, require_gradients
from .hooks import HasHooks
from .names import joined
from .parameter import Parameter
from .state import IncompatibleKeys, load, move, snapshot

__all__ = ["Module"]


class Module(HasHooks):
    """A layer, or a model made of layers: it has parameters and computes.

    A subclass sets parameters and submodules as attributes and defines `forward`, which a call of the module runs.
    Parameters and submodules have the names of their attributes, joined by dots from module to module. Modules and
    parameters in plain lists, tuples, dicts and sets are not registered: setting such an attribute raises, but a later
    append to a list is not noticed; use `ModuleList`. Hooks, as of `register_forward_hook`, inspect a module from
    outside.

    >>> import tinygrad_lstm as tg
    >>> class Regression(tg.nn.Module):
    ...     def __init__(self, features):
    ...         self.scale = tg.nn.Parameter(tg.ones(features))
    ...         self.head = tg.nn.Linear(features, 1)
    ...
    ...     def forward(self, x):
    ...         return self.head(x * self.scale)
    >>> model = Regression(3)
    >>> [name for name, _ in model.named_parameters()]
    ['scale', 'head.weight', 'head.bias']
    >>> model(tg.ones(5, 3)).shape
    (5, 1)
    >>> model
    Regression                7 parameters
      head: Linear(3, 1)      4
    """

    adaptable: ClassVar[tuple[str, ...]] = ()
    """Shell patterns for the names of its own parameters that it reads only with `adapted`."""

    # Set on instances only when they differ, so that a subclass need not call super().__init__().
    training: bool = True
    _buffer_names: frozenset[str] = frozenset()
    _parametrized: frozenset[str] = frozenset()
    """The attributes that modules in `parametrizations`, a `ModuleDict`, compute; see `weight_norm`."""
    parametrizations: Any

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        """Computes the output. A subclass defines it."""
        raise NotImplementedError(
            f"{type(self).__name__} does not define forward(); define it, or call a different method"
        )

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        began = next_number()
        if self._hooks is None:
            result = self.forward(*args, **kwargs)
        else:
            result = self._hooks.call(self, self.forward, args, kwargs)
        declare_step(self, began, result)
        return result

    if not TYPE_CHECKING:  # type checkers would accept any attribute

        def __getattr__(self, name: str) -> Any:
            if name in self._parametrized:
                return vars(self)["parametrizations"][name]()
            return super().__getattribute__(name)  # raises again, also what a property raised

    def __setattr__(self, name: str, value: Any) -> None:
        """Refuses values by which a parameter would silently not be registered, or be lost.

        Raises:
            TypeError: modules or parameters are in a plain list, tuple, dict or set, at any depth, where they are not
                registered; a value that is not a Parameter or None would replace a parameter; or the attribute is
                parametrized.
            ValueError: a module contains this one, so that names would be infinite.
        """
        if isinstance(value, Module):
            if any(module is self for module in value.modules()):
                raise ValueError(
                    f"{type(self).__name__}.{name}: this {type(value).__name__} is or contains the module that it "
                    "would be set on; hand it to forward(), or keep a weakref.ref to it"
                )
        elif not isinstance(value, Parameter) and _holds_modules(value):
            raise TypeError(
                f"{type(self).__name__}.{name}: modules and parameters in a {type(value).__name__} would not be found; "
                "use nn.ModuleList, or an attribute for each"
            )
        if isinstance(vars(self).get(name), Parameter) and not isinstance(value, Parameter | None):
            raise TypeError(
                f"{type(self).__name__}.{name} is a parameter, and {type(value).__name__} would replace it; "
                "wrap the value in nn.Parameter, or write into the parameter with .copy_() under tg.no_grad()"
            )
        if name in self._parametrized:
            raise TypeError(
                f"{type(self).__name__}.{name} is computed from parameters; call nn.remove_parametrizations before"
            )
        see_attribute(self, name)
        super().__setattr__(name, value)

    # -- submodules, parameters and buffers ---------------------------------------------------------------------------

    def named_children(self) -> Iterator[tuple[str, "Module"]]:
        """The modules that are its attributes, with their names."""
        for name, value in vars(self).items():
            if isinstance(value, Module):
                yield name, value

    def children(self) -> Iterator["Module"]:
        """The modules that are its attributes."""
        for _, child in self.named_children():
            yield child

    def named_modules(self, prefix: str = "", remove_duplicate: bool = True) -> Iterator[tuple[str, "Module"]]:
        """This module, with the name `prefix`, and all submodules with their dotted names, parents first.

        Args:
            remove_duplicate: whether a module with several names is returned only once, with the first.
        """
        seen: set[Module] = set()
        below: list[tuple[str, Module]] = [(prefix, self)]
        while below:
            path, module = below.pop()
            if module in seen and remove_duplicate:
                continue
            seen.add(module)
            yield path, module
            below += reversed([(joined(path, name), child) for name, child in module.named_children()])

    def modules(self) -> Iterator["Module"]:
        """This module and all submodules, each once."""
        for _, module in self.named_modules():
            yield module

    def named_parameters(self, prefix: str = "", remove_duplicate: bool = True) -> Iterator[tuple[str, Parameter]]:
        """All parameters with their dotted names: its own first, then those of its submodules.

        Args:
            remove_duplicate: whether a parameter with several names (a tied weight) is returned only once, with the
                first.
        """
        seen: set[int] = set()
        for path, module in self.named_modules(prefix, remove_duplicate):
            for name, value in vars(module).items():
                if isinstance(value, Parameter) and not (id(value) in seen and remove_duplicate):
                    seen.add(id(value))
                    yield joined(path, name), value

    def parameters(self) -> Iterator[Parameter]:
        """All parameters, each once."""
        for _, parameter in self.named_parameters():
            yield parameter

    def register_buffer(self, name: str, tensor: Any) -> None:
        """Sets an attribute that is not a parameter, but is moved and saved with the parameters.

        Raises:
            TypeError: it is not a tensor, or is a parameter.
        """
        if not isinstance(tensor, Tensor) or isinstance(tensor, Parameter):
            raise TypeError(
                f"register_buffer: {name!r} must be a Tensor that is not a Parameter, got {type(tensor).__name__}"
            )
        setattr(self, name, tensor)
        self._buffer_names = self._buffer_names | {name}

    def named_buffers(self, prefix: str = "", remove_duplicate: bool = True) -> Iterator[tuple[str, Tensor]]:
        """All buffers with their dotted names."""
        for path, module in self.named_modules(prefix, remove_duplicate):
            for name, value in vars(module).items():
                if name in module._buffer_names and isinstance(value, Tensor):
                    yield joined(path, name), value

    def buffers(self) -> Iterator[Tensor]:
        """All buffers."""
        for _, buffer in self.named_buffers():
            yield buffer

    def adapted(self, name: str) -> Tensor:
        """One of its own parameters as `forward` uses it: changed by its adapter, if it has one.

        An adapter is a child module called `{name}_lora`. It is called with the parameter and returns the tensor that
        replaces it; `nn.add_lora` adds adapters. A user-defined module supports them if it reads weights in this way
        and lists their names:

        >>> import tinygrad_lstm as tg
        >>> class Bilinear(tg.nn.Module):
        ...     adaptable = ("weight",)
        ...
        ...     def __init__(self, size):
        ...         self.weight = tg.nn.Parameter(tg.randn(size, size))
        ...
        ...     def forward(self, x, y):
        ...         return ((x @ self.adapted("weight")) * y).sum(-1)
        >>> tg.nn.add_lora(Bilinear(8), rank=2)
        ['weight']
        """
        parameter: Tensor = getattr(self, name)
        adapter: Callable[[Tensor], Tensor] | None = self.__dict__.get(name + "_lora")
        return parameter if adapter is None else adapter(parameter)

    # -- saving and loading -------------------------------------------------------------------------------------------

    def _named_tensors(self) -> dict[str, Tensor]:
        """Parameters and buffers under all their names."""
        return {**dict(self.named_parameters("", False)), **dict(self.named_buffers("", False))}

    def state_dict(self) -> dict[str, HostArray]:
        """A snapshot of all parameters and buffers: NumPy copies under dotted names, from any device.

        Training does not change it, and safetensors can save it. A tensor with several names is there under each of
        them, as in PyTorch's files.
        """
        return snapshot(self._named_tensors())

    def load_state_dict(self, state_dict: Mapping[str, Any], strict: bool = True) -> IncompatibleKeys:
        """Copies values into the parameters and buffers in place, so that optimizers stay valid.

        Args:
            state_dict: the values for each dotted name: NumPy or CuPy arrays, Tensors or nested lists. They are
                converted to the tensor's device and dtype.
            strict: whether exactly these names must be present.

        Returns:
            The names `missing` from the mapping and those `unexpected` in it; both empty if strict.

        Raises:
            ValueError: names are missing or unexpected, or values are not numbers, have a different shape or kind, or
                are too large for the tensor's dtype. One error names all of them. Nothing has been changed then.
        """
        return load(self._named_tensors(), state_dict, strict, type(self).__name__)

    # -- moving, modes ------------------------------------------------------------------------------------------------

    def to(self, device: str | Device | None = None, dtype: DType = None) -> Self:
        """Moves parameters, their gradients and buffers to a device, and floats to a dtype, in place.

        The Parameter objects stay the same, so existing optimizers stay valid.

        Raises:
            TypeError: `dtype` is not a float dtype.
            ValueError: the device is unknown.
            DeviceUnavailableError: the device is missing.
        """
        gradients = [parameter.grad for parameter in self.parameters() if parameter.grad is not None]
        move([*self._named_tensors().values(), *gradients], device, dtype)
        return self

    def train(self, mode: bool = True) -> Self:
        """Sets the mode of this module and all submodules: training or not. Dropout is active only in training."""
        for module in self.modules():
            module.training = mode
        return self

    def eval(self) -> Self:
        """Sets evaluation mode for this module and all submodules: `train(False)`."""
        return self.train(False)

    @contextmanager
    def evaluating(self) -> Iterator[Self]:
        """`eval()` in a `with` block; after it, this module and each submodule is in its previous mode again."""
        modes = [(module, module.training) for module in self.modules()]
        self.eval()
        try:
            yield self
        finally:
            for module, mode in modes:
                module.training = mode

    def apply(self, function: Callable[["Module"], Any]) -> Self:
        """Calls a function with every submodule, children first, and with this module last."""
        for module in reversed(list(self.modules())):
            function(module)
        return self

    # -- which parameters learn ----------------------------------------------------------------------------------------

    def zero_grad(self) -> None:
        """Sets the gradients of all parameters to None."""
        for parameter in self.parameters():
            set_gradient(parameter, None)

    def requires_grad_(self, value: bool = True) -> Self:
        """Sets whether the parameters require gradients. Training does not change those that do not.

        `freeze` and `unfreeze` do this for some parameters, selected by names.

        Raises:
            TypeError: a parameter is an integer tensor, which has no gradient. Nothing has been changed then.
        """
        return self._require_gradients("requires_grad_", (), value)

    def freeze(self, *patterns: str) -> Self:
        """Freezes parameters: they do not require gradients, their `.grad` is None, and training does not change them.

        Optimizers skip them, also for weight decay and momentum.

        Args:
            patterns: shell patterns of dotted names, in which `*` matches any string, with dots too: "embedding.*",
                "lstm.*_l0", "*bias*". One matching name of a parameter is enough. Without patterns, all are frozen.

        Raises:
            ValueError: a pattern matches no parameter. Nothing has been changed then.
            TypeError: a pattern is not a string.

        >>> import tinygrad_lstm as tg
        >>> model = tg.nn.Sequential(tg.nn.Linear(3, 8), tg.tanh, tg.nn.Linear(8, 1)).freeze("0.*")
        >>> [name for name, parameter in model.named_parameters() if parameter.requires_grad]
        ['2.weight', '2.bias']
        """
        return self._require_gradients("freeze", patterns, False)

    def unfreeze(self, *patterns: str) -> Self:
        """Lets parameters learn again; patterns as for `freeze`.

        Raises:
            ValueError, TypeError: as for `freeze` and `requires_grad_`.
        """
        return self._require_gradients("unfreeze", patterns, True)

    def _require_gradients(self, caller: str, patterns: tuple[str, ...], value: bool) -> Self:
        require_gradients(caller, dict(self.named_parameters(remove_duplicate=False)), patterns, value)
        return self

    def parameter_groups(self, settings: Mapping[str, Mapping[str, Any]]) -> list[dict[str, Any]]:
        """The parameters in groups for an optimizer, each with its own learning rate or other settings.

        Args:
            settings: for each shell pattern of dotted names, as in `freeze`, the settings of the parameters that it
                matches. The first pattern that matches one of its names decides for a parameter. The others form a last
                group, with the optimizer's default settings. Frozen parameters are in no group.

        Raises:
            ValueError: a pattern matches no parameter, or only parameters that are frozen or in an earlier group.
            TypeError: a pattern is not a string, or its settings are not a mapping.

        >>> import tinygrad_lstm as tg
        >>> model = tg.nn.Sequential(tg.nn.Linear(3, 8), tg.tanh, tg.nn.Linear(8, 1))
        >>> groups = model.parameter_groups({"0.*": {"lr": 1e-4}, "*.bias": {"weight_decay": 0.0}})
        >>> [[p.shape for p in group["params"]] for group in groups]
        [[(8, 3), (8,)], [(1,)], [(1, 8)]]
        >>> optimizer = tg.optim.AdamW(groups, lr=1e-3)
        """
        return grouped(dict(self.named_parameters(remove_duplicate=False)), settings)

    # -- representation -----------------------------------------------------------------------------------------------

    def extra_repr(self) -> str:
        """The settings that `repr` shows in parentheses; a subclass defines it."""
        return ""

    def __repr__(self) -> str:
        lines = list(_tree_lines("", self, 0))
        width = max(len(text) for text, _ in lines) + 6
        total = lines[0][1]
        counts = [f"{total:,} parameter{'' if total == 1 else 's'}", *(f"{count:,}" for _, count in lines[1:])]
        return "\n".join(f"{text:<{width}}{count}" for (text, _), count in zip(lines, counts, strict=True))

    def _repr_html_(self) -> str:
        """For notebooks: the same tree as a table."""
        from ..html import table

        return table(["module", "parameters"], [[text, f"{count:,}"] for text, count in _tree_lines("", self, 0)])


def described(module: Module) -> str:
    """A module's class, with its settings in parentheses."""
    settings = module.extra_repr()
    return type(module).__name__ + (f"({settings})" if settings else "")


def _tree_lines(name: str, module: Module, depth: int) -> Iterator[tuple[str, int]]:
    yield "  " * depth + (f"{name}: " if name else "") + described(module), sum(p.size for p in module.parameters())
    for child_name, child in module.named_children():
        yield from _tree_lines(child_name, child, depth + 1)


def _holds_modules(container: Any) -> bool:
    """Whether a plain container has modules or parameters, at any depth."""
    left, seen = [container], set()
    while left:
        part = left.pop()
        if isinstance(part, Module | Parameter):
            return True
        if isinstance(part, dict | list | tuple | set | frozenset) and id(part) not in seen:
            seen.add(id(part))
            left += [*part.keys(), *part.values()] if isinstance(part, dict) else part
    return False
