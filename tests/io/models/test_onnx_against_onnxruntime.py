"""Ops that ONNX has no or few tests of: those of onnxruntime, and windows with any attributes."""

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st
from onnx import helper, numpy_helper

import tinygrad_lstm as tg

MICROSOFT = "com.microsoft"
OPSET = 21
RNG = np.random.default_rng(0)


def floats(*shape: int) -> Any:
    return RNG.standard_normal(shape).astype(np.float32)


def integers(low: int, high: int, *shape: int, dtype: str = "int64") -> Any:
    return RNG.integers(low, high, shape).astype(dtype)


def levels(*shape: int) -> Any:
    return integers(0, 256, *shape, dtype="uint8")


def scale(number: float) -> Any:
    return np.float32(number)


def zero(number: int, dtype: str = "uint8") -> Any:
    return np.array(number, dtype)


@tg.no_grad()
def compare(
    folder: Path,
    op: str,
    inputs: list[Any],
    domain: str = "",
    outputs: int = 1,
    constants: dict[str, Any] | None = None,
    **attributes: Any,
) -> None:
    """Compares a model of one node with onnxruntime: floats to 1e-5 of the largest, levels to one step.

    Args:
        constants: the last inputs, with their names.
    """
    names = [f"x{number}" if value is not None else "" for number, value in enumerate(inputs)]
    given = {name: np.asarray(value) for name, value in zip(names, inputs, strict=True) if name}
    arrays = [numpy_helper.from_array(value, name) for name, value in (constants or {}).items()]
    node = helper.make_node(
        op, [*names, *(constants or {})], [f"y{number}" for number in range(outputs)], domain=domain, **attributes
    )
    ports = [
        helper.make_tensor_value_info(name, helper.np_dtype_to_tensor_dtype(value.dtype), [None] * value.ndim)
        for name, value in given.items()
    ]
    graph = helper.make_graph([node], "graph", ports, [onnx.ValueInfoProto(name=name) for name in node.output], arrays)
    opsets = [helper.make_opsetid("", OPSET if op != "Attention" else 23), helper.make_opsetid(MICROSOFT, 1)]
    model = helper.make_model(graph, opset_imports=opsets, ir_version=10)
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    expected = session.run(None, given)
    onnx.save(model, folder / "model.onnx")
    results = tg.io.load_model(folder / "model.onnx")(*given.values())
    for got, each in zip(results if outputs > 1 else (results,), expected, strict=True):
        assert (got.shape, got.dtype) == (each.shape, each.dtype)
        is_float = each.dtype.kind == "f"
        atol = 1e-5 * np.abs(each).max(initial=1) if is_float else 1.0
        np.testing.assert_allclose(
            got.numpy().astype(float), each.astype(float), rtol=1e-4 if is_float else 0, atol=atol
        )


QUANTIZED = [levels(3, 4), scale(0.03), zero(99)]

