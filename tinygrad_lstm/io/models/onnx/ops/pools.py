"""Pooling.

Reference: https://onnx.ai/onnx/operators/
"""

from ..... import ops
from ....._tensor import Tensor
from .....creation import zeros
from ...rules import Ints, rule
from ...shared.pools import average_pool, max_pool, padding_of_pools, window_sums
from ...shared.windows import pad_dims, varies

__all__: list[str] = []

# -- windows -----------------------------------------------------------------------------------------------------------

rule("MaxPool")(max_pool)
rule("AveragePool", since=7)(average_pool)


@rule("LpPool", since=2)
def lp_pool(
    x: Tensor,
    *,
    kernel_shape: list[int],
    auto_pad: str = "NOTSET",
    ceil_mode: int = 0,
    dilations: list[int] | None = None,
    p: int = 2,
    pads: list[int] | None = None,
    strides: list[int] | None = None,
) -> Tensor:
    n = len(kernel_shape)
    dilations, strides = dilations or [1] * n, strides or [1] * n
    _, widths = padding_of_pools(x, kernel_shape, strides, dilations, pads, auto_pad, ceil_mode)
    always = bool(ceil_mode) or varies(auto_pad, strides)
    return window_sums(pad_dims(ops.abs(x) ** p, widths, always=always), kernel_shape, strides, dilations) ** (1 / p)


@rule("MaxUnpool")
def max_unpool(
    x: Tensor,
    indices: Tensor,
    output_shape: Ints | None = None,
    *,
    kernel_shape: list[int],
    pads: list[int] | None = None,
    strides: list[int] | None = None,
) -> Tensor:
    n = len(kernel_shape)
    strides, pads = strides or [1] * n, pads or [0] * 2 * n
    lengths = [
        (length - 1) * stride + size - pads[d] - pads[n + d]
        for d, (length, stride, size) in enumerate(zip(x.shape[2:], strides, kernel_shape, strict=True))
    ]
    y = ops.put(zeros((*x.shape[:2], *lengths), dtype=x.dtype, device=x.device), indices, x)
    if output_shape is None:
        return y
    return pad_dims(y, [(0, length - own) for length, own in zip(output_shape[2:], lengths, strict=True)])


# -- all elements ------------------------------------------------------------------------------------------------------


def _lasts(x: Tensor) -> tuple[int, ...]:
    return tuple(range(2, x.ndim))


@rule("GlobalAveragePool")
def global_average_pool(x: Tensor) -> Tensor:
    return ops.mean(x, _lasts(x), keepdim=True)


@rule("GlobalMaxPool")
def global_max_pool(x: Tensor) -> Tensor:
    return ops.amax(x, _lasts(x), keepdim=True)


@rule("GlobalLpPool", since=2)
def global_lp_pool(x: Tensor, *, p: int = 2) -> Tensor:
    return ops.norm(x, p, _lasts(x), keepdim=True)
