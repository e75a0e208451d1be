"""Recurrent layers under PyTorch's names: `weight_ih_l0`, `bias_hh_l1_reverse`; found, read, and written."""

import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from tinygrad_lstm.backends.base import HostArray
from tinygrad_lstm.backends.dtypes import DType

from ...kinds import KINDS, kind_with_gates
from ...mode import no_grad
from ...nn import LoRA, Module
from ...nn.names import joined
from ...printable import printable
from ..contents import Weights
from ..recurrent import Faults, Part, Place, Recurrent, assembled, each_made, recurrent_bias, stacked
from ..safetensors_file import write_safetensors
from .reparametrised import plain_weights, whole_name
from .tensors import host_array

__all__ = [
    "as_cell",
    "cell_in_torch_names",
    "export_torch",
    "from_torch",
    "in_torch_names",
    "own_arrays",
    "recurrent_layers",
    "to_torch",
    "torch_kind",
    "torch_network",
]

_ROLES = ("weight_ih", "weight_hh", "bias_ih", "bias_hh", "weight_hr")
_LAYER_NAME = re.compile(r"(\w+)_(l(?:0|[1-9]\d?)(?:_reverse)?)", re.ASCII)
_CELL_NAMES = {name: name for name in _ROLES} | {
    # As in the layer-normalized cell of PyTorch's examples, which normalizes its cell state.
    "layernorm_i.weight": "norm_ih",
    "layernorm_i.bias": "norm_ih_bias",
    "layernorm_h.weight": "norm_hh",
    "layernorm_h.bias": "norm_hh_bias",
    "layernorm_c.weight": "norm_c",
    "layernorm_c.bias": "bias_c",
}
# The prefixes that torch.nn.DataParallel and torch.compile add to the names of the module that they wrap.
_WRAPPERS = ("module", "_orig_mod")
_PACKED = ("_all_weight_values", "_packed_weight_ih", "_packed_weight_hh", "_packed_params")
_IN_CELLS = {role: name for name, role in _CELL_NAMES.items()}


def recurrent_layers(names: Iterable[str]) -> dict[str, list[str]]:
    """The names of recurrent layers' arrays, by their prefix, such as "encoder.lstm", or "" at the top."""
    found: dict[str, list[str]] = {}
    recurrent = {}
    for name in names:
        prefix, role, _ = _parsed(whole_name(name))
        if role:
            found.setdefault(prefix, []).append(name)
        if role == "weight_hh":
            recurrent[prefix] = True
    return {prefix: found[prefix] for prefix in recurrent}


def torch_kind(arrays: Mapping[str, HostArray]) -> str | None:
    """The kind of the layers of one prefix, from the shape of the first layer's recurrent weights."""
    first = {_parsed(name)[1:]: array for name, array in plain_weights(arrays)[0].items()}
    of_h = first.get(("weight_hh", "l0"))
    if of_h is None or of_h.ndim != 2 or not of_h.size:
        return None
    if ("weight_hr", "l0") in first:
        return next(name for name, kind in KINDS.items() if any(each.name == "weight_hr" for each in kind.weights))
    return kind_with_gates(len(of_h) / of_h.shape[1])


