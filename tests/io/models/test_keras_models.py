"""Keras models: what their configs refuse, what layers are called, and what training does; written by hand."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from golden_models import model_path
from keras_files import Arrays, Config, layer, model, write_hdf5, write_keras

import tinygrad_lstm as tg
from tinygrad_lstm.models import GRU, LSTM

WEIGHTS = {"layers/dense/vars/0": np.eye(3, 2, dtype="f4"), "layers/dense/vars/1": np.ones(2, "f4")}


def tensor(name: str, call: int = 0, output: int = 0) -> Config:
    return {"class_name": "__keras_tensor__", "config": {"keras_history": [name, call, output]}}


def node(*args: Any, **kwargs: Any) -> Config:
    return {"args": list(args), "kwargs": kwargs}


def called(kind: str, name: str, *nodes: Config, **config: Any) -> Config:
    """A layer of a functional model."""
    return {**layer(kind, name=name, **config), "name": name, "inbound_nodes": list(nodes), "module": "keras.layers"}


def source(name: str = "x", *shape: int | None) -> Config:
    return called("InputLayer", name, batch_shape=[None, *shape], dtype="float32")


def functional(layers: list[Config], outputs: list[Any], inputs: list[Any] | None = None) -> Config:
    config = {"name": "m", "layers": layers, "input_layers": inputs or [["x", 0, 0]], "output_layers": outputs}
    return {"class_name": "Functional", "config": config}


def loaded(folder: Path, config: Any, arrays: Arrays | None = None, version: str = "3.15.1") -> Any:
    arrays = arrays if arrays else {"vars/none": np.zeros(0, "f4")}
    arrays.pop("vars/none", None)
    return tg.io.load_model(write_keras(folder / "model.keras", config, arrays, version=version))


def refusal(folder: Path, config: Any, arrays: Arrays | None = None) -> str:
    with pytest.raises(ValueError) as caught:
        loaded(folder, config, arrays)
    message = str(caught.value)
    assert len(message.splitlines()) == 1 and message.isprintable()
    return message


def sequential(*layers: Config) -> Config:
    return model(layer("InputLayer", name="x", batch_shape=[None, 3], dtype="float32"), *layers)


DENSE = layer("Dense", name="d", units=2)


def test_layers_that_are_not_supported_are_all_named(tmp_path: Path) -> None:
    message = refusal(
        tmp_path,
        sequential(
            layer("Lambda", name="mine", function="..."),
            {**layer("Dense", name="own"), "registered_name": "mine>Dense"},
            layer("Magic", name="a"),
            layer("Dropout", name="drop", rate=0.5, magic=1),
            model(layer("Lambda", name="deep")),
            layer("RNN", name="r", cell=layer("my\ncell", name="c")),
        ),
    )
    assert r"the cell my\ncell of RNN ('r')" in message
    for part in ("Lambda ('mine')", "Dense ('own')", "Magic ('a')", "'magic' of Dropout ('drop')", "Lambda ('deep')"):
        assert part in message


@pytest.mark.parametrize(
    ("config", "words"),
    [
        ({"activation": "swoosh"}, "the activation 'swoosh' of Dense ('d')"),
        ({"units": 2, "quantized": "int8"}, "the settings 'quantized' of Dense ('d')"),
        ({"use_bias": [1]}, ""),
    ],
)
def test_settings_that_are_not_supported(tmp_path: Path, config: Config, words: str) -> None:
    one = layer("Dense", **{"name": "d", "units": 2, **config})
    if words:
        assert words in refusal(tmp_path, sequential(one), dict(WEIGHTS))


@pytest.mark.parametrize(
    ("kind", "config", "words"),
    [
        ("Reshape", {"target_shape": "x"}, "settings of the wrong type: target_shape='x'"),
        ("Reshape", {"target_shape": [1, "x"]}, "settings of the wrong type: target_shape="),
        ("MaxPooling1D", {"pool_size": {"a": 2}}, "settings of the wrong type: pool_size="),
        ("MaxPooling1D", {"pool_size": [2, 2]}, "expected one integer, got (2, 2)"),
        ("Dropout", {"rate": [0.5]}, "settings of the wrong type: rate=[0.5]"),
    ],
)
def test_settings_of_the_wrong_type_are_refused(tmp_path: Path, kind: str, config: Config, words: str) -> None:
    message = refusal(tmp_path, sequential(layer(kind, name="mine", **config)))
    assert "the layer 'mine' has" in message and words in message


def test_an_activation_may_be_a_layer(tmp_path: Path) -> None:
    x = np.array([[-2, 0.5, 3]], "f4")
    rectified = layer("ReLU", max_value=1, negative_slope=0.25, name="r")
    found = loaded(tmp_path, sequential(layer("Activation", name="a", activation=rectified)))
    np.testing.assert_array_equal(found(x).numpy(), [[-0.5, 0.5, 1]])
    for kind in ("ReLU", "ELU"):
        own = {**layer(kind, name="r"), "registered_name": f"mine>{kind}"}
        assert kind in refusal(tmp_path, sequential(layer("Activation", name="a", activation=own)))


def test_layers_of_two_directions_return_the_same(tmp_path: Path) -> None:
    one, two = (layer("LSTM", name="l", units=2, return_state=state, go_backwards=state) for state in (False, True))
    both = layer("Bidirectional", name="mine", layer=one, backward_layer=two)
    assert "(its two layers differ in return_state)" in refusal(tmp_path, sequential(both))


@pytest.mark.parametrize("call", [node(tensor("x"), mask=tensor("x")), node(), node(tensor("x"), tensor("x"))])
def test_calls_with_arguments_that_a_layer_does_not_take_are_refused(tmp_path: Path, call: Config) -> None:
    config = functional([source("x", 3), called("MaxPooling1D", "mine", call)], [["mine", 0, 0]])
    assert "the layer 'mine' has invalid settings or arrays" in refusal(tmp_path, config)


def test_a_layer_that_cannot_be_computed_is_named(tmp_path: Path) -> None:
    """A list of tensors, for a layer of one."""
    both = node([tensor("x"), tensor("x")])
    reshape = called("Reshape", "mine", both, target_shape=[3])
    found = loaded(tmp_path, functional([source("x", 3), reshape], [["mine", 0, 0]]))
    with pytest.raises(ValueError, match=r"^the layer 'mine' cannot be computed: "):
        found(np.ones((2, 3), "f4"))


def test_an_error_of_a_hook_is_not_changed(tmp_path: Path) -> None:
    found = loaded(tmp_path, sequential(layer("Dropout", name="mine", rate=0.5)))

    def hook(*_: Any) -> None:
        raise KeyError("a key of the user's")

    found.mine.register_forward_hook(hook)
    with pytest.raises(KeyError, match="a key of the user's") as caught:
        found(np.ones((2, 3), "f4"))
    assert caught.value.__notes__ == ["in the layer 'mine'"]


def test_a_user_defined_model_is_refused(tmp_path: Path) -> None:
    assert "its model's class, 'Mine', is user-defined" in refusal(tmp_path, layer("Mine", name="m"))
    assert "weights and no model" in refusal(tmp_path, "null", dict(WEIGHTS))


GRAPHS: dict[str, tuple[Config, str]] = {
    "a cycle": (
        functional(
            [source(), called("ReLU", "a", node(tensor("b"))), called("ReLU", "b", node(tensor("a")))], [["a", 0, 0]]
        ),
        "the layer 'a' depends on itself",
    ),
    "itself": (functional([source(), called("ReLU", "a", node(tensor("a")))], [["a", 0, 0]]), "'a' depends on itself"),
    "a missing layer": (
        functional([source(), called("ReLU", "a", node(tensor("z")))], [["a", 0, 0]]),
        "the layer 'z' is missing",
    ),
    "a missing output": (functional([source()], [["z", 0, 0]]), "the layer 'z' is missing"),
    "a missing call": (
        functional([source(), called("ReLU", "a", node(tensor("x")))], [["a", 3, 0]]),
        "the call 3 of the layer 'a' is missing",
    ),
    "a missing second output": (
        functional([source(), called("ReLU", "a", node(tensor("x")))], [["a", 0, 1]]),
        "'a'",
    ),
    "two of a name": (functional([source(), source()], [["x", 0, 0]]), "two layers are called 'x'"),
    "not a tensor": (
        functional([source(), called("ReLU", "a", node(3))], [["a", 0, 0]]),
        "'a' is called with something",
    ),
    "no layers": (functional([], [["x", 0, 0]]), "has no layers"),
    "no outputs": (functional([source()], []), "no inputs or no outputs"),
    "no tensor": (
        functional(
            [source(), called("ReLU", "a", node({"class_name": "__keras_tensor__", "config": {}}))], [["a", 0, 0]]
        ),
        "refers to no tensor",
    ),
}


@pytest.mark.parametrize("name", GRAPHS)
def test_graphs_that_are_invalid(tmp_path: Path, name: str) -> None:
    config, words = GRAPHS[name]
    assert words in refusal(tmp_path, config)


@pytest.mark.parametrize(
    ("value", "dtype"),
    [([1], "S2000000000"), ([1], "object"), ([[1], [1, 2]], "float32"), ([10**30], "int32"), ({"a": 1}, "float32")],
)
def test_constants_that_are_not_arrays_are_refused(tmp_path: Path, value: Any, dtype: str) -> None:
    constant = {"class_name": "__numpy__", "config": {"value": value, "dtype": dtype}}
    config = functional([source("x", 3), called("Add", "a", node([tensor("x"), constant]))], [["a", 0, 0]])
    assert refusal(tmp_path, config).endswith(f"has a constant that is not an array of {dtype!r}")


def test_models_within_models_are_bounded(tmp_path: Path) -> None:
    config = sequential(DENSE)
    for _ in range(60):
        config = model(config)
    assert "nested more than" in refusal(tmp_path, config, dict(WEIGHTS))
    text = '{"class_name": "Sequential", "config": {"layers": ' + "[" * 500_000
    assert "cannot be read" in refusal(tmp_path, text)


def test_every_array_is_used_once(tmp_path: Path) -> None:
    message = refusal(
        tmp_path,
        sequential(DENSE),
        {"layers/dense/vars/0": WEIGHTS["layers/dense/vars/0"], "layers/gru/vars/0": np.ones(1)},
    )
    assert "missing 'layers/dense/vars/1' (bias); unused 'layers/gru/vars/0'" in message


def test_arrays_of_an_older_file_are_in_the_order_of_their_names(tmp_path: Path) -> None:
    arrays = {
        f"model_weights/d/d/{role}:0": WEIGHTS[f"layers/dense/vars/{k}"] for k, role in enumerate(("kernel", "bias"))
    }

    def written(*names: str) -> Any:
        texts = {
            "/": {"model_config": json.dumps(sequential(DENSE)), "keras_version": "2.15.0"},
            "model_weights": {"layer_names": [b"x", b"d"], "keras_version": "2.15.0"},
            "model_weights/d": {"weight_names": [f"d/{name}:0".encode() for name in names]},
        }
        return tg.io.load_model(write_hdf5(tmp_path / "model.h5", dict(arrays), texts))

    assert written("kernel", "bias")(np.ones((1, 3), "f4")).tolist() == [[2.0, 2.0]]
    with pytest.raises(ValueError, match=r"missing 'd': bias"):
        written("kernel")
    with pytest.raises(ValueError, match=r"missing 'd': kernel, 'd': bias; unused 'model_weights/d/d/bias:0'"):
        written("bias", "kernel")
    with pytest.raises(ValueError, match=r"unused 'model_weights/d/d/kernel:0'"):
        written("kernel", "bias", "kernel")


def test_arrays_and_settings_must_agree(tmp_path: Path) -> None:
    arrays = {f"layers/lstm/cell/vars/{k}": np.ones(shape, "f4") for k, shape in enumerate(((3, 8), (2, 8), 8))}
    config = model(layer("InputLayer", name="x", batch_shape=[None, None, 3]), layer("LSTM", name="l", units=7))
    assert "a layer has 7 units in the config, but arrays of 2" in refusal(tmp_path, config, dict(arrays))
    arrays["layers/lstm/cell/vars/1"] = np.ones((2, 9), "f4")
    assert "the layer 'l'" in refusal(tmp_path, config, dict(arrays))


def test_layers_have_the_names_of_the_model(tmp_path: Path) -> None:
    arrays = {f"layers/lstm/cell/vars/{k}": np.ones(shape, "f4") for k, shape in enumerate(((3, 8), (2, 8), 8))}
    found = loaded(
        tmp_path,
        model(
            layer("InputLayer", name="x", batch_shape=[None, None, 3]),
            layer("LSTM", name="my-encoder", units=2),
            layer("Dense", name="body", units=2),
        ),
        arrays | {"layers/dense/vars/0": np.eye(2, dtype="f4"), "layers/dense/vars/1": np.ones(2, "f4")},
    )
    assert isinstance(found.my_encoder, LSTM)
    assert {name.split(".")[0] for name, _ in found.named_parameters()} == {"my_encoder", "body_"}
    assert found(np.zeros((2, 4, 3), "f4")).shape == (2, 2)


def test_no_layer_hides_an_attribute_of_the_module(tmp_path: Path) -> None:
    plain = loaded(tmp_path, sequential(layer("ReLU", name="a")))
    own = sorted({*dir(plain)} - {"a"})
    arrays = {}
    for k in range(len(own)):
        path = f"layers/dense_{k}" if k else "layers/dense"
        arrays |= {f"{path}/vars/0": np.eye(3, dtype="f4"), f"{path}/vars/1": np.zeros(3, "f4")}
    found = loaded(tmp_path, sequential(*(layer("Dense", name=name, units=3) for name in own)), arrays)
    assert len([parameter for parameter in found.parameters()]) == 2 * len(own)
    assert found(np.ones((1, 3), "f4")).tolist() == [[1.0, 1.0, 1.0]]
    assert found.input_names == ["x"]


def test_frozen_layers_stay_frozen(tmp_path: Path) -> None:
    found = loaded(tmp_path, sequential({**layer("Dense", name="d", units=2, trainable=False)}), dict(WEIGHTS))
    assert not found.training
    assert [parameter.requires_grad for parameter in found.parameters()] == [False, False]


def test_noise_is_only_in_training(tmp_path: Path) -> None:
    kinds = [
        layer("Dropout", name="a", rate=0.5),
        layer("GaussianNoise", name="b", stddev=1.0),
        layer("GaussianDropout", name="c", rate=0.5),
        layer("AlphaDropout", name="d", rate=0.5),
    ]
    x = np.ones((4, 3), "f4")
    for kind in kinds:
        found = loaded(tmp_path, sequential(kind))
        assert found(x).tolist() == x.tolist()
        assert found.train()(x).tolist() != x.tolist()


def recurrent(
    kind: str, outputs: int = 1, before: str = "x", wrapper: Config | None = None, **config: Any
) -> tuple[Config, Arrays]:
    """A functional model of one recurrent layer of 2 units, "r", and its random arrays; its inputs x are (B, 5, 3).

    Args:
        outputs: the number of the layer's outputs.
        before: "m" for masked inputs.
        wrapper: the settings of a Bidirectional around it.
    """
    gates = {"LSTM": 4, "GRU": 3, "SimpleRNN": 1}[kind]
    bias = (2, 6) if kind == "GRU" and config.get("reset_after", True) else (2 * gates,)
    rng = np.random.default_rng(1)
    own = called(kind, "r", node(tensor(before)), units=2, **config)
    paths = [f"layers/{'simple_rnn' if kind == 'SimpleRNN' else kind.lower()}"]
    if wrapper is not None:
        own = called("Bidirectional", "r", node(tensor(before)), layer=layer(kind, units=2, **config), **wrapper)
        paths = [f"layers/bidirectional/{each}_layer" for each in ("forward", "backward")]
    arrays = {
        f"{path}/cell/vars/{k}": rng.standard_normal(shape).astype("f4")
        for path in paths
        for k, shape in enumerate([(3, 2 * gates), (2, 2 * gates), bias])
    }
    layers = [source("x", 5, 3), called("Masking", "m", node(tensor("x"))), own]
    return functional(layers, [["r", 0, k] for k in range(outputs)]), arrays


KINDS = [("LSTM", {}), ("GRU", {}), ("GRU", {"reset_after": False}), ("SimpleRNN", {})]


@tg.no_grad()
@pytest.mark.parametrize(("size", "stride"), [(2, 2), (3, 2), (4, 3), (2, 3)])
@pytest.mark.parametrize("kind", ["AveragePooling1D", "MaxPooling1D", "Conv1D"])
def test_same_padding_is_exported_for_all_lengths(tmp_path: Path, kind: str, size: int, stride: int) -> None:
    """How many zeros there are depends on the length, and there are none for some."""
    arrays = {}
    settings: Config = {"pool_size": [size]}
    if kind == "Conv1D":
        settings = {"filters": 2, "kernel_size": [size], "use_bias": False}
        arrays = {"layers/conv1d/vars/0": np.random.default_rng(0).standard_normal((size, 3, 2)).astype("f4")}
    own = layer(kind, name="own", strides=[stride], padding="same", **settings)
    found = loaded(tmp_path, model(layer("InputLayer", name="x", batch_shape=[None, None, 3]), own), arrays)
    tg.io.export_onnx(found, tmp_path / "model.onnx")
    exported = tg.io.load_model(tmp_path / "model.onnx")
    for length in range(1, 13):
        x = np.random.default_rng(length).standard_normal((2, length, 3)).astype("f4")
        np.testing.assert_allclose(exported(x).numpy(), found(x).numpy(), 1e-5, 1e-6)


@pytest.mark.parametrize(("config", "dropped"), [({"dropout": 0.5}, 0), ({"recurrent_dropout": 0.5}, 1)])
def test_a_recurrent_layer_drops_the_same_elements_at_all_steps(tmp_path: Path, config: Config, dropped: int) -> None:
    arrays = {f"layers/simple_rnn/cell/vars/{k}": np.eye(3, dtype="f4") for k in range(2)}
    config = {"units": 3, "activation": "linear", "use_bias": False, "return_sequences": True, **config}
    found = loaded(
        tmp_path,
        model(layer("InputLayer", name="x", batch_shape=[None, 5, 3]), layer("SimpleRNN", name="r", **config)),
        arrays,
    )
    x = np.ones((8, 5, 3), "f4")
    sums = np.cumsum(x, 1)
    np.testing.assert_allclose(found(x).detach().numpy(), sums)
    out = found.train()(x).detach().numpy()
    kept = out[:, :1] if dropped == 0 else out[:, 1:2] - 1
    assert set(np.unique(kept)) == {0.0, 2.0}
    expected = kept * sums if dropped == 0 else np.cumsum(kept ** np.arange(5).reshape(-1, 1), 1)
    np.testing.assert_allclose(out, expected)


@pytest.mark.parametrize(("kind", "config"), KINDS)
@pytest.mark.parametrize("wrapper", [None, {}])
@pytest.mark.parametrize("rates", [{"recurrent_dropout": 1e-9}, {"dropout": 1e-9, "implementation": 1}])
def test_steps_that_drop_nothing_are_those_of_evaluation(
    tmp_path: Path, kind: str, config: Config, wrapper: Config | None, rates: Config
) -> None:
    number = 1 + (2 if kind == "LSTM" else 1) * (1 if wrapper is None else 2)
    found = loaded(tmp_path, *recurrent(kind, number, "m", wrapper, return_state=True, **config, **rates))
    x = np.random.default_rng(0).standard_normal((3, 5, 3)).astype("f4")
    x[0, :2] = x[1, 2:4] = 0  # masked
    for ours, theirs in zip(found.train()(x), found.eval()(x), strict=True):
        np.testing.assert_allclose(ours.detach().numpy(), theirs.detach().numpy(), 1e-5, 1e-6)


@pytest.mark.parametrize(("kind", "config"), KINDS)
@pytest.mark.parametrize("rates", [{"recurrent_dropout": 0.5}, {"dropout": 0.5}, {"dropout": 0.5, "implementation": 1}])
def test_dropout_of_both_directions_trains(tmp_path: Path, kind: str, config: Config, rates: Config) -> None:
    found = loaded(tmp_path, *recurrent(kind, wrapper={}, return_sequences=True, **config, **rates)).train()
    x = np.random.default_rng(0).standard_normal((3, 5, 3)).astype("f4")
    first, second = found(x), found(x)
    half = first.shape[-1] // 2
    for part in (slice(0, half), slice(half, None)):
        assert (first[..., part] != second[..., part]).any().item()
    first.sum().backward()
    assert all(each.grad is not None and np.isfinite(each.grad.numpy()).all() for each in found.parameters())


@pytest.mark.parametrize(("kind", "config"), KINDS)
@pytest.mark.parametrize("wrapper", [None, {}])
def test_a_trace_of_a_layer_that_drops_elements_has_its_gates(
    tmp_path: Path, kind: str, config: Config, wrapper: Config | None
) -> None:
    found = loaded(tmp_path, *recurrent(kind, wrapper=wrapper, return_sequences=True, recurrent_dropout=0.5, **config))
    x = np.random.default_rng(0).standard_normal((3, 5, 3)).astype("f4")
    plain = tg.inspect.trace(found, x)
    traced = tg.inspect.trace(found.train(), x, loss=lambda out: (out**2).sum())
    assert [(each.name, list(each.values), each.gates) for each in traced] == [
        (each.name, list(each.values), each.gates) for each in plain
    ]
    assert "recurrent_dropout=0.5" in traced[0].described
    assert traced.output is not None
    h = np.concatenate([each.values["h"] for each in traced], -1)  # (T, B, ·)
    np.testing.assert_allclose(h, np.swapaxes(traced.output, 0, 1), rtol=1e-6)
    assert all(np.isfinite(each.gradients["h"]).all() for each in traced)


def test_states_of_a_model_of_one_step_are_given_by_name(tmp_path: Path) -> None:
    after = called("Add", "after", node([tensor("x"), tensor("before")]))
    config = functional(
        [source("x", 3), source("before", 3), after], [["after", 0, 0]], [["x", 0, 0], ["before", 0, 0]]
    )
    path = write_keras(tmp_path / "step.keras", config, {}, version="3.15.1")
    stream = tg.io.load_model(path, states={"before": "after"}).stream()
    x = np.ones((1, 3), "f4")
    np.testing.assert_array_equal([stream(x), stream(x)], [x, 2 * x])


def test_states_that_keras_keeps_are_kept_by_a_stream(tmp_path: Path) -> None:
    draw = np.random.default_rng(0).standard_normal
    arrays = {f"layers/lstm/cell/vars/{k}": draw(s).astype("f4") for k, s in enumerate([(3, 8), (2, 8), (8,)])}
    lstm = layer("LSTM", name="l", units=2, return_sequences=True, stateful=True)
    config = model(layer("InputLayer", name="x", batch_shape=[1, None, 3], dtype="float32"), lstm)
    with pytest.warns(UserWarning, match=r"start from zeros at each call here; model\.stream\(\) keeps .*: 'l'$"):
        found = loaded(tmp_path, config, arrays)
    x = draw((1, 6, 3)).astype("f4")
    stream = found.stream()
    parts = np.concatenate([stream(x[:, :4]), stream(x[:, 4:])], 1)
    with tg.no_grad():
        np.testing.assert_allclose(parts, found(x).numpy(), rtol=0, atol=1e-6)


@tg.no_grad()
@pytest.mark.parametrize("kind", ["Attention", "MultiHeadAttention"])
def test_attention_drops_weights_in_training(tmp_path: Path, kind: str) -> None:
    """With equal keys and values of 1, an output is the sum of the weights that are kept."""
    arrays = {}
    config: Config = {"dropout": 0.5}
    given = node([tensor("x"), tensor("x")])
    if kind == "MultiHeadAttention":
        config |= {"num_heads": 1, "key_dim": 1, "use_bias": False}
        given = node(tensor("x"), tensor("x"))
        shapes = {"query_dense": (1, 1, 1), "key_dense": (1, 1, 1), "value_dense": (1, 1, 1), "output_dense": (1, 1, 1)}
        arrays = {f"layers/multi_head_attention/{name}/vars/0": np.ones(s, "f4") for name, s in shapes.items()}
    found = loaded(
        tmp_path, functional([source("x", 1000, 1), called(kind, "a", given, **config)], [["a", 0, 0]]), arrays
    )
    x = np.ones((1, 1000, 1), "f4")
    np.testing.assert_allclose(found(x).numpy(), 1, 1e-5)
    tg.manual_seed(0)
    out = found.train()(x).numpy()
    assert 0.02 < out.std() < 0.05 and abs(out.mean() - 1) < 0.01  # of binomial numbers: 0.0316


def test_dropout_of_a_convolutional_layer_is_refused_in_training(tmp_path: Path) -> None:
    shapes = [(2, 2, 8), (2, 2, 8), (8,)]
    found = loaded(
        tmp_path,
        model(
            layer("InputLayer", name="x", batch_shape=[None, 3, 4, 2]),
            layer("ConvLSTM1D", name="c", filters=2, kernel_size=[2], dropout=0.5),
        ),
        {f"layers/conv_lstm1d/cell/vars/{k}": np.ones(shape, "f4") for k, shape in enumerate(shapes)},
    )
    x = np.ones((1, 3, 4, 2), "f4")
    expected = found(x).tolist()
    with pytest.raises(ValueError, match="the ConvLSTM layer 'c' has dropout, which is not supported in training"):
        found.train()(x)
    found.c.eval()
    assert found(x).tolist() == expected


@pytest.mark.parametrize("mode", ["concat", "sum", "mul", "ave", None])
@pytest.mark.parametrize("sequences", [True, False])
@pytest.mark.parametrize("kind", ["LSTM", "GRU"])
def test_both_directions_are_one_layer(tmp_path: Path, mode: str | None, sequences: bool, kind: str) -> None:
    """A layer and its export have one node, and compute what two layers do."""
    number = 2 if mode is None else 1
    both, arrays = recurrent(kind, number, wrapper={"merge_mode": mode}, return_sequences=sequences)
    found = loaded(tmp_path, both, arrays)
    assert isinstance(found.r, LSTM | GRU) and found.r.bidirectional
    x = np.random.default_rng(0).standard_normal((2, 5, 3)).astype("f4")
    results = found(x) if mode is None else (found(x),)
    halves = []
    for each in ("forward", "backward"):
        own = {
            name.replace(f"bidirectional/{each}_layer", kind.lower()): array
            for name, array in arrays.items()
            if each in name
        }
        config, _ = recurrent(kind, return_sequences=sequences, go_backwards=each == "backward")
        half = loaded(tmp_path, config, own)(x).detach().numpy()
        halves.append(half[:, ::-1] if sequences and each == "backward" else half)
    y, z = halves
    expected = {"concat": [np.concatenate(halves, -1)], "sum": [y + z], "mul": [y * z], "ave": [(y + z) / 2]}
    for ours, theirs in zip(results, expected.get(str(mode), halves), strict=True):
        np.testing.assert_allclose(ours.detach().numpy(), theirs, 1e-5, 1e-6)
    tg.io.export_onnx(found, tmp_path / "model.onnx")
    again = tg.io.load_model(tmp_path / "model.onnx")
    assert [step.op for step in again.body.steps].count(kind) == 1


def test_spatial_dropout_drops_channels(tmp_path: Path) -> None:
    found = loaded(
        tmp_path,
        model(layer("InputLayer", name="x", batch_shape=[None, 5, 3]), layer("SpatialDropout1D", name="a", rate=0.5)),
    ).train()
    out = found(np.ones((8, 5, 3), "f4")).numpy()
    assert (out == out[:, :1]).all() and set(np.unique(out)) == {0.0, 2.0}


def test_a_shared_layer_is_one(tmp_path: Path) -> None:
    config = functional(
        [source("x", 3), source("y", 3), called("Dense", "d", node(tensor("x")), node(tensor("y")), units=2)],
        [["d", 0, 0], ["d", 1, 0]],
        [["x", 0, 0], ["y", 0, 0]],
    )
    found = loaded(tmp_path, config, dict(WEIGHTS))
    first, second = found(np.ones((1, 3), "f4"), np.zeros((1, 3), "f4"))
    assert (first.tolist(), second.tolist()) == ([[2.0, 2.0]], [[1.0, 1.0]])
    assert len(list(found.parameters())) == 2


@pytest.mark.parametrize("name", ["keras3_reused", "keras2_reused", "keras2_reused_h5"])
def test_what_two_models_have_in_common_is_one(name: str) -> None:
    """A layer and a model that are in two models: the file has their arrays once, or, as `.h5`, twice."""
    found = tg.io.load_model(model_path(name))
    assert found.one.part is found.two.part and found.one.dense is found.two.dense
    assert {each.split(".")[0] for each, _ in found.named_parameters()} == {"one"}


def test_layers_of_the_same_name_and_settings_are_not_confused(tmp_path: Path) -> None:
    """Of two layers that are alike, a third one could be either: its arrays must be in the file."""
    parts = [
        {**model({**layer("Dense", name="d", units=3), **mark}), "name": name}
        for name, mark in (("a", {}), ("b", {}), ("c", {"shared_object_id": 7}))
    ]
    for each in parts:
        each["config"]["name"] = each["name"]
    paths = [f"layers/sequential{end}/layers/dense/vars" for end in ("", "_1", "_2")]
    arrays = {f"{path}/{k}": np.full((3, 3)[: 2 - k], float(n), "f4") for n, path in enumerate(paths) for k in (0, 1)}
    assert len(list(loaded(tmp_path, sequential(*parts), dict(arrays)).parameters())) == 6
    lacking = {name: array for name, array in arrays.items() if not name.startswith(paths[2])}
    assert "missing 'layers/sequential_2/layers/dense/vars/0'" in refusal(tmp_path, sequential(*parts), lacking)


# -- operations --------------------------------------------------------------------------------------------------------

X = np.arange(-3.0, 9.0, dtype="f4").reshape(2, 2, 3) / 3
OPERATIONS: list[tuple[str, Config, Any]] = [
    (
        "Pad",
        {"pad_width": [[0, 0], [2, 1], [0, 3]], "mode": "symmetric"},
        np.pad(X, [(0, 0), (2, 1), (0, 3)], "symmetric"),
    ),
    ("ExpandDims", {"axis": [-1, -2]}, np.expand_dims(X, (-1, -2))),
    ("Norm", {"axis": -1, "ord": 1}, np.linalg.norm(X, 1, -1)),
    ("Norm", {"axis": [1, 2]}, np.linalg.norm(X, axis=(1, 2))),
    ("Celu", {"alpha": 0.5}, np.where(X > 0, X, 0.5 * np.expm1(X / 0.5))),
    ("SoftShrink", {"threshold": 0.5}, np.sign(X) * np.maximum(abs(X) - 0.5, 0)),
    ("HardShrink", {"threshold": 0.5}, np.where(abs(X) > 0.5, X, 0)),
    ("Squareplus", {"b": 2}, (X + np.sqrt(X**2 + 2)) / 2),
    ("Sort", {"axis": 1}, np.sort(X, 1)),
    ("Argsort", {}, np.argsort(X, -1)),
    ("TopK", {"k": 2}, np.sort(X)[..., :0:-1]),
    ("CountNonzero", {"axis": [0, 2]}, np.count_nonzero(X, (0, 2))),
    ("Cumprod", {"axis": 1}, np.cumprod(X, 1)),
    ("Cumprod", {}, np.cumprod(X)),
    ("Diff", {"axis": 1}, np.diff(X, axis=1)),
    ("Tril", {"k": 1}, np.tril(X, 1)),
    ("Triu", {}, np.triu(X)),
    ("Threshold", {"threshold": 0.4, "default_value": -2.0}, np.where(X > 0.4, X, -2)),
]


def of_operation(kind: str, config: Config) -> Config:
    called_ = {**called(kind, "a", node(tensor("x")), **config), "module": "keras.src.ops.numpy"}
    return functional([source("x", *X.shape[1:]), called_], [["a", 0, 0]])


@pytest.mark.parametrize(("kind", "config", "expected"), OPERATIONS, ids=[kind for kind, *_ in OPERATIONS])
def test_operations(tmp_path: Path, kind: str, config: Config, expected: np.ndarray) -> None:
    found = loaded(tmp_path, of_operation(kind, config))(X).numpy()
    assert found.shape == expected.shape
    np.testing.assert_allclose(found, expected, 1e-5, 1e-6)


@pytest.mark.parametrize(
    ("kind", "config", "words"),
    [
        ("Norm", {"axis": [1, 2], "ord": 2}, "the norm of matrices of the order 2 of Norm ('a')"),
        ("Normalize", {"order": 1}, "the order '1' of Normalize ('a')"),
        ("Pad", {"mode": "edge"}, "the mode 'edge' of Pad ('a')"),
        ("Unstack", {"axis": 1}, "num=None of Unstack ('a')"),
    ],
)
def test_settings_of_operations_that_are_not_supported(tmp_path: Path, kind: str, config: Config, words: str) -> None:
    assert words in refusal(tmp_path, of_operation(kind, config))


def test_elements_are_taken_by_their_places(tmp_path: Path) -> None:
    places = {**called("Argsort", "i", node(tensor("x")), axis=1), "module": "keras.src.ops.numpy"}
    taken = {
        **called("TakeAlongAxis", "t", node(tensor("x"), tensor("i")), axis=1),
        "module": "keras.src.ops.numpy",
    }
    found = loaded(tmp_path, functional([source("x", *X.shape[1:]), places, taken], [["t", 0, 0]]))
    assert found(-X).tolist() == np.sort(-X, 1).tolist()


def of_function(name: str, **kwargs: Any) -> Config:
    """A model of Keras 2 that calls a function of TensorFlow."""
    own = {**called("TFOpLambda", "a", function=name), "inbound_nodes": [["x", 0, 0, kwargs]]}
    return functional([source("x", *X.shape[1:]), own], [["a", 0, 0]])


@pytest.mark.parametrize(
    ("name", "kwargs", "expected"),
    [
        ("nn.gelu", {}, tg.nn.GELU()(tg.tensor(X)).numpy()),
        ("nn.gelu", {"approximate": True}, tg.nn.GELU("tanh")(tg.tensor(X)).numpy()),
        ("cumsum", {}, np.cumsum(X, 0)),
        ("gather", {"indices": [1, 0, 1]}, X[[1, 0, 1]]),
    ],
)
def test_functions_have_the_defaults_of_tensorflow(
    tmp_path: Path, name: str, kwargs: Config, expected: np.ndarray
) -> None:
    model = loaded(tmp_path, of_function(name, **kwargs), version="2.15.0")
    np.testing.assert_allclose(model(X).numpy(), expected, 1e-6)


def test_arguments_of_functions_that_are_not_supported_are_named(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"the arguments 'exclusive' of TFOpLambda \('a'\)"):
        loaded(tmp_path, of_function("cumsum", axis=1, exclusive=True, reverse=False), version="2.15.0")


def test_axes_of_a_normalization_in_any_order(tmp_path: Path) -> None:
    """Keras takes the weights in the order of the dimensions."""
    gamma = np.arange(1.0, 7.0, dtype="f4").reshape(3, 2)
    config = functional(
        [source("x", 2, 3), called("LayerNormalization", "n", node(tensor("x")), axis=[-1, 1], center=False)],
        [["n", 0, 0]],
    )
    found = loaded(tmp_path, config, {"layers/layer_normalization/vars/0": gamma})(X).detach().numpy()
    normal = (X - X.mean((1, 2), keepdims=True)) / np.sqrt(X.var((1, 2), keepdims=True) + 1e-3)
    np.testing.assert_allclose(found, normal * gamma.reshape(2, 3), 1e-4)


@pytest.mark.parametrize(("version", "pictures", "masked"), [("3.5.0", False, True), ("2.15.0", False, True),
    ("3.5.0", True, False), ("2.15.0", True, False)])  # fmt: skip
def test_moving_statistics_are_those_of_keras(tmp_path: Path, version: str, pictures: bool, masked: bool) -> None:
    """The variance is not the unbiased one, except that of pictures in Keras 2; masked steps do not count."""
    values = [1.0, 0.0, 0.0, 1.0]
    weights = {f"layers/batch_normalization/vars/{k}": np.full(3, value, "f4") for k, value in enumerate(values)}
    shape = [None, 2, 1, 3] if pictures else [None, 2, 3]
    layers = [layer("InputLayer", name="x", batch_shape=shape), layer("BatchNormalization", name="n", momentum=0.5)]
    if masked:
        layers.insert(1, layer("Masking", name="m"))
    found = loaded(tmp_path, model(*layers), weights, version=version)
    x = np.arange(12, dtype="f4").reshape(2, *shape[1:]) ** 1.5 + 1
    if masked:
        x[1, 1] = 0
    rows = x.reshape(4, 3)[: 3 if masked else 4]
    out = found.train()(x).detach().numpy().reshape(4, 3)[: len(rows)]
    np.testing.assert_allclose(out, (rows - rows.mean(0)) / np.sqrt(rows.var(0) + 1e-3), 1e-4, 1e-5)
    unbiased = int(pictures and version[0] == "2")
    np.testing.assert_allclose(found.n.running_mean.numpy(), rows.mean(0) / 2, 1e-5)
    np.testing.assert_allclose(found.n.running_var.numpy(), (1 + rows.var(0, ddof=unbiased)) / 2, 1e-5)
    found.eval()(x)
    np.testing.assert_allclose(found.n.running_mean.numpy(), rows.mean(0) / 2, 1e-5)


def test_a_frozen_batch_normalization_keeps_its_statistics(tmp_path: Path) -> None:
    """Until it is unfrozen."""
    weights = {f"layers/batch_normalization/vars/{k}": np.full(3, k + 1.0, "f4") for k in range(4)}
    config = sequential(layer("BatchNormalization", name="n", trainable=False))
    model = loaded(tmp_path, config, weights).train()
    x = np.arange(6, dtype="f4").reshape(2, 3)
    expected = (x - 3) / np.sqrt(4 + 1e-3) + 2
    np.testing.assert_allclose(model(x).numpy(), expected, 1e-6)
    np.testing.assert_allclose(model(x).numpy(), expected, 1e-6)
    assert model.n.training
    model.requires_grad_(True)
    assert not np.allclose(model(x).detach().numpy(), expected, 0.1)
