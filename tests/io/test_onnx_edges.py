"""Exported ops at the edges: special values, and ids that are out of range, in onnxruntime as in the library."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pytest

import tinygrad_lstm as tg
from tinygrad_lstm.models import GRU, LSTM, RNN, CharLM

HostArray = np.ndarray[Any, Any]
Function = Callable[..., Any]

QUIET = onnxruntime.SessionOptions()
QUIET.intra_op_num_threads = 1
QUIET.log_severity_level = 4

FLOAT = np.finfo(np.float32)
SIZES = [0.0, 1e-7, 1e-5, 1e-3, 0.4, 0.5, 0.6, 1.0, 1.5, 2.5, 20.0, 90.0, 100.0, float(FLOAT.tiny), float(FLOAT.max)]
FINITE = np.array([sign * size for size in SIZES for sign in (1, -1)], np.float32)
SPECIAL = np.concatenate([FINITE, np.array([np.inf, -np.inf, np.nan, FLOAT.smallest_subnormal], np.float32)])
PAIRS = np.array(np.meshgrid(SPECIAL, SPECIAL)).reshape(2, -1)
INF, NAN = np.inf, np.nan
ROWS = np.array(
    [
        [INF, -INF, 0],
        [NAN, 1, 2],
        [1, NAN, 2],
        [1, 2, NAN],
        [INF, NAN, 1],
        [-INF, -INF, -INF],
        [INF, INF, INF],
        [-INF, 0, 1],
        [INF, 0, 1],
        [0, 0, 0],
        [3, 3, 1],
    ],
    np.float32,
)


class Applied(tg.nn.Module):
    """A function as a module."""

    def __init__(self, function: Function) -> None:
        self.function = function

    def forward(self, **inputs: tg.Tensor) -> Any:
        return self.function(*inputs.values())


class Exported:
    """A function in onnxruntime, for inputs of the shapes and types of an example."""

    def __init__(self, folder: Path, function: Function, *example: HostArray) -> None:
        inputs = {f"x{k}": array for k, array in enumerate(example)}
        path = folder / "model.onnx"
        tg.io.export_onnx(Applied(function), path, inputs, dynamic={name: {} for name in inputs})
        self.session = onnxruntime.InferenceSession(path, QUIET, providers=["CPUExecutionProvider"])

    def __call__(self, *arrays: HostArray) -> HostArray:
        (output,) = self.session.run(None, {f"x{k}": array for k, array in enumerate(arrays)})
        return np.asarray(output)


def assert_same(folder: Path, function: Function, *arrays: HostArray, atol: float = 0.0) -> None:
    with np.errstate(all="ignore"), tg.no_grad():
        expected = function(*map(tg.tensor, arrays)).numpy()
        run = Exported(folder, function, *(np.ones_like(array) for array in arrays))
    np.testing.assert_allclose(run(*arrays), expected, 2e-5, atol)


ONE = [
    *(tg.neg, tg.abs, tg.sign, tg.exp, tg.log, tg.sqrt, tg.reciprocal, tg.sin, tg.cos, tg.softplus, tg.relu, tg.erf),
    *(tg.floor, tg.round, tg.square, tg.expm1, tg.log1p, tg.rsqrt, tg.isnan, tg.isfinite, tg.logical_not),
    *(tg.elu, tg.leaky_relu),
    lambda x: tg.round(x * 3, 2),
    lambda x: tg.round(x * 30, -1),
    lambda x: tg.round(tg.astype(x, "float16"), 3),
    lambda x: tg.clamp(x, -1, 1),
    lambda x: tg.clamp(x, 0.25),
    lambda x: tg.clamp(x, max=0.25),
    lambda x: tg.where(x, 1.0, 2.0),
    lambda x: x.astype("bool"),
]


@pytest.mark.filterwarnings("ignore:.*encountered")
@pytest.mark.parametrize("function", ONE)
def test_special_values(tmp_path: Path, function: Function) -> None:
    assert_same(tmp_path, function, SPECIAL)


@pytest.mark.filterwarnings("ignore:.*encountered")
@pytest.mark.parametrize("function", [tg.tanh, tg.sigmoid, tg.silu, tg.gelu])
def test_special_values_of_what_onnxruntime_approximates(tmp_path: Path, function: Function) -> None:
    """sigmoid(-20) is 0 there, and so is the tanh of subnormal numbers."""
    assert_same(tmp_path, function, SPECIAL, atol=1e-7)


@pytest.mark.filterwarnings("ignore:.*encountered")
@pytest.mark.parametrize("function", [
    lambda x, y: x + y,
    lambda x, y: x - y,
    lambda x, y: x * y,
    lambda x, y: x / y,
    lambda x, y: x**y,
    tg.maximum,
    tg.minimum,
    lambda x, y: x == y,
    lambda x, y: x != y,
    lambda x, y: x < y,
    lambda x, y: x <= y,
    lambda x, y: x > y,
    lambda x, y: x >= y,
    tg.logical_and,
    tg.logical_or,
    tg.logical_xor,
    lambda x, y: tg.where(x > 0, x, y),
    lambda x, y: tg.binary_cross_entropy_with_logits(x, y, reduction="none"),
    lambda x, y: tg.binary_cross_entropy(x, y, reduction="none"),
    lambda x, y: tg.kl_div(x, y, "none"),
    lambda x, y: tg.huber_loss(x, y, "none", 0.5),
    lambda x, y: tg.hinge_embedding_loss(x, y, reduction="none"),
])  # fmt: skip
def test_pairs_of_special_values(tmp_path: Path, function: Function) -> None:
    assert_same(tmp_path, function, *PAIRS)


@pytest.mark.filterwarnings("ignore:.*encountered")
@pytest.mark.parametrize("function", [
    lambda x: x.sum(1),
    lambda x: x.mean(1),
    lambda x: x.prod(1),
    lambda x: x.max(1).values,
    lambda x: x.min(1, keepdim=True).values,
    lambda x: x.amax((0, 1)),
    lambda x: x.max(),
    lambda x: x.var(1),
    lambda x: x.std(1),
    lambda x: x.cumsum(1),
    lambda x: x.any(1),
    lambda x: x.all(1),
    lambda x: x.argmax(1),
    lambda x: x.argmax(1, keepdim=True),
    lambda x: x.argmin(0),
    lambda x: x.argmax(),
    lambda x: x.argmin(None, keepdim=True),
    lambda x: tg.logsumexp(x, 1),
    lambda x: tg.softmax(x, 1),
    lambda x: tg.log_softmax(x, 1),
    lambda x: tg.layer_norm(x, 3),
])  # fmt: skip
def test_rows_of_special_values(tmp_path: Path, function: Function) -> None:
    assert_same(tmp_path, function, ROWS)


@pytest.mark.parametrize("dtype", ["int64", "int32"])
@pytest.mark.parametrize("function", [
    lambda x, y: x + y,
    lambda x, y: x * y,
    lambda x, y: x / 3,
    lambda x, y: x**2,
    tg.maximum,
    lambda x, y: x >= y,
    lambda x, y: -abs(x) + tg.sign(y),
    lambda x, y: x.clamp(1, 2) + y.clamp(max=1),
    lambda x, y: x.round(decimals=1),
    lambda x, y: x.max() + y.min(),
    lambda x, y: x.argmax(),
])  # fmt: skip
def test_integers_at_their_ends(tmp_path: Path, function: Function, dtype: str) -> None:
    ends = np.iinfo(dtype)
    numbers = np.array([0, 1, 2, -1, -2, ends.min, ends.max], dtype)
    assert_same(tmp_path, function, *np.array(np.meshgrid(numbers, numbers)).reshape(2, -1))


@pytest.mark.parametrize(("function", "message"), [
    (lambda x: tg.tensor([2, 3]) ** x, "op 'pow' is given integers as exponents, of which it refuses negative ones"),
    (lambda x: x.round(decimals=-1), "op 'round' is to round integers to tens"),
    (lambda x: x & 3, "op 'bitwise_and' is of integers"),
    (lambda x: tg.zeros(2, 3) + int(x.numpy().sum()), "op 'add' takes the number 2 or 0"),
])  # fmt: skip
def test_integers_with_which_a_file_would_answer_otherwise_are_refused(
    tmp_path: Path, function: Function, message: str
) -> None:
    """Be they all the same in the example."""
    for example in (np.array([1, 1]), np.array([0, 0]), np.array([0, 1])):
        with pytest.raises(ValueError, match=f"^export_onnx: {message if example.sum() == 2 else ''}"):
            Exported(tmp_path, function, example)


# -- ids ---------------------------------------------------------------------------------------------------------------

TABLE = np.random.default_rng(0).normal(size=(4, 3)).astype(np.float32)
IDS = [-(2**62), -5, -4, -1, 0, 3, 4, 2**40]


@pytest.mark.parametrize("id_", IDS)
@pytest.mark.parametrize("function", [
    lambda ids: tg.embedding(ids, tg.tensor(TABLE)),
    lambda ids: tg.embedding(ids, tg.tensor(TABLE), padding_idx=0),
    lambda ids: tg.tensor(TABLE)[ids],
    lambda ids: tg.tensor(TABLE)[ids, ids],
    lambda ids: tg.tensor(TABLE).index_select(0, ids),
    lambda ids: tg.tensor(TABLE).gather(0, ids.unsqueeze(1)),
    lambda ids: tg.tensor(TABLE).take_along_axis(ids.unsqueeze(1), 0),
])  # fmt: skip
def test_ids_compute_the_same_here_and_in_onnxruntime_or_raise(tmp_path: Path, function: Function, id_: int) -> None:
    run = Exported(tmp_path, function, np.array([0, 1]))
    ids = np.array([0, id_])
    try:
        expected = function(tg.tensor(ids)).numpy()
    except IndexError:
        with pytest.raises(Exception, match=r"(?i)ind(ex|ices)"):  # of onnxruntime's own classes
            run(ids)
    else:
        np.testing.assert_array_equal(run(ids), expected)


@pytest.mark.parametrize("dtype", ["int8", "int32", "int64", "uint8"])
def test_ids_of_any_integers(tmp_path: Path, dtype: str) -> None:
    run = Exported(tmp_path, lambda ids: tg.embedding(ids, tg.tensor(TABLE)), np.array([0, 1], dtype))
    np.testing.assert_array_equal(run(np.array([3, 0], dtype)), TABLE[[3, 0]])
    with pytest.raises(Exception, match="indices"):
        run(np.array([3, 0], dtype) - np.array(1, dtype))


@pytest.mark.parametrize("lengths", [[5, 6], [-1, 3], [5, 2**40], [5, 2**32 + 1], [-(2**63), 0]])
@pytest.mark.parametrize("network", [
    LSTM(3, 4), LSTM(3, 4, 2, bidirectional=True), GRU(3, 4), RNN(3, 4), LSTM(3, 4, proj_size=2)
])  # fmt: skip
def test_lengths_that_are_out_of_range_raise(tmp_path: Path, network: Any, lengths: list[int]) -> None:
    inputs = {**network.example_inputs(5, 2), "lengths": np.array([5, 3])}
    tg.io.export_onnx(network, tmp_path / "model.onnx", inputs)
    session = onnxruntime.InferenceSession(tmp_path / "model.onnx", QUIET)
    inputs["lengths"] = np.array(lengths)
    with pytest.raises(ValueError, match="expected 2 lengths, integers from 0 to 5"):
        network.named_forward(**inputs)
    with pytest.raises(Exception, match="indices"):
        session.run(None, {name: np.asarray(tg.tensor(value).numpy()) for name, value in inputs.items()})


def test_a_language_model_refuses_negative_ids(tmp_path: Path) -> None:
    tg.io.export_onnx(CharLM(9, 3, 4), tmp_path / "model.onnx")
    session = onnxruntime.InferenceSession(tmp_path / "model.onnx", QUIET)
    zeros = np.zeros((1, 1, 4), np.float32)
    with pytest.raises(Exception, match="indices"):
        session.run(None, {"ids": np.array([[-1]]), "h0": zeros, "c0": zeros})