CASES: list[tuple[str, list[Any], dict[str, Any]]] = [
    ("Gelu", [floats(3, 4)], {}),
    ("BiasGelu", [floats(3, 4), floats(4)], {}),
    ("FastGelu", [floats(3, 4)], {}),
    ("FastGelu", [floats(3, 4), floats(4)], {}),
    ("QuickGelu", [floats(3, 4)], {"alpha": 1.5}),
    ("FusedMatMul", [floats(2, 4, 3), floats(2, 5, 4)], {"transA": 1, "transB": 1, "alpha": 0.5}),
    ("FusedMatMul", [floats(3, 2, 4), floats(2, 4, 5)], {"transBatchA": 1}),
    ("TransposeMatMul", [floats(4, 3), floats(4, 2)], {"transA": 1}),
    *[("FusedGemm", [floats(3, 4), floats(4, 2), floats(2)], {"activation": each}) for each in ("Relu", "Tanh")],
    ("FusedGemm", [floats(3, 4), floats(4, 2)], {"activation": "LeakyRelu", "activation_alpha": 0.3}),
    ("FusedConv", [floats(1, 2, 5, 5), floats(3, 2, 2, 2), floats(3)], {"activation": "Sigmoid", "pads": [1, 0, 1, 0]}),
    (
        "FusedConv",
        [floats(1, 2, 5, 5), floats(3, 2, 2, 2)],
        {"activation": "Clip", "activation_params": [-0.5, 0.5], "strides": [2, 2]},
    ),
    ("SkipLayerNormalization", [floats(2, 3, 4), floats(2, 3, 4), floats(4), floats(4), floats(4)], {}),
    ("SkipSimplifiedLayerNormalization", [floats(2, 3, 4), floats(2, 3, 4), floats(4)], {"epsilon": 1e-5}),
    ("DynamicQuantizeMatMul", [floats(3, 4), levels(4, 2), scale(0.02), zero(128), floats(2)], {}),
    (
        "MatMulIntegerToFloat",
        [levels(3, 4), levels(4, 2), scale(0.02), scale(0.03), zero(120), zero(8), floats(2)],
        {},
    ),
    ("MatMulNBits", [floats(2, 48), levels(3, 2, 16), abs(floats(6))], {"K": 48, "N": 3, "bits": 4, "block_size": 32}),
    (
        "MatMulNBits",
        [floats(2, 64), levels(3, 4, 8), abs(floats(12)), levels(6)],
        {"K": 64, "N": 3, "bits": 4, "block_size": 16},
    ),
    ("RotaryEmbedding", [floats(2, 3, 8), integers(0, 7, 2, 3), floats(9, 2), floats(9, 2)], {"interleaved": 1}),
    ("RotaryEmbedding", [floats(2, 3, 8), np.array([2]), floats(9, 2), floats(9, 2)], {}),
    ("MultiHeadAttention", [floats(2, 3, 8), floats(2, 4, 8), floats(2, 4, 8), floats(24)], {"num_heads": 2}),
    (
        "MultiHeadAttention",
        [*[floats(2, 3, 8)] * 3, None, np.array([[1, 1, 0], [1, 0, 0]], "int32"), floats(2, 2, 3, 3)],
        {"num_heads": 2, "unidirectional": 1},
    ),
    (
        "Attention",
        [floats(2, 3, 4), floats(4, 24), floats(24), np.array([[1, 1, 1], [1, 1, 0]], "int32")],
        {"num_heads": 2},
    ),
    ("QLinearAdd", [*QUANTIZED, levels(4), scale(0.02), zero(7), scale(0.05), zero(100)], {}),
    ("QLinearMul", [*QUANTIZED, levels(4), scale(0.02), zero(7), scale(0.1), zero(100)], {}),
    ("QLinearSigmoid", [*QUANTIZED, scale(1 / 256), zero(0)], {}),
    ("QLinearConcat", [scale(0.05), zero(100), *QUANTIZED, levels(2, 4), scale(0.02), zero(7)], {"axis": 0}),
    ("QGemm", [*QUANTIZED, levels(4, 2), scale(0.02), zero(7), integers(-99, 99, 2, dtype="int32")], {}),
]


@pytest.mark.parametrize(
    ("op", "inputs", "attributes"), CASES, ids=lambda value: value if isinstance(value, str) else ""
)
def test_ops_of_onnxruntime(op: str, inputs: list[Any], attributes: dict[str, Any], tmp_path: Path) -> None:
    compare(tmp_path, op, inputs, MICROSOFT, **attributes)


def test_simplified_layer_normalization(tmp_path: Path) -> None:
    compare(tmp_path, "SimplifiedLayerNormalization", [floats(2, 3, 4), floats(4)], epsilon=1e-3)


# -- windows -----------------------------------------------------------------------------------------------------------

drawn = settings(max_examples=12, suppress_health_check=[HealthCheck.function_scoped_fixture])


