"""0-d tensors, of which NumPy makes scalars: written in place, and as gradients."""

from collections.abc import Callable
from typing import Any

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
