"""Normalization layers, with the parameters of the ops of the same names and the statistics of batches."""

from collections.abc import Sequence

from .. import ops
from .._tensor import Tensor, tensor
from ..arguments import integer, integers
from ..creation import ones, zeros
from ..mode import no_grad
from .inputs import check_input
from .module import Module
from .parameter import Parameter

__all__ = ["BatchNorm1d", "BatchNorm2d", "BatchNorm3d", "GroupNorm", "LayerNorm", "RMSNorm"]


def _lengths(layer: str, normalized_shape: int | Sequence[int]) -> tuple[int, ...]:
    given = normalized_shape if isinstance(normalized_shape, Sequence) else (normalized_shape,)
    shape = integers(layer, "normalized_shape", given, "an integer or several")
    if not shape or min(shape) < 1:
        raise ValueError(f"{layer}: normalized_shape must be lengths of 1 or more, got {normalized_shape}")
    return shape


class LayerNorm(Module):
    """Normalizes each row to mean 0 and variance 1, then multiplies by a weight and adds a bias; the shape is kept.

    Ba, Kiros and Hinton, "Layer normalization" (2016).
    Parameters: `weight`, ones, and `bias`, zeros, both of `normalized_shape`.

    Args:
        normalized_shape: the lengths of the last dimensions, which form a row.
        eps: added to the variance.
        elementwise_affine: whether there are a weight and a bias.
        bias: whether there is a bias in addition to the weight.

    Raises:
        TypeError: a length is not an integer.
        ValueError: a length is below 1.
    """

    def __init__(
        self,
        normalized_shape: int | tuple[int, ...],
        eps: float = 1e-5,
        elementwise_affine: bool = True,
        bias: bool = True,
    ) -> None:
        shape = _lengths("LayerNorm", normalized_shape)
        self.normalized_shape = shape
        self.eps = eps
        self.weight = Parameter(ones(shape)) if elementwise_affine else None
        self.bias = Parameter(zeros(shape)) if elementwise_affine and bias else None

    def forward(self, x: Tensor) -> Tensor:
        check_input("LayerNorm", "x", x, self.weight)
        return ops.layer_norm(x, self.normalized_shape, self.weight, self.bias, self.eps)

    def extra_repr(self) -> str:
        return f"{self.normalized_shape}, eps={self.eps}"


class RMSNorm(Module):
    """Divides each row by the root of its mean square, then multiplies by a weight; the shape is kept.

    Zhang and Sennrich, "Root mean square layer normalization" (2019).
    Parameters: `weight`, ones, of `normalized_shape`.

    Args:
        normalized_shape: the lengths of the last dimensions, which form a row.
        eps: added to the mean square; by default the distance from 1 to the next larger number of the input's dtype.
        elementwise_affine: whether there is a weight.

    Raises:
        TypeError: a length is not an integer.
        ValueError: a length is below 1.
    """

    def __init__(
        self, normalized_shape: int | Sequence[int], eps: float | None = None, elementwise_affine: bool = True
    ) -> None:
        self.normalized_shape = _lengths("RMSNorm", normalized_shape)
        self.eps = eps
        self.weight = Parameter(ones(self.normalized_shape)) if elementwise_affine else None

    def forward(self, x: Tensor) -> Tensor:
        check_input("RMSNorm", "x", x, self.weight)
        return ops.rms_norm(x, self.normalized_shape, self.weight, self.eps)

    def extra_repr(self) -> str:
        return f"{self.normalized_shape}, eps={self.eps}"


class GroupNorm(Module):
    """Normalizes each group of channels to mean 0 and variance 1, then applies a weight and a bias for each channel.

    The input has the shape (N, num_channels, ...), which is kept.
    Wu and He, "Group normalization" (2018).
    Parameters: `weight`, ones, and `bias`, zeros, both (num_channels,).

    Args:
        num_groups: the number of groups, each of num_channels / num_groups adjacent channels.
        eps: added to the variance.
        affine: whether there are a weight and a bias.

    Raises:
        TypeError: a number is not an integer.
        ValueError: a number is below 1, or `num_groups` does not divide `num_channels`.
    """

    def __init__(self, num_groups: int, num_channels: int, eps: float = 1e-5, affine: bool = True) -> None:
        groups, channels = (
            integer("GroupNorm", "num_groups", num_groups),
            integer("GroupNorm", "num_channels", num_channels),
        )
        if groups < 1 or channels < 1 or channels % groups:
            raise ValueError(f"GroupNorm: num_groups {groups} must be 1 or more and divide num_channels {channels}")
        self.num_groups = groups
        self.num_channels = channels
        self.eps = eps
        self.weight = Parameter(ones(channels)) if affine else None
        self.bias = Parameter(zeros(channels)) if affine else None

    def forward(self, x: Tensor) -> Tensor:
        check_input("GroupNorm", "x", x, self.weight)
        if x.ndim < 2 or x.shape[1] != self.num_channels:
            raise ValueError(f"GroupNorm: expected x of shape (N, {self.num_channels}, ...), got {x.shape}")
        return ops.group_norm(x, self.num_groups, self.weight, self.bias, self.eps)

    def extra_repr(self) -> str:
        affine = "" if self.weight is not None else ", affine=False"
        return f"{self.num_groups}, {self.num_channels}, eps={self.eps}{affine}"


