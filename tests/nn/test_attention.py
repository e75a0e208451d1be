"""MultiheadAttention."""

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from golden.load import load, options
from onnx_exports import Runner, assert_near

import tinygrad_lstm as tg
from tinygrad_lstm import nn
from tinygrad_lstm.models import Recurrent

HostArray = np.ndarray[Any, Any]


def host(tensor: tg.Tensor | None) -> HostArray:
    assert tensor is not None
    return tensor.detach().cpu().numpy()


# -- as PyTorch --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("case", options("multihead_attention"))
def test_values_and_gradients_are_those_of_pytorch(case: str, place: str) -> None:
    arrays, settings = load("multihead_attention", case), options("multihead_attention")[case]
    layer = nn.MultiheadAttention(**settings["made"]).to(dtype="float64").eval()
    layer.load_state_dict({name: arrays[name] for name in layer.state_dict()})
    inputs = {name: tg.tensor(arrays[name], requires_grad=True) for name in ("query", "key", "value") if name in arrays}
    masks = {name: tg.tensor(arrays[name]) for name in settings["masks"]}
    given = [inputs.get(name, inputs["query"]) for name in ("query", "key", "value")]
    out, weights = layer(*given, **masks, **settings["options"])
    results = {"out": out} if weights is None else {"out": out, "weights": weights}
    assert set(results) == {"out", "weights"} & set(arrays)
    tg.autograd.backward(list(results.values()), [arrays[f"w_{name}"] for name in results])
    for name, result in results.items():
        np.testing.assert_allclose(host(result), arrays[name], atol=1e-12)
    for name, leaf in [*inputs.items(), *layer.named_parameters()]:
        np.testing.assert_allclose(host(leaf.grad), arrays[f"grad_{name}"], atol=1e-11, err_msg=name)


def test_a_state_dict_has_the_names_and_shapes_of_pytorch(tmp_path: Path) -> None:
    packed, apart = nn.MultiheadAttention(4, 2, add_bias_kv=True), nn.MultiheadAttention(4, 2, kdim=3, bias=False)
    assert {name: values.shape for name, values in packed.state_dict().items()} == {
        "in_proj_weight": (12, 4), "in_proj_bias": (12,), "bias_k": (1, 1, 4), "bias_v": (1, 1, 4),
        "out_proj.weight": (4, 4), "out_proj.bias": (4,),
    }  # fmt: skip
    assert {name: values.shape for name, values in apart.state_dict().items()} == {
        "q_proj_weight": (4, 4), "k_proj_weight": (4, 3), "v_proj_weight": (4, 4), "out_proj.weight": (4, 4),
    }  # fmt: skip
    for layer in (packed, apart):
        tg.io.export_torch(layer, tmp_path / "layer.safetensors")
        saved, values = tg.io.load_weights(tmp_path / "layer.safetensors"), layer.state_dict()
        assert saved.keys() == values.keys()
        with tg.no_grad():
            for parameter in layer.parameters():
                parameter.fill_(0.5)
        layer.load_state_dict(saved)
        for name, array in values.items():
            np.testing.assert_array_equal(layer.state_dict()[name], array)


def test_initial_values_are_distributed_as_those_of_pytorch() -> None:
    tg.manual_seed(0)
    layer = nn.MultiheadAttention(64, 4, add_bias_kv=True)
    apart = nn.MultiheadAttention(64, 4, vdim=128)

    def is_uniform(parameter: nn.Parameter | None, bound: float) -> bool:
        values = np.abs(host(parameter))
        return bool(0.98 * bound < values.max() <= bound and abs(values.mean() - bound / 2) < 0.02 * bound)

    assert is_uniform(layer.in_proj_weight, math.sqrt(6 / (64 + 192)))
    assert is_uniform(apart.q_proj_weight, math.sqrt(6 / 128)) and is_uniform(apart.v_proj_weight, math.sqrt(6 / 192))
    assert is_uniform(layer.out_proj.weight, 1 / 8)
    assert not host(layer.in_proj_bias).any() and not host(layer.out_proj.bias).any()
    assert 0.6 < host(layer.bias_k).std() / math.sqrt(2 / 128) < 1.4


