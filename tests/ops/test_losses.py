"""Losses: class ids, ignored rows, reductions, dtypes. Golden values: test_golden.py."""

import itertools
import math

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from ops.network_arrays import SEEDS, Function, HostArray, drawn, gradient, host
from strict_backend import STRICT

import tinygrad_lstm as tg

# -- classes -----------------------------------------------------------------------------------------------------------


@st.composite
def classified(draw: st.DrawFn) -> tuple[HostArray, HostArray, HostArray, int]:
    """Logits, class ids, class weights, and the dimension of the classes."""
    rng = np.random.default_rng(draw(SEEDS))
    classes = draw(st.integers(1, 5))
    rest = draw(st.lists(st.integers(1, 3), max_size=3))
    shape = (rest[0], classes, *rest[1:]) if rest else (classes,)
    ids = rng.integers(classes, size=rest)
    return rng.normal(size=shape), np.asarray(ids), rng.uniform(0.5, 2, classes), 1 if rest else 0


def one_hot(ids: HostArray, classes: int, dim: int) -> HostArray:
    return np.moveaxis(np.eye(classes)[ids], -1, dim)


@given(case=classified(), smoothing=st.sampled_from([0.0, 0.1, 1.0]), weighted=st.booleans())
def test_probabilities_of_one_class_are_its_id(
    case: tuple[HostArray, HostArray, HostArray, int], smoothing: float, weighted: bool, device: str
) -> None:
    x, ids, weight, dim = case
    arguments = {"weight": weight if weighted and not smoothing else None, "label_smoothing": smoothing}
    for reduction in ("none", "sum", "mean"):
        if reduction == "mean" and weighted:
            continue  # ids divide by the weights of their classes, probabilities by the number of samples
        logits = tg.tensor(x, device=device, requires_grad=True)
        by_id = tg.cross_entropy(logits, ids, reduction=reduction, **arguments)
        by_probability = tg.cross_entropy(logits, one_hot(ids, x.shape[dim], dim), reduction=reduction, **arguments)
        np.testing.assert_allclose(host(by_id), host(by_probability), rtol=1e-12, atol=1e-12)
        np.testing.assert_allclose(gradient(by_id, logits), gradient(by_probability, logits), rtol=1e-12, atol=1e-12)
    logs = tg.log_softmax(tg.tensor(x, device=device), dim)
    np.testing.assert_allclose(
        host(tg.nll_loss(logs, ids, reduction="none")), -(host(logs) * one_hot(ids, x.shape[dim], dim)).sum(dim)
    )


@given(
    seed=SEEDS,
    shape=st.tuples(st.integers(0, 5), st.integers(1, 70)) | st.tuples(*[st.integers(1, 4)] * 4),
    dtype=st.sampled_from(["float32", "float64"]),
    scale=st.sampled_from([1.0, 50.0, 1e4]),
    reduction=st.sampled_from(["mean", "sum", "none"]),
    ignore_index=st.sampled_from([-100, 0]),
)
def test_the_fused_cross_entropy_is_that_of_log_softmax(
    kernels: bool,
    seed: int,
    shape: tuple[int, ...],
    dtype: str,
    scale: float,
    reduction: str,
    ignore_index: int,
    device: str,
) -> None:
    rng = np.random.default_rng(seed)
    values = (rng.normal(size=shape) * scale).astype(dtype)
    values[rng.random(shape) < 0.1] = -1e4
    ids = np.where(
        rng.random((shape[0], *shape[2:])) < 0.8, rng.integers(shape[1], size=(shape[0], *shape[2:])), ignore_index
    )
    precision = 16 * float(np.finfo(dtype).eps)
    tolerance = {"rtol": precision, "atol": precision * 8}

    x, exact = tg.tensor(values, device=device, requires_grad=True), tg.tensor(values, "float64", requires_grad=True)
    with tg.compiled_kernels(kernels):
        losses = tg.cross_entropy(x, ids, None, ignore_index, reduction)
        g = tg.tensor(np.round(rng.normal(size=losses.shape) * 4) / 4, dtype, device)
        (first,) = tg.grad(losses, x, g, retain_graph=True)
        (by_graph,) = tg.grad(losses, x, g, create_graph=True)
        (second,) = tg.grad((by_graph * by_graph).sum(), x)
    composed = tg.nll_loss(tg.log_softmax(exact, 1), ids, None, ignore_index, reduction)
    (expected,) = tg.grad(composed, exact, g.detach().cpu().to(dtype="float64"), create_graph=True)
    (expected_second,) = tg.grad((expected * expected).sum(), exact)

    assert (losses.dtype, first.dtype) == (np.dtype(dtype),) * 2
    np.testing.assert_allclose(host(losses).astype("float64"), host(composed), **tolerance)
    np.testing.assert_allclose(host(first).astype("float64"), host(expected), **tolerance)
    np.testing.assert_allclose(host(by_graph).astype("float64"), host(expected), **tolerance)
    if dtype == "float64":
        np.testing.assert_allclose(host(second), host(expected_second), **tolerance)


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.nan])
def test_a_nan_or_infinite_logit_makes_its_rows_loss_nan(kernels: bool, bad: float, device: str) -> None:
    values = np.random.default_rng(0).normal(size=(3, 40)).astype(np.float32)
    values[1, 17] = bad
    x = tg.tensor(values, device=device, requires_grad=True)
    with tg.compiled_kernels(kernels), np.errstate(invalid="ignore"):  # NumPy warns of inf - inf
        losses = tg.cross_entropy(x, [0, 1, 2], reduction="none")
        grad = gradient(losses, x)
    assert np.isnan(host(losses)).tolist() == [False, True, False]
    assert np.isnan(grad).any(1).tolist() == [False, True, False]


