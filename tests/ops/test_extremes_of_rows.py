"""Reductions, and what normalizes, at extremes: see test_extremes.py."""

import functools
import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from ops.cases_elementwise import sigmoid
from ops.limits import INF, NAN, HostArray, assert_limits, every_dtype, run

import tinygrad_lstm as tg
from tinygrad_lstm.ops import cumulative, reduction, sorting


def rows_of(dtype: str) -> dict[str, list[float]]:
    info = np.finfo(dtype)
    largest, least = float(info.max), float(info.smallest_subnormal)
    return {
        "ordinary": [1, -2, 0.5],
        "zeros": [0, 0, 0],
        "minus zeros": [-0.0, 0, -0.0],
        "equal": [0.3, 0.3, 0.3],
        "inf": [INF, 1, 2],
        "minus inf": [1, -INF, 2],
        "two infs": [INF, INF, 1],
        "only minus inf": [-INF, -INF, -INF],
        "both infs": [INF, -INF, 1],
        "nan": [1, NAN, 2],
        "two nans": [NAN, NAN, INF],
        "a zero": [0, 3, 4],
        "largest": [largest, 1, -1],
        "both largest": [largest, -largest, 0],
        "smallest": [least, -least, 0],
    }


def softmax(x: HostArray) -> HostArray:
    powers = np.exp(x - np.max(x))
    return np.asarray(powers / np.sum(powers))


def shares_of_sum(x: HostArray) -> HostArray:
    """Of log Σ eˣ, where infinity is not the only element."""
    total = np.logaddexp.reduce(x)
    return np.zeros_like(x) if total == -INF else np.exp(x - total)


def slope_of_sum(x: HostArray) -> HostArray:
    """Of log Σ eˣ."""
    return np.zeros_like(x) if np.max(x) == -INF else softmax(x)


def chosen_so_far(x: HostArray) -> HostArray:
    """How often an element is the largest so far, of equal elements or NaNs the last."""
    places = [max(range(n), key=lambda k: (np.isnan(x[k]), x[k], k)) for n in range(1, x.size + 1)]
    return np.bincount(places, minlength=x.size)


def shares_of_extreme(x: HostArray, extreme: Any) -> HostArray:
    ties = np.isnan(x) | (x == extreme)
    return ties / np.sum(ties)


def norm(x: HostArray, p: float) -> Any:
    return np.max(np.abs(x)) if p == INF else np.sum(np.abs(x) ** p) ** (1 / p)


def norm_slope(x: HostArray, p: float) -> HostArray:
    if p == INF:
        return np.sign(x) * shares_of_extreme(np.abs(x), np.max(np.abs(x)))
    return np.where(x == 0, 0, np.sign(x) * (np.abs(x) / norm(x, p)) ** (p - 1))


# By name: the function, its value, and its gradient, of a row.
ROWWISE: dict[str, tuple[Callable[..., Any], Callable[..., Any], Callable[..., Any]]] = {
    "sum": (tg.sum, np.sum, np.ones_like),
    "mean": (tg.mean, np.mean, lambda x: np.full(x.shape, np.longdouble(1) / x.size)),
    "cumsum": (lambda x: tg.cumsum(x, 0), np.cumsum, lambda x: np.arange(x.size, 0, -1)),
    "cumprod": (
        lambda x: tg.cumprod(x, 0),
        np.cumprod,
        lambda x: [1 + x[1] * (1 + x[2]), x[0] * (1 + x[2]), x[0] * x[1]],
    ),
    "logcumsumexp": (
        lambda x: tg.logcumsumexp(x, 0),
        np.logaddexp.accumulate,
        lambda x: sum(np.append(shares_of_sum(x[:n]), np.zeros(x.size - n)) for n in range(1, x.size + 1)),
    ),
    "cummax": (lambda x: tg.cummax(x, 0).values, np.maximum.accumulate, lambda x: chosen_so_far(x)),
    "cummin": (lambda x: tg.cummin(x, 0).values, np.minimum.accumulate, lambda x: chosen_so_far(-x)),
    "prod": (tg.prod, np.prod, lambda x: [x[1] * x[2], x[0] * x[2], x[0] * x[1]]),
    "var": (tg.var, lambda x: np.var(x, ddof=1), lambda x: x - np.mean(x)),
    "std": (tg.std, lambda x: np.std(x, ddof=1), lambda x: std_slope(x)),
    "amax": (tg.amax, np.max, lambda x: shares_of_extreme(x, np.max(x))),
    "amin": (tg.amin, np.min, lambda x: shares_of_extreme(x, np.min(x))),
    "max": (tg.max, np.max, lambda x: shares_of_extreme(x, np.max(x))),
    "min": (tg.min, np.min, lambda x: shares_of_extreme(x, np.min(x))),
    "sort": (lambda x: tg.sort(x, descending=True).values, lambda x: np.sort(x)[::-1], np.ones_like),
    "topk": (lambda x: tg.topk(x, 3, largest=False).values, np.sort, np.ones_like),
    "median": (tg.median, lambda x: median(x), lambda x: shares_of_extreme(x, median(x))),
    "nanmedian": (
        tg.nanmedian,
        lambda x: median(x[x == x]),
        lambda x: (x == median(x[x == x])) / sum(x == median(x[x == x])),
    ),
    "quantile": (
        lambda x: tg.quantile(x, 0.75),
        lambda x: np.dot(shares_of_quantile(x), np.where(shares_of_quantile(x), x, 0)),
        lambda x: shares_of_quantile(x),
    ),
    "diff": (lambda x: tg.diff(x, 2), lambda x: np.diff(x, 2), lambda x: [1, -2, 1]),
    "logsumexp": (tg.logsumexp, np.logaddexp.reduce, lambda x: slope_of_sum(x)),
    **{
        f"norm-{p}": (
            functools.partial(tg.norm, p=p),
            functools.partial(norm, p=p),
            functools.partial(norm_slope, p=p),
        )
        for p in (0.5, 1, 1.5, 2, 3, INF)
    },
    "softmax": (lambda x: tg.softmax(x)[0], lambda x: softmax(x)[0], lambda x: softmax(x)[0] * (first(x) - softmax(x))),
    "log_softmax": (
        lambda x: tg.log_softmax(x)[0],
        lambda x: x[0] - np.logaddexp.reduce(x),
        lambda x: first(x) - softmax(x),
    ),
    "glu": (
        lambda x: tg.glu(tg.cat([x, x])),
        lambda x: x * sigmoid(x),
        lambda x: sigmoid(x) * (1 + x * sigmoid(-x)),
    ),
    "cross_entropy": (
        lambda x: tg.cross_entropy(x, 0),
        lambda x: np.logaddexp.reduce(x) - x[0],
        lambda x: softmax(x) - first(x),
    ),
    "cross_entropy of probabilities": (
        lambda x: tg.cross_entropy(x, tg.tensor([1.0, 0.0, 0.0], x.dtype, x.device)),
        lambda x: np.logaddexp.reduce(x) - x[0],
        lambda x: softmax(x) - first(x),
    ),
    "cross_entropy of weights": (
        lambda x: tg.cross_entropy(
            x, 0, tg.tensor([1.0, 0.0, 0.0], x.dtype, x.device), label_smoothing=0.3, reduction="sum"
        ),
        lambda x: 0.8 * (np.logaddexp.reduce(x) - x[0]),
        lambda x: 0.8 * (softmax(x) - first(x)),
    ),
}
REDUCTIONS = {name.partition("-")[0] for name in ROWWISE} & {
    *reduction.__all__,
    *cumulative.__all__,
    *sorting.__all__,
    "glu",
}


