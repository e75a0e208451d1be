"""The formats of `fuzz_files.py`: whole files, and how they are read."""

import argparse
import json
import pickle
import shutil
import tempfile
import time
import wave
from collections.abc import Callable, Sequence
from contextlib import suppress
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any, NamedTuple
from zlib import crc32

import numpy as np
from golden_models import model_path
from onnx import helper, save_model
from onnx import load as load_onnx
from onnx_graphs import WAYS, Graph

from tinygrad_lstm.cli.arrays import read_arrays
from tinygrad_lstm.data import read_sequences
from tinygrad_lstm.io import load_model, load_weights
from tinygrad_lstm.io.models.body import Step, watching
from tinygrad_lstm.io.recognition import recognised
from tinygrad_lstm.models import LSTM, CharLM
from tinygrad_lstm.train import TextCheckpoint, TextTrainer, TrainingOptions

FILES = Path(__file__).parent / "golden" / "files"
MODELS = Path(__file__).parent / "golden" / "models"
TENSORFLOW = Path(__file__).parent / "golden" / "tensorflow"
TEXT = "To be, or not to be, that is the question. " * 40


# -- whole files -------------------------------------------------------------------------------------------------------


def golden(*endings: str) -> Callable[[Path], list[Path]]:
    """The files of tests/golden/files whose names end so."""
    return lambda folder: sorted(path for path in FILES.iterdir() if path.name.endswith(endings))


def golden_models(start: str, end: str | tuple[str, ...]) -> Callable[[Path], list[Path]]:
    """The files of tests/golden/models whose names begin and end so."""
    folder = FILES.parent / "models"
    return lambda _: sorted(
        path for path in folder.iterdir() if path.name.startswith(start) and path.name.endswith(end)
    )


def npz_files(folder: Path) -> list[Path]:
    arrays = {"rnn.weight_ih_l0": np.ones((8, 3)), "rnn.weight_hh_l0": np.ones((8, 2), "<f2"), "n": np.array(3)}
    np.savez(folder / "stored.npz", **arrays)
    np.savez_compressed(folder / "packed.npz", **arrays)
    return [folder / "stored.npz", folder / "packed.npz"]


def plain_pickles(folder: Path) -> list[Path]:
    """Arrays in containers, in every protocol, beside objects."""
    arrays = {"W": np.ones((8, 3), np.float32), "nested": [np.arange(3), {"b": np.ones(8)}], "n": 5, "s": {1, "a"}}
    paths = [folder / f"protocol{protocol}.pkl" for protocol in range(6)]
    for protocol, path in enumerate(paths):
        path.write_bytes(pickle.dumps({**arrays, "o": argparse.Namespace(rate=0.1)}, protocol))
    np.save(folder / "objects.npy", arrays)  # type: ignore[arg-type]
    return [*paths, folder / "objects.npy"]


def text_files(folder: Path) -> list[Path]:
    """Arrays in JSON, and tables of numbers."""
    W = np.random.default_rng(0).standard_normal((3, 4))
    (folder / "w.json").write_text(
        json.dumps({"a": {"W": W.tolist()}, "b": {"shape": [2], "data": [1, 2.5]}, "n": [[1], [2]]})
    )
    np.savetxt(folder / "commas.csv", W, delimiter=",", header="a,b,c,d", comments="")
    np.savetxt(folder / "spaces.txt", W)
    return [folder / "w.json", folder / "commas.csv", folder / "spaces.txt"]


