"""Laws that hold between ops, whatever the values."""

import itertools
import math
from typing import Any

import hypothesis.extra.numpy as hnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import tinygrad_lstm as tg

SHAPES = hnp.array_shapes(min_dims=0, max_dims=4, min_side=0, max_side=4)
SEEDS = st.integers(0, 2**32 - 1)


def normal(shape: tuple[int, ...], seed: int) -> tg.Tensor:
    return tg.tensor(np.asarray(np.random.default_rng(seed).normal(size=shape)))


@st.composite
def tensors(draw: st.DrawFn, shapes: st.SearchStrategy[tuple[int, ...]] = SHAPES) -> tg.Tensor:
    return normal(draw(shapes), draw(SEEDS))


def of(least: int, most: int = 4, smallest: int = 0) -> st.SearchStrategy[tg.Tensor]:
    """Tensors with that many dimensions, of lengths of at least `smallest`."""
    return tensors(hnp.array_shapes(min_dims=least, max_dims=most, min_side=smallest, max_side=4))


@st.composite
def several(draw: st.DrawFn, number: int) -> list[tg.Tensor]:
    """Tensors that broadcast against each other."""
    shapes = draw(hnp.mutually_broadcastable_shapes(num_shapes=number, max_dims=4, min_side=0, max_side=4))
    seed = draw(SEEDS)
    return [normal(shape, seed + k) for k, shape in enumerate(shapes.input_shapes)]


def assert_same(x: tg.Tensor, y: tg.Tensor) -> None:
    assert x.dtype == y.dtype
    np.testing.assert_array_equal(x.numpy(), y.numpy(), strict=True)


def assert_close(x: tg.Tensor, y: tg.Tensor) -> None:
    assert x.dtype == y.dtype
    assert x.shape == y.shape
    np.testing.assert_allclose(x.numpy(), y.numpy(), 1e-10, 1e-12)


# -- arithmetic --------------------------------------------------------------------------------------------------------


@given(several(2))
def test_commutativity(pair: list[tg.Tensor]) -> None:
    x, y = pair
    for function in (tg.add, tg.mul, tg.maximum, tg.minimum, tg.eq, tg.logical_xor):
        assert_same(function(x, y), function(y, x))


@given(several(3))
def test_associativity_and_distributivity(three: list[tg.Tensor]) -> None:
    x, y, z = three
    assert_close((x + y) + z, x + (y + z))
    assert_close((x * y) * z, x * (y * z))
    assert_close(x * (y + z), x * y + x * z)
    assert_same(tg.maximum(x, tg.maximum(y, z)), tg.maximum(tg.maximum(x, y), z))


@given(several(2))
def test_inverses(pair: list[tg.Tensor]) -> None:
    x, y = pair
    assert_close((x + y) - y, x + tg.zeros_like(y))
    assert_close((x * y.exp()) / y.exp(), x * tg.ones_like(y))
    assert_same(x - y, -(y - x))
    assert_close(tg.minimum(x, y) + tg.maximum(x, y), x + y)


@given(tensors())
def test_functions_of_one_variable(x: tg.Tensor) -> None:
    one = tg.ones_like(x)
    assert_close(x.exp().log(), x)
    assert_close(x.expm1().log1p(), x)
    assert_close(x.sin().square() + x.cos().square(), one)
    assert_close(x.sigmoid() + (-x).sigmoid(), one)
    assert_close(x.tanh(), (x * 2).sigmoid() * 2 - 1)
    assert_close(x.softplus() - (-x).softplus(), x)
    assert_close(x.logsigmoid(), x.sigmoid().log())
    assert_close(x.square().sqrt(), x.abs())
    assert_close(x.exp().rsqrt(), x.exp().sqrt().reciprocal())
    assert_close(x.relu() - (-x).relu(), x)
    assert_same(x.sign() * x.abs(), x)
    assert_close(x.gelu() - (-x).gelu(), x)
    assert_close(x.silu(), x * x.sigmoid())
    assert_same(x.clamp(-0.5, 0.5), tg.minimum(tg.maximum(x, -0.5), 0.5))
    assert_same(x.elu(1.0), tg.where(x > 0, x, x.expm1()))
    assert_same(x.leaky_relu(0.1), tg.maximum(x, x * 0.1))


