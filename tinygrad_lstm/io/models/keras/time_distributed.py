"""TimeDistributed, which applies a layer to each step."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from functools import partial
from typing import Any

from tinygrad_lstm.backends.base import HostArray

from .... import ops
from ...._tensor import Tensor
from .rules import Layer, UnsupportedError, built, register_kind, slots_of
from .spec import Slot, Spec

__all__: list[str] = []


class _TimeDistributed:
    """A layer that is applied to each step."""

    def slots(self, spec: Spec) -> Iterator[Slot]:
        yield from slots_of(spec.within(spec.config.get("layer"), "layer"))

    def build(self, spec: Spec, arrays: Mapping[str, HostArray]) -> Layer:
        inner = built(spec.within(spec.config.get("layer"), "layer"), arrays)
        if inner.outputs != 1:
            raise UnsupportedError("a layer with several outputs")
        function = partial(_at_each_step, function=inner.function, takes_mask=inner.takes_mask is True)
        mask: Any = "keep"
        if spec.keras < 3:
            mask = partial(_mask_of_steps, inner=inner.mask if callable(inner.mask) else None)
        return Layer(function, inner.module, mask=mask, takes_mask=True, makes_mask=spec.keras < 3 and inner.makes_mask)


def _at_each_step(*given: Any, function: Callable[..., Any], takes_mask: bool, mask: Tensor | None = None) -> Tensor:
    *own, x = given
    B, T = x.shape[:2]
    more = {}
    if takes_mask and mask is not None and mask.ndim > 2:
        more["mask"] = mask.reshape(-1, *mask.shape[2:])
    out: Tensor = function(*own, x.reshape(-1, *x.shape[2:]), **more)
    return out.reshape(B, T, *out.shape[1:])


def _mask_of_steps(x: Tensor, mask: Tensor | None, inner: Callable[..., Tensor] | None) -> Tensor:
    """The mask of a layer's output in Keras 2: that of the inner layer, or of the steps that are not masked whole."""
    if inner is not None:
        flat = None if mask is None else mask.reshape(-1, *mask.shape[2:])
        found = inner(x.reshape(-1, *x.shape[2:]), flat)
        return found.reshape(*x.shape[:2], *found.shape[1:])
    assert mask is not None
    return mask if mask.ndim < 3 else ops.any(ops.flatten(mask, 2), dim=-1)


register_kind(_TimeDistributed(), "TimeDistributed")
