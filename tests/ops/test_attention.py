"""scaled_dot_product_attention: dropout, extreme numbers, float16 and errors. Its cases are in `cases_attention.py`."""

import math
from typing import Any

import numpy as np
import pytest

import tinygrad_lstm as tg

attention = tg.scaled_dot_product_attention


def normal(*shape: int, dtype: Any = "float64") -> np.ndarray[Any, Any]:
    return np.random.default_rng(7).normal(size=shape).astype(dtype)


def host(tensor: tg.Tensor) -> np.ndarray[Any, Any]:
    return tensor.detach().cpu().numpy()


# -- dropout -----------------------------------------------------------------------------------------------------------


def weights_of(q: tg.Tensor, k: tg.Tensor, **options: Any) -> tg.Tensor:
    """The weights (L, S), found by a value for each key that is 1 at its place and 0 elsewhere."""
    return attention(q, k, tg.eye(k.shape[-2], dtype=q.dtype, device=q.device), **options)


def test_dropout_keeps_weights_scaled_or_drops_them(device: str) -> None:
    q, k = (tg.tensor(normal(*shape), device=device) for shape in ((40, 4), (50, 4)))
    tg.manual_seed(0)
    weights, dropped = host(weights_of(q, k)), host(weights_of(q, k, dropout_p=0.3))
    kept = dropped != 0
    np.testing.assert_allclose(dropped[kept], weights[kept] / 0.7, rtol=1e-12)
    assert abs(kept.mean() - 0.7) < 0.05
    mean = sum(host(weights_of(q, k, dropout_p=0.3)) for _ in range(400)) / 400
    np.testing.assert_allclose(mean, weights, atol=6 * weights.max() * math.sqrt(0.3 / 0.7 / 400))


def test_dropout_of_nothing_and_of_all(device: str) -> None:
    q, k, v = (tg.tensor(normal(3, 4), device=device, requires_grad=True) for _ in range(3))
    np.testing.assert_array_equal(host(attention(q, k, v, dropout_p=0.0)), host(attention(q, k, v)))
    out = attention(q, k, v, dropout_p=1.0)
    assert host(out).tolist() == [[0.0] * 4] * 3
    assert all(not host(g).any() for g in tg.grad(out.sum(), [q, k, v]))


def test_dropout_follows_the_seed(device: str) -> None:
    q = tg.tensor(normal(8, 4), device=device)
    first, again, different = ((tg.manual_seed(seed), host(attention(q, q, q, dropout_p=0.5)))[1] for seed in (1, 1, 2))
    np.testing.assert_array_equal(first, again)
    assert (first != different).any()
    tg.manual_seed(1)
    np.testing.assert_array_equal(first, host(attention(*[tg.tensor(normal(8, 4))] * 3, dropout_p=0.5)))  # on the CPU


@pytest.mark.parametrize("is_causal", [False, True])
def test_derivatives_with_the_mask_of_a_seed(is_causal: bool) -> None:
    """First and second ones, forwards and backwards, are those of the function with its mask fixed."""
    arrays = normal(3, 4), normal(2, 4), normal(2, 3)

    def function(*tensors: tg.Tensor) -> tg.Tensor:
        tg.manual_seed(5)
        return attention(*tensors, dropout_p=0.4, is_causal=is_causal)

    tensors = [tg.tensor(array, requires_grad=True) for array in arrays]
    assert tg.gradcheck(function, tensors) and tg.gradgradcheck(function, tensors)
    tangents = tuple(normal(*array.shape)[::-1].copy() for array in arrays)
    _, tangent = tg.func.jvp(function, arrays, tangents)
    step = 1e-6
    ends = [function(*[tg.tensor(x + sign * step * t) for x, t in zip(arrays, tangents)]) for sign in (1, -1)]
    np.testing.assert_allclose(tangent, host(ends[0] - ends[1]) / (2 * step), atol=1e-8)


# -- numbers -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", ["float16", "float32", "float64"])
def test_large_scores_choose_the_largest(dtype: str, device: str) -> None:
    """Without overflow: those of float16 are computed in float32."""
    large = 6e4 if dtype == "float16" else math.sqrt(float(np.finfo(dtype).max)) / 2
    q, k = np.array([[large, 0], [0, -large]], dtype), np.array([[large, 0], [0, large], [0, 0]], dtype)
    v = np.arange(6, dtype=dtype).reshape(3, 2)
    tensors = [tg.tensor(array, device=device, requires_grad=True) for array in (q, k, v)]
    out = attention(*tensors)
    assert out.dtype == dtype
    np.testing.assert_array_equal(host(out), [v[0], v[[0, 2]].mean(0)])
    (of_value,) = tg.grad(out.sum(), tensors[2:])
    np.testing.assert_array_equal(host(of_value), [[1.5, 1.5], [0, 0], [0.5, 0.5]])


