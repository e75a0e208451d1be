"""Tensors as they are made: values, dtypes and devices, and what is refused."""

from typing import Any

import hypothesis.extra.numpy as hnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import tinygrad_lstm as tg

DTYPES = ["float16", "float32", "float64", "int8", "uint8", "int16", "int32", "uint32", "int64", "uint64", "bool"]


@pytest.mark.parametrize(
    ("data", "dtype"),
    [
        (1.5, "float32"),
        (2, "int64"),
        (True, "bool"),
        ([1.0, 2.0], "float32"),
        ([1, 2.5], "float32"),
        ([1, 2], "int64"),
        ([[True], [False]], "bool"),
        ((1.0, 2.0), "float32"),
        (range(3), "int64"),
        ([], "float32"),
        (np.float64(1.5), "float64"),
        (np.float32(1.5), "float32"),
        (np.int8(1), "int8"),
        ([np.float64(1.5)], "float64"),
        ([np.zeros(2), np.ones(2)], "float64"),
    ],
)
def test_dtypes_of_what_a_tensor_is_made_of(data: Any, dtype: str, device: str) -> None:
    x = tg.tensor(data, device=device)
    assert x.dtype == dtype
    assert x.shape == np.shape(data)
    assert x.tolist() == np.asarray(data).tolist()


@pytest.mark.parametrize("dtype", DTYPES)
def test_arrays_keep_their_dtype(dtype: str, device: str) -> None:
    assert tg.tensor(np.ones(2, dtype), device=device).dtype == dtype
    assert tg.tensor([0, 1], dtype=dtype, device=device).dtype == dtype
    assert tg.tensor(tg.ones(2, dtype=dtype, device=device)).dtype == dtype


@given(
    hnp.arrays(
        st.sampled_from([np.dtype(dtype) for dtype in DTYPES]),
        hnp.array_shapes(min_dims=0, max_dims=4, min_side=0, max_side=3),
        elements={"allow_nan": False},
    )
)
def test_an_array_survives_the_round_trip(device: str, array: np.ndarray[Any, Any]) -> None:
    x = tg.tensor(array, device=device)
    np.testing.assert_array_equal(x.cpu().numpy(), array, strict=True)
    assert (x.shape, x.ndim, x.size, x.dtype) == (array.shape, array.ndim, array.size, array.dtype)
    assert x.tolist() == array.tolist()
    assert np.array_equal(x.T.cpu().numpy(), array.T)


def test_tensor_copies(device: str) -> None:
    array = np.zeros(2)
    x = tg.tensor(array)
    array[0] = 1.0
    assert x.tolist() == [0.0, 0.0]
    y = tg.tensor(x, device=device)
    x.fill_(3.0)
    assert y.tolist() == [0.0, 0.0]
    z = tg.tensor(y, dtype="float64")
    y.fill_(4.0)
    assert (z.tolist(), z.device) == ([0.0, 0.0], device)


@pytest.mark.parametrize("data", ["text", [None], {"a": 1}, object(), 1j, [1 + 2j], np.zeros(2, "complex64"), b"x"])
def test_arguments_that_are_not_numbers_raise(data: Any, device: str) -> None:
    with pytest.raises(TypeError, match="not supported"):
        tg.tensor(data, device=device)


@pytest.mark.parametrize("dtype", ["complex64", "datetime64[s]", "object", "longdouble"])
def test_dtypes_that_tensors_do_not_have(dtype: str) -> None:
    for make in (
        lambda: tg.tensor([1], dtype=dtype),
        lambda: tg.zeros(2, dtype=dtype),
        lambda: tg.ones(2).to(dtype=dtype),
    ):
        with pytest.raises(TypeError, match="not supported"):
            make()


def test_ragged_lists_raise() -> None:
    with pytest.raises(ValueError, match="equal lengths"):
        tg.tensor([[1.0], [1.0, 2.0]])


def test_integers_have_no_gradient() -> None:
    for make in (
        lambda: tg.tensor([1], requires_grad=True),
        lambda: tg.arange(3, requires_grad=True),
        lambda: tg.tensor([True]).requires_grad_(),
    ):
        with pytest.raises(TypeError, match=r"requires_grad.*float"):
            make()
    assert not tg.tensor([1.0], requires_grad=True).to(dtype="int64").requires_grad


CREATED = {
    "zeros": (lambda **to: tg.zeros(2, 3, **to), np.zeros((2, 3))),
    "zeros of a tuple": (lambda **to: tg.zeros((2, 0), **to), np.zeros((2, 0))),
    "zeros of nothing": (lambda **to: tg.zeros(**to), np.zeros(())),
    "ones": (lambda **to: tg.ones([2], **to), np.ones(2)),
    "full": (lambda **to: tg.full((2, 2), 1.5, **to), np.full((2, 2), 1.5)),
    "full of a length": (lambda **to: tg.full(3, 0.5, **to), np.full(3, 0.5)),
    "eye": (lambda **to: tg.eye(2, **to), np.eye(2)),
    "eye of two lengths": (lambda **to: tg.eye(2, 3, **to), np.eye(2, 3)),
    "arange": (lambda **to: tg.arange(1.0, 3.0, 0.5, **to), np.arange(1.0, 3.0, 0.5)),
    "linspace": (lambda **to: tg.linspace(-1, 1, 5, **to), np.linspace(-1, 1, 5)),
    "zeros_like": (lambda **to: tg.zeros_like(tg.ones(2, 3), **to), np.zeros((2, 3))),
    "ones_like": (lambda **to: tg.ones_like(tg.zeros(2), **to), np.ones(2)),
}


