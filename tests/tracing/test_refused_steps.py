"""Steps that look as if they could be compiled: what compiled code would compute wrongly is computed step by step."""

import copy
import ctypes
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pytest

import tinygrad_lstm as tg
from tinygrad_lstm.models import Recurrent

T, B, H = 4, 3, 2


@tg.op(x=lambda g: g)
def sign(xp: Any, x: tg.Array) -> tg.Array:
    """1 where x is 0, unlike the library's op of this name."""
    return xp.where(x >= 0, 1.0, -1.0).astype(x.dtype)


@tg.op(x=lambda g: g)
def positive(xp: Any, x: tg.Array) -> tg.Array:
    """The input, of which no element may be 0 or less."""
    assert xp.all(x > 0)
    return x * 1


def in_a_thread(x: tg.Tensor, h: tg.Tensor) -> tg.Tensor:
    with ThreadPoolExecutor(1) as pool:
        return tg.tanh(x + pool.submit(tg.relu, h).result())


def catching(x: tg.Tensor, h: tg.Tensor) -> tg.Tensor:
    try:
        scale = h.sum().item()
    except RuntimeError:
        scale = 0.0
    return tg.tanh(h * scale + x)


def with_a_leaf(x: tg.Tensor, h: tg.Tensor) -> tg.Tensor:
    leaf = h.detach().requires_grad_()
    return tg.tanh(h + x + leaf * leaf)


def with_a_gradient(x: tg.Tensor, h: tg.Tensor) -> tg.Tensor:
    leaf = h.detach().requires_grad_()
    (g,) = tg.grad(leaf.relu().sum(), [leaf])
    return tg.tanh(x + h * g)


def printing(x: tg.Tensor, h: tg.Tensor) -> tg.Tensor:
    print(end="")
    return tg.tanh(x + h)


def asking(x: tg.Tensor, h: tg.Tensor) -> tg.Tensor:
    return tg.tanh(x + h) if (h * 1).requires_grad else x - h


def writing(x: tg.Tensor, h: tg.Tensor) -> tg.Tensor:
    made = h * 1
    made.data[...] = 2.0
    return tg.tanh(x + made)


NUMBER = ctypes.pointer(ctypes.c_long())


def count() -> int:
    NUMBER.contents.value += 1
    return NUMBER.contents.value


STEPS: dict[str, Callable[[tg.Tensor, tg.Tensor], tg.Tensor]] = {
    "reads an array": lambda x, h: tg.tanh(h + x * (2.0 if (h.detach().numpy() > 0).any() else 1.0)),
    "reads data": lambda x, h: tg.tanh(h + x * (2.0 if (h.data > 0).any() else 1.0)),
    "reads a function of data": lambda x, h: tg.tanh(h + x * float(np.sign(h.data).sum())),
    "writes data": writing,
    "copies data": lambda x, h: tg.tanh(x + tg.tensor(h.detach()) + h),
    "copies data of integers": lambda x, h: tg.tanh(x + tg.tensor((h > 0).to("int64")) * h),
    "makes an array of itself": lambda x, h: tg.tanh(x + np.asarray(h.detach()) + h),
    "is copied": lambda x, h: tg.tanh(x + copy.deepcopy((h > 0).to("int64")) * h),
    "reads numbers": lambda x, h: tg.tanh(x + h.detach().flatten().tolist()[0] * h),
    "is shown": lambda x, h: tg.tanh(x * h + len(str(h.detach() > 0))),
    "asks for a gradient": asking,
    "asks for a leaf": lambda x, h: tg.tanh(x + h) if h.is_leaf else x - h,
    "prints": printing,
    "takes the time": lambda x, h: tg.tanh(x + h + 1e-30 * time.perf_counter()),
    "makes tensors of new numbers": lambda x, h: tg.tanh(
        x + h + tg.tensor(1e-30 * np.random.default_rng().random((len(h), H)), dtype=h.dtype)
    ),
    "counts where this is not seen": lambda x, h: tg.tanh(x + h + tg.tensor([1e-30 * count()], dtype=h.dtype)),
    "computes in a thread": in_a_thread,
    "applies an op with a domain": lambda x, h: tg.tanh(x + positive(h.abs() + 0.1)),
    "catches the refusal": catching,
    "makes a leaf": with_a_leaf,
    "computes a gradient": with_a_gradient,
    "applies an op with the name of one of ours": lambda x, h: sign(h * 0.0) * tg.tanh(x + h),
    "turns the order of a view": lambda x, h: tg.tanh(
        h.reshape(len(h), 1, H).transpose(0, 2).reshape(H, len(h)).T.reshape(len(h), H) + x
    ),
    "splits a slice": lambda x, h: tg.sigmoid(tg.split((h * 2)[:, :2], 1, 1)[0]) * tg.sigmoid(h[:, 1:]) + tg.tanh(x),
    "has values without elements": lambda x, h: tg.tanh(x + h) + h[:, :0].sum(1, keepdim=True),
}


