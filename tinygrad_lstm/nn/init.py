"""Initial values of parameters: each function fills a tensor in place and returns it.

Random numbers are drawn on the host, from the generator that `tg.manual_seed` seeds: they are the same on every device.
Functions that draw raise a TypeError if the tensor is not a float tensor.
For a weight of shape (out, in, *kernel), `fan_in` is in times the kernel's size, and `fan_out` is out times it.

PyTorch's `dirac_` and `sparse_` are left out: sequence models are not started with them.
"""

import math
from typing import Literal, TypeVar

import numpy as np

from tinygrad_lstm.backends.base import HostArray
from tinygrad_lstm.backends.dtypes import is_float

from .._tensor import Tensor
from ..kinds import KINDS
from ..mode import no_grad
from ..random import drawing

__all__ = [
    "calculate_gain",
    "chrono_",
    "constant_",
    "eye_",
    "identity_recurrent_",
    "kaiming_normal_",
    "kaiming_uniform_",
    "normal_",
    "ones_",
    "orthogonal_",
    "trunc_normal_",
    "uniform_",
    "xavier_normal_",
    "xavier_uniform_",
    "zeros_",
]

T = TypeVar("T", bound=Tensor)
Fan = Literal["fan_in", "fan_out"]


def _write(tensor: T, values: HostArray | float) -> T:
    with no_grad():
        tensor.copy_(values.astype(tensor.dtype) if isinstance(values, np.ndarray) else values)
    return tensor


def _check_float(name: str, tensor: Tensor) -> None:
    if not is_float(tensor.dtype):
        raise TypeError(f"{name}: expected a float tensor, got one of {tensor.dtype}")


def uniform_(tensor: T, low: float = 0.0, high: float = 1.0) -> T:
    """Random numbers, uniform in [low, high)."""
    _check_float("uniform_", tensor)
    with drawing() as rng:
        drawn = rng.uniform(low, high, tensor.shape)
    return _write(tensor, drawn)


def normal_(tensor: T, mean: float = 0.0, std: float = 1.0) -> T:
    """Random numbers of a normal distribution."""
    _check_float("normal_", tensor)
    with drawing() as rng:
        drawn = rng.normal(mean, std, tensor.shape)
    return _write(tensor, drawn)


def trunc_normal_(tensor: T, mean: float = 0.0, std: float = 1.0, a: float = -2.0, b: float = 2.0) -> T:
    """Random numbers of a normal distribution, restricted to [a, b].

    They are drawn uniformly, and accepted in proportion to the density: von Neumann, "Various techniques used in
    connection with random digits" (1951). So they are exact however far [a, b] is from the mean.

    Raises:
        ValueError: `std` is not above 0, or `a` not below `b`.
    """
    _check_float("trunc_normal_", tensor)
    if not (0 < std < math.inf and math.isfinite(mean)):
        raise ValueError(f"trunc_normal_: std must be above 0, and the mean finite, got {std} and {mean}")
    if not a < b:
        raise ValueError(f"trunc_normal_: a must be below b, got {a} and {b}")
    nearest = min(max(mean, a), b)  # where the density is highest
    distance = abs(nearest - mean) / std
    reach = std * math.hypot(distance, 9)  # beyond it, the density is below 10⁻¹⁷ of the highest
    low, high = max(a, mean - reach), min(b, mean + reach)
    values = np.empty(tensor.size)
    missing = np.ones(tensor.size, bool)
    with drawing() as rng:
        while count := int(missing.sum()):
            drawn, chance = rng.uniform(low, high, count), rng.uniform(size=count)
            z = (drawn - mean) / std
            accepted = chance < np.exp((distance - z) * (distance + z) / 2)
            values[np.flatnonzero(missing)[accepted]] = drawn[accepted]
            missing[np.flatnonzero(missing)[accepted]] = False
    return _write(tensor, values.reshape(tensor.shape))


def constant_(tensor: T, value: float) -> T:
    """One value for all elements."""
    return _write(tensor, value)


def zeros_(tensor: T) -> T:
    """Zeros."""
    return _write(tensor, 0)


def ones_(tensor: T) -> T:
    """Ones."""
    return _write(tensor, 1)