ON_IGNORED_ROWS: dict[str, Function] = {
    "cross_entropy": tg.cross_entropy,
    "weighted": lambda x, ids, **given: tg.cross_entropy(x, ids, [1.0, 2.0, 0.5, 3.0], **given),
    "smoothed": lambda x, ids, **given: tg.cross_entropy(x, ids, label_smoothing=0.1, **given),
    "both": lambda x, ids, **given: tg.cross_entropy(x, ids, [1.0, 2.0, 0.5, 3.0], label_smoothing=0.1, **given),
    "nll_loss": tg.nll_loss,
    "nll_weighted": lambda x, ids, **given: tg.nll_loss(x, ids, [1.0, 2.0, 0.5, 3.0], **given),
}


@pytest.mark.parametrize("bad", [math.nan, -math.nan, math.inf, -math.inf])
@pytest.mark.parametrize("loss", ON_IGNORED_ROWS.values(), ids=ON_IGNORED_ROWS)
@pytest.mark.parametrize("dtype", ["float16", "float32", "float64"])
def test_what_an_ignored_row_holds_counts_for_nothing(
    kernels: bool, loss: Function, bad: float, dtype: str, device: str
) -> None:
    ids = np.array([-100, 1, 2, -100])
    clean = drawn(4, 4).astype(dtype)
    spoilt = clean.copy()
    spoilt[0], spoilt[3, 1] = bad, bad

    def run(values: HostArray, reduction: str, create_graph: bool) -> tuple[HostArray, HostArray]:
        x = tg.tensor(values, device=device, requires_grad=True)
        losses = loss(x, ids, reduction=reduction)
        (g,) = tg.grad(losses, x, tg.ones_like(losses), create_graph=create_graph)
        return host(losses), host(g)

    with tg.compiled_kernels(kernels):
        for reduction, create_graph in itertools.product(["mean", "sum", "none"], [False, True]):
            value, g = run(spoilt, reduction, create_graph)
            expected_value, expected = run(clean, reduction, create_graph)
            np.testing.assert_array_equal(value, expected_value)
            np.testing.assert_array_equal(g, expected)
            assert not g[[0, 3]].any()


@pytest.mark.parametrize("reduction", ["mean", "none"])
def test_class_ids_that_are_changed_before_backward_change_no_gradient(kernels: bool, reduction: str) -> None:
    x, ids = tg.tensor(drawn(4, 3), requires_grad=True), tg.tensor([0, 1, 2, 0])
    with tg.compiled_kernels(kernels):
        expected = gradient(tg.cross_entropy(x, ids, reduction=reduction), x)
        losses = tg.cross_entropy(x, ids, reduction=reduction)
        ids.data[:] = 2
        np.testing.assert_array_equal(gradient(losses, x), expected)