class Cell(tg.nn.Module):
    def __init__(self, step: Callable[[tg.Tensor, tg.Tensor], tg.Tensor]) -> None:
        self.step = step

    def forward(self, x: tg.Tensor, h: tg.Tensor) -> tg.Tensor:
        return self.step(x, h)


@pytest.mark.parametrize("step", STEPS.values(), ids=STEPS)
def test_it_equals_the_loop(step: Callable[[tg.Tensor, tg.Tensor], tg.Tensor], kernels: bool) -> None:
    rng = np.random.default_rng(0)
    x, h = (tg.tensor(rng.normal(size=shape), requires_grad=True) for shape in ((T, B, H), (B, H)))
    found = []
    with tg.compiled_kernels(kernels):
        for compiled in (None, False):
            out, final = Recurrent(Cell(step), compiled=compiled)(x, h)
            found.append([out, final, *tg.grad((out * out).sum() + final.sum(), [x, h])])
    for one, other in zip(*found, strict=True):
        np.testing.assert_allclose(one.detach().numpy(), other.detach().numpy(), rtol=1e-10, atol=1e-12)


def test_a_step_whose_numbers_change_is_not_traced_forever() -> None:
    x, h = tg.ones(2, 1, 1), tg.zeros(1, 1)
    for k in range(30):
        out, _ = tg.scan(lambda x, h, k=k: x + h * float(k), x, h)
        assert out[1, 0, 0].item() == 1.0 + k


@pytest.mark.parametrize(("name", "message"), [
    ("reads data", r"the step reads a value; choose with tg.where instead \(.*h.data > 0"),
    ("is shown", r"the step reads a value; .*str\(h.detach\(\) > 0\)"),
    ("copies data of integers", r"the step reads a value; .*tg.tensor\(\(h > 0\)"),
    ("asks for a gradient", r"the step asks whether a value requires a gradient, or is a leaf \(.*requires_grad"),
    ("asks for a leaf", r"the step asks whether a value requires a gradient, or is a leaf \(.*h.is_leaf"),
    ("prints", r"the step prints, .*\(.*print\(end"),
    ("makes tensors of new numbers", r"the step calls .*, which must happen at each step \(.*default_rng\(\)"),
    ("counts where this is not seen", r"the step (applies|makes a tensor whose values are|.*) different"),
    ("computes in a thread", r"the step calls .*ThreadPoolExecutor.submit, which .*\(.*x \+ pool"),
    ("takes the time", r"the step calls time.perf_counter, which must happen at each step \(.*perf_counter\(\)"),
])  # fmt: skip
def test_the_refusal_names_the_line(name: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Recurrent(Cell(STEPS[name]), compiled=True)(tg.ones(T, B, H), tg.ones(B, H))


def test_a_step_prints_as_often_as_it_is_taken(capsys: pytest.CaptureFixture[str]) -> None:
    class Printing(tg.nn.Module):
        def forward(self, x: tg.Tensor, h: Any = None) -> tg.Tensor:
            print("step")
            return x if h is None else x + h

    Recurrent(Printing())(tg.ones(T, B, H))
    assert capsys.readouterr().out.split() == ["step"] * T


def test_a_user_defined_op_sees_no_values_that_are_not_set() -> None:
    for B in (2, 50):
        cell, given = Cell(STEPS["applies an op with a domain"]), (tg.ones(T, B, H), tg.ones(B, H))
        out, expected = (Recurrent(cell, compiled=each)(*given)[0].detach().numpy() for each in (True, False))
        np.testing.assert_allclose(out, expected, rtol=1e-5)