def first(x: HostArray, place: Any = 0) -> HostArray:
    return 1.0 * (np.arange(x.size) == place)


def shares_of_quantile(x: HostArray) -> HostArray:
    """Of a half between the second and the third of three elements; nothing is between infinities."""
    second, third = (first(x, place) for place in np.argsort(x, kind="stable")[1:])
    return second if np.isinf(np.sort(x)[1]) else (second + third) / 2


def median(x: HostArray) -> Any:
    return np.quantile(x, 0.5, method="lower")


def std_slope(x: HostArray) -> HostArray:
    return np.asarray((x - np.mean(x)) / (np.std(x, ddof=1) * 2)) if np.std(x) else np.zeros_like(x)


def is_left_out(name: str, row: str, dtype: str) -> bool:
    """Where a sum overflows, or squares vanish, which they do not in the wider dtype that float16 is reduced in."""
    kind = name.partition("-")[0]
    if dtype != "float16" and kind in ("mean", "var", "std", "norm") and ("largest" in row or row == "smallest"):
        return True
    if name in ("prod", "cumprod") and row == "both largest":
        return True  # overflows before it comes to the 0, as NumPy's
    if name == "quantile" and row == "two nans":
        return True  # the gradient goes to the last
    return name == "norm-inf" and row in ("two nans", "nan")  # which NaN is the largest is the same as of `max`


@every_dtype
@pytest.mark.parametrize("name", ROWWISE)
def test_a_function_of_rows(name: str, dtype: str, device: str) -> None:
    call, reference, slope = ROWWISE[name]
    for row, numbers in rows_of(dtype).items():
        if is_left_out(name, row, dtype):
            continue
        x = np.array(numbers, dtype)
        with np.errstate(all="ignore"):
            wide = x.astype("longdouble")
            expected = [np.asarray(reference(wide)), np.asarray(slope(wide), "longdouble")]
            finite = all(np.isfinite(e.astype(dtype)).all() for e in expected)
        with warnings.catch_warnings():
            warnings.simplefilter("error" if finite else "ignore")
            value, gradient = run(call, [x], device)
        assert_limits(value, expected[0], dtype, f"{name} of {row}, the value")
        if not np.isnan(expected[0]).all():
            assert_limits(gradient, expected[1], dtype, f"{name} of {row}, the gradient")
        elif np.isnan(x).any():
            assert gradient[np.isnan(x)].all(), f"{name} of {row}: the gradient of a NaN is 0"


@pytest.mark.parametrize("extreme", [tg.max, tg.min, functools.partial(tg.norm, p=INF)])
@pytest.mark.parametrize("create_graph", [False, True])
def test_more_ties_than_float16_can_count(extreme: Any, create_graph: bool, device: str) -> None:
    x = tg.ones(70_000, dtype="float16", device=device, requires_grad=True)
    (g,) = tg.grad(extreme(x), x, create_graph=create_graph)
    np.testing.assert_array_equal(g.detach().cpu().numpy(), np.full(70_000, 1 / 70_000, "float16"))
