"""NumPy's functions on tensors: they compute as the op of that name, differentiably, or say why not."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import tinygrad_lstm as tg
from tinygrad_lstm.ops.numpy_protocol import FUNCTIONS, UFUNCS

VALUES = np.array([[0.53, 1.62, 2.71], [3.41, 0.28, 1.17]])
OTHER = np.array([2.0, 1.0, 0.5])
BOOLS = VALUES > 1

# By NumPy's function: calls of it with an array or a tensor.
CALLS: dict[Any, list[Callable[[Any], Any]]] = {
    **{
        f: [lambda x, f=f: f(x), lambda x, f=f: f(x, 0), lambda x, f=f: f(x, axis=(0, 1), keepdims=True)]
        for f in (np.sum, np.prod, np.mean, np.max, np.amax, np.min, np.amin, np.any, np.all)
    },
    **{
        f: [lambda x, f=f: f(x), lambda x, f=f: f(x, axis=-1, ddof=1), lambda x, f=f: f(x, 0, keepdims=True)]
        for f in (np.var, np.std)
    },
    **{f: [lambda x, f=f: f(x), lambda x, f=f: f(x, axis=1, keepdims=True)] for f in (np.argmax, np.argmin)},
    **{f: [lambda x, f=f: f(x), lambda x, f=f: f(x, axis=1)] for f in (np.cumsum, np.cumprod)},
    **{f: [lambda x, f=f: f(x), lambda x, f=f: f(x, axis=None)] for f in (np.sort, np.argsort)},
    np.diff: [lambda x: np.diff(x), lambda x: np.diff(x, 2, axis=1, append=x[:, :1])],
    np.median: [lambda x: np.median(x), lambda x: np.median(x, axis=0, keepdims=True)],
    np.quantile: [lambda x: np.quantile(x, 0.3), lambda x: np.quantile(x, [0.1, 0.5], axis=1, method="lower")],
    np.searchsorted: [
        lambda x: np.searchsorted([1.0, 2.0], x),
        lambda x: np.searchsorted(x[0], [1.62, 2.0], side="right"),
        lambda x: np.searchsorted(x[1], 1.5, sorter=[1, 2, 0]),
    ],
    np.unique: [lambda x: np.unique(x), lambda x: list(np.unique(x > 1, return_inverse=True, return_counts=True))],
    np.nonzero: [lambda x: list(np.nonzero(x > 1))],
    np.linalg.norm: [
        lambda x: np.linalg.norm(x),
        lambda x: np.linalg.norm(x, 1, axis=0),
        lambda x: np.linalg.norm(x, axis=1, keepdims=True),
        lambda x: np.linalg.norm(x[0], 3),
    ],
    np.round: [lambda x: np.round(x), lambda x: np.round(x, decimals=1)],
    np.around: [lambda x: np.around(x, 1)],
    np.clip: [lambda x: np.clip(x, 1.0, 2.0), lambda x: np.clip(x, None, OTHER), lambda x: np.clip(x, min=1.0)],
    np.where: [lambda x: np.where(BOOLS, x, OTHER), lambda x: np.where(x > 1, 0.0, x)],
    np.isclose: [lambda x: np.isclose(x, VALUES + 1e-3 * BOOLS), lambda x: np.isclose(x, 1.17, atol=0.5)],
    np.allclose: [lambda x: np.allclose(x, VALUES), lambda x: np.allclose(VALUES, x + 1)],
    np.nan_to_num: [
        lambda x: np.nan_to_num(np.where(x > 2, np.inf, x), posinf=2.0),
        lambda x: np.nan_to_num(x, nan=1.0),
    ],
    np.copy: [lambda x: np.copy(x)],
    np.zeros_like: [lambda x: np.zeros_like(x)],
    np.ones_like: [lambda x: np.ones_like(x, dtype=np.float32)],
    np.full_like: [lambda x: np.full_like(x, 3.0)],
    np.shape: [lambda x: np.shape(x)],
    np.ndim: [lambda x: np.ndim(x)],
    np.size: [lambda x: np.size(x), lambda x: np.size(x, 1)],
    np.reshape: [lambda x: np.reshape(x, (3, 2)), lambda x: np.reshape(x, -1)],
    np.ravel: [lambda x: np.ravel(x)],
    np.transpose: [lambda x: np.transpose(x), lambda x: np.transpose(x, (1, 0))],
    np.matrix_transpose: [lambda x: np.matrix_transpose(x)],
    np.swapaxes: [lambda x: np.swapaxes(x, 0, 1)],
    np.squeeze: [lambda x: np.squeeze(x[:1]), lambda x: np.squeeze(x[:1], axis=0)],
    np.expand_dims: [lambda x: np.expand_dims(x, 1), lambda x: np.expand_dims(x, axis=-1)],
    np.flip: [lambda x: np.flip(x), lambda x: np.flip(x, axis=1)],
    np.roll: [lambda x: np.roll(x, 2), lambda x: np.roll(x, shift=1, axis=1)],
    np.broadcast_to: [lambda x: np.broadcast_to(x, (4, 2, 3))],
    np.tile: [lambda x: np.tile(x, 2), lambda x: np.tile(x, (2, 1, 3))],
    np.repeat: [lambda x: np.repeat(x, 2), lambda x: np.repeat(x, [1, 0, 2], axis=1)],
    np.moveaxis: [lambda x: np.moveaxis(x, 0, -1), lambda x: np.moveaxis(x, [0, 1], [1, 0])],
    np.diagonal: [lambda x: np.diagonal(x), lambda x: np.diagonal(x, 1, axis1=1, axis2=0)],
    np.trace: [lambda x: np.trace(x), lambda x: np.trace(x, offset=-1)],
    np.tensordot: [lambda x: np.tensordot(x, VALUES), lambda x: np.tensordot(x, OTHER, axes=([1], [0]))],
    np.tril: [lambda x: np.tril(x), lambda x: np.tril(x, k=1)],
    np.triu: [lambda x: np.triu(x, 1)],
    np.concatenate: [
        lambda x: np.concatenate([x, VALUES, x]),
        lambda x: np.concatenate((x, x), axis=1),
        lambda x: np.concatenate([x, x[0]], axis=None),
    ],
    np.stack: [lambda x: np.stack([x, x]), lambda x: np.stack((VALUES, x), axis=-1)],
    np.split: [lambda x: np.split(x, 2), lambda x: np.split(x, [1, 2], axis=1), lambda x: np.split(x, [2, 9], axis=1)],
    np.take_along_axis: [
        lambda x: np.take_along_axis(x, np.array([[0], [2]]), axis=1),
        lambda x: np.take_along_axis(x, np.array([[0, 2], [1, 1]])),
        lambda x: np.take_along_axis(x, np.array([5, 0, 0]), axis=None),
    ],
    np.take: [
        lambda x: np.take(x, [[0, -1], [5, 2]]),
        lambda x: np.take(x, [[1, 0]], axis=1),
        lambda x: np.take(x, -1, 0),
    ],
    np.einsum: [lambda x: np.einsum("ij,j->i", x, OTHER), lambda x: np.einsum("ij->ji", x)],
    np.outer: [lambda x: np.outer(x, OTHER)],
    np.dot: [
        lambda x: np.dot(x, OTHER),
        lambda x: np.dot(x, VALUES.T),
        lambda x: np.dot(x[0], x[1]),
        lambda x: np.dot(x, 2.0),
    ],
    **{f: [lambda x, f=f: f(x)] for f in UFUNCS if f.nin == 1},
    **{
        f: [lambda x, f=f: f(x, x), lambda x, f=f: f(x, OTHER), lambda x, f=f: f(OTHER, x), lambda x, f=f: f(x, 1.5)]
        for f in UFUNCS
        if f.nin == 2
    },
    **{f: [lambda x, f=f: f(x / 4)] for f in (np.arcsin, np.arccos, np.arctanh)},
    np.arccosh: [lambda x: np.arccosh(x + 1)],
    **{
        f: [lambda x, f=f: f(x, OTHER), lambda x, f=f: f(OTHER * 1.1, x), lambda x, f=f: f(x, 1.5)]
        for f in (np.floor_divide, np.remainder)
    },
    np.matmul: [lambda x: np.matmul(x, OTHER), lambda x: np.matmul(VALUES.T, x)],
    np.invert: [lambda x: np.invert(x > 1)],
    **{
        f: [lambda x, f=f: f(x > 1, x > 2), lambda x, f=f: f(BOOLS, x > 2), lambda x, f=f: f(x > 2, BOOLS)]
        for f in (np.bitwise_and, np.bitwise_or, np.bitwise_xor)
    },
}

EVERY_CALL = [pytest.param(call, id=f"{f.__name__}-{k}") for f, calls in CALLS.items() for k, call in enumerate(calls)]


def test_every_function_that_an_op_stands_for_is_tried() -> None:
    assert CALLS.keys() == {*FUNCTIONS, *UFUNCS}


def as_list(value: Any) -> list[Any]:
    return list(value) if isinstance(value, list) else [value]


@pytest.mark.parametrize("call", EVERY_CALL)
def test_functions_return_tensors_of_numpys_values(call: Callable[[Any], Any]) -> None:
    x = tg.tensor(VALUES, requires_grad=True)
    results, expected = as_list(call(x)), as_list(call(VALUES))
    assert len(results) == len(expected)
    for result, wanted in zip(results, expected, strict=True):
        if isinstance(result, tg.Tensor):
            assert result.shape == np.shape(wanted)
            np.testing.assert_allclose(result.detach(), wanted, rtol=1e-12)
        else:  # a shape, or a number of elements
            assert result == wanted


@pytest.mark.parametrize("call", EVERY_CALL)
def test_functions_are_differentiated(call: Callable[[Any], Any]) -> None:
    def total(x: tg.Tensor) -> tg.Tensor:
        made = [out for out in as_list(call(x)) if isinstance(out, tg.Tensor) and out.requires_grad]
        return sum((out * out).sum() for out in made) if made else x.sum() * 0

    assert tg.gradcheck(total, [tg.tensor(VALUES, requires_grad=True)])


def test_most_of_them_have_a_gradient() -> None:
    x = tg.tensor(VALUES, requires_grad=True)
    with_gradient = {
        f for f, calls in CALLS.items() if any(getattr(out, "requires_grad", False) for out in as_list(calls[0](x)))
    }
    assert {np.sum, np.mean, np.exp, np.add, np.concatenate, np.where, np.matmul, np.linalg.norm} <= with_gradient


def test_functions_run_on_the_device_of_the_tensor(device: str) -> None:
    x = tg.ones(2, 3, device=device)
    for result in (np.exp(x), np.sum(x, axis=0), np.concatenate([x, x]), np.add(1.0, x), np.float64(2.0) * x):
        assert result.device == device
        assert result.dtype == "float32"


def test_operators_with_an_array_on_the_left_are_the_ops() -> None:
    x = tg.tensor([1.0, 2.0], requires_grad=True)
    array = np.array([3.0, 4.0], np.float32)
    for result, expected in [
        (array + x, [4.0, 6.0]),
        (array - x, [2.0, 2.0]),
        (array * x, [3.0, 8.0]),
        (array / x, [3.0, 2.0]),
        (array**x, [3.0, 16.0]),
        (array @ x, 11.0),
    ]:
        assert isinstance(result, tg.Tensor)
        assert result.requires_grad
        assert result.dtype == "float32"
        assert result.tolist() == expected
    assert (array > x).tolist() == [True, True]
    with pytest.raises(TypeError, match=r"^np.add: out= cannot be given beside a tensor"):
        array += x


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda x: np.cbrt(x), r"^np.cbrt: there is no op for it; compute it of x.detach\(\).cpu\(\).numpy\(\)"),
        (lambda x: np.percentile(x, 5), r"^np.percentile: there is no op for it, and a tensor requires a gradient; "),
        (lambda x: np.unique(x, return_index=True), r"^np.unique: of tensors there is no return_index"),
        (lambda x: np.linalg.det(x[:, :2]), r"^np.linalg.det: there is no op for it"),
        (lambda x: np.array_equal(x, x), r"^np.array_equal: there is no op for it"),
        (lambda x: np.sum(x, dtype="float64"), r"^np.sum: got an unexpected .* 'dtype'; of tensors it takes a, axis"),
        (lambda x: np.mean(x, out=np.zeros(())), r"^np.mean: got an unexpected keyword argument 'out'"),
        (lambda x: np.exp(x, out=np.zeros((2, 3))), r"^np.exp: out= cannot be given beside a tensor"),
        (lambda x: np.add.reduce(x), r"^np.add.reduce: not of tensors; use their own methods"),
        (lambda x: np.linalg.norm(x, 1), r"^np.linalg.norm: tensors have no norms of matrices"),
        (lambda x: np.dot(x, np.ones((1, 3, 1))), r"^np.dot: tensors of more than two dimensions"),
        (lambda x: np.where(x), r"^np.where: there is no op for it"),
        (lambda x: np.sum(x, axis=True), r"^sum: dim is True"),
    ],
)
def test_what_does_not_work_says_why(call: Callable[[Any], Any], message: str) -> None:
    with pytest.raises(TypeError, match=message):
        call(tg.tensor(VALUES, requires_grad=True))


def test_values_that_differ_from_numpys_are_refused() -> None:
    with pytest.raises(TypeError, match=r"^np.take: an index must be of integers, got bool"):
        np.take(tg.ones(2, 3), np.array([True, False]), axis=0)
    with pytest.raises(ValueError, match=r"^np.squeeze: a dimension of axis 1 is longer than 1"):
        np.squeeze(tg.ones(1, 2), axis=1)
    with pytest.raises(ValueError, match=r"^np.split: 3 elements cannot be split into 2"):
        np.split(tg.ones(3), 2)


def test_other_functions_take_the_values_of_tensors_without_a_gradient() -> None:
    x = tg.tensor(VALUES)
    assert np.percentile(x, 5) == np.percentile(VALUES, 5)
    assert np.array_equal(x, VALUES)
    assert np.allclose([x, x], VALUES)
    assert [part.tolist() for part in np.where(x > 3)] == [[1], [0]]
    with pytest.raises(ValueError, match=r"read-only"):  # of which no graph would know
        np.copyto(x, 0.0)
    assert np.array_equal(x, VALUES)


def test_the_values_of_a_different_device_are_not_fetched(device: str) -> None:
    if device != "cpu":
        with pytest.raises(TypeError, match=rf"^np.percentile: there is no op for it, and a tensor is on '{device}"):
            np.percentile(tg.ones(3, device=device), 5)
