"""The normalization layers."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from onnx_exports import Runner

import tinygrad_lstm as tg
from tinygrad_lstm import nn


def host(tensor: tg.Tensor | None) -> np.ndarray[Any, Any]:
    assert tensor is not None
    return tensor.detach().cpu().numpy()


def test_layer_norm_normalises_rows(place: str) -> None:
    layer, x = nn.LayerNorm(50), tg.randn(3, 50) * 4 + 2
    rows = host(layer(x))
    np.testing.assert_allclose(rows.mean(-1), 0, atol=1e-5)
    np.testing.assert_allclose(rows.std(-1), 1, atol=1e-3)
    assert host(layer.weight).tolist() == [1] * 50 and host(layer.bias).tolist() == [0] * 50
    assert nn.LayerNorm(4, bias=False).bias is None
    assert list(nn.LayerNorm(4, elementwise_affine=False).parameters()) == []


def test_rms_norm_divides_by_the_root_of_the_mean_square(place: str) -> None:
    layer, x = nn.RMSNorm(50), tg.randn(3, 50) * 4 + 2
    np.testing.assert_allclose((host(layer(x)) ** 2).mean(-1), 1, rtol=1e-5)
    assert host(layer.weight).tolist() == [1] * 50
    assert list(nn.RMSNorm(4, elementwise_affine=False).parameters()) == []


def test_group_norm_normalizes_groups_of_channels(place: str) -> None:
    layer, x = nn.GroupNorm(2, 6), tg.randn(4, 6, 5) * 4 + 2
    groups = host(layer(x)).reshape(4, 2, -1)
    np.testing.assert_allclose(groups.mean(-1), 0, atol=1e-5)
    np.testing.assert_allclose(groups.std(-1), 1, atol=1e-3)
    assert list(nn.GroupNorm(2, 6, affine=False).parameters()) == []


@pytest.mark.parametrize("momentum", [0.1, 0.5, None])
def test_running_statistics_follow_the_batches(momentum: float | None, place: str) -> None:
    layer, mean, var = nn.BatchNorm1d(3, momentum=momentum), np.zeros(3), np.ones(3)
    for number in range(1, 5):
        x = tg.randn(6, 3, 4) * number + 2
        layer(x)
        share = 1 / number if momentum is None else momentum
        mean = (1 - share) * mean + share * host(x).mean((0, 2))
        var = (1 - share) * var + share * host(x).var((0, 2), ddof=1)
    np.testing.assert_allclose(host(layer.running_mean), mean, rtol=1e-5)
    np.testing.assert_allclose(host(layer.running_var), var, rtol=1e-5)
    assert host(layer.num_batches_tracked) == 4
    x = tg.randn(2, 3)
    expected = (host(x) - mean) / np.sqrt(var + 1e-5)
    for _ in range(2):  # evaluation changes no statistics
        np.testing.assert_allclose(host(layer.eval()(x)), expected, rtol=1e-4, atol=1e-5)
    layer.reset_running_stats()
    assert host(layer.running_mean).tolist() == [0] * 3 and host(layer.running_var).tolist() == [1] * 3
    assert host(layer.num_batches_tracked) == 0


def test_without_running_statistics_those_of_the_batch_are_used(place: str) -> None:
    layer, x = nn.BatchNorm2d(3, track_running_stats=False, affine=False), tg.randn(4, 3, 2, 2) * 3 + 1
    assert layer.state_dict() == {} and layer.running_mean is None
    for mode in (True, False):
        out = host(layer.train(mode)(x))
        np.testing.assert_allclose(out.mean((0, 2, 3)), 0, atol=1e-5)
        np.testing.assert_allclose(out.std((0, 2, 3)), 1, atol=1e-3)


def test_statistics_are_saved_loaded_and_moved(place: str, tmp_path: Path) -> None:
    model = nn.Sequential(nn.Linear(2, 3), nn.BatchNorm1d(3))
    for _ in range(3):
        model(tg.randn(8, 2))
    names = ["weight", "bias", "running_mean", "running_var", "num_batches_tracked"]  # as in PyTorch's files
    assert [name for name in model.state_dict() if name.startswith("1.")] == [f"1.{name}" for name in names]
    assert [name for name, _ in model.named_parameters()] == ["0.weight", "0.bias", "1.weight", "1.bias"]
    tg.io.save_weights(tmp_path / "model.safetensors", model.state_dict())
    loaded = nn.Sequential(nn.Linear(2, 3), nn.BatchNorm1d(3)).to(dtype="float64")
    loaded.load_state_dict(tg.io.load_weights(tmp_path / "model.safetensors"))
    assert host(loaded[1].num_batches_tracked) == 3 and loaded[1].num_batches_tracked.dtype == np.int64
    assert loaded[1].running_var.dtype == np.float64
    x = tg.randn(4, 2)
    np.testing.assert_allclose(host(loaded.eval()(x.double())), host(model.eval()(x)), rtol=1e-5, atol=1e-6)


def test_batch_norm_is_exported_with_its_statistics(tmp_path: Path) -> None:
    tg.manual_seed(0)
    model = nn.Sequential(nn.BatchNorm1d(3), nn.GroupNorm(3, 3), lambda x: x.transpose(1, 2), nn.RMSNorm(3))
    model(tg.randn(5, 3, 4))
    x = tg.randn(2, 3, 4)
    run = Runner(model, {"x": x}, tmp_path, dynamic={"x": {0: "batch", 2: "length"}})
    assert "BatchNormalization" in run.nodes
    (out,) = run(x=x).values()
    np.testing.assert_allclose(out, host(model.eval()(x)), rtol=1e-4, atol=1e-5)


def test_reprs() -> None:
    assert repr(nn.BatchNorm1d(3)).startswith("BatchNorm1d(3, eps=1e-05, momentum=0.1) ")
    assert repr(nn.BatchNorm2d(3, affine=False, momentum=None)).startswith(
        "BatchNorm2d(3, eps=1e-05, momentum=None, affine=False) "
    )
    assert repr(nn.GroupNorm(2, 4, affine=False)).startswith("GroupNorm(2, 4, eps=1e-05, affine=False) ")
    assert repr(nn.RMSNorm(4)).startswith("RMSNorm((4,), eps=None) ")


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: nn.LayerNorm(()), "LayerNorm: normalized_shape"),
        (lambda: nn.LayerNorm((2, 0)), "LayerNorm: normalized_shape"),
        (lambda: nn.RMSNorm(0), "RMSNorm: normalized_shape"),
        (lambda: nn.GroupNorm(2, 3), "num_groups 2 must be 1 or more and divide num_channels 3"),
        (lambda: nn.GroupNorm(2, 4)(tg.ones(3, 2)), r"GroupNorm: expected x of shape \(N, 4, \.\.\.\), got \(3, 2\)"),
        (lambda: nn.BatchNorm1d(0), "BatchNorm1d: num_features must be 1 or more, got 0"),
        (lambda: nn.BatchNorm1d(2)(tg.ones(3)), r"expected x of shape \(N, 2\) or \(N, 2, L\), got \(3,\)"),
        (lambda: nn.BatchNorm1d(2)(tg.ones(3, 4)), r"expected x of shape \(N, 2\) or \(N, 2, L\), got \(3, 4\)"),
        (lambda: nn.BatchNorm2d(2)(tg.ones(3, 2, 4)), r"expected x of shape \(N, 2, H, W\), got \(3, 2, 4\)"),
        (lambda: nn.BatchNorm1d(2)(tg.ones(1, 2)), r"\(1, 2\) needs two or more elements in each channel"),
    ],
)  # fmt: skip
def test_invalid_arguments_are_refused(make: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make()
