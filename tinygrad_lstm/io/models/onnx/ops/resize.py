"""Ops that interpolate between elements.

Reference: https://onnx.ai/onnx/operators/
"""

from ..... import ops
from ....._tensor import Tensor
from .....creation import arange, ones_like
from ...rules import Floats, Ints, rule
from ...shared.resizing import grid_sample, resize

__all__: list[str] = []

rule("Resize", since=11)(resize)
rule("GridSample")(grid_sample)


@rule("Resize", since=10)
def resize_by(x: Tensor, scales: Floats, *, mode: str = "nearest") -> Tensor:
    return resize(
        x,
        None,
        scales,
        coordinate_transformation_mode="asymmetric",
        mode=mode.replace("bilinear", "linear"),
        nearest_mode="floor",
    )


@rule("Upsample", since=9)
def upsample(x: Tensor, scales: Floats, *, mode: str = "nearest") -> Tensor:
    return resize_by(x, scales, mode=mode)


@rule("Upsample", since=7)
def upsample_by(x: Tensor, *, scales: list[float], mode: str = "nearest") -> Tensor:
    return resize_by(x, scales, mode=mode)


@rule("AffineGrid")
def affine_grid(theta: Tensor, size: Ints, *, align_corners: int = 0) -> Tensor:
    lengths = size[2:]
    axes = []
    for dim, length in enumerate(lengths):
        steps = arange(length, dtype=theta.dtype, device=theta.device)
        at = (2 * steps + (0 if align_corners else 1)) / max(length - 1 if align_corners else length, 1) - 1
        axes.append(ops.broadcast_to(at.reshape((-1, *(1,) * (len(lengths) - 1 - dim))), tuple(lengths)))
    points = ops.stack([*axes[::-1], ones_like(axes[0])], -1).reshape((-1, len(lengths) + 1))
    return (points @ theta.mT).reshape((theta.shape[0], *lengths, len(lengths)))
