"""The recurrent cells of TensorFlow 1 among arrays. Their kernels are over [x, h]; a forget bias is added at run time.

Reference: tf.compat.v1.nn.rnn_cell, tf.contrib.rnn
"""

import re
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from tinygrad_lstm.backends.base import HostArray
from tinygrad_lstm.backends.dtypes import DType

from ..mapped import mapped_network
from ..recurrent import Recurrent

__all__ = ["FORGET_BIAS", "Cell", "cells_of", "tensorflow_network"]

FORGET_BIAS = 1.0
"""What TensorFlow's LSTM cells add to the biases of the forget gates unless they are told otherwise."""

# The names of the arrays of a cell below its path, by role, in the present version and before 1.2 and 1.0. The columns
# of kernels are those of the gates in this order.
GATES = {"LSTM": "igfo", "GRU": "rzn", "RNN": "h"}
OF_KIND: dict[str, dict[str, tuple[str, ...]]] = {
    "GRU": {
        "weight_rz": ("gates/kernel", "gates/weights", "Gates/Linear/Matrix"),
        "bias_rz": ("gates/bias", "gates/biases", "Gates/Linear/Bias"),
        "weight_n": ("candidate/kernel", "candidate/weights", "Candidate/Linear/Matrix"),
        "bias_n": ("candidate/bias", "candidate/biases", "Candidate/Linear/Bias"),
    },
    "LSTM": {
        "weight": ("kernel", "weights", "Linear/Matrix", "W_0"),
        "bias": ("bias", "biases", "Linear/Bias", "B"),
        "peephole_i": ("w_i_diag", "W_I_diag"),
        "peephole_f": ("w_f_diag", "W_F_diag"),
        "peephole_o": ("w_o_diag", "W_O_diag"),
        "weight_hr": ("projection/kernel", "projection/weights", "W_P_0"),
    },
    "RNN": {"weight": ("kernel", "weights", "Linear/Matrix"), "bias": ("bias", "biases", "Linear/Bias")},
}
REQUIRED = {"GRU": ("weight_rz", "weight_n"), "LSTM": ("weight", "bias"), "RNN": ("weight", "bias")}
CLASSES = {
    "GRU": re.compile(r".*", re.DOTALL),  # its arrays are enough to know it
    "LSTM": re.compile(r"(.*/)?\w*lstm_?(fused_|block_)?(cell|wrapper)\w*(/.*)?", re.IGNORECASE | re.DOTALL),
    "RNN": re.compile(r"(.*/)?basic_?rnn_?cell\w*", re.IGNORECASE | re.DOTALL),
}

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
    for kind, roles in OF_KIND.items():
        for role, endings in roles.items():
            for ending in endings:
                roles_of[ending].append((kind, role))
    found: dict[tuple[str, str], dict[str, str]] = {}
    for name in arrays:
        parts = name.removesuffix(":0").split("/")
        for number in range(1, 4):
            path, ending = "/".join(parts[:-number]), "/".join(parts[-number:])
            for kind, role in roles_of.get(ending, ()):
                found.setdefault((kind, path), {})[role] = name
    cells = []
    for (kind, path), names in found.items():
        if CLASSES[kind].fullmatch(path) and all(role in names for role in REQUIRED[kind]):
            shapes = [arrays[names[role]].shape for role in REQUIRED[kind]]
            if len(shapes[0]) == 2 and (kind == "GRU" or shapes[1] == shapes[0][1:]):
                cells.append(Cell(kind, path, names))
    return cells


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
    who = f"{kind}.from_tensorflow"
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
        gates=GATES[kind],
        joined="xh",
        transposed=True,
        forget_bias=0.0 if kind != "LSTM" else FORGET_BIAS if forget_bias is None else forget_bias,
        dtype=dtype,
        options={**({"reset_after": False} if kind == "GRU" else {}), **(options or {})},
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
