"""A step over a sequence in CUDA: the array module's products, and between them generated kernels."""

from collections.abc import Sequence
from functools import partial

from ..base import Array
from ..dtypes import is_float
from ..emit.c_kernels import CannotEmitError
from ..emit.cuda_kernels import cuda_kernel, is_for_cuda
from ..emit.groups import Grouping
from ..emit.program import Group, Value
from ..emit.schedule import Backward, Forward
from ..emit.sequence import ArraySequence
from .launching import THREADS, LaunchedKernels, blocks

__all__ = ["CudaSequence"]


class CudaSequence(ArraySequence):
    """The functions of a step, in which one kernel computes all elementwise ops between two products.

    Attributes:
        kernels: the source of the kernels.
    """

    def __init__(self, forward: Forward, backward: Backward | None) -> None:
        self._dtype = forward.program.states[0].dtype
        self._made: dict[str, str] = {}
        units = Grouping(lambda each: is_float(self._dtype) and is_for_cuda(each, self._dtype), self._group)
        forward, backward = units.forward(forward), backward and units.backward(backward)
        super().__init__(forward, backward)
        lists = [forward.ahead, forward.loop, *((backward.ahead, backward.loop, backward.after) if backward else ())]
        used = [each.op.name for instructions in lists for each in instructions if isinstance(each.op, Group)]
        self.kernels = "\n".join(['#include "elementwise.cuh"\n', *(self._made[name] for name in used)])

    @property
    def sources(self) -> dict[str, str]:
        """The code in Python, and the kernels that it launches."""
        return {**super().sources, "CUDA": self.kernels}

    def _group(self, stem: str, inputs: Sequence[Value], results: Sequence[Value]) -> Group | None:
        """The op of a group, with a kernel; None if there cannot be one."""
        number = 1 + sum(name.startswith(stem) for name in self._made)
        name = f"{stem}_{number}" if number > 1 else stem
        try:
            kernel = cuda_kernel(name, inputs, results)
        except CannotEmitError:
            return None
        self._made[name] = kernel.source
        return Group(name, partial(self._launch, name, kernel.units), kernel.replaceable)

    def _launch(
        self,
        name: str,
        units: int,
        backend: LaunchedKernels,
        rows: int,
        inputs: Sequence[Array],
        results: Sequence[Array],
    ) -> None:
        """Computes the rows of the results."""
        if rows:
            kernel = backend.generated(self.kernels, name, self._dtype)
            kernel(blocks(rows * units), THREADS, (*backend.contiguous(*inputs), *results, rows))
