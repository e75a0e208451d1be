"""The arrays of a Keras model, by names such as "encoder/lstm_cell/kernel", which begin with that of their layer."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping

from tinygrad_lstm.backends.base import HostArray

from ...errors import shown
from ..keras.graph import graph_of
from ..keras.rules import slots_of
from ..keras.spec import Spec
from ..keras.weights import check_arrays

__all__ = ["arrays_by_layer"]


def arrays_by_layer(model: Spec, arrays: Mapping[str, HostArray]) -> dict[str, HostArray]:
    """The arrays by the paths of slots.

    Raises:
        ContentError: arrays are missing, or there are more (one error names all).
    """
    of_layer: defaultdict[str, dict[tuple[str, str], str]] = defaultdict(dict)
    for name in arrays:
        layer, _, rest = name.partition("/")
        parent, _, role = rest.rpartition("/")
        of_layer[layer][parent, role] = name
    found: dict[str, HostArray] = {}
    missing = []
    for spec in _layers(model):
        own = of_layer[spec.name]
        for slot in slots_of(spec):
            place = next((place for place in sorted(own, key=_backward_last) if place[1] == slot.role), None)
            if place is None:
                missing.append(f"{shown(spec.name)}: {slot.role}")
            else:
                found[slot.path] = arrays[own.pop(place)]
    extra = [shown(name) for own in of_layer.values() for name in own.values()]
    check_arrays(missing, extra)
    return found


def _layers(model: Spec) -> Iterator[Spec]:
    """The layers of a model, and of the models within it."""
    for spec in graph_of(model).layers.values():
        if "layers" in spec.config:
            yield from _layers(spec)
        else:
            yield spec


def _backward_last(place: tuple[str, str]) -> bool:
    """Of a layer with two directions, the arrays of the forward one are first; cells in a stack keep their order."""
    return place[0].startswith("backward")