def onnx_files(folder: Path) -> list[Path]:
    """Layers whose weights are stored and made in every way, in the graph, in branches, loops and functions."""
    paths = golden(".onnx")(folder)
    for way in WAYS:
        outer, then, other = Graph(), Graph(), Graph()
        some = np.random.default_rng(0).uniform(-1, 1, (1, 12, 4)).astype(np.float32)
        W, R = way(outer, "W", some), way(outer, "R", some)
        for g in (then, other):
            names = [W, R, way(g, "B", np.ones((1, 24), np.float32))] if way is not WAYS[0] else [W, R]
            g.nodes.append(helper.make_node("GRU", ["X", *names, "", "h"], ["Y"], "gru", hidden_size=4))
        branches = {"then_branch": then.model().graph, "else_branch": other.model().graph}
        body = Graph([helper.make_node("If", ["c"], ["y"], **branches)])
        outer.node("Loop", "n", "c", body=body.model().graph)
        outer.nodes.append(helper.make_node("GRU", ["X", W, R], ["Z"], "outer", direction="forward", layout=0))
        model = outer.model("Z")
        model.functions.append(helper.make_function("own", "f", ["X", "W"], ["Y"], [*then.nodes[-1:]], []))
        paths.append(folder / f"{way.__name__}.onnx")
        paths[-1].write_bytes(model.SerializeToString())
    return paths


def checkpoints(folder: Path) -> list[Path]:
    options = TrainingOptions(steps=2, embedding=2, hidden=3, seq_len=4, batch=2, validate_every=1, warmup=1)
    TextTrainer.start(CharLM.from_options, TEXT, options, folder / "run").run()
    halfway = TrainingOptions(steps=1, embedding=2, hidden=3, seq_len=4, batch=2, validate_every=1, warmup=1)
    TextTrainer.start(CharLM.from_options, TEXT, halfway, folder / "half").run()
    return [folder / "run" / "last.safetensors", folder / "half" / "last.safetensors"]


def states(folder: Path) -> list[Path]:
    stream = LSTM(2, 3).stream(2)
    stream(np.ones((4, 2, 2), np.float32))
    stream.save(folder / "state.safetensors")
    return [folder / "state.safetensors"]


def inputs(folder: Path) -> list[Path]:
    """Arrays, tables and sounds, as inputs of models."""
    np.save(folder / "x.npy", np.ones((4, 3), np.float32))
    (folder / "x.csv").write_text("wind,rain\n" + "1,2.5\n-3e2,4\n" * 3)
    return [folder / "x.npy", folder / "x.csv", *sounds(folder)]


def sounds(folder: Path) -> list[Path]:
    for width in (1, 3):
        with wave.open(str(folder / f"{width}.wav"), "wb") as file:
            file.setparams((2, width, 8000, 0, "NONE", ""))
            file.writeframes(bytes(range(24 * width)))
    return [folder / "1.wav", folder / "3.wav"]


def sequence_tables(folder: Path) -> list[Path]:
    """Tables of sequences: long and wide ones."""
    steps = "".join(f"{who},2024-01-0{day},{day}.5,{-day},{'ab'[who]}\n" for who in range(2) for day in range(1, 4))
    (folder / "long.csv").write_text("who,when,wind,rain,y\n" + steps)
    (folder / "wide.csv").write_text("x0;x1;x2;y\n1;2.5;-3;0\n4;5;;1\n6;;;0\n")
    return [folder / "long.csv", folder / "wide.csv"]


def sequence_arrays(folder: Path) -> list[Path]:
    np.savez(folder / "padded.npz", x=np.ones((3, 4, 2), "f"), lengths=np.array([4, 1, 2]), y=np.array(["a", "b", "a"]))
    np.savez(folder / "ragged.npz", first=np.ones((3, 2)), second=np.ones((1, 2), "i2"), y=np.array([0.5, 1]))
    return [folder / "padded.npz", folder / "ragged.npz"]


def parquet_tables(folder: Path) -> list[Path]:
    import pyarrow
    import pyarrow.parquet

    table = pyarrow.table({"who": [0, 0, 1], "when": [1, 2, 1], "wind": [0.5, 1.5, 2.5], "y": ["a", "a", "b"]})
    for compression in ("none", "snappy"):
        pyarrow.parquet.write_table(table, folder / f"{compression}.parquet", compression=compression)
    return [folder / "none.parquet", folder / "snappy.parquet"]


