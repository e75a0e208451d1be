"""Write whole models with Keras 3 and Keras 2, and beside each what it computes.

    pip install keras==3.15.1 tf_keras==2.21.0 tensorflow-cpu==2.21.0 h5py safetensors    # in a separate environment
    python tests/golden/models/make_keras.py [NAME ...]

Beside NAME.keras or NAME.h5, NAME.expected.safetensors has the inputs "in.INPUT" and the outputs "out.OUTPUT". A name
begins with keras3 or keras2, the version that wrote the model. Weights and inputs are random; nothing is trained.
"""

import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

os.environ["KERAS_BACKEND"] = "tensorflow"
os.environ["TF_CPP_MIN_LOG_LEVEL"] = "3"

import keras
import numpy as np
import tf_keras
from safetensors.numpy import save_file

FOLDER = Path(__file__).parent
TIME, BATCH = 6, 3


def words(k: Any) -> Any:
    """An embedding, an LSTM and a softmax, as the guides of Keras have them."""
    l = k.layers
    ids = k.Input((None,), name="ids")
    return k.Sequential(
        [ids, l.Embedding(9, 4), l.LSTM(5, dropout=0.2), l.Dropout(0.5), l.Dense(3, activation="softmax")]
    )


MODELS: dict[str, Callable[[Any], Any]] = {"words": words}


def randomized(model: Any, draw: np.random.Generator) -> Any:
    """The model with random weights, also where Keras starts from zeros or ones."""
    weights = [
        draw.uniform(0.5, 1, each.shape) if "var" in each.name else draw.normal(0, 0.4, each.shape)
        for each in model.weights
    ]
    model.set_weights(weights)
    return model


def input_of(tensor: Any, draw: np.random.Generator) -> np.ndarray:
    """A random input: ids below 9 for an embedding."""
    shape = [length or (BATCH if k == 0 else TIME) for k, length in enumerate(tensor.shape)]
    if "ids" in tensor.name:
        return draw.integers(0, 9, shape)
    return draw.normal(0, 1, shape).astype("float32")


def write(name: str, k: Any, make: Callable[[Any], Any], ending: str) -> None:
    k.backend.clear_session()
    draw = np.random.default_rng(19)
    model = randomized(make(k), draw)
    inputs = {tensor.name.split(":")[0]: input_of(tensor, draw) for tensor in model.inputs}
    outputs = model(list(inputs.values()) if len(inputs) > 1 else next(iter(inputs.values())))
    outputs = outputs if isinstance(outputs, list | tuple) else [outputs]
    names = model.output_names if len(outputs) > 1 else ["out"]
    model.save(FOLDER / f"{name}{ending}")
    save_file(
        {f"in.{key}": np.ascontiguousarray(each) for key, each in inputs.items()}
        | {f"out.{key}": np.ascontiguousarray(each) for key, each in zip(names, outputs, strict=True)},
        FOLDER / f"{name}.expected.safetensors",
        {"made by": f"Keras {k.__version__}"},
    )


def main() -> None:
    for version, k in (("keras3", keras), ("keras2", tf_keras)):
        for stem, make in MODELS.items():
            for ending in (".keras", ".h5"):
                name = f"{version}_{stem}" + "_h5" * (ending == ".h5")
                if not sys.argv[1:] or name in sys.argv[1:]:
                    write(name, k, make, ending)


if __name__ == "__main__":
    main()
