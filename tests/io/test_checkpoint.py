"""Checkpoints: what they hold comes back, and a kill at any time leaves the old one whole."""

import random
import re
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from safetensors.numpy import save_file

from tinygrad_lstm.io import checkpoint, save_weights

VERSION = str(checkpoint.VERSION)

leaves = (
    st.none()
    | st.booleans()
    | st.integers(-(2**130), 2**130)
    | st.floats(allow_nan=False)
    | st.text(st.characters(codec="utf-8"))
    | hnp.arrays(st.sampled_from(["float32", "float64", "int64"]), hnp.array_shapes(min_dims=0, max_side=3))
)
keys = st.text(st.characters(codec="utf-8", exclude_characters="/$"), min_size=1)
contents = st.dictionaries(
    keys, st.recursive(leaves, lambda inner: st.lists(inner) | st.dictionaries(keys, inner), max_leaves=8)
)


def same(a: Any, b: Any) -> bool:
    if isinstance(a, np.ndarray):
        return isinstance(b, np.ndarray) and a.dtype == b.dtype and a.shape == b.shape and a.tobytes() == b.tobytes()
    if isinstance(a, dict):
        return isinstance(b, dict) and list(a) == list(b) and all(same(a[key], b[key]) for key in a)
    if isinstance(a, list):
        return isinstance(b, list) and len(a) == len(b) and all(map(same, a, b))
    return type(a) is type(b) and bool(a == b)


@given(contents)
def test_contents_round_trip(tmp_path_factory: pytest.TempPathFactory, contents: dict[str, Any]) -> None:
    path = tmp_path_factory.mktemp("checkpoint") / "a"
    checkpoint.save(path, contents)
    assert same(checkpoint.load(path), contents)


KEYS = st.sampled_from(["a", "b", "a/b", "b/0", "$array", "", "/", "__metadata__", "\ud800"])
NESTED = st.recursive(
    st.integers() | hnp.arrays("float32", 2), lambda inner: st.dictionaries(KEYS, inner), max_leaves=8
)


@given(st.dictionaries(KEYS, NESTED))
def test_keys_that_could_be_taken_for_others_are_refused_before_writing(
    tmp_path_factory: pytest.TempPathFactory, contents: dict[str, Any]
) -> None:
    """What is saved can be read; what could not be is not saved."""
    path = tmp_path_factory.mktemp("checkpoint") / "a"
    try:
        checkpoint.save(path, contents)
    except ValueError:
        assert not path.exists()
    else:
        assert same(checkpoint.load(path), contents)


@pytest.mark.parametrize(("value", "reason"), [
    ({"a/b": np.ones(1), "a": {"b": np.ones(1)}}, "two arrays stand at 'a/b'"),
    ({"a": {"$array": "b"}}, r"a would be read as an array; rename '\$array'"),
])  # fmt: skip
def test_such_keys_are_named(value: dict[str, Any], reason: str) -> None:
    with pytest.raises(ValueError, match=f"checkpoint: {reason}"):
        checkpoint.encode(value)


@pytest.mark.parametrize("value", [object(), {1: 2}, np.float32(1.0), [{"x": b"bytes"}]])
def test_what_cannot_be_stored_is_refused_and_nothing_is_written(tmp_path: Path, value: Any) -> None:
    with pytest.raises(TypeError, match="checkpoint: "):
        checkpoint.save(tmp_path / "a", {"value": value})
    assert list(tmp_path.iterdir()) == []


def test_other_safetensors_files_are_refused(tmp_path: Path) -> None:
    save_weights(tmp_path / "a", {"x": np.ones(2)})
    with pytest.raises(ValueError, match="a: a safetensors file, but not a checkpoint of tinygrad_lstm"):
        checkpoint.load(tmp_path / "a")


@pytest.mark.parametrize(
    ("version", "said"),
    [
        ("1", "of an older tinygrad_lstm (version 1)"),
        ("99", "of a newer tinygrad_lstm (version 99)"),
        ("1\n", r"of version 1\x0a"),
        ("²", "of version ²"),
    ],
)
def test_other_versions_are_refused(tmp_path: Path, version: str, said: str) -> None:
    save_file({"x": np.ones(2)}, tmp_path / "a", {"format": "tinygrad_lstm.checkpoint", "version": version})
    expected = f"a checkpoint {said}; this release reads version {VERSION} only: train the model again"
    with pytest.raises(ValueError, match=f"a: {re.escape(expected)}$"):
        checkpoint.load(tmp_path / "a")


