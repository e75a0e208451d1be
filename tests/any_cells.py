"""Steps and cells of many kinds of states, and sequences run row by row in plain Python."""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

import tinygrad_lstm as tg

__all__ = ["STEPS", "GatedCell", "MatrixCell", "checked_derivatives", "drawn", "row_by_row"]

I, H = 3, 2


def drawn(*shape: int, seed: int = 1) -> np.ndarray:
    return np.random.default_rng(seed).uniform(-1, 1, shape)


# -- steps: each with the shapes of its states and weights -------------------------------------------------------------


def single(w: tg.Tensor, x: tg.Tensor, h: tg.Tensor) -> tg.Tensor:
    return tg.tanh(tg.cat([h, x], dim=-1) @ w)


def pair(w: tg.Tensor, x: tg.Tensor, state: Any) -> Any:
    h, c = state
    net = tg.cat([h, x], dim=-1) @ w
    c = tg.sigmoid(net) * c + tg.tanh(net)
    return c * tg.cos(net), c


def matrix(w: tg.Tensor, x: tg.Tensor, state: Any) -> Any:
    """A matrix as a state, which an output reads."""
    h, M = state
    key = tg.tanh(x @ w)  # (B, H)
    M = 0.9 * M + key.unsqueeze(2) * x.unsqueeze(1)  # (B, H, I)
    return (M * x.unsqueeze(1)).sum(-1) + 0.1 * h, M


def counting(w: tg.Tensor, x: tg.Tensor, state: Any) -> Any:
    """An integer state, and one of shape (B,)."""
    h, number, total = state
    return tg.tanh(x @ w) * h + h / (number * number + 1).unsqueeze(1), number + 1, total + (x * x).sum(-1)


def normalizing(w: tg.Tensor, x: tg.Tensor, h: tg.Tensor) -> tg.Tensor:
    """Its derivative at x = 0 is not finite."""
    return 0.5 * h + (x / (x * x).sum(-1, keepdim=True).sqrt()) @ w


def detaching(w: tg.Tensor, x: tg.Tensor, h: tg.Tensor) -> tg.Tensor:
    """No gradient flows through a part of what a product is of."""
    return tg.tanh(h) * tg.tanh(tg.linear(tg.cat([(0.5 * h).detach(), x], dim=-1), w.T))


def joining(w: tg.Tensor, x: tg.Tensor, h: tg.Tensor) -> tg.Tensor:
    """A state whose parts are computed apart."""
    return tg.cat([tg.tanh(x @ w)[:, 1:] + h[:, :1] * h[:, 1:], 0.5 * h[:, 1:]], dim=-1)


def mixing(w: tg.Tensor, x: tg.Tensor, h: tg.Tensor) -> tg.Tensor:
    """A product with a matrix of equal elements, which the step makes."""
    return tg.tanh(x @ w) + 0.3 * h @ tg.full((H, H), 0.5, dtype=h.dtype, device=h.device)


def sliding(w: tg.Tensor, x: tg.Tensor, h: tg.Tensor) -> tg.Tensor:
    """Windows of many kinds, of the input and of the state."""
    signal = tg.conv1d(x.unsqueeze(1), w.unsqueeze(1), padding=1)  # (B, I, 4)
    peaks = tg.max_pool1d(signal, 2) + tg.avg_pool1d(signal, 3, 1)
    spectrum = tg.stft(tg.pad(h, (1, 1), mode="replicate"), 2, 2, center=False)  # (B, 2, 2, 2)
    return tg.tanh(peaks.sum(1) + spectrum.mean((1, 2)) + tg.conv_transpose1d(h.unsqueeze(1), w[None, :1, 1:])[:, 0])


STEPS: dict[str, tuple[Callable[..., Any], tuple[int, int], list[tuple[tuple[int, ...], str]]]] = {
    "single": (single, (H + I, H), [((H,), "float64")]),
    "pair": (pair, (H + I, H), [((H,), "float64"), ((H,), "float64")]),
    "matrix": (matrix, (I, H), [((H,), "float64"), ((H, I), "float64")]),
    "counting": (counting, (I, H), [((H,), "float64"), ((), "int64"), ((), "float64")]),
    "detaching": (detaching, (H + I, H), [((H,), "float64")]),
    "joining": (joining, (I, H), [((H,), "float64")]),
    "mixing": (mixing, (I, H), [((H,), "float64")]),
    "sliding": (sliding, (I, H), [((H,), "float64")]),
    "normalizing": (normalizing, (I, H), [((H,), "float64")]),
}

# -- cells -------------------------------------------------------------------------------------------------------------


class GatedCell(tg.nn.Module):
    """Two states, of which one has a learnt start, and the other, an integer, counts the steps."""

    STATES = ("h", "n")

    def __init__(self, input_size: int, hidden_size: int) -> None:
        self.hidden_size = hidden_size
        self.gate = tg.nn.Linear(input_size + hidden_size, 2 * hidden_size)
        self.start = tg.nn.Parameter(tg.rand(hidden_size))

    def forward(self, x: tg.Tensor, state: Any = None) -> Any:
        if state is None:
            state = self.start.broadcast_to(len(x), self.hidden_size), tg.zeros(len(x), dtype="int64", device=x.device)
        h, n = state
        net_z, net_g = tg.chunk(self.gate(tg.cat([h, x], dim=-1)), 2, dim=-1)
        return h + tg.sigmoid(net_z) * (tg.tanh(net_g) - h), n + 1


