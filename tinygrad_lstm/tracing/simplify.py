"""Changes to programs that compute the same in less time."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, NamedTuple

from tinygrad_lstm.backends.dtypes import FLOAT16, smallest_normal
from tinygrad_lstm.backends.emit.program import Derivative, Instruction, Program, Value, mapped, needed

from .ranges import ANY, Range, range_of
from .rows import is_row_wise

__all__ = [
    "Ops", "with_deviations_ahead", "with_factors_apart", "with_norms_apart", "with_products_apart", "without_copies",
]  # fmt: skip


class Ops(NamedTuple):
    """The ops of which new instructions are made."""

    add: Any
    mul: Any
    normalized: Any
    split: Any
    sub: Any


def with_products_apart(program: Program, ops: Ops) -> Program:
    """A product of joined parts, of which some depend on inputs only and some on states, becomes a sum of two products.

    W·[h, x] is W_h·h + W_x·x. The inputs' product can then be computed for many steps at once.
    """
    rows, moved = {*program.inputs}, {*program.inputs, *program.states}
    made: list[Instruction] = []
    for instruction in program.instructions:
        changing = moved.intersection(instruction.inputs)
        if changing:
            moved.update(instruction.results)
            if changing <= rows and is_row_wise(instruction):
                rows.update(instruction.results)
        joined = _joined_input(instruction)
        if joined is not None:
            parts = [(part, part in rows or part not in moved) for part in joined]
            if len({early for _, early in parts}) == 2:
                made += _apart(instruction, [part for part, _ in parts], [early for _, early in parts], ops)
                continue
        made.append(instruction)
    return replace(program, instructions=needed(made, program.outputs))


def _joined_input(instruction: Instruction) -> Sequence[Value] | None:
    """The parts of the input of a product with a weight, if it is joined of several along its columns."""
    if instruction.op.name != "linear" or instruction.detached:
        return None
    x, weight, _ = instruction.arguments
    cat = x.instruction
    if cat is None or cat.op.name != "cat" or cat.arguments[1] != 1 or cat.detached or weight.has_batch:
        return None
    parts: Sequence[Value] = cat.arguments[0]
    return parts if all(part.has_batch for part in parts) else None


def _apart(instruction: Instruction, parts: Sequence[Value], early: Sequence[bool], ops: Ops) -> list[Instruction]:
    """A product for each part, those that can be computed early first, and their sum."""
    _, weight, bias = instruction.arguments
    (out,) = instruction.results
    weights = [Value(f"{weight.name}_{part.name}", (weight.shape[0], part.shape[1]), weight.dtype) for part in parts]
    made = [_instruction(ops.split, (weight, [part.shape[1] for part in parts], 1), weights)]
    total: Value | None = None
    for k in sorted(range(len(parts)), key=lambda k: not early[k]):
        product = Value(f"{out.name}_{parts[k].name}", out.shape, out.dtype)
        made.append(_instruction(instruction.op, (parts[k], weights[k], bias if total is None else None), [product]))
        if total is None:
            total = product
        else:
            so_far, total = total, Value(f"{product.name}_added", out.shape, out.dtype)
            made.append(_instruction(ops.add, (so_far, product), [total]))
    last = made.pop()
    return [*made, _instruction(ops.add, last.arguments, [out])]


def with_norms_apart(program: Program, ops: Ops) -> Program:
    """A layer normalization becomes `normalized`, a product and a sum. The derivative can then read what is normalized.

    float16 stays as it is, since it would be rounded three times.
    """
    made: list[Instruction] = []
    for instruction in program.instructions:
        if instruction.op.name != "layer_norm" or instruction.results[0].dtype == FLOAT16:
            made.append(instruction)
            continue
        (x, weight, bias), shape, eps = instruction.arguments
        dims = tuple(range(len(x.shape) - len(shape), len(x.shape)))
        steps: list[tuple[Any, tuple[Any, ...], str]] = [(ops.normalized, (dims, eps), "normalized")]
        if weight is not None:
            steps.append((ops.mul, (weight,), "weighted"))
        if bias is not None:
            steps.append((ops.add, (bias,), "biased"))
        for k, (op, arguments, name) in enumerate(steps, 1):
            (out,) = instruction.results
            result = out if k == len(steps) else Value(f"{out.name}_{name}", out.shape, out.dtype)
            made.append(_instruction(op, (x, *arguments), [result], instruction.detached))
            x = result
    return replace(program, instructions=made)


def with_deviations_ahead(derivative: Derivative) -> Derivative:
    """The deviations by which a program divides are results of the program, so that the derivative need not find them.

    What was normalized is then not kept.
    """
    program = derivative.program
    norms = {
        each.arguments: each for each in program.instructions if each.op.name == "normalized" and not each.detached
    }
    moved: dict[Instruction, Instruction] = {}
    for instruction in derivative.instructions:
        if instruction.op.name == "inverse_deviation" and instruction.arguments in norms:
            moved.setdefault(norms[instruction.arguments], instruction)
    instructions = []
    for instruction in program.instructions:
        instructions += [instruction, *([moved[instruction]] if instruction in moved else [])]
    rest = [instruction for instruction in derivative.instructions if instruction not in moved.values()]
    return replace(derivative, program=replace(program, instructions=instructions), instructions=rest)


def _instruction(op: Any, arguments: tuple[Any, ...], results: Sequence[Value], detached: bool = False) -> Instruction:
    instruction = Instruction(op, arguments, tuple(results), detached)
    for value in results:
        value.instruction = instruction
    return instruction


def without_copies(derivative: Derivative) -> Derivative:
    """Without `clone`, and with numbers in place of constants of elementwise arithmetic."""
    instead: dict[Value, Any] = {}
    made = []

    def current(part: Any) -> Any:
        return instead.get(part, part) if isinstance(part, Value) else part

    for instruction in derivative.instructions:
        arguments = mapped(instruction.arguments, current)
        if instruction.op.name in ("clone", "detach"):
            instead[instruction.results[0]] = arguments[0]
            continue
        made.append(_instruction(instruction.op, arguments, instruction.results))
    gradients = tuple(current(gradient) for gradient in derivative.gradients)
    return replace(derivative, instructions=needed(made, gradients), gradients=gradients)


def with_factors_apart(derivative: Derivative, ops: Ops) -> Derivative:
    """Where only g depends on cotangents, (g · a) · b becomes g · (a · b), and g - g · a becomes g · (1 - a).

    a · b and 1 - a are known for all steps beforehand.
    """
    ranges: dict[Value, Range] = {}
    for instruction in (*derivative.program.instructions, *derivative.instructions):
        ranges.update(dict.fromkeys(instruction.results, range_of(instruction, ranges)))
    follows = {value for value in derivative.cotangents if value is not None}
    uses: dict[Value, int] = {}
    for instruction in derivative.instructions:
        follows.update(instruction.results if follows.intersection(instruction.inputs) else ())
        for value in instruction.inputs:
            uses[value] = uses.get(value, 0) + 1
    for gradient in derivative.gradients:
        if gradient is not None:
            uses[gradient] = uses.get(gradient, 0) + 1
    made: list[Instruction] = []
    factors: dict[Value, tuple[Value, Value]] = {}  # of a product: what follows a cotangent, and the other factor
    negated: dict[Value, tuple[Value, Value]] = {}
    for instruction in derivative.instructions:
        if instruction.op.name == "neg" and instruction.arguments[0] in factors:
            negated[instruction.results[0]] = factors[instruction.arguments[0]]
        difference = _difference(instruction, negated, uses)
        if difference is not None:
            (out,), (g, a) = instruction.results, difference
            rest = Value(f"{out.name}_rest", a.shape, a.dtype)
            made.append(_instruction(ops.sub, (1, a), [rest]))
            ranges[rest] = range_of(made[-1], ranges)
            instruction = _instruction(ops.mul, (g, rest), [out])
        pair = _pair(instruction, follows)
        if pair is not None:
            (out,) = instruction.results
            g, factor = pair
            if g in factors and uses[g] == 1 and _fit(factors[g][1], factor, out, ranges):
                inner, other = factors[g]
                both = Value(f"{out.name}_factor", factor.shape, factor.dtype)
                made.append(_instruction(instruction.op, (other, factor), [both]))
                ranges[both] = range_of(made[-1], ranges)
                instruction, g, factor = _instruction(instruction.op, (inner, both), [out]), inner, both
            factors[out] = g, factor
        made.append(instruction)
    return replace(derivative, instructions=needed(made, derivative.gradients))


def _fit(a: Value, b: Value, out: Value, ranges: Mapping[Value, Range]) -> bool:
    """Whether a · b may be computed before it is multiplied by a gradient.

    It must not overflow where the gradient does not. So one factor must be within ±1, such as σ(x) or 1 - tanh(x)². In
    float16, products of gates that are almost closed underflow; in wider dtypes only below 1e-38.
    """
    small = any(-1 <= low <= high <= 1 for low, high in (ranges.get(a, ANY), ranges.get(b, ANY)))
    return small and smallest_normal(out.dtype) < 1e-30 and a.shape == b.shape == out.shape


def _pair(instruction: Instruction, follows: set[Value]) -> tuple[Value, Value] | None:
    """The factors of a product of two values of which one follows a cotangent: that one first."""
    if instruction.op.name != "mul" or not all(isinstance(part, Value) for part in instruction.arguments):
        return None
    x, y = instruction.arguments
    if (x in follows) == (y in follows) or instruction.results[0].shape != x.shape != y.shape:
        return None
    return (x, y) if x in follows else (y, x)


def _difference(
    instruction: Instruction, negated: Mapping[Value, tuple[Value, Value]], uses: Mapping[Value, int]
) -> tuple[Value, Value] | None:
    """g and a of a sum g + (-(g · a))."""
    if instruction.op.name == "add":
        x, y = instruction.arguments
        for g, other in ((x, y), (y, x)):
            if isinstance(other, Value) and other in negated and uses[other] == 1 and negated[other][0] is g:
                return negated[other]
    return None
