"""Write model files with Keras 3 and Keras 2, and beside each what its model computes.

    pip install keras==3.15.1 torch==2.13.0 h5py safetensors               # in an environment of its own
    KERAS_BACKEND=torch python tests/golden/files/make_keras_files.py      # rewrites the files of Keras 3
    pip install tensorflow-cpu==2.15.1 'numpy<2' h5py safetensors          # in another one
    python tests/golden/files/make_keras_files.py                          # rewrites those of Keras 2

| file | by | holds |
| --- | --- | --- |
| keras_lstm.keras | 3 | two LSTM layers, which are called encoder and decoder |
| keras_bidirectional.keras | 3 | an LSTM layer in both directions |
| keras_gru.keras | 3 | a GRU layer, with its default reset_after=True |
| keras_gru_before.keras | 3 | a GRU layer with reset_after=False |
| keras.weights.h5 | 3 | the weights alone of two LSTM layers, called encoder and decoder |
| keras_rnn.h5 | 3 | in the older format, a SimpleRNN layer of relu |
| keras2_lstm.h5 | 2 | in the older format, two LSTM layers in both directions, called lower and upper |
| keras2_gru_weights.h5 | 2 | in the older format, the weights alone of a GRU layer |

Expected values: `file.<name>`, the arrays of the file by their paths; `x` (T, B, I), `out` (T, B, D*H), `h` and `c`
(L*D, B, H), from a state of zeros, forward direction first. With the loss sum(out ** 2) / 2: `grad.x`, and
`grad.<name>` for each weight. All is float32.

The archives and configs differ from run to run: Keras writes times and memory addresses into them.
"""

import io
import zipfile
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import keras
import numpy as np
from keras import layers
from safetensors.numpy import save

FOLDER = Path(__file__).parent
TIME, BATCH, INPUT, HIDDEN = 5, 2, 3, 4
OLDER = keras.__version__.startswith("2.")

Arrays = dict[str, np.ndarray]
States = {"return_sequences": True, "return_state": True}


def lstm(**options: Any) -> Any:
    return layers.LSTM(HIDDEN, **States, **options)


def gru(**options: Any) -> Any:
    return layers.GRU(HIDDEN, **States, **options)


def rnn(**options: Any) -> Any:
    return layers.SimpleRNN(HIDDEN, **States, **options)


KERAS_3 = {
    "keras_lstm.keras": lambda: [lstm(name="encoder"), lstm(name="decoder")],
    "keras_bidirectional.keras": lambda: [layers.Bidirectional(lstm(), name="both_ways")],
    "keras_gru.keras": lambda: [gru()],
    "keras_gru_before.keras": lambda: [gru(reset_after=False)],
    "keras.weights.h5": lambda: [lstm(name="encoder"), lstm(name="decoder")],
    "keras_rnn.h5": lambda: [rnn(activation="relu", name="summary")],
}
KERAS_2 = {
    "keras2_lstm.h5": lambda: [layers.Bidirectional(lstm(), name=name) for name in ("lower", "upper")],
    "keras2_gru_weights.h5": lambda: [gru(name="summary")],
}


def build(stack: list[Any], random: np.random.Generator) -> Any:
    """A model of stacked layers that returns the last one's outputs and the states of all. No bias is zero."""
    inputs = outputs = keras.Input((TIME, INPUT))
    states: list[Any] = []
    for layer in stack:
        outputs, *of_layer = layer(outputs)
        states += of_layer
    model = keras.Model(inputs, [outputs, *states])
    model.set_weights([random.normal(0, 0.4, weight.shape).astype(np.float32) for weight in model.get_weights()])
    return model


def computed_by_torch(model: Any, x: np.ndarray) -> tuple[list[np.ndarray], list[np.ndarray]]:
    """What a model returns, and the gradients of its outputs' loss for x and each weight."""
    import torch

    inputs = torch.tensor(x, requires_grad=True)
    results = model(inputs)
    loss = (results[0] ** 2).sum() / 2
    gradients = torch.autograd.grad(loss, [inputs, *[weight.value for weight in model.trainable_weights]])
    return [each.detach().numpy() for each in results], [each.numpy() for each in gradients]


def computed_by_tensorflow(model: Any, x: np.ndarray) -> tuple[list[np.ndarray], list[np.ndarray]]:
    """The same, of Keras 2."""
    import tensorflow as tf

    inputs = tf.constant(x)
    with tf.GradientTape() as tape:
        tape.watch(inputs)
        results = model(inputs)
        loss = tf.reduce_sum(results[0] ** 2) / 2
    gradients = tape.gradient(loss, [inputs, *model.trainable_weights])
    return [each.numpy() for each in results], [each.numpy() for each in gradients]


def arrays_of(path: Path) -> Arrays:
    """The arrays of a file by their paths in what of it is HDF5, as h5py reads them."""
    content: Any = path
    if path.suffix == ".keras":
        with zipfile.ZipFile(path) as archive:
            content = io.BytesIO(archive.read("model.weights.h5"))
    found: Arrays = {}

    def note(name: str, item: Any) -> None:
        if isinstance(item, h5py.Dataset):
            found[name] = item[()]

    with h5py.File(content) as file:
        file.visititems(note)
    return found


def name_in(arrays: Arrays, weight: np.ndarray) -> str:
    """Which array of a file a weight is: random as they are, no two are alike."""
    (name,) = [name for name, array in arrays.items() if np.array_equal(array, weight)]
    return name


def make(name: str, stack: Callable[[], list[Any]]) -> None:
    random = np.random.default_rng(zlib.crc32(name.encode()))
    keras.backend.clear_session()
    model = build(stack(), random)
    path = FOLDER / name
    if "weights" in name:
        model.save_weights(path)
    else:
        model.save(path)
    arrays = arrays_of(path)
    x = random.normal(size=(BATCH, TIME, INPUT)).astype(np.float32)
    compute = computed_by_tensorflow if OLDER else computed_by_torch
    (out, *states), (of_x, *of_weights) = compute(model, x)
    expected = {f"file.{key}": array for key, array in arrays.items()}
    expected |= {"x": x.swapaxes(0, 1), "out": out.swapaxes(0, 1), "grad.x": of_x.swapaxes(0, 1)}
    if "gru" in name or "rnn" in name:
        expected["h"] = np.stack(states)
    else:
        expected |= {"h": np.stack(states[::2]), "c": np.stack(states[1::2])}
    for weight, gradient in zip(model.trainable_weights, of_weights, strict=True):
        expected[f"grad.{name_in(arrays, np.asarray(weight.numpy()))}"] = gradient
    expected_path = path.with_name(f"{path.name.partition('.')[0]}.expected.safetensors")
    expected_path.write_bytes(save({key: np.ascontiguousarray(array) for key, array in expected.items()}))
    print(f"{path.name}: {path.stat().st_size} bytes")


if __name__ == "__main__":
    for name, stack in (KERAS_2 if OLDER else KERAS_3).items():
        make(name, stack)
