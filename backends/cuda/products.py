"""Products of matrices in the steps of a sequence, which a device launches as it launches kernels."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from typing import Any

from ..base import Array
from ..dtypes import FLOAT16, is_float
from ..emit.groups import is_free
from ..emit.program import Group, Instruction, Op, Value, inputs_of
from .launching import LaunchedKernels

__all__ = ["Launch", "with_products"]

Launch = Callable[[Sequence[Array], Sequence[Array]], None]
"""`launch(inputs, results)`."""


class _Copy(Op):
    """The op of a copy, which may have a different dtype."""

    name, names, wants_backend = "clone", ("x",), False
    composed: Any = None
    call: Any = None

    @staticmethod
    def forward(xp: Any, x: Array) -> Array:
        """`x`, which the caller copies."""
        return x


def with_products(instructions: Sequence[Instruction], read_later: Iterable[Value]) -> list[Instruction]:
    """The instructions, in which the device launches products of rows and a matrix.

    A bias, or a value of this list that is added next, is in the place of the product before, which is added to it.

    Args:
        read_later: the results that others read.
    """
    uses = Counter([*inputs_of(instructions), *read_later])
    made = {value: each for each in instructions for value in each.results}
    sums = {each: terms for each in instructions if (terms := _sum_with_product(each, made, uses))}
    inside = {part for *_, parts in sums.values() for part in parts}
    found: list[Instruction] = []
    for each in instructions:
        if each in sums:
            product, addend, _ = sums[each]
            (result,) = each.results
            if uses[addend] > 1 or addend.dtype != result.dtype or is_free(made[addend]):
                copy = Instruction(_Copy(), (addend,))
                addend = Value(f"{result.name}_before", result.shape, result.dtype, copy)
                copy.results = (addend,)
                found.append(copy)
            found.append(_product(product, each.results, addend, addend))
        elif each not in inside:
            found.append(_product(each, each.results, _bias_of(each)) if _is_product(each) else each)
    return found


def _sum_with_product(
    each: Instruction, made: Mapping[Value, Instruction], uses: Mapping[Value, int]
) -> tuple[Instruction, Value, list[Instruction]] | None:
    """The product and the other term, if an instruction adds these and nothing else reads the product; and what is
    not needed then: the product, and in float16, which is added in float32, an addition between casts."""
    (result, *_), total = each.results, each
    if each.op.name == "astype" and result.dtype == FLOAT16 and uses[each.inputs[0]] == 1:
        total = made.get(each.inputs[0], each)
    if total.op.name != "add" or len(total.inputs) < 2:
        return None
    casts = total is not each
    for value, other in (total.inputs, total.inputs[::-1]):
        cast = made.get(value)
        if casts and cast is not None and cast.op.name == "astype" and uses[value] == 1:
            value = cast.inputs[0]
        product = made.get(value)
        if product is None or not _is_product(product) or _bias_of(product) is not None or uses[value] > 1:
            continue
        if value.dtype == result.dtype and value.shape == result.shape == other.shape and other in made:
            return product, other, [product, total, *([cast] if casts and cast is not None else [])]
    return None


def _is_product(instruction: Instruction) -> bool:
    if instruction.op.name not in ("linear", "matmul"):
        return False
    (result,), (x, y, *_) = instruction.results, instruction.inputs
    alike = all(value.dtype == result.dtype and len(value.shape) == 2 for value in (x, y, result))
    return alike and is_float(result.dtype) and x.has_batch and not y.has_batch


def _bias_of(instruction: Instruction) -> Value | None:
    bias: Value | None = (*instruction.arguments, None)[2]
    return bias


def _product(
    product: Instruction, results: tuple[Value, ...], added: Value | None, addend: Value | None = None
) -> Instruction:
    inputs = (*product.arguments[:2], *([] if added is None else [added]))
    name, prepared = ("multiply_transposed", _BY_ROWS) if product.op.name == "linear" else ("multiply", _PLAIN)
    return Instruction(Group(name, prepared, (), addend), inputs, results)


def _prepared(turned: bool, backend: LaunchedKernels, rows: int) -> Launch:
    """A launch of x·y, or of x·yᵀ if y is turned."""
    multiply = backend.product()

    def launch(inputs: Sequence[Array], results: Sequence[Array]) -> None:
        (x, y, *added), (out,) = inputs, results
        if added and added[0] is not out:
            out[...] = added[0]
        multiply(x, y.T if turned else y, out, bool(added))

    return launch


_PLAIN, _BY_ROWS = partial(_prepared, False), partial(_prepared, True)
