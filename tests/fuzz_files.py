"""Damages files of every format that is read, and reads them: `python tests/fuzz_files.py --cases 100000`.

Each file must give arrays, or one ValueError or OSError in a line of printable letters; never another exception, a
crash, more than some seconds, or more than some memory. The reading is done by another process, which is watched.

A case is told by its number and the seed alone: `--only NUMBER` reads it again, here, and `--keep FOLDER` leaves the
files with which something went wrong. `--formats "ONNX model" Keras` reads only files of these.
"""

import argparse
import contextlib
import copy
import io
import itertools
import json
import os
import pickle
import random
import select
import shutil
import subprocess
import sys
import tempfile
import time
import warnings
import wave
import zipfile
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple
from zlib import crc32

import numpy as np
from golden_models import model_path
from onnx import ModelProto, helper
from onnx_graphs import WAYS, Graph

from tinygrad_lstm.cli.arrays import read_arrays
from tinygrad_lstm.io import load_model, load_weights
from tinygrad_lstm.io.recognition import recognised
from tinygrad_lstm.io.tensorflow.checksum import masked_crc32c
from tinygrad_lstm.io.tensorflow.table import MAGIC, read_table
from tinygrad_lstm.io.tensorflow.wire import varint
from tinygrad_lstm.models import LSTM, CharLM
from tinygrad_lstm.train import TextCheckpoint, TextTrainer, TrainingOptions

FILES = Path(__file__).parent / "golden" / "files"
MODELS = Path(__file__).parent / "golden" / "models"
TENSORFLOW = Path(__file__).parent / "golden" / "tensorflow"
SECONDS_TO_BEGIN = 300  # that the imports and the whole files may take
SECONDS = 10  # that reading one file may take, on a machine that others use too
MEMORY = 2**29  # bytes that the process may grow by, from one file or from leaks
IN_MEMORY = "/dev/shm" if Path("/dev/shm").is_dir() else None  # a folder in which writing files is fast
AT_ONCE = 4000  # files that one process reads, so that a leak of each would show, and then another begins
TEXT = "To be, or not to be, that is the question. " * 40

Damage = Callable[[random.Random, bytes], bytes]


class Case(NamedTuple):
    """A damaged file."""

    format: str
    name: str
    content: bytes


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
    for width in (1, 3):
        with wave.open(str(folder / f"{width}.wav"), "wb") as file:
            file.setparams((2, width, 8000, 0, "NONE", ""))
            file.writeframes(bytes(range(24 * width)))
    return [folder / name for name in ("x.npy", "x.csv", "1.wav", "3.wav")]


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
    """A folder with these files; those that are not there are empty."""
    folder = path.parent / "parts"
    shutil.rmtree(folder, ignore_errors=True)  # another format may have files there
    (folder / "variables").mkdir(parents=True, exist_ok=True)
    contents = path.read_bytes().split(NEXT_FILE)
    for name, content in zip(names, [*contents, *[b""] * len(names)], strict=False):
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


def load_and_print(path: Path, source: Path) -> None:
    """Loads a model, and prints one of sixteen, because this takes much longer: the model runs several times for it."""
    model = load_model(path)
    if crc32(source.read_bytes()) % 16 == 0:
        repr(model)


def read_model(path: Path) -> None:
    load_and_print(path, path)


def read_saved_model(path: Path) -> None:
    load_and_print(parted(path, PARTS["tf1_*"]), path)


def read_tfjs(path: Path) -> None:
    folder = parted(path, ["model.json"])
    content = path.read_bytes()
    names = [name for name in PARTS["tf_tfjs_*"] if name.encode() in content]
    load_and_print(parted(path, ["model.json", *names]) if content else folder, path)


def read_checkpoint(path: Path) -> None:
    saved = TextCheckpoint.load(path)
    CharLM.load(saved)
    TextTrainer.resume(CharLM.from_options, TEXT, saved, path.parent / "resumed", steps=9)


def read_state(path: Path) -> None:
    LSTM(2, 3).stream(2).load(path)


def read_input(path: Path) -> None:
    read_arrays(path)


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
    "checkpoint": Format(checkpoints, read_checkpoint),
    "state": Format(states, read_state),
    "input": Format(inputs, read_input),
    "TensorFlow checkpoint": Format(tensorflow_checkpoints, read_tensorflow_checkpoint),
    "SavedModel": Format(folders("tf1_*", "tf_function*", "tf_keras*", "tf_module*"), read_saved_model),
    "TensorFlow graph": Format(lambda folder: [MODELS / "tf1_frozen.pb"], read_model),
    "TensorFlow.js": Format(folders("tf_tfjs_*"), read_tfjs),
}