# Formats of several files: they are joined, and a reader parts them again.

NEXT_FILE = b"\n-- the next file --\n"


def joined(path: Path, names: Sequence[str], folder: Path) -> Path:
    """One file with the content of several."""
    folder.mkdir(exist_ok=True)
    whole = folder / path.name
    whole.write_bytes(NEXT_FILE.join((path.parent / name).read_bytes() for name in names))
    return whole


def tensorflow_checkpoints(folder: Path) -> list[Path]:
    places = [TENSORFLOW / name for name in ("objects", "names", "cells")]
    parts = [joined(path, [path.name + ".index", path.name + ".data-00000-of-00001"], folder) for path in places]
    return [*parts, TENSORFLOW / "old"]


BESIDE = ["model.onnx", "model.onnx.data"]


def onnx_beside(folder: Path) -> list[Path]:
    """Models of ONNX whose arrays are in a file beside them."""
    found = []
    for path in golden_models("onnx_", ".onnx")(folder):
        (folder / path.stem).mkdir()
        save_model(
            load_onnx(path), folder / path.stem / BESIDE[0], save_as_external_data=True, location=BESIDE[1],
            size_threshold=0,
        )  # fmt: skip
        found.append(joined(folder / path.stem / path.stem, BESIDE, folder / "beside"))
    return found


def folders(*names: str) -> Callable[[Path], list[Path]]:
    """The models of tests/golden/models that are folders, some of them packed."""

    def files(folder: Path) -> list[Path]:
        found = []
        for path in sorted(path for name in names for path in MODELS.glob(name)):
            if path.suffix not in (".zip", ""):
                continue
            whole = model_path(path.stem)
            found.append(folder / path.stem)
            parts = [whole / name for name in PARTS[names[0]] if (whole / name).exists()]
            found[-1].write_bytes(NEXT_FILE.join(part.read_bytes() for part in parts))
        return found

    return files


PARTS = {
    "tf1_*": ["saved_model.pb", "variables/variables.index", "variables/variables.data-00000-of-00001"],
    "tf_tfjs_*": [
        "model.json",
        *(f"group1-shard{n}of{total}.bin" for total in range(1, 6) for n in range(1, total + 1)),
    ],
}
"""The files of a folder, in the order in which they are joined."""


def parted(path: Path, names: Sequence[str]) -> Path:
    """A folder with these files, except those that are empty."""
    folder = path.parent / "parts"
    shutil.rmtree(folder, ignore_errors=True)  # another format may have files there
    (folder / "variables").mkdir(parents=True, exist_ok=True)
    contents = path.read_bytes().split(NEXT_FILE)
    for name, content in zip(names, contents, strict=False):
        if content:
            (folder / name).write_bytes(content)
    return folder


# -- readers -----------------------------------------------------------------------------------------------------------


def read_weights(path: Path) -> None:
    for _ in recognised(load_weights(path)):
        pass


def read_tensorflow_checkpoint(path: Path) -> None:
    if NEXT_FILE in path.read_bytes():
        path = parted(path, ["model.index", "model.data-00000-of-00001"]) / "model"
    read_weights(path)


class Deadline:
    """Watches the steps of a model, and ends it after some seconds: a damaged loop may have no end."""

    def __init__(self, seconds: float) -> None:
        self.until = time.monotonic() + seconds

    def before(self, step: Step, arguments: Sequence[Any]) -> None:
        if time.monotonic() > self.until:
            raise TimeoutError

    def after(self, step: Step, result: Any) -> None:
        pass


def load_and_call(path: Path, source: Path) -> None:
    """Loads a model, calls it, which may refuse the inputs with a ValueError, and prints one of sixteen.

    Printing takes much longer: the model runs several times for it.
    """
    model = load_model(path)
    if crc32(source.read_bytes()) % 16 == 0:
        repr(model)
    refused = suppress(ValueError, TimeoutError, MemoryError)  # such as a damaged length, or one that it does not take
    with refused, watching(Deadline(2)), np.errstate(all="ignore"):
        model(**model.example_inputs(5, 2))


