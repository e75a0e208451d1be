"""A phase of a step in C: products of rows, and between them loops over rows and units."""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from ..dtypes import is_float
from .c_kernels import CannotEmitError, CCode, Kernel, Place, is_elementwise, kernels_of, reshaped_whole
from .c_moves import is_move
from .c_rows import is_row_op, read_by_row_op, write_row_ops
from .program import Instruction, Value, inputs_of, results_of

__all__ = ["Phase", "Product", "factors", "is_product", "is_supported"]


def is_product(instruction: Instruction) -> bool:
    """Whether it is a product of rows with a matrix that has no batch dimension."""
    name = instruction.op.name
    if name not in ("linear", "matmul") and not (name == "einsum" and len(instruction.inputs) == 2):
        return False
    if not all(isinstance(part, Value) for part in instruction.inputs[:2]):
        return False
    x, weight = instruction.inputs[:2]
    if not (len(x.shape) == len(weight.shape) == 2 and x.has_batch and not weight.has_batch):
        return False
    if any(not is_float(value.dtype) for value in instruction.inputs):
        return False
    if name != "einsum":
        return True
    _, (of_x, of_weight), out = instruction.arguments
    return len({*of_x, *of_weight}) == 3 == len({*of_x, *out}) and of_x[0] == out[0] and of_x[1] not in out


def factors(product: Instruction) -> tuple[Value, Value, bool, Value | None]:
    """The rows of a product, the matrix, whether the matrix is transposed, and what is added."""
    x, weight, *bias = product.inputs
    if product.op.name == "einsum":
        _, (of_x, of_weight), _ = product.arguments
        return x, weight, of_weight[1] == of_x[1], None
    return x, weight, product.op.name == "linear", bias[0] if bias else None


def is_supported(instruction: Instruction) -> bool:
    """Whether there is C code for it."""
    return is_elementwise(instruction) or is_product(instruction) or is_row_op(instruction)


_MOST_ON_THE_STACK = 64 * 1024  # bytes of the arrays that are made in a loop over rows; some threads have 128 KB

Stage = tuple[int, int]
"""When a value is known: products begin a stage; within it, each op that reads a row in memory begins a level."""


@dataclass(eq=False)
class Product:
    """A product in C: of x into a place.

    Attributes:
        instruction: the op.
        value: what the place holds afterwards: the result, or its sum with `added`.
        added: the value to whose place it is added.
    """

    instruction: Instruction
    value: Value
    added: Value | None = None

    @property
    def result(self) -> Value:
        """The product."""
        return self.instruction.results[0]


