"""0-d tensors: written in place, as gradients, and along a dimension. (NumPy makes scalars of many 0-d arrays.)"""

import inspect
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import tinygrad_lstm as tg

WRITES: dict[str, tuple[Callable[[tg.Tensor], Any], float]] = {
    "zero_": (lambda y: y.zero_(), 0.0),
    "fill_": (lambda y: y.fill_(3.0), 0.0),
    "setitem of ...": (lambda y: y.__setitem__(..., 3.0), 0.0),
    "setitem of ()": (lambda y: y.__setitem__((), 3.0), 0.0),
    "setitem of a mask": (lambda y: y.__setitem__(tg.tensor(True, device=y.device), 3.0), 0.0),
    "setitem of itself": (lambda y: y.__setitem__(..., y * 3), 3.0),
    "copy_": (lambda y: y.copy_(tg.tensor(3.0, device=y.device)), 0.0),
    "add_": (lambda y: y.add_(1.0), 1.0),
    "sub_": (lambda y: y.sub_(y * 3), -2.0),
    "mul_": (lambda y: y.mul_(5.0), 5.0),
    "div_": (lambda y: y.div_(4.0), 0.25),
    "masked_fill_": (lambda y: y.masked_fill_(tg.tensor(True, device=y.device), 1.0), 0.0),
}

MADE: dict[str, Callable[[tg.Tensor], tg.Tensor]] = {
    "sum": lambda x: x.sum(),
    "mean": lambda x: x.mean(),
    "product": lambda x: (x @ tg.tensor([3.0, 1.0], device=x.device)) * 1.0,
    "element": lambda x: x[1] * 1.0,
    "piece": lambda x: x.unbind()[1] * 1.0,
}


@pytest.mark.parametrize("write", WRITES)
@pytest.mark.parametrize("make", MADE)
@pytest.mark.parametrize("create_graph", [False, True])
def test_a_write_to_a_0d_tensor_is_differentiated(make: str, write: str, create_graph: bool, device: str) -> None:
    x = tg.tensor([1.0, 2.0], device=device, requires_grad=True)
    y = MADE[make](x)
    function, slope = WRITES[write]
    (before,) = tg.grad(y * 2.0, x, retain_graph=True)
    function(y)
    (after,) = tg.grad(y * 2.0, x, create_graph=create_graph)
    assert after.shape == before.shape
    assert after.tolist() == [slope * part for part in before.tolist()]


def test_every_gradient_that_a_rule_gets_is_an_array(device: str) -> None:
    seen: list[Any] = []

    def rule(g: Any) -> Any:
        seen.append(g)
        return g

    @tg.op(x=rule)
    def passed(xp: Any, x: tg.Array) -> tg.Array:
        return x.copy()

    x = tg.tensor([1.0, 2.0], device=device, requires_grad=True)
    y = passed(x.sum())
    ((y * 2.0).sin() + y.exp() - y / 3.0 + (y * y).reshape(1)[0]).backward()
    assert x.grad is not None
    (g,) = seen
    assert type(g) is type(x.data)
    assert type(x.grad.data) is type(x.data)


def test_parts_of_a_result_are_arrays(device: str) -> None:
    @tg.op()
    def ends(xp: Any, x: tg.Array) -> Any:
        return x[0], x[-1]

    x = tg.tensor([1.0, 2.0], device=device)
    for part in (*ends(x), *x.unbind()):
        assert isinstance(part.data, x.device.array_type) and part.cpu().numpy().shape == ()
    x.unbind()[1].fill_(5.0)
    assert x.tolist() == [1.0, 5.0]


@pytest.mark.parametrize("order", [(0, 1, 2), (1, 2, 0), (1, 0, 2), (0, 2, 1)])
def test_the_gradient_of_an_index_is_added_to_others_of_a_0d_tensor(order: tuple[int, ...]) -> None:
    x = tg.tensor(2.0, requires_grad=True)
    parts = [lambda: x[None].sum(), lambda: x * 2, lambda: x * 3]
    made = [parts[k]() for k in order]
    (made[0] + made[1] + made[2]).backward()
    assert x.grad is not None and x.grad.item() == 6.0


# -- along a dimension: a 0-d tensor takes 0 and -1, as one of shape (1,) does -----------------------------------------

DIMS = {"dim", "dim0", "dim1", "dim2", "start_dim", "end_dim", "destination"}
ALONG = sorted(
    name
    for name, function in inspect.getmembers(tg, inspect.isfunction)
    if name in dir(tg) and name != "tensordot" and DIMS & set(inspect.signature(function).parameters)
)
REFUSED = {"cat", "chunk", "concat", "concatenate", "diagonal", "diff", "glu", "repeat_interleave", "roll", "split"}
REFUSED |= {"take_along_axis", "take_along_dim", "unbind", "unique"}
SHAPES = {"flatten": (1,), "stack": (1,), "unfold": (1,), "unsqueeze": (1,)}
GIVEN = {
    "chunks": 1,
    "correction": 0,
    "index": np.array(0),
    "indices": np.array(0),
    "k": 1,
    "q": 0.5,
    "repeats": 2,
    "shifts": 1,
    "size": 1,
    "size_or_sizes": 1,
    "source": 2.0,
    "src": 2.0,
    "step": 1,
    "value": 2.0,
}
"""Values of the arguments that are not the tensor or a dimension."""


def along(name: str, x: tg.Tensor, dim: int) -> Any:
    function = getattr(tg, name)
    first, *others = inspect.signature(function).parameters
    named = {k: dim if k in DIMS else GIVEN[k] for k in others if k in DIMS or k in GIVEN}
    if name == "scatter":
        named.pop("value")  # another name for src
    if "destination" in named:  # of movedim
        named["source"] = dim
    if x.ndim:
        named = {k: value.reshape(1) if isinstance(value, np.ndarray) else value for k, value in named.items()}
    beside = [x] * (others[:1] in (["x2"], ["y"]))
    result = function([x] if first == "tensors" else x, *beside, **named)
    return result[0] if isinstance(result, tuple) else result


def test_the_names_above_are_those_of_functions() -> None:
    assert set(ALONG) >= {"sum", "max", "softmax", "cosine_similarity", "cumsum", *REFUSED, *SHAPES}


@pytest.mark.parametrize("dim", [0, -1])
@pytest.mark.parametrize("name", ALONG)
def test_a_0d_tensor_has_dim_0(name: str, dim: int, device: str) -> None:
    x = tg.tensor(0.75, dtype="float64", device=device, requires_grad=True)
    if name in REFUSED:
        with pytest.raises((IndexError, TypeError, ValueError)) as refused:
            along(name, x, dim)
        assert "dim" in str(refused.value) and "\n" not in str(refused.value)
        return
    result = along(name, x, dim)
    assert result.shape == SHAPES.get(name, ())
    assert result.dtype == along(name, x.reshape(1), dim).dtype
    np.testing.assert_array_equal(result.flatten().tolist(), along(name, x.reshape(1), dim).flatten().tolist())
    if result.requires_grad and name != "std":
        tg.gradcheck(lambda x: along(name, x, dim), x)
        tg.gradgradcheck(lambda x: along(name, x, dim), x)


@pytest.mark.parametrize("dim", [1, -2])
@pytest.mark.parametrize("name", ALONG)
def test_a_0d_tensor_has_no_further_dim(name: str, dim: int) -> None:
    with pytest.raises(TypeError if name == "unbind" else IndexError) as refused:
        along(name, tg.tensor(0.75), dim)
    assert f"dim {dim}" in str(refused.value) or name == "unbind"
