"""NumPy's .npz archives, read as NumPy reads them, but with a look at their sizes first."""

import io
import re
import struct
import zipfile
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from tinygrad_lstm.io import load_weights

dtypes = st.sampled_from(
    ["?", "i1", "<i2", ">i4", "<i8", "u1", ">u2", "<u4", "<u8", "<f2", ">f4", "<f8", "<c8", ">c16", "<U3", ">U2", "S4"]
)
arrays = dtypes.flatmap(lambda dtype: hnp.arrays(dtype, hnp.array_shapes(min_dims=0, min_side=0, max_dims=3)))
names = st.text("abcxyz_.0", min_size=1)


@given(st.dictionaries(names, arrays), st.booleans(), st.booleans())
def test_what_numpy_saved_comes_back(
    tmp_path_factory: pytest.TempPathFactory, saved: dict[str, np.ndarray], compressed: bool, fortran: bool
) -> None:
    path = tmp_path_factory.mktemp("npz") / "model"
    with open(path, "wb") as file:
        save = np.savez_compressed if compressed else np.savez
        save(file, **{name: np.array(array, order="F" if fortran else "C") for name, array in saved.items()})
    loaded = load_weights(path)
    assert loaded.keys() == saved.keys()
    for name, array in loaded.items():
        assert array.shape == saved[name].shape and array.dtype == saved[name].dtype.newbyteorder("=")
        assert array.dtype.isnative and array.flags.writeable
        np.testing.assert_array_equal(array, saved[name])


def header(descr: str = "'<f4'", shape: str = "(2,)", rest: str = "'fortran_order': False, ") -> str:
    return f"{{'descr': {descr}, {rest}'shape': {shape}, }}\n"


def npy(text: str, data: bytes = bytes(8), version: int = 1) -> bytes:
    """An .npy file."""
    length = struct.pack("<H" if version == 1 else "<I", len(text))
    return b"\x93NUMPY" + bytes([version, 0]) + length + text.encode() + data


def write_npz(path: Path, content: bytes) -> None:
    """An archive of one .npy file."""
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("a.npy", content)


@pytest.mark.parametrize(
    "content",
    [
        npy(header()),
        npy(header(), version=2),
        npy(header(), version=3),
        npy('{"shape": (2L,), "fortran_order": False, "descr": "<f4"}'),
        npy(header("'=f4'") + " "),
    ],
)
def test_headers_of_other_programs_are_read(tmp_path: Path, content: bytes) -> None:
    write_npz(tmp_path / "model.npz", content)
    array = load_weights(tmp_path / "model.npz")["a"]
    assert array.dtype == np.float32 and array.flags.aligned and np.array_equal(array, [0, 0])


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (npy(header("'|O'")), "refuses an array of NumPy's type '|O', Python objects"),
        (npy(header("'O8'")), "refuses an array of NumPy's type 'O8', Python objects"),
        (npy(header("[('x', '<f4')]")), "refuses an array of structures"),
        (npy(header("'<M8[s]'")), "refuses an array of NumPy's type '<M8[s]'"),
        (npy(header("'<U0'"), b""), "refuses an array of NumPy's type '<U0'"),
        (npy(header(shape=f"({2**60},)")), f"its shape ({2**60},) does not have the 2 elements"),
        (npy(header(shape=f"({2**40}, {2**40})")), "does not have the 2 elements"),
        (npy(header(shape="(3,)")), "does not have the 2 elements"),
        (npy(header(shape="(0, 4611686018427387904)"), b""), "NumPy has no arrays of shape (0, 4611686018427387904)"),
        (npy(header(shape="(" + "1, " * 50 + ")"), bytes(4)), "its shape has too many or too large sizes"),
        (npy(header(shape=f"(0, {10**20})"), b""), "its shape has too many or too large sizes"),
        (npy(header(), bytes(7)), "7 bytes are not a multiple of the size of f4"),
        (npy(header(shape="(-2,)")), "damaged: its header cannot be read"),
        (npy(header(rest="")), "damaged: its header cannot be read"),
        (npy(header())[:30], "damaged: its header cannot be read"),
        (npy("(" * 5000), "damaged: its header cannot be read"),
        (npy(header(), version=4), "not an .npy file of a known version"),
        (b"\x93NUMPY", "not an .npy file of a known version"),
        (b"", "not an .npy file of a known version"),
    ],
)
def test_arrays_that_numpy_would_not_save_are_refused(tmp_path: Path, content: bytes, reason: str) -> None:
    path = tmp_path / "model.npz"
    write_npz(path, content)
    with pytest.raises(ValueError, match="^" + re.escape(f"{path}: 'a.npy': ") + ".*" + re.escape(reason)) as raised:
        load_weights(path)
    assert "\n" not in str(raised.value)


def test_objects_are_not_made(tmp_path: Path) -> None:
    np.savez(tmp_path / "model.npz", a=np.array([print], dtype=object), allow_pickle=True)
    with pytest.raises(ValueError, match="Python objects"):
        load_weights(tmp_path / "model.npz")


def test_a_single_array_has_the_name_of_its_file(tmp_path: Path) -> None:
    buffer = io.BytesIO()
    np.save(buffer, np.ones(3))
    (tmp_path / "a.npy").write_bytes(buffer.getvalue())
    assert load_weights(tmp_path / "a.npy")["a"].tolist() == [1, 1, 1]
