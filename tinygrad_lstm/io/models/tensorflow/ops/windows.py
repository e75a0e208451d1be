"""Convolutions, pooling and batch normalization."""

from collections.abc import Callable
from typing import Any

from ..... import ops
from ....._tensor import Tensor
from ...rules import Ints
from ...shared.pools import average_pool, max_pool
from ...shared.resizing import resize
from ...shared.windows import conv, conv_transpose
from ..rules import rule
from .products import fused

__all__: list[str] = []

CHANNELS_LAST = "NHWC"


def _first(x: Tensor, data_format: str) -> Tensor:
    """x with the channels first."""
    return ops.permute(x, (0, 3, 1, 2)) if data_format == CHANNELS_LAST else x


def _as_given(x: Tensor, data_format: str) -> Tensor:
    """x, whose channels are first, in the format of the op."""
    return ops.permute(x, (0, 2, 3, 1)) if data_format == CHANNELS_LAST else x


def _spatial(values: list[int] | None, data_format: str) -> list[int]:
    """The two values for images among those for all four dimensions."""
    if not values:
        return [1, 1]
    return list(values[1:3] if data_format == CHANNELS_LAST else values[2:4])


def _padding(padding: str, explicit: list[int] | None, data_format: str) -> dict[str, Any]:
    """The settings of padding of ONNX's ops."""
    if padding != "EXPLICIT":
        return {"auto_pad": {"SAME": "SAME_UPPER"}.get(padding, padding)}
    widths = explicit or [0] * 8
    at = 2 if data_format == CHANNELS_LAST else 4
    top, bottom, left, right = widths[at : at + 4]
    return {"pads": [top, left, bottom, right]}


@rule("Conv2D")
def conv2d(
    x: Tensor,
    kernel: Tensor,
    *,
    strides: list[int],
    padding: str,
    explicit_paddings: list[int] | None = None,
    data_format: str = CHANNELS_LAST,
    dilations: list[int] | None = None,
) -> Tensor:
    image = _first(x, data_format)
    weight = ops.permute(kernel, (3, 2, 0, 1))
    y = conv(
        image,
        weight,
        strides=_spatial(strides, data_format),
        dilations=_spatial(dilations, data_format),
        group=image.shape[1] // weight.shape[1],
        **_padding(padding, explicit_paddings, data_format),
    )
    return _as_given(y, data_format)


@rule("Conv3D")
def conv3d(
    x: Tensor,
    kernel: Tensor,
    *,
    strides: list[int],
    padding: str,
    data_format: str = "NDHWC",
    dilations: list[int] | None = None,
) -> Tensor:
    if data_format != "NDHWC":
        raise ValueError(f"a convolution in the format {data_format}, which is not supported")
    y = conv(
        ops.permute(x, (0, 4, 1, 2, 3)),
        ops.permute(kernel, (4, 3, 0, 1, 2)),
        strides=strides[1:4],
        dilations=(dilations or [1] * 5)[1:4],
        **_padding(padding, None, CHANNELS_LAST),
    )
    return ops.permute(y, (0, 2, 3, 4, 1))


@rule("DepthwiseConv2dNative")
def depthwise_conv2d(
    x: Tensor,
    kernel: Tensor,
    *,
    strides: list[int],
    padding: str,
    explicit_paddings: list[int] | None = None,
    data_format: str = CHANNELS_LAST,
    dilations: list[int] | None = None,
) -> Tensor:
    height, width, channels, each = kernel.shape
    weight = ops.permute(kernel, (2, 3, 0, 1)).reshape((channels * each, 1, height, width))
    y = conv(
        _first(x, data_format),
        weight,
        strides=_spatial(strides, data_format),
        dilations=_spatial(dilations, data_format),
        group=channels,
        **_padding(padding, explicit_paddings, data_format),
    )
    return _as_given(y, data_format)


@rule("Conv2DBackpropInput")
def conv2d_transpose(
    input_sizes: Ints,
    kernel: Tensor,
    gradient: Tensor,
    *,
    strides: list[int],
    padding: str,
    explicit_paddings: list[int] | None = None,
    data_format: str = CHANNELS_LAST,
    dilations: list[int] | None = None,
) -> Tensor:
    """The transposed convolution: the gradient of Conv2D's input."""
    if padding == "EXPLICIT":
        raise ValueError("a transposed convolution with explicit padding, which is not supported")
    steps, spread = _spatial(strides, data_format), _spatial(dilations, data_format)
    lengths = _spatial(input_sizes, data_format)
    image = _first(gradient, data_format)
    before = [
        max((count - 1) * stride + dilation * (size - 1) + 1 - length, 0) // 2 if padding == "SAME" else 0
        for count, stride, dilation, size, length in zip(
            image.shape[2:], steps, spread, kernel.shape[:2], lengths, strict=True
        )
    ]
    after = [
        (count - 1) * stride + dilation * (size - 1) + 1 - length - first
        for count, stride, dilation, size, length, first in zip(
            image.shape[2:], steps, spread, kernel.shape[:2], lengths, before, strict=True
        )
    ]
    y = conv_transpose(
        image, ops.permute(kernel, (3, 2, 0, 1)), strides=steps, dilations=spread, pads=[*before, *after]
    )
    return _as_given(y, data_format)