def torch_network(
    kind: str,
    weights: Mapping[str, ArrayLike],
    prefix: str | Sequence[str] = "",
    *,
    gates: str | None = None,
    dtype: DType = None,
    options: Mapping[str, Any] | None = None,
) -> Recurrent:
    """The network of a kind made from PyTorch's arrays under a prefix, or a stack of networks from several prefixes.

    Args:
        kind: its name in `KINDS`.
        weights: arrays by name; all names under the prefix must belong to one network.
        prefix: the dotted name of the module, with or without the dot at its end.
        gates: the order of the gates' rows, if it is not PyTorch's.
        dtype: as for `assembled`.
        options: settings that arrays do not show.

    Raises:
        ValueError: names are missing or extra, or shapes are wrong; one error names all.
    """
    if not isinstance(prefix, str):
        if not prefix:
            raise ValueError(f"{kind}.from_torch: the list of prefixes is empty; give at least one")

        def made(each: str) -> Recurrent:
            return torch_network(kind, weights, each, gates=gates, dtype=dtype, options=options)

        return stacked(each_made(prefix, made))
    found = recurrent_layers(weights)
    prefix = _prefix_there(prefix.removesuffix("."), found)
    start = prefix and f"{prefix}."
    if prefix not in found:
        raise ValueError(f"{kind}.from_torch: no recurrent layer is under the prefix {prefix!r}{_hint(kind, weights)}")
    arrays = {name: host_array(name, array) for name, array in weights.items() if name.startswith(start)}
    arrays, unknown = plain_weights(arrays)
    if unknown:
        raise ValueError(f"{kind}.from_torch: {printable('; '.join(unknown))}")
    there = torch_kind({name: array for name, array in arrays.items() if _parsed(name)[0] == prefix})
    if there not in (None, kind):
        raise ValueError(f"{kind}.from_torch: under the prefix {prefix!r} are {there} layers; use {there}.from_torch")
    faults = Faults()
    places: dict[str, dict[str, Part]] = {}
    in_cell = False
    for name, array in arrays.items():
        owner, role, place = _parsed(name)
        if owner != prefix or not role or role in places.get(place, ()):  # a cell's name and a layer's name may collide
            faults.extra.append(name)
            continue
        in_cell |= name.removeprefix(start) in _CELL_NAMES
        places.setdefault(place, {})[role] = Part(name, array)
    settings = dict(options or {})
    if any("norm_ih" in parts for parts in places.values()):
        settings.setdefault("layer_norm", "cell" if in_cell else "output")

    def name_of(role: str, place: str) -> str:
        return start + (_IN_CELLS.get(role, role) if in_cell else f"{role}_{place}")

    network = assembled(
        KINDS[kind], _all_places(places), faults, gates=gates, dtype=dtype, name=name_of, options=settings
    )
    if faults or network is None:
        raise ValueError(f"{kind}.from_torch: the arrays under the prefix {prefix!r} make no {kind}: {faults}")
    return network


def _prefix_there(prefix: str, found: Iterable[str]) -> str:
    """The prefix in the names, which may have parts that torch.compile or DataParallel added."""
    if prefix in found:
        return prefix
    wrapped = [each for each in found if ".".join(part for part in each.split(".") if part not in _WRAPPERS) == prefix]
    return wrapped[0] if len(wrapped) == 1 else prefix


def _hint(kind: str, weights: Mapping[str, ArrayLike]) -> str:
    """What is there instead of the requested layer."""
    if isinstance(weights, Weights) and weights.layers:
        framework = next(iter(weights.layers.values())).framework
        return f"; the file has layers of another framework: use {kind}.from_{framework}"
    if found := recurrent_layers(weights):
        return f"; recurrent layers are under {', '.join(map(repr, found))}"
    if packed := next((name for name in weights if any(part in _PACKED for part in name.split("."))), ""):
        return f"; {packed!r} belongs to a quantized layer: take the weights before quantization"
    return ""


