"""The recurrent cells of TensorFlow 1 among arrays. Their kernels are over [x, h]; a forget bias is added at run time.

Reference: tf.compat.v1.nn.rnn_cell, tf.contrib.rnn
"""

import re
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

from tinygrad_lstm.backends.base import HostArray
from tinygrad_lstm.backends.dtypes import DType

from ...kinds import KINDS, Kind
from ..mapped import mapped_network
from ..recurrent import Recurrent

__all__ = ["FORGET_BIAS", "Cell", "cells_of", "tensorflow_network"]

FORGET_BIAS = 1.0
"""What TensorFlow's LSTM cells add to the biases of the forget gates unless they are told otherwise."""

Ends: TypeAlias = dict[str, tuple[str, ...]]

# The ends of the names of a cell's arrays, in the present version of TensorFlow and before 1.2 and 1.0.
ONE_KERNEL: Ends = {
    "weight": ("kernel", "weights", "Linear/Matrix", "W_0"),
    "bias": ("bias", "biases", "Linear/Bias", "B"),
}
OF_GATES: Ends = {
    "weight": ("gates/kernel", "gates/weights", "Gates/Linear/Matrix"),
    "bias": ("gates/bias", "gates/biases", "Gates/Linear/Bias"),
}
OF_CANDIDATE: Ends = {
    "weight": ("candidate/kernel", "candidate/weights", "Candidate/Linear/Matrix"),
    "bias": ("candidate/bias", "candidate/biases", "Candidate/Linear/Bias"),
}
PROJECTION = ("projection/kernel", "projection/weights", "W_P_0")

LAYER = re.compile(r"(?<=/)cell_(\d{1,4})(?=/)|^cell_(\d{1,4})(?=/)", re.IGNORECASE)
BACKWARD = re.compile(r"(?<![^/])(fw|bw)(?![^/])", re.IGNORECASE)


@dataclass(frozen=True)
class Cell:
    """A cell among arrays.

    Attributes:
        kind: its name in `KINDS`.
        path: what the names of its arrays begin with.
        roles: the names of its arrays, by the roles of `LSTM.from_arrays`.
    """

    kind: str
    path: str
    roles: Mapping[str, str]


def cells_of(arrays: Mapping[str, HostArray]) -> list[Cell]:
    """The cells among arrays, in order."""
    roles_of: dict[str, list[tuple[str, str]]] = defaultdict(list)
    for name, kind in KINDS.items():
        for role, endings in _names(kind).items():
            for ending in endings:
                roles_of[ending].append((name, role))
    found: dict[tuple[str, str], dict[str, str]] = {}
    for name in arrays:
        parts = name.removesuffix(":0").split("/")
        for number in range(1, 4):
            path, ending = "/".join(parts[:-number]), "/".join(parts[-number:])
            for kind_name, role in roles_of.get(ending, ()):
                found.setdefault((kind_name, path), {})[role] = name
    return [Cell(name, path, roles) for (name, path), roles in found.items() if _is_cell(name, path, roles, arrays)]


def _names(kind: Kind) -> Ends:
    """The ends of the names of a cell's arrays, by role. One kernel has all gates, or all but the candidate."""
    if kind.one_product:
        names = dict(ONE_KERNEL)
    else:
        candidate = kind.letters.strip("".join(kind.shares))
        names = {f"{role}_{''.join(kind.shares)}": ends for role, ends in OF_GATES.items()}
        names |= {f"{role}_{candidate}": ends for role, ends in OF_CANDIDATE.items()}
    for weight in kind.weights:
        if weight.option == "peephole":
            names |= {f"{weight.name}_{gate}": (f"w_{gate}_diag", f"W_{gate.upper()}_diag") for gate in weight.gates}
        elif weight.option == "proj_size":
            names[weight.name] = PROJECTION
    return names


def _is_cell(name: str, path: str, roles: Mapping[str, str], arrays: Mapping[str, HostArray]) -> bool:
    """Whether the arrays below a path are those of a cell of this kind."""
    kind = KINDS[name]
    if not re.fullmatch(rf"(.*/)?({kind.tensorflow_cells})", path, re.IGNORECASE | re.DOTALL):
        return False
    if {f"{path}/recurrent_kernel", f"{path}/recurrent_kernel:0"}.intersection(arrays):
        return False  # a cell of Keras, which has two kernels
    for role in _names(kind):
        weight, bias = role, role.replace("weight", "bias")
        if weight == bias or weight == "weight_hr":
            continue
        if weight not in roles or bias not in roles:
            return False
        shape = arrays[roles[weight]].shape
        if len(shape) != 2 or arrays[roles[bias]].shape != shape[1:]:
            return False
    return True


def tensorflow_network(
    kind: str,
    arrays: Mapping[str, HostArray],
    prefix: str | Sequence[str] = "",
    *,
    forget_bias: float | None = None,
    dtype: DType = None,
    options: Mapping[str, Any] | None = None,
) -> Recurrent:
    """The network of one cell, or of several: the layers of a MultiRNNCell, the directions of a bidirectional network.

    Args:
        kind: its name in `KINDS`.
        prefix: what the names of its cells begin with; a list has one for each layer.
        forget_bias: of an LSTM; 1.0 by default, as in TensorFlow.

    Raises:
        ValueError: there is no cell of this kind, or there are several that are not layers and directions of one
            network; shapes are invalid.
    """
    who, table = f"{kind}.from_tensorflow", KINDS[kind]
    cells = [cell for cell in cells_of(arrays) if cell.kind == kind]
    roles: dict[str, str] = {}
    for number, each in enumerate([prefix] if isinstance(prefix, str) else prefix):
        own = [cell for cell in cells if _is_under(cell.path, each)]
        if not own:
            there = ", ".join(repr(cell.path) for cell in cells) or "none"
            raise ValueError(f"{who}: no cell's name begins with {each!r}; there are {there}")
        places = dict(_places(own))
        if len(places) < len(own) or (not isinstance(prefix, str) and any(layer for layer, _ in places)):
            names = ", ".join(repr(cell.path) for cell in own)
            raise ValueError(
                f"{who}: there are {len(own)} cells; give the prefix of one, or a list for a stack: {names}"
            )
        for (layer, reverse), cell in places.items():
            place = f"_l{layer + number}{'_reverse' * reverse}"
            roles |= {f"{role}{place}": name for role, name in cell.roles.items()}
    return mapped_network(
        kind,
        arrays,
        roles,
        gates=table.orders["tensorflow"],
        joined="xh",
        transposed=True,
        forget_bias=FORGET_BIAS if forget_bias is None and "f" in table.letters else forget_bias or 0.0,
        dtype=dtype,
        options={**({"reset_after": False} if "reset_after" in table.options else {}), **(options or {})},
    )


def _is_under(path: str, prefix: str) -> bool:
    prefix = prefix.rstrip("/")
    return not prefix or path == prefix or path.startswith(f"{prefix}/")


def _places(cells: Sequence[Cell]) -> Iterator[tuple[tuple[int, bool], Cell]]:
    """The layer and direction of each of the cells of a network, as their names have them."""
    for cell in cells:
        layer = LAYER.search(cell.path)
        direction = BACKWARD.search(cell.path)
        number = int(layer[1] or layer[2]) if layer and len(cells) > 1 else 0
        yield (number, direction is not None and direction[1].lower() == "bw" and len(cells) > 1), cell
