"""Ops exported to ONNX: onnxruntime computes what they do, for any lengths."""

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx_exports import Function, HostArray, Runner, Spotter, Tensor, assert_near, assert_same_function, on_host, rows
from ops.case import Case
from ops.cases import CASES

import tinygrad_lstm as tg
from tinygrad_lstm.mode import mode
from tinygrad_lstm.models import GRU, LSTM, CharLM, GRUCell
from tinygrad_lstm.ops import class_loss, loss, margin_loss

# ONNX has no sequence of no arrays, and onnxruntime's Einsum divides by zero, which ends the process.
NOT_OF_EMPTY = {"unbind", "einsum"}


@pytest.mark.parametrize("case", CASES, ids=str)
@settings(max_examples=8)
@given(data=st.data())
def test_every_op(tmp_path_factory: pytest.TempPathFactory, case: Case, data: st.DataObject) -> None:
    drawn = data.draw(case.drawn.filter(lambda drawn: case.name not in NOT_OF_EMPTY or all(map(np.size, drawn.arrays))))
    inputs = {f"x{k}": np.asarray(array, np.float32) for k, array in enumerate(drawn.arrays)}

    def function(**tensors: Tensor) -> Any:
        return case.call(*tensors.values(), **drawn.settings)

    folder = tmp_path_factory.mktemp("export")
    assert_same_function(function, inputs, folder=folder, dynamic={name: {} for name in inputs})


TABLE = np.random.default_rng(1).normal(size=(2, 3)).astype(np.float32)


