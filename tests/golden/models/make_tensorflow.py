"""Write whole models with TensorFlow and tensorflowjs, and beside each the outputs for some inputs.

    pip install tensorflow==2.21.0 tf_keras==2.21.0 tensorflowjs==4.22.0 safetensors
    python tests/golden/models/make_tensorflow.py [NAME ...]

| file | by | holds |
| --- | --- | --- |
| tf_keras3_lstm/ | Keras 3, `model.export` | Embedding, LSTM, Dense |
| tf_keras3_gru.zip | Keras 3, `model.export` | a GRU in both directions, masked |
| tf_keras3_conv.zip | Keras 3, `model.export` | convolutions, pooling, normalization, SimpleRNN |
| tf_keras2.zip | Keras 2, `model.export` | LSTM, GRU, Dense |
| tf_module.zip | tf.saved_model.save | a tf.Module with a loop, a branch and two outputs |
| tf_function.zip | tf.saved_model.save | the same without a signature, with the function `__call__` |
| tf_keras2_whole.zip | Keras 2, `model.save` | SimpleRNN, BatchNormalization, without a signature |
| tf_tfjs_graph.zip | tensorflowjs | the graph of tf_keras3_lstm, with loops of many nodes |
| tf_tfjs_module.zip | tensorflowjs | the graph of tf_module, likewise, with quantized weights |
| tf_tfjs_layers/ | tensorflowjs | a model of Keras 2 by its config, in several files, with quantized weights |
| tf1_lstm.zip | TensorFlow 1 | dynamic_rnn of BasicLSTMCell and LSTMCell, with variables of the old kind |
| tf1_frozen.pb | TensorFlow 1 | the graph of tf1_lstm with its variables as constants |
| tf1_gru.zip | TensorFlow 1 | bidirectional_dynamic_rnn of GRUCell, with lengths |
| tf1_lengths.zip | TensorFlow 1 | dynamic_rnn of LSTMCell, and of a MultiRNNCell, with lengths, as in tf1_lstm |
| tf1_static.zip | TensorFlow 1 | static_rnn of GRUCell, whose steps are nodes of the graph; also with lengths |
| tf1_block.zip | TensorFlow 1 | the ops LSTMBlockCell, BlockLSTM and GRUBlockCell |

A SavedModel is a folder. Those that README names are folders here; others are packed. NAME.expected.safetensors has
"in.NAME" and "out.NAME".
"""

import os
import shutil
import sys
import tempfile
import types
import zipfile
from collections.abc import Callable
from pathlib import Path

os.environ["TF_CPP_MIN_LOG_LEVEL"] = "3"
os.environ["TF_USE_LEGACY_KERAS"] = "1"  # the cells of TensorFlow 1 need it

import keras
import numpy as np
import tensorflow as tf
import tf_keras
from safetensors.numpy import save_file

FOLDER = Path(__file__).parent
IN_README = ("tf_keras3_lstm", "tf_tfjs_layers")
RNG = np.random.default_rng(0)


def expect(name: str, inputs: dict[str, np.ndarray], outputs: dict[str, np.ndarray]) -> None:
    arrays = {f"in.{key}": array for key, array in inputs.items()} | {
        f"out.{key}": array for key, array in outputs.items()
    }
    by = f"TensorFlow {tf.__version__}, Keras {keras.__version__}, tf_keras {tf_keras.__version__}"
    ordered = {key: np.array(array, order="C") for key, array in arrays.items()}
    save_file(ordered, FOLDER / f"{name}.expected.safetensors", {"made by": by})


def packed(name: str, folder: Path) -> None:
    """Packs a folder without the times of its files, or copies it if README names it."""
    if name in IN_README:
        shutil.copytree(folder, FOLDER / name, ignore=shutil.ignore_patterns("fingerprint.pb"), dirs_exist_ok=True)
        return
    with zipfile.ZipFile(FOLDER / f"{name}.zip", "w", zipfile.ZIP_DEFLATED, compresslevel=9) as archive:
        for path in sorted(folder.rglob("*")):
            if path.is_file() and path.name != "fingerprint.pb":
                archive.writestr(
                    zipfile.ZipInfo(str(path.relative_to(folder))), path.read_bytes(), zipfile.ZIP_DEFLATED
                )


def saved_model(name: str, save: Callable[[str], object], lengths: tuple[int, ...] = (2, 5)) -> None:
    """Packs what `save` writes to a folder, and the outputs of its signature for free dimensions of these lengths."""
    with tempfile.TemporaryDirectory() as folder:
        save(folder)
        signature = tf.saved_model.load(folder).signatures["serving_default"]
        inputs = {}
        for key, spec in signature.structured_input_signature[1].items():
            shape = [lengths[k] if length is None else length for k, length in enumerate(spec.shape)]
            drawn = RNG.standard_normal(shape) if spec.dtype.is_floating else RNG.integers(0, 5, shape)
            inputs[key] = drawn.astype(spec.dtype.as_numpy_dtype)
        outputs = signature(**{key: tf.constant(array) for key, array in inputs.items()})
        expect(name, inputs, {key: value.numpy() for key, value in outputs.items()})
        packed(name, Path(folder))