@st.composite
def windows(draw: st.DrawFn) -> tuple[int, list[int], dict[str, Any]]:
    """The number of dimensions, the lengths of a kernel, and attributes."""
    n = draw(st.integers(1, 3))
    kernel = draw(st.lists(st.integers(1, 3), min_size=n, max_size=n))
    few = st.lists(st.integers(1, 2), min_size=n, max_size=n)
    attributes: dict[str, Any] = {"strides": draw(few)}
    match draw(st.sampled_from(["pads", "SAME_UPPER", "SAME_LOWER", "VALID"])):
        case "pads":
            attributes["pads"] = [draw(st.integers(0, (size - 1) // 2)) for size in kernel * 2]
            attributes["dilations"] = draw(few)
        case auto_pad:
            attributes["auto_pad"] = auto_pad
    return n, kernel, attributes


@drawn
@given(window=windows(), groups=st.integers(1, 2), bias=st.booleans(), op=st.sampled_from(["Conv", "ConvTranspose"]))
def test_convolutions(window: Any, groups: int, bias: bool, op: str, tmp_path: Path) -> None:
    n, kernel, attributes = window
    if op == "ConvTranspose" and attributes.get("auto_pad", "").startswith("SAME"):
        assume(all(size >= stride for size, stride in zip(kernel, attributes["strides"], strict=True)))
    weight = floats(2 * groups, 2, *kernel)
    inputs = [floats(1, 2 * groups, *[6] * n), weight]
    if bias:
        inputs.append(floats(2 * groups))
    compare(tmp_path, op, inputs, group=groups, **attributes)


@drawn
@given(window=windows(), ceil_mode=st.integers(0, 1), indices=st.booleans())
def test_pools_of_the_largest(window: Any, ceil_mode: int, indices: bool, tmp_path: Path) -> None:
    n, kernel, attributes = window
    attributes["ceil_mode"] = ceil_mode if "pads" in attributes else 0
    compare(tmp_path, "MaxPool", [floats(2, 2, *[7] * n)], outputs=1 + indices, kernel_shape=kernel, **attributes)


@drawn
@given(window=windows(), ceil_mode=st.integers(0, 1), count_include_pad=st.integers(0, 1))
def test_pools_of_the_average(window: Any, ceil_mode: int, count_include_pad: int, tmp_path: Path) -> None:
    n, kernel, attributes = window
    attributes["ceil_mode"] = ceil_mode if "pads" in attributes else 0
    attributes["count_include_pad"] = count_include_pad
    compare(tmp_path, "AveragePool", [floats(2, 2, *[7] * n)], kernel_shape=kernel, **attributes)


@drawn
@given(
    lengths=st.lists(st.integers(2, 6), min_size=2, max_size=2),
    sizes=st.lists(st.integers(1, 9), min_size=2, max_size=2),
    mode=st.sampled_from(["nearest", "linear", "cubic"]),
    places=st.sampled_from(["half_pixel", "pytorch_half_pixel", "asymmetric", "align_corners"]),
    nearest=st.sampled_from(["floor", "ceil", "round_prefer_floor", "round_prefer_ceil"]),
)
def test_resize(lengths: list[int], sizes: list[int], mode: str, places: str, nearest: str, tmp_path: Path) -> None:
    attributes = {"mode": mode, "coordinate_transformation_mode": places}
    if mode == "nearest":
        attributes["nearest_mode"] = nearest
    constants = {"sizes": np.array([1, 2, *sizes])}
    compare(tmp_path, "Resize", [floats(1, 2, *lengths), None, None], constants=constants, **attributes)


@drawn
@given(
    heads=st.sampled_from([(2, 2), (4, 2)]),
    steps=st.integers(1, 3),
    more=st.integers(0, 2),
    is_causal=st.integers(0, 1),
    mask=st.sampled_from([None, "float", "bool"]),
)
def test_attention(
    heads: tuple[int, int], steps: int, more: int, is_causal: int, mask: str | None, tmp_path: Path
) -> None:
    queries, keys = heads
    inputs = [floats(2, queries, steps, 4), *[floats(2, keys, steps + more, 4) for _ in "kv"]]
    if mask:
        added = floats(steps, steps + more)
        inputs.append(added if mask == "float" else added < 1)
    compare(tmp_path, "Attention", inputs, is_causal=is_causal)


def test_conv_transpose_to_the_same_length_with_a_kernel_shorter_than_the_stride(tmp_path: Path) -> None:
    """As the documentation says, the length times the stride; onnxruntime returns fewer elements."""
    node = helper.make_node("ConvTranspose", ["x", "w"], ["y"], auto_pad="SAME_UPPER", strides=[3])
    port = helper.make_tensor_value_info("x", onnx.TensorProto.FLOAT, [1, 1, 2])
    weight = numpy_helper.from_array(np.ones((1, 1, 1), "float32"), "w")
    graph = helper.make_graph([node], "graph", [port], [onnx.ValueInfoProto(name="y")], [weight])
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", OPSET)]), tmp_path / "model.onnx")
    y = tg.io.load_model(tmp_path / "model.onnx")(np.array([[[5.0, 7.0]]]))
    np.testing.assert_array_equal(y.detach().numpy(), [[[0, 5, 0, 0, 7, 0]]])
