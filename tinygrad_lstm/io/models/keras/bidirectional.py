"""Bidirectional, which runs two recurrent layers in opposite directions and joins their outputs."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

from tinygrad_lstm.backends.base import HostArray

from .... import ops
from ...._tensor import Tensor
from ....nn import Module
from .dropping import Dropping, dropping_of
from .recurrent import RECURRENT, Sequences, cell_slots, flat_states, network_of_layer, settings_of_layer
from .rules import Layer, UnsupportedError, built, register_kind, slots_of
from .spec import Slot, Spec

__all__: list[str] = []


_EQUAL = ("return_sequences", "return_state", "stateful")
"""Settings that both layers must have, as in Keras."""


class _Bidirectional:
    """Two layers, the second of which has different settings, or the same ones from the end."""

    def slots(self, spec: Spec) -> Iterator[Slot]:
        for direction in self._directions(spec):
            yield from slots_of(direction)

    def build(self, spec: Spec, arrays: Mapping[str, HostArray]) -> Layer:
        mode = spec.config.get("merge_mode", "concat")
        if mode not in ("concat", "sum", "ave", "mul", None):
            raise UnsupportedError(f"the merge mode {mode!r}")
        directions = self._directions(spec)
        first = directions[0].config
        merging = _Merging(mode, bool(first.get("return_sequences")), bool(first.get("return_state")))
        layer = _one_network(directions, arrays, merging) or _two_networks(directions, arrays, merging)
        merged = 2 if mode is None else 1
        mask: Any = "keep" if merging.sequences else None
        return replace(layer, mask=mask, kept=merged, takes_mask=True, outputs=merged + int(str(layer.outputs)))

    def _directions(self, spec: Spec) -> tuple[Spec, Spec]:
        forward = spec.within(spec.config.get("layer"), "forward_layer")
        if spec.config.get("backward_layer") is not None:
            backward = spec.within(spec.config["backward_layer"], "backward_layer")
            settings = forward.config, backward.config
            if differ := [name for name in _EQUAL if len({bool(each.get(name)) for each in settings}) > 1]:
                raise ValueError(f"its two layers differ in {', '.join(differ)}")
            return forward, backward
        given = spec.config["layer"]
        turned = {**forward.config, "go_backwards": not forward.config.get("go_backwards", False)}
        return forward, spec.within({**given, "config": turned}, "backward_layer")


@dataclass(frozen=True)
class _Merging:
    """How the results of two directions become those of the layer.

    Attributes:
        mode: Keras's `merge_mode`; None for outputs that are not joined.
        sequences: whether the outputs are those of all steps.
        states: whether the final states are returned too.
    """

    mode: str | None
    sequences: bool
    states: bool

    def __call__(self, y: Tensor, z: Tensor, finals: Sequence[Tensor]) -> Any:
        """The results, given the outputs of both directions, in the order of time, and the final states."""
        merged: tuple[Tensor, ...]
        if self.mode == "concat":
            merged = (ops.cat([y, z], dim=-1),)
        elif self.mode is None:
            merged = (y, z)
        else:
            merged = (y * z if self.mode == "mul" else y + z if self.mode == "sum" else (y + z) / 2,)
        out = (*merged, *finals) if self.states else merged
        return out if len(out) > 1 else out[0]


def _given(x: Any, initial_state: Any, mask: Any) -> tuple[Tensor, list[list[Tensor] | None], Tensor | None]:
    """The inputs, the initial states of each direction, and the mask."""
    if isinstance(x, list):  # as Keras 2 writes initial states
        x, *initial_state = x
        mask = mask[0] if isinstance(mask, list) else mask
    if initial_state is None:
        return x, [None, None], mask
    given = flat_states(initial_state) or []
    return x, [given[: len(given) // 2], given[len(given) // 2 :]], mask


# -- directions that are one network of this library -------------------------------------------------------------------


_ALIKE = ("return_sequences", "return_state", "unroll", "trainable", "dropout", "recurrent_dropout", "implementation")
"""Settings of how a layer runs, which both directions of a network share."""


def _one_network(directions: Sequence[Spec], arrays: Mapping[str, HostArray], merging: _Merging) -> Layer | None:
    """The layer as one bidirectional network, which is traced and exported as such; None if there is none like it."""
    forward, backward = directions
    if any(each.custom or each.class_name not in RECURRENT for each in directions):
        return None
    settings = [settings_of_layer(each) for each in directions]
    if settings[0].reverse or replace(settings[1], reverse=False) != settings[0] or not settings[0].batch_first:
        return None
    if any(forward.config.get(name) != backward.config.get(name) for name in _ALIKE) or forward.config.get("unroll"):
        return None
    own = [{slot.role: arrays[slot.path] for slot in cell_slots(each, f"{each.path}/cell")} for each in directions]
    if any(own[0][role].shape != own[1][role].shape for role in own[0]):
        return None
    network = network_of_layer(settings[0], own)
    network.requires_grad_(forward.trainable)
    dropping = dropping_of(forward.config, len(network.activations) > 1)
    return Layer(
        partial(_fused, merging=merging, dropping=dropping), network, outputs=2 * len(network.STATES) * merging.states
    )


def _fused(
    network: Any, x: Any, initial_state: Any = None, mask: Any = None, *, merging: _Merging, dropping: Dropping
) -> Any:
    """What a bidirectional network computes, as Keras returns it."""
    x, states, mask = _given(x, initial_state, mask)
    mask = None if mask is None else mask.reshape(*mask.shape[:2])
    if dropping and network.training:
        runs = [
            dropping.run(network, place, x, own, mask, reverse=k == 1)
            for k, (place, own) in enumerate(zip(("l0", "l0_reverse"), states, strict=True))
        ]
        (y, finals), (z, others) = runs
    else:
        pairs = [ops.stack(list(pair)) for pair in zip(*(own or () for own in states), strict=True)]
        start: Any = None if not pairs else tuple(pairs) if len(pairs) > 1 else pairs[0]
        out, final = network(x, start) if mask is None else network(x, start, mask=mask)
        y, z = ops.chunk(out, 2, dim=-1)
        parts = final if isinstance(final, tuple) else (final,)
        finals, others = ([each[k] for each in parts] for k in (0, 1))
    if not merging.sequences:
        y, z = y[:, -1], z[:, 0]
    if mask is not None and (merging.sequences or states[0] is not None):
        # Without sequences, an output is that of the last step that is taken, and zero if none is.
        shown = ops.unsqueeze(mask if merging.sequences else ops.any(mask, dim=1), -1)
        y, z = ops.where(shown, y, 0.0), ops.where(shown, z, 0.0)
    return merging(y, z, [*finals, *others])


# -- directions that differ --------------------------------------------------------------------------------------------


def _two_networks(directions: Sequence[Spec], arrays: Mapping[str, HostArray], merging: _Merging) -> Layer:
    """The layer as two layers."""
    layers = [built(each, arrays) for each in directions]
    parts = [
        replace(layer.function, zeros=merging.sequences) if isinstance(layer.function, Sequences) else layer.function
        for layer in layers
    ]
    number = sum(layer.outputs - 1 for layer in layers if isinstance(layer.outputs, int))
    module = Directions(*(layer.module or Module() for layer in layers))
    return Layer(partial(_both, parts=parts, merging=merging), module, outputs=number)


class Directions(Module):
    """The networks of two directions."""

    def __init__(self, forward_layer: Module, backward_layer: Module) -> None:
        self.forward_layer = forward_layer
        self.backward_layer = backward_layer


def _both(
    module: Directions,
    x: Any,
    initial_state: Any = None,
    mask: Any = None,
    *,
    parts: Sequence[Callable[..., Any]],
    merging: _Merging,
) -> Any:
    """The merged outputs of both directions, and the states of both."""
    x, states, mask = _given(x, initial_state, mask)
    results = [
        part(network, x, own, mask)
        for part, network, own in zip(parts, (module.forward_layer, module.backward_layer), states, strict=True)
    ]
    (y, *finals), (z, *others) = (result if merging.states else (result,) for result in results)
    return merging(y, ops.flip(z, 1) if merging.sequences else z, [*finals, *others])


register_kind(_Bidirectional(), "Bidirectional")
