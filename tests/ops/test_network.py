"""Ops of networks: softmax, convolution, normalization, dropout. Losses: test_losses.py; golden: test_golden.py."""

import math
from collections.abc import Callable
from typing import Any

import hypothesis.extra.numpy as hnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from ops.network_arrays import SEEDS, Function, HostArray, drawn, gradient, host

import tinygrad_lstm as tg

# -- extremes ----------------------------------------------------------------------------------------------------------

# Each makes one number of an input row; a name for the report.
EXTREMES: dict[str, Function] = {
    "sigmoid": lambda x: x.sigmoid(),
    "softplus": lambda x: x.softplus(),
    "logsumexp": lambda x: x.logsumexp(-1),
    "softmax": lambda x: x.softmax(-1),
    "log_softmax": lambda x: x.log_softmax(-1),
    "cross_entropy": lambda x: tg.cross_entropy(x, np.arange(len(x)), reduction="none"),
    "cross_entropy_smoothing": lambda x: tg.cross_entropy(x, np.arange(len(x)), label_smoothing=0.1, reduction="none"),
    "cross_entropy_probabilities": lambda x: tg.cross_entropy(x, np.full(x.shape, 1 / 3, x.dtype), reduction="none"),
    "bce_0": lambda x: tg.binary_cross_entropy_with_logits(x, x.detach() * 0, reduction="none"),
    "bce_1": lambda x: tg.binary_cross_entropy_with_logits(x, x.detach() * 0 + 1, reduction="none"),
    "smooth_l1": lambda x: tg.smooth_l1_loss(x, x.detach() * 0, reduction="none"),
    "layer_norm": lambda x: tg.layer_norm(x, 3),
}


@pytest.mark.parametrize("dtype", ["float16", "float32", "float64"])
@pytest.mark.parametrize("name", EXTREMES)
def test_finite_at_the_extremes(name: str, dtype: str, device: str) -> None:
    rows = [[1e4, -1e4, 0.0], [-1e4, -1e4, -1e4], [1e4, 1e4, 1e4], [0.0, 30.0, -30.0]]
    function = EXTREMES[name]
    for shift in range(3):  # each class is the target of each row once
        values = np.roll(rows, shift, axis=1)[:3]
        x = tg.tensor(values, dtype, device, requires_grad=True)
        exact = tg.tensor(values, "float64", requires_grad=True)
        out, expected = function(x), function(exact)
        grad, expected_grad = gradient(out, x), gradient(expected, exact)
        assert out.dtype == np.dtype(dtype)
        assert np.isfinite(host(out)).all() and np.isfinite(grad).all()
        tolerance = 8 * float(np.finfo(dtype).eps)
        np.testing.assert_allclose(host(out).astype(np.float64), host(expected), tolerance, tolerance)
        np.testing.assert_allclose(grad.astype(np.float64), expected_grad, tolerance, tolerance)


def test_known_values_at_the_extremes(device: str) -> None:
    x = tg.tensor([[1e4, -1e4]] * 2, device=device, requires_grad=True)
    assert host(x.log_softmax(1)).tolist() == [[0.0, -2e4]] * 2
    losses = tg.cross_entropy(x, tg.tensor([0, 1], device=device), reduction="none")
    assert host(losses).tolist() == [0.0, 2e4]
    assert gradient(losses, x).tolist() == [[0.0, 0.0], [1.0, -1.0]]


def test_binary_cross_entropy_does_not_cancel(device: str) -> None:
    x = tg.tensor([-20.0, -40.0], device=device)
    loss = tg.binary_cross_entropy_with_logits(x, tg.zeros(2, device=device), reduction="none")
    np.testing.assert_allclose(host(loss), [math.exp(-20), math.exp(-40)], rtol=1e-6)


def test_logsumexp_of_impossible_rows(device: str) -> None:
    x = tg.tensor([[-math.inf, -math.inf], [-math.inf, 1.0]], device=device, requires_grad=True)
    out = x.logsumexp(1)
    assert host(out).tolist() == [-math.inf, 1.0]
    assert gradient(out, x).tolist() == [[0.0, 0.0], [0.0, 1.0]]


