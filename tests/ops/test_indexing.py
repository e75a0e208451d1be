"""Reading from and writing to every NumPy index: values, gradients, duplicates, errors."""

from typing import Any

import hypothesis.extra.numpy as hnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from strict_backend import STRICT

import tinygrad_lstm as tg

HostArray = np.ndarray[Any, Any]

SHAPES = hnp.array_shapes(min_dims=0, max_dims=4, min_side=0, max_side=3)


def mixed(shape: tuple[int, ...]) -> st.SearchStrategy[Any]:
    """Integer arrays that broadcast against each other and repeat places, among slices, ints, None and Ellipsis."""

    @st.composite
    def draw_index(draw: st.DrawFn) -> tuple[Any, ...]:
        together = draw(hnp.array_shapes(min_dims=0, max_dims=2, min_side=0, max_side=3))
        parts: list[Any] = []
        for length in shape[: draw(st.integers(0, len(shape)))]:
            kinds = ["slice", "array"] if length else ["slice"]
            kind = draw(st.sampled_from([*kinds, *(["int", "list"] if length else []), "mask"]))
            if kind == "slice":
                parts.append(draw(st.slices(length)))
            elif kind == "int":
                parts.append(draw(st.integers(-length, length - 1)))
            elif kind == "mask" and not any(isinstance(part, np.ndarray | list) for part in parts):
                # As many as fit to the arrays drawn so far are true: alone, or one that broadcasts.
                mask = np.zeros(length, np.bool_)
                if length:
                    mask[draw(st.integers(0, length - 1))] = True
                    parts.append(mask)
                else:
                    parts.append(slice(None))
            elif kind == "list":
                parts.append([draw(st.integers(-length, length - 1))])
            elif length:
                lengths = draw(st.sampled_from([together, together[-1:], ()]))
                parts.append(draw(hnp.arrays(np.int64, lengths, elements=st.integers(-length, length - 1))))
            else:
                parts.append(slice(None))
        for extra in draw(st.lists(st.sampled_from([None, ...]), max_size=2, unique=True)):
            parts.insert(len(parts) if extra is ... else draw(st.integers(0, len(parts))), extra)
        return tuple(parts)

    return draw_index()


def indices(shape: tuple[int, ...]) -> st.SearchStrategy[Any]:
    basic = hnp.basic_indices(shape, allow_newaxis=True, allow_ellipsis=True)
    masks = st.integers(0, len(shape)).flatmap(lambda n: hnp.arrays(np.bool_, shape[:n]))
    choices = [basic, mixed(shape), masks]
    if shape and shape[0]:
        choices.append(st.lists(st.integers(-shape[0], shape[0] - 1)))
    return st.one_of(choices)


def moved(index: Any, device: str, as_tensors: bool) -> Any:
    """The index with arrays as tensors of the device, or as they are, on the host."""
    if isinstance(index, tuple):
        return tuple([moved(part, device, as_tensors) for part in index])
    return tg.tensor(index, device=device) if as_tensors and isinstance(index, np.ndarray) else index


def numbers(shape: tuple[int, ...], seed: int = 0) -> HostArray:
    return np.asarray(np.random.default_rng(seed).normal(size=shape))


def as_numpy(index: Any) -> Any:
    return np.asarray(index, np.int64) if isinstance(index, list) else index


@given(st.data())
def test_getitem_equals_numpys_and_its_gradients_sum(device: str, data: st.DataObject) -> None:
    shape = data.draw(SHAPES)
    index = data.draw(indices(shape))
    values = numbers(shape)
    x = tg.tensor(values, device=device, requires_grad=True)
    result = x[moved(index, device, data.draw(st.booleans()))]
    expected = values[as_numpy(index)]
    assert result.dtype == np.float64
    np.testing.assert_array_equal(result.detach().cpu().numpy(), expected)

    cotangent = numbers(expected.shape, 1)
    along = tg.tensor(cotangent, device=device, requires_grad=True)
    (g,) = tg.grad(result, x, along, create_graph=True)
    summed = np.zeros(shape)
    np.add.at(summed, as_numpy(index), cotangent)
    np.testing.assert_allclose(g.detach().cpu().numpy(), summed)
    # The gradient is linear in the cotangent: its own gradient is the reading of the weights.
    weights = numbers(shape, 2)
    (back,) = tg.grad(g, along, tg.tensor(weights, device=device))
    np.testing.assert_allclose(back.cpu().numpy(), weights[as_numpy(index)])
    # A plain backward adds into the gradient in another way.
    x[moved(index, device, True)].backward(along.detach())
    np.testing.assert_allclose(x.grad.cpu().numpy(), summed)


