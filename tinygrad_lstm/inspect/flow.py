"""`gradient_flow`: the norm of a loss's gradient at each distance from the last step, and how fast it decays."""

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from tinygrad_lstm.backends.dtypes import FLOAT64, smallest_normal

from .._tensor import Tensor
from ..nn import Module
from ._trace import trace
from .layers import LayerTrace, Trace
from .tables import aligned

__all__ = ["Decay", "FlowCurve", "GradientFlow", "fit_decay", "flow_of", "gradient_flow", "median_flow"]

_SHOWN = (0, 10, 50, 100)  # the distances in a table


@dataclass(frozen=True)
class Decay:
    """An exponential fitted to a curve: norms are proportional to rate^distance.

    Attributes:
        rate: the factor for each step further from the end. At 1 gradients do not decay, above 1 they explode. NaN if
            fewer than two distances could be fitted.
        spread: the typical factor between curve and fit, exp of the root mean square of the log's residuals; 1 is exact
            agreement.
        start, stop: the fitted distances, `start` to `stop - 1`.
        then: why the fitted range ends: "end" (of the curve), "underflow" or "overflow".
    """

    rate: float
    spread: float
    start: int
    stop: int
    then: Literal["end", "underflow", "overflow"]

    @property
    def half_life(self) -> float:
        """The number of steps in which the gradient halves; infinite if it does not decay."""
        if self.rate < 1:
            return math.log(0.5) / math.log(self.rate)
        return math.nan if math.isnan(self.rate) else math.inf

    @property
    def columns(self) -> tuple[str, str, str]:
        """The rate, the half-life and the spread, as tables have them."""
        if math.isnan(self.rate):
            return "-", "-", "-"
        return f"{self.rate:.4f}", f"{self.half_life:.3g}", f"×{self.spread:.2f}"


def fit_decay(norms: npt.ArrayLike, floor: float = 0.0) -> Decay:
    """Fits an exponential by least squares on the log of a curve.

    It fits the first unbroken range of finite values above the floor; later values are ignored.

    Args:
        norms: values by distance (D,), at least 0.
        floor: values up to this are treated as underflow; 0 always is.

    Raises:
        ValueError: the norms do not have one dimension.

    >>> decay = fit_decay([8, 4, 2, 1, 0, 0])
    >>> round(decay.rate, 6), round(decay.half_life, 6), decay.stop, decay.then
    (0.5, 1.0, 4, 'underflow')
    """
    curve = np.asarray(norms, np.float64)
    if curve.ndim != 1:
        raise ValueError(f"fit_decay: expected norms of shape (distances,), got {curve.shape}")
    usable = np.append(np.isfinite(curve) & (curve > max(floor, 0)), False)
    start = int(usable.argmax())
    stop = start + int((~usable[start:]).argmax())
    then: Literal["end", "underflow", "overflow"] = "end"
    if stop < len(curve):
        then = "underflow" if np.isfinite(curve[stop]) else "overflow"
    if stop - start < 2:
        return Decay(math.nan, math.nan, start, stop, then)
    distance, log = np.arange(start, stop), np.log(curve[start:stop])
    off = distance - distance.mean()
    slope = (off * log).sum() / (off * off).sum()
    residual = log - log.mean() - slope * off
    return Decay(_exp(slope), _exp(math.sqrt((residual * residual).mean())), start, stop, then)


def _exp(x: float) -> float:
    return math.exp(min(max(x, -700), 700))  # within the range of a float


@dataclass(frozen=True, eq=False)
class FlowCurve:
    """‖∂L/∂h_t‖ or ‖∂L/∂c_t‖ of a layer, by the distance of t from the last step.

    Attributes:
        layer: the layer's name in the trace.
        state: the state's name, "h" or "c".
        norms: the mean over the sequences that are long enough, float64 (D,); distance 0 is the last step.
        sequences: the number of sequences in each mean, int64 (D,).
        floor: norms below it are inaccurate, since they are near the dtype's smallest numbers.
    """

    layer: str
    state: str
    norms: npt.NDArray[np.float64] = field(repr=False)
    sequences: npt.NDArray[np.int64] = field(repr=False)
    floor: float

    @cached_property
    def decay(self) -> Decay:
        """The exponential fitted to the curve above its floor."""
        return fit_decay(self.norms, self.floor)


