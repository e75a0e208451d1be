"""Write whole models with Keras 3 and Keras 2, and beside each what it computes.

    pip install keras==3.15.1 tf_keras==2.21.0 tensorflow-cpu==2.21.0 h5py safetensors    # in a separate environment
    python tests/golden/models/make_keras.py [NAME ...]

Beside NAME.keras or NAME.h5, NAME.expected.safetensors has the inputs "in.INPUT" and the outputs "out.OUTPUT". A name
begins with keras3 or keras2, the version that wrote the model. Weights and inputs are random; nothing is trained.

keras2_old.h5 is laid down by h5py, as Keras 2.2.4 wrote files. Layers for CuDNN compute only on a GPU: their values
are those of the same model with LSTM and GRU in their place, to which Keras 2 converts the weights.
"""

import json
import os
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

os.environ["KERAS_BACKEND"] = "tensorflow"
os.environ["TF_CPP_MIN_LOG_LEVEL"] = "3"

import h5py
import keras
import numpy as np
import tf_keras
from safetensors.numpy import save_file
from tf_keras.src.layers.rnn.cudnn_gru import CuDNNGRU
from tf_keras.src.layers.rnn.cudnn_lstm import CuDNNLSTM

FOLDER = Path(__file__).parent
TIME, BATCH, WORDS = 6, 3, 9


def words(k: Any) -> Any:
    """An embedding, an LSTM and a softmax, as the guides of Keras have them."""
    l = k.layers
    ids = k.Input((None,), name="ids")
    return k.Sequential(
        [ids, l.Embedding(WORDS, 4), l.LSTM(5, dropout=0.2), l.Dropout(0.5), l.Dense(3, activation="softmax")]
    )


def tagger(k: Any) -> Any:
    """Words that are masked, at the start, at the end and in between, through layers in both directions."""
    l = k.layers
    ids = k.Input((None,), name="ids")
    x = l.Embedding(WORDS, 4, mask_zero=True)(ids)
    x = l.Bidirectional(l.LSTM(3, return_sequences=True))(x)
    x = l.SpatialDropout1D(0.3)(x)
    tags = l.TimeDistributed(l.Dense(3, activation="softmax"), name="tags")(x)
    summed = l.Bidirectional(l.GRU(2, reset_after=False), merge_mode="sum", name="summed")(x)
    mean = l.GlobalAveragePooling1D(name="mean")(x)
    held = l.SimpleRNN(2, return_sequences=True, name="held")(x)
    return k.Model(ids, [tags, summed, mean, held])


def translator(k: Any) -> Any:
    """An encoder whose final states are those that a decoder starts from; two inputs."""
    l = k.layers
    source, target = k.Input((None, 3), name="source"), k.Input((4, 2), name="target")
    _, h, c = l.LSTM(3, return_state=True, name="encoder")(source)
    decoded = l.LSTM(3, return_sequences=True, name="decoder")(target, initial_state=[h, c])
    attended = l.Attention(name="attended")([decoded, l.Dense(3, name="keys")(source)])
    out = l.Dense(2, name="translated")(l.Concatenate(name="both")([decoded, attended]))
    return k.Model([source, target], out)


def waves(k: Any) -> Any:
    """Convolutions and pools, causal, dilated, with strides, and transposed."""
    l = k.layers
    x = k.Input((12, 2), name="x")
    y = l.Conv1D(4, 3, padding="causal", dilation_rate=2, activation="relu")(x)
    y = l.BatchNormalization()(y)
    y = l.SeparableConv1D(3, 3, padding="same", strides=2, activation="elu")(y)
    y = l.MaxPooling1D(3, strides=2, padding="same")(y)
    y = l.LeakyReLU()(l.Conv1DTranspose(2, 3, strides=2, padding="same")(y))
    y = l.LayerNormalization()(l.UpSampling1D(2)(y))
    y = l.AveragePooling1D(2, padding="same")(l.ZeroPadding1D((1, 2))(y))
    return k.Model(x, l.Dense(2, activation="tanh")(l.Flatten()(l.Cropping1D((1, 0))(y))))


