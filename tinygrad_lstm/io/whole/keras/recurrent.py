"""Recurrent layers."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import partial
from typing import Any

from tinygrad_lstm import models
from tinygrad_lstm.backends.base import HostArray
from tinygrad_lstm.kinds import KINDS

from .... import ops
from ...._tensor import Tensor
from ...contents import FileLayer
from ...file_layers import network_of
from ...keras.config import one_direction
from .rules import Layer, Slot, Spec, UnsupportedError, register_kind

__all__: list[str] = []

_ROLES = ("kernel", "recurrent_kernel", "bias")


class _Recurrent:
    """LSTM, GRU and SimpleRNN."""

    def slots(self, spec: Spec) -> Iterator[Slot]:
        roles = _ROLES[: 2 + bool(spec.config.get("use_bias", True))]
        for number, role in enumerate(roles):
            yield Slot(f"{spec.path}/cell/vars/{number}", role, spec.trainable)

    def build(self, spec: Spec, arrays: Mapping[str, HostArray]) -> Layer:
        settings = one_direction({"class_name": spec.class_name, "config": spec.config}, spec.keras)
        if settings.unsupported:
            raise UnsupportedError(*settings.unsupported)
        own = {slot.role: arrays[slot.path] for slot in self.slots(spec)}
        description = FileLayer(
            str(settings.kind),
            "keras",
            [{role: role for role in own}],
            reset_after=settings.reset_after is not False,
            nonlinearity=settings.nonlinearity,
            activations=settings.activations,
            batch_first=True,
        )
        network = getattr(models, str(settings.kind)).of_found(network_of(own, description))
        sequences, states = bool(spec.config.get("return_sequences")), bool(spec.config.get("return_state"))
        function = partial(_run, reverse=settings.reverse, sequences=sequences, states=states)
        outputs = 1 + len(network.STATES) * states
        return Layer(function, network, mask="keep" if sequences else None, outputs=outputs)


def _run(
    network: Any, x: Tensor | list[Tensor], initial_state: Any = None, *, reverse: bool, sequences: bool, states: bool
) -> Any:
    """The outputs (B, T, H) or the last one (B, H), and the final states, each (B, H)."""
    if isinstance(x, list):  # as Keras 2 writes initial states
        x, *initial_state = x
    if reverse:
        x = ops.flip(x, 1)
    state = initial_state
    if isinstance(state, list | tuple):
        state = tuple([ops.unsqueeze(each, 0) for each in state])
        state = state if len(state) > 1 else state[0]
    elif state is not None:
        state = ops.unsqueeze(state, 0)
    out, final = network(x, state)
    finals = [ops.squeeze(each, 0) for each in (final if isinstance(final, tuple) else (final,))]
    out = out if sequences else finals[0]
    return (out, *finals) if states else out


register_kind(_Recurrent(), *(kind.keras_classes[0] for kind in KINDS.values()))
