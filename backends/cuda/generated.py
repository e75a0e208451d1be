"""A step over a sequence in CUDA: the array module's products, and between them generated kernels."""

import math
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import cached_property, partial
from typing import Any

from ..base import Array
from ..dtypes import is_float
from ..emit.c_kernels import CannotEmitError
from ..emit.cuda_kernels import CudaKernel, cuda_kernel, is_for_cuda
from ..emit.groups import Grouping
from ..emit.program import Group, Value, inputs_of, results_of
from ..emit.schedule import Backward, Forward
from ..emit.sequence import ArraySequence, steps_at_once, steps_in_cache
from ..emit.steps import StepOfArrays
from .launching import PACK_BYTES, THREADS, LaunchedKernels, blocks
from .products import Launch, with_products

__all__ = ["CudaSequence"]

_BYTES_AT_ONCE = 64 * 1024 * 1024
"""Of the arrays of many steps: enough for products at full speed, so that chunks of steps need few launches."""

_ENOUGH_FOR_PACKS = 2**20
"""Elements from which a thread computes several: fewer would not fill a device with threads."""

_LARGE = 2**31 - THREADS

_HELPERS = {
    "steps_at_once": partial(steps_at_once, cached=_BYTES_AT_ONCE),
    "steps_in_cache": partial(steps_in_cache, cached=_BYTES_AT_ONCE),
}


class CudaSequence(ArraySequence):
    """The functions of a step, in which one kernel computes all elementwise ops between two products.

    Attributes:
        groups: the instructions that are computed by kernels.
        kernels: the source of the kernels.
    """

    def __init__(self, forward: Forward, backward: Backward | None) -> None:
        self._dtype = forward.program.states[0].dtype
        self._made: dict[str, str] = {}
        forward, backward = _forward_with_products(forward), backward and _backward_with_products(backward)
        units = Grouping(lambda each: is_float(self._dtype) and is_for_cuda(each, self._dtype), self._group)
        forward, backward = units.forward(forward), backward and units.backward(backward)
        super().__init__(forward, backward)
        lists = [forward.ahead, forward.loop, *((backward.ahead, backward.loop, backward.after) if backward else ())]
        # What a rule of the array module computes may be a view with any strides; all other arrays are contiguous.
        lists += [forward.once, *((backward.once, backward.sums) if backward else ())]
        plain = (each for instructions in lists for each in instructions if not isinstance(each.op, Group))
        self._strided = set(results_of(plain))
        self.groups = [each for instructions in lists for each in instructions if each.op.name in self._made]
        self.kernels = self._source(*(each.op.name for each in self.groups))

    @cached_property
    def _codes(self) -> list[tuple[str, dict[str, Any]]]:
        return [(source, {**names, **_HELPERS}) for source, names in super()._codes]

    @property
    def sources(self) -> dict[str, str]:
        """The code in Python, and the kernels that it launches."""
        return {**super().sources, "CUDA": self.kernels}

    def _laid_out(self, backend: LaunchedKernels, arrays: Sequence[Array]) -> Sequence[Array]:
        return backend.contiguous(*arrays)

    def stepper(self, backend: LaunchedKernels, captured: Sequence[Array]) -> StepOfArrays:
        step = super().stepper(backend, captured)

        def contiguous_step(inputs: Sequence[Array], states: Sequence[Array], out: Sequence[Array]) -> None:
            step(backend.contiguous(*inputs), backend.contiguous(*states), out)

        return contiguous_step

    def _source(self, *names: str) -> str:
        return "\n".join(['#include "elementwise.cuh"\n', *map(self._made.__getitem__, names)])

    def _group(self, stem: str, inputs: Sequence[Value], results: Sequence[Value]) -> Group | None:
        """The op of a group, with a kernel; None if there cannot be one."""
        number = 1 + sum(name.startswith(stem) for name in self._made)
        name = f"{stem}_{number}" if number > 1 else stem
        try:
            kernel = cuda_kernel(name, inputs, results, self._dtype)
        except CannotEmitError:
            return None
        self._made[name] = kernel.source
        return Group(name, partial(self._prepared, name, kernel, tuple(inputs)), kernel.replaceable)

    def _prepared(
        self, name: str, kernel: CudaKernel, values: Sequence[Value], backend: LaunchedKernels, rows: int
    ) -> Launch:
        """A launch of a kernel for this number of rows."""
        if not rows:
            return lambda inputs, results: None
        elements = rows * kernel.units
        constants = {"LARGE": 1} if rows * kernel.row_size >= _LARGE else {}

        def compiled(width: int) -> Callable[[tuple[Any, ...]], None]:
            source = self.kernels if width == 1 else self._source(name)  # others have packs of different widths
            found = backend.generated(source, name, self._dtype, width, **constants)
            return partial(found, blocks(elements, width), THREADS)

        size = self._dtype.itemsize
        width = math.gcd(PACK_BYTES // size, kernel.widest) if elements >= _ENOUGH_FOR_PACKS else 1
        launch_packs = compiled(width)
        strided = not self._strided.isdisjoint(values)

        def launch(inputs: Sequence[Array], results: Sequence[Array]) -> None:
            arrays = (*(backend.contiguous(*inputs) if strided else inputs), *results)
            aligned = width == 1 or all(backend.address(arrays[k]) % (width * size) == 0 for k in kernel.packed)
            (launch_packs if aligned else compiled(1))((*arrays, rows))

        return launch


def _forward_with_products(schedule: Forward) -> Forward:
    after = [*schedule.program.outputs, *schedule.kept]
    ahead = with_products(schedule.ahead, [*inputs_of(schedule.loop), *after])
    return replace(schedule, ahead=ahead, loop=with_products(schedule.loop, after))


def _backward_with_products(schedule: Backward) -> Backward:
    after = [*schedule.totals, *schedule.kept, *(g for g in schedule.derivative.gradients if g is not None)]
    after += inputs_of([*schedule.after, *schedule.sums])
    ahead = with_products(schedule.ahead, [*inputs_of(schedule.loop), *after])
    return replace(schedule, ahead=ahead, loop=with_products(schedule.loop, after))