@given(several(2))
def test_comparisons(pair: list[tg.Tensor]) -> None:
    x, y = pair
    assert_same(x < y, y > x)
    assert_same(x <= y, ~(x > y))
    assert_same(x == y, ~(x != y))
    assert_same((x < y) | (x == y), x <= y)
    assert_same((x <= y) & (x >= y), x == y)
    assert_same((x < y) ^ (x > y), x != y)


@given(several(3), st.sampled_from([0.0, 0.25, 1.0]))
def test_lerp_and_where(three: list[tg.Tensor], weight: float) -> None:
    x, y, z = three
    assert_close(tg.lerp(x, y, weight), x * (1 - weight) + y * weight)
    assert_same(tg.where(z > 0, x, y), tg.where(z <= 0, y, x))


@given(tensors(), tensors())
def test_derivatives_are_linear_in_the_function(x: tg.Tensor, y: tg.Tensor) -> None:
    x.requires_grad_()
    (of_sum,) = tg.grad((x.sin() * 2 + x.exp() * 3).sum(), x)
    (of_sin,) = tg.grad(x.sin().sum(), x)
    (of_exp,) = tg.grad(x.exp().sum(), x)
    assert_close(of_sum, of_sin * 2 + of_exp * 3)


# -- reductions --------------------------------------------------------------------------------------------------------


@given(of(1, smallest=1), st.data())
def test_reducing_at_once_and_one_after_another(x: tg.Tensor, data: st.DataObject) -> None:
    dims = tuple(sorted(data.draw(st.sets(st.integers(0, x.ndim - 1), min_size=1)), reverse=True))
    for function in (tg.sum, tg.prod, tg.amax, tg.amin, tg.mean, tg.logsumexp):
        one_by_one = x
        for dim in dims:
            one_by_one = function(one_by_one, dim)
        assert_close(function(x, dims), one_by_one)
        assert_close(function(x, dims, keepdim=True).reshape(one_by_one.shape), one_by_one)


@given(of(1, smallest=1), st.data())
def test_reductions_of_one_another(x: tg.Tensor, data: st.DataObject) -> None:
    dim = data.draw(st.integers(-x.ndim, x.ndim - 1))
    assert_close(x.var(dim, 0), x.square().mean(dim) - x.mean(dim).square())
    assert_close(x.exp().sum(dim).log(), x.logsumexp(dim))
    assert_close(x.norm(2, dim).square(), x.square().sum(dim))
    assert_same(x.amin(dim), -(-x).amax(dim))
    assert_same(x.argmin(dim), (-x).argmax(dim))
    assert_same(x.take_along_axis(x.argmax(dim, keepdim=True), dim).squeeze(dim), x.amax(dim))
    assert_same((x > 0).all(dim), ~(x <= 0).any(dim))
    assert_same(x.norm(math.inf, dim), x.abs().amax(dim))


@given(of(1), st.data())
def test_cumsum(x: tg.Tensor, data: st.DataObject) -> None:
    dim = data.draw(st.integers(-x.ndim, x.ndim - 1))
    summed = x.cumsum(dim)
    if x.shape[dim]:
        assert_close(summed.index_select(dim, [-1]).squeeze(dim), x.sum(dim))
    backwards = x.flip(dim).cumsum(dim).flip(dim)
    assert_close(summed + backwards, x.sum(dim, keepdim=True) + x)


# -- shapes ------------------------------------------------------------------------------------------------------------


@given(tensors(), st.data())
def test_shape_changes_are_undone_by_their_inverses(x: tg.Tensor, data: st.DataObject) -> None:
    assert_same(x.reshape(-1).reshape(x.shape) if x.size else x.reshape(0).reshape(x.shape), x)
    assert_same(x.flatten(), x.reshape(x.size))
    order = data.draw(st.permutations(range(x.ndim)))
    assert_same(x.permute(order).permute([order.index(d) for d in range(x.ndim)]), x)
    assert_same(x.T.T, x)
    assert_same(x.flip().flip(), x)
    shift = data.draw(st.integers(-5, 5))
    assert_same(x.roll(shift).roll(-shift), x)
    dim = data.draw(st.integers(-x.ndim - 1, x.ndim))
    assert_same(x.unsqueeze(dim).squeeze(dim), x)
    assert_same(tg.stack([x, x * 2, x * 3], dim).unbind(dim)[1], x * 2)