# -- softmax -----------------------------------------------------------------------------------------------------------

ROWS = hnp.arrays(np.float64, hnp.array_shapes(min_dims=1, max_dims=3, max_side=4), elements=st.floats(-50, 50))


@given(x=ROWS, shift=st.floats(-100, 100), data=st.data())
def test_softmax_laws(x: HostArray, shift: float, data: st.DataObject, device: str) -> None:
    dim = data.draw(st.integers(-x.ndim, x.ndim - 1))
    t = tg.tensor(x, device=device)
    out = host(tg.softmax(t, dim))
    assert (out >= 0).all()
    np.testing.assert_allclose(out.sum(dim), 1.0, rtol=1e-12)
    np.testing.assert_allclose(host(tg.softmax(t + shift, dim)), out, rtol=1e-9, atol=1e-15)
    np.testing.assert_allclose(np.exp(host(tg.log_softmax(t, dim))), out, rtol=1e-9, atol=1e-15)
    np.testing.assert_allclose(
        host(tg.log_softmax(t, dim)), x - host(tg.logsumexp(t, dim, keepdim=True)), rtol=1e-9, atol=1e-12
    )


@pytest.mark.parametrize("function", [tg.softmax, tg.log_softmax])
def test_softmax_of_nothing_and_of_impossible_classes(function: Function, device: str) -> None:
    assert function(tg.zeros(2, 0, device=device), 1).shape == (2, 0)
    assert function(tg.zeros(0, 2, device=device), 1).shape == (0, 2)
    x = tg.tensor([0.0, -math.inf, 0.0], device=device, requires_grad=True)
    out = function(x, 0)
    half = 0.5 if function is tg.softmax else math.log(0.5)
    np.testing.assert_allclose(host(out)[[0, 2]], half, rtol=1e-6)
    assert np.isfinite(gradient(out[0], x)).all()


# -- convolution -------------------------------------------------------------------------------------------------------


def naive_conv1d(
    x: HostArray, weight: HostArray, bias: HostArray, stride: int, ends: tuple[int, int], dilation: int, groups: int
) -> HostArray:
    """The definition, one output at a time."""
    x = np.pad(x, ((0, 0), (0, 0), ends))
    filters, depth, size = weight.shape
    steps = (x.shape[2] - dilation * (size - 1) - 1) // stride + 1
    out = np.empty((len(x), filters, steps))
    for n in range(len(x)):
        for o in range(filters):
            first = o // (filters // groups) * depth
            for t in range(steps):
                window = x[n, first : first + depth, t * stride : t * stride + dilation * (size - 1) + 1 : dilation]
                out[n, o, t] = (window * weight[o]).sum() + bias[o]
    return out


