"""Writing and adding at indices: in place, with duplicates, inside steps, without reading a device, and errors."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from strict_backend import STRICT

import tinygrad_lstm as tg

HostArray = np.ndarray[Any, Any]

ROWS = np.array([2, 0, 2])
PLACES = np.array([[1, 0, 2], [2, 2, 0]])

# By name: what is given after x (3, 4) besides the values, and the shape of the values.
CALLS: dict[str, tuple[Callable[[Any], dict[str, Any]], tuple[int, ...]]] = {
    "scatter": (lambda at: {"dim": 0, "index": at(PLACES), "src": None}, (2, 3)),
    "scatter-add": (lambda at: {"dim": 1, "index": at(PLACES), "src": None, "reduce": "add"}, (2, 3)),
    "scatter_add": (lambda at: {"dim": 1, "index": at(PLACES), "src": None}, (2, 3)),
    "index_add": (lambda at: {"dim": 0, "index": at(ROWS), "source": None, "alpha": 2}, (3, 4)),
    "index_copy": (lambda at: {"dim": 1, "index": at(ROWS), "source": None}, (3, 3)),
    "index_fill": (lambda at: {"dim": 0, "index": at(ROWS), "value": None}, ()),
    "put": (lambda at: {"index": at(PLACES * 2), "source": None, "accumulate": True}, (2, 3)),
    "index_put": (lambda at: {"indices": (at(ROWS), at(PLACES)), "values": None}, (2, 3)),
    "masked_scatter": (lambda at: {"mask": at(np.arange(4) % 2 == 1), "source": None}, (6,)),
}


def called(name: str, x: tg.Tensor, values: Any, in_place: bool = False) -> Any:
    given = {
        key: values if value is None else value
        for key, value in CALLS[name][0](lambda index: tg.tensor(index, device=x.device)).items()
    }
    return getattr(x, name.partition("-")[0] + "_" * in_place)(**given)


def drawn(name: str, device: str, requires_grad: bool = True) -> tuple[tg.Tensor, tg.Tensor]:
    rng = np.random.default_rng(0)
    arrays = rng.uniform(1, 2, (3, 4)), rng.uniform(3, 4, CALLS[name][1])
    x, values = (tg.tensor(array, device=device, requires_grad=requires_grad) for array in arrays)
    return x, values


every_call = pytest.mark.parametrize("name", CALLS)


@every_call
@pytest.mark.parametrize("transposed", [False, True])
def test_the_method_writes_in_place_what_the_function_returns(name: str, transposed: bool, device: str) -> None:
    x, values = drawn(name, device)
    weights = tg.tensor(np.random.default_rng(1).normal(size=(3, 4)), device=device)
    expected = called(name, x, values)
    gradients = tg.grad((expected * expected * weights).sum(), [x, values])

    changed = x.T.clone().T * 1 if transposed else x.clone()
    assert device == "emulated" or changed._array.flags.c_contiguous != transposed
    memory = changed.detach()
    assert called(name, changed, values, in_place=True) is changed
    np.testing.assert_allclose(changed.detach().cpu().numpy(), expected.detach().cpu().numpy(), rtol=1e-15)
    np.testing.assert_array_equal(memory.cpu().numpy(), changed.detach().cpu().numpy())
    for one, other in zip(tg.grad((changed * changed * weights).sum(), [x, values]), gradients, strict=True):
        np.testing.assert_allclose(one.cpu().numpy(), other.cpu().numpy())


@every_call
def test_in_place_on_a_leaf_or_a_broadcast_view_raises(name: str, device: str) -> None:
    x, values = drawn(name, device)
    before = x.tolist()
    with pytest.raises(RuntimeError, match="no_grad"):
        called(name, x, values, in_place=True)
    assert x.tolist() == before
    expected = called(name, x, values).tolist()
    with tg.no_grad():
        assert called(name, x, values, in_place=True).tolist() == expected
    assert x.is_leaf and x.requires_grad
    with pytest.raises(RuntimeError, match="view"):
        called(name, tg.ones(1, 4, dtype="float64", device=device).expand(3, 4), values.detach(), in_place=True)


@every_call
def test_a_value_that_a_derivative_needs_is_not_silently_overwritten(name: str, device: str) -> None:
    x, values = drawn(name, device)
    y = x.clone()
    square = y * y
    called(name, y, values, in_place=True)
    with pytest.raises(RuntimeError, match="changed in place"):
        square.sum().backward()


def test_values_may_be_of_the_same_memory(device: str) -> None:
    x = tg.tensor([[1.0, 2.0], [3.0, 4.0]], device=device)
    x.index_add_(0, [0, 0], x)
    assert x.tolist() == [[5.0, 8.0], [3.0, 4.0]]
    x.index_copy_(0, [1, 0], x)
    assert x.tolist() == [[3.0, 4.0], [5.0, 8.0]]
    x.scatter_add_(1, [[1, 1], [0, 0]], x)
    assert x.tolist() == [[3.0, 11.0], [18.0, 8.0]]


@every_call
def test_no_values_are_read_on_the_host(name: str) -> None:
    x, values = drawn(name, "strict")
    given = CALLS[name][0](lambda index: tg.tensor(index, device="strict"))
    STRICT.counts.reset()
    given = {key: values if value is None else value for key, value in given.items()}
    out = getattr(x, name.partition("-")[0])(**given)
    (out * out).sum().backward()
    assert (STRICT.counts.device_to_host, STRICT.counts.synchronisations) == (0, 0)


def test_of_overwritten_values_only_the_last_has_a_gradient(device: str) -> None:
    values = tg.tensor([1.0, 2.0, 3.0], device=device, requires_grad=True)
    x = tg.zeros(2, device=device)
    for out in (
        x.scatter(0, [1, 1, 0], values),
        x.index_copy(0, [1, 1, 0], values),
        x.put([1, -1, 0], values),
        x.index_put(([1, 1, 0],), values),
    ):
        assert out.tolist() == [3.0, 2.0]
        assert tg.grad(out.sum(), values)[0].tolist() == [0.0, 1.0, 1.0]
    value = tg.tensor(5.0, device=device, requires_grad=True)
    assert tg.grad(x.index_fill(0, [1, 1], value).sum(), value)[0].item() == 1.0


def test_negative_indices_count_from_the_end(device: str) -> None:
    x = tg.zeros(2, 3, device=device)
    index = tg.tensor([[-1, 0]], device=device)
    assert x.scatter(1, index, [[1.0, 2.0]]).tolist() == [[2.0, 0.0, 1.0], [0.0] * 3]
    assert x.scatter(1, index, value=2.0).tolist() == [[2.0, 0.0, 2.0], [0.0] * 3]
    assert x.scatter(0, index, [[1.0, 2.0]]).tolist() == [[0.0, 2.0, 0.0], [1.0, 0.0, 0.0]]
    assert x.index_add(1, index[0], tg.ones(2, 2, device=device)).tolist() == [[1.0, 0.0, 1.0]] * 2
    assert tg.arange(6, device=device).reshape(2, 3).take(index).tolist() == [[5, 0]]
    assert x.put(index, [[1.0, 2.0]]).tolist() == [[2.0, 0.0, 0.0], [0.0, 0.0, 1.0]]


@pytest.mark.parametrize("shape", [(0,), (0, 2), (2, 0), (2, 0, 3), (2, 3, 0)])
def test_lengths_of_zero(shape: tuple[int, ...], device: str) -> None:
    x = tg.zeros(*shape, device=device)
    for dim in range(len(shape)):
        index = np.zeros(tuple([0 if d == dim else length for d, length in enumerate(shape)]), np.int64)
        assert x.scatter(dim, index, 1.0).shape == shape
        assert x.scatter_add(dim, index, np.zeros(index.shape)).shape == shape
        assert x.gather(dim, index).shape == index.shape
        assert x.index_add(dim, [], np.zeros(index.shape)).shape == shape
    assert x.take([]).shape == (0,)
    assert x.put([], []).shape == x.masked_scatter(x == 1, []).shape == shape
    assert tg.masked_select(x, True).shape == (0,)
    assert tg.one_hot(np.zeros(shape, np.int64), 3).shape == (*shape, 3)


def test_histograms_of_integers(device: str) -> None:
    rng = np.random.default_rng(0)
    ids = rng.integers(0, 50, 5000)
    counts = tg.zeros(50, dtype="int64", device=device).scatter_add(0, ids, np.ones(5000, np.int64))
    assert counts.tolist() == np.bincount(ids, minlength=50).tolist()
    for dtype in ("int8", "uint8", "int32", "int64"):
        some = np.array([-3, 100, 7, 100, -50]).astype(dtype)
        added = tg.ones(3, dtype=dtype, device=device).scatter_add(0, [0, 1, 0, 1, 2], some)
        expected = np.ones(3, dtype)
        np.add.at(expected, [0, 1, 0, 1, 2], some)
        assert added.dtype == dtype and added.tolist() == expected.tolist()
    assert tg.zeros(2, dtype="bool", device=device).scatter_add(0, [1, 1], [True, True]).tolist() == [False, True]


def test_one_hot_counts_the_classes(device: str) -> None:
    ids = tg.tensor([[0, 2], [1, 0]], dtype="int32", device=device)
    assert ids.one_hot().tolist() == [[[1, 0, 0], [0, 0, 1]], [[0, 1, 0], [1, 0, 0]]]
    assert tg.one_hot(tg.tensor(1, device=device), 2).tolist() == [0, 1]
    assert tg.one_hot(tg.tensor([3, -1], device="strict"), 2).tolist() == [[0, 0], [0, 0]]


def test_inside_a_step(device: str) -> None:
    """The same over a sequence as step by step, with indices that depend on the step."""

    def step(x: tg.Tensor, state: tg.Tensor) -> tg.Tensor:
        index = x.argmax(1, keepdim=True)
        return tg.tanh(state).scatter_add(1, index, x[:, :1]).scatter(1, (index + 1) % 4, x[:, 1:2]) + tg.one_hot(
            index[:, 0], 4
        )

    rng = np.random.default_rng(0)
    xs = tg.tensor(rng.normal(size=(5, 2, 4)), device=device, requires_grad=True)
    begin = tg.tensor(rng.normal(size=(2, 4)), device=device, requires_grad=True)
    out, _ = tg.scan(step, xs, begin)
    state, states = begin, []
    for x in xs.unbind():
        state = step(x, state)
        states.append(state)
    expected = tg.stack(states)
    np.testing.assert_allclose(out.detach().cpu().numpy(), expected.detach().cpu().numpy(), rtol=1e-12)
    weights = tg.tensor(rng.normal(size=(5, 2, 4)), device=device)
    for one, other in zip(
        tg.grad((out * weights).sum(), [xs, begin]), tg.grad((expected * weights).sum(), [xs, begin]), strict=True
    ):
        np.testing.assert_allclose(one.cpu().numpy(), other.cpu().numpy(), rtol=1e-12)


X = tg.zeros(2, 3)
ERRORS: dict[str, tuple[Callable[[], Any], type[Exception], str]] = {
    "scatter out of range": (lambda: X.scatter(1, [[3]], 1.0), IndexError, "scatter: index 3 .* dim 1 of length 3"),
    "scatter of fewer dims": (lambda: X.scatter(1, [0], 1.0), ValueError, r"\(1,\) must have the 2 dimensions"),
    "scatter longer than x": (lambda: X.scatter(1, [[0]] * 3, 1.0), ValueError, r"\(3, 1\).*no longer except in dim 1"),
    "scatter longer than src": (
        lambda: X.scatter(1, [[0, 1]], [[1.0]]),
        ValueError,
        r"src of shape \(1, 1\).*\(1, 2\)",
    ),
    "scatter of floats": (lambda: X.scatter(1, [[0.5]], 1.0), TypeError, "integers"),
    "src and value": (lambda: X.scatter(1, [[0]], 1.0, value=1.0), TypeError, "either src= or value="),
    "neither": (lambda: X.scatter(1, [[0]]), TypeError, "either src= or value="),
    "multiply": (lambda: X.scatter(1, [[0]], 1.0, reduce="multiply"), ValueError, "'multiply'; expected None or 'add'"),
    "a different dtype": (lambda: X.scatter(1, [[0]], tg.ones(1, 1, dtype="float64")), TypeError, "float64.*float32"),
    "index_add out of range": (lambda: X.index_add(0, [2], [[1.0] * 3]), IndexError, "index_add: index 2"),
    "index_add of a matrix": (lambda: X.index_add(0, [[0]], [[1.0] * 3]), ValueError, "one dimension"),
    "index_add of another shape": (lambda: X.index_add(0, [0], [1.0] * 3), ValueError, r"\(3,\); expected \(1, 3\)"),
    "alpha": (lambda: tg.arange(3).index_add(0, [0], tg.arange(1), alpha=0.5), TypeError, "alpha is 0.5.*int64"),
    "index_copy of another shape": (lambda: X.index_copy(1, [0, 1], [[1.0, 2.0]]), ValueError, r"expected \(2, 2\)"),
    "index_fill of a vector": (lambda: X.index_fill(0, [0], [1.0]), ValueError, r"\(1,\); expected a number or a 0-d"),
    "take out of range": (lambda: X.take([6]), IndexError, "take: index 6"),
    "put out of range": (lambda: X.put([-7], [1.0]), IndexError, "put: index -7"),
    "put of another number": (lambda: X.put([0, 1], [1.0]), ValueError, r"\(1,\).*as many elements as index, \(2,\)"),
    "index_put out of range": (lambda: X.index_put(([2],), 1.0), IndexError, "index 2"),
    "index_put of too many": (lambda: X.index_put(([0],) * 3, 1.0), IndexError, "too many"),
    "index_put of another shape": (lambda: X.index_put(([0, 1],), [1.0, 2.0], True), ValueError, "broadcast"),
    "mask of integers": (lambda: X.masked_select([1, 0, 1]), TypeError, "int64; expected bool"),
    "mask of another shape": (
        lambda: X.masked_select([True, False]),
        ValueError,
        "masked_select: x .* mask .*broadcast",
    ),
    "masked_scatter of too few": (lambda: X.masked_scatter(X == 0, [1.0]), ValueError, "6 elements, but source has 1"),
    "one_hot out of range": (lambda: tg.one_hot([0, 3], 3), IndexError, "one_hot: index 3"),
    "one_hot of a negative": (lambda: tg.one_hot([-1], 3), IndexError, "one_hot: index -1"),
    "one_hot of nothing": (lambda: tg.one_hot([]), ValueError, "num_classes must be given"),
    "a negative number of classes": (lambda: tg.one_hot([0], -2), ValueError, "num_classes is -2"),
    "one_hot of floats": (lambda: tg.one_hot([0.5], 2), TypeError, "integers"),
}


@pytest.mark.parametrize("name", ERRORS)
def test_errors(name: str) -> None:
    call, kind, message = ERRORS[name]
    with pytest.raises(kind, match=message) as error:
        call()
    assert "\n" not in str(error.value)
    assert X.tolist() == [[0.0] * 3] * 2
