"""The module that a file's model becomes: inputs, outputs, names."""

from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import helper, numpy_helper

import tinygrad_lstm as tg
from tinygrad_lstm.io.models.loaded import Loaded
from tinygrad_lstm.io.models.names import attribute_names


@pytest.fixture
def path(tmp_path: Path) -> Path:
    weights = {"fc.weight": np.arange(15, dtype="float32").reshape(3, 5) / 15, "fc.bias": np.ones(5, "float32")}
    graph = helper.make_graph(
        [
            helper.make_node("MatMul", ["x", "fc.weight"], ["product"]),
            helper.make_node("Add", ["product", "fc.bias"], ["sum"]),
            helper.make_node("Tanh", ["sum"], ["y.0"]),
        ],
        "graph",
        [helper.make_tensor_value_info("x", onnx.TensorProto.FLOAT, ["steps", "batch", 3])],
        [helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, None) for name in ("y.0", "sum")],
        [numpy_helper.from_array(array, name) for name, array in weights.items()],
    )
    path = tmp_path / "model.onnx"
    onnx.save(helper.make_model(graph), path)
    return path


@tg.no_grad()
def test_inputs_by_position_and_by_name(path: Path) -> None:
    model = tg.io.load_model(path)
    x = np.random.default_rng(0).standard_normal((4, 2, 3))
    outputs = model(x)
    assert outputs._fields == ("y_0", "sum")
    state = model.state_dict()
    np.testing.assert_allclose(outputs.sum.numpy(), x @ state["fc.weight"] + state["fc.bias"], rtol=1e-6)
    np.testing.assert_array_equal(model(x=tg.tensor(x.astype("float32"))).y_0.numpy(), outputs.y_0.numpy())


def test_what_is_trained_has_the_files_names(path: Path) -> None:
    model = tg.io.load_model(path)
    model(np.ones((4, 2, 3))).sum.sum().backward()
    assert {name: parameter.grad is not None for name, parameter in model.named_parameters()} == {
        "fc.weight": True,
        "fc.bias": True,
    }


@tg.no_grad()
def test_it_is_exported_again(path: Path, tmp_path: Path) -> None:
    model = tg.io.load_model(path)
    tg.io.export_onnx(model, tmp_path / "again.onnx")
    again = tg.io.load_model(tmp_path / "again.onnx")
    x = np.random.default_rng(0).standard_normal((4, 2, 3))
    np.testing.assert_allclose(again(x)[0].numpy(), model(x)[0].numpy(), rtol=1e-6)
    assert again.state_dict().keys() == model.state_dict().keys()


@tg.no_grad()
@pytest.mark.parametrize("op", ["MaxPool", "AveragePool"])
def test_pools_that_leave_out_a_rest_are_exported_again(op: str, tmp_path: Path) -> None:
    node = helper.make_node(op, ["x"], ["y"], kernel_shape=[2], strides=[2])
    infos = [helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, ["B", 2, "T"]) for name in "xy"]
    onnx.save(helper.make_model(helper.make_graph([node], "graph", infos[:1], infos[1:])), tmp_path / "model.onnx")
    model = tg.io.load_model(tmp_path / "model.onnx")
    tg.io.export_onnx(model, tmp_path / "again.onnx", {"x": tg.rand(3, 2, 8)})
    for length in (6, 7):
        x = tg.rand(1, 2, length)
        np.testing.assert_array_equal(tg.io.load_model(tmp_path / "again.onnx")(x).numpy(), model(x).numpy())


@pytest.mark.parametrize(
    ("args", "kwargs", "error"),
    [
        ([], {}, TypeError),
        ([np.ones((4, 2, 3))], {"x": np.ones((4, 2, 3))}, TypeError),
        ([np.ones((4, 2, 3))] * 2, {}, TypeError),
        ([np.ones((4, 2, 3))], {"y": 1}, TypeError),
        ([np.ones((4, 2, 5))], {}, ValueError),
        ([np.ones((4, 3))], {}, ValueError),
        ([tg.ones(4, 2, 3, dtype="int64")], {}, ValueError),
    ],
)
def test_unfit_inputs(path: Path, args: list[object], kwargs: dict[str, object], error: type[Exception]) -> None:
    model = tg.io.load_model(path)
    with pytest.raises(error, match=r"model\.onnx"):
        model(*args, **kwargs)


@tg.no_grad()
def test_weights_in_a_file_beside_the_model(path: Path, tmp_path: Path) -> None:
    onnx.save(onnx.load(path), tmp_path / "beside.onnx", save_as_external_data=True, size_threshold=0, location="data")
    x = np.random.default_rng(0).standard_normal((4, 2, 3))
    np.testing.assert_array_equal(
        tg.io.load_model(tmp_path / "beside.onnx")(x)[0].numpy(), tg.io.load_model(path)(x)[0].numpy()
    )


def test_statistics_are_not_trained(tmp_path: Path) -> None:
    """The mean and variance of a batch normalization are buffers."""
    names = ["weight", "bias", "running_mean", "running_var"]
    graph = helper.make_graph(
        [helper.make_node("BatchNormalization", ["x", *[f"bn.{name}" for name in names]], ["y"])],
        "graph",
        [helper.make_tensor_value_info("x", onnx.TensorProto.FLOAT, ["batch", 3])],
        [helper.make_tensor_value_info("y", onnx.TensorProto.FLOAT, None)],
        [numpy_helper.from_array(np.ones(3, "float32"), f"bn.{name}") for name in names],
    )
    onnx.save(helper.make_model(graph), tmp_path / "model.onnx")
    model = tg.io.load_model(tmp_path / "model.onnx")
    assert [name for name, _ in model.named_parameters()] == ["bn.weight", "bn.bias"]
    assert model.state_dict().keys() == {f"bn.{name}" for name in names}


def test_no_name_in_a_file_replaces_what_a_loaded_model_uses(path: Path) -> None:
    model = tg.io.load_model(path)
    own = {name for name in {*dir(Loaded), *vars(model)} if not name.startswith("__")}
    taken = attribute_names(own)
    assert {name for name in own if taken[name] == name} == {name.split(".")[0] for name, _ in model.named_parameters()}
