"""Arrays in safetensors files, and how the format of a file is recognised."""

import itertools
import json
import os
import pickle
import re
import shutil
import struct
import tracemalloc
import zipfile
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from safetensors.numpy import load_file, save_file

from tinygrad_lstm.io import Weights, export_torch, load_weights, save_weights
from tinygrad_lstm.nn import Linear

FILES = Path(__file__).parents[1] / "golden" / "files"

dtypes = st.sampled_from(["float16", "float32", "float64", "int64", "int32", "uint8", "bool"])
arrays = dtypes.flatmap(lambda dtype: hnp.arrays(dtype, hnp.array_shapes(min_dims=0, min_side=0, max_dims=3)))


@given(st.dictionaries(st.text(st.characters(codec="utf-8"), min_size=1).filter(lambda s: s != "__metadata__"), arrays))
def test_weights_round_trip(tmp_path_factory: pytest.TempPathFactory, weights: dict[str, np.ndarray]) -> None:
    path = tmp_path_factory.mktemp("weights") / "model.safetensors"
    save_weights(path, weights)
    for loaded in (load_weights(path), load_file(path)):
        assert loaded.keys() == weights.keys()
        for name, array in weights.items():
            assert loaded[name].dtype == array.dtype and loaded[name].shape == array.shape
            assert loaded[name].tobytes() == array.tobytes()


def test_arrays_that_are_not_contiguous_keep_their_values(tmp_path: Path) -> None:
    array = np.arange(24.0).reshape(2, 3, 4).transpose(2, 0, 1)[::2, :, ::-1]
    save_weights(tmp_path / "a", {"x": array})
    assert np.array_equal(load_weights(tmp_path / "a")["x"], array)


def npz_names() -> st.SearchStrategy[str]:
    odd = st.sampled_from(["a/b", "a\\b", "a.npy", "", ".", "file", "é", "\x1b[31m", "a" * 300, "..a", "a.."])
    return odd | st.text(st.characters(codec="utf-8", exclude_characters="\0/\\:"), min_size=1)


@given(st.dictionaries(npz_names().filter(lambda name: name != ".."), arrays))
def test_npz_round_trip(tmp_path_factory: pytest.TempPathFactory, weights: dict[str, np.ndarray]) -> None:
    path = tmp_path_factory.mktemp("weights") / "model.NPZ"
    save_weights(path, weights)
    loaded = load_weights(path)
    with np.load(path) as theirs:
        assert loaded.keys() == weights.keys() and len(theirs.files) == len(weights)
        for name, array in weights.items():
            assert loaded[name].dtype == array.dtype and loaded[name].shape == array.shape
            assert loaded[name].tobytes() == array.tobytes()


@pytest.mark.parametrize("name", ["../x", "a/../../x", "/x", "\\x", "C:x", "a\0b", "\ud800", "a" * 10001])
def test_names_that_an_archive_cannot_have(tmp_path: Path, name: str) -> None:
    with pytest.raises(ValueError, match=r"a\.npz: an archive can have no file that is called .*; use safetensors"):
        save_weights(tmp_path / "a.npz", {name: np.ones(1)})
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("ending", [".npz", ".safetensors"])
@pytest.mark.parametrize("dtype", ["O", "M8[s]", "i4,i4", np.longdouble])
def test_what_could_not_be_read_again_is_not_written(tmp_path: Path, dtype: str, ending: str) -> None:
    with pytest.raises(ValueError, match=rf"a{ending}: .*cannot hold 'x', an array of .*; convert it"):
        save_weights(tmp_path / f"a{ending}", {"x": np.zeros(1, dtype)})
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("name", ["__metadata__", "\ud800"])
def test_names_that_a_safetensors_file_cannot_have(tmp_path: Path, name: str) -> None:
    with pytest.raises(ValueError, match=r"a\.safetensors: a safetensors file can have no array that is called"):
        save_weights(tmp_path / "a.safetensors", {name: np.ones(1)})
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("ending", [".pt", ".h5", ".keras", ".onnx", ".npy", ".bin", ".v2"])
def test_what_is_written_is_what_the_ending_says(tmp_path: Path, ending: str) -> None:
    with pytest.raises(ValueError, match=f"weights are not written as '{ending}'; use the ending .safetensors or .npz"):
        save_weights(tmp_path / f"model{ending}", {"x": np.ones(1)})
    with pytest.raises(ValueError, match=r"written to a safetensors file; use the ending \.safetensors"):
        export_torch(Linear(1, 1), tmp_path / f"model{ending}")
    assert not list(tmp_path.iterdir())
    save_weights(tmp_path / "model.SAFETENSORS", {"x": np.ones(1)})
    assert load_file(tmp_path / "model.SAFETENSORS").keys() == {"x"}