@given(case=classified(), smoothing=st.floats(0, 1))
def test_label_smoothing_is_linear(
    case: tuple[HostArray, HostArray, HostArray, int], smoothing: float, device: str
) -> None:
    x, ids, weight, dim = case

    def loss(label_smoothing: float) -> HostArray:
        return host(tg.cross_entropy(tg.tensor(x, device=device), ids, weight, label_smoothing=label_smoothing))

    np.testing.assert_allclose(loss(smoothing), (1 - smoothing) * loss(0.0) + smoothing * loss(1.0), atol=1e-12)
    uniform = np.full_like(x, 1 / x.shape[dim])
    np.testing.assert_allclose(
        host(tg.cross_entropy(tg.tensor(x), ids, label_smoothing=1.0)), host(tg.cross_entropy(tg.tensor(x), uniform))
    )


@given(seed=SEEDS, smoothing=st.sampled_from([0.0, 0.2]), ignore_index=st.sampled_from([-100, -1, 2]))
def test_ignored_samples_might_as_well_not_be_there(
    seed: int, smoothing: float, ignore_index: int, device: str
) -> None:
    rng = np.random.default_rng(seed)
    x, ids, weight = rng.normal(size=(6, 4)), rng.integers(4, size=6), rng.uniform(0.5, 2, 4)
    kept = rng.random(6) < 0.6
    assume(kept.any())
    if ignore_index >= 0:
        ids[kept & (ids == ignore_index)] = 0
    ids[~kept] = ignore_index

    def loss(x: HostArray, ids: HostArray, reduction: str) -> HostArray:
        return host(tg.cross_entropy(tg.tensor(x, device=device), ids, weight, ignore_index, reduction, smoothing))

    for reduction in ("mean", "sum"):
        np.testing.assert_allclose(loss(x, ids, reduction), loss(x[kept], ids[kept], reduction), rtol=1e-12)
    assert (loss(x, ids, "none")[~kept] == 0).all()


def test_the_mean_of_only_ignored_samples_is_nan(device: str) -> None:
    x = tg.zeros(2, 3, device=device, requires_grad=True)
    loss = tg.cross_entropy(x, tg.tensor([-100, -100], device=device))
    assert math.isnan(loss.item())
    assert gradient(loss, x).tolist() == [[0.0] * 3] * 2
    assert tg.cross_entropy(x, tg.tensor([-100, -100], device=device), reduction="sum").item() == 0.0


OF_NUMBERS: list[Function] = [
    tg.mse_loss,
    tg.l1_loss,
    tg.smooth_l1_loss,
    tg.huber_loss,
    tg.binary_cross_entropy_with_logits,
    tg.binary_cross_entropy,
    tg.kl_div,
    tg.hinge_embedding_loss,
    tg.soft_margin_loss,
]
NOTHING: dict[str, Function] = {
    "cross_entropy": lambda x: tg.cross_entropy(x, np.zeros(0, np.int64)),
    "cross_entropy_probabilities": lambda x: tg.cross_entropy(x, np.zeros((0, 3), np.float32)),
    "nll_loss": lambda x: tg.nll_loss(x, np.zeros(0, np.int64)),
    **{
        loss.__name__: lambda x, loss=loss: loss(x, np.zeros((0, 3), np.float32))  # type: ignore[misc]
        for loss in OF_NUMBERS
    },
}


@pytest.mark.parametrize("name", NOTHING)
def test_the_mean_of_no_losses_is_nan(name: str, device: str) -> None:
    x = tg.zeros(0, 3, device=device, requires_grad=True)
    loss = NOTHING[name](x)
    assert (loss.shape, loss.dtype) == ((), np.float32)
    assert math.isnan(loss.item())
    assert gradient(loss, x).shape == (0, 3)


def test_float16_losses_are_summed_in_a_wider_dtype(device: str) -> None:
    # More samples than the largest float16, 65504; and classes.
    x = tg.zeros(70_000, 2, dtype="float16", device=device, requires_grad=True)
    ids = tg.zeros(70_000, dtype="int64", device=device)
    for weight in (None, tg.ones(2, dtype="float16", device=device)):
        loss = tg.cross_entropy(x, ids, weight)
        assert loss.dtype == np.float16
        assert loss.item() == pytest.approx(math.log(2), rel=1e-3)
    row = tg.zeros(1, 70_000, dtype="float16", device=device)
    smoothed = tg.cross_entropy(row, tg.tensor([0], device=device), label_smoothing=0.5)
    assert smoothed.item() == pytest.approx(math.log(70_000), rel=1e-3)