def cells(k: Any) -> Any:
    """A stack of cells, time that runs from the end, and activations whose meaning changed."""
    l = k.layers
    x = k.Input((None, 3), name="x")
    y = l.RNN([l.LSTMCell(3), l.GRUCell(2)], return_sequences=True)(l.Masking()(x))
    backwards = l.LSTM(2, go_backwards=True, recurrent_activation="hard_sigmoid", name="backwards")(y)
    relu = l.GRU(2, activation="relu", recurrent_activation="hard_sigmoid", use_bias=False, name="relu")(y)
    product = l.Bidirectional(
        l.SimpleRNN(2, activation="sigmoid"),
        "mul",
        backward_layer=l.SimpleRNN(2, go_backwards=True),
        name="product",
    )(y)
    return k.Model(x, [backwards, relu, product])


def encoder(k: Any) -> Any:
    """A layer of a transformer, in arithmetic of a functional model, and a recurrent layer."""
    l = k.layers
    x = k.Input((None, 4), name="x")
    y = l.LayerNormalization()(x + l.MultiHeadAttention(2, 3)(x, x))
    y = l.LayerNormalization()(y * 0.5 + l.Dense(4)(l.Dense(6, activation="gelu")(y)) - 0.25)
    first, last = y[:, 0], y[:, -1]
    return k.Model(x, l.Dense(2, name="out")(l.GRU(3)(y) + l.Dense(3)(first - last)))


def shared(k: Any) -> Any:
    """A model within a model, which is called twice, and a Sequential within it."""
    l = k.layers
    inner = k.Input((None, 3))
    part = k.Model(inner, l.Dense(2)(l.GRU(3, return_sequences=True)(inner)), name="part")
    left, right = k.Input((None, 3), name="left"), k.Input((None, 3), name="right")
    head = k.Sequential([k.Input((4,)), l.Dense(3, activation="relu"), l.BatchNormalization(), l.Dense(1)], name="head")
    both = l.Concatenate()([l.GlobalMaxPooling1D()(part(left)), l.GlobalAveragePooling1D()(part(right))])
    return k.Model(
        [left, right], [head(both), l.Dot(1, normalize=True, name="alike")([part(left)[:, -1], both[:, :2]])]
    )


def reused(k: Any) -> Any:
    """A layer that is in two models, and a model that is in two models."""
    l = k.layers
    dense, inner, first, second = l.Dense(2, name="dense"), k.Input((4, 3)), k.Input((4, 3)), k.Input((4, 3))
    part = k.Model(inner, l.GRU(2, return_sequences=True)(inner), name="part")
    one = k.Model(first, l.LSTM(2)(dense(part(first))), name="one")
    two = k.Model(second, l.Flatten()(dense(part(second))), name="two")
    x = k.Input((4, 3), name="x")
    return k.Model(x, l.Concatenate()([one(x), two(x)]))


def pictures(k: Any) -> Any:
    """Convolutional LSTMs over pictures and over rows."""
    l = k.layers
    x = k.Input((4, 5, 4, 2), name="x")
    y = l.ConvLSTM2D(2, 3, padding="same", return_sequences=True)(x)
    y = l.TimeDistributed(l.MaxPooling2D(2))(y)
    y = l.ConvLSTM1D(2, 2, go_backwards=True, name="rows")(l.Reshape((4, 4, 2))(y))
    return k.Model(x, l.Dense(2)(l.Flatten()(y)))