# -- Keras 3 -----------------------------------------------------------------------------------------------------------


def exported(name: str, *layers: keras.Layer) -> None:
    keras.utils.set_random_seed(0)
    model = keras.Sequential(list(layers))
    for weight in model.weights:  # biases and statistics that are not 0 and 1
        if weight.dtype.startswith("float"):
            weight.assign(weight.numpy() + 0.1 * RNG.random(weight.shape))
    saved_model(name, lambda folder: model.export(folder, verbose=False))


def tf_keras3_lstm() -> None:
    L = keras.layers
    exported(
        "tf_keras3_lstm",
        L.Input((None,), dtype="int32"),
        L.Embedding(5, 3),
        L.LSTM(4, return_sequences=True),
        L.Dense(2),
    )


def tf_keras3_gru() -> None:
    L = keras.layers
    exported(
        "tf_keras3_gru", L.Input((None, 3)), L.Masking(), L.Bidirectional(L.GRU(4)), L.Dense(2, activation="softmax")
    )


def tf_keras3_conv() -> None:
    L = keras.layers
    exported(
        "tf_keras3_conv", L.Input((8, 6, 2)), L.Conv2D(4, 3, strides=2, padding="same", activation="relu"),
        L.BatchNormalization(), L.DepthwiseConv2D(2), L.AveragePooling2D((2, 1), padding="same"), L.Reshape((-1, 4)),
        L.LayerNormalization(), L.Conv1D(3, 2, padding="causal", activation="elu"), L.SimpleRNN(4), L.Dense(2),
    )  # fmt: skip


# -- Keras 2 -----------------------------------------------------------------------------------------------------------


def keras2() -> tf_keras.Model:
    L = tf_keras.layers
    tf_keras.utils.set_random_seed(0)
    model = tf_keras.Sequential([
        L.Input((None, 3)), L.LSTM(3, return_sequences=True, name="lower"), L.GRU(4, name="upper"), L.Dense(2),
    ])  # fmt: skip
    model.set_weights([weight + 0.1 * RNG.random(weight.shape).astype("float32") for weight in model.get_weights()])
    return model


def tf_keras2() -> None:
    saved_model("tf_keras2", lambda folder: keras2().export(folder))


def tf_keras2_whole() -> None:
    L = tf_keras.layers
    tf_keras.utils.set_random_seed(0)
    model = tf_keras.Sequential([L.Input((None, 3)), L.SimpleRNN(3), L.BatchNormalization(), L.Dense(2)])
    model.set_weights([weight + 0.1 * RNG.random(weight.shape).astype("float32") for weight in model.get_weights()])
    x = RNG.standard_normal((2, 5, 3)).astype("float32")
    expect("tf_keras2_whole", {model.input_names[0]: x}, {model.output_names[0]: model(x).numpy()})
    with tempfile.TemporaryDirectory() as folder:
        model.save(folder, save_format="tf", signatures={})
        packed("tf_keras2_whole", Path(folder))


# -- graphs of functions -----------------------------------------------------------------------------------------------


class Recurrence(tf.Module):
    def __init__(self) -> None:
        self.w = tf.Variable(RNG.standard_normal((3, 4)).astype("float32"), name="w")
        self.u = tf.Variable(RNG.standard_normal((4, 4)).astype("float32"), name="u")

    @tf.function(input_signature=[tf.TensorSpec([None, None, 3], tf.float32, name="x")])
    def __call__(self, x: tf.Tensor) -> dict[str, tf.Tensor]:
        states = tf.TensorArray(tf.float32, size=0, dynamic_size=True)
        h = tf.zeros([tf.shape(x)[0], 4])
        for t in tf.range(tf.shape(x)[1]):
            h = tf.tanh(x[:, t] @ self.w + h @ self.u)
            states = states.write(t, h)
        last = h * 2 if tf.reduce_sum(h) > 0 else h / 2
        return {"states": tf.transpose(states.stack(), [1, 0, 2]), "last": last}


def tf_module() -> None:
    module = Recurrence()
    saved_model("tf_module", lambda folder: tf.saved_model.save(module, folder, signatures=module.__call__))


def tf_function() -> None:
    module, x = Recurrence(), RNG.standard_normal((2, 5, 3)).astype("float32")
    expect("tf_function", {"x": x}, {name: each.numpy() for name, each in module(x).items()})
    with tempfile.TemporaryDirectory() as folder:
        tf.saved_model.save(module, folder)
        packed("tf_function", Path(folder))


