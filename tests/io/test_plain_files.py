"""Arrays that no framework wrote: pickles, JSON, tables of numbers, .npy files and folders of them."""

import json
import pickle
import re
import struct
from collections import OrderedDict, defaultdict
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from torch_pickles import dictionary, legacy, storage, tensor

from tinygrad_lstm.backends.base import HostArray
from tinygrad_lstm.io import load_weights
from tinygrad_lstm.models import LSTM

W = np.random.default_rng(0).standard_normal((3, 8)).astype(np.float32)
B = np.arange(8, dtype=np.float32) / 8


def loaded(path: Path, content: bytes | str) -> dict[str, HostArray]:
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return load_weights(path)


def refusal(path: Path, content: bytes | str) -> str:
    with pytest.raises(ValueError, match=re.escape(str(path))) as caught:
        loaded(path, content)
    message = str(caught.value)
    assert message.isprintable()
    return message.removeprefix(f"{path}: ")


# -- pickles -----------------------------------------------------------------------------------------------------------


@given(
    st.recursive(
        hnp.arrays(
            st.sampled_from(["f4", "f8", ">f8", "i4", "?", "f2"]), hnp.array_shapes(min_dims=0, max_dims=3, min_side=0)
        ),
        lambda inner: (
            st.lists(inner, min_size=1, max_size=3)
            | st.tuples(inner, inner)
            | st.dictionaries(st.text("ab.c", max_size=3) | st.integers(0, 9), inner, min_size=1, max_size=3)
        ),
        max_leaves=6,
    ),
    st.integers(0, 5),
    st.booleans(),
)
def test_arrays_in_plain_containers_come_back(
    tmp_path_factory: pytest.TempPathFactory, value: Any, protocol: int, others: bool
) -> None:
    path = tmp_path_factory.getbasetemp() / "w.pkl"
    expected: list[tuple[str, HostArray]] = []

    def walk(keys: list[str], each: Any) -> None:
        if isinstance(each, np.ndarray):
            expected.append((".".join(keys) if keys else "w", each))
        elif isinstance(each, dict | list | tuple):
            for key, inner in each.items() if isinstance(each, dict) else enumerate(each):
                walk([*keys, str(key)], inner)

    walk([], value)
    if others and isinstance(value, dict):
        value |= {"epoch": 3, "text": "x", "rate": 0.1, "tags": {1, "a"}, "nothing": None, "scalar": np.float32(2)}
    if len(dict(expected)) < len(expected):
        assert "two of its arrays have the name" in refusal(path, pickle.dumps(value, protocol))
        return
    found = loaded(path, pickle.dumps(value, protocol))
    assert found.keys() == dict(expected).keys()
    for name, array in expected:
        assert found[name].dtype == array.dtype.newbyteorder("=")
        np.testing.assert_array_equal(found[name], array)
        assert found[name].flags.writeable


def test_pickles_of_pickles(tmp_path: Path) -> None:
    """Several after each other; ordered dictionaries; arrays in Fortran's order; an array of objects."""
    path = tmp_path / "w.pkl"
    assert loaded(path, pickle.dumps(W) + pickle.dumps({"b": B})).keys() == {"0", "1.b"}
    nested = OrderedDict(a=defaultdict(list, x=[np.asfortranarray(W)]))
    np.testing.assert_array_equal(loaded(path, pickle.dumps(nested))["a.x.0"], W)
    np.save(tmp_path / "w.npy", {"W": W, "b": B})  # type: ignore[arg-type]
    assert load_weights(tmp_path / "w.npy").keys() == {"W", "b"}
    both = np.empty(2, object)
    both[:] = [W, B]
    np.save(tmp_path / "w.npy", both)
    np.testing.assert_array_equal(load_weights(tmp_path / "w.npy")["1"], B)


@pytest.mark.parametrize("text", [False, True])
def test_tensors_of_pytorch_in_a_pickle(tmp_path: Path, text: bool) -> None:
    """Each storage is a file of the older format of `torch.save`, in bytes, or up to protocol 2 in a string."""
    content = legacy(storage(), content=np.arange(6, dtype="<f4").tobytes())
    pushed = b"B" + struct.pack("<I", len(content)) + content
    if text:
        encoded = content.decode("latin-1").encode()
        pushed = b"c_codecs\nencode\n(X" + struct.pack("<I", len(encoded)) + encoded + b"X\x06\0\0\0latin1tR"
    stored = b"ctorch.storage\n_load_from_bytes\n(" + pushed + b"tR"
    pickled = dictionary({"a": tensor(stored), "b": tensor(stored)})
    found = loaded(tmp_path / "w.pkl", b"\x80\x03" + pickled + b".")
    np.testing.assert_array_equal(found["b"], np.arange(6).reshape(2, 3))