def _rule_of_fused(op: str, function: Callable[..., Tensor]) -> None:
    """Registers a convolution with what follows it."""

    @rule(op)
    def fused_conv(
        x: Tensor,
        kernel: Tensor,
        *args: Tensor,
        strides: list[int],
        padding: str,
        explicit_paddings: list[int] | None = None,
        data_format: str = CHANNELS_LAST,
        dilations: list[int] | None = None,
        fused_ops: list[str],
        epsilon: float = 0.0,
        leakyrelu_alpha: float = 0.2,
        filter_format: str = "HWIO",
    ) -> Tensor:
        if data_format != CHANNELS_LAST:
            raise ValueError(f"a fused convolution in the format {data_format}, which is not supported")
        y = function(
            x, kernel, strides=strides, padding=padding, explicit_paddings=explicit_paddings, dilations=dilations
        )
        return fused(y, args, fused_ops, leakyrelu_alpha)


_rule_of_fused("_FusedConv2D", conv2d)
_rule_of_fused("FusedDepthwiseConv2dNative", depthwise_conv2d)

# -- resizing ----------------------------------------------------------------------------------------------------------


def _rule_of_resize(op: str, mode: str) -> None:
    """Registers a change of the height and width of images."""

    @rule(op)
    def resized(images: Tensor, size: Ints, *, align_corners: bool = False, half_pixel_centers: bool = False) -> Tensor:
        places = "align_corners" if align_corners else "half_pixel" if half_pixel_centers else "asymmetric"
        nearest = "round_prefer_ceil" if align_corners else "floor"
        if mode == "nearest" and places == "half_pixel":
            nearest = "round_prefer_ceil"
        y = resize(
            _first(images, CHANNELS_LAST),
            sizes=size,
            axes=[2, 3],
            mode=mode,
            coordinate_transformation_mode=places,
            nearest_mode=nearest,
        )
        return _as_given(y, CHANNELS_LAST)


_rule_of_resize("ResizeNearestNeighbor", "nearest")
_rule_of_resize("ResizeBilinear", "linear")

# -- pooling -----------------------------------------------------------------------------------------------------------


@rule("MaxPool")
def max_pool2d(
    x: Tensor,
    *,
    ksize: list[int],
    strides: list[int],
    padding: str,
    explicit_paddings: list[int] | None = None,
    data_format: str = CHANNELS_LAST,
) -> Tensor:
    y = max_pool(
        _first(x, data_format),
        kernel_shape=_spatial(ksize, data_format),
        strides=_spatial(strides, data_format),
        outputs=1,
        **_padding(padding, explicit_paddings, data_format),
    )
    return _as_given(y, data_format)


@rule("AvgPool")
def avg_pool2d(
    x: Tensor, *, ksize: list[int], strides: list[int], padding: str, data_format: str = CHANNELS_LAST
) -> Tensor:
    y = average_pool(
        _first(x, data_format),
        kernel_shape=_spatial(ksize, data_format),
        strides=_spatial(strides, data_format),
        **_padding(padding, None, data_format),
    )
    return _as_given(y, data_format)


# -- normalization -----------------------------------------------------------------------------------------------------


def _batch_norm(
    x: Tensor,
    scale: Tensor,
    offset: Tensor,
    mean: Tensor,
    variance: Tensor,
    *,
    epsilon: float = 1e-4,
    data_format: str = CHANNELS_LAST,
    is_training: bool = True,
) -> Any:
    """With `is_training` it is by the mean and variance of x itself, as Keras 2 normalizes layers."""
    image = _first(x, data_format)
    if is_training:
        mean, variance = ops.mean(image, (0, 2, 3)), ops.var(image, (0, 2, 3))
        y = ops.batch_norm(image, None, None, scale, offset, training=True, eps=epsilon)
    else:
        y = ops.batch_norm(image, mean, variance, scale, offset, eps=epsilon)
    return (_as_given(y, data_format), mean, variance, mean, variance, mean)


for _op in ("FusedBatchNorm", "FusedBatchNormV2", "FusedBatchNormV3"):
    rule(_op)(_batch_norm)
