"""How a rule says what a Keras layer computes.

A rule is a function whose keyword-only parameters are the layer's settings, under Keras's names and with Keras's
defaults. If the layer has weights, they are listed in Keras's order, and the rule is given those that are there:

    @layer("Dense", weights=("kernel", "bias if use_bias"))
    def dense(weights: Weights, *, activation: Any = None, keras: int) -> Layer: ...

A condition is the name of a setting, "not NAME", or "NAME=VALUE". The weights of a layer within the layer have its path
before their names, as "query_dense/kernel".

A keyword-only parameter `keras` receives the major version of Keras that wrote the file, 2 or 3; `trainable` receives
whether the layer and all layers around it are trainable. Settings that do not
affect what a trained layer computes are left out; any other setting that a rule does not have is refused by name.
"""

from __future__ import annotations

import inspect
import re
import typing
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol, TypeAlias

from tinygrad_lstm.backends.base import HostArray

from ....nn import Module
from ...errors import ContentError, shown
from ...keras.config import OF_ANY_LAYER
from ..annotations import is_of
from .spec import Slot, Spec

__all__ = [
    "Kind",
    "Layer",
    "PerDim",
    "UnsupportedError",
    "Weights",
    "built",
    "collected",
    "is_known",
    "layer",
    "naming_layer",
    "register_kind",
    "settings_of",
    "slots_of",
]

Weights: TypeAlias = Mapping[str, HostArray]
"""The arrays of a layer by Keras's names: kernel, bias, ..."""

PerDim: TypeAlias = int | Sequence[int]
"""A setting with one integer for each dimension of time or space, or one for all."""

_NOT_TRAINED = {"moving_mean", "moving_variance", "mean", "variance", "count", "seed_generator_state"}

_WITHOUT_EFFECT = re.compile(r".*_(initializer|regularizer|constraint)|seed|rng|build_config|lora_rank|lora_alpha")


class UnsupportedError(Exception):
    """What layers compute that cannot be built.

    Args:
        reasons: in words; a layer's name is added by `built` and `slots_of`.
    """

    def __init__(self, *reasons: str) -> None:
        super().__init__(*reasons)
        self.reasons = reasons


@dataclass(frozen=True)
class Layer:
    """A layer that was built.

    Attributes:
        function: `function(module, *args, **kwargs)` for the arguments of Keras's call; without `module` if the layer
            has none. It can be pickled.
        module: what has its parameters and layers.
        mask: the output's mask: None for none, "keep" for that of the input, or a function of the inputs and their
            masks, each as in the call.
        makes_mask: whether there is a mask although the inputs have none.
        takes_mask: whether the function takes the mask of its first argument as `mask`; or the names of its arguments
            whose masks it takes, as `query_mask` for "query".
        kept: with "keep", the number of outputs that have the mask.
        outputs: the number of outputs, or a function of the call's keyword arguments that returns it.
    """

    function: Callable[..., Any]
    module: Module | None = None
    mask: Literal["keep"] | Callable[..., Any] | None = None
    makes_mask: bool = False
    takes_mask: bool | tuple[str, ...] = False
    kept: int = 1
    outputs: int | Callable[[Mapping[str, Any]], int] = 1

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """What the layer computes."""
        own = () if self.module is None else (self.module,)
        return self.function(*own, *args, **kwargs)


class Kind(Protocol):
    """A class of layers."""

    def slots(self, spec: Spec) -> Iterator[Slot]:
        """The arrays of a layer, in Keras's order."""

    def build(self, spec: Spec, arrays: Mapping[str, HostArray]) -> Layer:
        """The layer, given arrays by their paths.

        Raises:
            UnsupportedError: it computes what cannot be built.
        """


_KINDS: dict[tuple[str, bool], Kind] = {}
"""By the name of a class, and whether its objects are operations."""


@dataclass(frozen=True)
class Rule:
    """A class of layers that is built by a function; see the module's docstring."""

    function: Callable[..., Layer]
    weights: Sequence[str] = ()
    settings: Mapping[str, Any] = field(default_factory=dict)
    types: Mapping[str, Any] = field(default_factory=dict)

    def slots(self, spec: Spec) -> Iterator[Slot]:
        yield from self._slots_by_name(spec).values()

    def _slots_by_name(self, spec: Spec) -> dict[str, Slot]:
        settings = {**self.settings, **spec.config}
        number: Counter[str] = Counter()
        found: dict[str, Slot] = {}
        for each in self.weights:
            name, _, condition = each.partition(" if ")
            if condition and not _holds(condition, settings):
                continue
            within, _, roles = name.rpartition("/")
            path = f"{spec.path}/{within}".removesuffix("/")
            trainable = spec.trainable and roles not in _NOT_TRAINED
            found[name.partition("|")[0]] = Slot(f"{path}/vars/{number[within]}", roles, trainable)
            number[within] += 1
        return found

    def build(self, spec: Spec, arrays: Mapping[str, HostArray]) -> Layer:
        given = {name: value for name, value in spec.config.items() if name in self.settings}
        unknown = [
            name
            for name, value in spec.config.items()
            if name not in self.settings
            and name not in OF_ANY_LAYER
            and value is not None
            and not _WITHOUT_EFFECT.fullmatch(name)
        ]
        if unknown:
            raise UnsupportedError(f"the settings {', '.join(map(shown, unknown[:4]))}")
        if wrong := [name for name, value in given.items() if not self._takes(name, value)]:
            listed = ", ".join(f"{name}={shown(repr(given[name]))[1:-1]}" for name in wrong)
            raise ContentError(f"the layer {shown(spec.name)} has settings of the wrong type: {listed}")
        if "keras" in self.settings:
            given["keras"] = spec.keras
        if "trainable" in self.settings:
            given["trainable"] = spec.trainable
        if missing := [
            name for name, default in self.settings.items() if default is inspect.Parameter.empty and name not in given
        ]:
            raise ContentError(f"the setting {', '.join(map(shown, missing))} is missing")
        weights = {name: arrays[slot.path] for name, slot in self._slots_by_name(spec).items()}
        return self.function(*([weights] if self.weights else []), **given)

    def _takes(self, name: str, value: Any) -> bool:
        """Whether a setting may have a value. Any setting may be None: files have it for what is not used."""
        hint = self.types[name]
        return value is None or is_of(value, int if hint is bool else hint)