class Phase:
    """Instructions that are computed for rows, in stages: in each stage products, then element by element.

    Args:
        instructions: in order; each `is_supported`.
        known: the places of values that are known before.
        wanted: the places into which values are to be computed.
        room: makes a place for a value that only this phase needs.
        free: known values that nothing else reads, to whose places products may be added.
        unfinished: wanted values that may lack what must be added to a product, such as a bias.
    """

    def __init__(
        self,
        instructions: Sequence[Instruction],
        known: Mapping[Value, Place],
        wanted: Sequence[tuple[Value, Place]],
        room: Callable[[Value], Place],
        free: set[Value],
        unfinished: set[Value],
    ) -> None:
        self._known, self._wanted, self._room, self._unfinished = dict(known), list(wanted), room, unfinished
        self._made = set(results_of(instructions))
        self._uses = Counter(inputs_of(instructions))
        targets = {value for value, _ in wanted}
        self._products: dict[Value, Product] = {}  # by what their places hold
        inside: set[Value] = set()  # products that are added to other values
        for instruction in instructions:
            if instruction.op.name == "add":
                self._join_sum(instruction, targets, free, inside)
        for instruction in instructions:
            if is_product(instruction) and instruction.results[0] not in inside:
                self._products[instruction.results[0]] = Product(instruction, instruction.results[0])
        self._row_ops: dict[Value, Place | None] = {}  # without a place: one is made when it is known who reads it
        self._same: dict[Value, Value] = {}  # reshapes, which have the places of their inputs
        self._readers: dict[Value, set[int]] = {}  # the stages of the loops that read a value; -1 for products
        self._whole: set[Value] = set()  # results of products that must be complete in their places
        self._stages: dict[Value, Stage] = {}
        self._targets: dict[Value, Place] = {}
        for value, place in wanted:
            self._targets.setdefault(value, place)
        self._outputs: dict[Value, Place | None] = {}  # of what is computed element by element
        self._homes: dict[Value, Place] = {}  # of products that are not added to what is in a place already
        self._called: set[Value] = set()
        self._visited: set[tuple[Value, Stage]] = set()
        self._calls: list[tuple[int, Product]] = []
        for value, _ in wanted:
            self._need(value)

    def _join_sum(self, add: Instruction, targets: set[Value], free: set[Value], inside: set[Value]) -> None:
        """A sum of a product and a value that nothing else reads: the product is added to the value's place."""
        x, y = add.arguments
        (total,) = add.results
        for product, other in ((x, y), (y, x)):
            if not (isinstance(product, Value) and isinstance(other, Value) and product.shape == other.shape):
                continue
            made = product.instruction
            alone = self._uses[product] == 1 == self._uses[other] and not targets & {product, other}
            if made is None or product not in self._made or not is_product(made) or not alone or product in inside:
                continue
            if other in self._made or (other in free and total not in targets):
                self._products[total] = Product(made, total, other)
                inside.add(product)
                return

    # -- stages --------------------------------------------------------------------------------------------------------

    def _stage(self, value: Value) -> Stage:
        """The stage and the level in which a value is known."""
        if value in self._known or value.constant is not None or value.instruction is None:
            return 0, 0
        if value not in self._stages:
            product, inputs = self._products.get(value), value.instruction.inputs
            if product is not None:
                needed = [factors(product.instruction)[0], *([product.added] if product.added is not None else [])]
                self._stages[value] = 1 + max(map(self._stage, needed))[0], 0
            else:
                stage, level = max(map(self._stage, inputs), default=(0, 0))
                later = is_row_op(value.instruction) or (
                    reshaped_whole(value.instruction) and inputs[0] not in self._known
                )
                self._stages[value] = stage, level + later
        return self._stages[value]

    def _need(self, value: Value) -> None:
        """Notes that a value must be computed into a place."""
        if value in self._known or value.constant is not None:
            return
        if value in self._outputs or value in self._called or value in self._row_ops or value in self._same:
            return
        product, instruction = self._products.get(value), value.instruction
        if product is None:
            if instruction is not None and is_row_op(instruction):
                for part in read_by_row_op(instruction, self._is_in_memory):
                    self._need_whole(part, self._stage(value)[0])
                self._row_ops[value] = self._targets.get(value)
            elif instruction is not None and instruction.op.name == "reshape" and value not in self._targets:
                self._same[value] = instruction.inputs[0]
                self._need_whole(instruction.inputs[0], None)
            else:
                self._outputs[value] = self._targets.get(value)
                self._read_by(value, self._stage(value))
            return
        self._called.add(value)
        self._need_whole(factors(product.instruction)[0], -1)
        added = product.added
        if added is None or not (added in self._known or added in self._products):
            self._homes[value] = self._targets.get(value) or self._room(value)
        if added is not None:
            if value in self._homes:
                self._targets.setdefault(added, self._homes[value])
            self._note_reader(added, -1)
            self._need(added)
        self._calls.append((self._stage(value)[0], product))

    def _is_in_memory(self, value: Value) -> bool:
        """Whether a value is in memory when it is known, whatever reads it."""
        if value in self._known or value in self._targets or value in self._products or value in self._whole:
            return True
        return value in self._made and value.instruction is not None and is_row_op(value.instruction)

    def _note_reader(self, value: Value, stage: int) -> None:
        self._readers.setdefault(value, set()).add(stage)
        if value.instruction is not None and value.instruction.op.name == "reshape" and value not in self._known:
            self._note_reader(value.instruction.inputs[0], stage)

    def _need_whole(self, value: Value, stage: int | None) -> None:
        """Notes that a value is read in a stage from its place as it is."""
        if stage is not None:
            self._note_reader(value, stage)
        if value.constant is not None and not hasattr(value.constant, "shape"):
            raise CannotEmitError("an op on whole rows of a constant")
        self._whole.add(value)
        self._need(value)

    def _read_by(self, value: Value, stage: Stage) -> None:
        """Notes what a value that is computed in a stage reads: what was known earlier must be in a place."""
        if (value, stage) in self._visited or value.instruction is None:
            return
        self._visited.add((value, stage))
        whole = reshaped_whole(value.instruction)
        for part in value.instruction.inputs:
            if part in self._known or part.constant is not None or part.instruction is None:
                continue
            computed = part in self._products or is_row_op(part.instruction)
            inside = self._stage(part) == stage or is_move(part.instruction)
            self._note_reader(part, stage[0])
            if computed or not inside or (whole and not reshaped_whole(part.instruction)):
                self._need(part)
            else:
                self._read_by(part, stage)

    # -- code ----------------------------------------------------------------------------------------------------------

    def write(
        self,
        code: CCode,
        loop: str,
        type_of: Callable[[Value], str],
        call: Callable[[Product, Place, Place], tuple[str, ...]],
    ) -> None:
        """Adds the code of the phase.

        Args:
            loop: the head of the loop over rows.
            type_of: the C type of a value's elements.
            call: adds the call of a product, given the places of x and of the result; returns what must be added to
                the elements of the result.
        """
        places = dict(self._known)
        values = {*self._outputs, *self._targets, *self._row_ops, *self._whole}
        values |= {product.value for _, product in self._calls}
        stages = sorted({self._stage(value) for value in values if value in self._made or value in self._known})
        for stage, levels in itertools.groupby(stages, lambda each: each[0]):
            for at, product in self._calls:
                if at == stage:
                    self._find_reshaped(places)
                    self._write_product(product, places, call)
            with code.block(loop):
                code.add("ONE_BY_ONE")
                inside = len(code.lines)
                self._make_places(code, stage, type_of)
                for level in levels:
                    self._find_reshaped(places)
                    self._write_level(code, level, places, type_of)
                if len(code.lines) == inside:
                    code.lines.pop()

    def _make_places(self, code: CCode, stage: int, type_of: Callable[[Value], str]) -> None:
        """Makes the places of what the loop of a stage computes: arrays of a row, if no other code reads them."""
        left = _MOST_ON_THE_STACK
        for values in (self._outputs, self._row_ops):
            for value, place in values.items():
                if place is None and self._stage(value)[0] == stage:
                    if self._readers.get(value) == {stage} and value.row_bytes <= left:
                        left -= value.row_bytes
                        name = code.name(value, "row_{}")
                        code.add(f"{type_of(value)} {name}[{value.row_size}];")
                        values[value] = Place(name, "0")
                    else:
                        values[value] = self._room(value)

    def _find_reshaped(self, places: dict[Value, Place]) -> None:
        """Adds the places of reshapes whose inputs are there."""
        for value in self._same:
            x: Value | None = value
            while x in self._same:
                x = self._same[x]
            place = None if x is None else places.get(x)
            if place is not None and not place.more:
                places[value] = place

    def _write_level(
        self, code: CCode, level: Stage, places: dict[Value, Place], type_of: Callable[[Value], str]
    ) -> None:
        """Adds what is computed of a row in a level: ops on whole rows first, then element by element."""
        rows = {value: p for value, p in self._row_ops.items() if p is not None and self._stage(value) == level}
        write_row_ops(code, rows, places)
        places.update(rows)
        complete = [
            (value, Place(place.array, place.row))
            for value, place in places.items()
            if value in self._whole and place.more and self._stage(value) == level
        ]
        asked = [*self._outputs.items(), *self._wanted]
        at_level = [
            *complete,
            *((value, place) for value, place in asked if place is not None and self._stage(value) == level),
        ]
        # What is added to products is added once, before anything else reads them.
        for finished in (True, False):
            pairs = [
                (value, place)
                for value, place in dict.fromkeys(at_level)
                if (value in self._products) == finished and not self._is_there(value, place, places)
            ]
            if pairs:
                for kernel in kernels_of(pairs, places, type_of, Kernel):
                    kernel.write(code)
                places.update(pairs)

    def _is_there(self, value: Value, wanted: Place, places: Mapping[Value, Place]) -> bool:
        """Whether a value is in the place where it is wanted, or will be."""
        found = places.get(value)
        if found is not None and value in self._unfinished and value in self._products and value not in self._whole:
            return found.array == wanted.array
        return found == wanted

    def _write_product(
        self,
        product: Product,
        places: dict[Value, Place],
        call: Callable[[Product, Place, Place], tuple[str, ...]],
    ) -> None:
        x = places.get(factors(product.instruction)[0])
        if x is None or x.more:
            raise CannotEmitError("a product whose input is the result of a different product")
        place = self._homes[product.value] if product.added is None else places[product.added]
        places[product.value] = Place(place.array, place.row, (*place.more, *call(product, x, place)))