def eye_(tensor: T) -> T:
    """The identity matrix; of a tensor that is not square, ones on the diagonal.

    Raises:
        ValueError: the tensor does not have two dimensions.
    """
    if tensor.ndim != 2:
        raise ValueError(f"eye_: expected a tensor of two dimensions, got {tensor.shape}")
    rows, columns = tensor.shape
    return _write(tensor, np.eye(rows, columns))


def identity_recurrent_(tensor: T, scale: float = 1.0) -> T:
    """`scale` times the identity matrix, for each gate of a weight of shape (gates · H, H) that multiplies the state.

    For an `RNN` with `nonlinearity="relu"`, whose biases are 0: at first its state does not change, and neither do
    gradients over time. Set the weights of its input to small numbers, such as `normal_(weight_ih, std=0.001)`.

    Le, Jaitly and Hinton, "A simple way to initialize recurrent networks of rectified linear units" (2015).

    Raises:
        ValueError: the tensor does not have this shape.
    """
    if tensor.ndim != 2 or not tensor.shape[1] or tensor.shape[0] % tensor.shape[1]:
        raise ValueError(f"identity_recurrent_: a weight of shape (gates * H, H) is expected, got {tensor.shape}")
    rows, size = tensor.shape
    return _write(tensor, scale * np.tile(np.eye(size), (rows // size, 1)))


def chrono_(tensor: T, max_length: float, kind: str = "LSTM") -> T:
    """Biases of gates such that a cell's units remember for times that are uniform in [2, max_length].

    With u uniform in [1, max_length - 1]: an LSTM's forget gate gets log u, and its input gate -log u; a GRU's gate z,
    which keeps the state, gets log u. The biases of other gates are unchanged.

    Tallec and Ollivier, "Can recurrent neural networks warp time?" (2018).

    Args:
        tensor: the bias of an LSTM (4H,), gates i, f, g, o; or of a GRU (3H,), gates r, z, n.
        max_length: the longest time, in time steps, over which the cell should remember.
        kind: "LSTM" or "GRU".

    Raises:
        ValueError: `kind` is unknown, the tensor does not have this shape, or `max_length` is below 2.

    >>> import tinygrad_lstm as tg
    >>> layer = tg.models.LSTM(3, 4)
    >>> _ = tg.nn.init.chrono_(layer.bias_l0, max_length=100)
    >>> i, f, g, o = layer.bias_l0.chunk(4)
    >>> (i + f).tolist(), bool((f > 0).all())
    ([0.0, 0.0, 0.0, 0.0], True)
    """
    _check_float("chrono_", tensor)
    keeping = {name: found.keeps[0] for name, found in KINDS.items() if found.keeps is not None}
    if kind not in keeping:
        raise ValueError(f"chrono_: kind must be {' or '.join(map(repr, keeping))}, got {kind!r}")
    gates = KINDS[kind].letters
    if tensor.ndim != 1 or tensor.shape[0] % len(gates):
        raise ValueError(f"chrono_: the bias of {kind} must have shape ({len(gates)} * H,), got {tensor.shape}")
    if not 2 <= max_length < math.inf:
        raise ValueError(f"chrono_: max_length must be 2 or more, got {max_length}")
    size = tensor.shape[0] // len(gates)
    with drawing() as rng:
        drawn = np.log(rng.uniform(1.0, max_length - 1, size))
    rows = {gate: slice(place * size, (place + 1) * size) for place, gate in enumerate(gates)}
    with no_grad():
        tensor[rows[keeping[kind]]] = drawn.astype(tensor.dtype)
        if "i" in rows:
            tensor[rows["i"]] = -drawn.astype(tensor.dtype)
    return tensor


def calculate_gain(nonlinearity: str, negative_slope: float = 0.01) -> float:
    """The factor for weights before a nonlinearity that keeps variances equal from layer to layer.

    Raises:
        ValueError: the nonlinearity is not linear, conv1d, sigmoid, tanh, relu or leaky_relu.
    """
    gains = {
        "linear": 1.0,
        "conv1d": 1.0,
        "sigmoid": 1.0,
        "tanh": 5 / 3,
        "relu": math.sqrt(2),
        "leaky_relu": math.sqrt(2 / (1 + negative_slope**2)),
    }
    if nonlinearity not in gains:
        raise ValueError(f"calculate_gain: expected one of {', '.join(gains)}; got {nonlinearity!r}")
    return gains[nonlinearity]


def _fans(name: str, tensor: Tensor) -> dict[Fan, int]:
    if tensor.ndim < 2:
        raise ValueError(f"{name}: a weight of two dimensions at least is expected (out, in, ...), got {tensor.shape}")
    out, into, *kernel = tensor.shape
    return {"fan_in": into * math.prod(kernel), "fan_out": out * math.prod(kernel)}


def _xavier_std(name: str, tensor: Tensor, gain: float) -> float:
    return gain * math.sqrt(2 / max(1, sum(_fans(name, tensor).values())))


def xavier_uniform_(tensor: T, gain: float = 1.0) -> T:
    """Uniform numbers of variance gain² · 2 / (fan_in + fan_out).

    Glorot and Bengio, "Understanding the difficulty of training deep feedforward neural networks" (2010).

    Raises:
        ValueError: the tensor has fewer than two dimensions.
    """
    bound = math.sqrt(3) * _xavier_std("xavier_uniform_", tensor, gain)
    return uniform_(tensor, -bound, bound)


def xavier_normal_(tensor: T, gain: float = 1.0) -> T:
    """Normal numbers of variance gain² · 2 / (fan_in + fan_out); otherwise as `xavier_uniform_`."""
    return normal_(tensor, 0.0, _xavier_std("xavier_normal_", tensor, gain))


def _kaiming_std(name: str, tensor: Tensor, a: float, mode: Fan, nonlinearity: str) -> float:
    fans = _fans(name, tensor)
    if mode not in fans:
        raise ValueError(f"{name}: mode must be 'fan_in' or 'fan_out', got {mode!r}")
    return calculate_gain(nonlinearity, a) / math.sqrt(max(1, fans[mode]))


def kaiming_uniform_(tensor: T, a: float = 0.0, mode: Fan = "fan_in", nonlinearity: str = "leaky_relu") -> T:
    """Uniform numbers of variance gain² / fan, He's initialisation.

    He, Zhang, Ren and Sun, "Delving deep into rectifiers" (2015).

    Args:
        a: the negative slope of leaky_relu; 0 is relu.
        mode: "fan_in" keeps the variance of activations, "fan_out" that of gradients.
        nonlinearity: the function after the layer, a name that `calculate_gain` accepts.

    Raises:
        ValueError: the tensor has fewer than two dimensions, or a name is unknown.
    """
    bound = math.sqrt(3) * _kaiming_std("kaiming_uniform_", tensor, a, mode, nonlinearity)
    return uniform_(tensor, -bound, bound)


def kaiming_normal_(tensor: T, a: float = 0.0, mode: Fan = "fan_in", nonlinearity: str = "leaky_relu") -> T:
    """Normal numbers of variance gain² / fan; otherwise as `kaiming_uniform_`."""
    return normal_(tensor, 0.0, _kaiming_std("kaiming_normal_", tensor, a, mode, nonlinearity))


def orthogonal_(tensor: T, gain: float = 1.0) -> T:
    """`gain` times a random orthogonal matrix: its rows are orthonormal, or its columns if they are fewer.

    Dimensions after the first are flattened into columns. The distribution over orthogonal matrices is uniform.

    Saxe, McClelland and Ganguli, "Exact solutions to the nonlinear dynamics of learning in deep linear neural
    networks" (2014); Mezzadri, "How to generate random matrices from the classical compact groups" (2007).

    Raises:
        ValueError: the tensor has fewer than two dimensions.
    """
    _check_float("orthogonal_", tensor)
    _fans("orthogonal_", tensor)
    rows, columns = tensor.shape[0], math.prod(tensor.shape[1:])
    with drawing() as rng:
        drawn = rng.standard_normal((max(rows, columns), min(rows, columns)))
    q, r = np.linalg.qr(drawn)
    # q is uniformly distributed if the diagonal of r is made positive.
    q = q * np.where(np.diagonal(r) < 0, -1.0, 1.0)
    return _write(tensor, gain * (q if rows >= columns else q.T).reshape(tensor.shape))
