"""Recurrent networks from arrays under any names, by a mapping from roles to names.

A role is the name of an array in a network here, such as weight_ih or bias, with the gates whose rows it has if these
are not all: weight_ih_f, bias_rz. "weight" is one kernel for the input and the hidden state.
"""

import math
import re
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import count, product
from typing import Any, Literal

import numpy as np
from numpy.typing import ArrayLike

from tinygrad_lstm.backends.base import HostArray
from tinygrad_lstm.backends.dtypes import DType, is_float

from ..kinds import KINDS, Kind
from ..printable import printable
from .recurrent import Faults, Part, Recurrent, assembled
from .torch.tensors import host_array

__all__ = ["Joined", "Names", "Roles", "mapped_network"]

Joined = Literal["xh", "hx"]
Names = str | Sequence[str]
Roles = Mapping[str, Names]

_MATRICES = ("weight_ih", "weight_hh", "weight", "weight_hr")
_PLACE = re.compile(r"(?P<stem>\w+?)(?:_l(?P<layer>\d{1,3}))?(?P<reverse>_reverse)?", re.ASCII)


@dataclass(frozen=True)
class _Piece:
    """An array, with the gates whose rows it has, in order."""

    name: str
    array: HostArray
    gates: str


Pieces = dict[str, list[_Piece]]
"""The arrays of one layer in one direction, by their roles without gates."""


def mapped_network(
    kind: str,
    arrays: Mapping[str, ArrayLike],
    roles: Roles | Sequence[Roles],
    *,
    gates: str | None = None,
    joined: Joined | None = None,
    transposed: bool | Collection[str] | None = None,
    forget_bias: float = 0.0,
    dtype: DType = None,
    options: Mapping[str, Any] | None = None,
) -> Recurrent:
    """The network of a kind made from the arrays that `roles` names; see `Loadable.from_arrays`.

    Raises:
        ValueError: roles or names are missing or unknown, shapes are wrong (one error names all); the orientation of
            the arrays is not known.
    """
    who, table = f"{kind}.from_arrays", KINDS[kind]
    options = dict(options or {})
    order = table.order(gates or table.letters)
    if forget_bias and "f" not in order:
        raise ValueError(f"{who}: forget_bias is for an LSTM, got {forget_bias}")
    if not math.isfinite(forget_bias):
        raise ValueError(f"{who}: expected a finite forget_bias, got {forget_bias}")
    layers = [roles] if isinstance(roles, Mapping) else [*roles]
    if not all(isinstance(each, Mapping) for each in layers):
        raise ValueError(f"{who}: expected roles to be a dict, or a list with one for each layer, got {roles!r:.60}")
    by_place, faults = _pieces(table, arrays, layers, order)
    if faults:
        raise ValueError(f"{who}: {printable('; '.join(faults))}")
    if any("weight" in pieces for pieces in by_place.values()) and joined not in ("xh", "hx"):
        raise ValueError(
            f'{who}: give joined="xh" if a row of "weight" begins with the weights of the input, or joined="hx" if '
            f"with those of the hidden state; got {joined!r}"
        )
    turned = _orientation(who, table, by_place["l0"], transposed, options)
    shapes = Faults()
    places = {place: _parts(table, pieces, order, turned, joined or "xh", shapes) for place, pieces in by_place.items()}
    network = None
    if not shapes:
        network = assembled(table, places, shapes, gates=order, dtype=dtype, options=options)
    if network is None or shapes:
        raise ValueError(f"{who}: the arrays make no {kind}: {shapes}")
    for name, bias in network.parameters.items() if forget_bias else ():
        if name.startswith("bias_l"):
            bias[table.rows("f", network.hidden_size)] += forget_bias
    return network


def _pieces(
    kind: Kind, arrays: Mapping[str, ArrayLike], layers: Sequence[Roles], order: str
) -> tuple[dict[str, Pieces], list[str]]:
    """The arrays at each place, and what is wrong with the roles."""
    faults: list[str] = []
    found: dict[str, Pieces] = {}
    missing: list[str] = []
    for layer, reverse, role, own_gates, names in _expanded(kind, arrays, layers, order, faults):
        place = f"l{layer}{'_reverse' * reverse}"
        letters = own_gates or _gates_of(kind, role, order)
        each = [names] if isinstance(names, str) else [*names]
        if len(each) > 1 and len(each) != len(letters):
            faults.append(f"{role} has {len(each)} arrays for the {len(letters)} gates {letters!r}")
            continue
        for name, own in zip(each, letters if len(each) > 1 else [letters], strict=True):
            if name not in arrays:
                missing.append(name)
            else:
                array = host_array(name, arrays[name])
                if role not in _MATRICES and array.ndim == 2 and 1 in array.shape:  # a column, to be added to W·x
                    array = array.ravel()
                found.setdefault(place, {}).setdefault(role, []).append(_Piece(name, array, own))
    if missing:
        faults.append(f"missing: {', '.join(dict.fromkeys(missing))}")
    faults += _incomplete(kind, found, order)
    return dict(sorted(found.items(), key=_in_order)), faults