@given(
    seed=SEEDS,
    batch=st.integers(0, 3),
    depth=st.integers(1, 3),
    per_group=st.integers(1, 2),
    groups=st.integers(1, 3),
    size=st.integers(1, 4),
    stride=st.integers(1, 3),
    padding=st.sampled_from([0, 1, 2, 3, "same", "valid"]),
    dilation=st.integers(1, 3),
    more=st.integers(0, 5),
)
def test_conv1d_is_its_definition(
    seed: int,
    batch: int,
    depth: int,
    per_group: int,
    groups: int,
    size: int,
    stride: int,
    padding: int | str,
    dilation: int,
    more: int,
    device: str,
) -> None:
    reach = dilation * (size - 1)
    stride = 1 if padding == "same" else stride
    ends = {"valid": (0, 0), "same": (reach // 2, reach - reach // 2)}.get(str(padding), (padding, padding))
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(batch, depth * groups, reach + 1 + more))
    weight, bias = rng.normal(size=(per_group * groups, depth, size)), rng.normal(size=per_group * groups)
    tensors = [tg.tensor(array, device=device) for array in (x, weight, bias)]
    out = host(tg.conv1d(*tensors, stride, padding, dilation, groups))
    expected = naive_conv1d(x, weight, bias, stride, ends, dilation, groups)  # type: ignore[arg-type]
    assert out.shape == expected.shape
    np.testing.assert_allclose(out, expected, rtol=1e-10, atol=1e-10)
    if padding == "same":
        assert out.shape[2] == x.shape[2]
    if batch:
        alone = tg.conv1d(tensors[0][0], *tensors[1:], stride, padding, dilation, groups)
        np.testing.assert_allclose(host(alone), expected[0], rtol=1e-10, atol=1e-10)


def test_a_large_batch_is_computed_in_parts(device: str) -> None:
    """Values and gradients are those of each input by itself."""
    rng = np.random.default_rng(3)
    x, weight = rng.normal(size=(3, 2, 70_000)), rng.normal(size=(2, 2, 2))
    tensors = [tg.tensor(array, device=device, requires_grad=True) for array in (x, weight)]
    out = tg.conv1d(*tensors)
    of_x, of_weight = tg.grad(out.square().sum() / 2, tensors)
    pairs = np.stack([x[..., :-1], x[..., 1:]], -1)
    expected = np.einsum("nctk,ock->not", pairs, weight)
    np.testing.assert_allclose(host(out), expected, rtol=1e-12, atol=1e-12)
    np.testing.assert_allclose(host(of_weight), np.einsum("not,nctk->ock", expected, pairs), rtol=1e-10)
    spread = np.einsum("not,ock->nctk", expected, weight)
    np.testing.assert_allclose(host(of_x)[..., 1:-1], spread[..., 1:, 0] + spread[..., :-1, 1], rtol=1e-10, atol=1e-10)


def test_convolutions_of_integers_are_exact(device: str) -> None:
    x, weight = (tg.tensor([[array]], device=device) for array in ([2**53 + 1, 2], [1, -1]))
    assert tg.conv1d(x, weight).tolist() == [[[2**53 - 1]]]
    assert tg.conv_transpose1d(x, weight).tolist() == [[[2**53 + 1, 1 - 2**53, -2]]]


# -- layer normalization -----------------------------------------------------------------------------------------------


@given(seed=SEEDS, dims=st.integers(1, 3), scale=st.floats(0.5, 20), shift=st.floats(-100, 100))
def test_layer_norm_laws(seed: int, dims: int, scale: float, shift: float, device: str) -> None:
    x = np.random.default_rng(seed).normal(size=(2, 3, 4))
    over = tuple(range(3 - dims, 3))
    t = tg.tensor(x, device=device)
    out = host(tg.layer_norm(t, x.shape[3 - dims :], eps=0.0))
    np.testing.assert_allclose(out.mean(over), 0.0, atol=1e-12)
    np.testing.assert_allclose(out.std(over), 1.0, rtol=1e-12)
    np.testing.assert_allclose(
        host(tg.layer_norm(t * scale + shift, x.shape[3 - dims :], eps=0.0)), out, rtol=1e-8, atol=1e-8
    )


@pytest.mark.parametrize("dtype", ["float16", "float32", "float64"])
@pytest.mark.parametrize("C", [3, 700])
@pytest.mark.parametrize("create_graph", [False, True])
def test_layer_norm_of_rows_whose_squares_overflow(dtype: str, C: int, create_graph: bool, device: str) -> None:
    """They are normalized as small rows are, beside which they may stand."""
    rng = np.random.default_rng(0)
    rows, g = rng.uniform(-1, 1, (2, 3, C)).astype(dtype)
    factors = np.array([[1], [2.0 ** (np.finfo(dtype).maxexp - 12)], [1]], dtype)
    small, large = (tg.tensor(x, device=device, requires_grad=True) for x in (rows, rows * factors))
    found = []
    for x in (small, large):
        out = tg.layer_norm(x, C, eps=0.0)
        found.append((host(out), host(tg.grad(out, x, tg.tensor(g, device=device), create_graph=create_graph)[0])))
    (out, gradient), (out_large, gradient_large) = found
    tolerance = 64 * float(np.finfo(dtype).eps)
    np.testing.assert_allclose(out_large, out, tolerance, tolerance)
    np.testing.assert_allclose(gradient_large * factors, gradient, tolerance, tolerance * 8)


def test_layer_norm_of_a_small_spread_around_a_large_mean(device: str) -> None:
    x = tg.tensor(np.array([[4096.0, 4097.0, 4098.0]], np.float32), device=device)
    np.testing.assert_allclose(host(tg.layer_norm(x, 3)), [[-math.sqrt(1.5), 0.0, math.sqrt(1.5)]], rtol=1e-4)


# -- derivatives -------------------------------------------------------------------------------------------------------

IDS = np.array([2, 0, -100, 1])
# The functions with the arrays that they are differentiated by.
DERIVATIVES: dict[str, tuple[Function, list[HostArray]]] = {
    "softmax": (lambda x: tg.softmax(x, 0), [drawn(3, 4)]),
    "log_softmax": (lambda x: tg.log_softmax(x, 1), [drawn(3, 4)]),
    "cross_entropy": (
        lambda x, w: tg.cross_entropy(x, IDS, w, label_smoothing=0.1),
        [drawn(4, 3), np.abs(drawn(3)) + 0.5],
    ),
    "cross_entropy_3d": (
        lambda x: tg.cross_entropy(x, np.stack([IDS, IDS[::-1]], 1), reduction="none"),
        [drawn(4, 3, 2)],
    ),
    "cross_entropy_fused": (lambda x: tg.cross_entropy(x, IDS), [drawn(4, 3)]),
    "cross_entropy_probabilities": (tg.cross_entropy, [drawn(4, 3), np.full((4, 3), 1 / 3)]),
    "nll_loss": (lambda x: tg.nll_loss(x * x, IDS), [drawn(4, 3)]),
    "mse_loss": (tg.mse_loss, [drawn(3, 2), drawn(3, 2, seed=1)]),
    "l1_loss": (tg.l1_loss, [drawn(3, 2), drawn(3, 2, seed=1) + 5]),
    "smooth_l1_loss": (lambda x, y: tg.smooth_l1_loss(x, y, beta=0.7), [drawn(3, 2), drawn(3, 2, seed=1)]),
    "smooth_l1_loss_equal": (lambda x, y: tg.smooth_l1_loss(x, y), [drawn(3), drawn(3)]),
    "binary_cross_entropy_with_logits": (
        lambda x, y, w, p: tg.binary_cross_entropy_with_logits(x, y, w, pos_weight=p),
        [drawn(3, 2) * 2, drawn(3, 2, seed=1), drawn(2), drawn(3, 1)],
    ),
    "conv1d": (tg.conv1d, [drawn(2, 3, 6), drawn(2, 3, 2), drawn(2)]),
    "conv1d_all": (
        lambda x, w: tg.conv1d(x, w, None, stride=2, padding=2, dilation=2, groups=2),
        [drawn(2, 4, 5), drawn(4, 2, 3)],
    ),
    "conv2d": (tg.conv2d, [drawn(2, 3, 4, 5), drawn(2, 3, 2, 3), drawn(2)]),
    "conv2d_all": (
        lambda x, w: tg.conv2d(x, w, None, stride=(2, 1), padding=(1, 2), dilation=(1, 2), groups=2),
        [drawn(2, 4, 4, 5), drawn(4, 2, 3, 2)],
    ),
    "conv_transpose1d": (tg.conv_transpose1d, [drawn(2, 3, 4), drawn(3, 2, 3), drawn(2)]),
    "conv_transpose1d_all": (
        lambda x, w: tg.conv_transpose1d(x, w, None, 2, 1, output_padding=2, groups=2, dilation=3),
        [drawn(4, 4), drawn(4, 1, 2)],
    ),
    "conv1d_unbatched_same": (lambda x, w: tg.conv1d(x, w, padding="same"), [drawn(2, 4), drawn(1, 2, 2)]),
    "layer_norm": (lambda x, w, b: tg.layer_norm(x, 4, w, b), [drawn(2, 4), drawn(4), drawn(4, seed=1)]),
    # Cubed, so that the second derivative is one of what the first one put in place.
    "embedding": (lambda w: tg.embedding([[1, 0, 1], [3, 1, 0]], w) ** 3, [drawn(4, 2)]),
    "logsumexp": (lambda x: tg.logsumexp(x, (0, 2)), [drawn(2, 3, 2)]),
    "layer_norm_2d": (lambda x: tg.layer_norm(x, (3, 2), eps=0.1), [drawn(2, 3, 2)]),
}


@pytest.mark.parametrize("name", DERIVATIVES)
def test_first_and_second_derivatives(name: str, device: str) -> None:
    function, arrays = DERIVATIVES[name]
    inputs = [tg.tensor(array, device=device, requires_grad=True) for array in arrays]
    assert tg.gradcheck(function, inputs, atol=1e-7, rtol=1e-6)
    assert tg.gradgradcheck(function, inputs, atol=1e-7, rtol=1e-6)


BUFFERED: dict[str, Function] = {
    "matmul": tg.matmul,
    "outer": tg.outer,
    "linear": tg.linear,
    "einsum": lambda x, y: tg.einsum("ij,ij", x, y),
    "cross_entropy": tg.cross_entropy,
    "mse_loss": tg.mse_loss,
    "binary_cross_entropy_with_logits": tg.binary_cross_entropy_with_logits,
    "layer_norm": lambda x, y: tg.layer_norm(x, (3, 3), y),
    "conv1d": lambda x, y: tg.conv1d(x, y.reshape(3, 3, 1)),
}


@pytest.mark.parametrize("name", BUFFERED)
def test_an_array_that_is_filled_anew_before_backward_changes_no_gradient(name: str) -> None:
    values = drawn(3, 3)
    x, buffer = tg.tensor(values, requires_grad=True), np.eye(3)
    expected = gradient(BUFFERED[name](x, np.eye(3)), x)
    out = BUFFERED[name](x, buffer)
    buffer[:] = 5
    np.testing.assert_array_equal(gradient(out, x), expected)


# -- dropout -----------------------------------------------------------------------------------------------------------


@given(seed=SEEDS, p=st.sampled_from([0.1, 0.5, 0.9]))
def test_dropout_keeps_its_share_and_passes_gradients_there(seed: int, p: float, device: str) -> None:
    tg.manual_seed(seed)
    x = tg.ones(50, 80, device=device, requires_grad=True)
    out = tg.dropout(x, p)
    values = host(out)
    kept = values != 0
    np.testing.assert_allclose(values[kept], 1 / (1 - p), rtol=1e-6)
    # Six standard deviations of a binomial distribution.
    assert abs(kept.mean() - (1 - p)) < 6 * math.sqrt(p * (1 - p) / kept.size)
    np.testing.assert_array_equal(gradient(out, x), values)


def test_settings_may_be_numbers_of_numpys(device: str) -> None:
    x = tg.ones(4, 3, device=device)
    tg.manual_seed(0)
    expected = tg.dropout(x, 0.5)
    tg.manual_seed(0)
    assert tg.dropout(x, np.float32(0.5)).tolist() == expected.tolist()
    ids = tg.tensor([0, 1, 1, 2], device=device)
    ignoring = tg.cross_entropy(x, ids, ignore_index=np.int32(1))
    assert ignoring.item() == tg.cross_entropy(x, ids, ignore_index=1).item()
    assert tg.layer_norm(x * x, 3, eps=np.float32(0.5)).tolist() == [[0.0] * 3] * 4


def test_dropout_repeats_with_the_seed_on_every_device(device: str) -> None:
    masks = []
    for where in (device, device, "cpu"):
        tg.manual_seed(3)
        masks.append(host(tg.dropout(tg.ones(100, device=where), 0.4)))
    following = host(tg.dropout(tg.ones(100, device=device), 0.4))
    np.testing.assert_array_equal(masks[0], masks[1])
    np.testing.assert_array_equal(masks[0], masks[2])
    assert (masks[0] != following).any()


def test_dropout_repeats_in_a_checkpoint(device: str) -> None:
    x = tg.ones(100, device=device, requires_grad=True)
    out = tg.checkpoint(lambda x: tg.dropout(x * x, 0.5) * x, x)
    np.testing.assert_array_equal(gradient(out, x), 3 * host(out))


def test_dropout_of_nothing_and_of_everything(device: str) -> None:
    x = tg.ones(4, dtype="float16", device=device, requires_grad=True)
    assert tg.dropout(x, 0.7, training=False) is x
    assert tg.dropout(x, 0.0) is x
    out = tg.dropout(x, 1.0)
    assert host(out).tolist() == [0.0] * 4 and out.dtype == np.float16
    assert gradient(out, x).tolist() == [0.0] * 4
    assert tg.dropout(tg.tensor(math.inf, device=device), 1.0).item() == 0.0
    assert tg.dropout(tg.zeros(0, 3, device=device)).shape == (0, 3)


# -- bad input ---------------------------------------------------------------------------------------------------------

X, Y = tg.zeros(2, 3), tg.zeros(2, 3, 4)
SIGNAL, FILTERS = tg.zeros(2, 4, 5), tg.zeros(6, 4, 3)

# What is called, the error, and what its message must say.
BAD: list[tuple[Callable[[], Any], type[Exception], str]] = [
    (lambda: tg.softmax(X, 2), np.exceptions.AxisError, r"softmax: dim 2 is not there in shape \(2, 3\)"),
    (lambda: tg.log_softmax(X, -3), IndexError, r"log_softmax: dim -3 .*\(2, 3\)"),
    (lambda: tg.cross_entropy(X, [0]), ValueError, r"target of shape \(1,\) .* \(2, 3\); expected .*\(2,\)"),
    (lambda: tg.cross_entropy(Y, [0, 1]), ValueError, r"target of shape \(2,\) .* \(2, 3, 4\); expected .*\(2, 4\)"),
    (lambda: tg.cross_entropy(tg.tensor(1.0), 0), ValueError, r"input of shape \(\) has no classes"),
    (lambda: tg.cross_entropy(X, [0.0, 1.0]), TypeError, "class ids must be integers, got float32"),
    (lambda: tg.cross_entropy(X, [True, False]), TypeError, "class ids must be integers, got bool"),
    (lambda: tg.cross_entropy(X, [[0] * 3] * 2), TypeError, r"probabilities, which must be floats, got int64"),
    (lambda: tg.cross_entropy(X, [0, 1], [1.0]), ValueError, r"weight of shape \(1,\) .*expected \(3,\)"),
    (lambda: tg.cross_entropy(X, X, [1.0]), ValueError, r"weight of shape \(1,\) .*expected \(3,\)"),
    (lambda: tg.cross_entropy(X, [0, 1], reduction="avg"), ValueError, "cross_entropy: reduction is 'avg'"),
    (lambda: tg.cross_entropy(X, X, reduction="avg"), ValueError, "cross_entropy: reduction is 'avg'"),
    (lambda: tg.cross_entropy(X, [0, 1], label_smoothing=1.5), ValueError, "label_smoothing is 1.5"),
    (lambda: tg.cross_entropy(X, tg.tensor([0, 1], device="strict")), RuntimeError, "on 'cpu' but target on 'strict'"),
    (lambda: tg.nll_loss(X, X), ValueError, r"nll_loss: target of shape \(2, 3\) .*expected class ids of shape \(2,\)"),
    (lambda: tg.nll_loss(X, [0, 9]), IndexError, "nll_loss: index 9 is out of range for dim 1 of length 3"),
    (lambda: tg.mse_loss(X, tg.zeros(2, 1)), ValueError, r"mse_loss: target of shape \(2, 1\) .*\(2, 3\)"),
    (lambda: tg.l1_loss(X, Y), ValueError, r"l1_loss: target of shape \(2, 3, 4\)"),
    (lambda: tg.smooth_l1_loss(X, X, beta=-1.0), ValueError, "beta is -1.0"),
    (lambda: tg.smooth_l1_loss(X, X, beta=math.nan), ValueError, "beta is nan"),
    (lambda: tg.layer_norm(X, 3, eps=-1.0), ValueError, "eps is -1.0"),
    (lambda: tg.layer_norm(X, 3, eps=math.nan), ValueError, "eps is nan"),
    (lambda: tg.smooth_l1_loss(X, [0.0]), ValueError, r"smooth_l1_loss: target of shape \(1,\)"),
    (lambda: tg.binary_cross_entropy_with_logits(X, [1.0]), ValueError, r"logits: target of shape \(1,\)"),
    (lambda: tg.binary_cross_entropy_with_logits(X, X, Y), ValueError, r"weight of shape \(2, 3, 4\) does not"),
    (
        lambda: tg.binary_cross_entropy_with_logits(X, X, pos_weight=[1.0] * 2),
        ValueError,
        r"pos_weight of shape \(2,\)",
    ),
    (lambda: tg.conv1d(tg.zeros(4), FILTERS), ValueError, r"x of shape \(4,\) .*expected \(N, C, L\) or \(C, L\)"),
    (lambda: tg.conv1d(SIGNAL, tg.zeros(6, 4)), ValueError, r"weight of shape \(6, 4\); expected"),
    (lambda: tg.conv1d(SIGNAL, tg.zeros(6, 4, 0)), ValueError, "nothing of length 0"),
    (lambda: tg.conv1d(SIGNAL, FILTERS, groups=2), ValueError, r"\(2, 4, 5\) .*\(6, 4, 3\) do not fit in 2 groups"),
    (lambda: tg.conv1d(SIGNAL, tg.zeros(3, 2, 3), groups=2), ValueError, "do not fit in 2 groups"),
    (lambda: tg.conv1d(SIGNAL, FILTERS, [0.0]), ValueError, r"bias of shape \(1,\) must have shape \(6,\)"),
    (lambda: tg.conv1d(SIGNAL, FILTERS, dilation=3), ValueError, r"window of 3 elements 3 apart .*\(2, 4, 5\)"),
    (lambda: tg.conv1d(SIGNAL, FILTERS, stride=0), ValueError, "stride is 0"),
    (lambda: tg.conv1d(SIGNAL, FILTERS, groups=0), ValueError, "groups is 0"),
    (lambda: tg.conv1d(SIGNAL, FILTERS, dilation=1.5), ValueError, "dilation is 1.5"),  # type: ignore[arg-type]
    (lambda: tg.conv1d(SIGNAL, FILTERS, padding=-1), ValueError, "padding is -1"),
    (lambda: tg.conv1d(SIGNAL, FILTERS, padding="full"), ValueError, "padding is 'full'"),
    (lambda: tg.conv2d(SIGNAL, FILTERS), ValueError, r"expected \(N, C, H, W\) or \(C, H, W\)"),
    (lambda: tg.conv2d(tg.ones(1, 1, 1), tg.ones(1, 1, 1, 1), stride=(1, 1, 1)), ValueError, "each of 2 dimensions"),
    (lambda: tg.conv_transpose1d(SIGNAL, tg.ones(4, 1, 1), output_padding=1), ValueError, "less than stride 1"),
    (lambda: tg.conv_transpose1d(SIGNAL, tg.ones(4, 1, 1), padding=3), ValueError, "at least one element to remain"),
    (lambda: tg.conv1d(SIGNAL, FILTERS, stride=2, padding="same"), ValueError, "'same' needs stride 1, got stride 2"),
    (lambda: tg.layer_norm(X, 2), ValueError, r"x of shape \(2, 3\) must end in normalized_shape \(2,\)"),
    (lambda: tg.layer_norm(X, (1, 2, 3)), ValueError, r"normalized_shape \(1, 2, 3\)"),
    (lambda: tg.layer_norm(X, ()), ValueError, r"normalized_shape \(\)"),
    (lambda: tg.layer_norm(tg.zeros(2, 0), 0), ValueError, "which holds elements"),
    (lambda: tg.layer_norm(X, 3, [1.0]), ValueError, r"weight of shape \(1,\)"),
    (lambda: tg.layer_norm(X, 3, None, X), ValueError, r"bias of shape \(2, 3\)"),
    (lambda: tg.dropout(X, -0.1), ValueError, "p is -0.1"),
    (lambda: tg.dropout(X, 1.1), ValueError, "p is 1.1"),
    (lambda: tg.dropout(X, math.nan), ValueError, "p is nan"),
]


@pytest.mark.parametrize(("call", "error", "message"), BAD, ids=[message for _, _, message in BAD])
def test_bad_input_is_named(call: Callable[[], Any], error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        call()