def upwards(k: Any) -> Any:
    """Transposed convolutions, and what only one version of Keras has."""
    l = k.layers
    x = k.Input((6, 3), name="x")
    y = l.Conv1DTranspose(2, 3, strides=2, output_padding=1, activation="tanh")(x)
    y = l.Conv2DTranspose(2, (3, 2), strides=(2, 1), padding="same")(l.Reshape((7, 2, 2))(y))
    y = l.Conv2DTranspose(2, 2, strides=3, dilation_rate=1, use_bias=False)(y)
    if k is tf_keras:
        y = l.LocallyConnected1D(2, 3, strides=2, activation="elu")(l.Reshape((42, 12))(y))
    else:
        y = l.Activation("sparsemax")(l.Reshape((4, 4))(l.AdaptiveAveragePooling2D((4, 2))(y)))
    return k.Model(x, l.Dense(2)(l.LSTM(2)(y)))


def cudnn(k: Any) -> Any:
    """Layers for CuDNN."""
    l = k.layers
    x = k.Input((None, 3), name="x")
    lstm, gru = (CuDNNLSTM, CuDNNGRU) if k is tf_keras else (l.LSTM, l.GRU)
    return k.Model(x, l.Dense(2)(gru(2)(lstm(3, return_sequences=True)(x))))


MODELS: dict[str, tuple[Callable[[Any], Any], list[str]]] = {
    "words": (words, ["keras3.keras", "keras3.h5", "keras2.keras", "keras2.h5"]),
    "tagger": (tagger, ["keras3.keras", "keras2.h5"]),
    "translator": (translator, ["keras3.keras", "keras2.keras"]),
    "waves": (waves, ["keras3.keras", "keras2.keras"]),
    "cells": (cells, ["keras3.keras", "keras2.keras"]),
    "encoder": (encoder, ["keras3.keras", "keras3.h5", "keras2.keras"]),
    "shared": (shared, ["keras3.keras", "keras2.h5"]),
    "reused": (reused, ["keras3.keras", "keras2.keras", "keras2.h5"]),
    "pictures": (pictures, ["keras3.keras", "keras2.keras"]),
    "upwards": (upwards, ["keras3.keras", "keras2.keras"]),
    "cudnn": (cudnn, ["keras2.h5"]),
}


def randomized(model: Any, draw: np.random.Generator) -> Any:
    """The model with random weights, also where Keras starts from zeros or ones."""
    weights = [
        draw.uniform(0.5, 1, each.shape) if "var" in each.name else draw.normal(0, 0.4, each.shape)
        for each in model.weights
    ]
    model.set_weights(weights)
    return model


def input_of(tensor: Any, draw: np.random.Generator) -> np.ndarray:
    """A random input: ids, of which 0 is masked by some models; numbers, with a step of zeros."""
    shape = [length or (BATCH if k == 0 else TIME) for k, length in enumerate(tensor.shape)]
    if "ids" in tensor.name:
        ids = draw.integers(1, WORDS, shape)
        ids[0, :2] = ids[1, 2:4] = ids[2, 4:] = 0
        return ids
    numbers = draw.normal(0, 1, shape).astype("float32")
    numbers[0, :2] = numbers[1, 2:4] = 0
    return numbers


def computed(make: Callable[[Any], Any], k: Any, model: Any, inputs: list[np.ndarray]) -> list[np.ndarray]:
    """What a model computes."""
    if make is cudnn:
        plain = tf_keras.Sequential([tf_keras.layers.InputLayer((None, 3))])
        plain.add(tf_keras.layers.LSTM(3, return_sequences=True))
        plain.add(tf_keras.layers.GRU(2))
        plain.add(tf_keras.layers.Dense(2))
        from tf_keras.src.saving.legacy.hdf5_format import preprocess_weights_for_loading

        recurrent = [each for each in model.layers if "cu_dnn" in each.name]
        for layer, source in zip(plain.layers, [*recurrent, model.layers[-1]], strict=True):
            layer.set_weights(preprocess_weights_for_loading(layer, source.get_weights()))
        model = plain
    outputs = model(inputs if len(inputs) > 1 else inputs[0])
    return [np.ascontiguousarray(each) for each in (outputs if isinstance(outputs, list | tuple) else [outputs])]


