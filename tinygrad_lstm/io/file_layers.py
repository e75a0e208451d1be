"""Recurrent layers of Keras and ONNX files, made from their arrays and the file's descriptions."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from tinygrad_lstm.backends.base import HostArray
from tinygrad_lstm.backends.dtypes import DType

from ..kinds import KINDS, Framework
from .contents import FileLayer, Weights
from .recurrent import Faults, Part, Recurrent, assembled, each_made, stacked
from .torch.names import recurrent_layers

__all__ = ["ALIKE", "has_two_biases", "file_network", "network_of"]

ALIKE = "without biases both variants of a GRU look alike: give reset_after=True or False"
_ROLES: dict[Framework, tuple[str, ...]] = {
    "keras": ("kernel", "recurrent_kernel", "bias"),
    "onnx": ("W", "R", "B", "P"),
}
_GATES: dict[str, tuple[str | float, ...] | str] = {"sigmoid": "sigmoid", "hard_sigmoid": ("hard_sigmoid", 0.2, 0.5)}
"""Keras's functions of gates, in the version that has the choice: before 2.3 the default was hard_sigmoid."""

_DESCRIBED = ("reset_after", "nonlinearity")
"""The options that a `FileLayer` contains."""


def file_network(
    kind: str,
    framework: Framework,
    weights: Mapping[str, HostArray] | Sequence[HostArray],
    prefix: str | Sequence[str] = "",
    dtype: DType = None,
    **settings: Any,
) -> Recurrent:
    """The network made from a file's layer of this kind, or from a stack of several layers.

    Args:
        kind: its name in `KINDS`.
        framework: the framework that the arrays are from.
        weights: what `load_weights` returned; or the arrays of one layer, by their names in the framework or, for
            Keras, in the order of `layer.get_weights()`.
        prefix: the layer's name in the file or in its model; or a unique prefix of its name in the file.
        dtype: as for `assembled`.
        settings: `reset_after` of a GRU, `nonlinearity` of an RNN, `recurrent_activation` of Keras's LSTM and GRU;
            None, the default, to use the file's setting.

    Raises:
        ValueError: no layer, or more than one, is under the prefix; the layer is of a different kind, or computes what
            the layers here do not; arrays are missing or of a wrong shape (one error names all); the variant of a GRU
            is unknown; a setting is invalid for this kind.
    """
    who, options = f"{kind}.from_{framework}", KINDS[kind].options
    known = {*_DESCRIBED} & options.keys()
    known |= {"recurrent_activation"} if framework == "keras" and KINDS[kind].shares else set()
    settings = {name: value for name, value in settings.items() if value is not None}
    if strange := [name for name in settings if name not in known]:
        raise ValueError(f"{who}: {', '.join(strange)} is not a setting of this kind; leave it out")
    if settings.get("recurrent_activation", "sigmoid") not in _GATES:
        raise ValueError(
            f"{who}: expected recurrent_activation to be {' or '.join(map(repr, _GATES))}, got "
            f"{settings['recurrent_activation']!r}"
        )
    if not isinstance(weights, Mapping):
        weights = _named(who, weights)
    elif not isinstance(weights, Weights):
        weights = {name: np.asarray(array) for name, array in weights.items()}
    if isinstance(weights, Weights) and weights.layers:
        layers = {name: layer for name, layer in weights.layers.items() if layer.framework == framework}
    else:
        layers = _by_names(kind, framework, weights)
        if "reset_after" in options and framework == "onnx" and layers and not settings:
            raise ValueError(
                f"{who}: the arrays do not show the variant; give reset_after, the node's linear_before_reset"
            )
    if not isinstance(prefix, str):
        if not prefix:
            raise ValueError(f"{who}: the list of prefixes is empty; give at least one")
        networks = each_made(prefix, lambda each: _network(who, kind, weights, layers, each, dtype, settings))
        return stacked(networks)
    return _network(who, kind, weights, layers, prefix, dtype, settings)


def network_of(weights: Mapping[str, HostArray], layer: FileLayer, dtype: DType = None) -> Recurrent:
    """The network of one layer that a file describes.

    Raises:
        ValueError: it computes what the layers here do not; arrays are missing or of a wrong shape.
    """
    unsupported = [*layer.unsupported, *["time that runs from the end in its one direction"] * layer.reverse]
    if unsupported:
        raise ValueError(f"a layer with {' and '.join(unsupported)}, which the layers here do not have")
    faults = Faults()
    number = 2 if layer.bidirectional else 1
    read = _keras_places if layer.framework == "keras" else _onnx_places
    places = dict(zip(("l0", "l0_reverse")[:number], read(weights, layer, number, faults), strict=False))
    if faults:
        raise ValueError(str(faults))
    if layer.undecided:
        raise ValueError("; ".join(layer.undecided.values()))
    kind = KINDS[layer.kind]
    told = {name: getattr(layer, name) for name in _DESCRIBED if name in kind.options}
    options = {name: value for name, value in told.items() if value != kind.options[name]}
    if layer.activations and tuple(layer.activations) != kind.onnx_activations:
        options["activations"] = tuple(layer.activations)
    network = assembled(kind, places, faults, gates=kind.orders[layer.framework], dtype=dtype, options=options)
    if faults or network is None:
        raise ValueError(str(faults))
    return replace(network, batch_first=layer.batch_first)