def _holds(condition: str, settings: Mapping[str, Any]) -> bool:
    """Whether a condition of a weight holds: "use_bias", "not mean", or "score_mode=concat"."""
    name, _, value = condition.removeprefix("not ").partition("=")
    found = settings[name] == value if value else bool(settings[name])
    return found != condition.startswith("not ")


def layer(*names: str, weights: Sequence[str] = ()) -> Callable[[Callable[..., Layer]], Callable[..., Layer]]:
    """Registers a function as the rule of classes of layers."""

    def register(function: Callable[..., Layer]) -> Callable[..., Layer]:
        parameters = inspect.signature(function).parameters.values()
        settings = {each.name: each.default for each in parameters if each.kind is each.KEYWORD_ONLY}
        register_kind(Rule(function, weights, settings, typing.get_type_hints(function)), *names)
        return function

    return register


def register_kind(kind: Kind, *names: str, operations: bool = False) -> None:
    """Registers classes of layers, or of operations."""
    _KINDS.update({(name, operations): kind for name in names})


def is_known(class_name: str, operation: bool = False) -> bool:
    """Whether a class of layers, or of operations, is supported."""
    return (class_name, operation) in _KINDS


def kind_of(spec: Spec) -> Kind:
    """The class of a layer.

    Raises:
        UnsupportedError: it is not one of Keras's, or not supported.
    """
    if spec.custom or not is_known(spec.class_name, spec.is_operation):
        raise UnsupportedError("the class")
    return _KINDS[spec.class_name, spec.is_operation]


def slots_of(spec: Spec) -> list[Slot]:
    """The arrays of a layer in the order in which older files have them: those that are trained first.

    Raises:
        UnsupportedError: the class of the layer, or of layers within it, is not supported.
    """
    with naming_layer(spec):
        return sorted(kind_of(spec).slots(spec), key=lambda slot: not slot.trainable)


def built(spec: Spec, arrays: Mapping[str, HostArray]) -> Layer:
    """A layer, given arrays by their paths. A layer that is not trainable has parameters without gradients.

    A layer that is shared, such as one of two models within a model, is built once.

    Raises:
        UnsupportedError: it, or layers within it, compute what cannot be built.
        ContentError: its settings are invalid, or do not agree with its arrays.
    """
    made: Layer | None = spec.shared.get(spec.path)
    if made is None:
        with naming_layer(spec):
            made = kind_of(spec).build(spec, arrays)
        spec.shared.keep(spec.path, made)
    if made.module is not None and not spec.trainable:
        made.module.requires_grad_(False)
    return made


def settings_of(spec: Spec) -> dict[str, Any]:
    """The settings of a layer that differ from Keras's defaults, for `print`."""
    kind = kind_of(spec)
    defaults = kind.settings if isinstance(kind, Rule) else {}
    plain = {name: value for name, value in spec.config.items() if isinstance(value, int | float | str | list)}
    return {name: plain[name] for name in defaults if name in plain and plain[name] != defaults[name]}


@contextmanager
def naming_layer(spec: Spec) -> Iterator[None]:
    """Names a layer in errors about it."""
    try:
        yield
    except UnsupportedError as error:
        if isinstance(error, _NamedError):
            raise
        kind = spec.class_name if spec.class_name.isidentifier() else shown(spec.class_name)
        raise _NamedError(*(f"{reason} of {kind} ({shown(spec.name)})" for reason in error.reasons)) from error
    except (TypeError, ValueError, LookupError, AttributeError, ArithmeticError) as error:
        raise ContentError(f"the layer {shown(spec.name)} has invalid settings or arrays ({error})") from error


class _NamedError(UnsupportedError):
    """Reasons that name layers."""


def collected(reasons: Sequence[str]) -> UnsupportedError:
    """The error for the reasons that errors of several layers have."""
    return _NamedError(*reasons)
