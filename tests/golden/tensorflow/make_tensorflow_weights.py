"""Write files of weights with TensorFlow and tensorflowjs, and beside each the arrays that it holds.

    pip install tensorflow==2.21.0 tf_keras==2.21.0 tensorflowjs==4.22.0 safetensors
    python tests/golden/tensorflow/make_tensorflow_weights.py

| file | holds |
| --- | --- |
| objects.index, .data-* | a checkpoint of objects: a Keras 2 model with its optimizer, bfloat16, half |
| names.index, .data-* | a checkpoint of TensorFlow 1 (tf.compat.v1.train.Saver), with a variable in three parts |
| old | the same in the older format of one file, compressed with Snappy |
| cells.index, .data-* | the cells of TensorFlow 1; cells_outputs.safetensors has what each network computes of x |
| tfjs/ | a model of Keras 2 for TensorFlow.js, in several files |
| tfjs_uint8/, tfjs_uint16/, tfjs_float16/ | the same with quantized weights |

NAME.expected.safetensors has the arrays by the names that `load_weights` returns; of quantized weights, the values that
tensorflowjs itself dequantizes.
"""

import json
import os
import shutil
import sys
import types
from pathlib import Path

os.environ["TF_USE_LEGACY_KERAS"] = "1"

import numpy as np
import tensorflow as tf
import tf_keras as keras
from safetensors.numpy import save_file

for name in ("tensorflow_decision_forests", "jax", "jax.experimental", "jax.experimental.jax2tf"):
    sys.modules[name] = types.ModuleType(name)  # tensorflowjs imports them for conversions that are not done here
sys.modules["jax"].experimental = sys.modules["jax.experimental"]
sys.modules["jax.experimental"].jax2tf = sys.modules["jax.experimental.jax2tf"]


FOLDER = Path(__file__).parent


def model() -> keras.Model:
    keras.utils.set_random_seed(0)
    built = keras.Sequential([
        keras.layers.Input((5, 3)),
        keras.layers.LSTM(4, name="encoder", return_sequences=True),
        keras.layers.Bidirectional(keras.layers.GRU(3), name="both"),
        keras.layers.Dense(2, name="head"),
    ])  # fmt: skip
    built.compile("adam", "mse")
    rng = np.random.default_rng(0)
    built.fit(rng.standard_normal((4, 5, 3)), rng.standard_normal((4, 2)), verbose=0)
    return built


def expect(name: str, arrays: dict[str, np.ndarray]) -> None:
    save_file(
        {key: np.array(array, order="C") for key, array in arrays.items()}, FOLDER / f"{name}.expected.safetensors"
    )


def objects() -> None:
    extra = tf.Module()
    extra.half = tf.Variable(tf.constant([1.5, -2.5], tf.float16))
    extra.brain = tf.Variable(tf.constant([[0.1, 3e38]], tf.bfloat16))
    extra.flags = tf.Variable([True, False])
    setattr(extra, "with.dot", tf.Variable(np.arange(3)))
    checkpoint = tf.train.Checkpoint(model=model(), extra=extra)
    path = checkpoint.write(str(FOLDER / "objects"))
    reader = tf.train.load_checkpoint(path)
    end = "/.ATTRIBUTES/VARIABLE_VALUE"
    names = [name for name in reader.get_variable_to_shape_map() if name.endswith(end)]
    found = {name.removesuffix(end).replace("..", "."): reader.get_tensor(name) for name in names}
    found["extra/brain"] = found["extra/brain"].astype("float32")
    expect("objects", found)


def names() -> None:
    with tf.Graph().as_default(), tf.compat.v1.Session() as session:
        v1 = tf.compat.v1
        rng = np.random.default_rng(0)
        v1.get_variable("rnn/kernel", [300, 4], initializer=v1.random_normal_initializer(seed=0),
                        partitioner=v1.fixed_size_partitioner(3))  # fmt: skip
        v1.get_variable("rnn/bias", initializer=rng.standard_normal(4).astype("float32"), use_resource=False)
        v1.get_variable("global_step", initializer=np.int64(7))
        session.run(v1.global_variables_initializer())
        v1.train.Saver().save(session, str(FOLDER / "names"), write_meta_graph=False)
        v1.train.Saver(write_version=v1.train.SaverDef.V1).save(session, str(FOLDER / "old"), write_meta_graph=False)
    (FOLDER / "checkpoint").unlink()
    reader = tf.train.load_checkpoint(str(FOLDER / "names"))
    expect("names", {name: reader.get_tensor(name) for name in reader.get_variable_to_shape_map()})


def cells() -> None:
    v1 = tf.compat.v1
    rnn = v1.nn.rnn_cell
    rng = np.random.default_rng(0)
    x = rng.standard_normal((5, 2, 3)).astype("float32")
    with tf.Graph().as_default(), v1.Session() as session:
        given = tf.constant(x)
        networks = {
            "basic": rnn.BasicLSTMCell(4),
            "biased": rnn.BasicLSTMCell(4, forget_bias=0.25),
            "peepholes": rnn.LSTMCell(4, use_peepholes=True, num_proj=2),
            "stack": rnn.MultiRNNCell([rnn.LSTMCell(4), rnn.LSTMCell(4)]),
            "gru": rnn.GRUCell(4),
            "plain": rnn.BasicRNNCell(4),
        }
        outputs = {
            name: v1.nn.dynamic_rnn(cell, given, dtype=tf.float32, time_major=True, scope=name)[0]
            for name, cell in networks.items()
        }
        both, _ = v1.nn.bidirectional_dynamic_rnn(
            rnn.GRUCell(4), rnn.GRUCell(4), given, dtype=tf.float32, time_major=True, scope="both"
        )
        outputs["both"] = tf.concat(both, -1)
        session.run(v1.global_variables_initializer())
        for variable in v1.global_variables():
            value = session.run(variable)
            variable.load(value + 0.3 * rng.standard_normal(value.shape), session)
        v1.train.Saver().save(session, str(FOLDER / "cells"), write_meta_graph=False)
        computed = session.run(outputs)
    (FOLDER / "checkpoint").unlink()
    save_file({"x": x, **computed}, FOLDER / "cells_outputs.safetensors")


def tfjs(name: str, **options: object) -> None:
    from tensorflowjs.converters.keras_h5_conversion import save_keras_model
    from tensorflowjs.read_weights import read_weights

    shutil.rmtree(FOLDER / name, ignore_errors=True)
    save_keras_model(model(), str(FOLDER / name), weight_shard_size_bytes=400, **options)
    manifest = json.loads((FOLDER / name / "model.json").read_text())["weightsManifest"]
    read = read_weights(manifest, str(FOLDER / name), flatten=True)
    expect(name, {each["name"]: each["data"] for each in read})


if __name__ == "__main__":
    objects()
    names()
    cells()
    tfjs("tfjs")
    for dtype in ("uint8", "uint16", "float16"):
        tfjs(f"tfjs_{dtype}", quantization_dtype_map={dtype: "*"})