def _network(
    who: str,
    kind: str,
    weights: Mapping[str, HostArray],
    layers: Mapping[str, FileLayer],
    prefix: str,
    dtype: DType,
    settings: Mapping[str, Any],
) -> Recurrent:
    found = [name for name, layer in layers.items() if prefix and prefix in (name, layer.name)]
    found = found or [name for name in layers if name.startswith(prefix)]
    found = [name for name in found if layers[name].kind == kind] or found
    if not found:
        there = ", ".join(map(repr, layers)) or f"none{_hint(kind, weights)}"
        raise ValueError(f"{who}: no recurrent layer's name begins with {prefix!r}; there are {there}")
    if len(found) > 1:
        names = ", ".join(map(repr, found))
        raise ValueError(
            f"{who}: there are {len(found)} layers; give the prefix of one, or a list for a stack: {names}"
        )
    layer = layers[found[0]]
    if layer.kind != kind:
        raise ValueError(f"{who}: {found[0]!r} is a {layer.kind}; use {layer.kind}.from_{layer.framework}")
    try:
        return network_of(weights, _with_settings(layer, settings), dtype)
    except ValueError as error:
        raise ValueError(f"{who}: {found[0]!r}: {error}") from error


def _hint(kind: str, weights: Mapping[str, HostArray]) -> str:
    """Which framework's layers are there instead."""
    others: list[str] = [layer.framework for layer in weights.layers.values()] if isinstance(weights, Weights) else []
    others += ["torch"] if recurrent_layers(weights) else []
    return f"; the arrays have the names of another framework: use {kind}.from_{others[0]}" if others else ""


def _with_settings(layer: FileLayer, settings: Mapping[str, Any]) -> FileLayer:
    """A layer with the settings that its user gave."""
    undecided = {name: reason for name, reason in layer.undecided.items() if name not in settings}
    own = {name: value for name, value in settings.items() if name != "recurrent_activation"}
    if "recurrent_activation" in settings:
        gates, usual = _GATES[settings["recurrent_activation"]], KINDS[layer.kind].onnx_activations
        if layer.activations and layer.activations[0] != gates:
            raise ValueError(f"its recurrent activation is {layer.activations[0]!r}; leave recurrent_activation out")
        if not layer.activations and gates != "sigmoid":
            own["activations"] = [gates if each == "sigmoid" else each for each in usual]
    return replace(layer, undecided=undecided, **own)


def _keras_places(
    weights: Mapping[str, HostArray], layer: FileLayer, number: int, faults: Faults
) -> Iterator[dict[str, Part]]:
    """Roles and arrays of each direction: kernels transposed; of a GRU's bias (2, 3H), with reset_after, both rows."""
    kind = KINDS[layer.kind]
    faults.missing += [
        name or role
        for names in layer.arrays
        for role, name in {**dict.fromkeys(("kernel", "recurrent_kernel"), ""), **names}.items()
        if name not in weights
    ]
    if faults or len(layer.arrays) != number:
        return
    for names in layer.arrays:
        parts = {role: Part(name, weights[name]) for role, name in names.items()}
        kernels = {"weight_ih": parts["kernel"], "weight_hh": parts["recurrent_kernel"]}
        if wrong := [part for part in kernels.values() if part.array.ndim != 2]:
            faults.misshapen += [f"{part.name} ({part.array.shape}, expected two dimensions)" for part in wrong]
            return
        roles = {role: Part(part.name, part.array.T, transposed=True) for role, part in kernels.items()}
        if "bias" in parts:
            name, bias = parts["bias"].name, parts["bias"].array
            if kind.cudnn_class and is_of_cudnn(bias, parts["recurrent_kernel"].array):
                roles = {role: _of_cudnn(part, len(kind.gates)) for role, part in kernels.items()}
                both = np.split(bias, 2)
                roles |= {role: Part(name, each) for role, each in zip(("bias_ih", "bias_hh"), both, strict=True)}
            elif "reset_after" not in kind.options or not layer.reset_after:
                roles["bias"] = Part(name, bias)
            elif bias.ndim == 2 and len(bias) == 2:
                roles |= {"bias_ih": Part(name, bias[0]), "bias_hh": Part(name, bias[1])}
            else:
                faults.misshapen.append(f"{name} ({bias.shape}, expected (2, 3·H))")
        yield roles