@cache
def whole_files() -> dict[str, dict[str, bytes]]:
    """By format and name."""
    found: dict[str, dict[str, bytes]] = {}
    with tempfile.TemporaryDirectory() as folder:
        for format, each in FORMATS.items():
            found[format] = {path.name: path.read_bytes() for path in each.files(Path(folder))}
    return found


# -- damage ------------------------------------------------------------------------------------------------------------

ODD_BYTES = [0, 1, 0x7F, 0x80, 0xFE, 0xFF]
ODD_NUMBERS = [0, 1, -1, 2, 3, 7, 255, 2**31 - 1, -(2**31), 2**40, 2**62, 2**63 - 1, -(2**63), 10**6]
ODD_STRINGS = ["", "x" * 2000, "\x1b[31m", "a\nb", "\ud800", "../../etc/passwd", "float32", "0", "nan", "/", "W", "é"]
ODD_NAMES = ["", *"WRXh", "LSTM", "GRU", "Concat", "Slice", "Split", "Tile", "Expand", "Shape", "Cast", "axis", "to"]
ODD_VALUES: list[Any] = [*ODD_NUMBERS, *ODD_STRINGS, 2**64, 1e308, 0.5, True, None, [], {}, [[]], {"a": 1}, [0] * 70]


def bytes_changed(rng: random.Random, whole: bytes) -> bytes:
    """Some bytes changed, left out, put in, or taken from elsewhere."""
    content = bytearray(whole)
    for _ in range(rng.choice([1, 1, 2, 4, 8])):
        at, size = rng.randrange(len(content) + 1), rng.choice([1, 2, 4, 8, rng.randrange(1, 64)])
        source = bytes(content)
        if rng.random() < 0.2:
            source = rng.choice(list(rng.choice(list(whole_files().values())).values()))
        other = rng.randrange(len(source) + 1)
        match rng.randrange(8):
            case 0 if at < len(content):
                content[at] ^= 1 << rng.randrange(8)
            case 1:
                content[at : at + 1] = bytes([rng.choice(ODD_BYTES)])
            case 2:
                del content[at : at + size]
            case 3:
                content[at:at] = source[other : other + size]
            case 4:
                content[at : at + size] = source[other : other + size]
            case 5:
                content[at : at + size] = rng.randbytes(size)
            case 6 if rng.random() < 0.3:
                del content[at:]
            case _:
                content[at:at] = bytes(content[at : at + size]) * rng.randrange(1, 40)
    return bytes(content)


def json_changed(rng: random.Random, text: bytes | str) -> str:
    """JSON in which values are changed or left out, also within strings that are JSON."""
    whole = json.loads(text)
    for _ in range(rng.choice([1, 1, 2, 3])):
        places = list(_places(whole))
        if not places:
            break
        parent, key = rng.choice(places)
        value = parent[key]
        if isinstance(value, str) and value[:1] in ("{", "[") and rng.random() < 0.8:
            parent[key] = json_changed(rng, value)
        elif rng.random() < 0.15:
            del parent[key]
        elif isinstance(value, int) and rng.random() < 0.5:
            parent[key] = value + rng.choice([-1, 1, 10, -value * 2])
        else:
            other_parent, other = rng.choice(places)
            new = rng.choice(ODD_VALUES) if rng.random() < 0.6 else other_parent[other]
            parent[key] = copy.deepcopy(new)
    return json.dumps(whole)


def _places(value: Any) -> Iterator[tuple[Any, Any]]:
    """Where values stand in a nested one: what holds each, and its key there."""
    keys = value.keys() if isinstance(value, dict) else range(len(value)) if isinstance(value, list) else ()
    for key in keys:
        yield value, key
        yield from _places(value[key])


def safetensors_changed(rng: random.Random, whole: bytes) -> bytes:
    """Another header before the same arrays."""
    size = int.from_bytes(whole[:8], "little")
    header = json_changed(rng, whole[8 : 8 + size]).encode(errors="surrogatepass")
    return len(header).to_bytes(8, "little") + header + whole[8 + size :]