class Opaque:
    """An object beside the arrays, which no one needs."""

    def __init__(self) -> None:
        self.rate = 0.1


class Called:
    def __reduce__(self) -> Any:
        return print, ("called",)


@pytest.mark.parametrize("protocol", range(6))
def test_objects_beside_the_arrays_are_skipped_and_calls_refused(
    tmp_path: Path, protocol: int, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "w.pkl"
    assert loaded(path, pickle.dumps({"W": W, "o": Opaque()}, protocol)).keys() == {"W"}
    reason = refusal(path, pickle.dumps({"W": W, "o": Called()}, protocol))
    assert reason.startswith(("refuses to call 'builtins.print'", "refuses to call '__builtin__.print'"))
    assert not capsys.readouterr().out


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (pickle.dumps({"x": [1.0]}), "it holds no array that has a name, but a dictionary of 'x'"),
        (pickle.dumps({"W": W})[:-10], "cut off or damaged"),
        (pickle.dumps({"W": np.array([print], object)}), "refuses an array of NumPy's that holds Python objects"),
        (b"\x80\x04cjoblib.numpy_pickle\nNumpyArrayWrapper\n)\x81}b.", "refuses a file of joblib"),
        (b"(dp0\nS'a\np1\n.", "damaged: a string has no quotes"),
        (b"(dp0\nS'a'\np1\nFx\n.", "damaged"),
        (b"(dp0\nS'a'\np-5\n.", "damaged: a number in its memo is negative"),
        (b"(dp0\nS'a'\ng-1\ns.", "damaged: its memo lacks a value"),
    ],
)
def test_pickles_that_are_refused(tmp_path: Path, content: bytes, reason: str) -> None:
    assert reason in refusal(tmp_path / "w.pkl", content)


# -- JSON --------------------------------------------------------------------------------------------------------------


def test_lists_of_numbers_are_arrays(tmp_path: Path) -> None:
    root = {
        "lstm": {"W": W.tolist(), "b": [0] * 8, "units": 8, "name": "x"},
        "layers": [W.tolist(), B.tolist(), {"v": [1.5]}],
        "flat": {"shape": [3, 8], "data": W.ravel().tolist()},
        "brain": {"rows": 3, "columns": 8, "weights": {str(k): float(x) for k, x in enumerate(W.ravel())}},
        "ragged": [[1.0, 2.0], [3.0]],
    }
    found = loaded(tmp_path / "w.json", json.dumps(root))
    assert {name: array.shape for name, array in found.items()} == {
        "lstm.W": (3, 8),
        "lstm.b": (8,),
        "layers.0": (3, 8),
        "layers.1": (8,),
        "layers.2.v": (1,),
        "flat": (3, 8),
        "brain": (3, 8),
        "ragged.0": (2,),
        "ragged.1": (1,),
    }
    assert {array.dtype for array in found.values()} == {np.dtype("float32")}
    for name in ("lstm.W", "layers.0", "flat", "brain"):
        np.testing.assert_array_equal(found[name], W)
    roles = {"weight_ih": "lstm.W", "weight_hh": "U", "bias": "lstm.b"}
    assert LSTM.from_arrays({**found, "U": np.ones((2, 8), "f4")}, roles).hidden_size == 2
    np.testing.assert_array_equal(loaded(tmp_path / "only.json", f" {W.tolist()}")["only"], W)


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        ('{"a": [1.0,', "not a JSON file"),
        ('{"a": [1.0], "b": {"c": [1.0], "c": [2.0]}}', "an object in it has the key 'c' 2 times; expected different"),
        ('{"a": 1, "b": "x", "c": [], "d": [[]], "e": ["x"]}', "it has no arrays"),
        ('{"a": {"b": [1]}, "a.b": [2]}', "two arrays have the name 'a.b'"),
        ("[" * 100_000, "not a JSON file"),
        ('{"a":' * 150 + "[1]" + "}" * 150, "nested more than 100 deep"),
        ('{"a": [1e39]}', "a number in it is too large for float32"),
        ('{"a": [1' + "0" * 400 + "]}", "a number in it is too large for float32"),
        ('{"shape": [3, 3], "data": [1, 2]}', "an array of shape (3, 3) has 2 numbers"),
    ],
)
def test_json_that_is_refused(tmp_path: Path, content: str, reason: str) -> None:
    assert reason in refusal(tmp_path / "w.json", content)


