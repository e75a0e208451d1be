"""PyTorch's layers that are one op, and that this library has no module of."""

from collections.abc import Mapping, Sequence
from typing import Any

from tinygrad_lstm.backends.base import HostArray
from tinygrad_lstm.backends.dtypes import is_float

from ...._tensor import Tensor, tensor
from ....nn import Module, Parameter
from .aten import RULES

__all__ = ["OP_LAYERS", "PADDED", "OpLayer"]

_AFFINE = ("weight", "bias", "running_mean", "running_var")
_UPSAMPLED = ("interpolate", "size", "scale_factor", "mode", "align_corners", "recompute_scale_factor")

OP_LAYERS: dict[str, tuple[Any, ...]] = {
    "CELU": ("celu", "alpha"),
    "Hardswish": ("hardswish",),
    "Hardshrink": ("hardshrink", "lambd"),
    "RReLU": ("rrelu", "lower", "upper", "training"),
    "Softmax2d": ("softmax", -3),
    "Softmin": ("softmin", "dim"),
    "Softshrink": ("softshrink", "lambd"),
    "Tanhshrink": ("tanhshrink",),
    "Threshold": ("threshold", "threshold", "value"),
    "Unflatten": ("unflatten", "dim", "unflattened_size"),
    "Conv3d": ("conv3d", "weight", "bias", "stride", "padding", "dilation", "groups"),
    **{
        f"ConvTranspose{n}d": (
            *("conv_transpose2d", "weight", "bias", "stride", "padding", "output_padding", "groups", "dilation"),
        )
        for n in (2, 3)
    },
    "MaxPool3d": ("max_pool3d", "kernel_size", "stride", "padding", "dilation", "ceil_mode"),
    "AvgPool3d": (
        *("avg_pool3d", "kernel_size", "stride", "padding", "ceil_mode", "count_include_pad", "divisor_override"),
    ),
    "AdaptiveAvgPool3d": ("adaptive_avg_pool3d", "output_size"),
    **dict.fromkeys(("LPPool1d", "LPPool2d"), ("lp_pool", "norm_type", "kernel_size", "stride", "ceil_mode")),
    **{
        f"InstanceNorm{n}d": ("tracked_instance_norm", *_AFFINE, "track_running_stats", "training", "eps")
        for n in (1, 2, 3)
    },
    "LocalResponseNorm": ("local_response_norm", "size", "alpha", "beta", "k"),
    "EmbeddingBag": ("bags", "weight", "mode", "include_last_offset", "padding_idx"),
    **dict.fromkeys(("Upsample", "UpsamplingNearest2d", "UpsamplingBilinear2d"), _UPSAMPLED),
    "PixelShuffle": ("pixel_shuffle", "upscale_factor"),
    "PixelUnshuffle": ("pixel_unshuffle", "downscale_factor"),
    "ChannelShuffle": ("channel_shuffle", "groups"),
    "Unfold": ("im2col", "kernel_size", "dilation", "padding", "stride"),
    "Fold": ("col2im", "output_size", "kernel_size", "dilation", "padding", "stride"),
    **{
        f"Dropout{n}d": ("feature_dropout", "p", "training", batched)
        for n, batched in ((1, 3), (2, 2), (3, 5))  # PyTorch's Dropout2d takes inputs of 3 dimensions as (N, C, L)
    },
    "AlphaDropout": ("alpha_dropout", "p", "training"),
    "FeatureAlphaDropout": ("feature_alpha_dropout", "p", "training"),
    **{f"ZeroPad{n}d": ("pad", "padding", "constant", 0.0) for n in (1, 2, 3)},
    **{f"ConstantPad{n}d": ("pad", "padding", "constant", "value") for n in (1, 2, 3)},
    **{
        f"{kind}Pad{n}d": ("pad", "padding", mode, 0.0)
        for kind, mode in (("Reflection", "reflect"), ("Replication", "replicate"), ("Circular", "circular"))
        for n in (1, 2, 3)
    },
    **{
        f"padded Conv{n}d": (
            *("padded_convolution", "weight", "bias", "stride", "dilation", "groups", "mode"),
            "_reversed_padding_repeated_twice",
        )
        for n in (1, 2, 3)
    },
}
"""For each type the op, and its arguments after the input: the names of parameters and settings, or constants."""

PADDED = {f"Conv{n}d": f"padded Conv{n}d" for n in (1, 2, 3)}
"""The types of convolutions whose padding is not zeros."""

_CONSTANTS = {"constant", "reflect", "replicate", "circular"}
_OWN = {*_AFFINE, "training"}
_STATISTICS = {"running_mean", "running_var", "num_batches_tracked"}


class OpLayer(Module):
    """A layer that is one op of PyTorch.

    Args:
        kind: the type, one of `OP_LAYERS`.
        settings: the attributes and constants of the layer.
        arrays: its parameters and buffers, by name.

    Raises:
        KeyError: a setting is missing.
    """

    def __init__(self, kind: str, settings: Mapping[str, Any], arrays: Mapping[str, HostArray]) -> None:
        self.kind = kind
        self._op, *names = OP_LAYERS[kind]
        self._arguments: tuple[Any, ...] = tuple([_argument(name, settings) for name in names])
        for name in set(_AFFINE).intersection(names):
            array = arrays.get(name)
            value = None if array is None else tensor(array)
            if value is None:
                setattr(self, name, None)
            elif name in _STATISTICS or not is_float(value.dtype):
                self.register_buffer(name, value)
            else:
                setattr(self, name, Parameter(value))

    def forward(self, x: Tensor, *others: Any) -> Any:
        given = [getattr(self, each.name) if isinstance(each, _Own) else each for each in self._arguments]
        return RULES[self._op](x, *given, *others)

    def extra_repr(self) -> str:
        named = zip(OP_LAYERS[self.kind][1:], self._arguments, strict=True)
        settings = [
            f"{name}={value}" for name, value in named if name not in _OWN and isinstance(name, str) and name != value
        ]
        return ", ".join([self.kind, *settings])


class _Own:
    """An argument that is an attribute of the layer: a parameter, a buffer, or whether it is in training."""

    def __init__(self, name: str) -> None:
        self.name = name


def _argument(name: Any, settings: Mapping[str, Any]) -> Any:
    if name in _OWN:
        return _Own(name)
    if not isinstance(name, str) or name in _CONSTANTS:
        return name
    value = settings[name]
    return tuple(value) if isinstance(value, Sequence) and not isinstance(value, str) else value
