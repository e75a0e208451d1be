"""Convolutions, and padding.

Reference: https://onnx.ai/onnx/operators/
"""

from typing import Any

from tinygrad_lstm.backends.dtypes import BOOL

from ..... import ops
from ....._tensor import Tensor
from .....creation import ones_like
from ...rules import Ints, Value, rule
from ...shared.windows import col2im, conv, conv_transpose, pad_dims

__all__: list[str] = []

# -- padding -----------------------------------------------------------------------------------------------------------

MODES = {"constant": "constant", "reflect": "reflect", "edge": "replicate", "wrap": "circular"}


@rule("Pad", since=2)
def pad_by(x: Tensor, *, pads: list[int], mode: str = "constant", value: float = 0.0) -> Tensor:
    return pad_dims(x, list(zip(pads[: x.ndim], pads[x.ndim :], strict=True)), MODES[mode], value)


@rule("Pad", since=11)
def pad(
    x: Tensor, pads: Ints, value: Value | None = None, axes: Ints | None = None, *, mode: str = "constant"
) -> Tensor:
    widths: list[tuple[int, int]] = [(0, 0)] * x.ndim
    for dim, before, after in zip(axes or range(x.ndim), pads[: len(pads) // 2], pads[len(pads) // 2 :], strict=True):
        widths[dim] = (before, after)
    if isinstance(value, Tensor) and value.requires_grad:
        inside = pad_dims(ones_like(x, BOOL), widths)
        return ops.where(inside, pad_dims(x, widths), value)
    return pad_dims(x, widths, MODES[mode], 0 if value is None else value.item())


# -- convolutions ------------------------------------------------------------------------------------------------------

rule("Conv")(conv)
rule("ConvTranspose")(conv_transpose)
rule("Col2Im")(col2im)


@rule("CausalConvWithState")
def causal_conv_with_state(
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    past_state: Tensor | None = None,
    *,
    activation: str = "none",
) -> Any:
    """A convolution of each channel, after the last steps of the past, which are returned too."""
    kept = weight.shape[2] - 1
    x = ops.pad(x, [kept, 0]) if past_state is None else ops.cat([past_state, x], 2)
    y = ops.conv1d(x, weight, bias, groups=x.shape[1])
    return (y if activation == "none" else ops.silu(y)), x[:, :, x.shape[2] - kept :]