def from_torch(weights: Mapping[str, ArrayLike], prefix: str = "") -> dict[str, Any]:
    """The arrays of a whole PyTorch model under this library's names, for `load_state_dict`.

    Recurrent layers and cells get one bias (a GRU two) in place of PyTorch's two, and `LSTMCell` and `RNNCell` one
    weight in place of two. All other names are the same. (`LSTM.from_torch` makes a module from one network's arrays.)
    Weights that `torch.nn.utils.weight_norm`, `spectral_norm` or `prune`, or their parametrizations, keep in parts are
    computed from them, and the `_orig_mod` of `torch.compile` is removed from names.

    Args:
        weights: arrays by name, as `load_weights` returns them, or PyTorch's tensors.
        prefix: the beginning of the model's names, which is removed, such as "module" or "state_dict.model"; other
            arrays are left out.

    Raises:
        ValueError: no name has the prefix; names of recurrent layers are missing, or shapes are wrong (one error names
            all).

    >>> import numpy as np
    >>> lstm = {"weight_ih_l0": np.ones((20, 3)), "weight_hh_l0": np.ones((20, 5))}
    >>> lstm |= {"bias_ih_l0": np.ones(20), "bias_hh_l0": np.ones(20)}
    >>> converted = from_torch({f"lstm.{name}": array for name, array in lstm.items()})
    >>> sorted(converted)
    ['lstm.bias_l0', 'lstm.weight_hh_l0', 'lstm.weight_ih_l0']
    """
    start, names = prefix and f"{prefix.removesuffix('.')}.", list(weights)
    weights = {name.removeprefix(start): array for name, array in weights.items() if name.startswith(start)}
    if start and not weights:
        raise ValueError(f"from_torch: no array is under the prefix {prefix!r}{_beginnings(names)}")
    arrays = {_without_compile(name): host_array(name, array) for name, array in weights.items()}
    if len(arrays) < len(weights):
        raise ValueError("from_torch: some names differ only by the _orig_mod of torch.compile; give one of each")
    arrays, faults = plain_weights(arrays)
    if faults:
        raise ValueError(f"from_torch: {printable('; '.join(faults))}")
    layers = recurrent_layers(arrays)
    starts = {prefix: prefix and f"{prefix}." for prefix in layers}
    in_cells = {prefix for prefix, start in starts.items() if f"{start}weight_hh" in layers[prefix]}
    # This library's GRUCell has PyTorch's names of weights, and stays unchanged.
    prefixes = [prefix for prefix, start in starts.items() if prefix not in in_cells or f"{start}bias" not in arrays]

    def made(prefix: str) -> Recurrent:
        own = {name: arrays[name] for name in layers[prefix]}
        return torch_network(torch_kind(own) or "LSTM", own, prefix)

    networks = each_made(prefixes, made)
    converted: dict[str, Any] = arrays.copy()
    for prefix, network in zip(prefixes, networks, strict=True):
        for name in layers[prefix]:
            del converted[name]
        in_cell, start = prefix in in_cells, starts[prefix]
        own = network.parameters if not in_cell or network.options else as_cell(network.kind, network.parameters)
        converted |= {f"{start}{name}": array for name, array in own.items()}
    return converted


def _beginnings(names: Sequence[str]) -> str:
    found = list(dict.fromkeys(name.partition(".")[0] for name in names))
    return f"; names begin with {', '.join(map(repr, found[:10]))}" if found else ""


def _without_compile(name: str) -> str:
    """A name without the `_orig_mod` that torch.compile adds for what it wraps."""
    return ".".join(part for part in name.split(".") if part != "_orig_mod")


def export_torch(model: Module, path: str | Path) -> None:
    """Writes a model's arrays under PyTorch's names to a safetensors file, atomically; see `to_torch`.

    In PyTorch: `module.load_state_dict(safetensors.torch.load_file(path))`.

    Args:
        model: any module; its recurrent layers are written in PyTorch's form.
        path: the file; an existing one is replaced.

    Raises:
        ValueError: a network computes what PyTorch's does not; the path's suffix is not `.safetensors`.
        OSError: the file cannot be written; an existing file is unchanged.
    """
    if Path(path).suffix.lower() not in ("", ".safetensors"):
        raise ValueError(f"{path}: PyTorch's names are written to a safetensors file; use the ending .safetensors")
    write_safetensors(path, to_torch(model), {"format": "pt"})


def to_torch(model: Module) -> dict[str, HostArray]:
    """The parameters and buffers of a model under PyTorch's names, for `torch.nn.LSTM` and similar modules.

    A recurrent layer's or cell's bias becomes `bias_ih`, with a `bias_hh` of zeros (for a GRU with `bias_hn` in it).
    Low-rank adapters are merged into their weights. Settings such as `nonlinearity="relu"` must be given to PyTorch's
    module. Peepholes and layer normalization, which PyTorch lacks, keep their names, which it refuses.

    Raises:
        ValueError: a network computes what PyTorch's does not: a GRU with `reset_after=False`.

    >>> from tinygrad_lstm.models import LSTM
    >>> sorted(to_torch(LSTM(3, 5)))
    ['bias_hh_l0', 'bias_ih_l0', 'weight_hh_l0', 'weight_ih_l0']
    """
    arrays: dict[str, HostArray] = {}
    for path, module in model.named_modules(remove_duplicate=False):
        if isinstance(module, LoRA):
            continue
        own = module.to_torch() if hasattr(module, "to_torch") else own_arrays(module)
        arrays |= {joined(path, name): array for name, array in own.items()}
    return arrays