@pytest.mark.parametrize("mask", ["none", "causal", "bool", "added", "dropout"])
def test_float16_is_rounded_once(mask: str, device: str) -> None:
    """The result is that of float32, rounded."""
    q, k, v = (normal(2, 30, 8, dtype="float16") for _ in range(3))
    options: dict[str, Any] = {"causal": {"is_causal": True}, "dropout": {"dropout_p": 0.25}}.get(mask, {})
    if mask in ("bool", "added"):
        options["attn_mask"] = normal(30, 30) > 0 if mask == "bool" else normal(30, 30, dtype="float16")

    def found(dtype: str) -> tuple[tg.Tensor, list[tg.Tensor]]:
        tensors = [tg.tensor(x.astype(dtype), device=device, requires_grad=True) for x in (q, k, v)]
        tg.manual_seed(3)
        out = attention(*tensors, **options)
        return out, list(tg.grad(out.float().sum(), tensors))

    (half, of_half), (single, of_single) = found("float16"), found("float32")
    assert half.dtype == np.float16 and all(g.dtype == np.float16 for g in of_half)
    np.testing.assert_array_equal(host(half), host(single).astype(np.float16))
    for mine, exact in zip(of_half, of_single, strict=True):
        np.testing.assert_allclose(host(mine), host(exact).astype(np.float16), rtol=2e-3, atol=1e-6)


def test_a_query_without_keys_takes_zeros(device: str) -> None:
    """Whole rows that are masked, and no keys at all; gradients are finite, those of the mask too."""
    q, k, v = (tg.tensor(normal(3, 4), device=device, requires_grad=True) for _ in range(3))
    added = np.array([[0, 1, -math.inf], [-math.inf] * 3, [2, 0, 1]])
    mask = tg.tensor(added, device=device, requires_grad=True)
    out = attention(q, k, v, mask)
    assert host(out)[1].tolist() == [0] * 4 and host(out)[[0, 2]].all()
    gradients = tg.grad(out.sum(), [q, k, v, mask])
    assert all(g.isfinite().all() for g in gradients) and not host(gradients[0])[1].any()
    np.testing.assert_array_equal(
        host(out), host(attention(q, k, v, tg.tensor(added != -math.inf, device=device)) * 0 + out)
    )
    nothing = attention(q, k[:0], v[:0])
    assert host(nothing).tolist() == [[0] * 4] * 3
    assert not any(host(g).any() for g in tg.grad(nothing.sum(), [q, k, v]))


@pytest.mark.parametrize("scale", [-0.7, 1.3])
@pytest.mark.parametrize(("L", "S"), [(3, 6), (6, 3), (5, 5)])
def test_causal_is_the_mask_below_the_diagonal(L: int, S: int, scale: float, device: str) -> None:
    """Query i takes from keys 0 ... i, whatever the lengths and the sign of the scale."""
    q, k, v = (tg.tensor(normal(2, T, 4), device=device) for T in (L, S, S))
    mask = tg.ones(L, S, dtype=bool, device=device).tril()
    causal = attention(q, k, v, is_causal=True, scale=scale)
    np.testing.assert_allclose(host(causal), host(attention(q, k, v, mask, scale=scale)), rtol=1e-12)
    changed = v.clone()
    changed[:, min(L, S) - 1 :] = 100.0
    np.testing.assert_array_equal(
        host(attention(q, k, changed, is_causal=True))[:, : min(L, S) - 1],
        host(attention(q, k, v, is_causal=True))[:, : min(L, S) - 1],
    )


# -- errors ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("arguments", "options", "error", "message"), [
    (((4,), (3, 4), (3, 4)), {}, ValueError, "query (4,), key (3, 4) and value (3, 4) must be (..., L, E), "),
    (((2, 4), (3, 5), (3, 4)), {}, ValueError, "query (2, 4), key (3, 5) and value (3, 4) must be"),
    (((2, 4), (3, 4), (2, 4)), {}, ValueError, "query (2, 4), key (3, 4) and value (2, 4) must be"),
    (((2, 4), (3, 4), (3, 4)), {"dropout_p": 1.5}, ValueError, "dropout_p is 1.5; expected 0 to 1"),
    (((2, 4), (3, 4), (3, 4)), {"attn_mask": [[True] * 2]}, ValueError, "attn_mask (1, 2) must broadcast to "),
    (((2, 4), (3, 4), (3, 4)), {"attn_mask": [[1, 0, 1]]}, TypeError, "attn_mask must be bool or floats, got int64"),
    (((2, 4), (3, 4), (3, 4)), {"attn_mask": [[True]], "is_causal": True}, ValueError,
     "attn_mask and is_causal are both given; give one"),
    (((3, 2, 4), (2, 3, 4), (2, 3, 4)), {"enable_gqa": True}, ValueError, "must divide that of query"),
    (((3, 2, 4), (0, 3, 4), (0, 3, 4)), {"enable_gqa": True}, ValueError, "must divide that of query"),
    (((2, 4), (3, 4), (3, 4)), {"enable_gqa": True}, ValueError, "must have heads in the third last dimension"),
])  # fmt: skip
def test_errors(arguments: Any, options: dict[str, Any], error: type[Exception], message: str) -> None:
    with pytest.raises(error) as caught:
        attention(*[tg.ones(*shape) for shape in arguments], **options)
    assert str(caught.value).startswith("scaled_dot_product_attention: ") and message in str(caught.value)
