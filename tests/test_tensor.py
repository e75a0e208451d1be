"""Tensors: their place among NumPy's arrays and others, what they tell, and what is written into them."""

import copy
import math
import operator
import pickle
from typing import Any

import numpy as np
import pytest

import tinygrad_lstm as tg
from tinygrad_lstm.methods import OpMethods

# -- with NumPy and others ---------------------------------------------------------------------------------------------


OPERATORS = [
    *(operator.add, operator.sub, operator.mul, operator.truediv, operator.pow, operator.matmul),
    *(operator.lt, operator.le, operator.gt, operator.ge, operator.eq, operator.ne),
]


@pytest.mark.parametrize("apply", OPERATORS, ids=lambda apply: apply.__name__)
def test_an_array_on_the_left_makes_a_tensor(apply: Any) -> None:
    array, values = np.array([[1.0, 2.0], [3.0, 4.0]]), np.array([[2.0, 2.0], [1.0, 0.5]])
    x = tg.tensor(values, requires_grad=True)
    for result, expected in ((apply(array, x), apply(array, values)), (apply(x, array), apply(values, array))):
        assert isinstance(result, tg.Tensor)
        np.testing.assert_allclose(result.detach().numpy(), expected)
        assert result.requires_grad == (result.dtype.kind == "f")


@pytest.mark.parametrize("apply", OPERATORS[:5] + OPERATORS[6:], ids=lambda apply: apply.__name__)
def test_a_scalar_of_numpys_counts_as_a_number(apply: Any, device: str) -> None:
    x = tg.tensor([1.0, 2.0], device=device)
    for result in (apply(np.float64(2.0), x), apply(x, np.float64(2.0)), apply(x, np.int64(2))):
        assert isinstance(result, tg.Tensor)
        assert result.dtype in (np.float32, np.bool_)
        assert result.device == device


def test_logical_operators(device: str) -> None:
    x, y = tg.tensor([True, True, False], device=device), tg.tensor([True, False, False], device=device)
    assert (x & y).tolist() == [True, False, False]
    assert (x | y).tolist() == [True, True, False]
    assert (x ^ y).tolist() == [False, True, False]
    assert (~x).tolist() == [False, False, True]


def test_logical_operators_beside_arrays_and_bools() -> None:
    x, array = tg.tensor([True, False]), np.array([True, True])
    for result, expected in (
        (array & x, [True, False]),
        (array | x, [True, True]),
        (array ^ x, [False, True]),
        (True & x, [True, False]),
        (x | [False, True], [True, True]),
        (x ^ np.True_, [False, True]),
    ):
        assert isinstance(result, tg.Tensor)
        assert result.tolist() == expected


@pytest.mark.parametrize(
    "apply",
    [lambda x: ~x, lambda x: x & x, lambda x: x | (x > 0), lambda x: (x > 0) ^ x, lambda x: (x > 0) & 1.0],
)
def test_bitwise_operators_take_no_floats(apply: Any, device: str) -> None:
    with pytest.raises(TypeError, match=r"expected bool tensors or integers, got floats; compare first"):
        apply(tg.ones(2, device=device))


@pytest.mark.parametrize("dtype", ["int8", "uint8", "int32", "int64"])
@pytest.mark.parametrize(
    "apply",
    [
        lambda x, y: x & y,
        lambda x, y: x | y,
        lambda x, y: x ^ y,
        lambda x, y: ~x,
        lambda x, y: x & 6,
        lambda x, y: 6 | x,
        lambda x, y: x ^ (y > 2),
        lambda x, y: (y > 2) & x,
    ],
)
def test_bitwise_operators_of_integers(apply: Any, dtype: str, device: str) -> None:
    x, y = np.array([0, 1, 5, 100], dtype), np.array([3, 2, 7, 64], dtype)
    found = apply(tg.tensor(x, device=device), tg.tensor(y, device=device))
    assert found.dtype == dtype
    assert found.tolist() == apply(x, y).tolist()
    assert (tg.tensor([True, False]) & 3).tolist() == [1, 0]