# -- what a call does --------------------------------------------------------------------------------------------------


def test_equal_inputs_are_projected_at_once_with_the_same_result(place: str) -> None:
    layer, x, y = nn.MultiheadAttention(6, 2), tg.randn(3, 2, 6), tg.randn(4, 2, 6)
    for given in ((x, x, x), (x, y, y)):
        out, weights = layer(*given)
        copied, of_copies = layer(*[each.clone() for each in given])
        np.testing.assert_allclose(host(out), host(copied), rtol=1e-5, atol=1e-6)
        np.testing.assert_allclose(host(weights), host(of_copies), rtol=1e-5, atol=1e-6)


def test_batch_first_and_no_batch_are_the_same_function(place: str) -> None:
    layer, first = nn.MultiheadAttention(6, 2), nn.MultiheadAttention(6, 2, batch_first=True)
    first.load_state_dict(layer.state_dict())
    x, y, mask = tg.randn(3, 2, 6), tg.randn(4, 2, 6), tg.randn(4, 3, 4)
    out, weights = layer(x, y, y, attn_mask=mask)
    turned, same = first(x.transpose(0, 1), y.transpose(0, 1), y.transpose(0, 1), attn_mask=mask)
    np.testing.assert_allclose(host(turned.transpose(0, 1)), host(out), rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(host(same), host(weights), rtol=1e-5, atol=1e-6)
    for n in range(2):
        one, of_one = layer(x[:, n], y[:, n], y[:, n], attn_mask=mask[2 * n : 2 * n + 2])
        np.testing.assert_allclose(host(one), host(out)[:, n], rtol=1e-5, atol=1e-6)
        np.testing.assert_allclose(host(of_one), host(weights)[n], rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("further", [{}, {"add_bias_kv": True, "add_zero_attn": True}])
@pytest.mark.parametrize("padded", [False, True])
def test_is_causal_alone_is_the_causal_mask(padded: bool, further: dict[str, bool], place: str) -> None:
    layer, x, y = nn.MultiheadAttention(6, 2, **further), tg.randn(4, 2, 6), tg.randn(5, 2, 6)
    mask = ~tg.ones(4, 5, dtype=bool).tril()
    padding = tg.tensor([[True, False, False, True, False], [False] * 5]) if padded else None
    out, weights = layer(x, y, y, padding, is_causal=True)
    expected, of_mask = layer(x, y, y, padding, attn_mask=mask)
    np.testing.assert_allclose(host(out), host(expected), atol=1e-6)
    np.testing.assert_allclose(host(weights), host(of_mask), atol=1e-6)
    hinted, _ = layer(x, y, y, padding, attn_mask=mask, is_causal=True)
    np.testing.assert_array_equal(host(hinted), host(expected))


def test_masks_of_bool_and_of_floats_are_the_same(place: str) -> None:
    layer, x = nn.MultiheadAttention(6, 2), tg.randn(4, 2, 6)
    padding, mask = tg.tensor([[False, True, False, True], [False] * 4]), ~tg.ones(4, 4, dtype=bool).tril()
    expected = layer(x, x, x, padding, attn_mask=mask)
    for a, b in ((True, False), (False, True), (True, True)):
        added = [tg.where(each, -math.inf, 0.0) if as_floats else each for each, as_floats in ((padding, a), (mask, b))]
        for one, other in zip(layer(x, x, x, added[0], attn_mask=added[1]), expected, strict=True):
            np.testing.assert_array_equal(host(one), host(other))


def test_a_query_without_keys_takes_zeros(place: str) -> None:
    layer, x = nn.MultiheadAttention(6, 2), tg.randn(3, 2, 6)
    padding = tg.tensor([[True] * 3, [False, True, False]])
    out, weights = layer(x, x, x, padding, average_attn_weights=False)
    np.testing.assert_array_equal(host(out)[:, 0], np.broadcast_to(host(layer.out_proj.bias), (3, 6)))
    assert not host(weights)[0].any()
    np.testing.assert_allclose(host(weights)[1].sum(-1), 1, rtol=1e-5)
    (out.sum() + (weights * weights).sum()).backward()
    assert all(np.isfinite(host(parameter.grad)).all() for parameter in layer.parameters())


def test_dropout_is_active_only_in_training(place: str) -> None:
    layer, x = nn.MultiheadAttention(8, 2, dropout=0.5), tg.randn(30, 2, 8)
    weights = host(layer(x, x, x, average_attn_weights=False)[1])
    assert abs((weights == 0).mean() - 0.5) < 0.05
    np.testing.assert_allclose(weights.sum(-1).mean(), 1, atol=0.1)
    tg.manual_seed(4)
    once = host(layer(x, x, x, need_weights=False)[0])
    tg.manual_seed(4)
    np.testing.assert_array_equal(once, host(layer(x, x, x)[0]))
    layer.eval()
    first, weights = layer(x, x, x)
    np.testing.assert_allclose(host(weights).sum(-1), 1, rtol=1e-5)
    np.testing.assert_array_equal(host(first), host(layer(x, x, x, need_weights=False)[0]))


def test_derivatives_of_both_orders() -> None:
    tg.manual_seed(0)
    layer = nn.MultiheadAttention(4, 2, add_bias_kv=True).to(dtype="float64")
    x, y = (tg.randn(T, 1, 4, dtype="float64", requires_grad=True) for T in (2, 3))

    def function(x: tg.Tensor, y: tg.Tensor) -> tuple[tg.Tensor, tg.Tensor | None]:
        return layer(x, y, y, is_causal=True)

    assert tg.gradcheck(function, [x, y]) and tg.gradgradcheck(function, [x, y])


def test_float16(place: str) -> None:
    layer, x = nn.MultiheadAttention(8, 2), tg.randn(5, 2, 8)
    out, weights = layer(x, x, x, is_causal=True)
    half, of_half = layer.to(dtype="float16")(x.half(), x.half(), x.half(), is_causal=True)
    assert half.dtype == of_half.dtype == np.float16
    np.testing.assert_allclose(host(half), host(out), atol=5e-3)
    np.testing.assert_allclose(host(of_half), host(weights), atol=2e-3)
    mask = tg.zeros(5, 5, dtype=bool)
    assert layer(x.half(), x.half(), x.half(), attn_mask=mask)[0].dtype == np.float16


def test_adapters(place: str) -> None:
    layer, x = nn.MultiheadAttention(6, 2), tg.randn(3, 2, 6)
    before = host(layer(x, x, x)[0])
    assert nn.add_lora(layer, rank=2) == ["in_proj_weight", "out_proj.weight"]
    np.testing.assert_allclose(host(layer(x, x, x)[0]), before, rtol=1e-5, atol=1e-6)
    with tg.no_grad():
        for name, parameter in layer.named_parameters():
            if name == "in_proj_weight_lora.B":
                parameter.copy_(tg.randn(*parameter.shape))
    assert np.abs(host(layer(x, x, x)[0]) - before).max() > 1e-3
    apart = nn.MultiheadAttention(6, 2, kdim=3)
    assert nn.add_lora(apart, rank=2) == ["q_proj_weight", "k_proj_weight", "v_proj_weight", "out_proj.weight"]


# -- ONNX, the summary, messages ---------------------------------------------------------------------------------------


class Reader(nn.Module):
    """A layer that reads a memory, after reading itself."""

    def __init__(self, batch_first: bool, **options: Any) -> None:
        self.own = nn.MultiheadAttention(6, 2, batch_first=batch_first)
        self.of_memory = nn.MultiheadAttention(6, 3, kdim=4, vdim=5, batch_first=batch_first, **options)

    def forward(self, x: tg.Tensor, keys: tg.Tensor, values: tg.Tensor, padding: tg.Tensor) -> dict[str, Any]:
        x, _ = self.own(x, x, x, need_weights=False, is_causal=True)
        out, weights = self.of_memory(x, keys, values, padding)
        return {"out": out, "weights": weights}


@pytest.mark.parametrize("options", [{}, {"add_bias_kv": True, "add_zero_attn": True}, {"bias": False}])
@pytest.mark.parametrize("batch_first", [False, True])
def test_onnx_of_any_lengths(batch_first: bool, options: dict[str, bool], tmp_path: Path) -> None:
    tg.manual_seed(0)
    model = Reader(batch_first, **options).eval()

    def of(L: int, S: int, N: int) -> dict[str, HostArray]:
        rng = np.random.default_rng(L)
        x, keys, values = (rng.normal(size=(T, N, E)).astype("f") for T, E in ((L, 6), (S, 4), (S, 5)))
        padding = rng.random((N, S)) < 0.4
        padding[0] = True
        given = [each.swapaxes(0, 1) for each in (x, keys, values)] if batch_first else [x, keys, values]
        return dict(zip(("x", "keys", "values"), given)) | {"padding": padding}

    batch, time = (0, 1) if batch_first else (1, 0)
    dynamic = {name: {batch: "batch", time: "length"} for name in ("x", "keys", "values")}
    dynamic["x"][time], dynamic["padding"] = "queries", {0: "batch", 1: "length"}
    run = Runner(model, of(4, 3, 2), folder=tmp_path, dynamic=dynamic)
    for inputs in (of(4, 3, 2), of(2, 5, 3), of(1, 1, 1)):
        assert_near(run(**inputs), model(**{name: tg.tensor(value) for name, value in inputs.items()}))


@pytest.mark.parametrize("dtype", ["float16", "float64"])
def test_onnx_of_other_dtypes(dtype: str, tmp_path: Path) -> None:
    tg.manual_seed(0)
    model = Reader(False).to(dtype=dtype).eval()
    rng = np.random.default_rng(0)
    shapes = {"x": (4, 2, 6), "keys": (3, 2, 4), "values": (3, 2, 5)}
    inputs = {name: rng.normal(size=shape).astype(dtype) for name, shape in shapes.items()}
    inputs["padding"] = np.array([[False, True, False], [False, False, True]])
    found = Runner(model, inputs, folder=tmp_path, dynamic={name: {} for name in inputs})(**inputs)
    for name, expected in model(**{name: tg.tensor(value) for name, value in inputs.items()}).items():
        assert found[name].dtype == dtype
        np.testing.assert_allclose(found[name], host(expected), atol=5e-3 if dtype == "float16" else 1e-12)


def test_the_summary_counts_multiply_adds() -> None:
    layer = nn.MultiheadAttention(6, 2)
    row = tg.inspect.summary(layer, (tg.ones(4, 3, 6),) * 3).rows[0]
    projections, products = 4 * (4 * 3 * 6 * 6), 2 * (3 * 4 * 4 * 6)
    assert row.multiply_adds == projections + products and row.outputs == ((4, 3, 6), (3, 4, 4))


class Decoder(nn.Module):
    """A cell that reads from a memory at each step."""

    STATES = ("h", "memory")

    def __init__(self) -> None:
        self.attention = nn.MultiheadAttention(4, 2, batch_first=True)

    def forward(self, x: tg.Tensor, state: tuple[tg.Tensor, tg.Tensor]) -> tuple[tg.Tensor, tg.Tensor]:
        h, memory = state
        read, weights = self.attention((x + h).unsqueeze(1), memory, memory)
        weights = weights.squeeze(1)
        return read.squeeze(1), memory


def test_a_trace_has_the_weights_of_each_step() -> None:
    tg.manual_seed(0)
    cell, x, h, memory = Decoder(), tg.randn(3, 2, 4), tg.zeros(2, 4), tg.randn(2, 5, 4)
    traced = tg.inspect.trace(Recurrent(cell), x, (h, memory), loss=lambda out: out.sum())
    assert not traced.batch_first  # that of the attention says nothing about x
    weights = traced["cells.0"].weights
    assert weights.shape == traced["cells.0"].gradients["weights"].shape == (3, 2, 5)
    for step, found in zip(x, weights, strict=True):
        _, expected = cell.attention((step + h).unsqueeze(1), memory, memory)
        np.testing.assert_allclose(found, host(expected)[:, 0], rtol=1e-5)
        h, _ = cell(step, (h, memory))


def test_representation() -> None:
    assert repr(nn.MultiheadAttention(8, 2)).startswith("MultiheadAttention(8, num_heads=2) ")
    layer = nn.MultiheadAttention(8, 2, 0.1, False, True, True, 4, 8, True)
    assert repr(layer).startswith(
        "MultiheadAttention(8, num_heads=2, dropout=0.1, bias=False, add_bias_kv=True, add_zero_attn=True, kdim=4, "
        "batch_first=True) "
    )


def ones(*shape: int, dtype: str = "float32") -> tg.Tensor:
    return tg.ones(*shape, dtype=dtype)


@pytest.mark.parametrize(("make", "error", "message"), [
    (lambda: nn.MultiheadAttention(6, 4), ValueError, "num_heads 4 does not divide embed_dim 6"),
    (lambda: nn.MultiheadAttention(0, 1), ValueError, "embed_dim must be 1 or more, got 0"),
    (lambda: nn.MultiheadAttention(4, 2, vdim=0), ValueError, "vdim must be 1 or more, got 0"),
    (lambda: nn.MultiheadAttention(4, 2.0), TypeError, "num_heads"),
    (lambda: nn.MultiheadAttention(4, 2, dropout=1.5), ValueError, "dropout must be within [0, 1], got 1.5"),
    (lambda: nn.MultiheadAttention(4, 2)(*[ones(3, 2, 5)] * 3), ValueError,
     "expected query, key and value of shapes (L, N, 4), (S, N, 4), (S, N, 4), or all without N, got (3, 2, 5)"),
    (lambda: nn.MultiheadAttention(4, 2, batch_first=True)(ones(3, 2, 4), ones(2, 2, 4), ones(2, 2, 4)), ValueError,
     "shapes (N, L, 4), (N, S, 4), (N, S, 4)"),
    (lambda: nn.MultiheadAttention(4, 2)(ones(3, 2, 4), ones(2, 4), ones(2, 4)), ValueError, "got (3, 2, 4), (2, 4)"),
    (lambda: nn.MultiheadAttention(4, 2)(ones(3, 2, 4), ones(5, 2, 4), ones(6, 2, 4)), ValueError, "(6, 2, 4)"),
    (lambda: nn.MultiheadAttention(4, 2)(*[ones(3, 4, dtype="float64")] * 3), TypeError, "query is float64"),
    (lambda: nn.MultiheadAttention(4, 2)(*[ones(3, 2, 4)] * 3, ones(3, 2)), ValueError,
     "expected key_padding_mask of shape (2, 3), got (3, 2)"),
    (lambda: nn.MultiheadAttention(4, 2)(*[ones(3, 2, 4)] * 3, attn_mask=ones(2, 3, 3)), ValueError,
     "expected attn_mask of shape (3, 3) or (4, 3, 3), got (2, 3, 3)"),
    (lambda: nn.MultiheadAttention(4, 2)(*[ones(3, 4)] * 3, attn_mask=ones(3, 3, dtype="int64")), TypeError,
     "attn_mask must be bool or floats, got int64"),
    (lambda: nn.MultiheadAttention(4, 2)(*[ones(3, 4)] * 3, attn_mask=ones(3, 3, dtype="float64")), TypeError,
     "attn_mask is float64, but the parameters are float32"),
])  # fmt: skip
def test_errors(make: Any, error: type[Exception], message: str) -> None:
    with pytest.raises(error) as caught:
        make()
    assert str(caught.value).startswith("MultiheadAttention: ") and message in str(caught.value)
