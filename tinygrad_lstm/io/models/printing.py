"""A model as a readable program: its steps in order, with the shapes of their results."""

import dataclasses
import itertools
import math
import random
import time
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from tinygrad_lstm.backends.base import HostArray

from ...mode import Switch
from ...printable import printable
from ...random import forked_draws
from .body import Body, Step, watching
from .names import batches_of

__all__ = ["MOST_PRINTED", "lengths_of_runs", "program_lines", "shapes_by_step"]

LONGEST = 8  # the longest array that is shown
MOST_MULTIPLIED = 16  # the most free lengths of which products are looked for
MOST_FACTOR = 1024  # the largest number in the expression of a length

BASES = (13, 640)  # the shortest length of a run
RUNS = 8
ENOUGH_SECONDS = 1.0  # after which no run begins, except a second one
MOST_SECONDS = 2.0  # after which a run ends

MOST_PRINTED = 2**22
"""The most elements of the inputs with which `print` runs a model, to know shapes."""

PRODUCTS = {"BatchMatMulV2", "MatMul"}
"""Products of matrices."""

TIMES = {"Resize", "Tile", "Upsample"}
"""Ops whose results are a number of times as large as their inputs."""

AS_LARGE_AS_GIVEN = TIMES | {
    "BroadcastTo", "CenterCropPad", "ConstantOfShape", "Expand", "EyeLike", "Fill", "LinSpace", "MirrorPad", "OneHot",
    "Pad", "PadV2", "Range", "TensorArrayV3", "TensorListReserve", "TensorListResize",
}  # fmt: skip
"""Ops whose results are as large as numbers among their inputs say."""

Lengths = Mapping[str, int]


def program_lines(
    body: Body, names: Mapping[str, str], constants: Mapping[str, HostArray], shapes: Mapping[int, Sequence[str]]
) -> Iterator[str]:
    """The lines of a body: its steps, and indented the bodies within them.

    Args:
        names: what to call a value, if not by its name.
        constants: arrays on the host, which are shown themselves if they are short.
        shapes: the results' shapes, by the identities of steps.
    """
    for step in body.steps:
        function = step.function
        shown = step.inputs[: len(step.inputs) - len(getattr(function, "captured", ()))]
        arguments = [_argument(name, names, constants) for name in shown]
        while arguments and arguments[-1] == "None":
            arguments.pop()
        arguments += [step.settings] * bool(step.settings)
        results = [
            f"{name} {shape}".rstrip() if name else "_"
            for name, shape in itertools.zip_longest(step.outputs, shapes.get(id(step), ()), fillvalue="")
        ]
        while results[1:] and results[-1] == "_":
            results.pop()
        yield printable(f"{', '.join(results)} = {step.op}({', '.join(arguments)})")
        for name, within in _bodies(function):
            yield f"    {name}({printable(', '.join(within.inputs))}):"
            yield from (f"        {line}" for line in program_lines(within, names, constants, shapes))
            yield printable(f"        outputs: {', '.join(within.outputs)}")


def _bodies(function: Any) -> Iterator[tuple[str, Body]]:
    if dataclasses.is_dataclass(function):
        for field in dataclasses.fields(function):
            if isinstance(value := getattr(function, field.name), Body):
                yield field.name, value


def _argument(name: str, names: Mapping[str, str], constants: Mapping[str, HostArray]) -> str:
    array = constants.get(name)
    if array is not None and array.size <= LONGEST:
        return _shown(array)
    return names.get(name, name) or "None"


def _shown(value: Any) -> str:
    """Numbers, with the digits that their dtype has."""
    return f"[{', '.join(map(_shown, value))}]" if np.ndim(value) else str(value)


# -- shapes ------------------------------------------------------------------------------------------------------------


def lengths_of_runs(names: Sequence[str]) -> Iterator[list[Lengths]]:
    """Lengths for each name in several runs: short ones, then longer ones, if only one is not a batch.

    They tell from which name a length comes, and by which expression. The smallest run is the first.
    """
    some = random.Random(0)
    batches = batches_of(names)
    for base in BASES if len(names) - len(batches) < 2 else BASES[:1]:
        drawn = {name: some.sample(range(2 * RUNS), RUNS) for name in names}
        runs = [
            {name: (3 if name in batches else base) + drawn[name][run] for name in names}
            for run in range(RUNS if names else 1)
        ]
        yield sorted(runs, key=lambda own: sum(own.values()))