def zip_changed(rng: random.Random, whole: bytes) -> bytes:
    """A sound archive, in which one file is damaged: no checksum tells it."""
    with zipfile.ZipFile(io.BytesIO(whole)) as archive:
        files = {name: archive.read(name) for name in archive.namelist()}
    name = rng.choice(list(files))
    if name.endswith(".json") and rng.random() < 0.7:
        files[name] = json_changed(rng, files[name]).encode(errors="surrogatepass")
    else:
        files[name] = bytes_changed(rng, files[name])
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w", rng.choice([zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED])) as archive:
        for each, content in files.items():
            # Without the time of day, so that a number always makes the same file.
            archive.writestr(zipfile.ZipInfo(each), content, archive.compression)
    return packed.getvalue()


def onnx_changed(rng: random.Random, whole: bytes) -> bytes:
    """A valid message in which fields are changed, left out, repeated or exchanged."""
    model = ModelProto.FromString(whole)
    for _ in range(rng.choice([1, 1, 2, 4])):
        messages = list(_messages(model))
        message = rng.choice(messages)
        fields = message.ListFields()
        if not fields:
            continue
        field, value = rng.choice(fields)
        alike = [each for each in messages if type(each) is type(message) and each is not message]
        choice = rng.random()
        if choice < 0.1:
            message.ClearField(field.name)
        elif choice < 0.25 and alike:
            message.CopyFrom(type(message).FromString(rng.choice(alike).SerializeToString()))
        elif field.enum_type is not None:
            setattr(message, field.name, rng.choice(field.enum_type.values).number)
        elif isinstance(value, int | float | str | bytes):
            setattr(message, field.name, _odd(rng, value))
        elif hasattr(value, "append") and value:
            _change_items(rng, value)
    return model.SerializeToString()


def _messages(message: Any) -> Iterator[Any]:
    """A message of protobuf's, and those within it."""
    yield message
    for _, value in message.ListFields():
        for each in value if hasattr(value, "append") else [value]:
            if hasattr(each, "ListFields"):
                yield from _messages(each)


def _change_items(rng: random.Random, items: Any) -> None:
    """Leaves out one of several items, repeats it, or replaces it by a different one."""
    at = rng.randrange(len(items))
    if rng.random() < 0.3:
        del items[at]
    elif hasattr(items[at], "ListFields"):
        items.add().CopyFrom(items[at])
    elif rng.random() < 0.3:
        items.append(items[at])
    else:
        items[at] = _odd(rng, items[at]) if rng.random() < 0.6 else rng.choice(list(items))


def _odd(rng: random.Random, value: Any) -> Any:
    """Another value of the same type, that some field of it may have."""
    if isinstance(value, bool | int):
        return rng.choice([number for number in ODD_NUMBERS if -(2**31) <= number < 2**31] + [value ^ 1])
    if isinstance(value, float):
        return rng.choice([0.0, -1.0, float("nan"), float("inf"), 1e30])
    if isinstance(value, str):
        return rng.choice([*ODD_NAMES, "x" * 300])
    return bytes_changed(rng, value) if value else b"\x00"


def first_changed(change: Damage) -> Damage:
    """Damages the first of files that are joined."""

    def changed(rng: random.Random, whole: bytes) -> bytes:
        first, *rest = whole.split(NEXT_FILE)
        return NEXT_FILE.join([change(rng, first), *rest])

    return changed


def protobuf_changed(rng: random.Random, whole: bytes) -> bytes:
    """A message in which fields, or those of messages within it, are changed, left out, repeated or exchanged."""
    fields = list(_protobuf_fields(whole))
    if not fields:
        return bytes_changed(rng, whole)
    at = rng.randrange(len(fields))
    number, kind, value = fields[at]
    choice = rng.random()
    if kind == 2 and value and choice < 0.85:
        with contextlib.suppress(Exception):
            list(_protobuf_fields(value))
            fields[at] = (number, kind, protobuf_changed(rng, value))
    elif choice < 0.3:
        del fields[at]
    elif choice < 0.5:
        fields.append(rng.choice(fields))
    elif choice < 0.6:
        fields[at] = (rng.choice([number + 1, rng.randrange(1, 20)]), kind, value)
    elif kind == 2:
        new = rng.choice(
            [name.encode(errors="ignore") for name in ODD_NAMES] + [each for _, k, each in fields if k == 2]
        )
        fields[at] = (number, kind, new)
    else:
        size = 10 if kind == 0 else len(value)
        new = rng.choice(ODD_NUMBERS) % 2**64
        fields[at] = (number, kind, encoded(new) if kind == 0 else new.to_bytes(8, "little")[:size])
    return b"".join(
        encoded(number << 3 | kind) + (encoded(len(value)) if kind == 2 else b"") + value
        for number, kind, value in fields
    )