# -- TensorFlow.js -----------------------------------------------------------------------------------------------------


def converters() -> types.SimpleNamespace:
    for name in ("tensorflow_decision_forests", "jax", "jax.experimental", "jax.experimental.jax2tf"):
        sys.modules[name] = types.ModuleType(name)  # tensorflowjs imports them for conversions that are not done here
    sys.modules["jax"].experimental = sys.modules["jax.experimental"]
    sys.modules["jax.experimental"].jax2tf = sys.modules["jax.experimental.jax2tf"]
    from tensorflowjs.converters import keras_h5_conversion, tf_saved_model_conversion_v2

    return types.SimpleNamespace(
        of_graph=tf_saved_model_conversion_v2.convert_tf_saved_model, of_keras=keras_h5_conversion.save_keras_model
    )


def graph_model(name: str, source: str, **options: object) -> None:
    """Converts a SavedModel of this folder."""
    with tempfile.TemporaryDirectory() as folder:
        saved = FOLDER / source
        if source not in IN_README:
            saved = Path(folder, "saved")
            shutil.unpack_archive(FOLDER / f"{source}.zip", saved)
        converters().of_graph(str(saved), f"{folder}/converted", **options)
        packed(name, Path(folder, "converted"))
    shutil.copy(FOLDER / f"{source}.expected.safetensors", FOLDER / f"{name}.expected.safetensors")


def tf_tfjs_graph() -> None:
    graph_model("tf_tfjs_graph", "tf_keras3_lstm")


def tf_tfjs_module() -> None:
    graph_model("tf_tfjs_module", "tf_module")


def tf_tfjs_layers() -> None:
    """The weights are rounded to float16 before, so that quantization to it does not change the outputs."""
    model = keras2()
    model.set_weights([weight.astype("float16").astype("float32") for weight in model.get_weights()])
    x = RNG.standard_normal((2, 5, 3)).astype("float32")
    with tempfile.TemporaryDirectory() as folder:
        types_ = {"float16": "*"}
        converters().of_keras(model, folder, quantization_dtype_map=types_, weight_shard_size_bytes=200)
        expect("tf_tfjs_layers", {model.input_names[0]: x}, {model.output_names[0]: model(x).numpy()})
        packed("tf_tfjs_layers", Path(folder))


# -- TensorFlow 1 ------------------------------------------------------------------------------------------------------


def tf1(name: str, build: Callable[..., dict[str, tf.Tensor]], **inputs: np.ndarray) -> None:
    """Packs the graph that `build` makes, as TensorFlow 1 does, with free lengths of the first two dimensions."""
    v1 = tf.compat.v1
    with tempfile.TemporaryDirectory() as folder, tf.Graph().as_default(), v1.Session() as session:
        v1.set_random_seed(0)
        given = {
            key: v1.placeholder(array.dtype, [None] * min(array.ndim, 2) + list(array.shape[2:]), key)
            for key, array in inputs.items()
        }
        outputs = build(**given)
        session.run(v1.global_variables_initializer())
        for variable in v1.global_variables():
            value = session.run(variable)
            variable.load(value + 0.3 * RNG.standard_normal(value.shape), session)
        computed = session.run(outputs, {given[key]: array for key, array in inputs.items()})
        v1.saved_model.simple_save(session, f"{folder}/saved", given, outputs)
        expect(name, inputs, computed)
        packed(name, Path(folder, "saved"))
        if name == "tf1_lstm":
            nodes = {key: value.op.name for key, value in outputs.items()}
            frozen = v1.graph_util.convert_variables_to_constants(session, session.graph_def, list(nodes.values()))
            (FOLDER / "tf1_frozen.pb").write_bytes(frozen.SerializeToString())
            expect("tf1_frozen", inputs, {nodes[key]: array for key, array in computed.items()})


def tf1_lstm() -> None:
    v1 = tf.compat.v1
    v1.disable_resource_variables()
    v1.disable_control_flow_v2()

    def build(x: tf.Tensor) -> dict[str, tf.Tensor]:
        cells = [v1.nn.rnn_cell.BasicLSTMCell(4), v1.nn.rnn_cell.LSTMCell(5, use_peepholes=True, num_proj=3)]
        out, _ = v1.nn.dynamic_rnn(v1.nn.rnn_cell.MultiRNNCell(cells), x, dtype=tf.float32)
        w = v1.get_variable("w", [3, 2])
        return {"logits": tf.tensordot(out, w, 1)}

    tf1("tf1_lstm", build, x=RNG.standard_normal((2, 5, 3)).astype("float32"))
    v1.enable_resource_variables()
    v1.enable_control_flow_v2()


