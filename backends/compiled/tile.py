"""The inner kernel of every matrix product: a tile of the result, which stays in vector registers.

Compilers do not keep a block of sums in registers by themselves, and a product that stores and loads its sums at each
step runs at a fraction of the machine's speed. So this function is written in LLVM's vector instructions, with numba's
`intrinsic`. The scheme is from Goto and van de Geijn, "Anatomy of high-performance matrix multiplication" (2008): one
operand is packed into panels of the width of the tile, the other is read element by element.
"""

from typing import Any

import llvmlite.binding as llvm
from llvmlite import ir
from numba import cfunc, types
from numba.core import cgutils
from numba.extending import intrinsic

from .jit import compiled_with

__all__ = ["PANEL_BYTES", "TILE_ROWS", "WIDE_PANELS", "WIDE_ROWS", "tile_product"]


def _vector_registers() -> tuple[int, int]:
    """The size in bytes of this processor's vector registers, and their number."""
    features = llvm.get_host_cpu_features()
    if features.get("avx512f"):
        return 64, 32
    if features.get("avx2") and features.get("fma"):
        return 32, 16
    return 16, 32 if features.get("neon") else 16


VECTOR_BYTES, _REGISTERS = _vector_registers()

PANEL_BYTES = 2 * VECTOR_BYTES
"""A row of a panel: two vectors."""

TILE_ROWS = _REGISTERS // 2 - 2
"""The tallest tile: with two vectors of sums per row, registers remain for a row of the panel, and one more."""

WIDE_PANELS, WIDE_ROWS = 4, 3
"""At most WIDE_ROWS rows are multiplied with WIDE_PANELS panels at once: fewer sums would not hide latency."""

_ROWS_AHEAD = 16  # of a panel that are prefetched into the cache

_SHAPES = [(rows, 2, 1) for rows in range(1, TILE_ROWS + 1)]
_SHAPES += [(rows, 1, 1) for rows in range(1, TILE_ROWS + 1)]
_SHAPES += [(rows, 2, WIDE_PANELS) for rows in range(1, WIDE_ROWS + 1)]

_INDEX = ir.IntType(64)
_INT32 = ir.IntType(32)
_BYTES = ir.IntType(8).as_pointer()


def _code(builder: Any, rows: Any, vectors: Any, panels: Any) -> Any:
    """A number for each shape, computed now or, with a builder, when the code runs."""
    if builder is None:
        return _index((panels * 4 + vectors) * 64 + rows)
    high = builder.add(builder.mul(panels, _index(4)), vectors)
    return builder.add(builder.mul(high, _index(64)), rows)


def _index(value: int) -> Any:
    return ir.Constant(_INDEX, value)


