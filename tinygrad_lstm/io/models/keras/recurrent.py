"""Recurrent layers, and what wraps layers."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

from tinygrad_lstm.backends.base import HostArray
from tinygrad_lstm.kinds import KINDS
from tinygrad_lstm.models.networks import NETWORKS

from .... import ops
from ...._tensor import Tensor
from ....creation import ones
from ....nn import Module, ModuleList
from ...contents import FileLayer
from ...errors import ContentError
from ...file_layers import network_of
from ...keras.config import Settings, one_direction
from .rules import Layer, Slot, Spec, UnsupportedError, built, register_kind, slots_of

__all__ = ["Sequences", "cell_slots", "layer_of", "runner_of"]

_ROLES = ("kernel", "recurrent_kernel", "bias")


@dataclass(frozen=True, kw_only=True)
class Sequences:
    """Runs a network of this library as a recurrent layer of Keras.

    Attributes:
        reverse: whether it runs from the end; its outputs are then in this order.
        sequences: whether it returns the outputs of all steps, or the last one.
        states: whether it returns the final states too.
        zeros: whether the output of a step that a mask skips is zero, or that of the step before.
        unrolled: Keras's `unroll`, which matters to `zeros`.
        time_major: whether inputs and outputs are (T, B, ...).
        dropout: the probability of dropout of the inputs, in training, of the same elements at all steps. There is none
            of the states, Keras's `recurrent_dropout`.
    """

    reverse: bool
    sequences: bool
    states: bool
    zeros: bool
    unrolled: bool
    time_major: bool
    dropout: float

    def __call__(self, network: Any, x: Any, initial_state: Any = None, mask: Any = None) -> Any:
        """The outputs (B, T, ...) or the last one (B, ...), and the final states, each (B, ...)."""
        if isinstance(x, list):  # as Keras 2 writes initial states
            x, *initial_state = x
            mask = mask[0] if isinstance(mask, list) else mask
        if self.time_major:
            x = x.transpose(0, 1)
            mask = None if mask is None else mask.transpose(0, 1)
        if mask is not None:
            mask = mask.reshape(mask.shape[0], mask.shape[1])
        original = mask
        if self.reverse:
            x = ops.flip(x, 1)
            mask = None if mask is None else ops.flip(mask, 1)
        if self.dropout and network.training:
            kept = ones(x.shape[0], 1, *x.shape[2:], dtype=x.dtype, device=x.device)
            x = x * ops.dropout(kept, self.dropout)
        out, finals = _run(network, x, _flat_states(initial_state), mask)
        if mask is not None:
            shape = (*out.shape[:2], *[1] * (out.ndim - 2))
            if self.zeros:
                shown = original if self.unrolled and self.sequences else mask
                out = ops.where(shown.reshape(shape), out, 0.0)
            elif initial_state is not None:  # before the first step that is taken, the output is zero
                begun = ops.cumsum(mask.astype("int32"), dim=1) > 0
                out = ops.where(begun.reshape(shape), out, 0.0)
        if not self.sequences:
            out = out[:, -1]
        elif self.time_major:
            out = out.transpose(0, 1)
        return (out, *finals) if self.states else out


def runner_of(config: Mapping[str, Any]) -> Sequences:
    """How a layer runs its cells."""
    return Sequences(
        reverse=bool(config.get("go_backwards")),
        sequences=bool(config.get("return_sequences")),
        states=bool(config.get("return_state")),
        zeros=bool(config.get("zero_output_for_mask")),
        unrolled=bool(config.get("unroll")),
        time_major=bool(config.get("time_major")),
        dropout=float(config.get("dropout") or 0.0),
    )


def _flat_states(given: Any) -> list[Tensor] | None:
    if given is None:
        return None
    if isinstance(given, list | tuple):
        return [leaf for each in given for leaf in _flat_states(each) or []]
    return [given]


def _run(network: Any, x: Tensor, state: list[Tensor] | None, mask: Tensor | None) -> tuple[Tensor, list[Tensor]]:
    """The outputs of all steps and the final states of a network, or of a stack of them."""
    if isinstance(network, Stack):
        finals: list[Tensor] = []
        for each in network.cells:
            number = len(getattr(each, "STATES"))  # noqa: B009
            x, own = _run(each, x, None if state is None else state[len(finals) : len(finals) + number], mask)
            finals += own
        return x, finals
    given: Any = None
    if state is not None:
        placed = state if network.STATE_BATCH_DIM == 0 else [ops.unsqueeze(each, 0) for each in state]
        given = tuple(placed) if len(placed) > 1 else placed[0]
    out, final = network(x, given) if mask is None else network(x, given, mask=mask)
    parts = final if isinstance(final, tuple | list) else (final,)
    return out, [each if network.STATE_BATCH_DIM == 0 else ops.squeeze(each, 0) for each in parts]


class Stack(Module):
    """Networks of one layer, each of which takes the outputs of the one below."""

    def __init__(self, cells: Sequence[Module]) -> None:
        self.cells = ModuleList(cells)


# -- LSTM, GRU, SimpleRNN, those for CuDNN, and RNN of such cells ------------------------------------------------------


def cell_slots(spec: Spec, path: str) -> Iterator[Slot]:
    roles = _ROLES[: 2 + bool(spec.config.get("use_bias", True))]
    for number, role in enumerate(roles):
        yield Slot(f"{path}/vars/{number}", role, spec.trainable)


def _network(settings: Settings, directions: Sequence[Mapping[str, HostArray]]) -> Any:
    """The network of a layer with these settings, given the arrays of each direction by their roles."""
    if settings.unsupported:
        raise UnsupportedError(*settings.unsupported)
    arrays = {f"{k}/{role}": array for k, own in enumerate(directions) for role, array in own.items()}
    names = [{role: f"{k}/{role}" for role in own} for k, own in enumerate(directions)]
    description = FileLayer(
        str(settings.kind),
        "keras",
        names,
        bidirectional=len(directions) == 2,
        reset_after=settings.reset_after is not False,
        nonlinearity=settings.nonlinearity,
        activations=settings.activations,
        batch_first=True,
    )
    network = NETWORKS[str(settings.kind)].of_found(network_of(arrays, description))
    if settings.units not in (None, network.hidden_size):
        raise ContentError(f"a layer has {settings.units} units in the config, but arrays of {network.hidden_size}")
    return network


def _settings(spec: Spec) -> Settings:
    return one_direction({"class_name": spec.class_name, "config": spec.config}, spec.keras)


def layer_of(run: Sequences, network: Module, states: int) -> Layer:
    """A recurrent layer whose network has this number of states."""
    mask: Any = "keep" if run.sequences else None
    return Layer(run, network, mask=mask, takes_mask=True, outputs=1 + states * run.states)


class _Recurrent:
    """A layer of one kind."""

    def slots(self, spec: Spec) -> Iterator[Slot]:
        yield from cell_slots(spec, f"{spec.path}/cell")

    def build(self, spec: Spec, arrays: Mapping[str, HostArray]) -> Layer:
        settings = _settings(spec)
        network = _network(settings, [{slot.role: arrays[slot.path] for slot in self.slots(spec)}])
        run = runner_of(spec.config)
        return layer_of(run, network, len(network.STATES))


class _Runner:
    """RNN, which runs a cell, or several in a stack."""

    def slots(self, spec: Spec) -> Iterator[Slot]:
        for cell in self._cells(spec):
            yield from cell_slots(cell, cell.path)

    def build(self, spec: Spec, arrays: Mapping[str, HostArray]) -> Layer:
        run, networks = runner_of(spec.config), []
        for cell in self._cells(spec):
            settings = one_direction(
                {"class_name": "RNN", "config": {"cell": {"class_name": cell.class_name, "config": cell.config}}},
                spec.keras,
            )
            networks.append(_network(settings, [{s.role: arrays[s.path] for s in cell_slots(cell, cell.path)}]))
        states = sum(len(network.STATES) for network in networks)
        return layer_of(run, networks[0] if len(networks) == 1 else Stack(networks), states)

    def _cells(self, spec: Spec) -> list[Spec]:
        cell = spec.within(spec.config.get("cell"), "cell")
        if cell.class_name != "StackedRNNCells":
            cells = [cell]
        else:
            if cell.config.get("reverse_state_order"):
                raise UnsupportedError("reverse_state_order")
            cells = cell.within_list("cells")
        for each in cells:
            if each.custom or all(each.class_name != kind.keras_classes[1] for kind in KINDS.values()):
                raise UnsupportedError(f"the cell {each.class_name}")
        return cells


# -- both directions ---------------------------------------------------------------------------------------------------


class _Bidirectional:
    """A layer, and a different one or the same settings from the end."""

    def slots(self, spec: Spec) -> Iterator[Slot]:
        for direction in self._directions(spec):
            yield from slots_of(direction)

    def build(self, spec: Spec, arrays: Mapping[str, HostArray]) -> Layer:
        mode = spec.config.get("merge_mode", "concat")
        if mode not in ("concat", "sum", "ave", "mul", None):
            raise UnsupportedError(f"the merge mode {mode!r}")
        directions = self._directions(spec)
        layers = [built(each, arrays) for each in directions]
        first = directions[0].config
        sequences, states = bool(first.get("return_sequences")), bool(first.get("return_state"))
        parts = [
            replace(layer.function, zeros=sequences) if isinstance(layer.function, Sequences) else layer.function
            for layer in layers
        ]
        function = partial(_both, parts=parts, mode=mode, sequences=sequences, states=states)
        first_outputs = 2 if mode is None else 1
        number = sum(layer.outputs - 1 for layer in layers if isinstance(layer.outputs, int))
        module = Directions(*(layer.module or Module() for layer in layers))
        return Layer(
            function,
            module,
            mask="keep" if sequences else None,
            kept=first_outputs,
            takes_mask=True,
            outputs=first_outputs + number,
        )

    def _directions(self, spec: Spec) -> tuple[Spec, Spec]:
        forward = spec.within(spec.config.get("layer"), "forward_layer")
        if spec.config.get("backward_layer") is not None:
            return forward, spec.within(spec.config["backward_layer"], "backward_layer")
        given = spec.config["layer"]
        turned = {**forward.config, "go_backwards": not forward.config.get("go_backwards", False)}
        return forward, spec.within({**given, "config": turned}, "backward_layer")


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
    mode: str | None,
    sequences: bool,
    states: bool,
) -> Any:
    """The merged outputs of both directions, and the states of both."""
    if isinstance(x, list):  # as Keras 2 writes initial states
        x, *initial_state = x
        mask = mask[0] if isinstance(mask, list) else mask
    halves: list[Any] = [None, None]
    if initial_state is not None:
        given = _flat_states(initial_state) or []
        halves = [given[: len(given) // 2], given[len(given) // 2 :]]
    results = [
        part(network, x, half, mask)
        for part, network, half in zip(parts, (module.forward_layer, module.backward_layer), halves, strict=True)
    ]
    (y, *finals), (z, *others) = (result if states else (result,) for result in results)
    if sequences:
        z = ops.flip(z, 1)
    merged: Any
    if mode == "concat":
        merged = (ops.cat([y, z], dim=-1),)
    elif mode is None:
        merged = (y, z)
    else:
        merged = (y * z if mode == "mul" else y + z if mode == "sum" else (y + z) / 2,)
    out = (*merged, *finals, *others)
    return out if len(out) > 1 else out[0]


# -- a layer at each step ----------------------------------------------------------------------------------------------


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


_RECURRENT = [name for kind in KINDS.values() for name in (kind.keras_classes[0], kind.cudnn_class) if name]
register_kind(_Recurrent(), *_RECURRENT)
register_kind(_Runner(), "RNN")
register_kind(_Bidirectional(), "Bidirectional")
register_kind(_TimeDistributed(), "TimeDistributed")