@dataclass(frozen=True, eq=False, repr=False)
class GradientFlow:
    """The norms of a loss's gradient back through the steps of a model; `flow["l0", "c"]` is a curve.

    Attributes:
        loss: the loss.
        curves: one curve for each state of each layer.
    """

    loss: float
    curves: tuple[FlowCurve, ...]

    def __getitem__(self, which: tuple[str, str]) -> FlowCurve:
        for curve in self.curves:
            if (curve.layer, curve.state) == which:
                return curve
        there = ", ".join(repr((curve.layer, curve.state)) for curve in self.curves)
        raise KeyError(f"no curve {which!r}; there are {there}")

    def __iter__(self) -> Iterator[FlowCurve]:
        return iter(self.curves)

    def __len__(self) -> int:
        return len(self.curves)

    @property
    def memory(self) -> tuple[FlowCurve, ...]:
        """For each layer the curve of its last state, which is its memory: c of an LSTM, h of a GRU or an RNN."""
        return tuple({curve.layer: curve for curve in self.curves}.values())

    def table(self, distances: Sequence[int] = _SHOWN) -> str:
        """Decay rates, half-lives in steps, spreads of the fits, and the norms at the distances that exist."""
        longest = max((len(curve.norms) for curve in self.curves), default=0)
        there = [distance for distance in distances if distance < longest]
        header = ["layer", "state", "rate", "half-life", "fit", "of steps", *(f"at {distance}" for distance in there)]
        rows = [
            [
                curve.layer,
                curve.state,
                *curve.decay.columns,
                _range(curve.decay),
                *(f"{curve.norms[d]:.1e}" if d < len(curve.norms) else "" for d in there),
            ]
            for curve in self.curves
        ]
        return aligned([header, *rows], left=2)

    def __repr__(self) -> str:
        return f"GradientFlow, loss {self.loss:.4g}, norms by the distance from the last step\n{self.table()}"


def gradient_flow(
    model: Module, x: Any, loss: Callable[[Any], Tensor], state: Any = None, lengths: Any = None
) -> GradientFlow:
    """Measures the norms of a loss's gradient back through the steps of a model's recurrent layers.

    It returns ‖∂L/∂h_t‖ and ‖∂L/∂c_t‖ for every layer, by distance from the last step. Each gradient includes all paths
    from t to the loss. Sequences of different lengths are aligned at their last steps; a layer that runs in reverse has
    its last step at the beginning. A loss of only the last output shows over which distance a model can learn; a loss
    of all outputs adds new gradient at every step.

    Decay rates are fitted to norms above √H times the smallest normal number of the gradients' dtype, since smaller
    numbers lose digits or become 0. (For float64, above √H times its square root, since norms are computed from
    squares.)

    Args:
        model: the model; this and the other arguments are as for `trace`.
        x: the input.
        loss: a function of the model's output, or of the first of its outputs, that returns a scalar.
        state: passed to the model as its second argument, if given.
        lengths: passed to the model as `lengths=`, if given.

    Raises:
        ValueError: as `trace` does.
        MemoryError: as `trace` does.

    >>> import tinygrad_lstm as tg
    >>> from tinygrad_lstm.models import LSTM
    >>> lstm = LSTM(3, 5)
    >>> with tg.no_grad():
    ...     lstm.weight_ih_l0[:], lstm.weight_hh_l0[:] = 0.0, 0.0  # forget gates at σ(1), whatever comes in
    >>> flow = tg.inspect.gradient_flow(lstm, tg.randn(30, 2, 3), lambda out: out[-1].sum())
    >>> round(flow["l0", "c"].decay.half_life, 2)
    2.21
    """
    return flow_of(trace(model, x, state=state, lengths=lengths, loss=loss))


def flow_of(traced: Trace) -> GradientFlow:
    """The gradient flow in a trace that was made with a loss.

    Raises:
        ValueError: it was made without a loss.
    """
    if traced.loss is None:
        raise ValueError("flow_of: this trace has no gradients; give trace() a loss")
    return GradientFlow(traced.loss, tuple(_curve(layer, name) for layer in traced for name in layer.before))


def _curve(layer: LayerTrace, state: str) -> FlowCurve:
    norms, going = layer.gradient_norms(state), layer.going  # (T, B)
    steps = going if layer.reverse else going[::-1]
    ranks = steps.cumsum(axis=0) - 1  # by distance from the step computed last
    distances = (ranks if layer.reverse else ranks[::-1])[going]
    sequences = np.bincount(distances)
    means = np.bincount(distances, norms[going]) / sequences
    smallest = max(smallest_normal(layer.gradients[state].dtype), math.sqrt(smallest_normal(FLOAT64)))
    return FlowCurve(layer.name, state, means, sequences, math.sqrt(layer.gradients[state].shape[2]) * smallest)


def median_flow(flows: Sequence[GradientFlow]) -> GradientFlow:
    """The median, at each distance, of several measurements, such as those of several seeds.

    Raises:
        ValueError: there are none, or they differ in layers, states or lengths.
    """
    looks = {tuple((curve.layer, curve.state, len(curve.norms)) for curve in flow) for flow in flows}
    if len(looks) != 1:
        raise ValueError(f"median_flow: expected flows of one model on sequences of one length, got {len(looks)} kinds")
    curves = tuple(
        FlowCurve(
            same[0].layer,
            same[0].state,
            np.median([curve.norms for curve in same], axis=0),
            np.sum([curve.sequences for curve in same], axis=0),
            max(curve.floor for curve in same),
        )
        for same in zip(*flows, strict=True)
    )
    return GradientFlow(float(np.median([flow.loss for flow in flows])), curves)


def _range(decay: Decay) -> str:
    """The fitted distances, and why they end."""
    steps = f"{decay.start}-{decay.stop - 1}" if decay.start < decay.stop else "none"
    return steps if decay.then == "end" else f"{steps}, {decay.then}"