def test_other_programs_files_are_read(tmp_path: Path) -> None:
    save_file({"x": np.ones(3)}, tmp_path / "theirs", {"by": "them"})
    assert np.array_equal(load_weights(tmp_path / "theirs")["x"], np.ones(3))


def test_any_cut_is_noticed(tmp_path: Path) -> None:
    path = tmp_path / "model.safetensors"
    save_weights(path, {"x": np.ones(5), "y": np.zeros((2, 2))})
    whole = path.read_bytes()
    for length in range(len(whole)):
        path.write_bytes(whole[:length])
        with pytest.raises(ValueError, match=r"model\.safetensors: (not a whole safetensors file|of no known kind)"):
            load_weights(path)


def test_formats_are_recognised_by_content(tmp_path: Path) -> None:
    """Whatever a file is called, and wherever it came from."""
    files = [path for path in FILES.iterdir() if path.suffix in (".pt", ".safetensors", ".h5", ".keras", ".onnx")]
    assert len({path.suffix for path in files}) == 5
    for path in files:
        weights = load_weights(path)
        copy = shutil.copy(path, tmp_path / "renamed.txt")
        assert weights.keys() == load_weights(copy).keys() and len(weights) > 0
        assert isinstance(weights, Weights) and bool(weights.layers) == (path.suffix in (".h5", ".keras", ".onnx"))


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", "of no known kind; known are safetensors, PyTorch's"),
        (b"once upon a time " * 50, "of no known kind; known are safetensors, PyTorch's"),
        (bytes(1000), "of no known kind; known are safetensors, PyTorch's"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 1\n", "a pointer of Git LFS, not the file"),
        (pickle.dumps({"x": [1.0]}), "it holds no array that has a name, but a dictionary of 'x'"),
        (b"PK\x03\x04" + bytes(100), "a zip archive that is cut off or damaged"),
        (
            b"storages".ljust(257, b"\0") + b"ustar".ljust(300, b"\0"),
            "a tar archive, as PyTorch wrote them before 0.1.10",
        ),
    ],
)
def test_other_files_are_refused(tmp_path: Path, content: bytes, reason: str) -> None:
    (tmp_path / "book.txt").write_bytes(content)
    with pytest.raises(ValueError, match=rf"book\.txt: {reason}") as raised:
        load_weights(tmp_path / "book.txt")
    assert "\n" not in str(raised.value)


@pytest.mark.skipif(os.name != "posix", reason="named pipes are POSIX's")
def test_pipes_are_refused(tmp_path: Path) -> None:
    """Nobody writes to this one, so that reading would never end."""
    os.mkfifo(tmp_path / "pipe")
    for path in (tmp_path / "pipe", Path("/dev/null")):
        with pytest.raises(ValueError, match=f"{path}: a pipe or a device, not a file"):
            load_weights(path)


def test_programs_of_torch_export_that_are_damaged_or_old_are_refused(tmp_path: Path) -> None:
    for name, reason in (
        ("model/models/model.json", "the archive has no 'model/data/weights/model_weights_config.json'"),
        ("serialized_exported_program.json", "a program that torch.export saved before PyTorch 2.8: load it and"),
    ):
        with zipfile.ZipFile(tmp_path / "model.pt2", "w") as archive:
            archive.writestr(name, "{}")
        with pytest.raises(ValueError, match=rf"model\.pt2: {re.escape(reason)}"):
            load_weights(tmp_path / "model.pt2")


