"""A model's graph of known layers and ops, while it is built from PyTorch's code or programs."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from tinygrad_lstm.backends.base import HostArray
from tinygrad_lstm.backends.dtypes import is_float

from ...._tensor import Tensor, tensor
from ....nn import Module, Parameter
from ...errors import ContentError, shown
from ..body import Body, Step
from ..loaded import Loaded
from ..names import attribute_names, free_name
from ..ports import Port
from ..states import paired
from . import (  # noqa: F401  (they register their rules)
    aten_attention,
    aten_elementwise,
    aten_indexing,
    aten_layers,
    aten_reductions,
    aten_resize,
    aten_spectral,
)
from .aten import CREATES, MAKES_ZEROS, RULES, VIEWS
from .aten_indexing import WRITTEN_BACK, written_back
from .layers import layer_of
from .shapes import ports_of
from .values import Applied, GraphStep, Ref, Slot, call_layer

__all__ = ["Graph", "MissingPartsError"]

MOST_STEPS = 100_000
MOST_PARTS, DEEPEST = 2_000_000, 50  # of lists, counted at each use
MOST_PAIRS = 10_000  # of an input and an output
RANDOM = {
    "dropout": ("Dropout", {"p": 0.5}),
    "feature_dropout": ("Dropout2d", {"p": 0.5}),
    "alpha_dropout": ("AlphaDropout", {"p": 0.5}),
    "feature_alpha_dropout": ("FeatureAlphaDropout", {"p": 0.5}),
    "rrelu": ("RReLU", {"lower": 1 / 8, "upper": 1 / 3}),
}
"""For the ops that are random in training, the layer, and its settings by default in the order of the arguments."""

LARGEST_NUMBER, LARGEST_POWER, LONGEST = 2**63, 63, 10_000  # of constants
MOST_NAMED = 4  # the places that a message names for each part that is not there


class MissingPartsError(ContentError):
    """Ops and layers that a model needs and that are not there."""


class Graph:
    """A model's steps and contents, while it is built."""

    def __init__(self) -> None:
        self.inputs: list[Ref] = []
        self.steps: list[GraphStep] = []
        self.contents: dict[Ref, tuple[str, Module | Tensor]] = {}
        self.layers: dict[object, Ref] = {}
        self.origin = ""
        self._parts_left = MOST_PARTS
        self._paths: dict[str, int] = {}
        self._missing: dict[str, list[str]] = {}
        self._changed: dict[Ref, Ref] = {}
        self._views: dict[Ref, list[Ref]] = {}
        self._stale: set[Ref] = set()
        self._made_by: dict[Ref, tuple[str, Ref, tuple[Any, ...]]] = {}

    # -- values --------------------------------------------------------------------------------------------------------

    def input(self, name: str) -> Ref:
        self.inputs.append(Ref(name))
        return self.inputs[-1]

    def add(self, path: str, value: Module | HostArray, *, trainable: bool = True) -> Ref:
        """A parameter, buffer or layer, by its dotted name in the file; a name that is taken gets a number."""
        path = free_name(path, self._paths)
        ref = Ref(path)
        if isinstance(value, Module):
            self.contents[ref] = path, value
        else:
            own = tensor(value)
            self.contents[ref] = path, Parameter(own) if trainable and is_float(value.dtype) else own
        return ref

    def replace(self, ref: Ref, value: Module | Tensor) -> None:
        """Replaces a parameter, buffer or layer."""
        self.contents[ref] = self.contents[ref][0], value

    def current(self, value: Any) -> Any:
        """A value as it is after ops that changed it in place."""
        while isinstance(value, Ref) and value in self._changed:
            value = self._changed[value]
        return value

    # -- steps ---------------------------------------------------------------------------------------------------------

    def apply(self, name: str, args: Sequence[Any], kwargs: Mapping[str, Any], outputs: int = 1) -> Any:
        """The result of an op.

        Raises:
            ContentError: it uses what an op on a view changed in place.
        """
        self.check_nesting(args, dict(kwargs))
        if name.removesuffix("_") in RANDOM and args and not _refs_in([*args[1:], dict(kwargs)]):
            return self._random(name, args[0], args[1:], kwargs)
        in_place = name not in RULES and name.endswith("_") and name[:-1] in RULES
        rule = RULES.get(name[:-1] if in_place else name)
        if rule is None:
            return self.lacks(f"the op {shown(name)}", outputs)
        if name not in CREATES and not _refs_in([args, dict(kwargs)]):
            return _folded(name, rule, args, kwargs)
        results = self.step(name, Applied(rule, tuple(args), dict(kwargs)), outputs)
        if outputs != 1:
            return tuple(results)
        (result,) = results
        result.is_zeros = name in MAKES_ZEROS
        first = args[0] if args else None
        if isinstance(first, Ref):
            if in_place:
                self.change(first, result)
            elif name in VIEWS or (name == "__getitem__" and first.base):
                result.base = first.base or first
                self._views.setdefault(result.base, []).append(result)
                if name in WRITTEN_BACK and not kwargs:
                    self._made_by[result] = name, first, tuple(args[1:])
        return result

    def _random(self, name: str, x: Any, args: Sequence[Any], kwargs: Mapping[str, Any]) -> Ref:
        """The result of an op that is random in training.

        It is a layer, so that `train()` has an effect on it, also if the file has it in evaluation mode.

        Raises:
            ContentError: a setting is invalid.
        """
        kind, defaults = RANDOM[name.removesuffix("_")]
        layer = layer_of(kind, {**defaults, **dict(zip(defaults, args, strict=False)), **kwargs}, {})
        if layer is None:
            raise ContentError(f"there is no {kind}")
        (result,) = self.step(kind, Applied(call_layer, (self.add(kind.lower(), layer), x)), 1)
        if name.endswith("_") and isinstance(x, Ref):
            self.change(x, result)
        return result

    def unpacked(self, values: Ref, number: int) -> list[Ref]:
        """The elements of a list that is known when the model runs; of views, if it is one of views."""
        results = self.step("unpack", Applied(tuple, (values,)), number)
        if values.base:
            for each in results:
                each.base = values.base
            self._views.setdefault(values.base, []).extend(results)
        return results

    def lacks(self, what: str, outputs: int = 1) -> Any:
        """Notes a part of the model that is not there; returns values in place of its results."""
        self._missing.setdefault(what, []).append(self.origin)
        results = [Ref() for _ in range(outputs)]
        return results[0] if outputs == 1 else tuple(results)

    def check_nesting(self, *values: Any) -> None:
        """Checks that values are not nested too deep, and do not have too many parts, as lists in themselves have.

        Raises:
            ContentError: they are, or have.
        """
        walk = [(value, 0) for value in values]
        while walk:
            value, depth = walk.pop()
            if isinstance(value, list | tuple | dict):
                inner = list(value.values()) if isinstance(value, dict) else value
                self._parts_left -= len(inner)
                if depth > DEEPEST or self._parts_left < 0:
                    raise ContentError("refuses lists that are nested so deep, or have so many parts")
                walk += [(each, depth + 1) for each in inner]

    def change(self, value: Ref, result: Ref) -> None:
        """Notes that a tensor is changed in place, to a result.

        The tensors that it is a view of are changed too. Further views of its memory may not be used any more.

        Raises:
            ContentError: it is a parameter.
        """
        root = value.base or value
        if changed := next((each for each in (value, root) if each in self.contents), None):
            raise ContentError(f"it changes {self.contents[changed][0]!r} in place")
        after = {value: result}
        while value in self._made_by:
            name, source, args = self._made_by[value]
            source = self.current(source)
            (whole,) = self.step(f"write_{name}", Applied(written_back, (name, source, result, args)), 1)
            self._made_by[result] = name, source, args
            value, result = source, whole
            after[value] = result
        views = self._views.setdefault(root, [])
        self._stale.update(each for each in (root, *views) if each not in after and each not in self._changed)
        self._changed |= after
        for each in after.values():
            each.base = root
        views += after.values()

    def _check(self, value: Any) -> None:
        if isinstance(value, Ref) and value in self._stale:
            raise ContentError("it changes a tensor in place that is a view of another, and uses both")

    def step(self, op: str, applied: Applied, outputs: int) -> list[Ref]:
        """Adds a step; returns its results."""
        self.check_nesting(applied.args, dict(applied.kwargs))
        inputs: list[Ref] = []
        numbers: dict[Ref, Slot] = {}

        def slot(value: Any) -> Any:
            if isinstance(value, Ref):
                value = self.current(value)
                self._check(value)
                if value not in numbers:
                    numbers[value] = Slot(len(inputs))
                    inputs.append(value)
                return numbers[value]
            if isinstance(value, list):
                return [slot(each) for each in value]
            return tuple([slot(each) for each in value]) if type(value) is tuple else value

        args = tuple([slot(each) for each in applied.args])
        kwargs = {name: slot(each) for name, each in applied.kwargs.items()}
        simple = not kwargs and args == tuple(map(Slot, range(len(inputs))))
        shown = [_shown(each) for each in args if not _is_variable(each)]
        shown += [f"{name}={_shown(each)}" for name, each in kwargs.items() if each is not None]
        results = [Ref() for _ in range(outputs)]
        function = applied.function if simple else Applied(applied.function, args, kwargs)
        self.steps.append(GraphStep(op, function, inputs, results, ", ".join(shown), self.origin, applied.args))
        if len(self.steps) > MOST_STEPS:
            raise ContentError(f"refuses a model of more than {MOST_STEPS} steps")
        return results

    # -- the model -----------------------------------------------------------------------------------------------------

    def loaded(
        self,
        title: str,
        outputs: Sequence[tuple[str, Any]],
        ports: Sequence[Port] | None = None,
        states: Mapping[str, str] | None = None,
    ) -> Loaded:
        """The module that computes these outputs, by name.

        Args:
            title, states: as for `Loaded`.
            outputs: the names and values.
            ports: the inputs, if more than their names is known.

        Raises:
            MissingPartsError: ops or layers are not there; it names all.
            ContentError: there are no outputs; the states are not those of inputs and outputs.
        """
        if self._missing:
            raise MissingPartsError(f"it has parts that are not supported: {_listed(self._missing)}")
        results: list[Ref] = []
        for name, value in outputs:
            result = self.current(value)
            self._check(result)
            if not isinstance(result, Ref) or result in self.inputs or result in self.contents or result in results:
                (result,) = self.step("identity", Applied(_identity, (result,)), 1)
            result.label = name
            results.append(result)
        if not results:
            raise ContentError("it has no outputs")
        if len(results) * len(self.inputs) > MOST_PAIRS:
            raise ContentError(f"refuses a model of {len(self.inputs)} inputs and {len(results)} outputs")
        steps = self._needed(results)
        used = {ref for step in steps for ref in step.inputs}
        contents = {ref: self.contents[ref] for ref in self.contents if ref in used}
        paths = attribute_names(path for path, _ in contents.values())
        names = _Names(self.inputs, results)
        values = {names.of(ref): value for ref, (_, value) in contents.items()}
        attributes = {names.of(ref): paths[path] for ref, (path, _) in contents.items()}
        body = Body(
            tuple([names.of(ref) for ref in self.inputs]),
            tuple(
                Step(
                    step.op,
                    step.function,
                    tuple([names.of(ref) for ref in step.inputs]),
                    tuple([names.of(ref, step.op) for ref in step.outputs]),
                    step.settings,
                    step.origin,
                )
                for step in steps
            ),
            tuple([names.of(ref) for ref in results]),
        )
        known = ports_of(self.steps, self.contents, self.inputs, [names.of(ref) for ref in self.inputs], ports or ())
        pairs = paired(known, [Port(name) for name in body.outputs], states)
        return Loaded(title, known, body, values, attributes, states=pairs).eval()

    def _needed(self, results: Sequence[Ref]) -> list[GraphStep]:
        """The steps that the results depend on."""
        wanted = set(results)
        found: list[GraphStep] = []
        for step in reversed(self.steps):
            if wanted.intersection(step.outputs):
                wanted.update(step.inputs)
                found.append(step)
        return found[::-1]


