"""The gradients of weights and biases: products over all steps and rows of the batch at once."""

from typing import Any

import numpy as np

from .atomics import outlined
from .jit import jit
from .product import empty_edge, product
from .team import share
from .tile import TILE_ROWS

__all__ = ["weight_gradients"]

_DEEP = 512  # rows of g_net that are processed at a time, and
_TILES = 8  # tiles of its columns: together they stay in a core's second-level cache
_BLOCK = 128  # rows in a block of the sum of a bias's gradient
_PLACE = -(-TILE_ROWS // 8) * 8


@jit
def _pack_tiles(g_net: Any, begin: int, end: int, column: int, height: int, number: int, tiles: Any) -> None:
    """Copies `number` tiles of `height` columns each, so that the columns of a tile are adjacent.

    The buffer of a tile is wider than the tallest tile: full vectors are copied if the row is long enough.
    """
    for k in range(begin, end):
        for tile in range(number):
            first = column + tile * height
            part, place = g_net[k, first : first + _PLACE], tiles[tile, k - begin]
            if len(part) == _PLACE:
                for q in range(_PLACE):
                    place[q] = part[q]
            else:
                for q in range(height):
                    place[q] = part[q]


@jit
def _add_bias_rows(g_net: Any, rows: int, first: int, last: int, column: int, total: Any) -> None:
    """Adds the sum of the rows to the elements [first, last) of a bias's gradient, in blocks."""
    width = last - first
    sums = np.zeros((2, width), g_net.dtype)
    block, blocks = sums[0], sums[1]
    for begin in range(0, rows, _BLOCK):
        end = min(begin + _BLOCK, rows)
        last_of_four = end - (end - begin) % 4
        block[:] = 0
        for k in range(begin, last_of_four, 4):
            a, b = g_net[k, column + first : column + last], g_net[k + 1, column + first : column + last]
            c, d = g_net[k + 2, column + first : column + last], g_net[k + 3, column + first : column + last]
            for j in range(width):
                block[j] += (a[j] + b[j]) + (c[j] + d[j])
        for k in range(last_of_four, end):
            a = g_net[k, column + first : column + last]
            for j in range(width):
                block[j] += a[j]
        for j in range(width):
            blocks[j] += block[j]
        if end % (_BLOCK * _BLOCK) == 0 or end == rows:
            out = total[first:last]
            for j in range(width):
                out[j] += blocks[j]
            blocks[:] = 0


@jit
def _weight_rows(
    first: int,
    last: int,
    g_net: Any,
    column: int,
    x_panels: Any,
    h_panels: Any,
    g_ih: Any,
    g_hh: Any,
    g_bias: Any,
    accumulate: bool,
) -> None:
    """Sets the rows [first, last) of the gradients of two weights and a bias; `accumulate` adds to them.

    They are the products of the columns of g_net (rows, N), from `column` on, with the packed rows of x and of h. A
    weight without columns is skipped.
    """
    rows = len(g_net)
    edge = empty_edge(g_net)
    tiles = np.empty((_TILES, _DEEP, _PLACE), g_net.dtype)
    if not accumulate:
        g_bias[first:last] = 0
        if not rows:  # an empty batch
            g_ih[first:last], g_hh[first:last] = 0, 0
    _add_bias_rows(g_net, rows, first, last, column, g_bias)
    for begin in range(0, rows, _DEEP):
        end = min(begin + _DEEP, rows)
        adding = accumulate or begin > 0
        row = first
        while row < last:
            height = min(TILE_ROWS, last - row)
            number = min(_TILES, (last - row) // height)
            _pack_tiles(g_net, begin, end, column + row, height, number, tiles)
            a = tiles[0:number, 0 : end - begin].transpose(0, 2, 1)[0:number, 0:height]
            for weight, panels in ((g_ih, x_panels), (g_hh, h_panels)):
                c = weight[row : row + number * height].reshape(number, height, weight.shape[1])
                product(c[0:number, 0:height], a, panels[0 : panels.shape[0], begin:end], edge, adding)
            row += number * height


_weight_part = outlined(_weight_rows)


@jit
def weight_gradients(members: Any, rows: int, *operands: Any) -> None:
    """`_weight_rows` for all `rows` rows of the weights."""
    share(members, rows, _weight_part(operands))
