"""The protocol that a device's backend fulfils."""

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from typing import Annotated, Any, Protocol, TypeAlias, runtime_checkable

import numpy.typing as npt

Array: TypeAlias = Annotated[Any, "an array of some backend"]
"""`numpy.ndarray`, `cupy.ndarray`, or a third party's own; as an annotation of an op's parameter, an input."""

HostArray: TypeAlias = npt.NDArray[Any]


class DeviceUnavailableError(RuntimeError):
    """A device was asked for that this machine, or this installation, does not have."""


@runtime_checkable
class Backend(Protocol):
    """A device: the array module `xp`, and the few things in which array libraries differ.

    `xp` offers NumPy's functions under NumPy's names over arrays of `array_type`, which behave like NumPy's
    (operators, `shape`, `dtype`, `reshape`, `swapaxes`, `astype`, `base`, ...) and follow NumPy 2's promotion of
    Python scalars. Ops are written against `xp` alone; nothing here is called per element.
    """

    @property
    def xp(self) -> Any:
        """The array module."""

    @property
    def array_type(self) -> type:
        """The class of this backend's arrays."""

    @property
    def current(self) -> Callable[[], AbstractContextManager[object]] | None:
        """Gives a context within which `xp` makes arrays, and computes with arrays, on this device; None if it always
        does.

        The methods below that take arrays are called within it, but for `owns` and those that move or wrap arrays.
        """

    def owns(self, array: Array) -> bool:
        """Whether `array` lies on this very device."""

    def from_host(self, array: HostArray) -> Array:
        """A new array on this device with the values of `array`; the two never share memory."""

    def to_host(self, array: Array) -> HostArray:
        """The values of `array` as a NumPy array; shares memory where the device is the host."""

    def from_device(self, array: Array, source: "Backend") -> Array:
        """A new array on this device with the values of `array`, which lies on `source`."""

    def as_array(self, value: Any) -> Array:
        """`value`, a result of `xp`, as an array of `array_type`: some functions of NumPy's return scalars."""

    def scatter_add(self, target: Array, index: Any, values: Array) -> None:
        """`target[index] += values` in place, where places that `index` names twice receive both."""

    def write(self, target: Array, index: Any, values: Array) -> None:
        """`target[index] = values` in place, where of several values for one place the last stays."""

    def erf(self, x: Array) -> Array:
        """The error function."""

    def matmul(self, x: Array, y: Array) -> Array:
        """The matrix product of arrays of two or more dimensions, as `xp.matmul` gives it."""

    # Whole recurrent layers, as `tinygrad_lstm.ops.recurrent` describes their operands and outputs. A forward function
    # gives the outputs and, with `saving`, what its backward function takes as `saved`. A backward function takes the
    # gradients `g` of the outputs, and gives those of the operands; what `wanted` says nobody asks for may be None.
    # Both are looked into. So what is saved is the same on every backend: the states hs (T + 1, B, H), each before and
    # after its step in the order of the sequence, of an LSTM also cs; then the gates (T, B, gates · H), past σ, tanh,
    # in the order of the weights' rows (an RNN has none); of a GRU also U_n·h + b_hn (T, B, H). And a backward function
    # reads x for the gradient of W alone, and W for that of x alone.
    # A stepper prepares the weights (all operands but x and the states) once, for inference: it gives a function
    # `step(x, states, out)` that from an input (B, I) and the states (B, H) writes the next states into `out`, and that
    # several threads may call at once.
    # `recurrent.RecurrentKernels` has them all in terms of `xp`, to inherit.

    def lstm_forward(
        self, operands: Sequence[Array], lengths: HostArray | None, reverse: bool, saving: bool
    ) -> tuple[tuple[Array, ...], Any]:
        """A layer of an LSTM in one direction."""

    def lstm_backward(
        self,
        g: Sequence[Array],
        operands: Sequence[Array],
        saved: Any,
        lengths: HostArray | None,
        reverse: bool,
        wanted: Sequence[bool],
    ) -> Sequence[Array | None]:
        """The gradients of a layer of an LSTM."""

    def lstm_stepper(self, weights: Sequence[Array]) -> Callable[[Array, Sequence[Array], Sequence[Array]], None]:
        """One step at a time of a layer of an LSTM."""

    def gru_forward(
        self, operands: Sequence[Array], lengths: HostArray | None, reverse: bool, saving: bool
    ) -> tuple[tuple[Array, ...], Any]:
        """A layer of a GRU in one direction."""

    def gru_backward(
        self,
        g: Sequence[Array],
        operands: Sequence[Array],
        saved: Any,
        lengths: HostArray | None,
        reverse: bool,
        wanted: Sequence[bool],
    ) -> Sequence[Array | None]:
        """The gradients of a layer of a GRU."""

    def gru_stepper(self, weights: Sequence[Array]) -> Callable[[Array, Sequence[Array], Sequence[Array]], None]:
        """One step at a time of a layer of a GRU."""

    def rnn_forward(
        self, operands: Sequence[Array], lengths: HostArray | None, reverse: bool, saving: bool
    ) -> tuple[tuple[Array, ...], Any]:
        """A layer of a simple recurrent network in one direction."""

    def rnn_backward(
        self,
        g: Sequence[Array],
        operands: Sequence[Array],
        saved: Any,
        lengths: HostArray | None,
        reverse: bool,
        wanted: Sequence[bool],
    ) -> Sequence[Array | None]:
        """The gradients of a layer of a simple recurrent network."""

    def rnn_stepper(self, weights: Sequence[Array]) -> Callable[[Array, Sequence[Array], Sequence[Array]], None]:
        """One step at a time of a layer of a simple recurrent network."""

    # What a training step spends time in beside its networks. `training.TrainingKernels` has it in terms of `xp`.

    def cross_entropy_forward(self, arrays: Sequence[Array], ignore_index: int) -> tuple[Array, tuple[Array, Array]]:
        """Of logits (N, C) and class ids (N,), each row's -log softmax at its id: 0 if to be ignored, NaN if not there.

        Losses, and what the backward function is to be given, are float32 of float16 logits. What is saved is the
        largest logit of each row, and the sum of the powers of e to the others less it.
        """

    def cross_entropy_backward(self, arrays: Sequence[Array], ignore_index: int) -> Array:
        """The gradient of the logits: of logits, ids, the losses' gradients, and the two arrays that were saved."""

    def layer_norm_forward(self, arrays: Sequence[Array | None], eps: float) -> tuple[Array, tuple[Array, Array]]:
        """(x - mean) / √(variance + eps) · weight + bias, over the rows of x (N, C); weight and bias (C,), or None.

        What is saved is each row's mean, and 1 / √(variance + eps); both float32 of a float16 x.
        """

    def layer_norm_backward(
        self, arrays: Sequence[Array | None], wanted: Sequence[bool]
    ) -> tuple[Array | None, Array | None, Array | None]:
        """The gradients of x, weight and bias: of g, x, weight, and the two arrays that were saved."""

    def dropout(self, x: Array, p: float, key: int) -> Array:
        """x with some elements 0, each with probability p < 1, and the others divided by 1 - p.

        Which, a `key` of zero or more says, by 32 random bits for each from Philox4x64-10 as NumPy has it: an element
        stays where these are p · 2³² or more.
        """

    def sum_of_squares(self, arrays: Sequence[Array]) -> Array:
        """Σ x² over all elements of arrays of one dtype, 0-d, in float64: float32's squares may overflow or vanish."""

    def scale(self, arrays: Sequence[Array], factor: Array) -> None:
        """Multiplies arrays of one dtype in place by a factor, 0-d, which stays on the device.

        It is of the arrays' dtype, or float32 for float16 arrays.
        """

    # A step of an optimizer, in place, of many parameters of one dtype; of their arrays g stays as it is.

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
        """Of p, g, m, v, and with AMSGrad the largest v so far:

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
        """Of p, g, and with momentum the running sum b, without which it is d:

        d = g + decay · p;  b = momentum · b + share · d;  p = p - rate · (d + momentum · b if nesterov else b).
        """

    def synchronize(self) -> None:
        """Returns when all work queued on the device is done."""