@pytest.mark.parametrize("name", CREATED)
def test_creation(name: str, device: str) -> None:
    make, expected = CREATED[name]
    x = make(device=device)
    assert (x.dtype, x.device, x.requires_grad) == (np.float32, device, False)
    np.testing.assert_allclose(x.cpu().numpy(), expected)
    x = make(device=device, dtype="float64", requires_grad=True)
    assert (x.dtype, x.requires_grad, x.is_leaf) == (np.float64, True, True)


def test_creation_of_integers(device: str) -> None:
    assert tg.arange(3, device=device).tolist() == [0, 1, 2]
    assert tg.arange(3, device=device).dtype == np.int64
    assert tg.full(2, 1, device=device).dtype == np.int64
    assert tg.full(2, True, device=device).dtype == np.bool_
    like = tg.zeros_like(tg.ones(2, dtype="int32", device=device))
    assert (like.dtype, like.device) == (np.int32, device)


@pytest.mark.parametrize("shape", [(-1,), (2, -3), (1.5,), ("a",)])
def test_lengths_must_be_lengths(shape: Any) -> None:
    for make in (tg.zeros, tg.ones, tg.rand, tg.randn):
        with pytest.raises(ValueError, match=make.__name__):
            make(*shape)


@pytest.mark.parametrize("kind", [np.float16, np.float32, np.float64])
def test_creation_from_scalars_of_numpys(kind: Any, device: str) -> None:
    # A scalar has a dtype as an array has; a range of floats is float32.
    assert tg.full((1,), kind(1), device=device).dtype == kind
    steps = tg.arange(kind(0), kind(1), kind(0.25), device=device)
    assert (steps.dtype, steps.tolist()) == (np.float32, [0.0, 0.25, 0.5, 0.75])


@pytest.mark.parametrize("dtype", ["float16", "float32", "float64"])
def test_uniform_numbers_fill_their_dtype_below_one(dtype: str) -> None:
    tg.manual_seed(0)
    x = tg.rand(20_000, dtype=dtype).numpy()
    assert x.dtype == dtype
    assert (x >= 0).all() and (x < 1).all()
    bits = {"float16": 11, "float32": 24, "float64": 53}[dtype]
    scaled = x.astype(np.float64) * 2.0**bits
    assert (scaled == np.floor(scaled)).all()
    assert (scaled % 2 == 1).any()  # none of the digits is always 0


@pytest.mark.parametrize("make", [tg.rand, tg.randn])
def test_random_integers_are_refused(make: Any) -> None:
    with pytest.raises(TypeError, match=rf"{make.__name__}: dtype is int64; expected float16"):
        make(2, dtype="int64")


@pytest.mark.parametrize("dtype", [">f8", ">f4", ">i4", ">u2"])
def test_arrays_of_the_other_byte_order_are_turned(dtype: str, device: str) -> None:
    array = np.array([1, 2], dtype)
    native = np.dtype(dtype).newbyteorder("=")
    made = [tg.tensor(array, device=device), tg.zeros(2, dtype=dtype, device=device) + tg.tensor(array, device=device)]
    if device == "cpu":
        made.append(tg.ones(2, dtype=native) * array)
    for x in made:
        assert x.dtype == native
        assert x.data.dtype.isnative
        assert x.tolist() == [1, 2]


def test_random_numbers() -> None:
    tg.manual_seed(0)
    x, y = tg.rand(1000), tg.randn(1000, dtype="float64")
    assert (x.dtype, y.dtype) == (np.float32, np.float64)
    assert 0 <= x.min().item() < x.max().item() < 1
    assert abs(y.mean().item()) < 0.2
    assert abs(y.std().item() - 1) < 0.2
    tg.manual_seed(0)
    assert tg.rand(1000).tolist() == x.tolist()
    tg.manual_seed(1)
    assert tg.rand(1000).tolist() != x.tolist()


def test_tensors_like_another(device: str) -> None:
    x = tg.ones(2, 3, dtype="float64", device=device)
    for made in (tg.full_like(x, 2.5), tg.rand_like(x), tg.randn_like(x)):
        assert (made.shape, made.dtype, made.device) == (x.shape, x.dtype, x.device)
    assert tg.full_like(x, 2, dtype="int32").tolist() == [[2] * 3] * 2
    tg.manual_seed(0)
    drawn = tg.rand_like(x, dtype="float32").tolist()
    tg.manual_seed(0)
    assert drawn == tg.rand(2, 3, device=device).tolist()
    assert tg.empty(2, 3, dtype="float16", device=device).shape == (2, 3)


def test_from_numpy_shares_memory() -> None:
    array = np.arange(3.0)
    tensor = tg.from_numpy(array)
    array[0] = 5
    assert tensor.tolist() == [5, 1, 2]
    for other in ([1.0], np.ones(2, complex), np.ones(2, ">f8")):
        with pytest.raises(TypeError):
            tg.from_numpy(other)  # type: ignore[arg-type]
