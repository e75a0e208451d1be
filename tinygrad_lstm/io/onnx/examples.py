"""Example inputs of a model, and inputs of other lengths that are made of them."""

import itertools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np

from ...backends.base import HostArray
from ...device import Device, get_device
from ...nn import Module
from ...tensor import Tensor, as_tensor, tensor

__all__ = ["RUNS", "Dims", "Example", "examples_of", "lengths_of_runs"]

Dims: TypeAlias = Mapping[int, str]
"""The dimensions whose length may be any, with their names."""

RUNS = 4

# How many times as long as in the example each dynamic dimension is in each run; a row a dimension. No row follows from
# another, so that it is seen from which dimension a number comes.
MULTIPLES = tuple(itertools.permutations(range(1, RUNS + 1)))
# How much longer they are besides, so that a number that is rounded to a multiple is seen to differ.
REMAINDERS = (0, 1, 1, 0)


@dataclass(frozen=True)
class Example:
    """An input.

    Attributes:
        array: an example of it.
        device: where the model takes it.
        dims: its dynamic dimensions.
    """

    array: HostArray
    device: Device
    dims: Dims

    def for_run(self, run: int, lengths: Mapping[str, Sequence[int]], rng: np.random.Generator) -> Tensor:
        """An input of the lengths that are those of the run, with the example's values over again, a little changed.

        What a model makes of values outside of ops is then seen to differ from run to run.
        """
        array = self.array
        for dim, label in self.dims.items():
            array = np.take(array, np.arange(lengths[label][run]) % array.shape[dim], axis=dim)
        if array.dtype.kind == "f":
            array = (array + rng.uniform(0, 0.1, array.shape)).astype(array.dtype)
        elif array.size and run in (1, 2):  # of integers, which may mean something, there is no value but the example's
            low, high = array.min(), array.max()
            array = np.where(array == high, low, array) if run == 1 else np.where(array == low, high, array)
        return tensor(array, device=self.device)


def examples_of(
    model: Module, inputs: Mapping[str, Any] | None, dynamic: Mapping[str, Dims] | None
) -> dict[str, Example]:
    """The inputs that are given, or else the model's own, by name.

    Args:
        dynamic: for some inputs, their dynamic dimensions.

    Raises:
        ValueError: there are no inputs; `dynamic` names others, or dimensions that they have not.
    """
    own, dims = _own_examples(model)
    if inputs is None and not own:
        raise ValueError(
            f"export_onnx: a {type(model).__name__} says nothing of its inputs; give examples of them, by the names of "
            "the parameters of forward, as in inputs={'x': x}"
        )
    given = {name: as_tensor(value) for name, value in (own if inputs is None else inputs).items()}
    dims |= dynamic or {}
    if unknown := [name for name in dynamic or {} if name not in given]:
        raise ValueError(f"export_onnx: dynamic names {', '.join(unknown)}, but the inputs are {', '.join(given)}")
    place = next((parameter.device for parameter in model.parameters()), get_device())
    examples: dict[str, Example] = {}
    for name, example in given.items():
        usual = {0: "batch"} if example.ndim == 1 else dict(enumerate(("time", "batch")[: example.ndim]))
        for dim, label in dims.setdefault(name, usual).items():
            if not 0 <= dim < example.ndim or not example.shape[dim]:
                raise ValueError(
                    f"export_onnx: {label!r} is to be dimension {dim} of {name!r}, whose example has shape "
                    f"{example.shape}; expected a dimension of length 1 or more"
                )
        is_tensor = inputs is None or isinstance(inputs[name], Tensor)
        array = example.device.backend.to_host(example.data)
        examples[name] = Example(array, example.device if is_tensor else place, dims[name])
    return examples


def _own_examples(model: Module) -> tuple[Mapping[str, Any], dict[str, Dims]]:
    """The inputs that the model gives as examples, and which dimensions of theirs are time and batch."""
    make: Callable[[int, int], Mapping[str, Tensor]] | None = getattr(model, "example_inputs", None)
    if make is None:
        return {}, {}
    T, B = 5, 3
    given = make(T, B)
    others = {"time": make(T + 1, B), "batch": make(T, B + 1)}
    dims: dict[str, Dims] = {}
    for name, example in given.items():
        changed = {label: np.not_equal(other[name].shape, example.shape) for label, other in others.items()}
        dims[name] = {int(dim): label for label, where in changed.items() for dim in np.flatnonzero(where)}
    return given, dims


def lengths_of_runs(examples: Mapping[str, Example], *, multiples: bool) -> dict[str, Sequence[int]]:
    """How long each dynamic dimension is in each run, by its name.

    Args:
        multiples: whether of the example's length.

    Raises:
        ValueError: examples differ in the length of one, or there are too many of them.
    """
    lengths: dict[str, tuple[str, int]] = {}
    for name, example in examples.items():
        for dim, label in example.dims.items():
            other, length = lengths.setdefault(label, (name, example.array.shape[dim]))
            if length != example.array.shape[dim]:
                raise ValueError(
                    f"export_onnx: {label!r} is {length} of {other!r} and {example.array.shape[dim]} of {name!r}; say "
                    f"which dimensions may be of any length, as in dynamic={{{name!r}: {{1: 'batch'}}}}"
                )
    if len(lengths) > len(MULTIPLES):
        raise ValueError(f"export_onnx: expected at most {len(MULTIPLES)} dynamic dimensions, got {', '.join(lengths)}")
    remainders = (0,) * RUNS if multiples else REMAINDERS
    return {
        label: [max(length, 2) * times + rest for times, rest in zip(row, remainders, strict=True)]
        for (label, (_, length)), row in zip(lengths.items(), MULTIPLES, strict=False)
    }