def _folded(name: str, rule: Callable[..., Any], args: Sequence[Any], kwargs: Mapping[str, Any]) -> Any:
    """The result of an op for constants, which may not take much memory or time.

    Raises:
        ContentError: the op fails for them, or they are too large.
    """
    _check_size([*args, *kwargs.values()])
    if name in ("mul", "multiply", "pow") and (_has_lists(args) or (name == "pow" and abs(args[-1]) > LARGEST_POWER)):
        raise ContentError(f"refuses to compute {name!r} of such constants")
    try:
        result = rule(*args, **kwargs)
    except Exception as error:
        raise ContentError(f"damaged: {name!r} fails for constants ({type(error).__name__})") from error
    _check_size([result])
    return result


def _has_lists(values: Sequence[Any]) -> bool:
    return not all(isinstance(value, bool | int | float) for value in values)


def _check_size(values: Sequence[Any]) -> None:
    """Checks that numbers, strings and lists are not larger than those of real models."""
    for value in values:
        if isinstance(value, int) and abs(value) > LARGEST_NUMBER:
            raise ContentError("refuses to compute with such large numbers")
        if isinstance(value, str | list | tuple | dict) and len(value) > LONGEST:
            raise ContentError("refuses to compute with such long lists or strings")
        if isinstance(value, list | tuple):
            _check_size([each for each in value if isinstance(each, int | str)])


