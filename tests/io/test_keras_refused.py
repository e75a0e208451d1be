"""Keras's files that are refused: links, layouts that Keras does not write, damage, and invalid archives."""

import json
import re
import struct
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from keras_files import Arrays, Config, cell, layer, model, write_hdf5, write_keras
from weight_files import check_read_or_refused

from tinygrad_lstm.io import load_weights

FILES = Path(__file__).parents[1] / "golden" / "files"


# --- What is refused ------------------------------------------------------------------------------


def refusal(path: Path) -> str:
    with pytest.raises(ValueError, match=f"^{path}: ") as raised:
        load_weights(path)
    message = str(raised.value)
    assert "\n" not in message and len(message) < 1000
    return message


def soft(file: h5py.File) -> None:
    file["there"] = np.zeros(3)
    file["here"] = h5py.SoftLink("/there")


def circular(file: h5py.File) -> None:
    file["a"] = h5py.SoftLink("/b")
    file["b"] = h5py.SoftLink("/a")


def external_link(file: h5py.File) -> None:
    file["here"] = h5py.ExternalLink("other.h5", "/there")


def not_ascii(file: h5py.File) -> None:
    file.create_group("größe")["kernel:0"] = np.zeros(3)


def external_data(file: h5py.File) -> None:
    file.create_dataset("here", (3,), "f4", external=[("other.bin", 0, 12)])


def virtual(file: h5py.File) -> None:
    layout = h5py.VirtualLayout((3,), "f4")
    layout[:] = h5py.VirtualSource("other.h5", "there", (3,))
    file.create_virtual_dataset("here", layout)


def chunked(file: h5py.File) -> None:
    file.create_dataset("here", (2**20, 2**20, 2**20), "f4", chunks=(1, 1, 64), fillvalue=1.0)


def compressed(file: h5py.File) -> None:
    file.create_dataset("here", data=np.zeros(10000), compression="gzip")


def never_written(file: h5py.File) -> None:
    file.create_dataset("here", (2**40,), "f4")


def texts_in_an_array(file: h5py.File) -> None:
    file["here"] = ["a", "b"]


def objects(file: h5py.File) -> None:
    file["here"] = np.array([file.ref], h5py.ref_dtype)


def ragged(file: h5py.File) -> None:
    file.create_dataset("here", (2,), h5py.vlen_dtype("f4"))


def structures(file: h5py.File) -> None:
    file["here"] = np.zeros(2, [("x", "f4"), ("y", "i4")])


def type_alone(file: h5py.File) -> None:
    file["here"] = np.dtype("f4")


def shared_type(file: h5py.File) -> None:
    file["here"] = np.dtype("f4")
    file.create_dataset("there", (3,), file["here"])


def two_names(file: h5py.File) -> None:
    file["there"] = np.zeros(3)
    file["here"] = file["there"]


def many_names(file: h5py.File) -> None:
    file["there"] = np.zeros(100000)
    for k in range(100):
        file[f"here_{k}"] = file["there"]


def in_itself(file: h5py.File) -> None:
    inner = file.create_group("a/b")
    inner["c"] = file["a"]


@pytest.mark.parametrize(
    ("write", "words"),
    [
        (soft, "'here' is a soft link, which Keras does not write"),
        (circular, "'a' is a soft link"),
        (external_link, "has links to other files"),
        (not_ascii, "or layers whose names are not ASCII, neither of which is read; save the model as .keras"),
        (external_data, "the dataset 'here' is in a different file, which is not read"),
        (virtual, "the dataset 'here' is compressed or not in one piece"),
        (chunked, "the dataset 'here' is compressed or not in one piece, .* h5repack"),
        (compressed, "the dataset 'here' is compressed"),
        (never_written, "it points past its end"),
        (texts_in_an_array, "the dataset 'here' has elements that are not integers, floats or booleans"),
        (objects, "elements that are not integers"),
        (ragged, "elements that are not integers"),
        (structures, "elements that are not integers"),
        (type_alone, "'here' is neither a group nor a dataset"),
        (shared_type, "'there' shares its type with others|'here' is neither"),
        (two_names, "the dataset 'there' overlaps a different one, or has two names"),
        (many_names, "parts of it overlap"),
        (in_itself, "overlap"),
    ],
)
def test_what_keras_does_not_write(tmp_path: Path, write: Callable[[h5py.File], None], words: str) -> None:
    with h5py.File(tmp_path / "a.h5", "w") as file:
        write(file)
    assert re.search(words, refusal(tmp_path / "a.h5"))


