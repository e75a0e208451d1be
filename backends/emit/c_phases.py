"""A phase of a step in C: products of rows, and between them loops over rows and units."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from .c_kernels import MOVES, CannotEmitError, CCode, Place, is_elementwise, write_kernels
from .program import Instruction, Value

__all__ = ["Phase", "Product", "is_product"]


def is_product(instruction: Instruction) -> bool:
    """Whether it is a product of rows with a matrix that has no batch dimension."""
    if instruction.op.name not in ("linear", "matmul"):
        return False
    x, weight = instruction.arguments[:2]
    return len(x.shape) == len(weight.shape) == 2 and x.has_batch and not weight.has_batch


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
        instructions: in order.
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
        self._made = {value for instruction in instructions for value in instruction.results}
        self._uses: dict[Value, int] = {}
        for instruction in instructions:
            if not (is_elementwise(instruction) or is_product(instruction)):
                raise CannotEmitError(f"there is no C code for {instruction.op.name!r}")
            for value in instruction.inputs:
                self._uses[value] = self._uses.get(value, 0) + 1
        targets = {value for value, _ in wanted}
        self._products: dict[Value, Product] = {}  # by what their places hold
        inside: set[Value] = set()  # products that are added to other values
        for instruction in instructions:
            if instruction.op.name == "add":
                self._join_sum(instruction, targets, free, inside)
        for instruction in instructions:
            if is_product(instruction) and instruction.results[0] not in inside:
                self._products[instruction.results[0]] = Product(instruction, instruction.results[0])
        self._stages: dict[Value, int] = {}
        self._targets: dict[Value, Place] = {}
        for value, place in wanted:
            self._targets.setdefault(value, place)
        self._outputs: dict[Value, Place] = {}  # of what is computed element by element
        self._homes: dict[Value, Place] = {}  # of products that are not added to what is in a place already
        self._called: set[Value] = set()
        self._visited: set[tuple[Value, int]] = set()
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
            alone = self._uses.get(product) == 1 == self._uses.get(other) and not targets & {product, other}
            if made is None or product not in self._made or not is_product(made) or not alone or product in inside:
                continue
            if other in self._made or (other in free and total not in targets):
                self._products[total] = Product(made, total, other)
                inside.add(product)
                return

    # -- stages --------------------------------------------------------------------------------------------------------

    def _stage(self, value: Value) -> int:
        """The stage in which a value is known: products are computed at its beginning, all else after them."""
        if value in self._known or value.constant is not None or value.instruction is None:
            return 0
        if value not in self._stages:
            product = self._products.get(value)
            if product is None:
                self._stages[value] = max(map(self._stage, value.instruction.inputs), default=0)
            else:
                needed = [product.instruction.arguments[0], *([product.added] if product.added is not None else [])]
                self._stages[value] = 1 + max(map(self._stage, needed))
        return self._stages[value]

    def _need(self, value: Value) -> None:
        """Notes that a value must be computed into a place."""
        if value in self._known or value.constant is not None or value in self._outputs or value in self._called:
            return
        product = self._products.get(value)
        if product is None:
            self._outputs[value] = self._targets.get(value) or self._room(value)
            self._read_by(value, self._stage(value))
            return
        self._called.add(value)
        self._need(product.instruction.arguments[0])
        added = product.added
        if added is None or not (added in self._known or added in self._products):
            self._homes[value] = self._targets.get(value) or self._room(value)
        if added is not None:
            if value in self._homes:
                self._targets.setdefault(added, self._homes[value])
            self._need(added)
        self._calls.append((self._stage(value), product))

    def _read_by(self, value: Value, stage: int) -> None:
        """Notes what a value that is computed in a stage reads: what was known earlier must be in a place."""
        if (value, stage) in self._visited or value.instruction is None:
            return
        self._visited.add((value, stage))
        for part in value.instruction.inputs:
            if part in self._known or part.constant is not None:
                continue
            moved = part.instruction is not None and part.instruction.op.name in MOVES
            if part not in self._products and (moved or self._stage(part) == stage):
                self._read_by(part, stage)
            else:
                self._need(part)

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
        wanted = {*self._outputs, *self._targets}
        for stage in range(
            1 + max([self._stage(value) for value in wanted] + [at for at, _ in self._calls], default=0)
        ):
            for at, product in self._calls:
                if at == stage:
                    self._write_product(product, places, call)
            at_stage = [pair for pair in (*self._outputs.items(), *self._wanted) if self._stage(pair[0]) == stage]
            # What is added to products is added once, before anything else reads them.
            for finished in (True, False):
                pairs = [
                    (value, place)
                    for value, place in dict.fromkeys(at_stage)
                    if (value in self._products) == finished and not self._is_there(value, place, places)
                ]
                if pairs:
                    with code.block(loop):
                        write_kernels(code, pairs, places, type_of)
                    places.update(pairs)

    def _is_there(self, value: Value, wanted: Place, places: Mapping[Value, Place]) -> bool:
        """Whether a value is in the place where it is wanted, or will be."""
        found = places.get(value)
        if found is not None and value in self._unfinished and value in self._products:
            return found.array == wanted.array
        return found == wanted

    def _write_product(
        self,
        product: Product,
        places: dict[Value, Place],
        call: Callable[[Product, Place, Place], tuple[str, ...]],
    ) -> None:
        x = places.get(product.instruction.arguments[0])
        if x is None or x.more:
            raise CannotEmitError("a product whose input is the result of a different product")
        place = self._homes[product.value] if product.added is None else places[product.added]
        places[product.value] = Place(place.array, place.row, (*place.more, *call(product, x, place)))
