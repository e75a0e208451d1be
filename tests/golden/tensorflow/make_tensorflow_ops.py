"""Write graphs of single ops with TensorFlow, and what they compute.

    pip install tensorflow==2.21.0 safetensors
    python tests/golden/tensorflow/make_tensorflow_ops.py

ops.zip has the content of a `model.json` for each case, as TensorFlow.js has it: tensors of floats are inputs, all
other tensors are constants. ops.safetensors has "CASE/in.NAME" and "CASE/out.NAME".
"""

import itertools
import json
import os
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

os.environ["TF_CPP_MIN_LOG_LEVEL"] = "3"

import numpy as np
import tensorflow as tf
from google.protobuf.json_format import MessageToDict
from safetensors.numpy import save_file

FOLDER = Path(__file__).parent
RNG = np.random.default_rng(0)

Inputs = dict[str, Any]


def f(*shape: int, low: float = -2.0, high: float = 2.0) -> np.ndarray:
    return RNG.uniform(low, high, shape).astype("float32")


def i(*values: int) -> np.ndarray:
    return np.array(values, "int32")


UNARY = {
    **dict.fromkeys(("Exp", "Expm1", "Sin", "Cos", "Tan", "Atan", "Sinh", "Cosh", "Tanh", "Sigmoid"), (-2.0, 2.0)),
    **dict.fromkeys(("Erf", "Abs", "Neg", "Square", "Floor", "Ceil", "Sign", "Rint", "Round", "Relu"), (-7.0, 7.0)),
    **dict.fromkeys(("Relu6", "Elu", "Selu", "Softplus", "Softsign", "Asinh", "ZerosLike", "OnesLike"), (-7.0, 7.0)),
    **dict.fromkeys(("IsNan", "IsInf", "IsFinite", "Erfc"), (-3.0, 3.0)),
    **dict.fromkeys(("Log", "Log1p", "Sqrt", "Rsqrt", "Reciprocal", "Inv", "Acosh"), (1.1, 3.0)),
    **dict.fromkeys(("Asin", "Acos", "Atanh"), (-0.9, 0.9)),
}
ARGUMENT = dict.fromkeys(("Softplus", "Softsign", "Relu", "Relu6", "Elu", "Selu"), "features")
BINARY = {
    *("Add", "AddV2", "Sub", "Mul", "RealDiv", "Div", "Maximum", "Minimum", "SquaredDifference", "FloorDiv"),
    *("FloorMod", "Mod", "TruncateMod", "Atan2", "DivNoNan", "MulNoNan", "Xdivy", "NotEqual", "Equal", "Less"),
    *("LessEqual", "Greater", "GreaterEqual"),
}


Case = tuple[str, str | Callable[..., Any], Inputs, Inputs]
"""The name of a case; an op, or a function of several; its inputs and attributes."""


def elementwise_cases() -> Iterator[Case]:
    for op, (low, high) in UNARY.items():
        yield op, op, {ARGUMENT.get(op, "x"): f(3, 4, low=low, high=high)}, {}
    for op in sorted(BINARY):
        y = f(4)
        y[0] = 0 if op in ("DivNoNan", "MulNoNan", "Xdivy") else y[0]
        x = f(3, 4)
        x[:, 0] = 0 if op == "Xdivy" else x[:, 0]
        yield op, op, {"x": x, "y": y}, {}
    yield "Equal_dims", "Equal", {"x": f(3), "y": f(3)}, {}
    yield "Xlogy", "Xlogy", {"x": np.float32([0, 1, 2]), "y": np.float32([0, 2, 3])}, {}
    yield "Pow", "Pow", {"x": f(3, 4, low=0.5), "y": f(4)}, {}
    yield "AddN", "AddN", {"inputs": [f(2, 3), f(2, 3), f(2, 3)]}, {}
    yield "LeakyRelu", "LeakyRelu", {"features": f(3, 4)}, {"alpha": 0.3}
    yield "Softmax", "Softmax", {"logits": f(3, 4)}, {}
    yield "LogSoftmax", "LogSoftmax", {"logits": f(3, 4)}, {}
    yield "BiasAdd", "BiasAdd", {"value": f(2, 3, 4), "bias": f(4)}, {}
    yield "BiasAdd_first", "BiasAdd", {"value": f(2, 3, 4, 5), "bias": f(3)}, {"data_format": "NCHW"}
    yield (
        "ClipByValue",
        "ClipByValue",
        {"t": f(3, 4), "clip_value_min": np.float32(-1), "clip_value_max": np.float32(0.5)},
        {},
    )
    yield "Cast", "Cast", {"x": f(3, 4)}, {"DstT": tf.int32}
    yield "Select", "Select", {"condition": np.array([True, False, True]), "x": f(3, 4), "y": f(3, 4)}, {}
    yield "SelectV2", "SelectV2", {"condition": np.array([True, False, True, True]), "t": f(3, 4), "e": f(3, 4)}, {}
    yield "LogicalAnd", "LogicalAnd", {"x": np.array([True, False]), "y": np.array([True, True])}, {}
    yield "LinSpace", "LinSpace", {"start": np.float32(1), "stop": np.float32(2), "num": np.int32(5)}, {}
    yield "Range", "Range", {"start": np.float32(1), "limit": np.float32(3), "delta": np.float32(0.5)}, {}
    yield "Range_int", "Range", {"start": np.int32(7), "limit": np.int32(1), "delta": np.int32(-2)}, {}
    yield "Fill", "Fill", {"dims": i(2, 3), "value": np.float32(1.5)}, {}