@pytest.mark.parametrize("version", ["v108", "latest"])
def test_newer_forms_are_refused_with_a_remedy(tmp_path: Path, version: str) -> None:
    with h5py.File(tmp_path / "a.h5", "w", libver=version) as file:
        file["here"] = np.zeros(3)
    assert "is written in a newer form of HDF5 than Keras uses; h5repack" in refusal(tmp_path / "a.h5")


def patched(folder: Path, arrays: Arrays, old: bytes, new: bytes) -> Path:
    """A file of these arrays in which every occurrence of some bytes is replaced."""
    path = write_hdf5(folder / "a.h5", arrays)
    content = path.read_bytes()
    assert old in content
    path.write_bytes(content.replace(old, new))
    return path


@pytest.mark.parametrize("sizes", [(2**60, 17), (13, 2**60), (2**63, 2), (2**32, 2**32), (13, 18), (0, 17)])
def test_shapes_that_the_bytes_do_not_fill(tmp_path: Path, sizes: tuple[int, int]) -> None:
    old, new = struct.pack("<QQ", 13, 17), struct.pack("<QQ", *sizes)
    path = patched(tmp_path, {"x": np.zeros((13, 17), "f4")}, old, new)
    assert f"the dataset 'x' of shape {sizes} has 884 bytes, 4 an element" in refusal(path)


def test_a_shape_without_elements_that_no_array_has(tmp_path: Path) -> None:
    path = patched(tmp_path, {"x": np.zeros((0, 17), "f4")}, struct.pack("<QQ", 0, 17), struct.pack("<QQ", 0, 2**63))
    assert "as the dataset 'x' has" in refusal(path)


def test_groups_within_groups_end(tmp_path: Path) -> None:
    with h5py.File(tmp_path / "a.h5", "w") as file:
        group: Any = file
        for _ in range(5000):
            group = group.create_group("g")
    assert "its strings overlap" in refusal(tmp_path / "a.h5")


def test_strings_that_share_one_place_are_refused(tmp_path: Path) -> None:
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file.attrs["long"] = "x" * 50000
        for k in range(100):
            file.attrs[f"short_{k}"] = "y" * 77
    content = (tmp_path / "a.h5").read_bytes()
    (long,) = re.findall(re.escape(struct.pack("<I", 50000)) + rb".{8}\x01\0\0\0", content, re.DOTALL)
    patched, number = re.subn(
        re.escape(struct.pack("<I", 77)) + rb".{8}.\0\0\0", lambda _: long, content, flags=re.DOTALL
    )
    assert number == 100
    (tmp_path / "a.h5").write_bytes(patched)
    assert "its strings overlap" in refusal(tmp_path / "a.h5")


def test_strings_of_length_zero_are_refused(tmp_path: Path) -> None:
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file.attrs["texts"] = np.array([b"abcde"] * 13)
    content = (tmp_path / "a.h5").read_bytes()
    width, number = struct.pack("<BBHI", 0x13, 1, 0, 5), struct.pack("<QQ", 13, 13)
    assert width in content and number in content
    content = content.replace(width, width[:4] + bytes(4)).replace(number, struct.pack("<QQ", 2**60, 2**60))
    (tmp_path / "a.h5").write_bytes(content)
    assert "an HDF5 file that is damaged" in refusal(tmp_path / "a.h5")