def in_torch_names(kind: str, parameters: Mapping[str, HostArray]) -> dict[str, HostArray]:
    """A recurrent network's parameters under PyTorch's names; parameters that PyTorch lacks keep their names."""
    places: dict[str, dict[str, HostArray]] = {}
    for name, array in parameters.items():
        _, role, place = _parsed(name)
        places.setdefault(place, {})[role] = array
    apart = {"bias", *(weight.name for weight in KINDS[kind].weights if weight.part_of)}
    arrays: dict[str, HostArray] = {}
    for place, own in places.items():
        theirs = {role: array for role, array in own.items() if role not in apart}
        if "bias" in own:
            theirs |= {"bias_ih": own["bias"], "bias_hh": recurrent_bias(KINDS[kind], own)}
        arrays |= {f"{role}_{place}": array for role, array in theirs.items()}
    return arrays


def cell_in_torch_names(kind: str, parameters: Mapping[str, HostArray]) -> dict[str, HostArray]:
    """A recurrent cell's parameters under PyTorch's names; see `in_torch_names`."""
    arrays = dict(parameters)
    if KINDS[kind].one_product:
        weight, H = arrays.pop("weight"), len(arrays["bias"]) // len(KINDS[kind].gates)
        arrays |= {"weight_ih": weight[:, H:], "weight_hh": weight[:, :H]}
    as_layer = in_torch_names(kind, {f"{name}_l0": array for name, array in arrays.items()})
    return {name.removesuffix("_l0"): array for name, array in as_layer.items()}


def as_cell(kind: str, parameters: Mapping[str, HostArray]) -> dict[str, HostArray]:
    """The parameters of a network's first layer in the form of a cell: some cells have one weight for [h, x]."""
    arrays = {name.removesuffix("_l0"): array for name, array in parameters.items()}
    if KINDS[kind].one_product:
        arrays["weight"] = np.concatenate([arrays.pop("weight_hh"), arrays.pop("weight_ih")], axis=1)
    return arrays


def own_arrays(module: Module) -> dict[str, HostArray]:
    """A module's parameters and buffers, without those of its submodules.

    Adapters are merged into their weights, and weights that are parametrized are computed.
    """
    named = [*module.named_parameters(remove_duplicate=False), *module.named_buffers(remove_duplicate=False)]
    names = [*(name for name, _ in named if "." not in name), *sorted(module._parametrized)]
    with no_grad():
        tensors = {name: module.adapted(name) for name in names}
    return {name: tensor.device.backend.to_host(tensor.data).copy() for name, tensor in tensors.items()}


def _parsed(name: str) -> tuple[str, str, str]:
    """The prefix, role and place of a recurrent layer's array; the role is empty for other arrays."""
    for end, role in _CELL_NAMES.items():
        if name == end or name.endswith(f".{end}"):
            return name[: -len(end)].removesuffix("."), role, "l0"
    prefix, _, last = name.rpartition(".")
    match = _LAYER_NAME.fullmatch(last)
    own_roles = (weight.name for kind in KINDS.values() for weight in kind.weights)
    return (prefix, match[1], match[2]) if match and match[1] in (*_ROLES, *own_roles) else (prefix, "", "")


def _all_places(places: Mapping[str, Mapping[str, Part]]) -> dict[str, Place]:
    """The places of all layers and directions, in order, including empty ones."""
    layers = 1 + max(int(place[1:].partition("_")[0]) for place in places)
    directions = ("", "_reverse") if any(place.endswith("_reverse") for place in places) else ("",)
    in_order = [f"l{layer}{direction}" for layer in range(layers) for direction in directions]
    return {place: places.get(place, {}) for place in in_order}
