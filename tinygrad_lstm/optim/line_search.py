"""A line search for a step length that satisfies the strong Wolfe conditions."""

import math
from collections.abc import Callable
from typing import NamedTuple

from .._tensor import Tensor

__all__ = ["Point", "strong_wolfe"]

DECREASE, CURVATURE = 1e-4, 0.9


class Point(NamedTuple):
    """A point on the line: the step length, the loss there, its derivative along the line, and its gradient."""

    t: float
    loss: float
    slope: float
    gradient: Tensor


def strong_wolfe(at: Callable[[float], Point], start: Point, t: float, most: int, shortest: float) -> Point:
    """A point whose loss is lower than at the start by enough, and whose slope is flatter by enough.

    loss(t) ≤ loss(0) + 10⁻⁴ t slope(0) and |slope(t)| ≤ 0.9 |slope(0)|. The steps grow until they bracket such a point,
    then the bracket is narrowed; the next trial is the minimum of a cubic.

    Nocedal and Wright, "Numerical optimization" (2006), algorithms 3.5 and 3.6, with the safeguards of PyTorch's LBFGS.

    Args:
        at: computes the point of a step length.
        start: the point of length 0.
        t: the first length to try.
        most: the number of trials after the first.
        shortest: a bracket that is shorter is not narrowed.

    Returns:
        The point; or the lower end of the bracket, if it was not found.
    """

    def too_high(point: Point) -> bool:
        return point.loss > start.loss + DECREASE * point.t * start.slope

    def flat_enough(point: Point) -> bool:
        return abs(point.slope) <= -CURVATURE * start.slope

    tried, before, point = 0, start, at(t)
    while tried < most:
        if too_high(point) or (tried > 1 and point.loss >= before.loss):
            break
        if flat_enough(point):
            return point
        if point.slope >= 0:
            break
        t = _lowest_of_cubic(before, point, point.t + 0.01 * (point.t - before.t), 10 * point.t)
        before, point = point, at(t)
        tried += 1
    else:
        before = start
    bracket = [before, point]
    low = _lower(bracket)
    was_near_an_end = False
    while tried < most and abs(bracket[1].t - bracket[0].t) >= shortest:
        left, right = sorted((bracket[0].t, bracket[1].t))
        t = _lowest_of_cubic(bracket[0], bracket[1], left, right)
        margin = 0.1 * (right - left)
        near_an_end = min(right - t, t - left) < margin
        if near_an_end and (was_near_an_end or t >= right or t <= left):
            t = right - margin if abs(t - right) < abs(t - left) else left + margin
            near_an_end = False
        was_near_an_end = near_an_end
        point = at(t)
        tried += 1
        if too_high(point) or point.loss >= bracket[low].loss:
            bracket[1 - low] = point
            low = _lower(bracket)
            continue
        if not flat_enough(point) and point.slope * (bracket[1 - low].t - bracket[low].t) >= 0:
            bracket[1 - low] = bracket[low]
        bracket[low] = point
        if flat_enough(point):
            break
    return bracket[low]


def _lower(bracket: list[Point]) -> int:
    return 0 if bracket[0].loss <= bracket[1].loss else 1


def _lowest_of_cubic(a: Point, b: Point, low: float, high: float) -> float:
    """Where the cubic with two points' losses and slopes has its minimum, within [low, high]; else the middle."""
    left, right = (a, b) if a.t <= b.t else (b, a)
    width = right.t - left.t
    if width == 0:
        return (low + high) / 2
    mean = left.slope + right.slope - 3 * (right.loss - left.loss) / width
    square = mean * mean - left.slope * right.slope
    root = math.sqrt(square) if square >= 0 else math.nan
    curvature = right.slope - left.slope + 2 * root
    lowest = right.t - width * ((right.slope + root - mean) / curvature) if curvature else math.nan
    return min(max(lowest, low), high) if math.isfinite(lowest) else (low + high) / 2