def has_two_biases(recurrent_kernel: HostArray, bias: HostArray) -> bool:
    """Whether a GRU's bias shows that its reset gate comes after the product with the recurrent weights."""
    return bias.ndim == 2 or is_of_cudnn(bias, recurrent_kernel)


def is_of_cudnn(bias: HostArray, recurrent_kernel: HostArray) -> bool:
    """Whether the bias of a layer is that of a layer for CuDNN: two biases, one after the other."""
    return recurrent_kernel.ndim == 2 and bias.shape == (2 * recurrent_kernel.shape[1],)


def _of_cudnn(kernel: Part, gates: int) -> Part:
    """A kernel (n, k·H) of a layer for CuDNN as (k·H, n): each gate's part (n, H) has the elements of (H, n)."""
    n, H = kernel.array.shape[0], kernel.array.shape[1] // gates
    parts = [part.reshape(H, n) for part in np.split(kernel.array, gates, axis=1)]
    return Part(kernel.name, np.concatenate(parts))


def _onnx_places(
    weights: Mapping[str, HostArray], layer: FileLayer, number: int, faults: Faults
) -> Iterator[dict[str, Part]]:
    """Roles and arrays of each direction, which are the first dimension of W, R, B and P."""
    (names,) = layer.arrays
    faults.missing += [names.get(role, role) for role in ("W", "R") if names.get(role) not in weights]
    parts = {role: Part(name, weights[name]) for role, name in names.items() if name in weights}
    for role, part in parts.items():
        whole = part.array.ndim == (3 if role in "WR" else 2) and len(part.array) == number
        if not whole or (role == "B" and part.array.shape[1] % 2):
            shape = f"({number}, {'·, ·' if role in 'WR' else '2·k·H' if role == 'B' else '3·H'})"
            faults.misshapen.append(f"{part.name} ({part.array.shape}, expected {shape})")
    if faults:
        return
    for direction in range(number):
        of_role = {"weight_ih": "W", "weight_hh": "R", "peephole": "P"}
        roles = {
            role: Part(parts[theirs].name, parts[theirs].array[direction])
            for role, theirs in of_role.items()
            if theirs in parts
        }
        if "B" in parts:
            name, both = parts["B"].name, parts["B"].array[direction]
            roles |= {"bias_ih": Part(name, both[: len(both) // 2]), "bias_hh": Part(name, both[len(both) // 2 :])}
        yield roles


def _named(who: str, arrays: Sequence[HostArray]) -> dict[str, HostArray]:
    """Keras's arrays of one layer, as `layer.get_weights()` returns them, under their names."""
    if len(arrays) not in (2, 3, 4, 6):
        raise ValueError(f"{who}: expected 2 or 3 arrays, or those of two directions, got {len(arrays)}")
    number = 2 if len(arrays) in (4, 6) else 1
    each = len(arrays) // number
    directions = ("forward/", "backward/") if number == 2 else ("",)
    names = [f"{direction}{role}" for direction in directions for role in _ROLES["keras"][:each]]
    return dict(zip(names, map(np.asarray, arrays), strict=True))


def _by_names(kind: str, framework: Framework, weights: Mapping[str, HostArray]) -> dict[str, FileLayer]:
    """The layers of arrays whose names end with the framework's names."""
    roles, tells = _ROLES[framework], "W" if framework == "onnx" else "recurrent_kernel"
    groups: dict[str, dict[str, str]] = {}
    for name in weights:
        stem, _, role = name.removesuffix(":0").rpartition("/")
        groups.setdefault(stem, {})[role] = name
    groups = {stem: names for stem, names in groups.items() if tells in names}
    extra = {
        stem: [f"the array {names[role]!r}" for role in names if role not in roles] for stem, names in groups.items()
    }
    found = {stem: {role: names[role] for role in roles if role in names} for stem, names in groups.items()}
    if framework == "onnx":
        return {
            stem: FileLayer(
                kind,
                framework,
                [names],
                bidirectional=weights[names["W"]].shape[:1] == (2,),
                unsupported=extra[stem],
            )
            for stem, names in found.items()
        }
    parts = (
        {stem: [stem] for stem in found} if sorted(found) != ["backward", "forward"] else {"": ["forward", "backward"]}
    )
    return {
        layer: FileLayer(
            kind,
            framework,
            [found[stem] for stem in stems],
            bidirectional=len(stems) == 2,
            batch_first=True,
            reset_after="bias" not in found[stems[0]]
            or has_two_biases(*(weights[found[stems[0]][role]] for role in ("recurrent_kernel", "bias"))),
            undecided={"reset_after": ALIKE}
            if "reset_after" in KINDS[kind].options and "bias" not in found[stems[0]]
            else {},
            unsupported=[array for stem in stems for array in extra[stem]],
        )
        for layer, stems in parts.items()
    }
