"""PyTorch's modules as ours: the types that are known, built from a module's settings and arrays."""

import inspect
import re
from collections.abc import Callable, Mapping
from functools import reduce
from typing import Any, TypeVar

from tinygrad_lstm.backends.base import HostArray
from tinygrad_lstm.backends.dtypes import is_float
from tinygrad_lstm.kinds import KINDS
from tinygrad_lstm.models.cells import CELLS
from tinygrad_lstm.models.networks import NETWORKS

from .... import nn
from ....nn.normalization import BatchNorm
from ....printable import printable
from ...errors import ContentError, shown
from ...torch.names import from_torch
from ...torch.pickled import NumpyArray, Tensor
from ...torch.reparametrised import plain_weights
from .op_layers import OP_LAYERS, PADDED, OpLayer

__all__ = ["Ties", "memory_of", "unmangled", "RESULTS", "UnsupportedSettingError", "layer_of", "torch_type"]

T = TypeVar("T")

_TORCH = "torch.nn.modules."
_MANGLED = re.compile(r"\.___torch_mangle_\d+")


class AnyBatchNorm(BatchNorm):
    """A batch normalization of inputs of any dimensions, as PyTorch's SyncBatchNorm."""

    SHAPES = ("(N, C)", "(N, C, L)", "(N, C, H, W)", "(N, C, D, H, W)")


_CELLS = {f"{kind}Cell": cls for kind, cls in CELLS.items()}
_PLAIN: dict[str, Any] = {
    name: getattr(nn, name)
    for name in (
        *("Linear", "Embedding", "Dropout", "Flatten", "Identity", "MultiheadAttention"),
        *("Conv1d", "Conv2d", "ConvTranspose1d", "LayerNorm", "GroupNorm", "RMSNorm"),
        *("BatchNorm1d", "BatchNorm2d", "BatchNorm3d"),
        *("ReLU", "ReLU6", "Tanh", "Sigmoid", "SiLU", "Mish", "SELU", "Softsign", "LogSigmoid", "Hardsigmoid", "GELU"),
        *("ELU", "LeakyReLU", "Hardtanh", "Softplus", "Softmax", "LogSoftmax", "GLU", "PReLU"),
        *("MaxPool1d", "MaxPool2d", "AvgPool1d", "AvgPool2d"),
        *("AdaptiveAvgPool1d", "AdaptiveAvgPool2d", "AdaptiveMaxPool1d", "AdaptiveMaxPool2d"),
        *("MSELoss", "L1Loss", "SmoothL1Loss", "HuberLoss", "CrossEntropyLoss", "NLLLoss", "BCELoss"),
        *("BCEWithLogitsLoss", "KLDivLoss", "GaussianNLLLoss", "CTCLoss", "CosineSimilarity", "CosineEmbeddingLoss"),
        *("MarginRankingLoss", "HingeEmbeddingLoss", "SoftMarginLoss", "TripletMarginLoss"),
    )
}
_ALIASES = {"NonDynamicallyQuantizableLinear": "Linear"}
_PLAIN["SyncBatchNorm"] = AnyBatchNorm
_LOSSES = (nn.CrossEntropyLoss, nn.NLLLoss, nn.BCELoss, nn.BCEWithLogitsLoss)

RESULTS = {
    **{name: 1 + len(kind.states) for name, kind in KINDS.items()},
    **{f"{name}Cell": len(kind.states) for name, kind in KINDS.items()},
    "MultiheadAttention": 2,
}
"""The number of tensors that layers return, if it is not one."""

# Settings that our modules do not have, with the values that mean what ours compute.
_FIXED: dict[str, Any] = {
    "padding_mode": "zeros",
    "max_norm": None,
    "scale_grad_by_freq": False,
    "size_average": None,
    "reduce": None,
}


class UnsupportedSettingError(ContentError):
    """A setting of a known type that our module of this type does not have."""


def unmangled(name: str) -> str:
    """A name in the code of a TorchScript archive, as it is in Python."""
    return _MANGLED.sub("", name).removeprefix("__torch__.")


def torch_type(name: str) -> str:
    """The name of a type of torch.nn, such as "LSTM" of `__torch__.torch.nn.modules.rnn.___torch_mangle_12.LSTM`.

    Returns "" for other types.
    """
    name = unmangled(name)
    short = name.rpartition(".")[-1]
    return _ALIASES.get(short, short) if name.startswith(_TORCH) else ""