def read_model(path: Path) -> None:
    load_and_call(path, path)


def read_saved_model(path: Path) -> None:
    load_and_call(parted(path, PARTS["tf1_*"]), path)


def read_tfjs(path: Path) -> None:
    folder = parted(path, ["model.json"])
    content = path.read_bytes()
    names = [name for name in PARTS["tf_tfjs_*"] if name.encode() in content]
    load_and_call(parted(path, ["model.json", *names]) if content else folder, path)


def read_onnx_beside(path: Path) -> None:
    load_and_call(parted(path, BESIDE) / BESIDE[0], path)


def read_checkpoint(path: Path) -> None:
    saved = TextCheckpoint.load(path)
    CharLM.load(saved)
    TextTrainer.resume(CharLM.from_options, TEXT, saved, path.parent / "resumed", steps=9)


def read_state(path: Path) -> None:
    LSTM(2, 3).stream(2).load(path)


def read_input(path: Path) -> None:
    read_arrays(path)


def sequences_in(name: str) -> Callable[[Path], None]:
    """Reads labelled sequences from a file of this name, or from the folder of it if that is a sound."""

    def read(path: Path) -> None:
        content = path.read_bytes()
        file = path.parent / "sequences" / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(content)
        if file.suffix == ".wav":
            read_sequences(file.parent.parent)
        elif b"who" in content:
            read_sequences(file, target="y", id="who", time="when")
        else:
            read_sequences(file, target="y")

    return read


class Format(NamedTuple):
    """Whole files, which may be written into a folder for it, and how they are read."""

    files: Callable[[Path], list[Path]]
    read: Callable[[Path], None] = read_weights


FORMATS = {
    "safetensors": Format(golden("float16.safetensors", "lstm.expected.safetensors")),
    "PyTorch": Format(golden(".pt")),
    "PyTorch model": Format(golden_models("torch_", (".pt", ".pt2")), read_model),
    "Keras": Format(golden(".keras")),
    "Keras HDF5": Format(golden(".h5")),
    "Keras model": Format(golden_models("keras", (".keras", ".h5")), read_model),
    "NumPy": Format(npz_files),
    "pickle": Format(plain_pickles),
    "text": Format(text_files),
    "ONNX": Format(onnx_files),
    "ONNX model": Format(golden_models("onnx_", ".onnx"), read_model),
    "ONNX model with data": Format(onnx_beside, read_onnx_beside),
    "checkpoint": Format(checkpoints, read_checkpoint),
    "state": Format(states, read_state),
    "input": Format(inputs, read_input),
    "TensorFlow checkpoint": Format(tensorflow_checkpoints, read_tensorflow_checkpoint),
    "SavedModel": Format(folders("tf1_*", "tf_function*", "tf_keras*", "tf_module*"), read_saved_model),
    "TensorFlow graph": Format(lambda folder: [MODELS / "tf1_frozen.pb"], read_model),
    "TensorFlow.js": Format(folders("tf_tfjs_*"), read_tfjs),
    "table of sequences": Format(sequence_tables, sequences_in("a.csv")),
    "arrays of sequences": Format(sequence_arrays, sequences_in("a.npz")),
    "sound of a sequence": Format(sounds, sequences_in("sounds/class/1.wav")),
}
if find_spec("pyarrow"):
    FORMATS["Parquet"] = Format(parquet_tables, sequences_in("a.parquet"))


@cache
def whole_files() -> dict[str, dict[str, bytes]]:
    """By format and name."""
    found: dict[str, dict[str, bytes]] = {}
    with tempfile.TemporaryDirectory() as folder:
        for format, each in FORMATS.items():
            found[format] = {path.name: path.read_bytes() for path in each.files(Path(folder))}
    return found