def test_long_names_take_no_long_time(tmp_path: Path) -> None:
    name = "cell" * 250_000  # of which a pattern that goes back over it would take hours
    arrays = {f"{name}/kernel": np.zeros(3), "x": np.zeros(2_000_000, "u1")}
    assert load_weights(write_hdf5(tmp_path / "a.h5", arrays)).keys() == arrays.keys()


def test_any_cut_is_noticed(tmp_path: Path) -> None:
    content = (FILES / "keras_rnn.h5").read_bytes()
    path = tmp_path / "a.h5"
    for length in range(0, len(content), 97):
        path.write_bytes(content[:length])
        refusal(path)


def overwrite(content: bytearray, where: int, piece: bytes) -> None:
    """Overwrites the content with a piece, up to the content's end."""
    content[where : where + len(piece)] = piece[: len(content) - where]


@pytest.mark.parametrize("file", ["keras2_lstm.h5", "keras.weights.h5", "keras_gru.keras"])
@settings(max_examples=200)
@given(data=st.data())
def test_damage_is_survived(tmp_path_factory: pytest.TempPathFactory, file: str, data: st.DataObject) -> None:
    """Bits are flipped, numbers changed, pieces overwritten: loading raises an error or returns arrays."""
    content = bytearray((FILES / file).read_bytes())
    used = [place for place, byte in enumerate(content) if byte]
    place = st.sampled_from(used) | st.integers(0, len(content) - 1)
    numbers = st.sampled_from([0, 1, 2**16, 2**32 - 1, 2**60, 2**64 - 1, len(content)]) | st.integers(0, len(content))
    for _ in range(data.draw(st.integers(1, 8))):
        where = data.draw(place)
        match data.draw(st.sampled_from(["bit", "number", "piece"])):
            case "bit":
                content[where] ^= 1 << data.draw(st.integers(0, 7))
            case "number":
                overwrite(content, where, data.draw(numbers).to_bytes(8, "little"))
            case _:
                source = data.draw(place)
                overwrite(content, where, content[source : source + 32])
    check_read_or_refused(tmp_path_factory.mktemp("damaged") / file, bytes(content), times_as_large=2)


# --- Archives and configs -------------------------------------------------------------------------


@pytest.mark.parametrize("missing", ["config.json", "model.weights.h5"])
def test_archives_that_lack_something(tmp_path: Path, missing: str) -> None:
    with zipfile.ZipFile(FILES / "keras_gru.keras") as whole, zipfile.ZipFile(tmp_path / "a.keras", "w") as part:
        for name in {"config.json", "model.weights.h5"} - {missing}:
            part.writestr(name, whole.read(name))
    refusal(tmp_path / "a.keras")


def test_packed_archives_are_read(tmp_path: Path) -> None:
    weights = load_weights(
        write_keras(tmp_path / "a.keras", model(layer("LSTM")), cell("layers/lstm/cell", 4), packed=True)
    )
    assert list(weights.layers) == ["layers/lstm"]


@pytest.mark.parametrize("config", ["", "{", '{"class_name": "Seq', "\xff", "[" * 100000, "1" * 5000])
def test_configs_that_are_not_json(tmp_path: Path, config: str) -> None:
    assert "the model's config cannot be read" in refusal(write_keras(tmp_path / "a.keras", config, {}))


def test_configs_that_unpack_to_much_more_than_the_file(tmp_path: Path) -> None:
    config = json.dumps([[]] * 1000000)
    path = write_keras(tmp_path / "a.keras", config, {"x": np.random.default_rng(0).random(5000)}, packed=True)
    assert "the model's config is larger than the file" in refusal(path)


def test_layers_within_layers_end(tmp_path: Path) -> None:
    config: Config = layer("LSTM")
    for _ in range(150):
        config = model(config)
    assert "layers within layers" in refusal(write_keras(tmp_path / "a.keras", config, {}))
