"""Normalization over batches, groups of channels, and by the root of the mean square."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from golden.load import load, options
from hypothesis import given
from hypothesis import strategies as st
from onnx_exports import assert_same_function

import tinygrad_lstm as tg
from tinygrad_lstm.models import Recurrent

SEEDS = st.integers(0, 2**32 - 1)


def host(tensor: tg.Tensor) -> np.ndarray[Any, Any]:
    return tensor.detach().cpu().numpy()


def drawn(*shape: int, seed: int = 0) -> np.ndarray[Any, Any]:
    return np.random.default_rng(seed).normal(1, 2, shape)


STATISTICS = ("running_mean", "running_var")
UPDATES = [case for case in options("ops_normalization") if "running_mean_after" in load("ops_normalization", case)]


@pytest.mark.parametrize("case", UPDATES)
def test_running_statistics_are_pytorchs(case: str, device: str) -> None:
    arrays, settings = load("ops_normalization", case), options("ops_normalization")[case]
    named = {name: tg.tensor(arrays[name], device=device) for name in ["input", *settings["keyword"]]}
    tg.batch_norm(
        named["input"], *map(named.get, STATISTICS), named.get("weight"), named.get("bias"), **settings["kwargs"]
    )
    for name in STATISTICS:
        np.testing.assert_allclose(host(named[name]), arrays[f"{name}_after"], rtol=1e-12, atol=1e-12)


def in_training(x: Any, *affine: Any) -> tg.Tensor:
    return tg.batch_norm(x, None, None, *affine, training=True, eps=0.1)


def in_evaluation(x: Any, *given: Any) -> tg.Tensor:
    return tg.batch_norm(x, *given, eps=0.1)


DERIVATIVES: dict[str, tuple[Callable[..., tg.Tensor], list[np.ndarray[Any, Any]]]] = {
    "batch_norm": (in_training, [drawn(3, 2), drawn(2), drawn(2, seed=1)]),
    "batch_norm, (N, C, L)": (in_training, [drawn(2, 3, 2), drawn(3), drawn(3, seed=1)]),
    "batch_norm, not affine": (in_training, [drawn(2, 3, 2, 2)]),
    "batch_norm, only a bias": (lambda x, b: in_training(x, None, b), [drawn(2, 3, 2, 2), drawn(3)]),
    "batch_norm in evaluation": (
        in_evaluation,
        [drawn(3, 2, 2), drawn(2), np.array([0.5, 2.0]), drawn(2, seed=1), drawn(2, seed=2)],
    ),
    "group_norm": (lambda x, w, b: tg.group_norm(x, 2, w, b, eps=0.1), [drawn(2, 4, 3), drawn(4), drawn(4, seed=1)]),
    "group_norm of two dimensions": (lambda x, w: tg.group_norm(x, 2, w, eps=0.1), [drawn(2, 6), drawn(6)]),
    "rms_norm": (lambda x, w: tg.rms_norm(x, 4, w), [drawn(2, 4), drawn(4)]),
    "rms_norm, two dimensions": (lambda x, w: tg.rms_norm(x, (3, 2), w, eps=0.1), [drawn(2, 3, 2), drawn(3, 2)]),
}


@pytest.mark.parametrize("name", DERIVATIVES)
def test_first_and_second_derivatives(name: str, device: str) -> None:
    function, arrays = DERIVATIVES[name]
    inputs = [tg.tensor(array, device=device, requires_grad=True) for array in arrays]
    assert tg.gradcheck(function, inputs, atol=1e-6, rtol=1e-5)
    assert tg.gradgradcheck(function, inputs, atol=1e-6, rtol=1e-5)


@pytest.mark.parametrize("name", DERIVATIVES)
def test_forward_mode_agrees_with_reverse_mode(name: str, device: str) -> None:
    function, arrays = DERIVATIVES[name]
    x, *others = (tg.tensor(array, device=device) for array in arrays)
    tangent = tg.tensor(drawn(*x.shape, seed=3), device=device)
    _, along = tg.func.jvp(lambda x: function(x, *others), (x,), (tangent,))
    x.requires_grad_()
    out = function(x, *others)
    g = tg.tensor(drawn(*out.shape, seed=4), device=device)
    (back,) = tg.grad(out, [x], g)
    np.testing.assert_allclose((host(along) * host(g)).sum(), (host(back) * host(tangent)).sum(), rtol=1e-9)


def test_the_derivatives_of_the_statistics_are_exact(device: str) -> None:
    from tinygrad_lstm.ops.normalization import affine_norm

    x = tg.tensor(drawn(3, 2, 4), device=device, requires_grad=True)
    assert tg.gradcheck(lambda x: affine_norm([x, None, None], (0, 2), 0.1), [x], atol=1e-6, rtol=1e-5)


@given(seed=SEEDS, length=st.integers(1, 600), channels=st.integers(1, 20))
def test_batches_and_groups_are_layer_normalization_of_rows(seed: int, length: int, channels: int, device: str) -> None:
    x = tg.tensor(np.random.default_rng(seed).normal(3, 2, (4, channels, length)), "float32", device)
    rows = x.transpose(0, 1).reshape(channels, -1)
    expected = tg.layer_norm(rows, rows.shape[1]).reshape(channels, 4, length).transpose(0, 1)
    np.testing.assert_allclose(host(in_training_of(x)), host(expected), rtol=1e-4, atol=1e-4)
    expected = tg.layer_norm(x.reshape(4, -1), channels * length).reshape(x.shape)
    np.testing.assert_allclose(host(tg.group_norm(x, 1)), host(expected), rtol=1e-4, atol=1e-4)


def in_training_of(x: tg.Tensor) -> tg.Tensor:
    return tg.batch_norm(x, None, None, training=True)


@pytest.mark.parametrize("dtype", ["float16", "float32", "float64"])
def test_the_dtype_of_x_is_kept_and_squares_may_overflow(dtype: str, device: str) -> None:
    largest = {"float16": 6e4, "float32": 1e30, "float64": 1e200}[dtype]
    x = tg.tensor([[1.0], [-1.0], [1.0], [-1.0]], dtype, device) * largest
    x.requires_grad_()
    for out in (tg.batch_norm(x, None, None, training=True), tg.group_norm(x.T, 1).T):
        assert out.dtype == dtype
        np.testing.assert_allclose(host(out)[:, 0], [1, -1, 1, -1], rtol=1e-3)
        (gradient,) = tg.grad(out[0].sum(), [x])
        assert gradient.dtype == dtype and np.isfinite(host(gradient)).all()
    small = tg.tensor([[300.0, -300.0]], dtype, device)  # whose squares overflow float16
    np.testing.assert_allclose(host(tg.rms_norm(small, 2)), [[1, -1]], rtol=1e-3)
    assert tg.rms_norm(small, 2).dtype == dtype


def test_float16_has_running_statistics_of_float32(device: str) -> None:
    x = tg.tensor([[1.0], [2.0]], "float16", device)
    mean, var = tg.zeros(1, device=device), tg.ones(1, device=device)
    assert tg.batch_norm(x, mean, var, training=True, momentum=0.3).dtype == np.float16
    np.testing.assert_allclose([host(mean)[0], host(var)[0]], [0.45, 0.85], rtol=1e-6)
    assert tg.batch_norm(x, mean, var).dtype == np.float16


def test_integers_become_float32(device: str) -> None:
    x = tg.tensor([[1, 3], [2, 5]], device=device)
    zeros, ones = tg.zeros(2, device=device), tg.ones(2, device=device)
    for out in (tg.rms_norm(x, 2), tg.group_norm(x, 1), in_training(x), tg.batch_norm(x, zeros, ones)):
        assert out.dtype == np.float32


def test_a_batch_may_be_empty(device: str) -> None:
    x, weight, bias = (tg.ones(*shape, device=device, requires_grad=True) for shape in ((0, 4, 3), (4,), (4,)))
    out = tg.group_norm(x, 2, weight, bias)
    out.sum().backward()
    assert out.shape == x.grad.shape == x.shape and tg.group_norm(x, 2).shape == x.shape
    assert weight.grad.tolist() == bias.grad.tolist() == [0, 0, 0, 0]


def test_running_statistics_need_no_gradient_and_are_changed_in_place(device: str) -> None:
    x = tg.tensor(drawn(4, 2), device=device, requires_grad=True)
    mean, var = (tg.zeros(2, dtype="float64", device=device) for _ in range(2))
    first = tg.batch_norm(x, mean, var + 1)
    tg.batch_norm(x, mean, var, training=True, momentum=1.0)
    np.testing.assert_allclose(host(mean), host(x).mean(0))
    np.testing.assert_allclose(host(var), host(x).var(0, ddof=1))
    assert not mean.requires_grad and not var.requires_grad
    first.sum().backward()  # which needs nothing that was changed


def test_a_step_over_a_sequence_may_normalize(device: str) -> None:
    weight = tg.tensor(drawn(4, 4), "float32", device)

    class Cell(tg.nn.Module):
        def forward(self, x: tg.Tensor, h: tg.Tensor | None = None) -> tg.Tensor:
            h = tg.zeros(x.shape[0], 4, device=device) if h is None else h
            return tg.tanh(tg.rms_norm(tg.group_norm(x + h @ weight, 2), 4))

    x = tg.tensor(drawn(5, 3, 4), "float32", device)
    out, _ = Recurrent(Cell())(x)
    h = None
    for t in range(5):
        h = Cell()(x[t], h)
    assert h is not None
    np.testing.assert_allclose(host(out[-1]), host(h), rtol=1e-4, atol=1e-5)


C = np.array([0.5, 1.0, 2.0], np.float32)


@pytest.mark.parametrize(
    ("function", "node"),
    [
        (lambda x: tg.batch_norm(x.permute(1, 2, 0), C, C), "BatchNormalization"),
        (lambda x: tg.batch_norm(x[0], C, C, C, C, eps=0.1), "BatchNormalization"),
        (lambda x: tg.batch_norm(x.permute(1, 2, 0), None, None, C, C, training=True), "ReduceMean"),
        (lambda x: tg.group_norm(x.permute(1, 2, 0), 1, C, C), "ReduceMean"),
        (lambda x: tg.group_norm(x[0], 3), "ReduceMean"),
        (lambda x: tg.rms_norm(x, 3, C), "ReduceMean"),
    ],
)
def test_onnx(tmp_path: Path, function: Callable[[tg.Tensor], tg.Tensor], node: str) -> None:
    def of(T: int, B: int) -> np.ndarray[Any, Any]:
        return drawn(T, B, 3).astype(np.float32)

    run = assert_same_function(function, {"x": of(4, 3)}, {"x": of(6, 2)}, {"x": of(5, 7)}, folder=tmp_path)
    assert node in run.nodes


X = tg.zeros(2, 4)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: tg.batch_norm(X, None, None), "running_mean and running_var are needed when training is False"),
        (lambda: tg.batch_norm(X, tg.zeros(3), tg.ones(4)), r"running_mean of shape \(3,\) .*each channel of \(2, 4\)"),
        (lambda: tg.batch_norm(X, None, None, [1.0], training=True), r"weight of shape \(1,\)"),
        (lambda: tg.batch_norm(X[:1], None, None, training=True), r"\(1, 4\) needs two or more elements"),
        (lambda: tg.batch_norm(X[:0], None, None, training=True), r"\(0, 4\) needs two or more elements"),
        (lambda: tg.batch_norm(X[0], None, None, training=True), r"x of shape \(4,\) must have the shape \(N, C, "),
        (lambda: tg.batch_norm(X, None, None, training=True, eps=-1.0), "eps is -1.0"),
        (lambda: tg.group_norm(X, 3), r"num_groups 3 must divide the channels of x of shape \(2, 4\)"),
        (lambda: tg.group_norm(X, 0), "num_groups 0"),
        (lambda: tg.group_norm(X, 2, [1.0, 2.0]), r"weight of shape \(2,\)"),
        (lambda: tg.group_norm(X, 2, None, X), r"bias of shape \(2, 4\)"),
        (lambda: tg.group_norm(X, 2, eps=float("nan")), "eps is nan"),
        (lambda: tg.rms_norm(X, 2), r"must end in normalized_shape \(2,\)"),
        (lambda: tg.rms_norm(X, 4, [1.0]), r"weight of shape \(1,\) must have normalized_shape \(4,\)"),
        (lambda: tg.rms_norm(X, 4, eps=-1.0), "eps is -1.0"),
    ],
)
def test_invalid_arguments_are_refused(call: Callable[[], Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        call()