def _in_order(place: tuple[str, Pieces]) -> tuple[int, str]:
    layer, _, direction = place[0][1:].partition("_")
    return int(layer), direction


def _expanded(
    kind: Kind, arrays: Mapping[str, ArrayLike], layers: Sequence[Roles], order: str, faults: list[str]
) -> Iterator[tuple[int, bool, str, str, Names]]:
    """The layer, direction, role, gates and names of each entry; an entry with {layer} is one for each layer."""
    for number, own in enumerate(layers):
        stems = {key.partition("_l")[0] for key in own}
        for key, names in own.items():
            match = _PLACE.fullmatch(key)
            stem = match["stem"] if match else key
            role, letters = ("bias", "g") if stem == "bias_c" and "norm_c" not in stems else _role(kind, stem)
            if not match or not role:
                faults.append(
                    f"{key!r} is not a role; roles are {', '.join(_known(kind))}, with _f, for instance, for "
                    "the rows of one gate, and _l1 or _reverse for other layers and directions"
                )
                continue
            reverse, layer = bool(match["reverse"]), int(match["layer"] or number)
            listed = [names] if isinstance(names, str) else list(names)
            if not any("{layer}" in name for name in listed):
                yield layer, reverse, role, letters, names
                continue
            first = 0 if listed[0].replace("{layer}", "0") in arrays else 1
            for above in count():
                theirs = [name.replace("{layer}", str(first + above)) for name in listed]
                if above and not any(name in arrays for name in theirs):
                    break
                yield above, reverse, role, letters, theirs[0] if isinstance(names, str) else theirs


def _known(kind: Kind) -> list[str]:
    return list(
        dict.fromkeys(
            ["weight_ih", "weight_hh", "weight", "bias", "bias_ih", "bias_hh", *(w.name for w in kind.weights)]
        )
    )


def _role(kind: Kind, stem: str) -> tuple[str, str]:
    """A role without gates, and the gates, in this library's letters; "" for a string that is not a role."""
    known = _known(kind)
    if stem in known:
        return stem, ""
    role, _, letters = stem.rpartition("_")
    aliases = {gate.alias: gate.name for gate in kind.gates}
    own = "".join(aliases.get(letter, letter) for letter in letters.lower())
    if role in known and own and set(own) <= set(kind.letters) and len(set(own)) == len(own):
        return role, own
    return "", ""


def _gates_of(kind: Kind, role: str, order: str) -> str:
    """The gates of a role, in an order; "" for a role without gates."""
    weight = next((weight for weight in kind.weights if weight.name == role), None)
    if weight is not None and "kH" not in weight.shape:
        return ""
    own = (weight and weight.gates) or kind.letters
    return "".join(letter for letter in order if letter in own)


def _incomplete(kind: Kind, found: Mapping[str, Pieces], order: str) -> Iterator[str]:
    """Roles of which some gates are missing or there twice, and places without weights."""
    if "l0" not in found:
        yield "there are no arrays of the first layer"
    layers = {place.partition("_")[0] for place in found}
    for place, pieces in found.items():
        where = "" if len(found) == 1 else f" of {place}"
        for role, own in pieces.items():
            given, needed = "".join(piece.gates for piece in own), _gates_of(kind, role, order)
            if sorted(given) != sorted(needed):
                wrong = [gate for gate in needed if given.count(gate) != 1]
                yield f"{role}{where} needs each gate once, of {', '.join(wrong)} there are none or several"
        if "weight" in pieces and pieces.keys() & {"weight_ih", "weight_hh"}:
            yield f'"weight"{where} is given beside weight_ih or weight_hh, whose place it takes'
        elif "weight" not in pieces and (absent := [role for role in ("weight_ih", "weight_hh") if role not in pieces]):
            yield f"missing roles{where}: {', '.join(absent)}"
    if len(layers) > 1 and layers != {f"l{number}" for number in range(len(layers))}:
        yield f"there are arrays of the layers {', '.join(sorted(layers))}, which do not follow each other"
    both = {place.removesuffix("_reverse") for place in found if place.endswith("_reverse")}
    if both and both != layers:
        yield f"there are arrays of both directions only of {', '.join(sorted(both))}"