def shape_cases() -> Iterator[Case]:
    yield "Shape", "Shape", {"input": f(3, 4)}, {}
    yield "ShapeN", "ShapeN", {"input": [f(3, 4), f(2)]}, {}
    yield "Size", "Size", {"input": f(3, 4)}, {}
    yield "Rank", "Rank", {"input": f(3, 4)}, {}
    yield "Reshape", "Reshape", {"tensor": f(3, 4), "shape": i(2, -1)}, {}
    yield "Squeeze", "Squeeze", {"input": f(3, 1, 4, 1)}, {"axis": [-1]}
    yield "Squeeze_all", "Squeeze", {"input": f(3, 1, 4, 1)}, {}
    yield "ExpandDims", "ExpandDims", {"input": f(3, 4), "axis": np.int32(-2)}, {}
    yield "Transpose", "Transpose", {"x": f(2, 3, 4), "perm": i(2, 0, 1)}, {}
    yield "InvertPermutation", "InvertPermutation", {"x": i(2, 0, 1)}, {}
    yield "ReverseV2", "ReverseV2", {"tensor": f(2, 3, 4), "axis": i(1, -1)}, {}
    yield (
        "ReverseSequence",
        "ReverseSequence",
        {"input": f(2, 4, 3), "seq_lengths": i(3, 1)},
        {"seq_dim": 1, "batch_dim": 0},
    )
    yield (
        "ReverseSequence_time",
        "ReverseSequence",
        {"input": f(4, 2, 3), "seq_lengths": i(0, 4)},
        {"seq_dim": 0, "batch_dim": 1},
    )
    yield "BroadcastTo", "BroadcastTo", {"input": f(3, 1), "shape": i(2, 3, 4)}, {}
    yield "BroadcastArgs", "BroadcastArgs", {"s0": i(3, 1), "s1": i(2, 1, 4)}, {}
    yield "Tile", "Tile", {"input": f(2, 3), "multiples": i(2, 1)}, {}
    yield "Pad", "Pad", {"input": f(2, 3), "paddings": i(1, 2, 0, 1).reshape(2, 2)}, {}
    yield (
        "PadV2",
        "PadV2",
        {"input": f(2, 3), "paddings": i(1, 2, 0, 1).reshape(2, 2), "constant_values": np.float32(0.5)},
        {},
    )
    for mode in ("REFLECT", "SYMMETRIC"):
        yield (
            f"MirrorPad_{mode}",
            "MirrorPad",
            {"input": f(3, 4), "paddings": i(1, 2, 0, 2).reshape(2, 2)},
            {"mode": mode},
        )
    yield "Pack", "Pack", {"values": [f(2, 3), f(2, 3)]}, {"axis": -1}
    yield "Unpack", "Unpack", {"value": f(2, 3, 4), "num": 3}, {"axis": 1}
    yield "ConcatV2", "ConcatV2", {"values": [f(2, 3), f(2, 1)], "axis": np.int32(-1)}, {}
    yield "Concat", "Concat", {"concat_dim": np.int32(1), "values": [f(2, 3), f(2, 1)]}, {}
    yield "Split", "Split", {"axis": np.int32(1), "value": f(2, 6)}, {"num_split": 3}
    yield "SplitV", "SplitV", {"value": f(2, 6), "size_splits": i(1, -1, 3), "axis": np.int32(1)}, {"num_split": 3}
    yield "Slice", "Slice", {"input": f(3, 4), "begin": i(1, 0), "size": i(2, -1)}, {}
    for name, begin, end, strides, masks in (
        ("plain", (0, 1), (2, 4), (1, 2), {}),
        ("masks", (1, 1), (2, 2), (1, 1), {"begin_mask": 1, "end_mask": 2}),
        ("backward", (-1, 3), (-4, 0), (-1, -2), {"end_mask": 1}),
        ("shrink", (1, 0), (2, 3), (1, 1), {"shrink_axis_mask": 1}),
        ("ellipsis", (0, -1), (0, 0), (1, 1), {"ellipsis_mask": 1, "shrink_axis_mask": 2}),
        ("new", (0, 0, 1), (1, 0, 3), (1, 1, 1), {"new_axis_mask": 2}),
        ("past", (0, 2), (9, 9), (1, 1), {}),
    ):  # fmt: skip
        yield (
            f"StridedSlice_{name}",
            "StridedSlice",
            {"input": f(3, 4, 2), "begin": i(*begin), "end": i(*end), "strides": i(*strides)},
            masks,
        )
    yield (
        "SpaceToBatchND",
        "SpaceToBatchND",
        {"input": f(2, 4, 5, 3), "block_shape": i(2, 3), "paddings": i(0, 2, 1, 0).reshape(2, 2)},
        {},
    )
    yield (
        "BatchToSpaceND",
        "BatchToSpaceND",
        {"input": f(12, 2, 3, 2), "block_shape": i(2, 3), "crops": i(1, 0, 0, 2).reshape(2, 2)},
        {},
    )


