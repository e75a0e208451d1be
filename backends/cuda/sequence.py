"""What all kinds of recurrent layers share in CUDA."""

from ..base import Array
from ..recurrent import RecurrentKernels
from ..recurrent.sequence import Lengths, states
from .launching import LaunchedKernels

__all__ = ["CudaSequenceKernels"]


class CudaSequenceKernels(LaunchedKernels, RecurrentKernels):
    """What the kernels of all kinds share."""

    def _of_all_inputs(self, x: Array, weight_ih: Array) -> Array:
        """W·x for all steps, (T, B, rows of W)."""
        T, B, I = x.shape
        return self.gemm(x.reshape(T * B, I), weight_ih.T).reshape(T, B, len(weight_ih))

    def _ends(self, lengths: Lengths) -> Array | None:
        """The lengths of the sequences, on the device."""
        return None if lengths is None else self.from_host(lengths.astype("int64", copy=False))

    def _ends_and_outputs(self, lengths: Lengths, hs: Array, reverse: bool) -> tuple[Array | None, Array]:
        """The lengths, and the array for the outputs (T, B, H): a view of the states if there are no lengths."""
        shown = states(hs, reverse, after=True)
        return self._ends(lengths), shown if lengths is None else self.empty(shown.shape, hs.dtype)