class _Tile:
    """Writes the instructions of a tile."""

    def __init__(self, builder: Any, args: Any, scalar: Any, size: int) -> None:
        self.builder = builder
        self.scalar = scalar
        self.size = size
        self.lanes = VECTOR_BYTES // size
        self.vector = ir.VectorType(scalar, self.lanes)
        self.c, self.c_row, self.a, self.a_row, self.a_column, self.b, self.b_panel, self.depth, *_ = args
        self.accumulate = builder.icmp_signed("!=", args[-1], _index(0))

    def at(self, pointer: Any, elements: Any) -> Any:
        return self.builder.gep(pointer, [elements], source_etype=self.scalar)

    def load(self, pointer: Any, elements: Any) -> Any:
        return self.builder.load(self.at(pointer, elements), align=self.size)

    def vector_at(self, pointer: Any, elements: Any) -> Any:
        return self.builder.bitcast(self.at(pointer, elements), self.vector.as_pointer())

    def load_vector(self, pointer: Any, elements: Any) -> Any:
        return self.builder.load(self.vector_at(pointer, elements), align=self.size)

    def multiply_add(self, factor: Any, row: Any, total: Any) -> Any:
        kind = ir.FunctionType(self.vector, [self.vector] * 3)
        name = f"llvm.fma.v{self.lanes}f{8 * self.size}"
        return self.builder.call(cgutils.get_or_insert_function(self.builder.module, kind, name), [factor, row, total])

    def prefetch(self, pointer: Any, elements: Any, write: bool = False) -> None:
        """Prefetches a cache line that will be read or written soon; beyond the end of an array this does nothing."""
        kind = ir.FunctionType(ir.VoidType(), [_BYTES, _INT32, _INT32, _INT32])
        function = cgutils.get_or_insert_function(self.builder.module, kind, "llvm.prefetch.p0")
        intent, near, data = _INT32(int(write)), _INT32(3), _INT32(1)
        self.builder.call(function, [self.builder.bitcast(self.at(pointer, elements), _BYTES), intent, near, data])

    def spread(self, number: Any) -> Any:
        """A vector with all elements equal to the number."""
        undefined = ir.Constant(self.vector, ir.Undefined)
        first = self.builder.insert_element(undefined, number, _INT32(0))
        return self.builder.shuffle_vector(first, undefined, ir.Constant(ir.VectorType(_INT32, self.lanes), None))

    def generate(self, rows: int, vectors: int, panels: int) -> None:
        """The code of a tile: the sums over `depth`, and then their addition to c or copy into it."""
        builder = self.builder
        places = [(r, p, v) for p in range(panels) for v in range(vectors) for r in range(rows)]
        a_rows = [self.at(self.a, builder.mul(self.a_row, _index(r))) for r in range(rows)]
        b_panels = [self.at(self.b, builder.mul(self.b_panel, _index(p))) for p in range(panels)]

        # The tile of c is usually in a distant cache. It is prefetched while the sums are computed.
        for r in range(rows):
            for v in range(vectors * panels):
                place = builder.add(builder.mul(self.c_row, _index(r)), _index(v * self.lanes))
                self.prefetch(self.c, place, write=True)

        before = builder.block
        loop, after = builder.append_basic_block("loop"), builder.append_basic_block("after")
        builder.cbranch(builder.icmp_signed(">", self.depth, _index(0)), loop, after)

        builder.position_at_end(loop)
        k = builder.phi(_INDEX)
        sums = {place: builder.phi(self.vector) for place in places}
        a_at = builder.mul(k, self.a_column)
        b_at = builder.mul(k, _index(2 * self.lanes))
        for panel in b_panels:
            for v in range(vectors):
                self.prefetch(panel, builder.add(b_at, _index((v + 2 * _ROWS_AHEAD) * self.lanes)))
        added = {}
        if panels == 1:  # keep the panel's row in registers, and load the elements of a one by one
            row = [self.load_vector(b_panels[0], builder.add(b_at, _index(v * self.lanes))) for v in range(vectors)]
            for r in range(rows):
                factor = self.spread(self.load(a_rows[r], a_at))
                for v in range(vectors):
                    added[r, 0, v] = self.multiply_add(factor, row[v], sums[r, 0, v])
        else:  # keep the few factors in registers
            factors = [self.spread(self.load(a_row, a_at)) for a_row in a_rows]
            for p in range(panels):
                for v in range(vectors):
                    b = self.load_vector(b_panels[p], builder.add(b_at, _index(v * self.lanes)))
                    for r in range(rows):
                        added[r, p, v] = self.multiply_add(factors[r], b, sums[r, p, v])
        following = builder.add(k, _index(1))
        builder.cbranch(builder.icmp_signed("<", following, self.depth), loop, after)
        zero = ir.Constant(self.vector, None)
        k.add_incoming(_index(0), before)
        k.add_incoming(following, loop)
        for place in places:
            sums[place].add_incoming(zero, before)
            sums[place].add_incoming(added[place], loop)

        builder.position_at_end(after)
        totals = {}
        for place in places:
            totals[place] = builder.phi(self.vector)
            totals[place].add_incoming(zero, before)
            totals[place].add_incoming(added[place], loop)
        with builder.if_else(self.accumulate) as (adding, setting):
            with adding:
                self.store(totals, vectors, add=True)
            with setting:
                self.store(totals, vectors, add=False)

    def store(self, totals: dict[tuple[int, int, int], Any], vectors: int, add: bool) -> None:
        for (r, p, v), total in totals.items():
            column = _index((p * vectors + v) * self.lanes)
            at = self.vector_at(self.c, self.builder.add(self.builder.mul(self.c_row, _index(r)), column))
            if add:
                total = self.builder.fadd(self.builder.load(at, align=self.size), total)
            self.builder.store(total, at, align=self.size)