def indexing_cases() -> Iterator[Case]:
    yield (
        "GatherV2",
        "GatherV2",
        {"params": f(3, 4, 2), "indices": i(2, 0, 2, 1).reshape(2, 2), "axis": np.int32(1)},
        {},
    )
    batch = i(1, 0, 2, 2, 1, 0).reshape(2, 3)
    yield "GatherV2_batch", "GatherV2", {"params": f(2, 3, 4), "indices": batch, "axis": np.int32(1)}, {"batch_dims": 1}
    yield "GatherV2_inner", "GatherV2", {"params": f(2, 4, 3), "indices": batch, "axis": np.int32(2)}, {"batch_dims": 1}
    yield "GatherNd", "GatherNd", {"params": f(3, 4, 2), "indices": i(2, 0, 1, 3).reshape(2, 2)}, {}
    yield "ScatterNd", "ScatterNd", {"indices": i(2, 0, 2).reshape(3, 1), "updates": f(3, 2), "shape": i(4, 2)}, {}
    update = {"tensor": f(4, 2), "indices": i(2, 0).reshape(2, 1), "updates": f(2, 2)}
    yield "TensorScatterUpdate", "TensorScatterUpdate", update, {}
    yield "TensorScatterAdd", "TensorScatterAdd", {**update, "indices": i(2, 2).reshape(2, 1)}, {}
    hot = {"indices": i(1, 3, 0), "depth": np.int32(3), "on_value": np.float32(2), "off_value": np.float32(-1)}
    yield "OneHot", "OneHot", hot, {"axis": -1}
    yield "OneHot_first", "OneHot", hot, {"axis": 0}
    for low, high in ((-1, 0), (1, -1), (0, 1)):
        band = {"num_lower": np.int32(low), "num_upper": np.int32(high)}
        yield f"MatrixBandPart_{low}{high}", "MatrixBandPart", {"input": f(2, 3, 4), **band}, {}
    yield "TopKV2", "TopKV2", {"input": f(3, 5), "k": np.int32(2)}, {}
    yield "ArgMax", "ArgMax", {"input": f(3, 5), "dimension": np.int32(-1)}, {"output_type": tf.int32}
    yield "ArgMin", "ArgMin", {"input": f(3, 5), "dimension": np.int32(0)}, {}
    yield "Where", "Where", {"condition": np.array([[True, False], [True, True]])}, {}


def reduction_cases() -> Iterator[Case]:
    for op in ("Sum", "Mean", "Max", "Min", "Prod"):
        yield op, op, {"input": f(2, 3, 4), "axis": i(0, -1)}, {}
        yield f"{op}_keep", op, {"input": f(2, 3), "axis": np.int32(1)}, {"keep_dims": True}
        yield f"{op}_int", op, {"input": i(5, 2, 3, 1), "axis": np.int32(0)}, {}
    yield "All", "All", {"input": np.array([[True, False], [True, True]]), "axis": i(1)}, {}
    yield "EuclideanNorm", "EuclideanNorm", {"input": f(2, 3), "axis": i(1)}, {}
    for exclusive in (False, True):
        for reverse in (False, True):
            settings = {"exclusive": exclusive, "reverse": reverse}
            yield f"Cumsum_{exclusive:d}{reverse:d}", "Cumsum", {"x": f(2, 4), "axis": np.int32(1)}, settings
    yield "Cumprod", "Cumprod", {"x": f(2, 4), "axis": np.int32(0)}, {"exclusive": True}
    yield "L2Loss", "L2Loss", {"t": f(2, 4)}, {}


