"""Steps over sequences in C: the values and gradients of the same program with NumPy, within their arrays."""

import os
import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
import pytest
from any_cells import as_parts, elementary_functions
from hypothesis import HealthCheck, given, settings
from tracing.drawn_steps import DrawnStep, drawn_steps

import tinygrad_lstm as tg
from tinygrad_lstm.backends.compiled import building
from tinygrad_lstm.backends.compiled import calls as c_calls
from tinygrad_lstm.backends.compiled import sequence as in_c
from tinygrad_lstm.backends.emit.sequence import ArraySequence
from tinygrad_lstm.models import LSTM, Recurrent
from tinygrad_lstm.models.atlas import ATLAS

pytestmark = pytest.mark.skipif(building.why_not() is not None, reason="there is no C compiler")

T, B, I, H = 4, 3, 3, 4
TOLERANCE = {"float64": 1e-9, "float32": 2e-4}
SPARE = 64  # elements around each array
DRAWN_STEPS = int(os.environ.get("DRAWN_STEPS", "4"))  # more under the sanitizers
HostArray = np.ndarray[Any, Any]


@contextmanager
def only_c() -> Iterator[None]:
    """Sequences must be computed in C, and C stays within the arrays that it is given.

    Arrays have elements around them that must not change, and consist of NaNs at first.
    """
    rooms: list[HostArray] = []

    def guarded(shape: tuple[int, ...], dtype: Any) -> HostArray:
        dtype = np.dtype(dtype)
        size = int(np.prod(shape))
        room = np.full(size + 2 * SPARE, np.nan if dtype.kind == "f" else 1, dtype)
        rooms.append(room)
        return room[SPARE : SPARE + size].reshape(shape)

    def elsewhere(*_: Any) -> Any:
        raise AssertionError("not computed in C")

    calls = 0
    forward = in_c._Built.forward

    def counted(*arguments: Any) -> Any:
        nonlocal calls
        calls += 1
        return forward(*arguments)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(in_c.memory, "empty", guarded)
        for module in (in_c, c_calls):
            patch.setattr(module, "in_one_block", lambda shapes: [guarded(*each) for each in shapes])
        patch.setattr(ArraySequence, "forward", elsewhere)
        patch.setattr(ArraySequence, "backward", elsewhere)
        patch.setattr(in_c._Built, "forward", counted)
        yield
    assert calls
    for room in rooms:
        ends = np.concatenate([room[:SPARE], room[-SPARE:]])
        assert np.isnan(ends).all() if room.dtype.kind == "f" else (ends == 1).all()


def results(run: Callable[[], Sequence[tg.Tensor]], inputs: Sequence[tg.Tensor]) -> list[HostArray]:
    """Values and gradients."""
    tg.manual_seed(3)
    outputs = run()
    rng = np.random.default_rng(4)
    weighted = [
        (output * tg.tensor(rng.normal(size=output.shape), dtype=output.dtype)).sum()
        for output in outputs
        if output.requires_grad
    ]
    gradients = tg.grad(sum(weighted[1:], weighted[0]), inputs, allow_unused=True) if weighted else []
    known = [gradient for gradient in gradients if gradient is not None]
    return [each.detach().numpy() for each in (*outputs, *known)]


def check(run: Callable[[], Sequence[tg.Tensor]], inputs: Sequence[tg.Tensor], dtype: str) -> None:
    """Equal in C and with NumPy, and the same bits for any number of threads."""
    with tg.compiled_kernels(False):
        expected = results(run, inputs)
    with only_c():
        actual = results(run, inputs)
    for one, other in zip(actual, expected, strict=True):
        np.testing.assert_allclose(one, other, rtol=TOLERANCE[dtype], atol=TOLERANCE[dtype])
    with pytest.MonkeyPatch.context() as patch:
        for number in (1, 2, 3):
            patch.setattr(c_calls, "threads_for", lambda _, number=number: number)
            for one, other in zip(results(run, inputs), actual, strict=True):
                np.testing.assert_array_equal(one, other)


def inputs_of(dtype: str, *shape: int) -> tg.Tensor:
    return tg.tensor(np.random.default_rng(1).normal(size=shape), dtype=dtype, requires_grad=True)