def shapes_by_step(names: Sequence[str], run: Callable[[Lengths], object], most: int) -> dict[int, tuple[str, ...]]:
    """The shapes of the results of each step that runs, by the identities of steps.

    Args:
        names: those of free lengths.
        run: runs the model with inputs of these lengths. If it fails, only the steps before have shapes.
        most: a run ends before a step whose result may have more elements.
    """
    best: dict[int, tuple[str, ...]] = {}
    begun, draws = time.monotonic(), forked_draws()
    for lengths in lengths_of_runs(names):
        runs: list[dict[int, list[Any]]] = []
        failed = False
        for own in lengths:
            noting = _Noting(time.monotonic() + MOST_SECONDS, most)
            quiet = warnings.catch_warnings(action="ignore")
            with quiet, Switch(recording=False, tracer=None), draws(), watching(noting):
                try:
                    run(own)
                except Exception:  # a model may be printed though it cannot run with such inputs
                    failed = True
            runs.append(noting.seen)
            if len(runs) > 1 and time.monotonic() - begun > ENOUGH_SECONDS:
                break
        values = {name: tuple(own[name] for own in lengths[: len(runs)]) for name in names}
        steps = [step for step in runs[0] if all(step in seen for seen in runs)]
        found = {
            step: tuple(_shape(each, values) for each in zip(*(seen[step] for seen in runs), strict=True))
            for step in steps
        }
        best = max(best, found, key=len)
        if not failed or not names or time.monotonic() - begun > ENOUGH_SECONDS:
            break
    return best


class _Noting:
    """Notes the shapes of results, and fails after a time, as a loop may have no end, or if results are too large.

    Args:
        until: when it fails, by `time.monotonic`.
        most: the most elements of a result.

    Attributes:
        seen: the shapes of the results of each step, by the identities of steps.
    """

    def __init__(self, until: float, most: int) -> None:
        self.seen: dict[int, list[Any]] = {}
        self._until, self._most = until, most

    def before(self, step: Step, arguments: Sequence[Any]) -> None:
        if time.monotonic() > self._until:
            raise TimeoutError
        if _bound(step, arguments) > self._most:
            raise MemoryError

    def after(self, step: Step, result: Any) -> None:
        results = [result] if len(step.outputs) == 1 else list(result)
        self.seen[id(step)] = [getattr(each, "shape", None) for each in results]
        if sum(getattr(each, "size", 0) for each in results) > self._most:
            raise MemoryError


def _bound(step: Step, arguments: Sequence[Any]) -> float:
    """The most elements that the result of a step may have, as far as numbers among its arguments and broadcasting say.

    An op of a different kind is run, as its result is hardly larger than its arguments, which are limited.
    """
    shapes: list[tuple[int, ...]] = [each.shape for each in arguments if hasattr(each, "shape")]
    if step.op in AS_LARGE_AS_GIVEN:
        numbers = [each.flat for each in arguments if isinstance(each, np.ndarray)]
        given = max((math.prod(max(1.0, abs(float(one))) for one in each) for each in numbers), default=1.0)
        return given * max(map(math.prod, shapes)) if step.op in TIMES else given
    try:
        if step.op in PRODUCTS:
            a, b = shapes
            return math.prod(np.broadcast_shapes(a[:-2], b[:-2])) * math.prod(a[-2:-1]) * math.prod(b[-1:])
        return math.prod(np.broadcast_shapes(*shapes))
    except ValueError:  # not an op that broadcasts
        return 0


def _shape(shapes: Sequence[Any], lengths: Mapping[str, tuple[int, ...]]) -> str:
    """A shape that is these in the runs."""
    if any(shape is None for shape in shapes):
        return ""
    if len({len(shape) for shape in shapes}) > 1:
        return "(...)"
    parts = [_length(tuple(map(int, each)), lengths) for each in zip(*shapes, strict=True)]
    return f"({', '.join(parts)}{',' * (len(parts) == 1)})"


def _length(found: tuple[int, ...], lengths: Mapping[str, tuple[int, ...]]) -> str:
    """A length that is these numbers in the runs, as an expression; "?" if there is no simple one, or several."""
    if len(set(found)) == 1:
        return str(found[0])
    for name, own in lengths.items():
        if found == own:
            return name
    products = {
        f"{a}*{b}": tuple(map(int.__mul__, lengths[a], lengths[b]))
        for a, b in itertools.combinations_with_replacement(lengths if len(lengths) <= MOST_MULTIPLIED else (), 2)
    }
    for name, own in {**lengths, **products}.items():
        if found == own:
            return name
        factor, left = divmod(found[0], own[0])
        if not left and factor < MOST_FACTOR and found == tuple(factor * each for each in own):
            return f"{name}*{factor}"
    for name, own in lengths.items():
        if len({a - b for a, b in zip(found, own, strict=True)}) == 1:
            more = found[0] - own[0]
            return f"{name}{'+' if more > 0 else '-'}{abs(more)}"
        if (quotient := _quotient(name, found, own)) is not None:
            return quotient
    return "?"


def _quotient(name: str, found: tuple[int, ...], own: tuple[int, ...]) -> str | None:
    """A length as (n + c) // k, if the numbers determine c and k."""
    (n, a), (m, b) = min(zip(own, found, strict=True)), max(zip(own, found, strict=True))
    if b <= a:
        return None
    fits = []
    for k in range(2, (m - n) // (b - a) + 2):
        low = max(of * k - each for of, each in zip(found, own, strict=True))
        high = min(of * k - each + k - 1 for of, each in zip(found, own, strict=True))
        fits += [(k, c) for c in range(low, high + 1)]
    if len(fits) != 1:
        return None
    ((k, c),) = fits
    return f"({name}{'+' if c > 0 else '-'}{abs(c)})//{k}" if c else f"{name}//{k}"