class MatrixCell(tg.nn.Module):
    """A matrix as its only state and output, which starts from zeros."""

    def __init__(self, input_size: int, size: int) -> None:
        self.size = size
        self.key, self.value = tg.nn.Linear(input_size, size), tg.nn.Linear(input_size, size)

    def forward(self, x: tg.Tensor, M: Any = None) -> Any:
        M = tg.zeros(len(x), self.size, self.size, dtype=x.dtype, device=x.device) if M is None else M
        return 0.9 * M + tg.tanh(self.key(x)).unsqueeze(2) * self.value(x).unsqueeze(1)


# -- row by row --------------------------------------------------------------------------------------------------------


def as_parts(state: Any) -> list[tg.Tensor]:
    return list(state) if isinstance(state, tuple) else [state]


def row_by_row(
    step: Callable[[tg.Tensor, Any], Any],
    x: tg.Tensor,
    state: Any,
    start: Callable[[int], Any],
    lengths: Sequence[int] | None = None,
    resets: np.ndarray | None = None,
    reverse: bool = False,
) -> tuple[tg.Tensor, list[tg.Tensor]]:
    """A step in a plain loop, for one sequence after the other; what `scan` returns.

    Args:
        start: the state of a row, with a batch of 1, where a sequence begins anew; None for a cell's own.
    """
    T, B = x.shape[:2]
    columns, finals = [], []
    for b in range(B):
        row = tuple(part[b : b + 1] for part in as_parts(state))
        now: Any = row if isinstance(state, tuple) else row[0]
        outputs: list[Any] = [tg.zeros_like(row[0])] * T
        steps = range(T if lengths is None else lengths[b])
        for t in reversed(steps) if reverse else steps:
            now = step(x[t, b : b + 1], start(b) if resets is not None and resets[t, b] else now)
            outputs[t] = as_parts(now)[0]
        columns.append(tg.stack(outputs))  # (T, 1, ...)
        finals.append(as_parts(now))
    return tg.cat(columns, dim=1), [tg.cat(list(parts), dim=0) for parts in zip(*finals, strict=True)]


def checked_derivatives(
    actual: Sequence[tg.Tensor], expected: Sequence[tg.Tensor], inputs: Sequence[tg.Tensor], tolerance: float = 1e-9
) -> None:
    """That values, first and second derivatives are equal."""
    found = [_derivatives(outputs, inputs) for outputs in (actual, expected)]
    for one, other in zip(*found, strict=True):
        np.testing.assert_allclose(one, other, rtol=tolerance, atol=tolerance)


def _derivatives(outputs: Sequence[tg.Tensor], inputs: Sequence[tg.Tensor]) -> list[np.ndarray]:
    weighted = [
        (part * tg.tensor(drawn(*part.shape, seed=k), device=part.device)).sum()
        for k, part in enumerate(outputs)
        if part.requires_grad
    ]
    first: Sequence[Any] = [None] * len(inputs)
    if weighted:
        first = tg.grad(sum(weighted[1:], weighted[0]), inputs, create_graph=True, allow_unused=True)
    first = [tg.zeros_like(each) if one is None else one for one, each in zip(first, inputs)]
    squares = [(part * part).sum() for part in first if part.requires_grad]
    second: Sequence[Any] = [None] * len(inputs)
    if squares:
        second = tg.grad(sum(squares[1:], squares[0]), inputs, allow_unused=True)
    second = [tg.zeros_like(each) if one is None else one for one, each in zip(second, inputs)]
    return [each.detach().cpu().numpy() for each in (*outputs, *first, *second)]


def elementary_functions(x: tg.Tensor, h: tg.Tensor) -> tg.Tensor:
    """A step that has many functions of single elements."""
    x, h = tg.tanh(x) * 0.9, h * 0.5
    smooth = tg.tan(x) + tg.asin(x) - tg.acos(h) + tg.atan(x * 3) + tg.sinh(h) - tg.cosh(x) + tg.asinh(h)
    smooth = smooth + tg.acosh(h * h + 2) + tg.atanh(x) + tg.log2(x * x + 0.1) - tg.log10(h * h + 1)
    smooth = smooth + tg.atan2(x, h - 1) + tg.hypot(x, h + 2) + tg.logaddexp(x, h) + tg.mish(x) + tg.selu(h)
    pieces = tg.ceil(x * 3) + tg.trunc(x * 7) + x * 5 % 1.3 + (h * 5) // 0.7 + tg.remainder(h + 3, x * x + 1)
    pieces = pieces + tg.hardtanh(x * 2) + tg.relu6(x * 9) - tg.hardsigmoid(h * 5) + tg.softsign(x)
    return tg.tanh((smooth + pieces) * 0.1) + tg.where(tg.isinf(x), 1.0, tg.nan_to_num(h)) * 0.1