def _listed(missing: Mapping[str, Sequence[str]]) -> str:
    """Parts that are not there, with where they are needed."""
    found = []
    for what, origins in missing.items():
        places = list(dict.fromkeys(origin for origin in origins if origin))
        more = f" and {len(places) - MOST_NAMED} more" * (len(places) > MOST_NAMED)
        found.append(f"{what} ({', '.join(places[:MOST_NAMED])}{more})" if places else what)
    return "; ".join(found)


class _Names:
    """Unique names of values; inputs and outputs keep theirs."""

    def __init__(self, *first: Iterable[Ref]) -> None:
        self._names: dict[Ref, str] = {}
        self._numbers: dict[str, int] = {}
        for refs in first:
            for ref in refs:
                self.of(ref)

    def of(self, ref: Ref, op: str = "value") -> str:
        if ref not in self._names:
            stem = name = ref.label or op.rpartition(".")[-1].strip("_").lower()
            while name in self._numbers:
                self._numbers[stem] += 1
                name = f"{stem}_{self._numbers[stem]}"
            self._numbers.setdefault(name, 1)
            self._names[ref] = name
        return self._names[ref]


def _refs_in(value: Any) -> bool:
    """Whether any value within containers is known only when the model runs."""
    if isinstance(value, dict):
        value = list(value.values())
    return isinstance(value, Ref) or (isinstance(value, list | tuple) and any(map(_refs_in, value)))


def _is_variable(template: Any) -> bool:
    """Whether an argument consists only of values that are known when the model runs."""
    return isinstance(template, Slot) or (isinstance(template, list | tuple) and all(map(_is_variable, template)))


def _shown(value: Any) -> str:
    if isinstance(value, Slot):
        return "·"
    if isinstance(value, list | tuple):
        return f"[{', '.join(map(_shown, value))}]"
    return str(value)[:40]


def _identity(x: Any) -> Any:
    return x
