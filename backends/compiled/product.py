"""Products of many matrices with the same matrix, which is packed into panels once."""

from typing import Any

import numpy as np
from numba.extending import register_jitable

from .atomics import outlined
from .jit import jit
from .team import share
from .tile import PANEL_BYTES, TILE_ROWS, VECTOR_BYTES, WIDE_PANELS, WIDE_ROWS, tile_product

__all__ = [
    "add_blocks",
    "empty_aligned",
    "empty_edge",
    "pack",
    "pack_row",
    "pack_transposed",
    "panels_shape",
    "product",
    "sheets",
]

_CACHED_BYTES = 256 * 1024  # of the first operand; they stay in a core's second-level cache for all panels
_LINE = 16  # elements of a row that are transposed at a time: a cache line


def panels_shape(depth: int, columns: int, itemsize: int) -> tuple[int, int, int]:
    """The shape (P, depth, width) of the panels of a matrix (depth, columns)."""
    width = PANEL_BYTES // itemsize
    return -(-columns // width), depth, width


@jit
def empty_aligned(number: int, like: Any) -> Any:
    """An array of `number` elements in the dtype of `like`, aligned for vectors."""
    raw = np.empty(number + VECTOR_BYTES // like.itemsize, like.dtype)
    start = (-raw.ctypes.data % VECTOR_BYTES) // like.itemsize
    return raw[start : start + number]


@jit
def empty_edge(like: Any) -> Any:
    """A buffer in which `product` computes tiles that extend beyond the last column."""
    width = PANEL_BYTES // like.itemsize
    return empty_aligned(TILE_ROWS * width, like).reshape(TILE_ROWS, width)


@jit
def pack_row(row: Any, panels: Any, k: int) -> None:
    """Copies a row of a matrix into row k of its panels; the rest of the last panel is set to 0."""
    width = PANEL_BYTES // row.itemsize  # a constant for the compiler, unlike the panels' shape
    whole = row.shape[0] // width
    for p in range(whole):
        for j in range(width):
            panels[p, k, j] = row[p * width + j]
    if whole < panels.shape[0]:
        rest, place = row[whole * width :], panels[whole, k]
        for j in range(width):
            place[j] = 0
        for j in range(len(rest)):
            place[j] = rest[j]


@jit
def _pack_rows(first: int, last: int, matrix: Any, panels: Any) -> None:
    """Copies the rows [first, last) of a matrix (depth, columns) into its panels."""
    for k in range(first, last):
        pack_row(matrix[k], panels, k)


@jit
def _pack_columns(first: int, last: int, matrix: Any, panels: Any) -> None:
    """Copies the transpose of a matrix (columns, depth) into the panels [first, last)."""
    columns, depth = matrix.shape
    width = PANEL_BYTES // matrix.itemsize
    for p in range(first, last):
        used = min(width, columns - p * width)
        for begin in range(0, depth, _LINE):
            for j in range(used):
                row = matrix[p * width + j]
                if begin + _LINE <= depth:
                    for k in range(_LINE):
                        panels[p, begin + k, j] = row[begin + k]
                else:
                    for k in range(begin, depth):
                        panels[p, k, j] = row[k]
        for k in range(depth):
            for j in range(used, width):
                panels[p, k, j] = 0


_rows_part, _columns_part = outlined(_pack_rows), outlined(_pack_columns)


@jit
def pack(members: Any, matrix: Any, panels: Any) -> None:
    """Copies a matrix (depth, columns) into its panels."""
    share(members, matrix.shape[0], _rows_part((matrix, panels)))


@jit
def pack_transposed(members: Any, matrix: Any, panels: Any) -> None:
    """Copies the transpose of a matrix (columns, depth) into its panels."""
    share(members, panels.shape[0], _columns_part((matrix, panels)))


@jit
def sheets(array: Any, begin: int, end: int, first: int, last: int) -> Any:
    """The steps [begin, end) and rows [first, last) of (T, B, N); as a single sheet if these are all rows."""
    _, B, N = array.shape
    if last - first == B:
        return array[begin:end].reshape(1, (end - begin) * B, N)[0:, 0:]
    return array[begin:end, first:last]


@register_jitable
def product(c: Any, a: Any, panels: Any, edge: Any, accumulate: bool) -> None:
    """Sets c (S, M, N) to the product of a (S, M, K) and the panels of a matrix (K, N); `accumulate` adds it to c.

    Each element is a sum in the order of k, for all sizes: a row's result does not depend on the other rows.
    The last dimension of c is contiguous; a may have any strides.
    """
    # Slices have no known contiguity for numba, so that one machine code serves all arrays.
    _product(c[0:, 0:, 0:], a[0:, 0:, 0:], panels[0:, 0:, 0:], edge, accumulate)


@jit
def _product(c: Any, a: Any, panels: Any, edge: Any, accumulate: bool) -> None:
    count, height, columns = c.shape
    depth, number, width = a.shape[2], panels.shape[0], panels.shape[2]
    size = c.itemsize
    c_sheet, c_row = c.strides[0] // size, c.strides[1] // size
    a_sheet, a_row, a_column = a.strides[0] // size, a.strides[1] // size, a.strides[2] // size
    b_panel = panels.strides[0] // size
    whole = columns // width  # panels without an edge

    cached_rows = max(_CACHED_BYTES // (size * max(depth, 1)), TILE_ROWS)
    rows_at_once = max(min(height, cached_rows), 1)
    sheets_at_once = max(cached_rows // rows_at_once, 1)
    for first_row in range(0, height, rows_at_once):
        last_row = min(first_row + rows_at_once, height)
        tiles = (last_row - first_row + TILE_ROWS - 1) // TILE_ROWS
        for first_sheet in range(0, count, sheets_at_once):
            last_sheet = min(first_sheet + sheets_at_once, count)
            p = 0
            while p < number:
                together = WIDE_PANELS if height <= WIDE_ROWS and p + WIDE_PANELS <= whole else 1
                used = min(width, columns - p * width)
                vectors = 1 if 2 * used <= width else 2
                b_start = p * b_panel
                for sheet in range(first_sheet, last_sheet):
                    for tile in range(tiles):
                        # Tiles have nearly the same height, as low tiles cost more per row.
                        row = first_row + (last_row - first_row) * tile // tiles
                        rows = first_row + (last_row - first_row) * (tile + 1) // tiles - row
                        a_start = sheet * a_sheet + row * a_row
                        if 2 * used == vectors * width:
                            c_start = sheet * c_sheet + row * c_row + p * width
                            tile_product(
                                c, c_start, c_row, a, a_start, a_row, a_column, panels, b_start, b_panel,
                                depth, rows, vectors, together, accumulate,
                            )  # fmt: skip
                            continue
                        tile_product(
                            edge, 0, width, a, a_start, a_row, a_column, panels, b_start, b_panel,
                            depth, rows, vectors, 1, False,
                        )  # fmt: skip
                        for r in range(rows):
                            for j in range(used):
                                if accumulate:
                                    c[sheet, row + r, p * width + j] += edge[r, j]
                                else:
                                    c[sheet, row + r, p * width + j] = edge[r, j]
                p += together


@jit
def add_blocks(first: int, last: int, x: Any, panels: Any, net: Any, accumulate: bool) -> None:
    """Sets the blocks [first, last) of net (B, blocks, gates, width) to a product; `accumulate` adds it to them.

    It is the product of x (B, K) and panels of the width of a block, in the order of the blocks and their gates.
    """
    B, _, gates, width = net.shape
    columns = net.reshape(1, B, net.shape[1] * gates * width)[:, :, first * gates * width : last * gates * width]
    product(columns, x.reshape(1, B, x.shape[1]), panels[first * gates : last * gates], empty_edge(x), accumulate)