@given(of(1), st.data())
def test_joins_and_splits_undo_each_other(x: tg.Tensor, data: st.DataObject) -> None:
    dim = data.draw(st.integers(-x.ndim, x.ndim - 1))
    length = x.shape[dim]
    for pieces in (
        x.split(data.draw(st.integers(1, 5)), dim),
        x.split([b - a for a, b in itertools.pairwise([0, *sorted({length // 2, length // 3}), length])], dim),
        x.chunk(data.draw(st.integers(1, 5)), dim),
    ):
        assert_same(tg.cat(pieces, dim), x)
    if length:
        assert_same(tg.stack(x.unbind(dim), dim), x)
    other = data.draw(st.integers(-x.ndim, x.ndim - 1))
    assert_same(x.swapaxes(dim, other).swapaxes(dim, other), x)
    assert_same(x.transpose(dim, other), x.swapaxes(other, dim))


@given(of(2), st.integers(-4, 4))
def test_triangles_and_padding(x: tg.Tensor, k: int) -> None:
    assert_same(x.tril(k) + x.triu(k + 1), x)
    assert_same(x.tril(k).mT, x.mT.triu(-k))
    padded = x.pad((1, 2, 3, 0), value=7.0)
    assert_same(padded[..., 3:, 1:-2], x)
    assert_close(x.pad((1, 2)).sum(), x.sum())


@given(tensors(hnp.array_shapes(min_dims=1, max_dims=3, min_side=1, max_side=3)), st.integers(0, 3))
def test_repetition(x: tg.Tensor, times: int) -> None:
    ones = (1,) * (x.ndim - 1)
    assert_same(x.repeat(times, *ones), tg.cat([x] * times) if times else x[:0])
    assert_same(x.broadcast_to((times, *x.shape)), x.expand(times, *(-1,) * x.ndim))
    assert_close(x.broadcast_to((times, *x.shape)).sum(0), x * times)


def test_a_joined_gradient_is_the_split_one(device: str) -> None:
    x = tg.ones(2, 3, device=device, requires_grad=True)
    first, second = x.split([1, 2], 1)
    (g,) = tg.grad(second.sum() * 5, x)
    assert g.tolist() == [[0.0, 5.0, 5.0]] * 2
    (g,) = tg.grad(tg.cat([second, first], 1)[:, 0].sum(), x)
    assert g.tolist() == [[0.0, 1.0, 0.0]] * 2


# -- products ----------------------------------------------------------------------------------------------------------


@given(st.tuples(*[st.integers(0, 4)] * 5), SEEDS)
def test_einsum_equals_the_products_it_stands_for(lengths: tuple[int, ...], seed: int) -> None:
    b, i, j, k, n = lengths
    x, y = normal((b, i, j), seed), normal((b, j, k), seed + 1)
    square, vector = normal((n, n), seed + 2), normal((j,), seed + 3)
    assert_close(tg.einsum("bij,bjk->bik", x, y), x @ y)
    assert_close(tg.einsum("...ij,...jk", x, y), x @ y)
    assert_close(tg.einsum("...j,j", x, vector), x @ vector)
    assert_close(tg.einsum("i,j->ij", vector, vector * 2), tg.outer(vector, vector * 2))
    assert_close(tg.einsum("ii", square), tg.tensor(np.trace(square.numpy())))
    assert_close(tg.einsum("ii->i", square), square[np.arange(n), np.arange(n)])
    assert_close(tg.einsum("bij->jb", x), x.sum(1).T)
    assert_close(tg.einsum("bij,bij->", x, x), x.square().sum())


@given(st.tuples(*[st.integers(0, 4)] * 4), SEEDS)
def test_matrix_products(lengths: tuple[int, ...], seed: int) -> None:
    n, i, j, k = lengths
    x, y, z = normal((n, i), seed), normal((i, j), seed + 1), normal((j, k), seed + 2)
    assert_close((x @ y) @ z, x @ (y @ z))
    assert_close((x @ y).T, y.T @ x.T)
    assert_close(x @ tg.eye(i, dtype="float64"), x)
    assert_close(tg.linear(x, y.T), x @ y)
    assert_close(tg.linear(x, y.T, z.sum(1)), x @ y + z.sum(1))


@pytest.mark.parametrize(("equation", "shapes"), [("ij,jk", [(2, 3), (3,)]), ("i->ij", [(2,)]), ("ii", [(2, 3)])])
def test_an_invalid_equation_raises(equation: str, shapes: Any) -> None:
    with pytest.raises(ValueError, match="einsum"):
        tg.einsum(equation, *[tg.ones(shape) for shape in shapes])