@pytest.mark.parametrize("dtype", ["int64", "int32", "bool", "float64"])
@pytest.mark.parametrize("function", [
    lambda x: x + 1,
    lambda x: x == 2,
    lambda x: x * 1.5,
    lambda x: x / 2,
    lambda x: x + tg.tensor([[[0.5]]]),
    lambda x: x.sum(0),
    lambda x: x.mean(1),
    lambda x: x.var(),
    lambda x: x.amax(0) if x.dtype != np.bool_ else x,
    lambda x: x.any(0),
    lambda x: x.cumsum(0),
    lambda x: (x.cumprod(0), x.logcumsumexp(1), *x.cummax(1), *x.cummin(0), x.diff(dim=1)),
    lambda x: (*x.sort(1, descending=True), x.argsort(0), *x.topk(2), *x.median(0), x.nanmedian()),
    lambda x: (tg.searchsorted([0.5, 1.0], x), x.sort(1).values.searchsorted(x, right=True)),
    lambda x: x.exp(),
    lambda x: x.clamp(0.25, 0.75),
    lambda x: x.floor() if x.dtype != np.bool_ else x,
    lambda x: x.round() if x.dtype != np.bool_ else x,
    lambda x: ((x - 5) % 3, (x + 4) // -3, x.ceil(), x.trunc()) if x.dtype != np.bool_ else x,
    lambda x: (~(x > 0), (x > 0) & (x == 0), tg.nan_to_num(x)),
    lambda x: (x < 1, x == 1, x != 0, x.logical_and(True), x.logical_not()),
    lambda x: (tg.isfinite(x), tg.isnan(x)),
    lambda x: tg.where(x, 1.0, 2),
    lambda x: tg.where(True, x, 2),
    lambda x: x.float() @ TABLE.T,
    lambda x: tg.linear(x.float(), TABLE, [1, 2]),
    lambda x: tg.embedding(x.astype("int32"), tg.tensor(TABLE)),
    lambda x: x * tg.ones(3, dtype=np.float32),
    lambda x: tg.adaptive_avg_pool1d(x, 1),
    lambda x: (tg.max_pool1d(x, 2, 1), tg.adaptive_max_pool1d(x, 1)) if x.dtype != np.bool_ else x,
    lambda x: tg.stft(x[:, 0], 2, 1, center=False) if x.dtype != np.bool_ else x,
])  # fmt: skip
def test_other_dtypes(tmp_path: Path, dtype: str, function: Function) -> None:
    def of(T: int, B: int) -> HostArray:
        return np.random.default_rng(T).integers(0, 2, (T, B, 3)).astype(dtype)

    assert_same_function(function, {"x": of(4, 2)}, {"x": of(3, 5)}, folder=tmp_path)


KERNEL = np.random.default_rng(2).normal(size=(4, 3, 2)).astype(np.float32)


# Of a tensor (T, B, 3), with T and B others when it runs.
OF_ANY_LENGTHS: list[Function] = [
    lambda x: x.flatten(),
    lambda x: x.flatten(0, 1),
    lambda x: x.reshape(-1, 3),
    lambda x: x.reshape(x.shape[0], -1),
    lambda x: x.reshape(x.shape[1], x.shape[0] * 3),
    lambda x: x.reshape(x.shape[1], 3, x.shape[0]),
    lambda x: x.reshape(1, *x.shape),
    lambda x: x.reshape(-1).reshape(3, x.shape[1], x.shape[0]),
    lambda x: x.unsqueeze(1).squeeze(1),
    lambda x: x.transpose(0, 1).reshape(x.shape[1], -1),
    lambda x: x[0],
    lambda x: x[-1],
    lambda x: x[1:],
    lambda x: x[:, :-1],
    lambda x: x[::-1, 0],
    lambda x: x[::2],
    lambda x: x[-1, :, None, 1:],
    lambda x: x[..., 0, None],
    lambda x: x[None, ..., 1],
    lambda x: x[..., np.array([True, False, True])],
    lambda x: x[len(x) - 1],
    lambda x: x[: len(x) - 1],
    lambda x: x[: len(x) // 2],
    lambda x: x[: 2 * (len(x) // 2)].reshape(len(x) // 2, x.shape[1], 6),
    lambda x: x[: 4 * (len(x) // 4)].mean(0),
    lambda x: x[: 2 * (len(x) // 4)].mean(0),
    lambda x: x[: 3 * (len(x) // 3)].mean(0),
    lambda x: x[[0, -1, 0]],
    lambda x: x[:, [[0, 1], [1, 0]]],
    lambda x: x[tg.argmax(x[:, 0, 0])],
    lambda x: x[x.shape[0] - 1 - tg.arange(x.shape[0])],
    lambda x: x[tg.argmax(x[..., 0], 0), tg.arange(x.shape[1])],
    lambda x: x[tg.tensor([[0], [1]]), [0, 1], None],
    lambda x: x.index_select(1, [0, 0]),
    lambda x: x.gather(0, x[..., :1].argmax(0, keepdim=True)),
    lambda x: x.take_along_axis(x[:1].argmax(-1, True), -1),
    lambda x: x.mean(0),
    lambda x: x.mean((0, 1), keepdim=True),
    lambda x: x.mean(),
    lambda x: x.var(0, correction=0),
    lambda x: x.std((0, 1)),
    lambda x: x.sum(1) / x.shape[1],
    lambda x: x.sum(0) * (1.0 / len(x)) + float(len(x)),
    lambda x: x.sum(np.int64(0)) / (x.shape[0] * x.shape[1]),
    lambda x: x.reshape(x.shape[0], 1, x.shape[1] * 3)[:, 0].reshape(*x.shape[:2], 3) @ TABLE.T,
    lambda x: x.reshape(x.shape[0], -1).reshape(*x.shape) @ TABLE[0],
    lambda x: x.norm(2, 0),
    lambda x: x.amax(0) + x.amin(1).max(),
    lambda x: x.logsumexp((0, 1)),
    lambda x: x.argmax(),
    lambda x: x.argmin(1),
    lambda x: x.cumsum(0),
    lambda x: x.flip(0),
    lambda x: x.roll(7, 0),
    lambda x: x.roll((1, -4), (0, 1)),
    lambda x: x.roll((1, 2), (1, 1)),
    lambda x: x.roll((1, 2), 1),
    lambda x: x.roll(1, (0, 1)),
    lambda x: x.roll(2),
    lambda x: x.roll(len(x) // 2, 0),
    lambda x: x.tril(),
    lambda x: x.permute(2, 0, 1).tril(x.shape[1] - 1),
    lambda x: tg.pad(x, (0, 0, 1, 0, 2, 2), value=1.5),
    lambda x: tg.pad(x, (0, 0, 0, x.shape[0])),
    lambda x: x.repeat(2, 1, 1),
    lambda x: x[:, :1].expand(*x.shape),
    lambda x: tg.cat([x, tg.zeros(*x.shape[:2], 1)], dim=-1),
    lambda x: tg.cat([x, x[:1]], dim=0),
    lambda x: tg.cat([x, tg.zeros(*x.shape[:2], 0), x[..., :1].expand(*x.shape[:2], 0)], dim=-1),
    lambda x: tg.stack([x, x * 2], dim=1),
    lambda x: x.unbind(-1),
    lambda x: x.split([1, 2], -1),
    lambda x: x.chunk(2, -1),
    lambda x: x + tg.arange(x.shape[0]).reshape(-1, 1, 1),
    lambda x: x + tg.sin(tg.arange(1, x.shape[0] + 1) * 0.1).reshape(-1, 1, 1),
    lambda x: x * tg.full(x.shape, 0.5),
    lambda x: x + tg.full((x.shape[1], 1), len(x)),
    lambda x: x + tg.full((x.shape[1], 3), 1.0 / len(x)),
    lambda x: x * (0.5 * len(x) - 1 / (x.shape[1] + 1.5)),
    lambda x: x[: 3 * len(x) // 4],
    lambda x: x[len(x) % 4 :] if len(x) else x,
    lambda x: x[(1 - len(x)) // 2 :],
    lambda x: x.reshape(len(x), *x.shape[1:], 1)[: math.prod(x.shape) // 7, ..., 0],
    lambda x: tg.arange(0.5, len(x), 0.25),
    lambda x: tg.arange(x.shape[1] - 3, 2 * len(x), 2, dtype="float32"),
    lambda x: tg.where(tg.arange(2 * x.shape[1], 0, -2).unsqueeze(-1) > 2, x, 0.0),
    lambda x: tg.softmax(x, 0),
    lambda x: tg.log_softmax(x, -1),
    lambda x: tg.softmax(x.sum(), 0) + tg.log_softmax(x.sum(), -1),
    lambda x: x.sum().argmax(0, keepdim=True) + x.sum().min(-1).indices,
    lambda x: tg.gelu(x) + tg.silu(x) + tg.elu(-x) + tg.softplus(x) + tg.leaky_relu(x - 1),
    lambda x: tg.layer_norm(x, 3),
    lambda x: tg.layer_norm(x, 3, [1.0, 2.0, 3.0], [0.0, 1.0, 2.0], eps=0.1),
    lambda x: tg.layer_norm(x.permute(1, 2, 0), [3, len(x)]),
    lambda x: x @ x.mT,
    lambda x: x @ TABLE[0],
    lambda x: tg.einsum("tbi,tbj->bij", x, x),
    lambda x: tg.outer(x[:, 0, 0], x[0, :, 0]),
    lambda x: tg.conv1d(x.permute(1, 2, 0), KERNEL, padding=1),
    lambda x: tg.conv1d(x.permute(1, 2, 0), KERNEL, [1.0, 2.0, 3.0, 4.0], padding="same", dilation=2),
    lambda x: tg.conv1d(x.permute(1, 2, 0), KERNEL[:3, :1], stride=2, padding=2, groups=3),
    lambda x: tg.conv1d(x[:, 0].T, KERNEL, padding=1),
    lambda x: tg.conv2d(x.permute(1, 2, 0).unsqueeze(2), KERNEL[:, :, None], padding=(0, 1), dilation=(1, 2)),
    lambda x: tg.conv2d(x[None, :, 0], KERNEL[:, :1, None], [1.0, 2.0, 3.0, 4.0], padding=(0, 2)),
    lambda x: tg.conv_transpose1d(x.permute(1, 2, 0), KERNEL[:3], stride=2, padding=1, output_padding=1),
    lambda x: tg.conv_transpose1d(x[:, 0].T, KERNEL[:3, :1], groups=3, dilation=2),
    lambda x: tg.max_pool1d(x.permute(1, 2, 0), 2, 1, 1, return_indices=True),
    lambda x: tg.max_pool1d(x[:, 0].T, 3, 2, 1, ceil_mode=True),
    lambda x: tg.max_pool2d(x.permute(2, 1, 0), (1, 3), 1, (0, 1), return_indices=True),
    lambda x: tg.avg_pool1d(x.permute(1, 2, 0), 3, 2, 1, ceil_mode=True, count_include_pad=False),
    lambda x: tg.avg_pool2d(x.permute(2, 1, 0), (1, 2), 1, (0, 1), divisor_override=3),
    lambda x: tg.adaptive_avg_pool1d(x.permute(1, 2, 0), 1),
    lambda x: tg.adaptive_max_pool2d(x.permute(2, 1, 0), (1, 1)),
    lambda x: tg.adaptive_avg_pool1d(x, 2),
    lambda x: tg.adaptive_max_pool1d(x, 3, return_indices=True),
    lambda x: tg.pad(x, (2, 1), mode="reflect"),
    lambda x: tg.pad(x, (-1, 2, 0, 0, 1, -2), mode="replicate"),
    lambda x: tg.pad(x, (2, -1, 0, 0, 1, 2), mode="reflect"),
    lambda x: tg.pad(x, (2, 0, 1, 0, 2, 3), mode="circular"),
    lambda x: tg.pad(x, (-1, -1, 0, 1)),
    lambda x: x.unfold(0, 2, 1),
    lambda x: x.unfold(2, 2, 1),
    lambda x: tg.stft(x.permute(1, 2, 0)[:, 0], 4, 1, window=[0.5, 1.0, 1.0, 0.5]),
    lambda x: tg.stft(x[:, 0, 0], 3, 2, center=False, onesided=False, normalized=True),
    lambda x: tg.istft(tg.stft(x[:, 0, 0], 4, 1), 4, 1),
    lambda x: tg.istft(tg.stft(x.permute(1, 2, 0)[:, 0], 4, 2), 4, 2, length=3),
    lambda x: x.tile(2, 1, 1),
    lambda x: x.repeat_interleave(2, -1),
    lambda x: x.repeat_interleave(tg.tensor([2, 0, 1]), 2),
    lambda x: tg.tensordot(x, TABLE, ([2], [1])),
    lambda x: tg.batch_norm(x.permute(1, 2, 0), [1.0, 2.0, 3.0], [1.0, 0.5, 2.0], [1.0, 2.0, 3.0], [0.0, 1.0, 2.0]),
    lambda x: tg.batch_norm(x.permute(1, 2, 0), None, None, training=True),
    lambda x: tg.group_norm(x.permute(1, 2, 0).repeat(1, 2, 1), 3, [1.0] * 6, [0.5] * 6),
    lambda x: tg.rms_norm(x, (3,), [1.0, 2.0, 3.0]),
    lambda x: tg.dropout(x, 0.5, training=False),
    lambda x: x.detach() + x.clone().double().float(),
    lambda x: tg.isfinite(x),
    lambda x: tuple(x.sort(0)),
    lambda x: x.argsort(1, descending=True),
    lambda x: tuple(x.topk(2, 0)),
    lambda x: x.topk(len(x), 0, largest=False).values,
    lambda x: (x.median(0).values, x.nanmedian(1).values, x.median()),
    lambda x: x.quantile([0.1, 0.5, 1.0], -1),
    lambda x: x.quantile(0.3, 0, interpolation="nearest"),
    lambda x: x[0].sort().values.searchsorted(x[0]),
    lambda x: tg.bucketize(x, tg.tensor([0.5, 1.0])),
    lambda x: (x.cumprod(0), x.logcumsumexp(1), *x.cummax(0), x.cummin(1).values),
    lambda x: x.diff(dim=0, append=x[:1]),
]  # fmt: skip


@pytest.mark.parametrize("function", OF_ANY_LENGTHS)
def test_lengths_may_be_others(tmp_path: Path, function: Function) -> None:
    assert_same_function(function, {"x": rows(4, 3)}, {"x": rows(6, 2)}, {"x": rows(5, 7)}, folder=tmp_path)


@pytest.mark.parametrize("function", OF_ANY_LENGTHS)
def test_lengths_of_results_may_be_used(tmp_path: Path, function: Function) -> None:
    """In arithmetic, where nothing else of the result is."""

    def of_lengths(x: Tensor) -> Tensor:
        given = function(x)
        lengths = [length for part in (given if isinstance(given, tuple) else (given,)) for length in part.shape]
        return tg.full((1,), sum(place * length for place, length in enumerate(lengths, 2)))

    assert_same_function(of_lengths, {"x": rows(4, 3)}, {"x": rows(6, 2)}, {"x": rows(5, 7)}, folder=tmp_path)


# Of an input x and a target y of the same shape, which are probabilities.
LOSSES: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "mse_loss": lambda x, y: tg.mse_loss(x, y),
    "l1_loss": lambda x, y: tg.l1_loss(x, y, reduction="none"),
    "smooth_l1_loss": lambda x, y: tg.smooth_l1_loss(x, y, beta=0.3),
    "huber_loss": lambda x, y: tg.huber_loss(x, y, delta=0.2, reduction="sum"),
    "kl_div": lambda x, y: tg.kl_div(x.log(), y, reduction="batchmean"),
    "binary_cross_entropy": lambda x, y: tg.binary_cross_entropy(x, y, x + 0.5),
    "binary_cross_entropy_with_logits": lambda x, y: tg.binary_cross_entropy_with_logits(x * 9 - 4, y),
    "gaussian_nll_loss": lambda x, y: tg.gaussian_nll_loss(x, y, x + 0.1, full=True),
    "cosine_similarity": lambda x, y: tg.cosine_similarity(x, y, dim=-1),
    "cosine_embedding_loss": lambda x, y: tg.cosine_embedding_loss(x[0], y[0], tg.sign(x[0, :, 0] - 0.5), margin=0.2),
    "hinge_embedding_loss": lambda x, y: tg.hinge_embedding_loss(x, tg.sign(y - 0.5)),
    "margin_ranking_loss": lambda x, y: tg.margin_ranking_loss(x, y, tg.sign(y - 0.5), margin=0.1),
    "soft_margin_loss": lambda x, y: tg.soft_margin_loss(x, tg.sign(y - 0.5)),
    "triplet_margin_loss": lambda x, y: tg.triplet_margin_loss(x, y, x * y, swap=True),
    "nll_loss": lambda x, y: tg.nll_loss(x.log().flatten(0, 1), y.argmax(-1).flatten()),
    "cross_entropy": lambda x, y: tg.cross_entropy(x.flatten(0, 1), y.argmax(-1).flatten(), label_smoothing=0.1),
    "cross_entropy of classes": lambda x, y: tg.cross_entropy(x.flatten(0, 1), y.argmax(-1).flatten(), ignore_index=1),
    "cross_entropy of probabilities": lambda x, y: tg.cross_entropy(x.flatten(0, 1), tg.softmax(y.flatten(0, 1), -1)),
}


def test_every_loss_is_exported() -> None:
    assert {name.partition(" ")[0] for name in LOSSES} == {*loss.__all__, *class_loss.__all__, *margin_loss.__all__}


@pytest.mark.parametrize("name", LOSSES)
def test_losses(tmp_path: Path, name: str) -> None:
    def of(T: int, B: int) -> dict[str, HostArray]:
        return {"x": rows(T, B, seed=1) / 2 + 0.1, "y": rows(T, B, seed=2) / 2}

    assert_same_function(LOSSES[name], of(4, 2), of(3, 5), folder=tmp_path)


@pytest.mark.parametrize("part", [
    slice(-3, None, -1), slice(-3, -6, -1), slice(-2, 0, -1), slice(-2, -1, -1), slice(-2, 5, -2), slice(5, -3, -1)
])  # fmt: skip
def test_slices_may_begin_before_the_first_element(tmp_path: Path, part: slice) -> None:
    shorter = [{"x": rows(T, 2)} for T in (1, 2, 3, 8)]
    assert_same_function(lambda x: x[part], {"x": rows(4, 2)}, *shorter, folder=tmp_path)


@pytest.mark.parametrize("dtype", ["int64", "int32", "uint8"])
def test_lengths_may_be_of_any_integers(tmp_path: Path, dtype: str) -> None:
    network = LSTM(3, 4, bidirectional=True)

    def function(x: Tensor, lengths: Tensor) -> Tensor:
        return network(x, lengths=lengths)[0]

    one, two = ({"x": rows(5, len(each)), "lengths": np.array(each, dtype)} for each in ([4, 2], [1, 5, 0]))
    assert_same_function(function, one, two, folder=tmp_path)


def test_one_layer_called_twice_is_written_once(tmp_path: Path) -> None:
    network = GRU(3, 3)

    def function(x: Tensor) -> Tensor:
        return network(network(x)[0])[0]

    run = assert_same_function(function, {"x": rows(4, 2)}, {"x": rows(3, 1)}, folder=tmp_path)
    assert run.nodes.count("GRU") == 2 and sum(array.size > 1 for array in run.arrays.values()) == 3


def test_networks_that_are_not_part_of_the_model_stay_separate(tmp_path: Path) -> None:
    one, both = LSTM(3, 2), LSTM(3, 4, bidirectional=True)

    def function(x: Tensor) -> list[Tensor]:
        return [one(x)[0], both(x)[0]]

    assert_same_function(function, {"x": rows(4, 2)}, {"x": rows(3, 1)}, folder=tmp_path)


def test_a_checkpointed_part_is_written_as_it_is(tmp_path: Path) -> None:
    network = LSTM(3, 4)
    function = lambda x: tg.checkpoint(lambda x: tg.tanh(network(x)[0]), x)  # noqa: E731
    assert_same_function(function, {"x": rows(4, 2)}, {"x": rows(3, 1)}, folder=tmp_path)


@pytest.mark.parametrize("T", [1, 2, 5])
def test_lengths_may_be_fixed(tmp_path: Path, T: int) -> None:
    """Of a cell that goes step by step in a loop, too; and of a Scan of fewer steps than there are runs."""
    cell, network = GRUCell(3, 4), LSTM(4, 4, proj_size=2)

    def function(x: Tensor) -> Tensor:
        h = tg.zeros(x.shape[1], 4)
        outputs = []
        for step in x:
            h = cell(step, h)
            outputs.append(h)
        return network(tg.stack(outputs))[0]

    inputs = {"x": rows(T, 2)}
    assert_same_function(function, inputs, {"x": rows(T, 5)}, folder=tmp_path, dynamic={"x": {1: "batch"}})


def test_a_user_defined_step_runs_over_a_sequence(tmp_path: Path) -> None:
    """By way of `scan`; its step uses what is an output besides."""

    def function(x: Tensor, y: Tensor) -> list[Tensor]:
        context = x.mean(0)  # (B, 3)

        def step(xy: Tensor, state: tuple[Tensor, Tensor]) -> tuple[Tensor, Tensor]:
            h, n = state
            return tg.tanh(xy[:, :3] + h * context).reshape(*context.shape), n + xy[:, 3:] / len(x) + tg.zeros(*n.shape)

        state = tg.zeros(x.shape[1], 3), tg.ones(x.shape[1], 1)
        out, state = tg.scan(step, tg.cat([x, y.transpose(0, 1)], dim=-1), state, reverse=True)
        return [context, out, *state]

    def of(T: int, B: int) -> dict[str, HostArray]:
        return {"x": rows(T, B), "y": rows(B, T, 1)}

    dynamic = {"x": {0: "time", 1: "batch"}, "y": {0: "batch", 1: "time"}}
    run = assert_same_function(function, of(4, 2), of(1, 3), of(6, 1), folder=tmp_path, dynamic=dynamic)
    assert run.nodes.count("Scan") == 1


def test_dimensions_may_stand_elsewhere_and_be_several(tmp_path: Path) -> None:
    network = LSTM(3, 4, batch_first=True)

    def function(x: Tensor, keys: Tensor) -> Tensor:
        return network(x)[0] @ keys  # (B, T, 4) times (B, 4, K)

    def of(B: int, T: int, K: int) -> dict[str, HostArray]:
        return {"x": rows(B, T), "keys": rows(B, 4, K)}

    dynamic = {"x": {0: "batch", 1: "time"}, "keys": {0: "batch", 2: "keys"}}
    run = assert_same_function(function, of(2, 4, 3), of(1, 6, 2), of(3, 1, 5), folder=tmp_path, dynamic=dynamic)
    (output,) = run.proto.graph.output
    assert [dim.dim_param for dim in output.type.tensor_type.shape.dim] == ["batch", "time", "keys"]


def test_examples_may_be_of_the_lengths_that_a_model_takes(tmp_path: Path) -> None:
    """Of four steps each: the runs for the export have such lengths too."""

    def function(x: Tensor) -> Tensor:
        if len(x) % 4:
            raise ValueError("expected a multiple of 4 steps")
        return x.reshape(len(x) // 4, 4, x.shape[1], 3).mean(1)

    assert_same_function(function, {"x": rows(4, 2)}, {"x": rows(12, 3)}, folder=tmp_path)


def test_adapters_are_part_of_the_weights(tmp_path: Path) -> None:
    model = CharLM(11, 4, 6)
    plain = Runner(model, folder=tmp_path).nodes
    tg.nn.add_lora(model, rank=2)
    with tg.no_grad():
        for name, parameter in model.named_parameters():
            if name.endswith("_lora.B"):
                parameter.copy_(tg.randn(*parameter.shape))
    run = Runner(model, folder=tmp_path)
    inputs = model.example_inputs(4, 2)
    assert run.nodes == plain
    assert_near(run(**inputs), model.named_forward(**inputs))
    assert not any("lora" in name for name in run.arrays)


@pytest.mark.parametrize("dtype", ["float16", "float64"])
def test_models_of_other_dtypes_are_written_as_they_are(tmp_path: Path, dtype: str) -> None:
    model = CharLM(11, 4, 6).to(dtype=dtype)
    tg.io.export_onnx(model, tmp_path / "model.onnx")
    proto = onnx.load(tmp_path / "model.onnx")
    onnx.checker.check_model(proto, full_check=True)
    (weight,) = [each for each in proto.graph.initializer if each.name == "lstm.l0.W"]
    assert onnx.numpy_helper.to_array(weight).dtype == dtype


def test_a_model_of_float16_runs(tmp_path: Path) -> None:
    model = LSTM(3, 4).to(dtype="float16")
    inputs = model.example_inputs(5, 2)
    out = Runner(model, folder=tmp_path)(**inputs)["out"]
    assert out.dtype == np.float16
    np.testing.assert_allclose(out, on_host(model.named_forward(**inputs)["out"]), atol=5e-3)


def test_the_file_says_what_made_it_and_for_which_programs(tmp_path: Path) -> None:
    proto = Runner(LSTM(3, 4), folder=tmp_path).proto
    assert (proto.producer_name, proto.producer_version) == ("tinygrad_lstm", tg.__version__)
    assert (proto.ir_version, [(each.domain, each.version) for each in proto.opset_import]) == (8, [("", 17)])


def test_every_device_writes_the_same_file(tmp_path: Path, device: str) -> None:
    for name, place in (("here", "cpu"), ("there", device)):
        tg.manual_seed(0)
        tg.io.export_onnx(CharLM(11, 4, 6).to(place), tmp_path / name)
        tg.io.export_onnx(Spotter().to(place), tmp_path / f"{name} too", {"x": rows(4, 2, 2)})
    assert (tmp_path / "here").read_bytes() == (tmp_path / "there").read_bytes()
    assert (tmp_path / "here too").read_bytes() == (tmp_path / "there too").read_bytes()


def test_all_else_stays_as_it_was(tmp_path: Path) -> None:
    model = CharLM(11, 4, 6, dropout=0.5)
    before, outside = model.state_dict(), mode().value
    tg.manual_seed(0)
    drawn = tg.randn(3).tolist()
    tg.manual_seed(0)
    Runner(model, folder=tmp_path)
    assert tg.randn(3).tolist() == drawn
    assert model.training and model.dropout.training
    assert all(np.array_equal(values, before[name]) for name, values in model.state_dict().items())
    assert mode().value is outside
