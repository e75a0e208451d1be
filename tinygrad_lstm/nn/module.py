"""`Module`: parameters and other modules under names, and what is done with all of them at once."""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, ClassVar, Self

from tinygrad_lstm.backends.base import HostArray
from tinygrad_lstm.backends.dtypes import DType

from .._tensor import Tensor
from ..device import Device
from ..graph import declare_step, next_number
from .groups import grouped, require_gradients
from .hooks import HasHooks
from .names import joined
from .parameter import Parameter
from .state import IncompatibleKeys, load, move, snapshot

__all__ = ["Module"]


class Module(HasHooks):
    """Something with parameters that computes: a layer, or a model made of layers.

    A subclass sets its parameters and the modules it is made of as attributes, and defines `forward`, which calling
    the module runs. What is set under a name is found under that name, dotted from module to module. Modules and
    parameters in plain lists and the like are not found: setting such a list raises, but what is appended to a list
    that was set before cannot be seen; use `ModuleList`. Hooks, by `register_forward_hook` and the like, look into a
    module from outside.

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
    """Its own parameters, as shell patterns of their names, with which it computes by way of `adapted` alone."""

    # Set on instances only when they differ, so that a subclass need not call super().__init__().
    training: bool = True
    _buffer_names: frozenset[str] = frozenset()

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        """What the module computes; a subclass defines it."""
        raise NotImplementedError(
            f"{type(self).__name__} defines no forward(); define it, or call a method that it has"
        )

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        began = next_number()
        if self._hooks is None:
            result = self.forward(*args, **kwargs)
        else:
            result = self._hooks.call(self, self.forward, args, kwargs)
        declare_step(self, began, result)
        return result

    def __setattr__(self, name: str, value: Any) -> None:
        """Guards against the ways in which a parameter would silently no longer be, or never become, one.

        Raises:
            TypeError: modules or parameters in a plain list, tuple, dict or set, at any depth, where they are not
                found; or something other than a Parameter or None in a parameter's place.
            ValueError: a module that holds this one, whose names would have no end.
        """
        if isinstance(value, Module):
            if any(module is self for module in value.modules()):
                raise ValueError(
                    f"{type(self).__name__}.{name}: this {type(value).__name__} is or holds the module that it would "
                    "be set on; hand it to forward(), or keep a weakref.ref to it"
                )
        elif not isinstance(value, Parameter) and _holds_modules(value):
            raise TypeError(
                f"{type(self).__name__}.{name}: modules and parameters in a {type(value).__name__} would not be found; "
                "use nn.ModuleList, or an attribute for each"
            )
        if isinstance(vars(self).get(name), Parameter) and not isinstance(value, Parameter | None):
            raise TypeError(
                f"{type(self).__name__}.{name} is a parameter, and {type(value).__name__} would take its place; "
                "wrap the value in nn.Parameter, or write into the parameter with .copy_() under tg.no_grad()"
            )
        super().__setattr__(name, value)

    # -- what it is made of -------------------------------------------------------------------------------------------

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
        """Itself, under the name `prefix`, and all modules below it, parents first, with their dotted names.

        Args:
            remove_duplicate: give a module that has several names once, under the first.
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
        """Itself and all modules below it, each once."""
        for _, module in self.named_modules():
            yield module

    def named_parameters(self, prefix: str = "", remove_duplicate: bool = True) -> Iterator[tuple[str, Parameter]]:
        """All parameters with their dotted names: its own, then those of the modules below it.

        Args:
            remove_duplicate: give a parameter that has several names, as tied weights do, once, under the first.
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
        """Sets an attribute that is no parameter, but moves and is saved with them.

        Raises:
            TypeError: it is no tensor, or a parameter.
        """
        if not isinstance(tensor, Tensor) or isinstance(tensor, Parameter):
            raise TypeError(
                f"register_buffer: {name!r} must be a Tensor, and no Parameter; got {type(tensor).__name__}"
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
        """One of its own parameters as `forward` computes with it: changed by its adapter, if it has one.

        An adapter is a child called `{name}_lora`, a module that takes the parameter and gives what stands in for it;
        `nn.add_lora` sets such. A module of yours takes part if it reads a weight in this way, and says so:

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
        """A snapshot of all parameters and buffers: NumPy copies under dotted names, wherever the module lies.

        It does not change as training goes on, and can be handed to safetensors as it is. A tensor that has several
        names is there under each, as in PyTorch's files.
        """
        return snapshot(self._named_tensors())

    def load_state_dict(self, state_dict: Mapping[str, Any], strict: bool = True) -> IncompatibleKeys:
        """Copies values into the parameters and buffers in place, so that optimizers keep theirs.

        Args:
            state_dict: for each dotted name the values, brought to the tensor's device and dtype: NumPy's or CuPy's
                arrays, Tensors, nested lists.
            strict: whether every name must be there, and no other.

        Returns:
            The names `missing` from the mapping and those `unexpected` in it; both empty if strict.

        Raises:
            ValueError: names are missing or unexpected, or values are no numbers, do not fit in shape or kind, or are
                too large for the tensor's dtype. One error names all of them, before anything is changed. (It is the
                mapping's value that is wrong; a KeyError's message would be shown in quotes.)
        """
        return load(self._named_tensors(), state_dict, strict, type(self).__name__)

    # -- changing all of it -------------------------------------------------------------------------------------------

    def to(self, device: str | Device | None = None, dtype: DType = None) -> Self:
        """Moves parameters, their gradients and buffers to a device, and those that are floats to a dtype; in place.

        The Parameter objects stay the same, so an optimizer made before goes on working.

        Raises:
            TypeError: `dtype` is no float type.
            ValueError: the device is unknown.
            DeviceUnavailableError: the device is not there.
        """
        gradients = [parameter.grad for parameter in self.parameters() if parameter.grad is not None]
        move([*self._named_tensors().values(), *gradients], device, dtype)
        return self

    def train(self, mode: bool = True) -> Self:
        """Lets the module, and all below it, behave as in training, or not: dropout drops only then."""
        for module in self.modules():
            module.training = mode
        return self

    def eval(self) -> Self:
        """Lets the module, and all below it, behave as in use: `train(False)`."""
        return self.train(False)

    @contextmanager
    def evaluating(self) -> Iterator[Self]:
        """Within a `with` block, `eval()`; after it, each module below is again in the mode in which it was before."""
        modes = [(module, module.training) for module in self.modules()]
        self.eval()
        try:
            yield self
        finally:
            for module, mode in modes:
                module.training = mode

    def apply(self, function: Callable[["Module"], Any]) -> Self:
        """Calls a function with every module below this one, children first, and with this one last."""
        for module in reversed(list(self.modules())):
            function(module)
        return self

    # -- which parameters learn ----------------------------------------------------------------------------------------

    def zero_grad(self) -> None:
        """Forgets the gradients of all parameters."""
        for parameter in self.parameters():
            parameter.grad = None

    def requires_grad_(self, value: bool = True) -> Self:
        """Sets whether the parameters require gradients; those of a frozen module keep their values in training.

        `freeze` and `unfreeze` do it for some of them, by their names.

        Raises:
            TypeError: a parameter is of integers, which have no gradients; before anything is changed.
        """
        return self._require_gradients("requires_grad_", (), value)

    def freeze(self, *patterns: str) -> Self:
        """Lets parameters keep their values in training: they require no gradients, and those they have are forgotten.

        An optimizer passes over them, its weight decay and momentum too.

        Args:
            patterns: shell patterns of dotted names, in which `*` stands for anything, dots too: "embedding.*",
                "lstm.*_l0", "*bias*". A parameter that has several names needs one that matches. None: all.

        Raises:
            ValueError: a pattern matches no parameter; before anything is changed.
            TypeError: a pattern is no string.

        >>> import tinygrad_lstm as tg
        >>> model = tg.nn.Sequential(tg.nn.Linear(3, 8), tg.tanh, tg.nn.Linear(8, 1)).freeze("0.*")
        >>> [name for name, parameter in model.named_parameters() if parameter.requires_grad]
        ['2.weight', '2.bias']
        """
        return self._require_gradients("freeze", patterns, False)

    def unfreeze(self, *patterns: str) -> Self:
        """Lets parameters learn again; patterns as for `freeze`.

        Raises:
            ValueError, TypeError: as `freeze`, and as `requires_grad_`.
        """
        return self._require_gradients("unfreeze", patterns, True)

    def _require_gradients(self, caller: str, patterns: tuple[str, ...], value: bool) -> Self:
        require_gradients(caller, dict(self.named_parameters(remove_duplicate=False)), patterns, value)
        return self

    def parameter_groups(self, settings: Mapping[str, Mapping[str, Any]]) -> list[dict[str, Any]]:
        """The parameters in groups for an optimizer, each with its own learning rate or other settings.

        Args:
            settings: for shell patterns of dotted names, as `freeze` takes them, the settings of what they match. A
                parameter goes with the first pattern that matches one of its names; those that no pattern matches
                are a last group, with the optimizer's own settings. Frozen parameters are in no group.

        Raises:
            ValueError: a pattern matches no parameter, or only such as are frozen or went with a pattern before it.
            TypeError: a pattern is no string, or its settings are no mapping.

        >>> import tinygrad_lstm as tg
        >>> model = tg.nn.Sequential(tg.nn.Linear(3, 8), tg.tanh, tg.nn.Linear(8, 1))
        >>> groups = model.parameter_groups({"0.*": {"lr": 1e-4}, "*.bias": {"weight_decay": 0.0}})
        >>> [[p.shape for p in group["params"]] for group in groups]
        [[(8, 3), (8,)], [(1,)], [(1, 8)]]
        >>> optimizer = tg.optim.AdamW(groups, lr=1e-3)
        """
        return grouped(dict(self.named_parameters(remove_duplicate=False)), settings)

    # -- what it looks like -------------------------------------------------------------------------------------------

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
        """What notebooks show: the same tree as a table."""
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
    """Whether modules or parameters lie in a plain container, or in those that it holds."""
    left, seen = [container], set()
    while left:
        part = left.pop()
        if isinstance(part, Module | Parameter):
            return True
        if isinstance(part, dict | list | tuple | set | frozenset) and id(part) not in seen:
            seen.add(id(part))
            left += [*part.keys(), *part.values()] if isinstance(part, dict) else part
    return False
