"""Steps that are odd but plausible: compiled or not, they compute the same values and gradients."""

import dataclasses
import functools
from collections.abc import Callable, Sequence
from functools import cached_property, partial
from typing import Any, NamedTuple

import numpy as np
import pytest
from any_cells import drawn

import tinygrad_lstm as tg
from tinygrad_lstm.models import GRUCell, Recurrent

T, B, I = 4, 3, 4
P, Q = (tg.nn.Parameter(tg.tensor(drawn(I) + k)) for k in (0.0, 0.5))
SQUARE, SCALAR = tg.nn.Parameter(tg.tensor(drawn(I, I))), tg.nn.Parameter(tg.tensor(0.7, dtype="float64"))


class Pair(NamedTuple):
    h: tg.Tensor
    c: tg.Tensor


@dataclasses.dataclass
class Scaled:
    weight: tg.Tensor
    scale: float = 0.5

    def __call__(self, x: tg.Tensor, h: tg.Tensor, *, shift: float = 0.1) -> tg.Tensor:
        return tg.tanh(x * self.weight + h * self.scale + shift)

    @classmethod
    def of_class(cls, x: tg.Tensor, h: tg.Tensor) -> tg.Tensor:
        return tg.tanh(x * P + h * cls.scale)


class WithProperties(GRUCell):
    extra: tg.Tensor

    @property
    def twice(self) -> tg.Tensor:
        return self.extra * 2

    @cached_property
    def offset(self) -> float:
        return 0.25

    def forward(self, x: tg.Tensor, h: tg.Tensor | None = None) -> tg.Tensor:
        return super().forward(x, h) * self.twice + self.offset


def with_properties() -> WithProperties:
    tg.manual_seed(0)
    cell = WithProperties(I, I).to(dtype="float64")
    cell.extra = P
    return cell


def of_a_part(x: tg.Tensor, state: tuple[tg.Tensor, ...]) -> tuple[tg.Tensor, ...]:
    z = tg.tanh(x + state[0] + state[1].transpose(1, 2).reshape(B, I))
    return z, z.reshape(B, 2, 2), z[:, 1:3]


def with_a_gradient(x: tg.Tensor, h: tg.Tensor) -> tg.Tensor:
    (g,) = tg.grad((tg.tanh(x * P) * h).sum(), [h], create_graph=True)
    return g * 0.5 + h * 0.3


def catching(x: tg.Tensor, h: tg.Tensor) -> tg.Tensor:
    try:
        return tg.tanh(x @ h)
    except ValueError:
        return tg.tanh(x + h * P)


H, PAIR = (I,), ((I,), (I,))


@tg.op(x=lambda g: g[0] * 2 + g[1] * 3)
def twice_and_thrice(xp: Any, x: tg.Array) -> tuple[tg.Array, ...]:
    return x * 2, x * 3


STEPS: dict[str, tuple[Callable[..., Any], tuple[Any, ...]]] = {
    "two outputs": (lambda x, h: tg.tanh(sum(twice_and_thrice(x - h * P))), H),
    "the first of two outputs": (lambda x, h: tg.tanh(twice_and_thrice(x * P + h)[0]), H),
    "two outputs of the inputs": (lambda x, h: tg.tanh(sum(twice_and_thrice(x * P)) + h), H),
    "groups": (lambda x, h: tg.group_norm(x + tg.tanh(h), 2, P, Q), H),
    "partial": (partial(lambda a, x, h, b=2.0: tg.tanh(a * x + b * h), P, b=0.5), H),
    "starred": (lambda *given: tg.tanh(functools.reduce(lambda a, b: a + b, given)), H),
    "dataclass": (Scaled(P), H),
    "class method": (Scaled.of_class, H),
    "properties": (with_properties(), H),
    "named tuple": (lambda x, s: Pair(tg.tanh(x + s.c), s.h * 0.5 + s.c * P), (Pair, *PAIR)),
    "integer state": (lambda x, s: (tg.tanh(x + s[0] * s[1].unsqueeze(1)), s[1] + 1), ((I,), "int64")),
    "bool state": (lambda x, s: (tg.where(s[1].unsqueeze(1), s[0], x + s[0]), x[:, 0] > 0), ((I,), "bool")),
    "same state twice": (lambda x, s: ((h := tg.tanh(x + s[0] * 0.5 + s[1])), h), PAIR),
    "state unchanged": (lambda x, s: (tg.tanh(x + s[1]), s[1]), PAIR),
    "states exchanged": (lambda x, s: (s[1], s[0] + x * P), PAIR),
    "inputs delayed": (lambda x, s: (tg.tanh(s[2] + x), x, s[1]), ((I,), (I,), (I,))),
    "views of one tensor": (of_a_part, ((I,), (2, 2), (2,))),
    "x is ignored": (lambda x, h: tg.sin(h * P), H),
    "state is ignored": (lambda x, h: tg.sin(x * P), H),
    "returns x": (lambda x, h: x, H),
    "returns its state": (lambda x, h: h, H),
    "sum of all elements": (lambda x, h: tg.tanh(x * h.sum() * P), H),
    "means of the state": (lambda x, h: tg.tanh(x * h.mean() + P * (x * h).sum()), H),
    "product of columns": (lambda x, h: tg.tanh(h @ (x.T @ h) @ SQUARE), H),
    "batch normalization": (lambda x, h: (x + h - (x + h).mean(0)) / ((x + h).std(0) + 0.1) * P, H),
    "gradients that are alike": (lambda x, h: tg.tanh(x + P + Q.flip(0) + h), H),
    "scalar parameter": (lambda x, h: tg.tanh(x * SCALAR + h) * SCALAR, H),
    "sum of a parameter": (lambda x, h: tg.tanh(x + h * SQUARE.sum()), H),
    "gradient in the step": (with_a_gradient, H),
    "error that is caught": (catching, H),
    "detached": (lambda x, h: tg.tanh(x + h.detach() * P) + h * 0.1, H),
    "masked": (lambda x, h: tg.softmax(x * P + h + np.array([0, -np.inf, 0, 0]), -1), H),
}  # fmt: skip


