"""What PyTorch's users type first: its keywords, and its methods that have no op of the same name."""

import copy
import enum
import inspect
import pickle
from typing import Any

import hypothesis
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from ops.case import Case
from ops.cases import CASES

import tinygrad_lstm as tg

# -- dtype= ------------------------------------------------------------------------------------------------------------

IN_DTYPE = {"sum": {}, "mean": {}, "prod": {}, "cumsum": {"dim": 0}, "softmax": {"dim": 0}, "log_softmax": {"dim": 0}}
ONLY_FLOAT = {"mean", "softmax", "log_softmax"}


@pytest.mark.parametrize("dtype", ["float16", "float64", "int32", "uint8"])
@pytest.mark.parametrize("given", ["float16", "float32", "int64", "bool"])
@pytest.mark.parametrize("name", IN_DTYPE)
def test_x_is_cast_to_a_dtype_first(name: str, given: str, dtype: str, device: str) -> None:
    x = tg.tensor([[1.5, 2.0], [0.25, 3.0]], device=device).to(dtype=given)
    op = getattr(tg, name)
    if name in ONLY_FLOAT and "float" not in dtype:
        with pytest.raises(TypeError, match=rf"^{name}: dtype is {dtype}; expected float"):
            op(x, **IN_DTYPE[name], dtype=dtype)
        return
    out = op(x, **IN_DTYPE[name], dtype=dtype)
    assert out.dtype == dtype
    assert out.tolist() == op(x.to(dtype=dtype), **IN_DTYPE[name]).to(dtype=dtype).tolist()
    assert out.tolist() == getattr(x, name)(dtype=np.dtype(dtype), **IN_DTYPE[name]).tolist()
    assert op(x, **IN_DTYPE[name], dtype=None).dtype == op(x, **IN_DTYPE[name]).dtype


@pytest.mark.parametrize("name", IN_DTYPE)
def test_the_gradient_of_a_result_of_a_different_dtype(name: str, device: str) -> None:
    x = tg.tensor([[1.5, 2.0], [0.25, 3.0]], dtype="float32", device=device, requires_grad=True)
    out = getattr(tg, name)(x, **IN_DTYPE[name], dtype="float64")
    (g,) = tg.grad((out * out).sum(), x, create_graph=True)
    assert g.dtype == "float32"
    (g * g).sum().backward()
    assert x.grad is not None and x.grad.dtype == "float32" and np.isfinite(x.grad.cpu().numpy()).all()
    if name not in ONLY_FLOAT:
        assert not getattr(tg, name)(x, **IN_DTYPE[name], dtype="int64").requires_grad


def test_a_user_defined_op_may_take_further_keywords() -> None:
    def repeated(call: Any, times: int, *arguments: Any) -> tg.Tensor:
        return call(*arguments) * times

    @tg.op(x=lambda g, power: g * power, also={"times": repeated})
    def scaled(xp: Any, x: tg.Array, power: float = 1.0) -> tg.Array:
        return x * power

    x = tg.ones(2, requires_grad=True)
    for call in (lambda: scaled(x, 2.0, times=3), lambda: scaled(x, power=2.0, times=3)):
        (g,) = tg.grad(call().sum(), x)
        assert g.tolist() == [6.0, 6.0]
    assert scaled(x, 2.0, times=None).tolist() == [2.0, 2.0]
    assert str(inspect.signature(scaled)).endswith("*, times=None) -> 'Tensor'")


# -- unbiased=, rounding_mode= -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["var", "std"])
def test_unbiased_is_correction(name: str) -> None:
    x, op = tg.rand(3, 4), getattr(tg, name)
    for dim in (None, 0, (0, 1)):
        for keepdim in (False, True):
            for unbiased in (False, True):
                expected = op(x, dim, correction=int(unbiased), keepdim=keepdim)
                assert op(x, dim, unbiased=unbiased, keepdim=keepdim).tolist() == expected.tolist()
    with pytest.raises(TypeError, match=rf"^{name}: unbiased=True means correction=1; give one of them$"):
        op(x, correction=0, unbiased=True)


def test_an_unknown_rounding_mode_is_refused() -> None:
    with pytest.raises(ValueError, match=r"^div: rounding_mode is 'round'; expected None, 'trunc' or 'floor'$"):
        tg.div(tg.ones(2), 2, rounding_mode="round")