def test_mse_loss_of_float16_squares_in_a_wider_dtype(device: str) -> None:
    x = tg.tensor([300.0, 0.0, 0.0, 0.0], dtype="float16", device=device, requires_grad=True)
    loss = tg.mse_loss(x, tg.zeros(4, dtype="float16", device=device))
    assert (loss.item(), loss.dtype) == (22496.0, np.float16)  # 300² / 4, rounded
    assert gradient(loss, x).tolist() == [150.0, 0.0, 0.0, 0.0]


@pytest.mark.parametrize("loss", [tg.cross_entropy, tg.nll_loss])
@pytest.mark.parametrize("wrong", [3, -1, -4])
def test_class_ids_out_of_range(loss: Function, wrong: int, device: str) -> None:
    x, ids = tg.zeros(2, 3, device=device), tg.tensor([1, wrong], device=device)
    if device == "cpu":
        with pytest.raises(IndexError, match=rf"{loss.__name__}: index {wrong} is out of range for dim 1 of length 3"):
            loss(x, ids)
    else:  # the host does not look
        assert np.isnan(host(loss(x, ids, reduction="none"))).tolist() == [False, True]
        assert math.isnan(loss(x, ids).item())


def test_class_ids_of_every_integer_type(device: str) -> None:
    x = np.random.default_rng(0).normal(size=(3, 4))
    expected = host(tg.cross_entropy(tg.tensor(x, device=device), np.array([0, 3, 2])))
    for dtype in ("int8", "uint8", "int16", "int32", "uint64"):
        ids = tg.tensor(np.array([0, 3, 2], dtype), device=device)
        np.testing.assert_array_equal(host(tg.cross_entropy(tg.tensor(x, device=device), ids)), expected)


def test_a_loss_stays_on_its_device() -> None:
    x = tg.tensor(np.ones((4, 3), np.float32), device="strict", requires_grad=True)
    ids = tg.tensor([0, 1, 2, -100], device="strict")
    weight = tg.ones(3, device="strict")
    filters = tg.ones(2, 3, 2, device="strict")
    STRICT.counts.reset()
    loss = tg.cross_entropy(x, ids, weight, label_smoothing=0.1) + tg.conv1d(x.T, filters).sum()
    (loss + tg.layer_norm(x, 3, weight).sum()).backward()
    assert (STRICT.counts.host_to_device, STRICT.counts.device_to_host) == (0, 0)
    assert x.grad is not None and x.grad.dtype == np.float32


# -- numbers -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", ["float16", "float32", "float64"])
@pytest.mark.parametrize("beta", [0.0, 1e-320, 1e-60, 1e-44, 1e-7])
def test_smooth_l1_of_the_smallest_beta_is_l1(beta: float, dtype: str, device: str) -> None:
    x = tg.tensor([3.0, -2.0, 0.0], dtype=dtype, device=device, requires_grad=True)
    loss = tg.smooth_l1_loss(x, tg.zeros_like(x), "sum", beta)
    (g,) = tg.grad(loss, x)
    np.testing.assert_allclose(loss.item(), 5, 1e-6)
    np.testing.assert_allclose(host(g), [1, -1, 0], 1e-6)
    assert (
        tg.smooth_l1_loss(tg.tensor([3, 0], device=device), tg.tensor([1, 0], device=device), beta=beta).item() == 1.0
    )