@given(st.data())
def test_setitem_equals_numpys_and_is_differentiable_in_both(device: str, data: st.DataObject) -> None:
    shape = data.draw(SHAPES)
    index = data.draw(indices(shape))
    before = numbers(shape)
    target = before[as_numpy(index)].shape
    value_shape = tuple(data.draw(st.sampled_from([1, length])) for length in target)
    value_shape = (
        value_shape[data.draw(st.integers(0, len(value_shape))) :] if data.draw(st.booleans()) else value_shape
    )
    try:
        np.broadcast_to(np.zeros(value_shape), target)
    except ValueError:
        value_shape = ()
    written = numbers(value_shape, 1)
    # Which element of the value lies where afterwards, and -1 where x is as it was.
    source = np.full(shape, -1)
    source[as_numpy(index)] = np.broadcast_to(np.arange(written.size).reshape(value_shape), target)
    expected = np.where(source < 0, before, written.reshape(-1)[source] if written.size else before)

    x = tg.tensor(before, device=device, requires_grad=True)
    value = tg.tensor(written, device=device, requires_grad=True)
    changed = x.clone()
    changed[moved(index, device, data.draw(st.booleans()))] = value
    np.testing.assert_array_equal(changed.detach().cpu().numpy(), expected)
    np.testing.assert_array_equal(x.detach().cpu().numpy(), before)

    cotangent = numbers(shape, 2)
    along = tg.tensor(cotangent, device=device, requires_grad=True)
    in_x, in_value = tg.grad(changed, [x, value], along, create_graph=True)
    np.testing.assert_allclose(in_x.detach().cpu().numpy(), np.where(source < 0, cotangent, 0))
    of_value = np.zeros(written.size)
    np.add.at(of_value, source[source >= 0], cotangent[source >= 0])
    np.testing.assert_allclose(in_value.detach().cpu().numpy(), of_value.reshape(value_shape))

    weights = numbers(value_shape, 3)
    (back,) = tg.grad(in_value, along, tg.tensor(weights, device=device))
    expected_back = np.where(source < 0, 0, weights.reshape(-1)[source] if weights.size else 0)
    np.testing.assert_allclose(back.cpu().numpy(), expected_back)


@given(st.lists(st.integers(0, 2), min_size=1, max_size=6))
def test_of_values_written_to_one_place_the_last_stays(device: str, places: list[int]) -> None:
    value = tg.tensor(np.arange(1.0, len(places) + 1), device=device, requires_grad=True)
    x = tg.zeros(3, dtype="float64", device=device)
    x[tg.tensor(places, device=device)] = value
    expected = np.zeros(3)
    for place, number in zip(places, range(1, len(places) + 1), strict=True):
        expected[place] = number
    assert x.tolist() == expected.tolist()
    (g,) = tg.grad(x.sum(), value)
    assert g.tolist() == [float(place not in places[k + 1 :]) for k, place in enumerate(places)]


def test_a_basic_index_shares_memory_and_others_do_not() -> None:
    x = tg.zeros(4)
    assert np.shares_memory(x[1:3].data, x.data)
    assert not np.shares_memory(x[[1, 2]].data, x.data)
    assert not np.shares_memory(x[x == 0].data, x.data)


@pytest.mark.parametrize("index", [(0, 0, 1), [0, 0, 1], range(2), np.array([0, 0, 1]), ([0, 0], [1, 1])])
def test_sequences_are_index_arrays_in_a_tuple(index: Any, device: str) -> None:
    values = numbers((3, 3))
    x = tg.tensor(values, device=device, requires_grad=True)
    parts = index if isinstance(index, tuple) and isinstance(index[0], list) else (index,)
    expected = values[tuple(np.asarray(part) for part in parts)]
    result = x[parts]
    assert result.tolist() == expected.tolist()
    (g,) = tg.grad(result.sum(), x)
    summed = np.zeros((3, 3))
    np.add.at(summed, tuple(np.asarray(part) for part in parts), 1.0)
    assert g.tolist() == summed.tolist()


def test_an_integer_tensor_is_an_int(device: str) -> None:
    x = tg.tensor([1.0, 2.0, 3.0], device=device)
    assert x[tg.tensor(-1, device=device)].item() == 3.0
    assert x[np.int64(1)].item() == 2.0
    assert x[True].shape == (1, 3)


OUT_OF_RANGE = [
    3,
    -4,
    [0, 3],
    np.array([-4]),
    (slice(None), 2),
    (slice(None), [-3]),
    (..., [[2]]),
    ([[0, 2]], [[1, 2]]),
]


@pytest.mark.parametrize("index", OUT_OF_RANGE, ids=str)
def test_an_index_out_of_range_raises(index: Any, device: str) -> None:
    x = tg.zeros(3, 2, device=device)
    with pytest.raises(IndexError, match="getitem"):
        x[index]
    with pytest.raises(IndexError):
        x[index] = 1.0
    assert x.tolist() == [[0.0, 0.0]] * 3


def test_an_index_tensor_out_of_range_raises_on_the_host() -> None:
    x = tg.zeros(3)
    index = tg.tensor([0, 3])
    for read in (
        lambda: x[index],
        lambda: x.gather(0, index),
        lambda: x.take_along_axis(index, 0),
        lambda: x.index_select(0, index),
        lambda: tg.embedding(index, x.reshape(3, 1)),
    ):
        with pytest.raises(IndexError, match="3"):
            read()