@pytest.mark.parametrize(
    "rest",
    [
        {},
        *(
            {"contents": text}
            for text in (
                "{",
                "[1]",
                '{"x": {"$array": "none"}}',
                '{"x": {"$array": [1]}}',
                "[" * 100_000,
                '{"x": ' * 101 + "0" + "}" * 101,
            )
        ),
    ],
)
def test_a_broken_header_is_refused(tmp_path: Path, rest: dict[str, str]) -> None:
    save_file({"x": np.ones(2)}, tmp_path / "a", {"format": "tinygrad_lstm.checkpoint", "version": VERSION, **rest})
    with pytest.raises(ValueError, match=r"a: a checkpoint whose contents (cannot be read|are a list)"):
        checkpoint.load(tmp_path / "a")


@pytest.mark.parametrize(
    "contents",
    [
        '{"x": {"$array": "x"}, "y": {"$array": "x"}}',  # twice as large as the file
        "[" + "[],{}," * 100_000 + "0]",
        '{"x": "' + "[{" * 10_000 + '", "y": [' + "[]," * 10_100 + "0]}",
    ],
    ids=["repeated", "many", "beside a string"],
)
def test_contents_are_not_larger_than_the_file(tmp_path: Path, contents: str) -> None:
    header = {"format": "tinygrad_lstm.checkpoint", "version": VERSION, "contents": contents}
    save_file({"x": np.ones(2)}, tmp_path / "a", header)
    with pytest.raises(ValueError, match="a: a checkpoint whose contents cannot be read"):
        checkpoint.load(tmp_path / "a")


def test_lists_are_nested_at_most_a_hundred_deep(tmp_path: Path) -> None:
    nested: list[Any] = []
    for _ in range(98):
        nested = [nested]
    checkpoint.save(tmp_path / "a", {"x": nested})
    assert checkpoint.load(tmp_path / "a") == {"x": nested}
    with pytest.raises(ValueError, match="nested more than 100 deep"):
        checkpoint.save(tmp_path / "b", {"x": [nested]})
    assert not (tmp_path / "b").exists()


def test_brackets_in_a_string_are_not_containers(tmp_path: Path) -> None:
    checkpoint.save(tmp_path / "a", {"text": '[{\\"' * 100_000, "array": np.ones(2)})
    assert checkpoint.load(tmp_path / "a")["text"] == '[{\\"' * 100_000


# Saves checkpoints without end; all numbers in one are the same.
SAVING = """
import sys
import numpy as np
from tinygrad_lstm.io import checkpoint
number = 0
while True:
    number += 1
    checkpoint.save(sys.argv[1], {"number": number, "array": np.full(300_000, number)})
"""

# Is killed at one point of its second save.
KILLED_AT = """
import os, signal, sys
import numpy as np
from tinygrad_lstm.io import checkpoint
checkpoint.save(sys.argv[1], {"number": 1, "array": np.full(1000, 1)})
setattr(os, sys.argv[2], lambda *args: os.kill(os.getpid(), signal.SIGKILL))
checkpoint.save(sys.argv[1], {"number": 2, "array": np.full(1000, 2)})
"""


def check_whole(path: Path) -> int:
    contents = checkpoint.load(path)
    number: int = contents["number"]
    assert np.all(contents["array"] == number)
    return number


@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="this system has no kill -9")
def test_a_kill_while_saving_leaves_a_whole_checkpoint(tmp_path: Path) -> None:
    path, saved = tmp_path / "last.safetensors", 0
    for _ in range(8):
        process = subprocess.Popen([sys.executable, "-c", SAVING, str(path)], stdin=subprocess.DEVNULL)
        try:
            before = path.stat().st_mtime_ns if path.exists() else 0
            while not path.exists() or path.stat().st_mtime_ns == before:
                assert process.poll() is None
                time.sleep(0.001)
            time.sleep(random.uniform(0, 0.03))
        finally:
            process.kill()
            process.wait()
        saved += check_whole(path)
    assert saved >= 8


@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="this system has no kill -9")
@pytest.mark.parametrize("point", ["fsync", "replace"])
def test_a_kill_before_the_file_is_in_place_leaves_the_old_one(tmp_path: Path, point: str) -> None:
    path = tmp_path / "last.safetensors"
    process = subprocess.run([sys.executable, "-c", KILLED_AT, str(path), point], stdin=subprocess.DEVNULL, check=False)
    assert process.returncode == -signal.SIGKILL
    assert check_whole(path) == 1
    checkpoint.save(path, {"number": 3, "array": np.full(10, 3)})
    assert check_whole(path) == 3
    assert [file.name for file in tmp_path.iterdir()] == [path.name]