def _orientation(
    who: str, kind: Kind, pieces: Pieces, transposed: bool | Collection[str] | None, options: Mapping[str, Any]
) -> set[str]:
    """The roles whose arrays are transposed.

    Raises:
        ValueError: the shapes do not show it.
    """
    matrices = [role for role in _MATRICES if role in pieces]
    if isinstance(transposed, bool):
        return set(matrices) if transposed else set()
    if transposed is not None:
        if unknown := set(transposed) - set(matrices):
            raise ValueError(f"{who}: transposed names {', '.join(sorted(unknown))}, not one of {', '.join(matrices)}")
        return set(transposed)
    possible = [
        {role for role, turned in zip(matrices, choice, strict=True) if turned}
        for choice in product((False, True), repeat=len(matrices))
    ]
    possible = [turned for turned in possible if _fits(kind, pieces, turned)]
    uniform = [turned for turned in possible if len(turned) in (0, len(matrices))]
    if len(possible) > 1 and len(uniform) != 1:
        shapes = ", ".join(f"{piece.name} {piece.array.shape}" for role in matrices for piece in pieces[role][:1])
        raise ValueError(
            f"{who}: the shapes do not show which arrays are transposed: give transposed=False if rows belong to "
            f"gates, as in W·x, or transposed=True if columns do, as in x·W; got {printable(shapes)}"
        )
    if len(possible) != 1:
        possible = uniform
    return possible[0] if possible else {role for role in matrices if _wide(pieces[role])}


def _wide(pieces: Sequence[_Piece]) -> bool:
    """Whether the columns of arrays seem to be those of gates."""
    return all(piece.array.ndim == 2 and piece.array.shape[1] > piece.array.shape[0] for piece in pieces)


def _fits(kind: Kind, pieces: Pieces, turned: Collection[str]) -> bool:
    """Whether the shapes of a layer's arrays are those of some sizes, if these roles are transposed."""
    rows: set[float] = set()
    columns: dict[str, set[int]] = {}
    for role, own in pieces.items():
        for piece in own:
            shape = piece.array.shape[::-1] if role in turned else piece.array.shape
            if len(shape) != (2 if role in _MATRICES else 1) or not all(shape):
                return False
            if role == "weight_hr":
                rows.add(shape[1])
                columns.setdefault("weight_hh", set()).add(shape[0])
            elif piece.gates:
                rows.add(shape[0] / len(piece.gates))
                columns.setdefault(role, set()).update(shape[1:])
    if len(rows) != 1 or max(rows) % 1 or any(len(each) != 1 for each in columns.values() if each):
        return False
    (H,) = rows
    P = next(iter(columns.get("weight_hh", {H}))) if "weight_hr" in pieces or "weight_hh" not in pieces else H
    joined = columns.get("weight")
    return columns.get("weight_hh", {P}) == {P} and (joined is None or min(joined) > P)


def _parts(
    kind: Kind, pieces: Pieces, order: str, turned: Collection[str], joined: Joined, faults: Faults
) -> dict[str, Part]:
    """The arrays of one place with rows in the order of the gates, by role."""
    parts: dict[str, Part] = {}
    for role, own in pieces.items():
        needed = _gates_of(kind, role, order)
        names = ", ".join(piece.name for piece in own)
        whole = [piece.array.T if role in turned else piece.array for piece in own]
        blocks: list[tuple[str, HostArray]] = []
        for piece, array in zip(own, whole, strict=True):
            if not array.ndim or (piece.gates and len(array) % len(piece.gates)):
                faults.misshapen.append(f"{piece.name} ({piece.array.shape}, not a number of rows for each gate)")
                continue
            blocks += (
                zip(piece.gates, np.split(array, max(len(piece.gates), 1)), strict=False)
                if piece.gates
                else [("", array)]
            )
        blocks.sort(key=lambda block: needed.find(block[0]))
        try:
            parts[role] = Part(names, np.concatenate([array for _, array in blocks]), role in turned)
        except ValueError:
            shapes = ", ".join(f"{piece.name} {piece.array.shape}" for piece in own)
            faults.misshapen.append(f"{role} (its arrays cannot be joined: {shapes})")
    weight = parts.pop("weight", None)
    if weight is not None:
        H = len(weight.array) // max(len(order), 1)
        P = len(parts["weight_hr"].array) if "weight_hr" in parts else H
        if weight.array.ndim != 2 or weight.array.shape[1] <= P or not is_float(weight.array.dtype):
            faults.misshapen.append(
                f"{weight.name} ({weight.array.shape}, expected {len(order)}·H rows, I + H columns)"
            )
            return parts
        of_x, of_h = np.split(weight.array, [weight.array.shape[1] - P if joined == "xh" else P], axis=1)
        of_x, of_h = (of_x, of_h) if joined == "xh" else (of_h, of_x)
        parts["weight_ih"] = Part(weight.name, of_x, weight.transposed)
        parts["weight_hh"] = Part(weight.name, of_h, weight.transposed)
    return parts