def scanned(step: Any, x: tg.Tensor, state: Any = None, **options: Any) -> Callable[[], Sequence[tg.Tensor]]:
    def run() -> Sequence[tg.Tensor]:
        out, final = tg.scan(step, x, state, **options)
        return [out, *as_parts(final)]

    return run


# -- the atlas ---------------------------------------------------------------------------------------------------------

VARIANTS: dict[str, tuple[str, dict[str, Any]]] = {
    **{name: (name, {}) for name in ATLAS},
    "sLSTM of two heads": ("slstm", {"num_heads": 2}),
    "mLSTM of two heads": ("mlstm", {"num_heads": 2}),
}


@pytest.mark.parametrize("dtype", TOLERANCE)
def test_elementary_functions(dtype: str) -> None:
    inputs = inputs_of(dtype, T, B, I), inputs_of(dtype, B, I)
    check(scanned(elementary_functions, *inputs), inputs, dtype)


@pytest.mark.parametrize("name", VARIANTS)
def test_every_cell_of_the_atlas_is_computed_in_c(name: str) -> None:
    """With lengths and resets; some with a remainder of columns, some in float32."""
    kind, options = VARIANTS[name]
    number = list(VARIANTS).index(name)
    dtype, size = ("float64", "float32")[number % 3 == 2], (H, 18)[number % 2]
    cell = ATLAS[kind](I, size, **options).to(dtype=dtype)
    resets = np.random.default_rng(2).random((T, B)) < 0.3
    x = inputs_of(dtype, T, B, I)
    run = scanned(cell, x, lengths=[4, 2, 3], resets=resets, reverse=number % 2 == 0)
    check(run, [x, *cell.parameters()], dtype)