# -- tables ------------------------------------------------------------------------------------------------------------

ROWS = "1.5,2,-3e-1\n4,5,inf\n"
TABLES = {
    "commas": ROWS,
    "semicolons": ROWS.replace(",", ";"),
    "tabs": ROWS.replace(",", "\t"),
    "spaces": ROWS.replace(",", "  "),
    "Windows": "\ufeff" + ROWS.replace("\n", "\r\n"),
    "no last line end": ROWS.rstrip(),
    "comments": "# made by hand\n" + ROWS.replace("\n", "\n# more\n\n"),
    "quotes": '"a","b","c"\n' + ROWS,
    "names": "a,b,c\n" + ROWS,
    "pandas": ",0,1,2\n0,1.5,2,-3e-1\n1,4,5,inf\n",
    "pandas with names": ",a,b,c\n0,1.5,2,-3e-1\n1,4,5,inf\n",
    "pandas without an index": "0,1,2\n" + ROWS,
}


@pytest.mark.parametrize("how", TABLES)
def test_tables_of_numbers(tmp_path: Path, how: str) -> None:
    found = loaded(tmp_path / "weights.csv", TABLES[how])
    assert list(found) == ["weights"]
    np.testing.assert_array_equal(found["weights"], np.array([[1.5, 2, -0.3], [4, 5, np.inf]], np.float32))


@given(
    hnp.arrays(np.float32, hnp.array_shapes(min_dims=1, max_dims=2), elements=st.floats(width=32)),
    st.sampled_from(" ,;\t"),
)
def test_what_numpy_writes_comes_back(
    tmp_path_factory: pytest.TempPathFactory, array: HostArray, delimiter: str
) -> None:
    path = tmp_path_factory.getbasetemp() / "table.txt"
    np.savetxt(path, array, delimiter=delimiter)
    np.testing.assert_array_equal(load_weights(path)["table"], array.ravel() if 1 in array.shape else array)


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        ("1,2\n3\n", "line 2 has 1 columns, and the first has 2"),
        ("1,2\n3,x\n", "line 2, column 2: expected a number, got 'x'"),
        ("1,2\n3,\n", "line 2, column 2: expected a number, got ''"),
        ("1e39,2\n", "a number in it is too large for float32"),
        ("\t0", "it has no numbers"),
        ("name,age\nAda,36\n", "of no known kind"),
        ("Once upon a time\nthere was a table.\n", "of no known kind"),
    ],
)
def test_tables_that_are_refused(tmp_path: Path, content: str, reason: str) -> None:
    assert reason in refusal(tmp_path / "w.csv", content)


# -- single arrays and folders -----------------------------------------------------------------------------------------


def test_one_array_and_a_folder_of_arrays(tmp_path: Path) -> None:
    folder = tmp_path / "weights"
    folder.mkdir()
    np.save(folder / "W.npy", W)
    np.save(folder / "U.npy", np.ones((2, 8), np.float32))
    np.savetxt(folder / "b.csv", B)
    (folder / ".DS_Store").write_bytes(b"")
    assert list(load_weights(folder / "W.npy")) == ["W"]
    found = load_weights(folder)
    assert {name: array.shape for name, array in found.items()} == {"U": (2, 8), "W": (3, 8), "b": (8,)}
    made = LSTM.from_arrays(folder, {"weight_ih": "W", "weight_hh": "U", "bias": "b"}, gates="ifog")
    assert (made.input_size, made.hidden_size) == (3, 2)
    np.save(folder / "b.npy", B)
    with pytest.raises(ValueError, match="two files are called 'b'"):
        load_weights(folder)
    (folder / "notes.md").write_text("x")
    with pytest.raises(IsADirectoryError, match="not only arrays"):
        load_weights(folder)
