"""Numbers that an integer dtype cannot hold are refused wherever a number becomes an element."""

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import tinygrad_lstm as tg

DTYPES = ["int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "uint64"]


def written(dtype: str, device: str, write: Callable[[tg.Tensor], Any]) -> tg.Tensor:
    x = tg.zeros(1, dtype=dtype, device=device)
    write(x)
    return x


# Each makes a tensor of one element of the number.
MAKERS: dict[str, Callable[[Any, str, str], tg.Tensor]] = {
    "tensor": lambda n, dtype, device: tg.tensor([n], dtype=dtype, device=device),
    "tensor of a scalar": lambda n, dtype, device: tg.tensor(n, dtype=dtype, device=device).reshape(1),
    "full": lambda n, dtype, device: tg.full((1,), n, dtype=dtype, device=device),
    "setitem": lambda n, dtype, device: written(dtype, device, lambda x: x.__setitem__(0, n)),
    "setitem of a list": lambda n, dtype, device: written(dtype, device, lambda x: x.__setitem__(slice(None), [n])),
    "fill_": lambda n, dtype, device: written(dtype, device, lambda x: x.fill_(n)),
    "copy_": lambda n, dtype, device: written(dtype, device, lambda x: x.copy_(n)),
    "pad": lambda n, dtype, device: tg.zeros(1, dtype=dtype, device=device).pad((0, 1), value=n)[1:],
}

# Ops in which a float beside integers makes float32; of these the number is an integer.
OPS: dict[str, Callable[[Any, tg.Tensor], tg.Tensor]] = {
    "add": lambda n, zero: zero + n,
    "radd": lambda n, zero: n + zero,
    "where": lambda n, zero: tg.where([True], n, zero),
    "where not": lambda n, zero: tg.where([False], zero, n),
    "masked_fill": lambda n, zero: zero.masked_fill([True], n),
    "clamp": lambda n, zero: zero.clamp(n, n),
    "add_": lambda n, zero: zero.add_(n),
    "masked_fill_": lambda n, zero: zero.masked_fill_([True], n),
}


def near_limits(dtype: str) -> st.SearchStrategy[int]:
    info = np.iinfo(dtype)
    offsets = st.integers(-2, 2)
    return st.one_of(offsets, offsets.map(lambda n: info.min + n), offsets.map(lambda n: info.max + n), st.integers())


def floats_near_limits(dtype: str) -> st.SearchStrategy[float]:
    return near_limits(dtype).filter(lambda n: abs(n) < 2**1000).map(float) | st.floats()


def check(make: Callable[[], tg.Tensor], number: Any, dtype: str) -> None:
    info = np.iinfo(dtype)
    if math.isfinite(number) and info.min <= math.trunc(number) <= info.max:
        made = make()
        assert made.dtype == dtype
        assert made.tolist() == [math.trunc(number)]
    else:
        with pytest.raises(
            ValueError if math.isnan(number) else OverflowError, match=f"out of bounds for {dtype}, which"
        ):
            make()


@pytest.mark.parametrize("maker", MAKERS)
@given(data=st.data())
def test_makers_and_writes(maker: str, device: str, data: st.DataObject) -> None:
    dtype = data.draw(st.sampled_from(DTYPES))
    number = data.draw(near_limits(dtype).filter(lambda n: abs(n) < 2**1000) | floats_near_limits(dtype))
    check(lambda: MAKERS[maker](number, dtype, device), number, dtype)


@pytest.mark.parametrize("name", OPS)
@given(data=st.data())
def test_ops(name: str, device: str, data: st.DataObject) -> None:
    dtype = data.draw(st.sampled_from(DTYPES))
    number = data.draw(near_limits(dtype).filter(lambda n: abs(n) < 2**1000))
    check(lambda: OPS[name](number, tg.zeros(1, dtype=dtype, device=device)), number, dtype)


@given(st.sampled_from(DTYPES), st.integers(-300, 300), st.integers(-300, 300), st.integers(-90, 90).filter(bool))
def test_ranges(dtype: str, start: int, stop: int, step: int) -> None:
    expected, info = list(range(start, stop, step)), np.iinfo(dtype)
    if all(info.min <= number <= info.max for number in expected):
        assert tg.arange(start, stop, step, dtype=dtype).tolist() == expected
    else:
        with pytest.raises(OverflowError, match=f"^arange: .* out of bounds for {dtype}, which"):
            tg.arange(start, stop, step, dtype=dtype)


@pytest.mark.parametrize(("start", "stop"), [(0, 300), (-1, 2), (0, math.nan), (math.inf, 0)])
def test_evenly_spaced_numbers(start: float, stop: float) -> None:
    with pytest.raises((OverflowError, ValueError), match=r"^linspace: .* out of bounds for uint8, which"):
        tg.linspace(start, stop, 4, dtype="uint8")


@pytest.mark.parametrize("data", [2**70, [2**70], [2**63, -1], [[-(2**63) - 1]], [2**64, 2]])
def test_integers_too_large_for_any_dtype_become_no_floats(data: Any) -> None:
    with pytest.raises(OverflowError, match=r"^tensor: .* is out of bounds for int64"):
        tg.tensor(data)
    assert tg.tensor([2**70], dtype="float32").tolist() == [2.0**70]
    assert tg.tensor([1e30, 1.0]).dtype == "float32"


@pytest.mark.parametrize("data", [[0, 2**64 - 1], [[5], [2**63 + 1]]])
def test_small_and_large_integers_in_one_list_keep_their_digits(data: Any) -> None:
    assert tg.tensor(data, dtype="uint64").tolist() == data
    x = tg.zeros(2, dtype="uint64")
    x[:] = tg.tensor(data, dtype="uint64").flatten()
    assert x.tolist() == np.ravel(np.array(data, object)).tolist()


def test_comparisons_take_any_number(device: str) -> None:
    x = tg.zeros(2, dtype="int8", device=device)
    assert (x < 300).tolist() == [True, True]
    assert (x == 300).tolist() == [False, False]
    assert (x >= -300).tolist() == [True, True]
