"""Recurrent layers of one direction."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from tinygrad_lstm.backends.base import HostArray
from tinygrad_lstm.kinds import KINDS
from tinygrad_lstm.models.networks import NETWORKS

from .... import ops
from ...._tensor import Tensor
from ....nn import Module, ModuleList
from ...contents import FileLayer
from ...errors import ContentError, shown
from ...file_layers import network_of
from ...keras.config import Settings, one_direction
from .dropping import Dropping, dropping_of
from .rules import Layer, UnsupportedError, register_kind
from .spec import Slot, Spec

__all__ = [
    "RECURRENT",
    "Sequences",
    "cell_slots",
    "flat_states",
    "layer_of",
    "network_of_layer",
    "runner_of",
    "settings_of_layer",
]

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
        dropping: what each network of a stack drops in training, or the only one; empty if none drops anything.
    """

    reverse: bool
    sequences: bool
    states: bool
    zeros: bool
    unrolled: bool
    time_major: bool
    dropping: tuple[Dropping, ...] = ()

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
        out, finals = _run(network, x, flat_states(initial_state), mask, self.dropping)
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


def runner_of(config: Mapping[str, Any], dropping: Sequence[Dropping] = ()) -> Sequences:
    """How a layer runs its cells, given what each of them drops in training."""
    return Sequences(
        reverse=bool(config.get("go_backwards")),
        sequences=bool(config.get("return_sequences")),
        states=bool(config.get("return_state")),
        zeros=bool(config.get("zero_output_for_mask")),
        unrolled=bool(config.get("unroll")),
        time_major=bool(config.get("time_major")),
        dropping=tuple(dropping) if any(dropping) else (),
    )


def flat_states(given: Any) -> list[Tensor] | None:
    """Initial states in a list, of cells one after another; None if none are given."""
    if given is None:
        return None
    if isinstance(given, list | tuple):
        return [leaf for each in given for leaf in flat_states(each) or []]
    return [given]


def _run(
    network: Any, x: Tensor, state: list[Tensor] | None, mask: Tensor | None, dropping: Sequence[Dropping]
) -> tuple[Tensor, list[Tensor]]:
    """The outputs of all steps and the final states of a network, or of a stack of them."""
    if isinstance(network, Stack):
        finals: list[Tensor] = []
        for each, dropped in zip(network.cells, dropping or [Dropping()] * len(network.cells), strict=True):
            number = len(getattr(each, "STATES"))  # noqa: B009
            own = None if state is None else state[len(finals) : len(finals) + number]
            x, final = _run(each, x, own, mask, [dropped])
            finals += final
        return x, finals
    if network.training and any(dropping):
        if not dropping[0].inputs_alone:
            return dropping[0].run(network, "l0", x, state, mask)
        x = dropping[0].dropped(x)
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


def network_of_layer(settings: Settings, directions: Sequence[Mapping[str, HostArray]]) -> Any:
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


def settings_of_layer(spec: Spec) -> Settings:
    """What a recurrent layer of one direction computes."""
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
        settings = settings_of_layer(spec)
        network = network_of_layer(settings, [{slot.role: arrays[slot.path] for slot in self.slots(spec)}])
        run = runner_of(spec.config, [dropping_of(spec.config, len(network.activations) > 1)])
        return layer_of(run, network, len(network.STATES))


class _Runner:
    """RNN, which runs a cell, or several in a stack."""

    def slots(self, spec: Spec) -> Iterator[Slot]:
        for cell in self._cells(spec):
            yield from cell_slots(cell, cell.path)

    def build(self, spec: Spec, arrays: Mapping[str, HostArray]) -> Layer:
        networks, dropping = [], []
        for cell in self._cells(spec):
            networks.append(self._network(cell, spec.keras, arrays))
            dropping.append(dropping_of(cell.config, len(networks[-1].activations) > 1))
        states = sum(len(network.STATES) for network in networks)
        run = runner_of(spec.config, dropping)
        return layer_of(run, networks[0] if len(networks) == 1 else Stack(networks), states)

    def _network(self, cell: Spec, keras: int, arrays: Mapping[str, HostArray]) -> Any:
        found = cell.shared.get(cell.path)
        if found is None:
            described = {"class_name": cell.class_name, "config": cell.config}
            settings = one_direction({"class_name": "RNN", "config": {"cell": described}}, keras)
            found = network_of_layer(settings, [{s.role: arrays[s.path] for s in cell_slots(cell, cell.path)}])
            cell.shared.keep(cell.path, found)
        return found

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
                raise UnsupportedError(f"the cell {shown(each.class_name)[1:-1]}")
        return cells


RECURRENT = [name for kind in KINDS.values() for name in (kind.keras_classes[0], kind.cudnn_class) if name]
"""Keras's layers that are one network of this library."""

register_kind(_Recurrent(), *RECURRENT)
register_kind(_Runner(), "RNN")