def state_like(shapes: Any) -> Any:
    if isinstance(shapes[0], int):
        return tg.tensor(drawn(B, *shapes), requires_grad=True)
    parts = [tg.zeros(B, dtype=each) if isinstance(each, str) else state_like(each) for each in shapes if each != Pair]
    return Pair(*parts) if shapes[0] is Pair else tuple(parts)


def learning(step: Any, state: Any) -> list[tg.Tensor]:
    own = step.parameters() if isinstance(step, tg.nn.Module) else ()
    parts = state if isinstance(state, tuple) else (state,)
    found = {id(each): each for each in (*own, P, Q, SQUARE, SCALAR, *parts) if each.requires_grad}
    return [*found.values()]


def total(tensors: Sequence[tg.Tensor]) -> tg.Tensor:
    floats = [each for each in tensors if each.requires_grad]
    return sum(((each * each).sum() + each.sum() for each in floats), tg.tensor(0.0, dtype="float64"))


@pytest.mark.parametrize("kernels", [True, False])
@pytest.mark.parametrize("lengths", [None, [4, 2, 0]])
@pytest.mark.parametrize("name", STEPS)
def test_compiled_or_not(name: str, lengths: list[int] | None, kernels: bool) -> None:
    step, shapes = STEPS[name]
    x, state = tg.tensor(drawn(T, B, I), requires_grad=True), state_like(shapes)
    found = []
    for compiled in (False, None):

        class Cell(tg.nn.Module):
            def forward(self, x: tg.Tensor, state: Any) -> Any:
                return step(x, state)

        with tg.compiled_kernels(kernels):
            used = [x, *learning(step, state)]
            loss = total([*used, *used])  # before the sequence, whose gradients are the first ones then
            out, final = Recurrent(Cell(), compiled=compiled)(x, state, lengths=lengths)
            outputs = [out, *(final if isinstance(final, tuple) else (final,))]
            grads = tg.grad(loss + total(outputs), used)
        found.append([each.detach().numpy() for each in (*outputs, *grads)])
    for one, other in zip(*found, strict=True):
        assert one.shape == other.shape and one.dtype == other.dtype
        np.testing.assert_allclose(one, other, rtol=1e-9, atol=1e-11)


LAYOUTS: dict[str, Callable[[tg.Tensor], tg.Tensor]] = {
    "contiguous": lambda x: x[:, :, :I],
    "strided": lambda x: x[:, :, ::2],
    "reversed": lambda x: x[::-1, :, :I],
    "transposed": lambda x: x.reshape(x.shape[1], x.shape[0], 2 * I).transpose(0, 1)[:, :, :I],
    "broadcast": lambda x: tg.broadcast_to(x[:, :, :1], (*x.shape[:2], I)),
}


@pytest.mark.parametrize(("steps", "rows"), [(T, B), (T, 1), (0, B), (T, 0), (0, 0)])
@pytest.mark.parametrize("layout", LAYOUTS)
def test_inputs_of_any_layout(layout: str, steps: int, rows: int) -> None:
    given = tg.tensor(drawn(steps, rows, 2 * I), requires_grad=True)
    x, h = LAYOUTS[layout](given), tg.tensor(drawn(rows, I), requires_grad=True)
    found = []
    for compiled in (False, None):

        class Cell(tg.nn.Module):
            def forward(self, x: tg.Tensor, h: tg.Tensor) -> tg.Tensor:
                return tg.tanh(x * SCALAR + h)

        out, final = Recurrent(Cell(), compiled=compiled)(x, h)
        found.append([out, final, *tg.grad((out * out).sum() + final.sum(), [given, h, SCALAR])])
    for one, other in zip(*found, strict=True):
        np.testing.assert_allclose(one.detach().numpy(), other.detach().numpy(), rtol=1e-9, atol=1e-12)


class WithDescriptor:
    """Its `__module__` is a descriptor, as that of some classes in C."""

    scale = 2.0


WithDescriptor.__module__ = property(lambda self: "elsewhere")  # type: ignore[assignment]


def test_an_object_whose_class_has_no_name_of_a_module() -> None:
    held, x = WithDescriptor(), tg.tensor(drawn(T, B, I))
    out, _ = tg.scan(lambda x, h: tg.tanh(x * held.scale + h), x, tg.zeros(B, I, dtype="float64"))
    expected, _ = tg.scan(lambda x, h: tg.tanh(x * 2.0 + h), x, tg.zeros(B, I, dtype="float64"))
    np.testing.assert_array_equal(out.numpy(), expected.numpy())