def _signature(number: Any) -> Any:
    pointer, index = types.CPointer(number), types.intp
    return types.void(pointer, index, pointer, index, index, pointer, *[index] * 6)


def _tile_function(
    typingctx: Any, c: Any, c_row: Any, a: Any, a_row: Any, a_column: Any, b: Any, b_panel: Any,
    depth: Any, rows: Any, vectors: Any, panels: Any, accumulate: Any,
) -> Any:  # fmt: skip
    """`tile_product` with pointers."""

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> None:
        *_, rows, vectors, panels, _ = args
        end = builder.append_basic_block("end")
        switch = builder.switch(_code(builder, rows, vectors, panels), end)
        for shape in _SHAPES:
            block = builder.append_basic_block("tile")
            switch.add_case(_code(None, *shape), block)
            builder.position_at_end(block)
            _Tile(builder, args, context.get_data_type(c.dtype), c.dtype.bitwidth // 8).generate(*shape)
            builder.branch(end)
        builder.position_at_end(end)

    return _signature(c.dtype), generate


_tile: Any = intrinsic(_tile_function)


@compiled_with(cfunc, _signature(types.float32))
def _tile_f32(
    c: Any, c_row: int, a: Any, a_row: int, a_column: int, b: Any, b_panel: int,
    depth: int, rows: int, vectors: int, panels: int, accumulate: int,
) -> None:  # fmt: skip
    _tile(c, c_row, a, a_row, a_column, b, b_panel, depth, rows, vectors, panels, accumulate)


@compiled_with(cfunc, _signature(types.float64))
def _tile_f64(
    c: Any, c_row: int, a: Any, a_row: int, a_column: int, b: Any, b_panel: int,
    depth: int, rows: int, vectors: int, panels: int, accumulate: int,
) -> None:  # fmt: skip
    _tile(c, c_row, a, a_row, a_column, b, b_panel, depth, rows, vectors, panels, accumulate)


# All compiled code calls them by name. Otherwise they would be compiled again as a part of each caller.
_NAMES = {types.float32: "tinygrad_lstm_tile_f32", types.float64: "tinygrad_lstm_tile_f64"}
llvm.add_symbol(_NAMES[types.float32], _tile_f32.address)
llvm.add_symbol(_NAMES[types.float64], _tile_f64.address)


def _tile_product(
    typingctx: Any,
    c: Any,
    c_start: Any,
    c_row: Any,
    a: Any,
    a_start: Any,
    a_row: Any,
    a_column: Any,
    b: Any,
    b_start: Any,
    b_panel: Any,
    depth: Any,
    rows: Any,
    vectors: Any,
    panels: Any,
    accumulate: Any,
) -> Any:
    """Sets a tile of c to the product of `rows` rows of a and some panels of b; `accumulate` adds it to the tile.

    All positions and strides are in elements. The tile begins at `c_start`, and the stride of its rows is `c_row`.
    Element k of row r of the first operand is at `a_start + r * a_row + k * a_column`. A panel has `depth` contiguous
    rows of two vectors, of which the first `vectors` are used; the stride of panels is `b_panel`. Nothing is computed
    for shapes that are not in `_SHAPES`, which the caller must avoid. Bounds are not checked.
    """
    index = types.intp
    signature = types.void(
        c, index, index, a, index, index, index, b, index, index, index, index, index, index, types.boolean
    )

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> None:
        scalar = context.get_data_type(c.dtype)
        pointer = scalar.as_pointer()
        kind = ir.FunctionType(ir.VoidType(), [pointer, _INDEX, pointer, _INDEX, _INDEX, pointer, *[_INDEX] * 6])
        tile = cgutils.get_or_insert_function(builder.module, kind, _NAMES[c.dtype])

        def place(array: int, start: int) -> Any:
            data = context.make_array(signature.args[array])(context, builder, args[array]).data
            return builder.gep(data, [args[start]], source_etype=scalar)

        _, _, c_row, _, _, a_row, a_column, _, _, *rest, accumulate = args
        numbers = [*rest, builder.zext(accumulate, _INDEX)]
        builder.call(tile, [place(0, 1), c_row, place(3, 4), a_row, a_column, place(7, 8), *numbers])

    return signature, generate


tile_product: Any = intrinsic(_tile_product)
