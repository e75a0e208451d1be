"""Arrays that share memory with tensors: read-only where a graph may need the values."""

import warnings
from collections.abc import Callable

import numpy as np
import pytest

import tinygrad_lstm as tg
from tinygrad_lstm import nn

OUTWARD: dict[str, Callable[[tg.Tensor], np.ndarray]] = {
    "numpy": lambda x: x.numpy(),
    "asarray": lambda x: np.asarray(x),
    "from_dlpack": lambda x: np.from_dlpack(x),
}


def leaf() -> tg.Tensor:
    return tg.tensor([1.0, 2.0, 3.0], requires_grad=True)


def written_by_a_graph() -> tg.Tensor:
    x = tg.zeros(3)
    view = x[1:]
    x[...] = leaf() * 2
    assert x.requires_grad
    return view


def frozen_later() -> tg.Tensor:
    x = leaf()
    return x.requires_grad_(False)


def leaf_after_its_view() -> tg.Tensor:
    x = tg.ones(3)
    view = x[1:]
    x.requires_grad_()
    return view


GUARDED: dict[str, Callable[[], tg.Tensor]] = {
    "an op's output": lambda: (leaf() * 2).detach(),
    "a view of one": lambda: (leaf() * 2).detach()[1:],
    "a view in the graph": lambda: (leaf() * 2)[1:].detach(),
    "a piece": lambda: (leaf() * 2).split(1)[0].detach(),
    "a leaf": lambda: leaf().detach(),
    "a leaf frozen later": frozen_later,
    "a view of what became a leaf": leaf_after_its_view,
    "a view of what a graph wrote to": written_by_a_graph,
    "a parameter": lambda: nn.Linear(2, 3).weight.detach(),
    "a frozen parameter": lambda: nn.Linear(2, 3).freeze().weight,
}

OWN: dict[str, Callable[[], tg.Tensor]] = {
    "made": lambda: tg.tensor([1.0, 2.0]),
    "made of a graph's": lambda: tg.tensor((leaf() * 2).detach()),
    "a clone": lambda: (leaf() * 2).detach().clone(),
    "a view": lambda: tg.ones(2, 3)[0].detach(),
    "computed": lambda: tg.ones(3) * 2,
    "read by an op": lambda: (lambda x: [x * leaf(), x][1])(tg.ones(3)),
}


def under_no_grad() -> tg.Tensor:
    with tg.no_grad():
        return leaf() * 2


OWN["computed under no_grad"] = under_no_grad


@pytest.mark.parametrize("outward", OUTWARD)
@pytest.mark.parametrize("make", GUARDED)
def test_what_a_graph_may_need_is_read_only(make: str, outward: str) -> None:
    x = GUARDED[make]()
    array = OUTWARD[outward](x)
    assert np.shares_memory(array, x.data)
    with pytest.raises(ValueError, match=r"read-only"):
        array[...] = 0
    assert x.data.flags.writeable  # the door that stays open
    copied = np.array(x)
    copied[...] = 0
    assert x.tolist() != copied.tolist()


@pytest.mark.parametrize("outward", OUTWARD)
@pytest.mark.parametrize("make", OWN)
def test_the_users_array_stays_writable(make: str, outward: str) -> None:
    x = OWN[make]()
    array = OUTWARD[outward](x)
    array[...] = 7
    assert set(x.tolist()) == {7.0}


def test_gradients_belong_to_the_user() -> None:
    x = leaf()
    (x * x).sum().backward()
    assert x.grad is not None
    x.grad.numpy()[...] = 7
    assert x.grad.tolist() == [7.0, 7.0, 7.0]


def test_a_tensor_copied_out_of_its_graph_warns() -> None:
    x = leaf()
    for given in (x, x * 2):
        with pytest.warns(UserWarning, match=r"not part of the graph .* use \.clone\(\)") as caught:
            assert not tg.tensor(given).requires_grad
        assert caught[0].filename == __file__
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        tg.tensor(x.detach())
        tg.tensor(tg.ones(3))
        with tg.no_grad():
            tg.tensor(x)
