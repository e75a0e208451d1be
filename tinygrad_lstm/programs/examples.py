"""Example inputs of a model, and inputs of different lengths made from them."""

import itertools
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np

from tinygrad_lstm.backends.base import HostArray
from tinygrad_lstm.backends.dtypes import is_float

from .._tensor import Tensor, as_tensor, tensor
from ..device import Device, get_device
from ..nn import Module
from .recording import UntraceableError

__all__ = ["EXAMPLE_STEPS", "Dims", "Example", "examples_of", "has_one_length", "lengths_of_runs"]

Dims: TypeAlias = Mapping[int, str]
"""The dynamic dimensions, with their names."""

# The minimum lengths of dynamic dimensions in the second run; the last ones if there are fewer dimensions.
AT_LEAST = (5, 7, 9, 11, 29, 31)
LONG = 128

EXAMPLE_STEPS = (5, 80, 1280)
"""The lengths of a model's own examples: the later ones are for windows that do not fit into the first."""


@dataclass(frozen=True)
class Example:
    """An input.

    Attributes:
        array: its example value.
        device: the device on which the model takes it.
        dims: its dynamic dimensions.
    """

    array: HostArray
    device: Device
    dims: Dims

    def for_run(
        self, run: int, lengths: Mapping[str, tuple[int, int]], rng: np.random.Generator, *, own_integers: bool
    ) -> Tensor:
        """An input with the lengths of the run, and the example's values repeated and slightly changed.

        So results that depend on values outside of ops differ between the runs.

        Args:
            run: 0 or 1.
            own_integers: whether both runs use the example's integers unchanged. Otherwise the largest are replaced by
                the smallest in the first run, and the smallest by the largest in the second; if all are equal, they
                become 0 or 1 in the second.
        """
        array = self.array
        for dim, label in self.dims.items():
            array = np.take(array, np.arange(lengths[label][run]) % array.shape[dim], axis=dim)
        if is_float(array.dtype):
            array = (array + rng.uniform(0, 0.1, array.shape)).astype(array.dtype)
        elif array.size and not own_integers:  # they may be indices: no new values if they differ
            low, high = array.min(), array.max()
            old, new = (high, low) if run == 0 else (low, high if low != high else array.dtype.type(not high))
            array = np.where(array == old, new, array)
        return tensor(array, device=self.device)


def examples_of(
    model: Module,
    inputs: Mapping[str, Any] | None,
    dynamic: Mapping[str, Dims] | None,
    steps: int = EXAMPLE_STEPS[0],
) -> dict[str, Example]:
    """The given inputs, or else the model's own, by name.

    Args:
        dynamic: for some inputs, their dynamic dimensions.
        steps: the length of the model's own.

    Raises:
        UntraceableError: there are no inputs; `dynamic` names unknown inputs or dimensions.
    """
    try:
        own, dims = _own_examples(model, steps)
    except ValueError:
        if inputs is None:
            raise
        own, dims = {}, {}  # a model from a file that does not say the shapes of its inputs
    if inputs is None and not own:
        raise UntraceableError(
            f"a {type(model).__name__} does not define its inputs; give examples of them, by the names of "
            "the parameters of forward, as in inputs={'x': x}"
        )
    given = {name: as_tensor(value) for name, value in (own if inputs is None else inputs).items()}
    dims |= dynamic or {}
    if unknown := [name for name in dynamic or {} if name not in given]:
        raise UntraceableError(f"dynamic names {', '.join(unknown)}, but the inputs are {', '.join(given)}")
    place = next((parameter.device for parameter in model.parameters()), get_device())
    examples: dict[str, Example] = {}
    for name, example in given.items():
        usual = {0: "batch"} if example.ndim == 1 else dict(enumerate(("time", "batch")[: example.ndim]))
        for dim, label in dims.setdefault(name, usual).items():
            if not 0 <= dim < example.ndim or not example.shape[dim]:
                raise UntraceableError(
                    f"{label!r} is to be dimension {dim} of {name!r}, whose example has shape "
                    f"{example.shape}; expected a dimension of length 1 or more"
                )
        is_tensor = inputs is None or isinstance(inputs[name], Tensor)
        array = example.device.backend.to_host(example.data)
        examples[name] = Example(array, example.device if is_tensor else place, dims[name])
    return examples


def has_one_length(model: Module) -> bool:
    """Whether a model from a file says its free lengths, and they are few, such as the time and the batch."""
    free: Callable[[], Mapping[str, Dims]] | None = getattr(model, "free_lengths", None)
    return free is not None and len({label for dims in free().values() for label in dims.values()}) <= 2


def _own_examples(model: Module, T: int) -> tuple[Mapping[str, Any], dict[str, Dims]]:
    """The model's own example inputs, and their dynamic dimensions: by default those of time and batch."""
    make: Callable[[int, int], Mapping[str, Tensor]] | None = getattr(model, "example_inputs", None)
    if make is None:
        return {}, {}
    B = 3
    given = make(T, B)
    if hasattr(model, "free_lengths"):
        return given, dict(model.free_lengths())
    others = {"time": make(T + 1, B), "batch": make(T, B + 1)}
    dims: dict[str, Dims] = {}
    for name, example in given.items():
        changed = {label: np.not_equal(other[name].shape, example.shape) for label, other in others.items()}
        dims[name] = {int(dim): label for label, where in changed.items() for dim in np.flatnonzero(where)}
    return given, dims


def lengths_of_runs(examples: Mapping[str, Example], *, multiples: bool) -> dict[str, tuple[int, int]]:
    """The length of each dynamic dimension in both runs, by name: in the first about that of the example.

    The lengths are chosen to reveal dependence on them. In the second run their order is reversed, since a model may
    take `min(T, B)` or `x[:B]`, and all remainders differ, since it may branch on one.

    Args:
        multiples: whether they are multiples of the example's lengths, in any order.

    Raises:
        UntraceableError: examples differ in the length of a dimension, or there are too many dimensions.
    """
    lengths: dict[str, tuple[str, int]] = {}
    for name, example in examples.items():
        for dim, label in example.dims.items():
            other, length = lengths.setdefault(label, (name, example.array.shape[dim]))
            if length != example.array.shape[dim]:
                raise UntraceableError(
                    f"{label!r} is {length} of {other!r} and {example.array.shape[dim]} of {name!r}; say "
                    f"which dimensions may be of any length, as in dynamic={{{name!r}: {{1: 'batch'}}}}"
                )
    if len(lengths) > len(AT_LEAST):
        raise UntraceableError(f"expected at most {len(AT_LEAST)} dynamic dimensions, got {', '.join(lengths)}")
    first: dict[str, int] = {}
    second: dict[str, int] = {}
    for label, (_, length) in lengths.items():
        longer = itertools.count(max(length, 2))
        first[label] = next(n for n in longer if multiples or n not in first.values())
    for label, low in zip(sorted(first, key=lambda label: -first[label]), AT_LEAST[-len(first) :], strict=False):
        length = first[label]
        if multiples:
            numbers = itertools.count(2 * length, length)
            second[label] = next(n for n in numbers if n >= low and n not in second.values())
        else:  # windows of any stride are more in twice the length; a long example may be longer than needed
            low = max([low, *(n + 1 for n in second.values()), 2 * length if length < LONG else 0])
            second[label] = next(n for n in itertools.count(low) if math.gcd(n - length, 2 * 3 * 5 * 7) == 1)
    return {label: (length, second[label]) for label, length in first.items()}