@given(seed=SEEDS, beta=st.sampled_from([0.0, 0.3, 1.0, 4.0]))
def test_smooth_l1_pieces(seed: int, beta: float, device: str) -> None:
    rng = np.random.default_rng(seed)
    x, y = rng.normal(size=(2, 8)) * 3
    d = np.abs(x - y)
    expected = np.where(d < beta, d * d / (2 * beta or 1), d - beta / 2)
    found = tg.smooth_l1_loss(tg.tensor(x, device=device), y, "none", beta)
    np.testing.assert_allclose(host(found), expected, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("loss", OF_NUMBERS)
def test_losses_of_numbers_reduce(loss: Function, device: str) -> None:
    rng = np.random.default_rng(1)
    x, y = tg.tensor(rng.random((3, 2)), device=device), tg.tensor(rng.random((3, 2)), device=device)
    each = host(loss(x, y, reduction="none"))
    assert each.shape == (3, 2)
    np.testing.assert_allclose(host(loss(x, y)), each.mean(), rtol=1e-12)
    np.testing.assert_allclose(host(loss(x, y, reduction="sum")), each.sum(), rtol=1e-12)


# -- all ---------------------------------------------------------------------------------------------------------------

_RNG = np.random.default_rng(3)
_A, _B, _C = (_RNG.normal(size=(3, 4)) for _ in range(3))
_P, _Q = (_RNG.uniform(0.1, 0.9, (3, 4)) for _ in range(2))
_SIGNS = np.array([[1.0, -1, 1, -1]] * 3)
WITH_DERIVATIVES: dict[str, tuple[Function, list[HostArray]]] = {
    "huber_loss": (lambda x, t: tg.huber_loss(x, t, "none", 0.7, _P), [_A, _B]),
    "gaussian_nll_loss": (tg.gaussian_nll_loss, [_A, _B, _P[:, :1]]),
    "kl_div": (lambda x, t: tg.kl_div(x, t, "batchmean"), [_A, _P]),
    "kl_div-logs": (lambda x, t: tg.kl_div(x, t, "none", True), [_A, _B]),
    "binary_cross_entropy": (lambda x, t: tg.binary_cross_entropy(x, t, _Q, "none"), [_P, _Q]),
    "cosine_similarity": (tg.cosine_similarity, [_A, _B[:1]]),
    "cosine_embedding_loss": (lambda x, y: tg.cosine_embedding_loss(x, y, [1, -1, 1]), [_A, _B]),
    "hinge_embedding_loss": (lambda x: tg.hinge_embedding_loss(x, _SIGNS), [_A]),
    "margin_ranking_loss": (lambda x, y: tg.margin_ranking_loss(x, y, _SIGNS, 0.3), [_A, _B]),
    "soft_margin_loss": (lambda x: tg.soft_margin_loss(x, _SIGNS), [_A]),
    "triplet_margin_loss": (lambda a, p, n: tg.triplet_margin_loss(a, p, n, 2.0, swap=True), [_A, _B, _C]),
}


@pytest.mark.parametrize("name", WITH_DERIVATIVES)
def test_first_and_second_derivatives(name: str, device: str) -> None:
    loss, arrays = WITH_DERIVATIVES[name]
    inputs = [tg.tensor(array, device=device, requires_grad=True) for array in arrays]

    def on_device(*given: tg.Tensor) -> tg.Tensor:
        with tg.default_device(device):
            out: tg.Tensor = loss(*given)
        return out

    assert tg.gradcheck(on_device, inputs)
    assert tg.gradgradcheck(on_device, inputs)


@pytest.mark.parametrize(("call", "message"), [
    (lambda x: tg.huber_loss(x, x, delta=0), "huber_loss: delta is 0; expected a positive number"),
    (lambda x: tg.huber_loss(x, x[0]), r"huber_loss: target of shape \(3,\) must have input's shape \(2, 3\)"),
    (lambda x: tg.gaussian_nll_loss(x, x, x, eps=0.0), "gaussian_nll_loss: eps is 0.0; expected a positive number"),
    (lambda x: tg.gaussian_nll_loss(x, x, tg.ones(4)), r"gaussian_nll_loss: var of shape \(4,\) does not broadcast"),
    (lambda x: tg.kl_div(x, x, "batch"), "kl_div: reduction is 'batch'; expected 'mean', 'sum', 'none' or 'batchmean'"),
    (lambda x: tg.cosine_similarity(x, x, 2), "cosine_similarity: dim 2 is not there"),
    (lambda x: tg.cosine_embedding_loss(x, x[:1], [1, 1]), "cosine_embedding_loss: input2 of shape"),
    (lambda x: tg.cosine_embedding_loss(x, x, [1]), "cosine_embedding_loss: target of shape"),
    (lambda x: tg.cosine_embedding_loss(x[None], x[None], [1]), r"expected \(N, D\) or \(D,\)"),
    (lambda x: tg.margin_ranking_loss(x, x[0], x), "margin_ranking_loss: input2 of shape"),
    (lambda x: tg.triplet_margin_loss(x, x, x[0]), "triplet_margin_loss: negative of shape"),
    (lambda x: tg.soft_margin_loss(x, x, "each"), "soft_margin_loss: reduction is 'each'"),
])  # fmt: skip
def test_invalid_arguments_are_refused(call: Function, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        call(tg.ones(2, 3))