def safetensors(header: dict[str, tuple[str, list[int], list[int]]], data: bytes) -> bytes:
    """A file of tensors, of each its type, its shape, and where its bytes are."""
    keys = ("dtype", "shape", "data_offsets")
    text = json.dumps({name: dict(zip(keys, tensor)) for name, tensor in header.items()}).encode()
    return struct.pack("<Q", len(text)) + text + data


def test_bfloat16_is_widened(tmp_path: Path) -> None:
    header = {"x": ("BF16", [2, 1], [0, 4]), "y": ("F32", [1], [4, 8])}
    (tmp_path / "a").write_bytes(safetensors(header, b"\x80\x3f\x20\xc0" + np.float32(0.5).tobytes()))
    weights = load_weights(tmp_path / "a")
    assert weights["x"].dtype == np.float32 and np.array_equal(weights["x"], [[1.0], [-2.5]])
    assert weights.types == {"x": "bfloat16"}
    assert np.array_equal(weights["y"], [0.5]) and all(array.flags.writeable for array in weights.values())


@pytest.mark.parametrize(
    ("header", "size", "reason"),
    [
        ({"x\ny": ("F8_E5M2", [4], [0, 4])}, 4, r"'x\\ny' has elements of F8_E5M2, a type that NumPy lacks"),
        ({"x": ("F4", [8], [0, 4])}, 4, "'x' has elements of F4, a type that NumPy lacks"),
        ({"x": ("F16\n", [2], [0, 4])}, 4, "not a whole safetensors file"),
        ({"x": ("F32", [2**60], [0, 4])}, 4, "not a whole safetensors file"),
        ({"x": ("F32", [2**40, 2**40], [0, 4])}, 4, "not a whole safetensors file"),
        ({"x": ("F32", [1] * 100, [0, 4])}, 4, "NumPy has no array for a tensor in it"),
        ({"x": ("F32", [0, 2**62], [0, 0])}, 0, "NumPy has no arrays of shape"),
        ({"x": ("BF16", [0, 2**62], [0, 0])}, 0, "NumPy has no arrays of shape"),
        ({"x": ("F32", [1], [0, 4]), "y": ("F32", [1], [0, 4])}, 4, "not a whole safetensors file"),
        ({"x": ("F32", [1], [4, 8])}, 8, "not a whole safetensors file"),
        ({"x": ("F32", [1], [0, 4])}, 8, "not a whole safetensors file"),
    ],
)
def test_tensors_that_are_not_in_the_file_are_refused(
    tmp_path: Path, header: dict[str, tuple[str, list[int], list[int]]], size: int, reason: str
) -> None:
    (tmp_path / "a").write_bytes(safetensors(header, bytes(size)))
    with pytest.raises(ValueError, match=f"a: {reason}") as raised:
        load_weights(tmp_path / "a")
    assert "\n" not in str(raised.value)


def test_missing_files_and_folders_are_named(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="none"):
        load_weights(tmp_path / "none")
    with pytest.raises(OSError, match=tmp_path.name):
        load_weights(tmp_path)
    with pytest.raises(FileNotFoundError) as raised:
        save_weights(tmp_path / "none" / "a", {})
    assert raised.value.filename == str(tmp_path / "none" / "a")


