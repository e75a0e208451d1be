"""Matrix products of packed panels, for many products with the same matrix: it is packed once."""

from typing import Any

import numpy as np

from .jit import jit
from .tile import PANEL_BYTES, TILE_ROWS, VECTOR_BYTES, WIDE_PANELS, WIDE_ROWS, tile_product

__all__ = ["empty_edge", "empty_panels", "pack", "pack_row", "product"]

# So much of the first operand stays in a core's second-level cache while all panels pass by.
_CACHED_BYTES = 256 * 1024


@jit
def _empty(number: int, like: Any) -> Any:
    """An array of `number` elements that begins at a vector's boundary."""
    raw = np.empty(number + VECTOR_BYTES // like.itemsize, like.dtype)
    start = (-raw.ctypes.data % VECTOR_BYTES) // like.itemsize
    return raw[start : start + number]


@jit
def empty_panels(depth: int, columns: int, like: Any) -> Any:
    """Panels (P, depth, width) for a matrix (depth, columns), in the dtype of `like`."""
    width = PANEL_BYTES // like.itemsize
    number = (columns + width - 1) // width
    return _empty(number * depth * width, like).reshape(number, depth, width)


@jit
def empty_edge(like: Any) -> Any:
    """Where `product` computes tiles that stick out beyond the last column."""
    width = PANEL_BYTES // like.itemsize
    return _empty(TILE_ROWS * width, like).reshape(TILE_ROWS, width)


@jit
def pack_row(row: Any, panels: Any, k: int) -> None:
    """Puts a row of a matrix into row k of its panels; what the last panel has beyond it is 0."""
    width = PANEL_BYTES // row.itemsize  # a constant to the compiler, as panels' own is not
    whole = row.shape[0] // width
    for p in range(whole):
        for j in range(width):
            panels[p, k, j] = row[p * width + j]
    if whole < panels.shape[0]:
        used = row.shape[0] - whole * width
        for j in range(used):
            panels[whole, k, j] = row[whole * width + j]
        for j in range(used, width):
            panels[whole, k, j] = 0


@jit
def pack(matrix: Any) -> Any:
    """The panels of a matrix (depth, columns)."""
    depth, columns = matrix.shape
    panels = empty_panels(depth, columns, matrix)
    width = panels.shape[2]
    if matrix.strides[0] > matrix.strides[1]:
        for k in range(depth):
            pack_row(matrix[k], panels, k)
        return panels
    panels[-1] = 0
    for j in range(columns):
        p, place = divmod(j, width)
        for k in range(depth):
            panels[p, k, place] = matrix[k, j]
    return panels


@jit
def product(c: Any, a: Any, panels: Any, edge: Any, accumulate: bool) -> None:
    """Sets, or with `accumulate` adds to, c (S, M, N) the product of a (S, M, K) and the panels of a matrix (K, N).

    Each element is one sum in the order of k, whatever the other sizes: a row's result is the same in any company.
    c has neighbouring columns in neighbouring elements; a may have any strides.
    """
    sheets, height, columns = c.shape
    depth, (number, _, width) = a.shape[2], panels.shape
    size = c.itemsize
    b_panel = panels.strides[0] // size
    c_sheet, c_row = c.strides[0] // size, c.strides[1] // size
    a_sheet, a_row, a_column = a.strides[0] // size, a.strides[1] // size, a.strides[2] // size
    whole = columns // width  # panels without an edge

    cached_rows = max(_CACHED_BYTES // (size * max(depth, 1)), TILE_ROWS)
    rows_at_once = min(height, cached_rows)
    sheets_at_once = max(cached_rows // max(rows_at_once, 1), 1)
    for first_row in range(0, height, rows_at_once):
        last_row = min(first_row + rows_at_once, height)
        tiles = (last_row - first_row + TILE_ROWS - 1) // TILE_ROWS
        for first_sheet in range(0, sheets, sheets_at_once):
            last_sheet = min(first_sheet + sheets_at_once, sheets)
            p = 0
            while p < number:
                together = WIDE_PANELS if height <= WIDE_ROWS and p + WIDE_PANELS <= whole else 1
                used = min(width, columns - p * width)
                vectors = 1 if 2 * used <= width else 2
                for sheet in range(first_sheet, last_sheet):
                    for tile in range(tiles):
                        # Tiles of nearly the same height: short ones are slower by the row.
                        row = first_row + (last_row - first_row) * tile // tiles
                        rows = first_row + (last_row - first_row) * (tile + 1) // tiles - row
                        a_start = sheet * a_sheet + row * a_row
                        b_start = p * b_panel
                        if 2 * used == vectors * width:
                            c_start = sheet * c_sheet + row * c_row + p * width
                            tile_product(
                                c, c_start, c_row, a, a_start, a_row, a_column,
                                panels, b_start, b_panel, depth, rows, vectors, together, accumulate,
                            )  # fmt: skip
                        else:
                            tile_product(
                                edge, 0, width, a, a_start, a_row, a_column,
                                panels, b_start, b_panel, depth, rows, vectors, 1, False,
                            )  # fmt: skip
                            for r in range(rows):
                                out = c[sheet, row + r, p * width : columns]
                                if accumulate:
                                    for j in range(used):
                                        out[j] += edge[r, j]
                                else:
                                    for j in range(used):
                                        out[j] = edge[r, j]
                p += together