def test_division_with_a_remainder_is_pythons(device: str) -> None:
    for x, y in [(7, 3), (-7, 3), (7, -3), (-7, -3), (6, 3), (7.5, 2.0), (-7.5, 2.0), (7.5, -2.0), (-1.0, math.inf)]:
        a, b = tg.tensor(x, device=device), tg.tensor(y, device=device)
        for quotient, rest in [(a // b, a % b), (a // y, a % y), (x // b, x % b)]:
            assert (quotient.item(), rest.item()) == (x // y, x % y)
            assert quotient.dtype == rest.dtype == a.dtype


@pytest.mark.parametrize("divide", [tg.floor_divide, tg.remainder])
def test_bools_are_not_divided_with_a_remainder(divide: Any, device: str) -> None:
    with pytest.raises(TypeError, match=f"^{divide.__name__}: bool tensors cannot be divided with a remainder"):
        divide(tg.tensor([True], device=device), True)


def test_names_of_pytorch(device: str) -> None:
    x = tg.tensor([[1.0, 2.0, 0.0], [3.0, -4.7, 5.0]], device=device, requires_grad=True)
    assert (x.dim(), x.numel()) == (2, 6)
    assert x.ravel().tolist() == x.flatten().tolist()
    assert x.t().tolist() == x.T.tolist()
    assert x[0].t() is not None and x[0].t().shape == (3,)
    with pytest.raises(ValueError, match=r"^t: expected at most two dimensions, got shape \(1, 2, 3\)"):
        x[None].t()
    for name, dtype in {"half": "float16", "long": "int64", "int": "int32", "bool": "bool"}.items():
        cast = getattr(x, name)()
        assert cast.dtype == dtype and cast.device == device
        assert cast.tolist() == x.astype(dtype).tolist()
    assert x.flip(dims=(0, 1)).tolist() == x.flip((0, 1)).tolist()
    assert x.roll(1, dims=1).tolist() == x.roll(1, 1).tolist()


def test_a_view_shares_memory_or_is_refused(device: str) -> None:
    x = tg.tensor([[1.0, 2.0, 3.0], [4.0, 5.0, 6.0]], device=device)
    x.view(3, -1)[0, 0] = 7
    assert x[0, 0].item() == 7
    assert x.view((6,)).shape == (6,)
    assert x[:, :0].view(0, 5).shape == (0, 5)
    with pytest.raises(
        RuntimeError, match=r"^view: the elements of shape \(3, 2\) are not in order in memory; use x.resh"
    ):
        x.T.view(6)
    assert x.contiguous() is x
    assert x.T.contiguous().view(6).tolist() == [7, 4, 2, 5, 3, 6]
    y = x.requires_grad_()
    (y.view(6) * y.T.contiguous().view(6)).sum().backward()
    assert y.grad is not None and y.grad.shape == x.shape


def test_asarray_shares_memory_and_converts() -> None:
    x = tg.tensor([1.0, 2.0])
    assert np.shares_memory(np.asarray(x), x.data)
    assert np.shares_memory(x.numpy(), x.data)
    assert np.asarray(x, dtype="float64").dtype == np.float64
    assert not np.shares_memory(np.array(x), x.data)
    assert np.stack([x, x]).tolist() == [[1.0, 2.0]] * 2


def test_a_tensor_of_a_graph_does_not_leave_silently() -> None:
    x = tg.tensor([1.0], requires_grad=True)
    for leave in (x.numpy, lambda: np.asarray(x), lambda: np.asarray(x * 2)):
        with pytest.raises(RuntimeError, match="detach"):
            leave()
    with pytest.raises(BufferError, match="detach"):
        np.from_dlpack(x)
    assert np.asarray(x.detach()).tolist() == [1.0]


@pytest.mark.parametrize("dtype", ["float16", "float32", "float64", "int8", "uint8", "int32", "int64", "bool"])
def test_dlpack_shares_memory_with_numpy(dtype: str) -> None:
    x = tg.ones(2, 3, dtype=dtype)
    array = np.from_dlpack(x)
    assert array.dtype == dtype
    assert np.shares_memory(array, x.data)
    source = np.zeros((3, 2), dtype)
    y = tg.from_dlpack(source)
    assert (y.dtype, y.shape, y.device) == (dtype, (3, 2), "cpu")
    source[1, 1] = 1
    assert y[1, 1].item() == 1


def test_dlpack_shares_memory_with_torch() -> None:
    torch = pytest.importorskip("torch")
    x = tg.zeros(2, 3)
    there = torch.from_dlpack(x)
    there[0, 0] = 5.0
    assert x[0, 0].item() == 5.0
    back = tg.from_dlpack(torch.ones(2))
    assert back.tolist() == [1.0, 1.0]


def test_dlpack_refuses_what_it_cannot_take() -> None:
    with pytest.raises(TypeError, match="DLPack"):
        tg.from_dlpack([1.0])
    with pytest.raises(TypeError, match="not supported"):
        tg.from_dlpack(np.zeros(2, "complex64"))


# -- what it tells -----------------------------------------------------------------------------------------------------


def test_numbers_from_one_element(device: str) -> None:
    x = tg.tensor([[2.5]], device=device)
    assert (x.item(), float(x), int(x), bool(x)) == (2.5, 2.5, 2, True)
    assert isinstance(x.item(), float)
    assert not tg.tensor(0.0, device=device)
    one = tg.tensor(1, device=device)
    assert isinstance(one.item(), int)
    assert ["a", "b"][one] == "b"
    assert list(range(3))[one:] == [1, 2]
    assert tg.tensor(True, device=device).item() is True


def test_one_element_is_formatted_as_a_number(device: str) -> None:
    loss = tg.tensor([2.0 / 3], device=device, requires_grad=True) * 1
    assert f"{loss:.3f}" == "0.667"
    assert f"{tg.tensor(7, device=device):04d}" == "0007"
    assert f"{loss}" == repr(loss)
    with pytest.raises(ValueError, match="item"):
        f"{tg.ones(2, device=device):.3f}"


@pytest.mark.parametrize("shape", [(0,), (2,), (1, 2)])
@pytest.mark.parametrize("ask", [tg.Tensor.item, float, int, bool])
def test_several_elements_are_not_a_number(ask: Any, shape: tuple[int, ...], device: str) -> None:
    with pytest.raises(ValueError, match=r"item: .*one"):
        ask(tg.zeros(shape, device=device))


def test_a_float_is_not_an_index() -> None:
    with pytest.raises(TypeError, match="float32"):
        [1, 2][tg.tensor(1.0)]


def test_iteration_and_length(device: str) -> None:
    x = tg.tensor([[1.0, 2.0], [3.0, 4.0]], device=device, requires_grad=True)
    rows = list(x)
    assert (len(x), len(rows)) == (2, 2)
    assert rows[1].tolist() == [3.0, 4.0]
    (g,) = tg.grad(rows[1].sum(), x)
    assert g.tolist() == [[0.0, 0.0], [1.0, 1.0]]
    first, second = x
    assert (first + second).tolist() == [4.0, 6.0]
    assert list(tg.zeros(0, 2, device=device)) == []
    with pytest.raises(TypeError, match="0-d"):
        len(tg.tensor(1.0, device=device))
    with pytest.raises(TypeError, match="0-d"):
        iter(tg.tensor(1.0, device=device))


def test_hash_is_of_identity() -> None:
    x, y = tg.zeros(2), tg.zeros(2)
    assert len({x, y, x}) == 2
    assert {x: 1}[x] == 1


def test_every_annotated_method_is_there() -> None:
    methods = list(OpMethods.__annotations__)
    assert {"sum", "tanh", "__add__"} <= set(methods)
    assert [name for name in methods if not callable(getattr(tg.Tensor, name, None))] == []


@pytest.mark.parametrize(
    ("x", "text"),
    [
        (tg.tensor([1.0, 2.0]), "tensor([1., 2.])"),
        (tg.tensor(3), "tensor(3)"),
        (tg.tensor([True]), "tensor([ True])"),
        (tg.tensor([1.0], dtype="float64"), "tensor([1.], dtype=float64)"),
        (tg.tensor([1.0], device="strict"), "tensor([1.], device='strict')"),
        (tg.tensor([1.0], requires_grad=True), "tensor([1.], requires_grad=True)"),
        (tg.tensor([1.0], requires_grad=True) * 2, "tensor([2.], op=mul)"),
        (tg.tensor([[1.0, 2.0], [3.0, 4.0]]), "tensor([[1., 2.],\n        [3., 4.]])"),
        (tg.zeros(2, 0), "tensor([], shape=(2, 0))"),
    ],
    ids=repr,
)
def test_repr(x: tg.Tensor, text: str) -> None:
    assert repr(x) == text


# -- in place ----------------------------------------------------------------------------------------------------------


IN_PLACE = {
    "add_": (lambda x: x.add_(2), [3.0, 0.0, 5.0]),
    "sub_": (lambda x: x.sub_(x), [0.0, 0.0, 0.0]),
    "mul_": (lambda x: x.mul_([2, 2, 2]), [2.0, -4.0, 6.0]),
    "div_": (lambda x: x.div_(2.0), [0.5, -1.0, 1.5]),
    "clamp_": (lambda x: x.clamp_(-1, 2), [1.0, -1.0, 2.0]),
    "masked_fill_": (lambda x: x.masked_fill_(x < 0, 7), [1.0, 7.0, 3.0]),
    "copy_": (lambda x: x.copy_(tg.tensor([4.0, 5.0, 6.0], dtype="float64")), [4.0, 5.0, 6.0]),
    "fill_": (lambda x: x.fill_(9), [9.0, 9.0, 9.0]),
    "zero_": (lambda x: x.zero_(), [0.0, 0.0, 0.0]),
    "iadd": (lambda x: operator.iadd(x, 2), [3.0, 0.0, 5.0]),
    "isub": (lambda x: operator.isub(x, 1), [0.0, -3.0, 2.0]),
    "imul": (lambda x: operator.imul(x, 2), [2.0, -4.0, 6.0]),
    "itruediv": (lambda x: operator.itruediv(x, 2), [0.5, -1.0, 1.5]),
}


@pytest.mark.parametrize("name", IN_PLACE)
def test_in_place_methods_write_into_the_memory(name: str, device: str) -> None:
    change, expected = IN_PLACE[name]
    x = tg.tensor([1.0, -2.0, 3.0], device=device)
    view, same = x[1:], x.detach()
    assert change(x) is x
    assert x.tolist() == expected
    assert view.tolist() == expected[1:]
    assert same.tolist() == expected
    assert (x.dtype, x.device) == (np.float32, device)


@pytest.mark.parametrize("name", IN_PLACE)
def test_a_leaf_is_not_changed_in_place(name: str, device: str) -> None:
    change, expected = IN_PLACE[name]
    x = tg.tensor([1.0, -2.0, 3.0], device=device, requires_grad=True)
    with pytest.raises(RuntimeError, match="no_grad"):
        change(x)
    assert x.tolist() == [1.0, -2.0, 3.0]
    with tg.no_grad():
        change(x)
    assert x.tolist() == expected
    assert x.requires_grad
    assert x.is_leaf


def test_in_place_methods_are_differentiable(device: str) -> None:
    x = tg.tensor([1.0, 2.0], device=device, requires_grad=True)
    y = x * 3
    y += x
    y *= 2
    y -= x * x
    (y * x).sum().backward()
    assert x.grad.tolist() == [13.0, 20.0]


@pytest.mark.parametrize(
    "change", [lambda x: x.add_(tg.ones(3, 2)), lambda x: x.copy_(tg.ones(3)), lambda x: x.mul_("a")]
)
def test_an_invalid_in_place_write_changes_nothing(change: Any) -> None:
    x = tg.tensor([1.0, 2.0])
    with pytest.raises((ValueError, TypeError)):
        change(x)
    assert x.tolist() == [1.0, 2.0]


WRITES = {
    "add_": lambda x: x.add_(1.0),
    "masked_fill_": lambda x: x.masked_fill_(x > 0, 0.0),
    "setitem": lambda x: x.__setitem__(0, 5.0),
}


@pytest.mark.parametrize("name", WRITES)
def test_elements_that_share_memory_are_not_written_to(name: str, device: str) -> None:
    x = tg.ones(2, 1, device=device)
    for view in (x.expand(2, 3), x.broadcast_to(3, 2, 1), x.expand(2, 3).T[1:]):
        with pytest.raises(RuntimeError, match=rf"^{name}: .*read-only view.*clone"):
            WRITES[name](view)
    assert x.tolist() == [[1.0], [1.0]]
    WRITES[name](x.expand(2, 3).clone())
    WRITES[name](tg.zeros(0, 3, device=device)[:, :1].T)


def test_elements_that_share_memory_are_known_where_the_array_is_writable() -> None:
    memory = np.ones(2, np.float32)
    x = tg.as_tensor(np.lib.stride_tricks.as_strided(memory, (3, 2), (0, 4), writeable=True))
    with pytest.raises(RuntimeError, match=r"add_: .*read-only view"):
        x.add_(1.0)
    assert memory.tolist() == [1.0, 1.0]


def test_a_float_is_not_written_into_integers() -> None:
    x = tg.tensor([1, 2])
    with pytest.raises(TypeError, match=r"div_.*float32.*int64"):
        x /= 2
    with pytest.raises(TypeError, match="add_"):
        x += 0.5
    x += 1
    assert x.tolist() == [2, 3]


def test_data_is_the_array_and_can_be_replaced() -> None:
    x = tg.tensor([1.0, 2.0], requires_grad=True)
    x.data[0] = 5.0
    assert x.tolist() == [5.0, 2.0]
    x.data = np.array([7.0, 8.0], np.float32)
    assert x.tolist() == [7.0, 8.0]
    assert x.is_leaf
    for wrong in (np.zeros(3, np.float32), np.zeros(2)):
        with pytest.raises(ValueError, match=r"data: expected float32 of shape \(2,\)"):
            x.data = wrong
    assert x.tolist() == [7.0, 8.0]


def test_replaced_data_is_seen_by_backward() -> None:
    x = tg.tensor([1.0, 2.0], requires_grad=True)
    y = (x * x).sum()
    x.data = np.zeros(2, np.float32)
    with pytest.raises(RuntimeError, match="changed in place"):
        y.backward()


def test_detach_and_clone(device: str) -> None:
    x = tg.tensor([1.0, 2.0], device=device, requires_grad=True)
    detached, cloned = x.detach(), x.clone()
    assert not detached.requires_grad
    assert cloned.requires_grad
    with tg.no_grad():
        x.fill_(0.0)
    assert detached.tolist() == [0.0, 0.0]
    assert cloned.tolist() == [1.0, 2.0]


def test_a_deep_copy_is_a_new_leaf(device: str) -> None:
    x = tg.tensor([1.0, 2.0], device=device, requires_grad=True)
    y = copy.deepcopy(x)
    with tg.no_grad():
        x.fill_(0.0)
    assert y.tolist() == [1.0, 2.0]
    assert y.requires_grad
    assert y.is_leaf
    (y * 2 + x.detach()).sum().backward()
    assert y.grad.tolist() == [2.0, 2.0]
    assert x.grad is None


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
@pytest.mark.parametrize("dtype", ["float16", "float64", "int8", "bool"])
def test_leaves_are_pickled(dtype: str, protocol: int, device: str) -> None:
    x = tg.tensor(np.arange(6).reshape(2, 3).T, dtype=dtype, device=device)
    x.requires_grad = x.dtype.kind == "f"
    y, again = pickle.loads(pickle.dumps([x, x], protocol))
    assert y is again
    assert y.device is x.device and y.dtype == dtype and y.requires_grad == x.requires_grad and y.is_leaf
    assert y.tolist() == x.tolist()
    y.detach().fill_(1)
    assert y.tolist() != x.tolist()


def test_what_an_op_made_is_not_pickled() -> None:
    x = tg.ones(2, requires_grad=True) * 2
    with pytest.raises(RuntimeError, match=r"pickle: only leaves .* use \.detach\(\)"):
        pickle.dumps(x)
    assert pickle.loads(pickle.dumps(x.detach())).tolist() == [2.0, 2.0]


def test_a_device_is_copied_and_pickled_as_itself(device: str) -> None:
    place = tg.ones(1, device=device).device
    assert pickle.loads(pickle.dumps(place)) is place
    assert copy.deepcopy(place) is place