def tf1_gru() -> None:
    v1 = tf.compat.v1

    def build(x: tf.Tensor, lengths: tf.Tensor) -> dict[str, tf.Tensor]:
        cells = [v1.nn.rnn_cell.GRUCell(4), v1.nn.rnn_cell.GRUCell(4)]
        (forward, backward), last = v1.nn.bidirectional_dynamic_rnn(*cells, x, lengths, dtype=tf.float32)
        return {"out": tf.concat([forward, backward], -1), "last": tf.concat(last, -1)}

    lengths = np.array([5, 3], "int32")
    tf1("tf1_gru", build, x=RNG.standard_normal((2, 5, 3)).astype("float32"), lengths=lengths)


def tf1_lengths() -> None:
    v1, cells = tf.compat.v1, tf.compat.v1.nn.rnn_cell
    v1.disable_resource_variables()
    v1.disable_control_flow_v2()

    def build(x: tf.Tensor, lengths: tf.Tensor) -> dict[str, tf.Tensor]:
        out, state = v1.nn.dynamic_rnn(cells.LSTMCell(4), x, lengths, dtype=tf.float32)
        both = cells.MultiRNNCell([cells.BasicLSTMCell(3), cells.GRUCell(2)])
        above, last = v1.nn.dynamic_rnn(both, out, lengths, dtype=tf.float32, scope="above")
        return {"out": above, "cell": state.c, "last": tf.concat([last[0].h, last[1]], -1)}

    tf1("tf1_lengths", build, x=RNG.standard_normal((3, 5, 3)).astype("float32"), lengths=np.array([4, 0, 2]))
    v1.enable_resource_variables()
    v1.enable_control_flow_v2()


def tf1_static() -> None:
    v1 = tf.compat.v1

    def build(x: tf.Tensor, lengths: tf.Tensor) -> dict[str, tf.Tensor]:
        cell, steps = v1.nn.rnn_cell.GRUCell(4), tf.unstack(tf.ensure_shape(x, [None, 5, 3]), axis=1)
        out, _ = v1.nn.static_rnn(cell, steps, dtype=tf.float32)
        _, last = v1.nn.static_rnn(cell, steps, dtype=tf.float32, sequence_length=lengths)
        return {"out": tf.stack(out, 1), "last": last}

    tf1("tf1_static", build, x=RNG.standard_normal((2, 5, 3)).astype("float32"), lengths=np.array([4, 2]))


def tf1_block() -> None:
    v1, raw = tf.compat.v1, tf.raw_ops

    def build(x: tf.Tensor) -> dict[str, tf.Tensor]:
        zeros = tf.zeros([tf.shape(x)[1], 4])
        w, b = v1.get_variable("lstm/kernel", [7, 16]), v1.get_variable("lstm/bias", [16])
        peepholes = [v1.get_variable(f"lstm/{name}", [4]) for name in ("w_i_diag", "w_f_diag", "w_o_diag")]
        peephole = dict(zip(("wci", "wcf", "wco"), peepholes))
        T = tf.cast(tf.shape(x)[0], tf.int64)
        whole = raw.BlockLSTM(seq_len_max=T, x=x, cs_prev=zeros, h_prev=zeros, w=w, b=b, **peephole, use_peephole=True,
                              forget_bias=1.0, cell_clip=0.5)  # fmt: skip
        newer = raw.BlockLSTMV2(seq_len_max=T, x=x, cs_prev=zeros, h_prev=zeros, w=w, b=b, **peephole, cell_clip=0.0)
        step = raw.LSTMBlockCell(x=x[0], cs_prev=zeros, h_prev=zeros, w=w, b=b, **peephole, forget_bias=0.5)
        gates, candidate = v1.get_variable("gru/gates/kernel", [7, 8]), v1.get_variable("gru/candidate/kernel", [7, 4])
        biases = v1.get_variable("gru/gates/bias", [8]), v1.get_variable("gru/candidate/bias", [4])
        gru = raw.GRUBlockCell(x=x[0], h_prev=step.h, w_ru=gates, w_c=candidate, b_ru=biases[0], b_c=biases[1])
        return {"whole": whole.h, "cells": whole.cs, "newer": newer.h, "step": step.h, "gru": gru.h}

    tf1("tf1_block", build, x=RNG.standard_normal((5, 2, 3)).astype("float32"))


MAKERS = [
    tf_keras3_lstm,
    tf_keras3_gru,
    tf_keras3_conv,
    tf_keras2,
    tf_keras2_whole,
    tf_module,
    tf_function,
    tf_tfjs_graph,
    tf_tfjs_module,
    tf_tfjs_layers,
]
MAKERS += [tf1_lstm, tf1_gru, tf1_lengths, tf1_static, tf1_block]

if __name__ == "__main__":
    for make in MAKERS:
        if not sys.argv[1:] or make.__name__ in sys.argv[1:]:
            make()