@pytest.mark.parametrize("given", [[0, 3], np.array([0, 3])], ids=["list", "array"])
def test_an_index_from_the_host_is_checked_before_it_travels(given: Any, device: str) -> None:
    x = tg.zeros(3, device=device)
    for name, read in {
        "gather": lambda: x.gather(0, given),
        "take_along_axis": lambda: x.take_along_axis(given, 0),
        "index_select": lambda: x.index_select(0, given),
        "embedding": lambda: tg.embedding(given, x.reshape(3, 1)),
    }.items():
        with pytest.raises(IndexError, match=name):
            read()
    assert x.gather(0, [-1, 0]).shape == (2,)


@pytest.mark.parametrize("index", [1.5, [0.5], "a", np.array([0.0]), {}, (0, "b")], ids=str)
def test_an_invalid_index_raises(index: Any, device: str) -> None:
    with pytest.raises(IndexError):
        tg.zeros(3, 2, device=device)[index]


def test_a_mask_of_a_different_shape_raises(device: str) -> None:
    with pytest.raises(IndexError):
        tg.zeros(3, 2, device=device)[tg.tensor([True, False], device=device)]


def test_an_index_on_a_different_device_raises() -> None:
    x, index = tg.zeros(3, device="strict"), tg.tensor([0])
    for read in (lambda: x[index], lambda: x.index_select(0, index), lambda: tg.embedding(index, x.reshape(3, 1))):
        with pytest.raises(RuntimeError, match=r"strict.*cpu"):
            read()


@pytest.mark.parametrize("kind", ["list", "array", "tensor"])
def test_an_index_changed_before_backward_changes_no_gradient(kind: str, device: str) -> None:
    x = tg.ones(3, 1, device=device, requires_grad=True)
    for read in (
        lambda index: x[index],
        lambda index: x.index_select(0, index),
        lambda index: tg.embedding(index, x),
    ):
        index: Any = {"list": [0, 0], "array": np.array([0, 0]), "tensor": tg.tensor([0, 0], device=device)}[kind]
        out = read(index)
        index[1] = 2
        assert tg.grad(out.sum(), x)[0].tolist() == [[2.0], [0.0], [0.0]]
    for read in (lambda index: x.gather(0, index), lambda index: x.take_along_axis(index, 0)):
        index = {"list": [[0]], "array": np.array([[0]]), "tensor": tg.tensor([[0]], device=device)}[kind]
        out = read(index)
        index[0] = [1] if kind == "list" else 1
        assert tg.grad(out.sum(), x)[0].tolist() == [[1.0], [0.0], [0.0]]


@pytest.mark.parametrize("dtype", ["uint8", "int8", "uint64"])
def test_indices_of_narrow_and_unsigned_integers(dtype: str, device: str) -> None:
    x = tg.ones(300, 1, device=device, requires_grad=True)
    index = tg.tensor([100, 3, 100], dtype=dtype, device=device)
    expected = np.zeros((300, 1))
    expected[100], expected[3] = 2, 1
    for out in (
        x[index],
        x.index_select(0, index),
        x.gather(0, index.unsqueeze(1)),
        x.take_along_axis(index.unsqueeze(1), 0),
        tg.embedding(index, x),
    ):
        out.sum().backward()
        np.testing.assert_array_equal(x.grad.cpu().numpy(), expected)
        x.grad = None


def test_embedding_of_an_id_that_was_not_read_on_the_host_is_nan() -> None:
    weight = tg.ones(3, 2, device="strict", requires_grad=True)
    rows = tg.embedding(tg.tensor([0, 3, -1], device="strict"), weight)
    assert np.isnan(rows.detach().cpu().numpy()).tolist() == [[False] * 2, [True] * 2, [True] * 2]
    (g,) = tg.grad(rows.sum(), weight)
    assert g.tolist() == [[1.0, 1.0], [0.0, 0.0], [0.0, 0.0]]


def test_embedding_has_no_gradient_at_the_padding(device: str) -> None:
    weight = tg.ones(3, 2, device=device, requires_grad=True)
    rows = tg.embedding(tg.tensor([[0, 2], [2, 2]], device=device), weight, padding_idx=-1)
    assert rows.shape == (2, 2, 2)
    (g,) = tg.grad(rows.sum(), weight)
    assert g.tolist() == [[1.0, 1.0], [0.0, 0.0], [0.0, 0.0]]
    with pytest.raises(IndexError, match="padding_idx"):
        tg.embedding([0], weight, padding_idx=3)


def test_embedding_refuses_negative_ids_on_the_host() -> None:
    with pytest.raises(IndexError, match="-1"):
        tg.embedding([-1], tg.ones(3, 2))


def test_reading_by_indices_on_the_device_copies_nothing_to_the_host() -> None:
    x = tg.ones(3, 4, device="strict", requires_grad=True)
    index = tg.tensor([[0, 2], [1, 1]], device="strict")
    STRICT.counts.reset()
    result = x[index, index] + x.gather(0, index) + x[:2].take_along_axis(index, 1)
    (result.sum() + x[1:, ::2].sum() + tg.einsum("ii", x[:, :3])).backward()
    assert (STRICT.counts.host_to_device, STRICT.counts.device_to_host, STRICT.counts.synchronisations) == (0, 0, 0)
