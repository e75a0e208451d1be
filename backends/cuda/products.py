"""Products of matrices in the steps of a sequence, which a device launches as it launches kernels."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from typing import Any

from ..base import Array
from ..dtypes import is_float
from ..emit.code import is_view
from ..emit.program import Group, Instruction, Value
from .launching import LaunchedKernels

__all__ = ["Launch", "with_products"]

Launch = Callable[[Sequence[Array], Sequence[Array]], None]
"""`launch(inputs, results)`."""


def with_products(instructions: Sequence[Instruction], read_later: Iterable[Value]) -> list[Instruction]:
    """The instructions, in which the device launches products of rows and a matrix.

    A bias, or a value of this list that is added next, is in the place of the product before, which is added to it.

    Args:
        read_later: the results that others read.
    """
    uses = Counter(value for each in instructions for value in each.inputs) + Counter(read_later)
    made = {value: each for each in instructions for value in each.results}

    def only_for(value: Any, user: Instruction) -> bool:
        return isinstance(value, Value) and value in made and uses[value] == 1 and value.shape == user.results[0].shape

    sums: dict[Instruction, tuple[Instruction, Value]] = {}
    for each in instructions:
        if each.op.name == "add" and all(only_for(value, each) for value in each.arguments):
            for product, addend in (each.arguments, each.arguments[::-1]):
                maker = made[product]
                if _is_product(maker) and _bias_of(maker) is None and not is_view(made[addend]):
                    sums[each] = maker, addend
                    break
    within = {maker for maker, _ in sums.values()}
    found = []
    for each in instructions:
        if each in sums:
            maker, addend = sums[each]
            found.append(_product(maker, each.results, addend, addend))
        elif _is_product(each) and each not in within:
            found.append(_product(each, each.results, _bias_of(each)))
        elif each not in within:
            found.append(each)
    return found


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