def test_a_write_that_fails_leaves_the_old_file_and_no_other(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "model.safetensors"
    save_weights(path, {"x": np.ones(2)})

    def full_disk(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patched:
        patched.setattr(os, "fsync", full_disk)
        with pytest.raises(OSError, match="No space left on device") as raised:
            save_weights(path, {"x": np.zeros(2)})
    assert raised.value.filename == str(path)
    assert [file.name for file in tmp_path.iterdir()] == [path.name]
    assert np.array_equal(load_weights(path)["x"], np.ones(2))


def test_any_byte_but_0_is_true(tmp_path: Path) -> None:
    """NumPy would count such an element for more than one."""
    (tmp_path / "a").write_bytes(safetensors({"x": ("BOOL", [3], [0, 3])}, b"\x00\x02\xff"))
    np.savez(tmp_path / "b.npz", x=np.frombuffer(b"\x00\x02\xff", np.bool_))
    for name in ("a", "b.npz"):
        array = load_weights(tmp_path / name)["x"]
        assert array.dtype == np.bool_ and array.sum() == 2 and array.flags.writeable


def header_of(text: str) -> bytes:
    return struct.pack("<Q", len(text.encode())) + text.encode()


TENSOR = '{"dtype":"F32","shape":[1],"data_offsets":[0,4]}'


@pytest.mark.parametrize(
    ("header", "reason"),
    [
        ('{"x":' + "[" * 5_000_000, "its header cannot be read from byte 1 on"),
        ('{"x":' + '{"a":' * 1_000_000, "its header cannot be read from byte 1 on"),
        ("{" + '"a":1,' * 1_000_000 + "}", "its header cannot be read from byte 1 on"),
        ("{" + '"\\' * 2_000_000 + "}", "its header cannot be read from byte 1 on"),
        ("{" + ",".join(f'"{k}":{{}}' for k in range(100_000)) + "}", "'0' is not described by a dtype"),
        ('{"x":{"dtype":"F32","shape":[' + "0," * 1_000_000 + '0],"data_offsets":[0,0]}}', "NumPy has no array"),
        ('{"x":{"dtype":"F32","shape":[' + "9" * 100_000 + '],"data_offsets":[0,0]}}', "its header cannot be read"),
        (f'{{"x":{TENSOR},"x":{TENSOR}}}', "its header has two 'x'"),
        (f'{{"x":{TENSOR},}}', "its header cannot be read from byte 54 on"),
        (f'{{"x":{TENSOR}}}{{}}', "its header is not one JSON object"),
        ('{"x":{"dtype":"F32","dtype":"F32","shape":[1],"data_offsets":[0,4]}}', "its header cannot be read"),
        ('{"x":{"dtype":"F32","shape":[-1],"data_offsets":[0,4]}}', "its header cannot be read"),
        ('{"\\ud800":{"dtype":"F32","shape":[1],"data_offsets":[0,4]}}', "its header cannot be read"),
        ('{"__metadata__":{"a":[1]}}', "its metadata are not strings"),
    ],
    ids=itertools.count(),
)
def test_invalid_headers_take_little_memory(tmp_path: Path, header: str, reason: str) -> None:
    """Whatever a header holds, it is refused before it has taken many times its own size."""
    path = tmp_path / "a"
    path.write_bytes(header_of(header))
    size = path.stat().st_size
    tracemalloc.start()
    try:
        with pytest.raises(ValueError, match=rf"a: .*{reason}") as raised:
            load_weights(path)
        assert tracemalloc.get_traced_memory()[1] < 10 * size + 2**20
    finally:
        tracemalloc.stop()
    assert len(str(raised.value)) < 400


def test_a_header_is_not_longer_than_the_format_allows(tmp_path: Path) -> None:
    path = tmp_path / "a"
    with open(path, "wb") as file:
        file.write(struct.pack("<Q", 100_000_001) + b"{")
        file.truncate(100_000_010)
    with pytest.raises(ValueError, match=r"its header has 100000001 bytes; at most 100000000 are read"):
        load_weights(path)


def test_headers_may_have_spaces_and_any_order(tmp_path: Path) -> None:
    header = ' "x" : { "shape" : [ 1 ] ,\n"data_offsets":[0,4], "dtype":"F32"} , "__metadata__":{"a\\n":"\\"{[,"}}  '
    (tmp_path / "a").write_bytes(header_of("{" + header) + np.float32(7).tobytes())
    assert load_weights(tmp_path / "a")["x"].tolist() == [7.0]
    (tmp_path / "b").write_bytes(header_of("{ }"))
    assert load_weights(tmp_path / "b") == {}
