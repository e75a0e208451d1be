"""Write whole models with TensorFlow and tensorflowjs, and beside each the outputs for some inputs.

    pip install tensorflow==2.21.0 tf_keras==2.21.0 tensorflowjs==4.22.0 safetensors
    python tests/golden/models/make_tensorflow.py [NAME ...]

| file | by | holds |
| --- | --- | --- |
| tf_keras3_lstm.zip | Keras 3, `model.export` | Embedding, LSTM, Dense |
| tf_keras3_gru.zip | Keras 3, `model.export` | a GRU in both directions, masked |
| tf_keras3_conv.zip | Keras 3, `model.export` | convolutions, pooling, normalization, SimpleRNN |
| tf_keras2.zip | Keras 2, `model.export` | LSTM, GRU, Dense |
| tf_module.zip | tf.saved_model.save | a tf.Module with a loop, a branch and two outputs |

A SavedModel is a folder, packed here. NAME.expected.safetensors has "in.NAME" and "out.NAME".
"""

import os
import sys
import tempfile
import zipfile
from collections.abc import Callable
from pathlib import Path

os.environ["TF_CPP_MIN_LOG_LEVEL"] = "3"

import keras
import numpy as np
import tensorflow as tf
import tf_keras
from safetensors.numpy import save_file

FOLDER = Path(__file__).parent
RNG = np.random.default_rng(0)


def expect(name: str, inputs: dict[str, np.ndarray], outputs: dict[str, np.ndarray]) -> None:
    arrays = {f"in.{key}": array for key, array in inputs.items()} | {
        f"out.{key}": array for key, array in outputs.items()
    }
    by = f"TensorFlow {tf.__version__}, Keras {keras.__version__}, tf_keras {tf_keras.__version__}"
    ordered = {key: np.array(array, order="C") for key, array in arrays.items()}
    save_file(ordered, FOLDER / f"{name}.expected.safetensors", {"made by": by})


def packed(name: str, folder: Path) -> None:
    """Packs a folder without the times of its files."""
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


MAKERS = [tf_keras3_lstm, tf_keras3_gru, tf_keras3_conv, tf_keras2, tf_module]

if __name__ == "__main__":
    for make in MAKERS:
        if not sys.argv[1:] or make.__name__ in sys.argv[1:]:
            make()
