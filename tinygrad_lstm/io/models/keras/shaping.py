"""Layers that change shapes, and those that join several inputs."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial, reduce
from typing import Any, TypeAlias

from .... import ops
from ...._tensor import Tensor
from ....creation import ones_like, zeros_like
from ..shared.windows import pad_dims
from .operations import normalized
from .rules import Layer, PerDim, UnsupportedError, layer

__all__ = ["channels_last", "padded"]


def channels_last(data_format: str | None, x: Tensor) -> Tensor:
    """An input (B, C, ...) or (B, ..., C) as (B, ..., C)."""
    return x.movedim(1, -1) if data_format == "channels_first" else x


@layer("Reshape")
def reshape(*, target_shape: Sequence[int]) -> Layer:
    return Layer(partial(_reshaped, shape=tuple(target_shape)))


def _reshaped(x: Tensor, shape: tuple[int, ...]) -> Tensor:
    return x.reshape(x.shape[0], *shape)


@layer("Flatten")
def flatten(*, data_format: str | None = None) -> Layer:
    return Layer(partial(_flat, data_format=data_format))


def _flat(x: Tensor, data_format: str | None) -> Tensor:
    return ops.flatten(channels_last(data_format, x), 1) if x.ndim > 1 else x.unsqueeze(1)


@layer("Permute")
def permute(*, dims: Sequence[int]) -> Layer:
    return Layer(partial(_permuted, order=(0, *dims)))


def _permuted(x: Tensor, order: tuple[int, ...]) -> Tensor:
    return ops.permute(x, order)


@layer("RepeatVector")
def repeat_vector(*, n: int) -> Layer:
    return Layer(partial(_repeated, n=n))


def _repeated(x: Tensor, n: int) -> Tensor:
    return x.unsqueeze(1).expand(x.shape[0], n, *x.shape[1:])


PerEnd: TypeAlias = int | Sequence[int | Sequence[int]]
"""A setting of layers that pad or crop: one number, or for each dimension a number or a pair."""

Ends = Sequence[tuple[int, int]]
"""For each dimension of time or space, the numbers at its start and its end."""


def _ends(setting: PerEnd, dims: int) -> Ends:
    """The ends that a setting describes: one number, or for each dimension a number or a pair."""
    if isinstance(setting, int) or dims == 1:
        return [_pair(setting)] * dims
    return [_pair(each) for each in setting]


def _pair(setting: Any) -> tuple[int, int]:
    """Two integers, of a setting that is both or one for both."""
    first, last = (setting, setting) if isinstance(setting, int) else setting
    return first, last


@layer("Cropping1D")
def cropping_1d(*, cropping: PerDim = (1, 1), data_format: str | None = None) -> Layer:
    return Layer(partial(_cropped, ends=_ends(cropping, 1), first=_first(data_format)))


@layer("Cropping2D")
def cropping_2d(*, cropping: PerEnd = (0, 0), data_format: str | None = None) -> Layer:
    return Layer(partial(_cropped, ends=_ends(cropping, 2), first=_first(data_format)))


def _first(data_format: str | None) -> int:
    """The first dimension of time or space."""
    return 2 if data_format == "channels_first" else 1


def _cropped(x: Tensor, ends: Ends, first: int) -> Tensor:
    parts = [slice(begin, x.shape[first + k] - end) for k, (begin, end) in enumerate(ends)]
    return x[(slice(None),) * first + tuple(parts)]


@layer("ZeroPadding1D")
def zero_padding_1d(*, padding: PerDim = 1, data_format: str | None = None) -> Layer:
    return Layer(partial(padded, ends=_ends(padding, 1), first=_first(data_format)))


@layer("ZeroPadding2D")
def zero_padding_2d(*, padding: PerEnd = (1, 1), data_format: str | None = None) -> Layer:
    return Layer(partial(padded, ends=_ends(padding, 2), first=_first(data_format)))


def padded(x: Tensor, ends: Ends, first: int, value: float = 0.0, always: bool = False) -> Tensor:
    """x with numbers of this value at both ends of dimensions, from dimension `first` on; see `pad_dims`."""
    return pad_dims(x, [*ends, *[(0, 0)] * (x.ndim - first - len(ends))], value=value, always=always)


@layer("UpSampling1D")
def up_sampling_1d(*, size: int = 2) -> Layer:
    return Layer(partial(_repeated_each, sizes=(size,), first=1))


@layer("UpSampling2D")
def up_sampling_2d(*, size: PerDim = (2, 2), data_format: str | None = None, interpolation: str = "nearest") -> Layer:
    if interpolation != "nearest":
        raise UnsupportedError(f"the interpolation {interpolation!r}")
    sizes = (size, size) if isinstance(size, int) else tuple(size)
    return Layer(partial(_repeated_each, sizes=sizes, first=_first(data_format)))


def _repeated_each(x: Tensor, sizes: tuple[int, ...], first: int) -> Tensor:
    for dim, size in enumerate(sizes, start=first):
        x = ops.repeat_interleave(x, size, dim)
    return x


# -- several inputs ----------------------------------------------------------------------------------------------------


def _alike(inputs: Sequence[Tensor]) -> list[Tensor]:
    """The inputs with as many dimensions as the largest has, by dimensions of length 1 after the batch."""
    most = max(x.ndim for x in inputs)
    return [x.reshape(x.shape[0], *[1] * (most - x.ndim), *x.shape[1:]) if x.ndim < most else x for x in inputs]


def _reduced(inputs: Sequence[Tensor], function: Callable[[Tensor, Tensor], Tensor]) -> Tensor:
    return reduce(function, _alike(inputs))


def _average(inputs: Sequence[Tensor]) -> Tensor:
    return _reduced(inputs, ops.add) / len(inputs)


def _any_mask(inputs: Any, masks: Sequence[Tensor | None]) -> Tensor | None:
    """In Keras 3, a step is masked if it is in all inputs; and none if an input has no mask."""
    found = [mask for mask in masks if mask is not None]
    return reduce(ops.logical_or, found) if len(found) == len(masks) else None


def _every_mask(inputs: Any, masks: Sequence[Tensor | None]) -> Tensor:
    """In Keras 2, a step is masked if it is in any input that has a mask."""
    return reduce(ops.logical_and, [mask for mask in masks if mask is not None])


def _register_merging(name: str, function: Callable[..., Tensor]) -> None:
    """Registers the rule of a layer that joins its inputs element by element."""

    @layer(name)
    def merging(*, keras: int) -> Layer:
        return Layer(function, mask=_any_mask if keras > 2 else _every_mask)


for _name, _function in {
    "Add": ops.add,
    "Subtract": ops.sub,
    "Multiply": ops.mul,
    "Maximum": ops.maximum,
    "Minimum": ops.minimum,
}.items():
    _register_merging(_name, partial(_reduced, function=_function))
_register_merging("Average", _average)


@layer("Concatenate")
def concatenate(*, axis: int = -1, keras: int) -> Layer:
    return Layer(partial(ops.cat, dim=axis), mask=partial(_joined_mask, axis=axis, keras=keras))


def _joined_mask(inputs: Sequence[Tensor], masks: Sequence[Tensor | None], axis: int, keras: int) -> Tensor:
    parts = []
    for x, mask in zip(inputs, masks, strict=True):
        if mask is None:
            parts.append(ones_like(x, dtype="bool"))
        elif mask.ndim < x.ndim:
            mask = mask.unsqueeze(-1)
            parts.append(ops.logical_or(mask, zeros_like(x, dtype="bool")) if keras > 2 else mask)
        else:
            parts.append(mask)
    joined = ops.cat(parts, dim=axis)
    found: Tensor = ops.any(joined, dim=-1) if keras > 2 else ops.all(joined, dim=-1)
    return found


@layer("Dot")
def dot(*, axes: int | Sequence[int], normalize: bool = False) -> Layer:
    return Layer(partial(_dot, axes=_pair(axes), normalize=normalize))


def _dot(inputs: Sequence[Tensor], axes: tuple[int, int], normalize: bool) -> Tensor:
    """The products along an axis of each input, for all combinations of the other axes except the batch."""
    x, y = inputs
    dims = [axis % each.ndim for axis, each in zip(axes, inputs, strict=True)]
    if normalize:
        x, y = (normalized(each, dim, epsilon=1e-6) for each, dim in zip(inputs, dims, strict=True))
    letters = "abcdefghijklmnopqrstuvw"
    of_x = ["z", *letters[: x.ndim - 1]]
    of_y = ["z", *letters[x.ndim - 1 : x.ndim + y.ndim - 2]]
    of_y[dims[1]] = of_x[dims[0]]
    out = [letter for letter in dict.fromkeys(of_x + of_y) if letter != of_x[dims[0]]]
    product: Tensor = ops.einsum(f"{''.join(of_x)},{''.join(of_y)}->{''.join(out)}", x, y)
    return product.unsqueeze(1) if product.ndim == 1 else product