def _protobuf_fields(content: bytes) -> Iterator[tuple[int, int, bytes]]:
    """Number, wire type and bytes of each field."""
    at = 0
    while at < len(content):
        tag, at = varint(content, at)
        start = at
        if tag % 8 == 0:
            _, at = varint(content, at)
        elif tag % 8 == 2:
            size, start = varint(content, at)
            at = start + size
        elif tag % 8 in (1, 5):
            at += 8 if tag % 8 == 1 else 4
        else:
            raise ValueError("not a message")
        yield tag >> 3, tag % 8, content[start:at]


def encoded(number: int) -> bytes:
    """An integer as protobuf writes it."""
    content = bytearray()
    while number >= 0x80:
        content.append(number & 0x7F | 0x80)
        number >>= 7
    return bytes([*content, number])


def index_changed(rng: random.Random, whole: bytes) -> bytes:
    """The index of a checkpoint in which entries are damaged: no checksum tells it."""
    entries = {key: bytes(value) for key, value in read_table(whole).items()}
    for _ in range(rng.choice([1, 1, 2, 3])):
        key = rng.choice(list(entries))
        if rng.random() < 0.2:
            new = bytes_changed(rng, key)
            entries[new] = entries.pop(key)
        else:
            entries[key] = protobuf_changed(rng, entries[key])
    content = b"".join(
        encoded(0) + encoded(len(key)) + encoded(len(value)) + key + value for key, value in sorted(entries.items())
    )
    block = _with_trailer(content)
    handle = encoded(0) + encoded(len(block) - 5)
    index = _with_trailer(encoded(0) + encoded(1) + encoded(len(handle)) + b"z" + handle)
    handles = encoded(0) * 2 + encoded(len(block)) + encoded(len(index) - 5)
    return block + index + handles.ljust(40, b"\0") + MAGIC


def _with_trailer(entries: bytes) -> bytes:
    """A block of a table with these entries, and its checksum."""
    content = entries + (0).to_bytes(4, "little") + (1).to_bytes(4, "little") + b"\0"
    return content + masked_crc32c(content).to_bytes(4, "little")


STRUCTURED: dict[str, Damage] = {
    "safetensors": safetensors_changed,
    "checkpoint": safetensors_changed,
    "state": safetensors_changed,
    "ONNX": onnx_changed,
    "ONNX model": protobuf_changed,
    "TensorFlow checkpoint": first_changed(index_changed),
    "SavedModel": first_changed(protobuf_changed),
    "TensorFlow graph": protobuf_changed,
    "TensorFlow.js": first_changed(lambda rng, whole: json_changed(rng, whole).encode(errors="surrogatepass")),
}


def format_of(number: int) -> str:
    """The format of the damaged file of a number; formats take turns."""
    return list(FORMATS)[number % len(FORMATS)]


def case(seed: int, number: int) -> Case:
    """The damaged file of a number."""
    rng = random.Random(f"{seed} {number}")
    format = format_of(number)
    name, content = rng.choice(list(whole_files()[format].items()))
    structured = STRUCTURED.get(format) or (zip_changed if content.startswith(b"PK") else None)
    if structured and rng.random() < 0.6:
        content = structured(rng, content)
    if not structured or rng.random() < 0.5:
        content = bytes_changed(rng, content)
    return Case(format, name, content)


# -- reading -----------------------------------------------------------------------------------------------------------


def outcome(read: Callable[[Path], None], path: Path) -> str:
    """What became of a file: "read", "refused", or what is wrong with how it was refused."""
    try:
        read(path)
    except (ValueError, OSError) as error:
        message = str(error)
        if type(error) is UnicodeDecodeError or not message.isprintable() or len(message) > 5000:
            return f"wrong: {type(error).__name__}, in no line of printable letters: {message[:300]!r}"
        return "refused"
    except BaseException as error:
        return f"wrong: {error!r:.300}"
    return "read"


