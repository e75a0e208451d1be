"""Recurrent layers whose gates have arrays of their own, in the names of textbooks: `W_xf`, `W_hf`, `b_f`."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from ..kinds import KINDS, Kind

__all__ = ["GateArrays", "gate_arrays"]

# The beginnings of names before a gate's letter: of the weights of the input and of the hidden state, and of biases.
_SCHEMES = (
    ("W_x", "W_h", ("b_",)),
    ("Wx", "Wh", ("b",)),
    ("W_i", "W_h", ("b_i", "b_h")),
    ("W_", "U_", ("b_",)),
    ("W_", "R_", ("b_",)),
    ("W", "U", ("b",)),
)
_JOINED = (("W_", "b_"), ("W", "b"))
_KINDS = tuple(kind for kind in KINDS.values() if kind.shares)
_CANDIDATE = "cC"  # further letters of textbooks for the candidate
_BIASES = {1: ("bias",), 2: ("bias_ih", "bias_hh")}


@dataclass(frozen=True)
class GateArrays:
    """The arrays of a layer.

    Attributes:
        prefix: what their names begin with, up to the last dot or slash.
        kind: its name in `KINDS`.
        roles: the names by role, as for `from_arrays`.
        joined: whether the weights are over the input and the hidden state, in an order that names do not show.
    """

    prefix: str
    kind: str
    roles: dict[str, str]
    joined: bool


def gate_arrays(names: Iterable[str]) -> Iterator[GateArrays]:
    """The layers whose arrays have these names: of every gate, for every role.

    >>> [found.kind for found in gate_arrays([f"cell/{role}_{gate}" for role in "WUb" for gate in "ifoc"])]
    ['LSTM']
    """
    groups: dict[str, dict[str, str]] = {}
    for name in names:
        at = max(name.rfind("/"), name.rfind(".")) + 1
        groups.setdefault(name[:at], {})[name[at:]] = name
    for prefix, own in groups.items():
        for kind in _KINDS:
            if roles := _separate(kind, own):
                yield GateArrays(prefix.rstrip("/."), kind.name, roles, joined=False)
                break
            if roles := _joined(kind, own):
                yield GateArrays(prefix.rstrip("/."), kind.name, roles, joined=True)
                break


def _separate(kind: Kind, own: dict[str, str]) -> dict[str, str]:
    for of_x, of_h, biases in _SCHEMES:
        weights = _of_gates(kind, own, {"weight_ih": of_x, "weight_hh": of_h})
        if weights:
            return weights | _of_gates(kind, own, dict(zip(_BIASES[len(biases)], biases, strict=True)))
    return {}


def _joined(kind: Kind, own: dict[str, str]) -> dict[str, str]:
    for of_both, bias in _JOINED:
        if weights := _of_gates(kind, own, {"weight": of_both}):
            return weights | _of_gates(kind, own, {"bias": bias})
    return {}


def _of_gates(kind: Kind, own: dict[str, str], starts: dict[str, str]) -> dict[str, str]:
    """The arrays of all gates for these roles, whose names begin so; empty if one is missing."""
    (candidate,) = (gate for gate in kind.gates if gate.name not in kind.shares)
    for letter_of_candidate in (candidate.alias, candidate.name, *_CANDIDATE):
        letters = {**{gate: gate for gate in kind.shares}, letter_of_candidate: candidate.name}
        names = {
            f"{role}_{ours}": own.get(f"{start}{letter}")
            for role, start in starts.items()
            for letter, ours in letters.items()
        }
        if all(names.values()):
            return {role: name for role, name in names.items() if name}
    return {}