def layer_of(kind: str, settings: Mapping[str, Any], arrays: Mapping[str, HostArray]) -> nn.Module | None:
    """The module of a type of torch.nn; None for a type that is not known.

    Args:
        kind: the type's name.
        settings: the module's attributes and constants.
        arrays: its parameters and buffers, by their dotted names in it.

    Raises:
        UnsupportedSettingError: a setting is not supported.
        ContentError: a setting is missing or damaged, or an array has an invalid shape.
    """
    if kind not in {*NETWORKS, *_CELLS, *_PLAIN, *OP_LAYERS}:
        return None
    if kind in PADDED and settings.get("padding_mode", "zeros") != "zeros":
        kind, settings = PADDED[kind], {**settings, "padding_mode": "zeros", "mode": settings["padding_mode"]}
    if other := [name for name, value in _FIXED.items() if name in settings and settings[name] != value]:
        raise UnsupportedSettingError(f"{kind} with {', '.join(f'{name}={settings[name]!r:.40}' for name in other)}")
    arrays, faults = plain_weights(arrays)
    if faults:
        raise ContentError(printable("; ".join(faults)))
    try:
        if kind in NETWORKS:
            return _recurrent(kind, settings, arrays)
        if kind in OP_LAYERS:
            return OpLayer(kind, settings, arrays)
        return _cell(kind, settings, arrays) if kind in _CELLS else _plain(kind, settings, arrays)
    except KeyError as error:
        raise ContentError(f"{kind}: missing {shown(str(error.args[0]))}") from error
    except (ValueError, TypeError, IndexError, OverflowError, MemoryError) as error:
        raise ContentError(f"{kind}: {shown(str(error))}") from error


class Ties:
    """Parameters that several layers of a file share: they are one here, too."""

    def __init__(self) -> None:
        self._first: dict[object, nn.Parameter] = {}

    def first(self, memory: object, own: T) -> T | nn.Parameter:
        """The first parameter of this memory, or `own`, which is that from now on if it is a parameter."""
        return self._first.setdefault(memory, own) if isinstance(own, nn.Parameter) else own

    def tie(self, layer: nn.Module, described: Mapping[str, Tensor | NumpyArray]) -> None:
        """Replaces the parameters of a layer that an earlier layer has; `described` are its arrays by name."""
        parameters = dict(layer.named_parameters())
        for name, each in described.items():
            own = parameters.get(name)
            if own is None or not isinstance(each, Tensor):
                continue
            first = self.first(memory_of(each), own)
            if first is not own and first.shape == own.shape:
                *above, last = name.split(".")
                setattr(reduce(getattr, above, layer), last, first)


def memory_of(tensor: Tensor) -> object:
    """The same for tensors that are the same memory.

    Raises:
        ContentError: its description is damaged.
    """
    storage = getattr(tensor.storage, "key", tensor.storage)
    try:
        hash(found := (storage, tensor.offset, tensor.shape, tensor.strides))
    except TypeError as error:
        raise ContentError("its shape or its strides are not integers") from error
    return found


def _recurrent(kind: str, settings: Mapping[str, Any], arrays: Mapping[str, HostArray]) -> nn.Module:
    options: dict[str, Any] = {} if settings.get("bias", True) else {"bias": False}
    if "nonlinearity" in KINDS[kind].options:
        named = {"RNN_TANH": "tanh", "RNN_RELU": "relu"}
        options["nonlinearity"] = settings.get("nonlinearity") or named[settings["mode"]]
    layer: nn.Module = NETWORKS[kind].from_torch(
        arrays, batch_first=bool(settings["batch_first"]), dropout=float(settings.get("dropout", 0.0)), **options
    )
    return layer


def _cell(kind: str, settings: Mapping[str, Any], arrays: Mapping[str, HostArray]) -> nn.Module:
    if settings.get("nonlinearity", "tanh") != "tanh":
        raise UnsupportedSettingError(f"{kind} with nonlinearity={settings['nonlinearity']!r:.40}")
    made = _CELLS[kind](arrays["weight_ih"].shape[1], arrays["weight_hh"].shape[1])
    return _with_arrays(made, from_torch(arrays))