def serve(seed: int, numbers: Sequence[int]) -> None:
    """Reads the files of some numbers, and prints what became of each, in a line."""
    import resource  # Windows does not have it

    whole_files()
    warnings.simplefilter("error")  # they would be lines as well
    used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (used + MEMORY, used + MEMORY))
    with tempfile.TemporaryDirectory(dir=IN_MEMORY) as folder:
        path = Path(folder) / "model"
        print("ready", flush=True)
        for number in numbers:
            made = case(seed, number)
            path.write_bytes(made.content)
            print(f"{number} {outcome(FORMATS[made.format].read, path)}", flush=True)


def lines_of(command: Sequence[str]) -> Iterator[str]:
    """The lines that a process prints; the last says so if it ends badly, or is silent for too long."""
    process = subprocess.Popen(command, stdout=subprocess.PIPE)
    assert process.stdout is not None
    rest, seconds = b"", SECONDS_TO_BEGIN
    try:
        while True:
            if not select.select([process.stdout], [], [], seconds)[0]:
                yield f"wrong: hung, for {seconds} s"
                return
            seconds = SECONDS
            new = os.read(process.stdout.fileno(), 2**16)
            if not new:
                break
            *lines, rest = (rest + new).split(b"\n")
            yield from (line.decode() for line in lines)
        if process.wait():
            yield f"wrong: crashed, with status {process.returncode}"
    finally:
        process.kill()
        process.stdout.close()
        process.wait()


def numbers_of(formats: Sequence[str], first: int, cases: int) -> list[int]:
    """The numbers of so many files of some formats, from a number on."""
    return list(itertools.islice((number for number in itertools.count(first) if format_of(number) in formats), cases))


def fuzz(seed: int, formats: Sequence[str], first: int, cases: int) -> Iterator[tuple[int, str]]:
    """Reads damaged files in other processes, and returns their numbers with the outcome of each."""
    numbers = numbers_of(formats, first, cases)
    while numbers:
        at_once = ["--first", str(numbers[0]), "--cases", str(min(AT_ONCE, len(numbers)))]
        command = [sys.executable, __file__, "--serve", "--seed", str(seed), *at_once, "--formats", *formats]
        for line in lines_of(command):
            if line != "ready":  # a line without a number: the process is gone
                yield numbers.pop(0), line if line.startswith("wrong") else line.partition(" ")[2]


def main() -> int:
    """Fuzzes, and prints how many files of each format were read or refused."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cases", type=int, default=10_000)
    parser.add_argument("--first", type=int, default=0, help="the number of the first, to go on from there")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--only", type=int, help="read the file of this number here, and show what happens")
    parser.add_argument("--keep", type=Path, help="a folder for the files with which something went wrong")
    parser.add_argument("--formats", nargs="+", choices=FORMATS, default=list(FORMATS), metavar="FORMAT")
    parser.add_argument("--serve", action="store_true", help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.serve:
        serve(given.seed, numbers_of(given.formats, given.first, given.cases))
        return 0
    if given.only is not None:
        made = case(given.seed, given.only)
        with tempfile.TemporaryDirectory() as folder:
            (Path(folder) / "model").write_bytes(made.content)
            print(made.format, made.name, len(made.content))
            FORMATS[made.format].read(Path(folder) / "model")
        return 0
    counts: Counter[tuple[str, str]] = Counter()
    begun = time.monotonic()
    for number, what in fuzz(given.seed, given.formats, given.first, given.cases):
        format = format_of(number)
        counts[format, what.split(":")[0]] += 1
        if what.startswith("wrong"):
            print(f"{number} ({format}): {what}", flush=True)
            if given.keep:
                given.keep.mkdir(parents=True, exist_ok=True)
                (given.keep / str(number)).write_bytes(case(given.seed, number).content)
        if sum(counts.values()) % 10_000 == 0:
            print(f"{sum(counts.values()):,} files, up to number {number:,}", file=sys.stderr, flush=True)
    for format in given.formats:
        read, refused, wrong = (counts[format, what] for what in ("read", "refused", "wrong"))
        print(f"{format:12} {read + refused + wrong:8,} files: {read:7,} read, {refused:7,} refused, {wrong:5,} wrong")
    total = sum(n for (_, what), n in counts.items() if what == "wrong")
    print(f"{sum(counts.values()):,} files in {time.monotonic() - begun:,.0f} s, {total:,} wrong")
    return 1 if total else 0


if __name__ == "__main__":
    sys.exit(main())
