"""Charts for a page, as SVG."""

import math
from collections.abc import Mapping, Sequence
from html import escape

__all__ = ["curves", "scatter"]

WIDTH, HEIGHT = 560, 260
LEFT, RIGHT, TOP, BOTTOM = 58, 12, 10, 30
CLASSES = ("first", "second", "third")
"""The classes of lines, which the style colours."""


class Axes:
    """Where values are drawn.

    Args:
        x, y: the lowest and the highest value.
    """

    def __init__(self, x: tuple[float, float], y: tuple[float, float]) -> None:
        self._x, self._y = _widened(*x), _widened(*y)

    def x(self, value: float) -> float:
        low, high = self._x
        return LEFT + (value - low) / (high - low) * (WIDTH - LEFT - RIGHT)

    def y(self, value: float) -> float:
        low, high = self._y
        return TOP + (high - value) / (high - low) * (HEIGHT - TOP - BOTTOM)

    def drawn(self, below: str) -> str:
        """The lines and numbers, and what the numbers below are of."""
        parts = []
        for tick in _ticks(*self._y):
            at = self.y(tick)
            parts.append(f'<line class="axis" x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{at:.1f}" y2="{at:.1f}"/>')
            parts.append(f'<text x="{LEFT - 6}" y="{at + 4:.1f}" text-anchor="end">{_written(tick)}</text>')
        for tick in _ticks(*self._x):
            parts.append(f'<text x="{self.x(tick):.1f}" y="{HEIGHT - 12}" text-anchor="middle">{_written(tick)}</text>')
        parts.append(f'<text x="{WIDTH - RIGHT}" y="{HEIGHT}" text-anchor="end">{escape(below)}</text>')
        return "".join(parts)


def curves(lines: Mapping[str, Sequence[float]]) -> str:
    """Lines over the epochs, from epoch 1, with a caption.

    >>> curves({"loss": [2.0, 1.0]}).count("<path")
    2
    """
    values = [value for line in lines.values() for value in line if math.isfinite(value)]
    axes = Axes((1, max(map(len, lines.values()), default=1)), (0.0, max(values, default=1.0)))
    drawn, captions = [], []
    for kind, (name, line) in zip(CLASSES, lines.items(), strict=False):
        points = [f"{axes.x(k):.1f} {axes.y(v):.1f}" for k, v in enumerate(line, 1) if math.isfinite(v)]
        drawn.append(f'<path class="{kind}" d="M{"L".join(points)}"/>' if len(points) > 1 else "")
        sample = f'<svg viewBox="0 0 32 8" height="8" aria-hidden="true"><path class="{kind}" d="M0 4H32"/></svg>'
        captions.append(f"<span>{sample} {escape(name)}</span>")
    return _chart(
        "; ".join(lines), axes.drawn("epoch") + "".join(drawn), f'<div class="caption">{"".join(captions)}</div>'
    )


def scatter(truths: Sequence[float], predictions: Sequence[float]) -> str:
    """Points of predicted numbers over true ones, and the line on which both are the same."""
    both = [*truths, *predictions]
    span = min(both), max(both)
    axes = Axes(span, span)
    (low, high), points = span, zip(truths, predictions, strict=True)
    line = f"M{axes.x(low):.1f} {axes.y(low):.1f}L{axes.x(high):.1f} {axes.y(high):.1f}"
    dots = "".join(f'<circle cx="{axes.x(true):.1f}" cy="{axes.y(found):.1f}" r="4"/>' for true, found in points)
    caption = '<div class="caption"><span>predicted, over the true number</span></div>'
    return _chart("predicted over true numbers", f'{axes.drawn("true")}<path class="third" d="{line}"/>{dots}', caption)


def _chart(label: str, drawn: str, caption: str) -> str:
    view = f'viewBox="0 0 {WIDTH} {HEIGHT}"'
    return f'<div class="chart"><svg {view} role="img" aria-label="{escape(label)}">{drawn}</svg>{caption}</div>'


def _widened(low: float, high: float) -> tuple[float, float]:
    """Some room if there is none."""
    return (low, high) if high - low > 1e-9 * max(1.0, abs(high)) else (low - 0.5, high + 0.5)


def _ticks(low: float, high: float) -> list[float]:
    """Round numbers between two, about five of them."""
    rough = (high - low) / 5
    power = 10.0 ** math.floor(math.log10(rough))
    step = next(size * power for size in (1, 2, 5, 10) if size * power >= rough * (1 - 1e-9))
    first = math.ceil(low / step - 1e-9)
    return [number * step for number in range(first, math.floor(high / step + 1e-9) + 1)]


def _written(tick: float) -> str:
    return f"{tick:.6g}".replace("-", "−")
