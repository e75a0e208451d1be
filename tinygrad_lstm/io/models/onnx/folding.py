"""Values that are known from the file: constants, and what integers are computed from them.

Exporters write shape arithmetic as nodes. The nodes whose inputs are all known are computed when a model is loaded.
"""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np

from tinygrad_lstm.backends.base import HostArray

from ...._tensor import Tensor
from ....mode import no_grad
from ...onnx.constants import Term, Values
from ...onnx.evaluation import EVALUATED
from ..body import plain_array
from ..rules import MOST_ON_HOST, RuleCall

if TYPE_CHECKING:
    from onnx import NodeProto

__all__ = ["Folding"]

# fmt: off
BOUNDED = frozenset((
    "Abs", "Add", "And", "ArgMax", "ArgMin", "Cast", "CastLike", "Ceil", "Clip", "Compress", "CumSum", "Div",
    "Equal", "Floor", "Gather", "GatherElements", "GatherND", "Greater", "GreaterOrEqual", "Less", "LessOrEqual",
    "Max", "Min", "Mod", "Mul", "Neg", "NonZero", "Not", "Or", "Pow", "Reciprocal", "ReduceMax", "ReduceMin",
    "ReduceProd", "ReduceSum", "Round", "ScatterElements", "ScatterND", "Sign", "Size", "Sqrt", "Sub", "Sum", "TopK",
    "Trilu", "Where", "Xor",
))
# fmt: on
"""Ops whose results are at most as large as all inputs, broadcast to each other, so that computing them is safe."""


class Folding:
    """What is known of the values of a model while it is built.

    Args:
        values: evaluates terms, in limited memory.

    Attributes:
        trainable: the terms of parameters. What is computed from them is computed in each call.
    """

    def __init__(self, values: Values) -> None:
        self._values = values
        self.trainable: set[Term] = set()

    def folded(
        self, node: "NodeProto", call: RuleCall, given: Sequence[Term | None], terms: Mapping[str, Term]
    ) -> bool:
        """Whether the results of a node are small and known; these are stored in their terms."""
        is_shape = node.op_type in ("Shape", "Size")
        inputs = [None if term is None else self._known(term, any_size=is_shape) for term in given]
        if not terms or any(array is None and term is not None for array, term in zip(inputs, given, strict=True)):
            return False
        arrays: Sequence[HostArray | None] | None = None
        if node.op_type in EVALUATED:
            values = [self._values.of(term) for term in terms.values()]
            arrays = [value if isinstance(value, np.ndarray) else None for value in values]
        elif node.op_type in BOUNDED:
            arrays = _computed(call, inputs)
        if arrays is None or any(array is None or array.size > MOST_ON_HOST for array in arrays):
            return False
        for term, array in zip(terms.values(), arrays, strict=False):
            term.stored = array
        return True

    def _known(self, term: Term, *, any_size: bool) -> HostArray | None:
        """The stored array of a term if it is small and not trained, or if only its shape matters."""
        if not isinstance(term.stored, np.ndarray):
            return None
        small = term.stored.size <= MOST_ON_HOST and term not in self.trainable
        return term.stored if any_size or small else None


def _computed(call: RuleCall, inputs: Sequence[HostArray | None]) -> list[HostArray] | None:
    """The results of a rule; None if it does not compute these."""
    try:
        with no_grad(), np.errstate(all="ignore"):
            results = call(*inputs)
    except (ArithmeticError, AttributeError, IndexError, MemoryError, TypeError, ValueError):
        return None
    return [_on_host(result) for result in (results if isinstance(results, tuple | list) else [results])]


def _on_host(value: Tensor | HostArray) -> HostArray:
    return value.numpy() if isinstance(value, Tensor) else plain_array(value)