def _plain(kind: str, settings: Mapping[str, Any], arrays: Mapping[str, HostArray]) -> nn.Module:
    cls = _PLAIN[kind]
    given = {name: value for name, value in settings.items() if value is not ...}
    given |= {"bias": bool(arrays.keys() & {"bias", "in_proj_bias"}), "add_bias_kv": "bias_k" in arrays}
    given |= dict.fromkeys(("affine", "elementwise_affine"), "weight" in arrays)
    given |= {name: arrays.get(name) for name in ("weight", "pos_weight")}
    if kind in _SIZES:
        given |= _SIZES[kind](arrays, settings)
    names = {} if kind == "Identity" else inspect.signature(cls).parameters
    needed = [name for name, each in names.items() if each.default is inspect.Parameter.empty and name not in given]
    if needed:
        raise ValueError(f"missing the settings {', '.join(needed)}")
    made = cls(**{name: given[name] for name in names if name in given})
    return made if issubclass(cls, _LOSSES) else _with_arrays(made, arrays)


def _conv_sizes(arrays: Mapping[str, HostArray], settings: Mapping[str, Any]) -> dict[str, Any]:
    out, inside, *kernel = arrays["weight"].shape
    return {"in_channels": inside * int(settings["groups"]), "out_channels": out, "kernel_size": tuple(kernel)}


def _transposed_sizes(arrays: Mapping[str, HostArray], settings: Mapping[str, Any]) -> dict[str, Any]:
    inside, out, *kernel = arrays["weight"].shape
    return {"in_channels": inside, "out_channels": out * int(settings["groups"]), "kernel_size": tuple(kernel)}


def _batch_norm_sizes(arrays: Mapping[str, HostArray], settings: Mapping[str, Any]) -> dict[str, Any]:
    return {**_norm_sizes(arrays, settings), "track_running_stats": "running_mean" in arrays}


def _norm_sizes(arrays: Mapping[str, HostArray], settings: Mapping[str, Any]) -> dict[str, Any]:
    named = next((arrays[name] for name in ("weight", "running_mean") if name in arrays), None)
    if named is None and not settings.keys() & {"num_features", "num_channels"}:  # of a traced layer
        raise UnsupportedSettingError("a normalization without parameters")
    return {} if named is None else {"num_features": named.size, "num_channels": named.size}


def _attention_sizes(arrays: Mapping[str, HostArray], settings: Mapping[str, Any]) -> dict[str, Any]:
    embed_dim = len(arrays["out_proj.weight"])
    own = [arrays.get(f"{name}_proj_weight") for name in "kv"]
    kdim, vdim = (embed_dim if each is None else each.shape[1] for each in own)
    return {"embed_dim": embed_dim, "kdim": kdim, "vdim": vdim}


# The sizes of modules are those of their arrays: a file may name sizes for which there is no memory.
_SIZES: dict[str, Callable[[Mapping[str, HostArray], Mapping[str, Any]], dict[str, Any]]] = {
    "Linear": lambda arrays, _: dict(zip(("out_features", "in_features"), arrays["weight"].shape, strict=True)),
    "Embedding": lambda arrays, _: dict(zip(("num_embeddings", "embedding_dim"), arrays["weight"].shape, strict=True)),
    **dict.fromkeys(("Conv1d", "Conv2d"), _conv_sizes),
    "ConvTranspose1d": _transposed_sizes,
    **dict.fromkeys(("BatchNorm1d", "BatchNorm2d", "BatchNorm3d", "SyncBatchNorm"), _batch_norm_sizes),
    "GroupNorm": _norm_sizes,
    **dict.fromkeys(
        ("LayerNorm", "RMSNorm"),
        lambda arrays, _: {"normalized_shape": arrays["weight"].shape} if "weight" in arrays else {},
    ),
    "MultiheadAttention": _attention_sizes,
    "PReLU": lambda arrays, _: {"num_parameters": arrays["weight"].size},
}


def _with_arrays(module: nn.Module, arrays: Mapping[str, HostArray]) -> nn.Module:
    """The module with these values of its parameters and buffers, in their dtype."""
    dtypes = {array.dtype for array in arrays.values() if is_float(array.dtype)}
    if len(dtypes) == 1:
        module.to(dtype=dtypes.pop())
    module.load_state_dict(arrays)
    return module