def pack(path: Path) -> None:
    """Compresses the files in an archive, which Keras does not."""
    with zipfile.ZipFile(path) as archive:
        files = {name: archive.read(name) for name in archive.namelist()}
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in files.items():
            archive.writestr(zipfile.ZipInfo(name), content, zipfile.ZIP_DEFLATED)


def write(name: str, k: Any, make: Callable[[Any], Any], path: Path) -> None:
    k.backend.clear_session()
    draw = np.random.default_rng(19)
    model = randomized(make(k), draw)
    inputs = {tensor.name.split(":")[0]: input_of(tensor, draw) for tensor in model.inputs}
    outputs = computed(make, k, model, list(inputs.values()))
    names = model.output_names if len(outputs) > 1 else ["out"]
    model.save(path)
    if path.suffix == ".keras":
        pack(path)
    save_file(
        {f"in.{key}": np.ascontiguousarray(each) for key, each in inputs.items()}
        | {f"out.{key}": each for key, each in zip(names, outputs, strict=True)},
        FOLDER / f"{name}.expected.safetensors",
        {"made by": f"Keras {k.__version__}"},
    )


def write_old(name: str) -> None:
    """A file as Keras 2.2.4 wrote it, laid down by h5py, since no such version runs here.

    Its LSTM has hard_sigmoid, the default then. What it computes is taken from Keras 2 with the same weights.
    """
    draw = np.random.default_rng(19)
    l = tf_keras.layers
    ids = l.Input((TIME,), name="embedding_1_input")
    lstm = l.LSTM(5, name="lstm_1", recurrent_activation="hard_sigmoid")
    embedded = l.Embedding(WORDS, 4, mask_zero=True, name="embedding_1")(ids)
    model = randomized(tf_keras.Model(ids, l.Dense(3, name="dense_1", activation="softmax")(lstm(embedded))), draw)
    configs = [
        ("Embedding", {"batch_input_shape": [None, TIME], "input_dim": WORDS, "output_dim": 4, "mask_zero": True}),
        ("LSTM", {"units": 5, "recurrent_activation": "hard_sigmoid", "implementation": 1, "return_sequences": False}),
        ("Dense", {"units": 3, "activation": "softmax", "use_bias": True}),
    ]
    names = ["embedding_1", "lstm_1", "dense_1"]
    layers = [
        {"class_name": kind, "config": {"name": own, "trainable": True, "dtype": "float32", **config}}
        for own, (kind, config) in zip(names, configs, strict=True)
    ]
    with h5py.File(FOLDER / f"{name}.h5", "w") as file:
        file.attrs["keras_version"] = file.attrs["backend"] = b"2.2.4"
        file.attrs["model_config"] = json.dumps({"class_name": "Sequential", "config": layers}).encode()
        weights = file.create_group("model_weights")
        weights.attrs["layer_names"] = [own.encode() for own in names]
        for own in names:
            group = weights.create_group(own)
            arrays = {f"{own}/{each.name.split('/')[-1]}": each.numpy() for each in model.get_layer(own).weights}
            group.attrs["weight_names"] = [key.encode() for key in arrays]
            for key, array in arrays.items():
                group[key] = array
    given = draw.integers(0, WORDS, (BATCH, TIME))
    save_file(
        {"in.embedding_1_input": given, "out.out": np.ascontiguousarray(model(given))},
        FOLDER / f"{name}.expected.safetensors",
        {"made by": f"h5py, as Keras 2.2.4; values by Keras {tf_keras.__version__}"},
    )


def main() -> None:
    if not sys.argv[1:] or "keras2_old" in sys.argv[1:]:
        write_old("keras2_old")
    for stem, (make, files) in MODELS.items():
        for file in files:
            version, ending = file.split(".")
            name = f"{version}_{stem}" + "_h5" * (ending == "h5" and f"{version}.keras" in files)
            if not sys.argv[1:] or name in sys.argv[1:]:
                write(name, keras if version == "keras3" else tf_keras, make, FOLDER / f"{name}.{ending}")
                print(name, (FOLDER / f"{name}.{ending}").stat().st_size)


if __name__ == "__main__":
    main()
