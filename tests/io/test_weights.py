"""Plain arrays in safetensors files."""

import json
import os
import struct
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from safetensors.numpy import load_file, save_file

from tinygrad_lstm.io import load_weights, save_weights

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


def test_other_programs_files_are_read(tmp_path: Path) -> None:
    save_file({"x": np.ones(3)}, tmp_path / "theirs", {"by": "them"})
    assert np.array_equal(load_weights(tmp_path / "theirs")["x"], np.ones(3))


def test_any_cut_is_noticed(tmp_path: Path) -> None:
    path = tmp_path / "model.safetensors"
    save_weights(path, {"x": np.ones(5), "y": np.zeros((2, 2))})
    whole = path.read_bytes()
    for length in range(len(whole)):
        path.write_bytes(whole[:length])
        with pytest.raises(ValueError, match=r"model\.safetensors: not a whole safetensors file"):
            load_weights(path)


@pytest.mark.parametrize("content", [b"", b"once upon a time " * 20, b"\x80\x04K\x01.", b"PK\x03\x04" + bytes(100)])
def test_other_files_are_refused(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "book.txt").write_bytes(content)
    with pytest.raises(ValueError, match=r"book\.txt: not a whole safetensors file") as raised:
        load_weights(tmp_path / "book.txt")
    assert "\n" not in str(raised.value)


def test_dtypes_that_numpy_lacks_are_named(tmp_path: Path) -> None:
    header = json.dumps({"x": {"dtype": "BF16", "shape": [2], "data_offsets": [0, 4]}}).encode()
    (tmp_path / "a").write_bytes(struct.pack("<Q", len(header)) + header + bytes(4))
    with pytest.raises(ValueError, match=r"a: a tensor cannot be read as a NumPy array .*bfloat16"):
        load_weights(tmp_path / "a")


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
