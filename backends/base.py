"""The protocol of a device's backend."""

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from typing import Annotated, Any, Protocol, TypeAlias, runtime_checkable

import numpy.typing as npt

Array: TypeAlias = Annotated[Any, "an array of some backend"]
"""`numpy.ndarray`, `cupy.ndarray`, or a third party's class. As an annotation in an op it marks an input."""

HostArray: TypeAlias = npt.NDArray[Any]


class DeviceUnavailableError(RuntimeError):
    """This machine or this installation does not have the requested device."""


@runtime_checkable
class Backend(Protocol):
    """A device: the array module `xp`, and the few functions in which array libraries differ.

    `xp` has NumPy's functions under NumPy's names, for arrays of `array_type`. These arrays behave like NumPy's
    (operators, `shape`, `dtype`, `reshape`, `swapaxes`, `astype`, `base`, ...) and follow NumPy 2's promotion of
    Python scalars. Ops use only `xp`. No method is called once per element.
    """

    @property
    def xp(self) -> Any:
        """The array module."""

    @property
    def functions(self) -> Any:
        """An object with some functions of `xp`: `where`, `logaddexp`, `floor_divide`, `remainder`, maybe faster."""

    @property
    def array_type(self) -> type:
        """The class of this backend's arrays."""

    @property
    def current(self) -> Callable[[], AbstractContextManager[object]] | None:
        """Returns a context in which `xp` makes arrays and computes on this device; None if it always does.

        The methods below that take arrays are called in it, except `owns` and those that move or wrap arrays.
        """

    def owns(self, array: Array) -> bool:
        """Whether `array` is on this device."""

    def from_host(self, array: HostArray) -> Array:
        """A new array on this device with the values of `array`; the two never share memory."""

    def to_host(self, array: Array) -> HostArray:
        """The values of `array` as a NumPy array; shares memory where the device is the host."""

    def from_device(self, array: Array, source: "Backend") -> Array:
        """A new array on this device with the values of `array`, which is on `source`."""

    def as_array(self, value: Any) -> Array:
        """`value`, a result of `xp`, as an array of `array_type`: some NumPy functions return scalars."""

    def scatter_add(self, target: Array, index: Any, values: Array) -> None:
        """`target[index] += values` in place; an index that occurs several times adds all of its values."""

    def write(self, target: Array, index: Any, values: Array) -> None:
        """`target[index] = values` in place; of several values for one element, the last one stays."""

    def erf(self, x: Array) -> Array:
        """The error function."""

    def matmul(self, x: Array, y: Array) -> Array:
        """The matrix product of arrays of two or more dimensions, as `xp.matmul` computes it."""

    def sorting_order(self, x: Array, axis: int, descending: bool, first: int | None = None) -> Array:
        """The indices (int64) that sort x along a non-negative axis; equal elements keep their order.

        NaN is larger than all numbers. If `first` is given, only the first `first` indices are returned.
        """

    # Along a non-negative axis, of arrays of one shape and dtype. `scans.ScanKernels` implements them with `xp`.

    def running_sum(self, arrays: Sequence[Array], axis: int, reverse: bool) -> Array:
        """The sum of all elements of an array up to each place, or from it on if `reverse`; see `sums.running`."""

    def running_product(self, arrays: Sequence[Array], axis: int, before: bool) -> Array:
        """The product of all elements of an array up to each place; if `before`, without the element there.

        Floats are multiplied in float64, and each result is rounded once. The product of integers has 64 bits.
        """

    def linear_recurrence(self, arrays: Sequence[Array], axis: int, reverse: bool) -> Array:
        """For factors and terms, y[k] = terms[k] + factors[k] · y[k - 1].

        If `reverse`, y[k] = terms[k] + factors[k + 1] · y[k + 1].
        """

    def running_extreme(self, arrays: Sequence[Array], axis: int, smallest: bool) -> Array:
        """The index of the largest (or smallest) element up to each place; of equal ones, or of NaNs, the last."""

    # Steps over a sequence. `kernels.ArrayKernels` implements `sequence` with `xp`, to inherit.

    def sequence(self, forward: Any, backward: Any) -> Any:
        """The functions of a step over a sequence: see `emit.sequence.ArraySequence`.

        Args:
            forward: the schedule of the step's program, an `emit.schedule.Forward`.
            backward: that of its derivative, an `emit.schedule.Backward`; None if it is not needed.
        """

    def one_pass(self, dtype: Any) -> Callable[..., Any] | None:
        """A function that compiles elementwise programs of a dtype, each to one loop; None if the device has none.

        It takes a program, an `emit.program.Program` whose values have the shape (BATCH,), and its derivative or None.
        It returns None if it cannot compile them. Otherwise it returns an object with two functions: `forward(inputs)`
        returns a list of the output, and `backward([g, *inputs])` returns the gradients of the derivative.
        """

    # What else a training step spends time in. `training.TrainingKernels` implements it with `xp`.

    def cross_entropy_forward(self, arrays: Sequence[Array], ignore_index: int) -> tuple[Array, tuple[Array, Array]]:
        """For logits (N, C) and class ids (N,): -log softmax of each row at its id; 0 if ignored, NaN if out of range.

        Saved are the maximum of each row and the sum of exp(logit - maximum) over the row. For float16 logits the
        losses and what is saved are float32.
        """

    def cross_entropy_backward(self, arrays: Sequence[Array], ignore_index: int) -> Array:
        """The gradient of the logits, from the logits, the ids, the gradients of the losses, and what was saved."""

    def softmax(self, x: Array, dims: tuple[int, ...], logarithm: bool = False) -> Array:
        """eˣ / Σ eˣ over non-negative dimensions of some length, or its logarithm; NaN if an element is inf."""

    def ctc_forward(self, arrays: Sequence[Array], blank: int) -> tuple[Array, Array]:
        """The losses (N,) of log_probs (T, N, C), labels (N, L), lengths (N,) and ends (N,); see `backends.ctc`.

        Saved is an array of a shape that is the backend's own. For float16 all results are float32.
        """

    def ctc_backward(self, arrays: Sequence[Array], blank: int) -> Array:
        """The gradient of log_probs, from the arrays, the gradients of the losses, the losses, and what was saved."""

    def layer_norm_forward(self, arrays: Sequence[Array | None], eps: float) -> tuple[Array, tuple[Array, Array]]:
        """(x - mean) / √(variance + eps) · weight + bias, over the rows of x (N, C); weight and bias (C,), or None.

        If they are (G, K), row n has those of n % G, and each is that of C / K adjacent elements.

        Saved are the mean and 1 / √(variance + eps) of each row, in float32 for a float16 x.
        """

    def layer_norm_backward(
        self, arrays: Sequence[Array | None], needs_grad: Sequence[bool]
    ) -> tuple[Array | None, Array | None, Array | None]:
        """The gradients of x, weight and bias, from g, x, weight, and the two saved arrays."""

    def dropout(self, x: Array, p: float, key: int) -> Array:
        """x with each element set to 0 with probability p < 1, and the others divided by 1 - p.

        Each element has 32 random bits, from NumPy's Philox4x64-10 with this `key` of zero or more. The element stays
        if they are at least p · 2³².
        """

    def sum_of_squares(self, arrays: Sequence[Array]) -> Array:
        """Σ x² over all elements of arrays of one dtype, 0-d, in float64: float32's squares may overflow or vanish."""

    def scale(self, arrays: Sequence[Array], factor: Array) -> None:
        """Multiplies arrays of one dtype in place by a 0-d factor, which stays on the device.

        The factor has the arrays' dtype, or float32 for float16 arrays.
        """

    # An optimizer's step for many parameters of one dtype, in place. The gradients g stay unchanged.

    def adam_update(
        self,
        parameters: Sequence[Sequence[Array]],
        shrink: float,
        decay: float,
        beta1: float,
        beta2: float,
        eps: float,
        rate: float,
    ) -> None:
        """For p, g, m, v, and with AMSGrad the largest v so far:

        p = shrink · p;  d = g + decay · p;  m = β₁ m + (1 - β₁) d;  v = β₂ v + (1 - β₂) d²;
        p = p - rate · m / (√v + eps).
        """

    def sgd_update(
        self,
        parameters: Sequence[Sequence[Array]],
        decay: float,
        momentum: float,
        share: float,
        rate: float,
        nesterov: bool,
    ) -> None:
        """For p, g, and with momentum the running sum b (without momentum, b is d):

        d = g + decay · p;  b = momentum · b + share · d;  p = p - rate · (d + momentum · b if nesterov else b).
        """

    def synchronize(self) -> None:
        """Returns when all work queued on the device is done."""