def test_large_states_are_not_kept_for_sums() -> None:
    """The gradients of k, q and v are sums over a matrix (H, H) of the loop, and are computed there."""
    cell = ATLAS["mlstm"](I, 64)
    (program,) = Recurrent(cell).program()
    after = str(program).split("# after the loop")[1].split("── C")[0]
    assert "g_next_C" not in after and "next_C" not in after
    x = inputs_of("float32", T, B, I)
    check(scanned(cell, x), [x, *cell.parameters()], "float32")
    expected = results(lambda: [Recurrent(cell, compiled=False)(x)[0]], [x, *cell.parameters()])
    for one, other in zip(results(lambda: [Recurrent(cell)(x)[0]], [x, *cell.parameters()]), expected, strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("batch", [1, 3, 5])
def test_threads_share_the_columns_of_a_large_weight(batch: int) -> None:
    """If there are few rows. The last panel of the columns is not full."""
    cell = ATLAS["rnn"](7, 530).to(dtype="float64")
    x = inputs_of("float64", T, batch, 7)
    (program,) = Recurrent(cell).program()
    assert "product_by_columns" in str(program)
    check(scanned(cell, x), [x, *cell.parameters()], "float64")


@pytest.mark.parametrize(("steps", "batch"), [(1, 1), (1, 3), (5, 1), (2, 0)])
def test_the_smallest_sequences(steps: int, batch: int) -> None:
    cell = ATLAS["lstm_layer_norm"](I, H).to(dtype="float64")
    x = inputs_of("float64", steps, batch, I)
    if batch:
        check(scanned(cell, x), [x, *cell.parameters()], "float64")
    else:
        assert results(scanned(cell, x), [x])[0].shape == (steps, 0, H)


# -- drawn steps -------------------------------------------------------------------------------------------------------


@settings(max_examples=DRAWN_STEPS, suppress_health_check=[HealthCheck.too_slow])
@given(drawn_steps())
def test_drawn_steps_are_computed_in_c(drawn: DrawnStep) -> None:
    x, state = drawn.inputs(T, B)
    inputs = [x, *as_parts(state), *drawn.parameters.values()]
    check(scanned(drawn.step, x, state, reverse=True), inputs, "float64")


# -- ops ---------------------------------------------------------------------------------------------------------------


def mixed(x: tg.Tensor, h: tg.Tensor) -> tg.Tensor:
    """Moves: reshapes, joins, slices with steps, rolls, triangles."""
    n = h.shape[1]
    rolled = tg.roll(tg.flip(h, 1), 2, 1) + tg.roll(h, (1, 2), (1, -1)) + tg.roll(h, (1, 2), 1)
    parts = rolled, tg.pad(h[:, 1::2], (1, n - 1 - n // 2)), tg.repeat(h[:, :2], 1, n // 2)
    matrix = tg.tril(tg.tanh(h).reshape(len(x), 2, n // 2)) @ h.reshape(len(x), n // 2, 2)
    return tg.tanh(sum(parts, x) + matrix.reshape(len(x), 4).sum(1, keepdim=True) * 0.1)


def reduced(x: tg.Tensor, h: tg.Tensor) -> tg.Tensor:
    """Reductions of rows that are longer than a block of a sum."""
    z = h + x
    parts = [
        z.sum(1, keepdim=True), tg.amax(z, 1, keepdim=True), tg.amin(z, 1, keepdim=True), tg.var(z, 1, keepdim=True),
        tg.logsumexp(z, 1, keepdim=True), tg.norm(z, dim=1, keepdim=True),
    ]  # fmt: skip
    rows = tg.softmax(z, 1) + tg.log_softmax(z, 1) + tg.cumsum(z, 1) * 0.01 + tg.layer_norm(z, z.shape[1])
    return tg.tanh(0.1 * rows + 0.01 * tg.cat(parts, 1).sum(1, keepdim=True))


def columns(x: tg.Tensor, h: tg.Tensor) -> tg.Tensor:
    """Along the dimensions of a matrix that are not the last."""
    M = h.reshape(h.shape[0], 2, -1)
    product = tg.einsum("bij,bkj->bik", M, tg.softmax(M, 1))
    return tg.tanh(
        x + (tg.layer_norm(M, M.shape[2]) + M.sum(1, keepdim=True)).reshape(h.shape) + product.sum((1, 2), True)[:, 0]
    )


def moved_factors(x: tg.Tensor, h: tg.Tensor) -> tg.Tensor:
    """Products whose factors are transposed, flipped, split, broadcast or slices, and sums of products."""
    n, M = h.shape[1] // 2, tg.sin(h).reshape(len(h), 2, -1)
    u, v = tg.unbind(M, 1)
    turned = tg.flip(M, 2)[:, :, 1::2] @ tg.permute(M[..., : n // 2], (0, 2, 1))  # (B, 2, 2)
    outer = u[:, :, None] @ tg.flip(v, 1)[:, None]  # (B, n, n)
    found = (
        (outer * v[:, None]).sum(2) + (outer * tg.cos(u)[..., None]).sum(1) + (outer * outer).sum((1, 2), True)[..., 0]
    )
    inner = tg.split(h, [n, n], 1)[1][:, None] @ tg.permute(outer, (0, 2, 1))
    sums = (M * u[:, None]).sum(2, keepdim=True) + (tg.exp(M) * tg.cos(M)).sum((1, 2), True)
    return tg.tanh(0.1 * (x + (turned @ M + sums).reshape(h.shape) + tg.cat([found, inner[:, 0]], 1)))


@pytest.mark.parametrize("dtype", TOLERANCE)
@pytest.mark.parametrize(
    ("step", "size"),
    [
        (mixed, 6),
        (reduced, 150),
        (columns, 34),
        (moved_factors, 4),
        (moved_factors, 140),
    ],
)
def test_ops_on_rows(step: Callable[..., tg.Tensor], size: int, dtype: str) -> None:
    x, h = inputs_of(dtype, T, B, size), inputs_of(dtype, B, size)
    check(scanned(step, x, h), [x, h], dtype)


@pytest.mark.parametrize("size", [3, 7, 12])
def test_conditions_that_choose_among_elements_of_short_rows(size: int) -> None:
    """gcc 12 computes a loop over such rows wrongly if it vectorizes it."""

    def step(x: tg.Tensor, h: tg.Tensor) -> tg.Tensor:
        larger = tg.where(h <= x, x, h)
        gate = tg.sigmoid(x)
        return gate * h + (1.0 - gate) * larger

    x, h = (tg.tensor(np.random.default_rng(0).normal(size=(*s, size)), requires_grad=True) for s in ((T, B), (B,)))
    check(scanned(step, x, h), [x, h], "float64")


def test_long_rows_keep_their_digits() -> None:
    """Sums, means and variances of 20000 float32 units far from 0."""
    x = tg.tensor(np.random.default_rng(0).normal(1000, 1, (2, 2, 20000)), dtype="float32")

    def step(x: tg.Tensor, h: tg.Tensor) -> tg.Tensor:
        return tg.cat([x.sum(1, keepdim=True), x.mean(1, keepdim=True), tg.layer_norm(x, 20000)[:, :3]], 1) + 0 * h

    with only_c():
        out, _ = tg.scan(step, x, tg.zeros(2, 5))
    exact = x.numpy().astype(np.float64)
    normalized = (exact - exact.mean(2, keepdims=True)) / np.sqrt(exact.var(2, keepdims=True) + 1e-5)
    np.testing.assert_allclose(out.numpy()[..., 0], exact.sum(2), rtol=1e-6)
    np.testing.assert_allclose(out.numpy()[..., 1], exact.mean(2), rtol=1e-6)
    np.testing.assert_allclose(out.numpy()[..., 2:], normalized[..., :3], atol=1e-3)


@pytest.mark.parametrize("number", [0.0, np.inf, -np.inf, np.nan, 1e30])
def test_special_numbers_in_reductions(number: float) -> None:
    x = np.random.default_rng(0).normal(size=(1, 2, 5)).astype(np.float32)
    x[0, 0, 3] = number
    x[0, 1] = number

    def step(x: tg.Tensor, h: tg.Tensor) -> tg.Tensor:
        kept = [tg.amax(x, 1, True), tg.amin(x, 1, True), tg.sum(x, 1, True), tg.logsumexp(x, 1, True)]
        return tg.cat([*kept, tg.softmax(x, 1), tg.log_softmax(x, 1), tg.layer_norm(x, 5)], 1) + 0 * h

    given = tg.tensor(x)
    with np.errstate(all="ignore"), tg.compiled_kernels(False):
        expected, _ = tg.scan(step, given, tg.zeros(2, 19))
    with only_c():
        actual, _ = tg.scan(step, given, tg.zeros(2, 19))
    np.testing.assert_allclose(actual.numpy(), expected.numpy(), rtol=1e-5, atol=1e-6)


def test_variables_may_have_any_names() -> None:
    """Those of the generated code, of C and of the compiler."""
    weight = inputs_of("float64", I, I)

    def step(x: tg.Tensor, state: tg.Tensor) -> tg.Tensor:
        v0 = tg.linear(state, weight)
        linux = tg.softmax(v0 + x, 1)
        softmax_along = linux * linux.sum(1, keepdim=True)
        r = tg.linear(softmax_along, weight)
        return tg.tanh(r + v0 * x)

    x, h = inputs_of("float64", T, B, I), inputs_of("float64", B, I)
    check(scanned(step, x, h), [x, h, weight], "float64")


# -- the code ----------------------------------------------------------------------------------------------------------


def test_the_code_names_what_it_computes() -> None:
    source = tg.inspect.program(ATLAS["lstm_layer_norm"](I, 31), tg.zeros(T, B, I)).code["C"]
    assert "normalized_along(" in source
    assert re.search(r"for \(Index from = 0; from < 31; from \+= 16\)", source)


def test_results_are_kept_when_sequences_of_the_same_sizes_follow() -> None:
    layer = LSTM(I, H)
    first, second = tg.randn(T, B, I), tg.randn(T, B, I)
    with tg.no_grad():
        out, (h, c) = layer(first)
        before = [each.numpy().copy() for each in (out, h, c)]
        layer(second)
        tg.nn.init.zeros_(layer.weight_hh_l0)
        assert not np.array_equal(layer(first)[0].numpy(), before[0])  # the weights are read again
    for each, expected in zip((out, h, c), before, strict=True):
        np.testing.assert_array_equal(each.numpy(), expected)