def product_cases() -> Iterator[Case]:
    for a, b in ((False, True), (True, False)):
        shapes = ((4, 3) if a else (3, 4)), ((5, 4) if b else (4, 5))
        yield (
            f"MatMul_{a:d}{b:d}",
            "MatMul",
            {"a": f(*shapes[0]), "b": f(*shapes[1])},
            {"transpose_a": a, "transpose_b": b},
        )
        yield (
            f"BatchMatMulV2_{a:d}{b:d}",
            "BatchMatMulV2",
            {"x": f(2, *shapes[0]), "y": f(*shapes[1])},
            {"adj_x": a, "adj_y": b},
        )
    yield "Einsum", "Einsum", {"inputs": [f(2, 3, 4), f(4, 5)]}, {"equation": "btd,dk->btk"}


def window_cases() -> Iterator[Case]:
    for padding in ("SAME", "VALID"):
        for stride in (1, 2):
            settings = {"strides": [1, stride, stride, 1], "padding": padding}
            yield f"Conv2D_{padding}{stride}", "Conv2D", {"input": f(2, 6, 5, 4), "filter": f(3, 2, 4, 3)}, settings
            depthwise = {"input": f(2, 6, 5, 2), "filter": f(3, 3, 2, 2)}
            yield f"DepthwiseConv2dNative_{padding}{stride}", "DepthwiseConv2dNative", depthwise, settings
            pool = {"ksize": [1, 2, 3, 1], **settings}
            yield f"MaxPool_{padding}{stride}", "MaxPool", {"input": f(2, 6, 5, 2)}, pool
            yield f"AvgPool_{padding}{stride}", "AvgPool", {"value": f(2, 6, 5, 2)}, pool
            size = 5 if padding == "SAME" or stride == 1 else 7
            out = (size, size) if padding == "VALID" else (6, 6)
            counts = [-(-n // stride) if padding == "SAME" else (n - 3) // stride + 1 for n in out]
            back = {"input_sizes": i(2, *out, 3), "filter": f(3, 3, 3, 4), "out_backprop": f(2, *counts, 4)}
            yield f"Conv2DBackpropInput_{padding}{stride}", "Conv2DBackpropInput", back, settings
    dilated = {"strides": [1, 1, 1, 1], "padding": "SAME", "dilations": [1, 2, 1, 1]}
    yield "Conv2D_dilated", "Conv2D", {"input": f(2, 6, 5, 4), "filter": f(3, 2, 4, 3)}, dilated
    explicit = {"strides": [1, 1, 1, 1], "padding": "EXPLICIT", "explicit_paddings": [0, 0, 2, 0, 0, 1, 0, 0]}
    yield "Conv2D_explicit", "Conv2D", {"input": f(2, 6, 5, 4), "filter": f(3, 2, 4, 3)}, explicit
    yield (
        "Conv2D_groups",
        "Conv2D",
        {"input": f(2, 6, 5, 4), "filter": f(3, 2, 2, 6)},
        {"strides": [1, 1, 1, 1], "padding": "VALID"},
    )
    volume = {"input": f(2, 4, 5, 6, 2), "filter": f(2, 3, 3, 2, 3)}
    yield "Conv3D", "Conv3D", volume, {"strides": [1, 1, 2, 1, 1], "padding": "SAME"}
    for op in ("ResizeNearestNeighbor", "ResizeBilinear"):
        for name, settings in (
            ("plain", {}),
            ("corners", {"align_corners": True}),
            ("half", {"half_pixel_centers": True}),
        ):
            yield f"{op}_{name}", op, {"images": f(2, 3, 4, 2), "size": i(7, 6)}, settings
    yield "Roll", "Roll", {"input": f(3, 4), "shift": i(1, -2), "axis": i(0, 1)}, {}
    yield "SpaceToDepth", "SpaceToDepth", {"input": f(2, 4, 6, 3)}, {"block_size": 2}
    yield "DepthToSpace", "DepthToSpace", {"input": f(2, 2, 3, 12)}, {"block_size": 2}
    for squared in (False, True):
        settings = {"window_size": 6, "stride": 3, "magnitude_squared": squared}
        yield f"AudioSpectrogram_{squared:d}", "AudioSpectrogram", {"input": f(17, 2)}, settings
    norm = {"x": f(2, 3, 3, 4), "scale": f(4), "offset": f(4), "mean": f(4), "variance": f(4, low=0.5)}
    yield "FusedBatchNormV3", "FusedBatchNormV3", norm, {"is_training": False, "epsilon": 1e-3}
    own = {**norm, "mean": np.zeros(0, "float32"), "variance": np.zeros(0, "float32")}
    yield "FusedBatchNormV3_own", "FusedBatchNormV3", own, {"is_training": True, "epsilon": 1e-3}


def spectral_cases() -> Iterator[Case]:
    """Complex tensors are between the ops."""
    signal = tf.signal
    yield "RFFT", lambda x: tf.abs(signal.rfft(x, [8])), {"x": f(2, 6)}, {}
    yield "IRFFT", lambda x, y: signal.irfft(tf.complex(x, y), [7]), {"x": f(2, 4), "y": f(2, 4)}, {}
    yield "FFT", lambda x, y: tf.math.real(signal.fft(tf.complex(x, y))), {"x": f(2, 5), "y": f(2, 5)}, {}
    yield "IFFT", lambda x, y: tf.math.imag(signal.ifft(tf.complex(x, y))), {"x": f(2, 5), "y": f(2, 5)}, {}
    yield "Angle", lambda x, y: tf.math.angle(tf.math.conj(tf.complex(x, y))), {"x": f(3), "y": f(3)}, {}
    yield "stft", lambda x: tf.abs(signal.stft(x, 6, 3, 8)), {"x": f(2, 20)}, {}


FAMILIES = (
    elementwise_cases,
    shape_cases,
    indexing_cases,
    reduction_cases,
    product_cases,
    window_cases,
    spectral_cases,
)


def made(
    op: str | Callable[..., Any], inputs: Inputs, attributes: Inputs
) -> tuple[Any, dict[str, np.ndarray], dict[str, np.ndarray]]:
    """The graph of an op, the values of its inputs, and those of its outputs."""
    given: dict[str, np.ndarray] = {}
    with tf.Graph().as_default() as graph, tf.compat.v1.Session() as session:

        def value(name: str, each: Any) -> Any:
            if isinstance(each, list):
                return [value(f"{name}_{k}", one) for k, one in enumerate(each)]
            if isinstance(each, int | str):
                return each
            each = np.asarray(each)
            if each.dtype != np.float32 or not each.ndim:
                return tf.constant(each, name=name)
            given[name] = each
            return tf.compat.v1.placeholder(each.dtype, each.shape, name)

        arguments = {name: value(name, each) for name, each in inputs.items()}
        call = getattr(tf.raw_ops, op) if isinstance(op, str) else op
        result = call(**arguments, **attributes)
        tensors = list(result) if isinstance(result, tuple | list) else [result]
        tensors = tensors[:1] if str(op).startswith("FusedBatchNorm") else tensors
        outputs = [tf.identity(each, name=f"out_{k}") for k, each in enumerate(tensors)]
        computed = session.run(outputs, {f"{name}:0": array for name, array in given.items()})
        definition = graph.as_graph_def()
    for node in definition.node:
        node.attr.pop("_output_shapes", None)
    return MessageToDict(definition), given, {f"out_{k}": np.asarray(each) for k, each in enumerate(computed)}


def main() -> None:
    arrays: dict[str, np.ndarray] = {}
    models = {}
    for name, op, inputs, attributes in itertools.chain.from_iterable(family() for family in FAMILIES):
        graph, given, outputs = made(op, inputs, attributes)
        ins: dict[str, Any] = {key: {"name": f"{key}:0", "dtype": "DT_FLOAT"} for key in given}
        for key, array in given.items():
            ins[key]["tensorShape"] = {"dim": [{"size": str(n)} for n in array.shape]}
        signature = {"inputs": ins, "outputs": {key: {"name": f"{key}:0"} for key in outputs}}
        models[name] = {"signature": signature, "modelTopology": graph, "weightsManifest": []}
        arrays |= {f"{name}/in.{key}": array for key, array in given.items()}
        arrays |= {f"{name}/out.{key}": array for key, array in outputs.items()}
    with zipfile.ZipFile(FOLDER / "ops.zip", "w", zipfile.ZIP_DEFLATED, compresslevel=9) as archive:
        archive.writestr(zipfile.ZipInfo("ops.json"), json.dumps(models), zipfile.ZIP_DEFLATED)
    save_file({key: np.array(array, order="C") for key, array in arrays.items()}, FOLDER / "ops.safetensors")


if __name__ == "__main__":
    main()