def test_division_in_place_may_round() -> None:
    x = tg.tensor([7, -7])
    assert x.div_(2, rounding_mode="trunc").tolist() == [3, -3] and x.dtype == "int64"
    with pytest.raises(TypeError, match=r"^div_: the result is float32"):
        x.div_(2)


@pytest.mark.parametrize("dtype", ["int8", "int32", "int64", "uint8"])
def test_quotients_of_integers_are_rounded_exactly(dtype: str, device: str) -> None:
    info = np.iinfo(dtype)
    numbers = [max(n, info.min) for n in (-128, -7, -6, -1, 0, 1, 6, 7, 127)] + [info.max, info.max - 1]
    divisors = [n for n in (-5, -3, -2, 1, 2, 3, 7) if n >= info.min]
    x, y = tg.tensor(numbers, dtype, device).unsqueeze(1), tg.tensor(divisors, dtype, device)
    down, towards_zero = x.div(y, rounding_mode="floor"), x.div(y, rounding_mode="trunc")
    assert down.dtype == towards_zero.dtype == dtype
    assert down.tolist() == [[a // b for b in divisors] for a in numbers]
    assert towards_zero.tolist() == [[abs(a) // abs(b) * (1 if a * b >= 0 else -1) for b in divisors] for a in numbers]


# -- x.size ------------------------------------------------------------------------------------------------------------


class Color(enum.IntEnum):
    RED = 6


def test_size_of_torch_is_shape() -> None:
    x = tg.zeros(2, 3, dtype="int32")
    with pytest.raises(TypeError, match=r"x\.shape\[0\] for x\.size\(0\), x\.shape for x\.size\(\)$"):
        x.size(0)  # type: ignore[operator]
    with pytest.raises(TypeError, match=r"x\.shape\[0\]"):
        x.size()  # type: ignore[operator]


@pytest.mark.parametrize("number", [tg.zeros(2, 3).size, Color.RED], ids=["size", "enum"])
def test_a_number_of_a_subclass_of_int_is_a_number(number: Any) -> None:
    x = tg.ones(2, 3, dtype="int32")
    assert number == 6 and isinstance(number, int)
    assert (x * number).dtype == (number - x).dtype == "int32"
    assert (tg.ones(2, dtype="float16") / number).dtype == "float16"
    assert x.reshape(number).shape == tg.zeros(number).shape == (6,)
    assert tg.full((1,), number).dtype == "int64"


def test_a_copy_of_a_size_is_an_integer() -> None:
    size = tg.zeros(2, 3).size
    assert type(copy.copy(size)) is type(pickle.loads(pickle.dumps(size))) is int


# -- input= ------------------------------------------------------------------------------------------------------------

CALLED_PLAINLY = [case for case in CASES if case.called_plainly and case.name not in ("cat", "concat", "concatenate")]


def has_settings(case: Case) -> bool:
    op = getattr(case.call, "op", None)
    return op is None or len(op.inputs) < len(op.names)


@pytest.mark.parametrize("case", [case for case in CALLED_PLAINLY if has_settings(case)], ids=str)
@hypothesis.settings(max_examples=3)
@given(data=st.data())
def test_the_first_argument_may_be_given_by_torchs_name(case: Case, data: st.DataObject) -> None:
    drawn = data.draw(case.drawn)
    first, *others = [tg.tensor(array) for array in drawn.arrays]
    names = list(inspect.signature(case.call).parameters)
    named = dict(zip(names[1:], others, strict=False)) | drawn.settings
    if "VAR_POSITIONAL" in [p.kind.name for p in inspect.signature(case.call).parameters.values()]:
        return  # f(x, 2, 3): the others have no names
    for name in ("input", names[0]):
        found, expected = case.call(**{name: first}, **named), case.call(first, *others, **drawn.settings)
        assert repr(found) == repr(expected)


@pytest.mark.parametrize("case", [case for case in CALLED_PLAINLY if not has_settings(case)], ids=str)
def test_an_op_of_tensors_alone_has_no_keyword_for_them(case: Case) -> None:
    with pytest.raises(TypeError, match=r"unexpected keyword argument 'input'"):
        case.call(input=tg.ones(2))


def test_a_missing_first_argument_is_an_error() -> None:
    for name in ("sum", "softmax", "cumsum"):
        with pytest.raises(TypeError, match=rf"^{name}: an argument is missing; it is <op {name}"):
            getattr(tg, name)(dim=0)
        with pytest.raises(TypeError, match=rf"^{name}: an argument is missing; it is <op {name}"):
            getattr(tg, name)()
    for call in (lambda: tg.mean(), lambda: tg.mean(dim=0)):
        with pytest.raises(TypeError, match=r"^mean: the first argument, x, is missing$"):
            call()
    for call in (lambda: tg.ones(2).mean(input=tg.ones(2)), lambda: tg.ones(2).sum(input=tg.ones(2))):
        with pytest.raises(TypeError, match=r"unexpected .*argument 'input'"):
            call()


# -- methods -----------------------------------------------------------------------------------------------------------


def test_what_a_tensor_says_of_itself() -> None:
    x = tg.zeros(2, 3, dtype="float64")
    assert (x.dim(), x.ndimension(), x.numel(), x.nelement(), x.element_size()) == (2, 2, 6, 6, 8)
    assert x.is_floating_point() and not x.long().is_floating_point()
    assert x.is_contiguous() and not x.T.is_contiguous() and x.T.contiguous().is_contiguous()


@pytest.mark.parametrize("name", ["byte", "char", "short", "int", "long", "half", "float", "double", "bool"])
def test_casts_are_those_of_torch(name: str) -> None:
    dtypes = {"byte": "uint8", "char": "int8", "short": "int16", "int": "int32", "long": "int64"}
    dtypes |= {"half": "float16", "float": "float32", "double": "float64"}
    assert getattr(tg.ones(2), name)().dtype == dtypes.get(name, name)
    with pytest.raises(TypeError, match="argument"):
        getattr(tg.ones(2), name)(dtype="int8")


def test_to_the_dtype_and_device_of_a_tensor(device: str) -> None:
    x, other = tg.ones(2, requires_grad=True), tg.zeros(3, dtype="float64", device=device)
    for moved in (x.to(other), x.type_as(other)):
        assert (moved.dtype, moved.device) == ("float64", device)
        (moved * 2).sum().backward()
    assert x.grad is not None and x.grad.tolist() == [4.0, 4.0]
    assert x.to(other, dtype="float16").dtype == "float16"


@pytest.mark.parametrize("dtype", ["float16", "float32", "float64"])
def test_bounds_that_are_numbers_of_numpy_do_not_change_the_dtype(dtype: str, device: str) -> None:
    x = tg.tensor([0.0, 1.0], dtype=dtype, device=device)
    for bound in (np.float16(0.5), np.float32(0.5), np.float64(0.5)):
        assert x.clamp(bound).dtype == x.clamp(max=bound).dtype == x.clamp(bound, x).dtype == dtype
        assert tg.tensor([0, 1], device=device).clamp(bound).dtype == "float32"
    assert x.clamp([0.25, 2.0]).tolist() == [0.25, 2.0]


def test_new_tensors_of_the_same_dtype_and_device(device: str) -> None:
    x = tg.ones(2, dtype="float16", device=device)
    made = [x.new_zeros(2, 3), x.new_ones((2, 3)), x.new_empty(2, 3), x.new_full((2, 3), fill_value=1.5)]
    made += [x.new_tensor([[1, 2, 3], [4, 5, 6]])]
    assert all((new.shape, new.dtype, new.device) == ((2, 3), "float16", device) for new in made)
    assert [new.cpu().tolist()[1][2] for new in made] == [0.0, 1.0, 0.0, 1.5, 6.0]
    assert x.new_zeros(1, dtype="int64").dtype == "int64" and x.new_zeros(1, dtype=None).dtype == "float16"
    assert x.new_zeros(1, device="cpu", requires_grad=True).requires_grad
    assert tg.empty_like(x).shape == (2,) and tg.empty_like(x).dtype == "float16"


def test_shapes_of_other_tensors() -> None:
    x, like = tg.arange(6), tg.zeros(2, 3)
    assert x.view_as(like).tolist() == x.reshape_as(like).tolist() == [[0, 1, 2], [3, 4, 5]]
    assert tg.arange(3).expand_as(like).tolist() == [[0, 1, 2], [0, 1, 2]]
    assert tg.permute(like, dims=(1, 0)).shape == like.permute(1, 0).shape == (3, 2)
    with pytest.raises(ValueError, match=r"^narrow: start 2 and length 2 do not fit dim 1 of shape \(2, 3\)$"):
        like.narrow(1, 2, 2)


def test_products_that_do_not_broadcast_refuse() -> None:
    with pytest.raises(ValueError, match=r"^mm: expected tensors of 2 and 2 dimensions, got shapes \(2, 3\)"):
        tg.mm(tg.ones(2, 3), tg.ones(3))
    with pytest.raises(ValueError, match=r"^bmm: .* and the same batch size, got shapes"):
        tg.bmm(tg.ones(2, 3, 4), tg.ones(1, 4, 5))
    with pytest.raises(ValueError, match=r"^addmm: shape \(3, 2, 2\) does not broadcast to that of the product"):
        tg.addmm(tg.ones(3, 2, 2), tg.ones(2, 3), tg.ones(3, 2))
    nan = tg.tensor(float("nan"))
    assert tg.addmm(nan, tg.ones(1, 2), tg.ones(2, 1), beta=0, alpha=3).tolist() == [[6.0]]


def test_equal_is_a_bool(device: str) -> None:
    x = tg.tensor([1.0, 2.0], device=device)
    assert tg.equal(x, x.clone()) is True and x.equal(np.array([1.0, 2.0])) is True
    nan = tg.tensor([float("nan")], device=device)
    assert x.equal(x + 1) is x.equal(x.unsqueeze(0)) is tg.equal(nan, nan) is False


def test_take_along_no_dim_is_of_flattened_tensors() -> None:
    x = tg.tensor([[5.0, 6.0], [7.0, 8.0]])
    assert x.take_along_dim(tg.tensor([[3], [0]])).tolist() == x.take_along_dim([3, 0]).tolist() == [8.0, 5.0]


@pytest.mark.parametrize("alpha", [1, -0.5])
def test_alpha_scales_what_is_added_in_place(alpha: float) -> None:
    x, g = tg.tensor([1.0, 2.0]), tg.tensor([4.0, 8.0])
    assert x.clone().add_(g, alpha=alpha).tolist() == (x + g * alpha).tolist()
    assert x.clone().sub_(g, alpha=alpha).tolist() == (x - g * alpha).tolist()


def test_arguments_by_torchs_names() -> None:
    x = tg.ones(2).requires_grad_(requires_grad=True)
    (x * 3).backward(gradient=tg.tensor([1.0, 2.0]))
    assert x.grad is not None and x.grad.tolist() == [3.0, 6.0]
    with pytest.raises(TypeError, match=r"^backward: gradient= is another name for grad="):
        x.sum().backward(tg.ones(()), gradient=tg.ones(()))
    assert tg.full((2,), fill_value=3).tolist() == tg.full_like(tg.ones(2, dtype="int64"), fill_value=3).tolist()
    assert tg.linspace(0, 1, steps=3).tolist() == [0.0, 0.5, 1.0]
    assert tg.as_tensor([1, 2], dtype="float16").dtype == tg.as_tensor(np.ones(2), dtype="float16").dtype == "float16"
    assert tg.as_tensor(x, dtype=x.dtype) is x


# -- detach_ -----------------------------------------------------------------------------------------------------------


def test_a_detached_state_ends_the_graph(device: str) -> None:
    w = tg.tensor(2.0, device=device, requires_grad=True)
    h = w * w
    before = h * 3
    assert h.detach_() is h and h.is_leaf and not h.requires_grad
    (h * w).backward()
    assert w.grad is not None and w.grad.item() == 4.0
    before.backward()
    assert w.grad.item() == 4.0 + 12.0


def test_what_a_graph_needs_is_watched_after_detach_(device: str) -> None:
    x = tg.tensor([1.0, 2.0], device=device, requires_grad=True)
    y = x.exp()
    out = (y * 1).sum()
    y.detach_().add_(1.0)
    with pytest.raises(RuntimeError, match=r"changed in place"):
        out.backward()


def test_a_detached_leaf_requires_no_gradient() -> None:
    x = tg.ones(2, requires_grad=True)
    y = x * 2
    assert not x.detach_().requires_grad
    assert y.requires_grad
