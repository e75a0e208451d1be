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