class BatchNorm(Module):
    """What `BatchNorm1d`, `BatchNorm2d` and `BatchNorm3d` share."""

    SHAPES: tuple[str, ...]
    """The shapes of inputs, with C channels."""

    running_mean: Tensor | None
    running_var: Tensor | None
    num_batches_tracked: Tensor | None

    def __init__(
        self,
        num_features: int,
        eps: float = 1e-5,
        momentum: float | None = 0.1,
        affine: bool = True,
        track_running_stats: bool = True,
    ) -> None:
        if integer(type(self).__name__, "num_features", num_features) < 1:
            raise ValueError(f"{type(self).__name__}: num_features must be 1 or more, got {num_features}")
        self.num_features = num_features
        self.eps = eps
        self.momentum = momentum
        self.track_running_stats = track_running_stats
        self.weight = Parameter(ones(num_features)) if affine else None
        self.bias = Parameter(zeros(num_features)) if affine else None
        self.running_mean = self.running_var = self.num_batches_tracked = None
        if track_running_stats:
            self.register_buffer("running_mean", zeros(num_features))
            self.register_buffer("running_var", ones(num_features))
            self.register_buffer("num_batches_tracked", tensor(0))

    @no_grad()
    def reset_running_stats(self) -> None:
        """Sets the running mean to 0, the running variance to 1, and the number of batches to 0."""
        for buffer, value in ((self.running_mean, 0), (self.running_var, 1), (self.num_batches_tracked, 0)):
            if buffer is not None:
                buffer.fill_(value)

    def forward(self, x: Tensor) -> Tensor:
        name = type(self).__name__
        check_input(name, "x", x, self.weight)
        if x.ndim not in [shape.count(",") + 1 for shape in self.SHAPES] or x.shape[1] != self.num_features:
            shapes = " or ".join(shape.replace("C", str(self.num_features)) for shape in self.SHAPES)
            raise ValueError(f"{name}: expected x of shape {shapes}, got {x.shape}")
        means, variances, number = self.running_mean, self.running_var, self.num_batches_tracked
        momentum: float | Tensor = 0.0 if self.momentum is None else self.momentum
        if self.training and means is not None and number is not None:
            number.add_(1)
            momentum = 1 / number.to(dtype=means.dtype) if self.momentum is None else momentum
        training = self.training or means is None
        return ops.batch_norm(x, means, variances, self.weight, self.bias, training, momentum, self.eps)

    def extra_repr(self) -> str:
        changed = [f"{name}=False" for name in ("affine", "track_running_stats") if not getattr(self, name)]
        return ", ".join([f"{self.num_features}, eps={self.eps}, momentum={self.momentum}", *changed])

    @property
    def affine(self) -> bool:
        """Whether there are a weight and a bias."""
        return self.weight is not None


class BatchNorm1d(BatchNorm):
    """Normalizes each channel over the batch, then applies a weight and a bias: (N, C) or (N, C, L), which is kept.

    In training, each channel has mean 0 and variance 1 over the batch, and running statistics follow those of the
    batches. In evaluation the running statistics are used instead.
    Ioffe and Szegedy, "Batch normalization" (2015).

    Parameters: `weight`, ones, and `bias`, zeros, both (num_features,).
    Buffers: `running_mean`, zeros, and `running_var`, ones, both (num_features,); and `num_batches_tracked`, how many
    batches they followed.

    Args:
        num_features: the number of channels C.
        eps: added to the variance.
        momentum: the share of a batch in the running statistics; None for the average of all batches.
        affine: whether there are a weight and a bias.
        track_running_stats: whether there are running statistics. Without them, those of the batch are always used.

    Raises:
        TypeError: `num_features` is not an integer.
        ValueError: `num_features` is below 1; in `forward`, x has a different shape, or a channel has fewer than two
            elements in training.

    >>> import tinygrad_lstm as tg
    >>> layer = tg.nn.BatchNorm1d(2)
    >>> layer(tg.tensor([[1.0, 5.0], [3.0, 5.0]])).round(4).tolist()
    [[-1.0, 0.0], [1.0, 0.0]]
    >>> layer.running_mean, layer.num_batches_tracked.item()
    (tensor([0.2, 0.5]), 1)
    """

    SHAPES = ("(N, C)", "(N, C, L)")


class BatchNorm2d(BatchNorm):
    """Normalizes each channel over the batch, then applies a weight and a bias: (N, C, H, W), which is kept.

    Parameters, buffers, arguments and errors are those of `BatchNorm1d`.
    """

    SHAPES = ("(N, C, H, W)",)


class BatchNorm3d(BatchNorm):
    """Normalizes each channel over the batch, then applies a weight and a bias: (N, C, D, H, W), which is kept.

    Parameters, buffers, arguments and errors are those of `BatchNorm1d`.
    """

    SHAPES = ("(N, C, D, H, W)",)
